//! What workers report of their attempts.

use std::time::Duration;

use hierophant_core::{Event, Verdict, reconcile};
use network_lib::{
    ArtifactId, ArtifactKind, AttemptId, Digest, Fault, RequestId, WorkerId,
    protocol::{Execution, InHand, Instruction, Report, Stage},
};

use super::{ChangeError, Service};
use crate::{
    artifacts::Announced,
    store::{Artifact, AttemptRecord},
};

/// How long an upload address is good for. A worker that needs longer is given a fresh one at its next hello.
const UPLOAD_TIME: Duration = Duration::from_hours(6);

/// The artifact of an attempt's proof: one per attempt, so that a repeated upload finds what it left.
pub(crate) fn proof_artifact(attempt: AttemptId) -> ArtifactId {
    ArtifactId::new(ArtifactKind::Proof, *attempt.as_bytes())
}

impl Service {
    /// Records a report that changes a request; the others are the fleet's alone.
    ///
    /// # Errors
    /// When the store did not answer or did not write it. The worker still has what it reported, and says it again in
    /// its next session.
    pub(crate) async fn record(&self, worker: WorkerId, report: Report) -> Result<(), ChangeError> {
        match report {
            Report::Executed(attempt, execution) => self.executed(worker, attempt, execution).await,
            Report::Proved { attempt, digest, size } => self.proved(worker, attempt, digest, size).await,
            Report::Delivered(attempt) => self.delivered(worker, attempt).await,
            Report::Failed(attempt, fault) => self.failed(worker, attempt, fault).await,
            Report::Declined(attempt, cause) => self.declined(worker, attempt, cause).await,
            Report::Hello { .. }
            | Report::Heartbeat
            | Report::Accepted(_)
            | Report::Progress(..)
            | Report::Draining
            | Report::ProversChanged(_) => Ok(()),
        }
    }

    /// An attempt's proof lies on its worker's disk: the prover is free, and the proof is asked for if it is wanted.
    async fn proved(&self, worker: WorkerId, attempt: AttemptId, digest: Digest, size: u64) -> Result<(), ChangeError> {
        self.fleet.send(Event::Proved { attempt, worker }).await;
        // Of an attempt that is not known here nothing is said: its worker keeps the proof.
        let Some(AttemptRecord { request: id, .. }) = self.attempt_of(worker, attempt).await? else { return Ok(()) };
        let found = self.store.request(id).await.map_err(|source| ChangeError::Store { id, source })?;
        let in_hand = InHand { attempt, request: id, prover: 0, stage: Stage::Proved };
        let is_here = self.is_uploaded(attempt, id).await? == Some(digest);
        let answer = match reconcile(found.as_deref(), worker, &in_hand) {
            Verdict::Deliver => {
                tracing::info!(request.id = %id, attempt.id = %attempt, worker.id = %worker, size, "a proof is made");
                match self.change(id, |request, now| request.proved(attempt, now)).await {
                    Ok(_) | Err(ChangeError::Impossible(_) | ChangeError::Unknown(_)) => {}
                    Err(error) => return Err(error),
                }
                if is_here {
                    return self.begin_check(id, attempt, worker).await;
                }
                self.deliver_instruction(attempt, Some(Announced { digest, size }))
            }
            // It is being checked, unless it was lost here before that.
            Verdict::Continue if is_here => return Ok(()),
            Verdict::Continue => self.deliver_instruction(attempt, Some(Announced { digest, size })),
            Verdict::Resume | Verdict::Keep => return Ok(()),
            Verdict::Forget => Instruction::Stored(attempt),
            Verdict::Stop(reason) => Instruction::Cancel { attempt, reason: reason.to_owned() },
        };
        self.fleet.instruct(worker, answer).await;
        Ok(())
    }

    /// Where a worker is to upload the proof of an attempt: the bytes that it announced and no others.
    fn deliver_instruction(&self, attempt: AttemptId, announced: Option<Announced>) -> Instruction {
        let expires = self.clock.now().time.plus(UPLOAD_TIME);
        Instruction::Deliver { attempt, url: self.capabilities.put_path(proof_artifact(attempt), announced, expires) }
    }

    /// The same for a proof that was announced before, of which the row is all that may be left.
    pub(super) async fn deliver_again(&self, attempt: AttemptId) -> Instruction {
        let row = self.store.artifact(proof_artifact(attempt)).await.ok().flatten();
        self.deliver_instruction(attempt, row.map(|row| Announced { digest: row.digest, size: row.size }))
    }

    /// A worker says that it uploaded a proof: it is checked, whether its attempt holds the request or not.
    async fn delivered(&self, worker: WorkerId, attempt: AttemptId) -> Result<(), ChangeError> {
        let Some(AttemptRecord { request: id, .. }) = self.attempt_of(worker, attempt).await? else { return Ok(()) };
        if self.is_uploaded(attempt, id).await?.is_some() {
            return self.begin_check(id, attempt, worker).await;
        }
        tracing::warn!(attempt.id = %attempt, worker.id = %worker, "a proof was announced and is not here");
        self.fleet.instruct(worker, self.deliver_again(attempt).await).await;
        Ok(())
    }

    /// The digest of an attempt's proof, if it is here: its row, and a file of that size.
    async fn is_uploaded(&self, attempt: AttemptId, id: RequestId) -> Result<Option<Digest>, ChangeError> {
        let artifact = proof_artifact(attempt);
        let row = self.store.artifact(artifact).await.map_err(|source| ChangeError::Store { id, source })?;
        let Some(Artifact { digest, size, .. }) = row else { return Ok(None) };
        // A disk that does not answer has it not.
        let stamp = self.artifacts.stamp(artifact).await.ok().flatten();
        Ok(stamp.filter(|stamp| stamp.size == size).map(|_| digest))
    }

    /// Marks the request as being checked, when the attempt holds it, and begins the check.
    async fn begin_check(&self, id: RequestId, attempt: AttemptId, worker: WorkerId) -> Result<(), ChangeError> {
        match self.change(id, |request, now| request.deliver(attempt, now)).await {
            // A stale attempt's proof is checked without a change of state: if it is good, it counts.
            Ok(_) | Err(ChangeError::Impossible(_)) => {}
            Err(error) => return Err(error),
        }
        self.check_proof(id, attempt, worker);
        Ok(())
    }

    /// The program was executed in an attempt.
    async fn executed(&self, worker: WorkerId, attempt: AttemptId, execution: Execution) -> Result<(), ChangeError> {
        let Some(AttemptRecord { request: id, .. }) = self.attempt_of(worker, attempt).await? else { return Ok(()) };
        match self.change(id, |request, now| request.executed(attempt, execution, now)).await {
            Ok(_) | Err(ChangeError::Impossible(_) | ChangeError::Unknown(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// An attempt failed. Once that is recorded, or of no interest, the worker may forget it.
    async fn failed(&self, worker: WorkerId, attempt: AttemptId, fault: Fault) -> Result<(), ChangeError> {
        let answer = Instruction::Stored(attempt);
        let Some(AttemptRecord { request: id, .. }) = self.attempt_of(worker, attempt).await? else {
            self.fleet.instruct(worker, answer).await;
            return Ok(());
        };
        tracing::warn!(request.id = %id, attempt.id = %attempt, worker.id = %worker, fault = %fault,
            "a worker reported a failure");
        self.end_attempt(id, attempt, worker, fault, Some(answer)).await
    }

    /// A worker did not take an attempt in. It counts as lost: nothing is known against the request or the worker.
    async fn declined(&self, worker: WorkerId, attempt: AttemptId, cause: String) -> Result<(), ChangeError> {
        let Some(AttemptRecord { request: id, .. }) = self.attempt_of(worker, attempt).await? else { return Ok(()) };
        tracing::info!(request.id = %id, attempt.id = %attempt, worker.id = %worker, cause, "a worker declined");
        let fault = Fault::lost(format!("the worker declined it: {cause}"));
        self.end_attempt(id, attempt, worker, fault, Some(Instruction::Stored(attempt))).await
    }

    /// The attempt, if it was given to this worker. Nobody may report on another's attempt.
    async fn attempt_of(&self, worker: WorkerId, attempt: AttemptId) -> Result<Option<AttemptRecord>, ChangeError> {
        match self.store.attempt(attempt).await {
            Ok(Some(record)) if record.worker == worker => Ok(Some(record)),
            Ok(_) => {
                tracing::warn!(attempt.id = %attempt, worker.id = %worker, "a worker reported on an attempt that it was never given");
                Ok(None)
            }
            Err(source) => Err(ChangeError::Attempt { attempt, source }),
        }
    }
}
