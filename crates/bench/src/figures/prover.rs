//! Our provers beside those of the published SDK: the same proofs, one prover after the other on the same machine.

use std::{path::PathBuf, process::Stdio, time::Duration};

use anyhow::{Context as _, bail};
use network_lib::{AttemptId, Backend, CircuitVersion, Digest, ProofMode};
use proving::{ChildCommand, ProveOrder, ProverChild, ProverReport, ProverSettings};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader, Lines},
    process::{ChildStdout, Command},
    sync::mpsc,
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::median;
use crate::{
    client::CIRCUIT_VERSION,
    clock, process,
    report::{Figure, Target, mib, progress},
    server::Bench,
};

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// What makes the proofs: cpu or gpu. The GPU server is that in ~/.sp1/bin.
    #[arg(long, default_value = "cpu")]
    backend: Backend,
    /// The form of the proofs: core or compressed.
    #[arg(long, default_value = "core")]
    mode: ProofMode,
    /// Proofs of each prover.
    #[arg(long, default_value_t = 3)]
    proofs: usize,
    /// Which Fibonacci number is proved.
    #[arg(long, default_value_t = 20)]
    n: u32,
    /// Ours alone.
    #[arg(long)]
    alone: bool,
}

/// The program, and the hash of its verifying key.
const FIBONACCI: &[u8] = include_bytes!("../../../../programs/fibonacci/elf/fibonacci");
const VK_HASH: &str = "386ed860305a5a535c3fa1cc3bcdb844489faef5341b7213202e529e32eb5c43";

/// What this figure may not exceed.
pub(super) const LONGEST: Duration = Duration::from_hours(4);

/// How long a prover may take to start, and a proof.
pub(super) const PATIENCE: Duration = Duration::from_mins(30);

/// What a prover took.
struct Taken {
    /// Until it was ready, in seconds.
    start: f64,
    /// Each proof, in seconds.
    proofs: Vec<f64>,
    /// Most memory of its largest process, in bytes.
    peak: u64,
}

pub(crate) async fn measure(bench: &Bench, options: &Options) -> anyhow::Result<Figure> {
    let Options { backend, mode, proofs, n, alone: _ } = options;
    let about = format!("{backend}, fibonacci {n}, {mode}: {proofs} proofs one after the other");
    let mut figure = Figure::new("prover", about);
    progress("our prover …");
    let mut ours = ours(bench, options).await.context("our prover")?;
    add(&mut figure, "ours", &mut ours);
    if !options.alone {
        progress("the SDK's prover …");
        let mut theirs = theirs(options).await.context("the SDK's prover")?;
        add(&mut figure, "the SDK's", &mut theirs);
        figure.add(
            "a proof, ours / the SDK's",
            ratio(median(&mut ours.proofs), median(&mut theirs.proofs)),
            "",
            Some(Target::Below(1.3)),
        );
        figure.add("memory, ours / the SDK's", ratio(mib(ours.peak), mib(theirs.peak)), "", None);
    }
    Ok(figure)
}

fn ratio(a: f64, b: f64) -> f64 {
    if b > 0.0 { a / b } else { 0.0 }
}

fn add(figure: &mut Figure, whose: &str, taken: &mut Taken) {
    figure.add(format!("{whose}: start"), taken.start, "s", None);
    figure.add(format!("{whose}: first proof"), taken.proofs.first().copied().unwrap_or_default(), "s", None);
    figure.add(format!("{whose}: a proof, median"), median(&mut taken.proofs), "s", None);
    figure.add(format!("{whose}: most memory"), mib(taken.peak), "MiB", None);
}

/// `contemplant`'s own prover child, spoken to as the contemplant does.
pub(super) struct OurProver {
    pub(super) prover: ProverChild,
    pub(super) reports: mpsc::Receiver<ProverReport>,
    tracker: TaskTracker,
    stop: CancellationToken,
}

impl OurProver {
    /// Starts it, and waits until it is ready.
    pub(super) async fn start(bench: &Bench, backend: Backend, settings: ProverSettings) -> anyhow::Result<Self> {
        let mut args = vec!["prover", "--backend", backend.name()];
        if settings.has_spare && backend == Backend::Gpu {
            args.push("--gpu-spare");
        }
        let args = args.into_iter().map(Into::into).collect();
        let command = ChildCommand { program: bench.contemplant()?, args, env: Vec::new() };
        let (tracker, stop) = (TaskTracker::new(), CancellationToken::new());
        let (prover, reports) = ProverChild::start(command, settings, &tracker, stop.clone());
        let mut ours = Self { prover, reports, tracker, stop };
        ours.wait(|report| matches!(report, ProverReport::Ready(_))).await?;
        Ok(ours)
    }

    /// Waits for a report; one that tells of trouble is an error.
    pub(super) async fn wait(&mut self, is_it: fn(&ProverReport) -> bool) -> anyhow::Result<()> {
        let waiting = async {
            loop {
                match self.reports.recv().await.context("the prover has ended")? {
                    report if is_it(&report) => return Ok(()),
                    ProverReport::Failed { fault, .. } => bail!("{fault}"),
                    ProverReport::Unavailable { cause } => bail!("{cause}"),
                    _ => {}
                }
            }
        };
        timeout(PATIENCE, waiting).await.context("it took too long")?
    }

    pub(super) async fn stop(self) {
        self.stop.cancel();
        self.tracker.close();
        self.tracker.wait().await;
    }
}

/// What our prover takes.
async fn ours(bench: &Bench, options: &Options) -> anyhow::Result<Taken> {
    let directory = tempfile::tempdir()?;
    let began = clock::now();
    let mut ours = OurProver::start(bench, options.backend, ProverSettings::default()).await?;
    let mut taken = Taken { start: began.elapsed().as_secs_f64(), proofs: Vec::new(), peak: 0 };
    let order = order(&directory, options.mode, options.n)?;
    for number in 0..options.proofs {
        let began = clock::now();
        let attempt = AttemptId::new([u8::try_from(number).unwrap_or_default(); 16]);
        ours.prover.prove(ProveOrder { attempt, ..order.clone() }).await?;
        ours.wait(|report| matches!(report, ProverReport::Proved { .. })).await?;
        taken.proofs.push(began.elapsed().as_secs_f64());
    }
    taken.peak = process::largest_peak(std::process::id())?;
    ours.stop().await;
    Ok(taken)
}

/// An order for the proof, with the artifacts that it names.
pub(super) fn order(directory: &TempDir, mode: ProofMode, n: u32) -> anyhow::Result<ProveOrder> {
    let at = |name: &str| directory.path().join(name);
    let with_length = |bytes: &[u8]| [&(bytes.len() as u64).to_le_bytes(), bytes].concat();
    let program = with_length(FIBONACCI);
    std::fs::write(at("program"), &program)?;
    // One value, none of which is read yet, and no proofs.
    let value = with_length(&n.to_le_bytes());
    let stdin = [&1_u64.to_le_bytes(), value.as_slice(), &0_u64.to_le_bytes(), &0_u64.to_le_bytes()].concat();
    std::fs::write(at("stdin"), stdin)?;
    let mut vk_hash = [0; 32];
    hex::decode_to_slice(VK_HASH, &mut vk_hash)?;
    Ok(ProveOrder {
        attempt: AttemptId::new([0; 16]),
        program: at("program"),
        program_digest: Digest::of(&program),
        stdin: at("stdin"),
        output: at("proof"),
        mode,
        circuit_version: CircuitVersion::new(CIRCUIT_VERSION),
        vk_hash,
        cycle_limit: u64::MAX,
        gas_limit: u64::MAX,
    })
}

/// What the SDK's prover takes.
async fn theirs(options: &Options) -> anyhow::Result<Taken> {
    let mut command = Command::new(sdk_prover()?);
    let Options { backend, mode, proofs, n, alone: _ } = options;
    command.args([backend.to_string(), mode.to_string(), proofs.to_string(), n.to_string()]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
    let began = clock::now();
    let mut child = command.spawn()?;
    let mut lines = BufReader::new(child.stdout.take().context("its output")?).lines();
    hear(&mut lines, "ready").await?;
    let mut taken = Taken { start: began.elapsed().as_secs_f64(), proofs: Vec::new(), peak: 0 };
    for _ in 0..options.proofs {
        hear(&mut lines, "begun").await?;
        let began = clock::now();
        hear(&mut lines, "proved").await?;
        taken.proofs.push(began.elapsed().as_secs_f64());
    }
    taken.peak = process::largest_peak(child.id().context("it has ended")?)?;
    drop(child.stdin.take());
    child.wait().await?;
    Ok(taken)
}

async fn hear(lines: &mut Lines<BufReader<ChildStdout>>, word: &str) -> anyhow::Result<()> {
    let hearing = async {
        while let Some(line) = lines.next_line().await? {
            if line == word {
                return Ok(());
            }
        }
        bail!("it ended before it was {word}")
    };
    timeout(PATIENCE, hearing).await.context("it took too long")?
}

fn sdk_prover() -> anyhow::Result<PathBuf> {
    let path = std::env::current_exe()?.with_file_name("sdk-prover");
    if !path.exists() {
        bail!("{} is missing: `make bench-prover` builds it", path.display());
    }
    Ok(path)
}
