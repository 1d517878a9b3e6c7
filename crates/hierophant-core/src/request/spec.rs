//! What was asked, as it stays from acceptance on.

use std::{fmt, str::FromStr};

use network_lib::{ArtifactId, CircuitVersion, Digest, ProofMode, Vm};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use crate::Timestamp;

/// Who asks: the Ethereum address that signed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Requester([u8; 20]);

impl Requester {
    /// The requester with this address.
    pub const fn new(address: [u8; 20]) -> Self {
        Self(address)
    }

    /// The bytes of the address.
    pub const fn as_bytes(&self) -> &[u8; 20] {
        &self.0
    }
}

/// A text that is not an address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an address: expected 0x and 40 hex digits")]
pub struct ParseRequesterError(String);

impl FromStr for Requester {
    type Err = ParseRequesterError;

    fn from_str(text: &str) -> Result<Self, ParseRequesterError> {
        let error = || ParseRequesterError(text.chars().take(60).collect());
        let digits = text.strip_prefix("0x").ok_or_else(error)?;
        if digits.len() != 40 {
            return Err(error());
        }
        let mut address = [0; 20];
        for (byte, pair) in address.iter_mut().zip(digits.as_bytes().chunks(2)) {
            let pair = std::str::from_utf8(pair).map_err(|_| error())?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| error())?;
        }
        Ok(Self(address))
    }
}

impl fmt::Display for Requester {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("0x")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Requester {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Requester {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Requester {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

/// Which of the two wire forms of the SP1 network the client used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Variant {
    /// `NetworkMode::Reserved`, and every SDK from before the two modes.
    Base,
    /// `NetworkMode::Mainnet`.
    Auction,
}

/// How urgent a request is among those of all requesters. Higher goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Priority(pub i32);

/// What was asked. Checked before it is accepted, and never changed after.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestSpec {
    /// Who asks.
    pub requester: Requester,
    /// The virtual machine.
    pub vm: Vm,
    /// Names the program, in either of the two forms in use.
    pub vk_hash: Digest,
    /// The program's artifact.
    pub program: ArtifactId,
    /// The input's artifact.
    pub stdin: ArtifactId,
    /// The form of the proof.
    pub mode: ProofMode,
    /// The circuit that the proof must be of.
    pub circuit_version: CircuitVersion,
    /// When the client gives up.
    pub deadline: Timestamp,
    /// Most instructions that the program may execute; `u64::MAX` for no limit.
    pub cycle_limit: u64,
    /// Most gas that the program may use; 0 and `u64::MAX` for no limit.
    pub gas_limit: u64,
    /// SHA-256 that the public values must have, if the client said so.
    pub public_values_hash: Option<Digest>,
    /// How urgent it is.
    pub priority: Priority,
    /// The wire form that the client used.
    pub variant: Variant,
    /// The SP1 network's number of the strategy that the client named. Shown to it again; nothing here depends on it.
    pub strategy: i32,
}
