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
    /// There is no room for it.
    #[error("the hierophant's disk is full: try again later; its operator must make room")]
    Full,
}

impl CreateArtifactError {
    /// What kind of trouble this is.
    pub const fn class(&self) -> Class {
        match self {
            Self::NotAllowed(_) => Class::Denied,
            Self::NotForClients => Class::Rejected,
            Self::Full => Class::Unavailable,
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
    pub async fn create_artifact(
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
        // A disk that does not say is found out by the upload.
        if !self.artifacts.has_room(kind).await.unwrap_or(true) {
            tracing::error!(
                "an upload was refused: the disk is so full that what is left is kept for proofs; make room"
            );
            return Err(CreateArtifactError::Full);
        }
        let id = self.ids.artifact(kind);
        let expires = self.clock.now().time.plus(UPLOAD_WINDOW);
        let upload = self.capabilities.put_url(base, id, Some(owner), expires);
        tracing::debug!(artifact.id = %id, requester = %owner, "handed out a place for an upload");
        Ok((id, upload))
    }
}
