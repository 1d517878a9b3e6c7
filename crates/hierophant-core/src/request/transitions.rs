//! Every way in which a request may change, as total functions.

use network_lib::{AttemptId, Fault, FaultClass, WorkerId, protocol::Execution};
use serde::{Deserialize, Serialize};

use super::{Holder, Request, RequestState};
use crate::{RetryPolicy, Timestamp, retry::Tries};

/// One change of a request, to be written as a whole: the request after it, and what is told about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The request after the change; its version is one above the one that the change was decided on.
    pub request: Request,
    /// What happened, for the request's history.
    pub happening: Happening,
}

/// What happened to a request: one row of its history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Happening {
    /// It was accepted and queued.
    Accepted,
    /// A worker got it.
    Leased {
        /// The new attempt.
        attempt: AttemptId,
        /// Who makes it.
        worker: WorkerId,
    },
    /// A second worker got it beside the first, since its deadline is near.
    Hedged {
        /// The second attempt.
        attempt: AttemptId,
        /// Who makes it.
        worker: WorkerId,
    },
    /// A worker that had been given up came back with its attempt, and goes on.
    Resumed {
        /// The old attempt, current again.
        attempt: AttemptId,
        /// Who makes it.
        worker: WorkerId,
    },
    /// The program was executed.
    Executed {
        /// In which attempt.
        attempt: AttemptId,
        /// What it showed.
        execution: Execution,
    },
    /// The proof was made: it lies on its worker's disk.
    Proved {
        /// In which attempt.
        attempt: AttemptId,
    },
    /// A proof arrived and is being checked.
    Delivered {
        /// Whose proof.
        attempt: AttemptId,
    },
    /// An attempt ended without a proof that counts.
    AttemptEnded {
        /// The attempt.
        attempt: AttemptId,
        /// Who made it.
        worker: WorkerId,
        /// How it ended.
        outcome: AttemptOutcome,
        /// Attempts that were running and are not needed any more.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        superseded: Vec<AttemptId>,
    },
    /// A proof was verified and stored.
    Fulfilled {
        /// Whose proof.
        attempt: AttemptId,
        /// Who made it.
        worker: WorkerId,
        /// Attempts that were running and are not needed any more.
        superseded: Vec<AttemptId>,
    },
    /// Nobody can prove it any more, whoever tries.
    GivenUp {
        /// Why.
        cause: String,
    },
    /// The deadline passed.
    Expired {
        /// The attempts that were running.
        superseded: Vec<AttemptId>,
    },
    /// The requester cancelled.
    Cancelled {
        /// The attempts that were running.
        superseded: Vec<AttemptId>,
    },
}

impl Happening {
    /// The happening's name, as it stands in rows and pages.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Leased { .. } => "leased",
            Self::Hedged { .. } => "hedged",
            Self::Resumed { .. } => "resumed",
            Self::Executed { .. } => "executed",
            Self::Proved { .. } => "proved",
            Self::Delivered { .. } => "delivered",
            Self::AttemptEnded { .. } => "attempt_ended",
            Self::Fulfilled { .. } => "fulfilled",
            Self::GivenUp { .. } => "given_up",
            Self::Expired { .. } => "expired",
            Self::Cancelled { .. } => "cancelled",
        }
    }
}

/// How an attempt ended without a proof that counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptOutcome {
    /// Whose fault it was, and why.
    pub fault: Fault,
    /// Whether the request is tried again, or another attempt at it goes on.
    pub will_retry: bool,
}

/// Why a change is not possible. All of these are normal after a partition or a race: drop the report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TransitionError {
    /// The request waits or is held by another attempt.
    #[error("attempt {reported} does not hold the request")]
    StaleAttempt {
        /// The attempt that reported.
        reported: AttemptId,
    },
    /// The request is not waiting.
    #[error("the request is {state}, not queued")]
    NotQueued {
        /// Its state's name.
        state: &'static str,
    },
    /// The request is not held by one attempt of another worker, or this one has said that the program fails.
    #[error("the request is {state} and cannot be hedged")]
    NotHedgeable {
        /// Its state's name.
        state: &'static str,
    },
    /// The request has ended, and this change is not the one that may still follow.
    #[error("the request is {state} already")]
    Ended {
        /// Its state's name.
        state: &'static str,
    },
    /// The deadline has not passed.
    #[error("the deadline has not passed")]
    NotDue,
    /// This was reported before: workers repeat themselves after a reconnect.
    #[error("this is known already")]
    Known,
}

impl Request {
    fn change(&self, now: Timestamp, state: RequestState, happening: Happening) -> Change {
        let request = Self { state, updated_at: now, version: self.version + 1, ..self.clone() };
        Change { request, happening }
    }

    /// Gives the request to `worker` as `attempt`.
    ///
    /// # Errors
    /// [`TransitionError::NotQueued`] when it is not waiting.
    pub fn lease(&self, attempt: AttemptId, worker: WorkerId, now: Timestamp) -> Result<Change, TransitionError> {
        if self.state != RequestState::Queued {
            return Err(TransitionError::NotQueued { state: self.state.name() });
        }
        let state = RequestState::Leased { attempt, worker, hedge: None };
        let mut change = self.change(now, state, Happening::Leased { attempt, worker });
        change.request.tries.begun += 1;
        Ok(change)
    }

    /// Gives the request to a second `worker` as `attempt`, beside the first.
    ///
    /// # Errors
    /// [`TransitionError::NotHedgeable`] unless exactly one attempt, of another worker, is at it, or when this worker has
    /// said that the program fails.
    pub fn hedge(&self, attempt: AttemptId, worker: WorkerId, now: Timestamp) -> Result<Change, TransitionError> {
        match self.state {
            RequestState::Leased { attempt: first, worker: other, hedge: None }
                if other != worker && !self.tries.guest.by.contains(&worker) =>
            {
                let hedge = Some(Holder { attempt, worker });
                let state = RequestState::Leased { attempt: first, worker: other, hedge };
                let mut change = self.change(now, state, Happening::Hedged { attempt, worker });
                change.request.tries.begun += 1;
                Ok(change)
            }
            _ => Err(TransitionError::NotHedgeable { state: self.state.name() }),
        }
    }

    /// Gives the request back to an attempt that had been given up, whose worker goes on with it.
    ///
    /// # Errors
    /// [`TransitionError::NotQueued`] when someone else has it, or it has ended.
    pub fn resume(&self, attempt: AttemptId, worker: WorkerId, now: Timestamp) -> Result<Change, TransitionError> {
        if self.state != RequestState::Queued {
            return Err(TransitionError::NotQueued { state: self.state.name() });
        }
        let state = RequestState::Leased { attempt, worker, hedge: None };
        Ok(self.change(now, state, Happening::Resumed { attempt, worker }))
    }

    /// Records what executing the program in `attempt` showed: once, so that a worker which says something else each
    /// time writes no history without end.
    ///
    /// # Errors
    /// [`TransitionError::StaleAttempt`] unless `attempt` holds the request, [`TransitionError::Known`] for a repeat.
    pub fn executed(
        &self,
        attempt: AttemptId,
        execution: Execution,
        now: Timestamp,
    ) -> Result<Change, TransitionError> {
        self.require_current(attempt)?;
        if self.execution == Some(execution) || self.tries.executed.contains(&attempt) {
            return Err(TransitionError::Known);
        }
        let mut change = self.change(now, self.state.clone(), Happening::Executed { attempt, execution });
        change.request.execution = Some(execution);
        change.request.tries.executed.push(attempt);
        Ok(change)
    }

    /// The proof of an attempt that holds the request lies on its worker's disk. Only told: the request is still leased.
    ///
    /// # Errors
    /// [`TransitionError::StaleAttempt`] unless `attempt` holds the request, [`TransitionError::Known`] for a repeat, as
    /// whenever an upload did not come through.
    pub fn proved(&self, attempt: AttemptId, now: Timestamp) -> Result<Change, TransitionError> {
        self.require_current(attempt)?;
        if self.tries.proved.contains(&attempt) {
            return Err(TransitionError::Known);
        }
        let mut change = self.change(now, self.state.clone(), Happening::Proved { attempt });
        change.request.tries.proved.push(attempt);
        Ok(change)
    }

    /// The proof of an attempt that holds the request lies here; it is to be checked.
    ///
    /// # Errors
    /// [`TransitionError::StaleAttempt`] unless `attempt` holds the request and no other proof is being checked. Such
    /// a proof is checked all the same, without this change.
    pub fn deliver(&self, attempt: AttemptId, now: Timestamp) -> Result<Change, TransitionError> {
        let RequestState::Leased { .. } = self.state else {
            return Err(TransitionError::StaleAttempt { reported: attempt });
        };
        let worker = self.require_current(attempt)?;
        let state = RequestState::Verifying { attempt, worker, hedge: self.other_holder(attempt) };
        Ok(self.change(now, state, Happening::Delivered { attempt }))
    }

    /// An attempt that holds the request ended without a proof that counts: failed, lost, or its proof did not verify.
    ///
    /// A guest's own fault ends the request once enough workers have reported one. Otherwise another attempt that runs
    /// goes on alone, or else the request waits for another try while `policy` allows one. Reports of a guest's fault
    /// cost nothing of the budgets, and are bounded by the number that is believed.
    ///
    /// # Errors
    /// [`TransitionError::StaleAttempt`] unless `attempt` holds the request.
    pub fn fail(
        &self,
        attempt: AttemptId,
        fault: Fault,
        policy: &RetryPolicy,
        now: Timestamp,
    ) -> Result<Change, TransitionError> {
        let worker = self.require_current(attempt)?;
        let tries = self.tries.after(worker, &fault);
        let other = self.other_holder(attempt);
        let is_other_checked =
            matches!(self.state, RequestState::Verifying { attempt: checked, .. } if checked != attempt);
        let is_believed = fault.class == FaultClass::Guest && policy.believes(&tries.guest, other.is_some());
        let state = match other {
            // Whoever has a proof knows better than whoever says that there is none.
            _ if is_believed && !is_other_checked => RequestState::Unexecutable { cause: fault.cause.clone(), at: now },
            Some(other) => self.without(attempt, other),
            None if policy.allows(&tries) => RequestState::Queued,
            None => RequestState::Unfulfillable { cause: given_up(&tries, &fault), at: now },
        };
        let superseded = if state.is_terminal() { self.others(attempt) } else { Vec::new() };
        let outcome = AttemptOutcome { fault, will_retry: !state.is_terminal() };
        let mut change = self.change(now, state, Happening::AttemptEnded { attempt, worker, outcome, superseded });
        change.request.tries = tries;
        Ok(change)
    }

    /// A proof of `attempt` was verified against this request and lies in the store.
    ///
    /// A proof that verifies is true whoever made it, so this is possible from every state that is not final.
    ///
    /// # Errors
    /// [`TransitionError::Ended`] when the request is fulfilled already, unexecutable or cancelled.
    pub fn fulfil(
        &self,
        attempt: AttemptId,
        worker: WorkerId,
        is_mock: bool,
        now: Timestamp,
    ) -> Result<Change, TransitionError> {
        match self.state {
            RequestState::Fulfilled { .. } | RequestState::Unexecutable { .. } | RequestState::Cancelled { .. } => {
                Err(TransitionError::Ended { state: self.state.name() })
            }
            _ => {
                let superseded = self.others(attempt);
                let state = RequestState::Fulfilled { attempt, worker, at: now, is_mock };
                Ok(self.change(now, state, Happening::Fulfilled { attempt, worker, superseded }))
            }
        }
    }

    /// What it takes to prove it is gone for good, so that no attempt could succeed.
    ///
    /// # Errors
    /// [`TransitionError::NotQueued`] when it is not waiting: an attempt that is running has what it takes, or fails.
    pub fn give_up(&self, cause: String, now: Timestamp) -> Result<Change, TransitionError> {
        if self.state != RequestState::Queued {
            return Err(TransitionError::NotQueued { state: self.state.name() });
        }
        let state = RequestState::Unfulfillable { cause: cause.clone(), at: now };
        Ok(self.change(now, state, Happening::GivenUp { cause }))
    }

    /// The deadline has passed. A proof that is being checked at that moment is waited for: the check is short.
    ///
    /// # Errors
    /// [`TransitionError::NotDue`] before the deadline and while a proof is checked,
    /// [`TransitionError::Ended`] when the request has ended.
    pub fn expire(&self, now: Timestamp) -> Result<Change, TransitionError> {
        if self.state.is_terminal() {
            return Err(TransitionError::Ended { state: self.state.name() });
        }
        if now < self.spec.deadline || matches!(self.state, RequestState::Verifying { .. }) {
            return Err(TransitionError::NotDue);
        }
        let superseded = self.state.holders().map(|holder| holder.attempt).collect();
        Ok(self.change(now, RequestState::Expired { at: now }, Happening::Expired { superseded }))
    }

    /// Its requester does not want it any more.
    ///
    /// # Errors
    /// [`TransitionError::Ended`] when it has ended; to the requester that is an answer, not a failure.
    pub fn cancel(&self, now: Timestamp) -> Result<Change, TransitionError> {
        if self.state.is_terminal() {
            return Err(TransitionError::Ended { state: self.state.name() });
        }
        let superseded = self.state.holders().map(|holder| holder.attempt).collect();
        Ok(self.change(now, RequestState::Cancelled { at: now }, Happening::Cancelled { superseded }))
    }

    fn require_current(&self, attempt: AttemptId) -> Result<WorkerId, TransitionError> {
        self.state.holder(attempt).ok_or(TransitionError::StaleAttempt { reported: attempt })
    }

    fn other_holder(&self, attempt: AttemptId) -> Option<Holder> {
        self.state.holders().find(|holder| holder.attempt != attempt)
    }

    fn others(&self, attempt: AttemptId) -> Vec<AttemptId> {
        self.state.holders().map(|holder| holder.attempt).filter(|id| *id != attempt).collect()
    }

    /// The state once `attempt` has ended and `other` goes on alone.
    fn without(&self, attempt: AttemptId, other: Holder) -> RequestState {
        let Holder { attempt: next, worker } = other;
        match self.state {
            // What is being checked goes on being checked.
            RequestState::Verifying { attempt: checked, .. } if checked != attempt => {
                RequestState::Verifying { attempt: next, worker, hedge: None }
            }
            _ => RequestState::Leased { attempt: next, worker, hedge: None },
        }
    }
}

fn given_up(tries: &Tries, last: &Fault) -> String {
    format!("given up after {} failed and {} lost attempts; the last: {last}", tries.failed, tries.lost)
}
