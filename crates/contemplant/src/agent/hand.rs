//! The attempts in hand, and what is to be done and said about them. Pure: no I/O, and time comes in.
//!
//! ```text
//! Resting ─Welcome─► Fetching ─► Waiting ─► Proving ─► Proved ─Stored, Rejected─► forgotten
//!    (after a restart)    └──────────┴──────────┴────► Failed ─Stored───────────► forgotten
//! ```
//! `Cancel` and `Stored` forget an attempt in any state. What is to be said is kept per attempt as a set of facts
//! ([`Due`]) and not as a queue: it is bounded by the attempts, and a repeat takes no room.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use network_lib::{
    AttemptId, Backend, CircuitVersion, Digest, Fault, FaultClass, ProverProfile,
    protocol::{self, Assignment, Execution, InHand, Progress, Report},
};
use proving::ProverReport;
use tokio::time::Instant;

use crate::{
    artifacts::readable,
    journal::{Record, Stage},
};

/// Attempts that are held at most. The protocol lets a `Hello` list 1024; this leaves room.
const MAX_ATTEMPTS: usize = 512;
/// Attempts that may wait for one prover: the next one, fetched while the current one runs, and one more that
/// overlaps with the cancelling of another.
const MAX_WAITING: usize = 4;
/// Refusals that wait to be told; without a session there is nobody who could assign more.
const MAX_DECLINED: usize = 64;
/// Times in a row that a prover is not available after which attempts for it are given back. Once is the end of a child
/// that was up, as with a cancelled attempt, and once something may happen to the next one while it starts; a start that
/// only takes long is none. A third time says that it does not come up.
const MAX_SETBACKS: u32 = 3;
/// Characters that are told of why a prover does not come up: with the name of its device they are what the protocol
/// takes. The log has them all.
const MAX_WHY: usize = 160;
/// Progress is told at most this often per attempt.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(500);

/// What happened.
#[derive(Debug)]
pub enum Event {
    /// The coordinator has taken this worker in.
    Welcomed,
    /// The coordinator asks for an attempt.
    Assigned(Box<Assignment>),
    /// The coordinator has no more use for an attempt, for this reason.
    Dismissed { attempt: AttemptId, reason: String },
    /// The coordinator asks for the proof of an attempt.
    DeliveryAsked { attempt: AttemptId, url: String },
    /// Program and input are on disk, or cannot be had.
    Fetched { attempt: AttemptId, outcome: Result<(), Fault> },
    /// The proof was uploaded, or the address is of no use.
    Uploaded { attempt: AttemptId, is_done: bool },
    /// The proof on this disk is not the one that was announced any more.
    Damaged { attempt: AttemptId },
    /// A prover says something.
    Prover { prover: usize, report: ProverReport },
    /// A prover did not take the order of this attempt. `readiness` is that of the order.
    NotTaken { prover: usize, attempt: AttemptId, readiness: u64, fault: Option<Fault> },
    /// A prover has nothing of this attempt running any more.
    Stopped { prover: usize, attempt: AttemptId },
    /// The journal could not be written when the attempt came.
    Unwritten { attempt: AttemptId, cause: String },
    /// Whether the disk has room for another attempt.
    Room(bool),
    /// Take no more attempts.
    Drain,
}

/// What is to be done, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Write this to the journal.
    Write(Box<Record>),
    /// Forget the attempt and its files.
    Forget(AttemptId),
    /// Get program and input; replaces a fetch of the same attempt.
    Fetch(Box<Assignment>),
    /// Stop fetching or uploading.
    StopTransfer(AttemptId),
    /// Give the attempt to its prover.
    Prove { assignment: Box<Assignment>, readiness: u64 },
    /// Make the prover stop the attempt.
    StopProof { prover: usize, attempt: AttemptId },
    /// Upload the proof; replaces an upload of the same attempt.
    Upload { attempt: AttemptId, url: String, digest: Digest, size: u64 },
}

impl Effect {
    pub fn attempt(&self) -> AttemptId {
        match self {
            Self::Write(record) => record.attempt(),
            Self::Fetch(assignment) | Self::Prove { assignment, .. } => assignment.attempt,
            Self::Forget(attempt)
            | Self::StopTransfer(attempt)
            | Self::StopProof { attempt, .. }
            | Self::Upload { attempt, .. } => *attempt,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Phase {
    /// In the journal from before a restart, until the coordinator has had its say.
    Resting,
    /// Program and input are being downloaded.
    Fetching,
    /// All is there, and the prover is busy or not ready.
    Waiting,
    /// The prover has it.
    Proving,
    /// The proof is on disk.
    Proved { digest: Digest, size: u64, delivery: Delivery },
    /// The coordinator is yet to say that it knows.
    Failed(Fault),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Delivery {
    /// Nobody asked for the proof yet, or the address that was given is of no use.
    None,
    /// The proof is on its way to this address.
    Uploading(String),
    /// The proof arrived there, and no answer came yet.
    Uploaded,
}

/// What is to be said of an attempt.
#[expect(clippy::struct_excessive_bools, reason = "a set of facts, each due or not")]
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Due {
    accepted: bool,
    progress: Option<Progress>,
    executed: bool,
    proved: bool,
    delivered: bool,
    failed: bool,
}

#[derive(Debug, Clone)]
struct Attempt {
    record: Record,
    phase: Phase,
    due: Due,
    progress_not_before: Option<Instant>,
}

/// One prover.
#[derive(Debug)]
struct Slot {
    /// What is said of it while it is not ready, and then why: its place in the list, and no proof mode.
    placeholder: ProverProfile,
    /// What it says of itself, while it is ready.
    ready: Option<ProverProfile>,
    /// Counts the times that it became ready.
    readiness: u64,
    /// Counts the times that it was not available since it was last ready.
    setbacks: u32,
    /// Why it was not, the last time.
    cause: String,
    /// Why it does not come up, as people are told. It stays as it was first put until the prover is ready, since the
    /// coordinator takes every change for a start of which something may come.
    given_up: Option<String>,
    /// The attempt that it works on, or is stopping.
    occupant: Option<AttemptId>,
    waiting: VecDeque<AttemptId>,
}

/// The attempts in hand.
#[derive(Debug)]
pub struct Hand {
    attempts: BTreeMap<AttemptId, Attempt>,
    slots: Vec<Slot>,
    /// Attempts that were never taken in, and why.
    declined: VecDeque<(AttemptId, String)>,
    /// Whether the disk has no room for another attempt.
    is_full: bool,
    is_draining: bool,
    is_draining_due: bool,
    /// The provers as the coordinator knows them.
    told_provers: Vec<ProverProfile>,
}

impl Hand {
    /// What a journal holds, and provers that are not ready yet. `placeholders` describe them until they are.
    pub fn new(records: Vec<Record>, placeholders: Vec<ProverProfile>) -> Self {
        let slots = placeholders.into_iter().map(|placeholder| Slot {
            placeholder,
            ready: None,
            readiness: 0,
            setbacks: 0,
            cause: String::new(),
            given_up: None,
            occupant: None,
            waiting: VecDeque::new(),
        });
        let attempts = records.into_iter().map(|record| {
            let phase = match &record.stage {
                Stage::Received | Stage::Proving => Phase::Resting,
                Stage::Proved { digest, size } => {
                    Phase::Proved { digest: *digest, size: *size, delivery: Delivery::None }
                }
                Stage::Failed(fault) => Phase::Failed(fault.clone()),
            };
            (record.attempt(), Attempt { record, phase, due: Due::default(), progress_not_before: None })
        });
        Self {
            attempts: attempts.collect(),
            slots: slots.collect(),
            declined: VecDeque::new(),
            is_full: false,
            is_draining: false,
            is_draining_due: false,
            told_provers: Vec::new(),
        }
    }

    /// Whether some prover only plays at proving.
    pub fn has_mock_prover(&self) -> bool {
        self.slots.iter().any(|slot| slot.placeholder.backend == Backend::Mock)
    }

    /// Whether nothing is in hand.
    pub fn is_empty(&self) -> bool {
        self.attempts.is_empty()
    }

    /// The provers in the order of their indices. One that is not ready has no proof modes, so that nothing is
    /// assigned to it, and keeps its place, so that the indices stay what they are. While the disk is full none is ready.
    pub fn provers(&self) -> Vec<ProverProfile> {
        let told = |slot: &Slot| match &slot.ready {
            Some(profile) if !self.is_full => profile.clone(),
            Some(_) | None => slot.absent(),
        };
        self.slots.iter().map(told).collect()
    }

    /// What a `Hello` says of the attempts. From here on the coordinator knows the provers.
    pub fn open_session(&mut self) -> (Vec<ProverProfile>, Vec<InHand>) {
        self.told_provers = self.provers();
        self.declined.clear();
        let in_hand = self.attempts.values().map(|attempt| InHand {
            attempt: attempt.record.attempt(),
            request: attempt.record.assignment.request,
            prover: attempt.record.assignment.prover,
            stage: match attempt.phase {
                Phase::Proved { .. } => protocol::Stage::Proved,
                Phase::Failed(_) => protocol::Stage::Failed,
                Phase::Resting | Phase::Fetching | Phase::Waiting | Phase::Proving => protocol::Stage::Working,
            },
        });
        (self.told_provers.clone(), in_hand.collect())
    }

    /// Takes in what happened, and says what is to be done about it.
    pub fn apply(&mut self, event: Event) -> Vec<Effect> {
        match event {
            Event::Welcomed => self.welcomed(),
            Event::Assigned(assignment) => self.assigned(*assignment),
            Event::Dismissed { attempt, reason } => self.dismissed(attempt, &reason),
            Event::DeliveryAsked { attempt, url } => self.delivery_asked(attempt, url),
            Event::Fetched { attempt, outcome } => self.fetched(attempt, outcome),
            Event::Uploaded { attempt, is_done } => self.uploaded(attempt, is_done),
            Event::Damaged { attempt } => self.damaged(attempt),
            Event::Prover { prover, report } => self.prover_said(prover, report),
            Event::NotTaken { prover, attempt, readiness, fault } => self.not_taken(prover, attempt, readiness, fault),
            Event::Stopped { prover, attempt } => {
                self.vacate(prover, attempt);
                self.start_next(prover)
            }
            Event::Unwritten { attempt, cause } => {
                self.fail(attempt, Fault::resources(format!("the worker cannot write its journal: {cause}")))
            }
            Event::Room(has_room) => {
                self.is_full = !has_room;
                Vec::new()
            }
            Event::Drain => {
                self.is_draining = true;
                self.is_draining_due = true;
                Vec::new()
            }
        }
    }

    fn welcomed(&mut self) -> Vec<Effect> {
        self.is_draining_due = self.is_draining;
        let mut effects = Vec::new();
        for attempt in self.attempts.values_mut() {
            attempt.due.executed = attempt.record.execution.is_some();
            match &attempt.phase {
                Phase::Resting => {
                    attempt.phase = Phase::Fetching;
                    effects.push(Effect::Fetch(Box::new(attempt.record.assignment.clone())));
                }
                Phase::Proved { .. } => attempt.due.proved = true,
                Phase::Failed(_) => attempt.due.failed = true,
                Phase::Fetching | Phase::Waiting | Phase::Proving => {}
            }
        }
        effects
    }

    fn assigned(&mut self, assignment: Assignment) -> Vec<Effect> {
        let id = assignment.attempt;
        if let Some(attempt) = self.attempts.get_mut(&id) {
            attempt.due.accepted = true;
            attempt.due.executed = attempt.record.execution.is_some();
            attempt.due.proved = matches!(attempt.phase, Phase::Proved { .. });
            attempt.due.failed = matches!(attempt.phase, Phase::Failed(_));
            let known = &mut attempt.record.assignment;
            let is_fresh = known.program != assignment.program || known.stdin != assignment.stdin;
            if is_fresh && matches!(attempt.phase, Phase::Resting | Phase::Fetching) {
                known.program = assignment.program;
                known.stdin = assignment.stdin;
                attempt.phase = Phase::Fetching;
                let fetch = Effect::Fetch(Box::new(known.clone()));
                return vec![Effect::Write(Box::new(attempt.record.clone())), fetch];
            }
            return Vec::new();
        }
        if let Err(cause) = self.admit(&assignment) {
            tracing::warn!(attempt.id = %id, request.id = %assignment.request, "Declined an attempt: {cause}");
            if self.declined.len() == MAX_DECLINED {
                self.declined.pop_front();
            }
            self.declined.push_back((id, cause));
            return Vec::new();
        }
        tracing::info!(
            attempt.id = %id, request.id = %assignment.request, prover = assignment.prover, mode = %assignment.mode,
            "Took in an attempt"
        );
        let record = Record { assignment: assignment.clone(), stage: Stage::Received, execution: None };
        let attempt = Attempt {
            record: record.clone(),
            phase: Phase::Fetching,
            due: Due { accepted: true, ..Due::default() },
            progress_not_before: None,
        };
        self.attempts.insert(id, attempt);
        vec![Effect::Write(Box::new(record)), Effect::Fetch(Box::new(assignment))]
    }

    /// # Errors
    /// Why the attempt is declined.
    fn admit(&self, assignment: &Assignment) -> Result<(), String> {
        if self.is_draining {
            return Err("the worker is stopping and takes no more attempts".to_owned());
        }
        if self.is_full {
            return Err("the worker's disk has no room for another attempt".to_owned());
        }
        if self.attempts.len() >= MAX_ATTEMPTS {
            return Err(format!("the worker holds {MAX_ATTEMPTS} attempts already"));
        }
        let index = assignment.prover;
        if index >= self.slots.len() {
            let count = self.slots.len();
            return Err(format!("the worker has {count} provers and none with index {index}"));
        }
        let waiting = self.attempts.values().filter(|attempt| {
            attempt.record.assignment.prover == index
                && matches!(attempt.phase, Phase::Resting | Phase::Fetching | Phase::Waiting)
        });
        if waiting.count() >= MAX_WAITING {
            return Err(format!("{MAX_WAITING} attempts wait for prover {index} already"));
        }
        Ok(())
    }

    fn dismissed(&mut self, id: AttemptId, reason: &str) -> Vec<Effect> {
        self.declined.retain(|(declined, _)| *declined != id);
        let Some(attempt) = self.attempts.remove(&id) else { return Vec::new() };
        let request = attempt.record.assignment.request;
        tracing::info!(attempt.id = %id, request.id = %request, "Forgetting an attempt: {reason}");
        let prover = attempt.record.assignment.prover;
        let mut effects = Vec::new();
        match attempt.phase {
            Phase::Fetching | Phase::Proved { delivery: Delivery::Uploading(_), .. } => {
                effects.push(Effect::StopTransfer(id));
            }
            Phase::Waiting => self.leave_queue(prover, id),
            // The prover stays occupied until it says that nothing of the attempt is running.
            Phase::Proving => effects.push(Effect::StopProof { prover, attempt: id }),
            Phase::Resting | Phase::Proved { .. } | Phase::Failed(_) => {}
        }
        effects.push(Effect::Forget(id));
        effects
    }

    fn delivery_asked(&mut self, id: AttemptId, url: String) -> Vec<Effect> {
        let Some(attempt) = self.attempts.get_mut(&id) else {
            tracing::warn!(attempt.id = %id, "The coordinator asks for the proof of an attempt that is not in hand");
            return Vec::new();
        };
        let Phase::Proved { digest, size, delivery } = &mut attempt.phase else {
            tracing::warn!(attempt.id = %id, "The coordinator asks for a proof that is not made yet");
            return Vec::new();
        };
        if *delivery == Delivery::Uploading(url.clone()) {
            return Vec::new();
        }
        *delivery = Delivery::Uploading(url.clone());
        attempt.due.delivered = false;
        vec![Effect::Upload { attempt: id, url, digest: *digest, size: *size }]
    }

    fn fetched(&mut self, id: AttemptId, outcome: Result<(), Fault>) -> Vec<Effect> {
        let Some(attempt) = self.attempts.get_mut(&id).filter(|attempt| attempt.phase == Phase::Fetching) else {
            return Vec::new();
        };
        if let Err(fault) = outcome {
            return self.fail(id, fault);
        }
        let prover = attempt.record.assignment.prover;
        let Some(slot) = self.slots.get_mut(prover) else {
            return self.fail(id, Fault::worker(format!("the worker has no prover {prover} any more")));
        };
        attempt.phase = Phase::Waiting;
        slot.waiting.push_back(id);
        self.start_next(prover)
    }

    fn uploaded(&mut self, id: AttemptId, is_done: bool) -> Vec<Effect> {
        if let Some(attempt) = self.attempts.get_mut(&id)
            && let Phase::Proved { delivery, .. } = &mut attempt.phase
            && matches!(delivery, Delivery::Uploading(_))
        {
            if is_done {
                *delivery = Delivery::Uploaded;
                attempt.due.delivered = true;
            } else {
                // Offered again, it will be asked for at a fresh address.
                *delivery = Delivery::None;
                attempt.due.proved = true;
            }
        }
        Vec::new()
    }

    /// Another try makes the proof again, here or elsewhere.
    fn damaged(&mut self, id: AttemptId) -> Vec<Effect> {
        if !self.attempts.get(&id).is_some_and(|attempt| matches!(attempt.phase, Phase::Proved { .. })) {
            return Vec::new();
        }
        self.fail(id, Fault::worker("the proof was damaged on the worker's disk before it was delivered"))
    }

    fn prover_said(&mut self, prover: usize, report: ProverReport) -> Vec<Effect> {
        let Some(slot) = self.slots.get_mut(prover) else { return Vec::new() };
        match report {
            ProverReport::Ready(profile) => {
                tracing::info!(prover, device = %profile.device, circuit = %profile.circuit_version, "A prover is ready");
                slot.ready = Some(profile);
                slot.readiness += 1;
                slot.setbacks = 0;
                slot.given_up = None;
                self.start_next(prover)
            }
            ProverReport::Unavailable { cause } => {
                slot.ready = None;
                slot.setbacks += 1;
                if slot.setbacks == MAX_SETBACKS {
                    let what = "A prover does not come up, and attempts for it are given back until it does";
                    tracing::error!(prover, "{what}; contemplant doctor may know more: {cause}");
                    let why: String = readable(cause.as_bytes()).chars().take(MAX_WHY).collect();
                    slot.given_up = Some(format!("not available: {why}"));
                } else {
                    tracing::warn!(prover, "A prover is not available: {cause}");
                }
                slot.cause = cause;
                self.start_next(prover)
            }
            ProverReport::Progress { attempt, progress } => {
                if let Some(attempt) = self.proving(prover, attempt) {
                    attempt.due.progress = Some(Progress {
                        phase: progress.phase.name().to_owned(),
                        done: progress.done,
                        total: progress.total,
                        is_estimate: progress.is_estimate,
                    });
                }
                Vec::new()
            }
            ProverReport::Executed { attempt, execution } => {
                if let Some(attempt) = self.proving(prover, attempt) {
                    attempt.record.execution = Some(Execution {
                        cycles: execution.cycles,
                        gas: execution.gas,
                        public_values_hash: Digest::new(execution.public_values_hash),
                    });
                    attempt.due.executed = true;
                }
                Vec::new()
            }
            ProverReport::Proved { attempt: id, digest, size } => {
                let Some(attempt) = self.proving(prover, id) else { return Vec::new() };
                let request = attempt.record.assignment.request;
                tracing::info!(attempt.id = %id, request.id = %request, size, "Proved an attempt");
                attempt.record.stage = Stage::Proved { digest, size };
                attempt.phase = Phase::Proved { digest, size, delivery: Delivery::None };
                attempt.due.proved = true;
                attempt.due.progress = None;
                let mut effects = vec![Effect::Write(Box::new(attempt.record.clone()))];
                self.vacate(prover, id);
                effects.extend(self.start_next(prover));
                effects
            }
            ProverReport::Failed { attempt: id, fault } => {
                if self.proving(prover, id).is_none() {
                    return Vec::new();
                }
                let mut effects = self.fail(id, fault);
                effects.extend(self.start_next(prover));
                effects
            }
        }
    }

    fn not_taken(&mut self, prover: usize, id: AttemptId, readiness: u64, fault: Option<Fault>) -> Vec<Effect> {
        if self.proving(prover, id).is_some() {
            if let Some(fault) = fault {
                let mut effects = self.fail(id, fault);
                effects.extend(self.start_next(prover));
                return effects;
            }
            // The child went down just before the order came; the attempt is the next one when it is up again.
            if let Some(attempt) = self.attempts.get_mut(&id) {
                attempt.phase = Phase::Waiting;
            }
            if let Some(slot) = self.slots.get_mut(prover) {
                slot.waiting.push_front(id);
                if slot.readiness == readiness {
                    slot.ready = None;
                }
            }
        }
        self.vacate(prover, id);
        self.start_next(prover)
    }

    /// The attempt with this id, if it is the one that `prover` works on.
    fn proving(&mut self, prover: usize, id: AttemptId) -> Option<&mut Attempt> {
        let attempt = self.attempts.get_mut(&id)?;
        (attempt.phase == Phase::Proving && attempt.record.assignment.prover == prover).then_some(attempt)
    }

    fn vacate(&mut self, prover: usize, id: AttemptId) {
        if let Some(slot) = self.slots.get_mut(prover) {
            slot.occupant.take_if(|occupant| *occupant == id);
        }
    }

    fn leave_queue(&mut self, prover: usize, id: AttemptId) {
        if let Some(slot) = self.slots.get_mut(prover) {
            slot.waiting.retain(|waiting| *waiting != id);
        }
    }

    fn fail(&mut self, id: AttemptId, fault: Fault) -> Vec<Effect> {
        let Some(attempt) = self.attempts.get_mut(&id) else { return Vec::new() };
        let request = attempt.record.assignment.request;
        tracing::warn!(attempt.id = %id, request.id = %request, "An attempt failed: {fault}");
        let prover = attempt.record.assignment.prover;
        let is_fetching = attempt.phase == Phase::Fetching;
        attempt.phase = Phase::Failed(fault.clone());
        attempt.record.stage = Stage::Failed(fault);
        attempt.due = Due { executed: attempt.due.executed, failed: true, ..Due::default() };
        let record = attempt.record.clone();
        self.vacate(prover, id);
        self.leave_queue(prover, id);
        let stop = is_fetching.then_some(Effect::StopTransfer(id));
        stop.into_iter().chain([Effect::Write(Box::new(record))]).collect()
    }

    /// Gives the prover its next attempt, if it is ready and free. Those of one that does not come up fail: the
    /// coordinator gives them to others.
    fn start_next(&mut self, prover: usize) -> Vec<Effect> {
        let mut effects = Vec::new();
        loop {
            let Some(slot) = self.slots.get_mut(prover) else { return effects };
            if slot.given_up.is_some() {
                let Some(id) = slot.waiting.pop_front() else { return effects };
                let fault = Fault::worker(format!("prover {prover} does not come up: {}", slot.cause));
                effects.extend(self.fail(id, fault));
                continue;
            }
            let (Some(profile), None) = (&slot.ready, slot.occupant) else { return effects };
            let Some(id) = slot.waiting.pop_front() else { return effects };
            let Some(attempt) = self.attempts.get_mut(&id) else { continue };
            if let Err(fault) = suits(profile, &attempt.record.assignment) {
                effects.extend(self.fail(id, fault));
                continue;
            }
            slot.occupant = Some(id);
            attempt.phase = Phase::Proving;
            attempt.record.stage = Stage::Proving;
            effects.push(Effect::Write(Box::new(attempt.record.clone())));
            let assignment = Box::new(attempt.record.assignment.clone());
            effects.push(Effect::Prove { assignment, readiness: slot.readiness });
            return effects;
        }
    }

    /// Whether [`Hand::take_report`] has something at `now`; otherwise when it will, if nothing else happens.
    pub fn next_report_at(&self, now: Instant) -> Option<Instant> {
        if self.is_draining_due || !self.declined.is_empty() || self.told_provers != self.provers() {
            return Some(now);
        }
        let of_attempt = |attempt: &Attempt| {
            let Due { accepted, executed, proved, delivered, failed, progress } = &attempt.due;
            if *accepted || *executed || *proved || *delivered || *failed {
                Some(now)
            } else {
                progress.as_ref().map(|_| attempt.progress_not_before.unwrap_or(now).max(now))
            }
        };
        self.attempts.values().filter_map(of_attempt).min()
    }

    /// The next thing to say to a coordinator that has sent its `Welcome`.
    pub fn take_report(&mut self, now: Instant) -> Option<Report> {
        if std::mem::take(&mut self.is_draining_due) {
            return Some(Report::Draining);
        }
        if let Some((attempt, cause)) = self.declined.pop_front() {
            return Some(Report::Declined(attempt, cause));
        }
        let provers = self.provers();
        if self.told_provers != provers {
            self.told_provers.clone_from(&provers);
            return Some(Report::ProversChanged(provers));
        }
        self.attempts.values_mut().find_map(|attempt| attempt.take_report(now))
    }
}

impl Slot {
    /// What is said of it while it is not ready.
    fn absent(&self) -> ProverProfile {
        let why = self.given_up.as_deref().unwrap_or("starting");
        ProverProfile { device: format!("{} ({why})", self.placeholder.device), ..self.placeholder.clone() }
    }
}

impl Attempt {
    fn take_report(&mut self, now: Instant) -> Option<Report> {
        let id = self.record.attempt();
        let due = &mut self.due;
        if std::mem::take(&mut due.accepted) {
            return Some(Report::Accepted(id));
        }
        if std::mem::take(&mut due.executed)
            && let Some(execution) = self.record.execution
        {
            return Some(Report::Executed(id, execution));
        }
        if std::mem::take(&mut due.failed)
            && let Phase::Failed(fault) = &self.phase
        {
            return Some(match fault.class {
                // Nobody is to blame. The coordinator ends it like an attempt that was never taken in.
                FaultClass::Lost => Report::Declined(id, fault.cause.clone()),
                FaultClass::Guest | FaultClass::Resources | FaultClass::Worker => Report::Failed(id, fault.clone()),
            });
        }
        if std::mem::take(&mut due.proved)
            && let Stage::Proved { digest, size } = self.record.stage
        {
            return Some(Report::Proved { attempt: id, digest, size });
        }
        if std::mem::take(&mut due.delivered) {
            return Some(Report::Delivered(id));
        }
        if self.progress_not_before.is_none_or(|not_before| not_before <= now)
            && let Some(progress) = due.progress.take()
        {
            self.progress_not_before = Some(now + PROGRESS_INTERVAL);
            return Some(Report::Progress(id, progress));
        }
        None
    }
}

/// Whether a prover can make the proof that is asked for.
fn suits(profile: &ProverProfile, assignment: &Assignment) -> Result<(), Fault> {
    let wanted: (&CircuitVersion, _) = (&assignment.circuit_version, assignment.mode);
    if profile.circuit_version != *wanted.0 {
        let cause = format!("the prover makes proofs of circuit {}, not {}", profile.circuit_version, wanted.0);
        return Err(Fault::worker(cause));
    }
    if !profile.modes.contains(&wanted.1) {
        return Err(Fault::worker(format!("the prover makes no {} proofs", wanted.1)));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
