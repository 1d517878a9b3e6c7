//! What failures, silences and declined attempts come to.

use std::time::Duration;

use hierophant_core::{FaultPolicy, FleetSettings, RequestState};
use network_lib::{
    Fault,
    protocol::{EvictionCode, InHand, Instruction, Report, Stage},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use crate::{
    coordinator::Coordinator,
    worker::{Worker, good_proof, profile},
};

#[tokio::test]
async fn an_assignment_that_was_lost_on_the_way_is_told_again_at_the_next_hello() {
    let directory = tempfile::tempdir().unwrap();
    let mut coordinator = Coordinator::start(directory.path()).await;
    let mut worker = Worker::join(&coordinator, 1).await;
    let id = coordinator.submit().await;
    // It came this far, and no further.
    let Instruction::Assign(lost) = worker.hear().await else { panic!("it is assigned") };
    drop(worker);
    let mut worker = Worker::join(&coordinator, 1).await;
    let again = worker.assigned().await;
    assert_eq!((again.attempt, again.request), (lost.attempt, id));
    worker.deliver(&coordinator, again.attempt, good_proof(&again)).await;
    coordinator.wait_fulfilled(id).await;
    assert_eq!(coordinator.request(id).await.tries.begun, 1);
}

#[tokio::test]
async fn a_declined_attempt_goes_to_another_worker_and_counts_against_nobody() {
    let directory = tempfile::tempdir().unwrap();
    let mut coordinator = Coordinator::start(directory.path()).await;
    let mut first = Worker::join(&coordinator, 1).await;
    let id = coordinator.submit().await;
    let attempt = first.assigned().await.attempt;
    let mut second = Worker::join(&coordinator, 2).await;
    first.say(Report::Declined(attempt, "4 attempts wait for prover 0 already".to_owned())).await;
    assert_eq!(second.assigned().await.request, id);
    let tries = coordinator.request(id).await.tries.clone();
    assert_eq!((tries.failed, tries.lost), (0, 1));
    let workers = coordinator.facts("/contemplants").await;
    assert_eq!(workers[0]["strikes"], 0);
}

#[tokio::test]
async fn a_failure_is_answered_however_often_it_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let mut coordinator = Coordinator::start(directory.path()).await;
    let mut worker = Worker::join(&coordinator, 1).await;
    let id = coordinator.submit().await;
    let attempt = worker.assigned().await.attempt;
    worker.say(Report::Failed(attempt, Fault::worker("the prover crashed"))).await;
    assert_eq!(worker.hear().await, Instruction::Stored(attempt));
    // The answer was lost; in the next session the worker still has it in hand.
    let failed = InHand { attempt, request: id, prover: 0, stage: Stage::Failed };
    let mut worker = Worker::join_with(&coordinator, 1, vec![failed]).await;
    let told = worker.hear().await;
    assert!(matches!(told, Instruction::Cancel { attempt: stopped, .. } if stopped == attempt), "{told:?}");
    assert_eq!(coordinator.request(id).await.tries.begun, 1);
}

#[tokio::test]
async fn a_proof_of_a_request_that_is_not_known_is_left_with_its_worker() {
    let directory = tempfile::tempdir().unwrap();
    let mut coordinator = Coordinator::start(directory.path()).await;
    let (attempt, request) = (network_lib::AttemptId::new([8; 16]), network_lib::RequestId::new([8; 32]));
    let kept = InHand { attempt, request, prover: 0, stage: Stage::Proved };
    let mut worker = Worker::join_with(&coordinator, 1, vec![kept]).await;
    let id = coordinator.submit().await;
    assert_eq!(worker.assigned().await.request, id, "the first word after the welcome");
}

#[tokio::test]
async fn a_worker_that_breaks_everything_is_evicted_told_of_and_remembered() {
    let directory = tempfile::tempdir().unwrap();
    let faults = FaultPolicy { first_rest: Duration::from_millis(10), ..FaultPolicy::default() };
    let settings = FleetSettings { faults, ..FleetSettings::default() };
    let mut coordinator = Coordinator::start_with(directory.path(), settings, None).await;
    let magister = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}/drop/7", magister.local_addr().unwrap());
    let broken = network_lib::WorkerProfile { magister_drop_endpoint: Some(endpoint), ..profile(1) };

    // The other worker has its hands full all the while.
    let mut good = Worker::join(&coordinator, 2).await;
    let first = coordinator.submit().await;
    assert_eq!(good.assigned().await.request, first);
    let mut worker = Worker::join_as(&coordinator, broken.clone(), Vec::new()).await;
    for _ in 0..3 {
        coordinator.submit().await;
        let attempt = worker.assigned().await.attempt;
        worker.say(Report::Failed(attempt, Fault::worker("the prover crashed"))).await;
        assert_eq!(worker.hear_unless_prefetch().await, Instruction::Stored(attempt));
    }
    let Instruction::Evicted { code, reason } = worker.hear_unless_prefetch().await else { panic!("it is evicted") };
    assert_eq!(code, Some(EvictionCode::Faults));
    assert!(reason.starts_with("it failed at 3 requests in a row"), "{reason}");

    let (mut call, _) = magister.accept().await.unwrap();
    let mut head = vec![0; 17];
    call.read_exact(&mut head).await.unwrap();
    assert_eq!(String::from_utf8(head).unwrap(), "DELETE /drop/7 HT");
    call.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();

    let dead = coordinator.facts("/dead-contemplants").await;
    assert!(dead[0]["reason"].as_str().unwrap().starts_with("evicted: it failed at 3"), "{dead}");
    // Neither a reconnect nor a restart of the coordinator makes it a new worker.
    let coordinator = coordinator.restart(directory.path()).await;
    let _worker = Worker::join_as(&coordinator, broken, Vec::new()).await;
    loop {
        let workers = coordinator.facts("/contemplants").await;
        if let Some(known) = workers.as_array().unwrap().iter().find(|worker| worker["name"] == "worker 1") {
            assert_eq!(known["strikes"], 3);
            assert!(known["resting_secs"].as_u64().is_some(), "{known}");
            break;
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_straggler_is_hedged_and_the_first_proof_stops_the_other_attempt() {
    let directory = tempfile::tempdir().unwrap();
    let settings = FleetSettings { hedge_before: Some(Duration::from_hours(24)), ..FleetSettings::default() };
    let mut coordinator = Coordinator::start_with(directory.path(), settings, None).await;
    let mut slow = Worker::join(&coordinator, 1).await;
    let id = coordinator.submit().await;
    let straggler = slow.assigned().await;
    let mut quick = Worker::join(&coordinator, 2).await;
    let hedge = quick.assigned().await;
    assert_eq!(hedge.request, id);
    assert_ne!(hedge.attempt, straggler.attempt);
    quick.deliver(&coordinator, hedge.attempt, good_proof(&hedge)).await;
    assert_eq!(quick.hear().await, Instruction::Stored(hedge.attempt));
    let told = slow.hear().await;
    assert!(matches!(told, Instruction::Cancel { attempt, .. } if attempt == straggler.attempt), "{told:?}");
    let state = coordinator.wait_fulfilled(id).await;
    assert!(matches!(state, RequestState::Fulfilled { attempt, .. } if attempt == hedge.attempt));
    let request = coordinator.facts(&format!("/requests/{id}")).await;
    let kinds: Vec<_> = request["history"].as_array().unwrap().iter().map(|row| row["kind"].clone()).collect();
    assert_eq!(kinds, ["accepted", "leased", "hedged", "proved", "delivered", "fulfilled"]);
}

#[tokio::test]
async fn when_a_hedge_fails_the_first_attempt_goes_on_alone() {
    let directory = tempfile::tempdir().unwrap();
    let settings = FleetSettings { hedge_before: Some(Duration::from_hours(24)), ..FleetSettings::default() };
    let mut coordinator = Coordinator::start_with(directory.path(), settings, None).await;
    let mut slow = Worker::join(&coordinator, 1).await;
    let id = coordinator.submit().await;
    let straggler = slow.assigned().await;
    let mut quick = Worker::join(&coordinator, 2).await;
    let hedge = quick.assigned().await;
    quick.say(Report::Failed(hedge.attempt, Fault::worker("the prover crashed"))).await;
    assert_eq!(quick.hear().await, Instruction::Stored(hedge.attempt));
    let alone = RequestState::Leased { attempt: straggler.attempt, worker: profile(1).id, hedge: None };
    assert_eq!(coordinator.request(id).await.state, alone);
    slow.deliver(&coordinator, straggler.attempt, good_proof(&straggler)).await;
    assert_eq!(slow.hear().await, Instruction::Stored(straggler.attempt));
    coordinator.wait_fulfilled(id).await;
}

#[tokio::test]
async fn a_worker_alone_in_calling_good_programs_bad_ruins_no_request_and_is_evicted() {
    let directory = tempfile::tempdir().unwrap();
    let faults = FaultPolicy { first_rest: Duration::from_millis(10), ..FaultPolicy::default() };
    let settings = FleetSettings { faults, ..FleetSettings::default() };
    let mut coordinator = Coordinator::start_with(directory.path(), settings, None).await;
    let mut good = Worker::join(&coordinator, 2).await;
    let mut liar = None;
    for n in 0..3 {
        // The good one is busy, and the liar idle: it gets every request first.
        let occupying = coordinator.submit().await;
        assert_eq!(good.assigned().await.request, occupying);
        let mut lying = match liar.take() {
            Some(lying) => lying,
            None => Worker::join(&coordinator, 1).await,
        };
        let id = coordinator.submit().await;
        let attempt = lying.assigned().await.attempt;
        lying.say(Report::Failed(attempt, Fault::guest("the guest panicked"))).await;
        assert_eq!(lying.hear().await, Instruction::Stored(attempt));
        let page = coordinator.wait_for_reason(id).await;
        assert_eq!((&page["state"], &page["guest_fault_reports"]), (&"queued".into(), &1.into()));
        let waiting = page["waiting"].as_str().unwrap();
        let expected =
            "a worker reports that the program fails: the guest panicked; waits for a second one to say so: ";
        assert!(waiting.starts_with(expected), "{waiting}");
        if n == 1 {
            // It cannot have the attempt back by saying that it is still at it.
            let again = InHand { attempt, request: id, prover: 0, stage: Stage::Working };
            lying = Worker::join_with(&coordinator, 1, vec![again]).await;
            let told = lying.hear().await;
            assert!(matches!(told, Instruction::Cancel { attempt: stopped, .. } if stopped == attempt), "{told:?}");
        }
        coordinator.cancel(occupying).await;
        assert!(matches!(good.hear().await, Instruction::Cancel { .. }));
        let assignment = good.assigned().await;
        assert_eq!(assignment.request, id);
        good.deliver(&coordinator, assignment.attempt, good_proof(&assignment)).await;
        coordinator.wait_fulfilled(id).await;
        assert_eq!(good.hear().await, Instruction::Stored(assignment.attempt));
        liar = Some(lying);
    }
    let Instruction::Evicted { code, .. } = liar.unwrap().hear().await else { panic!("it is evicted") };
    assert_eq!(code, Some(EvictionCode::Faults));
}

#[tokio::test]
async fn a_program_that_fails_is_confirmed_by_another_worker_across_a_restart_and_costs_nobody_anything() {
    let directory = tempfile::tempdir().unwrap();
    let mut coordinator = Coordinator::start(directory.path()).await;
    let mut first = Worker::join(&coordinator, 1).await;
    let id = coordinator.submit().await;
    let attempt = first.assigned().await.attempt;
    let starting = network_lib::WorkerProfile { provers: Vec::new(), ..profile(2) };
    let _second = Worker::join_as(&coordinator, starting, Vec::new()).await;
    first.say(Report::Failed(attempt, Fault::guest("n is too large"))).await;
    assert_eq!(first.hear().await, Instruction::Stored(attempt));

    let coordinator = coordinator.restart(directory.path()).await;
    // Whoever said so is back first, and is not asked again: the other is expected.
    let _first = Worker::join(&coordinator, 1).await;
    let page = loop {
        let page = coordinator.wait_for_reason(id).await;
        if !page["waiting"].as_str().unwrap().ends_with("no worker is connected") {
            break page;
        }
    };
    assert!(page["waiting"].as_str().unwrap().ends_with("other workers are expected back soon"), "{page}");
    let mut second = Worker::join(&coordinator, 2).await;
    let again = second.assigned().await;
    assert_eq!(again.request, id);
    second.say(Report::Failed(again.attempt, Fault::guest("n is too large"))).await;
    let state = coordinator.wait_for(id, RequestState::is_terminal).await;
    assert!(matches!(state, RequestState::Unexecutable { cause, .. } if cause == "n is too large"));
    let workers = coordinator.facts("/contemplants").await;
    assert!(workers.as_array().unwrap().iter().all(|worker| worker["strikes"] == 0), "{workers}");
}
