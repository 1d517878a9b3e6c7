//! Which waiting request goes to which idle prover next.

use std::collections::{BTreeSet, HashMap};

use network_lib::{RequestId, WorkerId};

use super::{
    Fleet,
    queue::{QueuedRequest, Shares, Turn},
    worker::can_prove,
};
use crate::{Moment, Timestamp};

/// The best pairing that is possible now.
pub(super) struct Match {
    pub(super) request: RequestId,
    pub(super) worker: WorkerId,
    pub(super) prover: usize,
}

/// The first request in serving order that an idle prover can take, and the prover that takes it.
///
/// Among idle workers one without faults goes first, then the one that has waited longest. A worker that failed at the
/// request gets it again only when no other worker is connected that could.
pub(super) fn next(fleet: &Fleet) -> Option<Match> {
    if fleet.queue.len() == 0 {
        return None;
    }
    let idle: Vec<_> = fleet
        .workers
        .iter()
        .flat_map(|(id, worker)| worker.idle_provers().map(move |slot| (id, worker, slot)))
        .collect();
    if idle.is_empty() {
        return None;
    }
    let shares = fleet.shares();
    let mut best: Option<(Turn, Match)> = None;
    for (requirement, line) in fleet.queue.lines(&shares) {
        let mut capable: Vec<_> = idle.iter().filter(|(_, _, slot)| slot.can_serve(requirement)).collect();
        if capable.is_empty() {
            continue;
        }
        capable.sort_by_key(|(id, worker, slot)| (worker.standing.faults(), worker.last_assigned, **id, slot.index));
        for (turn, request) in line {
            if best.as_ref().is_some_and(|(other, _)| *other < turn) {
                break;
            }
            if let Some((worker, _, slot)) = capable.iter().find(|(id, _, _)| fleet.may_take(request, **id)) {
                best = Some((turn, Match { request: request.id, worker: **worker, prover: slot.index }));
                break;
            }
        }
    }
    best.map(|(_, found)| found)
}

/// Requests whose deadline is near, that one attempt is at, and that a prover of another worker with nothing better to
/// do could try as well: each with that prover, most urgent first.
pub(super) fn stragglers(fleet: &Fleet, near: Timestamp) -> Vec<(QueuedRequest, WorkerId, usize)> {
    let mut attempts: HashMap<RequestId, usize> = HashMap::new();
    for work in fleet.workers.values().flat_map(super::Worker::in_work) {
        *attempts.entry(work.id).or_default() += 1;
    }
    let proving = fleet.workers.iter().flat_map(|(id, worker)| {
        worker.leases.values().filter(|lease| lease.is_proving).map(move |lease| (*id, &lease.work))
    });
    let mut late: Vec<_> =
        proving.filter(|(_, work)| work.deadline <= near && attempts.get(&work.id) == Some(&1)).collect();
    late.sort_by_key(|(_, work)| work.rank());
    let mut taken = BTreeSet::new();
    let mut found = Vec::new();
    for (holder, work) in late {
        let others = fleet
            .workers
            .iter()
            .filter(|(id, worker)| **id != holder && worker.standing.is_clean() && !work.failed_workers.contains(id));
        let slot = others
            .flat_map(|(id, worker)| worker.idle_provers().map(move |slot| (*id, slot)))
            .find(|(id, slot)| slot.can_serve(&work.requirement) && !taken.contains(&(*id, slot.index)));
        if let Some((worker, slot)) = slot {
            taken.insert((worker, slot.index));
            found.push((work.clone(), worker, slot.index));
        }
    }
    found
}

impl Fleet {
    /// Whether a worker may have the request: one that failed at it only when no other could serve it, and one that
    /// said that the program fails only when nobody else can say so.
    pub(super) fn may_take(&self, request: &QueuedRequest, worker: WorkerId) -> bool {
        let is_last = !request.failed_workers.contains(&worker) || !self.has_fresh_worker(request);
        is_last && !(request.doubted_by.contains(&worker) && self.can_another_tell(request))
    }

    /// Whether a worker other than those that said that the program fails could try it: now, when it is free again or
    /// has rested; or soon, since it is away for no longer than the grace period, or its provers are starting.
    fn can_another_tell(&self, request: &QueuedRequest) -> bool {
        let now = self.last_tick.map_or(Moment::default(), |tick| tick.moment);
        // After a stall of the coordinator's own, nobody is judged until everyone had time to be heard.
        let is_recent = |since: Moment| now < self.judge_from || now.since(since) <= self.settings.grace;
        self.workers.iter().filter(|(id, _)| !request.doubted_by.contains(id)).any(|(_, worker)| {
            let provers = &worker.profile.provers;
            let may_be_capable = provers.is_empty()
                || provers.iter().any(|prover| prover.modes.is_empty() || can_prove(prover, &request.requirement));
            let is_away = worker.session.is_none() && !worker.is_draining && is_recent(worker.last_heard);
            let is_starting = worker.is_available() && is_recent(worker.provers_since);
            worker.is_capable(&request.requirement) || (may_be_capable && (is_away || is_starting))
        })
    }

    /// Whether a connected worker that has not failed at the request could serve it, busy or not. One that rests for
    /// its own faults does not count: nobody waits for it.
    pub(super) fn has_fresh_worker(&self, request: &QueuedRequest) -> bool {
        self.workers.iter().any(|(id, worker)| {
            !request.failed_workers.contains(id) && !worker.is_resting() && worker.is_capable(&request.requirement)
        })
    }

    /// How many requests of each requester are in work.
    pub(super) fn shares(&self) -> Shares {
        let mut shares = Shares::new();
        for work in self.workers.values().flat_map(super::Worker::in_work) {
            *shares.entry(work.requester).or_default() += 1;
        }
        shares
    }
}
