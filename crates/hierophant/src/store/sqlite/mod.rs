//! The store in one SQLite file: one thread writes, a few connections read, requests in use are in memory.
//!
//! ```text
//!  submit, write, … ──► queue ──► writer thread: BEGIN, op, op, …, COMMIT (one sync) ──► publish ──► answers
//!                                                                                          │
//!  request(id) ──► cache ◄─────────────────────────────────────────────────────────────────┘
//!                    └► miss: reader connection        lists, history, …: reader connections
//! ```
//! The file belongs to one program at a time (`ownership`): what is in memory is never compared with what another
//! program wrote.

mod attempts;
mod cache;
mod opening;
mod ownership;
mod programs;
mod readers;
mod requests;
mod retention;
mod rows;
mod schema;
mod workers;
mod writer;

#[cfg(test)]
mod tests;

use std::{path::Path, sync::Arc, time::Duration};

pub use self::opening::OpenError;
use self::{cache::RequestCache, programs::ProgramCache, readers::Readers, writer::Writer};
use super::{Stats, Store};

/// What may be chosen about a [`SqliteStore`]. How safe it is may not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Connections that read.
    pub readers: usize,
    /// Bytes of requests kept in memory, when there are that many.
    pub request_cache_bytes: u64,
    /// Bytes of programs kept in memory, when there are that many.
    pub program_cache_bytes: u64,
    /// How long to wait while another program (a backup, `sqlite3`) holds the file.
    pub busy_timeout: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            readers: 3,
            // About 40,000 requests.
            request_cache_bytes: 32 << 20,
            program_cache_bytes: 4 << 20,
            busy_timeout: Duration::from_secs(5),
        }
    }
}

/// Everything durable, in one SQLite file.
///
/// Dropping it waits until what was handed to the writer is written.
#[derive(Debug)]
pub struct SqliteStore {
    // The readers go first, so that the writer's connection is the last one and tidies the log away.
    readers: Readers,
    cache: Arc<RequestCache>,
    programs: ProgramCache,
    writer: Writer,
}

impl SqliteStore {
    /// Opens the database at `path`, creating it if nothing is there, brings it up to date and takes it over: whoever had
    /// it open writes nothing from then on. Blocks meanwhile.
    ///
    /// # Errors
    /// [`OpenError`]; whatever was at `path` is then as it was, or up to date.
    pub fn open(path: &Path, settings: &Settings) -> Result<Self, OpenError> {
        let mut connection = opening::writer(path, settings.busy_timeout)?;
        let readers = Readers::open(path, settings.readers.max(1), settings.busy_timeout)?;
        let cache = Arc::new(RequestCache::new(settings.request_cache_bytes));
        let epoch =
            ownership::take(&mut connection).map_err(|source| OpenError::Unusable { path: path.to_owned(), source })?;
        let writer = Writer::start(connection, epoch, Arc::clone(&cache))
            .map_err(|source| OpenError::System { path: path.to_owned(), source })?;
        Ok(Self { readers, cache, programs: programs::cache(settings.program_cache_bytes), writer })
    }

    /// Waits until the store takes no more writes by itself, and says why: the disk failed to keep what was written, or
    /// another program has taken the database over. The program should then end. Cancel-safe.
    pub async fn stopped(&self) -> String {
        self.writer.stopped().await
    }
}

impl Store for SqliteStore {
    fn stats(&self) -> Stats {
        self.writer.stats()
    }
}
