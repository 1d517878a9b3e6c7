//! The table of requests.

use std::sync::Arc;

use async_trait::async_trait;
use hierophant_core::{
    Change, Happening, Holder, Priority, Request, RequestSpec, RequestState, Timestamp, Tries, Variant,
};
use network_lib::{
    ArtifactId, ArtifactKind, AttemptId, CircuitVersion, Digest, ProofMode, RequestId, crash_point, protocol::Execution,
};
use rusqlite::{Connection, OptionalExtension, Row, named_params, types::Value};

use super::{
    SqliteStore, attempts, programs,
    rows::{self, Columns, TableRow},
    writer::Written,
};
use crate::store::{
    AttemptRecord, HistoryRow, NewRequest, ProofRecord, RequestFilter, Requests, StorageError, Submitted,
};

/// The condition of the index `requests_open`, in the same words.
const IS_OPEN: &str = "state IN ('queued', 'leased', 'verifying')";

/// The names of the states that [`IS_OPEN`] means.
const OPEN_STATES: [&str; 3] = ["queued", "leased", "verifying"];

/// A request in the types of its columns, for reading and for writing.
struct RequestRow {
    id: Vec<u8>,
    requester: Vec<u8>,
    vm: String,
    vk_hash: Vec<u8>,
    program: String,
    stdin: String,
    mode: String,
    circuit_version: String,
    deadline: i64,
    cycle_limit: i64,
    gas_limit: i64,
    public_values_hash: Option<Vec<u8>>,
    priority: i32,
    variant: String,
    strategy: i32,
    state: String,
    state_detail: String,
    tries: String,
    executed_cycles: Option<i64>,
    executed_gas: Option<i64>,
    executed_public_values_hash: Option<Vec<u8>>,
    created_at: i64,
    updated_at: i64,
    version: i64,
}

impl TableRow for RequestRow {
    const TABLE: &'static str = "requests";

    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            id: row.get("id")?,
            requester: row.get("requester")?,
            vm: row.get("vm")?,
            vk_hash: row.get("vk_hash")?,
            program: row.get("program")?,
            stdin: row.get("stdin")?,
            mode: row.get("mode")?,
            circuit_version: row.get("circuit_version")?,
            deadline: row.get("deadline")?,
            cycle_limit: row.get("cycle_limit")?,
            gas_limit: row.get("gas_limit")?,
            public_values_hash: row.get("public_values_hash")?,
            priority: row.get("priority")?,
            variant: row.get("variant")?,
            strategy: row.get("strategy")?,
            state: row.get("state")?,
            state_detail: row.get("state_detail")?,
            tries: row.get("tries")?,
            executed_cycles: row.get("executed_cycles")?,
            executed_gas: row.get("executed_gas")?,
            executed_public_values_hash: row.get("executed_public_values_hash")?,
            created_at: row.get("created_at")?,
            updated_at: row.get("updated_at")?,
            version: row.get("version")?,
        })
    }
}

impl From<&Request> for RequestRow {
    fn from(request: &Request) -> Self {
        let Request { id, spec, state, tries, execution, created_at, updated_at, version } = request;
        Self {
            id: id.as_bytes().to_vec(),
            requester: spec.requester.as_bytes().to_vec(),
            vm: spec.vm.to_string(),
            vk_hash: spec.vk_hash.as_bytes().to_vec(),
            program: spec.program.to_string(),
            stdin: spec.stdin.to_string(),
            mode: spec.mode.name().to_owned(),
            circuit_version: spec.circuit_version.as_str().to_owned(),
            deadline: spec.deadline.as_millis().cast_signed(),
            cycle_limit: spec.cycle_limit.cast_signed(),
            gas_limit: spec.gas_limit.cast_signed(),
            public_values_hash: spec.public_values_hash.map(|hash| hash.as_bytes().to_vec()),
            priority: spec.priority.0,
            variant: variant_name(spec.variant).to_owned(),
            strategy: spec.strategy,
            state: state.name().to_owned(),
            state_detail: attempts::json(state),
            tries: attempts::json(tries),
            executed_cycles: execution.map(|execution| execution.cycles.cast_signed()),
            executed_gas: execution.and_then(|execution| execution.gas).map(u64::cast_signed),
            executed_public_values_hash: execution.map(|execution| execution.public_values_hash.as_bytes().to_vec()),
            created_at: created_at.as_millis().cast_signed(),
            updated_at: updated_at.as_millis().cast_signed(),
            version: version.cast_signed(),
        }
    }
}

impl TryFrom<RequestRow> for Request {
    type Error = StorageError;

    fn try_from(row: RequestRow) -> Result<Self, StorageError> {
        let columns = Columns::of(RequestRow::TABLE, hex::encode(&row.id));
        let digest = |column, bytes: &[u8]| columns.get(column, Digest::try_from(bytes));
        let time = |millis: i64| Timestamp::from_millis(millis.cast_unsigned());
        let execution = match (row.executed_cycles, row.executed_public_values_hash) {
            (Some(cycles), Some(hash)) => Some(Execution {
                cycles: cycles.cast_unsigned(),
                gas: row.executed_gas.map(i64::cast_unsigned),
                public_values_hash: digest("executed_public_values_hash", &hash)?,
            }),
            _ => None,
        };
        let spec = RequestSpec {
            requester: programs::requester(&columns, "requester", &row.requester)?,
            vm: columns.get("vm", row.vm.parse())?,
            vk_hash: digest("vk_hash", &row.vk_hash)?,
            program: columns.get("program", row.program.parse())?,
            stdin: columns.get("stdin", row.stdin.parse())?,
            mode: columns.get("mode", row.mode.parse())?,
            circuit_version: CircuitVersion::new(row.circuit_version),
            deadline: time(row.deadline),
            cycle_limit: row.cycle_limit.cast_unsigned(),
            gas_limit: row.gas_limit.cast_unsigned(),
            public_values_hash: row.public_values_hash.map(|hash| digest("public_values_hash", &hash)).transpose()?,
            priority: Priority(row.priority),
            variant: columns.get("variant", variant(&row.variant))?,
            strategy: row.strategy,
        };
        Ok(Self {
            id: columns.get("id", RequestId::try_from(row.id.as_slice()))?,
            spec,
            state: state(&columns, &row.state, &row.state_detail)?,
            tries: columns.get("tries", serde_json::from_str(&row.tries))?,
            execution,
            created_at: time(row.created_at),
            updated_at: time(row.updated_at),
            version: row.version.cast_unsigned(),
        })
    }
}

fn state(columns: &Columns, name: &str, detail: &str) -> Result<RequestState, StorageError> {
    let state: RequestState = columns.get("state_detail", serde_json::from_str(detail))?;
    if state.name() != name {
        return Err(columns.damaged("state", format_args!("{name:?} with the detail of {}", state.name())));
    }
    Ok(state)
}

const fn variant_name(variant: Variant) -> &'static str {
    match variant {
        Variant::Base => "base",
        Variant::Auction => "auction",
    }
}

fn variant(name: &str) -> Result<Variant, String> {
    [Variant::Base, Variant::Auction]
        .into_iter()
        .find(|variant| variant_name(*variant) == name)
        .ok_or_else(|| format!("{name:?} is not a variant"))
}

struct ProofRow {
    id: Vec<u8>,
    mode: String,
    state: String,
    state_detail: String,
    worker_name: Option<String>,
    started_at: Option<i64>,
}

impl TableRow for ProofRow {
    const TABLE: &'static str = "requests";

    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            id: row.get("id")?,
            mode: row.get("mode")?,
            state: row.get("state")?,
            state_detail: row.get("state_detail")?,
            worker_name: row.get("worker_name")?,
            started_at: row.get("started_at")?,
        })
    }
}

impl TryFrom<ProofRow> for ProofRecord {
    type Error = StorageError;

    fn try_from(row: ProofRow) -> Result<Self, StorageError> {
        let columns = Columns::of(ProofRow::TABLE, hex::encode(&row.id));
        let RequestState::Fulfilled { worker, at, is_mock, .. } = state(&columns, &row.state, &row.state_detail)?
        else {
            return Err(columns.damaged("state", "not fulfilled"));
        };
        Ok(Self {
            request: columns.get("id", RequestId::try_from(row.id.as_slice()))?,
            mode: columns.get("mode", row.mode.parse::<ProofMode>())?,
            worker,
            worker_name: row.worker_name.unwrap_or_else(|| worker.to_string()),
            started_at: row.started_at.map_or(at, |millis| Timestamp::from_millis(millis.cast_unsigned())),
            fulfilled_at: at,
            is_mock,
        })
    }
}

#[async_trait]
impl Requests for SqliteStore {
    async fn submit(&self, new: NewRequest) -> Result<Submitted, StorageError> {
        let request = Arc::new(Request {
            id: new.id,
            spec: new.spec,
            state: RequestState::Queued,
            tries: Tries::default(),
            execution: None,
            created_at: new.created_at,
            updated_at: new.created_at,
            version: 1,
        });
        let row = RequestRow::from(&*request);
        self.writer.perform(move |connection| submit(connection, new.fingerprint, request, &row)).await
    }

    async fn standing_for(&self, fingerprint: Digest) -> Result<Option<Arc<Request>>, StorageError> {
        self.readers.read(move |connection| standing_for(connection, fingerprint)).await
    }

    async fn request(&self, id: RequestId) -> Result<Option<Arc<Request>>, StorageError> {
        let load = self.readers.read(move |connection| find(connection, id));
        self.cache.get_or_load(id, load).await
    }

    async fn write(&self, change: Change) -> Result<Arc<Request>, StorageError> {
        let row = RequestRow::from(&change.request);
        self.writer.perform(move |connection| write(connection, change, &row)).await
    }

    /// Less the damaged ones, which are logged: one bad row must not keep all the others from being worked on.
    async fn open_requests(&self) -> Result<Vec<Arc<Request>>, StorageError> {
        let query = |connection: &Connection| {
            let sql = format!("SELECT * FROM requests WHERE {IS_OPEN} ORDER BY created_at, seq");
            shared(rows::all::<RequestRow, _>(connection.prepare_cached(&sql), ()))
        };
        self.readers.read(query).await
    }

    /// Less the damaged ones, which are logged.
    async fn requests(&self, filter: &RequestFilter) -> Result<Vec<Arc<Request>>, StorageError> {
        if filter.limit == 0 {
            return Ok(Vec::new());
        }
        let Listing { sql, parameters } = Listing::of(filter);
        let query = move |connection: &Connection| {
            let parameters = rusqlite::params_from_iter(parameters);
            shared(rows::all::<RequestRow, _>(connection.prepare_cached(&sql), parameters))
        };
        self.readers.read(query).await
    }

    async fn history(&self, id: RequestId) -> Result<Vec<HistoryRow>, StorageError> {
        self.readers.read(move |connection| attempts::history(connection, id)).await
    }

    async fn attempt(&self, id: AttemptId) -> Result<Option<AttemptRecord>, StorageError> {
        self.readers.read(move |connection| attempts::find(connection, id)).await
    }

    /// Less the damaged ones, which are logged.
    async fn proofs(&self, limit: u32) -> Result<Vec<ProofRecord>, StorageError> {
        let query = move |connection: &Connection| {
            let statement = connection.prepare_cached(
                "SELECT requests.id, requests.mode, requests.state, requests.state_detail, \
                 workers.name AS worker_name, attempts.started_at \
                 FROM requests LEFT JOIN attempts ON attempts.id = requests.attempt \
                 LEFT JOIN workers ON workers.id = requests.worker \
                 WHERE requests.state = 'fulfilled' ORDER BY requests.updated_at DESC, requests.seq DESC LIMIT ?1",
            );
            rows::all::<ProofRow, _>(statement, [limit])
        };
        self.readers.read(query).await
    }
}

fn shared(requests: Result<Vec<Request>, StorageError>) -> Result<Vec<Arc<Request>>, StorageError> {
    Ok(requests?.into_iter().map(Arc::new).collect())
}

fn find(connection: &Connection, id: RequestId) -> Result<Option<Arc<Request>>, StorageError> {
    let statement = connection.prepare_cached("SELECT * FROM requests WHERE id = ?1");
    Ok(rows::first::<RequestRow, Request>(statement, [id.as_bytes()], id)?.map(Arc::new))
}

fn submit(
    connection: &Connection,
    fingerprint: Digest,
    request: Arc<Request>,
    row: &RequestRow,
) -> Result<Written<Submitted>, StorageError> {
    if let Some(existing) = standing_for(connection, fingerprint)? {
        return Ok(Written::plain(Submitted::Existing(existing)));
    }
    let Some(stdin) = programs::find_artifact(connection, request.spec.stdin)? else {
        return Ok(Written::plain(Submitted::StdinMissing));
    };
    if stdin.owner != Some(request.spec.requester) {
        return Ok(Written::plain(Submitted::StdinOfAnother));
    }
    let seq = insert(connection, fingerprint, row).map_err(|error| match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::ConstraintViolation) => {
            StorageError::Exists { what: format!("request {}", request.id) }
        }
        _ => rows::failure(&error, RequestRow::TABLE, request.id),
    })?;
    crash_point!("accept.in_tx");
    attempts::record_event(connection, seq, request.version, request.created_at, &Happening::Accepted)?;
    Ok(Written::version(Submitted::Accepted(Arc::clone(&request)), request))
}

fn standing_for(connection: &Connection, fingerprint: Digest) -> Result<Option<Arc<Request>>, StorageError> {
    let latest = connection.prepare_cached("SELECT * FROM requests WHERE fingerprint = ?1 ORDER BY seq DESC LIMIT 1");
    let latest = rows::first::<RequestRow, Request>(latest, [fingerprint.as_bytes()], fingerprint)?;
    match latest {
        Some(latest) if !latest.state.is_failed() && has_its_proof(connection, &latest)? => Ok(Some(Arc::new(latest))),
        _ => Ok(None),
    }
}

/// Whether the proof is there, if the request has one. Without it the request stands for nothing that could be fetched.
fn has_its_proof(connection: &Connection, request: &Request) -> Result<bool, StorageError> {
    let RequestState::Fulfilled { attempt, .. } = request.state else { return Ok(true) };
    let proof = ArtifactId::new(ArtifactKind::Proof, *attempt.as_bytes());
    Ok(programs::find_artifact(connection, proof)?.is_some())
}

fn insert(connection: &Connection, fingerprint: Digest, row: &RequestRow) -> rusqlite::Result<i64> {
    connection
        .prepare_cached(
            "INSERT INTO requests (id, fingerprint, requester, vm, vk_hash, program, stdin, mode, circuit_version, \
             deadline, cycle_limit, gas_limit, public_values_hash, priority, variant, strategy, state, state_detail, \
             tries, created_at, updated_at, version) \
             VALUES (:id, :fingerprint, :requester, :vm, :vk_hash, :program, :stdin, :mode, :circuit_version, \
             :deadline, :cycle_limit, :gas_limit, :public_values_hash, :priority, :variant, :strategy, :state, \
             :state_detail, :tries, :created_at, :updated_at, :version)",
        )?
        .insert(named_params! {
            ":id": row.id,
            ":fingerprint": fingerprint.as_bytes(),
            ":requester": row.requester,
            ":vm": row.vm,
            ":vk_hash": row.vk_hash,
            ":program": row.program,
            ":stdin": row.stdin,
            ":mode": row.mode,
            ":circuit_version": row.circuit_version,
            ":deadline": row.deadline,
            ":cycle_limit": row.cycle_limit,
            ":gas_limit": row.gas_limit,
            ":public_values_hash": row.public_values_hash,
            ":priority": row.priority,
            ":variant": row.variant,
            ":strategy": row.strategy,
            ":state": row.state,
            ":state_detail": row.state_detail,
            ":tries": row.tries,
            ":created_at": row.created_at,
            ":updated_at": row.updated_at,
            ":version": row.version,
        })
}

fn write(connection: &Connection, change: Change, row: &RequestRow) -> Result<Written<Arc<Request>>, StorageError> {
    let id = change.request.id;
    let seq = update(connection, &change.request.state, row)
        .map_err(|error| rows::failure(&error, RequestRow::TABLE, id))?
        .ok_or(StorageError::Conflict(id))?;
    attempts::follow(connection, seq, &change)?;
    match change.happening {
        Happening::Fulfilled { .. } => crash_point!("result.in_tx"),
        Happening::Expired { .. } => crash_point!("expire.in_tx"),
        _ => {}
    }
    attempts::record_event(connection, seq, change.request.version, change.request.updated_at, &change.happening)?;
    let request = Arc::new(change.request);
    Ok(Written::version(Arc::clone(&request), request))
}

/// Replaces the version before `row`'s, and answers the row's `seq`; `None` if the request is not at that version.
fn update(connection: &Connection, state: &RequestState, row: &RequestRow) -> rusqlite::Result<Option<i64>> {
    let made = match state {
        RequestState::Fulfilled { attempt, worker, .. } => Some(Holder { attempt: *attempt, worker: *worker }),
        other => other.holders().next(),
    };
    connection
        .prepare_cached(
            "UPDATE requests SET state = :state, state_detail = :state_detail, tries = :tries, \
             attempt = coalesce(:attempt, attempt), worker = coalesce(:worker, worker), \
             executed_cycles = :executed_cycles, executed_gas = :executed_gas, \
             executed_public_values_hash = :executed_public_values_hash, \
             updated_at = :updated_at, version = :version \
             WHERE id = :id AND version = :version - 1 RETURNING seq",
        )?
        .query_row(
            named_params! {
                ":state": row.state,
                ":state_detail": row.state_detail,
                ":tries": row.tries,
                ":attempt": made.as_ref().map(|made| made.attempt.as_bytes()),
                ":worker": made.as_ref().map(|made| made.worker.as_bytes()),
                ":executed_cycles": row.executed_cycles,
                ":executed_gas": row.executed_gas,
                ":executed_public_values_hash": row.executed_public_values_hash,
                ":updated_at": row.updated_at,
                ":version": row.version,
                ":id": row.id,
            },
            |row| row.get(0),
        )
        .optional()
}

/// The statement that a filter comes to.
struct Listing {
    sql: String,
    parameters: Vec<Value>,
}

impl Listing {
    fn of(filter: &RequestFilter) -> Self {
        let mut listing = Self { sql: "SELECT * FROM requests WHERE true".to_owned(), parameters: Vec::new() };
        let blob = |bytes: &[u8]| Value::Blob(bytes.to_vec());
        if let Some(requester) = &filter.requester {
            listing.require("requester = ?", [blob(requester.as_bytes())]);
        }
        if let Some(vk_hash) = &filter.vk_hash {
            listing.require("vk_hash = ?", [blob(vk_hash.as_bytes())]);
        }
        if let Some(mode) = filter.mode {
            listing.require("mode = ?", [Value::Text(mode.name().to_owned())]);
        }
        if !filter.states.is_empty() {
            if filter.states.iter().all(|state| OPEN_STATES.contains(state)) {
                // Implied, and said so that the index of the few open ones serves.
                listing.require(IS_OPEN, []);
            }
            let marks = vec!["?"; filter.states.len()].join(", ");
            let states = filter.states.iter().map(|state| Value::Text((*state).to_owned()));
            listing.require(&format!("state IN ({marks})"), states);
        }
        if let Some(version) = &filter.circuit_version {
            listing.require("circuit_version = ?", [Value::Text(version.clone())]);
        }
        if let Some(deadline) = filter.min_deadline {
            // A deadline without end is u64::MAX and lies in the column as a negative number: later than any other.
            let earliest = Value::Integer(deadline.as_millis().cast_signed());
            let condition = if deadline.as_millis().cast_signed() < 0 {
                "deadline < 0 AND deadline >= ?"
            } else {
                "(deadline < 0 OR deadline >= ?)"
            };
            listing.require(condition, [earliest]);
        }
        if let Some(worker) = &filter.worker {
            listing.require("worker = ?", [blob(worker.as_bytes())]);
        }
        // Unlike deadlines, times of acceptance come from our own clock, and are never negative in the column.
        if let Some(from) = filter.created_from {
            listing.require("created_at >= ?", [bound(from)]);
        }
        if let Some(to) = filter.created_to {
            listing.require("created_at <= ?", [bound(to)]);
        }
        listing.sql.push_str(" ORDER BY created_at DESC, seq DESC LIMIT ? OFFSET ?");
        listing.parameters.extend([filter.limit, filter.offset].map(|number| Value::Integer(number.into())));
        listing
    }

    fn require(&mut self, condition: &str, parameters: impl IntoIterator<Item = Value>) {
        self.sql.push_str(" AND ");
        self.sql.push_str(condition);
        self.parameters.extend(parameters);
    }
}

fn bound(time: Timestamp) -> Value {
    Value::Integer(i64::try_from(time.as_millis()).unwrap_or(i64::MAX))
}
