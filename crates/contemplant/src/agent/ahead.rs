//! Fetching ahead: what the coordinator's hints speak of is on disk, and checked, before it is assigned.
//!
//! Rounds follow each other: one removes what no hint speaks of any more and fetches the rest, one after the other. The
//! downloads of attempts go first: a round ends when one begins, and the next round goes on where it ended.

use std::{
    collections::{BTreeMap, HashSet},
    io,
    path::Path,
};

use network_lib::protocol::{Assignment, Next};
use tokio_util::sync::CancellationToken;

use crate::{
    artifacts::ArtifactClient,
    failure::chain,
    inputs::InputCache,
    programs::{PinnedProgram, ProgramCache},
};

/// What comes next, and the round under way.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    /// By prover.
    hints: BTreeMap<usize, Next>,
    /// Whether there may be something to fetch or to remove.
    is_due: bool,
    round: Option<Round>,
    rounds: u64,
    /// The hints' programs, which the cache must keep.
    pins: Vec<PinnedProgram>,
}

#[derive(Debug)]
struct Round {
    number: u64,
    stop: CancellationToken,
}

/// A round that is to be run.
pub(super) struct NextRound {
    pub(super) number: u64,
    pub(super) hints: Vec<Next>,
}

impl Ahead {
    /// The coordinator says what comes next.
    pub(super) fn hint(&mut self, prover: usize, next: Option<Next>) {
        self.is_due |= self.hints.get(&prover) != next.as_ref();
        match next {
            Some(next) => _ = self.hints.insert(prover, next),
            None => _ = self.hints.remove(&prover),
        }
    }

    /// Hints do not outlive a session; what they were good for so far is kept for those that will come.
    pub(super) fn forget_hints(&mut self) {
        self.hints.clear();
    }

    /// The hint has come true.
    pub(super) fn assigned(&mut self, assignment: &Assignment) {
        let is_this = |next: &Next| {
            let stdin = next.stdin.as_ref().map(|stdin| stdin.digest);
            next.program.digest == assignment.program.digest
                && stdin.is_none_or(|stdin| stdin == assignment.stdin.digest)
        };
        if self.hints.get(&assignment.prover).is_some_and(is_this) {
            self.hints.remove(&assignment.prover);
        }
    }

    /// An attempt is gone, and perhaps the last use of its input.
    pub(super) fn tidy(&mut self) {
        self.is_due = true;
    }

    /// Makes way for the download of an attempt.
    pub(super) fn interrupt(&mut self) {
        if let Some(round) = self.round.take() {
            round.stop.cancel();
            self.is_due = true;
        }
    }

    /// Begins a round if one is due; the one before ends. `stop` will end it.
    pub(super) fn begin(&mut self, stop: CancellationToken) -> Option<NextRound> {
        if !std::mem::take(&mut self.is_due) {
            return None;
        }
        if let Some(former) = self.round.take() {
            former.stop.cancel();
        }
        self.rounds += 1;
        self.round = Some(Round { number: self.rounds, stop });
        Some(NextRound { number: self.rounds, hints: self.hints.values().cloned().collect() })
    }

    /// A round has ended, with these programs.
    pub(super) fn ended(&mut self, number: u64, pins: Vec<PinnedProgram>) {
        if self.round.as_ref().is_some_and(|round| round.number == number) {
            self.round = None;
            self.pins = pins;
        }
    }
}

/// Removes what no hint speaks of, and fetches what they do. Whatever fails is left to the attempts.
pub(super) async fn run_round(
    hints: &[Next],
    artifacts: &ArtifactClient,
    programs: &ProgramCache,
    inputs: &InputCache,
    min_free_disk: u64,
) -> Vec<PinnedProgram> {
    let writing = inputs.write().await;
    let wanted: HashSet<_> = hints.iter().filter_map(|next| Some(next.stdin.as_ref()?.digest)).collect();
    if let Err(error) = writing.retain(wanted).await {
        tracing::warn!("Inputs that were fetched ahead cannot be removed: {error}");
    }
    let mut pins = Vec::new();
    for Next { program, .. } in hints {
        if !has_room(inputs.root(), program.size.saturating_add(min_free_disk)) {
            tracing::debug!("A program is not fetched ahead for want of disk");
            continue;
        }
        match programs.fetch(artifacts, program).await {
            Ok(pin) => pins.push(pin),
            Err(error) => tracing::debug!("A program could not be fetched ahead: {}", chain(&error)),
        }
    }
    for stdin in writing.fitting(hints.iter().filter_map(|next| next.stdin.as_ref())) {
        if !writing.has(stdin.digest) && !has_room(inputs.root(), stdin.size.saturating_add(min_free_disk)) {
            tracing::debug!("An input is not fetched ahead for want of disk");
            continue;
        }
        match writing.fetch(artifacts, stdin).await {
            Ok(()) => tracing::debug!(size = stdin.size, "Fetched an input ahead"),
            Err(error) => tracing::debug!("An input could not be fetched ahead: {}", chain(&error)),
        }
    }
    pins
}

/// Whether so many bytes are free. A file system that does not tell has room: writing will show.
fn has_room(directory: &Path, bytes: u64) -> bool {
    free_bytes(directory).map_or(true, |free| free >= bytes)
}

/// Bytes that are free on the file system of `directory`.
pub(super) fn free_bytes(directory: &Path) -> io::Result<u64> {
    let space = rustix::fs::statvfs(directory)?;
    Ok(space.f_bavail.saturating_mul(space.f_frsize))
}
