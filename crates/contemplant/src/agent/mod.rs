//! The agent: owns the attempts of this worker and its provers, whether or not a coordinator is there.
//!
//! [`hand`] decides, [`actor`] does what it decided, [`ahead`] fetches what will come next, [`handle`] is what the rest
//! of the program sees.

mod actor;
mod ahead;
#[expect(missing_docs, reason = "the fields of its events and effects say what they are")]
pub mod hand;
mod handle;
mod room;

pub use actor::{Agent, AgentParts, Identity};
pub use handle::{ActorStopped, AgentHandle, Link};
