//! Databases of earlier versions, as their programs left them.

use std::fmt::Write as _;

use network_lib::{ArtifactId, ArtifactKind};
use rusqlite_migration::{M, Migrations};

use super::*;
use crate::store::{RequestFilter, Store, Workers as _};

const VERSION_1: &str = include_str!("../fixtures/1.sql");
const VERSION_2: &str = include_str!("../fixtures/2.sql");

impl Place {
    /// A place with the database that this text makes.
    fn with(dump: &str) -> Self {
        let place = Self::new();
        place.intruder().execute_batch(dump).unwrap();
        place
    }

    fn version(&self) -> i32 {
        self.intruder().pragma_query_value(None, "user_version", |row| row.get(0)).unwrap()
    }

    /// Every row of the tables that version 1 had.
    fn rows(&self) -> String {
        let connection = self.intruder();
        let mut text = String::new();
        for table in ["requests", "events", "attempts", "programs", "artifacts", "workers"] {
            let mut statement = connection.prepare(&format!("SELECT * FROM {table} ORDER BY 1, 2")).unwrap();
            let columns = statement.column_count();
            let mut rows = statement.query(()).unwrap();
            while let Some(row) = rows.next().unwrap() {
                let values: Vec<_> = (0..columns).map(|n| row.get_ref(n).unwrap()).collect();
                writeln!(text, "{table}: {values:?}").unwrap();
            }
        }
        text
    }
}

/// Everything that a store tells, a fact a line.
async fn everything(store: &dyn Store) -> String {
    let mut text = String::new();
    let filter = RequestFilter { limit: 100, ..RequestFilter::default() };
    for request in store.requests(&filter).await.unwrap() {
        writeln!(text, "{request:?}").unwrap();
        for row in store.history(request.id).await.unwrap() {
            writeln!(text, "    {row:?}").unwrap();
        }
        assert_eq!(store.request(request.id).await.unwrap(), Some(request));
    }
    for request in store.open_requests().await.unwrap() {
        writeln!(text, "open: {}", request.id).unwrap();
    }
    for number in 0..=12 {
        writeln!(text, "{:?}", store.attempt(attempt(number)).await.unwrap()).unwrap();
    }
    for proof in store.proofs(100).await.unwrap() {
        writeln!(text, "{proof:?}").unwrap();
    }
    for number in 0..3 {
        writeln!(text, "{:?}", store.program(Digest::new([number; 32])).await.unwrap()).unwrap();
        for kind in ArtifactKind::ALL {
            writeln!(text, "{:?}", store.artifact(ArtifactId::new(kind, [number; 16])).await.unwrap()).unwrap();
        }
        writeln!(text, "{:?}", store.worker_record(worker(number)).await.unwrap()).unwrap();
    }
    for departed in store.departed_workers(9).await.unwrap() {
        writeln!(text, "{departed:?}").unwrap();
    }
    text
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_version_1_left_is_told_as_version_1_told_it() {
    let place = Place::with(VERSION_1);
    let store = place.open();
    assert_eq!(place.version(), schema::VERSION);
    // The snapshot was taken with a program that knew no later version.
    insta::assert_snapshot!("version_1", everything(&*store).await);
    drop(store);
    insta::assert_snapshot!("version_1", everything(&*place.open()).await);
}

/// What version 2 brought: hedges, standings, and what was said of programs that fail.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_version_2_left_is_told_as_version_2_told_it() {
    let place = Place::with(VERSION_2);
    let store = place.open();
    assert_eq!(place.version(), schema::VERSION);
    // As above.
    insta::assert_snapshot!("version_2", everything(&*store).await);
    for number in 0..3 {
        let standing = store.worker_standing(worker(number)).await.unwrap();
        assert_eq!(standing.faults(), usize::from(number == 1), "worker {number}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_migration_that_fails_midway_leaves_version_1_as_it_was_and_can_be_done_again() {
    let place = Place::with(VERSION_1);
    let before = place.rows();
    for version in 2..=schema::VERSION {
        let mut steps: Vec<String> =
            schema::SOURCES[..usize::try_from(version).unwrap()].iter().map(|sql| (*sql).to_owned()).collect();
        // All of it was done, and then the disk was full.
        steps.last_mut().unwrap().push_str("\nINSERT INTO nowhere VALUES (1);");
        let migrations = Migrations::new(steps.iter().map(|sql| M::up(sql)).collect());
        let mut connection = place.intruder();
        connection.pragma_update(None, "foreign_keys", true).unwrap();
        migrations.to_latest(&mut connection).unwrap_err();
        drop(connection);
        assert_eq!(place.version(), version - 1);
        assert_eq!(place.rows(), before);
        schema::MIGRATIONS.to_version(&mut place.intruder(), usize::try_from(version).unwrap()).unwrap();
    }
    insta::assert_snapshot!("version_1", everything(&*place.open()).await);
}
