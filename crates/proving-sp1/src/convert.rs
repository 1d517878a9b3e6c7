//! Our names for SP1's things.

use network_lib::{CircuitVersion, ProofMode};
use sp1_sdk::{SP1_CIRCUIT_VERSION, SP1ProofMode};

/// What clients put before SP1's own version of a circuit.
const PREFIX: &str = "sp1-";

/// The circuit of the SP1 release that is linked here, as clients write it.
pub fn circuit_version() -> CircuitVersion {
    CircuitVersion::new(format!("{PREFIX}{SP1_CIRCUIT_VERSION}"))
}

/// SP1's own version of a circuit: the text without its prefix.
pub(crate) fn sp1_version(version: &CircuitVersion) -> &str {
    version.as_str().strip_prefix(PREFIX).unwrap_or(version.as_str())
}

pub(crate) fn sdk_mode(mode: ProofMode) -> SP1ProofMode {
    match mode {
        ProofMode::Core => SP1ProofMode::Core,
        ProofMode::Compressed => SP1ProofMode::Compressed,
        ProofMode::Plonk => SP1ProofMode::Plonk,
        ProofMode::Groth16 => SP1ProofMode::Groth16,
    }
}

pub(crate) fn own_mode(mode: SP1ProofMode) -> ProofMode {
    match mode {
        SP1ProofMode::Core => ProofMode::Core,
        SP1ProofMode::Compressed => ProofMode::Compressed,
        SP1ProofMode::Plonk => ProofMode::Plonk,
        SP1ProofMode::Groth16 => ProofMode::Groth16,
    }
}
