//! The one thread that writes. It takes what waits, runs it in one transaction, and syncs once for all of it.
//!
//! An operation that has reached the queue runs, whether or not its caller still waits for the answer: a handler that
//! a client gives up cannot leave half of a write behind.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread::JoinHandle,
};

use hierophant_core::Request;
use network_lib::RequestId;
use rusqlite::{Connection, TransactionBehavior, ffi};
use tokio::sync::{mpsc, oneshot, watch};

use super::{cache::RequestCache, ownership::Epoch};
use crate::store::{Stats, StorageError};

/// Most operations in one transaction: bounds how long the first of them waits for the others.
const MAX_BATCH: usize = 512;

/// Operations that may wait for the writer: two batches, one that runs and one that gathers meanwhile. Past that,
/// callers wait for room.
const QUEUE: usize = 2 * MAX_BATCH;

#[derive(Debug, Default)]
struct Counters {
    commits: AtomicU64,
    writes: AtomicU64,
}

/// What an operation has written.
pub(super) struct Written<T> {
    /// What the caller is told once it is committed.
    pub(super) answer: T,
    /// The request's new version, if the operation made one.
    pub(super) request: Option<Arc<Request>>,
    /// Requests that the operation deleted.
    pub(super) dropped: Vec<RequestId>,
}

impl<T> Written<T> {
    /// Something that made no new version of a request.
    pub(super) const fn plain(answer: T) -> Self {
        Self { answer, request: None, dropped: Vec::new() }
    }

    /// Something that made a new version of a request.
    pub(super) const fn version(answer: T, request: Arc<Request>) -> Self {
        Self { answer, request: Some(request), dropped: Vec::new() }
    }
}

/// Hands operations to the writer's thread.
#[derive(Debug)]
pub(super) struct Writer {
    /// `None` while dropping.
    queue: Option<mpsc::Sender<Box<dyn Operation>>>,
    thread: Option<JoinHandle<()>>,
    counters: Arc<Counters>,
    stopped: watch::Receiver<Option<String>>,
}

impl Writer {
    /// Starts the thread, which owns `connection` and tells `cache` of every new version.
    pub(super) fn start(connection: Connection, epoch: Epoch, cache: Arc<RequestCache>) -> std::io::Result<Self> {
        let (queue, operations) = mpsc::channel(QUEUE);
        let (stop, stopped) = watch::channel(None);
        let counters = Arc::new(Counters::default());
        let thread = WriterThread { connection, epoch, operations, cache, counters: Arc::clone(&counters), stop };
        let thread = std::thread::Builder::new().name("store-writer".to_owned()).spawn(move || thread.run())?;
        Ok(Self { queue: Some(queue), thread: Some(thread), counters, stopped })
    }

    /// Runs `operation` in a transaction, on the writer's thread. Answers when it is committed.
    ///
    /// An operation that answers an error leaves nothing behind. Dropping the future once it waits for the answer
    /// does not stop the operation.
    pub(super) async fn perform<T: Send + 'static>(
        &self,
        operation: impl FnOnce(&Connection) -> Result<Written<T>, StorageError> + Send + 'static,
    ) -> Result<T, StorageError> {
        let (reply, answer) = oneshot::channel();
        let waiting = Waiting { operation: Some(operation), result: None, reply };
        let queue = self.queue.as_ref().ok_or(StorageError::Closed)?;
        queue.send(Box::new(waiting)).await.map_err(|_| StorageError::Closed)?;
        answer.await.unwrap_or(Err(StorageError::Closed))
    }

    /// What the writer has done since it started.
    pub(super) fn stats(&self) -> Stats {
        Stats {
            commits: self.counters.commits.load(Ordering::Relaxed),
            writes: self.counters.writes.load(Ordering::Relaxed),
        }
    }

    /// Waits until the writer has given up by itself, and says why.
    pub(super) async fn stopped(&self) -> String {
        let mut stopped = self.stopped.clone();
        match stopped.wait_for(Option::is_some).await {
            Ok(problem) => problem.clone().unwrap_or_default(),
            Err(_) => "the thread that writes the database has ended".to_owned(),
        }
    }

    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        self.queue.as_ref().map_or(0, |queue| queue.max_capacity() - queue.capacity())
    }
}

impl Drop for Writer {
    /// Waits until what is queued is written.
    fn drop(&mut self) {
        drop(self.queue.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that writes the database panicked");
        }
    }
}

/// An operation on its way through the writer: run once, then answered once.
trait Operation: Send {
    /// Runs it. Its error, if any, is kept for the answer.
    fn run(&mut self, connection: &Connection) -> Result<Vec<Version>, Undone>;

    /// Tells the caller: its own result if that was committed, otherwise the problem.
    fn answer(self: Box<Self>, committed: Result<(), &str>);
}

/// The operation failed, and leaves nothing behind.
struct Undone;

/// A request as it is now; `None` when it was deleted.
type Version = (RequestId, Option<Arc<Request>>);

struct Waiting<F, T> {
    operation: Option<F>,
    result: Option<Result<T, StorageError>>,
    reply: oneshot::Sender<Result<T, StorageError>>,
}

impl<F, T> Operation for Waiting<F, T>
where
    F: FnOnce(&Connection) -> Result<Written<T>, StorageError> + Send,
    T: Send,
{
    fn run(&mut self, connection: &Connection) -> Result<Vec<Version>, Undone> {
        let operation = self.operation.take().ok_or(Undone)?;
        let (result, outcome) = match operation(connection) {
            Ok(Written { answer, request, dropped }) => {
                let changed = request.map(|request| (request.id, Some(request)));
                (Ok(answer), Ok(changed.into_iter().chain(dropped.into_iter().map(|id| (id, None))).collect()))
            }
            Err(error) => (Err(error), Err(Undone)),
        };
        self.result = Some(result);
        outcome
    }

    fn answer(self: Box<Self>, committed: Result<(), &str>) {
        let result = match (committed, self.result) {
            (Ok(()), Some(result)) => result,
            (Ok(()), None) => Err(StorageError::Closed),
            (Err(problem), _) => Err(StorageError::Unavailable { problem: problem.to_owned() }),
        };
        // A caller that has gone away does not want to know.
        let _ = self.reply.send(result);
    }
}

struct WriterThread {
    connection: Connection,
    epoch: Epoch,
    operations: mpsc::Receiver<Box<dyn Operation>>,
    cache: Arc<RequestCache>,
    counters: Arc<Counters>,
    stop: watch::Sender<Option<String>>,
}

impl WriterThread {
    /// Writes until the queue is closed and empty.
    fn run(mut self) {
        while let Some(first) = self.operations.blocking_recv() {
            let mut batch = vec![first];
            let committed = self.write(&mut batch);
            let told = committed.as_ref().map(|_| ()).map_err(String::as_str);
            if let Ok(changed) = &committed {
                // Before anyone is told, so that whoever is told of a version also reads it.
                for (id, version) in changed {
                    match version {
                        Some(request) => self.cache.publish(request),
                        None => self.cache.retract(*id),
                    }
                }
            }
            for operation in batch {
                operation.answer(told);
            }
        }
    }

    /// Writes a batch, which starts with one operation and grows by what waits. Answers the newest version of each
    /// request that changed, or why nothing was written.
    fn write(
        &mut self,
        batch: &mut Vec<Box<dyn Operation>>,
    ) -> Result<HashMap<RequestId, Option<Arc<Request>>>, String> {
        if let Some(problem) = self.stop.borrow().as_ref() {
            return Err(problem.clone());
        }
        let Self { connection, epoch, operations, counters, stop, .. } = self;
        let transaction = match connection.transaction_with_behavior(TransactionBehavior::Immediate) {
            Ok(transaction) => transaction,
            Err(error) => {
                // Whoever waits behind would only wait as long again, one after the other.
                while batch.len() < MAX_BATCH
                    && let Ok(next) = operations.try_recv()
                {
                    batch.push(next);
                }
                return Err(error.to_string());
            }
        };
        if let Some(problem) = epoch.problem(&transaction).map_err(|error| error.to_string())? {
            tracing::error!(problem, "the database takes no more writes");
            stop.send_replace(Some(problem.clone()));
            return Err(problem);
        }
        let mut changed = HashMap::new();
        let mut writes = 0;
        let mut next = 0;
        while let Some(operation) = batch.get_mut(next) {
            let before = transaction.total_changes();
            match in_savepoint(&transaction, operation.as_mut()) {
                Ok(Ok(versions)) => {
                    changed.extend(versions);
                    writes += u64::from(transaction.total_changes() != before);
                }
                Ok(Err(Undone)) => {}
                Err(lost) => return Err(lost.to_string()),
            }
            next += 1;
            if next < MAX_BATCH
                && let Ok(operation) = operations.try_recv()
            {
                batch.push(operation);
            }
        }
        if let Err(error) = transaction.commit() {
            self.stop_if_unsynced(&error);
            return Err(error.to_string());
        }
        if writes > 0 {
            counters.commits.fetch_add(1, Ordering::Relaxed);
            counters.writes.fetch_add(writes, Ordering::Relaxed);
        }
        Ok(changed)
    }

    /// After a failed sync nobody knows what is on the disk, and syncing again would report success for pages that
    /// the system has dropped. Only reading the log anew tells, and that is what a restart does.
    fn stop_if_unsynced(&self, error: &rusqlite::Error) {
        let is_sync =
            matches!(error.sqlite_extended_error_code(), Some(ffi::SQLITE_IOERR_FSYNC | ffi::SQLITE_IOERR_DIR_FSYNC));
        if is_sync {
            let problem = format!("the disk failed to keep what was written ({error}); the program must be restarted");
            tracing::error!(problem, "the database takes no more writes");
            self.stop.send_replace(Some(problem));
        }
    }
}

/// Runs one operation so that its failure undoes it alone.
///
/// # Errors
/// The whole transaction is lost: some failures (a full disk, an I/O error) make SQLite roll it back at once.
fn in_savepoint(
    connection: &Connection,
    operation: &mut dyn Operation,
) -> rusqlite::Result<Result<Vec<Version>, Undone>> {
    let execute = |sql| connection.prepare_cached(sql)?.execute(());
    execute("SAVEPOINT operation")?;
    let outcome = operation.run(connection);
    if connection.is_autocommit() {
        return Err(rusqlite::Error::SqliteFailure(
            ffi::Error::new(ffi::SQLITE_ABORT_ROLLBACK),
            Some("the database rolled back: its disk is full or failing".to_owned()),
        ));
    }
    if outcome.is_err() {
        execute("ROLLBACK TO operation")?;
    }
    execute("RELEASE operation")?;
    Ok(outcome)
}
