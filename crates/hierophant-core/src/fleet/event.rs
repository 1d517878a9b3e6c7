//! What the fleet is told, and what it wants done.

use std::time::Duration;

use network_lib::{AttemptId, FaultClass, ProverProfile, RequestId, WorkerId, WorkerProfile, protocol::Progress};

use super::{QueuedRequest, SessionId, Standing};
use crate::Timestamp;

/// An attempt that a worker holds rightfully, as it says when it connects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldLease {
    /// The attempt.
    pub attempt: AttemptId,
    /// What it is for.
    pub work: QueuedRequest,
    /// The prover that works on it.
    pub prover: usize,
    /// Whether that prover is still at it.
    pub is_proving: bool,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A request waits (again).
    Queued(QueuedRequest),
    /// A request is open and its deadline is to be watched, though nothing else is to be done for it here.
    Watched {
        /// The request.
        request: RequestId,
        /// When to look at it.
        deadline: Timestamp,
    },
    /// A request has ended: it waits no more, and its deadline is of no interest.
    Settled {
        /// The request.
        request: RequestId,
    },
    /// An attempt holds its request no more. What follows for the request comes in an event of its own.
    Released {
        /// The attempt.
        attempt: AttemptId,
    },
    /// A worker opened a session. An older session of the same worker is over.
    Joined {
        /// The session.
        session: SessionId,
        /// What the worker is.
        profile: WorkerProfile,
        /// The attempts that it holds rightfully.
        leases: Vec<HeldLease>,
        /// What was held against it before this program started; counts unless more is known.
        standing: Standing,
    },
    /// A lease that the store knows, of a worker that has not been heard of since the start.
    Remembered {
        /// The attempt.
        attempt: AttemptId,
        /// What it is for.
        work: QueuedRequest,
        /// Who holds it.
        worker: WorkerId,
    },
    /// A worker was connected shortly before the start, and may come back.
    Expected {
        /// The worker.
        worker: WorkerId,
    },
    /// Anything was heard in a session.
    Heard {
        /// The worker.
        worker: WorkerId,
        /// The session.
        session: SessionId,
    },
    /// A worker's provers changed. Counts only while this is its session: a late word of an older one is out of date.
    ProversChanged {
        /// The worker.
        worker: WorkerId,
        /// The session in which it said so.
        session: SessionId,
        /// Its provers now.
        provers: Vec<ProverProfile>,
    },
    /// A worker takes no more attempts. Counts only while this is its session.
    Draining {
        /// The worker.
        worker: WorkerId,
        /// The session in which it said so.
        session: SessionId,
    },
    /// A session ended.
    Left {
        /// The worker.
        worker: WorkerId,
        /// The session.
        session: SessionId,
    },
    /// The lease of an [`Effect::Claim`] is written.
    Claimed {
        /// The request.
        request: RequestId,
        /// The worker.
        worker: WorkerId,
        /// The prover.
        prover: usize,
        /// The new attempt.
        attempt: AttemptId,
    },
    /// The lease of an [`Effect::Claim`] could not be written.
    ClaimFailed {
        /// The worker.
        worker: WorkerId,
        /// The prover.
        prover: usize,
        /// The request, when it still waits.
        requeue: Option<QueuedRequest>,
        /// Whether any other request would have fared no better, as while the disk is full.
        is_passing: bool,
    },
    /// A worker has an attempt in its journal.
    Accepted {
        /// The attempt.
        attempt: AttemptId,
        /// The worker that said so.
        worker: WorkerId,
    },
    /// How far an attempt has come.
    Progressed {
        /// The attempt.
        attempt: AttemptId,
        /// The worker that said so.
        worker: WorkerId,
        /// How far.
        progress: Progress,
    },
    /// The proof of an attempt lies on its worker's disk: the prover is free again.
    Proved {
        /// The attempt.
        attempt: AttemptId,
        /// The worker.
        worker: WorkerId,
    },
    /// A proof of this worker verified.
    Succeeded {
        /// The worker.
        worker: WorkerId,
    },
    /// A worker failed at a request.
    Failed {
        /// The worker.
        worker: WorkerId,
        /// The request.
        request: RequestId,
        /// Whose fault it was.
        class: FaultClass,
    },
    /// A worker said that the program of a request fails, and another worker proved the request.
    Disproved {
        /// The worker.
        worker: WorkerId,
        /// The request.
        request: RequestId,
    },
    /// Time passed.
    Tick,
}

/// Something to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Write a lease of this request for this worker, then tell the worker; answer with [`Event::Claimed`] or
    /// [`Event::ClaimFailed`].
    Claim {
        /// The request.
        request: RequestId,
        /// The worker.
        worker: WorkerId,
        /// Its prover.
        prover: usize,
        /// Whether another attempt is at the request already, and goes on.
        is_hedge: bool,
    },
    /// A worker did not say that it has an attempt: tell it again.
    Remind {
        /// The attempt.
        attempt: AttemptId,
        /// What it is for.
        request: RequestId,
        /// Who holds it.
        worker: WorkerId,
        /// Its prover.
        prover: usize,
    },
    /// Give the attempt up, and tell its worker if it is connected.
    Lose {
        /// The attempt.
        attempt: AttemptId,
        /// What it was for.
        request: RequestId,
        /// Who held it.
        worker: WorkerId,
        /// Why, in words.
        reason: String,
    },
    /// The deadline of a request has passed: end it. When that is not possible yet, watch it again.
    Expire {
        /// The request.
        request: RequestId,
    },
    /// Tell the worker what its busy prover will most likely be given next, or that nothing is expected any more.
    Hint {
        /// The worker.
        worker: WorkerId,
        /// Its prover.
        prover: usize,
        /// The request, which waits.
        request: Option<RequestId>,
    },
    /// End a session.
    Close {
        /// The session.
        session: SessionId,
        /// Why, in words.
        reason: &'static str,
    },
    /// Remember what is held against a worker now.
    Note {
        /// The worker.
        worker: WorkerId,
        /// What is held against it.
        standing: Standing,
    },
    /// Tell the worker that it is not wanted, end its session, and call whoever replaces it.
    Evict {
        /// The worker.
        worker: WorkerId,
        /// Its session.
        session: SessionId,
        /// Why, in words.
        reason: String,
    },
    /// The wall clock jumped: no deadline ends anything for this long.
    ClockJumped {
        /// How far, in seconds; negative for back.
        by_secs: i64,
        /// For how long.
        held: Duration,
    },
}
