//! The worker protocol: [`Report`]s from a worker, [`Instruction`]s from its coordinator, one per WebSocket frame.
//!
//! ```text
//! worker                                coordinator
//!   Hello{version, provers, in hand} ──►
//!                                    ◄── Welcome | Evicted
//!                                    ◄── Assign{attempt, sources}
//!   Accepted, Progress*, Executed    ──►
//!   Proved{digest, size}             ──►            (bytes are on the worker's disk)
//!                                    ◄── Deliver{url}
//!   HTTP PUT, then Delivered         ──►
//!                                    ◄── Stored | Rejected     (only now may the worker delete)
//!   Failed                           ──►
//!                                    ◄── Stored                (only now may the worker forget)
//!                                    ◄── Prefetch{sources}     (a hint, while a prover is busy)
//! ```
//! Heartbeats go both ways; any message counts as a sign of life. Every message may be repeated: the attempt id
//! makes a repeat harmless. After a reconnect the worker's `Hello` lists what it has in hand, and the coordinator
//! answers for each attempt that is not simply to go on: `Cancel`, `Deliver`, `Stored` or `Rejected`.

mod instruction;
mod report;
mod wire;

pub use instruction::{Assignment, EvictionCode, Instruction, Next, Settings, Source};
pub use report::{Execution, InHand, Progress, Report, Stage};

/// Largest frame of this protocol, in bytes. Only control travels here; longer frames end the session.
pub const MAX_FRAME_BYTES: usize = 1 << 20;

/// Path of the worker endpoint on the coordinator's HTTP port.
pub const WORKER_PATH: &str = "/ws";

/// Why a frame could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// The frame is not a message of this protocol.
    #[error("not a message of the worker protocol")]
    Encoding(#[source] prost::DecodeError),
    /// The message is of a kind that this version does not know.
    #[error("a message of an unknown kind")]
    UnknownKind,
    /// A field is missing or has an impossible value.
    #[error("field {field}: {problem}")]
    Field {
        /// The field, as the protocol names it.
        field: &'static str,
        /// What is wrong with it.
        problem: String,
    },
}

impl ProtocolError {
    #[expect(clippy::needless_pass_by_value, reason = "a function for `map_err`")]
    fn field(field: &'static str, problem: impl ToString) -> Self {
        Self::Field { field, problem: problem.to_string() }
    }
}

#[cfg(test)]
mod tests;
