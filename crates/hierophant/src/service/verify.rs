//! Checking proofs: only a verified proof fulfils a request.

use std::time::Duration;

use hierophant_core::{Event, Happening, Request, TransitionError};
use network_lib::{AttemptId, Fault, RequestId, WorkerId, crash_point, protocol::Instruction};
use proving::{VerifyError, VerifyOrder};

use super::{ChangeError, Service, report::proof_artifact};
use crate::store::StorageError;

/// Longest pause between two tries to check a proof while the verifier is not available.
const MAX_PAUSE: Duration = Duration::from_secs(30);

/// What a check came to.
enum Outcome {
    Good { is_mock: bool },
    Bad { reason: String },
    Unknown { cause: String },
}

impl Service {
    /// Checks the proof of an attempt in a task of its own, once at a time. A crash midway leaves the request in
    /// `Verifying`, or its worker with the proof in hand: either way it is checked again.
    pub(crate) fn check_proof(&self, id: RequestId, attempt: AttemptId, worker: WorkerId) {
        if !self.verifying().insert(attempt) {
            return;
        }
        let service = self.clone();
        self.tasks.spawn(async move {
            service.check_until_known(id, attempt, worker).await;
            service.verifying().remove(&attempt);
        });
    }

    fn verifying(&self) -> std::sync::MutexGuard<'_, std::collections::HashSet<AttemptId>> {
        self.verifying.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Tries until the verifier has an answer. Once the deadline has passed, the request is held up no longer; the proof is
    /// checked all the same, since it is true however late, and its worker keeps it until it is told.
    async fn check_until_known(&self, id: RequestId, attempt: AttemptId, worker: WorkerId) {
        let mut pause = Duration::from_millis(500);
        let mut is_overdue = false;
        loop {
            let request = match self.store.request(id).await {
                Ok(Some(request)) => request,
                // Nobody else would check the proof of an attempt that holds its request no more.
                Err(StorageError::Unavailable { problem }) => {
                    tracing::error!(request.id = %id, attempt.id = %attempt, problem, "a check waits for the store");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(MAX_PAUSE);
                    continue;
                }
                Ok(None) | Err(_) => return,
            };
            crash_point!("result.after_fsync_before_verify");
            match self.ask_verifier(&request, attempt).await {
                Outcome::Good { is_mock } => return self.accept(id, attempt, worker, is_mock).await,
                Outcome::Bad { reason } => return self.reject(id, attempt, worker, reason).await,
                Outcome::Unknown { cause } => {
                    tracing::error!(request.id = %id, attempt.id = %attempt, cause, "a proof could not be checked");
                    if !is_overdue && self.clock.now().time > request.spec.deadline {
                        is_overdue = true;
                        let fault = Fault::lost(format!("the proof could not be checked before the deadline: {cause}"));
                        // The worker keeps its proof until there is an answer.
                        self.discard(id, attempt, worker, fault, None).await;
                    }
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(MAX_PAUSE);
                }
            }
        }
    }

    async fn ask_verifier(&self, request: &Request, attempt: AttemptId) -> Outcome {
        let spec = &request.spec;
        let program = match self.store.program(spec.vk_hash).await {
            Ok(Some(program)) => program,
            Ok(None) => return Outcome::Bad { reason: format!("program {} is not registered any more", spec.vk_hash) },
            Err(error) => return Outcome::Unknown { cause: error.to_string() },
        };
        let proof = match self.artifacts.local_file(proof_artifact(attempt)).await {
            Ok(Some(path)) => path,
            Ok(None) => return Outcome::Bad { reason: "the proof's bytes are gone".to_owned() },
            Err(error) => return Outcome::Unknown { cause: error.to_string() },
        };
        let order = VerifyOrder {
            verifying_key: program.verifying_key.clone(),
            vk_hash: *spec.vk_hash.as_bytes(),
            proof,
            mode: spec.mode,
            circuit_version: spec.circuit_version.clone(),
            public_values_hash: spec.public_values_hash.map(|digest| *digest.as_bytes()),
            accept_mock: self.settings.mock_mode,
        };
        crash_point!("result.in_verify");
        match self.verifier.verify(order).await {
            Ok(verified) => Outcome::Good { is_mock: verified.is_mock },
            Err(VerifyError::Rejected { reason }) => Outcome::Bad { reason },
            Err(VerifyError::Unavailable { cause }) => Outcome::Unknown { cause },
        }
    }

    async fn accept(&self, id: RequestId, attempt: AttemptId, worker: WorkerId, is_mock: bool) {
        let stored = Instruction::Stored(attempt);
        crash_point!("result.after_verify_before_tx");
        match self.change_surely(id, |request, now| request.fulfil(attempt, worker, is_mock, now)).await {
            Ok((request, change)) => {
                crash_point!("result.after_commit_before_ack");
                tracing::info!(request.id = %id, attempt.id = %attempt, worker.id = %worker, is_mock, "a request is fulfilled");
                if let Happening::Fulfilled { superseded, .. } = change.happening {
                    self.fleet.release(id, superseded, "another proof of this request was accepted first").await;
                }
                self.fleet.instruct(worker, stored).await;
                self.disprove(&request, worker).await;
                self.fleet.send(Event::Released { attempt }).await;
                self.fleet.send(Event::Succeeded { worker }).await;
            }
            Err(ChangeError::Impossible(TransitionError::Ended { state })) => {
                tracing::info!(request.id = %id, attempt.id = %attempt, state, "a proof came too late to be needed");
                self.fleet.instruct(worker, stored).await;
                self.fleet.send(Event::Released { attempt }).await;
                self.fleet.send(Event::Succeeded { worker }).await;
            }
            Err(error) => {
                tracing::error!(request.id = %id, attempt.id = %attempt, error = &error as &dyn std::error::Error,
                    "a verified proof could not be recorded; it will be checked again");
            }
        }
    }

    /// Tells the fleet whose word it was, and is not true, that the program of a request fails, now that `prover` has
    /// proved it.
    async fn disprove(&self, request: &Request, prover: WorkerId) {
        for worker in request.tries.guest.workers().into_iter().filter(|worker| *worker != prover) {
            tracing::error!(request.id = %request.id, worker.id = %worker, cause = request.tries.guest.cause,
                "a worker said that a program fails, which another has proved: look at its memory and its log");
            self.fleet.send(Event::Disproved { worker, request: request.id }).await;
        }
    }

    async fn reject(&self, id: RequestId, attempt: AttemptId, worker: WorkerId, reason: String) {
        tracing::warn!(request.id = %id, attempt.id = %attempt, worker.id = %worker, reason, "a proof did not verify");
        let fault = Fault::worker(format!("the proof did not verify: {reason}"));
        self.discard(id, attempt, worker, fault, Some(Instruction::Rejected { attempt, reason })).await;
    }

    /// Ends an attempt whose proof does not count. When the store does not write it, the next comparison of store and
    /// fleet has the proof checked again.
    async fn discard(
        &self,
        id: RequestId,
        attempt: AttemptId,
        worker: WorkerId,
        fault: Fault,
        answer: Option<Instruction>,
    ) {
        if let Err(error) = self.end_attempt(id, attempt, worker, fault, answer).await {
            tracing::error!(request.id = %id, attempt.id = %attempt, error = &error as &dyn std::error::Error,
                "that a proof does not count could not be recorded");
        }
    }
}
