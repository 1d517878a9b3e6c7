//! Real programs, started, disturbed and asked: what benchmarks and fault tests share.
//!
//! The light client speaks the bare protocols ([`grpc`], [`artifact_http`], [`client`]) and costs next to nothing beside
//! the server. [`verifier`] and [`prover`] are children for programs that were built without SP1: whoever uses them
//! calls them from `main`, and names its own executable as their program. [`network`] runs a coordinator and its workers
//! on the same ports and directories from start to start; [`netns`] gives them hosts of their own, [`disk`] disks, and
//! [`faketime`] clocks. [`needs`] says where that cannot be.

pub mod artifact_http;
pub mod client;
pub mod clock;
pub mod contemplant;
pub mod disk;
pub mod faketime;
pub mod grpc;
mod holder;
pub mod key;
pub mod needs;
pub mod netns;
pub mod network;
pub mod program;
pub mod prover;
pub mod proxy;
pub mod server;
pub mod verifier;
pub mod worker;

/// Says on standard error why a child ends. The one place here that prints.
#[expect(clippy::print_stderr, reason = "a child's standard error is its log")]
fn last_word(text: &str) {
    eprintln!("{text}");
}
