//! The bytes of artifacts: a port in domain types, implemented by [`disk`].
//!
//! What an artifact is (whose, how large, which digest) is a row of the store; here are only its bytes, under its id.
//! They appear whole or not at all and never change after. `contract` is the suite that every implementation must pass.

mod capability;
mod claims;
pub mod disk;
mod durable;
mod intact;
mod public_url;

#[cfg(test)]
pub(crate) mod contract;

use std::{collections::HashMap, io, ops::Range, path::PathBuf, pin::Pin, time::SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use bytesize::ByteSize;
use futures_util::Stream;
use network_lib::{ArtifactId, ArtifactKind, Digest};

pub use self::{
    capability::{Action, Announced, Capabilities, CapabilityError, Grant, KeyFileError},
    claims::{Claim, Claims},
    disk::DiskArtifacts,
    intact::{Condition, Intact},
    public_url::{PublicUrl, PublicUrlError},
};
use crate::class::Class;

/// The bytes of artifacts.
#[async_trait]
pub trait ArtifactFiles: Send + Sync + 'static {
    /// Begins an upload of at most `limit` bytes. Nobody sees anything of it before it is published.
    async fn begin(&self, id: ArtifactId, limit: u64) -> Result<Box<dyn Upload>, ArtifactError>;

    /// How many bytes are here of an upload that broke off and can go on; none if there is no such upload.
    ///
    /// They stay what they are: whatever else is under way to them is over, so that a connection that is dead and does not
    /// know it holds up nobody.
    async fn partial(&self, id: ArtifactId) -> Result<u64, ArtifactError>;

    /// Goes on with an upload of the bytes that were `announced`, of which `offset` are here; or begins one that can go on
    /// later. Whatever else is under way to them is over.
    ///
    /// # Errors
    /// [`ArtifactError::Offset`] when another number of bytes is here.
    async fn resume(&self, id: ArtifactId, offset: u64, announced: Announced)
    -> Result<Box<dyn Upload>, ArtifactError>;

    /// Removes what is here of an upload that could go on. One that is under way is over.
    async fn discard(&self, id: ArtifactId) -> Result<(), ArtifactError>;

    /// The uploads that can go on, and when each was last written to.
    async fn partials(&self) -> Result<HashMap<ArtifactId, SystemTime>, ArtifactError>;

    /// The part of the artifact that `range` covers; what of it lies past the end is left out.
    ///
    /// Absence is an answer (`None`), not an error, and never an empty artifact. An artifact that is removed while it is
    /// read is read to its end.
    async fn open(&self, id: ArtifactId, range: Range<u64>) -> Result<Option<Reader>, ArtifactError>;

    /// Where the artifact lies as a file, for a child process to read. Absence is an answer, not an error.
    async fn local_file(&self, id: ArtifactId) -> Result<Option<PathBuf>, ArtifactError>;

    /// Removes the artifact. One that is not there is fine. After a crash it may be there again.
    async fn remove(&self, id: ArtifactId) -> Result<(), ArtifactError>;

    /// Whether there is room for an artifact of this kind, so that an upload may be invited.
    async fn has_room(&self, kind: ArtifactKind) -> Result<bool, ArtifactError>;

    /// What the file system says of the artifact's bytes. Absence is an answer, not an error.
    async fn stamp(&self, id: ArtifactId) -> Result<Option<Stamp>, ArtifactError>;

    /// Reads the artifact's bytes from beginning to end: what they are, and the stamp that they had before. Absence is an
    /// answer, not an error.
    async fn measure(&self, id: ArtifactId) -> Result<Option<(Published, Stamp)>, ArtifactError>;

    /// Moves damaged bytes aside, for the operator to look at: the artifact is gone from then on.
    async fn set_aside(&self, id: ArtifactId) -> Result<(), ArtifactError>;

    /// Whether bytes of this artifact were set aside.
    async fn was_set_aside(&self, id: ArtifactId) -> Result<bool, ArtifactError>;

    /// Removes what was set aside before `before`, and of the rest the oldest until it is no more than `most` bytes: how
    /// many files, with how many bytes.
    async fn clear_aside(&self, before: SystemTime, most: u64) -> Result<(u64, u64), ArtifactError>;

    /// Every artifact that is there, and when its bytes were last written. What comes or goes meanwhile may be missing.
    async fn list(&self) -> Result<HashMap<ArtifactId, SystemTime>, ArtifactError>;
}

/// An upload under way. Dropped, it leaves nothing behind; of one that was resumed most of what came stays.
///
/// No method is cancel-safe: after a call that failed or was dropped, the upload is over.
#[async_trait]
pub trait Upload: Send {
    /// Appends bytes. Waits while the disk is slower than they come.
    ///
    /// # Errors
    /// [`ArtifactError::TooLarge`] with the first byte over the limit, or over what was announced.
    async fn write(&mut self, chunk: Bytes) -> Result<(), ArtifactError>;

    /// Ends it for now. All that came stays for [`ArtifactFiles::resume`], unless it was begun by
    /// [`ArtifactFiles::begin`].
    async fn suspend(self: Box<Self>) -> Result<(), ArtifactError>;

    /// Makes the bytes visible under their id, whole and durable: after `Ok` they are there after any crash.
    ///
    /// Idempotent: bytes that are there already are fine, whoever brought them.
    ///
    /// # Errors
    /// [`ArtifactError::Conflict`] when other bytes have this id, or when these are not the ones that were `expected`;
    /// [`ArtifactError::NotAnnounced`] when they are not those that were announced. Nothing of them is kept then.
    async fn publish(self: Box<Self>, expected: Option<Digest>) -> Result<Published, ArtifactError>;
}

/// What was published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Published {
    /// Digest of the bytes.
    pub digest: Digest,
    /// How many bytes.
    pub size: u64,
}

/// What tells one state of a file from another without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// How many bytes it has.
    pub size: u64,
    /// When it was written last.
    pub written: Option<SystemTime>,
}

/// Bytes as they are read, in pieces large enough to be worth a system call.
pub type Chunks = Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>;

/// An artifact opened for reading.
pub struct Reader {
    /// How many bytes the whole artifact has.
    pub size: u64,
    /// The bytes that were asked for. A file that turns out shorter ends in an error, never silently.
    pub chunks: Chunks,
}

/// Why the bytes of an artifact were not stored, found or removed.
#[derive(Debug, thiserror::Error)]
pub enum ArtifactError {
    /// More bytes came than the artifact may have.
    #[error("{} has more than the {} that a {} may have", .id, ByteSize(*.limit), .id.kind())]
    TooLarge {
        /// The artifact.
        id: ArtifactId,
        /// The bound, in bytes.
        limit: u64,
    },
    /// The id has other bytes already.
    #[error("{0} exists already with other content")]
    Conflict(ArtifactId),
    /// Other bytes came than were announced.
    #[error("the bytes of {0} are not those that were announced, and nothing of them is kept")]
    NotAnnounced(ArtifactId),
    /// The upload cannot go on there.
    #[error("{there} bytes of {id} are here: an upload goes on from there")]
    Offset {
        /// The artifact.
        id: ArtifactId,
        /// How many bytes are here.
        there: u64,
    },
    /// Someone else goes on with the upload, or it was removed.
    #[error("this upload of {0} is over: another one took its place, or it is not needed any more")]
    TakenOver(ArtifactId),
    /// No room. Passing trouble: nothing was stored.
    #[error("the disk is full, or so nearly that what is left is kept for proofs and for the database")]
    Full,
    /// The file system did not do it. Nothing was stored, or at least nobody was told so.
    #[error("could not {doing} {}", .path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
}

impl ArtifactError {
    /// What kind of trouble this is.
    pub const fn class(&self) -> Class {
        match self {
            Self::TooLarge { .. } | Self::NotAnnounced(_) => Class::Rejected,
            Self::Conflict(_) | Self::Offset { .. } | Self::TakenOver(_) => Class::Conflict,
            Self::Full | Self::Io { .. } => Class::Unavailable,
        }
    }
}
