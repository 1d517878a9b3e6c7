//! A verifier child for a hierophant without SP1: it accepts mock proofs at once, so that figures are without the time
//! that verification takes.

use std::process::ExitCode;

use network_lib::Digest;
use proving::{
    KeyHashes, Verified, VerifyError, VerifyOrder,
    child::{Channel, Verify, serve_verifier},
    mock,
};

/// Accepts every sealed mock proof that claims what is asked for, and every verifying key.
struct AcceptMock;

impl Verify for AcceptMock {
    fn verify(&self, order: &VerifyOrder) -> Result<Verified, VerifyError> {
        let claim = mock::read_claim_file(&order.proof).map_err(|error| VerifyError::unreadable(&error))?;
        Ok(claim.ok_or_else(|| "the proof is not a mock proof".to_owned())?.check(order)?)
    }

    fn hash_verifying_key(&self, verifying_key: &[u8]) -> Result<KeyHashes, String> {
        Ok(key_hashes(verifying_key))
    }
}

/// The hashes that a verifying key of these bytes has here.
pub fn key_hashes(verifying_key: &[u8]) -> KeyHashes {
    let field = *Digest::of(verifying_key).as_bytes();
    KeyHashes { bn254: *Digest::of(&field).as_bytes(), field }
}

/// Serves until the parent goes.
pub fn run() -> ExitCode {
    match Channel::take().and_then(|channel| serve_verifier(channel, &AcceptMock)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            crate::last_word(&format!("verifier: {error}"));
            ExitCode::FAILURE
        }
    }
}
