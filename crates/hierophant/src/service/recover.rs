//! Where store and fleet are brought together: at the start, when a worker says hello, and every now and then.

use std::{sync::Arc, time::Duration};

use hierophant_core::{Event, QueuedRequest, Request, RequestState, Verdict, reconcile};
use network_lib::{
    AttemptId, Fault, RequestId, WorkerId, WorkerProfile,
    protocol::{InHand, Instruction},
};

use super::Service;
use crate::store::StorageError;

/// Younger changes are left alone when store and fleet are compared: the fleet may not have heard of them yet.
const SETTLING_TIME: Duration = Duration::from_secs(10);

impl Service {
    /// Tells a fresh fleet of every open request, and takes up the checks that a crash cut off.
    ///
    /// # Errors
    /// [`StorageError`] when the store cannot be read: then there is nothing to start from.
    pub async fn recover(&self) -> Result<usize, StorageError> {
        let open = self.store.open_requests().await?;
        for request in &open {
            self.announce(request).await;
        }
        Ok(open.len())
    }

    /// Tells the fleet of one open request.
    async fn announce(&self, request: &Arc<Request>) {
        let (id, deadline) = (request.id, request.spec.deadline);
        match request.state {
            RequestState::Queued => self.fleet.send(Event::Queued(QueuedRequest::from(&**request))).await,
            RequestState::Leased { attempt, worker } => {
                self.fleet.send(Event::Remembered { attempt, request: id, worker, deadline }).await;
            }
            RequestState::Verifying { attempt, worker } => {
                self.fleet.send(Event::Watched { request: id, deadline }).await;
                self.check_proof(id, attempt, worker);
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
        let settled: Vec<_> =
            open.into_iter().filter(|request| now.since(request.updated_at) > SETTLING_TIME).collect();
        let ids: Vec<RequestId> = settled.iter().map(|request| request.id).collect();
        let known = self
            .fleet
            .inspect(move |view| ids.iter().map(|id| view.fleet().knows(*id)).collect::<Vec<_>>())
            .await
            .unwrap_or_default();
        for (request, is_known) in settled.iter().zip(known) {
            match request.state {
                RequestState::Verifying { attempt, worker } => self.check_proof(request.id, attempt, worker),
                _ if is_known => {}
                RequestState::Leased { attempt, .. } => {
                    tracing::warn!(request.id = %request.id, attempt.id = %attempt, "a lease that nobody holds");
                    self.end_attempt(request.id, attempt, Fault::lost("nobody held the lease any more")).await;
                }
                _ => {
                    tracing::warn!(request.id = %request.id, "a request that waited unseen");
                    self.announce(request).await;
                }
            }
        }
    }

    /// What becomes of the attempts that a worker has in hand: the leases that are rightfully its own, and what it is
    /// to be told about the others.
    ///
    /// # Errors
    /// [`StorageError`] when an attempt could not be looked up; the worker keeps everything and comes back.
    pub(crate) async fn welcome(
        &self,
        worker: WorkerId,
        in_hand: Vec<InHand>,
    ) -> Result<(Vec<(AttemptId, RequestId, usize, bool)>, Vec<Instruction>), StorageError> {
        let mut leases = Vec::new();
        let mut answers = Vec::new();
        for in_hand in in_hand {
            let attempt = in_hand.attempt;
            let lease = (attempt, in_hand.request, in_hand.prover, !in_hand.is_proved);
            let request = self.request_of(worker, &in_hand).await?;
            let verdict = reconcile(request.as_deref(), worker, &in_hand);
            tracing::info!(attempt.id = %attempt, worker.id = %worker, verdict = ?verdict,
                "a worker came with an attempt in hand");
            let holds_request =
                request.as_ref().and_then(|request| request.state.current_attempt()) == Some((attempt, worker));
            match verdict {
                Verdict::Continue => leases.push(lease),
                Verdict::Resume => {
                    match self.change(in_hand.request, |request, now| request.resume(attempt, worker, now)).await {
                        Ok(_) => leases.push(lease),
                        Err(error) => answers.push(Instruction::Cancel { attempt, reason: error.to_string() }),
                    }
                }
                Verdict::Deliver => {
                    if holds_request {
                        leases.push(lease);
                    }
                    answers.push(self.deliver_instruction(attempt));
                }
                Verdict::Forget => answers.push(Instruction::Stored(attempt)),
                Verdict::Stop(reason) => answers.push(Instruction::Cancel { attempt, reason: reason.to_owned() }),
            }
        }
        Ok((leases, answers))
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

    /// Notes for people that a worker left.
    pub(crate) async fn record_departure(&self, worker: WorkerId, reason: &str) {
        if let Err(error) = self.store.worker_left(worker, self.clock.now().time, reason).await {
            tracing::warn!(worker.id = %worker, error = %error, "a worker's departure was not recorded");
        }
    }
}
