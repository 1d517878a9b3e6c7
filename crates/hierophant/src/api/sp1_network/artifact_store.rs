//! `artifact.ArtifactStore`: places to upload programs and inputs to.

use network_lib::ArtifactKind;
use sp1_network_api::artifact::{
    ArtifactType, CreateArtifactRequest, CreateArtifactResponse, artifact_store_server::ArtifactStore,
};
use tonic::{Request, Response, Status};

use super::{Door, refusal::Refusal, signature};

/// What clients sign to upload anything. It is the same for every call, so the signature is a key that does not expire.
const SIGNED_WORDS: &[u8] = b"create_artifact";

#[tonic::async_trait]
impl ArtifactStore for Door {
    async fn create_artifact(
        &self,
        request: Request<CreateArtifactRequest>,
    ) -> Result<Response<CreateArtifactResponse>, Status> {
        let message = request.get_ref();
        let owner = signature::recover(SIGNED_WORDS, &message.signature).map_err(Refusal::from)?;
        let kind = kind(message.artifact_type)?;
        let base = self.base_url(request.extensions());
        let (id, upload) = self.service.create_artifact(kind, owner, &base).await.map_err(Refusal::from)?;
        Ok(Response::new(CreateArtifactResponse {
            artifact_uri: id.to_string(),
            artifact_presigned_url: upload.into(),
        }))
    }
}

fn kind(number: i32) -> Result<ArtifactKind, Refusal> {
    let refuse = |name: &str| {
        Err(Refusal::rejected(format!(
            "artifact_type {number}{name} cannot be created here: use 1 (program), 2 (stdin) or 7 (private stdin)"
        )))
    };
    match ArtifactType::try_from(number) {
        Ok(ArtifactType::Program) => Ok(ArtifactKind::Program),
        Ok(ArtifactType::Stdin) => Ok(ArtifactKind::Stdin),
        Ok(ArtifactType::PrivateStdin) => Ok(ArtifactKind::PrivateStdin),
        Ok(ArtifactType::Proof) => refuse(" (proof; workers upload proofs)"),
        Ok(ArtifactType::Unspecified) => refuse(" (unspecified)"),
        Ok(ArtifactType::Transaction | ArtifactType::State | ArtifactType::Export) => {
            refuse(" (of Succinct's public network)")
        }
        Err(_) => refuse(""),
    }
}
