//! The worker: dials out to its coordinator, proves, and delivers.
//!
//! [`session`] talks with the coordinator, [`agent`] owns the attempts and the provers, [`journal`] keeps them over
//! restarts. A session may end at any moment: the agent goes on proving, and the next session takes up from there.

pub mod agent;
pub mod app;
pub mod artifacts;
mod checked;
pub mod cli;
pub mod config;
pub mod doctor;
mod durable;
pub mod failure;
pub mod gpu;
pub mod inputs;
pub mod journal;
pub mod machine;
pub mod names;
pub mod programs;
pub mod provers;
pub mod session;
pub mod shutdown;
pub mod snark;
pub mod state;
pub mod telemetry;
pub mod tools;

/// Whether this binary can be its own prover child.
pub const HAS_BUILT_IN_PROVER: bool = cfg!(feature = "sp1");
