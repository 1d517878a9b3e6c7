//! Does what [`Hand`] decided: journal, transfers, provers, and the reports of the current session.

use std::{collections::HashMap, future};

use futures_util::{
    StreamExt as _,
    stream::{self, BoxStream, SelectAll},
};
use network_lib::{
    AttemptId, CONTEMPLANT_VERSION, Digest, Fault, WorkerId, WorkerProfile, crash_point,
    protocol::{Assignment, Instruction, Report},
};
use proving::{ProveOrder, ProverReport};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::{Instant, sleep_until},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    ahead::{self, Ahead, NextRound},
    fetching::Fetch,
    hand::{Effect, Event, Hand},
    handle::{AgentHandle, Link, Message},
    room::RoomWatch,
};
use crate::{
    artifacts::{ArtifactClient, Delivery, Proof},
    failure::chain,
    inputs::InputCache,
    journal::{Journal, Record, Stage},
    programs::{PinnedProgram, ProgramCache},
    provers::{self, Answer, Command, ProverPort},
};

/// Messages that wait for the agent; sessions wait for room, which slows a coordinator that says too much.
const MAX_MESSAGES: usize = 64;
/// Outcomes that wait for the agent; who has one waits for room.
const MAX_OUTCOMES: usize = 64;
/// Reports that wait for the socket. Few, since the rest waits as facts, of which only the latest is sent.
const MAX_REPORTS: usize = 16;

/// Who this worker is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Stable over restarts.
    pub id: WorkerId,
    /// For people.
    pub name: String,
    /// Called by the coordinator when it evicts this worker.
    pub magister_drop_endpoint: Option<String>,
}

/// What an agent is made of.
#[derive(Debug)]
pub struct AgentParts {
    /// Who it says it is.
    pub identity: Identity,
    /// The journal.
    pub journal: Journal,
    /// What the journal held when it was opened.
    pub records: Vec<Record>,
    /// How artifacts are moved.
    pub artifacts: ArtifactClient,
    /// Programs on disk.
    pub programs: ProgramCache,
    /// Inputs that were fetched ahead.
    pub inputs: InputCache,
    /// Room to be left on the disk, in bytes: attempts that would take it are failed.
    pub min_free_disk: u64,
    /// The provers, in the order of their indices.
    pub provers: Vec<ProverPort>,
}

/// The agent. Its attempts and provers outlive every session.
#[derive(Debug)]
pub struct Agent;

impl Agent {
    /// Starts it. It ends at `stop`, leaving the journal as it is, so that the next start goes on from there; the
    /// second value tells when it has, after which the provers may be stopped.
    pub fn start(parts: AgentParts, tracker: &TaskTracker, stop: CancellationToken) -> (AgentHandle, JoinHandle<()>) {
        let (handle, messages) = mpsc::channel(MAX_MESSAGES);
        let (outcomes, outcome_reader) = mpsc::channel(MAX_OUTCOMES);
        let placeholders = parts.provers.iter().map(|port| port.placeholder.clone()).collect();
        let mut prover_reports = SelectAll::new();
        let mut commands = Vec::new();
        for (prover, port) in parts.provers.into_iter().enumerate() {
            let reports = stream::unfold(port.reports, |mut reports| async {
                let report = reports.recv().await?;
                Some((report, reports))
            });
            prover_reports.push(reports.map(move |report| (prover, report)).boxed());
            let answer = move |answer| Outcome::Prover { prover, answer };
            commands.push(provers::drive(port.prover, tracker, outcomes.clone(), answer));
        }
        let actor = Actor {
            hand: Hand::new(parts.records, placeholders),
            room: RoomWatch::new(parts.journal.root().to_owned(), parts.inputs.clone(), parts.min_free_disk),
            identity: parts.identity,
            instance: rand::random(),
            journal: parts.journal,
            artifacts: parts.artifacts,
            programs: parts.programs,
            inputs: parts.inputs,
            ahead: Ahead::default(),
            min_free_disk: parts.min_free_disk,
            commands,
            prover_reports,
            messages,
            outcomes,
            outcome_reader,
            session: None,
            transfers: HashMap::new(),
            next_transfer: 0,
            pinned: HashMap::new(),
            told: Vec::new(),
            empty: Vec::new(),
            tracker: tracker.clone(),
            transfers_stop: stop.child_token(),
        };
        let running = tracker.spawn(actor.run(stop));
        (AgentHandle(handle), running)
    }
}

/// What became of something that was begun earlier.
#[derive(Debug)]
enum Outcome {
    Fetched { attempt: AttemptId, transfer: u64, outcome: Result<PinnedProgram, Fault> },
    Uploaded { attempt: AttemptId, transfer: u64, delivery: Delivery },
    FetchedAhead { round: u64, programs: Vec<PinnedProgram> },
    Prover { prover: usize, answer: Answer },
}

enum Input {
    Message(Message),
    Outcome(Outcome),
    Prover(usize, ProverReport),
    /// The disk has room for another attempt, or has none, and that is news.
    Room(bool),
    /// The socket has room for a report, or is gone.
    CanReport(Option<mpsc::OwnedPermit<Report>>),
}

struct Session {
    reports: mpsc::Sender<Report>,
    is_welcome: bool,
}

struct Transfer {
    number: u64,
    is_fetch: bool,
    stop: CancellationToken,
}

struct Actor {
    hand: Hand,
    identity: Identity,
    /// Tells this process from another one with the same identity, as of a copied state directory.
    instance: u64,
    journal: Journal,
    artifacts: ArtifactClient,
    programs: ProgramCache,
    inputs: InputCache,
    ahead: Ahead,
    min_free_disk: u64,
    commands: Vec<mpsc::Sender<Command>>,
    prover_reports: SelectAll<BoxStream<'static, (usize, ProverReport)>>,
    messages: mpsc::Receiver<Message>,
    outcomes: mpsc::Sender<Outcome>,
    outcome_reader: mpsc::Receiver<Outcome>,
    session: Option<Session>,
    /// The transfer under way for an attempt. Outcomes of any other number are stale.
    transfers: HashMap<AttemptId, Transfer>,
    next_transfer: u64,
    /// Programs that the cache must keep, since an attempt uses them.
    pinned: HashMap<AttemptId, PinnedProgram>,
    told: Vec<oneshot::Sender<()>>,
    empty: Vec<oneshot::Sender<()>>,
    tracker: TaskTracker,
    transfers_stop: CancellationToken,
    room: RoomWatch,
}

impl Actor {
    async fn run(mut self, stop: CancellationToken) {
        while let Some(input) = self.next_event(&stop).await {
            match input {
                Input::Message(message) => self.hear(message).await,
                Input::Outcome(outcome) => self.conclude(outcome).await,
                Input::Prover(prover, report) => self.take_in(Event::Prover { prover, report }).await,
                Input::CanReport(permit) => self.report(permit),
                Input::Room(has_room) => self.take_in(Event::Room(has_room)).await,
            }
            self.fetch_ahead();
            if self.hand.is_empty() {
                answer_all(&mut self.empty);
            }
        }
    }

    async fn next_event(&mut self, stop: &CancellationToken) -> Option<Input> {
        let report_at = self.session.as_ref().filter(|session| session.is_welcome).and_then(|session| {
            let at = self.hand.next_report_at(Instant::now())?;
            Some((at, session.reports.clone()))
        });
        let can_report = async {
            let Some((at, reports)) = report_at else { return future::pending().await };
            sleep_until(at).await;
            reports.reserve_owned().await.ok()
        };
        tokio::select! {
            biased;
            () = stop.cancelled() => None,
            message = self.messages.recv() => message.map(Input::Message),
            Some(outcome) = self.outcome_reader.recv() => Some(Input::Outcome(outcome)),
            Some((prover, report)) = self.prover_reports.next() => Some(Input::Prover(prover, report)),
            has_room = self.room.changed() => Some(Input::Room(has_room)),
            permit = can_report => Some(Input::CanReport(permit)),
        }
    }

    async fn hear(&mut self, message: Message) {
        match message {
            Message::OpenSession { reply } => {
                let (reports, reader) = mpsc::channel(MAX_REPORTS);
                let (provers, in_hand) = self.hand.open_session();
                self.ahead.forget_hints();
                let hello = Report::Hello {
                    version: CONTEMPLANT_VERSION.to_owned(),
                    profile: WorkerProfile {
                        id: self.identity.id,
                        name: self.identity.name.clone(),
                        provers,
                        magister_drop_endpoint: self.identity.magister_drop_endpoint.clone(),
                        instance: Some(self.instance),
                    },
                    in_hand,
                };
                self.session = Some(Session { reports, is_welcome: false });
                // A session that is gone already closes the channel, which is noticed at the first report.
                drop(reply.send(Link { hello, reports: reader }));
            }
            Message::Instruct(instruction) => self.instructed(instruction).await,
            Message::Drain { told, empty } => {
                self.told.push(told);
                self.empty.push(empty);
                self.take_in(Event::Drain).await;
            }
        }
    }

    async fn instructed(&mut self, instruction: Instruction) {
        let event = match instruction {
            Instruction::Welcome(settings) => {
                if !settings.mock_mode && self.hand.has_mock_prover() {
                    tracing::warn!("The coordinator is not in mock mode: proofs of mock provers do not count there");
                }
                if let Some(session) = &mut self.session {
                    session.is_welcome = true;
                }
                Event::Welcomed
            }
            Instruction::Assign(assignment) => {
                self.ahead.assigned(&assignment);
                Event::Assigned(assignment)
            }
            Instruction::Prefetch { prover, next } => {
                if prover < self.commands.len() {
                    self.ahead.hint(prover, next);
                }
                return;
            }
            Instruction::Cancel { attempt, reason } => {
                Event::Dismissed { attempt, reason: format!("the coordinator cancelled it: {reason}") }
            }
            Instruction::Deliver { attempt, url } => Event::DeliveryAsked { attempt, url },
            Instruction::Stored(attempt) => {
                Event::Dismissed { attempt, reason: "the coordinator knows how it ended".to_owned() }
            }
            Instruction::Rejected { attempt, reason } => {
                tracing::error!(attempt.id = %attempt, "The coordinator rejected a proof of this worker: {reason}");
                Event::Dismissed { attempt, reason: format!("its proof was rejected: {reason}") }
            }
            // Of the session, which ends by it.
            Instruction::Heartbeat | Instruction::Evicted { .. } => return,
        };
        self.take_in(event).await;
    }

    async fn conclude(&mut self, outcome: Outcome) {
        let event = match outcome {
            Outcome::Fetched { attempt, transfer, outcome } => {
                if !self.end_transfer(attempt, transfer) {
                    return;
                }
                let outcome = outcome.map(|program| {
                    self.pinned.insert(attempt, program);
                });
                Event::Fetched { attempt, outcome }
            }
            Outcome::Uploaded { attempt, transfer, delivery } => {
                if !self.end_transfer(attempt, transfer) {
                    return;
                }
                match delivery {
                    Delivery::Done => Event::Uploaded { attempt, is_done: true },
                    Delivery::NotNow => Event::Uploaded { attempt, is_done: false },
                    Delivery::Damaged => Event::Damaged { attempt },
                }
            }
            Outcome::FetchedAhead { round, programs } => {
                self.ahead.ended(round, programs);
                return;
            }
            Outcome::Prover { prover, answer: Answer::NotTaken { attempt, readiness, fault } } => {
                Event::NotTaken { prover, attempt, readiness, fault }
            }
            Outcome::Prover { prover, answer: Answer::Stopped(attempt) } => Event::Stopped { prover, attempt },
        };
        self.take_in(event).await;
    }

    fn report(&mut self, permit: Option<mpsc::OwnedPermit<Report>>) {
        let Some(permit) = permit else {
            self.session = None;
            return;
        };
        let Some(report) = self.hand.take_report(Instant::now()) else { return };
        let is_draining = report == Report::Draining;
        permit.send(report);
        if is_draining {
            answer_all(&mut self.told);
        }
    }

    async fn take_in(&mut self, event: Event) {
        let effects = self.hand.apply(event);
        self.perform(effects).await;
    }

    /// The only place that writes, fetches, proves and uploads.
    async fn perform(&mut self, effects: Vec<Effect>) {
        let mut effects = std::collections::VecDeque::from(effects);
        while let Some(effect) = effects.pop_front() {
            match effect {
                Effect::Write(record) => {
                    let attempt = record.attempt();
                    let is_first = record.stage == Stage::Received;
                    let journal = self.journal.clone();
                    if is_first {
                        crash_point!("wk.after_assign_before_journal");
                    }
                    let written = off_runtime(move || journal.write(&record)).await;
                    if is_first {
                        crash_point!("wk.after_journal_before_ack");
                    }
                    let Err(error) = written else { continue };
                    let cause = chain(&error);
                    tracing::error!(attempt.id = %attempt, "The journal cannot be written: {cause}");
                    if is_first {
                        effects.retain(|effect| effect.attempt() != attempt);
                        effects.extend(self.hand.apply(Event::Unwritten { attempt, cause }));
                    }
                    // Past that it is better to go on: a crash would cost a proof, stopping costs it for sure.
                }
                Effect::Forget(attempt) => {
                    crash_point!("wk.after_ack_before_delete");
                    self.pinned.remove(&attempt);
                    self.ahead.tidy();
                    let journal = self.journal.clone();
                    if let Err(error) = off_runtime(move || journal.forget(attempt)).await {
                        tracing::error!(attempt.id = %attempt, "An attempt cannot be forgotten: {}", chain(&error));
                    }
                }
                Effect::Fetch(assignment) => self.fetch(*assignment),
                Effect::StopTransfer(attempt) => {
                    if let Some(transfer) = self.transfers.remove(&attempt) {
                        transfer.stop.cancel();
                    }
                }
                Effect::Prove { assignment, readiness } => {
                    let prover = assignment.prover;
                    let order = Box::new(self.order(*assignment));
                    self.command(prover, Command::Prove { order, readiness });
                    crash_point!("wk.after_spawn");
                }
                Effect::StopProof { prover, attempt } => self.command(prover, Command::Cancel(attempt)),
                Effect::Upload { attempt, url, digest, size } => self.upload(attempt, url, digest, size),
            }
        }
    }

    fn command(&self, prover: usize, command: Command) {
        if let Some(commands) = self.commands.get(prover)
            && let Err(error) = commands.try_send(command)
        {
            // Full is impossible, since a prover is given nothing while something of it is outstanding.
            tracing::error!(prover, "A prover takes no commands: {error}");
        }
    }

    fn order(&self, assignment: Assignment) -> ProveOrder {
        let files = self.journal.files(assignment.attempt);
        ProveOrder {
            attempt: assignment.attempt,
            program: self.programs.path(assignment.program.digest),
            program_digest: assignment.program.digest,
            stdin: files.stdin,
            output: files.proof,
            mode: assignment.mode,
            circuit_version: assignment.circuit_version,
            vk_hash: *assignment.vk_hash.as_bytes(),
            cycle_limit: assignment.cycle_limit,
            gas_limit: assignment.gas_limit,
        }
    }

    /// Begins a transfer, which ends the one before for this attempt.
    fn begin_transfer(&mut self, attempt: AttemptId, is_fetch: bool) -> Transfer {
        let number = self.next_transfer;
        self.next_transfer += 1;
        let stop = self.transfers_stop.child_token();
        if let Some(former) = self.transfers.insert(attempt, Transfer { number, is_fetch, stop: stop.clone() }) {
            former.stop.cancel();
        }
        Transfer { number, is_fetch, stop }
    }

    /// Whether this transfer is the current one of its attempt, which it then is no longer.
    fn end_transfer(&mut self, attempt: AttemptId, number: u64) -> bool {
        let is_current = self.transfers.get(&attempt).is_some_and(|transfer| transfer.number == number);
        if is_current {
            self.transfers.remove(&attempt);
        }
        is_current
    }

    fn fetch(&mut self, assignment: Assignment) {
        let attempt = assignment.attempt;
        self.ahead.interrupt();
        let Transfer { number: transfer, stop, .. } = self.begin_transfer(attempt, true);
        let fetch = Fetch {
            files: self.journal.files(attempt),
            assignment,
            artifacts: self.artifacts.clone(),
            programs: self.programs.clone(),
            inputs: self.inputs.clone(),
            min_free_disk: self.min_free_disk,
        };
        let outcomes = self.outcomes.clone();
        self.tracker.spawn(stop.run_until_cancelled_owned(async move {
            let outcome = fetch.run().await;
            // Without a reader the agent has ended, and there is nobody to tell.
            drop(outcomes.send(Outcome::Fetched { attempt, transfer, outcome }).await);
        }));
    }

    /// Begins a round of fetching ahead, if one is due and no attempt is being fetched.
    fn fetch_ahead(&mut self) {
        if self.transfers.values().any(|transfer| transfer.is_fetch) {
            return;
        }
        let stop = self.transfers_stop.child_token();
        let Some(NextRound { number, hints }) = self.ahead.begin(stop.clone()) else { return };
        let (artifacts, programs, inputs) = (self.artifacts.clone(), self.programs.clone(), self.inputs.clone());
        let (outcomes, min_free_disk) = (self.outcomes.clone(), self.min_free_disk);
        self.tracker.spawn(stop.run_until_cancelled_owned(async move {
            let programs = ahead::run_round(&hints, &artifacts, &programs, &inputs, min_free_disk).await;
            drop(outcomes.send(Outcome::FetchedAhead { round: number, programs }).await);
        }));
    }

    fn upload(&mut self, attempt: AttemptId, url: String, digest: Digest, size: u64) {
        let Transfer { number: transfer, stop, .. } = self.begin_transfer(attempt, false);
        let proof = Proof { path: self.journal.files(attempt).proof, digest, size };
        let (artifacts, outcomes) = (self.artifacts.clone(), self.outcomes.clone());
        self.tracker.spawn(stop.run_until_cancelled_owned(async move {
            let delivery = artifacts.deliver(attempt, &url, &proof).await;
            if delivery == Delivery::Done {
                crash_point!("wk.after_delivered_before_ack");
            }
            drop(outcomes.send(Outcome::Uploaded { attempt, transfer, delivery }).await);
        }));
    }
}

/// Answers who is still waiting.
fn answer_all(waiting: &mut Vec<oneshot::Sender<()>>) {
    for answer in waiting.drain(..) {
        answer.send(()).ok();
    }
}

/// Runs what blocks on the disk where blocking is fine.
pub(super) async fn off_runtime<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}
