//! Who may change anything here.

use hierophant_core::Requester;
use network_lib::CircuitVersion;

use super::Service;

/// The signer is not among those whom the operator lets in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0} may not ask here: the operator has to add this address to allowed_requesters")]
pub struct NotAllowed(pub Requester);

impl Service {
    /// Lets through whom the operator lets in: everyone who signs, if no addresses are listed.
    pub(super) fn require_allowed(&self, requester: Requester) -> Result<(), NotAllowed> {
        let allowed = &self.settings.allowed_requesters;
        if allowed.is_empty() || allowed.contains(&requester) { Ok(()) } else { Err(NotAllowed(requester)) }
    }
}

/// The versions, for a sentence.
pub(super) fn listed(versions: &[CircuitVersion]) -> String {
    versions.iter().map(CircuitVersion::as_str).collect::<Vec<_>>().join(", ")
}
