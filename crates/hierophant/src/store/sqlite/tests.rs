//! What is SQLite's alone: the file, the batches, the cache.

use std::{
    fs,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use futures_util::future::join_all;
use hierophant_core::Request;
use network_lib::{Digest, RequestId, protocol::Execution};
use rusqlite::Connection;
use tempfile::TempDir;

use super::{OpenError, Settings, SqliteStore, cache::RequestCache, schema, writer::Written};
use crate::store::{
    Requests as _, SharedStore, StorageError, Submitted,
    contract::{self, accept, at, attempt, new_request, upload_stdin, worker},
};

mod migrating;
mod owning;

mod contract_of_the_store {
    super::contract::contract_tests!(super::fresh);
}

/// The contract again where every read goes to the file, because nothing fits into memory.
mod contract_of_the_store_without_memory {
    super::contract::contract_tests!(super::fresh_without_memory);
}

struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    fn file(&self) -> PathBuf {
        self.0.path().join("hierophant.db")
    }

    fn open(&self) -> Arc<SqliteStore> {
        Arc::new(SqliteStore::open(&self.file(), &settings()).unwrap())
    }

    /// A second program on the same file.
    fn intruder(&self) -> Connection {
        Connection::open(self.file()).unwrap()
    }

    /// What is on the disk at this moment, opened elsewhere: what a restart after a kill would find.
    fn after_a_kill(&self) -> (Arc<SqliteStore>, Self) {
        let copy = Self::new();
        for suffix in ["", "-wal"] {
            let [from, to] = [self, &copy].map(|place| place.0.path().join(format!("hierophant.db{suffix}")));
            fs::copy(from, to).unwrap();
        }
        (copy.open(), copy)
    }
}

fn settings() -> Settings {
    Settings { busy_timeout: std::time::Duration::from_millis(20), ..Settings::default() }
}

#[expect(clippy::unused_async, reason = "the contract takes async factories")]
async fn fresh() -> (SharedStore, Place) {
    let place = Place::new();
    (place.open(), place)
}

#[expect(clippy::unused_async, reason = "the contract takes async factories")]
async fn fresh_without_memory() -> (SharedStore, Place) {
    let place = Place::new();
    let settings = Settings { request_cache_bytes: 0, program_cache_bytes: 0, readers: 1, ..settings() };
    let store = SqliteStore::open(&place.file(), &settings).unwrap();
    (Arc::new(store), place)
}

fn shared(store: &Arc<SqliteStore>) -> SharedStore {
    Arc::clone(store) as SharedStore
}

#[expect(clippy::disallowed_methods, reason = "a test's tasks end with its runtime")]
fn aside<T: Send + 'static>(future: impl Future<Output = T> + Send + 'static) -> tokio::task::JoinHandle<T> {
    tokio::spawn(future)
}

/// Holds the writer until the answer is dropped, so that what is sent meanwhile comes into one batch.
async fn hold(store: &Arc<SqliteStore>) -> std::sync::mpsc::Sender<()> {
    let (release, held) = std::sync::mpsc::channel::<()>();
    let (begun, beginning) = tokio::sync::oneshot::channel();
    let holding = Arc::clone(store);
    aside(async move {
        let wait = move |_: &Connection| {
            begun.send(()).ok();
            held.recv().ok();
            Ok(Written::plain(()))
        };
        holding.writer.perform(wait).await
    });
    beginning.await.unwrap();
    release
}

async fn until(condition: impl Fn() -> bool) {
    while !condition() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_is_opened_again_has_everything() {
    let place = Place::new();
    let store = shared(&place.open());
    let request = accept(&store, new_request(1)).await;
    let leased = store.write(request.lease(attempt(1), worker(1), at(2)).unwrap()).await.unwrap();
    store.worker_joined(worker(1), "Amos", "here", at(1)).await.unwrap();
    store.worker_left(worker(1), at(3), "went").await.unwrap();
    drop(store);
    let log = place.0.path().join("hierophant.db-wal");
    assert!(!log.exists(), "a closed store leaves one file");

    let store = place.open();
    assert_eq!(store.request(request.id).await.unwrap().as_ref(), Some(&leased));
    assert_eq!(store.open_requests().await.unwrap(), vec![leased]);
    assert_eq!(store.history(request.id).await.unwrap().len(), 2);
    assert_eq!(store.attempt(attempt(1)).await.unwrap().unwrap().started_at, at(2));
    assert_eq!(shared(&store).departed_workers(9).await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_was_answered_is_there_after_a_kill() {
    let place = Place::new();
    let store = shared(&place.open());
    upload_stdin(&store, 7).await;
    let mut answered: Vec<Arc<Request>> = Vec::new();
    for round in 0..5_u32 {
        for answer in join_all((0..40).map(|n| store.submit(new_request(40 * round + n)))).await {
            let Submitted::Accepted(request) = answer.unwrap() else { panic!("not accepted") };
            answered.push(request);
        }
        let number = u8::try_from(round).unwrap();
        let latest = answered.last_mut().unwrap();
        *latest = store.write(latest.lease(attempt(number), worker(1), at(900)).unwrap()).await.unwrap();

        let (restarted, _place) = place.after_a_kill();
        assert_eq!(restarted.open_requests().await.unwrap(), answered);
        assert_eq!(restarted.attempt(attempt(number)).await.unwrap().unwrap().ended_at, None);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_answered_before_it_is_on_the_disk() {
    let place = Place::new();
    let store = place.open();
    upload_stdin(&shared(&store), 7).await;
    let release = hold(&store).await;
    let submitting = aside({
        let store = Arc::clone(&store);
        async move { store.submit(new_request(1)).await }
    });
    until(|| store.writer.waiting() == 1).await;
    assert!(!submitting.is_finished());
    assert_eq!(store.request(new_request(1).id).await.unwrap(), None);
    drop(release);
    assert!(matches!(submitting.await.unwrap(), Ok(Submitted::Accepted(_))));
    let (restarted, _place) = place.after_a_kill();
    assert!(restarted.request(new_request(1).id).await.unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_together_is_committed_together() {
    let place = Place::new();
    let store = place.open();
    upload_stdin(&shared(&store), 7).await;
    let before = store.writer.stats();
    let release = hold(&store).await;
    let submissions = aside({
        let store = Arc::clone(&store);
        async move { join_all((0..100).map(|n| store.submit(new_request(n)))).await }
    });
    until(|| store.writer.waiting() == 100).await;
    drop(release);
    assert!(submissions.await.unwrap().iter().all(Result::is_ok));
    let after = store.writer.stats();
    assert_eq!((after.commits - before.commits, after.writes - before.writes), (1, 100));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operation_that_fails_spoils_none_of_its_batch() {
    let place = Place::new();
    let store = place.open();
    upload_stdin(&shared(&store), 7).await;
    let release = hold(&store).await;
    let half_done = |connection: &Connection| {
        connection.execute("DELETE FROM artifacts", ()).unwrap();
        Err::<Written<()>, _>(StorageError::Closed)
    };
    let work = aside({
        let store = Arc::clone(&store);
        async move {
            tokio::join!(store.submit(new_request(1)), store.writer.perform(half_done), store.submit(new_request(2)))
        }
    });
    until(|| store.writer.waiting() == 3).await;
    drop(release);
    let (first, failed, second) = work.await.unwrap();
    assert!(matches!(first, Ok(Submitted::Accepted(_))), "{first:?}");
    assert!(matches!(failed, Err(StorageError::Closed)), "{failed:?}");
    assert!(matches!(second, Ok(Submitted::Accepted(_))), "{second:?}");
    assert_eq!(store.open_requests().await.unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_fails_is_answered_to_all_and_leaves_nothing_in_memory() {
    let place = Place::new();
    let store = place.open();
    upload_stdin(&shared(&store), 7).await;
    let release = hold(&store).await;
    // A broken reference that is only looked at when the transaction is committed.
    let broken = |connection: &Connection| {
        connection.execute_batch("PRAGMA defer_foreign_keys = ON").unwrap();
        connection.execute("INSERT INTO events VALUES (99, 1, 0, 'accepted', '')", ()).unwrap();
        Ok(Written::plain(()))
    };
    let work = aside({
        let store = Arc::clone(&store);
        async move { tokio::join!(store.submit(new_request(1)), store.writer.perform(broken)) }
    });
    until(|| store.writer.waiting() == 2).await;
    drop(release);
    let (submitted, broken) = work.await.unwrap();
    assert!(matches!(submitted, Err(StorageError::Unavailable { .. })), "{submitted:?}");
    assert!(matches!(broken, Err(StorageError::Unavailable { .. })), "{broken:?}");
    assert_eq!(store.request(new_request(1).id).await.unwrap(), None);
    assert_eq!(store.cache.len(), 0);
    accept(&shared(&store), new_request(1)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_is_passing_trouble() {
    let place = Place::new();
    let store = place.open();
    upload_stdin(&shared(&store), 7).await;
    let limit = |pages: i64| {
        let limit = move |connection: &Connection| {
            connection.pragma_update(None, "max_page_count", pages).unwrap();
            Ok(Written::plain(()))
        };
        store.writer.perform(limit)
    };
    limit(1).await.unwrap(); // not below what is there
    let mut accepted = 0_usize;
    let error = loop {
        match store.submit(new_request(u32::try_from(accepted).unwrap())).await {
            Ok(_) => accepted += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(&error, StorageError::Unavailable { problem } if problem.contains("full")), "{error}");
    assert_eq!(store.open_requests().await.unwrap().len(), accepted);
    limit(1_000_000).await.unwrap();
    accept(&shared(&store), new_request(5000)).await;
    assert_eq!(store.open_requests().await.unwrap().len(), accepted + 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_someone_else_holds_is_waited_for_and_then_unavailable() {
    let place = Place::new();
    let store = place.open();
    upload_stdin(&shared(&store), 7).await;
    let intruder = place.intruder();
    intruder.execute_batch("BEGIN IMMEDIATE").unwrap();
    for answer in join_all((0..20).map(|n| store.submit(new_request(n)))).await {
        assert!(matches!(answer, Err(StorageError::Unavailable { .. })), "{answer:?}");
    }
    assert_eq!(store.open_requests().await.unwrap(), vec![], "reading goes on");
    intruder.execute_batch("ROLLBACK").unwrap();
    accept(&shared(&store), new_request(1)).await;
    // One that only reads is not in the way.
    intruder.execute_batch("BEGIN; SELECT count(*) FROM requests").unwrap();
    accept(&shared(&store), new_request(2)).await;
}

#[test]
fn a_newer_schema_is_refused_in_words_and_not_touched() {
    let place = Place::new();
    drop(place.open());
    place.intruder().pragma_update(None, "user_version", 99).unwrap();
    let before = fs::read(place.file()).unwrap();
    let error = SqliteStore::open(&place.file(), &settings()).unwrap_err();
    assert!(matches!(error, OpenError::Newer { found: 99, known: schema::VERSION, .. }));
    let text = error.to_string();
    assert!(text.contains("version 99") && text.contains("newer program"), "{text}");
    assert_eq!(fs::read(place.file()).unwrap(), before);
}

#[test]
fn a_file_that_is_no_database_is_refused_and_not_touched() {
    let place = Place::new();
    let text = "a letter to the Hebrews, ".repeat(100);
    fs::write(place.file(), &text).unwrap();
    let error = SqliteStore::open(&place.file(), &settings()).unwrap_err();
    assert!(matches!(error, OpenError::NotADatabase { .. }), "{error}");
    assert_eq!(fs::read_to_string(place.file()).unwrap(), text);
}

#[test]
fn the_database_of_another_program_is_refused() {
    let place = Place::new();
    place.intruder().execute_batch("CREATE TABLE songs (title TEXT)").unwrap();
    let error = SqliteStore::open(&place.file(), &settings()).unwrap_err();
    assert!(matches!(error, OpenError::Foreign { .. }), "{error}");
}

#[test]
fn a_damaged_file_is_refused_with_the_damage() {
    let place = Place::new();
    drop(place.open());
    let mut bytes = fs::read(place.file()).unwrap();
    // All pages but the first, which tells that this is a database of ours.
    bytes[4096..].fill(0x5a);
    fs::write(place.file(), bytes).unwrap();
    let error = SqliteStore::open(&place.file(), &settings()).unwrap_err();
    assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
}

#[test]
fn a_missing_directory_is_named() {
    let place = Place::new();
    let error = SqliteStore::open(&place.0.path().join("missing/hierophant.db"), &settings()).unwrap_err();
    assert!(error.to_string().contains("missing/hierophant.db"), "{error}");
}

#[test]
fn the_migrations_make_the_schema_that_they_say() {
    schema::MIGRATIONS.validate().unwrap();
    let place = Place::new();
    drop(place.open());
    let number = |pragma| place.intruder().pragma_query_value(None, pragma, |row| row.get::<_, i32>(0)).unwrap();
    assert_eq!(number("user_version"), schema::VERSION);
    assert_eq!(number("application_id"), schema::APPLICATION_ID);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_commit_is_synced_and_the_log_is_written_ahead() {
    let place = Place::new();
    let store = place.open();
    let read = |connection: &Connection| {
        let number = |pragma| connection.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0)).unwrap();
        let mode: String = connection.pragma_query_value(None, "journal_mode", |row| row.get(0)).unwrap();
        Ok(Written::plain((mode, number("synchronous"), number("foreign_keys"))))
    };
    let full = 2;
    assert_eq!(store.writer.perform(read).await.unwrap(), ("wal".to_owned(), full, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_row_is_named_and_hides_no_other() {
    let place = Place::new();
    let store = shared(&place.open());
    let columns = [
        ("state_detail", "'nonsense'"),
        ("state", "'leased'"),
        ("tries", "'{}'"),
        ("vk_hash", "x'0102'"),
        ("program", "'../../etc/passwd'"),
        ("variant", "'other'"),
        ("requester", "x''"),
    ];
    let mut damaged = Vec::new();
    for (n, (column, value)) in (0..).zip(columns) {
        let request = accept(&store, new_request(n)).await;
        let sql = format!("UPDATE requests SET {column} = {value} WHERE id = ?1");
        assert_eq!(place.intruder().execute(&sql, [request.id.as_bytes()]).unwrap(), 1);
        damaged.push((request.id, column));
    }
    let whole = accept(&store, new_request(100)).await;
    drop(store);

    let store = place.open();
    for (id, column) in damaged {
        let error = store.request(id).await.unwrap_err();
        let StorageError::Damaged { table, row, problem } = &error else { panic!("{error}") };
        assert_eq!((*table, row), ("requests", &id.to_string()));
        assert!(problem.contains(column), "{problem}");
    }
    assert_eq!(store.open_requests().await.unwrap(), vec![whole]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_history_is_an_error_and_not_a_shorter_history() {
    let place = Place::new();
    let store = place.open();
    let request = accept(&shared(&store), new_request(1)).await;
    place.intruder().execute("UPDATE events SET kind = 'cancelled'", ()).unwrap();
    let error = store.history(request.id).await.unwrap_err();
    assert!(matches!(error, StorageError::Damaged { table: "events", .. }), "{error}");
}

fn version(number: u64) -> Arc<Request> {
    let new = new_request(1);
    Arc::new(Request {
        id: new.id,
        spec: new.spec,
        state: hierophant_core::RequestState::Queued,
        tries: hierophant_core::Tries::default(),
        execution: None,
        created_at: at(1),
        updated_at: at(1),
        version: number,
    })
}

#[tokio::test]
async fn what_a_slow_reader_brings_never_replaces_what_was_published_meanwhile() {
    let cache = RequestCache::new(1 << 20);
    let id = version(1).id;
    let slow = async {
        cache.publish(&version(2));
        Ok(Some(version(1)))
    };
    assert_eq!(cache.get_or_load(id, slow).await.unwrap().unwrap().version, 1);
    let unused = async { panic!("it is in memory") };
    assert_eq!(cache.get_or_load(id, unused).await.unwrap().unwrap().version, 2);
}

#[tokio::test]
async fn what_a_slow_reader_brings_is_refused_even_if_what_was_published_is_evicted() {
    let cache = RequestCache::new(64 << 10);
    let id = version(1).id;
    let slow = async {
        cache.publish(&version(2));
        for n in 2..5000 {
            let other = Request { id: new_request(n).id, ..(*version(1)).clone() };
            cache.publish(&Arc::new(other));
        }
        Ok(Some(version(1)))
    };
    assert_eq!(cache.get_or_load(id, slow).await.unwrap().unwrap().version, 1);
    let load = async { Ok(Some(version(2))) };
    assert_eq!(cache.get_or_load(id, load).await.unwrap().unwrap().version, 2);
}

#[tokio::test]
async fn a_version_too_large_for_the_cache_still_forbids_older_ones() {
    let cache = RequestCache::new(1 << 20);
    let id = version(1).id;
    let mut large = (*version(2)).clone();
    large.spec.circuit_version = network_lib::CircuitVersion::new("x".repeat(1 << 20));
    let large = Arc::new(large);
    let slow = async {
        cache.publish(&large);
        Ok(Some(version(1)))
    };
    assert_eq!(cache.get_or_load(id, slow).await.unwrap().unwrap().version, 1);
    let load = async { Ok(Some(Arc::clone(&large))) };
    assert_eq!(cache.get_or_load(id, load).await.unwrap().unwrap().version, 2);
    assert_eq!(cache.len(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn asking_for_unknown_ids_takes_no_memory() {
    let place = Place::new();
    let store = place.open();
    for n in 0..2000_u32 {
        let id = RequestId::new(*Digest::of(&n.to_be_bytes()).as_bytes());
        assert_eq!(store.request(id).await.unwrap(), None);
    }
    assert_eq!(store.cache.len(), 0);
}

/// Readers and the writer race for one request while other requests push it out of a small cache: no reader may see a
/// version older than one that it has seen or that was answered before it asked.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn readers_never_go_back_in_time_while_the_writer_writes() {
    const CHANGES: u64 = 300;
    let place = Place::new();
    let settings = Settings { request_cache_bytes: 40 << 10, ..settings() };
    let store = Arc::new(SqliteStore::open(&place.file(), &settings).unwrap());
    upload_stdin(&shared(&store), 7).await;
    let others: Vec<_> = (1000..1200).map(|n| new_request(n).id).collect();
    join_all((1000..1200).map(|n| store.submit(new_request(n)))).await;
    let request = accept(&shared(&store), new_request(1)).await;
    let mut request = store.write(request.lease(attempt(1), worker(1), at(2)).unwrap()).await.unwrap();
    let (id, done) = (request.id, Arc::new(AtomicBool::new(false)));
    let answered = Arc::new(std::sync::atomic::AtomicU64::new(request.version));
    let mut readers = tokio::task::JoinSet::new();
    for reader in 0..6 {
        let (store, done, answered, others) =
            (Arc::clone(&store), Arc::clone(&done), Arc::clone(&answered), others.clone());
        readers.spawn(async move {
            let mut seen = 0;
            for other in others.iter().cycle().skip(reader * 30) {
                if done.load(Ordering::SeqCst) {
                    break;
                }
                let at_least = answered.load(Ordering::SeqCst).max(seen);
                seen = store.request(id).await.unwrap().unwrap().version;
                assert!(seen >= at_least, "read version {seen} after version {at_least}");
                assert!(store.request(*other).await.unwrap().is_some());
            }
        });
    }
    for cycles in 0..CHANGES {
        let execution = Execution { cycles, gas: None, public_values_hash: Digest::new([0; 32]) };
        let mut before = Request::clone(&request);
        before.tries.executed.clear(); // counts once, and here there are to be many changes
        request = store.write(before.executed(attempt(1), execution, at(3)).unwrap()).await.unwrap();
        answered.store(request.version, Ordering::SeqCst);
    }
    done.store(true, Ordering::SeqCst);
    while let Some(reader) = readers.join_next().await {
        reader.unwrap();
    }
    assert_eq!(store.request(id).await.unwrap(), Some(request));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_of_open_requests_use_their_index() {
    let place = Place::new();
    let store = place.open();
    accept(&shared(&store), new_request(1)).await;
    let plan = |sql: &str| {
        let connection = place.intruder();
        let mut statement = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
        let steps = statement.query_map((), |row| row.get::<_, String>("detail")).unwrap();
        steps.map(Result::unwrap).collect::<Vec<_>>().join("; ")
    };
    let open = "SELECT * FROM requests WHERE state IN ('queued', 'leased', 'verifying')";
    assert_eq!(plan(&format!("{open} ORDER BY created_at, seq")), "SCAN requests USING INDEX requests_open");
    let proofs = "SELECT * FROM requests WHERE state = 'fulfilled' ORDER BY updated_at DESC, seq DESC LIMIT 1";
    assert_eq!(plan(proofs), "SCAN requests USING INDEX requests_fulfilled");
    let latest = "SELECT * FROM requests WHERE fingerprint = x'00' ORDER BY seq DESC LIMIT 1";
    assert_eq!(plan(latest), "SEARCH requests USING INDEX requests_by_fingerprint (fingerprint=?)");
}
