//! What every store must do: the suite that defines the ports of this module.
//!
//! [`contract_tests`] runs it on stores from an async factory, which answers a fresh, empty store and whatever must
//! outlive it.

use std::{collections::HashSet, sync::Arc, time::Duration};

use futures_util::future::join_all;
use hierophant_core::{
    Change, Happening, Priority, Request, RequestSpec, RequestState, Requester, RetryPolicy, Standing, Timestamp,
    Variant,
};
use network_lib::{
    ArtifactId, ArtifactKind, AttemptId, CircuitVersion, Digest, Fault, ProofMode, RequestId, Vm, WorkerId,
    protocol::Execution,
};

use super::{
    Artifact, AttemptRecord, DepartedWorker, HistoryRow, MOST_DEPARTED, NewRequest, Program, ProofRecord,
    RequestFilter, SharedStore, StorageError, Submitted, WorkerRecord,
};

pub(crate) fn at(secs: u64) -> Timestamp {
    Timestamp::from_secs(secs)
}

pub(crate) fn attempt(n: u8) -> AttemptId {
    AttemptId::new([n; 16])
}

pub(crate) fn worker(n: u8) -> WorkerId {
    WorkerId::new([n; 16])
}

pub(crate) fn requester(n: u8) -> Requester {
    Requester::new([n; 20])
}

/// Thirty-two bytes that differ for each `n`.
fn bytes(n: u32) -> [u8; 32] {
    *Digest::of(&n.to_be_bytes()).as_bytes()
}

fn stdin(owner: u8) -> ArtifactId {
    ArtifactId::new(ArtifactKind::Stdin, [owner; 16])
}

fn spec(requester_number: u8) -> RequestSpec {
    RequestSpec {
        requester: requester(requester_number),
        vm: Vm::Sp1,
        vk_hash: Digest::new([1; 32]),
        program: ArtifactId::new(ArtifactKind::Program, [1; 16]),
        stdin: stdin(requester_number),
        mode: ProofMode::Core,
        circuit_version: CircuitVersion::new("sp1-v6.1.0"),
        deadline: at(1_000_000),
        cycle_limit: 1000,
        gas_limit: 0,
        public_values_hash: None,
        priority: Priority::default(),
        variant: Variant::Base,
        strategy: 1,
    }
}

/// The `n`th request of requester 7, accepted at `n` seconds.
pub(crate) fn new_request(n: u32) -> NewRequest {
    let id = RequestId::new(bytes(n));
    NewRequest { id, fingerprint: Digest::new(bytes(n)), spec: spec(7), created_at: at(n.into()) }
}

/// Records the inputs that the requests of requester `owner` name.
pub(crate) async fn upload_stdin(store: &SharedStore, owner: u8) {
    let artifact = Artifact {
        id: stdin(owner),
        owner: Some(requester(owner)),
        digest: Digest::of(&[owner]),
        size: 1,
        created_at: at(0),
    };
    store.record_artifact(artifact).await.unwrap();
}

/// Records the proof of an attempt.
pub(crate) async fn record_proof(store: &SharedStore, number: u8) -> ArtifactId {
    let id = ArtifactId::new(ArtifactKind::Proof, [number; 16]);
    let artifact = Artifact { id, owner: None, digest: Digest::of(&[number]), size: 100, created_at: at(0) };
    store.record_artifact(artifact).await.unwrap();
    id
}

/// Submits a request that is to be accepted.
pub(crate) async fn accept(store: &SharedStore, new: NewRequest) -> Arc<Request> {
    upload_stdin(store, new.spec.requester.as_bytes()[0]).await;
    match store.submit(new).await.unwrap() {
        Submitted::Accepted(request) => request,
        other => panic!("not accepted: {other:?}"),
    }
}

async fn write<E: std::fmt::Debug>(store: &SharedStore, change: Result<Change, E>) -> Arc<Request> {
    store.write(change.unwrap()).await.unwrap()
}

fn ids(requests: &[Arc<Request>]) -> Vec<RequestId> {
    requests.iter().map(|request| request.id).collect()
}

fn happenings(history: &[HistoryRow]) -> Vec<&'static str> {
    history.iter().map(|row| row.happening.name()).collect()
}

pub(crate) async fn an_accepted_request_reads_back_as_it_was_answered(store: SharedStore) {
    let mut new = new_request(1);
    new.spec.public_values_hash = Some(Digest::new([3; 32]));
    new.spec.priority = Priority(-4);
    new.spec.variant = Variant::Auction;
    new.spec.mode = ProofMode::Groth16;
    let accepted = accept(&store, new.clone()).await;
    let expected = Request {
        id: new.id,
        spec: new.spec,
        state: RequestState::Queued,
        tries: hierophant_core::Tries::default(),
        execution: None,
        created_at: at(1),
        updated_at: at(1),
        version: 1,
    };
    assert_eq!(*accepted, expected);
    assert_eq!(store.request(new.id).await.unwrap().as_deref(), Some(&expected));
    assert_eq!(store.history(new.id).await.unwrap(), vec![HistoryRow { at: at(1), happening: Happening::Accepted }]);
}

pub(crate) async fn the_largest_numbers_survive(store: SharedStore) {
    let mut new = new_request(1);
    new.spec.cycle_limit = u64::MAX;
    new.spec.gas_limit = u64::MAX - 1;
    new.spec.deadline = Timestamp::MAX;
    new.spec.strategy = i32::MIN;
    let accepted = accept(&store, new.clone()).await;
    let leased = write(&store, accepted.lease(attempt(1), worker(1), at(2))).await;
    let execution = Execution { cycles: u64::MAX, gas: Some(u64::MAX), public_values_hash: Digest::new([0xff; 32]) };
    let executed = write(&store, leased.executed(attempt(1), execution, at(3))).await;
    // From a list, which reads the rows themselves.
    let [read] = &store.open_requests().await.unwrap()[..] else { panic!("one request is open") };
    assert_eq!(read, &executed);
    assert_eq!(read.spec, new.spec);
    assert_eq!(read.execution, Some(execution));
    let last = store.history(new.id).await.unwrap().pop().unwrap();
    assert_eq!(last.happening, Happening::Executed { attempt: attempt(1), execution });

    let artifact = Artifact {
        id: ArtifactId::new(ArtifactKind::Proof, [9; 16]),
        owner: None,
        digest: Digest::of(b"proof"),
        size: u64::MAX,
        created_at: at(1),
    };
    store.record_artifact(artifact.clone()).await.unwrap();
    assert_eq!(store.artifact(artifact.id).await.unwrap(), Some(artifact));
}

pub(crate) async fn every_state_reads_back_with_its_facts(store: SharedStore) {
    let policy = RetryPolicy { max_failed_attempts: 1, max_lost_attempts: 1, guest_reports_needed: 1 };
    let open = [accept(&store, new_request(1)).await, {
        let request = accept(&store, new_request(2)).await;
        write(&store, request.lease(attempt(2), worker(1), at(10))).await
    }];
    let mut ended = Vec::new();
    for n in 3..=7_u8 {
        let request = accept(&store, new_request(n.into())).await;
        let leased = write(&store, request.lease(attempt(n), worker(1), at(10))).await;
        let change = match n {
            3 => leased.fail(attempt(n), Fault::guest("it \"panicked\"\n"), &policy, at(11)),
            4 => leased.fail(attempt(n), Fault::worker("crashed"), &policy, at(11)),
            5 => leased.expire(leased.spec.deadline),
            6 => leased.cancel(at(11)),
            _ => leased.fulfil(attempt(n), worker(1), true, at(11)),
        };
        ended.push(write(&store, change).await);
    }
    let verifying = accept(&store, new_request(8)).await;
    let verifying = write(&store, verifying.lease(attempt(8), worker(1), at(10))).await;
    let verifying = write(&store, verifying.deliver(attempt(8), at(11))).await;
    let doubted = accept(&store, new_request(9)).await;
    let doubted = write(&store, doubted.lease(attempt(9), worker(1), at(10))).await;
    let doubting = RetryPolicy { guest_reports_needed: 2, ..policy };
    let doubted = write(&store, doubted.fail(attempt(9), Fault::guest("it \"panicked\"\n"), &doubting, at(11))).await;
    assert_eq!(doubted.tries.guest.by, [worker(1)]);

    let names: Vec<_> = ended.iter().map(|request| request.state.name()).collect();
    assert_eq!(names, ["unexecutable", "unfulfillable", "expired", "cancelled", "fulfilled"]);
    let everything = RequestFilter { limit: 100, ..RequestFilter::default() };
    let mut listed = store.requests(&everything).await.unwrap();
    listed.reverse();
    let expected: Vec<_> = open.into_iter().chain(ended).chain([verifying, doubted]).collect();
    assert_eq!(listed, expected);
    for request in expected {
        assert_eq!(store.request(request.id).await.unwrap().as_ref(), Some(&request));
    }
}

pub(crate) async fn what_was_never_written_is_absent_and_not_an_error(store: SharedStore) {
    let id = RequestId::new([5; 32]);
    assert_eq!(store.request(id).await.unwrap(), None);
    assert_eq!(store.history(id).await.unwrap(), vec![]);
    assert_eq!(store.attempt(attempt(1)).await.unwrap(), None);
    assert_eq!(store.program(Digest::new([1; 32])).await.unwrap(), None);
    assert_eq!(store.artifact(stdin(1)).await.unwrap(), None);
    assert_eq!(store.open_requests().await.unwrap(), vec![]);
    assert_eq!(store.proofs(10).await.unwrap(), vec![]);
    assert_eq!(store.departed_workers(10).await.unwrap(), vec![]);
}

pub(crate) async fn an_id_that_was_asked_for_too_early_is_found_once_it_is_accepted(store: SharedStore) {
    let new = new_request(1);
    for _ in 0..3 {
        assert_eq!(store.request(new.id).await.unwrap(), None);
    }
    let accepted = accept(&store, new.clone()).await;
    assert_eq!(store.request(new.id).await.unwrap(), Some(accepted));
}

pub(crate) async fn the_same_request_sent_twenty_times_at_once_is_one(store: SharedStore) {
    upload_stdin(&store, 7).await;
    let sent = (0..20).map(|n| {
        let new = NewRequest { id: RequestId::new(bytes(1000 + n)), ..new_request(1) };
        store.submit(new)
    });
    let mut accepted = 0;
    let mut seen = HashSet::new();
    for answer in join_all(sent).await {
        match answer.unwrap() {
            Submitted::Accepted(request) => {
                accepted += 1;
                seen.insert(request.id);
            }
            Submitted::Existing(request) => {
                seen.insert(request.id);
            }
            other => panic!("neither accepted nor known: {other:?}"),
        }
    }
    assert_eq!((accepted, seen.len()), (1, 1));
    assert_eq!(store.open_requests().await.unwrap().len(), 1);
}

pub(crate) async fn asking_again_finds_the_request_as_it_is_now(store: SharedStore) {
    let request = accept(&store, new_request(1)).await;
    let leased = write(&store, request.lease(attempt(1), worker(1), at(2))).await;
    let again = NewRequest { id: RequestId::new([8; 32]), ..new_request(1) };
    assert_eq!(store.submit(again.clone()).await.unwrap(), Submitted::Existing(Arc::clone(&leased)));
    let fulfilled = write(&store, leased.fulfil(attempt(1), worker(1), false, at(3))).await;
    record_proof(&store, 1).await;
    assert_eq!(store.submit(again).await.unwrap(), Submitted::Existing(fulfilled));
}

pub(crate) async fn a_fulfilled_request_whose_proof_is_gone_stands_for_nothing(store: SharedStore) {
    let request = accept(&store, new_request(1)).await;
    let leased = write(&store, request.lease(attempt(1), worker(1), at(2))).await;
    let proof = record_proof(&store, 1).await;
    let fulfilled = write(&store, leased.fulfil(attempt(1), worker(1), false, at(3))).await;
    let again = NewRequest { id: RequestId::new([8; 32]), ..new_request(1) };
    assert_eq!(store.submit(again.clone()).await.unwrap(), Submitted::Existing(fulfilled));
    store.forget_artifact(proof).await.unwrap();
    let Submitted::Accepted(second) = store.submit(again).await.unwrap() else { panic!("not accepted") };
    assert_eq!(second.id, RequestId::new([8; 32]));
}

pub(crate) async fn asking_again_after_a_failure_makes_a_new_request(store: SharedStore) {
    let first = accept(&store, new_request(1)).await;
    let expired = write(&store, first.expire(first.spec.deadline)).await;
    let again = NewRequest { id: RequestId::new([8; 32]), created_at: at(9), ..new_request(1) };
    let second = accept(&store, again.clone()).await;
    assert_eq!(second.id, again.id);
    // The newest stands for the request from then on, even when a late proof fulfils the first.
    write(&store, expired.fulfil(attempt(1), worker(1), false, at(20))).await;
    let third = NewRequest { id: RequestId::new([9; 32]), ..again };
    assert_eq!(store.submit(third).await.unwrap(), Submitted::Existing(second));
}

pub(crate) async fn a_request_needs_an_input_of_its_requester(store: SharedStore) {
    let new = new_request(1);
    assert_eq!(store.submit(new.clone()).await.unwrap(), Submitted::StdinMissing);
    upload_stdin(&store, 6).await;
    let mut stolen = new.clone();
    stolen.spec.stdin = stdin(6);
    assert_eq!(store.submit(stolen).await.unwrap(), Submitted::StdinOfAnother);

    let proof = ArtifactId::new(ArtifactKind::Proof, [6; 16]);
    let nobodys = Artifact { id: proof, owner: None, digest: Digest::of(b"p"), size: 1, created_at: at(0) };
    store.record_artifact(nobodys).await.unwrap();
    let mut of_nobody = new.clone();
    of_nobody.spec.stdin = proof;
    assert_eq!(store.submit(of_nobody).await.unwrap(), Submitted::StdinOfAnother);

    assert_eq!(store.request(new.id).await.unwrap(), None);
    assert_eq!(store.history(new.id).await.unwrap(), vec![]);
    accept(&store, new).await;
}

pub(crate) async fn an_id_is_given_once(store: SharedStore) {
    let first = accept(&store, new_request(1)).await;
    let other = NewRequest { id: first.id, ..new_request(2) };
    let error = store.submit(other).await.unwrap_err();
    assert!(matches!(&error, StorageError::Exists { what } if what.contains(&first.id.to_string())), "{error}");
    assert_eq!(store.request(first.id).await.unwrap(), Some(first));
    assert_eq!(store.open_requests().await.unwrap().len(), 1);
}

pub(crate) async fn a_change_decided_on_an_old_version_is_a_conflict_and_changes_nothing(store: SharedStore) {
    let request = accept(&store, new_request(1)).await;
    let stale = request.lease(attempt(2), worker(2), at(2)).unwrap();
    let leased = write(&store, request.lease(attempt(1), worker(1), at(2))).await;
    let error = store.write(stale).await.unwrap_err();
    assert!(matches!(error, StorageError::Conflict(id) if id == request.id), "{error}");
    assert_eq!(store.request(request.id).await.unwrap(), Some(leased));
    assert_eq!(store.attempt(attempt(2)).await.unwrap(), None);
    assert_eq!(happenings(&store.history(request.id).await.unwrap()), ["accepted", "leased"]);
}

pub(crate) async fn of_many_changes_decided_on_one_version_one_is_written(store: SharedStore) {
    let request = accept(&store, new_request(1)).await;
    let changes = (1..=20).map(|n| store.write(request.lease(attempt(n), worker(n), at(2)).unwrap()));
    let answers = join_all(changes).await;
    let written: Vec<_> = answers.iter().filter_map(|answer| answer.as_ref().ok()).collect();
    let [winner] = written[..] else { panic!("{} were written", written.len()) };
    assert_eq!(store.request(request.id).await.unwrap().as_ref(), Some(winner));
    assert!(answers.iter().filter_map(|answer| answer.as_ref().err()).all(|e| matches!(e, StorageError::Conflict(_))));
}

pub(crate) async fn a_change_of_an_unknown_request_is_a_conflict(store: SharedStore) {
    let known = accept(&store, new_request(1)).await;
    let mut change = known.cancel(at(2)).unwrap();
    change.request.id = RequestId::new([0xcc; 32]);
    let error = store.write(change).await.unwrap_err();
    assert!(matches!(error, StorageError::Conflict(id) if id == RequestId::new([0xcc; 32])), "{error}");
    assert_eq!(store.request(RequestId::new([0xcc; 32])).await.unwrap(), None);
}

pub(crate) async fn all_open_requests_are_listed_oldest_first_however_many(store: SharedStore) {
    upload_stdin(&store, 7).await;
    let submissions = (0..1200).map(|n| store.submit(new_request(n)));
    assert!(join_all(submissions).await.iter().all(|answer| matches!(answer, Ok(Submitted::Accepted(_)))));
    // Of all states that are open, and one that is not.
    let get = async |n| store.request(new_request(n).id).await.unwrap().unwrap();
    write(&store, get(3).await.cancel(at(5000))).await;
    let leased = write(&store, get(4).await.lease(attempt(4), worker(1), at(5000))).await;
    write(&store, leased.deliver(attempt(4), at(5001))).await;
    write(&store, get(5).await.lease(attempt(5), worker(1), at(5000))).await;
    let expected: Vec<_> = (0..1200).filter(|n| *n != 3).map(|n| new_request(n).id).collect();
    assert_eq!(ids(&store.open_requests().await.unwrap()), expected);
}

pub(crate) async fn requests_accepted_in_the_same_instant_keep_their_order(store: SharedStore) {
    for n in 0..10 {
        accept(&store, NewRequest { created_at: at(1), ..new_request(n) }).await;
    }
    let expected: Vec<_> = (0..10).map(|n| new_request(n).id).collect();
    assert_eq!(ids(&store.open_requests().await.unwrap()), expected);
    let newest = RequestFilter { limit: 4, offset: 1, ..RequestFilter::default() };
    let expected: Vec<_> = (5..=8).rev().map(|n| new_request(n).id).collect();
    assert_eq!(ids(&store.requests(&newest).await.unwrap()), expected);
}

pub(crate) async fn each_filter_selects_by_its_own_field(store: SharedStore) {
    let set: [fn(&mut RequestSpec); 8] = [
        |_| {},
        |spec| (spec.requester, spec.stdin) = (requester(8), stdin(8)),
        |spec| spec.vk_hash = Digest::new([2; 32]),
        |spec| spec.mode = ProofMode::Plonk,
        |spec| spec.circuit_version = CircuitVersion::new("sp1-v5.0.0"),
        |spec| spec.deadline = at(2_000_000),
        |spec| spec.deadline = Timestamp::MAX,
        |_| {},
    ];
    for (n, set) in (0..).zip(set) {
        let mut new = new_request(n);
        set(&mut new.spec);
        let request = accept(&store, new).await;
        if n == 7 {
            // Its last attempt was made by worker 2, though nobody has it now.
            let policy = RetryPolicy { guest_reports_needed: 1, ..RetryPolicy::default() };
            let leased = write(&store, request.lease(attempt(1), worker(1), at(50))).await;
            let lost = write(&store, leased.fail(attempt(1), Fault::lost("silent"), &policy, at(51))).await;
            let leased = write(&store, lost.lease(attempt(2), worker(2), at(52))).await;
            write(&store, leased.fail(attempt(2), Fault::guest("panic"), &policy, at(53))).await;
        }
    }
    let f = || RequestFilter { limit: 100, ..RequestFilter::default() };
    let past = Timestamp::from_millis(u64::MAX - 1);
    let table: Vec<(RequestFilter, Vec<u32>)> = vec![
        (f(), vec![7, 6, 5, 4, 3, 2, 1, 0]),
        (RequestFilter { requester: Some(requester(8)), ..f() }, vec![1]),
        (RequestFilter { requester: Some(requester(9)), ..f() }, vec![]),
        (RequestFilter { vk_hash: Some(Digest::new([2; 32])), ..f() }, vec![2]),
        (RequestFilter { mode: Some(ProofMode::Plonk), ..f() }, vec![3]),
        (RequestFilter { circuit_version: Some("sp1-v5.0.0".to_owned()), ..f() }, vec![4]),
        (RequestFilter { min_deadline: Some(at(1_000_000)), ..f() }, vec![7, 6, 5, 4, 3, 2, 1, 0]),
        (RequestFilter { min_deadline: Some(at(1_000_001)), ..f() }, vec![6, 5]),
        (RequestFilter { min_deadline: Some(past), ..f() }, vec![6]),
        (RequestFilter { states: vec!["unexecutable"], ..f() }, vec![7]),
        (RequestFilter { states: vec!["queued"], ..f() }, vec![6, 5, 4, 3, 2, 1, 0]),
        (RequestFilter { states: vec!["leased", "fulfilled"], ..f() }, vec![]),
        (RequestFilter { states: vec!["queued", "unexecutable"], limit: 2, ..f() }, vec![7, 6]),
        (RequestFilter { worker: Some(worker(2)), ..f() }, vec![7]),
        (RequestFilter { worker: Some(worker(1)), ..f() }, vec![]),
        (RequestFilter { created_from: Some(at(6)), ..f() }, vec![7, 6]),
        (RequestFilter { created_from: Some(past), ..f() }, vec![]),
        (RequestFilter { created_to: Some(at(1)), ..f() }, vec![1, 0]),
        (RequestFilter { created_to: Some(past), ..f() }, vec![7, 6, 5, 4, 3, 2, 1, 0]),
        (RequestFilter { created_from: Some(at(2)), created_to: Some(at(3)), ..f() }, vec![3, 2]),
        (
            RequestFilter { mode: Some(ProofMode::Core), requester: Some(requester(7)), offset: 1, limit: 2, ..f() },
            vec![6, 5],
        ),
        (RequestFilter { limit: 0, ..f() }, vec![]),
        (RequestFilter { offset: u32::MAX, limit: u32::MAX, ..f() }, vec![]),
    ];
    for (filter, expected) in table {
        let expected: Vec<_> = expected.into_iter().map(|n| new_request(n).id).collect();
        assert_eq!(ids(&store.requests(&filter).await.unwrap()), expected, "{filter:?}");
    }
}

pub(crate) async fn the_history_tells_everything_in_order(store: SharedStore) {
    let policy = RetryPolicy::default();
    let mut request = accept(&store, new_request(1)).await;
    let execution = Execution { cycles: 5, gas: None, public_values_hash: Digest::new([4; 32]) };
    let mut expected = vec![HistoryRow { at: at(1), happening: Happening::Accepted }];
    let steps: [&(dyn Fn(&Request) -> Change + Sync); 7] = [
        &|r| r.lease(attempt(1), worker(1), at(2)).unwrap(),
        &|r| r.executed(attempt(1), execution, at(3)).unwrap(),
        &|r| r.fail(attempt(1), Fault::lost("silent"), &policy, at(4)).unwrap(),
        &|r| r.resume(attempt(1), worker(1), at(4)).unwrap(),
        &|r| r.deliver(attempt(1), at(6)).unwrap(),
        &|r| r.fail(attempt(1), Fault::worker("does not verify"), &policy, at(7)).unwrap(),
        &|r| r.cancel(at(8)).unwrap(),
    ];
    for step in steps {
        let change = step(&request);
        expected.push(HistoryRow { at: change.request.updated_at, happening: change.happening.clone() });
        request = store.write(change).await.unwrap();
    }
    assert_eq!(store.history(request.id).await.unwrap(), expected);
    // Other requests have their own.
    let other = accept(&store, new_request(2)).await;
    assert_eq!(happenings(&store.history(other.id).await.unwrap()), ["accepted"]);
}

pub(crate) async fn attempts_begin_and_end_with_what_happens(store: SharedStore) {
    let policy = RetryPolicy::default();
    let record = |request: &Request, n: u8, started_at, ended_at| {
        Some(AttemptRecord { attempt: attempt(n), request: request.id, worker: worker(n), started_at, ended_at })
    };
    let request = accept(&store, new_request(1)).await;
    let first = write(&store, request.lease(attempt(1), worker(1), at(2))).await;
    assert_eq!(store.attempt(attempt(1)).await.unwrap(), record(&request, 1, at(2), None));
    let lost = write(&store, first.fail(attempt(1), Fault::lost("silent"), &policy, at(3))).await;
    assert_eq!(store.attempt(attempt(1)).await.unwrap(), record(&request, 1, at(2), Some(at(3))));
    let resumed = write(&store, lost.resume(attempt(1), worker(1), at(4))).await;
    assert_eq!(store.attempt(attempt(1)).await.unwrap(), record(&request, 1, at(2), None));
    let lost = write(&store, resumed.fail(attempt(1), Fault::lost("silent"), &policy, at(5))).await;
    let second = write(&store, lost.lease(attempt(2), worker(2), at(6))).await;
    // The late proof of the first ends both.
    write(&store, second.fulfil(attempt(1), worker(1), false, at(7))).await;
    assert_eq!(store.attempt(attempt(1)).await.unwrap(), record(&request, 1, at(2), Some(at(7))));
    assert_eq!(store.attempt(attempt(2)).await.unwrap(), record(&request, 2, at(6), Some(at(7))));

    for (n, is_cancelled) in [(3, true), (4, false)] {
        let request = accept(&store, new_request(n.into())).await;
        let leased = write(&store, request.lease(attempt(n), worker(n), at(8))).await;
        let change = if is_cancelled { leased.cancel(at(9)) } else { leased.expire(leased.spec.deadline) };
        let ended = write(&store, change).await;
        assert_eq!(store.attempt(attempt(n)).await.unwrap(), record(&request, n, at(8), Some(ended.updated_at)));
    }
}

pub(crate) async fn an_attempt_belongs_to_one_request_and_one_worker(store: SharedStore) {
    let first = accept(&store, new_request(1)).await;
    let second = accept(&store, new_request(2)).await;
    write(&store, first.lease(attempt(1), worker(1), at(3))).await;
    let theirs = [
        second.lease(attempt(1), worker(1), at(4)),
        second.resume(attempt(1), worker(1), at(4)),
        second.resume(attempt(1), worker(2), at(4)),
    ];
    for change in theirs {
        let error = store.write(change.unwrap()).await.unwrap_err();
        assert!(matches!(error, StorageError::Exists { .. }), "{error}");
    }
    assert_eq!(store.request(second.id).await.unwrap().as_ref(), Some(&second));
    assert_eq!(happenings(&store.history(second.id).await.unwrap()), ["accepted"]);
    assert_eq!(store.attempt(attempt(1)).await.unwrap().unwrap().request, first.id);
}

pub(crate) async fn the_newest_proofs_come_first_with_who_made_them(store: SharedStore) {
    store.worker_joined(worker(1), "Habakkuk", "10.0.0.1:5000", at(1)).await.unwrap();
    for n in 1..=3_u8 {
        let request = accept(&store, new_request(n.into())).await;
        let leased = write(&store, request.lease(attempt(n), worker(1), at(10))).await;
        write(&store, leased.fulfil(attempt(n), worker(1), n == 2, at(20 + u64::from(n)))).await;
    }
    accept(&store, new_request(4)).await;
    let record = |n: u8| ProofRecord {
        request: new_request(n.into()).id,
        mode: ProofMode::Core,
        worker: worker(1),
        worker_name: "Habakkuk".to_owned(),
        started_at: at(10),
        fulfilled_at: at(20 + u64::from(n)),
        is_mock: n == 2,
    };
    assert_eq!(store.proofs(2).await.unwrap(), vec![record(3), record(2)]);
    assert_eq!(store.proofs(100).await.unwrap(), vec![record(3), record(2), record(1)]);
    store.worker_joined(worker(1), "Haggai", "10.0.0.1:5000", at(30)).await.unwrap();
    assert_eq!(store.proofs(1).await.unwrap()[0].worker_name, "Haggai");
}

pub(crate) async fn the_first_registration_of_a_program_stays(store: SharedStore) {
    let program = Program {
        vk_hash: Digest::new([1; 32]),
        verifying_key: vec![1, 2, 3],
        program: ArtifactId::new(ArtifactKind::Program, [1; 16]),
        owner: requester(1),
        created_at: at(1),
    };
    assert_eq!(store.program(program.vk_hash).await.unwrap(), None);
    let elf = Artifact {
        id: program.program,
        owner: Some(requester(1)),
        digest: Digest::of(b"ELF"),
        size: 3,
        created_at: at(0),
    };
    store.record_artifact(elf).await.unwrap();
    store.register_program(program.clone()).await.unwrap();
    let again =
        Program { owner: requester(2), program: ArtifactId::new(ArtifactKind::Program, [2; 16]), ..program.clone() };
    store.register_program(again.clone()).await.unwrap();
    assert_eq!(store.program(program.vk_hash).await.unwrap().as_deref(), Some(&program));
    store.register_program(again.clone()).await.unwrap();
    assert_eq!(store.program(program.vk_hash).await.unwrap().as_deref(), Some(&program));
    // But for its ELF, once that is gone.
    store.forget_artifact(program.program).await.unwrap();
    assert_eq!(store.program(program.vk_hash).await.unwrap().as_deref(), Some(&program));
    store.register_program(again.clone()).await.unwrap();
    let mended = Program { program: again.program, ..program };
    assert_eq!(store.program(mended.vk_hash).await.unwrap().as_deref(), Some(&mended));
}

pub(crate) async fn an_artifact_is_recorded_once_and_never_with_other_content(store: SharedStore) {
    let artifact =
        Artifact { id: stdin(1), owner: Some(requester(1)), digest: Digest::of(b"input"), size: 5, created_at: at(1) };
    store.record_artifact(artifact.clone()).await.unwrap();
    store.record_artifact(Artifact { created_at: at(2), ..artifact.clone() }).await.unwrap();
    let other = Artifact { digest: Digest::of(b"other"), ..artifact.clone() };
    let error = store.record_artifact(other).await.unwrap_err();
    assert!(matches!(&error, StorageError::Exists { what } if what.contains(&artifact.id.to_string())), "{error}");
    assert_eq!(store.artifact(artifact.id).await.unwrap(), Some(artifact));
}

pub(crate) async fn departed_workers_are_listed_until_they_come_back(store: SharedStore) {
    for n in 1..=3_u8 {
        let name = format!("worker {n}");
        store.worker_joined(worker(n), &name, "10.0.0.1:5000", at(n.into())).await.unwrap();
        store.worker_left(worker(n), at(10 + u64::from(n)), "connection lost").await.unwrap();
    }
    store.worker_left(worker(9), at(20), "never was here").await.unwrap();
    let departed = |n: u8| DepartedWorker {
        id: worker(n),
        name: format!("worker {n}"),
        address: "10.0.0.1:5000".to_owned(),
        joined_at: at(n.into()),
        left_at: at(10 + u64::from(n)),
        reason: "connection lost".to_owned(),
    };
    assert_eq!(store.departed_workers(2).await.unwrap(), vec![departed(3), departed(2)]);
    store.worker_joined(worker(2), "worker 2", "10.0.0.2:5000", at(30)).await.unwrap();
    assert_eq!(store.departed_workers(10).await.unwrap(), vec![departed(3), departed(1)]);
    assert_eq!(store.workers_since(at(12)).await.unwrap(), [worker(2), worker(3)], "one is here, one just left");
}

pub(crate) async fn of_workers_that_left_those_that_are_gone_longest_are_forgotten_when_a_new_one_comes(
    store: SharedStore,
) {
    let id = |n: u32| WorkerId::try_from(&bytes(n)[..16]).unwrap();
    let count = MOST_DEPARTED + 2;
    let join = |n| store.worker_joined(id(n), "Amos", "192.0.2.1", at(1));
    assert!(join_all((0..count).map(join)).await.iter().all(Result::is_ok));
    let leave = |n| store.worker_left(id(n), at(10 + u64::from(n)), "connection lost");
    assert!(join_all((0..count).map(leave)).await.iter().all(Result::is_ok));
    join(0).await.unwrap();
    let departed = async || store.departed_workers(u32::MAX).await.unwrap();
    assert_eq!(departed().await.len(), MOST_DEPARTED as usize + 1, "one that is known makes nobody forgotten");
    join(count).await.unwrap();
    let left = departed().await;
    assert_eq!((left.len(), left.last().map(|worker| worker.id)), (MOST_DEPARTED as usize, Some(id(2))));
    assert_eq!(store.workers_since(at(1_000_000)).await.unwrap().len(), 2, "whoever is here is not");
}

pub(crate) async fn a_caller_that_gives_up_does_not_stop_its_write(store: SharedStore) {
    upload_stdin(&store, 7).await;
    let new = new_request(1);
    {
        let mut submitting = std::pin::pin!(store.submit(new.clone()));
        // Polled once, so that it is handed over, then dropped.
        let _ = futures_util::poll!(submitting.as_mut());
    }
    // The order of writes is kept: once a later one is answered, the first is there or never will be.
    accept(&store, new_request(2)).await;
    assert!(store.request(new.id).await.unwrap().is_some());
}

pub(crate) async fn a_worker_is_known_by_its_attempts(store: SharedStore) {
    let policy = RetryPolicy::default();
    assert_eq!(store.worker_record(worker(1)).await.unwrap(), WorkerRecord::default());
    for n in 1..=7_u8 {
        let request = accept(&store, new_request(n.into())).await;
        let leased = write(&store, request.lease(attempt(n), worker(n / 7), at(10))).await;
        let change = match n {
            1 => leased.fulfil(attempt(n), worker(0), false, at(14)),
            2 => leased.fulfil(attempt(n), worker(0), false, at(20)),
            3 => leased.fail(attempt(n), Fault::worker("crashed"), &policy, at(90)),
            4 => leased.fail(attempt(n), Fault::resources("no memory"), &policy, at(90)),
            5 => leased.fail(attempt(n), Fault::lost("silent"), &policy, at(90)),
            6 => leased.fail(attempt(n), Fault::guest("panic"), &policy, at(90)),
            _ => continue,
        };
        write(&store, change).await;
    }
    let expected = WorkerRecord { proofs: 2, average_proof_time: Some(Duration::from_secs(7)), failed_attempts: 2 };
    assert_eq!(store.worker_record(worker(0)).await.unwrap(), expected);
    assert_eq!(store.worker_record(worker(1)).await.unwrap(), WorkerRecord::default());
}

pub(crate) async fn what_is_held_against_a_worker_outlives_its_sessions(store: SharedStore) {
    let standing: Standing = serde_json::from_value(serde_json::json!([[RequestId::new(bytes(1)), "worker"]])).unwrap();
    store.note_standing(worker(1), &standing).await.unwrap();
    assert_eq!(store.worker_standing(worker(1)).await.unwrap(), Standing::default(), "it never was here");
    store.worker_joined(worker(1), "Amos", "192.0.2.1", at(1)).await.unwrap();
    store.note_standing(worker(1), &standing).await.unwrap();
    store.worker_left(worker(1), at(2), "evicted").await.unwrap();
    store.worker_joined(worker(1), "Amos", "192.0.2.1", at(3)).await.unwrap();
    assert_eq!(store.worker_standing(worker(1)).await.unwrap(), standing);
    store.note_standing(worker(1), &Standing::default()).await.unwrap();
    assert!(store.worker_standing(worker(1)).await.unwrap().is_clean());
}

pub(crate) async fn a_hedged_request_reads_back_with_both_its_attempts(store: SharedStore) {
    let request = accept(&store, new_request(1)).await;
    let leased = write(&store, request.lease(attempt(1), worker(1), at(2))).await;
    let hedged = write(&store, leased.hedge(attempt(2), worker(2), at(3))).await;
    assert_eq!(store.open_requests().await.unwrap(), [Arc::clone(&hedged)]);
    assert_eq!(store.attempt(attempt(2)).await.unwrap().unwrap().worker, worker(2));
    // The second goes on alone, and is the one by which the request is found.
    let change = hedged.fail(attempt(1), Fault::worker("crashed"), &RetryPolicy::default(), at(4));
    let alone = write(&store, change).await;
    let of_second = RequestFilter { worker: Some(worker(2)), limit: 9, ..RequestFilter::default() };
    assert_eq!(store.requests(&of_second).await.unwrap(), [Arc::clone(&alone)]);
    write(&store, alone.fulfil(attempt(2), worker(2), false, at(5))).await;
    let told = happenings(&store.history(request.id).await.unwrap());
    assert_eq!(told, ["accepted", "leased", "hedged", "attempt_ended", "fulfilled"]);
}

/// Runs the suite on stores from `$fresh`: an async function that answers `(SharedStore, _)`, where the second part is
/// whatever must outlive the store.
macro_rules! contract_tests {
    ($fresh:path) => {
        $crate::store::contract::contract_tests!($fresh:
            an_accepted_request_reads_back_as_it_was_answered
            the_largest_numbers_survive
            every_state_reads_back_with_its_facts
            what_was_never_written_is_absent_and_not_an_error
            an_id_that_was_asked_for_too_early_is_found_once_it_is_accepted
            the_same_request_sent_twenty_times_at_once_is_one
            asking_again_finds_the_request_as_it_is_now
            asking_again_after_a_failure_makes_a_new_request
            a_fulfilled_request_whose_proof_is_gone_stands_for_nothing
            a_request_needs_an_input_of_its_requester
            an_id_is_given_once
            a_change_decided_on_an_old_version_is_a_conflict_and_changes_nothing
            of_many_changes_decided_on_one_version_one_is_written
            a_change_of_an_unknown_request_is_a_conflict
            all_open_requests_are_listed_oldest_first_however_many
            requests_accepted_in_the_same_instant_keep_their_order
            each_filter_selects_by_its_own_field
            the_history_tells_everything_in_order
            attempts_begin_and_end_with_what_happens
            an_attempt_belongs_to_one_request_and_one_worker
            the_newest_proofs_come_first_with_who_made_them
            the_first_registration_of_a_program_stays
            an_artifact_is_recorded_once_and_never_with_other_content
            departed_workers_are_listed_until_they_come_back
            of_workers_that_left_those_that_are_gone_longest_are_forgotten_when_a_new_one_comes
            a_worker_is_known_by_its_attempts
            what_is_held_against_a_worker_outlives_its_sessions
            a_hedged_request_reads_back_with_both_its_attempts
            a_caller_that_gives_up_does_not_stop_its_write
        );
    };
    ($fresh:path: $($name:ident)+) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                let (store, _kept) = $fresh().await;
                $crate::store::contract::$name(store).await;
            }
        )+
    };
}

pub(crate) use contract_tests;
