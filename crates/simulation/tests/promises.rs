//! A thousand seeds over every mix of faults; and that a run can be repeated, saved, and broken on purpose.

use std::path::PathBuf;

use simulation::{
    Figures, Mix, Options, Outcome, Sabotage,
    replay::{Replay, shrink},
    run,
};

/// Runs so many seeds. The first run that breaks a promise is saved, with as few faults as it takes.
fn keep_promises(mix: Mix, seeds: u64) -> Figures {
    let mut figures = Figures::default();
    for seed in 0..seeds {
        let outcome = run(&Options::new(seed, mix));
        figures.add(&outcome.figures);
        if outcome.violation.is_some() {
            let replay = Replay::of(&shrink(outcome)).expect("a promise was broken");
            let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{mix}-{seed}.json"));
            replay.save(&path).expect("the directory is there");
            let last = replay.log[replay.log.len().saturating_sub(20)..].join("\n");
            panic!("seed {seed} of mix {mix}: {}\n{last}\nsaved as {}", replay.violation, path.display());
        }
    }
    assert!(figures.fulfilled > seeds, "the runs do something: {figures:?}");
    figures
}

#[test]
fn nothing_breaks_a_calm_network() {
    let figures = keep_promises(Mix::Calm, 50);
    assert_eq!((figures.restarts, figures.worker_crashes, figures.faults), (0, 0, 0));
}

#[test]
fn restarts_of_the_coordinator_cost_no_proving_time() {
    assert!(keep_promises(Mix::Restarts, 150).restarts > 150);
}

#[test]
fn a_bad_network_costs_no_proving_time() {
    assert!(keep_promises(Mix::Network, 150).faults > 150);
}

#[test]
fn workers_and_provers_may_break() {
    assert!(keep_promises(Mix::Workers, 150).worker_crashes > 150);
}

#[test]
fn clocks_may_jump_and_the_coordinator_may_stand_still() {
    assert!(keep_promises(Mix::Clocks, 150).faults > 150);
}

#[test]
fn store_verifier_and_transfers_may_fail() {
    assert!(keep_promises(Mix::Services, 150).faults > 150);
}

#[test]
fn requests_may_have_two_attempts_whose_workers_break() {
    assert!(keep_promises(Mix::Hedging, 150).worker_crashes > 150);
}

#[test]
fn one_worker_that_calls_good_programs_bad_ruins_no_request() {
    assert!(keep_promises(Mix::Lies, 150).lies > 150);
}

#[test]
fn everything_may_fail_at_once_and_for_long() {
    let figures = keep_promises(Mix::Everything, 200);
    assert!(figures.restarts > 0 && figures.worker_crashes > 0, "{figures:?}");
}

#[test]
fn the_same_seed_gives_the_same_run_event_by_event() {
    for mix in Mix::ALL {
        let options = Options::new(7, mix);
        let (first, second) = (run(&options), run(&options));
        assert_eq!(first.log(), second.log(), "mix {mix}");
        assert_ne!(first.log(), run(&Options::new(8, mix)).log(), "mix {mix}");
    }
}

/// The first run of this mix in which the defect is found.
fn found(sabotage: Sabotage, mix: Mix) -> Outcome {
    let runs = (0..100).map(|seed| run(&Options { sabotage: Some(sabotage), ..Options::new(seed, mix) }));
    runs.into_iter().find(|outcome| outcome.violation.is_some()).expect("the defect is found")
}

#[test]
fn each_defect_is_found_by_the_promise_that_it_breaks() {
    let table = [
        (Sabotage::UnwrittenRequests, Mix::Calm, "P1"),
        (Sabotage::LostProofs, Mix::Restarts, "P2"),
        (Sabotage::AcceptEverything, Mix::Workers, "P4"),
        (Sabotage::FreshFingerprints, Mix::Network, "P5"),
        (Sabotage::NoGrace, Mix::Network, "P8"),
        (Sabotage::NoThanks, Mix::Calm, "capacity"),
        (Sabotage::Credulous, Mix::Lies, "P9"),
    ];
    for (sabotage, mix, promise) in table {
        let outcome = found(sabotage, mix);
        let violation = outcome.violation.unwrap();
        assert_eq!(violation.promise, promise, "{sabotage:?}: {violation}");
    }
}

#[test]
fn a_broken_promise_can_be_saved_shrunk_and_run_again() {
    let outcome = shrink(found(Sabotage::AcceptEverything, Mix::Everything));
    let kinds = outcome.options.kinds();
    assert!(kinds.len() < Mix::Everything.kinds().len(), "{kinds:?}");
    let replay = Replay::of(&outcome).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("replay.json");
    replay.save(&path).unwrap();
    let loaded = Replay::load(&path).unwrap();
    assert_eq!(loaded, replay);
    let (again, is_same) = loaded.run();
    assert!(is_same, "{:?}", again.violation);
    let other = Replay { options: Options::new(1, Mix::Calm), ..loaded };
    assert!(!other.run().1);
}
