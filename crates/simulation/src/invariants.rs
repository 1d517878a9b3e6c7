//! The promises of `ARCHITECTURE.md`, checked on every event before it is taken note of.

use std::{fmt, time::Duration};

use hierophant_core::{Happening, Request, RequestState};
use network_lib::{AttemptId, Digest, FaultClass, RequestId};
use proving::mock::read_claim;
use serde::{Deserialize, Serialize};

use crate::{
    event::{Event, WorkerIndex},
    model::Model,
    worker::worker_id,
};

/// A promise that was not kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Violation {
    /// Which one, as `ARCHITECTURE.md` numbers them.
    pub promise: String,
    /// How it was broken.
    pub words: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is broken: {}", self.promise, self.words)
    }
}

/// What the promises are checked by, besides the model.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules {
    /// Silence after which a session may be closed.
    pub(crate) silence_limit: Duration,
    /// Silence after which an attempt may be given up.
    pub(crate) grace: Duration,
    /// Whether a request is proved once, unless contact was lost for longer than the grace.
    pub(crate) keeps_work: bool,
    /// Whether a request may have two attempts at the same time.
    pub(crate) hedges: bool,
    /// Whether every worker that is away for a short time only is waited for, over restarts too.
    pub(crate) expects_back: bool,
}

/// What an event is checked against.
pub(crate) struct Witness<'a> {
    pub(crate) model: &'a Model,
    pub(crate) rules: &'a Rules,
    pub(crate) now: Duration,
    /// The bytes of a durable proof.
    pub(crate) proof: &'a dyn Fn(AttemptId) -> Option<Vec<u8>>,
    /// The coordinator's wall clock, for deadlines.
    pub(crate) time: hierophant_core::Timestamp,
}

type Checked = Result<(), Violation>;

fn require(holds: bool, promise: &str, words: impl FnOnce() -> String) -> Checked {
    if holds { Ok(()) } else { Err(Violation { promise: promise.to_owned(), words: words() }) }
}

impl Witness<'_> {
    /// Checks one event. Whether an ended attempt is excused by a silence is answered with it.
    pub(crate) fn check(&self, event: &Event) -> Result<bool, Violation> {
        match event {
            Event::Committed { before, after, happening } => {
                if let Some(before) = before {
                    step(before, after)?;
                }
                return self.happened(after, happening);
            }
            Event::Acknowledged { order, id } => self.acknowledged(*order, *id)?,
            Event::Seen { id, request } => self.seen(*id, request.as_deref())?,
            Event::Downloaded { id, digest } => self.downloaded(*id, *digest)?,
            Event::Told { worker, kind, attempt: Some(attempt) } => self.told(*worker, kind, *attempt)?,
            Event::Told { worker, kind: "evicted", .. } => {
                let is_healthy = !self.model.failing.contains(worker);
                require(!is_healthy, "P8", || format!("worker {worker} was evicted, and its provers never failed"))?;
            }
            Event::Dismissed { worker, reason } if reason.contains("silent for too long") => {
                let silence = self.model.workers[*worker].silence(self.now);
                require(silence + SLACK >= self.rules.silence_limit, "P8", || {
                    format!("the session of worker {worker} was closed for silence {silence:?} after its last word")
                })?;
            }
            Event::Proving { worker, attempt, request } => self.proving(*worker, *attempt, *request)?,
            _ => {}
        }
        Ok(false)
    }

    fn happened(&self, after: &Request, happening: &Happening) -> Result<bool, Violation> {
        if matches!(after.state, RequestState::Unexecutable { .. }) {
            let is_true = self.model.bad_programs.contains(&after.id) || self.model.self_confirmed.contains(&after.id);
            require(is_true, "P9", || {
                format!("request {} ended as unexecutable, and only a liar says that its program fails", after.id)
            })?;
        }
        match happening {
            // The first worker can do everything and never lies: who called the program bad is asked again before it
            // only when that one is away for long.
            Happening::Leased { worker, .. }
                if after.tries.guest.by.contains(worker) && !after.tries.guest.by.contains(&worker_id(0)) =>
            {
                let knowing = &self.model.workers[0];
                let silence = knowing.silence(self.now);
                let is_away =
                    !self.rules.expects_back || !knowing.was_here || silence + SLACK >= self.patience(silence);
                require(is_away, "P9", || {
                    format!("worker {worker} is asked again whether the program of {} fails, and nobody else", after.id)
                })?;
                Ok(true)
            }
            Happening::Fulfilled { attempt, .. } => {
                self.is_proved(after, *attempt)?;
                Ok(false)
            }
            Happening::AttemptEnded { attempt, worker, outcome, .. } if outcome.fault.class == FaultClass::Lost => {
                let worker = usize::from(worker.as_bytes()[0]);
                let contact = &self.model.workers[worker];
                let silence = contact.silence(self.now);
                let is_excused = silence + SLACK >= self.patience(silence);
                let was_there = contact.journal.contains(attempt) && self.time <= after.spec.deadline;
                require(is_excused || !was_there, "P8", || {
                    format!(
                        "worker {worker} lost attempt {attempt}, which is in its journal, {silence:?} after its last \
                         word: {}",
                        outcome.fault
                    )
                })?;
                Ok(is_excused)
            }
            _ => Ok(false),
        }
    }

    /// For how long a worker must be silent to be given up. After a stall everyone is given the time to be heard again,
    /// and no more.
    fn patience(&self, silence: Duration) -> Duration {
        if self.model.is_stalled(silence, self.now) { self.rules.silence_limit } else { self.rules.grace }
    }

    /// P4: the bytes that fulfil a request prove what was asked.
    fn is_proved(&self, request: &Request, attempt: AttemptId) -> Checked {
        let id = request.id;
        let bytes = (self.proof)(attempt);
        let claim = bytes.as_deref().and_then(read_claim);
        let spec = &request.spec;
        let is_good = claim.is_some_and(|claim| {
            claim.vk_hash == *spec.vk_hash.as_bytes()
                && claim.mode == spec.mode
                && claim.circuit_version == spec.circuit_version
                && spec.public_values_hash.is_none_or(|hash| *hash.as_bytes() == claim.public_values_hash)
        });
        require(is_good, "P4", || format!("request {id} was fulfilled by {attempt}, whose proof is missing or bad"))
    }

    fn acknowledged(&self, order: usize, id: RequestId) -> Checked {
        require(self.model.requests.contains_key(&id), "P1", || {
            format!("order {order} was given the id {id}, and the store has no such request")
        })?;
        let Some(former) = self.model.orders.get(&order).and_then(|ids| ids.last()).filter(|last| **last != id) else {
            return Ok(());
        };
        let state = self.model.requests.get(former).map(|known| &known.request.state);
        require(state.is_some_and(RequestState::is_failed), "P5", || {
            format!("order {order} is request {former}, which has not failed, and was given {id} as well")
        })
    }

    fn seen(&self, id: RequestId, request: Option<&Request>) -> Checked {
        let Some(request) = request else {
            return require(false, "P1", || format!("request {id} was acknowledged and is not known any more"));
        };
        let now = request.state.name();
        let before = self.model.seen.get(&id).copied().unwrap_or(now);
        let is_kept = before == now || (is_soft(before) && now == "fulfilled");
        require(is_kept, "P3", || format!("a client saw request {id} {before}, and then {now}"))
    }

    fn downloaded(&self, id: RequestId, digest: Option<Digest>) -> Checked {
        let Some(digest) = digest else {
            return require(false, "P2", || format!("request {id} is fulfilled and its proof is not served"));
        };
        let attempt = self.model.requests.get(&id).and_then(|known| match known.request.state {
            RequestState::Fulfilled { attempt, .. } => Some(attempt),
            _ => None,
        });
        let published = attempt.and_then(|attempt| self.model.published.get(&attempt).copied());
        require(published == Some(digest), "P2", || format!("the proof of request {id} is not what was uploaded"))?;
        let before = self.model.downloaded.get(&id).copied().unwrap_or(digest);
        require(before == digest, "P2", || format!("the proof of request {id} changed"))
    }

    /// What a worker is told of an attempt must be true, since it deletes by it.
    fn told(&self, worker: WorkerIndex, kind: &str, attempt: AttemptId) -> Checked {
        let known = self.model.attempts.get(&attempt).and_then(|id| self.model.requests.get(id));
        let Some(known) = known else { return Ok(()) };
        let (id, state) = (known.request.id, &known.request.state);
        let good = self.model.made.get(&(worker, attempt)).filter(|made| made.is_good);
        match kind {
            "stored" => match (good, state) {
                (Some(made), RequestState::Fulfilled { attempt: by, .. }) if *by == attempt => {
                    require(self.model.published.get(&attempt) == Some(&made.digest), "P2", || {
                        format!("worker {worker} was told that its proof of request {id} is stored, which it is not")
                    })
                }
                (Some(_), _) => require(
                    matches!(
                        state,
                        RequestState::Fulfilled { .. }
                            | RequestState::Cancelled { .. }
                            | RequestState::Unexecutable { .. }
                    ),
                    "P2",
                    || format!("worker {worker} may delete a good proof of request {id}, which is {}", state.name()),
                ),
                (None, _) => require(state.holder(attempt).is_none(), "P2", || {
                    format!("worker {worker} is told that {attempt} is over, and it holds request {id}")
                }),
            },
            "rejected" => require(good.is_none(), "P2", || {
                format!("a good proof of worker {worker} for request {id} was rejected")
            }),
            "cancel" => require(good.is_none() || state.is_terminal(), "P2", || {
                format!("worker {worker} must forget a good proof of request {id}, which is {}", state.name())
            }),
            _ => Ok(()),
        }
    }

    fn proving(&self, worker: WorkerIndex, attempt: AttemptId, request: RequestId) -> Checked {
        require(self.model.attempts.get(&attempt) == Some(&request), "P5", || {
            format!("worker {worker} proves {attempt} of request {request}, which nobody gave it")
        })?;
        let Some(known) = self.model.requests.get(&request) else { return Ok(()) };
        require(!self.rules.keeps_work || known.provings <= known.excused, "P7", || {
            format!("request {request} is proved for the {}. time, without need", known.provings + 1)
        })
    }
}

/// Clocks are read, and frames are heard, a little after the fact.
const SLACK: Duration = Duration::from_secs(2);

fn is_soft(state: &str) -> bool {
    matches!(state, "unfulfillable" | "expired")
}

/// P3, and that changes are made one on the other.
fn step(before: &Request, after: &Request) -> Checked {
    let (was, is) = (&before.state, &after.state);
    let is_kept = !was.is_terminal() || (is_soft(was.name()) && matches!(is, RequestState::Fulfilled { .. }));
    require(is_kept, "P3", || format!("request {} went from {} to {}", after.id, was.name(), is.name()))?;
    require(after.version == before.version + 1 && after.spec == before.spec, "P3", || {
        format!("request {} skipped a version or changed what was asked", after.id)
    })
}

/// What must hold once everything works again for long enough.
pub(crate) fn at_rest(model: &Model, leases: usize, in_hand: &[(WorkerIndex, usize)], busy: usize) -> Checked {
    let open: Vec<String> = model
        .requests
        .values()
        .filter(|known| !known.request.state.is_terminal())
        .map(|known| format!("{} is {}", known.request.id, known.request.state.name()))
        .collect();
    require(open.is_empty(), "P6", || format!("with nothing broken, requests do not end: {}", open.join(", ")))?;
    require(leases == 0, "capacity", || format!("{leases} leases are held of requests that have ended"))?;
    let held: Vec<_> = in_hand.iter().filter(|(_, attempts)| *attempts > 0).collect();
    require(held.is_empty(), "capacity", || format!("workers still hold attempts (worker, how many): {held:?}"))?;
    require(busy == 0, "capacity", || format!("{busy} provers are busy with requests that have ended"))
}
