//! SP1 proofs made on a GPU: by `sp1-gpu-server`, a program of SP1's own, one process for each device.
//!
//! A crate beside `proving-sp1` so that it is built without SP1's provers. What it needs of SP1 besides the server
//! is a port, [`Sp1`].
//!
//! The server has no way to be asked whether it is well: what it is at is told by its log alone, and where one of its
//! stages panics it never answers. So it is given up, with this process, after anything that is out of the ordinary,
//! and the supervisor of this process starts both anew.

mod download;
mod ended;
mod find;
mod log;
mod prover;
mod server;
mod smi;
mod socket;
mod wire;

use std::{path::PathBuf, sync::Arc, time::Duration};

use async_trait::async_trait;
use network_lib::{CircuitVersion, Fault, ProofMode};
use proving::{
    Execution, ProveOrder,
    child::{Channel, ServeError, Verify, serve_prover},
};
use sp1_sdk::SP1Stdin;
use tokio::sync::oneshot;

pub use download::Download;
pub use find::find_installed;
pub use prover::GpuProver;

/// The release of SP1 that is linked here, which the server must be of.
pub const SP1_VERSION: &str = sp1_primitives::SP1_CRATE_VERSION;

/// What the GPU prover needs of SP1 besides the server.
#[async_trait]
pub trait Sp1: Verify + Send + Sync {
    /// Runs the program without proving it: the server tells nobody why a program failed. Says `read` when program and
    /// input are known to decode.
    ///
    /// # Errors
    /// Whose fault it was that it did not run to a good end.
    async fn execute(&self, order: &ProveOrder, read: oneshot::Sender<()>) -> Result<Execution, Fault>;

    /// The program and its input, decoded.
    ///
    /// # Errors
    /// A guest fault when they do not decode, a worker fault when they cannot be read.
    async fn read(&self, order: &ProveOrder) -> Result<(Vec<u8>, SP1Stdin), Fault>;

    /// The program's verifying key in bincode, derived on the processor: some seconds and 600 MB, so it is asked for
    /// only where the server's key is in doubt.
    ///
    /// # Errors
    /// Why it cannot be derived.
    async fn verifying_key(&self, elf: &[u8]) -> Result<Vec<u8>, String>;
}

/// How a GPU prover is set up.
#[derive(Debug, Clone)]
pub struct GpuSettings {
    /// The device's number, in the order of the PCI bus as `nvidia-smi` has it.
    pub device: u32,
    /// The server; without it one of the right version is looked for.
    pub server: Option<PathBuf>,
    /// How long the server may be silent at work before it is taken for hung.
    pub silence_limit: Duration,
    /// Whether another prover for the device stands by, or takes over, with a server of its own.
    pub has_spare: bool,
    /// How long a program is executed before the server is asked for its proof, which goes on beside that. The server has to
    /// end with a program that fails later; and a device that waits for a long execution makes no proofs.
    pub head_start: Duration,
    /// How long the server may take until it has set up its first program.
    pub start_limit: Duration,
    /// Where the server may be downloaded from if there is none.
    pub download: Option<Download>,
    /// The circuit that is linked here.
    pub circuit_version: CircuitVersion,
    /// The modes that are offered.
    pub modes: Vec<ProofMode>,
}

impl GpuSettings {
    /// The default [silence limit](Self::silence_limit).
    pub const SILENCE_LIMIT: Duration = Duration::from_mins(15);
    /// The default [head start](Self::head_start). Executing nothing takes most of it.
    pub const HEAD_START: Duration = Duration::from_secs(1);
    /// The default [start limit](Self::start_limit). Less than what the supervisor grants, which knows no cause.
    pub const START_LIMIT: Duration = Duration::from_mins(10);
}

/// Why a GPU prover does not serve (any more).
#[derive(Debug, thiserror::Error)]
pub enum GpuError {
    /// It did not come up.
    #[error("the GPU prover of device {device} cannot start: {cause}")]
    Start {
        /// The device.
        device: u32,
        /// Why, and what to do.
        cause: String,
    },
    /// Its server ended while nothing was proved.
    #[error("the GPU prover of device {device} ends: {cause}")]
    Ended {
        /// The device.
        device: u32,
        /// Why.
        cause: String,
    },
    /// The parent cannot be spoken with.
    #[error("cannot serve")]
    Serve(#[from] ServeError),
}

/// Serves a GPU prover on `channel`, until the parent goes, which ends the process. Returns only when it cannot go on.
///
/// # Errors
/// [`GpuError`]
pub async fn serve(channel: Channel, settings: GpuSettings, sp1: Arc<dyn Sp1>) -> Result<(), GpuError> {
    let device = settings.device;
    let prover = GpuProver::start(settings, sp1).await.map_err(|cause| GpuError::Start { device, cause })?;
    let ended = prover.ended_while_idle();
    tokio::select! {
        served = serve_prover(channel, prover) => Ok(served?),
        cause = ended => Err(GpuError::Ended { device, cause }),
    }
}
