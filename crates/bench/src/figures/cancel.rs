//! How soon a prover is free after its attempt was cancelled, in each phase of a proof.

use std::time::Duration;

use anyhow::{Context as _, bail};
use network_lib::{AttemptId, Backend, ProofMode};
use proving::{Phase, ProveOrder, ProverError, ProverReport, ProverSettings};
use tokio::time::{sleep, timeout};

use super::prover::{OurProver, PATIENCE, order};
use crate::{
    clock,
    report::{Figure, Target, progress},
    server::Bench,
};

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// What makes the proofs: cpu or gpu. The GPU server is that in ~/.sp1/bin.
    #[arg(long, default_value = "cpu")]
    backend: Backend,
    /// Keep a spare prover, and give it so many seconds to start before each cancel.
    #[arg(long, value_name = "SECONDS")]
    spare: Option<u64>,
    /// Which Fibonacci number is proved: large enough for its execution to be caught.
    #[arg(long, default_value_t = 10_000_000)]
    n: u32,
    /// Which one for a phase that comes after the shards are proved.
    #[arg(long, default_value_t = 20)]
    small_n: u32,
}

/// In which phases an attempt is cancelled.
const PHASES: [Phase; 3] = [Phase::Executing, Phase::Proving, Phase::Compressing];

pub(crate) async fn measure(bench: &Bench, options: &Options) -> anyhow::Result<Figure> {
    let has_spare = options.spare.is_some();
    let settings = ProverSettings { has_spare, ..ProverSettings::default() };
    let with = if has_spare { "with a spare" } else { "without a spare" };
    let about = format!("an attempt is cancelled until nothing of it runs, and until the next is taken; {with}");
    let mut figure = Figure::new(format!("cancel, {}", options.backend), about);
    let mut ours = OurProver::start(bench, options.backend, settings).await?;
    let directory = tempfile::tempdir()?;
    for (number, phase) in (1..).zip(PHASES) {
        sleep(Duration::from_secs(options.spare.unwrap_or_default())).await;
        progress(&format!("cancelling while {} …", phase.name()));
        let n = if phase == Phase::Compressing { options.small_n } else { options.n };
        let order = order(&directory, ProofMode::Compressed, n)?;
        let attempt = AttemptId::new([number; 16]);
        take(&mut ours, ProveOrder { attempt, ..order.clone() }).await?;
        reach(&mut ours, attempt, phase).await?;
        let began = clock::now();
        ours.prover.cancel(attempt).await?;
        let stopped = began.elapsed().as_secs_f64();
        let next = AttemptId::new([number | 0x80; 16]);
        take(&mut ours, ProveOrder { attempt: next, ..order }).await?;
        let free = began.elapsed().as_secs_f64();
        ours.prover.cancel(next).await?;
        figure.add(format!("{}: stopped after", phase.name()), stopped, "s", Some(Target::Below(5.0)));
        figure.add(format!("{}: free after", phase.name()), free, "s", has_spare.then_some(Target::Below(5.0)));
    }
    ours.stop().await;
    Ok(figure)
}

/// Gives the order, as soon as it is taken.
async fn take(ours: &mut OurProver, order: ProveOrder) -> anyhow::Result<()> {
    let taking = async {
        loop {
            match ours.prover.prove(order.clone()).await {
                Ok(()) => return Ok(()),
                // Tried again at each news of it: one is that it is ready.
                Err(ProverError::Unavailable { .. }) => {
                    ours.reports.recv().await.context("the prover has ended")?;
                }
                Err(error) => return Err(error.into()),
            }
        }
    };
    timeout(PATIENCE, taking).await.context("the prover does not come back")?
}

/// Waits until the attempt is in this phase.
async fn reach(ours: &mut OurProver, wanted: AttemptId, phase: Phase) -> anyhow::Result<()> {
    let reaching = async {
        loop {
            match ours.reports.recv().await.context("the prover has ended")? {
                ProverReport::Progress { attempt, progress } if attempt == wanted && progress.phase == phase => {
                    return Ok(());
                }
                ProverReport::Proved { attempt, .. } if attempt == wanted => {
                    bail!("the proof was made before it was seen {}", phase.name())
                }
                ProverReport::Failed { fault, .. } => bail!("{fault}"),
                _ => {}
            }
        }
    };
    timeout(PATIENCE, reaching).await.with_context(|| format!("the attempt does not come to {}", phase.name()))?
}
