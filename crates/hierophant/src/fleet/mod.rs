//! The shell around [`hierophant_core::Fleet`]: one task owns the live state, workers' sessions talk to it.

mod actor;
mod complaints;
mod handle;
mod magister;
mod session;

pub use self::{
    actor::FleetActor,
    handle::{FleetHandle, FleetView, Outbound, WorkerView},
    session::{Broken, Frame, FrameSink, Frames, SessionSettings, run as run_session},
};
