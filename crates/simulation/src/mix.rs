//! Which faults a run has.

use std::{collections::BTreeSet, fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Serialize};

/// A kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// The coordinator crashes, and starts again.
    Restart,
    /// A worker and the coordinator do not reach each other, in one direction or both.
    Partition,
    /// A connection breaks, and both ends or only one of them notice.
    Cut,
    /// Uploads and downloads break off.
    Transfer,
    /// The verifier has no answers for a while.
    Verifier,
    /// The store takes no writes for a while.
    Store,
    /// The coordinator's whole machine stands still.
    Stall,
    /// The coordinator's wall clock is set, hours ahead or back.
    Clock,
    /// A worker crashes, and starts again from its journal.
    WorkerCrash,
    /// A worker stands still, with its connections open.
    Freeze,
    /// Provers crash, fail, hang and make garbage.
    Prover,
    /// One worker of several says of good programs that they fail.
    Liar,
    /// The other faults may last longer than anyone waits.
    Long,
    /// No fault: every request may be given to a second worker.
    Hedging,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 14] = [
        Self::Restart,
        Self::Partition,
        Self::Cut,
        Self::Transfer,
        Self::Verifier,
        Self::Store,
        Self::Stall,
        Self::Clock,
        Self::WorkerCrash,
        Self::Freeze,
        Self::Prover,
        Self::Liar,
        Self::Long,
        Self::Hedging,
    ];
}

/// A named selection of faults.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mix {
    /// None: everything must simply work.
    Calm,
    /// The coordinator restarts.
    Restarts,
    /// The network is bad, though never for long.
    Network,
    /// Workers and their provers break.
    Workers,
    /// Clocks jump, the coordinator stands still and restarts.
    Clocks,
    /// What the coordinator works with fails.
    Services,
    /// Requests have second attempts, and workers break.
    Hedging,
    /// One worker lies, and the others are hard to ask.
    Lies,
    /// All of it, and for long.
    Everything,
}

impl Mix {
    /// Every mix.
    pub const ALL: [Self; 9] = [
        Self::Calm,
        Self::Restarts,
        Self::Network,
        Self::Workers,
        Self::Clocks,
        Self::Services,
        Self::Hedging,
        Self::Lies,
        Self::Everything,
    ];

    /// The kinds of faults.
    pub fn kinds(self) -> BTreeSet<Kind> {
        let kinds: &[Kind] = match self {
            Self::Calm => &[],
            Self::Restarts => &[Kind::Restart],
            Self::Network => &[Kind::Partition, Kind::Cut, Kind::Transfer, Kind::Restart],
            Self::Workers => &[Kind::WorkerCrash, Kind::Freeze, Kind::Prover],
            Self::Clocks => &[Kind::Clock, Kind::Stall, Kind::Restart],
            Self::Services => &[Kind::Verifier, Kind::Store, Kind::Transfer, Kind::Restart],
            Self::Hedging => &[Kind::Hedging, Kind::WorkerCrash, Kind::Freeze, Kind::Prover, Kind::Cut, Kind::Restart],
            Self::Lies => &[
                Kind::Liar,
                Kind::Hedging,
                Kind::WorkerCrash,
                Kind::Freeze,
                Kind::Prover,
                Kind::Partition,
                Kind::Cut,
                Kind::Restart,
            ],
            Self::Everything => &Kind::ALL,
        };
        kinds.iter().copied().collect()
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Calm => "calm",
            Self::Restarts => "restarts",
            Self::Network => "network",
            Self::Workers => "workers",
            Self::Clocks => "clocks",
            Self::Services => "services",
            Self::Hedging => "hedging",
            Self::Lies => "lies",
            Self::Everything => "everything",
        }
    }
}

impl fmt::Display for Mix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Mix {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|mix| mix.name() == text).ok_or_else(|| {
            let names: Vec<_> = Self::ALL.iter().map(|mix| mix.name()).collect();
            format!("{text:?} is not a mix of faults: use {}", names.join(", "))
        })
    }
}

/// A defect that is put into the network on purpose, to see that it is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sabotage {
    /// Some requests are acknowledged and never written.
    UnwrittenRequests,
    /// The verifier accepts everything.
    AcceptEverything,
    /// A retry is not recognised.
    FreshFingerprints,
    /// Attempts are given up much too early.
    NoGrace,
    /// Uploaded proofs are lost in a crash of the coordinator.
    LostProofs,
    /// Workers are not told that their proofs are stored.
    NoThanks,
    /// The first worker that says that a program fails is believed.
    Credulous,
}

/// Longest outage of a fault that everyone waits out: with the dial and back-off after it, less than the grace.
pub(crate) const SHORT: Duration = Duration::from_secs(40);

/// Longest outage of a fault in runs with [`Kind::Long`].
pub(crate) const LONG: Duration = Duration::from_mins(8);
