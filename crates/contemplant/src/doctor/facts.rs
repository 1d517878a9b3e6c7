//! What a doctor looks at.

use std::{path::PathBuf, time::Duration};

use network_lib::Backend;
use proving::Memory;

use crate::{machine::Room, session::DialError, snark::readiness::SnarkFacts};

/// What was found. Holds no token, so that nothing made of it can show one.
#[derive(Debug)]
pub struct Facts {
    /// The configuration's warnings, or its problems; with problems nothing that it names is looked at.
    pub configuration: Result<Vec<String>, Vec<String>>,
    /// The provers, in the order of their indices.
    pub provers: Vec<ProverFacts>,
    /// Cores that may be used.
    pub cores: usize,
    /// Memory that may be used.
    pub memory: Memory,
    /// `/dev/shm`, where SP1's executor speaks with its parent.
    pub shared_memory: Option<Room>,
    /// The state directory.
    pub state: Option<StateFacts>,
    /// Graphics cards.
    pub gpu: Gpu,
    /// The server of the GPUs, where the configuration has any.
    pub gpu_server: Option<GpuServer>,
    /// What Plonk and Groth16 take.
    pub snarks: Vec<SnarkFacts>,
    /// The coordinator.
    pub coordinator: Option<CoordinatorFacts>,
    /// How fast programs are executed.
    pub speed: Speed,
}

/// A prover of the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProverFacts {
    /// What makes the proofs.
    pub backend: Backend,
    /// The program in the place of our own, and whether it is one that can be started.
    pub program: Option<(PathBuf, bool)>,
}

/// The state directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateFacts {
    /// Where it is or will be.
    pub path: PathBuf,
    /// Whether it can be written or created.
    pub is_writable: bool,
    /// Its disk.
    pub room: Option<Room>,
    /// What an attempt must leave free there, in bytes.
    pub min_free: u64,
}

/// Graphics cards, as `nvidia-smi` sees them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Gpu {
    /// There is no such program.
    None,
    /// It does not answer with cards, for this reason.
    Unusable(String),
    /// One line for each: name, driver, memory.
    Cards(Vec<String>),
}

/// The program that proves on GPUs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GpuServer {
    /// Where it is; or why there is none, and what to do.
    pub found: Result<String, String>,
    /// Whether the configuration allows its download.
    pub may_be_downloaded: bool,
}

/// The coordinator, as seen from here.
#[derive(Debug)]
pub struct CoordinatorFacts {
    /// The WebSocket address.
    pub address: String,
    /// Whether this worker has a token.
    pub has_token: bool,
    /// What `/health` says, or why it says nothing.
    pub health: Result<Health, String>,
    /// Whether it lets this worker in.
    pub door: Result<(), DialError>,
}

/// What a Hierophant says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// The status of the answer.
    pub status: u16,
    /// Its version, if it is a Hierophant.
    pub version: Option<String>,
    /// Whether mock proofs count there.
    pub mock_mode: bool,
    /// How far its clock is from this one's, and whether it is ahead. Known to a second or so.
    pub clock: Option<(Duration, bool)>,
}

/// How fast programs are executed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Speed {
    /// There is nothing to measure, for this reason.
    Unknown(&'static str),
    /// So many cycles in so long a time.
    Measured(u64, Duration),
    /// It did not work, for this reason.
    Failed(String),
}
