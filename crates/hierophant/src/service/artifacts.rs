//! A client asks for a place to upload a program or an input to.

use std::time::Duration;

use hierophant_core::Requester;
use network_lib::{ArtifactId, ArtifactKind};
use url::Url;

use super::{NotAllowed, Service};
use crate::class::Class;

/// How long an upload may begin after its place was handed out. The SDK uploads at once; large inputs over slow lines
/// are let finish.
const UPLOAD_WINDOW: Duration = Duration::from_hours(1);

/// Why no place was handed out.
#[derive(Debug, thiserror::Error)]
pub enum CreateArtifactError {
    /// The signer may not upload here.
    #[error(transparent)]
    NotAllowed(#[from] NotAllowed),
    /// Proofs are uploaded by workers.
    #[error("artifact_type proof cannot be created by clients: proofs are uploaded by the workers that make them")]
    NotForClients,
}

impl CreateArtifactError {
    /// What kind of trouble this is.
    pub const fn class(&self) -> Class {
        match self {
            Self::NotAllowed(_) => Class::Denied,
            Self::NotForClients => Class::Rejected,
        }
    }
}

impl Service {
    /// A fresh artifact of `owner`, and the URL under `base` that takes its content for an hour.
    ///
    /// Nothing is recorded before the upload: a place that is never used costs nothing.
    ///
    /// # Errors
    /// [`CreateArtifactError`]
    pub fn create_artifact(
        &self,
        kind: ArtifactKind,
        owner: Requester,
        base: &Url,
    ) -> Result<(ArtifactId, Url), CreateArtifactError> {
        self.require_allowed(owner)?;
        match kind {
            ArtifactKind::Program | ArtifactKind::Stdin | ArtifactKind::PrivateStdin => {}
            ArtifactKind::Proof => return Err(CreateArtifactError::NotForClients),
        }
        let id = self.ids.artifact(kind);
        let expires = self.clock.now().time.plus(UPLOAD_WINDOW);
        let upload = self.capabilities.put_url(base, id, Some(owner), expires);
        tracing::debug!(artifact.id = %id, requester = %owner, "handed out a place for an upload");
        Ok((id, upload))
    }
}
