//! Programs that clients registered, and artifacts that lie on disk.

use std::sync::Arc;

use async_trait::async_trait;
use hierophant_core::{Requester, Timestamp};
use network_lib::{ArtifactId, Digest};

use super::StorageError;

/// A registered program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// Names the program, in the form that the client's SDK uses. The same program may be registered under both forms.
    pub vk_hash: Digest,
    /// Its verifying key, as the client sent it; checked to hash to `vk_hash`.
    pub verifying_key: Vec<u8>,
    /// Its ELF, as the client uploaded it.
    pub program: ArtifactId,
    /// Who registered it first.
    pub owner: Requester,
    /// When.
    pub created_at: Timestamp,
}

/// Registered programs. They are not changed: the first registration of a `vk_hash` stays, but for its ELF, once that is
/// gone.
#[async_trait]
pub trait Programs {
    /// Registers a program. One that is registered already stays as it is: `Ok` all the same. If its ELF is gone, the new
    /// one takes its place.
    async fn register_program(&self, program: Program) -> Result<(), StorageError>;

    /// The program with this hash. Absence is an answer, not an error. Cheap: programs are kept in memory.
    async fn program(&self, vk_hash: Digest) -> Result<Option<Arc<Program>>, StorageError>;
}

/// An artifact whose bytes lie on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Artifact {
    /// Names it.
    pub id: ArtifactId,
    /// Who uploaded it; `None` for proofs, which workers upload.
    pub owner: Option<Requester>,
    /// Digest of the bytes.
    pub digest: Digest,
    /// How many bytes.
    pub size: u64,
    /// When the upload was complete.
    pub created_at: Timestamp,
}

/// Rows of artifacts. The bytes are elsewhere: written and synced before the row is.
#[async_trait]
pub trait Artifacts {
    /// Records an artifact. The same digest again is fine; another one is [`StorageError::Exists`].
    async fn record_artifact(&self, artifact: Artifact) -> Result<(), StorageError>;

    /// The artifact with this id. Absence is an answer, not an error.
    async fn artifact(&self, id: ArtifactId) -> Result<Option<Artifact>, StorageError>;

    /// Deletes an artifact's row because its bytes are gone, whoever needs them. One that is not there is fine.
    async fn forget_artifact(&self, id: ArtifactId) -> Result<(), StorageError>;
}
