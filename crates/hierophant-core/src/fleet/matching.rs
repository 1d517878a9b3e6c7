//! Which waiting request goes to which idle prover next.

use network_lib::{RequestId, WorkerId};

use super::{Fleet, queue::QueuedRequest};

/// The best pairing that is possible now.
pub(super) struct Match {
    pub(super) request: RequestId,
    pub(super) worker: WorkerId,
    pub(super) prover: usize,
}

/// The first request in serving order that an idle prover can take, and the prover that takes it.
///
/// Among idle workers the one that has waited longest goes first. A worker that failed at the request gets it again
/// only when no other worker is connected that could.
pub(super) fn next(fleet: &Fleet) -> Option<Match> {
    let idle: Vec<_> = fleet
        .workers
        .iter()
        .flat_map(|(id, worker)| worker.idle_provers().map(move |slot| (id, worker, slot)))
        .collect();
    if idle.is_empty() {
        return None;
    }
    let mut best: Option<(&QueuedRequest, Match)> = None;
    for (requirement, line) in fleet.queue.lines() {
        let mut capable: Vec<_> = idle.iter().filter(|(_, _, slot)| slot.can_serve(requirement)).collect();
        if capable.is_empty() {
            continue;
        }
        capable.sort_by_key(|(id, worker, slot)| (worker.last_assigned, **id, slot.index));
        for request in line {
            if best.as_ref().is_some_and(|(other, _)| other.rank() < request.rank()) {
                break;
            }
            if let Some((worker, _, slot)) = capable.iter().find(|(id, _, _)| fleet.may_take(request, **id)) {
                best = Some((request, Match { request: request.id, worker: **worker, prover: slot.index }));
                break;
            }
        }
    }
    best.map(|(_, found)| found)
}

impl Fleet {
    /// Whether a worker may have the request: one that failed at it only when no other could serve it.
    pub(super) fn may_take(&self, request: &QueuedRequest, worker: WorkerId) -> bool {
        !request.failed_workers.contains(&worker) || !self.has_fresh_worker(request)
    }

    /// Whether a connected worker that has not failed at the request could serve it, busy or not.
    fn has_fresh_worker(&self, request: &QueuedRequest) -> bool {
        self.workers
            .iter()
            .any(|(id, worker)| !request.failed_workers.contains(id) && worker.is_capable(&request.requirement))
    }
}
