//! The parent's side of a prover child: one order at a time, reports in order, restarts.

use std::{collections::VecDeque, mem, time::Duration};

use bytesize::ByteSize;
use network_lib::{AttemptId, Digest, Fault, FaultClass, ProverProfile};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep_until, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    frames::{self, FrameError, PROTOCOL_VERSION, ProverInstruction, ProverMessage},
    order::{Execution, Progress, ProveOrder},
    shared_memory::sweep_shared_memory,
    spare::{Spare, Successor},
    supervisor::{BackOff, ChildCommand, ChildEvent, RunningChild},
};

const NAME: &str = "prover";
/// Commands that wait for the actor: each caller waits for its answer, so there are few.
const MAX_COMMANDS: usize = 16;
/// Reports that wait for the reader; past that they wait in the outbox.
const MAX_REPORTS: usize = 64;
/// Between two looks at the memory of a child that has a limit. What it takes more in between is not noticed in time.
const MEMORY_LOOK: Duration = Duration::from_millis(250);
/// An outbox that has grown this long has no reader: no more orders are taken.
const MAX_OUTBOX: usize = 64;

/// What a cancelled child is told to do, if it can give its memory back in no other way.
const ENDED_WITH_ATTEMPT: &str = "it ended with its cancelled attempt";

/// What a prover child says, through its parent's handle.
///
/// Of an attempt that [`ProverChild::prove`] accepted come any number of `Progress`, at most one `Executed` and
/// then exactly one of `Proved` and `Failed`; whatever becomes of the child. A [cancelled](ProverChild::cancel)
/// attempt ends in silence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProverReport {
    /// A child is up and can take an order; comes after every start, and when a spare takes over.
    Ready(ProverProfile),
    /// How far an attempt has come. Only the latest is kept while nobody reads.
    Progress {
        /// The attempt.
        attempt: AttemptId,
        /// How far it has come.
        progress: Progress,
    },
    /// The program was executed.
    Executed {
        /// The attempt.
        attempt: AttemptId,
        /// What that showed.
        execution: Execution,
    },
    /// The proof lies at the order's output, fsynced.
    Proved {
        /// The attempt.
        attempt: AttemptId,
        /// Digest of the proof's bytes.
        digest: Digest,
        /// Size of the proof in bytes.
        size: u64,
    },
    /// The attempt failed. If the child died of it, `Unavailable` comes next; or `Ready`, if a spare takes over.
    Failed {
        /// The attempt.
        attempt: AttemptId,
        /// Whose fault it was, and why.
        fault: Fault,
    },
    /// The child is not up, for this reason. It is being restarted; `Ready` says when that has worked.
    Unavailable {
        /// What happened to it.
        cause: String,
    },
}

impl ProverReport {
    fn attempt(&self) -> Option<AttemptId> {
        match self {
            Self::Progress { attempt, .. }
            | Self::Executed { attempt, .. }
            | Self::Proved { attempt, .. }
            | Self::Failed { attempt, .. } => Some(*attempt),
            Self::Ready(_) | Self::Unavailable { .. } => None,
        }
    }
}

/// How a prover child is looked after.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProverSettings {
    /// How long the child may take from its start until it is ready. A prover on two busy cores takes four minutes.
    pub start_timeout: Duration,
    /// How long a cancelled child may take to stop politely before it is killed. By default short enough that a prover
    /// is free five seconds after a cancel, whatever it does.
    pub cancel_grace: Duration,
    /// Most memory of the child's process group, in bytes, looked at several times a second. Not a limit on its
    /// addresses: provers reserve far more of those than they use.
    pub memory_limit: Option<u64>,
    /// Most time from an order to its outcome.
    pub time_limit: Option<Duration>,
    /// Whether a second child is kept, started and idle, which takes over when the first one ends. It is started when
    /// the first one is ready, and its memory comes on top of the limit.
    pub has_spare: bool,
    /// The wait before the first restart after a death; it doubles from there.
    pub first_restart_delay: Duration,
    /// The longest wait before a restart.
    pub longest_restart_delay: Duration,
}

impl Default for ProverSettings {
    fn default() -> Self {
        Self {
            start_timeout: Duration::from_mins(15),
            cancel_grace: Duration::from_secs(2),
            memory_limit: None,
            time_limit: None,
            has_spare: false,
            first_restart_delay: Duration::from_secs(1),
            longest_restart_delay: Duration::from_mins(1),
        }
    }
}

/// Why a prover child did not take an order.
#[derive(Debug, thiserror::Error)]
pub enum ProverError {
    /// It works on another attempt, or is still stopping it.
    #[error("the prover works on attempt {attempt}")]
    Busy {
        /// The attempt in hand.
        attempt: AttemptId,
    },
    /// It is not up. A `Ready` report says when it is.
    #[error("the prover is not up: {cause}")]
    Unavailable {
        /// Why.
        cause: String,
    },
    /// The order cannot be said in a frame.
    #[error("the order cannot be given to the prover")]
    Order(#[source] FrameError),
    /// The supervision was told to stop, or its reports are read by nobody.
    #[error("the prover was stopped")]
    Stopped,
}

enum Command {
    Prove { order: Box<ProveOrder>, reply: oneshot::Sender<Result<(), ProverError>> },
    Cancel { attempt: AttemptId, reply: oneshot::Sender<()> },
}

/// A handle on a prover child. The child ends with its last handle, or when its reports' receiver is dropped.
#[derive(Debug, Clone)]
pub struct ProverChild(mpsc::Sender<Command>);

impl ProverChild {
    /// Starts a child and looks after it until `stop`, when its process group is killed.
    ///
    /// Returns at once; the first report is `Ready` or, if the child does not come up, `Unavailable`.
    pub fn start(
        command: ChildCommand,
        settings: ProverSettings,
        tracker: &TaskTracker,
        stop: CancellationToken,
    ) -> (Self, mpsc::Receiver<ProverReport>) {
        let (handle, commands) = mpsc::channel(MAX_COMMANDS);
        let (reports, reader) = mpsc::channel(MAX_REPORTS);
        let back_off = BackOff::new(settings.first_restart_delay, settings.longest_restart_delay);
        let actor = Actor {
            spare: settings.has_spare.then(|| Spare::new(command.clone(), settings.start_timeout, back_off)),
            back_off,
            command,
            settings,
            commands,
            reports,
            outbox: VecDeque::new(),
            child: None,
            state: State::Down { cause: "it is starting".to_owned() },
            deadline: Some(Instant::now()),
            memory_look: Instant::now(),
            spare_not_before: Instant::now(),
        };
        tracker.spawn(actor.run(stop));
        (Self(handle), reader)
    }

    /// Gives the child an order. When this returns `Ok` the child has it, and one `Proved` or `Failed` will follow.
    ///
    /// Not cancel-safe: a dropped call may or may not have given the order. Cancel the attempt to be sure.
    ///
    /// # Errors
    /// [`ProverError`]; nothing is reported of an order that was not accepted.
    pub async fn prove(&self, order: ProveOrder) -> Result<(), ProverError> {
        let (reply, answer) = oneshot::channel();
        let order = Box::new(order);
        self.0.send(Command::Prove { order, reply }).await.map_err(|_| ProverError::Stopped)?;
        answer.await.map_err(|_| ProverError::Stopped)?
    }

    /// Stops an attempt: politely, and after the grace by killing the child's process group, which is then
    /// restarted at once, or followed by its spare.
    ///
    /// From the moment that this call is heard, nothing more is reported of the attempt; reports sent before
    /// may still lie unread in the channel. When it returns, nothing of the attempt is running: the child is
    /// free for the next order; or its spare is, and `Ready` comes; or it is down, and `Unavailable` and later `Ready`
    /// come. An attempt that is not in hand (unknown, finished, cancelled) is fine and returns at once.
    ///
    /// # Errors
    /// [`ProverError::Stopped`]
    pub async fn cancel(&self, attempt: AttemptId) -> Result<(), ProverError> {
        let (reply, answer) = oneshot::channel();
        self.0.send(Command::Cancel { attempt, reply }).await.map_err(|_| ProverError::Stopped)?;
        answer.await.map_err(|_| ProverError::Stopped)
    }
}

/// Where the child is. `Actor::child` is there in all states but `Down`.
enum State {
    /// Not running; started again at the deadline.
    Down { cause: String },
    /// Started, not ready; killed at the deadline.
    Starting,
    /// Ready for an order.
    Idle,
    /// At work; killed at the deadline, if its time is limited.
    Working { attempt: AttemptId },
    /// Told to stop its work; killed at the deadline.
    Cancelling { attempt: AttemptId, replies: Vec<oneshot::Sender<()>> },
}

enum Event {
    Stop,
    Command(Command),
    Child(ChildEvent),
    CanReport,
    Deadline,
    MemoryLook,
    SpareTended,
}

struct Actor {
    command: ChildCommand,
    settings: ProverSettings,
    commands: mpsc::Receiver<Command>,
    reports: mpsc::Sender<ProverReport>,
    /// Reports that the channel had no room for. Kept here so that a reader who awaits an answer of this actor
    /// cannot lock both up. Bounded: one report per kind and attempt, and no order is taken while it is long.
    outbox: VecDeque<ProverReport>,
    child: Option<RunningChild>,
    /// What takes the place of the child when it ends.
    spare: Option<Spare>,
    /// When its successor may be started: one that takes over at once must not make children that keep dying cheap.
    spare_not_before: Instant,
    state: State,
    deadline: Option<Instant>,
    /// When to look at the child's memory next, if it is limited.
    memory_look: Instant,
    back_off: BackOff,
}

impl Actor {
    async fn run(mut self, stop: CancellationToken) {
        loop {
            match self.next_event(&stop).await {
                Event::Stop => break,
                Event::Command(Command::Prove { order, reply }) => {
                    let answer = self.prove(*order).await;
                    let _ = reply.send(answer); // a caller who left does not mind
                }
                Event::Command(Command::Cancel { attempt, reply }) => self.cancel(attempt, reply).await,
                Event::Child(event) => self.hear(event).await,
                Event::CanReport => self.report_next(),
                Event::Deadline => self.deadline_passed().await,
                Event::MemoryLook => self.look_at_memory().await,
                Event::SpareTended => {}
            }
        }
        let spare = async {
            if let Some(spare) = self.spare.take() {
                spare.end().await;
            }
        };
        let child = async {
            if let Some(child) = self.child.take() {
                child.kill().await;
            }
        };
        tokio::join!(child, spare);
    }

    async fn next_event(&mut self, stop: &CancellationToken) -> Event {
        let (deadline, memory_look) = (self.deadline, self.memory_look);
        let is_memory_limited = self.settings.memory_limit.is_some() && self.child.is_some();
        tokio::select! {
            biased;
            () = stop.cancelled() => Event::Stop,
            () = self.reports.closed() => Event::Stop,
            _ = self.reports.reserve(), if !self.outbox.is_empty() => Event::CanReport,
            command = self.commands.recv() => command.map_or(Event::Stop, Event::Command),
            // Before what the child says: one that never stops talking has limits too.
            () = sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => Event::Deadline,
            () = sleep_until(memory_look), if is_memory_limited => Event::MemoryLook,
            event = next_of(&mut self.child), if self.child.is_some() => Event::Child(event),
            () = tend(&mut self.spare), if self.spare.is_some() => Event::SpareTended,
        }
    }

    async fn prove(&mut self, order: ProveOrder) -> Result<(), ProverError> {
        match &self.state {
            State::Down { cause } => return Err(ProverError::Unavailable { cause: cause.clone() }),
            State::Starting => return Err(ProverError::Unavailable { cause: "it is starting".to_owned() }),
            State::Working { attempt } | State::Cancelling { attempt, .. } => {
                return Err(ProverError::Busy { attempt: *attempt });
            }
            State::Idle if self.outbox.len() > MAX_OUTBOX => {
                return Err(ProverError::Unavailable { cause: "nobody reads its reports".to_owned() });
            }
            State::Idle => {}
        }
        let attempt = order.attempt;
        let line = frames::encode(&ProverInstruction::Prove(order)).map_err(ProverError::Order)?;
        if let Some(child) = &self.child {
            child.forget_last_words();
        }
        match self.send(line).await {
            Ok(()) => {
                self.state = State::Working { attempt };
                self.deadline = self.settings.time_limit.and_then(|limit| Instant::now().checked_add(limit));
                Ok(())
            }
            Err(cause) => {
                self.bring_down(Fault::worker(cause.clone())).await;
                Err(ProverError::Unavailable { cause })
            }
        }
    }

    async fn cancel(&mut self, attempt: AttemptId, reply: oneshot::Sender<()>) {
        self.outbox.retain(|report| report.attempt() != Some(attempt));
        match &mut self.state {
            State::Working { attempt: current } if *current == attempt => {
                self.state = State::Cancelling { attempt, replies: vec![reply] };
                self.deadline = Some(Instant::now() + self.settings.cancel_grace);
                let sent = match frames::encode(&ProverInstruction::Cancel { attempt }) {
                    // A child that reads nothing gets no more time for that.
                    Ok(line) => timeout(self.settings.cancel_grace, self.send(line))
                        .await
                        .unwrap_or_else(|_| Err("it does not read its instructions".to_owned())),
                    Err(error) => Err(error.to_string()),
                };
                if let Err(cause) = sent {
                    self.bring_down(Fault::worker(cause)).await;
                }
            }
            State::Cancelling { attempt: current, replies } if *current == attempt => replies.push(reply),
            _ => _ = reply.send(()), // a caller who left does not mind
        }
    }

    async fn hear(&mut self, event: ChildEvent) {
        match event {
            ChildEvent::Line(line) => match frames::decode(&line) {
                Ok(message) => self.understand(message).await,
                Err(cause) => self.bring_down(Fault::worker(format!("the prover sent garbage: {cause}"))).await,
            },
            ChildEvent::Broken(cause) => self.bring_down(Fault::worker(cause)).await,
            ChildEvent::Exited(status) => {
                let fault = match (&self.state, &self.child) {
                    (State::Cancelling { .. }, _) => Fault::worker(ENDED_WITH_ATTEMPT),
                    (_, Some(child)) => child.exit_fault(status),
                    (_, None) => Fault::worker(status.to_string()),
                };
                self.bring_down(fault).await;
            }
        }
    }

    async fn understand(&mut self, message: ProverMessage) {
        let in_hand = match &self.state {
            State::Working { attempt } => Some(*attempt),
            _ => None,
        };
        match message {
            ProverMessage::Ready { protocol, .. } if protocol != PROTOCOL_VERSION => {
                let cause = format!("the prover speaks version {protocol} of the frames, not {PROTOCOL_VERSION}");
                self.bring_down(Fault::worker(cause)).await;
            }
            ProverMessage::Ready { profile, .. } => {
                if matches!(self.state, State::Starting) {
                    self.is_ready(profile);
                }
            }
            ProverMessage::Progress { attempt, progress } if in_hand == Some(attempt) => {
                self.report(ProverReport::Progress { attempt, progress });
            }
            ProverMessage::Executed { attempt, execution } if in_hand == Some(attempt) => {
                self.report(ProverReport::Executed { attempt, execution });
            }
            ProverMessage::Proved { attempt, digest, size } => {
                self.finish(attempt, ProverReport::Proved { attempt, digest, size });
            }
            ProverMessage::Failed { attempt, fault } => {
                let fault = Fault::new(fault.class, fault.cause); // bounded and tidied
                self.finish(attempt, ProverReport::Failed { attempt, fault });
            }
            ProverMessage::Cancelled { attempt } => {
                let fault = Fault::worker("the prover dropped the attempt without being told to");
                self.finish(attempt, ProverReport::Failed { attempt, fault });
            }
            ProverMessage::Leaving => {
                let fault = match self.state {
                    State::Cancelling { .. } => Fault::worker(ENDED_WITH_ATTEMPT),
                    // An order that crossed this on its way was never begun.
                    _ => Fault::lost("it could not go on after its last attempt, and ended"),
                };
                self.bring_down(fault).await;
            }
            ProverMessage::Progress { .. } | ProverMessage::Executed { .. } => {} // of a cancelled attempt
        }
    }

    /// The child can take an order.
    fn is_ready(&mut self, profile: ProverProfile) {
        self.state = State::Idle;
        self.deadline = None;
        self.report(ProverReport::Ready(profile));
        if let Some(spare) = &mut self.spare {
            spare.stand_by(self.spare_not_before);
        }
    }

    /// The child is done with `attempt`; `report` says how, unless it was cancelled.
    fn finish(&mut self, attempt: AttemptId, report: ProverReport) {
        // A prover that fails by itself and then ends, again and again, is no better than one that does not start.
        let is_own_failure = matches!(&report, ProverReport::Failed { fault, .. }
            if matches!(fault.class, FaultClass::Worker | FaultClass::Resources));
        match &mut self.state {
            State::Working { attempt: current } if *current == attempt => self.report(report),
            State::Cancelling { attempt: current, replies } if *current == attempt => {
                for reply in mem::take(replies) {
                    let _ = reply.send(());
                }
            }
            _ => return tracing::debug!(attempt.id = %attempt, "the prover speaks of an attempt that is not in hand"),
        }
        self.state = State::Idle;
        self.deadline = None;
        if !is_own_failure {
            self.back_off.reset();
        }
    }

    async fn deadline_passed(&mut self) {
        match &self.state {
            State::Down { .. } => match start_child(&self.command) {
                Ok(child) => {
                    self.child = Some(child);
                    self.state = State::Starting;
                    self.deadline = Some(Instant::now() + self.settings.start_timeout);
                }
                Err(cause) => self.bring_down(Fault::worker(cause)).await,
            },
            State::Starting => {
                let waited = self.settings.start_timeout.as_secs();
                self.bring_down(Fault::worker(format!("the prover was not ready after {waited} s"))).await;
            }
            State::Cancelling { .. } => {
                self.bring_down(Fault::worker("it did not stop when its attempt was cancelled")).await;
            }
            State::Working { .. } => {
                let limit = self.settings.time_limit.unwrap_or_default();
                let cause = format!("it was not done after {}, its time_limit", humantime::format_duration(limit));
                self.bring_down(Fault::resources(cause)).await;
            }
            State::Idle => self.deadline = None,
        }
    }

    async fn look_at_memory(&mut self) {
        self.memory_look = Instant::now() + MEMORY_LOOK;
        let (Some(child), Some(limit)) = (&self.child, self.settings.memory_limit) else { return };
        let taken = child.memory().await;
        if taken > limit {
            let (taken, limit) = (ByteSize::b(taken), ByteSize::b(limit));
            let cause = format!("it took {taken} of memory, more than its memory_limit of {limit}");
            self.bring_down(Fault::resources(cause)).await;
        }
    }

    /// Kills what is left of the child, ends the attempt in hand with `fault`, and has the spare take over or sets the
    /// time of the restart.
    async fn bring_down(&mut self, fault: Fault) {
        if let Some(child) = self.child.take() {
            child.kill().await;
        }
        let cause = fault.cause.clone();
        let delay = match mem::replace(&mut self.state, State::Down { cause: cause.clone() }) {
            State::Working { attempt } => {
                tracing::warn!(attempt.id = %attempt, cause, "a prover ended in the middle of an attempt");
                self.report(ProverReport::Failed { attempt, fault });
                self.back_off.next()
            }
            State::Cancelling { attempt, replies } => {
                tracing::debug!(attempt.id = %attempt, cause, "a prover ended with its cancelled attempt");
                for reply in replies {
                    let _ = reply.send(());
                }
                Duration::ZERO
            }
            State::Down { .. } | State::Starting | State::Idle => {
                tracing::warn!(cause, "a prover ended");
                self.back_off.next()
            }
        };
        self.spare_not_before = Instant::now() + delay;
        self.deadline = Some(self.spare_not_before);
        self.report(ProverReport::Unavailable { cause });
        match self.spare.as_mut().and_then(Spare::take) {
            Some(Successor::Ready(child, profile)) => {
                tracing::info!("a spare prover takes over");
                self.child = Some(child);
                self.is_ready(profile);
            }
            Some(Successor::Starting(child, until)) => {
                self.child = Some(child);
                self.state = State::Starting;
                self.deadline = Some(until);
            }
            None => {}
        }
    }

    async fn send(&mut self, line: String) -> Result<(), String> {
        match &mut self.child {
            Some(child) => child.send(line).await,
            None => Err("the prover is not running".to_owned()),
        }
    }

    /// Queues a report in the outbox; a newer one of the same kind takes the place of the last.
    fn report(&mut self, report: ProverReport) {
        let is_superseded = matches!(
            (self.outbox.back(), &report),
            (Some(ProverReport::Progress { attempt: old, .. }), ProverReport::Progress { attempt: new, .. }) if old == new
        ) || matches!(
            (self.outbox.back(), &report),
            (
                Some(ProverReport::Ready(_) | ProverReport::Unavailable { .. }),
                ProverReport::Ready(_) | ProverReport::Unavailable { .. }
            )
        );
        if is_superseded {
            self.outbox.pop_back();
        }
        self.outbox.push_back(report);
    }

    fn report_next(&mut self) {
        if let Some(report) = self.outbox.pop_front()
            && let Err(mpsc::error::TrySendError::Full(report)) = self.reports.try_send(report)
        {
            self.outbox.push_front(report);
        }
    }
}

/// Starts a prover child.
///
/// # Errors
/// Why it cannot be started.
pub(crate) fn start_child(command: &ChildCommand) -> Result<RunningChild, String> {
    let started = RunningChild::start(NAME, command, None);
    let child = started.map_err(|error| format!("cannot start {}: {error}", command.program.display()))?;
    // What a child left behind that died with all who had it mapped.
    drop(tokio::task::spawn_blocking(sweep_shared_memory));
    Ok(child)
}

async fn tend(spare: &mut Option<Spare>) {
    match spare {
        Some(spare) => spare.tend().await,
        None => std::future::pending().await,
    }
}

async fn next_of(child: &mut Option<RunningChild>) -> ChildEvent {
    match child {
        Some(child) => child.next_event().await,
        None => std::future::pending().await,
    }
}
