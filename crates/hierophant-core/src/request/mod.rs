//! A request: what a client asked for, what became of it, and every way in which that may change.
//!
//! ```text
//!            lease            deliver             fulfil
//!  Queued ─────────► Leased ──────────► Verifying ──────► Fulfilled
//!    ▲ ◄───────────────┘ │ ◄────────────────┘                ▲
//!    │  fail, lose,      │ fail (guest,                      │ fulfil (a late proof is true all the same)
//!    │  fail (guest)     ▼        confirmed)                 │
//!    │             Unexecutable     Unfulfillable, Expired ──┘
//!    ├── cancel ─► Cancelled
//!    └── give up ─► Unfulfillable (its input is gone)
//! ```
//! A leased request may have a second attempt beside the first, a hedge: whichever proof verifies first counts, and
//! when one of the two ends without a proof, the other goes on alone.
//!
//! That the program itself fails is believed when a second worker says so: one alone may be broken, or lie. The first
//! report puts the request back in the queue, where the others go first.
//!
//! Fulfilled, Unexecutable and Cancelled never change. Unfulfillable and Expired may change only to Fulfilled.

mod spec;
mod transitions;

use network_lib::{AttemptId, RequestId, WorkerId, protocol::Execution};
use serde::{Deserialize, Serialize};

pub use self::{
    spec::{Priority, RequestSpec, Requester, Variant},
    transitions::{AttemptOutcome, Change, Happening, TransitionError},
};
use crate::{Timestamp, retry::Tries};

/// What a client asked for, and what has become of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Names the request to its client.
    pub id: RequestId,
    /// What was asked. Never changes.
    pub spec: RequestSpec,
    /// What has become of it.
    pub state: RequestState,
    /// What the attempts have come to.
    pub tries: Tries,
    /// What executing the program showed, once a worker has done it.
    pub execution: Option<Execution>,
    /// When it was accepted.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// Counts changes, from 1. A change is written only over the version that it was decided on.
    pub version: u64,
}

/// An attempt that holds a request, and who makes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// The attempt.
    pub attempt: AttemptId,
    /// Who makes it.
    pub worker: WorkerId,
}

/// What has become of a request. Facts live inside the state in which they are true.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum RequestState {
    /// Waits for a worker.
    Queued,
    /// A worker makes an attempt.
    Leased {
        /// The attempt. Only attempts that hold the request may report failure or progress.
        attempt: AttemptId,
        /// Who makes it.
        worker: WorkerId,
        /// A second attempt that runs beside it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        hedge: Option<Holder>,
    },
    /// The proof of an attempt lies here and is being checked.
    Verifying {
        /// The attempt.
        attempt: AttemptId,
        /// Who made it.
        worker: WorkerId,
        /// Another attempt that still runs.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        hedge: Option<Holder>,
    },
    /// A verified proof is stored. Final.
    Fulfilled {
        /// The attempt that made the proof; it names the proof's artifact.
        attempt: AttemptId,
        /// Who made it.
        worker: WorkerId,
        /// Since when.
        at: Timestamp,
        /// Whether the proof is a mock, which proves nothing.
        is_mock: bool,
    },
    /// The program itself fails on this input. Final.
    Unexecutable {
        /// The guest's own words, or what it did.
        cause: String,
        /// Since when.
        at: Timestamp,
    },
    /// Given up: the attempts are used up. A late proof may still fulfil it.
    Unfulfillable {
        /// The last failure.
        cause: String,
        /// Since when.
        at: Timestamp,
    },
    /// The deadline passed. A late proof may still fulfil it.
    Expired {
        /// Since when.
        at: Timestamp,
    },
    /// Its requester does not want it any more. Final.
    Cancelled {
        /// Since when.
        at: Timestamp,
    },
}

impl RequestState {
    /// The state's name, as it stands in rows, logs and pages.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Leased { .. } => "leased",
            Self::Verifying { .. } => "verifying",
            Self::Fulfilled { .. } => "fulfilled",
            Self::Unexecutable { .. } => "unexecutable",
            Self::Unfulfillable { .. } => "unfulfillable",
            Self::Expired { .. } => "expired",
            Self::Cancelled { .. } => "cancelled",
        }
    }

    /// Whether nothing more is being done for the request.
    pub const fn is_terminal(&self) -> bool {
        !matches!(self, Self::Queued | Self::Leased { .. } | Self::Verifying { .. })
    }

    /// Whether the request ended without a proof: asking for the same again makes a new request.
    pub const fn is_failed(&self) -> bool {
        self.is_terminal() && !matches!(self, Self::Fulfilled { .. })
    }

    /// The attempts that hold the request now: none, one, or one and a hedge.
    pub fn holders(&self) -> impl Iterator<Item = Holder> + use<> {
        let (first, hedge) = match self {
            Self::Leased { attempt, worker, hedge } | Self::Verifying { attempt, worker, hedge } => {
                (Some(Holder { attempt: *attempt, worker: *worker }), *hedge)
            }
            _ => (None, None),
        };
        first.into_iter().chain(hedge)
    }

    /// Who makes this attempt, if it holds the request now.
    pub fn holder(&self, attempt: AttemptId) -> Option<WorkerId> {
        self.holders().find(|holder| holder.attempt == attempt).map(|holder| holder.worker)
    }

    /// When the request ended, if it did.
    pub const fn ended_at(&self) -> Option<Timestamp> {
        match self {
            Self::Queued | Self::Leased { .. } | Self::Verifying { .. } => None,
            Self::Fulfilled { at, .. }
            | Self::Unexecutable { at, .. }
            | Self::Unfulfillable { at, .. }
            | Self::Expired { at }
            | Self::Cancelled { at } => Some(*at),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
