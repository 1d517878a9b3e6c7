//! The frames: one JSON object per line, UTF-8, at most [`MAX_FRAME_BYTES`] long, on the child's standard
//! input (instructions) and standard output (messages). Everything else that a child has to say goes to its
//! standard error, which is logged.
//!
//! Integers go up to 2^64 - 1, ids and hashes are lower-case hex, bulk bytes are named by absolute paths.
//! Unknown fields are skipped; a line that is no frame, or a frame of unknown `type`, ends the child.
//! A child says `ready` once, first, with the [`PROTOCOL_VERSION`] that it speaks. It ends when its
//! standard input does.
//!
//! A prover:
//!
//! ```text
//! ← {"type":"ready","protocol":1,"profile":{"vm":"sp1","backend":"cpu","device":"cpu (2 cores)","circuit_version":"sp1-v6.1.0","modes":["core"],"memory_bytes":1073741824}}
//! → {"type":"prove","attempt":"0101…","program":"/p","program_digest":"…","stdin":"/i","output":"/o","mode":"core","circuit_version":"sp1-v6.1.0","vk_hash":"…","cycle_limit":1000000,"gas_limit":18446744073709551615}
//! ← {"type":"progress","attempt":"0101…","progress":{"phase":"proving","done":1,"total":3}}
//! ← {"type":"executed","attempt":"0101…","execution":{"cycles":9500,"gas":null,"public_values_hash":"…"}}
//! ← {"type":"proved","attempt":"0101…","digest":"…","size":2777219}
//! ← {"type":"failed","attempt":"0101…","fault":{"class":"guest","cause":"…"}}
//! → {"type":"cancel","attempt":"0101…"}
//! ← {"type":"cancelled","attempt":"0101…"}
//! ← {"type":"leaving"}
//! ```
//!
//! Each order gets exactly one of `proved`, `failed`, `cancelled`, unless the child ends. A child that cannot
//! drop its work when told `cancel` ends instead; one that does neither is killed after a grace period. A child that ends
//! on purpose says `leaving` first.
//!
//! A verifier, which answers one instruction after the other:
//!
//! ```text
//! ← {"type":"ready","protocol":1}
//! → {"type":"verify","id":1,"order":{"verifying_key":"…","vk_hash":"…","proof":"/p","mode":"core","circuit_version":"sp1-v6.1.0","public_values_hash":null,"accept_mock":false}}
//! ← {"type":"verified","id":1,"verified":{"public_values_hash":"…","is_mock":false}}
//! ← {"type":"rejected","id":1,"reason":"…"}
//! ← {"type":"unavailable","id":1,"cause":"…"}
//! → {"type":"hash_verifying_key","id":2,"verifying_key":"…"}
//! ← {"type":"key_hashes","id":2,"hashes":{"bn254":"…","field":"…"}}
//! ```

use network_lib::{AttemptId, Digest, Fault, ProverProfile};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    encoding::hex_bytes,
    order::{Execution, KeyHashes, Progress, ProveOrder, Verified, VerifyOrder},
};

/// The version of these frames.
pub const PROTOCOL_VERSION: u32 = 1;

/// Longest frame, in bytes without its line break. Verifying keys of older circuits are some kilobytes long;
/// everything else is small.
pub const MAX_FRAME_BYTES: usize = 1 << 20;

/// What a prover child is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ProverInstruction {
    /// Make this proof. Never sent while another is being made.
    Prove(ProveOrder),
    /// Stop this attempt.
    Cancel {
        /// The attempt.
        attempt: AttemptId,
    },
}

/// What a prover child says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ProverMessage {
    /// It can take an order.
    Ready {
        /// The version of the frames that it speaks.
        protocol: u32,
        /// What it is and can do.
        profile: ProverProfile,
    },
    /// How far the attempt has come.
    Progress {
        /// The attempt.
        attempt: AttemptId,
        /// How far it has come.
        progress: Progress,
    },
    /// The program was executed.
    Executed {
        /// The attempt.
        attempt: AttemptId,
        /// What that showed.
        execution: Execution,
    },
    /// The proof lies at the order's output, fsynced.
    Proved {
        /// The attempt.
        attempt: AttemptId,
        /// BLAKE3 of the proof's bytes.
        digest: Digest,
        /// Size of the proof in bytes.
        size: u64,
    },
    /// The attempt failed.
    Failed {
        /// The attempt.
        attempt: AttemptId,
        /// Whose fault it was, and why.
        fault: Fault,
    },
    /// The attempt was stopped, as told; nothing of it is running any more.
    Cancelled {
        /// The attempt.
        attempt: AttemptId,
    },
    /// It cannot go on after its last attempt, and ends now, however that looks from outside.
    Leaving,
}

/// What a verifier child is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum VerifierInstruction {
    /// Check this proof.
    Verify {
        /// Repeated in the answer.
        id: u64,
        /// What to check.
        order: VerifyOrder,
    },
    /// Compute the hashes of a verifying key.
    HashVerifyingKey {
        /// Repeated in the answer.
        id: u64,
        /// The key, in bincode.
        #[serde(with = "hex_bytes")]
        verifying_key: Vec<u8>,
    },
}

/// What a verifier child says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum VerifierMessage {
    /// It can take instructions.
    Ready {
        /// The version of the frames that it speaks.
        protocol: u32,
    },
    /// The proof is good.
    Verified {
        /// The instruction's id.
        id: u64,
        /// What is known of the proof.
        verified: Verified,
    },
    /// The proof, or the key, is not good.
    Rejected {
        /// The instruction's id.
        id: u64,
        /// Why.
        reason: String,
    },
    /// Nobody knows whether the proof is good: most likely it could not be read.
    Unavailable {
        /// The instruction's id.
        id: u64,
        /// Why.
        cause: String,
    },
    /// The key's hashes.
    KeyHashes {
        /// The instruction's id.
        id: u64,
        /// The hashes.
        hashes: KeyHashes,
    },
}

/// Why something cannot be said in a frame.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// Most likely a path that is not UTF-8.
    #[error("cannot be written as json")]
    Json(#[source] serde_json::Error),
    /// Longer than [`MAX_FRAME_BYTES`].
    #[error("is {0} bytes long as a frame, more than {MAX_FRAME_BYTES}")]
    TooLong(usize),
}

/// The line that says `frame`, without its line break.
///
/// # Errors
/// [`FrameError`]
pub fn encode(frame: &impl Serialize) -> Result<String, FrameError> {
    let line = serde_json::to_string(frame).map_err(FrameError::Json)?;
    if line.len() > MAX_FRAME_BYTES { Err(FrameError::TooLong(line.len())) } else { Ok(line) }
}

/// Reads the frame in `line`.
///
/// # Errors
/// What is wrong with the line, in words that repeat at most its first 100 characters.
pub fn decode<T: DeserializeOwned>(line: &str) -> Result<T, String> {
    serde_json::from_str(line).map_err(|error| {
        let start: String = line.chars().take(100).collect();
        format!("{start:?} is not a frame: {error}")
    })
}

#[cfg(test)]
mod tests;
