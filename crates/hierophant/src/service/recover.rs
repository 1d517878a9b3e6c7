//! Where store and fleet are brought together: at the start, when a worker says hello, and every now and then.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use hierophant_core::{
    Event, HeldLease, Holder, QueuedRequest, Request, RequestState, Standing, Timestamp, Verdict, reconcile,
};
use network_lib::{
    AttemptId, RequestId, WorkerId, WorkerProfile, crash_point,
    protocol::{InHand, Instruction, Stage},
};

use super::{ChangeError, Service};
use crate::{fleet::FleetView, store::StorageError};

/// Younger changes are left alone when store and fleet are compared: the fleet may not have heard of them yet.
const SETTLING_TIME: Duration = Duration::from_secs(10);

/// Workers that left no longer than this before a start are expected back: what cut them off may have been the end of
/// this program.
const LATELY: Duration = Duration::from_mins(2);

/// What is found when a worker says hello.
pub(crate) struct Welcome {
    /// The attempts that are rightfully its own.
    pub(crate) leases: Vec<HeldLease>,
    /// What it is to be told about the others.
    pub(crate) answers: Vec<Instruction>,
    /// What is held against it.
    pub(crate) standing: Standing,
}

/// What is held against workers, on its way to the store.
#[derive(Default)]
pub(crate) struct Standings {
    /// The latest of each worker that is not being written yet.
    due: Mutex<BTreeMap<WorkerId, Standing>>,
    /// Whoever holds it writes.
    turn: tokio::sync::Mutex<()>,
}

impl Standings {
    fn due(&self) -> MutexGuard<'_, BTreeMap<WorkerId, Standing>> {
        self.due.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Service {
    /// Tells a fresh fleet of who was here lately and of every open request, and takes up the checks that a crash cut
    /// off.
    ///
    /// # Errors
    /// [`StorageError`] when the store cannot be read: then there is nothing to start from.
    pub async fn recover(&self) -> Result<usize, StorageError> {
        for worker in self.store.workers_since(self.clock.now().time.minus(LATELY)).await? {
            self.fleet.send(Event::Expected { worker }).await;
        }
        let open = self.store.open_requests().await?;
        for request in &open {
            crash_point!("recover.mid");
            self.announce(request).await;
        }
        Ok(open.len())
    }

    /// Tells the fleet of one open request.
    async fn announce(&self, request: &Arc<Request>) {
        let work = QueuedRequest::from(&**request);
        let remember = |Holder { attempt, worker }| Event::Remembered { attempt, work: work.clone(), worker };
        match request.state {
            RequestState::Queued => self.fleet.send(Event::Queued(work)).await,
            RequestState::Leased { .. } => {
                for holder in request.state.holders() {
                    self.fleet.send(remember(holder)).await;
                }
            }
            RequestState::Verifying { attempt, worker, .. } => {
                for holder in request.state.holders() {
                    self.fleet.send(remember(holder)).await;
                }
                self.fleet.send(Event::Proved { attempt, worker }).await;
                self.check_proof(request.id, attempt, worker);
            }
            _ => {}
        }
    }

    /// Compares the store with the fleet and mends what a lost message left behind: requests that wait unseen, leases
    /// that nobody holds, checks that nobody makes. Finds nothing in a healthy run.
    pub(crate) async fn reconcile(&self) {
        let open = match self.store.open_requests().await {
            Ok(open) => open,
            Err(error) => {
                tracing::error!(error = %error, "store and fleet could not be compared");
                return;
            }
        };
        let now = self.clock.now().time;
        let settled: Vec<_> = open.into_iter().filter(|request| is_settled(request.updated_at, now)).collect();
        let subjects: Vec<(RequestId, Vec<AttemptId>)> = settled
            .iter()
            .map(|request| (request.id, request.state.holders().map(|holder| holder.attempt).collect()))
            .collect();
        // What the fleet does not know of: whether the request, and which of its attempts.
        let unknown = |view: &FleetView<'_>| {
            let in_work = view.fleet().in_work();
            let look = |(request, attempts): (RequestId, Vec<AttemptId>)| {
                let is_known = in_work.contains(&request) || view.fleet().is_waiting(request);
                (is_known, attempts.into_iter().filter(|attempt| view.fleet().lease(*attempt).is_none()).collect())
            };
            subjects.into_iter().map(look).collect::<Vec<(bool, Vec<AttemptId>)>>()
        };
        let unknown = self.fleet.inspect(unknown).await.unwrap_or_default();
        for (request, (is_known, strays)) in settled.iter().zip(unknown) {
            let checked = match request.state {
                RequestState::Verifying { attempt, worker, .. } => {
                    self.check_proof(request.id, attempt, worker);
                    Some(attempt)
                }
                RequestState::Queued if !is_known => {
                    tracing::warn!(request.id = %request.id, "a request that waited unseen");
                    self.announce(request).await;
                    None
                }
                _ => None,
            };
            for attempt in strays.into_iter().filter(|stray| Some(*stray) != checked) {
                tracing::warn!(request.id = %request.id, attempt.id = %attempt, "a lease that nobody holds");
                let Some(worker) = request.state.holder(attempt) else { continue };
                self.lose(attempt, request.id, worker, "nobody held the lease any more".to_owned()).await;
            }
        }
    }

    /// What becomes of the attempts that a worker has in hand.
    ///
    /// # Errors
    /// [`StorageError`] when an attempt could not be looked up; the worker keeps everything and comes back.
    pub(crate) async fn welcome(&self, worker: WorkerId, in_hand: Vec<InHand>) -> Result<Welcome, StorageError> {
        let mut leases = Vec::new();
        let mut answers = Vec::new();
        for in_hand in in_hand {
            let InHand { attempt, prover, stage, .. } = in_hand;
            let is_proving = stage == Stage::Working;
            let lease = |request: &Request| HeldLease { attempt, work: request.into(), prover, is_proving };
            let request = self.request_of(worker, &in_hand).await?;
            let verdict = reconcile(request.as_deref(), worker, &in_hand);
            tracing::info!(attempt.id = %attempt, worker.id = %worker, verdict = ?verdict,
                "a worker came with an attempt in hand");
            let holds = |request: &&Arc<Request>| request.state.holder(attempt) == Some(worker);
            match verdict {
                Verdict::Continue => leases.extend(request.as_deref().map(lease)),
                Verdict::Resume => {
                    match self.change(in_hand.request, |request, now| request.resume(attempt, worker, now)).await {
                        Ok((request, _)) => leases.push(lease(&request)),
                        Err(ChangeError::Store { source, .. }) => return Err(source),
                        Err(error) => answers.push(Instruction::Cancel { attempt, reason: error.to_string() }),
                    }
                }
                // It announces the proof next, and is asked for it then.
                Verdict::Deliver => leases.extend(request.as_ref().filter(holds).map(|request| lease(request))),
                Verdict::Forget => answers.push(Instruction::Stored(attempt)),
                Verdict::Stop(reason) => answers.push(Instruction::Cancel { attempt, reason: reason.to_owned() }),
                Verdict::Keep => {
                    tracing::warn!(attempt.id = %attempt, request.id = %in_hand.request, worker.id = %worker,
                        "a worker has a proof of a request that is not known here, as after a restore of an old copy \
                         of the database; it keeps the proof");
                }
            }
        }
        let standing = self.store.worker_standing(worker).await?;
        Ok(Welcome { leases, answers, standing })
    }

    /// The request of an attempt in hand, if that attempt was once given to this worker for it.
    async fn request_of(&self, worker: WorkerId, in_hand: &InHand) -> Result<Option<Arc<Request>>, StorageError> {
        let attempt = self.store.attempt(in_hand.attempt).await?;
        if !attempt.is_some_and(|known| known.worker == worker && known.request == in_hand.request) {
            return Ok(None);
        }
        self.store.request(in_hand.request).await
    }

    /// Notes for people that a worker is here.
    pub(crate) async fn record_arrival(&self, profile: &WorkerProfile, address: &str) {
        let now = self.clock.now().time;
        if let Err(error) = self.store.worker_joined(profile.id, &profile.name, address, now).await {
            tracing::warn!(worker.id = %profile.id, error = %error, "a worker's arrival was not recorded");
        }
    }

    /// Notes what is held against a worker, for the next start. Of several notes the last one is what stays: they are
    /// written in turn, each time the latest there is.
    pub(crate) fn note_standing(&self, worker: WorkerId, standing: Standing) {
        self.standings.due().insert(worker, standing);
        let service = self.clone();
        self.tasks.spawn(async move {
            let _turn = service.standings.turn.lock().await;
            let due = std::mem::take(&mut *service.standings.due());
            for (worker, standing) in due {
                if let Err(error) = service.store.note_standing(worker, &standing).await {
                    tracing::warn!(worker.id = %worker, error = %error, "a worker's standing was not recorded");
                }
            }
        });
    }

    /// Notes for people that a worker left.
    pub(crate) async fn record_departure(&self, worker: WorkerId, reason: &str) {
        if let Err(error) = self.store.worker_left(worker, self.clock.now().time, reason).await {
            tracing::warn!(worker.id = %worker, error = %error, "a worker's departure was not recorded");
        }
    }
}

/// Whether the fleet must have heard of what happened `then`. What lies ahead of a clock that was set back has happened
/// too, and is not waited for.
fn is_settled(then: Timestamp, now: Timestamp) -> bool {
    now.since(then).max(then.since(now)) > SETTLING_TIME
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_just_happened_is_left_alone_even_if_the_clock_was_set_back_since() {
        let then = Timestamp::from_secs(10_000);
        for (now, expected) in [(10_000, false), (10_010, false), (10_011, true), (9_990, false), (2_800, true)] {
            assert_eq!(is_settled(then, Timestamp::from_secs(now)), expected, "{now}");
        }
    }
}
