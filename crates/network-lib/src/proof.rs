//! What is proved, and in which form.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// The virtual machine whose programs are proved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Vm {
    /// Succinct's SP1.
    Sp1,
}

impl fmt::Display for Vm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sp1 => "sp1",
        })
    }
}

impl FromStr for Vm {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "sp1" => Ok(Self::Sp1),
            _ => Err(format!("{text:?} is not a virtual machine: use sp1")),
        }
    }
}

/// The form of a proof.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProofMode {
    /// One STARK per shard: size grows with the program's cycles.
    Core,
    /// One STARK of constant size.
    Compressed,
    /// A Plonk SNARK over BN254, verifiable on chain.
    Plonk,
    /// A Groth16 SNARK over BN254, verifiable on chain.
    Groth16,
}

impl ProofMode {
    /// Every mode, in the order of the SP1 network's numbers.
    pub const ALL: [Self; 4] = [Self::Core, Self::Compressed, Self::Plonk, Self::Groth16];

    /// The number that stands for this mode in the SP1 network's messages.
    pub const fn number(self) -> i32 {
        match self {
            Self::Core => 1,
            Self::Compressed => 2,
            Self::Plonk => 3,
            Self::Groth16 => 4,
        }
    }

    /// The mode with the SP1 network's `number`, if there is one.
    pub fn from_number(number: i32) -> Option<Self> {
        Self::ALL.into_iter().find(|mode| mode.number() == number)
    }

    /// The mode's name in lower case.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Core => "core",
            Self::Compressed => "compressed",
            Self::Plonk => "plonk",
            Self::Groth16 => "groth16",
        }
    }
}

impl fmt::Display for ProofMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for ProofMode {
    type Err = UnknownProofMode;

    fn from_str(text: &str) -> Result<Self, UnknownProofMode> {
        Self::ALL.into_iter().find(|mode| mode.name() == text).ok_or_else(|| UnknownProofMode(text.to_owned()))
    }
}

/// A word that names no proof mode.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a proof mode: use core, compressed, plonk or groth16")]
pub struct UnknownProofMode(String);

/// The version of a circuit, as clients write it: `sp1-v6.1.0`. Proofs of different versions are not exchangeable.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct CircuitVersion(String);

impl CircuitVersion {
    /// A version from the text that clients send. Any text is a version; whether a worker proves it is another question.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text of this version.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for CircuitVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
