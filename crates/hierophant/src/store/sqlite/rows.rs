//! What all tables share: how rows are read, and what an error of SQLite means.

use std::fmt::Display;

use rusqlite::{CachedStatement, ErrorCode, Params, Row};

use crate::store::StorageError;

/// A row in the types of the database. It becomes a domain type through `TryFrom`, which names the bad column.
pub(super) trait TableRow: Sized {
    /// The table, for errors.
    const TABLE: &'static str;

    /// Takes the columns as they are.
    fn read(row: &Row<'_>) -> rusqlite::Result<Self>;
}

/// The first row that `statement` gives, if there is one. `key` names the row that is looked for.
pub(super) fn first<R, T>(
    statement: rusqlite::Result<CachedStatement<'_>>,
    parameters: impl Params,
    key: impl Display,
) -> Result<Option<T>, StorageError>
where
    R: TableRow,
    T: TryFrom<R, Error = StorageError>,
{
    let read = || {
        let mut statement = statement?;
        let mut rows = statement.query(parameters)?;
        rows.next()?.map(R::read).transpose()
    };
    read().map_err(|error| failure(&error, R::TABLE, &key))?.map(T::try_from).transpose()
}

/// Every row that `statement` gives, less the damaged ones.
///
/// One damaged row must not hide all the others: it is left out and logged. Asked for by itself it is an error.
pub(super) fn all<R, T>(
    statement: rusqlite::Result<CachedStatement<'_>>,
    parameters: impl Params,
) -> Result<Vec<T>, StorageError>
where
    R: TableRow,
    T: TryFrom<R, Error = StorageError>,
{
    let failed = |error| failure(&error, R::TABLE, "unknown");
    let mut statement = statement.map_err(failed)?;
    let mut rows = statement.query(parameters).map_err(failed)?;
    let mut read = Vec::new();
    while let Some(row) = rows.next().map_err(failed)? {
        match R::read(row).map_err(failed).and_then(T::try_from) {
            Ok(domain) => read.push(domain),
            Err(error) => tracing::error!(%error, "left out a damaged row"),
        }
    }
    Ok(read)
}

/// What an error means to callers of the store. `row` is the row that was read or written, as far as it is known.
pub(super) fn failure(error: &rusqlite::Error, table: &'static str, row: impl Display) -> StorageError {
    use rusqlite::Error as E;
    let is_damage = matches!(
        error,
        E::FromSqlConversionFailure(..) | E::IntegralValueOutOfRange(..) | E::InvalidColumnType(..) | E::Utf8Error(..)
    ) || matches!(
        error.sqlite_error_code(),
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)
    );
    if is_damage {
        StorageError::Damaged { table, row: row.to_string(), problem: error.to_string() }
    } else {
        StorageError::Unavailable { problem: error.to_string() }
    }
}

/// Turns a column into its domain type, or names it.
pub(super) struct Columns {
    table: &'static str,
    row: String,
}

impl Columns {
    /// The columns of the row of `table` with this key.
    pub(super) fn of(table: &'static str, row: impl Display) -> Self {
        Self { table, row: row.to_string() }
    }

    /// The column's value, read.
    pub(super) fn get<T, E: Display>(&self, column: &str, value: Result<T, E>) -> Result<T, StorageError> {
        value.map_err(|problem| self.damaged(column, problem))
    }

    /// The error that names `column`.
    pub(super) fn damaged(&self, column: &str, problem: impl Display) -> StorageError {
        StorageError::Damaged {
            table: self.table,
            row: self.row.clone(),
            problem: format!("column {column}: {problem}"),
        }
    }
}
