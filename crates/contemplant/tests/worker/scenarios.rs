//! What happens between a worker and its coordinator. Each name is the claim.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use axum::{
    Router,
    http::{StatusCode, header},
    routing::get,
};
use contemplant::{
    app::App,
    artifacts::Patience,
    config::{self, Overrides},
    session::{self, Endpoint, Pace, SessionError},
};
use network_lib::{
    AttemptId, CONTEMPLANT_VERSION, Digest, Fault, FaultClass,
    protocol::{Assignment, EvictionCode, Instruction, MAX_FRAME_BYTES, Next, Report, Settings, Stage},
};
use tempfile::TempDir;
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::coordinator::{Coordinator, Session, welcome};

const PACE: Pace = Pace {
    first_wait: Duration::from_millis(10),
    longest_wait: Duration::from_millis(100),
    evicted_wait: Duration::from_millis(100),
    dial_limit: Duration::from_secs(10),
    good_session: Duration::from_secs(10),
    quiet: Duration::from_mins(1),
};

const PATIENCE: Patience = Patience {
    answer: Duration::from_secs(10),
    silence: Duration::from_secs(10),
    first_wait: Duration::from_millis(10),
    longest_wait: Duration::from_millis(50),
    fruitless_tries: 4,
};

struct Worker {
    stop: CancellationToken,
    running: JoinHandle<anyhow::Result<()>>,
}

impl Worker {
    fn start(coordinator: &Coordinator, state: &Path) -> Self {
        Self::start_with(coordinator, state, "")
    }

    fn start_with(coordinator: &Coordinator, state: &Path, more: &str) -> Self {
        Self::start_limited(coordinator, state, more, "")
    }

    /// `limits` are of the prover.
    fn start_limited(coordinator: &Coordinator, state: &Path, more: &str, limits: &str) -> Self {
        let file = tempfile::NamedTempFile::new().unwrap();
        let child = std::env::current_exe().unwrap();
        let text = format!(
            "hierophant_ws_address = \"{}\"\nstate_directory = \"{}\"\nmin_free_disk_bytes = 0\n{more}\n\
             [[provers]]\nbackend = \"mock\"\nprogram = \"{}\"\nargs = [\"prover-child\"]\n{limits}\n",
            coordinator.address,
            state.display(),
            child.display(),
        );
        fs::write(file.path(), text).unwrap();
        let overrides = Overrides { file: Some(file.path().to_owned()), ..Overrides::default() };
        let config = config::load(&overrides, [], false).unwrap();
        let app = App::build(config, PACE, PATIENCE).unwrap();
        let stop = CancellationToken::new();
        #[expect(clippy::disallowed_methods, reason = "awaited by every scenario")]
        let running = tokio::spawn(app.run(stop.clone()));
        Self { stop, running }
    }

    async fn stop(self) {
        self.stop.cancel();
        self.running.await.unwrap().unwrap();
    }
}

fn id(attempt: u8) -> AttemptId {
    AttemptId::new([attempt; 16])
}

fn files(state: &TempDir, attempt: u8) -> PathBuf {
    state.path().join("attempts").join(id(attempt).to_string())
}

/// The next failure, which is answered as recorded.
async fn failure(session: &mut Session) -> Fault {
    let failed = |report: &Report| match report {
        Report::Failed(attempt, fault) => Some((*attempt, fault.clone())),
        _ => None,
    };
    let (attempt, fault) = session.until(failed).await;
    session.say(Instruction::Stored(attempt)).await;
    fault
}

/// Why the next attempt is given back for which nobody is to blame; that is answered as recorded.
async fn declined(session: &mut Session) -> String {
    let declined = |report: &Report| match report {
        Report::Declined(attempt, cause) => Some((*attempt, cause.clone())),
        Report::Failed(_, fault) => panic!("{fault}"),
        _ => None,
    };
    let (attempt, cause) = session.until(declined).await;
    session.say(Instruction::Stored(attempt)).await;
    cause
}

/// Waits until the worker has taken in all that was said before.
async fn settled(coordinator: &Coordinator, session: &mut Session) {
    let assignment = coordinator.assignment(99, "guest settled");
    session.assign(&assignment).await;
    session.until(|report| matches!(report, Report::Failed(attempt, _) if *attempt == id(99)).then_some(())).await;
}

pub(crate) async fn a_proof_is_made_delivered_and_deleted_when_it_is_stored() {
    let (mut coordinator, state) = (Coordinator::start().await, TempDir::new().unwrap());
    let worker = Worker::start(&coordinator, state.path());
    let (mut session, in_hand) = coordinator.welcomed_session().await;
    assert_eq!(in_hand, []);
    session.assign(&coordinator.assignment(1, "progress 1 2\nexecuted 7\nprove 300000")).await;
    assert_eq!(session.report().await, Report::Accepted(id(1)));
    let mut told = Vec::new();
    let digest = loop {
        match session.report().await {
            Report::Proved { attempt, digest, .. } if attempt == id(1) => break digest,
            report => told.push(report),
        }
    };
    assert!(
        told.iter().any(|report| matches!(report, Report::Executed(_, execution) if execution.cycles == 7)),
        "{told:?}"
    );
    session.deliver(1, "/proofs/1").await;
    assert_eq!(session.report().await, Report::Delivered(id(1)));
    let proof = coordinator.facts().uploads["1"].clone();
    assert_eq!(Digest::of(&proof), digest);
    assert!(files(&state, 1).exists());
    session.say(Instruction::Stored(id(1))).await;
    settled(&coordinator, &mut session).await;
    assert!(!files(&state, 1).exists());
    worker.stop().await;
}

pub(crate) async fn a_proof_is_offered_again_when_the_session_broke_before_it_was_stored() {
    let (mut coordinator, state) = (Coordinator::start().await, TempDir::new().unwrap());
    let worker = Worker::start(&coordinator, state.path());
    let (mut session, _) = coordinator.welcomed_session().await;
    session.assign(&coordinator.assignment(1, "prove 10")).await;
    let digest = session.proved(1).await;
    session.deliver(1, "/proofs/1").await;
    session.until(|report| (*report == Report::Delivered(id(1))).then_some(())).await;
    drop(session);
    let (mut session, in_hand) = coordinator.welcomed_session().await;
    assert_eq!(
        in_hand.iter().map(|attempt| (attempt.attempt, attempt.stage)).collect::<Vec<_>>(),
        [(id(1), Stage::Proved)]
    );
    assert_eq!(session.proved(1).await, digest);
    session.deliver(1, "/proofs/again").await;
    session.until(|report| (*report == Report::Delivered(id(1))).then_some(())).await;
    assert_eq!(Digest::of(&coordinator.facts().uploads["again"]), digest);
    worker.stop().await;
}

pub(crate) async fn a_restarted_worker_offers_its_proof_byte_for_byte() {
    let (mut coordinator, state) = (Coordinator::start().await, TempDir::new().unwrap());
    let worker = Worker::start(&coordinator, state.path());
    let (mut session, _) = coordinator.welcomed_session().await;
    session.assign(&coordinator.assignment(1, "prove 100000")).await;
    let digest = session.proved(1).await;
    worker.stop().await;
    let proof = fs::read(files(&state, 1).join("proof")).unwrap();

    let worker = Worker::start(&coordinator, state.path());
    let (mut session, in_hand) = coordinator.welcomed_session().await;
    assert_eq!(in_hand[0].stage, Stage::Proved);
    assert_eq!(session.proved(1).await, digest);
    session.deliver(1, "/proofs/1").await;
    session.until(|report| (*report == Report::Delivered(id(1))).then_some(())).await;
    assert_eq!(coordinator.facts().uploads["1"], proof);
    worker.stop().await;
}

pub(crate) async fn a_restarted_worker_proves_what_it_had_begun() {
    let (mut coordinator, state) = (Coordinator::start().await, TempDir::new().unwrap());
    let (begun, go) = (state.path().join("begun"), state.path().join("go"));
    let worker = Worker::start(&coordinator, state.path());
    let (mut session, _) = coordinator.welcomed_session().await;
    let script = format!("mark {}\nexecuted 1\nwait {}\nprove 10", begun.display(), go.display());
    session.assign(&coordinator.assignment(1, &script)).await;
    session.until(|report| matches!(report, Report::Executed(..)).then_some(())).await;
    worker.stop().await;
    fs::write(&go, "").unwrap();

    coordinator.facts().ranges.clear();
    let worker = Worker::start(&coordinator, state.path());
    let (mut session, in_hand) = coordinator.welcomed_session().await;
    assert_eq!(
        in_hand.iter().map(|attempt| (attempt.attempt, attempt.stage)).collect::<Vec<_>>(),
        [(id(1), Stage::Working)]
    );
    session.proved(1).await;
    assert_eq!(coordinator.facts().ranges, [], "what is on disk is not downloaded again");
    worker.stop().await;
}

pub(crate) async fn a_proof_that_is_made_without_a_coordinator_is_delivered_later() {
    let (mut coordinator, state) = (Coordinator::start().await, TempDir::new().unwrap());
    let go = state.path().join("go");
    let worker = Worker::start(&coordinator, state.path());
    let (mut session, _) = coordinator.welcomed_session().await;
    session.assign(&coordinator.assignment(1, &format!("executed 1\nwait {}\nprove 10", go.display()))).await;
    session.until(|report| matches!(report, Report::Executed(..)).then_some(())).await;
    drop(session);
    fs::write(&go, "").unwrap();
    let (mut session, _) = coordinator.welcomed_session().await;
    session.proved(1).await;
    worker.stop().await;
}

pub(crate) async fn a_download_goes_on_where_the_connection_was_cut() {
    let (mut coordinator, state) = (Coordinator::start().await, TempDir::new().unwrap());
    let worker = Worker::start(&coordinator, state.path());
    let (mut session, _) = coordinator.welcomed_session().await;
    // The program first, so that the cuts are of the input alone.
    let first = coordinator.assignment(1, "prove 1");
    session.assign(&first).await;
    session.proved(1).await;
    let mut second = coordinator.assignment(2, &"print x\n".repeat(1000));
    second.program = first.program;
    coordinator.facts().ranges.clear();
    coordinator.facts().cuts.extend([1000, 2000]);
    session.assign(&second).await;
    session.proved(2).await;
    let ranges: Vec<Option<String>> = coordinator.facts().ranges.iter().map(|(_, range)| range.clone()).collect();
    assert_eq!(ranges, [None, Some("bytes=1000-".to_owned()), Some("bytes=3000-".to_owned())]);
    worker.stop().await;
}

pub(crate) async fn an_input_that_is_not_the_one_that_was_announced_ends_the_attempt() {
    let (mut coordinator, state) = (Coordinator::start().await, TempDir::new().unwrap());
    let worker = Worker::start(&coordinator, state.path());
    let (mut session, _) = coordinator.welcomed_session().await;
    let mut assignment = coordinator.assignment(1, "prove 1");
    assignment.stdin.digest = Digest::new([1; 32]);
    session.assign(&assignment).await;
    let fault = failure(&mut session).await;
    assert_eq!(fault.class, FaultClass::Worker);
    assert!(fault.cause.starts_with("could not get the input: the bytes have the digest "), "{fault}");
    let mut assignment = coordinator.assignment(2, "prove 1");
    assignment.stdin.size -= 1;
    session.assign(&assignment).await;
    assert_eq!(
        declined(&mut session).await,
        "could not get the input: there are more bytes than the 6 that were announced"
    );
    settled(&coordinator, &mut session).await;
    assert!(!files(&state, 1).exists() && !files(&state, 2).exists());
    worker.stop().await;
}

pub(crate) async fn an_artifact_that_is_not_there_is_nobodys_fault_and_told_with_the_servers_words() {
    let (mut coordinator, state) = (Coordinator::start().await, TempDir::new().unwrap());
    let worker = Worker::start(&coordinator, state.path());
    let (mut session, _) = coordinator.welcomed_session().await;
    let assignment = coordinator.assignment(1, "prove 1");
    coordinator.facts().artifacts.remove("program_1");
    session.assign(&assignment).await;
    assert_eq!(
        declined(&mut session).await,
        "could not get the program: the server answered 404 Not Found: there is no such artifact"
    );
    settled(&coordinator, &mut session).await;
    assert!(!files(&state, 1).exists());
    worker.stop().await;
}

pub(crate) async fn a_fetch_outlasts_the_troubles_of_its_server() {
    let (mut coordinator, state) = (Coordinator::start().await, TempDir::new().unwrap());
    let worker = Worker::start(&coordinator, state.path());
    let (mut session, _) = coordinator.welcomed_session().await;
    let passing = [
        StatusCode::INTERNAL_SERVER_ERROR,
        StatusCode::GATEWAY_TIMEOUT,
        StatusCode::REQUEST_TIMEOUT,
        StatusCode::TOO_EARLY,
        StatusCode::TOO_MANY_REQUESTS,
    ];
    // More in a row than program and input together have tries that may bring nothing.
    coordinator.facts().troubles.extend(passing.repeat(4));
    session.assign(&coordinator.assignment(1, "prove 1")).await;
    session.proved(1).await;
    assert!(coordinator.facts().troubles.is_empty());
    worker.stop().await;
}

pub(crate) async fn an_attempt_that_is_assigned_twice_is_proved_once() {
    let (mut coordinator, state) = (Coordinator::start().await, TempDir::new().unwrap());
    let go = state.path().join("go");
    let worker = Worker::start(&coordinator, state.path());
    let (mut session, _) = coordinator.welcomed_session().await;
    let assignment = coordinator.assignment(1, &format!("executed 1\nwait {}\nprove 10", go.display()));
    let accepted = |report: &Report| (*report == Report::Accepted(id(1))).then_some(());
    session.assign(&assignment).await;
    session.until(accepted).await;
    session.assign(&assignment).await;
    session.until(accepted).await;
    fs::write(&go, "").unwrap();
    let digest = session.proved(1).await;
    session.assign(&assignment).await;
    assert_eq!(session.proved(1).await, digest, "the same proof is offered again");
    let reads = coordinator.facts().ranges.iter().filter(|(name, _)| name == "stdin_1").count();
    assert_eq!(reads, 1);
    worker.stop().await;
}

pub(crate) async fn a_failed_attempt_is_told_with_its_fault_and_forgotten() {
    let (mut coordinator, state) = (Coordinator::start().await, TempDir::new().unwrap());
    let worker = Worker::start(&coordinator, state.path());
    let (mut session, _) = coordinator.welcomed_session().await;
    session.assign(&coordinator.assignment(1, "guest it panicked")).await;
    assert_eq!(failure(&mut session).await, Fault::guest("it panicked"));
    session.assign(&coordinator.assignment(2, "exit 3")).await;
    let fault = failure(&mut session).await;
    assert_eq!(fault.class, FaultClass::Worker);
    assert!(fault.cause.contains("exited with status 3"), "{fault}");
    // The child is back, and the worker was never away.
    session.assign(&coordinator.assignment(3, "prove 1")).await;
    session.proved(3).await;
    assert!(!files(&state, 1).exists() && !files(&state, 2).exists());
    worker.stop().await;
}

pub(crate) async fn a_cancelled_attempt_makes_room_for_the_next() {
    let (mut coordinator, state) = (Coordinator::start().await, TempDir::new().unwrap());
    let worker = Worker::start(&coordinator, state.path());
    let (mut session, _) = coordinator.welcomed_session().await;
    session.assign(&coordinator.assignment(1, "executed 1\nhang")).await;
    session.until(|report| matches!(report, Report::Executed(..)).then_some(())).await;
    session.assign(&coordinator.assignment(2, "prove 1")).await;
    session.say(Instruction::Cancel { attempt: id(1), reason: "test".to_owned() }).await;
    session.proved(2).await;
    assert!(!files(&state, 1).exists());
    worker.stop().await;
}

pub(crate) async fn a_frozen_prover_is_replaced_when_its_attempt_is_cancelled_and_the_session_goes_on() {
    let (mut coordinator, state) = (Coordinator::start().await, TempDir::new().unwrap());
    let worker = Worker::start(&coordinator, state.path());
    let (mut session, _) = coordinator.welcomed_session().await;
    session.assign(&coordinator.assignment(1, "executed 1\nfreeze")).await;
    session.until(|report| matches!(report, Report::Executed(..)).then_some(())).await;
    session.assign(&coordinator.assignment(2, "prove 1")).await;
    session.say(Instruction::Cancel { attempt: id(1), reason: "test".to_owned() }).await;
    // Heartbeats are due ten times a second, and it takes two seconds until the prover is given up.
    let mut heartbeats = 0;
    loop {
        match session.any_report().await {
            Report::Heartbeat => heartbeats += 1,
            Report::Proved { attempt, .. } if attempt == id(2) => break,
            Report::Failed(_, fault) => panic!("{fault}"),
            _ => {}
        }
    }
    assert!(heartbeats >= 10, "{heartbeats}");
    worker.stop().await;
}

pub(crate) async fn limits_of_a_prover_end_the_attempt_and_name_the_setting() {
    let (mut coordinator, state) = (Coordinator::start().await, TempDir::new().unwrap());
    let limits = [
        ("time_limit = \"100ms\"", "spin", "it was not done after 100ms, its time_limit"),
        ("memory_limit = \"256MiB\"", "memory 400MiB\nspin", "more than its memory_limit of 256.0 MiB"),
    ];
    for (attempt, (limit, script, cause)) in (1..).zip(limits) {
        let worker = Worker::start_limited(&coordinator, state.path(), "", limit);
        let (mut session, _) = coordinator.welcomed_session().await;
        session.assign(&coordinator.assignment(attempt, script)).await;
        let fault = failure(&mut session).await;
        assert_eq!(fault.class, FaultClass::Resources);
        assert!(fault.cause.ends_with(cause), "{fault}");
        worker.stop().await;
    }
}

/// Waits until nothing but these many files is in the cache of inputs.
async fn inputs_become(state: &TempDir, count: usize) -> Vec<PathBuf> {
    loop {
        let entries: Vec<PathBuf> =
            fs::read_dir(state.path().join("inputs")).unwrap().map(|e| e.unwrap().path()).collect();
        if entries.len() == count && entries.iter().all(|path| path.extension().is_none()) {
            return entries;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn hint(assignment: &Assignment) -> Instruction {
    let next = Next { program: assignment.program.clone(), stdin: Some(assignment.stdin.clone()) };
    Instruction::Prefetch { prover: 0, next: Some(next) }
}

fn fetches(coordinator: &Coordinator, name: &str) -> usize {
    coordinator.facts().ranges.iter().filter(|(fetched, _)| fetched == name).count()
}

pub(crate) async fn what_a_hint_speaks_of_is_fetched_while_the_prover_works_and_not_again_when_it_is_assigned() {
    let (mut coordinator, state) = (Coordinator::start().await, TempDir::new().unwrap());
    let go = state.path().join("go");
    let worker = Worker::start(&coordinator, state.path());
    let (mut session, _) = coordinator.welcomed_session().await;
    session.assign(&coordinator.assignment(1, &format!("executed 1\nwait {}", go.display()))).await;
    session.until(|report| matches!(report, Report::Executed(..)).then_some(())).await;
    let next = coordinator.assignment(2, "prove 7");
    session.say(hint(&next)).await;
    inputs_become(&state, 1).await;
    // Nothing more can be had from here on.
    coordinator.facts().artifacts.clear();
    fs::write(&go, "").unwrap();
    session.proved(1).await;
    session.assign(&next).await;
    session.proved(2).await;
    assert_eq!((fetches(&coordinator, "program_2"), fetches(&coordinator, "stdin_2")), (1, 1));
    // The same input again: it is still here, and goes when the last attempt that had it is forgotten.
    let again = Assignment { attempt: id(3), ..next };
    session.assign(&again).await;
    session.proved(3).await;
    session.say(Instruction::Stored(id(3))).await;
    inputs_become(&state, 0).await;
    worker.stop().await;
}

pub(crate) async fn an_input_that_no_hint_speaks_of_any_more_is_removed() {
    let (mut coordinator, state) = (Coordinator::start().await, TempDir::new().unwrap());
    let worker = Worker::start(&coordinator, state.path());
    let (session, _) = coordinator.welcomed_session().await;
    session.say(hint(&coordinator.assignment(1, "prove 1"))).await;
    let first = inputs_become(&state, 1).await;
    session.say(hint(&coordinator.assignment(2, "prove 2"))).await;
    while inputs_become(&state, 1).await == first {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    session.say(Instruction::Prefetch { prover: 0, next: None }).await;
    inputs_become(&state, 0).await;
    worker.stop().await;
}

pub(crate) async fn a_hint_that_cannot_be_followed_leaves_nothing_and_harms_nothing() {
    let (mut coordinator, state) = (Coordinator::start().await, TempDir::new().unwrap());
    let worker = Worker::start(&coordinator, state.path());
    let (mut session, _) = coordinator.welcomed_session().await;
    let (good, mut bad) = (coordinator.assignment(1, "prove 1"), coordinator.assignment(2, "prove 2"));
    bad.stdin.digest = Digest::of(b"something else");
    session.say(hint(&bad)).await;
    while fetches(&coordinator, "stdin_2") < 2 {
        tokio::time::sleep(Duration::from_millis(5)).await; // a damaged download has a second chance
    }
    inputs_become(&state, 0).await;
    let nobody = Instruction::Prefetch { prover: 9, next: None };
    session.say(nobody).await;
    session.assign(&good).await;
    session.proved(1).await;
    worker.stop().await;
}

pub(crate) async fn a_program_is_hashed_and_fetched_once() {
    let (mut coordinator, state) = (Coordinator::start().await, TempDir::new().unwrap());
    let worker = Worker::start(&coordinator, state.path());
    let (mut session, _) = coordinator.welcomed_session().await;
    let first = coordinator.assignment(1, "prove 1");
    session.assign(&first).await;
    session.proved(1).await;
    let program = state.path().join("programs").join(first.program.digest.to_string());
    // Damaged by someone else, which is noticed, and it is fetched again.
    fs::write(&program, "another program").unwrap();
    let damaged = Assignment { program: first.program.clone(), ..coordinator.assignment(2, "prove 2") };
    session.assign(&damaged).await;
    session.proved(2).await;
    assert_eq!(fetches(&coordinator, "program_1"), 2);
    let same = Assignment { program: first.program.clone(), ..coordinator.assignment(3, "prove 3") };
    session.assign(&same).await;
    session.proved(3).await;
    assert_eq!(fetches(&coordinator, "program_1"), 2);
    worker.stop().await;
}

pub(crate) async fn an_upload_is_tried_again_and_a_useless_address_replaced() {
    let (mut coordinator, state) = (Coordinator::start().await, TempDir::new().unwrap());
    let worker = Worker::start(&coordinator, state.path());
    let (mut session, _) = coordinator.welcomed_session().await;
    session.assign(&coordinator.assignment(1, "prove 10")).await;
    session.proved(1).await;
    coordinator.facts().refusals.extend([StatusCode::SERVICE_UNAVAILABLE, StatusCode::FORBIDDEN]);
    session.deliver(1, "/proofs/expired").await;
    session.proved(1).await;
    session.deliver(1, "/proofs/fresh").await;
    session.until(|report| (*report == Report::Delivered(id(1))).then_some(())).await;
    assert_eq!(coordinator.facts().uploads.keys().collect::<Vec<_>>(), ["fresh"]);
    worker.stop().await;
}

pub(crate) async fn an_upload_that_is_cut_again_and_again_sends_each_byte_once() {
    let (mut coordinator, state) = (Coordinator::start().await, TempDir::new().unwrap());
    let worker = Worker::start(&coordinator, state.path());
    let (mut session, _) = coordinator.welcomed_session().await;
    session.assign(&coordinator.assignment(1, "prove 1000000")).await;
    let digest = session.announced(1, &coordinator).await;
    // More cuts than tries in a row may bring nothing.
    let cuts = [100_000, 1, 300_000, 20_000, 30_000, 40_000, 50_000, 60_000];
    coordinator.facts().part_cuts.extend(cuts);
    session.deliver(1, "/resumable/1").await;
    session.until(|report| (*report == Report::Delivered(id(1))).then_some(())).await;
    let (whole, offsets) = {
        let facts = coordinator.facts();
        (facts.uploads["1"].clone(), facts.offsets.clone())
    };
    assert_eq!(Digest::of(&whole), digest);
    let mut there = 0;
    for (offset, length) in &offsets {
        assert_eq!(*offset, there, "{offsets:?}");
        there += length;
    }
    assert_eq!((there, offsets.len()), (whole.len(), cuts.len() + 1));
    worker.stop().await;
}

pub(crate) async fn an_upload_goes_on_after_the_worker_was_restarted() {
    let (mut coordinator, state) = (Coordinator::start().await, TempDir::new().unwrap());
    let worker = Worker::start(&coordinator, state.path());
    let (mut session, _) = coordinator.welcomed_session().await;
    session.assign(&coordinator.assignment(1, "prove 1000000")).await;
    session.announced(1, &coordinator).await;
    worker.stop().await;
    let proof = fs::read(files(&state, 1).join("proof")).unwrap();
    coordinator.facts().parts = proof[..700_000].to_vec();

    let worker = Worker::start(&coordinator, state.path());
    let (mut session, _) = coordinator.welcomed_session().await;
    session.announced(1, &coordinator).await;
    session.deliver(1, "/resumable/1").await;
    session.until(|report| (*report == Report::Delivered(id(1))).then_some(())).await;
    assert_eq!(coordinator.facts().uploads["1"], proof);
    assert_eq!(coordinator.facts().offsets, [(700_000, proof.len() - 700_000)]);
    // Asked again, it finds that all is there.
    session.deliver(1, "/resumable/1?fresh").await;
    session.until(|report| (*report == Report::Delivered(id(1))).then_some(())).await;
    assert_eq!(coordinator.facts().offsets.len(), 1);
    worker.stop().await;
}

pub(crate) async fn an_upload_begins_anew_once_when_what_was_there_is_damaged() {
    let (mut coordinator, state) = (Coordinator::start().await, TempDir::new().unwrap());
    let worker = Worker::start(&coordinator, state.path());
    let (mut session, _) = coordinator.welcomed_session().await;
    session.assign(&coordinator.assignment(1, "prove 1000")).await;
    let digest = session.announced(1, &coordinator).await;
    coordinator.facts().parts = vec![0; 500];
    session.deliver(1, "/resumable/1").await;
    session.until(|report| (*report == Report::Delivered(id(1))).then_some(())).await;
    assert_eq!(Digest::of(&coordinator.facts().uploads["1"]), digest);
    assert_eq!(coordinator.facts().offsets.iter().map(|(offset, _)| *offset).collect::<Vec<_>>(), [500, 0]);

    // A coordinator that finds fault with it again is asked for another address.
    session.assign(&coordinator.assignment(2, "prove 1000")).await;
    session.announced(2, &coordinator).await;
    coordinator.facts().announced = Some((Digest::new([7; 32]), 1000));
    coordinator.facts().offsets.clear();
    session.deliver(2, "/resumable/2").await;
    session.proved(2).await;
    assert_eq!(coordinator.facts().offsets.len(), 2);
    worker.stop().await;
}

pub(crate) async fn a_proof_that_was_damaged_on_the_workers_disk_fails_its_attempt() {
    let (mut coordinator, state) = (Coordinator::start().await, TempDir::new().unwrap());
    let worker = Worker::start(&coordinator, state.path());
    let (mut session, _) = coordinator.welcomed_session().await;
    session.assign(&coordinator.assignment(1, "prove 1000")).await;
    session.announced(1, &coordinator).await;
    let path = files(&state, 1).join("proof");
    let mut proof = fs::read(&path).unwrap();
    proof[7] ^= 1;
    fs::write(&path, proof).unwrap();
    session.deliver(1, "/resumable/1").await;
    let cause = "the proof was damaged on the worker's disk before it was delivered";
    assert_eq!(failure(&mut session).await, Fault::worker(cause));
    assert_eq!(coordinator.facts().offsets.len(), 1);
    worker.stop().await;
}

pub(crate) async fn a_prover_that_is_not_ready_is_listed_and_can_prove_nothing() {
    let (mut coordinator, state) = (Coordinator::start().await, TempDir::new().unwrap());
    let worker = Worker::start(&coordinator, state.path());
    let mut session = coordinator.session().await;
    let Report::Hello { profile, .. } = session.report().await else { panic!("no hello") };
    assert_eq!(profile.provers.len(), 1);
    session.say(welcome()).await;
    if profile.provers[0].modes.is_empty() {
        assert_eq!(profile.provers[0].device, "mock (starting)");
        let provers = session.until(|report| match report {
            Report::ProversChanged(provers) => Some(provers.clone()),
            _ => None,
        });
        assert_eq!(provers.await, [proving::testing::ScriptedProver::profile()]);
    }
    // Killed under the worker's feet, it is listed as what it is until it is back.
    session.assign(&coordinator.assignment(1, "abort")).await;
    let is_empty = |report: &Report| match report {
        Report::ProversChanged(provers) => Some(provers[0].modes.is_empty()),
        _ => None,
    };
    assert!(session.until(is_empty).await);
    assert!(!session.until(is_empty).await);
    worker.stop().await;
}

pub(crate) async fn the_token_goes_with_every_request_to_the_coordinator() {
    let (mut coordinator, state) = (Coordinator::start().await, TempDir::new().unwrap());
    let worker = Worker::start_with(&coordinator, state.path(), "worker_token = \"hush\"");
    let (mut session, _) = coordinator.welcomed_session().await;
    session.assign(&coordinator.assignment(1, "prove 1")).await;
    session.proved(1).await;
    session.deliver(1, "/proofs/1").await;
    session.until(|report| matches!(report, Report::Delivered(_)).then_some(())).await;
    let authorizations = coordinator.facts().authorizations.clone();
    assert_eq!(authorizations, vec![Some("Bearer hush".to_owned()); 4]);
    // Another origin gets the capability in its address and nothing more.
    let other = Coordinator::start().await;
    let mut assignment = other.assignment(2, "prove 1");
    for source in [&mut assignment.program, &mut assignment.stdin] {
        source.url = format!("http://{}{}", other.address, source.url);
    }
    session.assign(&assignment).await;
    session.proved(2).await;
    assert_eq!(other.facts().authorizations.clone(), [None, None]);
    worker.stop().await;
}

pub(crate) async fn a_silent_coordinator_is_left_and_dialled_again() {
    let (mut coordinator, state) = (Coordinator::start().await, TempDir::new().unwrap());
    let worker = Worker::start(&coordinator, state.path());
    let mut session = coordinator.session().await;
    session
        .say(Instruction::Welcome(Settings {
            version: CONTEMPLANT_VERSION.to_owned(),
            heartbeat_interval: Duration::from_millis(50),
            silence_limit: Duration::from_millis(200),
            mock_mode: true,
        }))
        .await;
    session.until(|report| (*report == Report::Heartbeat).then_some(())).await;
    session.closed().await;
    coordinator.welcomed_session().await;
    worker.stop().await;
}

pub(crate) async fn an_oversized_frame_ends_the_session_and_not_the_worker() {
    let (mut coordinator, state) = (Coordinator::start().await, TempDir::new().unwrap());
    let worker = Worker::start(&coordinator, state.path());
    let (mut session, _) = coordinator.welcomed_session().await;
    session.say_bytes(vec![0; MAX_FRAME_BYTES + 1]).await;
    session.closed().await;
    let (mut session, _) = coordinator.welcomed_session().await;
    session.say_bytes(vec![0xff; 40]).await;
    session.closed().await;
    coordinator.welcomed_session().await;
    worker.stop().await;
}

pub(crate) async fn an_eviction_for_the_version_ends_the_worker_and_another_one_does_not() {
    let (mut coordinator, state) = (Coordinator::start().await, TempDir::new().unwrap());
    let worker = Worker::start(&coordinator, state.path());
    let session = coordinator.session().await;
    session.say(Instruction::Evicted { code: None, reason: "an operator evicted this worker".to_owned() }).await;
    let session = coordinator.session().await;
    let reason = format!("this Hierophant has version 9.9.9 and works with no other, not with {CONTEMPLANT_VERSION}");
    let evicted = |code| Instruction::Evicted { code, reason: reason.clone() };
    session.say(evicted(Some(EvictionCode::Faults))).await;
    let session = coordinator.session().await;
    // One that gives no code says it in words.
    session.say(evicted(None)).await;
    let error = worker.running.await.unwrap().expect_err("the worker ends");
    assert!(matches!(error.downcast_ref(), Some(SessionError::Version { .. })));
    assert!(error.to_string().contains(&reason), "{error}");

    let worker = Worker::start(&coordinator, state.path());
    let session = coordinator.session().await;
    let (code, reason) = (Some(EvictionCode::Version), "install another one".to_owned());
    session.say(Instruction::Evicted { code, reason }).await;
    let error = worker.running.await.unwrap().expect_err("the worker ends");
    assert!(matches!(error.downcast_ref(), Some(SessionError::Version { .. })));
}

pub(crate) async fn a_stopped_worker_says_so_and_keeps_what_it_has_in_hand() {
    let (mut coordinator, state) = (Coordinator::start().await, TempDir::new().unwrap());
    let begun = state.path().join("begun");
    let worker = Worker::start(&coordinator, state.path());
    let (mut session, _) = coordinator.welcomed_session().await;
    session.assign(&coordinator.assignment(1, &format!("mark {}\nexecuted 1\nhang", begun.display()))).await;
    session.until(|report| matches!(report, Report::Executed(..)).then_some(())).await;
    worker.stop().await;
    session.until(|report| (*report == Report::Draining).then_some(())).await;
    session.closed().await;
    assert!(files(&state, 1).join("attempt.json").exists());
    let child = fs::read_to_string(&begun).unwrap();
    assert!(!Path::new("/proc").join(child).exists(), "the prover is gone with the worker");
}

pub(crate) async fn a_draining_worker_ends_when_its_proof_is_stored() {
    let (mut coordinator, state) = (Coordinator::start().await, TempDir::new().unwrap());
    let go = state.path().join("go");
    let worker = Worker::start_with(&coordinator, state.path(), "drain_timeout = \"50s\"");
    let (mut session, _) = coordinator.welcomed_session().await;
    session.assign(&coordinator.assignment(1, &format!("executed 1\nwait {}", go.display()))).await;
    session.until(|report| matches!(report, Report::Executed(..)).then_some(())).await;
    worker.stop.cancel();
    session.until(|report| (*report == Report::Draining).then_some(())).await;
    session.assign(&coordinator.assignment(2, "prove 1")).await;
    let declined = Report::Declined(id(2), "the worker is stopping and takes no more attempts".to_owned());
    session.until(|report| (*report == declined).then_some(())).await;
    fs::write(&go, "").unwrap();
    session.proved(1).await;
    session.say(Instruction::Stored(id(1))).await;
    worker.stop().await;
}

pub(crate) async fn a_dial_that_fails_says_why_and_what_to_do() {
    let dial = async |url: String| {
        let endpoint = Endpoint { url: url.parse().unwrap(), token: None };
        session::dial(&endpoint, Duration::from_secs(5)).await.expect_err("no session").to_string()
    };
    // A port that was free a moment ago.
    let address = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    assert_eq!(
        dial(format!("ws://{address}/ws")).await,
        format!(
            "nothing listens at {address}: is Hierophant running there, and is {address} the address of its http_port?"
        )
    );
    let coordinator = Coordinator::start().await;
    let address = coordinator.address;
    assert_eq!(
        dial(format!("ws://{address}/worker")).await,
        format!(
            "ws://{address}/worker answers 404 Not Found: the worker endpoint of a Hierophant has the path /ws, so \
             hierophant_ws_address should be ws://{address}/ws, with the http_port of Hierophant"
        )
    );
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = Router::new()
        .route("/ws", get(async || (StatusCode::UNAUTHORIZED, "set worker_token to one that this Hierophant knows")))
        .route("/moved", get(async || (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "1")], "starting")));
    #[expect(clippy::disallowed_methods, reason = "ends with the runtime")]
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    assert_eq!(
        dial(format!("ws://{address}/ws")).await,
        format!(
            "{address} does not let this worker in (401 Unauthorized): set worker_token to one that this Hierophant knows"
        )
    );
    assert_eq!(
        dial(format!("ws://{address}/moved")).await,
        format!("{address} answers 503 Service Unavailable where a WebSocket was asked for: starting")
    );
}
