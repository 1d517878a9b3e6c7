//! The SP1 network's door, over a real socket, with a light client that signs as the SDK does.
//!
//! Uploads are recorded straight in the store: the artifacts' own door has its own tests.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod artifacts;
mod cancelling;
mod client;
mod lists;
mod network;
mod others;
mod programs;
mod statuses;
mod submissions;
