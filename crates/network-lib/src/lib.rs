//! What the coordinator and the worker share: ids, proof modes, capabilities and the worker protocol.
//!
//! The two programs meet only here. Types of this crate are domain types; the protobuf messages of
//! [`protocol`] stop at its edge through one `TryFrom` each, which names the bad field.

pub mod artifact;
pub mod crash;
pub mod fault;
pub mod id;
pub mod proof;
pub mod protocol;
pub mod worker;

pub use artifact::{ArtifactId, ArtifactKind, Digest, Hasher};
pub use fault::{Fault, FaultClass};
pub use id::{AttemptId, ParseIdError, RequestId, WorkerId};
pub use proof::{CircuitVersion, ProofMode, Vm};
pub use worker::{Backend, ProverProfile, WorkerProfile};

/// The version that both programs must share to work together, asserted when a worker connects.
///
/// It is the workspace's version: a worker and a coordinator are released together.
pub const CONTEMPLANT_VERSION: &str = env!("CARGO_PKG_VERSION");
