//! Where new ids come from: the only place that draws them.

use std::sync::Arc;

use network_lib::{ArtifactId, ArtifactKind, AttemptId, RequestId};
use rand::RngCore as _;

/// Draws ids. Handed to whatever names something new, so that a simulation can be repeated.
///
/// Ids are capabilities: whoever knows one may read what it names.
pub trait Ids: Send + Sync {
    /// Fills `bytes` so that nobody can guess them.
    fn fill(&self, bytes: &mut [u8]);
}

impl dyn Ids {
    /// A fresh id of a request.
    pub fn request(&self) -> RequestId {
        RequestId::new(self.bytes())
    }

    /// A fresh id of an attempt.
    pub fn attempt(&self) -> AttemptId {
        AttemptId::new(self.bytes())
    }

    /// A fresh id of an artifact of this kind.
    pub fn artifact(&self, kind: ArtifactKind) -> ArtifactId {
        ArtifactId::new(kind, self.bytes())
    }

    fn bytes<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        self.fill(&mut bytes);
        bytes
    }
}

/// A source of ids that several parts share.
pub type SharedIds = Arc<dyn Ids>;

/// Ids from the thread's cryptographically secure generator.
#[derive(Debug, Clone, Copy, Default)]
pub struct RandomIds;

impl Ids for RandomIds {
    fn fill(&self, bytes: &mut [u8]) {
        rand::rng().fill_bytes(bytes);
    }
}
