//! Who is at an artifact just now: those who bring it, or the one who removes it, never both.
//!
//! A row is written after its bytes and deleted before them. An upload of bytes that are there already, which came
//! between the two halves of a removal, would end with a row without bytes.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use network_lib::ArtifactId;

/// What is being done to artifacts.
#[derive(Debug, Clone, Default)]
pub struct Claims(Arc<Mutex<HashMap<ArtifactId, Work>>>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Work {
    /// That many uploads are under way.
    Bringing(usize),
    Removing,
}

/// The right to do it, until it is dropped.
#[derive(Debug)]
pub struct Claim {
    claims: Claims,
    id: ArtifactId,
}

impl Claims {
    /// To bring the artifact, as others may at the same time. `None` while it is removed.
    pub fn bring(&self, id: ArtifactId) -> Option<Claim> {
        match self.works().entry(id).or_insert(Work::Bringing(0)) {
            Work::Bringing(uploads) => *uploads += 1,
            Work::Removing => return None,
        }
        Some(Claim { claims: self.clone(), id })
    }

    /// To remove the artifact. `None` while anyone is at it.
    pub fn remove(&self, id: ArtifactId) -> Option<Claim> {
        match self.works().entry(id) {
            Entry::Occupied(_) => None,
            Entry::Vacant(free) => {
                free.insert(Work::Removing);
                Some(Claim { claims: self.clone(), id })
            }
        }
    }

    fn works(&self) -> MutexGuard<'_, HashMap<ArtifactId, Work>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Claim {
    /// The artifact.
    pub const fn id(&self) -> ArtifactId {
        self.id
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut works = self.claims.works();
        match works.get_mut(&self.id) {
            Some(Work::Bringing(uploads)) if *uploads > 1 => *uploads -= 1,
            _ => drop(works.remove(&self.id)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::artifacts::contract::artifact;

    #[test]
    fn many_may_bring_an_artifact_at_once_and_none_of_them_while_it_is_removed() {
        let claims = Claims::default();
        let uploads = [claims.bring(artifact(1)).unwrap(), claims.bring(artifact(1)).unwrap()];
        let [first, second] = uploads;
        assert!(claims.remove(artifact(1)).is_none());
        drop(first);
        assert!(claims.remove(artifact(1)).is_none());
        drop(second);
        let removal = claims.remove(artifact(1)).unwrap();
        assert!(claims.bring(artifact(1)).is_none());
        assert!(claims.remove(artifact(1)).is_none());
        assert!(claims.bring(artifact(2)).is_some());
        drop(removal);
        assert!(claims.bring(artifact(1)).is_some());
        assert!(claims.works().is_empty(), "nothing is kept of what is over");
    }
}
