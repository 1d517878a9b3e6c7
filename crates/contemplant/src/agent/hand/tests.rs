use network_lib::{ProofMode, RequestId, Vm, protocol::Source};
use proptest::prelude::*;
use proving::Phase as ProvingPhase;

use super::*;

fn profile(modes: &[ProofMode]) -> ProverProfile {
    ProverProfile {
        vm: Vm::Sp1,
        backend: Backend::Cpu,
        device: "test".to_owned(),
        circuit_version: CircuitVersion::new("sp1-v6.1.0"),
        modes: modes.to_vec(),
        memory_bytes: 1,
    }
}

fn id(attempt: u8) -> AttemptId {
    AttemptId::new([attempt; 16])
}

fn assignment(attempt: u8, prover: usize) -> Assignment {
    let source = Source { url: "/artifacts/x".to_owned(), digest: Digest::new([6; 32]), size: 7 };
    Assignment {
        attempt: id(attempt),
        request: RequestId::new([attempt; 32]),
        prover,
        mode: ProofMode::Core,
        circuit_version: CircuitVersion::new("sp1-v6.1.0"),
        vk_hash: Digest::new([8; 32]),
        program: source.clone(),
        stdin: source,
        cycle_limit: 1,
        gas_limit: 1,
    }
}

fn assigned(attempt: u8) -> Event {
    Event::Assigned(Box::new(assignment(attempt, 0)))
}

fn ready() -> Event {
    Event::Prover { prover: 0, report: ProverReport::Ready(profile(&[ProofMode::Core])) }
}

fn unavailable(cause: &str) -> Event {
    Event::Prover { prover: 0, report: ProverReport::Unavailable { cause: cause.to_owned() } }
}

/// What is said of a prover that is not ready.
fn starting() -> ProverProfile {
    ProverProfile { device: "test (starting)".to_owned(), ..profile(&[]) }
}

fn fetched(attempt: u8) -> Event {
    Event::Fetched { attempt: id(attempt), outcome: Ok(()) }
}

fn proved(attempt: u8) -> Event {
    let report = ProverReport::Proved { attempt: id(attempt), digest: Digest::new([5; 32]), size: 9 };
    Event::Prover { prover: 0, report }
}

fn dismissed(attempt: u8) -> Event {
    Event::Dismissed { attempt: id(attempt), reason: "test".to_owned() }
}

fn hand() -> Hand {
    let mut hand = Hand::new(Vec::new(), vec![profile(&[])]);
    hand.open_session();
    hand
}

/// What a hand does and says, in short.
fn names(effects: &[Effect]) -> Vec<&'static str> {
    let name = |effect: &Effect| match effect {
        Effect::Write(record) => match record.stage {
            Stage::Received => "write received",
            Stage::Proving => "write proving",
            Stage::Proved { .. } => "write proved",
            Stage::Failed(_) => "write failed",
        },
        Effect::Forget(_) => "forget",
        Effect::Fetch(_) => "fetch",
        Effect::StopTransfer(_) => "stop transfer",
        Effect::Prove { .. } => "prove",
        Effect::StopProof { .. } => "stop proof",
        Effect::Upload { .. } => "upload",
    };
    effects.iter().map(name).collect()
}

fn said(hand: &mut Hand, now: Instant) -> Vec<Report> {
    std::iter::from_fn(|| hand.take_report(now)).collect()
}

#[test]
fn an_attempt_is_in_the_journal_before_it_is_accepted_and_proved() {
    let mut hand = hand();
    let now = Instant::now();
    hand.apply(ready());
    assert_eq!(names(&hand.apply(assigned(1))), ["write received", "fetch"]);
    assert_eq!(names(&hand.apply(fetched(1))), ["write proving", "prove"]);
    assert_eq!(names(&hand.apply(proved(1))), ["write proved"]);
    let reports = said(&mut hand, now);
    assert_eq!(reports[0], Report::ProversChanged(vec![profile(&[ProofMode::Core])]));
    assert_eq!(
        reports[1..],
        [Report::Accepted(id(1)), Report::Proved { attempt: id(1), digest: Digest::new([5; 32]), size: 9 },]
    );
    let deliver = Event::DeliveryAsked { attempt: id(1), url: "/x".to_owned() };
    assert_eq!(names(&hand.apply(deliver)), ["upload"]);
    assert_eq!(names(&hand.apply(Event::Uploaded { attempt: id(1), is_done: true })), [""; 0]);
    assert_eq!(said(&mut hand, now), [Report::Delivered(id(1))]);
    assert_eq!(names(&hand.apply(dismissed(1))), ["forget"]);
    assert!(hand.is_empty());
}

#[test]
fn an_attempt_that_comes_again_is_answered_and_not_begun_again() {
    let mut hand = hand();
    let now = Instant::now();
    hand.apply(ready());
    for event in [assigned(1), fetched(1)] {
        hand.apply(event);
    }
    said(&mut hand, now);
    assert_eq!(names(&hand.apply(assigned(1))), [""; 0]);
    assert_eq!(said(&mut hand, now), [Report::Accepted(id(1))]);
    hand.apply(proved(1));
    said(&mut hand, now);
    assert_eq!(names(&hand.apply(assigned(1))), [""; 0]);
    assert!(matches!(said(&mut hand, now)[..], [Report::Accepted(_), Report::Proved { .. }]));
}

#[test]
fn fresh_addresses_replace_those_that_are_being_fetched() {
    let mut hand = hand();
    hand.apply(assigned(1));
    let mut again = assignment(1, 0);
    again.stdin.url = "/artifacts/fresh".to_owned();
    assert_eq!(names(&hand.apply(Event::Assigned(Box::new(again)))), ["write received", "fetch"]);
}

#[test]
fn the_next_attempt_is_fetched_while_the_prover_works_and_begun_when_it_is_free() {
    let mut hand = hand();
    hand.apply(ready());
    for event in [assigned(1), fetched(1)] {
        hand.apply(event);
    }
    assert_eq!(names(&hand.apply(assigned(2))), ["write received", "fetch"]);
    assert_eq!(names(&hand.apply(fetched(2))), [""; 0]);
    assert_eq!(names(&hand.apply(proved(1))), ["write proved", "write proving", "prove"]);
}

#[test]
fn a_cancelled_prover_is_free_only_when_it_says_so() {
    let mut hand = hand();
    hand.apply(ready());
    for event in [assigned(1), fetched(1), assigned(2), fetched(2)] {
        hand.apply(event);
    }
    assert_eq!(names(&hand.apply(dismissed(1))), ["stop proof", "forget"]);
    assert_eq!(names(&hand.apply(proved(1))), [""; 0], "a report from before the cancelling");
    let stopped = Event::Stopped { prover: 0, attempt: id(1) };
    assert_eq!(names(&hand.apply(stopped)), ["write proving", "prove"]);
}

#[test]
fn an_order_that_met_a_dying_child_is_given_again_when_the_child_is_back() {
    let mut hand = hand();
    hand.apply(ready());
    hand.apply(assigned(1));
    hand.apply(fetched(1));
    let not_taken = |readiness| Event::NotTaken { prover: 0, attempt: id(1), readiness, fault: None };
    assert_eq!(names(&hand.apply(not_taken(1))), [""; 0]);
    hand.apply(unavailable("died"));
    assert_eq!(names(&hand.apply(ready())), ["write proving", "prove"]);
    // This time the news of the restart came first.
    hand.apply(ready());
    assert_eq!(names(&hand.apply(not_taken(2))), ["write proving", "prove"]);
}

#[test]
fn attempts_for_a_prover_that_does_not_come_up_fail_with_the_last_cause_until_it_is_ready() {
    let mut hand = hand();
    let told = |hand: &mut Hand| match said(hand, Instant::now()).pop() {
        Some(Report::Failed(attempt, fault)) => (attempt, fault),
        other => panic!("{other:?}"),
    };
    hand.apply(ready());
    hand.apply(assigned(1));
    // Its child ended, and the next one did while it started: it is waited for.
    for event in [unavailable("ended"), unavailable("was killed"), fetched(1)] {
        assert_eq!(names(&hand.apply(event)), [""; 0]);
    }
    assert_eq!(names(&hand.apply(unavailable("no device"))), ["write failed"]);
    assert_eq!(told(&mut hand), (id(1), Fault::worker("prover 0 does not come up: no device")));
    hand.apply(unavailable("no driver"));
    hand.apply(assigned(2));
    assert_eq!(names(&hand.apply(fetched(2))), ["write failed"]);
    assert_eq!(told(&mut hand), (id(2), Fault::worker("prover 0 does not come up: no driver")));
    hand.apply(ready());
    for event in [unavailable("ended"), unavailable("was killed")] {
        hand.apply(event);
    }
    hand.apply(assigned(3));
    assert_eq!(names(&hand.apply(fetched(3))), [""; 0]);
    assert_eq!(names(&hand.apply(ready())), ["write proving", "prove"]);
}

#[test]
fn a_broken_prover_fails_what_the_journal_holds_for_it() {
    let record = Record { assignment: assignment(1, 0), stage: Stage::Proving, execution: None };
    let mut hand = Hand::new(vec![record], vec![profile(&[])]);
    hand.open_session();
    for _ in 0..MAX_SETBACKS {
        assert_eq!(names(&hand.apply(unavailable("no device"))), [""; 0]);
    }
    assert_eq!(names(&hand.apply(Event::Welcomed)), ["fetch"]);
    assert_eq!(names(&hand.apply(fetched(1))), ["write failed"]);
}

#[test]
fn why_a_prover_does_not_come_up_is_told_in_one_bounded_line_and_not_again_until_it_was_ready() {
    let mut hand = hand();
    let mut told = Vec::new();
    let long = format!("no device:\n{}", "x".repeat(9999));
    for event in [unavailable("a"), unavailable("b"), unavailable(&long), unavailable("d"), ready(), unavailable("e")] {
        hand.apply(event);
        for report in said(&mut hand, Instant::now()) {
            let Report::ProversChanged(provers) = report else { panic!("{report:?}") };
            told.extend(provers.into_iter().map(|prover| prover.device));
        }
    }
    let why = format!("no device: {}", "x".repeat(MAX_WHY - "no device: ".len()));
    assert_eq!(told, [format!("test (not available: {why})"), "test".to_owned(), "test (starting)".to_owned()]);
}

#[test]
fn after_a_restart_work_is_taken_up_when_the_coordinator_has_welcomed_the_worker() {
    let record = |attempt, stage| Record { assignment: assignment(attempt, 0), stage, execution: None };
    let proved = Stage::Proved { digest: Digest::new([5; 32]), size: 9 };
    let failed = Stage::Failed(Fault::guest("panicked"));
    let records = vec![record(1, Stage::Received), record(2, Stage::Proving), record(3, proved), record(4, failed)];
    let mut hand = Hand::new(records, vec![profile(&[])]);
    let (_, in_hand) = hand.open_session();
    let stages: Vec<_> = in_hand.iter().map(|attempt| attempt.stage).collect();
    assert_eq!(
        stages,
        [protocol::Stage::Working, protocol::Stage::Working, protocol::Stage::Proved, protocol::Stage::Failed]
    );
    assert_eq!(names(&hand.apply(Event::Welcomed)), ["fetch", "fetch"]);
    assert_eq!(
        said(&mut hand, Instant::now()),
        [
            Report::Proved { attempt: id(3), digest: Digest::new([5; 32]), size: 9 },
            Report::Failed(id(4), Fault::guest("panicked")),
        ]
    );
    assert_eq!(names(&hand.apply(dismissed(1))), ["stop transfer", "forget"]);
    assert_eq!(hand.attempts.keys().copied().collect::<Vec<_>>(), [id(2), id(3), id(4)]);
}

#[test]
fn what_the_coordinator_may_have_missed_is_said_again_in_the_next_session() {
    let mut hand = hand();
    let now = Instant::now();
    hand.apply(ready());
    hand.apply(assigned(1));
    hand.apply(fetched(1));
    let execution = proving::Execution { cycles: 10, gas: None, public_values_hash: [4; 32] };
    hand.apply(Event::Prover { prover: 0, report: ProverReport::Executed { attempt: id(1), execution } });
    hand.apply(proved(1));
    said(&mut hand, now);
    hand.open_session();
    hand.apply(Event::Welcomed);
    assert!(matches!(said(&mut hand, now)[..], [Report::Executed(..), Report::Proved { .. }]));
}

#[test]
fn a_failure_is_told_once_a_session_and_forgotten_when_the_coordinator_says_that_it_knows() {
    let mut hand = hand();
    let now = Instant::now();
    hand.apply(assigned(1));
    let fault = Fault::worker("no");
    let effects = hand.apply(Event::Fetched { attempt: id(1), outcome: Err(fault.clone()) });
    assert_eq!(names(&effects), ["stop transfer", "write failed"]);
    for _ in 0..2 {
        assert_eq!(said(&mut hand, now), [Report::Failed(id(1), fault.clone())]);
        hand.open_session();
        hand.apply(Event::Welcomed);
    }
    assert_eq!(names(&hand.apply(dismissed(1))), ["forget"]);
    assert!(hand.is_empty());
}

#[test]
fn an_attempt_for_which_nobody_is_to_blame_is_declined_once_a_session_until_the_coordinator_says_that_it_knows() {
    let mut hand = hand();
    let now = Instant::now();
    hand.apply(assigned(1));
    let effects = hand.apply(Event::Fetched { attempt: id(1), outcome: Err(Fault::lost("refused")) });
    assert_eq!(names(&effects), ["stop transfer", "write failed"]);
    for _ in 0..2 {
        assert_eq!(said(&mut hand, now), [Report::Declined(id(1), "refused".to_owned())]);
        hand.open_session();
        hand.apply(Event::Welcomed);
    }
    assert_eq!(names(&hand.apply(dismissed(1))), ["forget"]);
    assert!(hand.is_empty());
}

#[test]
fn progress_is_told_twice_a_second_at_most_and_only_the_latest() {
    let mut hand = hand();
    let now = Instant::now();
    hand.apply(ready());
    hand.apply(assigned(1));
    hand.apply(fetched(1));
    said(&mut hand, now);
    let progress = |done| {
        let progress = proving::Progress::counted(ProvingPhase::Proving, done, 9);
        Event::Prover { prover: 0, report: ProverReport::Progress { attempt: id(1), progress } }
    };
    let told =
        |done| Report::Progress(id(1), Progress { phase: "proving".to_owned(), done, total: 9, is_estimate: false });
    hand.apply(progress(1));
    assert_eq!(said(&mut hand, now), [told(1)]);
    hand.apply(progress(2));
    hand.apply(progress(3));
    assert_eq!(said(&mut hand, now), []);
    assert_eq!(hand.next_report_at(now), Some(now + PROGRESS_INTERVAL));
    assert_eq!(said(&mut hand, now + PROGRESS_INTERVAL), [told(3)]);
    assert_eq!(hand.next_report_at(now + PROGRESS_INTERVAL), None);
}

#[test]
fn what_cannot_be_taken_in_is_declined_with_the_reason() {
    let now = Instant::now();
    let reason = |hand: &mut Hand, assignment| {
        assert_eq!(hand.apply(Event::Assigned(Box::new(assignment))), []);
        let reports = said(hand, now);
        let failed = reports.iter().find_map(|report| match report {
            Report::Declined(_, cause) => Some(cause.clone()),
            _ => None,
        });
        failed.expect("declined")
    };
    let mut hand = hand();
    assert_eq!(reason(&mut hand, assignment(9, 3)), "the worker has 1 provers and none with index 3");
    for attempt in 1..=u8::try_from(MAX_WAITING).expect("small") {
        hand.apply(assigned(attempt));
    }
    assert_eq!(reason(&mut hand, assignment(9, 0)), "4 attempts wait for prover 0 already");
    hand.apply(Event::Drain);
    assert_eq!(reason(&mut hand, assignment(9, 0)), "the worker is stopping and takes no more attempts");
}

#[test]
fn a_prover_is_not_given_what_it_cannot_make() {
    let mut hand = hand();
    hand.apply(ready());
    hand.apply(Event::Assigned(Box::new(Assignment { mode: ProofMode::Plonk, ..assignment(1, 0) })));
    assert_eq!(names(&hand.apply(fetched(1))), ["write failed"]);
    assert!(matches!(
        said(&mut hand, Instant::now()).pop(),
        Some(Report::Failed(_, fault)) if fault.to_string() == "worker fault: the prover makes no plonk proofs"
    ));
}

#[test]
fn an_address_that_is_of_no_use_makes_the_proof_be_offered_again() {
    let mut hand = hand();
    hand.apply(ready());
    for event in [assigned(1), fetched(1), proved(1)] {
        hand.apply(event);
    }
    said(&mut hand, Instant::now());
    let deliver = |url: &str| Event::DeliveryAsked { attempt: id(1), url: url.to_owned() };
    assert_eq!(names(&hand.apply(deliver("/old"))), ["upload"]);
    assert_eq!(names(&hand.apply(deliver("/old"))), [""; 0]);
    assert_eq!(names(&hand.apply(deliver("/new"))), ["upload"]);
    hand.apply(Event::Uploaded { attempt: id(1), is_done: false });
    assert!(matches!(said(&mut hand, Instant::now())[..], [Report::Proved { .. }]));
}

#[test]
fn while_the_disk_is_full_no_prover_is_offered_and_what_is_in_hand_goes_on() {
    let now = Instant::now();
    let mut hand = hand();
    hand.apply(ready());
    hand.apply(assigned(1));
    said(&mut hand, now);
    assert!(hand.apply(Event::Room(false)).is_empty());
    assert_eq!(said(&mut hand, now), [Report::ProversChanged(vec![starting()])]);
    assert_eq!(names(&hand.apply(fetched(1))), ["write proving", "prove"]);
    assert!(hand.apply(assigned(2)).is_empty());
    assert!(matches!(said(&mut hand, now)[..], [Report::Declined(declined, _)] if declined == id(2)));
    assert_eq!(hand.open_session().0, [starting()]);
    assert!(hand.apply(Event::Room(true)).is_empty());
    assert_eq!(said(&mut hand, now), [Report::ProversChanged(vec![profile(&[ProofMode::Core])])]);
}

#[test]
fn a_proof_that_is_damaged_before_it_is_delivered_fails_its_attempt() {
    let mut hand = hand();
    hand.apply(ready());
    for event in [assigned(1), fetched(1), proved(1)] {
        hand.apply(event);
    }
    said(&mut hand, Instant::now());
    hand.apply(Event::DeliveryAsked { attempt: id(1), url: "/there".to_owned() });
    assert_eq!(names(&hand.apply(Event::Damaged { attempt: id(1) })), ["write failed"]);
    let told = said(&mut hand, Instant::now()).pop();
    let cause = "worker fault: the proof was damaged on the worker's disk before it was delivered";
    assert!(matches!(&told, Some(Report::Failed(_, fault)) if fault.to_string() == cause), "{told:?}");
    assert_eq!(names(&hand.apply(Event::Damaged { attempt: id(1) })), [""; 0]);
}

#[test]
fn draining_is_said_in_every_session() {
    let mut hand = hand();
    hand.apply(Event::Drain);
    assert_eq!(said(&mut hand, Instant::now()), [Report::Draining]);
    hand.open_session();
    hand.apply(Event::Welcomed);
    assert_eq!(said(&mut hand, Instant::now()), [Report::Draining]);
}

fn events() -> impl Strategy<Value = Event> {
    let attempt = 0_u8..5;
    prop_oneof![
        1 => Just(()).prop_map(|()| Event::Welcomed),
        1 => any::<bool>().prop_map(Event::Room),
        4 => (attempt.clone(), 0_usize..3).prop_map(|(a, prover)| Event::Assigned(Box::new(assignment(a, prover)))),
        2 => attempt.clone().prop_map(dismissed),
        1 => attempt.clone().prop_map(|a| Event::DeliveryAsked { attempt: id(a), url: "/x".to_owned() }),
        4 => attempt.clone().prop_map(fetched),
        1 => attempt.clone().prop_map(|a| Event::Fetched { attempt: id(a), outcome: Err(Fault::worker("no")) }),
        1 => (attempt.clone(), any::<bool>()).prop_map(|(a, is_done)| Event::Uploaded { attempt: id(a), is_done }),
        1 => attempt.clone().prop_map(|a| Event::Damaged { attempt: id(a) }),
        3 => (0_usize..2).prop_map(|prover| {
            Event::Prover { prover, report: ProverReport::Ready(profile(&[ProofMode::Core])) }
        }),
        2 => (0_usize..2).prop_map(|prover| {
            Event::Prover { prover, report: ProverReport::Unavailable { cause: "died".to_owned() } }
        }),
        // What a prover says of an attempt, whether or not it has it.
        4 => (0_usize..2, attempt.clone()).prop_map(|(prover, a)| Event::Prover {
            prover,
            report: ProverReport::Proved { attempt: id(a), digest: Digest::new([5; 32]), size: 9 },
        }),
        2 => (0_usize..2, attempt).prop_map(|(prover, a)| Event::Prover {
            prover,
            report: ProverReport::Failed { attempt: id(a), fault: Fault::guest("panicked") },
        }),
    ]
}

proptest! {
    #[test]
    fn a_prover_has_one_order_at_a_time_and_what_is_said_is_in_the_journal(
        events in prop::collection::vec((events(), any::<bool>(), prop::bool::weighted(0.9)), 0..60),
    ) {
        let mut hand = Hand::new(Vec::new(), vec![profile(&[]), profile(&[])]);
        hand.open_session();
        let now = Instant::now();
        let mut at_work: [Option<AttemptId>; 2] = [None, None];
        let mut journal: BTreeMap<AttemptId, Stage> = BTreeMap::new();
        for (event, is_heard, can_write) in events {
            // A prover speaks only of the order that it has, and after that has none.
            if let Event::Prover {
                prover,
                report: ProverReport::Proved { attempt, .. } | ProverReport::Failed { attempt, .. },
            } = &event
            {
                if at_work[*prover] != Some(*attempt) {
                    continue;
                }
                at_work[*prover] = None;
            }
            // A child that dies fails its attempt first.
            if let Event::Prover { prover, report: ProverReport::Ready(_) | ProverReport::Unavailable { .. } } = &event
                && at_work[*prover].is_some()
            {
                continue;
            }
            let mut effects: VecDeque<Effect> = hand.apply(event).into();
            while let Some(effect) = effects.pop_front() {
                match effect {
                    Effect::Write(record) if !can_write && record.stage == Stage::Received => {
                        let attempt = record.attempt();
                        effects.retain(|effect| effect.attempt() != attempt);
                        effects.extend(hand.apply(Event::Unwritten { attempt, cause: "full".to_owned() }));
                    }
                    Effect::Write(record) => drop(journal.insert(record.attempt(), record.stage)),
                    Effect::Forget(attempt) => drop(journal.remove(&attempt)),
                    Effect::Prove { assignment, .. } => {
                        prop_assert_eq!(at_work[assignment.prover].replace(assignment.attempt), None);
                        prop_assert_eq!(journal.get(&assignment.attempt), Some(&Stage::Proving));
                    }
                    Effect::StopProof { prover, attempt } => {
                        prop_assert_eq!(at_work[prover].take(), Some(attempt));
                        effects.extend(hand.apply(Event::Stopped { prover, attempt }));
                    }
                    Effect::Fetch(assignment) => prop_assert!(journal.contains_key(&assignment.attempt)),
                    Effect::Upload { attempt, .. } => {
                        let is_written = matches!(journal.get(&attempt), Some(Stage::Proved { .. }));
                        prop_assert!(is_written);
                    }
                    Effect::StopTransfer(_) => {}
                }
            }
            while let Some(report) = is_heard.then(|| hand.take_report(now)).flatten() {
                match report {
                    Report::Proved { attempt, .. } => {
                        let is_written = matches!(journal.get(&attempt), Some(Stage::Proved { .. }));
                        prop_assert!(is_written);
                    }
                    Report::Accepted(attempt) => prop_assert!(journal.contains_key(&attempt)),
                    _ => {}
                }
            }
        }
        // No work that could be done is left lying.
        for (prover, slot) in hand.slots.iter().enumerate() {
            prop_assert_eq!(slot.occupant, at_work[prover]);
            prop_assert!(slot.ready.is_none() || slot.occupant.is_some() || slot.waiting.is_empty());
            prop_assert!(slot.given_up.is_none() || (slot.ready.is_none() && slot.waiting.is_empty()));
        }
        prop_assert!(hand.is_empty() || journal.keys().eq(hand.attempts.keys()));
    }
}
