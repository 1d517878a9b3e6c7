//! What a busy worker is told of the request that will most likely come next.

use hierophant_core::RequestState;
use network_lib::protocol::{Instruction, Report, Source};

use crate::{
    coordinator::Coordinator,
    worker::{Worker, good_proof},
};

async fn fetched(coordinator: &Coordinator, source: &Source) -> reqwest::StatusCode {
    reqwest::get(format!("http://{}{}", coordinator.address, source.url)).await.unwrap().status()
}

#[tokio::test]
async fn a_busy_worker_is_told_what_comes_next_and_gets_it() {
    let directory = tempfile::tempdir().unwrap();
    let mut coordinator = Coordinator::start(directory.path()).await;
    let mut worker = Worker::join(&coordinator, 1).await;
    coordinator.submit().await;
    let first = worker.assigned().await;
    let second = coordinator.submit().await;
    let (prover, next) = worker.hinted().await;
    let next = next.unwrap();
    let stdin = next.stdin.unwrap();
    assert_eq!((prover, next.program.digest), (0, first.program.digest));
    assert_ne!(stdin.digest, first.stdin.digest);
    // The address opens the door, though in this test there is nothing behind it.
    assert_ne!(fetched(&coordinator, &stdin).await, reqwest::StatusCode::FORBIDDEN);
    let forged = Source { url: format!("{}0", stdin.url), ..stdin.clone() };
    assert_eq!(fetched(&coordinator, &forged).await, reqwest::StatusCode::FORBIDDEN);
    // A hint is no lease.
    assert_eq!(coordinator.request(second).await.state, RequestState::Queued);
    coordinator.submit().await;

    let proof = good_proof(&first);
    let (digest, size) = (network_lib::Digest::of(&proof), proof.len() as u64);
    worker.say(Report::Proved { attempt: first.attempt, digest, size }).await;
    // What was hinted at is assigned before the next hint, which would take its place.
    let assigned = loop {
        match worker.hear_any().await {
            Instruction::Assign(assignment) => break assignment,
            Instruction::Prefetch { .. } => panic!("a hint overtook what made the last one come true"),
            _ => {}
        }
    };
    assert_eq!(assigned.stdin.digest, stdin.digest);
    loop {
        if let Instruction::Prefetch { next, .. } = worker.hear_any().await {
            assert_ne!(next.unwrap().stdin.unwrap().digest, stdin.digest);
            return;
        }
    }
}

#[tokio::test]
async fn a_hint_is_withdrawn_with_its_request() {
    let directory = tempfile::tempdir().unwrap();
    let mut coordinator = Coordinator::start(directory.path()).await;
    let mut worker = Worker::join(&coordinator, 1).await;
    coordinator.submit().await;
    worker.assigned().await;
    let second = coordinator.submit().await;
    assert!(worker.hinted().await.1.is_some());
    coordinator.cancel(second).await;
    assert_eq!(worker.hinted().await, (0, None));
}

#[tokio::test]
async fn a_private_input_is_for_the_worker_alone_that_proves_it() {
    let directory = tempfile::tempdir().unwrap();
    let mut coordinator = Coordinator::start(directory.path()).await;
    let mut worker = Worker::join(&coordinator, 1).await;
    coordinator.submit().await;
    worker.assigned().await;
    coordinator.submit_private().await;
    let next = worker.hinted().await.1.unwrap();
    assert_eq!(next.stdin, None);
}
