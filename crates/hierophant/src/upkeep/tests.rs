mod consistency;
mod retention;

use std::sync::atomic::{AtomicU64, Ordering};

use hierophant_core::{Moment, Now, Timestamp};
use network_lib::{ArtifactId, ArtifactKind};

use super::*;
use crate::{
    artifacts::{DiskArtifacts, contract},
    clock::Clock,
    store::{
        Artifact,
        contract::requester,
        sqlite::{Settings, SqliteStore},
    },
};

/// The time at the start of every test.
const START: u64 = 10_000_000;

/// Tells the time that the test set.
#[derive(Default)]
struct TestClock(AtomicU64);

impl Clock for TestClock {
    fn now(&self) -> Now {
        let secs = START + self.0.load(Ordering::SeqCst);
        Now { moment: Moment::from_millis(secs * 1000), time: Timestamp::from_secs(secs) }
    }
}

/// A real store and real files, and a clock that the test sets.
struct Place {
    upkeep: Upkeep,
    clock: Arc<TestClock>,
    directory: tempfile::TempDir,
    /// What upkeep told to be lost.
    told: mpsc::Receiver<ArtifactId>,
}

impl Place {
    fn new(rules: RetentionRules) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(&directory.path().join("store.sqlite"), &Settings::default()).unwrap();
        let clock = Arc::new(TestClock::default());
        let (lost, told) = mpsc::channel(100);
        let upkeep = Upkeep {
            store: Arc::new(store),
            files: Arc::new(DiskArtifacts::open(directory.path().join("artifacts"), 0).unwrap()),
            claims: Claims::default(),
            clock: Arc::clone(&clock) as SharedClock,
            rules,
            lost,
        };
        Self { upkeep, clock, directory, told }
    }

    fn now(&self) -> Timestamp {
        self.clock.now().time
    }

    fn wait(&self, time: Duration) {
        self.clock.0.fetch_add(time.as_secs(), Ordering::SeqCst);
    }

    /// Bytes, then the row, as an upload leaves them.
    async fn upload(&self, id: ArtifactId) {
        let published = contract::store(&*self.upkeep.files, id, id.to_string().as_bytes()).await.unwrap();
        let owner = (id.kind() != ArtifactKind::Proof).then(|| requester(7));
        let artifact = Artifact { id, owner, digest: published.digest, size: published.size, created_at: self.now() };
        self.upkeep.store.record_artifact(artifact).await.unwrap();
    }

    async fn has_row(&self, id: ArtifactId) -> bool {
        self.upkeep.store.artifact(id).await.unwrap().is_some()
    }

    async fn has_file(&self, id: ArtifactId) -> bool {
        self.upkeep.files.local_file(id).await.unwrap().is_some()
    }
}

#[test]
fn a_clock_that_ran_ahead_is_doubted_for_a_day_and_one_that_was_set_back_is_not() {
    let at = |secs, ahead| Now {
        moment: Moment::from_millis(secs * 1000),
        time: Timestamp::from_secs(START + secs + ahead),
    };
    let (year, day) = (31_536_000, 86_400);
    let mut doubt = Doubt::from(at(0, 0));
    assert!(!doubt.holds(at(600, 0)));
    assert!(!doubt.holds(at(1200, 60)), "a minute is no matter");
    assert!(doubt.holds(at(1800, year)));
    assert!(doubt.holds(at(1800 + day / 2, year)));
    assert!(!doubt.holds(at(1800 + day, year)), "it seems to be right");
    assert!(!doubt.holds(at(2400 + day, 0)));
}
