use reqwest::StatusCode;

use super::*;
use crate::snark::{Snark, readiness::Files};

const GIB: u64 = 1 << 30;

fn room(gib: u64) -> Room {
    Room { total: gib * GIB, free: gib * GIB }
}

fn snark_facts(snark: Snark) -> SnarkFacts {
    SnarkFacts {
        snark,
        directory: Some("/c/v6.1.0".into()),
        files: Files::Whole,
        is_development: false,
        memory: 64 * GIB,
        min_memory: 16 * GIB,
        is_gnark_linked: false,
        docker: Some(Docker::Ready),
        image: "gnark:v6.1.0".to_owned(),
        may_pull_image: false,
    }
}

fn health() -> Health {
    Health {
        status: 200,
        version: Some(CONTEMPLANT_VERSION.to_owned()),
        mock_mode: false,
        clock: Some((Duration::ZERO, true)),
    }
}

fn coordinator_facts() -> CoordinatorFacts {
    CoordinatorFacts { address: "ws://h:9010/ws".to_owned(), has_token: true, health: Ok(health()), door: Ok(()) }
}

/// A machine that lacks nothing.
fn well() -> Facts {
    Facts {
        configuration: Ok(Vec::new()),
        provers: vec![ProverFacts { backend: Backend::Cpu, program: None }],
        cores: 16,
        memory: Memory { total: 64 * GIB, available: 60 * GIB, limit: None },
        shared_memory: Some(room(32)),
        state: Some(StateFacts { path: "/s".into(), is_writable: true, room: Some(room(100)), min_free: GIB }),
        gpu: Gpu::None,
        gpu_server: None,
        snarks: Snark::ALL.map(snark_facts).to_vec(),
        coordinator: Some(coordinator_facts()),
        speed: Speed::Measured(10_000_000, Duration::from_millis(500)),
    }
}

/// The same, with provers on GPUs alone.
fn on_gpus() -> Facts {
    let gpu = Gpu::Cards(vec!["H100, 570, 80 GB".to_owned()]);
    Facts { provers: vec![ProverFacts { backend: Backend::Gpu, program: None }], gpu, ..well() }
}

fn server(found: Result<&str, &str>, may_be_downloaded: bool) -> GpuServer {
    GpuServer { found: found.map(str::to_owned).map_err(str::to_owned), may_be_downloaded }
}

fn denied(reason: &str) -> DialError {
    DialError::Denied { address: "h:9010".to_owned(), status: StatusCode::UNAUTHORIZED, reason: reason.to_owned() }
}

fn not_found() -> DialError {
    DialError::NotFound {
        url: "ws://h:9010/w".parse().expect("an address"),
        expected: "ws://h:9010/ws".parse().expect("an address"),
    }
}

fn with_door(door: DialError, health: Result<Health, String>) -> Facts {
    Facts { coordinator: Some(CoordinatorFacts { door: Err(door), health, ..coordinator_facts() }), ..well() }
}

fn with_health(health: Health) -> Facts {
    Facts { coordinator: Some(CoordinatorFacts { health: Ok(health), ..coordinator_facts() }), ..well() }
}

#[test]
fn a_machine_that_lacks_nothing_is_well_and_says_what_it_proves() {
    let diagnosis = judge(&well());
    let not_ok: Vec<&Check> = diagnosis.checks.iter().filter(|check| check.verdict != Verdict::Ok).collect();
    assert_eq!(not_ok, [] as [&Check; 0]);
    assert_eq!(diagnosis.proves, ["core", "compressed", "plonk", "groth16"]);
    assert!(diagnosis.is_well());
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn each_thing_that_is_wrong_is_named_with_its_remedy_and_nothing_else_is() {
    use Verdict::{Ok as Fine, Problem, Warning};
    let memory = |total, limit| Memory { total: total * GIB, available: total * GIB, limit };
    let state = || well().state.expect("given");
    let refused = || DialError::Refused { address: "h:9010".to_owned() };
    let table: Vec<(Facts, &str, Verdict, &str, Option<&str>)> = vec![
        (
            Facts { configuration: Ok(vec!["http_port has no meaning".to_owned()]), ..well() },
            "configuration",
            Warning,
            "http_port has no meaning",
            None,
        ),
        (
            Facts {
                provers: vec![ProverFacts { backend: Backend::Cpu, program: Some(("/p".into(), false)) }],
                ..well()
            },
            "prover",
            Problem,
            "/p is not a program",
            Some("[[provers]]"),
        ),
        (Facts { cores: 1, ..well() }, "cores", Warning, "proofs will take long", None),
        (Facts { memory: memory(8, None), ..well() }, "memory", Problem, "takes 9 GB", Some("24 GB")),
        (Facts { memory: memory(12, None), ..well() }, "memory", Warning, "take 15 GB", Some("24 GB")),
        (
            Facts { memory: memory(64, Some(4 * GIB)), ..well() },
            "memory",
            Problem,
            "4.0 GiB (allowed of 64.0 GiB)",
            Some("--memory"),
        ),
        (
            Facts { shared_memory: Some(Room { total: 64 << 20, free: 64 << 20 }), ..well() },
            "/dev/shm",
            Problem,
            "64.0 MiB, 64.0 MiB of it free",
            Some("docker: --shm-size=8g"),
        ),
        (Facts { shared_memory: Some(room(4)), ..well() }, "/dev/shm", Warning, "up to 5 GiB", Some("--shm-size")),
        (Facts { shared_memory: None, ..well() }, "/dev/shm", Problem, "is not there", Some("mount")),
        (
            Facts { state: Some(StateFacts { is_writable: false, ..state() }), ..well() },
            "state directory",
            Problem,
            "/s cannot be written",
            Some("mkdir -p /s && chown $USER /s"),
        ),
        (
            Facts { state: Some(StateFacts { room: Some(Room { total: GIB, free: GIB / 2 }), ..state() }), ..well() },
            "state directory",
            Problem,
            "512.0 MiB free: every attempt is refused that leaves less than 1.0 GiB",
            Some("state_directory"),
        ),
        (
            Facts { state: Some(StateFacts { room: Some(room(2)), ..state() }), ..well() },
            "state directory",
            Warning,
            "may not fit",
            None,
        ),
        (
            Facts { gpu: Gpu::Unusable("version mismatch".to_owned()), ..well() },
            "gpu",
            Warning,
            "version mismatch",
            Some("nvidia-smi"),
        ),
        (Facts { gpu: Gpu::Cards(vec!["H100, 570, 80 GB".to_owned()]), ..well() }, "gpu", Fine, "H100, 570", None),
        (
            Facts { gpu_server: Some(server(Ok("/usr/bin/sp1-gpu-server"), false)), ..on_gpus() },
            "gpu server",
            Fine,
            "/usr",
            None,
        ),
        (
            Facts { gpu_server: Some(server(Err("there is none"), true)), ..on_gpus() },
            "gpu server",
            Fine,
            "is downloaded",
            None,
        ),
        (
            Facts { gpu_server: Some(server(Err("there is none"), false)), ..on_gpus() },
            "gpu server",
            Problem,
            "is none",
            None,
        ),
        (Facts { gpu: Gpu::None, ..on_gpus() }, "gpu", Problem, "no nvidia-smi", Some("install NVIDIA's driver")),
        (Facts { gpu: Gpu::Cards(vec![]), ..on_gpus() }, "gpu", Problem, "shows none", Some("leave gpu_devices out")),
        (
            Facts { memory: Memory { total: 8 * GIB, available: 8 * GIB, limit: None }, ..on_gpus() },
            "memory",
            Fine,
            "8",
            None,
        ),
        (Facts { speed: Speed::Unknown("no SP1"), ..well() }, "speed", Fine, "not measured: no SP1", None),
        (well(), "speed", Fine, "executes 20.0 million cycles per second", None),
        (Facts { speed: Speed::Failed("SIGBUS".to_owned()), ..well() }, "speed", Problem, "SIGBUS", None),
        (
            with_door(refused(), Err("refused".to_owned())),
            "hierophant",
            Problem,
            "nothing listens",
            Some("start hierophant"),
        ),
        (
            with_door(not_found(), Ok(health())),
            "hierophant",
            Problem,
            "404",
            Some("set hierophant_ws_address = \"ws://h:9010/ws\""),
        ),
        (
            with_door(denied("the worker token is wrong"), Ok(health())),
            "worker token",
            Problem,
            "the worker token is wrong",
            Some("CONTEMPLANT_WORKER_TOKEN"),
        ),
        (
            with_health(Health { version: Some("9.9.9".to_owned()), ..health() }),
            "version",
            Problem,
            "Hierophant is 9.9.9",
            Some("install contemplant 9.9.9"),
        ),
        (with_health(Health { status: 503, ..health() }), "version", Warning, "not well", Some("log")),
        (with_health(Health { version: None, status: 404, ..health() }), "version", Warning, "404", None),
        (
            with_health(Health { clock: Some((Duration::from_secs(90), false)), ..health() }),
            "clock",
            Warning,
            "90 s behind",
            Some("timedatectl"),
        ),
    ];
    for (facts, name, verdict, words, remedy) in table {
        let diagnosis = judge(&facts);
        let check = diagnosis.checks.iter().find(|check| check.name == name).unwrap_or_else(|| panic!("no {name}"));
        assert_eq!(check.verdict, verdict, "{check:?}");
        assert!(check.text.contains(words), "{check:?}");
        match (remedy, &check.remedy) {
            (None, None) => {}
            (Some(remedy), Some(given)) => assert!(given.contains(remedy), "{check:?}"),
            _ => panic!("{check:?}"),
        }
        let others = diagnosis.checks.iter().filter(|other| other.name != name && other.verdict != Fine);
        assert_eq!(others.collect::<Vec<_>>(), [] as [&Check; 0]);
        assert_eq!(diagnosis.is_well(), verdict != Problem, "{check:?}");
    }
}

#[test]
fn a_mode_that_is_not_offered_says_the_commands_in_their_order() {
    let groth16 =
        SnarkFacts { files: Files::Absent, docker: Some(Docker::WithoutImage), ..snark_facts(Snark::Groth16) };
    let plonk = SnarkFacts { min_memory: 80 * GIB, files: Files::Absent, ..snark_facts(Snark::Plonk) };
    let diagnosis = judge(&Facts { snarks: vec![plonk, groth16], ..well() });
    let of = |name| diagnosis.checks.iter().find(|check| check.name == name).expect("checked").clone();
    assert_eq!(
        of("groth16").remedy.as_deref(),
        Some(
            "contemplant install-circuits groth16; then: docker pull gnark:v6.1.0, or set allow_gnark_image_pull = true"
        )
    );
    // Gigabytes are not to be fetched for a machine that is too small anyway.
    assert_eq!(of("plonk").remedy, None);
    assert!(of("plonk").text.contains("80.0 GiB"), "{:?}", of("plonk"));
    assert!(diagnosis.is_well(), "a warning is no failure");
    assert_eq!(diagnosis.proves, ["core", "compressed"]);
}

#[test]
fn a_docker_that_does_not_work_is_a_warning_and_one_that_is_not_used_is_nothing() {
    let unusable = Some(Docker::Unusable("permission denied".to_owned()));
    let facts = |provers| {
        let snark = |snark| SnarkFacts { docker: unusable.clone(), ..snark_facts(snark) };
        Facts { snarks: Snark::ALL.map(snark).to_vec(), provers, ..well() }
    };
    let of = |facts: &Facts| {
        let checks = judge(facts).checks;
        checks.into_iter().find(|check| check.name == "docker").expect("checked")
    };
    let used = of(&facts(well().provers));
    assert_eq!(used.verdict, Verdict::Warning);
    assert!(used.text.contains("permission denied") && used.remedy.is_some(), "{used:?}");
    let mock = of(&facts(vec![ProverFacts { backend: Backend::Mock, program: None }]));
    assert_eq!((mock.verdict, mock.remedy), (Verdict::Ok, None));
}

#[test]
fn what_proves_nothing_proves_nothing_and_a_lost_coordinator_changes_nothing_of_that() {
    let small = Facts { memory: Memory { total: GIB, available: GIB, limit: None }, ..well() };
    assert_eq!(judge(&small).proves, [""; 0]);
    let alone = with_door(DialError::Refused { address: "h".to_owned() }, Err("refused".to_owned()));
    assert!(judge(&alone).proves.contains(&"core".to_owned()));
    let broken = Facts { configuration: Err(vec!["log: no".to_owned()]), provers: Vec::new(), ..well() };
    assert!(!judge(&broken).is_well());
    assert_eq!(judge(&broken).proves, [""; 0]);
}

#[test]
fn a_worker_that_only_starts_another_program_needs_little_itself() {
    let facts = Facts {
        provers: vec![ProverFacts { backend: Backend::Cpu, program: Some(("/p".into(), true)) }],
        memory: Memory { total: GIB, available: GIB, limit: None },
        shared_memory: None,
        ..well()
    };
    let diagnosis = judge(&facts);
    assert!(diagnosis.is_well(), "{diagnosis:?}");
    assert_eq!(diagnosis.proves, ["what /p can (cpu)"]);
}
