//! The coordinator: takes proof requests, stores their artifacts, queues, assigns, verifies and serves the proofs.
//!
//! ```text
//! api ──► service ──► hierophant_core (pure decisions) ──► store
//!            │                 ▲                       └──► artifacts
//!            └──► verifier     fleet (live workers)
//! ```

pub mod api;
pub mod app;
pub mod artifacts;
pub mod class;
pub mod clock;
pub mod config;
pub mod fleet;
pub mod ids;
pub mod service;
pub mod shutdown;
pub mod sockets;
pub mod store;
pub mod telemetry;
pub mod upkeep;
