//! The tables of attempts and of events: what a change leaves behind besides the request itself.

use hierophant_core::{Change, Happening, Timestamp};
use network_lib::{AttemptId, RequestId, WorkerId};
use rusqlite::{Connection, Row, params};

use super::rows::{self, Columns, TableRow};
use crate::store::{AttemptRecord, HistoryRow, StorageError};

struct AttemptRow {
    id: Vec<u8>,
    request_id: Vec<u8>,
    worker: Vec<u8>,
    started_at: i64,
    ended_at: Option<i64>,
}

impl TableRow for AttemptRow {
    const TABLE: &'static str = "attempts";

    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            id: row.get("id")?,
            request_id: row.get("request_id")?,
            worker: row.get("worker")?,
            started_at: row.get("started_at")?,
            ended_at: row.get("ended_at")?,
        })
    }
}

impl TryFrom<AttemptRow> for AttemptRecord {
    type Error = StorageError;

    fn try_from(row: AttemptRow) -> Result<Self, StorageError> {
        let columns = Columns::of(AttemptRow::TABLE, hex::encode(&row.id));
        Ok(Self {
            attempt: columns.get("id", AttemptId::try_from(row.id.as_slice()))?,
            request: columns.get("request", RequestId::try_from(row.request_id.as_slice()))?,
            worker: columns.get("worker", WorkerId::try_from(row.worker.as_slice()))?,
            started_at: Timestamp::from_millis(row.started_at.cast_unsigned()),
            ended_at: row.ended_at.map(|at| Timestamp::from_millis(at.cast_unsigned())),
        })
    }
}

struct EventRow {
    request: i64,
    version: i64,
    at: i64,
    kind: String,
    detail: String,
}

impl TableRow for EventRow {
    const TABLE: &'static str = "events";

    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            request: row.get("request")?,
            version: row.get("version")?,
            at: row.get("at")?,
            kind: row.get("kind")?,
            detail: row.get("detail")?,
        })
    }
}

impl TryFrom<EventRow> for HistoryRow {
    type Error = StorageError;

    fn try_from(row: EventRow) -> Result<Self, StorageError> {
        let columns = Columns::of(EventRow::TABLE, format_args!("{}/{}", row.request, row.version));
        let happening: Happening = columns.get("detail", serde_json::from_str(&row.detail))?;
        if happening.name() != row.kind {
            return Err(columns.damaged("kind", format_args!("{:?} with the detail of {}", row.kind, happening.name())));
        }
        Ok(Self { at: Timestamp::from_millis(row.at.cast_unsigned()), happening })
    }
}

/// Puts what happened into the history of the request whose row is `seq`.
pub(super) fn record_event(
    connection: &Connection,
    seq: i64,
    version: u64,
    at: Timestamp,
    happening: &Happening,
) -> Result<(), StorageError> {
    let detail = json(happening);
    let insert = || {
        connection
            .prepare_cached("INSERT INTO events (request, version, at, kind, detail) VALUES (?1, ?2, ?3, ?4, ?5)")?
            .execute(params![seq, version.cast_signed(), at.as_millis().cast_signed(), happening.name(), detail])
    };
    insert().map_err(|error| rows::failure(&error, EventRow::TABLE, format_args!("{seq}/{version}")))?;
    Ok(())
}

/// Brings the attempts of the request whose row is `seq` to where `change` leaves them.
pub(super) fn follow(connection: &Connection, seq: i64, change: &Change) -> Result<(), StorageError> {
    let at = change.request.updated_at;
    let end = |attempt: &AttemptId, outcome| end(connection, seq, *attempt, at, outcome);
    match &change.happening {
        Happening::Accepted
        | Happening::Executed { .. }
        | Happening::Proved { .. }
        | Happening::Delivered { .. }
        | Happening::GivenUp { .. } => Ok(()),
        Happening::Leased { attempt, worker } | Happening::Hedged { attempt, worker } => {
            let sql = "INSERT INTO attempts (id, request, worker, started_at) VALUES (?1, ?2, ?3, ?4) \
                       ON CONFLICT DO NOTHING";
            begin(connection, sql, seq, *attempt, *worker, at)
        }
        Happening::Resumed { attempt, worker } => {
            let sql = "INSERT INTO attempts (id, request, worker, started_at) VALUES (?1, ?2, ?3, ?4) \
                       ON CONFLICT (id) DO UPDATE SET ended_at = NULL, outcome = NULL \
                       WHERE request = excluded.request AND worker = excluded.worker";
            begin(connection, sql, seq, *attempt, *worker, at)
        }
        Happening::AttemptEnded { attempt, outcome, superseded, .. } => {
            superseded.iter().try_for_each(|running| end(running, "superseded"))?;
            end(attempt, outcome.fault.class.name())
        }
        Happening::Fulfilled { attempt, superseded, .. } => {
            superseded.iter().try_for_each(|running| end(running, "superseded"))?;
            end(attempt, "fulfilled")
        }
        Happening::Expired { superseded } => superseded.iter().try_for_each(|running| end(running, "expired")),
        Happening::Cancelled { superseded } => superseded.iter().try_for_each(|running| end(running, "cancelled")),
    }
}

/// # Errors
/// [`StorageError::Exists`] when the attempt's id is that of another attempt.
fn begin(
    connection: &Connection,
    sql: &str,
    seq: i64,
    attempt: AttemptId,
    worker: WorkerId,
    at: Timestamp,
) -> Result<(), StorageError> {
    let parameters = params![attempt.as_bytes(), seq, worker.as_bytes(), at.as_millis().cast_signed()];
    let written = connection
        .prepare_cached(sql)
        .and_then(|mut statement| statement.execute(parameters))
        .map_err(|error| rows::failure(&error, AttemptRow::TABLE, attempt))?;
    if written == 0 {
        return Err(StorageError::Exists { what: format!("attempt {attempt}") });
    }
    Ok(())
}

fn end(
    connection: &Connection,
    seq: i64,
    attempt: AttemptId,
    at: Timestamp,
    outcome: &str,
) -> Result<(), StorageError> {
    let update = || {
        connection
            .prepare_cached("UPDATE attempts SET ended_at = ?3, outcome = ?4 WHERE id = ?1 AND request = ?2")?
            .execute(params![attempt.as_bytes(), seq, at.as_millis().cast_signed(), outcome])
    };
    update().map_err(|error| rows::failure(&error, AttemptRow::TABLE, attempt))?;
    Ok(())
}

/// An attempt by its id.
pub(super) fn find(connection: &Connection, id: AttemptId) -> Result<Option<AttemptRecord>, StorageError> {
    let statement = connection.prepare_cached(
        "SELECT attempts.id, requests.id AS request_id, attempts.worker, attempts.started_at, attempts.ended_at \
         FROM attempts JOIN requests ON requests.seq = attempts.request WHERE attempts.id = ?1",
    );
    rows::first::<AttemptRow, _>(statement, [id.as_bytes()], id)
}

/// What happened to a request, oldest first.
///
/// # Errors
/// [`StorageError::Damaged`] when a row of it is: a history with a hole would tell something that did not happen.
pub(super) fn history(connection: &Connection, id: RequestId) -> Result<Vec<HistoryRow>, StorageError> {
    let read = || {
        connection
            .prepare_cached(
                "SELECT events.* FROM requests JOIN events ON events.request = requests.seq \
                 WHERE requests.id = ?1 ORDER BY events.version",
            )?
            .query_map([id.as_bytes()], EventRow::read)?
            .collect::<Result<Vec<_>, _>>()
    };
    let rows = read().map_err(|error| rows::failure(&error, EventRow::TABLE, id))?;
    rows.into_iter().map(HistoryRow::try_from).collect()
}

/// The JSON of a value of the domain.
pub(super) fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).expect("domain types have string keys and no failing serializers")
}
