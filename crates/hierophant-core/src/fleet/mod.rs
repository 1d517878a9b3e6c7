//! The live side: who is connected, who is idle, who holds what, and who gets what next.
//!
//! [`Fleet::apply`] takes one [`Event`] and the time, and answers with [`Effect`]s for its shell to perform. What is
//! durable is not decided here: the shell turns an effect into a change of a request, and tells the outcome in a later
//! event. Capacity is derived from leases, never counted by hand. After a restart the fleet is empty; workers bring
//! their leases along when they connect, and leases of workers that stay away run into the same grace period.

mod deadlines;
mod event;
mod hints;
mod matching;
mod patience;
mod queue;
mod standing;
mod waiting;
mod worker;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    time::Duration,
};

use network_lib::{AttemptId, FaultClass, RequestId, WorkerId, WorkerProfile};

use self::{deadlines::Deadlines, hints::Concern, patience::Paused, queue::Queue, worker::can_prove};
pub use self::{
    event::{Effect, Event, HeldLease},
    queue::{QueuedRequest, Requirement},
    standing::{FaultPolicy, Standing},
    waiting::{Unserved, WaitingReason},
    worker::{Claim, Lease, SessionId, Worker},
};
use crate::{Moment, Now};

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
    /// How long a worker may take to say that it has what it was given, before it is told again. After as long again
    /// the attempt is taken back.
    pub claim_limit: Duration,
    /// How long a request that met with trouble waits when no other worker could take it. Doubles with each trouble.
    pub first_pause: Duration,
    /// The longest such pause.
    pub longest_pause: Duration,
    /// A difference between the two clocks that makes the wall clock suspect.
    pub clock_jump: Duration,
    /// How long before its deadline a request that is still being proved is given to a second worker, if one is idle.
    /// `None`: never.
    pub hedge_before: Option<Duration>,
    /// What faults mean for a worker.
    pub faults: FaultPolicy,
}

impl Default for FleetSettings {
    fn default() -> Self {
        Self {
            silence_limit: Duration::from_secs(30),
            grace: Duration::from_mins(2),
            forget_after: Duration::from_hours(1),
            stall: Duration::from_secs(5),
            claim_limit: Duration::from_secs(10),
            first_pause: Duration::from_secs(5),
            longest_pause: Duration::from_mins(5),
            clock_jump: Duration::from_mins(1),
            hedge_before: None,
            faults: FaultPolicy::default(),
        }
    }
}

/// The workers and the queue, as they are now.
#[derive(Debug)]
pub struct Fleet {
    settings: FleetSettings,
    workers: BTreeMap<WorkerId, Worker>,
    queue: Queue,
    /// Requests that met with trouble; they are not in the queue.
    paused: BTreeMap<RequestId, Paused>,
    holders: HashMap<AttemptId, WorkerId>,
    deadlines: Deadlines,
    last_tick: Option<Now>,
    /// Nobody is judged before.
    judge_from: Moment,
    /// Nothing expires before.
    expire_from: Moment,
}

impl Fleet {
    /// A fleet without workers and requests.
    pub fn new(settings: FleetSettings) -> Self {
        Self {
            settings,
            workers: BTreeMap::new(),
            queue: Queue::default(),
            paused: BTreeMap::new(),
            holders: HashMap::new(),
            deadlines: Deadlines::default(),
            last_tick: None,
            judge_from: Moment::default(),
            expire_from: Moment::default(),
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
                self.enqueue(request, moment);
            }
            Event::Watched { request, deadline } => self.deadlines.watch(request, deadline),
            Event::Settled { request } => {
                self.queue.remove(request);
                self.paused.remove(&request);
                self.deadlines.forget(request);
            }
            Event::Released { attempt } => {
                self.release(attempt);
            }
            Event::Joined { session, profile, leases, standing } => {
                self.join(session, profile, leases, standing, moment, &mut effects);
            }
            Event::Remembered { attempt, work, worker } => {
                self.deadlines.watch(work.id, work.deadline);
                self.remember(attempt, work, worker, moment);
            }
            Event::Expected { worker } => self.expect(worker, moment),
            Event::Heard { worker, session } => {
                if let Some(worker) = self.in_session(worker, session) {
                    worker.last_heard = moment;
                }
            }
            Event::ProversChanged { worker, session, provers } => {
                if let Some(worker) = self.in_session(worker, session) {
                    worker.set_provers(provers, moment);
                }
                self.wake(moment);
            }
            Event::Draining { worker, session } => {
                if let Some(worker) = self.in_session(worker, session) {
                    worker.is_draining = true;
                }
            }
            Event::Left { worker, session } => {
                if let Some(worker) = self.in_session(worker, session) {
                    worker.session = None;
                }
            }
            Event::Claimed { request, worker, prover, attempt } => {
                let claimed = self.workers.get_mut(&worker).and_then(|worker| worker.claims.remove(&prover));
                if let Some(work) = claimed.filter(|work| work.id == request) {
                    let claim = Claim::Told { at: moment, again: false };
                    self.hold(
                        worker,
                        attempt,
                        Lease { work, prover, since: moment, is_proving: true, progress: None, claim },
                    );
                }
            }
            Event::ClaimFailed { worker, prover, requeue, is_passing } => {
                let claimed = self.workers.get_mut(&worker).and_then(|worker| worker.claims.remove(&prover));
                match requeue {
                    Some(request) if is_passing => self.enqueue(request, moment),
                    Some(request) => self.put_off(request, claimed.as_ref(), moment),
                    None => {}
                }
            }
            Event::Accepted { attempt, worker } => {
                self.spoken_of(attempt, worker);
            }
            Event::Progressed { attempt, worker, progress } => {
                if let Some(lease) = self.spoken_of(attempt, worker) {
                    lease.progress = Some(progress);
                }
            }
            Event::Proved { attempt, worker } => {
                if let Some(lease) = self.spoken_of(attempt, worker) {
                    lease.is_proving = false;
                }
            }
            Event::Succeeded { worker } => self.praise(worker, &mut effects),
            Event::Failed { worker, request, class } => self.blame(worker, request, class, moment, &mut effects),
            Event::Disproved { worker, request } => {
                self.hold_against(worker, request, FaultClass::Worker, moment, &mut effects);
            }
            Event::Tick => self.tick(now, &mut effects),
        }
        if let Some(concern) = concern {
            self.assign(now, &mut effects);
            self.hint(&concern, &mut effects);
        }
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

    /// The requests that are in this fleet's hands and do not wait: being claimed, or leased.
    pub fn in_work(&self) -> HashSet<RequestId> {
        self.workers.values().flat_map(Worker::in_work).map(|work| work.id).collect()
    }

    /// Whether the request waits here.
    pub fn is_waiting(&self, request: RequestId) -> bool {
        self.queue.get(request).is_some() || self.paused.contains_key(&request)
    }

    /// Who holds an attempt, if anyone.
    pub fn holder(&self, attempt: AttemptId) -> Option<WorkerId> {
        self.holders.get(&attempt).copied()
    }

    /// How many requests wait.
    pub fn queue_len(&self) -> usize {
        self.queue.len() + self.paused.len()
    }

    /// Whether another process than this one is connected as the worker, and was heard no longer than `recently` ago.
    pub fn has_twin(&self, worker: WorkerId, instance: Option<u64>, recently: Duration, now: Moment) -> bool {
        self.workers.get(&worker).is_some_and(|known| {
            let is_another = known.profile.instance.zip(instance).is_some_and(|(here, new)| here != new);
            is_another && known.session.is_some() && now.since(known.last_heard) <= recently
        })
    }

    fn in_session(&mut self, worker: WorkerId, session: SessionId) -> Option<&mut Worker> {
        self.workers.get_mut(&worker).filter(|known| known.session == Some(session))
    }

    fn join(
        &mut self,
        session: SessionId,
        profile: WorkerProfile,
        leases: Vec<HeldLease>,
        standing: Standing,
        now: Moment,
        effects: &mut Vec<Effect>,
    ) {
        let id = profile.id;
        let policy = self.settings.faults;
        let is_first = self.workers.get(&id).is_none_or(|worker| worker.profile.provers.is_empty());
        let worker = self.workers.entry(id).or_insert_with(|| Worker::new(profile.clone(), Standing::default(), now));
        if is_first && worker.standing.is_clean() && !standing.is_clean() {
            worker.rests_until = Some(now.plus(standing.rest(&policy)));
            worker.standing = standing;
        }
        if let Some(older) = worker.session.replace(session).filter(|older| *older != session) {
            effects.push(Effect::Close { session: older, reason: "the worker opened a newer session" });
        }
        worker.set_provers(profile.provers.clone(), now);
        worker.profile = profile;
        worker.last_heard = now;
        worker.is_draining = false;
        worker.hints.clear();
        // What the worker had and has no more is lost; what it may never have heard of, it is told again. Leases being
        // written (claims) are not known to it yet.
        let mut gone = Vec::new();
        for (attempt, lease) in &mut worker.leases {
            if leases.iter().any(|held| held.attempt == *attempt) {
                continue;
            }
            if matches!(lease.claim, Claim::Told { again: false, .. }) {
                lease.claim = Claim::Told { at: now, again: true };
                let (request, prover) = (lease.work.id, lease.prover);
                effects.push(Effect::Remind { attempt: *attempt, request, worker: id, prover });
            } else {
                gone.push(*attempt);
            }
        }
        for attempt in gone {
            self.lose(attempt, "the worker came back without it", effects);
        }
        for HeldLease { attempt, work, prover, is_proving } in leases {
            let since = self.lease(attempt).map_or(now, |lease| lease.since);
            let progress = self.lease(attempt).and_then(|lease| lease.progress.clone());
            self.deadlines.watch(work.id, work.deadline);
            self.hold(id, attempt, Lease { work, prover, since, is_proving, progress, claim: Claim::Acknowledged });
        }
        self.wake(now);
    }

    /// A lease of a worker that has not been heard of since the start. Whether it ever heard of the lease is not known;
    /// if it comes back without it, nothing was begun or all was lost, and both are mended by giving the request anew.
    fn remember(&mut self, attempt: AttemptId, work: QueuedRequest, worker: WorkerId, now: Moment) {
        self.expect(worker, now);
        let claim = Claim::Acknowledged;
        self.hold(worker, attempt, Lease { work, prover: 0, since: now, is_proving: true, progress: None, claim });
    }

    /// A worker that has not been heard of since the start, and may come.
    fn expect(&mut self, id: WorkerId, now: Moment) {
        self.workers.entry(id).or_insert_with(|| {
            let (name, provers) = (String::new(), Vec::new());
            let profile = WorkerProfile { id, name, provers, magister_drop_endpoint: None, instance: None };
            Worker::new(profile, Standing::default(), now)
        });
    }

    fn assign(&mut self, now: Now, effects: &mut Vec<Effect>) {
        while let Some(found) = matching::next(self) {
            let Some(request) = self.queue.remove(found.request) else { break };
            self.claim(request, found.worker, found.prover, false, now.moment, effects);
        }
    }

    fn claim(
        &mut self,
        request: QueuedRequest,
        id: WorkerId,
        prover: usize,
        is_hedge: bool,
        now: Moment,
        effects: &mut Vec<Effect>,
    ) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        worker.hints.retain(|_, hinted| *hinted != request.id);
        worker.last_assigned = now;
        effects.push(Effect::Claim { request: request.id, worker: id, prover, is_hedge });
        worker.claims.insert(prover, request);
    }

    fn hold(&mut self, worker: WorkerId, attempt: AttemptId, lease: Lease) {
        self.release(attempt);
        self.queue.remove(lease.work.id);
        self.paused.remove(&lease.work.id);
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
            effects.push(Effect::Lose { attempt, request: lease.work.id, worker, reason: reason.to_owned() });
        }
    }

    /// The lease of an attempt of which its worker has spoken.
    fn spoken_of(&mut self, attempt: AttemptId, worker: WorkerId) -> Option<&mut Lease> {
        let lease = self.workers.get_mut(&worker)?.leases.get_mut(&attempt)?;
        lease.claim = Claim::Acknowledged;
        Some(lease)
    }
}

#[cfg(test)]
mod tests;
