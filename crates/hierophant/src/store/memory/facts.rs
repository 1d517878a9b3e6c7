//! What is in the store, and how it changes.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    sync::Arc,
    time::Duration,
};

use hierophant_core::{Change, Happening, Holder, Request, RequestState, Standing, Timestamp, Tries};
use network_lib::{ArtifactId, AttemptId, Digest, RequestId, WorkerId};

use crate::service::report::proof_artifact;
use crate::store::{
    Artifact, AttemptRecord, DepartedWorker, HistoryRow, MOST_DEPARTED, NewRequest, Program, ProofRecord,
    RequestFilter, Stats, StorageError, Submitted, WorkerRecord,
};

#[derive(Debug)]
struct Row {
    seq: u64,
    request: Arc<Request>,
    history: Vec<HistoryRow>,
    /// Who made the last attempt.
    worker: Option<WorkerId>,
}

#[derive(Debug)]
struct Attempt {
    record: AttemptRecord,
    outcome: Option<&'static str>,
}

#[derive(Debug)]
struct Visit {
    name: String,
    address: String,
    joined_at: Timestamp,
    left: Option<(Timestamp, String)>,
    standing: Standing,
}

/// Everything that a store holds. Each method is one transaction.
#[derive(Debug, Default)]
pub struct Facts {
    requests: BTreeMap<RequestId, Row>,
    /// The latest request of each fingerprint.
    latest: BTreeMap<Digest, RequestId>,
    attempts: BTreeMap<AttemptId, Attempt>,
    programs: BTreeMap<Digest, Arc<Program>>,
    artifacts: BTreeMap<ArtifactId, Artifact>,
    workers: BTreeMap<WorkerId, Visit>,
    writes: u64,
}

impl Facts {
    pub(super) fn stats(&self) -> Stats {
        Stats { commits: self.writes, writes: self.writes }
    }

    /// As [`Requests::submit`](crate::store::Requests::submit).
    ///
    /// # Errors
    /// [`StorageError::Exists`] when the id is taken.
    pub fn submit(&mut self, new: NewRequest) -> Result<Submitted, StorageError> {
        if let Some(existing) = self.standing_for(new.fingerprint) {
            return Ok(Submitted::Existing(existing));
        }
        match self.artifacts.get(&new.spec.stdin) {
            None => return Ok(Submitted::StdinMissing),
            Some(stdin) if stdin.owner != Some(new.spec.requester) => return Ok(Submitted::StdinOfAnother),
            Some(_) => {}
        }
        let seq = self.requests.len() as u64;
        let Entry::Vacant(place) = self.requests.entry(new.id) else {
            return Err(StorageError::Exists { what: format!("request {}", new.id) });
        };
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
        let history = vec![HistoryRow { at: new.created_at, happening: Happening::Accepted }];
        place.insert(Row { seq, request: Arc::clone(&request), history, worker: None });
        self.latest.insert(new.fingerprint, new.id);
        self.writes += 1;
        Ok(Submitted::Accepted(request))
    }

    pub(super) fn standing_for(&self, fingerprint: Digest) -> Option<Arc<Request>> {
        let latest = &self.requests.get(self.latest.get(&fingerprint)?)?.request;
        let stands = !latest.state.is_failed() && self.has_its_proof(&latest.state);
        stands.then(|| Arc::clone(latest))
    }

    /// Whether the proof of a fulfilled request is here; others need none.
    fn has_its_proof(&self, state: &RequestState) -> bool {
        match state {
            RequestState::Fulfilled { attempt, .. } => self.artifacts.contains_key(&proof_artifact(*attempt)),
            _ => true,
        }
    }

    /// The request with this id.
    pub fn request(&self, id: RequestId) -> Option<Arc<Request>> {
        self.requests.get(&id).map(|row| Arc::clone(&row.request))
    }

    /// As [`Requests::write`](crate::store::Requests::write).
    ///
    /// # Errors
    /// [`StorageError::Conflict`] when the request is at another version, [`StorageError::Exists`] when the attempt is
    /// another's.
    pub fn write(&mut self, change: Change) -> Result<Arc<Request>, StorageError> {
        let Change { request, happening } = change;
        let id = request.id;
        let row = self.requests.get_mut(&id).filter(|row| row.request.version + 1 == request.version);
        let row = row.ok_or(StorageError::Conflict(id))?;
        follow(&mut self.attempts, &request, &happening)?;
        let made = match &request.state {
            RequestState::Fulfilled { worker, .. } => Some(*worker),
            other => other.holders().next().map(|Holder { worker, .. }| worker),
        };
        row.worker = made.or(row.worker);
        row.history.push(HistoryRow { at: request.updated_at, happening });
        row.request = Arc::new(request);
        self.writes += 1;
        Ok(Arc::clone(&row.request))
    }

    /// Every request that has not ended, oldest first.
    pub fn open_requests(&self) -> Vec<Arc<Request>> {
        let mut open: Vec<&Row> = self.requests.values().filter(|row| !row.request.state.is_terminal()).collect();
        open.sort_by_key(|row| (row.request.created_at, row.seq));
        open.into_iter().map(|row| Arc::clone(&row.request)).collect()
    }

    pub(super) fn requests(&self, filter: &RequestFilter) -> Vec<Arc<Request>> {
        let mut found: Vec<&Row> = self.requests.values().filter(|row| row.passes(filter)).collect();
        found.sort_by_key(|row| std::cmp::Reverse((row.request.created_at, row.seq)));
        let window = found.into_iter().skip(filter.offset as usize).take(filter.limit as usize);
        window.map(|row| Arc::clone(&row.request)).collect()
    }

    pub(super) fn history(&self, id: RequestId) -> Vec<HistoryRow> {
        self.requests.get(&id).map(|row| row.history.clone()).unwrap_or_default()
    }

    /// The attempt with this id.
    pub fn attempt(&self, id: AttemptId) -> Option<AttemptRecord> {
        self.attempts.get(&id).map(|attempt| attempt.record)
    }

    pub(super) fn proofs(&self, limit: u32) -> Vec<ProofRecord> {
        let fulfilled = self.requests.values().filter_map(|row| match row.request.state {
            RequestState::Fulfilled { attempt, worker, at, is_mock } => Some((row, attempt, worker, at, is_mock)),
            _ => None,
        });
        let mut newest: Vec<_> = fulfilled.collect();
        newest.sort_by_key(|(row, ..)| std::cmp::Reverse((row.request.updated_at, row.seq)));
        let record = |(row, attempt, worker, at, is_mock): (&Row, AttemptId, WorkerId, Timestamp, bool)| ProofRecord {
            request: row.request.id,
            mode: row.request.spec.mode,
            worker,
            worker_name: self.workers.get(&worker).map_or_else(|| worker.to_string(), |visit| visit.name.clone()),
            started_at: self.attempts.get(&attempt).map_or(at, |attempt| attempt.record.started_at),
            fulfilled_at: at,
            is_mock,
        };
        newest.into_iter().take(limit as usize).map(record).collect()
    }

    /// Registers a program. One that is registered stays as it is, unless its artifact is gone: then it gets this one.
    pub fn register_program(&mut self, program: Program) {
        let artifact = program.program;
        let known = self.programs.entry(program.vk_hash).or_insert_with(|| Arc::new(program));
        if !self.artifacts.contains_key(&known.program) {
            Arc::make_mut(known).program = artifact;
        }
    }

    /// The program with this hash.
    pub fn program(&self, vk_hash: Digest) -> Option<Arc<Program>> {
        self.programs.get(&vk_hash).cloned()
    }

    /// Records an artifact.
    ///
    /// # Errors
    /// [`StorageError::Exists`] when it is there with other content.
    pub fn record_artifact(&mut self, artifact: &Artifact) -> Result<(), StorageError> {
        let there = self.artifacts.entry(artifact.id).or_insert_with(|| artifact.clone());
        if there.digest == artifact.digest {
            Ok(())
        } else {
            Err(StorageError::Exists { what: format!("artifact {}", artifact.id) })
        }
    }

    /// Forgets an artifact.
    pub fn forget_artifact(&mut self, id: ArtifactId) {
        self.artifacts.remove(&id);
    }

    /// The artifact with this id.
    pub fn artifact(&self, id: ArtifactId) -> Option<Artifact> {
        self.artifacts.get(&id).cloned()
    }

    /// A session of a worker began.
    pub fn worker_joined(&mut self, id: WorkerId, name: &str, address: &str, at: Timestamp) {
        if !self.workers.contains_key(&id) {
            self.forget_longest_gone();
        }
        let standing = self.worker_standing(id);
        let visit = Visit { name: name.to_owned(), address: address.to_owned(), joined_at: at, left: None, standing };
        self.workers.insert(id, visit);
    }

    fn forget_longest_gone(&mut self) {
        let departed = self.workers.iter().filter_map(|(id, visit)| Some((visit.left.as_ref()?.0, *id)));
        let mut departed: Vec<_> = departed.collect();
        departed.sort_unstable();
        let excess = departed.len().saturating_sub(MOST_DEPARTED as usize);
        for (_, id) in departed.into_iter().take(excess) {
            self.workers.remove(&id);
        }
    }

    /// A session of a worker ended.
    pub fn worker_left(&mut self, id: WorkerId, at: Timestamp, reason: &str) {
        if let Some(visit) = self.workers.get_mut(&id) {
            visit.left = Some((at, reason.to_owned()));
        }
    }

    /// What is held against a worker.
    pub fn worker_standing(&self, id: WorkerId) -> Standing {
        self.workers.get(&id).map(|visit| visit.standing.clone()).unwrap_or_default()
    }

    /// What is held against a worker from now on.
    pub fn note_standing(&mut self, id: WorkerId, standing: &Standing) {
        if let Some(visit) = self.workers.get_mut(&id) {
            visit.standing.clone_from(standing);
        }
    }

    pub(super) fn worker_record(&self, id: WorkerId) -> WorkerRecord {
        let of_worker = || self.attempts.values().filter(move |attempt| attempt.record.worker == id);
        let times: Vec<Duration> = of_worker()
            .filter(|attempt| attempt.outcome == Some("fulfilled"))
            .filter_map(|attempt| Some(attempt.record.ended_at?.since(attempt.record.started_at)))
            .collect();
        let failed = of_worker().filter(|attempt| matches!(attempt.outcome, Some("worker" | "resources")));
        let count = u32::try_from(times.len()).unwrap_or(u32::MAX);
        WorkerRecord {
            proofs: times.len() as u64,
            average_proof_time: times.iter().sum::<Duration>().checked_div(count),
            failed_attempts: failed.count() as u64,
        }
    }

    pub(super) fn workers_since(&self, since: Timestamp) -> Vec<WorkerId> {
        let is_recent = |visit: &Visit| visit.left.as_ref().is_none_or(|(at, _)| *at >= since);
        self.workers.iter().filter(|(_, visit)| is_recent(visit)).map(|(id, _)| *id).collect()
    }

    pub(super) fn departed_workers(&self, limit: u32) -> Vec<DepartedWorker> {
        let departed = self.workers.iter().filter_map(|(id, visit)| {
            let (left_at, reason) = visit.left.clone()?;
            let (name, address) = (visit.name.clone(), visit.address.clone());
            Some(DepartedWorker { id: *id, name, address, joined_at: visit.joined_at, left_at, reason })
        });
        let mut departed: Vec<_> = departed.collect();
        departed.sort_by_key(|worker| (std::cmp::Reverse(worker.left_at), worker.id));
        departed.truncate(limit as usize);
        departed
    }
}

/// Brings the attempts of a request to where a change leaves them.
fn follow(
    attempts: &mut BTreeMap<AttemptId, Attempt>,
    request: &Request,
    happening: &Happening,
) -> Result<(), StorageError> {
    let (id, at) = (request.id, request.updated_at);
    let mut end = |attempt: &AttemptId, outcome| {
        if let Some(ended) = attempts.get_mut(attempt).filter(|known| known.record.request == id) {
            ended.record.ended_at = Some(at);
            ended.outcome = Some(outcome);
        }
    };
    match happening {
        Happening::Leased { attempt, worker }
        | Happening::Hedged { attempt, worker }
        | Happening::Resumed { attempt, worker } => {
            let record =
                AttemptRecord { attempt: *attempt, request: id, worker: *worker, started_at: at, ended_at: None };
            let is_resumed = matches!(happening, Happening::Resumed { .. });
            match attempts.entry(*attempt) {
                Entry::Vacant(place) => {
                    place.insert(Attempt { record, outcome: None });
                }
                Entry::Occupied(mut known)
                    if is_resumed && known.get().record.request == id && known.get().record.worker == *worker =>
                {
                    known.get_mut().record.ended_at = None;
                    known.get_mut().outcome = None;
                }
                Entry::Occupied(_) => return Err(StorageError::Exists { what: format!("attempt {attempt}") }),
            }
        }
        Happening::AttemptEnded { attempt, outcome, superseded, .. } => {
            for running in superseded {
                end(running, "superseded");
            }
            end(attempt, outcome.fault.class.name());
        }
        Happening::Fulfilled { attempt, superseded, .. } => {
            for running in superseded {
                end(running, "superseded");
            }
            end(attempt, "fulfilled");
        }
        Happening::Expired { superseded } => {
            for running in superseded {
                end(running, "expired");
            }
        }
        Happening::Cancelled { superseded } => {
            for running in superseded {
                end(running, "cancelled");
            }
        }
        Happening::Accepted
        | Happening::Executed { .. }
        | Happening::Proved { .. }
        | Happening::Delivered { .. }
        | Happening::GivenUp { .. } => {}
    }
    Ok(())
}

impl Row {
    fn passes(&self, filter: &RequestFilter) -> bool {
        let Request { spec, state, created_at, .. } = &*self.request;
        filter.requester.is_none_or(|requester| requester == spec.requester)
            && filter.vk_hash.is_none_or(|vk_hash| vk_hash == spec.vk_hash)
            && filter.mode.is_none_or(|mode| mode == spec.mode)
            && (filter.states.is_empty() || filter.states.contains(&state.name()))
            && filter.circuit_version.as_deref().is_none_or(|version| version == spec.circuit_version.as_str())
            && filter.min_deadline.is_none_or(|earliest| spec.deadline >= earliest)
            && filter.worker.is_none_or(|worker| self.worker == Some(worker))
            && filter.created_from.is_none_or(|from| *created_at >= from)
            && filter.created_to.is_none_or(|to| *created_at <= to)
    }
}
