//! The provers: one child process each, spoken to in order and without holding up the agent.

use async_trait::async_trait;
use network_lib::{AttemptId, CircuitVersion, Fault, ProverProfile};
use proving::{ChildCommand, ProveOrder, ProverChild, ProverError, ProverReport, ProverSettings};
use tokio::sync::mpsc;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    config::provers::{ProverConfig, ProverProgram},
    failure::chain,
};

/// What makes proofs, as the agent sees it: [`ProverChild`], or something simpler in tests.
///
/// The contract is that of [`ProverChild`]: of an accepted order comes exactly one `Proved` or `Failed` unless it
/// is cancelled, and after `cancel` has returned nothing of the attempt is running.
#[async_trait]
pub trait Prover: Send + Sync + 'static {
    /// Gives it an order.
    ///
    /// # Errors
    /// [`ProverError`]; nothing is reported of an order that was not accepted.
    async fn prove(&self, order: ProveOrder) -> Result<(), ProverError>;

    /// Stops an attempt. One that is not in hand is fine.
    ///
    /// # Errors
    /// [`ProverError::Stopped`]
    async fn cancel(&self, attempt: AttemptId) -> Result<(), ProverError>;
}

#[async_trait]
impl Prover for ProverChild {
    async fn prove(&self, order: ProveOrder) -> Result<(), ProverError> {
        Self::prove(self, order).await
    }

    async fn cancel(&self, attempt: AttemptId) -> Result<(), ProverError> {
        Self::cancel(self, attempt).await
    }
}

/// A prover and what it says.
pub struct ProverPort {
    /// What is said of it until it is ready.
    pub placeholder: ProverProfile,
    /// What to tell.
    pub prover: Box<dyn Prover>,
    /// What it says.
    pub reports: mpsc::Receiver<ProverReport>,
}

impl std::fmt::Debug for ProverPort {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ProverPort").field("placeholder", &self.placeholder).finish_non_exhaustive()
    }
}

impl ProverPort {
    /// Starts the child that `config` describes. It is killed on `stop`.
    pub fn start(config: &ProverConfig, tracker: &TaskTracker, stop: &CancellationToken) -> Self {
        let (child, reports) = ProverChild::start(command(config), ProverSettings::default(), tracker, stop.clone());
        Self { placeholder: placeholder(config), prover: Box::new(child), reports }
    }
}

/// What is said of a prover that is not ready: it holds its place in the list, and can prove nothing.
pub fn placeholder(config: &ProverConfig) -> ProverProfile {
    ProverProfile {
        vm: config.vm,
        backend: config.backend,
        device: format!("{} (starting)", config.backend),
        circuit_version: CircuitVersion::new(""),
        modes: Vec::new(),
        memory_bytes: 0,
    }
}

/// How a built-in prover child starts an executor of its own.
pub fn executor_command() -> ChildCommand {
    own_command(&["executor"])
}

/// This very binary: the link leads to it even after the file was replaced by another version.
fn own_command(args: &[&str]) -> ChildCommand {
    ChildCommand { program: "/proc/self/exe".into(), args: args.iter().map(Into::into).collect(), env: Vec::new() }
}

fn command(config: &ProverConfig) -> ChildCommand {
    match &config.program {
        ProverProgram::BuiltIn => own_command(&["prover", "--backend", config.backend.name()]),
        ProverProgram::External { program, args } => {
            ChildCommand { program: program.clone(), args: args.iter().map(Into::into).collect(), env: Vec::new() }
        }
    }
}

/// What a prover is told.
#[derive(Debug)]
pub(crate) enum Command {
    Prove { order: Box<ProveOrder>, readiness: u64 },
    Cancel(AttemptId),
}

/// How a command went.
#[derive(Debug)]
pub(crate) enum Answer {
    /// The order was not taken: because of this fault, or without one since the child is just not up.
    NotTaken { attempt: AttemptId, readiness: u64, fault: Option<Fault> },
    /// Nothing of the attempt is running.
    Stopped(AttemptId),
}

/// Commands that wait at most: an order, its cancelling, and the next order.
const MAX_COMMANDS: usize = 8;

/// Carries out commands one after the other, so that a cancel never overtakes its order, in a future of its own,
/// so that a child that is slow to stop holds up nobody else.
pub(crate) fn drive<A: Send + 'static>(
    prover: Box<dyn Prover>,
    tracker: &TaskTracker,
    answers: mpsc::Sender<A>,
    answer: impl Fn(Answer) -> A + Send + 'static,
) -> mpsc::Sender<Command> {
    let (sender, mut commands) = mpsc::channel(MAX_COMMANDS);
    tracker.spawn(async move {
        while let Some(command) = commands.recv().await {
            let done = match command {
                Command::Prove { order, readiness } => {
                    let attempt = order.attempt;
                    match prover.prove(*order).await {
                        Ok(()) => continue,
                        // Everything ends; the journal keeps the attempt for the next start.
                        Err(ProverError::Stopped) => return,
                        Err(ProverError::Unavailable { .. }) => Answer::NotTaken { attempt, readiness, fault: None },
                        Err(error @ (ProverError::Busy { .. } | ProverError::Order(_))) => {
                            let fault = Some(Fault::worker(chain(&error)));
                            Answer::NotTaken { attempt, readiness, fault }
                        }
                    }
                }
                Command::Cancel(attempt) => match prover.cancel(attempt).await {
                    Ok(()) => Answer::Stopped(attempt),
                    Err(_) => return,
                },
            };
            if answers.send(answer(done)).await.is_err() {
                return;
            }
        }
    });
    sender
}
