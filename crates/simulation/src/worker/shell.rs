//! The shell around the worker's core: does what [`Hand`] decides, and keeps a session, as contemplant's `agent/actor.rs`
//! and `session.rs` do over files and sockets.

use std::{
    collections::{BTreeMap, VecDeque},
    future,
    time::Duration,
};

use bytes::Bytes;
use contemplant::{
    agent::hand::{Effect, Event as HandEvent, Hand},
    journal::Stage,
};
use hierophant::fleet::Frame;
use network_lib::{
    AttemptId, CONTEMPLANT_VERSION, Fault, WorkerProfile,
    protocol::{Assignment, Instruction, Report},
};
use tokio::{
    sync::mpsc,
    task::{AbortHandle, JoinSet},
    time::{Instant, sleep, sleep_until},
};

use super::{
    Machine, locked,
    prover::{Answer, Command, Prover},
    transfer::Transfers,
    worker_id,
};
use crate::{event::Event, mix::Sabotage, network::Line};

/// Outcomes that wait.
const MAX_OUTCOMES: usize = 64;

// As contemplant's `Pace`.
const FIRST_WAIT: Duration = Duration::from_millis(250);
const LONGEST_WAIT: Duration = Duration::from_secs(10);
const EVICTED_WAIT: Duration = Duration::from_mins(1);
const DIAL_LIMIT: Duration = Duration::from_secs(15);

/// What became of something that was begun earlier.
enum Outcome {
    Fetched { attempt: AttemptId, number: u64, outcome: Result<Bytes, Fault> },
    Uploaded { attempt: AttemptId, number: u64, is_done: bool },
}

/// Where the worker is with its coordinator.
enum Contact {
    /// It waits before it dials again.
    Resting { until: Instant },
    /// A connection is open; a `Welcome` came or did not yet.
    Open {
        line: Line,
        is_welcome: bool,
        heartbeat_at: Instant,
        silent_at: Instant,
        interval: Duration,
        limit: Duration,
    },
}

enum Input {
    Dial,
    Frame(Option<Frame>),
    Heartbeat,
    Silence,
    Outcome(Outcome),
    Prover(usize, Answer),
    Report(mpsc::OwnedPermit<Bytes>),
}

/// A running worker.
pub(super) struct Shell {
    machine: Machine,
    hand: Hand,
    commands: Vec<mpsc::Sender<Command>>,
    answers: mpsc::Receiver<(usize, Answer)>,
    outcomes: mpsc::Sender<Outcome>,
    outcome_reader: mpsc::Receiver<Outcome>,
    /// The transfer under way for an attempt. Outcomes of any other number are stale.
    transfers: BTreeMap<AttemptId, (u64, AbortHandle)>,
    next_transfer: u64,
    contact: Contact,
    wait: Duration,
    /// Provers and transfers; they end with this.
    tasks: JoinSet<()>,
}

impl Shell {
    pub(super) fn new(machine: Machine) -> Self {
        let records = locked(&machine.disk).records.values().cloned().collect();
        let hand = Hand::new(records, machine.provers.iter().map(Machine::placeholder).collect());
        let mut tasks = JoinSet::new();
        let (answer, answers) = mpsc::channel(MAX_OUTCOMES);
        let start = |(index, profile): (usize, &network_lib::ProverProfile)| {
            let (sender, commands) = mpsc::channel(8);
            let (world, disk) = (machine.world.clone(), machine.disk.clone());
            let profile = profile.clone();
            let prover =
                Prover { worker: machine.index, index, profile, world, disk, commands, answers: answer.clone() };
            tasks.spawn(prover.run());
            sender
        };
        let commands = machine.provers.iter().enumerate().map(start).collect();
        let (outcomes, outcome_reader) = mpsc::channel(MAX_OUTCOMES);
        let until = Instant::now() + machine.world.draw(|chance| chance.millis(0, 2000));
        Self {
            machine,
            hand,
            commands,
            answers,
            outcomes,
            outcome_reader,
            transfers: BTreeMap::new(),
            next_transfer: 0,
            contact: Contact::Resting { until },
            wait: FIRST_WAIT,
            tasks,
        }
    }

    pub(super) async fn run(mut self) {
        let mut frozen = self.machine.is_frozen.subscribe();
        loop {
            let input = self.next().await;
            let _ = frozen.wait_for(|is_frozen| !is_frozen).await;
            while self.tasks.try_join_next().is_some() {}
            match input {
                Input::Dial => self.dial().await,
                Input::Frame(Some(Frame::Message(frame))) => match Instruction::decode(&frame) {
                    Ok(instruction) => self.instructed(instruction).await,
                    Err(_) => self.hang_up(None),
                },
                Input::Frame(Some(Frame::Goodbye(_)) | None) | Input::Silence => self.hang_up(None),
                Input::Heartbeat => self.beat(),
                Input::Outcome(outcome) => self.conclude(outcome).await,
                Input::Prover(prover, answer) => self.hear_prover(prover, answer).await,
                Input::Report(permit) => self.report(permit),
            }
        }
    }

    async fn next(&mut self) -> Input {
        let Self { contact, hand, outcome_reader, answers, .. } = self;
        let contact = async {
            match contact {
                Contact::Resting { until } => {
                    sleep_until(*until).await;
                    Input::Dial
                }
                Contact::Open { line, is_welcome, heartbeat_at, silent_at, .. } => {
                    let report_at = hand.next_report_at(Instant::now()).filter(|_| *is_welcome);
                    let up = line.up.clone();
                    let can_report = async {
                        let Some(at) = report_at else { return future::pending().await };
                        sleep_until(at).await;
                        match up.reserve_owned().await {
                            Ok(permit) => Input::Report(permit),
                            Err(_) => Input::Frame(None),
                        }
                    };
                    tokio::select! {
                        biased;
                        frame = line.hear() => Input::Frame(frame),
                        () = sleep_until(*silent_at) => Input::Silence,
                        () = sleep_until(*heartbeat_at) => Input::Heartbeat,
                        report = can_report => report,
                    }
                }
            }
        };
        tokio::select! {
            biased;
            Some(outcome) = outcome_reader.recv() => Input::Outcome(outcome),
            Some((prover, answer)) = answers.recv() => Input::Prover(prover, answer),
            input = contact => input,
        }
    }

    async fn dial(&mut self) {
        self.machine.world.pause(1, 60).await;
        if !self.machine.network.is_open(self.machine.index) {
            sleep(DIAL_LIMIT / 5).await;
            return self.hang_up(None);
        }
        let Some(line) = self.machine.coordinator.dial(self.machine.index) else { return self.hang_up(None) };
        let (provers, in_hand) = self.hand.open_session();
        let name = format!("worker {}", self.machine.index);
        let id = worker_id(self.machine.index);
        let profile = WorkerProfile { id, name, provers, magister_drop_endpoint: None, instance: None };
        let hello = Report::Hello { version: CONTEMPLANT_VERSION.to_owned(), profile, in_hand };
        self.machine.world.tell(Event::Said { worker: self.machine.index, kind: "hello", attempt: None });
        let _ = line.up.try_send(hello.encode().into());
        let limit = DIAL_LIMIT;
        let silent_at = Instant::now() + limit;
        let never = Instant::now() + Duration::from_hours(1000);
        self.contact =
            Contact::Open { line, is_welcome: false, heartbeat_at: never, silent_at, interval: limit, limit };
    }

    /// The session is over; the next dial comes after a wait that grows.
    fn hang_up(&mut self, wait: Option<Duration>) {
        if matches!(self.contact, Contact::Open { is_welcome: true, .. }) {
            self.wait = FIRST_WAIT;
        }
        let wait = wait.unwrap_or(self.wait);
        self.wait = (self.wait * 2).min(LONGEST_WAIT);
        let jitter = self.machine.world.draw(|chance| chance.millis(0, 250));
        self.contact = Contact::Resting { until: Instant::now() + wait + jitter };
    }

    fn beat(&mut self) {
        if let Contact::Open { line, heartbeat_at, interval, .. } = &mut self.contact {
            *heartbeat_at = Instant::now() + *interval;
            let _ = line.up.try_send(Report::Heartbeat.encode().into());
        }
    }

    async fn instructed(&mut self, instruction: Instruction) {
        if let Contact::Open { silent_at, limit, .. } = &mut self.contact {
            *silent_at = Instant::now() + *limit;
        }
        let told = |kind, attempt| {
            self.machine.world.tell(Event::Told { worker: self.machine.index, kind, attempt });
        };
        let event = match instruction {
            Instruction::Welcome(settings) => {
                told("welcome", None);
                if let Contact::Open { is_welcome, heartbeat_at, silent_at, interval, limit, .. } = &mut self.contact {
                    (*is_welcome, *interval, *limit) = (true, settings.heartbeat_interval, settings.silence_limit);
                    *heartbeat_at = Instant::now();
                    *silent_at = Instant::now() + *limit;
                }
                HandEvent::Welcomed
            }
            Instruction::Assign(assignment) => {
                told("assign", Some(assignment.attempt));
                HandEvent::Assigned(assignment)
            }
            Instruction::Cancel { attempt, reason } => {
                told("cancel", Some(attempt));
                HandEvent::Dismissed { attempt, reason }
            }
            Instruction::Deliver { attempt, url } => {
                told("deliver", Some(attempt));
                HandEvent::DeliveryAsked { attempt, url }
            }
            Instruction::Stored(_) if self.machine.world.has(Sabotage::NoThanks) => return,
            Instruction::Stored(attempt) => {
                told("stored", Some(attempt));
                HandEvent::Dismissed { attempt, reason: "stored".to_owned() }
            }
            Instruction::Rejected { attempt, reason } => {
                told("rejected", Some(attempt));
                HandEvent::Dismissed { attempt, reason }
            }
            Instruction::Evicted { .. } => {
                told("evicted", None);
                return self.hang_up(Some(EVICTED_WAIT));
            }
            Instruction::Heartbeat | Instruction::Prefetch { .. } => return,
        };
        self.take_in(event).await;
    }

    async fn conclude(&mut self, outcome: Outcome) {
        let mut is_current = |attempt, number| {
            let is_current = self.transfers.get(&attempt).is_some_and(|(current, _)| *current == number);
            if is_current {
                self.transfers.remove(&attempt);
            }
            is_current
        };
        let event = match outcome {
            Outcome::Fetched { attempt, number, outcome } if is_current(attempt, number) => {
                let outcome = outcome.map(|input| {
                    locked(&self.machine.disk).inputs.insert(attempt, input);
                });
                HandEvent::Fetched { attempt, outcome }
            }
            Outcome::Uploaded { attempt, number, is_done } if is_current(attempt, number) => {
                HandEvent::Uploaded { attempt, is_done }
            }
            Outcome::Fetched { .. } | Outcome::Uploaded { .. } => return,
        };
        self.take_in(event).await;
    }

    async fn hear_prover(&mut self, prover: usize, answer: Answer) {
        let event = match answer {
            Answer::Says(report) => HandEvent::Prover { prover, report },
            Answer::NotTaken { attempt, readiness } => HandEvent::NotTaken { prover, attempt, readiness, fault: None },
            Answer::Stopped(attempt) => HandEvent::Stopped { prover, attempt },
        };
        self.take_in(event).await;
    }

    fn report(&mut self, permit: mpsc::OwnedPermit<Bytes>) {
        let Some(report) = self.hand.take_report(Instant::now()) else { return };
        let (kind, attempt) = name(&report);
        self.machine.world.tell(Event::Said { worker: self.machine.index, kind, attempt });
        permit.send(report.encode().into());
    }

    async fn take_in(&mut self, event: HandEvent) {
        let effects = self.hand.apply(event);
        self.perform(effects).await;
    }

    /// In order, and each durable before the next: a crash may come between any two.
    async fn perform(&mut self, effects: Vec<Effect>) {
        let mut effects = VecDeque::from(effects);
        let worker = self.machine.index;
        while let Some(effect) = effects.pop_front() {
            match effect {
                Effect::Write(record) => {
                    self.machine.world.pause(0, 4).await;
                    let (attempt, stage) = (record.attempt(), stage(&record.stage));
                    locked(&self.machine.disk).records.insert(attempt, *record);
                    self.machine.world.tell(Event::Journalled { worker, attempt, stage });
                    self.machine.world.pause(0, 2).await;
                }
                Effect::Forget(attempt) => {
                    self.machine.world.pause(0, 4).await;
                    let mut disk = locked(&self.machine.disk);
                    disk.records.remove(&attempt);
                    disk.inputs.remove(&attempt);
                    disk.proofs.remove(&attempt);
                    drop(disk);
                    self.machine.world.tell(Event::Forgotten { worker, attempt });
                }
                Effect::Fetch(assignment) => self.fetch(*assignment),
                Effect::StopTransfer(attempt) => {
                    if let Some((_, transfer)) = self.transfers.remove(&attempt) {
                        transfer.abort();
                    }
                }
                Effect::Prove { assignment, readiness } => {
                    let prover = assignment.prover;
                    self.command(prover, Command::Prove { assignment, readiness });
                }
                Effect::StopProof { prover, attempt } => self.command(prover, Command::Cancel(attempt)),
                Effect::Upload { attempt, url, .. } => self.upload(attempt, url),
            }
        }
    }

    fn command(&self, prover: usize, command: Command) {
        if let Some(commands) = self.commands.get(prover) {
            let _ = commands.try_send(command);
        }
    }

    fn transfers(&self) -> Transfers {
        let Machine { index, world, coordinator, network, .. } = &self.machine;
        let (world, coordinator, network) = (world.clone(), coordinator.clone(), network.clone());
        Transfers { worker: *index, world, coordinator, network }
    }

    fn begin(&mut self, attempt: AttemptId, transfer: impl Future<Output = Outcome> + Send + 'static) {
        let outcomes = self.outcomes.clone();
        let running = self.tasks.spawn(async move { drop(outcomes.send(transfer.await).await) });
        if let Some((_, former)) = self.transfers.insert(attempt, (self.next_transfer, running)) {
            former.abort();
        }
        self.next_transfer += 1;
    }

    fn fetch(&mut self, assignment: Assignment) {
        let (transfers, number, attempt) = (self.transfers(), self.next_transfer, assignment.attempt);
        self.begin(attempt, async move {
            let outcome = match transfers.download(&assignment.program).await {
                Ok(_) => transfers.download(&assignment.stdin).await,
                Err(fault) => Err(fault),
            };
            Outcome::Fetched { attempt, number, outcome }
        });
    }

    fn upload(&mut self, attempt: AttemptId, url: String) {
        let (transfers, number) = (self.transfers(), self.next_transfer);
        let proof = locked(&self.machine.disk).proofs.get(&attempt).cloned().unwrap_or_default();
        self.begin(attempt, async move {
            let is_done = transfers.upload(&url, proof).await;
            Outcome::Uploaded { attempt, number, is_done }
        });
    }
}

const fn stage(stage: &Stage) -> &'static str {
    match stage {
        Stage::Received => "received",
        Stage::Proving => "proving",
        Stage::Proved { .. } => "proved",
        Stage::Failed(_) => "failed",
    }
}

/// A report's kind and the attempt that it is of.
fn name(report: &Report) -> (&'static str, Option<AttemptId>) {
    match report {
        Report::Hello { .. } => ("hello", None),
        Report::Heartbeat => ("heartbeat", None),
        Report::Accepted(attempt) => ("accepted", Some(*attempt)),
        Report::Progress(attempt, _) => ("progress", Some(*attempt)),
        Report::Executed(attempt, _) => ("executed", Some(*attempt)),
        Report::Proved { attempt, .. } => ("proved", Some(*attempt)),
        Report::Delivered(attempt) => ("delivered", Some(*attempt)),
        Report::Failed(attempt, _) => ("failed", Some(*attempt)),
        Report::Declined(attempt, _) => ("declined", Some(*attempt)),
        Report::Draining => ("draining", None),
        Report::ProversChanged(_) => ("provers changed", None),
    }
}
