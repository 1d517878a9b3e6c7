//! The requests that wait for a worker, in the order in which they are served.

use std::collections::{BTreeMap, HashMap};

use network_lib::{CircuitVersion, ProofMode, RequestId, Vm, WorkerId};

use crate::{Priority, Request, Timestamp};

/// What a prover must be able to do.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Requirement {
    /// The virtual machine.
    pub vm: Vm,
    /// The circuit.
    pub circuit_version: CircuitVersion,
    /// The form of the proof.
    pub mode: ProofMode,
}

/// A request that waits, as far as matching needs to know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueuedRequest {
    /// The request.
    pub id: RequestId,
    /// What a prover must be able to do.
    pub requirement: Requirement,
    /// Higher goes first.
    pub priority: Priority,
    /// Among equals the earliest goes first.
    pub deadline: Timestamp,
    /// Then the oldest.
    pub created_at: Timestamp,
    /// Workers that failed at it: they get it again only when no other could.
    pub failed_workers: Vec<WorkerId>,
}

impl From<&Request> for QueuedRequest {
    fn from(request: &Request) -> Self {
        let spec = &request.spec;
        Self {
            id: request.id,
            requirement: Requirement { vm: spec.vm, circuit_version: spec.circuit_version.clone(), mode: spec.mode },
            priority: spec.priority,
            deadline: spec.deadline,
            created_at: request.created_at,
            failed_workers: request.tries.failed_workers.clone(),
        }
    }
}

/// Position in the queue: priority, then earliest deadline, then age; the id makes it total.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank(std::cmp::Reverse<Priority>, Timestamp, Timestamp, RequestId);

impl QueuedRequest {
    pub(super) fn rank(&self) -> Rank {
        Rank(std::cmp::Reverse(self.priority), self.deadline, self.created_at, self.id)
    }
}

/// The queue, split by what the requests need, so that many requests which nobody can serve cost nothing.
///
/// The lines have an order, so that the same events always have the same effects.
#[derive(Debug, Default)]
pub(super) struct Queue {
    lines: BTreeMap<Requirement, BTreeMap<Rank, QueuedRequest>>,
    places: HashMap<RequestId, (Requirement, Rank)>,
}

impl Queue {
    /// Adds a request; one that waits already is replaced by what is known of it now.
    pub(super) fn insert(&mut self, request: QueuedRequest) {
        self.remove(request.id);
        let rank = request.rank();
        self.places.insert(request.id, (request.requirement.clone(), rank));
        self.lines.entry(request.requirement.clone()).or_default().insert(rank, request);
    }

    /// Takes a request out, if it waits.
    pub(super) fn remove(&mut self, id: RequestId) -> Option<QueuedRequest> {
        let (requirement, rank) = self.places.remove(&id)?;
        let line = self.lines.get_mut(&requirement)?;
        let request = line.remove(&rank);
        if line.is_empty() {
            self.lines.remove(&requirement);
        }
        request
    }

    pub(super) fn get(&self, id: RequestId) -> Option<&QueuedRequest> {
        let (requirement, rank) = self.places.get(&id)?;
        self.lines.get(requirement)?.get(rank)
    }

    /// How many requests of the same requirement stand before this one.
    pub(super) fn position(&self, id: RequestId) -> Option<usize> {
        let (requirement, rank) = self.places.get(&id)?;
        Some(self.lines.get(requirement)?.range(..rank).count())
    }

    /// Whether the request is one of the first `count` of its requirement.
    pub(super) fn is_among_first(&self, id: RequestId, count: usize) -> bool {
        let Some((requirement, rank)) = self.places.get(&id) else { return false };
        self.lines.get(requirement).is_some_and(|line| line.keys().take(count).any(|other| other == rank))
    }

    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    /// What waiting requests need, and how many need it.
    pub(super) fn lengths(&self) -> impl Iterator<Item = (&Requirement, usize)> {
        self.lines.iter().map(|(requirement, line)| (requirement, line.len()))
    }

    /// One line per requirement, each in serving order.
    pub(super) fn lines(&self) -> impl Iterator<Item = (&Requirement, impl Iterator<Item = &QueuedRequest>)> {
        self.lines.iter().map(|(requirement, line)| (requirement, line.values()))
    }
}
