//! How far a proof has come, in our words.

use network_lib::ProofMode;
use proving::{Phase, Progress};
use proving_sp1_engine::drive::Counts;

/// Shrinking the joined proof, and turning it into a SNARK.
const WRAPS: u64 = 2;

/// Most proofs that are joined into one in one step.
const MAX_JOINED: u64 = 4;

/// How far a proof has come whose tasks are `counts`, of a program that executes `cycles` instructions.
///
/// A long program is cut into shards while the first of them are proved: until it is cut to its end, the number of
/// shards is estimated from how much of the program those make up that there are.
pub fn progress(counts: &Counts, cycles: u64, mode: ProofMode) -> Progress {
    let Counts { shards, has_all_shards, instructions, reductions, wraps } = *counts;
    if wraps.submitted > 0 {
        Progress::counted(Phase::Wrapping, wraps.done, WRAPS)
    } else if mode != ProofMode::Core && has_all_shards && shards.done == shards.submitted {
        // As few steps as there can be; neighbours that are ready are joined at once, which may make more.
        let least = shards.submitted.saturating_sub(1).div_ceil(MAX_JOINED - 1).max(1);
        let total = least.max(reductions.submitted);
        Progress::estimated(Phase::Compressing, reductions.done, total)
    } else if has_all_shards {
        Progress::counted(Phase::Proving, shards.done, shards.submitted)
    } else {
        let total = u128::from(shards.submitted) * u128::from(cycles) / u128::from(instructions.max(1));
        let total = if instructions == 0 { 0 } else { u64::try_from(total).unwrap_or(u64::MAX).max(shards.submitted) };
        Progress::estimated(Phase::Proving, shards.done, total)
    }
}
