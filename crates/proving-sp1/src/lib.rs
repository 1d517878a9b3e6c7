//! SP1: executing, proving and verifying, as children that speak the frames of [`proving`].
//!
//! The only product crate that names SP1, pinned to one release: proofs, inputs and keys are encodings of its
//! internal types. Everything here runs in a child process, since SP1 may panic, hang, abort or run out of
//! memory on bytes that come from outside.

mod convert;
pub mod cpu;
pub mod decode;
pub mod execute;
mod gpu;
mod keys;
mod measure;
pub mod mock;
pub mod progress;
pub mod sizing;
pub mod verify;

use network_lib::ProofMode;
use proving::{
    ChildCommand, ExecuteOrder,
    child::{Channel, ServeError, serve_executor, serve_prover, serve_verifier},
    script::Script,
};
use sp1_sdk::SP1Stdin;

pub use convert::circuit_version;
pub use gpu::{Download, GpuOptions, find_gpu_server};
pub use measure::{Measured, measure};
pub use sp1_prover::build::CIRCUIT_ARTIFACTS_URL_BASE as CIRCUIT_FILES_PUBLISHED_AT;

/// Why a child could not serve.
#[derive(Debug, thiserror::Error)]
pub enum ChildError {
    /// No runtime.
    #[error("cannot start the async runtime")]
    Runtime(#[source] std::io::Error),
    /// The prover did not come up.
    #[error("cannot build the prover: {0}")]
    Prover(String),
    /// The GPU prover does not serve (any more).
    #[error(transparent)]
    Gpu(#[from] proving_sp1_gpu::GpuError),
    /// There is no GPU server that could be run.
    #[error("{0}")]
    GpuServer(String),
    /// The program that measures did not execute.
    #[error("cannot measure: {0}")]
    Measure(String),
    /// The parent cannot be spoken with.
    #[error("cannot serve")]
    Serve(#[from] ServeError),
}

/// Runs this process as a CPU prover child, until its parent goes, which ends the process. `executor` starts a child that
/// calls [`run_executor_child`].
///
/// To be called first thing in `main`, before anything reads standard input or writes standard output. The prover takes
/// minutes of processor time before it is ready, and some gigabytes of memory for good. Whether this machine can make
/// `snarks`, the caller has found out: SP1 fails at them after hours of work when something is missing. It aims to do with
/// `memory_limit` bytes.
///
/// # Errors
/// [`ChildError`]
pub fn run_cpu_prover_child(
    executor: ChildCommand,
    snarks: &[ProofMode],
    memory_limit: Option<u64>,
) -> Result<(), ChildError> {
    let channel = Channel::take()?;
    runtime()?.block_on(async {
        let prover = cpu::CpuProver::build(executor, snarks, memory_limit).await.map_err(ChildError::Prover)?;
        Ok(serve_prover(channel, prover).await?)
    })
}

/// Runs this process as a mock prover child; like [`run_cpu_prover_child`], but ready at once. It plays `script` for
/// requests that bring none along.
///
/// # Errors
/// [`ChildError`]
pub fn run_mock_prover_child(script: Script) -> Result<(), ChildError> {
    let channel = Channel::take()?;
    runtime()?.block_on(serve_prover(channel, mock::MockProver::build(script)))?;
    Ok(())
}

/// Runs this process as the prover child of a GPU; like [`run_cpu_prover_child`], but ready within a minute or so.
///
/// # Errors
/// [`ChildError`]
pub fn run_gpu_prover_child(executor: ChildCommand, options: GpuOptions) -> Result<(), ChildError> {
    let channel = Channel::take()?;
    runtime()?.block_on(gpu::serve(channel, executor, options))?;
    Ok(())
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

/// Where SP1 looks for its circuit files, Groth16's and Plonk's.
pub fn circuit_directories() -> [Option<std::path::PathBuf>; 2] {
    use sp1_prover::build::{groth16_circuit_artifacts_dir, plonk_circuit_artifacts_dir};
    [groth16_circuit_artifacts_dir().ok(), plonk_circuit_artifacts_dir().ok()]
}

fn runtime() -> Result<tokio::runtime::Runtime, ChildError> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(ChildError::Runtime)
}
