//! Checking proofs: only a verified proof fulfils a request.

use std::{
    collections::{HashMap, HashSet},
    pin::pin,
    sync::{MutexGuard, PoisonError},
    time::Duration,
};

use hierophant_core::{Event, Happening, Request, TransitionError};
use network_lib::{AttemptId, Fault, RequestId, WorkerId, crash_point, protocol::Instruction};
use proving::{VerifyError, VerifyOrder};

use super::{ChangeError, Service, report::proof_artifact};
use crate::{artifacts::Published, store::StorageError};

/// First pause between two tries to check a proof. Doubles with each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// The longest such pause.
const MAX_PAUSE: Duration = Duration::from_secs(30);

/// Verifiers that break at one proof before no more are tried on it until the next start.
const MAX_BROKEN: u32 = 3;

/// How long after its deadline a request waits for a check that has no end.
const OVERDUE_LIMIT: Duration = Duration::from_mins(2);

/// How often the clock is looked at for that.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// What a try to check a proof came to.
enum Outcome {
    Good {
        is_mock: bool,
    },
    Bad {
        reason: String,
    },
    /// The verifier died of it, or took too long.
    Broken {
        cause: String,
    },
    /// The bytes that the worker delivered are not here any more.
    Gone,
    Unknown {
        cause: String,
    },
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
            let mut check = pin!(service.check_until_known(id, attempt, worker));
            let mut is_awaited = true;
            loop {
                tokio::select! {
                    biased;
                    () = &mut check => break,
                    () = service.until_overdue(id), if is_awaited => {
                        is_awaited = !service.wait_no_longer(id, attempt, worker).await;
                    }
                }
            }
            service.verifying().remove(&attempt);
        });
    }

    fn verifying(&self) -> MutexGuard<'_, HashSet<AttemptId>> {
        self.verifying.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn broken(&self) -> MutexGuard<'_, HashMap<AttemptId, u32>> {
        self.broken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tries until there is an answer, however late: a proof is true all the same, and its worker keeps it until it is
    /// told.
    async fn check_until_known(&self, id: RequestId, attempt: AttemptId, worker: WorkerId) {
        let mut pause = FIRST_PAUSE;
        let mut is_asked_for = false;
        loop {
            if self.broken().get(&attempt) == Some(&MAX_BROKEN) {
                return self.give_up_checking(id, attempt, worker).await;
            }
            let outcome = match self.store.request(id).await {
                Ok(Some(request)) => {
                    crash_point!("result.after_fsync_before_verify");
                    self.ask_verifier(&request, attempt).await
                }
                // Nobody else would check the proof of an attempt that holds its request no more.
                Err(error @ StorageError::Unavailable { .. }) => Outcome::Unknown { cause: error.to_string() },
                Ok(None) | Err(_) => return,
            };
            match outcome {
                Outcome::Good { is_mock } => return self.accept(id, attempt, worker, is_mock).await,
                Outcome::Bad { reason } => return self.reject(id, attempt, worker, reason).await,
                Outcome::Broken { cause } => {
                    *self.broken().entry(attempt).or_default() += 1;
                    tracing::error!(request.id = %id, attempt.id = %attempt, worker.id = %worker, cause,
                        "the verifier broke at a proof");
                }
                Outcome::Gone => {
                    if !self.is_held(attempt).await {
                        return self.lose_with_its_proof(id, attempt, worker).await;
                    }
                    if !is_asked_for {
                        is_asked_for = true;
                        tracing::error!(request.id = %id, attempt.id = %attempt, worker.id = %worker,
                            "a proof was lost on this disk before it was checked: look whether the artifact directory is \
                             the right one, and its disk mounted and well. Its worker is asked for it again");
                        self.fleet.instruct(worker, self.deliver_again(attempt).await).await;
                    }
                }
                Outcome::Unknown { cause } => {
                    tracing::error!(request.id = %id, attempt.id = %attempt, cause, "a proof could not be checked");
                }
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(MAX_PAUSE);
        }
    }

    /// Whether the attempt is its worker's: that one is here, or was within the grace.
    async fn is_held(&self, attempt: AttemptId) -> bool {
        self.fleet.inspect(move |view| view.fleet().lease(attempt).is_some()).await != Some(false)
    }

    /// Waits until the deadline of a request has been past for a while, by a clock that may be set meanwhile.
    async fn until_overdue(&self, id: RequestId) {
        let mut since = None;
        loop {
            tokio::time::sleep(LOOK_AGAIN).await;
            let now = self.clock.now();
            match self.store.request(id).await {
                Ok(Some(request)) if now.time > request.spec.deadline => {
                    if now.moment.since(*since.get_or_insert(now.moment)) >= OVERDUE_LIMIT {
                        return;
                    }
                }
                Ok(_) => since = None,
                Err(_) => {}
            }
        }
    }

    /// Ends a request whose deadline passed long ago, while its proof goes on being checked: it may still count, and the
    /// worker keeps it. Whether that is recorded.
    async fn wait_no_longer(&self, id: RequestId, attempt: AttemptId, worker: WorkerId) -> bool {
        let fault = Fault::lost("its proof could not be checked in time");
        let is_recorded = self.discard(id, attempt, worker, fault, None).await;
        // At once, before another worker begins what nobody waits for.
        self.expire(id).await;
        is_recorded
    }

    async fn ask_verifier(&self, request: &Request, attempt: AttemptId) -> Outcome {
        let spec = &request.spec;
        let program = match self.store.program(spec.vk_hash).await {
            Ok(Some(program)) => program,
            Ok(None) => {
                return Outcome::Unknown { cause: format!("program {} is not registered any more", spec.vk_hash) };
            }
            Err(error) => return Outcome::Unknown { cause: error.to_string() },
        };
        let proof = match self.artifacts.local_file(proof_artifact(attempt)).await {
            Ok(Some(path)) => path,
            Ok(None) => return Outcome::Gone,
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
            Err(VerifyError::Rejected { reason }) => self.if_intact(attempt, Outcome::Bad { reason }).await,
            Err(VerifyError::Broken { cause }) => self.if_intact(attempt, Outcome::Broken { cause }).await,
            Err(VerifyError::Unavailable { cause }) => Outcome::Unknown { cause },
        }
    }

    /// What speaks against a proof counts only if the bytes on this disk are those that its worker delivered. Others are
    /// moved aside, to make place for them.
    async fn if_intact(&self, attempt: AttemptId, outcome: Outcome) -> Outcome {
        let id = proof_artifact(attempt);
        let delivered = match self.store.artifact(id).await {
            Ok(row) => row.map(|row| Published { digest: row.digest, size: row.size }),
            Err(error) => return Outcome::Unknown { cause: error.to_string() },
        };
        let found = match self.artifacts.measure(id).await {
            Ok(Some((found, _))) => found,
            Ok(None) => return Outcome::Gone,
            Err(error) => return Outcome::Unknown { cause: error.to_string() },
        };
        if delivered == Some(found) {
            return outcome;
        }
        tracing::error!(artifact.id = %id, "a proof is damaged: its bytes are not those that were stored. They are kept \
            beside it as {id}.damaged; check the disk");
        match self.artifacts.set_aside(id).await {
            Ok(()) => Outcome::Gone,
            Err(error) => Outcome::Unknown { cause: error.to_string() },
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

    /// Counts a proof that breaks every verifier as a fault of its worker. The worker is not told to forget it: a verifier
    /// with more time or memory may find it good.
    async fn give_up_checking(&self, id: RequestId, attempt: AttemptId, worker: WorkerId) {
        let fault = Fault::worker(format!(
            "{MAX_BROKEN} verifiers died at the proof or took too long, as the hierophant's log tells. Should it be good, its \
             worker keeps it: raise verifier.memory or verifier.timeout of the hierophant, and start it again"
        ));
        self.discard(id, attempt, worker, fault, None).await;
    }

    /// Ends an attempt whose proof is not here any more, and whose worker stayed away. Should it have come back this
    /// moment, it is asked for the proof.
    async fn lose_with_its_proof(&self, id: RequestId, attempt: AttemptId, worker: WorkerId) {
        let fault = Fault::lost("its proof was lost on the hierophant's disk, and its worker did not come back");
        let answer = self.deliver_again(attempt).await;
        self.discard(id, attempt, worker, fault, Some(answer)).await;
    }

    /// Ends an attempt whose proof does not count; whether that is recorded. When the store does not write it, the next
    /// comparison of store and fleet has the proof checked again.
    async fn discard(
        &self,
        id: RequestId,
        attempt: AttemptId,
        worker: WorkerId,
        fault: Fault,
        answer: Option<Instruction>,
    ) -> bool {
        let ended = self.end_attempt(id, attempt, worker, fault, answer).await;
        if let Err(error) = &ended {
            tracing::error!(request.id = %id, attempt.id = %attempt, error = error as &dyn std::error::Error,
                "that a proof does not count could not be recorded");
        }
        ended.is_ok()
    }
}
