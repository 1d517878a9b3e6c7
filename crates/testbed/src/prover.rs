//! The prover child of the measured contemplant: plays a script whatever its input is, and writes down when.

use std::{fs::File, io::Write as _, path::PathBuf, process::ExitCode, sync::Mutex, time::Instant};

use async_trait::async_trait;
use network_lib::{CircuitVersion, Fault, ProverProfile};
use proving::{
    Execution, ProveOrder,
    child::{Channel, Prove, Reporter, serve_prover},
    mock::MockClaim,
    script::{Host, Origin, Player, ProofForm, Script},
};

use crate::{client::CIRCUIT_VERSION, clock, worker};

/// What the prover child is told.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Where to write when each proof began and ended.
    #[arg(long)]
    times: PathBuf,
    /// Where to write the attempt of each proof that is begun, after what earlier provers wrote.
    #[arg(long)]
    starts: Option<PathBuf>,
    /// How many of the first proofs begun fail as the worker's fault, as counted in that file.
    #[arg(long, default_value_t = 0)]
    failures: usize,
    /// What to play.
    #[arg(long)]
    script: String,
}

struct TimedProver {
    script: Script,
    player: Player,
    since: Instant,
    times: Mutex<File>,
    starts: Option<PathBuf>,
    failures: usize,
}

impl TimedProver {
    fn now(&self) -> u128 {
        clock::now().duration_since(self.since).as_nanos()
    }

    /// Writes the start of a proof down; answers which one it is.
    fn note_start(&self, order: &ProveOrder) -> Result<usize, Fault> {
        let Some(path) = &self.starts else { return Ok(usize::MAX) };
        let trouble = |error: std::io::Error| Fault::worker(error.to_string());
        let mut file = File::options().create(true).append(true).open(path).map_err(trouble)?;
        file.write_all(format!("{}\n", order.attempt).as_bytes()).map_err(trouble)?;
        Ok(std::fs::read_to_string(path).map_err(trouble)?.lines().count())
    }
}

#[async_trait]
impl Prove for TimedProver {
    fn profile(&self) -> ProverProfile {
        worker::prover()
    }

    async fn prove(&self, order: &ProveOrder, reporter: &Reporter) -> Result<(), Fault> {
        let began = self.now();
        if self.note_start(order)? <= self.failures {
            return Err(Fault::worker("one of the first proofs, which fail"));
        }
        self.player.play(&self.script, reporter, &mut Scene { order, reporter }).await?;
        let line = format!("{began} {}\n", self.now());
        let mut times = self.times.lock().map_err(|_| Fault::worker("a former proof panicked"))?;
        times.write_all(line.as_bytes()).map_err(|error| Fault::worker(error.to_string()))
    }
}

struct Scene<'a> {
    order: &'a ProveOrder,
    reporter: &'a Reporter,
}

#[async_trait]
impl Host for Scene<'_> {
    async fn execute(&mut self, cycles: u64) -> Result<(), Fault> {
        self.reporter.executed(Execution { cycles, gas: None, public_values_hash: [0; 32] });
        Ok(())
    }

    async fn prove(&mut self, form: ProofForm) -> Result<(), Fault> {
        let claim = MockClaim {
            vk_hash: self.order.vk_hash,
            mode: self.order.mode,
            circuit_version: CircuitVersion::new(CIRCUIT_VERSION),
            public_values_hash: [0; 32],
        };
        let written = std::fs::write(&self.order.output, form.finish(Vec::new(), claim));
        written.map_err(|error| Fault::worker(format!("cannot write the proof: {error}")))
    }
}

/// Serves until the parent goes.
pub fn run(options: &Options) -> ExitCode {
    let serve = || -> anyhow::Result<()> {
        let channel = Channel::take()?;
        let prover = TimedProver {
            script: Script::parse(&options.script, Origin::Operator)?,
            player: Player::default(),
            since: clock::now(),
            times: Mutex::new(File::create(&options.times)?),
            starts: options.starts.clone(),
            failures: options.failures,
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(runtime.block_on(serve_prover(channel, prover))?)
    };
    match serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            crate::last_word(&format!("prover: {error:#}"));
            ExitCode::FAILURE
        }
    }
}
