//! Giving a request to a worker: the lease is durable before the worker hears of it.

use std::{sync::Arc, time::Duration};

use hierophant_core::{Change, Event, Happening, QueuedRequest, Request, RequestState, TransitionError};
use network_lib::{
    ArtifactId, ArtifactKind, AttemptId, Fault, FaultClass, RequestId, WorkerId, crash_point,
    protocol::{Assignment, Instruction, Next, Source},
};

use super::{ChangeError, Service};
use crate::store::StorageError;

/// How long a prover waits with a request whose lease could not be written because the store is not available.
const STORE_PAUSE: Duration = Duration::from_secs(5);

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

impl ClaimError {
    /// Whether any other request would have fared no better.
    const fn is_passing(&self) -> bool {
        matches!(
            self,
            Self::Store { source: StorageError::Unavailable { .. }, .. }
                | Self::Change(ChangeError::Store { source: StorageError::Unavailable { .. }, .. })
        )
    }
}

impl Service {
    /// Writes the lease that the fleet wants and tells the worker; tells the fleet how it went.
    ///
    /// A crash before the write leaves the request queued; a crash after it leaves a lease that the worker does not
    /// know of, which is given up when the worker says hello without it.
    pub(crate) async fn claim(&self, id: RequestId, worker: WorkerId, prover: usize, is_hedge: bool) {
        let attempt = self.ids.attempt();
        match self.lease(id, worker, prover, attempt, is_hedge).await {
            Ok(assignment) => {
                tracing::info!(request.id = %id, attempt.id = %attempt, worker.id = %worker, is_hedge,
                    "a request was assigned");
                self.fleet.send(Event::Claimed { request: id, worker, prover, attempt }).await;
                self.fleet.instruct(worker, Instruction::Assign(Box::new(assignment))).await;
                self.release_if_settled(id, attempt).await;
            }
            Err(error) => {
                if let ClaimError::ArtifactGone { id, artifact } = error {
                    self.give_up(id, artifact).await;
                }
                let is_passing = error.is_passing();
                tracing::warn!(request.id = %id, worker.id = %worker, error = &error as &dyn std::error::Error,
                    "a request could not be assigned");
                if is_passing {
                    // Its prover would get the next one at once, to no better end.
                    tokio::time::sleep(STORE_PAUSE).await;
                }
                let requeue = self.still_waiting(id).await;
                self.fleet.send(Event::ClaimFailed { worker, prover, requeue, is_passing }).await;
            }
        }
    }

    /// Tells a worker again of an attempt that it did not answer for, unless that has come to an end meanwhile.
    pub(crate) async fn remind(&self, attempt: AttemptId, id: RequestId, worker: WorkerId, prover: usize) {
        let request = match self.store.request(id).await {
            Ok(Some(request)) if request.state.holder(attempt) == Some(worker) => request,
            Ok(_) => return self.fleet.send(Event::Released { attempt }).await,
            Err(error) => return tracing::warn!(attempt.id = %attempt, error = %error, "a worker was not told again"),
        };
        match self.sources(&request).await {
            Ok((program, stdin)) => {
                tracing::info!(request.id = %id, attempt.id = %attempt, worker.id = %worker, "a worker is told again");
                let assignment = assignment(&request, attempt, prover, program, stdin);
                self.fleet.instruct(worker, Instruction::Assign(Box::new(assignment))).await;
            }
            Err(error) => {
                tracing::warn!(attempt.id = %attempt, error = &error as &dyn std::error::Error,
                    "a worker was not told again");
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
        is_hedge: bool,
    ) -> Result<Assignment, ClaimError> {
        let request = self.store.request(id).await.map_err(|source| ClaimError::Store { id, source })?;
        let request = request.ok_or(ChangeError::Unknown(id))?;
        let (program, stdin) = self.sources(&request).await?;
        let decide = |request: &Request, now| {
            if is_hedge { request.hedge(attempt, worker, now) } else { request.lease(attempt, worker, now) }
        };
        crash_point!("claim.before_tx");
        let (request, _) = self.change(id, decide).await?;
        crash_point!("claim.after_commit_before_send");
        Ok(assignment(&request, attempt, prover, program, stdin))
    }

    /// Where a worker gets the program and the input.
    async fn sources(&self, request: &Request) -> Result<(Source, Source), ClaimError> {
        let program = self.source(request, request.spec.program).await?;
        Ok((program, self.source(request, request.spec.stdin).await?))
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
        (request.state == RequestState::Queued).then(|| QueuedRequest::from(&*request))
    }

    /// A request may be cancelled or expire between the write of its lease and the fleet's note of it; the fleet then
    /// heard of the end before the beginning. Whoever wrote last is seen here.
    async fn release_if_settled(&self, id: RequestId, attempt: AttemptId) {
        if let Ok(Some(request)) = self.store.request(id).await
            && request.state.holder(attempt).is_none()
        {
            self.fleet.release(id, vec![attempt], "the request ended meanwhile").await;
            self.tell_what_follows(&request).await;
        }
    }

    /// Takes back from the fleet those attempts that ended between the look at them and the fleet's note of them: it then
    /// heard of the end before the beginning. Whether there were any.
    pub(crate) async fn release_outdated(&self, held: Vec<(RequestId, AttemptId)>) -> bool {
        let mut is_any = false;
        for (id, attempt) in held {
            if let Ok(Some(request)) = self.store.request(id).await
                && request.state.holder(attempt).is_none()
            {
                is_any = true;
                self.fleet.send(Event::Released { attempt }).await;
                if request.state.is_terminal() {
                    self.fleet.send(Event::Settled { request: id }).await;
                }
                self.tell_what_follows(&request).await;
            }
        }
        is_any
    }

    /// An attempt is given up: contact with its worker was lost for too long, or the worker does not have it. Should it
    /// be connected all the same, it is told to stop. One whose proof is being checked needs its worker no more: whoever
    /// checks it says what becomes of it.
    pub(crate) async fn lose(&self, attempt: AttemptId, id: RequestId, worker: WorkerId, reason: String) {
        let policy = self.settings.retry;
        let fault = Fault::lost(reason.clone());
        let decide = |request: &Request, now| match request.state {
            RequestState::Verifying { attempt: checked, .. } if checked == attempt => Err(TransitionError::Known),
            _ => request.fail(attempt, fault.clone(), &policy, now),
        };
        let ended = self.change(id, decide).await;
        if matches!(ended, Err(ChangeError::Impossible(TransitionError::Known))) {
            return self.fleet.send(Event::Released { attempt }).await;
        }
        tracing::warn!(request.id = %id, attempt.id = %attempt, worker.id = %worker, reason, "an attempt was lost");
        let answer = Some(Instruction::Cancel { attempt, reason });
        if let Err(error) = self.tell_of_end(id, attempt, worker, fault, answer, ended).await {
            tracing::error!(request.id = %id, attempt.id = %attempt, error = &error as &dyn std::error::Error,
                "an attempt could not be ended; the next comparison of store and fleet will");
        }
    }

    /// Ends an attempt that holds its request, tells its worker `answer`, and the fleet what follows. A stale attempt
    /// ends nothing, and gets its answer all the same.
    ///
    /// # Errors
    /// When the store did not write it: then nothing has changed.
    pub(super) async fn end_attempt(
        &self,
        id: RequestId,
        attempt: AttemptId,
        worker: WorkerId,
        fault: Fault,
        answer: Option<Instruction>,
    ) -> Result<(), ChangeError> {
        let policy = self.settings.retry;
        let decide = |request: &Request, now| request.fail(attempt, fault.clone(), &policy, now);
        let ended = self.change(id, decide).await;
        self.tell_of_end(id, attempt, worker, fault, answer, ended).await
    }

    async fn tell_of_end(
        &self,
        id: RequestId,
        attempt: AttemptId,
        worker: WorkerId,
        fault: Fault,
        answer: Option<Instruction>,
        ended: Result<(Arc<Request>, Change), ChangeError>,
    ) -> Result<(), ChangeError> {
        let (request, change) = match ended {
            Ok(changed) => changed,
            Err(ChangeError::Impossible(_) | ChangeError::Unknown(_)) => {
                tracing::debug!(request.id = %id, attempt.id = %attempt, "a stale failure was ignored");
                self.answer(worker, answer).await;
                self.fleet.send(Event::Released { attempt }).await;
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        if request.state == RequestState::Queued {
            crash_point!("requeue.after_commit");
        }
        tracing::info!(request.id = %id, attempt.id = %attempt, fault = %fault, state = request.state.name(),
            "an attempt ended without a proof");
        self.answer(worker, answer).await;
        // Before its prover is free again: a worker that breaks everything is given no more at once.
        if matches!(fault.class, FaultClass::Worker | FaultClass::Resources) {
            self.fleet.send(Event::Failed { worker, request: id, class: fault.class }).await;
        }
        self.fleet.send(Event::Released { attempt }).await;
        if let Happening::AttemptEnded { superseded, .. } = change.happening
            && request.state.is_terminal()
        {
            self.fleet.release(id, superseded, "the request has ended").await;
        }
        self.tell_what_follows(&request).await;
        Ok(())
    }

    async fn answer(&self, worker: WorkerId, answer: Option<Instruction>) {
        if let Some(answer) = answer {
            self.fleet.instruct(worker, answer).await;
        }
    }

    /// Tells the fleet of a request that waits again, or whose deadline alone is to be watched.
    async fn tell_what_follows(&self, request: &Request) {
        let (id, deadline) = (request.id, request.spec.deadline);
        match request.state {
            RequestState::Queued => self.fleet.send(Event::Queued(QueuedRequest::from(request))).await,
            RequestState::Leased { .. } | RequestState::Verifying { .. } => {
                self.fleet.send(Event::Watched { request: id, deadline }).await;
            }
            _ => {}
        }
    }
}

fn assignment(request: &Request, attempt: AttemptId, prover: usize, program: Source, stdin: Source) -> Assignment {
    let spec = &request.spec;
    Assignment {
        attempt,
        request: request.id,
        prover,
        mode: spec.mode,
        circuit_version: spec.circuit_version.clone(),
        vk_hash: spec.vk_hash,
        program,
        stdin,
        cycle_limit: spec.cycle_limit,
        gas_limit: spec.gas_limit,
    }
}
