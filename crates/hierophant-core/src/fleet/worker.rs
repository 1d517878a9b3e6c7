//! A worker as the coordinator sees it now: its session, its provers, what it holds.

use std::{collections::BTreeMap, time::Duration};

use network_lib::{AttemptId, ProverProfile, RequestId, WorkerProfile, protocol::Progress};

use super::{
    queue::{QueuedRequest, Requirement},
    standing::Standing,
};
use crate::Moment;

/// One connection of a worker. A worker's newest session is the one that counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u64);

/// The right of a worker to an attempt. It lasts while the worker is heard of, and for a grace period after.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// What it is for.
    pub work: QueuedRequest,
    /// The prover that works on it.
    pub prover: usize,
    /// Since when.
    pub since: Moment,
    /// Whether the prover is still busy with it; not so once the proof lies on the worker's disk.
    pub is_proving: bool,
    /// The last that was heard of it.
    pub progress: Option<Progress>,
    /// Whether the worker has it.
    pub claim: Claim,
}

/// Whether a worker has what it was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim {
    /// It said so, or has spoken of it.
    Acknowledged,
    /// It was told, and has not answered.
    Told {
        /// When it was told last.
        at: Moment,
        /// Whether that was not the first time.
        again: bool,
    },
}

/// A worker as the coordinator sees it now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Worker {
    /// What it said of itself.
    pub profile: WorkerProfile,
    /// Its connection, if it has one.
    pub session: Option<SessionId>,
    /// When its first session since the coordinator started began.
    pub joined_at: Moment,
    /// Since when its provers are as they are.
    pub(super) provers_since: Moment,
    /// When anything was last heard of it.
    pub last_heard: Moment,
    /// Whether it takes no more attempts.
    pub is_draining: bool,
    /// What it holds.
    pub leases: BTreeMap<AttemptId, Lease>,
    /// What is held against it.
    pub standing: Standing,
    /// Until when it is given nothing, for its faults.
    pub rests_until: Option<Moment>,
    /// Requests that its provers were promised, whose leases are being written.
    pub(super) claims: BTreeMap<usize, QueuedRequest>,
    /// What it was told that its busy provers will most likely be given next.
    pub(super) hints: BTreeMap<usize, RequestId>,
    /// When it was last given something: idle workers take turns.
    pub(super) last_assigned: Moment,
}

impl ProverSlot<'_> {
    pub(super) fn can_serve(&self, requirement: &Requirement) -> bool {
        can_prove(self.profile, requirement)
    }
}

/// Whether a prover makes proofs of this kind.
pub(super) fn can_prove(profile: &ProverProfile, requirement: &Requirement) -> bool {
    profile.vm == requirement.vm
        && profile.circuit_version == requirement.circuit_version
        && profile.modes.contains(&requirement.mode)
}

/// A prover that could begin now.
pub(super) struct ProverSlot<'a> {
    pub(super) index: usize,
    profile: &'a ProverProfile,
}

impl Worker {
    pub(super) fn new(profile: WorkerProfile, standing: Standing, now: Moment) -> Self {
        Self {
            profile,
            session: None,
            joined_at: now,
            provers_since: now,
            last_heard: now,
            is_draining: false,
            leases: BTreeMap::new(),
            standing,
            rests_until: None,
            claims: BTreeMap::new(),
            hints: BTreeMap::new(),
            last_assigned: Moment::default(),
        }
    }

    /// Nobody could hear it for so long until `now`: that counts neither as its silence nor against its claims.
    pub(super) fn excuse(&mut self, time: Duration, now: Moment) {
        let excused = |moment: Moment| moment.plus(time).min(now);
        self.last_heard = excused(self.last_heard);
        for lease in self.leases.values_mut() {
            if let Claim::Told { at, .. } = &mut lease.claim {
                *at = excused(*at);
            }
        }
    }

    /// Its provers are these from now on.
    pub(super) fn set_provers(&mut self, provers: Vec<ProverProfile>, now: Moment) {
        if self.profile.provers != provers {
            self.provers_since = now;
            self.profile.provers = provers;
        }
    }

    /// Whether it is connected and takes attempts.
    pub fn is_available(&self) -> bool {
        self.session.is_some() && !self.is_draining
    }

    /// Whether it is given nothing now, for its faults.
    pub const fn is_resting(&self) -> bool {
        self.rests_until.is_some()
    }

    /// Whether it could serve the requirement, now or when its provers are free again.
    pub(super) fn is_capable(&self, requirement: &Requirement) -> bool {
        self.is_available() && self.profile.provers.iter().any(|prover| can_prove(prover, requirement))
    }

    /// The provers that could begin now. While faults are held against it, a worker gets one attempt at a time.
    pub(super) fn idle_provers(&self) -> impl Iterator<Item = ProverSlot<'_>> {
        let is_busy = !self.claims.is_empty() || self.leases.values().any(|lease| lease.is_proving);
        let is_trusted = self.standing.is_clean() || !is_busy;
        let takes = self.is_available() && !self.is_resting() && is_trusted;
        let provers = if takes { self.profile.provers.as_slice() } else { &[] };
        provers
            .iter()
            .enumerate()
            .filter(|(index, _)| self.is_idle(*index))
            .map(|(index, profile)| ProverSlot { index, profile })
    }

    pub(super) fn is_idle(&self, prover: usize) -> bool {
        !self.claims.contains_key(&prover)
            && !self.leases.values().any(|lease| lease.is_proving && lease.prover == prover)
    }

    /// What it holds and what it is about to be given.
    pub(super) fn in_work(&self) -> impl Iterator<Item = &QueuedRequest> {
        self.claims.values().chain(self.leases.values().map(|lease| &lease.work))
    }
}
