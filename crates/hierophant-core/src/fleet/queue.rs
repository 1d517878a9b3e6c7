//! The requests that wait for a worker, in the order in which they are served.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, HashMap, btree_map},
};

use network_lib::{CircuitVersion, ProofMode, RequestId, Vm, WorkerId};

use crate::{Priority, Request, Requester, Timestamp};

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

/// A request as far as the fleet needs to know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueuedRequest {
    /// The request.
    pub id: RequestId,
    /// Whose it is.
    pub requester: Requester,
    /// What a prover must be able to do.
    pub requirement: Requirement,
    /// Higher goes first.
    pub priority: Priority,
    /// Among equals the earliest goes first.
    pub deadline: Timestamp,
    /// Then the oldest.
    pub created_at: Timestamp,
    /// How often it has met with trouble: see [`Tries::troubles`](crate::Tries::troubles).
    pub troubles: u32,
    /// Workers that failed at it: they get it again only when no other could.
    pub failed_workers: Vec<WorkerId>,
    /// Those of them that said that the program itself fails: they get it again only when nobody else can say so.
    pub doubted_by: BTreeSet<WorkerId>,
}

impl From<&Request> for QueuedRequest {
    fn from(request: &Request) -> Self {
        let spec = &request.spec;
        Self {
            id: request.id,
            requester: spec.requester,
            requirement: Requirement { vm: spec.vm, circuit_version: spec.circuit_version.clone(), mode: spec.mode },
            priority: spec.priority,
            deadline: spec.deadline,
            created_at: request.created_at,
            troubles: request.tries.troubles(),
            failed_workers: request.tries.failed_workers.clone(),
            doubted_by: request.tries.guest.workers(),
        }
    }
}

/// Position among the requests of one requester: priority, then earliest deadline, then age; the id makes it total.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank(Reverse<Priority>, Timestamp, Timestamp, RequestId);

impl QueuedRequest {
    pub(super) fn rank(&self) -> Rank {
        Rank(Reverse(self.priority), self.deadline, self.created_at, self.id)
    }
}

/// Position among all requests: priority, then whoever has least in work, then [`Rank`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Turn(Reverse<Priority>, usize, Rank);

/// How far requests are counted for people. All others wait for the count, and of more it says nothing new.
pub(super) const MOST_COUNTED: usize = 1000;

/// How many requests of each requester are in work.
pub(super) type Shares = HashMap<Requester, usize>;

/// Requests that need the same, each requester's in an order of their own.
type Line = BTreeMap<Requester, BTreeMap<Rank, QueuedRequest>>;

/// The queue, split by what the requests need, so that many requests which nobody can serve cost nothing.
///
/// The lines have an order, so that the same events always have the same effects.
#[derive(Debug, Default)]
pub(super) struct Queue {
    lines: BTreeMap<Requirement, Line>,
    places: HashMap<RequestId, (Requirement, Requester, Rank)>,
}

impl Queue {
    /// Adds a request; one that waits already is replaced by what is known of it now.
    pub(super) fn insert(&mut self, request: QueuedRequest) {
        self.remove(request.id);
        let (rank, requester) = (request.rank(), request.requester);
        self.places.insert(request.id, (request.requirement.clone(), requester, rank));
        let line = self.lines.entry(request.requirement.clone()).or_default();
        line.entry(requester).or_default().insert(rank, request);
    }

    /// Takes a request out, if it waits.
    pub(super) fn remove(&mut self, id: RequestId) -> Option<QueuedRequest> {
        let (requirement, requester, rank) = self.places.remove(&id)?;
        let line = self.lines.get_mut(&requirement)?;
        let own = line.get_mut(&requester)?;
        let request = own.remove(&rank);
        if own.is_empty() {
            line.remove(&requester);
        }
        if line.is_empty() {
            self.lines.remove(&requirement);
        }
        request
    }

    pub(super) fn get(&self, id: RequestId) -> Option<&QueuedRequest> {
        let (requirement, requester, rank) = self.places.get(&id)?;
        self.lines.get(requirement)?.get(requester)?.get(rank)
    }

    /// How many requests of the same requirement are served before this one, which waits, if nothing changes: up to
    /// [`MOST_COUNTED`].
    pub(super) fn ahead_of(&self, id: RequestId, shares: &Shares) -> usize {
        let line = self.places.get(&id).and_then(|(requirement, ..)| self.lines.get(requirement));
        line.map_or(0, |line| {
            line.in_order(shares).take(MOST_COUNTED).take_while(|(_, request)| request.id != id).count()
        })
    }

    /// Whether the request is one of the next `count` of its requirement.
    pub(super) fn is_among_first(&self, id: RequestId, count: usize, shares: &Shares) -> bool {
        let Some((requirement, ..)) = self.places.get(&id) else { return false };
        let line = self.lines.get(requirement);
        line.is_some_and(|line| line.in_order(shares).take(count).any(|(_, request)| request.id == id))
    }

    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    /// What waiting requests need, and how many need it.
    pub(super) fn lengths(&self) -> impl Iterator<Item = (&Requirement, usize)> {
        self.lines.iter().map(|(requirement, line)| (requirement, line.values().map(BTreeMap::len).sum()))
    }

    /// One line per requirement, each in serving order.
    pub(super) fn lines<'a>(&'a self, shares: &'a Shares) -> impl Iterator<Item = (&'a Requirement, InOrder<'a>)> {
        self.lines.iter().map(|(requirement, line)| (requirement, line.in_order(shares)))
    }
}

trait Served {
    /// The requests in serving order: each that is taken counts as being in work for the next.
    fn in_order<'a>(&'a self, shares: &Shares) -> InOrder<'a>;
}

impl Served for Line {
    fn in_order<'a>(&'a self, shares: &Shares) -> InOrder<'a> {
        let mut order = InOrder { turns: BTreeSet::new(), rest: HashMap::new() };
        for (requester, own) in self {
            let in_work = shares.get(requester).copied().unwrap_or(0);
            order.rest.insert(*requester, (in_work, own.iter()));
            order.line_up(*requester);
        }
        order
    }
}

/// What each requester still has in a line, and how much of it is in work.
type Rest<'a> = (usize, btree_map::Iter<'a, Rank, QueuedRequest>);

/// A line in serving order.
pub(super) struct InOrder<'a> {
    turns: BTreeSet<(Turn, Requester)>,
    rest: HashMap<Requester, Rest<'a>>,
}

impl InOrder<'_> {
    /// Gives the requester's next request its turn.
    fn line_up(&mut self, requester: Requester) {
        if let Some((in_work, own)) = self.rest.get(&requester)
            && let Some((rank, _)) = own.clone().next()
        {
            self.turns.insert((Turn(rank.0, *in_work, *rank), requester));
        }
    }
}

impl<'a> Iterator for InOrder<'a> {
    type Item = (Turn, &'a QueuedRequest);

    fn next(&mut self) -> Option<Self::Item> {
        let (turn, requester) = self.turns.pop_first()?;
        let (in_work, own) = self.rest.get_mut(&requester)?;
        let (_, request) = own.next()?;
        *in_work += 1;
        self.line_up(requester);
        Some((turn, request))
    }
}
