//! Provers: their reports, faults, crashes and restarts.

use std::{path::Path, time::Duration};

use network_lib::{CircuitVersion, Digest, FaultClass, ProofMode};
use proving::{
    ChildCommand, Phase, ProveOrder, ProverError, ProverReport, ProverSettings,
    frames::ProverMessage,
    mock,
    testing::{CIRCUIT_VERSION, ScriptedProver},
};
use tempfile::TempDir;

use crate::{
    Test,
    bench::{Bench, child, contents, id, is_gone, ready_line, settings, shell},
};

pub(crate) const TESTS: &[Test] = &tests![
    an_order_is_proved_with_all_its_reports_in_order,
    what_a_library_prints_does_not_disturb_the_frames,
    a_scripted_prover_works_as_long_as_told_and_in_the_steps_told,
    a_flood_of_log_disturbs_nothing,
    a_prover_that_writes_garbage_ends_with_its_attempt,
    each_class_of_fault_can_be_played,
    a_guest_fault_reaches_the_parent_and_the_child_goes_on,
    a_panic_is_a_worker_fault_with_its_text,
    a_crash_gives_one_failure_with_its_status_and_last_words_then_a_restart,
    a_crash_for_want_of_room_is_a_fault_of_resources_and_names_the_remedy,
    a_sigkill_is_a_fault_of_resources_and_takes_the_offspring_along,
    a_second_order_is_refused_while_one_is_in_hand,
    garbage_ends_the_child_and_its_attempt,
    a_line_without_end_ends_the_child,
    a_child_of_another_version_is_not_used,
    a_program_that_does_not_exist_is_reported_and_tried_again,
    a_child_that_fails_and_ends_is_started_ever_later,
    a_child_that_leaves_was_not_killed_by_the_kernel,
    a_child_that_is_never_ready_is_given_up,
    stopping_kills_the_whole_group,
    a_child_whose_parent_is_gone_ends_with_its_group,
    secrets_of_the_parent_do_not_reach_the_child,
];

async fn an_order_is_proved_with_all_its_reports_in_order() {
    let mut bench = Bench::ready(child("prover"), settings()).await;
    bench.prover.prove(bench.order(1, "executed 42\nprogress 1 2\nprove 1000")).await.unwrap();
    let executed = bench.next().await;
    assert!(
        matches!(executed, ProverReport::Executed { attempt, execution } if attempt == id(1) && execution.cycles == 42)
    );
    assert!(
        matches!(bench.next().await, ProverReport::Progress { progress, .. } if (progress.done, progress.total) == (1, 2))
    );
    let bytes = std::fs::read(bench.path("1.proof")).unwrap_or_default();
    let proved = bench.next().await;
    let bytes = if bytes.is_empty() { std::fs::read(bench.path("1.proof")).unwrap() } else { bytes };
    let size = u64::try_from(bytes.len()).unwrap();
    assert_eq!(proved, ProverReport::Proved { attempt: id(1), digest: Digest::of(&bytes), size });
    bench.proves(2).await;
    bench.end().await;
}

async fn what_a_library_prints_does_not_disturb_the_frames() {
    let mut bench = Bench::ready(child("prover"), settings()).await;
    bench.prover.prove(bench.order(1, "print {\"type\":\"failed\"}\nprint garbage\nprove 1")).await.unwrap();
    assert!(matches!(bench.next().await, ProverReport::Proved { .. }));
    bench.end().await;
}

async fn a_scripted_prover_works_as_long_as_told_and_in_the_steps_told() {
    let mut bench = Bench::ready(child("prover"), settings()).await;
    #[expect(clippy::disallowed_methods, reason = "a stopwatch")]
    let began = std::time::Instant::now();
    let script = "phase wrapping\nwork 60ms 3\nburn 20ms 1\nmemory 32MiB\nforge values\nprove 7";
    bench.prover.prove(bench.order(1, script)).await.unwrap();
    let mut done = Vec::new();
    loop {
        match bench.next().await {
            ProverReport::Progress { progress, .. } => done.push((progress.phase, progress.done, progress.total)),
            ProverReport::Proved { .. } => break,
            other => panic!("expected progress, got {other:?}"),
        }
    }
    assert!(began.elapsed() >= Duration::from_millis(80));
    // The newest takes the place of one that nobody has read yet.
    assert_eq!(done.last(), Some(&(Phase::Wrapping, 3, 3)));
    let claim = mock::read_claim(&std::fs::read(bench.path("1.proof")).unwrap()).unwrap();
    assert_ne!(claim.public_values_hash, ScriptedProver::public_values_hash());
    bench.end().await;
}

async fn a_flood_of_log_disturbs_nothing() {
    let mut bench = Bench::ready(child("prover"), settings()).await;
    bench.prover.prove(bench.order(1, "flood 100000\nprove 1")).await.unwrap();
    assert!(matches!(bench.next().await, ProverReport::Proved { .. }));
    bench.end().await;
}

async fn a_prover_that_writes_garbage_ends_with_its_attempt() {
    let mut bench = Bench::ready(child("prover"), settings()).await;
    bench.prover.prove(bench.order(1, "frame {\"type\":\"bribe\"}\nhang")).await.unwrap();
    let (class, cause) = bench.has_failed(1).await;
    assert_eq!(class, FaultClass::Worker);
    assert!(cause.starts_with("the prover sent garbage: "), "{cause}");
    bench.is_unavailable().await;
    bench.is_ready().await;
    bench.proves(2).await;
    bench.end().await;
}

async fn each_class_of_fault_can_be_played() {
    let mut bench = Bench::ready(child("prover"), settings()).await;
    let classes = [("guest", FaultClass::Guest), ("resources", FaultClass::Resources), ("worker", FaultClass::Worker)];
    for (step, class) in classes {
        bench.prover.prove(bench.order(1, &format!("{step} in other words"))).await.unwrap();
        assert_eq!(bench.has_failed(1).await, (class, "in other words".to_owned()));
    }
    bench.end().await;
}

async fn a_guest_fault_reaches_the_parent_and_the_child_goes_on() {
    let mut bench = Bench::ready(child("prover"), settings()).await;
    bench.prover.prove(bench.order(1, "guest n is too large")).await.unwrap();
    assert_eq!(bench.has_failed(1).await, (FaultClass::Guest, "n is too large".to_owned()));
    bench.proves(2).await;
    bench.end().await;
}

async fn a_panic_is_a_worker_fault_with_its_text() {
    let mut bench = Bench::ready(child("prover"), settings()).await;
    bench.prover.prove(bench.order(1, "panic oh dear")).await.unwrap();
    assert_eq!(bench.has_failed(1).await, (FaultClass::Worker, "the prover panicked: oh dear".to_owned()));
    bench.proves(2).await;
    bench.end().await;
}

async fn a_crash_gives_one_failure_with_its_status_and_last_words_then_a_restart() {
    let mut bench = Bench::ready(child("prover"), settings()).await;
    bench.prover.prove(bench.order(1, "progress 1 1\nsay the device fell out\nexit 3")).await.unwrap();
    assert!(matches!(bench.next().await, ProverReport::Progress { .. }));
    let (class, cause) = bench.has_failed(1).await;
    assert_eq!(class, FaultClass::Worker);
    assert!(cause.starts_with("the prover exited with status 3"), "{cause}");
    assert!(cause.ends_with("the device fell out"), "{cause}");
    assert_eq!(bench.is_unavailable().await, cause);
    bench.is_ready().await;
    bench.prover.prove(bench.order(2, "abort")).await.unwrap();
    let (_, cause) = bench.has_failed(2).await;
    assert!(cause.starts_with("the prover was killed by signal 6 (SIGABRT)"), "{cause}");
    bench.is_unavailable().await;
    bench.is_ready().await;
    bench.proves(3).await;
    bench.end().await;
}

async fn a_crash_for_want_of_room_is_a_fault_of_resources_and_names_the_remedy() {
    let mut bench = Bench::ready(child("prover"), settings()).await;
    bench.prover.prove(bench.order(1, "say write: No space left on device (os error 28)\nexit 101")).await.unwrap();
    let (class, cause) = bench.has_failed(1).await;
    assert_eq!(class, FaultClass::Resources, "{cause}");
    assert!(cause.contains("a disk is full: make room"), "{cause}");
    bench.end().await;
}

async fn a_sigkill_is_a_fault_of_resources_and_takes_the_offspring_along() {
    let mut bench = Bench::ready(child("prover"), settings()).await;
    let (own, offspring) = (bench.path("own"), bench.path("offspring"));
    let script = format!("offspring {}\nmark {}\nhang", offspring.display(), own.display());
    bench.prover.prove(bench.order(1, &script)).await.unwrap();
    let pid = contents(&own).await.parse().unwrap();
    let oom = std::fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).unwrap();
    assert_eq!(oom.trim(), "1000");
    rustix::process::kill_process(rustix::process::Pid::from_raw(pid).unwrap(), rustix::process::Signal::KILL).unwrap();
    let (class, cause) = bench.has_failed(1).await;
    assert_eq!(class, FaultClass::Resources);
    assert!(cause.contains("signal 9 (SIGKILL), most likely by the kernel for want of memory"), "{cause}");
    is_gone(&contents(&offspring).await).await;
    bench.is_unavailable().await;
    bench.is_ready().await;
    bench.end().await;
}

async fn a_second_order_is_refused_while_one_is_in_hand() {
    let mut bench = Bench::start(child("prover"), settings());
    let early = bench.prover.prove(bench.order(1, "prove 1")).await;
    assert!(matches!(early, Err(ProverError::Unavailable { .. })), "{early:?}");
    bench.is_ready().await;
    let go = bench.path("go");
    bench.prover.prove(bench.order(1, &format!("wait {}\nprove 1", go.display()))).await.unwrap();
    let second = bench.prover.prove(bench.order(2, "prove 1")).await;
    assert!(matches!(second, Err(ProverError::Busy { attempt }) if attempt == id(1)), "{second:?}");
    std::fs::write(go, "").unwrap();
    assert!(matches!(bench.next().await, ProverReport::Proved { attempt, .. } if attempt == id(1)));
    bench.end().await;
}

async fn garbage_ends_the_child_and_its_attempt() {
    let script = format!("echo '{}'; read order; echo segfault in frob; sleep 1000", ready_line());
    let mut bench = Bench::ready(shell(&script), settings()).await;
    bench.prover.prove(bench.order(1, "")).await.unwrap();
    let (class, cause) = bench.has_failed(1).await;
    assert_eq!(class, FaultClass::Worker);
    assert!(cause.starts_with(r#"the prover sent garbage: "segfault in frob" is not a frame"#), "{cause}");
    bench.is_unavailable().await;
    bench.is_ready().await;
    bench.end().await;
}

async fn a_line_without_end_ends_the_child() {
    let script = format!("echo '{}'; read order; cat /dev/zero", ready_line());
    let mut bench = Bench::ready(shell(&script), settings()).await;
    bench.prover.prove(bench.order(1, "")).await.unwrap();
    let (class, cause) = bench.has_failed(1).await;
    assert_eq!(class, FaultClass::Worker);
    assert!(cause.contains("a line that is no frame"), "{cause}");
    bench.end().await;
}

async fn a_child_of_another_version_is_not_used() {
    let script = format!("echo '{}'; sleep 1000", ready_line().replace(r#""protocol":1"#, r#""protocol":2"#));
    let mut bench = Bench::start(shell(&script), settings());
    assert_eq!(bench.is_unavailable().await, "the prover speaks version 2 of the frames, not 1");
    bench.end().await;
}

async fn a_program_that_does_not_exist_is_reported_and_tried_again() {
    let folder = TempDir::new().unwrap();
    let link = folder.path().join("program");
    let command = ChildCommand { program: link.clone(), ..child("prover") };
    let mut bench =
        Bench::start(command, ProverSettings { longest_restart_delay: Duration::from_millis(20), ..settings() });
    let cause = bench.is_unavailable().await;
    assert!(cause.starts_with(&format!("cannot start {}: No such file", link.display())), "{cause}");
    std::os::unix::fs::symlink(std::env::current_exe().unwrap(), link).unwrap();
    while !matches!(bench.next().await, ProverReport::Ready(_)) {}
    bench.proves(1).await;
    bench.end().await;
}

async fn a_child_that_fails_and_ends_is_started_ever_later() {
    let attempt = id(1);
    let fault = network_lib::Fault::worker("the device fell out");
    let failed = proving::frames::encode(&ProverMessage::Failed { attempt, fault }).unwrap();
    let script = format!("echo '{}'; read order; echo '{failed}'", ready_line());
    let first_restart_delay = Duration::from_millis(100);
    let settings = ProverSettings { first_restart_delay, ..ProverSettings::default() };
    let mut bench = Bench::ready(shell(&script), settings).await;
    for restart in 0..3 {
        bench.prover.prove(bench.order(1, "")).await.unwrap();
        assert_eq!(bench.has_failed(1).await, (FaultClass::Worker, "the device fell out".to_owned()));
        bench.is_unavailable().await;
        let begun = tokio::time::Instant::now();
        bench.is_ready().await;
        // The clock began when the child had been gone for a moment.
        let waited = begun.elapsed() + Duration::from_millis(20);
        assert!(waited >= first_restart_delay * 2_u32.pow(restart), "restart {restart} after {waited:?}");
    }
    bench.end().await;
}

async fn a_child_that_leaves_was_not_killed_by_the_kernel() {
    let fault = network_lib::Fault::worker("the device fell out");
    let said = [ProverMessage::Failed { attempt: id(1), fault }, ProverMessage::Leaving];
    let said = said.map(|message| format!("echo '{}'", proving::frames::encode(&message).unwrap())).join("; ");
    let script = format!("echo '{}'; read order; {said}; kill -9 0", ready_line());
    let mut bench = Bench::ready(shell(&script), settings()).await;
    bench.prover.prove(bench.order(1, "")).await.unwrap();
    bench.has_failed(1).await;
    assert_eq!(bench.is_unavailable().await, "it could not go on after its last attempt, and ended");
    bench.is_ready().await;
    bench.end().await;
}

async fn a_child_that_is_never_ready_is_given_up() {
    let settings = ProverSettings { start_timeout: Duration::from_millis(50), ..settings() };
    let mut bench = Bench::start(shell("sleep 1000"), settings);
    assert_eq!(bench.is_unavailable().await, "the prover was not ready after 0 s");
    bench.end().await;
}

async fn stopping_kills_the_whole_group() {
    let bench = Bench::ready(child("prover"), settings()).await;
    let (own, offspring) = (bench.path("own"), bench.path("offspring"));
    let script = format!("offspring {}\nmark {}\nspin", offspring.display(), own.display());
    bench.prover.prove(bench.order(1, &script)).await.unwrap();
    let (own, offspring) = (contents(&own).await, contents(&offspring).await);
    let prover = bench.prover.clone();
    bench.end().await;
    is_gone(&own).await;
    is_gone(&offspring).await;
    assert!(matches!(prover.cancel(id(1)).await, Err(ProverError::Stopped)));
}

async fn a_child_whose_parent_is_gone_ends_with_its_group() {
    use std::{io::Write as _, os::unix::process::CommandExt as _, process::Stdio};
    let folder = TempDir::new().unwrap();
    let (own, offspring) = (folder.path().join("own"), folder.path().join("offspring"));
    let stdin = folder.path().join("script");
    std::fs::write(&stdin, format!("offspring {}\nmark {}\nspin", offspring.display(), own.display())).unwrap();
    let order = serde_order(&stdin);
    // No supervision: only the pipe tells this child that its parent is gone.
    let mut process = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["child", "prover"])
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut pipe = process.stdin.take().unwrap();
    writeln!(pipe, "{order}").unwrap();
    let (own, offspring) = (contents(&own).await, contents(&offspring).await);
    drop(pipe);
    tokio::task::spawn_blocking(move || process.wait()).await.unwrap().unwrap();
    is_gone(&own).await;
    is_gone(&offspring).await;
}

fn serde_order(stdin: &Path) -> String {
    let bench_order = ProveOrder {
        attempt: id(1),
        program: "/nowhere".into(),
        program_digest: Digest::of(b""),
        stdin: stdin.to_owned(),
        output: "/nowhere".into(),
        mode: ProofMode::Core,
        circuit_version: CircuitVersion::new(CIRCUIT_VERSION),
        vk_hash: [0; 32],
        cycle_limit: 0,
        gas_limit: 0,
    };
    proving::frames::encode(&proving::frames::ProverInstruction::Prove(bench_order)).unwrap()
}

async fn secrets_of_the_parent_do_not_reach_the_child() {
    // This binary's own parent cannot be given variables, so a shell in between has them and runs it again.
    if std::env::var_os("CONTEMPLANT_TOKEN").is_none() {
        let status = tokio::process::Command::new(std::env::current_exe().unwrap())
            .arg("secrets_of_the_parent_do_not_reach_the_child")
            .env("CONTEMPLANT_TOKEN", "secret")
            .env("PUB_KEY", "secret")
            .stdout(std::process::Stdio::null())
            .status();
        assert!(status.await.unwrap().success());
        return;
    }
    let folder = TempDir::new().unwrap();
    let out = folder.path().join("environment");
    let script = format!("env > {0}.draft; mv {0}.draft {0}; sleep 1000", out.display());
    let command = ChildCommand { env: vec![("CONTEMPLANT_GIVEN".into(), "on purpose".into())], ..shell(&script) };
    let bench = Bench::start(command, settings());
    let environment = contents(&out).await;
    assert!(!environment.contains("secret"), "{environment}");
    assert!(environment.contains("CONTEMPLANT_GIVEN=on purpose"));
    assert!(environment.contains("PATH="));
    bench.end().await;
}
