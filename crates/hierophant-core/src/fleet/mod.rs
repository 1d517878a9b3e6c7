//! The live side: who is connected, who is idle, who holds what, and who gets what next.
//!
//! [`Fleet::apply`] takes one [`Event`] and the time, and answers with [`Effect`]s for its shell to perform. What is
//! durable is not decided here: the shell turns an effect into a change of a request, and tells the outcome in a later
//! event. Capacity is derived from leases, never counted by hand. After a restart the fleet is empty; workers bring
//! their leases along when they connect, and leases of workers that stay away run into the same grace period.

mod deadlines;
mod hints;
mod matching;
mod queue;
mod waiting;
mod worker;

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use network_lib::{AttemptId, ProverProfile, RequestId, WorkerId, WorkerProfile, protocol::Progress};

use self::{deadlines::Deadlines, hints::Concern, queue::Queue, worker::can_prove};
pub use self::{
    queue::{QueuedRequest, Requirement},
    waiting::{Unserved, WaitingReason},
    worker::{Lease, SessionId, Worker},
};
use crate::{Moment, Now, Timestamp};

/// How patient the coordinator is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FleetSettings {
    /// Silence after which a session is closed.
    pub silence_limit: Duration,
    /// How long after the last word of a worker its attempts stay its own.
    pub grace: Duration,
    /// How long a worker without session and leases is remembered.
    pub forget_after: Duration,
    /// A pause between two ticks longer than this means that the coordinator itself stood still: it then judges
    /// nobody until everyone had time to be heard again.
    pub stall: Duration,
}

impl Default for FleetSettings {
    fn default() -> Self {
        Self {
            silence_limit: Duration::from_secs(30),
            grace: Duration::from_mins(2),
            forget_after: Duration::from_hours(1),
            stall: Duration::from_secs(5),
        }
    }
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
    /// A request waits no more, or its attempt holds it no more: cancelled, expired, fulfilled, failed.
    Settled {
        /// The request.
        request: RequestId,
        /// The attempt that ended with it, if one did.
        attempt: Option<AttemptId>,
    },
    /// A worker opened a session. An older session of the same worker is over.
    Joined {
        /// The session.
        session: SessionId,
        /// What the worker is.
        profile: WorkerProfile,
        /// The attempts that it holds rightfully: attempt, request, prover, and whether it is still proving.
        leases: Vec<(AttemptId, RequestId, usize, bool)>,
    },
    /// A lease that the store knows, of a worker that has not been heard of since the start.
    Remembered {
        /// The attempt.
        attempt: AttemptId,
        /// What it is for.
        request: RequestId,
        /// Who holds it.
        worker: WorkerId,
        /// The request's deadline.
        deadline: Timestamp,
    },
    /// Anything was heard in a session.
    Heard {
        /// The worker.
        worker: WorkerId,
        /// The session.
        session: SessionId,
    },
    /// A worker's provers changed.
    ProversChanged {
        /// The worker.
        worker: WorkerId,
        /// Its provers now.
        provers: Vec<ProverProfile>,
    },
    /// A worker takes no more attempts.
    Draining {
        /// The worker.
        worker: WorkerId,
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
        /// The request.
        request: RequestId,
        /// The worker.
        worker: WorkerId,
        /// The prover.
        prover: usize,
        /// The request, when it still waits.
        requeue: Option<QueuedRequest>,
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
    },
    /// Contact with the worker was lost for longer than the grace period: give the attempt up.
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
}

/// The workers and the queue, as they are now.
#[derive(Debug)]
pub struct Fleet {
    settings: FleetSettings,
    workers: BTreeMap<WorkerId, Worker>,
    queue: Queue,
    holders: HashMap<AttemptId, WorkerId>,
    deadlines: Deadlines,
    last_tick: Option<Moment>,
    judge_from: Moment,
}

impl Fleet {
    /// A fleet without workers and requests.
    pub fn new(settings: FleetSettings) -> Self {
        Self {
            settings,
            workers: BTreeMap::new(),
            queue: Queue::default(),
            holders: HashMap::new(),
            deadlines: Deadlines::default(),
            last_tick: None,
            judge_from: Moment::default(),
        }
    }

    /// Takes note of `event` and answers with what is to be done.
    pub fn apply(&mut self, event: Event, now: Now) -> Vec<Effect> {
        let moment = now.moment;
        let mut effects = Vec::new();
        let concern = Concern::of(&event);
        match event {
            Event::Queued(request) => {
                self.deadlines.watch(request.id, request.deadline);
                self.queue.insert(request);
            }
            Event::Watched { request, deadline } => self.deadlines.watch(request, deadline),
            Event::Settled { request, attempt } => {
                self.queue.remove(request);
                self.deadlines.forget(request);
                if let Some(attempt) = attempt {
                    self.release(attempt);
                }
            }
            Event::Joined { session, profile, leases } => self.join(session, profile, leases, moment, &mut effects),
            Event::Remembered { attempt, request, worker, deadline } => {
                self.deadlines.watch(request, deadline);
                self.remember(attempt, request, worker, moment);
            }
            Event::Heard { worker, session } => {
                if let Some(worker) = self.workers.get_mut(&worker).filter(|known| known.session == Some(session)) {
                    worker.last_heard = moment;
                }
            }
            Event::ProversChanged { worker, provers } => {
                if let Some(worker) = self.workers.get_mut(&worker) {
                    worker.profile.provers = provers;
                }
            }
            Event::Draining { worker } => {
                if let Some(worker) = self.workers.get_mut(&worker) {
                    worker.is_draining = true;
                }
            }
            Event::Left { worker, session } => {
                if let Some(worker) = self.workers.get_mut(&worker).filter(|known| known.session == Some(session)) {
                    worker.session = None;
                }
            }
            Event::Claimed { request, worker, prover, attempt } => {
                if let Some(worker) = self.workers.get_mut(&worker) {
                    worker.claims.remove(&prover);
                }
                self.hold(worker, attempt, Lease { request, prover, since: moment, is_proving: true, progress: None });
            }
            Event::ClaimFailed { worker, prover, requeue, .. } => {
                if let Some(worker) = self.workers.get_mut(&worker) {
                    worker.claims.remove(&prover);
                }
                if let Some(request) = requeue {
                    self.queue.insert(request);
                }
            }
            Event::Progressed { attempt, worker, progress } => {
                if let Some(lease) = self.lease_mut(attempt, worker) {
                    lease.progress = Some(progress);
                }
            }
            Event::Proved { attempt, worker } => {
                if let Some(lease) = self.lease_mut(attempt, worker) {
                    lease.is_proving = false;
                }
            }
            Event::Tick => {
                effects.extend(self.deadlines.due(now.time).map(|request| Effect::Expire { request }));
                self.tick(moment, &mut effects);
            }
        }
        self.assign(moment, &mut effects);
        self.hint(&concern, &mut effects);
        effects
    }

    /// The workers that are connected or remembered.
    pub fn workers(&self) -> impl Iterator<Item = (&WorkerId, &Worker)> {
        self.workers.iter()
    }

    /// The worker with this id, if it is connected or remembered.
    pub fn worker(&self, id: WorkerId) -> Option<&Worker> {
        self.workers.get(&id)
    }

    /// The lease of an attempt, if one is held.
    pub fn lease(&self, attempt: AttemptId) -> Option<&Lease> {
        self.workers.get(self.holders.get(&attempt)?)?.leases.get(&attempt)
    }

    /// Whether the request is in this fleet's hands: waiting, being claimed, or leased.
    pub fn knows(&self, request: RequestId) -> bool {
        self.queue.get(request).is_some()
            || self.workers.values().any(|worker| {
                worker.claims.values().any(|claimed| *claimed == request)
                    || worker.leases.values().any(|lease| lease.request == request)
            })
    }

    /// Who holds an attempt, if anyone.
    pub fn holder(&self, attempt: AttemptId) -> Option<WorkerId> {
        self.holders.get(&attempt).copied()
    }

    /// How many requests wait.
    pub fn queue_len(&self) -> usize {
        self.queue.len()
    }

    fn join(
        &mut self,
        session: SessionId,
        profile: WorkerProfile,
        leases: Vec<(AttemptId, RequestId, usize, bool)>,
        now: Moment,
        effects: &mut Vec<Effect>,
    ) {
        let id = profile.id;
        let worker = self.workers.entry(id).or_insert_with(|| Worker::new(profile.clone(), now));
        if let Some(older) = worker.session.replace(session).filter(|older| *older != session) {
            effects.push(Effect::Close { session: older, reason: "the worker opened a newer session" });
        }
        worker.profile = profile;
        worker.last_heard = now;
        worker.is_draining = false;
        worker.hints.clear();
        // What the worker does not have any more is lost. Leases being written (claims) are not known to it yet.
        let kept: Vec<AttemptId> = leases.iter().map(|(attempt, ..)| *attempt).collect();
        let gone: Vec<AttemptId> = worker.leases.keys().copied().filter(|attempt| !kept.contains(attempt)).collect();
        for attempt in gone {
            self.lose(attempt, "the worker came back without it", effects);
        }
        for (attempt, request, prover, is_proving) in leases {
            let since = self.lease(attempt).map_or(now, |lease| lease.since);
            let progress = self.lease(attempt).and_then(|lease| lease.progress.clone());
            self.hold(id, attempt, Lease { request, prover, since, is_proving, progress });
        }
    }

    fn remember(&mut self, attempt: AttemptId, request: RequestId, worker: WorkerId, now: Moment) {
        self.workers.entry(worker).or_insert_with(|| {
            let profile =
                WorkerProfile { id: worker, name: String::new(), provers: Vec::new(), magister_drop_endpoint: None };
            Worker::new(profile, now)
        });
        self.hold(worker, attempt, Lease { request, prover: 0, since: now, is_proving: true, progress: None });
    }

    fn tick(&mut self, now: Moment, effects: &mut Vec<Effect>) {
        if self.last_tick.is_some_and(|last| now.since(last) > self.settings.stall) {
            self.judge_from = now.plus(self.settings.silence_limit);
        }
        self.last_tick = Some(now);
        if now < self.judge_from {
            return;
        }
        for worker in self.workers.values_mut() {
            let silence = now.since(worker.last_heard);
            if silence > self.settings.silence_limit
                && let Some(session) = worker.session.take()
            {
                effects.push(Effect::Close { session, reason: "the worker has been silent for too long" });
            }
        }
        let lost: Vec<AttemptId> = self
            .workers
            .values()
            .filter(|worker| worker.session.is_none() && now.since(worker.last_heard) > self.settings.grace)
            .flat_map(|worker| worker.leases.keys().copied())
            .collect();
        for attempt in lost {
            self.lose(attempt, "the worker was not heard of for longer than the grace period", effects);
        }
        let forget_after = self.settings.forget_after;
        self.workers.retain(|_, worker| {
            worker.session.is_some()
                || !worker.leases.is_empty()
                || !worker.claims.is_empty()
                || now.since(worker.last_heard) <= forget_after
        });
    }

    fn assign(&mut self, now: Moment, effects: &mut Vec<Effect>) {
        while let Some(found) = matching::next(self) {
            self.queue.remove(found.request);
            let Some(worker) = self.workers.get_mut(&found.worker) else { break };
            worker.claims.insert(found.prover, found.request);
            worker.hints.retain(|_, hinted| *hinted != found.request);
            worker.last_assigned = now;
            effects.push(Effect::Claim { request: found.request, worker: found.worker, prover: found.prover });
        }
    }

    fn hold(&mut self, worker: WorkerId, attempt: AttemptId, lease: Lease) {
        self.release(attempt);
        self.queue.remove(lease.request);
        if let Some(holder) = self.workers.get_mut(&worker) {
            holder.leases.insert(attempt, lease);
            self.holders.insert(attempt, worker);
        }
    }

    fn release(&mut self, attempt: AttemptId) -> Option<(WorkerId, Lease)> {
        let worker = self.holders.remove(&attempt)?;
        let lease = self.workers.get_mut(&worker)?.leases.remove(&attempt)?;
        Some((worker, lease))
    }

    fn lose(&mut self, attempt: AttemptId, reason: &str, effects: &mut Vec<Effect>) {
        if let Some((worker, lease)) = self.release(attempt) {
            // Its deadline stays watched: the request is open until the shell has said otherwise.
            effects.push(Effect::Lose { attempt, request: lease.request, worker, reason: reason.to_owned() });
        }
    }

    fn lease_mut(&mut self, attempt: AttemptId, worker: WorkerId) -> Option<&mut Lease> {
        self.workers.get_mut(&worker)?.leases.get_mut(&attempt)
    }
}

#[cfg(test)]
mod tests;
