//! The doors: gRPC for the SP1 SDK, HTTP for artifacts and status, a WebSocket for workers.
//!
//! Wire formats stop here. Each error that comes from further in answers `class()`, and [`status`] maps the class to
//! each wire.

pub mod artifacts;
pub mod facts;
pub mod serve;
pub mod sp1_network;
pub mod status;
pub mod worker_socket;
