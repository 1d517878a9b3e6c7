//! The one source of randomness of a run.

use std::time::Duration;

use rand::{Rng as _, RngCore as _, SeedableRng as _, rngs::StdRng};

/// Draws from a seed.
#[derive(Debug)]
pub(crate) struct Chance(StdRng);

impl Chance {
    pub(crate) fn new(seed: u64) -> Self {
        Self(StdRng::seed_from_u64(seed))
    }

    pub(crate) fn fill(&mut self, bytes: &mut [u8]) {
        self.0.fill_bytes(bytes);
    }

    /// From 0 to `bound` less one.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0.random_range(0..bound.max(1))
    }

    /// True in `percent` of the cases.
    pub(crate) fn percent(&mut self, percent: u32) -> bool {
        self.0.random_range(0..100) < percent
    }

    pub(crate) fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }

    /// A whole number of milliseconds.
    pub(crate) fn millis(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_millis(self.0.random_range(from..=to))
    }

    /// Short times mostly, and now and then a long one: each doubling is as likely as the others. Whole milliseconds, and
    /// no floating point, which is not the same on every machine.
    pub(crate) fn spread(&mut self, from: Duration, to: Duration) -> Duration {
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1);
        let (from, to) = (millis(from), millis(to));
        let lowest = from << self.0.random_range(0..=(to / from).max(1).ilog2());
        self.millis(lowest.min(to), (lowest * 2).min(to))
    }
}
