//! What busy provers will most likely be given next, so that their workers can have it ready.
//!
//! A hint is no promise and changes no order: whichever prover is free first takes the first request. With one prover
//! of a kind a hint is right unless something more urgent comes; with several it is a guess.

use std::collections::{BTreeMap, HashMap};

use network_lib::{ProverProfile, RequestId, WorkerId};

use super::{
    Effect, Event, Fleet,
    queue::{QueuedRequest, Rank},
    worker::can_prove,
};
use crate::Moment;

/// A prover that is busy.
struct Busy<'a> {
    worker: WorkerId,
    prover: usize,
    profile: &'a ProverProfile,
    /// When it got what it is busy with; `None` when that is being written. Until then it is told of nothing new: a hint
    /// must not overtake the assignment that makes the hint before come true.
    since: Option<Moment>,
    /// What its worker was told last.
    told: Option<RequestId>,
}

/// How an event may change what is given to whom, now or next.
pub(super) enum Concern {
    /// Next, only if this request stands near the front of the queue.
    Queued(RequestId),
    All,
}

impl Concern {
    /// `None` for what makes no request wait and no prover idle, and comes most often.
    pub(super) const fn of(event: &Event) -> Option<Self> {
        match event {
            Event::Queued(request) => Some(Self::Queued(request.id)),
            Event::Heard { .. } | Event::Accepted { .. } | Event::Progressed { .. } | Event::Watched { .. } => None,
            _ => Some(Self::All),
        }
    }
}

impl Fleet {
    /// Tells workers what changed about the requests that their busy provers will most likely be given next: distinct
    /// requests that they can make, in serving order, and each stays with the prover that was told of it as long as it
    /// is near the front.
    pub(super) fn hint(&mut self, concern: &Concern, effects: &mut Vec<Effect>) {
        let provers = || self.workers.values().map(|worker| worker.profile.provers.len()).sum();
        let is_concerned = match concern {
            Concern::Queued(request) => self.queue.is_among_first(*request, provers(), &self.shares()),
            Concern::All => true,
        };
        if !is_concerned {
            return;
        }
        let mut next = self.next_requests();
        for (id, worker) in &mut self.workers {
            let is_connected = worker.session.is_some();
            let now: BTreeMap<usize, RequestId> = next.remove(id).unwrap_or_default();
            let before = std::mem::replace(&mut worker.hints, now);
            if !is_connected {
                continue; // it is told anew when it comes back
            }
            let gone = before.keys().filter(|prover| !worker.hints.contains_key(prover)).map(|prover| (*prover, None));
            let fresh = worker.hints.iter().filter(|(prover, request)| before.get(prover) != Some(request));
            for (prover, request) in gone.chain(fresh.map(|(prover, request)| (*prover, Some(*request)))) {
                effects.push(Effect::Hint { worker: *id, prover, request });
            }
        }
    }

    fn next_requests(&self) -> BTreeMap<WorkerId, BTreeMap<usize, RequestId>> {
        let mut next: BTreeMap<WorkerId, BTreeMap<usize, RequestId>> = BTreeMap::new();
        if self.queue.len() == 0 {
            return next;
        }
        let mut free = self.busy_provers();
        // Who is busy longest will most likely be free first.
        free.sort_by_key(|busy| (busy.since.is_none(), busy.since, busy.worker, busy.prover));
        let shares = self.shares();
        // Of each line those that are served next; among lines a guess, by urgency.
        let mut window: Vec<&QueuedRequest> = self
            .queue
            .lines(&shares)
            .flat_map(|(requirement, line)| {
                let next = line.take(free.iter().filter(|busy| can_prove(busy.profile, requirement)).count());
                next.map(|(_, request)| request)
            })
            .collect();
        window.sort_by_key(|request| request.rank());
        let near: HashMap<RequestId, Rank> = window.iter().map(|request| (request.id, request.rank())).collect();
        let told: HashMap<RequestId, (WorkerId, usize)> =
            free.iter().filter_map(|busy| Some((busy.told?, (busy.worker, busy.prover)))).collect();
        for request in window {
            let suits =
                |busy: &Busy<'_>| can_prove(busy.profile, &request.requirement) && self.may_take(request, busy.worker);
            let knows = |busy: &Busy<'_>| told.get(&request.id) == Some(&(busy.worker, busy.prover));
            let can_be_told = |busy: &Busy<'_>| busy.since.is_some() && suits(busy);
            let is_open = |busy: &Busy<'_>| busy.told.is_none_or(|told| !near.contains_key(&told));
            // Or else whoever was told of what comes last.
            let last = || {
                let suiting = free.iter().enumerate().filter(|(_, busy)| can_be_told(busy));
                suiting.max_by_key(|(_, busy)| busy.told.and_then(|told| near.get(&told))).map(|(place, _)| place)
            };
            let place =
                (told.contains_key(&request.id).then(|| free.iter().position(|busy| knows(busy) && suits(busy))))
                    .flatten()
                    .or_else(|| free.iter().position(|busy| is_open(busy) && can_be_told(busy)))
                    .or_else(last);
            if let Some(place) = place {
                let busy = free.remove(place);
                next.entry(busy.worker).or_default().insert(busy.prover, request.id);
            }
        }
        next
    }

    fn busy_provers(&self) -> Vec<Busy<'_>> {
        let available = self.workers.iter().filter(|(_, worker)| worker.is_available() && !worker.is_resting());
        let provers = available.flat_map(|(id, worker)| {
            worker.profile.provers.iter().enumerate().filter(|(index, _)| !worker.is_idle(*index)).map(
                |(index, profile)| {
                    let lease = worker.leases.values().find(|lease| lease.is_proving && lease.prover == index);
                    let told = worker.hints.get(&index).copied();
                    Busy { worker: *id, prover: index, profile, since: lease.map(|lease| lease.since), told }
                },
            )
        });
        provers.collect()
    }
}
