//! The program as a process: how it is started, stopped, and what it does when its disk is full.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod disk;
mod hierophant;
mod owning;
mod sockets;
mod stopping;
