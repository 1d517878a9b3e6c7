use super::*;

fn load(text: &str) -> Result<Config, ConfigProblems> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    Config::load(Some(file.path()), &Overrides::default())
}

fn problems(text: &str) -> String {
    load(text).expect_err("this configuration is wrong").to_string()
}

#[test]
fn everything_has_a_default() {
    let config = Config::load(None, &Overrides::default()).unwrap();
    assert_eq!(config.grpc_address, "127.0.0.1:9000".parse().unwrap());
    assert_eq!(config.http_address, "127.0.0.1:9010".parse().unwrap());
    assert_eq!(config.warnings, Vec::<String>::new());
}

#[test]
fn every_problem_is_reported_at_once_with_its_key() {
    let text = problems(
        "allowed_requesters = ['0x12']\nworker_token = 'short'\n[workers]\nsilence_limit = '10s'\ngrace = '5s'\n\
         [retry]\nguest_reports_needed = 0\n",
    );
    let keys =
        ["allowed_requesters", "worker_token", "workers.silence_limit", "workers.grace", "retry.guest_reports_needed"];
    for key in keys {
        assert!(text.contains(key), "{key} is missing in: {text}");
    }
}

#[test]
fn values_that_cannot_be_read_are_reported_together_with_all_else() {
    let text = problems(
        "grpc_port = 'nine'\nhtpp_port = 1\nworker_token = 'short'\nallowed_requesters = [7]\n\
         [limits]\nkeep_free = 'a lot'\n[workers]\ngrace = 'soon'\ngrase = '1s'\n[log]\nformat = 'xml'\n",
    );
    let keys = [
        "grpc_port: ",
        "htpp_port: ",
        "worker_token: ",
        "allowed_requesters",
        "limits.keep_free: ",
        "workers.grace: ",
        "workers.grase: ",
        "log.format: ",
    ];
    for key in keys {
        assert!(text.contains(key), "{key} is missing in: {text}");
    }
    assert!(text.starts_with("the configuration has 8 problem(s)"), "{text}");
    assert!(!text.contains("default."), "{text}");
}

#[test]
fn a_section_that_is_none_is_a_problem_and_no_loop() {
    assert!(problems("workers = 3\n").contains("workers: "));
}

#[test]
fn an_unknown_key_is_refused_by_its_name() {
    assert!(problems("grcp_port = 1\n").contains("grcp_port"));
    assert!(problems("[workers]\ngrase = '1s'\n").contains("grase"));
}

#[test]
fn a_wrong_unit_is_refused_by_its_key() {
    let text = problems("[workers]\ngrace = 'soon'\n");
    assert!(text.contains("workers.grace"), "{text}");
}

#[test]
fn a_missing_file_is_named() {
    let error = Config::load(Some(Path::new("no-such.toml")), &Overrides::default()).unwrap_err();
    assert!(error.to_string().contains("no-such.toml"), "{error}");
}

#[test]
fn the_configuration_of_the_first_hierophant_still_starts_and_says_what_replaced_what() {
    let config = load(
        "this_hierophant_ip = '192.0.2.7'\ngrpc_port = 9001\nhttp_port = 9011\npub_key = '0xabc'\nmock_mode = true\n\
         artifact_store_directory = '/tmp/a'\nmax_stdin_artifacts_stored = 50\nmax_proof_artifacts_stored = 10\n\
         worker_response_timeout_secs = 30\n[worker_registry]\nmax_worker_strikes = 3\n\
         max_worker_heartbeat_interval_secs = 60\nproof_timeout_mins = 600\n\
         worker_required_progress_interval_mins = 5\nworker_max_execution_report_mins = 5\n",
    )
    .unwrap();
    assert_eq!(config.public_url.unwrap().as_str(), "http://192.0.2.7:9011/");
    assert_eq!(config.grpc_address, "0.0.0.0:9001".parse().unwrap());
    assert!(config.mock_mode);
    assert_eq!(config.artifact_directory, PathBuf::from("/tmp/a"));
    assert_eq!(config.fleet.faults.evict_after, 3);
    assert_eq!((config.retention.inputs, config.retention.proofs), (Some(50), Some(10)));
    assert_eq!(config.warnings.len(), 6);
}

#[test]
fn what_is_kept_can_be_said_and_not_be_too_little() {
    let config = load("[retention]\nage = '7days'\nrequests = 10\nbytes = '1GiB'\nunused_artifacts = '2h'\n").unwrap();
    let hours = Duration::from_hours;
    let expected = RetentionRules {
        age: hours(7 * 24),
        requests: 10,
        bytes: Some(1 << 30),
        unused_artifacts: hours(2),
        ..RetentionRules::default()
    };
    assert_eq!(config.retention, expected);
    let text = problems("[retention]\nage = '1min'\nunused_artifacts = '59min'\n");
    assert!(text.contains("retention.age: ") && text.contains("retention.unused_artifacts: "), "{text}");
}

#[test]
fn a_token_is_never_printed() {
    let config = load("worker_token = 'a-very-secret-token'\n").unwrap();
    assert!(!format!("{config:?}").contains("secret-token"));
}

#[test]
fn every_example_file_parses() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    let load = |name: &str| Config::load(Some(&directory.join(name)), &Overrides::default());
    load("hierophant.toml").unwrap();
}
