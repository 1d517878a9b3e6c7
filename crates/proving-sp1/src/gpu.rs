//! The prover on a GPU: what `proving-sp1-gpu` needs of SP1 besides its server.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use network_lib::{Fault, ProofMode};
use proving::{
    ChildCommand, Execution, KeyHashes, ProveOrder, Verified, VerifyError, VerifyOrder,
    child::{Channel, Verify},
};
use proving_sp1_engine::LightEngine;
use proving_sp1_gpu::{GpuError, GpuSettings, Sp1};
use sp1_sdk::SP1Stdin;
use tokio::sync::oneshot;

pub use proving_sp1_gpu::Download;

use crate::{
    ChildError, convert::circuit_version, cpu::read_inputs, execute, runtime, sizing::memory_bytes, verify::Sp1Verifier,
};

/// What an operator can choose about a GPU prover.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GpuOptions {
    /// The device's number, in the order of the PCI bus as `nvidia-smi` has it.
    pub device: u32,
    /// The server; without it one of the right version is looked for.
    pub server: Option<PathBuf>,
    /// How long the server may be silent at work before it is taken for hung.
    pub silence_limit: Duration,
    /// Whether another prover for the device stands by.
    pub has_spare: bool,
    /// How long a program is executed before the server is asked for its proof.
    pub head_start: Duration,
    /// Where the server may be downloaded from if there is none.
    pub download: Option<Download>,
    /// What this machine is ready for besides core and compressed proofs. The server has gnark in it.
    pub snarks: Vec<ProofMode>,
}

impl Default for GpuOptions {
    fn default() -> Self {
        Self {
            device: 0,
            server: None,
            silence_limit: GpuSettings::SILENCE_LIMIT,
            has_spare: false,
            head_start: GpuSettings::HEAD_START,
            download: None,
            snarks: Vec::new(),
        }
    }
}

/// The GPU server that a prover would run: `named`, or the one that it would find. Nothing is downloaded.
///
/// # Errors
/// [`ChildError::GpuServer`] says why there is none, and what to do.
pub fn find_gpu_server(named: Option<&Path>) -> Result<PathBuf, ChildError> {
    runtime()?.block_on(proving_sp1_gpu::find_installed(named)).map_err(ChildError::GpuServer)
}

/// Executes in a child, and verifies, on the processor.
struct LightSp1 {
    executor: ChildCommand,
    verifier: Sp1Verifier,
}

#[async_trait]
impl Sp1 for LightSp1 {
    async fn execute(&self, order: &ProveOrder, read: oneshot::Sender<()>) -> Result<Execution, Fault> {
        let executor = execute::start(&self.executor, order, memory_bytes()).await?;
        let _ = read.send(()); // nobody minds any more if the attempt was cancelled
        executor.finish().await
    }

    async fn read(&self, order: &ProveOrder) -> Result<(Vec<u8>, SP1Stdin), Fault> {
        read_inputs(order).await
    }

    async fn verifying_key(&self, elf: &[u8]) -> Result<Vec<u8>, String> {
        let engine = tokio::task::spawn_blocking(LightEngine::build).await.map_err(|error| error.to_string())?;
        let key = engine.set_up(elf).await?;
        bincode::serialize(&key).map_err(|error| error.to_string())
    }
}

impl Verify for LightSp1 {
    fn verify(&self, order: &VerifyOrder) -> Result<Verified, VerifyError> {
        self.verifier.verify(order)
    }

    fn hash_verifying_key(&self, verifying_key: &[u8]) -> Result<KeyHashes, String> {
        self.verifier.hash_verifying_key(verifying_key)
    }
}

/// Serves a GPU prover on `channel`. Returns only when it cannot go on.
pub(crate) async fn serve(channel: Channel, executor: ChildCommand, options: GpuOptions) -> Result<(), GpuError> {
    let GpuOptions { device, server, silence_limit, has_spare, head_start, download, snarks } = options;
    let mut modes = vec![ProofMode::Core, ProofMode::Compressed];
    modes.extend(snarks);
    let settings = GpuSettings {
        device,
        server,
        silence_limit,
        has_spare,
        head_start,
        start_limit: GpuSettings::START_LIMIT,
        download,
        circuit_version: circuit_version(),
        modes,
    };
    let sp1 = LightSp1 { executor, verifier: Sp1Verifier::build().await };
    proving_sp1_gpu::serve(channel, settings, Arc::new(sp1)).await
}
