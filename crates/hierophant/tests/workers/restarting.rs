//! What survives a restart of the coordinator, and a worker's reconnects.

use std::time::Duration;

use hierophant_core::{FleetSettings, RequestState};
use network_lib::{
    Digest,
    protocol::{InHand, Instruction, Report, Stage},
};

use crate::{
    coordinator::Coordinator,
    worker::{Worker, good_proof},
};

#[tokio::test]
async fn a_queued_request_survives_a_restart_and_is_assigned() {
    let directory = tempfile::tempdir().unwrap();
    let mut coordinator = Coordinator::start(directory.path()).await;
    let id = coordinator.submit().await;
    let coordinator = coordinator.restart(directory.path()).await;
    let mut worker = Worker::join(&coordinator, 1).await;
    assert_eq!(worker.assigned().await.request, id);
}

#[tokio::test]
async fn a_restart_costs_no_proving_time_the_worker_goes_on_and_delivers() {
    let directory = tempfile::tempdir().unwrap();
    let mut coordinator = Coordinator::start(directory.path()).await;
    let mut worker = Worker::join(&coordinator, 1).await;
    let id = coordinator.submit().await;
    let assignment = worker.assigned().await;
    let coordinator = coordinator.restart(directory.path()).await;

    let running = InHand { attempt: assignment.attempt, request: id, prover: 0, stage: Stage::Working };
    let mut worker = Worker::join_with(&coordinator, 1, vec![running]).await;
    worker.deliver(&coordinator, assignment.attempt, good_proof(&assignment)).await;
    assert_eq!(worker.hear().await, Instruction::Stored(assignment.attempt));
    coordinator.wait_fulfilled(id).await;
    assert_eq!(coordinator.request(id).await.tries.begun, 1);
}

#[tokio::test]
async fn a_proof_made_while_the_coordinator_was_away_is_asked_for_in_the_next_session() {
    let directory = tempfile::tempdir().unwrap();
    let mut coordinator = Coordinator::start(directory.path()).await;
    let mut worker = Worker::join(&coordinator, 1).await;
    let id = coordinator.submit().await;
    let assignment = worker.assigned().await;
    let attempt = assignment.attempt;
    let coordinator = coordinator.restart(directory.path()).await;

    let proved = InHand { attempt, request: id, prover: 0, stage: Stage::Proved };
    let mut worker = Worker::join_with(&coordinator, 1, vec![proved]).await;
    worker.deliver(&coordinator, attempt, good_proof(&assignment)).await;
    assert_eq!(worker.hear().await, Instruction::Stored(attempt));
    coordinator.wait_fulfilled(id).await;
}

#[tokio::test]
async fn a_check_that_a_crash_cut_off_is_made_at_the_next_start() {
    let directory = tempfile::tempdir().unwrap();
    let mut coordinator = Coordinator::start(directory.path()).await;
    let mut worker = Worker::join(&coordinator, 1).await;
    let id = coordinator.submit().await;
    let assignment = worker.assigned().await;
    let proof = good_proof(&assignment);
    let (attempt, digest, size) = (assignment.attempt, Digest::of(&proof), proof.len() as u64);
    worker.say(Report::Proved { attempt, digest, size }).await;
    let Instruction::Deliver { url, .. } = worker.hear().await else { panic!("the proof is wanted") };
    worker.upload(&coordinator, &url, proof).await;
    // The coordinator dies between the change to `Verifying` and the verdict.
    let request = coordinator.request(id).await;
    let change = request.deliver(assignment.attempt, request.updated_at).unwrap();
    coordinator.store().write(change).await.unwrap();
    drop(worker);
    let coordinator = coordinator.restart(directory.path()).await;
    coordinator.wait_fulfilled(id).await;
}

#[tokio::test]
async fn work_of_a_worker_that_vanished_goes_to_another_and_its_late_proof_still_counts() {
    let directory = tempfile::tempdir().unwrap();
    let impatient = FleetSettings {
        silence_limit: Duration::from_millis(200),
        grace: Duration::from_millis(300),
        ..FleetSettings::default()
    };
    let mut coordinator = Coordinator::start_with(directory.path(), impatient, None).await;
    let mut first = Worker::join(&coordinator, 1).await;
    let id = coordinator.submit().await;
    let assignment = first.assigned().await;
    drop(first);
    coordinator.wait_for(id, |state| *state == RequestState::Queued).await;
    assert_eq!(coordinator.request(id).await.tries.lost, 1);

    let mut second = Worker::join(&coordinator, 2).await;
    let again = second.assigned().await;
    assert_eq!(again.request, id);
    assert_ne!(again.attempt, assignment.attempt);

    // The first comes back with the proof while the second is at work: first verified proof wins.
    let proved = InHand { attempt: assignment.attempt, request: id, prover: 0, stage: Stage::Proved };
    let mut first = Worker::join_with(&coordinator, 1, vec![proved]).await;
    first.deliver(&coordinator, assignment.attempt, good_proof(&assignment)).await;
    assert_eq!(first.hear().await, Instruction::Stored(assignment.attempt));
    let state = coordinator.wait_fulfilled(id).await;
    assert!(matches!(state, RequestState::Fulfilled { attempt, .. } if attempt == assignment.attempt));
    let told = second.hear().await;
    assert!(matches!(told, Instruction::Cancel { attempt, .. } if attempt == again.attempt), "{told:?}");
}

#[tokio::test]
async fn a_worker_that_forgot_its_attempt_loses_it_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let mut coordinator = Coordinator::start(directory.path()).await;
    let mut worker = Worker::join(&coordinator, 1).await;
    let id = coordinator.submit().await;
    let first = worker.assigned().await;
    drop(worker);
    let mut worker = Worker::join(&coordinator, 1).await;
    let told = worker.hear().await;
    assert!(matches!(told, Instruction::Cancel { attempt, .. } if attempt == first.attempt), "{told:?}");
    let second = worker.assigned().await;
    assert_eq!(second.request, id);
    assert_ne!(second.attempt, first.attempt);
    assert_eq!(coordinator.request(id).await.tries.lost, 1);
    assert_eq!(worker.id(), network_lib::WorkerId::new([1; 16]));
}
