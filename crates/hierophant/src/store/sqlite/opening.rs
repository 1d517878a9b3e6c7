//! Opening the database file: what it must be, and how each connection is set up.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use network_lib::crash_point;
use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::schema;

/// Larger files are not checked page by page at start: a restart must stay short. Half a gigabyte takes about a second.
const MAX_CHECKED_BYTES: u64 = 512 << 20;

/// Pages in the write-ahead log after which it is copied into the database: 16 MiB. A full batch fills a third of it;
/// each copy costs a sync of its own, and a page that changed often is copied once.
const CHECKPOINT_PAGES: u32 = 4000;

/// Size to which the write-ahead log is cut back after a burst.
const MAX_IDLE_LOG_BYTES: u64 = 32 << 20;

/// Prepared statements kept per connection: more than there are, lists with many filters included.
const STATEMENTS: usize = 64;

/// Why the database could not be opened. Nothing in it was changed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A newer program wrote it.
    #[error(
        "the database {path} has schema version {found}, this program knows up to version {known}: \
         use the newer program that wrote it, or another data directory"
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// The file's schema version.
        found: i32,
        /// The newest version known here.
        known: i32,
    },
    /// The file is something else.
    #[error("{path} is not a SQLite database: move it away, or use another data directory")]
    NotADatabase {
        /// The file.
        path: PathBuf,
    },
    /// The file is the database of another program.
    #[error("{path} is a SQLite database of another program: use another data directory")]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// The file is damaged.
    #[error("the database {path} is damaged: {problem}; restore it from a copy, or use another data directory")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The file system does not offer what the write-ahead log needs.
    #[error(
        "the database {path} cannot use a write-ahead log (it stays in mode {mode}): \
         use a data directory on a local disk"
    )]
    NoWriteAheadLog {
        /// The file.
        path: PathBuf,
        /// The journal mode instead.
        mode: String,
    },
    /// The schema could not be brought up to date. The database is as it was.
    #[error("could not bring the database {path} up to date")]
    Migration {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: rusqlite_migration::Error,
    },
    /// The file cannot be opened, read or written.
    #[error("could not open the database {path}")]
    Unusable {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: rusqlite::Error,
    },
    /// The file, or a thread, cannot be had from the system.
    #[error("could not start on the database {path}")]
    System {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

impl OpenError {
    fn from_sqlite(path: &Path, error: rusqlite::Error) -> Self {
        let path = path.to_owned();
        match error.sqlite_error_code() {
            Some(ErrorCode::NotADatabase) => Self::NotADatabase { path },
            Some(ErrorCode::DatabaseCorrupt) => Self::Damaged { path, problem: error.to_string() },
            _ => Self::Unusable { path, source: error },
        }
    }
}

/// The connection of the writer, on a database that is ours, undamaged and up to date.
pub(super) fn writer(path: &Path, busy_timeout: Duration) -> Result<Connection, OpenError> {
    inspect(path, busy_timeout)?;
    let failed = |error| OpenError::from_sqlite(path, error);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags).map_err(failed)?;
    set_up(&connection, busy_timeout, 8 << 10).map_err(failed)?;
    let mode: String =
        connection.pragma_update_and_check(None, "journal_mode", "wal", |row| row.get(0)).map_err(failed)?;
    if mode != "wal" {
        return Err(OpenError::NoWriteAheadLog { path: path.to_owned(), mode });
    }
    connection.pragma_update(None, "synchronous", "full").map_err(failed)?;
    connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES).map_err(failed)?;
    connection.pragma_update(None, "journal_size_limit", MAX_IDLE_LOG_BYTES.cast_signed()).map_err(failed)?;
    crash_point!("migrate.before");
    schema::MIGRATIONS
        .to_latest(&mut connection)
        .map_err(|source| OpenError::Migration { path: path.to_owned(), source })?;
    Ok(connection)
}

/// A connection that cannot write.
pub(super) fn reader(path: &Path, busy_timeout: Duration) -> Result<Connection, OpenError> {
    let failed = |error| OpenError::from_sqlite(path, error);
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(failed)?;
    set_up(&connection, busy_timeout, 2 << 10).map_err(failed)?;
    Ok(connection)
}

/// What every connection has. `cache_kib` is what SQLite may keep of the file's pages in memory.
fn set_up(connection: &Connection, busy_timeout: Duration, cache_kib: i32) -> rusqlite::Result<()> {
    connection.busy_timeout(busy_timeout)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.pragma_update(None, "cache_size", -cache_kib)?;
    connection.pragma_update(None, "cell_size_check", true)?;
    // Savepoints and sorts keep their notes in memory rather than in files.
    connection.pragma_update(None, "temp_store", "memory")
}

/// Refuses, before anything is written, a file that is not a database of ours that we know how to read.
fn inspect(path: &Path, busy_timeout: Duration) -> Result<(), OpenError> {
    let size = match std::fs::metadata(path) {
        Ok(metadata) => metadata.len(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(OpenError::System { path: path.to_owned(), source }),
    };
    if size == 0 {
        return Ok(());
    }
    let failed = |error| OpenError::from_sqlite(path, error);
    let connection = reader(path, busy_timeout)?;
    let number = |pragma| connection.pragma_query_value(None, pragma, |row| row.get::<_, i32>(0)).map_err(failed);
    let (found, application) = (number("user_version")?, number("application_id")?);
    let tables: i64 =
        connection.query_row("SELECT count(*) FROM sqlite_schema", (), |row| row.get(0)).map_err(failed)?;
    if tables > 0 && application != schema::APPLICATION_ID {
        return Err(OpenError::Foreign { path: path.to_owned() });
    }
    if found > schema::VERSION {
        return Err(OpenError::Newer { path: path.to_owned(), found, known: schema::VERSION });
    }
    if size <= MAX_CHECKED_BYTES {
        let verdict: String = connection.query_row("PRAGMA quick_check(1)", (), |row| row.get(0)).map_err(failed)?;
        if verdict != "ok" {
            return Err(OpenError::Damaged { path: path.to_owned(), problem: verdict });
        }
    }
    Ok(())
}
