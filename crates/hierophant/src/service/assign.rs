//! Giving a request to a worker: the lease is durable before the worker hears of it.

use std::{sync::Arc, time::Duration};

use hierophant_core::{Event, QueuedRequest, Request};
use network_lib::{
    ArtifactId, ArtifactKind, AttemptId, Fault, RequestId, WorkerId,
    protocol::{Assignment, Instruction, Next, Source},
};

use super::{ChangeError, Service};
use crate::store::StorageError;

/// How long a worker may take to fetch what it needs. It asks again with a fresh hello after that.
const FETCH_TIME: Duration = Duration::from_hours(24);

/// Why a request could not be given to a worker.
#[derive(Debug, thiserror::Error)]
enum ClaimError {
    #[error(transparent)]
    Change(#[from] ChangeError),
    #[error("could not look up what request {id} needs")]
    Store {
        id: RequestId,
        #[source]
        source: StorageError,
    },
    #[error("artifact {artifact} of request {id} is not in the store any more")]
    ArtifactGone { id: RequestId, artifact: ArtifactId },
}

impl Service {
    /// Writes the lease that the fleet wants and tells the worker; tells the fleet how it went.
    ///
    /// A crash before the write leaves the request queued; a crash after it leaves a lease that the worker does not
    /// know of, which is given up when the worker says hello without it.
    pub(crate) async fn claim(&self, id: RequestId, worker: WorkerId, prover: usize) {
        let attempt = AttemptId::random(&mut rand::rng());
        match self.lease(id, worker, prover, attempt).await {
            Ok(assignment) => {
                tracing::info!(request.id = %id, attempt.id = %attempt, worker.id = %worker, "a request was assigned");
                self.fleet.send(Event::Claimed { request: id, worker, prover, attempt }).await;
                self.fleet.instruct(worker, Instruction::Assign(Box::new(assignment))).await;
                self.release_if_settled(id, attempt).await;
            }
            Err(error) => {
                if let ClaimError::ArtifactGone { id, artifact } = error {
                    self.give_up(id, artifact).await;
                }
                let requeue = self.still_waiting(id).await;
                tracing::warn!(request.id = %id, worker.id = %worker, error = &error as &dyn std::error::Error,
                    "a request could not be assigned");
                self.fleet.send(Event::ClaimFailed { request: id, worker, prover, requeue }).await;
            }
        }
    }

    /// Tells a worker what its prover will most likely be given next. Nothing rests on it: what cannot be looked up is
    /// not told. A private input is left out, since it is for the worker alone that will prove it.
    pub(crate) async fn hint(&self, id: RequestId, worker: WorkerId, prover: usize) {
        match self.next(id).await {
            Ok(next) => self.fleet.instruct(worker, Instruction::Prefetch { prover, next: Some(next) }).await,
            Err(error) => {
                tracing::debug!(request.id = %id, worker.id = %worker, error = &error as &dyn std::error::Error,
                    "a worker was not told what comes next");
            }
        }
    }

    async fn next(&self, id: RequestId) -> Result<Next, ClaimError> {
        let request = self.store.request(id).await.map_err(|source| ClaimError::Store { id, source })?;
        let request = request.ok_or(ChangeError::Unknown(id))?;
        let is_private = request.spec.stdin.kind() == ArtifactKind::PrivateStdin;
        let program = self.source(&request, request.spec.program).await?;
        let stdin = if is_private { None } else { Some(self.source(&request, request.spec.stdin).await?) };
        Ok(Next { program, stdin })
    }

    async fn lease(
        &self,
        id: RequestId,
        worker: WorkerId,
        prover: usize,
        attempt: AttemptId,
    ) -> Result<Assignment, ClaimError> {
        let request = self.store.request(id).await.map_err(|source| ClaimError::Store { id, source })?;
        let request = request.ok_or(ChangeError::Unknown(id))?;
        let program = self.source(&request, request.spec.program).await?;
        let stdin = self.source(&request, request.spec.stdin).await?;
        let (request, _) = self.change(id, |request, now| request.lease(attempt, worker, now)).await?;
        let spec = &request.spec;
        Ok(Assignment {
            attempt,
            request: id,
            prover,
            mode: spec.mode,
            circuit_version: spec.circuit_version.clone(),
            vk_hash: spec.vk_hash,
            program,
            stdin,
            cycle_limit: spec.cycle_limit,
            gas_limit: spec.gas_limit,
        })
    }

    async fn source(&self, request: &Request, id: ArtifactId) -> Result<Source, ClaimError> {
        let row = self.store.artifact(id).await.map_err(|source| ClaimError::Store { id: request.id, source })?;
        let artifact = row.ok_or(ClaimError::ArtifactGone { id: request.id, artifact: id })?;
        let expires = self.clock.now().time.plus(FETCH_TIME);
        Ok(Source { url: self.capabilities.get_path(id, expires), digest: artifact.digest, size: artifact.size })
    }

    /// The request as the queue needs it, if it waits. When the store does not answer, the next comparison of store
    /// and fleet finds it.
    async fn still_waiting(&self, id: RequestId) -> Option<QueuedRequest> {
        let request: Arc<Request> = self.store.request(id).await.ok().flatten()?;
        (request.state == hierophant_core::RequestState::Queued).then(|| QueuedRequest::from(&*request))
    }

    /// A request may be cancelled or expire between the write of its lease and the fleet's note of it; the fleet then
    /// heard of the end before the beginning. Whoever wrote last is seen here.
    async fn release_if_settled(&self, id: RequestId, attempt: AttemptId) {
        if let Ok(Some(request)) = self.store.request(id).await
            && request.state.current_attempt().map(|(current, _)| current) != Some(attempt)
        {
            self.fleet.release(id, Some(attempt), "the request ended meanwhile").await;
            if request.state == hierophant_core::RequestState::Queued {
                self.fleet.send(Event::Queued(QueuedRequest::from(&*request))).await;
            }
        }
    }

    /// Contact with a worker was lost for too long: its attempt is given up.
    pub(crate) async fn lose(&self, attempt: AttemptId, id: RequestId, worker: WorkerId, reason: String) {
        tracing::warn!(request.id = %id, attempt.id = %attempt, worker.id = %worker, reason, "an attempt was lost");
        self.end_attempt(id, attempt, Fault::lost(reason)).await;
    }

    /// Ends the attempt that holds the request, and tells the fleet what follows.
    pub(super) async fn end_attempt(&self, id: RequestId, attempt: AttemptId, fault: Fault) {
        let policy = self.settings.retry;
        let decide = |request: &Request, now| request.fail(attempt, fault.clone(), &policy, now);
        match self.change(id, decide).await {
            Ok((request, _)) => {
                tracing::info!(request.id = %id, attempt.id = %attempt, fault = %fault, state = request.state.name(),
                    "an attempt ended without a proof");
                self.fleet.send(Event::Settled { request: id, attempt: Some(attempt) }).await;
                if request.state == hierophant_core::RequestState::Queued {
                    self.fleet.send(Event::Queued(QueuedRequest::from(&*request))).await;
                }
            }
            Err(ChangeError::Impossible(stale)) => {
                tracing::debug!(request.id = %id, attempt.id = %attempt, reason = %stale, "a stale failure was ignored");
            }
            Err(error) => {
                tracing::error!(request.id = %id, attempt.id = %attempt, error = &error as &dyn std::error::Error,
                    "an attempt could not be ended; the next comparison of store and fleet will");
            }
        }
    }
}
