use secrecy::ExposeSecret;

use super::*;

fn environment(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    let home = [("HOME", "/home/amos")];
    home.iter().chain(pairs).map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn of_text(text: &str, variables: &[(&str, &str)]) -> Result<Config, Vec<Problem>> {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("contemplant.toml");
    std::fs::write(&file, text).expect("written");
    load(&Overrides { file: Some(file), ..Overrides::default() }, environment(variables), true)
}

fn problems(text: &str) -> Vec<String> {
    let problems = of_text(text, &[]).expect_err("problems");
    problems.into_iter().map(|problem| format!("{}: {}", problem.key, problem.text)).collect()
}

#[test]
fn nothing_at_all_is_a_configuration() {
    let config = load(&Overrides::default(), environment(&[]), true).expect("fine");
    assert_eq!(config.coordinator.ws_address.as_str(), "ws://127.0.0.1:9010/ws");
    assert_eq!(config.coordinator.http_address().as_str(), "http://127.0.0.1:9010/ws");
    assert_eq!(config.storage.state_directory, PathBuf::from("/home/amos/.local/state/contemplant"));
    assert_eq!(config.provers.len(), 1);
    assert_eq!(config.provers[0].backend, network_lib::Backend::Cpu);
    assert_eq!(config.provers[0].program, provers::ProverProgram::BuiltIn);
    assert_eq!(config.warnings, [""; 0]);
}

#[test]
fn the_example_file_is_a_configuration_and_says_the_defaults() {
    let example = of_text(include_str!("../../../../examples/contemplant.toml"), &[]).expect("fine");
    let default = load(&Overrides::default(), environment(&[]), true).expect("fine");
    assert_eq!(example.to_string(), default.to_string());
    assert_eq!(example.warnings, [""; 0]);
}

#[test]
fn what_show_prints_is_a_configuration_that_says_the_same() {
    let text = r#"
        hierophant_ws_address = "wss://hierophant"
        contemplant_name = "Name with \"quotes\""
        state_directory = "/s"
        max_program_cache_bytes = "3GiB"
        drain_timeout = "1h 30m"
        log_format = "json"
        [[provers]]
        backend = "mock"
        memory_limit = "24GiB"
        time_limit = "90min"
        spare = true
        program = "/p"
        args = ["a", "b c"]
        [[provers]]
        backend = "mock"
        script = """
        work 10s 5
        guest "no\""""
    "#;
    let config = of_text(text, &[]).expect("fine");
    let again = of_text(&config.to_string(), &[]).expect("fine");
    assert_eq!(config.to_string(), again.to_string());
    assert_eq!(again.provers, config.provers);
    assert_eq!(again.drain_timeout, Duration::from_mins(90));
}

#[test]
fn all_problems_come_together_each_with_its_key() {
    let text = r#"
        hierophant_ws_address = "ftp://x"
        contemplant_name = 7
        max_program_cache_bytes = "much"
        drain_timeout = 30
        log_format = "xml"
        hierophant_address = "x"
        worker_tokens = "x"
        [[provers]]
        vm = "risc0"
        backend = "cuda"
        [[provers]]
        bakend = "cpu"
        [[provers]]
        memory_limit = "0B"
        time_limit = "long"
    "#;
    let problems = problems(text);
    let keys: Vec<&str> = problems.iter().filter_map(|problem| problem.split(": ").next()).collect();
    assert_eq!(
        keys,
        [
            "contemplant_name",
            "drain_timeout",
            "hierophant_address",
            "hierophant_ws_address",
            "log_format",
            "max_program_cache_bytes",
            "provers[0].backend",
            "provers[0].vm",
            "provers[1]",
            "provers[2].memory_limit",
            "provers[2].time_limit",
            "worker_tokens",
        ]
    );
    let said = |key: &str| problems.iter().find(|problem| problem.starts_with(key)).expect("there").clone();
    assert_eq!(said("provers[0].vm"), "provers[0].vm: \"risc0\" is not a virtual machine: use sp1");
    assert!(said("provers[1]").contains("bakend"));
    assert_eq!(said("worker_tokens"), "worker_tokens: there is no such key; worker_token is meant?");
    assert_eq!(said("drain_timeout"), "drain_timeout: expected a time with its unit, like \"30s\"");
}

#[test]
fn a_problem_says_where_the_value_comes_from() {
    let problems = of_text("", &[("CONTEMPLANT_DRAIN_TIMEOUT", "soon")]).expect_err("a problem");
    assert_eq!(
        problems[0].to_string(),
        "drain_timeout (from environment variable CONTEMPLANT_DRAIN_TIMEOUT): \"soon\" is not a time: write it like \"30s\""
    );
    let problems = of_text("drain_timeout = \"soon\"", &[]).expect_err("a problem");
    assert!(problems[0].origin.ends_with("contemplant.toml"), "{}", problems[0]);
}

#[test]
fn text_that_is_not_toml_is_one_problem_that_names_the_file() {
    let problems = of_text("a = = b", &[]).expect_err("a problem");
    assert_eq!(problems.len(), 1);
    assert!(problems[0].to_string().contains("contemplant.toml"), "{}", problems[0]);
}

#[test]
fn a_named_file_must_be_there() {
    let overrides = Overrides { file: Some("/nowhere/contemplant.toml".into()), ..Overrides::default() };
    let problems = load(&overrides, environment(&[]), true).expect_err("a problem");
    assert_eq!(
        problems[0].to_string(),
        "/nowhere/contemplant.toml: there is no such file: --config names one that exists"
    );
}

#[test]
fn flags_override_the_environment_which_overrides_the_file() {
    let text = "contemplant_name = \"file\"\nhierophant_ws_address = \"file\"\nstate_directory = \"/file\"";
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("contemplant.toml");
    std::fs::write(&file, text).expect("written");
    let overrides = Overrides {
        file: Some(file),
        values: [("contemplant_name", "flag".to_owned())].into(),
        ..Overrides::default()
    };
    let variables = [("CONTEMPLANT_CONTEMPLANT_NAME", "environment"), ("HIEROPHANT_WS_ADDRESS", "environment:1")];
    let config = load(&overrides, environment(&variables), true).expect("fine");
    assert_eq!(config.coordinator.name.as_deref(), Some("flag"));
    assert_eq!(config.coordinator.ws_address.as_str(), "ws://environment:1/ws");
    assert_eq!(config.storage.state_directory, PathBuf::from("/file"));
}

#[test]
fn environment_names_of_the_first_contemplant_are_understood() {
    let variables = [
        ("HIEROPHANT_WS_ADDRESS", "ws://h:9010/ws"),
        ("CONTEMPLANT_NAME", "12"),
        ("MAGISTER_DROP_ENDPOINT", "http://magister/drop/1"),
        ("CONTEMPLANT_VMS", "sp1"),
        ("CONTEMPLANT_SP1_BACKEND", "cpu"),
        ("MAX_PROOFS_STORED", "2"),
        ("RUST_LOG", "debug"),
    ];
    let config = of_text("", &variables).expect("fine");
    assert_eq!(config.coordinator.ws_address.as_str(), "ws://h:9010/ws");
    assert_eq!(config.coordinator.name.as_deref(), Some("12"));
    assert_eq!(config.coordinator.magister_drop_endpoint.as_deref(), Some("http://magister/drop/1"));
    assert_eq!(config.telemetry.filter, "debug");
    assert_eq!(config.warnings.len(), 1);
    let problems = of_text("", &[("CONTEMPLANT_VMS", "sp1,risc0")]).expect_err("a problem");
    assert_eq!(problems[0].key, "provers[1].vm");
}

#[test]
fn a_key_without_meaning_is_accepted_and_explained() {
    let text = r#"
        http_port = 9011
        heartbeat_interval_seconds = 30
        max_proofs_stored = 2
        assessor.moongate_log_path = "./moongate.log"
        [[provers]]
        vm = "sp1"
        moongate_endpoint = "http://moongate:3000/twirp/"
    "#;
    let config = of_text(text, &[]).expect("fine");
    assert_eq!(config.warnings.len(), 5);
    for key in
        ["http_port", "heartbeat_interval_seconds", "max_proofs_stored", "assessor", "provers[0].moongate_endpoint"]
    {
        assert!(config.warnings.iter().any(|warning| warning.starts_with(&format!("{key} has no meaning any more: "))));
    }
}

#[test]
fn a_variable_that_names_no_key_is_mentioned_and_does_no_harm() {
    let config = of_text("", &[("CONTEMPLANT_PORT", "tcp://10.0.0.1")]).expect("fine");
    assert_eq!(config.warnings, ["these environment variables name no key and are not read: CONTEMPLANT_PORT"]);
}

#[test]
fn without_sp1_a_prover_needs_a_program_and_the_problem_says_so() {
    let problems = load(&Overrides::default(), environment(&[]), false).expect_err("a problem");
    assert_eq!(problems[0].key, "provers[0].program");
    assert!(problems[0].text.contains("built without the feature \"sp1\""));
}

#[test]
fn mock_is_short_for_one_mock_prover() {
    for (overrides, variables) in [
        (Overrides { mock: true, ..Overrides::default() }, vec![]),
        (Overrides::default(), vec![("CONTEMPLANT_MOCK", "true")]),
    ] {
        let config = load(&overrides, environment(&variables), true).expect("fine");
        assert_eq!(
            config.provers.iter().map(|prover| prover.backend).collect::<Vec<_>>(),
            [network_lib::Backend::Mock]
        );
    }
}

#[test]
fn gpus_are_named_by_number_or_all_at_once() {
    use gpu::GpuDevices;
    let devices = |text: &str| of_text(text, &[]).expect("fine").gpu.devices;
    assert_eq!(devices(""), GpuDevices::None);
    assert_eq!(devices("gpu_devices = \"all\""), GpuDevices::All);
    assert_eq!(devices("gpu_devices = [0, 2]"), GpuDevices::Named(vec![0, 2]));
    for text in ["0,2", "[0, 2]"] {
        let config = of_text("", &[("CONTEMPLANT_GPU_DEVICES", text)]).expect("fine");
        assert_eq!(config.gpu.devices, GpuDevices::Named(vec![0, 2]));
    }
    for (value, problem) in [
        ("\"some\"", "expected \"all\" or a list of device numbers like [0, 1], as nvidia-smi counts them"),
        ("[-1]", "expected \"all\" or a list of device numbers like [0, 1], as nvidia-smi counts them"),
        ("[]", "expected a device: leave the key out for none"),
        ("[1, 1]", "names a device twice: a device makes one proof at a time"),
    ] {
        assert_eq!(problems(&format!("gpu_devices = {value}")), [format!("gpu_devices: {problem}")]);
    }
}

#[test]
fn a_gpu_takes_the_place_of_the_processor_unless_that_is_asked_for_too() {
    assert_eq!(of_text("gpu_devices = [0]", &[]).expect("fine").provers, []);
    let both = of_text("gpu_devices = [0]\n[[provers]]\nbackend = \"cpu\"", &[]).expect("fine");
    assert_eq!(both.provers.len(), 1);
    let overrides = Overrides { mock: true, ..Overrides::default() };
    let mock = load(&overrides, environment(&[("CONTEMPLANT_GPU_DEVICES", "all")]), true).expect("fine");
    assert_eq!(mock.gpu, GpuConfig::default());
}

#[test]
fn a_gpu_is_not_one_of_the_provers_tables_and_the_problem_says_what_to_write() {
    let problems = problems("[[provers]]\nbackend = \"gpu\"");
    assert_eq!(
        problems,
        [
            "provers[0].backend: a GPU is named outside of [[provers]]: write gpu_devices = \"all\", or a list like [0, 1]"
        ]
    );
    let external = of_text("[[provers]]\nbackend = \"gpu\"\nprogram = \"/p\"", &[]).expect("fine");
    assert_eq!(external.provers[0].backend, network_lib::Backend::Gpu);
}

#[test]
fn a_server_is_downloaded_only_by_its_digest() {
    let digest = "ab".repeat(32);
    let text = format!("gpu_devices = [0]\ngpu_server_download = {{ sha256 = \"{digest}\" }}");
    let config = of_text(&text, &[]).expect("fine");
    let download = config.gpu.download.clone().expect("a download");
    assert_eq!((download.url, download.sha256.to_string()), (None, digest.clone()));
    assert!(of_text("gpu_devices = [0]", &[]).expect("fine").gpu.download.is_none());
    for (value, key) in [
        ("{ url = \"https://example.com/x\" }", "gpu_server_download: "),
        ("true", "gpu_server_download: "),
        ("{ sha256 = \"abc\" }", "gpu_server_download.sha256: "),
        (&format!("{{ url = \"file:///x\", sha256 = \"{digest}\" }}"), "gpu_server_download.url: "),
        (&format!("{{ url = \"https://a:b@c/x\", sha256 = \"{digest}\" }}"), "gpu_server_download.url: "),
    ] {
        let problems = problems(&format!("gpu_devices = [0]\ngpu_server_download = {value}"));
        assert_eq!(problems.len(), 1);
        assert!(problems[0].starts_with(key), "{problems:?}");
    }
}

#[test]
fn what_show_prints_of_gpus_says_the_same() {
    let text = format!(
        "gpu_devices = [1]\ngpu_server = \"/opt/server\"\ngpu_silence_limit = \"20m\"\n\
         gpu_spare = true\n\
         gpu_server_download = {{ url = \"https://example.com/x\", sha256 = \"{}\" }}",
        "cd".repeat(32)
    );
    let config = of_text(&text, &[]).expect("fine");
    let again = of_text(&config.to_string(), &[]).expect("fine");
    assert_eq!(again.gpu, config.gpu);
    assert_eq!(again.gpu.silence_limit, Duration::from_mins(20));
}

#[test]
fn what_is_said_of_gpus_without_a_gpu_is_mentioned() {
    let config = of_text("gpu_server = \"/opt/server\"", &[]).expect("fine");
    assert_eq!(config.warnings, ["gpu_server has no effect without gpu_devices"]);
}

#[test]
fn moongate_leads_to_gpu_devices() {
    let config = of_text("moongate_endpoint = \"http://moongate\"", &[]).expect("fine");
    assert!(config.warnings[0].contains("write gpu_devices = \"all\""), "{:?}", config.warnings);
}

#[test]
fn a_token_is_read_and_never_shown() {
    let config = of_text("worker_token = \"hush\"", &[]).expect("fine");
    assert_eq!(config.coordinator.token.as_ref().map(ExposeSecret::expose_secret), Some("hush"));
    assert!(!format!("{config} {config:?}").contains("hush"));
    let problems = problems("worker_token = \"hush hush\"");
    assert!(!problems.concat().contains("hush"));
}

#[test]
fn a_home_is_needed_or_a_state_directory() {
    let problems = load(&Overrides::default(), [], true).expect_err("a problem");
    assert_eq!(problems.iter().map(|problem| problem.key.as_str()).collect::<Vec<_>>(), ["state_directory"]);
    let variables = [("XDG_STATE_HOME".to_owned(), "/state".to_owned())];
    let config = load(&Overrides::default(), variables, true).expect("fine");
    assert_eq!(config.storage.state_directory, PathBuf::from("/state/contemplant"));
}

#[test]
fn what_snarks_take_can_be_set() {
    let text = "min_groth16_memory_bytes = \"8GiB\"\nallow_gnark_image_pull = true";
    let config = of_text(text, &[("CONTEMPLANT_MIN_PLONK_MEMORY_BYTES", "32GiB")]).expect("fine");
    assert_eq!(config.snark.min_memory(Snark::Groth16), ByteSize::gib(8));
    assert_eq!(config.snark.min_memory(Snark::Plonk), ByteSize::gib(32));
    assert!(config.snark.may_pull_image);
    assert!(of_text("", &[("CONTEMPLANT_ALLOW_GNARK_IMAGE_PULL", "true")]).expect("fine").snark.may_pull_image);
    assert_eq!(problems("allow_gnark_image_pull = 1"), ["allow_gnark_image_pull: expected true or false"]);
}

#[test]
fn a_script_is_read_before_anything_starts_and_is_for_mock_provers_alone() {
    let text = r#"
        [[provers]]
        backend = "mock"
        script = "work soon"
        [[provers]]
        backend = "cpu"
        script = "work 1s"
        [[provers]]
        backend = "mock"
        program = "/p"
        script = "work 1s"
    "#;
    let elsewhere = "is for backend = \"mock\" without a program of its own";
    assert_eq!(
        problems(text),
        [
            "provers[0].script: line 1 of the script: \"soon\" is not a time: write it like 500ms".to_owned(),
            format!("provers[1].script: {elsewhere}"),
            format!("provers[2].script: {elsewhere}"),
        ]
    );
}
