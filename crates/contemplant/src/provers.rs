//! The provers: one child process each, spoken to in order and without holding up the agent.

use std::{ffi::OsString, path::Path, time::Duration};

use async_trait::async_trait;
use network_lib::{AttemptId, Backend, CircuitVersion, Fault, ProverProfile};
use proving::{ChildCommand, ProveOrder, ProverChild, ProverError, ProverReport, ProverSettings};
use tokio::sync::mpsc;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    cli::GpuArgs,
    config::provers::{ProverConfig, ProverProgram},
    failure::chain,
    snark::Snarks,
};

/// The longest wait before the prover of a GPU is started again.
const LONGEST_GPU_RESTART_DELAY: Duration = Duration::from_mins(10);

/// Memory for each prover on the processor from which it has a spare, in bytes: without what that takes, there is as much
/// as SP1's own size of shards takes.
const SPARE_FROM: u64 = 48 << 30;
/// What a machine has less than it is said to have, in bytes.
const KEPT_BY_MACHINES: u64 = 1 << 30;

/// How much longer a prover may take to start that may have to download its server.
const DOWNLOAD_TIME: Duration = Duration::from_mins(45);

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
    /// Starts the child that `config` describes. It is killed on `stop`. `snarks` are what this machine is ready for
    /// besides what every prover can do. Temporary files of the child and of all that it starts go to `scratch`.
    pub fn start(
        config: &ProverConfig,
        snarks: &Snarks,
        scratch: &Path,
        tracker: &TaskTracker,
        stop: &CancellationToken,
    ) -> Self {
        let mut command = command(config, snarks);
        command.env.push(("TMPDIR".into(), scratch.into()));
        let (child, reports) = ProverChild::start(command, settings(config), tracker, stop.clone());
        Self { placeholder: placeholder(config), prover: Box::new(child), reports }
    }
}

/// What is said of a prover that is not ready: it holds its place in the list, and can prove nothing. The agent adds why.
pub fn placeholder(config: &ProverConfig) -> ProverProfile {
    ProverProfile {
        vm: config.vm,
        backend: config.backend,
        device: match &config.program {
            ProverProgram::Gpu(gpu) => format!("gpu {}", gpu.device),
            _ => config.backend.to_string(),
        },
        circuit_version: CircuitVersion::new(""),
        modes: Vec::new(),
        memory_bytes: 0,
    }
}

/// How a built-in prover child starts an executor of its own.
pub fn executor_command() -> ChildCommand {
    own_command(vec!["executor".into()])
}

/// This very binary: the link leads to it even after the file was replaced by another version.
fn own_command(args: Vec<OsString>) -> ChildCommand {
    ChildCommand { program: "/proc/self/exe".into(), args, env: Vec::new() }
}

/// Decides which provers have a spare where the configuration leaves it open: those that take minutes to start, if this
/// much `memory` in bytes is enough for it.
pub fn decide_spares(provers: &mut [ProverConfig], memory: u64) {
    let is_slow = |prover: &ProverConfig| prover.backend == Backend::Cpu && prover.program == ProverProgram::BuiltIn;
    let count = provers.iter().filter(|prover| is_slow(prover)).count();
    let wanted = u64::try_from(count).unwrap_or(u64::MAX).saturating_mul(SPARE_FROM - KEPT_BY_MACHINES);
    let has_room = memory >= wanted;
    for prover in provers {
        // Who limits a prover's memory has other uses for the rest.
        let is_default = is_slow(prover) && prover.memory_limit.is_none() && has_room;
        if *prover.spare.get_or_insert(is_default) {
            tracing::info!(backend = %prover.backend, "A second prover will stand by");
        }
    }
}

/// A device that does not come up most often needs a person, so it is tried ever more rarely.
fn settings(config: &ProverConfig) -> ProverSettings {
    let mut settings = ProverSettings {
        memory_limit: config.memory_limit.map(|limit| limit.as_u64()),
        time_limit: config.time_limit,
        has_spare: config.spare.unwrap_or(false),
        ..ProverSettings::default()
    };
    if config.backend == Backend::Gpu {
        settings.longest_restart_delay = LONGEST_GPU_RESTART_DELAY;
    }
    if matches!(&config.program, ProverProgram::Gpu(gpu) if gpu.config.download.is_some()) {
        settings.start_timeout += DOWNLOAD_TIME;
    }
    settings
}

fn command(config: &ProverConfig, snarks: &Snarks) -> ChildCommand {
    let mut args: Vec<OsString> = ["prover", "--backend", config.backend.name()].map(Into::into).to_vec();
    match &config.program {
        ProverProgram::External { program, args } => {
            return ChildCommand {
                program: program.clone(),
                args: args.iter().map(Into::into).collect(),
                env: Vec::new(),
            };
        }
        ProverProgram::Gpu(gpu) => args.extend(GpuArgs::from(gpu).into_args()),
        ProverProgram::BuiltIn => {}
    }
    let snarks = snarks.of(config.backend);
    if !snarks.is_empty() {
        let names: Vec<&str> = snarks.iter().map(|mode| mode.name()).collect();
        args.extend(["--snarks".into(), names.join(",").into()]);
    }
    if let Some(script) = &config.script {
        args.extend(["--script".into(), script.text().into()]);
    }
    if let (Some(limit), Backend::Cpu) = (config.memory_limit, config.backend) {
        args.extend(["--memory".into(), limit.as_u64().to_string().into()]);
    }
    own_command(args)
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

#[cfg(test)]
mod tests {
    use network_lib::{ProofMode, Vm};

    use super::*;

    fn on_processor() -> ProverConfig {
        ProverConfig {
            vm: Vm::Sp1,
            backend: Backend::Cpu,
            program: ProverProgram::BuiltIn,
            script: None,
            memory_limit: None,
            time_limit: None,
            spare: None,
        }
    }

    #[test]
    fn a_prover_of_our_own_is_told_what_the_machine_is_ready_for_and_another_program_is_left_alone() {
        let own = on_processor();
        assert_eq!(command(&own, &Snarks::default()).args, ["prover", "--backend", "cpu"]);
        let both = Snarks { cpu: vec![ProofMode::Plonk, ProofMode::Groth16], gpu: vec![] };
        assert_eq!(command(&own, &both).args, ["prover", "--backend", "cpu", "--snarks", "plonk,groth16"]);
        let program = ProverProgram::External { program: "/p".into(), args: vec!["a".to_owned()] };
        assert_eq!(command(&ProverConfig { program, ..own }, &both).args, ["a"]);
    }

    #[test]
    fn where_nothing_is_said_a_slow_prover_has_a_spare_if_there_is_memory_for_all() {
        let cpu = on_processor();
        let decided = |provers: &[&ProverConfig], gib: u64| {
            let mut provers: Vec<ProverConfig> = provers.iter().map(|prover| (*prover).clone()).collect();
            decide_spares(&mut provers, gib << 30);
            provers.iter().map(|prover| settings(prover).has_spare).collect::<Vec<_>>()
        };
        assert_eq!(decided(&[&cpu], 24), [false]);
        assert_eq!(decided(&[&cpu], 48), [true]);
        assert_eq!(decided(&[&cpu, &cpu], 64), [false, false]);
        let mock = ProverConfig { backend: Backend::Mock, ..cpu.clone() };
        let limited = ProverConfig { memory_limit: Some(bytesize::ByteSize::gib(24)), ..cpu.clone() };
        let said = |spare| ProverConfig { spare: Some(spare), ..cpu.clone() };
        assert_eq!(decided(&[&mock, &limited, &said(false), &said(true)], 1024), [false, false, false, true]);
        assert_eq!(decided(&[&said(true)], 24), [true]);
    }
}
