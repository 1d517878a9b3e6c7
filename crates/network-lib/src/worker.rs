//! What a worker is and can do, as it says itself when it connects.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{CircuitVersion, ProofMode, Vm, WorkerId};

/// What makes the proofs of one prover.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Backend {
    /// The SP1 prover on this machine's processor.
    Cpu,
    /// SP1's own GPU server, one process for each device.
    Gpu,
    /// Executes programs for real and proves nothing. Its proofs count only where both sides are in mock mode.
    Mock,
}

impl Backend {
    /// The backend's name, as it stands in configuration files.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Gpu => "gpu",
            Self::Mock => "mock",
        }
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Backend {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [Self::Cpu, Self::Gpu, Self::Mock]
            .into_iter()
            .find(|backend| backend.name() == text)
            .ok_or_else(|| format!("{text:?} is not a backend: use cpu, gpu or mock"))
    }
}

/// One prover of a worker: it makes one proof at a time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProverProfile {
    /// The virtual machine whose programs it proves.
    pub vm: Vm,
    /// What makes the proofs.
    pub backend: Backend,
    /// The device, in words for people: `cpu (16 cores)`.
    pub device: String,
    /// The circuit whose proofs it makes.
    pub circuit_version: CircuitVersion,
    /// The proof modes that it can make, sorted, without repeats.
    pub modes: Vec<ProofMode>,
    /// Memory that it may use, in bytes.
    pub memory_bytes: u64,
}

/// What a worker says of itself when it connects.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerProfile {
    /// Stable over reconnects and restarts.
    pub id: WorkerId,
    /// For people; not unique. At most 100 characters.
    pub name: String,
    /// Its provers; the position in this list is the prover's index in assignments.
    pub provers: Vec<ProverProfile>,
    /// Called with HTTP DELETE when the worker is evicted, so that the machine can be given back.
    pub magister_drop_endpoint: Option<String>,
    /// Drawn by each process: tells one that comes back from another one with the same id. `None` from workers that do
    /// not say.
    pub instance: Option<u64>,
}
