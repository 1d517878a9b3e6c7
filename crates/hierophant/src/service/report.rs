//! What workers report of their attempts.

use std::time::Duration;

use hierophant_core::{Event, Verdict, reconcile};
use network_lib::{
    ArtifactId, ArtifactKind, AttemptId, Digest, Fault, RequestId, WorkerId,
    protocol::{Execution, InHand, Instruction, Report},
};

use super::{ChangeError, Service};
use crate::store::{AttemptRecord, StorageError};

/// How long an upload address is good for. A worker that needs longer is given a fresh one at its next hello.
const UPLOAD_TIME: Duration = Duration::from_hours(6);

/// The artifact of an attempt's proof: one per attempt, so that a repeated upload finds what it left.
pub(crate) fn proof_artifact(attempt: AttemptId) -> ArtifactId {
    ArtifactId::new(ArtifactKind::Proof, *attempt.as_bytes())
}

impl Service {
    /// Records a report that changes a request; the others are the fleet's alone.
    pub(crate) async fn record(&self, worker: WorkerId, report: Report) {
        match report {
            Report::Executed(attempt, execution) => self.executed(worker, attempt, execution).await,
            Report::Proved { attempt, digest, size } => self.proved(worker, attempt, digest, size).await,
            Report::Delivered(attempt) => self.delivered(worker, attempt).await,
            Report::Failed(attempt, fault) => self.failed(worker, attempt, fault).await,
            Report::Hello { .. }
            | Report::Heartbeat
            | Report::Accepted(_)
            | Report::Progress(..)
            | Report::Draining
            | Report::ProversChanged(_) => {}
        }
    }

    /// An attempt's proof lies on its worker's disk: the prover is free, and the proof is asked for if it is wanted.
    async fn proved(&self, worker: WorkerId, attempt: AttemptId, digest: Digest, size: u64) {
        self.fleet.send(Event::Proved { attempt, worker }).await;
        let Some(record) = self.attempt_of(worker, attempt).await else {
            let reason = "the attempt is not known here".to_owned();
            return self.fleet.instruct(worker, Instruction::Cancel { attempt, reason }).await;
        };
        let answer = match self.answer_proved(worker, record, digest, size).await {
            Ok(answer) => answer,
            Err(error) => {
                // The worker keeps the proof and offers it again at its next hello.
                tracing::error!(attempt.id = %attempt, error = %error, "a proof that was offered could not be looked up");
                return;
            }
        };
        if let Some(instruction) = answer {
            self.fleet.instruct(worker, instruction).await;
        }
    }

    async fn answer_proved(
        &self,
        worker: WorkerId,
        record: AttemptRecord,
        digest: Digest,
        size: u64,
    ) -> Result<Option<Instruction>, StorageError> {
        let AttemptRecord { attempt, request, .. } = record;
        let found = self.store.request(request).await?;
        let in_hand = InHand { attempt, request, prover: 0, is_proved: true };
        Ok(match reconcile(found.as_deref(), worker, &in_hand) {
            Verdict::Deliver => {
                tracing::info!(request.id = %request, attempt.id = %attempt, worker.id = %worker, size, "a proof is made");
                if let Err(error @ ChangeError::Store { .. }) =
                    self.change(request, |request, now| request.proved(attempt, now)).await
                {
                    tracing::warn!(request.id = %request, error = &error as &dyn std::error::Error,
                        "that a proof is made was not recorded");
                }
                let uploaded = self.store.artifact(proof_artifact(attempt)).await?;
                if uploaded.is_some_and(|artifact| artifact.digest == digest) {
                    self.begin_check(request, attempt, worker).await;
                    None
                } else {
                    Some(self.deliver_instruction(attempt))
                }
            }
            Verdict::Continue | Verdict::Resume => None,
            Verdict::Forget => Some(Instruction::Stored(attempt)),
            Verdict::Stop(reason) => Some(Instruction::Cancel { attempt, reason: reason.to_owned() }),
        })
    }

    /// Where a worker is to upload the proof of an attempt.
    pub(super) fn deliver_instruction(&self, attempt: AttemptId) -> Instruction {
        let expires = self.clock.now().time.plus(UPLOAD_TIME);
        Instruction::Deliver { attempt, url: self.capabilities.put_path(proof_artifact(attempt), None, expires) }
    }

    /// A worker says that it uploaded a proof: it is checked, whether its attempt holds the request or not.
    async fn delivered(&self, worker: WorkerId, attempt: AttemptId) {
        let Some(record) = self.attempt_of(worker, attempt).await else { return };
        match self.store.artifact(proof_artifact(attempt)).await {
            Ok(Some(_)) => self.begin_check(record.request, attempt, worker).await,
            Ok(None) => {
                tracing::warn!(attempt.id = %attempt, worker.id = %worker, "a proof was announced and is not here");
                self.fleet.instruct(worker, self.deliver_instruction(attempt)).await;
            }
            Err(error) => {
                tracing::error!(attempt.id = %attempt, error = %error, "an uploaded proof could not be looked up");
            }
        }
    }

    /// Marks the request as being checked, when the attempt holds it, and begins the check.
    async fn begin_check(&self, id: RequestId, attempt: AttemptId, worker: WorkerId) {
        match self.change_surely(id, |request, now| request.deliver(attempt, now)).await {
            // A stale attempt's proof is checked without a change of state: if it is good, it counts.
            Ok(_) | Err(ChangeError::Impossible(_)) => self.check_proof(id, attempt, worker),
            Err(error) => {
                tracing::error!(request.id = %id, attempt.id = %attempt, error = &error as &dyn std::error::Error,
                    "a proof could not be taken to its check; its worker will offer it again");
            }
        }
    }

    /// The program was executed in an attempt.
    async fn executed(&self, worker: WorkerId, attempt: AttemptId, execution: Execution) {
        let Some(record) = self.attempt_of(worker, attempt).await else { return };
        let id = record.request;
        if let Err(error) = self.change(id, |request, now| request.executed(attempt, execution, now)).await {
            tracing::debug!(request.id = %id, attempt.id = %attempt, reason = %error, "an execution was not recorded");
        }
    }

    /// An attempt failed.
    async fn failed(&self, worker: WorkerId, attempt: AttemptId, fault: Fault) {
        let Some(record) = self.attempt_of(worker, attempt).await else { return };
        tracing::warn!(request.id = %record.request, attempt.id = %attempt, worker.id = %worker, fault = %fault,
            "a worker reported a failure");
        self.end_attempt(record.request, attempt, fault).await;
    }

    /// The attempt, if it was given to this worker. Nobody may report on another's attempt.
    async fn attempt_of(&self, worker: WorkerId, attempt: AttemptId) -> Option<AttemptRecord> {
        match self.store.attempt(attempt).await {
            Ok(Some(record)) if record.worker == worker => Some(record),
            Ok(_) => {
                tracing::warn!(attempt.id = %attempt, worker.id = %worker, "a worker reported on an attempt that it was never given");
                None
            }
            Err(error) => {
                tracing::error!(attempt.id = %attempt, error = %error, "a report was dropped: its attempt could not be looked up");
                None
            }
        }
    }
}
