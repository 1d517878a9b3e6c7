//! Uploads that can go on after they broke off: `incoming/<id>.partial`, one for each artifact, and who may write to it.
//!
//! Whoever came last may. The one before it may wait on a connection that is dead and does not know it; it must neither
//! hold up the next one nor write between its bytes.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use network_lib::ArtifactId;

use super::super::ArtifactError;

/// What the names of partial uploads end in.
const SUFFIX: &str = ".partial";

/// The file of a partial upload.
pub(super) fn name(id: ArtifactId) -> String {
    format!("{id}{SUFFIX}")
}

/// The artifact whose partial upload has this name.
pub(super) fn id_of(name: &str) -> Option<ArtifactId> {
    name.strip_suffix(SUFFIX)?.parse().ok()
}

/// Whose turn it is at each partial upload.
#[derive(Debug, Clone, Default)]
pub(super) struct Turns(Arc<Mutex<HashMap<ArtifactId, Arc<Mutex<u64>>>>>);

/// The right to write to a partial upload, until someone else takes it.
#[derive(Debug)]
pub(super) struct Turn {
    turns: Turns,
    id: ArtifactId,
    /// The turn that it is now.
    current: Arc<Mutex<u64>>,
    number: u64,
}

impl Turns {
    /// Takes the right from whoever has it. Blocks while a write of theirs is under way: it is their last one.
    pub(super) fn take(&self, id: ArtifactId) -> Turn {
        let current = Arc::clone(locked(&self.0).entry(id).or_default());
        let number = {
            let mut now = locked(&current);
            *now += 1;
            *now
        };
        Turn { turns: self.clone(), id, current, number }
    }
}

impl Turn {
    /// Nobody takes the right as long as this is held.
    ///
    /// # Errors
    /// [`ArtifactError::TakenOver`] when someone has.
    pub(super) fn hold(&self) -> Result<MutexGuard<'_, u64>, ArtifactError> {
        let now = locked(&self.current);
        if *now == self.number { Ok(now) } else { Err(ArtifactError::TakenOver(self.id)) }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut turns = locked(&self.turns.0);
        // This one's and the map's own.
        if Arc::strong_count(&self.current) == 2 {
            turns.remove(&self.id);
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::artifacts::contract::artifact;

    #[test]
    fn only_who_came_last_may_write_and_nothing_is_kept_of_what_is_over() {
        let turns = Turns::default();
        let first = turns.take(artifact(1));
        assert!(first.hold().is_ok());
        let second = turns.take(artifact(1));
        assert!(matches!(first.hold(), Err(ArtifactError::TakenOver(id)) if id == artifact(1)));
        drop(first);
        assert!(second.hold().is_ok());
        assert!(turns.take(artifact(2)).hold().is_ok());
        drop(second);
        assert!(turns.take(artifact(1)).hold().is_ok());
        assert!(locked(&turns.0).is_empty());
    }

    #[test]
    fn a_name_is_read_back_and_no_other_name_is_one() {
        assert_eq!(id_of(&name(artifact(1))), Some(artifact(1)));
        for other in ["", ".partial", "x.partial", &format!("{}.0123.unfinished", artifact(1))] {
            assert_eq!(id_of(other), None, "{other}");
        }
    }
}
