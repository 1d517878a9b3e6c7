//! What follows from the machine's memory, and how progress is told.

use std::time::Duration;

use network_lib::ProofMode;
use proving::{Phase, Progress};
use proving_sp1::{execute::time_limit, progress::progress, sizing::for_memory};
use proving_sp1_engine::drive::{Count, Counts};

const GIB: u64 = 1 << 30;

#[test]
fn more_memory_is_never_used_for_less() {
    let sizings: Vec<_> = [0, 16, 24, 32, 64, 128, 256, 1024].map(|gib| for_memory(gib * GIB)).to_vec();
    for pair in sizings.windows(2) {
        assert!(pair[0].provers <= pair[1].provers && pair[0].stages <= pair[1].stages);
        assert!(pair[0].shard_elements <= pair[1].shard_elements && pair[0].records <= pair[1].records);
        assert!(pair[0].chunk_accesses <= pair[1].chunk_accesses && pair[0].executor_bytes <= pair[1].executor_bytes);
    }
    assert!(sizings.iter().all(|sizing| sizing.stages >= sizing.provers && sizing.provers > 0));
}

#[test]
fn one_thing_at_a_time_in_24_gib() {
    let sizing = for_memory(24 * GIB - GIB / 2);
    assert_eq!((sizing.provers, sizing.stages), (1, 1));
    assert_eq!(sizing.shard_elements, 1 << 27);
    assert!(sizing.executor_bytes < 8 * GIB);
    assert_eq!(for_memory(256 * GIB).provers, 4);
}

#[test]
fn the_number_of_shards_is_an_estimate_until_it_is_final() {
    let mut counts = Counts { shards: Count { submitted: 5, done: 2 }, ..Counts::default() };
    let at = |counts: &Counts, mode| {
        let Progress { phase, done, total, .. } = progress(counts, 1_000_000, mode);
        (phase, done, total)
    };
    assert_eq!(at(&counts, ProofMode::Compressed), (Phase::Proving, 2, 0), "nothing is known");
    counts.instructions = 250_000;
    assert_eq!(at(&counts, ProofMode::Compressed), (Phase::Proving, 2, 20), "a quarter is cut");
    assert!(progress(&counts, 1_000_000, ProofMode::Compressed).is_estimate);
    counts.instructions = 1_100_000;
    assert_eq!(at(&counts, ProofMode::Compressed), (Phase::Proving, 2, 5), "never fewer than there are");
    counts.has_all_shards = true;
    assert_eq!(at(&counts, ProofMode::Compressed), (Phase::Proving, 2, 5));
    assert!(!progress(&counts, 1_000_000, ProofMode::Compressed).is_estimate);
    counts.shards.done = 5;
    assert_eq!(at(&counts, ProofMode::Core), (Phase::Proving, 5, 5));
    counts.reductions = Count { submitted: 1, done: 1 };
    assert_eq!(at(&counts, ProofMode::Compressed), (Phase::Compressing, 1, 2));
    counts.reductions = Count { submitted: 3, done: 3 };
    counts.wraps = Count { submitted: 1, done: 0 };
    assert_eq!(at(&counts, ProofMode::Groth16), (Phase::Wrapping, 0, 2));
}

#[test]
fn an_execution_has_time_for_its_cycles_and_no_more_than_half_an_hour() {
    assert_eq!(time_limit(1_000_000), Duration::from_secs(121));
    assert_eq!(time_limit(0), Duration::from_mins(30));
    assert_eq!(time_limit(u64::MAX), Duration::from_mins(30));
    assert_eq!(time_limit(u64::MAX - 1), Duration::from_mins(30));
}
