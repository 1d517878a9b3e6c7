//! What a child is told to do, and what it finds out.

use std::{fmt, path::PathBuf};

use network_lib::{AttemptId, CircuitVersion, Digest, ProofMode};
use serde::{Deserialize, Serialize};

use crate::encoding::{hex_bytes, hex_hash, optional_hex_hash};

/// What a prover child is told to do. All paths name local files and are absolute, since the child may
/// have another working directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProveOrder {
    /// The attempt that this is.
    pub attempt: AttemptId,
    /// The program as the client uploaded it: bincode of the ELF's bytes, compressed with zstd or not
    /// (the first four bytes tell).
    pub program: PathBuf,
    /// Digest of the program file: the key under which a child may keep what it derived from it.
    pub program_digest: Digest,
    /// The input as the client uploaded it: bincode of the virtual machine's input, compressed with zstd or not.
    pub stdin: PathBuf,
    /// Where the proof goes. Anything there is overwritten; it counts only after
    /// [`ProverReport::Proved`](crate::ProverReport::Proved).
    pub output: PathBuf,
    /// The form of the proof.
    pub mode: ProofMode,
    /// The circuit that the proof must be of.
    pub circuit_version: CircuitVersion,
    /// The hash of the program's verifying key, in either of its forms ([`KeyHashes`]).
    #[serde(with = "hex_hash")]
    pub vk_hash: [u8; 32],
    /// Most instructions that the program may execute; `u64::MAX` for no limit.
    pub cycle_limit: u64,
    /// Most gas that the program may use; `u64::MAX` for no limit.
    pub gas_limit: u64,
}

/// What an attempt is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Reading the program and its input, deriving keys.
    Preparing,
    /// Running the program.
    Executing,
    /// Proving shards.
    Proving,
    /// Joining shard proofs into one.
    Compressing,
    /// Turning the joined proof into a SNARK.
    Wrapping,
    /// Writing the proof to disk.
    Finishing,
}

impl Phase {
    /// The phase's name in lower case.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Preparing => "preparing",
            Self::Executing => "executing",
            Self::Proving => "proving",
            Self::Compressing => "compressing",
            Self::Wrapping => "wrapping",
            Self::Finishing => "finishing",
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How far an attempt has come. For display only: no decision rests on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// What the attempt is at.
    pub phase: Phase,
    /// Steps of this phase that are done.
    pub done: u64,
    /// Steps of this phase in all, as far as known; 0 when unknown.
    pub total: u64,
    /// Whether the total is estimated, and may still change.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_estimate: bool,
}

impl Progress {
    /// So many steps of a phase are done, of a total that is known, or 0.
    pub const fn counted(phase: Phase, done: u64, total: u64) -> Self {
        Self { phase, done, total, is_estimate: false }
    }

    /// So many steps of a phase are done, of a total that may still change.
    pub const fn estimated(phase: Phase, done: u64, total: u64) -> Self {
        Self { phase, done, total, is_estimate: total > 0 }
    }

    /// A phase has begun whose steps are not known.
    pub const fn begun(phase: Phase) -> Self {
        Self::counted(phase, 0, 0)
    }
}

/// What executing the program showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Execution {
    /// Instructions executed.
    pub cycles: u64,
    /// The network's gas, where the prover computes it.
    pub gas: Option<u64>,
    /// SHA-256 of the public values' bytes.
    #[serde(with = "hex_hash")]
    pub public_values_hash: [u8; 32],
}

/// What a verifier child is told to check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerifyOrder {
    /// The verifying key, in bincode, as the client registered it.
    #[serde(with = "hex_bytes")]
    pub verifying_key: Vec<u8>,
    /// The hash under which it was registered, in either of its forms ([`KeyHashes`]).
    #[serde(with = "hex_hash")]
    pub vk_hash: [u8; 32],
    /// The proof: a local file, by its absolute path.
    pub proof: PathBuf,
    /// The form that the proof must have.
    pub mode: ProofMode,
    /// The circuit that the proof must be of.
    pub circuit_version: CircuitVersion,
    /// SHA-256 that the public values must have, where the client said it.
    #[serde(with = "optional_hex_hash")]
    pub public_values_hash: Option<[u8; 32]>,
    /// Whether a mock proof that claims all this is good enough. Proofs that are not mock are verified all the same.
    pub accept_mock: bool,
}

/// What is known of a proof that verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verified {
    /// SHA-256 of the public values' bytes.
    #[serde(with = "hex_hash")]
    pub public_values_hash: [u8; 32],
    /// Whether it was a mock proof, which proves nothing.
    pub is_mock: bool,
}

/// The two forms of a verifying key's hash: which one a client registers depends on its SDK's version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyHashes {
    /// As contracts on chain know it: SP1's `bytes32()`. SDKs up to 5.0.4 register this form.
    #[serde(with = "hex_hash")]
    pub bn254: [u8; 32],
    /// The eight field elements, big-endian: SP1's `hash_bytes()`. SDKs from 5.0.7 on register this form.
    #[serde(with = "hex_hash")]
    pub field: [u8; 32],
}

impl KeyHashes {
    /// Whether `hash` is this key's, in either form.
    pub fn contains(&self, hash: &[u8; 32]) -> bool {
        self.bn254 == *hash || self.field == *hash
    }
}
