//! How far a proof has come, in our words.

use network_lib::ProofMode;
use proving::{Phase, Progress};
use proving_sp1_engine::drive::Counts;

/// Shrinking the joined proof, and turning it into a SNARK.
const WRAPS: u64 = 2;

/// Most proofs that are joined into one in one step.
const MAX_JOINED: u64 = 4;

/// How far a proof has come whose tasks are `counts`. The number of shards is not told before it is final.
pub fn progress(counts: &Counts, mode: ProofMode) -> Progress {
    let Counts { shards, has_all_shards, reductions, wraps } = *counts;
    if wraps.submitted > 0 {
        Progress { phase: Phase::Wrapping, done: wraps.done, total: WRAPS }
    } else if mode != ProofMode::Core && has_all_shards && shards.done == shards.submitted {
        // As few steps as there can be; neighbours that are ready are joined at once, which may make more.
        let least = shards.submitted.saturating_sub(1).div_ceil(MAX_JOINED - 1).max(1);
        Progress { phase: Phase::Compressing, done: reductions.done, total: least.max(reductions.submitted) }
    } else {
        Progress { phase: Phase::Proving, done: shards.done, total: if has_all_shards { shards.submitted } else { 0 } }
    }
}
