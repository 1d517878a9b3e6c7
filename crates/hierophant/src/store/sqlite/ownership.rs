//! Whose database it is: one program at a time, by a number that each start raises.
//!
//! The lock on the data directory keeps honest programs apart. It can be lost: a network file system forgets it, someone
//! deletes the file. Then two programs have the same database, and each would write over decisions of the other that it
//! never reads. So each transaction first looks whether the database still has the number that this program gave it;
//! SQLite lets one program write at a time, so the answer holds until the transaction ends.

use network_lib::crash_point;
use rusqlite::{Connection, TransactionBehavior};

/// The number that a program gave the database when it opened it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Epoch(i64);

/// Makes the program that has `connection` the owner. Whoever was it before writes nothing from then on.
pub(super) fn take(connection: &mut Connection) -> rusqlite::Result<Epoch> {
    // Not in one statement by itself: whether that is committed, as on a full disk, nobody would be told.
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let sql = "UPDATE owner SET epoch = epoch + 1 RETURNING epoch";
    let epoch = transaction.query_row(sql, (), |row| row.get(0)).map(Epoch)?;
    crash_point!("lock.after_acquire_before_epoch");
    transaction.commit()?;
    Ok(epoch)
}

impl Epoch {
    /// Why the holder of this epoch may not write; `None` if it may. For the beginning of a transaction.
    pub(super) fn problem(self, connection: &Connection) -> rusqlite::Result<Option<String>> {
        let current =
            connection.prepare_cached("SELECT epoch FROM owner")?.query_row((), |row| row.get(0)).map(Epoch)?;
        Ok((current != self).then(|| {
            format!(
                "another hierophant has taken the data directory over (start {} of it, this is start {}): this one must \
                 end, and whatever let both in must be mended: a deleted lock file, or a disk that does not keep locks",
                current.0, self.0
            )
        }))
    }
}
