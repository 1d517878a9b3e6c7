//! Why the store did not do it.

use network_lib::RequestId;

use crate::class::Class;

/// Why the store did not do it.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// The request changed since it was read: read it again and decide again.
    #[error("request {0} changed meanwhile")]
    Conflict(RequestId),
    /// The id is taken by something else.
    #[error("{what} exists already with other content")]
    Exists {
        /// What exists.
        what: String,
    },
    /// The database does not answer, or is full. Passing trouble: nothing was written.
    #[error("the database is not available: {problem}")]
    Unavailable {
        /// What the database said.
        problem: String,
    },
    /// A row does not read back as what was written.
    #[error("row {row} in table {table} is damaged: {problem}")]
    Damaged {
        /// The table.
        table: &'static str,
        /// The row's key.
        row: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The store is being closed.
    #[error("the store is closed")]
    Closed,
}

impl StorageError {
    /// What kind of trouble this is.
    pub const fn class(&self) -> Class {
        match self {
            Self::Conflict(_) | Self::Unavailable { .. } | Self::Closed => Class::Unavailable,
            Self::Exists { .. } => Class::Conflict,
            Self::Damaged { .. } => Class::Internal,
        }
    }
}
