//! Supervision of real child processes. This binary is also the child: run with `child NAME` it serves frames.

#![expect(clippy::unwrap_used, reason = "a test, though without the harness that clippy knows tests by")]

use std::{
    fmt::Write as _,
    future::Future,
    path::{Path, PathBuf},
    pin::Pin,
    process::ExitCode,
    time::Duration,
};

use network_lib::{AttemptId, CircuitVersion, Digest, FaultClass, ProofMode};
use proving::{
    ChildCommand, KeyHashes, Phase, ProveOrder, ProverChild, ProverError, ProverReport, ProverSettings, Verified,
    Verifier as _, VerifierChild, VerifierSettings, VerifyError, VerifyOrder,
    child::{Channel, Verify, serve_prover, serve_verifier},
    mock::{self, MockClaim},
    testing::{CIRCUIT_VERSION, ScriptedProver, TestVerifier, key_hashes},
};
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

type Test = (&'static str, fn() -> Pin<Box<dyn Future<Output = ()>>>);

/// No wait here may take longer; a test that does has hung.
const PATIENCE: Duration = Duration::from_mins(1);

macro_rules! tests {
    ($($name:ident,)*) => { [$((stringify!($name), || Box::pin($name()))),*] };
}

const TESTS: &[Test] = &tests![
    an_order_is_proved_with_all_its_reports_in_order,
    what_a_library_prints_does_not_disturb_the_frames,
    a_scripted_prover_works_as_long_as_told_and_in_the_steps_told,
    a_flood_of_log_disturbs_nothing,
    a_prover_that_writes_garbage_ends_with_its_attempt,
    each_class_of_fault_can_be_played,
    a_child_that_hears_no_cancel_is_ended_after_the_grace,
    a_prover_is_free_five_seconds_after_a_cancel_whatever_it_does_and_wherever_it_is,
    a_child_that_never_stops_talking_is_ended_after_the_grace,
    a_cancelled_child_leaves_no_shared_memory,
    an_attempt_that_takes_too_long_ends_and_names_the_limit,
    an_attempt_that_takes_too_much_memory_ends_and_names_the_limit,
    memory_of_the_whole_group_counts,
    a_guest_fault_reaches_the_parent_and_the_child_goes_on,
    a_panic_is_a_worker_fault_with_its_text,
    a_crash_gives_one_failure_with_its_status_and_last_words_then_a_restart,
    a_sigkill_is_a_fault_of_resources_and_takes_the_offspring_along,
    a_polite_cancel_frees_the_child_without_a_restart,
    a_child_that_cannot_drop_its_work_ends_when_cancelled,
    a_child_that_ignores_a_cancel_is_killed_after_the_grace,
    nothing_is_reported_after_a_cancel,
    a_second_order_is_refused_while_one_is_in_hand,
    garbage_ends_the_child_and_its_attempt,
    a_line_without_end_ends_the_child,
    a_child_of_another_version_is_not_used,
    a_program_that_does_not_exist_is_reported_and_tried_again,
    a_child_that_fails_and_ends_is_started_ever_later,
    a_child_that_is_never_ready_is_given_up,
    reports_that_nobody_reads_do_not_block_a_cancel,
    stopping_kills_the_whole_group,
    a_child_whose_parent_is_gone_ends_with_its_group,
    secrets_of_the_parent_do_not_reach_the_child,
    a_verifier_answers_and_refuses,
    a_verifier_that_hangs_is_killed_and_replaced,
    a_verifier_that_dies_is_replaced,
    a_verifier_that_panics_rejects,
    a_verifier_that_takes_too_much_memory_dies_alone,
    verifiers_work_side_by_side,
];

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [mode, name] = args.as_slice()
        && mode == "child"
    {
        return serve(name);
    }
    if args.iter().any(|arg| arg == "--list") {
        let list = TESTS.iter().fold(String::new(), |mut list, (name, _)| {
            writeln!(list, "{name}: test").expect("a string takes anything");
            list
        });
        print(&list);
        return ExitCode::SUCCESS;
    }
    let filter: Vec<&String> = args.iter().filter(|arg| !arg.starts_with('-')).collect();
    let chosen = TESTS.iter().filter(|(name, _)| filter.is_empty() || filter.iter().any(|part| name.contains(*part)));
    for (name, test) in chosen {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async {
            tokio::time::timeout(PATIENCE, test()).await.unwrap_or_else(|_| panic!("{name} hangs"));
        });
        print(&format!("test {name} ... ok\n"));
    }
    ExitCode::SUCCESS
}

#[expect(clippy::print_stdout, reason = "the report of a test run")]
fn print(text: &str) {
    print!("{text}");
}

// ---- the child

fn serve(name: &str) -> ExitCode {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let channel = Channel::take().unwrap();
    match name {
        "prover" => runtime.block_on(serve_prover(channel, ScriptedProver::default())).unwrap(),
        "droppable" => runtime.block_on(serve_prover(channel, ScriptedProver::droppable())).unwrap(),
        "mapping" => {
            let _mapped = map_shared_memory();
            runtime.block_on(serve_prover(channel, ScriptedProver::default())).unwrap();
        }
        "verifier" => serve_verifier(channel, &TestVerifier).unwrap(),
        "odd-verifier" => serve_verifier(channel, &OddVerifier).unwrap(),
        _ => return ExitCode::FAILURE,
    }
    ExitCode::SUCCESS
}

/// Maps the file that the environment names, as SP1's executor does. Without unsafe code only a library can: a database
/// in this mode maps the file beside it.
#[expect(clippy::disallowed_methods, reason = "how this child is told its file")]
fn map_shared_memory() -> rusqlite::Connection {
    let connection = rusqlite::Connection::open(std::env::var("MAPPED").unwrap()).unwrap();
    connection.pragma_update(None, "journal_mode", "wal").unwrap();
    connection.execute_batch("create table t (x); begin; select * from t; commit").unwrap();
    connection
}

/// Does what the verifying key says.
struct OddVerifier;

impl Verify for OddVerifier {
    fn verify(&self, order: &VerifyOrder) -> Result<Verified, String> {
        self.hash_verifying_key(&order.verifying_key)?;
        Ok(Verified { public_values_hash: [0; 32], is_mock: false })
    }

    fn hash_verifying_key(&self, verifying_key: &[u8]) -> Result<KeyHashes, String> {
        let text = String::from_utf8_lossy(verifying_key).into_owned();
        match text.split_once(' ').unwrap_or((&text, "")) {
            ("hang", _) => loop {
                std::thread::park();
            },
            ("exit", _) => std::process::exit(7),
            ("panic", _) => panic!("odd bytes"),
            ("memory", _) => {
                // Written to, so that it is not optimised away.
                let hog = vec![verifying_key[0]; 3 << 30];
                Err(format!("the bytes were there: {}", hog.iter().map(|byte| u64::from(*byte)).sum::<u64>()))
            }
            ("meet", paths) => {
                let (own, other) = paths.split_once(' ').unwrap();
                std::fs::write(own, "").unwrap();
                while !Path::new(other).exists() {
                    std::thread::sleep(Duration::from_millis(5));
                }
                Ok(key_hashes(verifying_key))
            }
            _ => Ok(key_hashes(verifying_key)),
        }
    }
}

// ---- tools

fn child(name: &str) -> ChildCommand {
    let program = std::env::current_exe().unwrap();
    ChildCommand { program, args: vec!["child".into(), name.into()], env: vec![] }
}

fn shell(script: &str) -> ChildCommand {
    ChildCommand { program: "/bin/sh".into(), args: vec!["-c".into(), script.into()], env: vec![] }
}

/// The frame that says ready, for shell scripts.
fn ready_line() -> String {
    let profile = ScriptedProver::profile();
    proving::frames::encode(&proving::frames::ProverMessage::Ready { protocol: 1, profile }).unwrap()
}

fn settings() -> ProverSettings {
    ProverSettings { first_restart_delay: Duration::from_millis(1), ..ProverSettings::default() }
}

/// A supervised prover and a folder for its files.
struct Bench {
    folder: TempDir,
    prover: ProverChild,
    reports: mpsc::Receiver<ProverReport>,
    stop: CancellationToken,
    tracker: TaskTracker,
}

impl Bench {
    fn start(command: ChildCommand, settings: ProverSettings) -> Self {
        let (stop, tracker) = (CancellationToken::new(), TaskTracker::new());
        let (prover, reports) = ProverChild::start(command, settings, &tracker, stop.clone());
        Self { folder: TempDir::new().unwrap(), prover, reports, stop, tracker }
    }

    async fn ready(command: ChildCommand, settings: ProverSettings) -> Self {
        let mut bench = Self::start(command, settings);
        bench.is_ready().await;
        bench
    }

    async fn next(&mut self) -> ProverReport {
        self.reports.recv().await.expect("the supervision ended")
    }

    async fn is_ready(&mut self) {
        assert_eq!(self.next().await, ProverReport::Ready(ScriptedProver::profile()));
    }

    async fn is_unavailable(&mut self) -> String {
        match self.next().await {
            ProverReport::Unavailable { cause } => cause,
            other => panic!("expected Unavailable, got {other:?}"),
        }
    }

    async fn has_failed(&mut self, attempt: u8) -> (FaultClass, String) {
        match self.next().await {
            ProverReport::Failed { attempt: of, fault } if of == id(attempt) => (fault.class, fault.cause),
            other => panic!("expected Failed, got {other:?}"),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn order(&self, attempt: u8, script: &str) -> ProveOrder {
        let stdin = self.path(&format!("{attempt}.script"));
        std::fs::write(&stdin, script).unwrap();
        ProveOrder {
            attempt: id(attempt),
            program: self.path("program"),
            program_digest: Digest::of(b"program"),
            stdin,
            output: self.path(&format!("{attempt}.proof")),
            mode: ProofMode::Core,
            circuit_version: CircuitVersion::new(CIRCUIT_VERSION),
            vk_hash: [7; 32],
            cycle_limit: u64::MAX,
            gas_limit: u64::MAX,
        }
    }

    /// Gives an order and checks that it is proved, that is that the child is well.
    async fn proves(&mut self, attempt: u8) {
        self.prover.prove(self.order(attempt, "prove 10")).await.unwrap();
        match self.next().await {
            ProverReport::Proved { attempt: of, .. } => assert_eq!(of, id(attempt)),
            other => panic!("expected Proved, got {other:?}"),
        }
    }

    async fn end(self) {
        self.stop.cancel();
        self.tracker.close();
        self.tracker.wait().await;
    }
}

fn id(number: u8) -> AttemptId {
    AttemptId::new([number; 16])
}

/// Waits for a file and reads it.
async fn contents(path: &Path) -> String {
    loop {
        match std::fs::read_to_string(path) {
            Ok(text) if !text.is_empty() => return text,
            _ => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    }
}

/// Waits until a process is gone, or a zombie that only init has still to reap.
async fn is_gone(pid: &str) {
    let state = || {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        stat.rsplit_once(')')?.1.trim().chars().next()
    };
    while state().is_some_and(|state| state != 'Z' && state != 'X') {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

// ---- provers

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

async fn a_child_that_hears_no_cancel_is_ended_after_the_grace() {
    let settings = ProverSettings { cancel_grace: Duration::from_millis(50), ..settings() };
    let mut bench = Bench::ready(child("droppable"), settings).await;
    let own = bench.path("own");
    bench.prover.prove(bench.order(1, &format!("deaf\nmark {}\nhang", own.display()))).await.unwrap();
    let pid = contents(&own).await;
    bench.prover.cancel(id(1)).await.unwrap();
    is_gone(&pid).await;
    assert_eq!(bench.is_unavailable().await, "it did not stop when its attempt was cancelled");
    bench.is_ready().await;
    bench.proves(2).await;
    bench.end().await;
}

async fn a_prover_is_free_five_seconds_after_a_cancel_whatever_it_does_and_wherever_it_is() {
    let case = async |phase: &str, ill: &str| {
        // The settings are those that a worker uses.
        let bench = Bench::ready(child("droppable"), ProverSettings::default()).await;
        let mark = bench.path("mark");
        let script = format!("phase {phase}\nmark {}\n{ill}\nprogress 1 1\nhang", mark.display());
        bench.prover.prove(bench.order(1, &script)).await.unwrap();
        let pid = contents(&mark).await;
        let freed = tokio::time::timeout(Duration::from_secs(5), bench.prover.cancel(id(1))).await;
        freed.unwrap_or_else(|_| panic!("{ill} while {phase}")).unwrap();
        if ill != "hang" {
            is_gone(&pid).await;
        }
        bench.end().await;
    };
    tokio::join!(
        case("executing", "freeze"),
        case("executing", "deaf"),
        case("proving", "freeze"),
        case("proving", "spin"),
        case("proving", "hang"),
        case("finishing", "freeze"),
        case("finishing", "deaf"),
    );
    // One that never comes up has nothing in hand.
    let starting = Bench::start(shell("sleep 1000"), ProverSettings::default());
    starting.prover.cancel(id(1)).await.unwrap();
    starting.end().await;
}

async fn a_child_that_never_stops_talking_is_ended_after_the_grace() {
    let progress = r#"{"type":"progress","attempt":"01010101010101010101010101010101","progress":{"phase":"proving","done":1,"total":3}}"#;
    let script = format!("echo '{}'; read order; while true; do echo '{progress}'; done", ready_line());
    let settings = ProverSettings { cancel_grace: Duration::from_millis(50), ..settings() };
    let mut bench = Bench::ready(shell(&script), settings).await;
    bench.prover.prove(bench.order(1, "")).await.unwrap();
    bench.next().await;
    bench.prover.cancel(id(1)).await.unwrap();
    bench.end().await;
}

async fn a_cancelled_child_leaves_no_shared_memory() {
    for ill in ["spin", "freeze"] {
        let database = PathBuf::from(format!("/dev/shm/sp1_test_{}_{ill}", std::process::id()));
        let mapped = PathBuf::from(format!("{}-shm", database.display()));
        let env = vec![("MAPPED".into(), database.clone().into())];
        let settings = ProverSettings { cancel_grace: Duration::from_millis(50), ..settings() };
        let mut bench = Bench::ready(ChildCommand { env, ..child("mapping") }, settings).await;
        let mark = bench.path("mark");
        assert!(mapped.exists());
        bench.prover.prove(bench.order(1, &format!("mark {}\n{ill}", mark.display()))).await.unwrap();
        contents(&mark).await;
        bench.prover.cancel(id(1)).await.unwrap();
        bench.is_unavailable().await;
        let is_left = mapped.exists();
        bench.end().await;
        for path in [database.clone(), mapped, PathBuf::from(format!("{}-wal", database.display()))] {
            std::fs::remove_file(path).ok();
        }
        assert!(!is_left, "left behind by {ill}");
    }
}

async fn an_attempt_that_takes_too_long_ends_and_names_the_limit() {
    let settings = ProverSettings { time_limit: Some(Duration::from_millis(100)), ..settings() };
    let mut bench = Bench::ready(child("prover"), settings).await;
    for ill in ["spin", "freeze"] {
        let offspring = bench.path(ill);
        bench.prover.prove(bench.order(1, &format!("offspring {}\n{ill}", offspring.display()))).await.unwrap();
        let (class, cause) = bench.has_failed(1).await;
        assert_eq!((class, cause.as_str()), (FaultClass::Resources, "it was not done after 100ms, its time_limit"));
        is_gone(&contents(&offspring).await).await;
        bench.is_unavailable().await;
        bench.is_ready().await;
    }
    // The limit is on attempts: a prover may wait for one as long as it likes.
    tokio::time::sleep(Duration::from_millis(150)).await;
    bench.proves(2).await;
    bench.end().await;
}

async fn an_attempt_that_takes_too_much_memory_ends_and_names_the_limit() {
    let settings = ProverSettings { memory_limit: Some(256 << 20), ..settings() };
    let mut bench = Bench::ready(child("prover"), settings).await;
    bench.prover.prove(bench.order(1, "memory 400MiB\nspin")).await.unwrap();
    let (class, cause) = bench.has_failed(1).await;
    assert_eq!(class, FaultClass::Resources);
    assert!(cause.ends_with("more than its memory_limit of 256.0 MiB"), "{cause}");
    bench.is_unavailable().await;
    bench.is_ready().await;
    bench.prover.prove(bench.order(2, "memory 100MiB\nwork 600ms")).await.unwrap();
    while !matches!(bench.next().await, ProverReport::Proved { .. }) {}
    bench.end().await;
}

async fn memory_of_the_whole_group_counts() {
    // Each of these is within the limit on its own: `tail` holds on to its input until that ends.
    let holds = "(head -c 40000000 /dev/zero; sleep 1000) | tail -c 40000000 >/dev/null &";
    let script = format!("echo '{}'; read order; {holds} {holds} {holds} wait", ready_line());
    let settings = ProverSettings { memory_limit: Some(100_000_000), ..settings() };
    let mut bench = Bench::ready(shell(&script), settings).await;
    bench.prover.prove(bench.order(1, "")).await.unwrap();
    assert_eq!(bench.has_failed(1).await.0, FaultClass::Resources);
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

async fn a_polite_cancel_frees_the_child_without_a_restart() {
    let mut bench = Bench::ready(child("droppable"), settings()).await;
    let own = bench.path("own");
    bench.prover.prove(bench.order(1, &format!("mark {}\nhang", own.display()))).await.unwrap();
    let pid = contents(&own).await;
    bench.prover.cancel(id(1)).await.unwrap();
    let again = bench.path("again");
    bench.prover.prove(bench.order(2, &format!("mark {}\nprove 1", again.display()))).await.unwrap();
    assert!(matches!(bench.next().await, ProverReport::Proved { attempt, .. } if attempt == id(2)));
    assert_eq!(contents(&again).await, pid, "the same process");
    bench.end().await;
}

async fn a_child_that_cannot_drop_its_work_ends_when_cancelled() {
    let grace = Duration::from_hours(1); // it must not come to that
    let mut bench = Bench::ready(child("prover"), ProverSettings { cancel_grace: grace, ..settings() }).await;
    let (own, offspring) = (bench.path("own"), bench.path("offspring"));
    let script = format!("offspring {}\nmark {}\nspin", offspring.display(), own.display());
    bench.prover.prove(bench.order(1, &script)).await.unwrap();
    let pid = contents(&own).await;
    bench.prover.cancel(id(1)).await.unwrap();
    is_gone(&pid).await;
    is_gone(&contents(&offspring).await).await;
    assert_eq!(bench.is_unavailable().await, "it ended with its cancelled attempt");
    bench.is_ready().await;
    bench.proves(2).await;
    bench.end().await;
}

async fn a_child_that_ignores_a_cancel_is_killed_after_the_grace() {
    let grace = Duration::from_millis(50);
    let folder = TempDir::new().unwrap();
    let pid_file = folder.path().join("pid");
    let script = format!("echo $$ > {}; echo '{}'; while true; do sleep 1000; done", pid_file.display(), ready_line());
    let mut bench = Bench::ready(shell(&script), ProverSettings { cancel_grace: grace, ..settings() }).await;
    let pid = contents(&pid_file).await;
    bench.prover.prove(bench.order(1, "")).await.unwrap();
    let (first, second) = tokio::join!(bench.prover.cancel(id(1)), bench.prover.cancel(id(1)));
    first.unwrap();
    second.unwrap();
    is_gone(pid.trim()).await;
    assert_eq!(bench.is_unavailable().await, "it did not stop when its attempt was cancelled");
    bench.is_ready().await;
    bench.end().await;
}

async fn nothing_is_reported_after_a_cancel() {
    // It answers a cancel with a proof: both crossed on the way.
    let proved = r#"{"type":"proved","attempt":"01010101010101010101010101010101","digest":"0505050505050505050505050505050505050505050505050505050505050505","size":10}"#;
    let script = format!("echo '{}'; read order; read cancel; echo '{proved}'; read order; sleep 1000", ready_line());
    let mut bench = Bench::ready(shell(&script), settings()).await;
    bench.prover.prove(bench.order(1, "")).await.unwrap();
    bench.prover.cancel(id(1)).await.unwrap();
    bench.prover.cancel(id(1)).await.unwrap();
    bench.prover.cancel(id(99)).await.unwrap();
    assert!(bench.reports.try_recv().is_err());
    bench.prover.prove(bench.order(2, "")).await.unwrap();
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
    let failed = proving::frames::encode(&proving::frames::ProverMessage::Failed { attempt, fault }).unwrap();
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

async fn a_child_that_is_never_ready_is_given_up() {
    let settings = ProverSettings { start_timeout: Duration::from_millis(50), ..settings() };
    let mut bench = Bench::start(shell("sleep 1000"), settings);
    assert_eq!(bench.is_unavailable().await, "the prover was not ready after 0 s");
    bench.end().await;
}

async fn reports_that_nobody_reads_do_not_block_a_cancel() {
    let mut bench = Bench::ready(child("droppable"), settings()).await;
    let mark = bench.path("mark");
    let flood = "progress 1 2\n".repeat(5000);
    bench.prover.prove(bench.order(1, &format!("{flood}mark {}\nhang", mark.display()))).await.unwrap();
    contents(&mark).await;
    bench.prover.cancel(id(1)).await.unwrap();
    while bench.reports.try_recv().is_ok() {} // those that lay in the channel already
    bench.proves(2).await;
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

// ---- verifiers

struct VerifierBench {
    verifier: VerifierChild,
    stop: CancellationToken,
    tracker: TaskTracker,
}

impl VerifierBench {
    fn start(name: &str, settings: VerifierSettings) -> Self {
        let (stop, tracker) = (CancellationToken::new(), TaskTracker::new());
        let verifier = VerifierChild::start(child(name), settings, &tracker, stop.clone());
        Self { verifier, stop, tracker }
    }

    async fn hash(&self, key: impl Into<Vec<u8>>) -> Result<KeyHashes, VerifyError> {
        self.verifier.hash_verifying_key(key.into()).await
    }

    async fn end(self) {
        self.stop.cancel();
        self.tracker.close();
        self.tracker.wait().await;
        assert!(matches!(self.hash("key").await, Err(VerifyError::Unavailable { .. })));
    }
}

fn cause_of(error: VerifyError) -> String {
    match error {
        VerifyError::Unavailable { cause } => cause,
        VerifyError::Rejected { reason } => panic!("rejected: {reason}"),
    }
}

async fn a_verifier_answers_and_refuses() {
    let bench = VerifierBench::start("verifier", VerifierSettings::default());
    let folder = TempDir::new().unwrap();
    let proof = folder.path().join("proof");
    let key = b"key".to_vec();
    let claim = MockClaim {
        vk_hash: key_hashes(&key).field,
        mode: ProofMode::Core,
        circuit_version: CircuitVersion::new(CIRCUIT_VERSION),
        public_values_hash: [3; 32],
    };
    std::fs::write(&proof, mock::seal(vec![], &claim)).unwrap();
    let order = VerifyOrder {
        verifying_key: key.clone(),
        vk_hash: key_hashes(&key).field,
        proof,
        mode: ProofMode::Core,
        circuit_version: CircuitVersion::new(CIRCUIT_VERSION),
        public_values_hash: None,
        accept_mock: true,
    };
    let good = bench.verifier.verify(order.clone()).await;
    assert_eq!(good, Ok(Verified { public_values_hash: [3; 32], is_mock: true }));
    let refused = bench.verifier.verify(VerifyOrder { accept_mock: false, ..order }).await;
    let reason = "the worker sent a mock proof and mock_mode is off here".to_owned();
    assert_eq!(refused, Err(VerifyError::Rejected { reason }));
    assert_eq!(bench.hash(key.clone()).await, Ok(key_hashes(&key)));
    assert_eq!(bench.hash("").await, Err(VerifyError::Rejected { reason: "the verifying key is empty".to_owned() }));
    let too_long = bench.hash(vec![0; proving::frames::MAX_FRAME_BYTES]).await;
    assert!(matches!(too_long, Err(VerifyError::Rejected { .. })), "{too_long:?}");
    bench.end().await;
}

async fn a_verifier_that_hangs_is_killed_and_replaced() {
    let settings = VerifierSettings { timeout: Duration::from_millis(200), ..VerifierSettings::default() };
    let bench = VerifierBench::start("odd-verifier", settings);
    let cause = cause_of(bench.hash("hang").await.unwrap_err());
    assert_eq!(cause, "it gave no answer in 200 ms and was killed");
    // The next child may take longer to start than an answer may take.
    assert_eq!(bench.hash("key").await, Ok(key_hashes(b"key")));
    bench.end().await;
}

async fn a_verifier_that_dies_is_replaced() {
    let bench = VerifierBench::start("odd-verifier", VerifierSettings::default());
    let cause = cause_of(bench.hash("exit").await.unwrap_err());
    assert!(cause.starts_with("the verifier exited with status 7"), "{cause}");
    assert_eq!(bench.hash("key").await, Ok(key_hashes(b"key")));
    bench.end().await;
}

async fn a_verifier_that_panics_rejects() {
    let bench = VerifierBench::start("odd-verifier", VerifierSettings::default());
    let reason = "the verifier panicked: odd bytes".to_owned();
    assert_eq!(bench.hash("panic").await, Err(VerifyError::Rejected { reason }));
    assert_eq!(bench.hash("key").await, Ok(key_hashes(b"key")));
    bench.end().await;
}

async fn a_verifier_that_takes_too_much_memory_dies_alone() {
    let settings = VerifierSettings { memory_bytes: 256 << 20, ..VerifierSettings::default() };
    let bench = VerifierBench::start("odd-verifier", settings);
    let cause = cause_of(bench.hash("memory").await.unwrap_err());
    assert!(cause.contains("signal 6 (SIGABRT)") && cause.contains("memory allocation"), "{cause}");
    assert_eq!(bench.hash("key").await, Ok(key_hashes(b"key")));
    bench.end().await;
}

async fn verifiers_work_side_by_side() {
    let bench = VerifierBench::start("odd-verifier", VerifierSettings { children: 2, ..VerifierSettings::default() });
    let folder = TempDir::new().unwrap();
    let (a, b) = (folder.path().join("a"), folder.path().join("b"));
    let meet = |own: &Path, other: &Path| format!("meet {} {}", own.display(), other.display());
    // Each answers only once the other is being asked.
    let (first, second) = tokio::join!(bench.hash(meet(&a, &b)), bench.hash(meet(&b, &a)));
    assert!(first.is_ok() && second.is_ok(), "{first:?} {second:?}");
    bench.end().await;
}
