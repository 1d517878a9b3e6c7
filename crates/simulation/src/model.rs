//! What is known of a run so far, kept apart from what the programs themselves know.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use hierophant_core::{Happening, Request};
use network_lib::{AttemptId, Digest, FaultClass, RequestId};

use crate::event::{Event, OrderIndex, WorkerIndex};

/// A request, as the store has it.
#[derive(Debug)]
pub(crate) struct Known {
    pub(crate) request: Arc<Request>,
    /// When it last changed.
    pub(crate) changed_at: Duration,
    /// How often a prover began at it.
    pub(crate) provings: u32,
    /// Attempts that failed, or were given up since contact really was lost.
    pub(crate) excused: u32,
}

/// A proof that a worker made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Made {
    pub(crate) digest: Digest,
    pub(crate) is_good: bool,
    /// Whether the worker's journal speaks of it.
    pub(crate) is_durable: bool,
}

/// A worker, as seen from outside.
#[derive(Debug, Default)]
pub(crate) struct Contact {
    /// When anything of it last reached the coordinator.
    last: Duration,
    /// The longest silence that ended lately, and when it did: decisions are written a little after they are made.
    ended: Option<(Duration, Duration)>,
    /// Whether it was ever welcomed.
    pub(crate) was_here: bool,
    /// What its journal holds.
    pub(crate) journal: BTreeSet<AttemptId>,
}

/// For how long a silence that has ended still explains what was decided in it.
const LATELY: Duration = Duration::from_secs(45);

impl Contact {
    /// Something of it reached the coordinator.
    pub(crate) fn touch(&mut self, now: Duration) {
        let silence = now.saturating_sub(self.last);
        self.last = now;
        let recent = self.ended.filter(|(_, at)| now.saturating_sub(*at) < LATELY);
        if recent.is_none_or(|(longest, _)| silence >= longest) {
            self.ended = Some((silence, now));
        }
    }

    /// The longest silence that may explain a decision of now.
    pub(crate) fn silence(&self, now: Duration) -> Duration {
        let recent = self.ended.filter(|(_, at)| now.saturating_sub(*at) < LATELY).map_or(Duration::ZERO, |(l, _)| l);
        recent.max(now.saturating_sub(self.last))
    }
}

/// Everything that is known.
#[derive(Debug, Default)]
pub(crate) struct Model {
    pub(crate) requests: BTreeMap<RequestId, Known>,
    /// The ids that each order was given, oldest first.
    pub(crate) orders: BTreeMap<OrderIndex, Vec<RequestId>>,
    /// What each attempt is for.
    pub(crate) attempts: BTreeMap<AttemptId, RequestId>,
    pub(crate) made: BTreeMap<(WorkerIndex, AttemptId), Made>,
    /// Requests whose program really failed, wherever it was executed honestly.
    pub(crate) bad_programs: BTreeSet<RequestId>,
    /// Requests of which one worker was asked twice whether the program fails, for want of another.
    pub(crate) self_confirmed: BTreeSet<RequestId>,
    /// Workers whose provers failed, made garbage, or lied. That a program fails is no failure of theirs.
    pub(crate) failing: BTreeSet<WorkerIndex>,
    /// Durable proofs at the coordinator.
    pub(crate) published: BTreeMap<AttemptId, Digest>,
    /// Proofs that clients fetched.
    pub(crate) downloaded: BTreeMap<RequestId, Digest>,
    /// Final states that clients were shown.
    pub(crate) seen: BTreeMap<RequestId, &'static str>,
    pub(crate) workers: Vec<Contact>,
    /// When the coordinator's machine last stood still.
    stalled_at: Option<Duration>,
    pub(crate) figures: crate::run::Figures,
}

impl Model {
    pub(crate) fn new(workers: usize) -> Self {
        Self { workers: (0..workers).map(|_| Contact::default()).collect(), ..Self::default() }
    }

    /// Whether a silence as long as this began before the coordinator's machine last stood still: to the coordinator
    /// it was longer then, by a time in which the worker could not reach it either.
    pub(crate) fn is_stalled(&self, silence: Duration, now: Duration) -> bool {
        self.stalled_at.is_some_and(|at| at + silence + LATELY >= now)
    }

    /// Takes note of an event that broke no promise.
    pub(crate) fn apply(&mut self, event: &Event, now: Duration, is_excused: bool) {
        let figures = &mut self.figures;
        figures.events += 1;
        match event {
            Event::CoordinatorCrashed { .. } => figures.restarts += 1,
            Event::WorkerCrashed(crashed) => {
                figures.worker_crashes += 1;
                // What was not written down is lost with it.
                self.made.retain(|(worker, _), made| worker != crashed || made.is_durable);
            }
            Event::Fault(_) => figures.faults += 1,
            Event::Stalled(_) => {
                figures.faults += 1;
                self.stalled_at = Some(now);
            }
            Event::Committed { before, after, happening } => {
                self.commit(before.is_none(), after, happening, is_excused, now);
            }
            Event::Published { attempt, digest } => {
                self.published.insert(*attempt, *digest);
            }
            Event::Acknowledged { order, id } => {
                let ids = self.orders.entry(*order).or_default();
                if ids.last() != Some(id) {
                    ids.push(*id);
                }
            }
            Event::Refused { .. } => figures.refused += 1,
            Event::Seen { id, request: Some(request) } if request.state.is_terminal() => {
                self.seen.insert(*id, request.state.name());
            }
            Event::Downloaded { id, digest: Some(digest) } => {
                self.downloaded.insert(*id, *digest);
            }
            Event::Journalled { worker, attempt, stage } => {
                if let Some(made) = self.made.get_mut(&(*worker, *attempt)).filter(|_| *stage == "proved") {
                    made.is_durable = true;
                }
                self.workers[*worker].journal.insert(*attempt);
            }
            // Declined: that it cannot get what it needs is the worker's own word.
            Event::Forgotten { worker, attempt } | Event::Said { worker, kind: "declined", attempt: Some(attempt) } => {
                self.workers[*worker].journal.remove(attempt);
            }
            Event::Proving { worker, attempt, request } => {
                figures.provings += 1;
                // Whatever was made before was lost in a crash before it was written down.
                self.made.remove(&(*worker, *attempt));
                if let Some(known) = self.requests.get_mut(request) {
                    known.provings += 1;
                }
            }
            Event::Proved { worker, attempt, digest, is_good } => {
                if !is_good {
                    self.failing.insert(*worker);
                }
                let made = Made { digest: *digest, is_good: *is_good, is_durable: false };
                self.made.insert((*worker, *attempt), made);
            }
            Event::ProofFailed { attempt, fault, is_lie: false, .. } if fault.class == FaultClass::Guest => {
                self.bad_programs.extend(self.attempts.get(attempt));
            }
            Event::ProofFailed { worker, is_lie, .. } => {
                figures.lies += u64::from(*is_lie);
                self.failing.insert(*worker);
            }
            Event::Told { worker, kind: "welcome", .. } => self.workers[*worker].was_here = true,
            Event::CoordinatorStarted { .. }
            | Event::WorkerStarted(_)
            | Event::Seen { .. }
            | Event::Downloaded { .. }
            | Event::Said { .. }
            | Event::Told { .. }
            | Event::Dismissed { .. }
            | Event::Healed => {}
        }
        self.figures.simulated = now;
    }

    fn commit(&mut self, is_new: bool, after: &Arc<Request>, happening: &Happening, is_excused: bool, now: Duration) {
        let figures = &mut self.figures;
        figures.requests += u64::from(is_new);
        figures.fulfilled += u64::from(matches!(happening, Happening::Fulfilled { .. }));
        if let Happening::Leased { attempt, .. } | Happening::Hedged { attempt, .. } = happening {
            self.attempts.insert(*attempt, after.id);
            if is_excused {
                self.self_confirmed.insert(after.id);
            }
        }
        let known = self.requests.entry(after.id).or_insert_with(|| Known {
            request: Arc::clone(after),
            changed_at: now,
            provings: 0,
            excused: 0,
        });
        if let Happening::AttemptEnded { outcome, .. } = happening
            && (is_excused || outcome.fault.class != FaultClass::Lost)
        {
            known.excused += 1;
        }
        known.request = Arc::clone(after);
        known.changed_at = now;
    }
}
