//! From assignment to proof, and the ways in which that fails.

use hierophant_core::RequestState;
use network_lib::{
    Digest, Fault, ProofMode,
    protocol::{Execution, InHand, Instruction, Report, Stage},
};

use crate::{
    coordinator::Coordinator,
    worker::{Worker, good_proof},
};

#[tokio::test]
async fn a_request_is_assigned_proved_delivered_and_fulfilled_and_the_worker_may_delete() {
    let directory = tempfile::tempdir().unwrap();
    let mut coordinator = Coordinator::start(directory.path()).await;
    let mut worker = Worker::join(&coordinator, 1).await;
    let id = coordinator.submit().await;
    let assignment = worker.assigned().await;
    assert_eq!(assignment.request, id);
    let attempt = assignment.attempt;
    worker.say(Report::Accepted(attempt)).await;
    let execution = Execution { cycles: 5113, gas: Some(9), public_values_hash: Digest::new([0; 32]) };
    worker.say(Report::Executed(attempt, execution)).await;
    let proof = good_proof(&assignment);
    worker.deliver(&coordinator, attempt, proof.clone()).await;
    assert_eq!(worker.hear().await, Instruction::Stored(attempt));

    let state = coordinator.wait_fulfilled(id).await;
    assert!(matches!(state, RequestState::Fulfilled { is_mock: true, .. }));
    let url = format!("http://{}/artifacts/proof_{attempt}", coordinator.address);
    assert_eq!(reqwest::get(url).await.unwrap().bytes().await.unwrap(), proof);
    let page = coordinator.facts(&format!("/requests/{id}")).await;
    let kinds: Vec<_> = page["history"].as_array().unwrap().iter().map(|row| row["kind"].clone()).collect();
    assert_eq!(kinds, ["accepted", "leased", "executed", "proved", "delivered", "fulfilled"]);
    assert_eq!(page["cycles"], 5113);
    let history = coordinator.facts("/proof-history").await;
    assert_eq!(history[0]["contemplant_name"], "worker 1");
    assert_eq!(history[0]["mock"], true);
}

#[tokio::test]
async fn requests_queued_for_one_worker_are_served_one_after_the_other() {
    let directory = tempfile::tempdir().unwrap();
    let mut coordinator = Coordinator::start(directory.path()).await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(coordinator.submit().await);
    }
    let mut worker = Worker::join(&coordinator, 1).await;
    // Each fails twice: whoever is alone is asked again, at once or after the others.
    let mut served = Vec::new();
    for _ in 0..6 {
        let assignment = worker.assigned().await;
        served.push(assignment.request);
        worker.say(Report::Failed(assignment.attempt, Fault::guest("no"))).await;
        assert_eq!(worker.hear_unless_prefetch().await, Instruction::Stored(assignment.attempt));
    }
    for id in &ids {
        coordinator.wait_for(*id, RequestState::is_terminal).await;
    }
    served.sort_unstable();
    let mut expected = [ids.clone(), ids].concat();
    expected.sort_unstable();
    assert_eq!(served, expected);
}

#[tokio::test]
async fn a_request_in_a_mode_that_nobody_proves_waits_and_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let mut coordinator = Coordinator::start(directory.path()).await;
    let _worker = Worker::join(&coordinator, 1).await;
    let id = coordinator.submit_mode(ProofMode::Groth16).await;
    let page = loop {
        let page = coordinator.facts(&format!("/requests/{id}")).await;
        if page["waiting"] != "no worker is connected" {
            break page;
        }
    };
    assert_eq!(page["waiting"], "no connected worker proves groth16 for sp1 circuit sp1-v6.1.0");
    assert_eq!(coordinator.facts(&format!("/requests/0x{id}")).await, page, "as the SDK writes ids");
    assert_eq!(page["state"], "queued");
}

#[tokio::test]
async fn a_guests_panic_that_the_only_worker_repeats_ends_the_request_with_its_words() {
    let directory = tempfile::tempdir().unwrap();
    let mut coordinator = Coordinator::start(directory.path()).await;
    let mut worker = Worker::join(&coordinator, 1).await;
    let id = coordinator.submit().await;
    for _ in 0..2 {
        let attempt = worker.assigned().await.attempt;
        worker.say(Report::Failed(attempt, Fault::guest("the guest panicked: n is too large"))).await;
        assert_eq!(worker.hear_unless_prefetch().await, Instruction::Stored(attempt));
    }
    let state = coordinator.wait_for(id, RequestState::is_terminal).await;
    assert!(matches!(state, RequestState::Unexecutable { cause, .. } if cause.contains("n is too large")));
}

#[tokio::test]
async fn a_proof_that_does_not_verify_is_rejected_and_another_worker_gets_the_request() {
    let directory = tempfile::tempdir().unwrap();
    let mut coordinator = Coordinator::start(directory.path()).await;
    let mut first = Worker::join(&coordinator, 1).await;
    let id = coordinator.submit().await;
    let attempt = first.assigned().await.attempt;
    let mut second = Worker::join(&coordinator, 2).await;
    first.deliver(&coordinator, attempt, b"garbage".to_vec()).await;
    let assignment = second.assigned().await;
    assert_eq!(assignment.request, id);
    let Instruction::Rejected { attempt: rejected, reason } = first.hear().await else { panic!("it is garbage") };
    assert_eq!(rejected, attempt);
    assert!(reason.contains("not a mock proof"), "{reason}");
    second.deliver(&coordinator, assignment.attempt, good_proof(&assignment)).await;
    coordinator.wait_fulfilled(id).await;
}

#[tokio::test]
async fn a_worker_cannot_report_on_anothers_attempt() {
    let directory = tempfile::tempdir().unwrap();
    let mut coordinator = Coordinator::start(directory.path()).await;
    let mut honest = Worker::join(&coordinator, 1).await;
    let id = coordinator.submit().await;
    let assignment = honest.assigned().await;
    let mut other = Worker::join(&coordinator, 2).await;
    other.say(Report::Failed(assignment.attempt, Fault::guest("sabotage"))).await;
    // Answered as of no interest, and ignored.
    assert_eq!(other.hear().await, Instruction::Stored(assignment.attempt));
    honest.deliver(&coordinator, assignment.attempt, good_proof(&assignment)).await;
    coordinator.wait_fulfilled(id).await;
}

#[tokio::test]
async fn delivering_twice_fulfils_once_and_is_answered_each_time() {
    let directory = tempfile::tempdir().unwrap();
    let mut coordinator = Coordinator::start(directory.path()).await;
    let mut worker = Worker::join(&coordinator, 1).await;
    let id = coordinator.submit().await;
    let assignment = worker.assigned().await;
    let attempt = assignment.attempt;
    let proof = good_proof(&assignment);
    worker.deliver(&coordinator, attempt, proof.clone()).await;
    assert_eq!(worker.hear().await, Instruction::Stored(attempt));
    worker.say(Report::Proved { attempt, digest: Digest::of(&proof), size: proof.len() as u64 }).await;
    assert_eq!(worker.hear().await, Instruction::Stored(attempt));
    let history = coordinator.store().history(id).await.unwrap();
    assert_eq!(history.iter().filter(|row| row.happening.name() == "fulfilled").count(), 1);
}

#[tokio::test]
async fn cancelling_stops_the_worker() {
    let directory = tempfile::tempdir().unwrap();
    let mut coordinator = Coordinator::start(directory.path()).await;
    let mut worker = Worker::join(&coordinator, 1).await;
    let id = coordinator.submit().await;
    let attempt = worker.assigned().await.attempt;
    let requester = coordinator.request(id).await.spec.requester;
    coordinator.service.cancel(id, requester).await.unwrap();
    let Instruction::Cancel { attempt: stopped, reason } = worker.hear().await else { panic!("it must stop") };
    assert_eq!(stopped, attempt);
    assert!(reason.contains("cancelled"), "{reason}");
    // And its late proof is not wanted.
    let in_hand = InHand { attempt, request: id, prover: 0, stage: Stage::Proved };
    drop(worker);
    let mut back = Worker::join_with(&coordinator, 1, vec![in_hand]).await;
    assert!(matches!(back.hear().await, Instruction::Cancel { .. }));
}

#[tokio::test]
async fn what_is_left_of_an_upload_stays_while_its_proof_is_wanted_and_no_longer() {
    let directory = tempfile::tempdir().unwrap();
    let incoming = directory.path().join("artifacts/incoming");
    let left = || std::fs::read_dir(&incoming).unwrap().count();
    let mut coordinator = Coordinator::start(directory.path()).await;
    let mut worker = Worker::join(&coordinator, 1).await;
    let id = coordinator.submit().await;
    let assignment = worker.assigned().await;
    let attempt = assignment.attempt;
    let proof = good_proof(&assignment);
    worker.say(Report::Proved { attempt, digest: Digest::of(&proof), size: proof.len() as u64 }).await;
    let Instruction::Deliver { url, .. } = worker.hear().await else { panic!("the proof is wanted") };
    let url = format!("http://{}{url}", coordinator.address);
    let part = reqwest::Client::new().patch(&url).header("content-type", "application/partial-upload");
    let answer = part.header("upload-offset", 0).body(proof[..10].to_vec()).send().await.unwrap();
    assert_eq!((answer.status().as_u16(), &answer.headers()["upload-offset"]), (408, &"10".parse().unwrap()));
    // And of an attempt that was never given to anyone.
    std::fs::write(incoming.join(format!("proof_{}.partial", "07".repeat(16))), "who knows").unwrap();

    coordinator.service.sweep_partials().await;
    assert_eq!(left(), 1);
    let answer = reqwest::Client::new().head(&url).send().await.unwrap();
    assert_eq!(answer.headers()["upload-offset"], "10");

    coordinator.cancel(id).await;
    coordinator.service.sweep_partials().await;
    assert_eq!(left(), 0);
}

#[tokio::test]
async fn what_is_left_of_an_upload_goes_after_a_day() {
    let directory = tempfile::tempdir().unwrap();
    let mut coordinator = Coordinator::start(directory.path()).await;
    let mut worker = Worker::join(&coordinator, 1).await;
    coordinator.submit().await;
    let attempt = worker.assigned().await.attempt;
    let partial = directory.path().join(format!("artifacts/incoming/proof_{attempt}.partial"));
    std::fs::write(&partial, "the beginning").unwrap();
    coordinator.service.sweep_partials().await;
    assert!(partial.exists());
    let file = std::fs::File::options().write(true).open(&partial).unwrap();
    let written = file.metadata().unwrap().modified().unwrap();
    file.set_modified(written - std::time::Duration::from_hours(25)).unwrap();
    coordinator.service.sweep_partials().await;
    assert!(!partial.exists());
}
