use std::collections::BTreeSet;

use network_lib::{Backend, CircuitVersion, FaultClass, ProofMode, ProverProfile, Vm, protocol::Progress};
use proptest::prelude::*;

use super::*;
use crate::{Priority, Requester, Timestamp};

fn now(secs: u64) -> Now {
    Now { moment: Moment::from_millis(secs * 1000), time: Timestamp::from_secs(1_000_000 + secs) }
}

fn request_id(n: u8) -> RequestId {
    RequestId::new([n; 32])
}

fn attempt(n: u8) -> AttemptId {
    AttemptId::new([n; 16])
}

fn worker_id(n: u8) -> WorkerId {
    WorkerId::new([n; 16])
}

fn requirement(mode: ProofMode) -> Requirement {
    Requirement { vm: Vm::Sp1, circuit_version: CircuitVersion::new("sp1-v6.1.0"), mode }
}

fn queued(n: u8, mode: ProofMode, deadline: u64) -> QueuedRequest {
    QueuedRequest {
        id: request_id(n),
        requester: Requester::new([0; 20]),
        requirement: requirement(mode),
        priority: Priority::default(),
        deadline: Timestamp::from_secs(2_000_000 + deadline),
        created_at: Timestamp::from_secs(u64::from(n)),
        troubles: 0,
        failed_workers: Vec::new(),
        doubted_by: BTreeSet::new(),
    }
}

/// A request of which this worker said that its program fails.
fn doubted(n: u8, worker: u8) -> QueuedRequest {
    let (failed_workers, doubted_by) = (vec![worker_id(worker)], BTreeSet::from([worker_id(worker)]));
    QueuedRequest { failed_workers, doubted_by, ..queued(n, ProofMode::Core, 500) }
}

fn profile(n: u8, provers: usize, modes: &[ProofMode]) -> WorkerProfile {
    let prover = ProverProfile {
        vm: Vm::Sp1,
        backend: Backend::Cpu,
        device: "cpu".to_owned(),
        circuit_version: CircuitVersion::new("sp1-v6.1.0"),
        modes: modes.to_vec(),
        memory_bytes: 1 << 34,
    };
    WorkerProfile {
        id: worker_id(n),
        name: format!("worker {n}"),
        provers: vec![prover; provers],
        magister_drop_endpoint: None,
        instance: None,
    }
}

fn joined(n: u8, provers: usize) -> Event {
    let profile = profile(n, provers, &[ProofMode::Core, ProofMode::Compressed]);
    join(u64::from(n), profile, Vec::new())
}

fn provers_changed(n: u8, session: u64, modes: &[ProofMode]) -> Event {
    let WorkerProfile { id, provers, .. } = profile(n, 1, modes);
    Event::ProversChanged { worker: id, session: SessionId(session), provers }
}

fn draining(n: u8, session: u64) -> Event {
    Event::Draining { worker: worker_id(n), session: SessionId(session) }
}

fn join(session: u64, profile: WorkerProfile, leases: Vec<HeldLease>) -> Event {
    Event::Joined { session: SessionId(session), profile, leases, standing: Standing::default() }
}

fn held(n: u8, request: u8) -> HeldLease {
    HeldLease { attempt: attempt(n), work: queued(request, ProofMode::Core, 500), prover: 0, is_proving: true }
}

fn settled(request: u8, n: u8) -> [Event; 2] {
    [Event::Released { attempt: attempt(n) }, Event::Settled { request: request_id(request) }]
}

/// Applies events that come at one time, and answers with the effects of all of them.
fn apply(fleet: &mut Fleet, events: impl IntoIterator<Item = Event>, now: Now) -> Vec<Effect> {
    events.into_iter().flat_map(|event| fleet.apply(event, now)).collect()
}

fn claim(request: u8, worker: u8, prover: usize) -> Effect {
    Effect::Claim { request: request_id(request), worker: worker_id(worker), prover, is_hedge: false }
}

fn claimed(request: u8, worker: u8, n: u8) -> Event {
    Event::Claimed { request: request_id(request), worker: worker_id(worker), prover: 0, attempt: attempt(n) }
}

fn accepted(n: u8, worker: u8) -> Event {
    Event::Accepted { attempt: attempt(n), worker: worker_id(worker) }
}

fn fleet() -> Fleet {
    Fleet::new(FleetSettings::default())
}

#[test]
fn a_request_goes_to_an_idle_worker_at_once() {
    let mut fleet = fleet();
    assert_eq!(fleet.apply(joined(1, 1), now(0)), []);
    let effects = fleet.apply(Event::Queued(queued(1, ProofMode::Core, 100)), now(1));
    assert_eq!(effects, [claim(1, 1, 0)]);
}

#[test]
fn requests_queued_for_one_worker_are_served_by_deadline_and_then_by_age() {
    let mut fleet = fleet();
    for (n, deadline) in [(1, 300), (2, 100), (3, 100)] {
        fleet.apply(Event::Queued(queued(n, ProofMode::Core, deadline)), now(0));
    }
    let mut served = Vec::new();
    let mut effects = fleet.apply(joined(1, 1), now(1));
    for n in 1..=3 {
        let [Effect::Claim { request, .. }] = effects.as_slice() else { panic!("one claim at a time: {effects:?}") };
        let request = *request;
        served.push(request);
        fleet.apply(Event::Claimed { request, worker: worker_id(1), prover: 0, attempt: attempt(n) }, now(2));
        let settled = [Event::Settled { request }, Event::Released { attempt: attempt(n) }];
        effects = apply(&mut fleet, settled, now(3));
    }
    assert_eq!(served, [request_id(2), request_id(3), request_id(1)]);
}

#[test]
fn a_request_that_nobody_can_prove_waits_and_says_why_while_others_pass() {
    let mut fleet = fleet();
    fleet.apply(Event::Queued(queued(1, ProofMode::Groth16, 100)), now(0));
    assert_eq!(fleet.waiting_reason(request_id(1), now(1).moment), Some(WaitingReason::NoWorkers));
    fleet.apply(joined(1, 1), now(1));
    assert_eq!(
        fleet.waiting_reason(request_id(1), now(1).moment).expect("it waits").to_string(),
        "no connected worker proves groth16 for sp1 circuit sp1-v6.1.0"
    );
    let effects = fleet.apply(Event::Queued(queued(2, ProofMode::Core, 200)), now(2));
    assert_eq!(effects, [claim(2, 1, 0)]);
}

#[test]
fn what_nobody_can_prove_is_listed_by_kind_until_somebody_can() {
    let mut fleet = fleet();
    let unserved = |fleet: &Fleet| {
        let mut list: Vec<_> =
            fleet.unserved().map(|kind| (kind.requirement.mode, kind.waiting, kind.reason)).collect();
        list.sort_by_key(|(mode, ..)| *mode);
        list
    };
    for (n, mode) in [(1, ProofMode::Groth16), (2, ProofMode::Groth16), (3, ProofMode::Core), (4, ProofMode::Core)] {
        fleet.apply(Event::Queued(queued(n, mode, 100)), now(0));
    }
    let nobody = WaitingReason::NoWorkers;
    assert_eq!(unserved(&fleet), [(ProofMode::Core, 2, nobody.clone()), (ProofMode::Groth16, 2, nobody.clone())]);
    // One worker for two core requests is busy, which is no reason to complain; groth16 still is.
    fleet.apply(joined(1, 1), now(1));
    fleet
        .apply(Event::Claimed { request: request_id(3), worker: worker_id(1), prover: 0, attempt: attempt(1) }, now(1));
    let reason = |not_ready| WaitingReason::NoCapableWorker { requirement: requirement(ProofMode::Groth16), not_ready };
    assert_eq!(unserved(&fleet), [(ProofMode::Groth16, 2, reason(0))]);
    // A prover that is being started says nothing of what it will prove.
    fleet.apply(join(2, profile(2, 1, &[]), Vec::new()), now(2));
    assert_eq!(unserved(&fleet), [(ProofMode::Groth16, 2, reason(1))]);
    assert!(reason(1).to_string().ends_with("sp1-v6.1.0; 1 prover is not ready yet"), "{}", reason(1));
    fleet.apply(provers_changed(2, 2, &[ProofMode::Core, ProofMode::Groth16]), now(3));
    assert_eq!(unserved(&fleet), []);
    // The able worker takes no more: that is worth a word again.
    fleet.apply(draining(2, 2), now(4));
    assert_eq!(unserved(&fleet), [(ProofMode::Groth16, 1, reason(0))]);
}

#[test]
fn a_worker_that_failed_gets_the_request_again_only_when_no_other_could() {
    let mut fleet = fleet();
    fleet.apply(joined(1, 1), now(0));
    fleet.apply(joined(2, 1), now(0));
    fleet.apply(Event::Queued(queued(1, ProofMode::Core, 50)), now(1));
    fleet.apply(Event::Queued(queued(2, ProofMode::Core, 60)), now(1));
    fleet.apply(claimed(1, 1, 1), now(1));
    fleet.apply(claimed(2, 2, 2), now(1));
    // Worker 1 failed at request 1 and is idle; worker 2 could serve it but is busy: request 1 waits for worker 2.
    apply(&mut fleet, settled(1, 1), now(2));
    let failed = QueuedRequest { failed_workers: vec![worker_id(1)], ..queued(1, ProofMode::Core, 50) };
    assert_eq!(fleet.apply(Event::Queued(failed), now(2)), [hint(Some(1), 2)]);
    // Worker 2 leaves: better the worker that failed than nobody.
    let effects = fleet.apply(Event::Left { worker: worker_id(2), session: SessionId(2) }, now(3));
    assert_eq!(effects, [claim(1, 1, 0)]);
}

#[test]
fn a_prover_is_free_again_once_its_proof_is_on_disk_while_the_lease_goes_on() {
    let mut fleet = fleet();
    fleet.apply(joined(1, 1), now(0));
    fleet.apply(Event::Queued(queued(1, ProofMode::Core, 50)), now(0));
    fleet.apply(claimed(1, 1, 1), now(0));
    fleet.apply(Event::Queued(queued(2, ProofMode::Core, 50)), now(0));
    let effects = fleet.apply(Event::Proved { attempt: attempt(1), worker: worker_id(1) }, now(9));
    assert_eq!(effects, [claim(2, 1, 0)]);
    assert!(fleet.lease(attempt(1)).is_some());
}

#[test]
fn a_lost_socket_costs_nothing_within_the_grace_period() {
    let mut fleet = fleet();
    fleet.apply(joined(1, 1), now(0));
    fleet.apply(Event::Queued(queued(1, ProofMode::Core, 500)), now(0));
    fleet.apply(claimed(1, 1, 1), now(0));
    fleet.apply(accepted(1, 1), now(0));
    fleet.apply(Event::Left { worker: worker_id(1), session: SessionId(1) }, now(1));
    for secs in 1..=120 {
        assert_eq!(fleet.apply(Event::Tick, now(secs)), [], "at {secs} s");
    }
    let back = join(9, profile(1, 1, &[ProofMode::Core]), vec![held(1, 1)]);
    assert_eq!(fleet.apply(back, now(121)), []);
    assert_eq!(fleet.apply(Event::Tick, now(122)), []);
}

#[test]
fn silence_beyond_the_grace_period_gives_the_attempt_up() {
    let mut fleet = fleet();
    fleet.apply(joined(1, 1), now(0));
    fleet.apply(Event::Queued(queued(1, ProofMode::Core, 500)), now(0));
    fleet.apply(claimed(1, 1, 1), now(0));
    fleet.apply(accepted(1, 1), now(0));
    let mut closed_at = None;
    let mut lost_at = None;
    for secs in 1..200 {
        for effect in fleet.apply(Event::Tick, now(secs)) {
            match effect {
                Effect::Close { .. } => closed_at = Some(secs),
                Effect::Lose { attempt: lost, .. } => {
                    assert_eq!(lost, attempt(1));
                    lost_at = Some(secs);
                }
                other => panic!("nothing waits and nothing is due: {other:?}"),
            }
        }
    }
    assert_eq!((closed_at, lost_at), (Some(31), Some(121)));
}

#[test]
fn after_a_stall_of_its_own_the_coordinator_judges_nobody() {
    let mut fleet = fleet();
    fleet.apply(joined(1, 1), now(0));
    fleet.apply(Event::Tick, now(1));
    // The coordinator stood still for an hour.
    assert_eq!(fleet.apply(Event::Tick, now(3601)), []);
    fleet.apply(Event::Heard { worker: worker_id(1), session: SessionId(1) }, now(3610));
    for secs in 3602..3640 {
        assert_eq!(fleet.apply(Event::Tick, now(secs)), []);
    }
}

#[test]
fn after_a_stall_of_its_own_the_coordinator_waits_a_whole_grace_for_those_that_went_away_meanwhile() {
    let mut fleet = fleet();
    fleet.apply(joined(1, 1), now(0));
    fleet.apply(Event::Queued(queued(1, ProofMode::Core, 50_000)), now(0));
    fleet.apply(claimed(1, 1, 1), now(0));
    fleet.apply(accepted(1, 1), now(0));
    fleet.apply(Event::Tick, now(1));
    // The coordinator stood still for an hour, and the connection is gone.
    fleet.apply(Event::Left { worker: worker_id(1), session: SessionId(1) }, now(3601));
    for secs in 3601..3720 {
        assert_eq!(fleet.apply(Event::Tick, now(secs)), [], "at {secs} s");
    }
    let back = join(9, profile(1, 1, &[ProofMode::Core]), vec![held(1, 1)]);
    assert_eq!(fleet.apply(back, now(3720)), []);
    fleet.apply(Event::Left { worker: worker_id(1), session: SessionId(9) }, now(3721));
    let lost = (3721..4000).find(|secs| !fleet.apply(Event::Tick, now(*secs)).is_empty());
    assert_eq!(lost, Some(3841), "after that, time counts again");
}

#[test]
fn a_worker_that_comes_back_without_its_attempt_has_lost_it() {
    let mut fleet = fleet();
    fleet.apply(joined(1, 1), now(0));
    fleet.apply(Event::Queued(queued(1, ProofMode::Core, 500)), now(0));
    fleet.apply(claimed(1, 1, 1), now(0));
    fleet.apply(accepted(1, 1), now(0));
    let effects = fleet.apply(join(2, profile(1, 1, &[ProofMode::Core]), Vec::new()), now(1));
    assert!(matches!(effects.as_slice(), [Effect::Close { .. }, Effect::Lose { .. }]), "{effects:?}");
}

#[test]
fn leases_from_before_a_restart_are_waited_for_and_then_given_up() {
    let mut fleet = fleet();
    let work = queued(1, ProofMode::Core, 500);
    fleet.apply(Event::Remembered { attempt: attempt(1), work, worker: worker_id(1) }, now(0));
    for secs in 1..=120 {
        assert_eq!(fleet.apply(Event::Tick, now(secs)), []);
    }
    assert!(matches!(fleet.apply(Event::Tick, now(121)).as_slice(), [Effect::Lose { .. }]));
}

#[test]
fn late_words_of_an_old_session_and_its_end_do_not_touch_the_new_one() {
    let mut fleet = fleet();
    fleet.apply(joined(1, 1), now(0));
    fleet.apply(join(7, profile(1, 1, &[ProofMode::Core]), Vec::new()), now(1));
    let left = |session| Event::Left { worker: worker_id(1), session: SessionId(session) };
    apply(&mut fleet, [draining(1, 1), provers_changed(1, 1, &[]), left(1)], now(2));
    assert_eq!(fleet.apply(Event::Queued(queued(1, ProofMode::Core, 50)), now(3)), [claim(1, 1, 0)]);
    apply(&mut fleet, [provers_changed(1, 7, &[]), draining(1, 7)], now(4));
    let worker = fleet.worker(worker_id(1)).expect("known");
    assert!(worker.is_draining && worker.profile.provers[0].modes.is_empty(), "its own words count");
}

#[test]
fn a_request_whose_lease_cannot_be_written_lets_others_by_and_waits_twice_as_long_each_time() {
    let mut fleet = fleet();
    fleet.apply(joined(1, 1), now(0));
    fleet.apply(Event::Queued(queued(1, ProofMode::Core, 10)), now(0));
    let failed = |request: u8, worker, is_passing| Event::ClaimFailed {
        worker: worker_id(worker),
        prover: 0,
        requeue: Some(queued(request, ProofMode::Core, request.into())),
        is_passing,
    };
    assert_eq!(fleet.apply(failed(1, 1, true), now(0)), [claim(1, 1, 0)], "the trouble was everyone's, and has passed");
    fleet.apply(Event::Queued(queued(2, ProofMode::Core, 20)), now(0));
    assert_eq!(fleet.apply(failed(1, 1, false), now(0)), [claim(2, 1, 0)]);
    let why = fleet.waiting_reason(request_id(1), now(1).moment).expect("it waits");
    assert_eq!(
        why.to_string(),
        "it could not be given to a worker (hierophant's log says why) and is tried again in 5 s"
    );
    assert_eq!(fleet.apply(joined(2, 1), now(1)), [], "whoever comes");
    let mut tried_at = |from: u64, worker| {
        let found = (from..60).find(|secs| {
            for n in 1..=2 {
                fleet.apply(Event::Heard { worker: worker_id(n), session: SessionId(n.into()) }, now(*secs));
            }
            fleet.apply(Event::Tick, now(*secs)) == [claim(1, worker, 0)]
        });
        fleet.apply(failed(1, worker, false), now(found.expect("it is tried again")));
        found
    };
    assert_eq!([tried_at(1, 2), tried_at(6, 2), tried_at(16, 2)], [Some(5), Some(15), Some(35)]);
}

#[test]
fn another_process_with_a_workers_id_is_told_apart_from_one_that_comes_back() {
    let mut fleet = fleet();
    let process = |instance| WorkerProfile { instance, ..profile(1, 1, &[ProofMode::Core]) };
    fleet.apply(join(1, process(Some(1)), Vec::new()), now(0));
    let has_twin = |fleet: &Fleet, instance, secs| {
        fleet.has_twin(worker_id(1), instance, Duration::from_secs(15), now(secs).moment)
    };
    assert!(has_twin(&fleet, Some(2), 15));
    assert!(!has_twin(&fleet, Some(1), 15), "the same process");
    assert!(!has_twin(&fleet, None, 15), "one that does not say");
    assert!(!has_twin(&fleet, Some(2), 16), "the other was not heard for so long");
    fleet.apply(Event::Heard { worker: worker_id(1), session: SessionId(1) }, now(16));
    assert!(has_twin(&fleet, Some(2), 16));
    fleet.apply(Event::Left { worker: worker_id(1), session: SessionId(1) }, now(17));
    assert!(!has_twin(&fleet, Some(2), 17), "the other left");
}

#[test]
fn under_however_many_ids_workers_come_and_go_a_thousand_are_remembered() {
    let mut fleet = fleet();
    let id = |n: u16| {
        let [high, low] = n.to_be_bytes();
        WorkerId::new([high, low].repeat(8).try_into().expect("16 bytes"))
    };
    for n in 0..1002_u16 {
        let (worker, session) = (id(n), n.into());
        fleet.apply(
            join(session, WorkerProfile { id: worker, ..profile(1, 1, &[ProofMode::Core]) }, Vec::new()),
            now(0),
        );
        if n != 1 {
            fleet.apply(Event::Left { worker, session: SessionId(session) }, now(0));
        }
    }
    fleet.apply(Event::Tick, now(1));
    assert_eq!(fleet.workers().count(), 1001, "and all that are connected");
    assert!(fleet.worker(id(0)).is_none() && fleet.worker(id(1)).is_some());
}

#[test]
fn a_deadline_is_reported_once_for_waiting_and_leased_requests_but_not_for_settled_ones() {
    let mut fleet = fleet();
    fleet.apply(joined(1, 1), now(0));
    for n in 1..=3 {
        fleet.apply(Event::Queued(QueuedRequest { deadline: now(10).time, ..queued(n, ProofMode::Core, 0) }), now(0));
    }
    apply(&mut fleet, [claimed(1, 1, 1), accepted(1, 1), Event::Settled { request: request_id(3) }], now(1));
    assert_eq!(fleet.apply(Event::Tick, now(9)), []);
    let expire = |n| Effect::Expire { request: request_id(n) };
    assert_eq!(fleet.apply(Event::Tick, now(10)), [expire(1), expire(2)]);
    assert_eq!(fleet.apply(Event::Tick, now(11)), []);
}

fn hint(request: Option<u8>, worker: u8) -> Effect {
    Effect::Hint { worker: worker_id(worker), prover: 0, request: request.map(request_id) }
}

/// Two workers, busy with requests 1 and 2.
fn busy_fleet() -> Fleet {
    let mut fleet = fleet();
    for n in 1..=2 {
        fleet.apply(joined(n, 1), now(0));
        fleet.apply(Event::Queued(queued(n, ProofMode::Core, 10)), now(n.into()));
        fleet.apply(claimed(n, n, n), now(n.into()));
    }
    fleet
}

#[test]
fn busy_provers_are_told_of_distinct_requests_in_serving_order() {
    let mut fleet = busy_fleet();
    let queue = |fleet: &mut Fleet, n, mode, deadline| fleet.apply(Event::Queued(queued(n, mode, deadline)), now(5));
    assert_eq!(queue(&mut fleet, 3, ProofMode::Core, 30), [hint(Some(3), 1)]);
    assert_eq!(queue(&mut fleet, 4, ProofMode::Groth16, 1), [], "nobody can make it");
    assert_eq!(queue(&mut fleet, 5, ProofMode::Compressed, 50), [hint(Some(5), 2)]);
    assert_eq!(queue(&mut fleet, 6, ProofMode::Core, 60), [], "every prover has its next already");
    // More urgent: it takes the place of what comes last.
    assert_eq!(queue(&mut fleet, 7, ProofMode::Core, 20), [hint(Some(7), 2)]);
    assert_eq!(fleet.apply(Event::Settled { request: request_id(7) }, now(6)), [hint(Some(5), 2)]);
}

#[test]
fn a_hint_that_comes_true_is_not_taken_back_and_the_others_stay() {
    let mut fleet = busy_fleet();
    for n in 3..=5 {
        fleet.apply(Event::Queued(queued(n, ProofMode::Core, n.into())), now(5));
    }
    let proved = |n| Event::Proved { attempt: attempt(n), worker: worker_id(n) };
    assert_eq!(fleet.apply(proved(1), now(6)), [claim(3, 1, 0)], "nothing new before it has what it was told of");
    assert_eq!(fleet.apply(claimed(3, 1, 3), now(6)), [hint(Some(5), 1)]);
    // Worker 2 was told of 4, and takes it.
    assert_eq!(fleet.apply(proved(2), now(7)), [claim(4, 2, 0)]);
}

#[test]
fn a_hint_is_withdrawn_when_its_request_goes_elsewhere_and_told_again_to_a_worker_that_comes_back() {
    let mut fleet = busy_fleet();
    fleet.apply(Event::Queued(queued(3, ProofMode::Core, 3)), now(5));
    let proved = Event::Proved { attempt: attempt(2), worker: worker_id(2) };
    let effects = fleet.apply(proved, now(6));
    assert_eq!(effects, [claim(3, 2, 0), hint(None, 1)], "the first prover that is free takes the first request");
    assert_eq!(fleet.apply(claimed(3, 2, 3), now(6)), []);
    assert_eq!(fleet.apply(Event::Queued(queued(4, ProofMode::Core, 4)), now(7)), [hint(Some(4), 1)]);
    assert_eq!(fleet.apply(Event::Left { worker: worker_id(1), session: SessionId(1) }, now(8)), [hint(Some(4), 2)]);
    let back = join(9, profile(1, 1, &[ProofMode::Core]), vec![held(1, 1)]);
    assert_eq!(fleet.apply(back, now(9)), [], "worker 2 was told");
    assert_eq!(fleet.apply(Event::Settled { request: request_id(4) }, now(9)), [hint(None, 2)]);
}

#[test]
fn a_worker_that_failed_at_a_request_is_not_told_of_it() {
    let mut fleet = busy_fleet();
    let failed = QueuedRequest { failed_workers: vec![worker_id(1)], ..queued(3, ProofMode::Core, 3) };
    assert_eq!(fleet.apply(Event::Queued(failed), now(5)), [hint(Some(3), 2)]);
}

#[test]
fn a_lease_that_the_worker_never_heard_of_is_told_again_and_not_lost() {
    let mut fleet = fleet();
    fleet.apply(joined(1, 1), now(0));
    fleet.apply(Event::Queued(queued(1, ProofMode::Core, 500)), now(0));
    fleet.apply(claimed(1, 1, 1), now(0));
    // The session broke before the worker read what it was given.
    let remind = Effect::Remind { attempt: attempt(1), request: request_id(1), worker: worker_id(1), prover: 0 };
    let back = |session| join(session, profile(1, 1, &[ProofMode::Core]), Vec::new());
    let effects = fleet.apply(back(2), now(1));
    assert!(matches!(&effects[..], [Effect::Close { .. }, last] if *last == remind), "{effects:?}");
    // Coming back without it a second time is no accident.
    let effects = fleet.apply(back(3), now(2));
    assert!(matches!(&effects[..], [Effect::Close { .. }, Effect::Lose { .. }]), "{effects:?}");
}

#[test]
fn a_claim_that_nobody_answers_is_told_again_and_then_taken_back_within_seconds() {
    let mut fleet = fleet();
    fleet.apply(joined(1, 1), now(0));
    fleet.apply(Event::Queued(queued(1, ProofMode::Core, 500)), now(0));
    fleet.apply(claimed(1, 1, 1), now(0));
    let heard = Event::Heard { worker: worker_id(1), session: SessionId(1) };
    let happened: Vec<_> = (1..30)
        .flat_map(|secs| {
            fleet.apply(heard.clone(), now(secs));
            fleet.apply(Event::Tick, now(secs)).into_iter().map(move |effect| (secs, effect)).collect::<Vec<_>>()
        })
        .collect();
    assert!(matches!(&happened[..], [(11, Effect::Remind { .. }), (22, Effect::Lose { .. })]), "{happened:?}");
}

#[test]
fn progress_is_an_answer_too() {
    let mut fleet = fleet();
    fleet.apply(joined(1, 1), now(0));
    fleet.apply(Event::Queued(queued(1, ProofMode::Core, 500)), now(0));
    fleet.apply(claimed(1, 1, 1), now(0));
    let progress = Progress { phase: "proving".to_owned(), done: 1, total: 2, is_estimate: false };
    fleet.apply(Event::Progressed { attempt: attempt(1), worker: worker_id(1), progress }, now(1));
    assert_eq!((2..29).flat_map(|secs| fleet.apply(Event::Tick, now(secs))).collect::<Vec<_>>(), []);
}

#[test]
fn a_request_that_met_with_trouble_waits_unless_somebody_new_can_take_it() {
    let mut fleet = fleet();
    fleet.apply(joined(1, 1), now(0));
    let failed = QueuedRequest { troubles: 2, failed_workers: vec![worker_id(1)], ..queued(1, ProofMode::Core, 50) };
    assert_eq!(fleet.apply(Event::Queued(failed.clone()), now(0)), []);
    let reason = fleet.waiting_reason(request_id(1), now(1).moment).expect("it waits");
    assert_eq!(reason, WaitingReason::Pausing { left: Duration::from_secs(9) });
    assert_eq!(fleet.apply(Event::Tick, now(9)), []);
    assert_eq!(fleet.apply(Event::Tick, now(10)), [claim(1, 1, 0)], "5 s, doubled once");
    // Back in the queue, and somebody new comes.
    fleet.apply(claimed(1, 1, 1), now(10));
    fleet.apply(Event::Released { attempt: attempt(1) }, now(11));
    assert_eq!(fleet.apply(Event::Queued(QueuedRequest { troubles: 9, ..failed }), now(11)), []);
    assert_eq!(fleet.apply(joined(2, 1), now(12)), [claim(1, 2, 0)]);
}

#[test]
fn requesters_get_equal_shares_and_a_flood_does_not_hold_up_the_others() {
    let mut fleet = fleet();
    let of = |n, requester, deadline| {
        Event::Queued(QueuedRequest {
            requester: Requester::new([requester; 20]),
            ..queued(n, ProofMode::Core, deadline)
        })
    };
    for n in 1..=4 {
        fleet.apply(of(n, 1, 1), now(0));
    }
    fleet.apply(of(5, 2, 900), now(0));
    fleet.apply(of(6, 2, 901), now(0));
    let ahead = |fleet: &Fleet, n| match fleet.waiting_reason(request_id(n), now(0).moment) {
        Some(WaitingReason::Busy { ahead, .. }) => ahead,
        other => panic!("{other:?}"),
    };
    // Two workers of one prover each: one request of each requester.
    assert_eq!(fleet.apply(joined(1, 1), now(1)), [claim(1, 1, 0)]);
    assert_eq!(fleet.apply(joined(2, 1), now(1)), [claim(5, 2, 0)]);
    apply(&mut fleet, [claimed(1, 1, 1), claimed(5, 2, 2)], now(1));
    assert_eq!([2, 6, 3, 4].map(|n| ahead(&fleet, n)), [0, 1, 2, 3], "then in turn");
    // Priority goes before shares.
    let urgent =
        QueuedRequest { requester: Requester::new([2; 20]), priority: Priority(1), ..queued(7, ProofMode::Core, 950) };
    fleet.apply(Event::Queued(urgent), now(2));
    assert_eq!([7, 2].map(|n| ahead(&fleet, n)), [0, 1]);
}

#[test]
fn how_many_requests_go_first_is_counted_up_to_a_thousand() {
    let mut fleet = fleet();
    fleet.apply(joined(1, 1), now(0));
    let id = |n: u16| RequestId::new([n.to_be_bytes(); 16].concat().try_into().expect("32 bytes"));
    for n in 0..1003_u16 {
        let request = QueuedRequest { id: id(n), ..queued(0, ProofMode::Core, n.into()) };
        fleet.apply(Event::Queued(request), now(1));
    }
    // The first one is being claimed.
    let words = |n| fleet.waiting_reason(id(n), now(1).moment).expect("it waits").to_string();
    assert_eq!(words(1000), "all 1 capable workers are busy; 999 requests go first");
    for n in [1001, 1002] {
        assert_eq!(words(n), "all 1 capable workers are busy; at least 1000 requests go first");
    }
}

#[test]
fn only_when_nobody_else_can_tell_is_the_same_worker_asked_again_whether_a_program_fails() {
    let mut alone = fleet();
    alone.apply(joined(1, 1), now(0));
    assert_eq!(alone.apply(Event::Queued(doubted(1, 1)), now(1)), [claim(1, 1, 0)], "at once");

    // Worker 2 is busy, then away for a moment, then its prover starts again: it is waited for.
    let mut fleet = fleet();
    apply(&mut fleet, [joined(1, 1), joined(2, 1)], now(0));
    apply(
        &mut fleet,
        [Event::Queued(queued(8, ProofMode::Core, 9)), Event::Queued(queued(9, ProofMode::Core, 9))],
        now(0),
    );
    apply(&mut fleet, [claimed(8, 1, 1), claimed(9, 2, 2), accepted(2, 2)], now(0));
    apply(&mut fleet, settled(8, 1), now(1));
    assert_eq!(fleet.apply(Event::Queued(doubted(1, 1)), now(1)), [hint(Some(1), 2)]);
    let reason = fleet.waiting_reason(request_id(1), now(1).moment);
    assert_eq!(reason, Some(WaitingReason::Busy { capable: 1, ahead: 0 }));
    fleet.apply(Event::Heard { worker: worker_id(2), session: SessionId(2) }, now(60));
    assert_eq!(fleet.apply(Event::Left { worker: worker_id(2), session: SessionId(2) }, now(60)), []);
    fleet.apply(Event::Heard { worker: worker_id(1), session: SessionId(1) }, now(179));
    assert_eq!(fleet.apply(Event::Tick, now(179)), []);
    assert_eq!(fleet.waiting_reason(request_id(1), now(179).moment), Some(WaitingReason::Awaiting));
    assert_eq!(fleet.apply(join(3, profile(2, 1, &[]), vec![]), now(179)).len(), 1, "its attempt is lost");
    assert_eq!(fleet.apply(Event::Tick, now(180)), [], "its prover starts");
    assert_eq!(fleet.apply(provers_changed(2, 3, &[ProofMode::Core]), now(181)), [claim(1, 2, 0)]);
}

#[test]
fn whoever_does_not_come_back_or_never_starts_is_not_waited_for_longer_than_the_grace_period() {
    let drained = [draining(2, 2)];
    for (others, claimed_at) in [
        (vec![Event::Expected { worker: worker_id(2) }], 121),
        (vec![join(2, profile(2, 1, &[]), vec![])], 121),
        (std::iter::once(joined(2, 1)).chain(drained).collect(), 1),
        (vec![join(2, profile(2, 1, &[ProofMode::Groth16]), vec![])], 1),
    ] {
        let mut fleet = fleet();
        apply(&mut fleet, others, now(0));
        fleet.apply(joined(1, 1), now(0));
        let mut effects = fleet.apply(Event::Queued(doubted(1, 1)), now(1));
        let mut secs = 1;
        while effects.is_empty() && secs < 300 {
            secs += 1;
            for (n, session) in [(1, 1), (2, 2)] {
                fleet.apply(Event::Heard { worker: worker_id(n), session: SessionId(session) }, now(secs));
            }
            effects = fleet.apply(Event::Tick, now(secs));
        }
        assert_eq!((effects, secs), (vec![claim(1, 1, 0)], claimed_at));
    }
}

#[test]
fn a_worker_whose_word_was_disproved_is_blamed_and_at_last_evicted() {
    let mut fleet = fleet();
    apply(&mut fleet, [joined(1, 1), joined(2, 1)], now(0));
    let disproved = |n| Event::Disproved { worker: worker_id(1), request: request_id(n) };
    assert!(matches!(fleet.apply(disproved(1), now(1))[..], [Effect::Note { .. }]));
    assert!(matches!(fleet.apply(disproved(2), now(1))[..], [Effect::Note { .. }]));
    assert!(fleet.worker(worker_id(1)).expect("known").is_resting());
    assert!(matches!(fleet.apply(disproved(3), now(1))[..], [Effect::Note { .. }, Effect::Evict { .. }]));
}

fn fail(request: u8, worker: u8) -> Event {
    Event::Failed { worker: worker_id(worker), request: request_id(request), class: FaultClass::Worker }
}

#[test]
fn a_worker_that_breaks_everything_rests_longer_and_longer_and_is_evicted_when_others_are_here() {
    let mut fleet = fleet();
    apply(&mut fleet, [joined(1, 2), joined(2, 1)], now(0));
    let noted = |effects: &[Effect]| matches!(effects, [Effect::Note { .. }]);
    assert!(noted(&fleet.apply(fail(1, 1), now(1))));
    assert!(!fleet.worker(worker_id(1)).expect("known").is_resting(), "one fault is no reason");
    // On probation: one attempt at a time, and last among the idle.
    let queue = |n| Event::Queued(queued(n, ProofMode::Core, n.into()));
    assert_eq!(apply(&mut fleet, [queue(11), queue(12), queue(13)], now(1)), [claim(11, 2, 0), claim(12, 1, 0)]);
    assert!(noted(&fleet.apply(fail(2, 1), now(2))));
    assert!(fleet.worker(worker_id(1)).expect("known").is_resting());
    assert!(fleet.apply(fail(2, 1), now(2)).is_empty(), "the same request again says nothing new");
    let effects = fleet.apply(fail(3, 1), now(3));
    let [Effect::Note { standing, .. }, Effect::Evict { session: SessionId(1), reason, .. }] = &effects[..] else {
        panic!("{effects:?}")
    };
    assert_eq!(reason, "it failed at 3 requests in a row, and another worker is here; it may come back in 60 s");
    // It comes back, to another coordinator for that matter, and rests on.
    let mut other = self::fleet();
    let back = Event::Joined {
        session: SessionId(1),
        profile: profile(1, 1, &[ProofMode::Core]),
        leases: Vec::new(),
        standing: standing.clone(),
    };
    apply(&mut other, [back, queue(14)], now(0));
    let reason = other.waiting_reason(request_id(14), now(0).moment);
    assert_eq!(reason, Some(WaitingReason::Resting { capable: 1 }));
    other.apply(Event::Heard { worker: worker_id(1), session: SessionId(1) }, now(60));
    assert_eq!(other.apply(Event::Tick, now(60)), [claim(14, 1, 0)], "one more chance");
    let cleared = Effect::Note { worker: worker_id(1), standing: Standing::default() };
    assert_eq!(other.apply(Event::Succeeded { worker: worker_id(1) }, now(61)), [cleared]);
}

#[test]
fn a_request_that_breaks_two_workers_costs_neither_its_standing_and_the_only_worker_is_never_evicted() {
    let mut fleet = fleet();
    apply(&mut fleet, [joined(1, 1), joined(2, 1)], now(0));
    for n in 1..=9 {
        apply(&mut fleet, [fail(n, 1), fail(n, 2)], now(1));
    }
    assert!(fleet.workers().all(|(_, worker)| worker.standing.is_clean() && !worker.is_resting()));
    let mut alone = self::fleet();
    alone.apply(joined(1, 1), now(0));
    for n in 1..=9 {
        assert!(matches!(&alone.apply(fail(n, 1), now(1))[..], [Effect::Note { .. }]));
    }
    assert!(alone.worker(worker_id(1)).expect("known").is_resting());
}

#[test]
fn a_straggler_near_its_deadline_gets_a_second_worker_when_one_is_idle() {
    let settings = FleetSettings { hedge_before: Some(Duration::from_mins(1)), ..FleetSettings::default() };
    let mut fleet = Fleet::new(settings);
    fleet.apply(joined(1, 2), now(0));
    let request = QueuedRequest { deadline: now(100).time, ..queued(1, ProofMode::Core, 0) };
    apply(&mut fleet, [Event::Queued(request), claimed(1, 1, 1), accepted(1, 1)], now(0));
    assert_eq!(fleet.apply(joined(2, 1), now(1)), []);
    for worker in 1..=2 {
        fleet.apply(Event::Heard { worker: worker_id(worker), session: SessionId(worker.into()) }, now(39));
    }
    assert_eq!(fleet.apply(Event::Tick, now(39)), [], "not near enough");
    let hedge = Effect::Claim { request: request_id(1), worker: worker_id(2), prover: 0, is_hedge: true };
    assert_eq!(fleet.apply(Event::Tick, now(40)), [hedge]);
    assert_eq!(fleet.apply(Event::Tick, now(41)), [], "one second attempt, not three");
    let second = Event::Claimed { request: request_id(1), worker: worker_id(2), prover: 0, attempt: attempt(2) };
    apply(&mut fleet, [second, accepted(2, 2)], now(41));
    assert_eq!(fleet.apply(Event::Tick, now(42)), []);
    assert!(fleet.lease(attempt(1)).is_some() && fleet.lease(attempt(2)).is_some());
    // What waits goes before hedges.
    fleet.apply(Event::Released { attempt: attempt(2) }, now(43));
    assert_eq!(fleet.apply(Event::Queued(queued(2, ProofMode::Core, 900)), now(43)), [claim(2, 1, 1)]);
}

#[test]
fn when_the_wall_clock_jumps_nothing_expires_for_a_grace_period_and_no_worker_is_judged_by_it() {
    let mut fleet = fleet();
    fleet.apply(joined(1, 1), now(0));
    for n in 1..=2 {
        let request = QueuedRequest { deadline: now(1000).time, ..queued(n, ProofMode::Core, 0) };
        fleet.apply(Event::Queued(request), now(0));
    }
    apply(&mut fleet, [claimed(1, 1, 1), accepted(1, 1), Event::Tick], now(0));
    let jumped = |secs: u64| Now { time: Timestamp::from_secs(1_000_000 + secs + 7200), ..now(secs) };
    let heard = Event::Heard { worker: worker_id(1), session: SessionId(1) };
    let effects: Vec<_> = (1..=121)
        .flat_map(|secs| {
            fleet.apply(heard.clone(), jumped(secs));
            fleet.apply(Event::Tick, jumped(secs)).into_iter().map(move |effect| (secs, effect)).collect::<Vec<_>>()
        })
        .collect();
    let held = Duration::from_mins(2);
    let expire = |n| (121, Effect::Expire { request: request_id(n) });
    assert_eq!(effects, [(1, Effect::ClockJumped { by_secs: 7200, held }), expire(1), expire(2)]);
}

#[derive(Debug, Clone)]
enum Step {
    Queue(u8, bool, Option<u8>),
    Join(u8),
    Leave(u8),
    Settle(u8),
    Fail(u8, FaultClass),
    Succeed(u8),
    Prove(u8),
    Pass(u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => ((0..20_u8), any::<bool>(), prop::option::weighted(0.3, 0..4_u8))
            .prop_map(|(n, core, doubter)| Step::Queue(n, core, doubter)),
        2 => (0..4_u8).prop_map(Step::Join),
        1 => (0..4_u8).prop_map(Step::Leave),
        3 => any::<u8>().prop_map(Step::Settle),
        2 => (any::<u8>(), prop_oneof![Just(FaultClass::Worker), Just(FaultClass::Resources)])
            .prop_map(|(n, class)| Step::Fail(n, class)),
        1 => (0..4_u8).prop_map(Step::Succeed),
        1 => any::<u8>().prop_map(Step::Prove),
        1 => (1..90_u8).prop_map(Step::Pass),
    ]
}

proptest! {
    /// Over any sequence of happenings: a prover never works on two things, a request is never claimed twice at once,
    /// and no request waits while a capable prover idles.
    #[test]
    fn capacity_is_conserved_and_nothing_waits_beside_an_idle_prover(steps in prop::collection::vec(step(), 1..80)) {
        let mut fleet = fleet();
        let mut secs = 0;
        let mut running: Vec<(AttemptId, RequestId)> = Vec::new();
        let mut next_attempt = 0_u8;
        let mut hinted = HashMap::new();
        for step in steps {
            let mut pending = std::collections::VecDeque::new();
            let event = match step {
                Step::Queue(n, core, doubter) => {
                    if running.iter().any(|(_, request)| *request == request_id(n)) { continue }
                    let mode = if core { ProofMode::Core } else { ProofMode::Groth16 };
                    let request = doubter.map_or_else(|| queued(n, mode, 1000), |worker| doubted(n, worker));
                    Event::Queued(QueuedRequest { requirement: requirement(mode), ..request })
                }
                Step::Join(n) => {
                    let leases = fleet.worker(worker_id(n)).map(|worker| {
                        let held = |(attempt, lease): (&AttemptId, &Lease)| {
                            let Lease { work, prover, is_proving, .. } = lease.clone();
                            HeldLease { attempt: *attempt, work, prover, is_proving }
                        };
                        worker.leases.iter().map(held).collect()
                    });
                    join(secs, profile(n, 2, &[ProofMode::Core]), leases.unwrap_or_default())
                }
                Step::Leave(n) => {
                    let Some(session) = fleet.worker(worker_id(n)).and_then(|worker| worker.session) else { continue };
                    Event::Left { worker: worker_id(n), session }
                }
                Step::Settle(n) => {
                    if running.is_empty() { continue }
                    let (attempt, request) = running.swap_remove(usize::from(n) % running.len());
                    fleet.apply(Event::Settled { request }, now(secs));
                    Event::Released { attempt }
                }
                Step::Fail(n, class) => {
                    if running.is_empty() { continue }
                    let (attempt, request) = running.swap_remove(usize::from(n) % running.len());
                    let Some(worker) = fleet.holders.get(&attempt).copied() else { continue };
                    pending.extend(fleet.apply(Event::Released { attempt }, now(secs)));
                    Event::Failed { worker, request, class }
                }
                Step::Succeed(n) => Event::Succeeded { worker: worker_id(n) },
                Step::Prove(n) => {
                    if running.is_empty() { continue }
                    let (attempt, _) = running[usize::from(n) % running.len()];
                    let Some(worker) = fleet.holders.get(&attempt).copied() else { continue };
                    Event::Proved { attempt, worker }
                }
                Step::Pass(n) => { secs += u64::from(n); Event::Tick }
            };
            secs += 1;
            pending.extend(fleet.apply(event, now(secs)));
            while let Some(effect) = pending.pop_front() {
                match effect {
                    Effect::Claim { request, worker, prover, .. } => {
                        prop_assert!(running.iter().all(|(_, other)| *other != request), "claimed twice");
                        let claimed = fleet.worker(worker).and_then(|worker| worker.claims.get(&prover));
                        let by_doubter = claimed.is_some_and(|work| work.doubted_by.contains(&worker));
                        let is_other_here = fleet.workers().any(|(id, other)| {
                            *id != worker && other.is_available() && claimed.is_some_and(|work| other.is_capable(&work.requirement))
                        });
                        prop_assert!(!by_doubter || !is_other_here, "a worker is to confirm itself beside another");
                        next_attempt = next_attempt.wrapping_add(1);
                        let attempt = attempt(next_attempt);
                        running.push((attempt, request));
                        pending.extend(fleet.apply(Event::Claimed { request, worker, prover, attempt }, now(secs)));
                        fleet.apply(Event::Accepted { attempt, worker }, now(secs));
                    }
                    Effect::Lose { attempt, .. } => running.retain(|(id, _)| *id != attempt),
                    Effect::Hint { worker, prover, request } => _ = hinted.insert((worker, prover), request),
                    Effect::Evict { worker, .. } => {
                        prop_assert!(!fleet.worker(worker).expect("known").standing.is_clean(), "a healthy worker was evicted");
                        prop_assert!(fleet.workers().any(|(_, other)| other.is_available()), "the only worker was evicted");
                    }
                    Effect::Close { .. } | Effect::Expire { .. } | Effect::Note { .. } | Effect::ClockJumped { .. } => {}
                    Effect::Remind { .. } => prop_assert!(false, "everything was acknowledged"),
                }
            }
            for (id, worker) in fleet.workers() {
                let mut busy: Vec<usize> =
                    worker.leases.values().filter(|lease| lease.is_proving).map(|lease| lease.prover).collect();
                let count = busy.len();
                busy.sort_unstable();
                busy.dedup();
                prop_assert_eq!(busy.len(), count, "a prover of {} works on two things", id);
            }
            prop_assert!(matching::next(&fleet).is_none(), "something waits beside an idle prover");
            let hints: Vec<_> = fleet
                .workers()
                .flat_map(|(id, worker)| worker.hints.iter().map(|(prover, request)| (*id, *prover, *request)))
                .collect();
            for (id, prover, request) in &hints {
                let worker = fleet.worker(*id).expect("known");
                prop_assert!(!worker.is_idle(*prover) && worker.is_available(), "a hint for a prover that is not busy");
                prop_assert!(fleet.queue.get(*request).is_some(), "a hint of a request that does not wait");
                prop_assert_eq!(hinted.get(&(*id, *prover)), Some(&Some(*request)), "a hint that was not told");
            }
            let distinct: BTreeSet<_> = hints.iter().map(|(_, _, request)| request).collect();
            prop_assert_eq!(distinct.len(), hints.len(), "two hints of one request");
        }
    }
}
