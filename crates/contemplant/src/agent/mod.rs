//! The agent: owns the attempts of this worker and its provers, whether or not a coordinator is there.
//!
//! [`hand`] decides, [`actor`] does what it decided, [`fetching`] gets what an attempt needs and [`ahead`] what the next
//! will need, [`handle`] is what the rest of the program sees.

mod actor;
mod ahead;
mod fetching;
#[expect(missing_docs, reason = "the fields of its events and effects say what they are")]
pub mod hand;
mod handle;
mod room;

pub use actor::{Agent, AgentParts, Identity};
pub use handle::{ActorStopped, AgentHandle, Link};
