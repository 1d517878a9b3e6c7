//! The child-process protocol: proving and verifying live in child processes that speak frames.
//!
//! A child is usually the same binary under a hidden subcommand, but any program that speaks the frames
//! of [`frames`] will do. A crash, an out-of-memory kill or an endless guest takes only the child, and
//! cancelling is a kill.
//!
//! - The parent's side: [`ProverChild`] and [`VerifierChild`] start a child, restart it when it dies, and
//!   turn its frames into reports and answers. An [`Executor`] is a child for one execution, started by a prover.
//! - The child's side: [`child::Prove`] and [`child::Verify`] are the ports, [`child::serve_prover`] and
//!   [`child::serve_verifier`] serve them.
//!
//! Nothing here names a virtual machine.

pub mod child;
mod encoding;
mod executor;
pub mod frames;
mod group_memory;
mod memory;
pub mod mock;
mod order;
mod prover;
pub mod script;
mod shared_memory;
mod shortage;
mod spare;
mod stderr;
mod supervisor;
#[cfg(feature = "testing")]
pub mod testing;
mod verifier;

pub use executor::{ExecuteOrder, Executor, still_running};
pub use memory::Memory;
pub use order::{Execution, KeyHashes, Phase, Progress, ProveOrder, Verified, VerifyOrder};
pub use prover::{ProverChild, ProverError, ProverReport, ProverSettings};
pub use shared_memory::sweep_shared_memory;
pub use shortage::shortage;
pub use supervisor::ChildCommand;
pub use verifier::{Verifier, VerifierChild, VerifierSettings, VerifyError};
