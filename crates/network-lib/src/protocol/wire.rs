//! Generated messages, and the readings that several of them share.

use super::ProtocolError;
use crate::{ProofMode, ProverProfile};

mod generated {
    #![expect(
        unreachable_pub,
        clippy::allow_attributes,
        reason = "generated code; proto/worker.proto documents each message"
    )]

    include!(concat!(env!("OUT_DIR"), "/hierophant.worker.v1.rs"));
}

pub(super) use generated::*;

/// Reads a fixed-size id or digest out of a bytes field.
pub(super) fn bytes<'a, T>(field: &'static str, value: &'a [u8]) -> Result<T, ProtocolError>
where
    T: TryFrom<&'a [u8]>,
    T::Error: ToString,
{
    T::try_from(value).map_err(|error| ProtocolError::field(field, error))
}

/// Refuses text of more than so many characters: what a worker says of itself is kept for as long as it is known.
pub(super) fn short(field: &'static str, text: String, most: usize) -> Result<String, ProtocolError> {
    if text.chars().count() > most {
        return Err(ProtocolError::field(field, format!("longer than {most} characters")));
    }
    Ok(text)
}

/// Longest name of anything that has one.
pub(super) const MAX_NAME: usize = 100;

/// Longest description of a prover's device.
const MAX_DEVICE: usize = 200;

pub(super) fn mode(number: i32) -> Result<ProofMode, ProtocolError> {
    ProofMode::from_number(number).ok_or_else(|| ProtocolError::field("mode", format!("{number} is not a proof mode")))
}

impl From<ProverProfile> for Prover {
    fn from(profile: ProverProfile) -> Self {
        Self {
            vm: profile.vm.to_string(),
            backend: profile.backend.to_string(),
            // For people: better cut than the whole worker refused.
            device: profile.device.chars().take(MAX_DEVICE).collect(),
            circuit_version: profile.circuit_version.to_string(),
            modes: profile.modes.into_iter().map(ProofMode::number).collect(),
            memory_bytes: profile.memory_bytes,
        }
    }
}

impl TryFrom<Prover> for ProverProfile {
    type Error = ProtocolError;

    fn try_from(prover: Prover) -> Result<Self, ProtocolError> {
        let mut modes = prover.modes.into_iter().map(mode).collect::<Result<Vec<_>, _>>()?;
        modes.sort_unstable();
        modes.dedup();
        let name = |field, text| short(field, text, MAX_NAME);
        Ok(Self {
            vm: name("vm", prover.vm)?.parse().map_err(|error| ProtocolError::field("vm", error))?,
            backend: name("backend", prover.backend)?
                .parse()
                .map_err(|error| ProtocolError::field("backend", error))?,
            device: short("device", prover.device, MAX_DEVICE)?,
            circuit_version: crate::CircuitVersion::new(name("circuit_version", prover.circuit_version)?),
            modes,
            memory_bytes: prover.memory_bytes,
        })
    }
}
