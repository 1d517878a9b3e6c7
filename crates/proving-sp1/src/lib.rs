//! SP1: executing, proving and verifying, as children that speak the frames of [`proving`].
//!
//! The only product crate that names SP1, pinned to one release: proofs, inputs and keys are encodings of its
//! internal types. Everything here runs in a child process, since SP1 may panic, hang, abort or run out of
//! memory on bytes that come from outside.

mod circuits;
mod convert;
pub mod cpu;
pub mod decode;
pub mod execute;
mod keys;
pub mod mock;
pub mod progress;
pub mod sizing;
pub mod verify;

use network_lib::Backend;
use proving::{
    ChildCommand, ExecuteOrder,
    child::{Channel, ServeError, serve_executor, serve_prover, serve_verifier},
};
use sp1_sdk::SP1Stdin;

pub use convert::circuit_version;

/// Why a child could not serve.
#[derive(Debug, thiserror::Error)]
pub enum ChildError {
    /// No runtime.
    #[error("cannot start the async runtime")]
    Runtime(#[source] std::io::Error),
    /// The prover did not come up.
    #[error("cannot build the prover: {0}")]
    Prover(String),
    /// The parent cannot be spoken with.
    #[error("cannot serve")]
    Serve(#[from] ServeError),
}

/// Runs this process as a prover child, until its parent goes, which ends the process. `executor` starts a child that
/// calls [`run_executor_child`].
///
/// To be called first thing in `main`, before anything reads standard input or writes standard output. The CPU
/// prover takes minutes of processor time before it is ready, and some gigabytes of memory for good.
///
/// # Errors
/// [`ChildError`]
pub fn run_prover_child(backend: Backend, executor: ChildCommand) -> Result<(), ChildError> {
    let channel = Channel::take()?;
    let runtime = runtime()?;
    runtime.block_on(async {
        match backend {
            Backend::Cpu => {
                let prover = cpu::CpuProver::build(executor).await.map_err(ChildError::Prover)?;
                serve_prover(channel, prover).await?;
            }
            Backend::Mock => serve_prover(channel, mock::MockProver::build()).await?,
        }
        Ok(())
    })
}

/// Runs this process as an executor child: it executes one program, says how that went, and ends.
///
/// To be called first thing in `main`, before anything reads standard input or writes standard output.
///
/// # Errors
/// [`ChildError`]
pub fn run_executor_child() -> Result<(), ChildError> {
    let channel = Channel::take()?;
    let read = |order: &ExecuteOrder| Ok((decode::read_program(&order.program)?, decode::read_stdin(&order.stdin)?));
    let run = async |(elf, stdin): (Vec<u8>, SP1Stdin), order: ExecuteOrder| {
        let (_, execution) = execute::execute(&elf, stdin, order.cycle_limit, order.memory_bytes).await?;
        Ok(execution)
    };
    runtime()?.block_on(serve_executor(channel, read, run))?;
    Ok(())
}

/// Runs this process as a verifier child, until its parent goes, which ends the process.
///
/// To be called first thing in `main`, before anything reads standard input or writes standard output.
///
/// # Errors
/// [`ChildError`]
pub fn run_verifier_child() -> Result<(), ChildError> {
    let channel = Channel::take()?;
    let verifier = runtime()?.block_on(verify::Sp1Verifier::build());
    serve_verifier(channel, &verifier)?;
    Ok(())
}

fn runtime() -> Result<tokio::runtime::Runtime, ChildError> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(ChildError::Runtime)
}
