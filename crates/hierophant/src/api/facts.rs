//! Facts for people and their scripts, as JSON: who is here, who was, what was proved, and whether all is well.

use axum::{
    Json, Router,
    extract::{Path, Query, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::get,
};
use hierophant_core::{Request, fleet::Lease};
use network_lib::{AttemptId, CONTEMPLANT_VERSION, ProofMode, ProverProfile, RequestId, WorkerId, protocol::Progress};
use serde::{Deserialize, Serialize};

use super::status::http_status;
use crate::{
    fleet::{FleetView, WorkerView},
    service::{RequestStatus, Service},
    store::{DepartedWorker, HistoryRow, ProofRecord, RequestFilter, Stats, StorageError},
};

/// Rows that a list shows unless asked otherwise, and at most.
const DEFAULT_ROWS: u32 = 100;
const MAX_ROWS: u32 = 1000;

/// The routes of the fact pages.
pub fn router(service: Service) -> Router {
    Router::new()
        .route("/contemplants", get(contemplants))
        .route("/dead-contemplants", get(dead_contemplants))
        .route("/proof-history", get(proof_history))
        .route("/health", get(health))
        .route("/requests/{id}", get(request))
        .with_state(service)
}

/// A worker that is connected, or whose attempts are waited for.
#[derive(Debug, Serialize)]
struct Contemplant {
    id: WorkerId,
    name: String,
    ip: String,
    connected: bool,
    draining: bool,
    time_alive_secs: u64,
    last_heard_secs_ago: u64,
    /// Distinct requests at which this worker failed since its last proof, and no other worker did.
    strikes: usize,
    /// How much longer it is given nothing, for its faults.
    resting_secs: Option<u64>,
    failed_attempts: u64,
    proofs: u64,
    average_proof_time_secs: Option<f64>,
    provers: Vec<ProverProfile>,
    current_proofs: Vec<CurrentProof>,
}

#[derive(Debug, Serialize)]
struct CurrentProof {
    attempt: AttemptId,
    request: RequestId,
    prover: usize,
    running_secs: u64,
    progress: Option<Progress>,
}

#[expect(clippy::redundant_closure_for_method_calls, reason = "the path is not general enough over lifetimes")]
async fn contemplants(State(service): State<Service>) -> Result<Json<Vec<Contemplant>>, Failure> {
    let now = service.clock.now().moment;
    let views = service.fleet.inspect(|view| view.workers()).await.unwrap_or_default();
    let mut workers = Vec::with_capacity(views.len());
    for WorkerView { worker, address } in views {
        let record = service.store.worker_record(worker.profile.id).await?;
        let current = |(attempt, lease): (&AttemptId, &Lease)| CurrentProof {
            attempt: *attempt,
            request: lease.work.id,
            prover: lease.prover,
            running_secs: now.since(lease.since).as_secs(),
            progress: lease.progress.clone(),
        };
        workers.push(Contemplant {
            id: worker.profile.id,
            name: worker.profile.name.clone(),
            ip: address,
            connected: worker.session.is_some(),
            draining: worker.is_draining,
            time_alive_secs: now.since(worker.joined_at).as_secs(),
            last_heard_secs_ago: now.since(worker.last_heard).as_secs(),
            strikes: worker.standing.faults(),
            resting_secs: worker.rests_until.map(|until| until.since(now).as_secs()),
            failed_attempts: record.failed_attempts,
            proofs: record.proofs,
            average_proof_time_secs: record.average_proof_time.map(|time| time.as_secs_f64()),
            current_proofs: worker.leases.iter().map(current).collect(),
            provers: worker.profile.provers,
        });
    }
    Ok(Json(workers))
}

/// A worker that left.
#[derive(Debug, Serialize)]
struct DeadContemplant {
    id: WorkerId,
    name: String,
    ip: String,
    joined_at: u64,
    left_at: u64,
    reason: String,
}

impl From<DepartedWorker> for DeadContemplant {
    fn from(worker: DepartedWorker) -> Self {
        let DepartedWorker { id, name, address, joined_at, left_at, reason } = worker;
        Self { id, name, ip: address, joined_at: joined_at.as_secs(), left_at: left_at.as_secs(), reason }
    }
}

async fn dead_contemplants(
    State(service): State<Service>,
    Query(page): Query<Page>,
) -> Result<Json<Vec<DeadContemplant>>, Failure> {
    let departed = service.store.departed_workers(page.limit()).await?;
    Ok(Json(departed.into_iter().map(Into::into).collect()))
}

/// A proof that was made here.
#[derive(Debug, Serialize)]
struct Proof {
    request: RequestId,
    mode: ProofMode,
    mock: bool,
    contemplant: WorkerId,
    contemplant_name: String,
    started_at: u64,
    fulfilled_at: u64,
    took_secs: f64,
}

impl From<ProofRecord> for Proof {
    fn from(proof: ProofRecord) -> Self {
        Self {
            request: proof.request,
            mode: proof.mode,
            mock: proof.is_mock,
            contemplant: proof.worker,
            contemplant_name: proof.worker_name,
            started_at: proof.started_at.as_secs(),
            fulfilled_at: proof.fulfilled_at.as_secs(),
            took_secs: proof.fulfilled_at.since(proof.started_at).as_secs_f64(),
        }
    }
}

async fn proof_history(State(service): State<Service>, Query(page): Query<Page>) -> Result<Json<Vec<Proof>>, Failure> {
    let proofs = service.store.proofs(page.limit()).await?;
    Ok(Json(proofs.into_iter().map(Into::into).collect()))
}

#[derive(Debug, Serialize)]
struct Health {
    status: &'static str,
    version: &'static str,
    mock_mode: bool,
    contemplants: usize,
    queued_requests: usize,
    /// Since the start of this coordinator.
    database: Stats,
}

async fn health(State(service): State<Service>) -> Response {
    let connected =
        |view: &FleetView<'_>| view.fleet().workers().filter(|(_, worker)| worker.session.is_some()).count();
    let is_store_up = service.store.requests(&RequestFilter { limit: 1, ..RequestFilter::default() }).await.is_ok();
    let contemplants = service.fleet.inspect(connected).await;
    let is_up = is_store_up && contemplants.is_some();
    let health = Health {
        status: if is_up { "ok" } else { "unavailable" },
        version: CONTEMPLANT_VERSION,
        mock_mode: service.settings.mock_mode,
        contemplants: contemplants.unwrap_or_default(),
        queued_requests: service.fleet.queue_len(),
        database: service.store.stats(),
    };
    let status = if is_up { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(health)).into_response()
}

/// A request, in short.
#[derive(Debug, Serialize)]
struct RequestSummary {
    id: RequestId,
    requester: String,
    vk_hash: String,
    mode: ProofMode,
    circuit_version: String,
    #[serde(flatten)]
    state: hierophant_core::RequestState,
    attempts: u32,
    failed_attempts: u32,
    lost_attempts: u32,
    /// How often a worker said that the program itself fails.
    guest_fault_reports: usize,
    cycles: Option<u64>,
    created_at: u64,
    updated_at: u64,
    deadline: u64,
}

impl From<&Request> for RequestSummary {
    fn from(request: &Request) -> Self {
        Self {
            id: request.id,
            requester: request.spec.requester.to_string(),
            vk_hash: request.spec.vk_hash.to_string(),
            mode: request.spec.mode,
            circuit_version: request.spec.circuit_version.to_string(),
            state: request.state.clone(),
            attempts: request.tries.begun,
            failed_attempts: request.tries.failed,
            lost_attempts: request.tries.lost,
            guest_fault_reports: request.tries.guest.by.len(),
            cycles: request.execution.map(|execution| execution.cycles),
            created_at: request.created_at.as_secs(),
            updated_at: request.updated_at.as_secs(),
            deadline: request.spec.deadline.as_secs(),
        }
    }
}

/// A request with its whole history.
#[derive(Debug, Serialize)]
struct RequestDetails {
    #[serde(flatten)]
    summary: RequestSummary,
    /// Why it waits, when it does.
    waiting: Option<String>,
    progress: Option<Progress>,
    history: Vec<HistoryEntry>,
}

#[derive(Debug, Serialize)]
struct HistoryEntry {
    at_millis: u64,
    #[serde(flatten)]
    happening: hierophant_core::Happening,
}

impl From<HistoryRow> for HistoryEntry {
    fn from(row: HistoryRow) -> Self {
        Self { at_millis: row.at.as_millis(), happening: row.happening }
    }
}

async fn request(State(service): State<Service>, Path(id): Path<String>) -> Result<Json<RequestDetails>, Failure> {
    // As the SDK and explorers write it, or as it is written here.
    let id: RequestId =
        id.strip_prefix("0x").unwrap_or(&id).parse().map_err(|error| Failure::Id(format!("{error}")))?;
    let request = service.store.request(id).await?.ok_or(Failure::Unknown(id))?;
    let attempts: Vec<AttemptId> = request.state.holders().map(|holder| holder.attempt).collect();
    let progress = service
        .fleet
        .inspect(move |view| attempts.iter().find_map(|attempt| view.fleet().lease(*attempt)?.progress.clone()))
        .await
        .flatten();
    let status = RequestStatus { request, waiting: service.fleet.waiting_reason(id).await };
    let history = service.store.history(id).await?.into_iter().map(Into::into).collect();
    let waiting = status.why_it_waits();
    Ok(Json(RequestDetails { summary: RequestSummary::from(&*status.request), waiting, progress, history }))
}

/// Which part of a list.
#[derive(Debug, Deserialize)]
struct Page {
    limit: Option<u32>,
}

impl Page {
    fn limit(&self) -> u32 {
        self.limit.unwrap_or(DEFAULT_ROWS).min(MAX_ROWS)
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("{0}")]
    Id(String),
    #[error("request {0} is not known here")]
    Unknown(RequestId),
    #[error(transparent)]
    Store(#[from] StorageError),
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let status = match &self {
            Self::Id(_) => StatusCode::BAD_REQUEST,
            Self::Unknown(_) => StatusCode::NOT_FOUND,
            Self::Store(error) => http_status(error.class()),
        };
        (status, Json(serde_json::json!({ "error": self.to_string() }))).into_response()
    }
}
