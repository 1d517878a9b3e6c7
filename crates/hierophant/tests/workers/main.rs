//! The workers' door: the worker protocol over a real socket, against a coordinator in this process that can be
//! stopped and started again on the same directory.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod checking;
mod coordinator;
mod delivering;
mod failing;
mod hinting;
mod joining;
mod losing;
mod restarting;
mod worker;
