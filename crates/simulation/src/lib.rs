//! The whole network in one thread: the real coordinator, the real worker core, many workers and clients, and random
//! faults, all from one seed. The promises of `ARCHITECTURE.md` are checked after every step.
//!
//! ```text
//!  client ──► Service ─────────────► store, files ─┐ each write has a time before and after its commit,
//!             FleetActor, sessions ◄── verifier    │ and a crash may fall into either
//!                 ▲                                │
//!             network: delays, partitions, cuts    ├──► Event ──► invariants, model, log
//!                 ▼                                │
//!             Hand, in a small shell ◄── provers ──┘
//! ```
//! Time is tokio's, paused: it passes when everything waits. Randomness is drawn from one generator. So the same seed
//! gives the same run, event by event, and a run that broke a promise can be repeated: `replay.rs`.

#![cfg(feature = "virtual-time")]

mod chance;
mod client;
mod coordinator;
mod event;
mod faults;
mod files;
mod invariants;
mod mix;
mod model;
mod network;
pub mod replay;
mod run;
mod store;
mod worker;
mod world;

pub use self::{
    invariants::Violation,
    mix::{Kind, Mix, Sabotage},
    run::{Figures, Options, Outcome, run},
};
