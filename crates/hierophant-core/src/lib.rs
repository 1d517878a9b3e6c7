//! The coordinator's decisions, pure: what may become of a request, and which worker gets it.
//!
//! No runtime, no clock, no I/O: facts and the time come in, decisions go out. What is durable is decided by
//! [`request`]; what is live (who is connected, who is idle) by [`fleet`]; where the two meet after a reconnect, by
//! [`mod@reconcile`].

pub mod fleet;
pub mod reconcile;
pub mod request;
pub mod retry;
pub mod time;

pub use fleet::{
    Effect, Event, FaultPolicy, Fleet, FleetSettings, HeldLease, QueuedRequest, SessionId, Standing, WaitingReason,
};
pub use reconcile::{Verdict, reconcile};
pub use request::{
    AttemptOutcome, Change, Happening, Holder, Priority, Request, RequestSpec, RequestState, Requester,
    TransitionError, Variant,
};
pub use retry::{GuestReports, RetryPolicy, Tries};
pub use time::{Moment, Now, Timestamp};
