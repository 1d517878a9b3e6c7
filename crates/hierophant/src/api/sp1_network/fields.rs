//! Single fields of messages: each is read into a domain type, or refused with its name, what is wrong and what is
//! right.

use hierophant_core::Requester;
use network_lib::{ArtifactId, Digest, ProofMode, RequestId};

use super::refusal::Refusal;

/// A field of exactly `N` bytes.
pub(super) fn bytes<const N: usize>(field: &str, bytes: &[u8]) -> Result<[u8; N], Refusal> {
    bytes.try_into().map_err(|_| Refusal::rejected(format!("{field} must be {N} bytes, not {}", bytes.len())))
}

/// A SHA-256 or the hash of a verifying key.
pub(super) fn digest(field: &str, value: &[u8]) -> Result<Digest, Refusal> {
    bytes(field, value).map(Digest::new)
}

/// A request's id.
pub(super) fn request_id(value: &[u8]) -> Result<RequestId, Refusal> {
    bytes("request_id", value).map(RequestId::new)
}

/// An address.
pub(super) fn address(field: &str, value: &[u8]) -> Result<Requester, Refusal> {
    bytes(field, value).map(Requester::new)
}

/// A proof mode.
pub(super) fn proof_mode(number: i32) -> Result<ProofMode, Refusal> {
    ProofMode::from_number(number).ok_or_else(|| {
        Refusal::rejected(format!(
            "mode {number} is not a proof mode: use 1 (core), 2 (compressed), 3 (plonk) or 4 (groth16)"
        ))
    })
}

/// A number that stands for one of `meanings`, counted from 0.
pub(super) fn one_of(field: &str, number: i32, meanings: &[&str]) -> Result<i32, Refusal> {
    if usize::try_from(number).is_ok_and(|index| index < meanings.len()) {
        return Ok(number);
    }
    let choices: Vec<String> =
        meanings.iter().enumerate().map(|(number, meaning)| format!("{number} ({meaning})")).collect();
    Err(Refusal::rejected(format!("{field} {number} is not known: use {}", choices.join(", "))))
}

/// An artifact. The text is not repeated in the refusal: clients confuse it with the upload's address, which is a
/// secret.
pub(super) fn artifact(field: &str, uri: &str) -> Result<ArtifactId, Refusal> {
    uri.parse().map_err(|_| {
        Refusal::rejected(format!(
            "{field} is not an artifact of this network: send the artifact_uri that CreateArtifact gave here"
        ))
    })
}
