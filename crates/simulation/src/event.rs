//! What happens in a run, in one order. Everything that is checked is checked on these.

use std::{fmt, sync::Arc, time::Duration};

use hierophant_core::{Happening, Request};
use network_lib::{AttemptId, Digest, Fault, RequestId};

/// A worker, by its place in the run.
pub(crate) type WorkerIndex = usize;

/// A logical request of a client, by its place in the run.
pub(crate) type OrderIndex = usize;

/// Something that happened.
#[derive(Debug, Clone)]
pub(crate) enum Event {
    /// A fault began or ended, in words.
    Fault(String),
    /// The coordinator's machine stood still for this long.
    Stalled(Duration),
    CoordinatorStarted {
        number: u64,
    },
    CoordinatorCrashed {
        number: u64,
    },
    WorkerStarted(WorkerIndex),
    WorkerCrashed(WorkerIndex),
    /// The store changed.
    Committed {
        before: Option<Arc<Request>>,
        after: Arc<Request>,
        happening: Happening,
    },
    /// The bytes of a proof are durable at the coordinator.
    Published {
        attempt: AttemptId,
        digest: Digest,
    },
    /// A client has the id of its request.
    Acknowledged {
        order: OrderIndex,
        id: RequestId,
    },
    /// A client's request was not taken, and will not be asked for again.
    Refused {
        order: OrderIndex,
        reason: String,
    },
    /// A client was told what has become of its request; `None`: that there is no such request.
    Seen {
        id: RequestId,
        request: Option<Arc<Request>>,
    },
    /// A client fetched its proof.
    Downloaded {
        id: RequestId,
        digest: Option<Digest>,
    },
    /// A worker said something in its session.
    Said {
        worker: WorkerIndex,
        kind: &'static str,
        attempt: Option<AttemptId>,
    },
    /// A worker heard something in its session.
    Told {
        worker: WorkerIndex,
        kind: &'static str,
        attempt: Option<AttemptId>,
    },
    /// The coordinator ended a worker's session.
    Dismissed {
        worker: WorkerIndex,
        reason: String,
    },
    /// A worker has an attempt in its journal.
    Journalled {
        worker: WorkerIndex,
        attempt: AttemptId,
        stage: &'static str,
    },
    /// A worker has an attempt in its journal no more.
    Forgotten {
        worker: WorkerIndex,
        attempt: AttemptId,
    },
    /// A prover began.
    Proving {
        worker: WorkerIndex,
        attempt: AttemptId,
        request: RequestId,
    },
    /// A proof lies on a worker's disk.
    Proved {
        worker: WorkerIndex,
        attempt: AttemptId,
        digest: Digest,
        is_good: bool,
    },
    /// A prover failed.
    ProofFailed {
        worker: WorkerIndex,
        attempt: AttemptId,
        fault: Fault,
        /// Whether nothing is wrong at all.
        is_lie: bool,
    },
    /// From here on nothing breaks any more.
    Healed,
}

/// The first bytes of an id are enough for people.
struct Short<'a>(&'a [u8]);

impl fmt::Display for Short<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().take(4).try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

fn request(id: &RequestId) -> Short<'_> {
    Short(id.as_bytes())
}

fn of(attempt: Option<&AttemptId>) -> String {
    attempt.map(|attempt| format!(" {}", Short(attempt.as_bytes()))).unwrap_or_default()
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let attempt = |id: &AttemptId| Short(id.as_bytes()).to_string();
        match self {
            Self::Fault(words) => write!(f, "fault: {words}"),
            Self::Stalled(time) => write!(f, "fault: the coordinator's machine stood still for {time:?}"),
            Self::CoordinatorStarted { number } => write!(f, "coordinator {number} started"),
            Self::CoordinatorCrashed { number } => write!(f, "coordinator {number} crashed"),
            Self::WorkerStarted(worker) => write!(f, "worker {worker} started"),
            Self::WorkerCrashed(worker) => write!(f, "worker {worker} crashed"),
            Self::Committed { after, happening, .. } => {
                let (id, version, state) = (request(&after.id), after.version, after.state.name());
                let current = of(after.state.holders().next().map(|holder| holder.attempt).as_ref());
                write!(f, "store: request {id} v{version} {} -> {state}{current}", happening.name())?;
                match happening {
                    Happening::AttemptEnded { attempt: ended, outcome, .. } => {
                        write!(f, " ({} {})", attempt(ended), outcome.fault)
                    }
                    _ => Ok(()),
                }
            }
            Self::Published { attempt: of, digest } => {
                write!(f, "files: proof of {} is {}", attempt(of), Short(digest.as_bytes()))
            }
            Self::Acknowledged { order, id } => write!(f, "client: order {order} is request {}", request(id)),
            Self::Refused { order, reason } => write!(f, "client: order {order} refused: {reason}"),
            Self::Seen { id, request: seen } => {
                let state = seen.as_ref().map_or("unknown", |seen| seen.state.name());
                write!(f, "client: request {} is {state}", request(id))
            }
            Self::Downloaded { id, digest } => {
                let digest = digest.as_ref().map_or_else(|| "missing".to_owned(), |d| Short(d.as_bytes()).to_string());
                write!(f, "client: proof of request {} is {digest}", request(id))
            }
            Self::Said { worker, kind, attempt } => write!(f, "worker {worker} says {kind}{}", of(attempt.as_ref())),
            Self::Told { worker, kind, attempt } => write!(f, "worker {worker} hears {kind}{}", of(attempt.as_ref())),
            Self::Dismissed { worker, reason } => write!(f, "session of worker {worker} ended: {reason}"),
            Self::Journalled { worker, attempt: id, stage } => {
                write!(f, "worker {worker} journals {} as {stage}", attempt(id))
            }
            Self::Forgotten { worker, attempt: id } => write!(f, "worker {worker} forgets {}", attempt(id)),
            Self::Proving { worker, attempt: id, request: of } => {
                write!(f, "worker {worker} proves {} of request {}", attempt(id), request(of))
            }
            Self::Proved { worker, attempt: id, digest, is_good } => {
                let kind = if *is_good { "a proof" } else { "garbage" };
                write!(f, "worker {worker} made {kind} of {}: {}", attempt(id), Short(digest.as_bytes()))
            }
            Self::ProofFailed { worker, attempt: id, fault, is_lie } => {
                let kind = if *is_lie { "lies about" } else { "failed at" };
                write!(f, "worker {worker} {kind} {}: {fault}", attempt(id))
            }
            Self::Healed => f.write_str("everything works from here on"),
        }
    }
}
