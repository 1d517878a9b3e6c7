//! The table of workers.

use std::time::Duration;

use async_trait::async_trait;
use hierophant_core::{Standing, Timestamp};
use network_lib::WorkerId;
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::{
    SqliteStore, attempts,
    rows::{self, Columns, TableRow},
    writer::Written,
};
use crate::store::{DepartedWorker, MOST_DEPARTED, StorageError, WorkerRecord, Workers};

struct DepartedRow {
    id: Vec<u8>,
    name: String,
    address: String,
    joined_at: i64,
    left_at: i64,
    left_reason: String,
}

impl TableRow for DepartedRow {
    const TABLE: &'static str = "workers";

    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            id: row.get("id")?,
            name: row.get("name")?,
            address: row.get("address")?,
            joined_at: row.get("joined_at")?,
            left_at: row.get("left_at")?,
            left_reason: row.get("left_reason")?,
        })
    }
}

impl TryFrom<DepartedRow> for DepartedWorker {
    type Error = StorageError;

    fn try_from(row: DepartedRow) -> Result<Self, StorageError> {
        let columns = Columns::of(DepartedRow::TABLE, hex::encode(&row.id));
        Ok(Self {
            id: columns.get("id", WorkerId::try_from(row.id.as_slice()))?,
            name: row.name,
            address: row.address,
            joined_at: Timestamp::from_millis(row.joined_at.cast_unsigned()),
            left_at: Timestamp::from_millis(row.left_at.cast_unsigned()),
            reason: row.left_reason,
        })
    }
}

#[async_trait]
impl Workers for SqliteStore {
    async fn worker_joined(&self, id: WorkerId, name: &str, address: &str, at: Timestamp) -> Result<(), StorageError> {
        let (name, address) = (name.to_owned(), address.to_owned());
        self.writer.perform(move |connection| joined(connection, id, &name, &address, at).map(Written::plain)).await
    }

    async fn worker_left(&self, id: WorkerId, at: Timestamp, reason: &str) -> Result<(), StorageError> {
        let reason = reason.to_owned();
        self.writer.perform(move |connection| left(connection, id, at, &reason).map(Written::plain)).await
    }

    async fn worker_standing(&self, id: WorkerId) -> Result<Standing, StorageError> {
        self.readers.read(move |connection| standing(connection, id)).await
    }

    async fn note_standing(&self, id: WorkerId, standing: &Standing) -> Result<(), StorageError> {
        let text = attempts::json(standing);
        let write = move |connection: &Connection| {
            let update = || {
                connection
                    .prepare_cached("UPDATE workers SET standing = ?2 WHERE id = ?1")?
                    .execute(params![id.as_bytes(), text])
            };
            update().map_err(|error| rows::failure(&error, DepartedRow::TABLE, id))?;
            Ok(Written::plain(()))
        };
        self.writer.perform(write).await
    }

    async fn worker_record(&self, id: WorkerId) -> Result<WorkerRecord, StorageError> {
        self.readers.read(move |connection| record(connection, id)).await
    }

    async fn workers_since(&self, since: Timestamp) -> Result<Vec<WorkerId>, StorageError> {
        self.readers.read(move |connection| workers_since(connection, since)).await
    }

    async fn departed_workers(&self, limit: u32) -> Result<Vec<DepartedWorker>, StorageError> {
        let query = move |connection: &Connection| {
            let statement = connection
                .prepare_cached("SELECT * FROM workers WHERE left_at IS NOT NULL ORDER BY left_at DESC, id LIMIT ?1");
            rows::all::<DepartedRow, _>(statement, [limit])
        };
        self.readers.read(query).await
    }
}

fn joined(connection: &Connection, id: WorkerId, name: &str, address: &str, at: Timestamp) -> Result<(), StorageError> {
    let upsert = || {
        if !connection.prepare_cached("SELECT 1 FROM workers WHERE id = ?1")?.exists([id.as_bytes()])? {
            connection
                .prepare_cached(
                    "DELETE FROM workers WHERE id IN (SELECT id FROM workers WHERE left_at IS NOT NULL \
                     ORDER BY left_at DESC, id DESC LIMIT -1 OFFSET ?1)",
                )?
                .execute([MOST_DEPARTED])?;
        }
        connection
            .prepare_cached(
                "INSERT INTO workers (id, name, address, joined_at) VALUES (?1, ?2, ?3, ?4) \
                 ON CONFLICT (id) DO UPDATE SET name = excluded.name, address = excluded.address, \
                 joined_at = excluded.joined_at, left_at = NULL, left_reason = NULL",
            )?
            .execute(params![id.as_bytes(), name, address, at.as_millis().cast_signed()])
    };
    upsert().map_err(|error| rows::failure(&error, DepartedRow::TABLE, id))?;
    Ok(())
}

fn left(connection: &Connection, id: WorkerId, at: Timestamp, reason: &str) -> Result<(), StorageError> {
    let update =
        || {
            connection
                .prepare_cached("UPDATE workers SET left_at = ?2, left_reason = ?3 WHERE id = ?1")?
                .execute(params![id.as_bytes(), at.as_millis().cast_signed(), reason])
        };
    update().map_err(|error| rows::failure(&error, DepartedRow::TABLE, id))?;
    Ok(())
}

fn standing(connection: &Connection, id: WorkerId) -> Result<Standing, StorageError> {
    let read = || {
        connection
            .prepare_cached("SELECT standing FROM workers WHERE id = ?1")?
            .query_row([id.as_bytes()], |row| row.get::<_, String>(0))
            .optional()
    };
    let Some(text) = read().map_err(|error| rows::failure(&error, DepartedRow::TABLE, id))? else {
        return Ok(Standing::default());
    };
    Columns::of(DepartedRow::TABLE, id.to_string()).get("standing", serde_json::from_str(&text))
}

fn workers_since(connection: &Connection, since: Timestamp) -> Result<Vec<WorkerId>, StorageError> {
    let read = || {
        connection
            .prepare_cached("SELECT id FROM workers WHERE left_at IS NULL OR left_at >= ?1 ORDER BY id")?
            .query_map([since.as_millis().cast_signed()], |row| row.get(0))?
            .collect::<rusqlite::Result<Vec<Vec<u8>>>>()
    };
    let ids = read().map_err(|error| rows::failure(&error, DepartedRow::TABLE, "unknown"))?;
    let id = |bytes: Vec<u8>| {
        Columns::of(DepartedRow::TABLE, hex::encode(&bytes)).get("id", WorkerId::try_from(bytes.as_slice()))
    };
    ids.into_iter().map(id).collect()
}

fn record(connection: &Connection, id: WorkerId) -> Result<WorkerRecord, StorageError> {
    let read = || {
        // Attempts that were lost with their worker are not counted: contact was lost, and whose fault that was nobody
        // knows. A clock that was set back in between makes an attempt that took no time, not one that took less.
        connection
            .prepare_cached(
                "SELECT count(*) FILTER (WHERE outcome = 'fulfilled'), \
                 coalesce(sum(max(ended_at - started_at, 0)) FILTER (WHERE outcome = 'fulfilled'), 0), \
                 count(*) FILTER (WHERE outcome IN ('worker', 'resources')) \
                 FROM attempts WHERE worker = ?1 AND ended_at IS NOT NULL",
            )?
            .query_row([id.as_bytes()], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get::<_, i64>(2)?)))
    };
    let (proofs, millis, failed) = read().map_err(|error| rows::failure(&error, "attempts", id))?;
    let proofs = proofs.cast_unsigned();
    Ok(WorkerRecord {
        proofs,
        average_proof_time: millis.cast_unsigned().checked_div(proofs).map(Duration::from_millis),
        failed_attempts: failed.cast_unsigned(),
    })
}
