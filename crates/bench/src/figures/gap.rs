//! How long a prover idles between two proofs while requests wait.

use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use rand::RngCore as _;
use sp1_network_api::{artifact::ArtifactType, network::FulfillmentStatus};
use tokio::time::sleep;

use super::{median, prepare};
use crate::{
    client::{Variant, status_request},
    contemplant::{Contemplant, Settings},
    report::{Figure, Target, float},
    server::{Bench, Verification},
};

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Requests that wait for the one worker.
    #[arg(long, default_value_t = 16)]
    count: usize,
    /// Size of each input in MiB.
    #[arg(long, default_value_t = 64)]
    mib: u64,
    /// How long a mock proof takes, in milliseconds.
    #[arg(long, default_value_t = 1000)]
    work: u64,
}

/// Between two looks whether all is done: seldom, since looking takes from what is measured.
const PAUSE: Duration = Duration::from_millis(250);

pub(crate) async fn measure(bench: &Bench, options: &Options) -> anyhow::Result<Figure> {
    ensure!(options.count >= 2, "a gap is between two proofs");
    let mut ahead = gaps(bench, options, u64::MAX >> 1).await?;
    let mut behind = gaps(bench, options, 0).await?;
    let about = format!(
        "from the end of one mock proof to the begin of the next on one worker; {} requests wait, each with an input \
         of {} MiB; each proof takes {} ms",
        options.count, options.mib, options.work
    );
    let mut figure = Figure::new("gap", about);
    figure.add("idle, median", median(&mut ahead), "ms", Some(Target::Below(50.0)));
    figure.add("idle, longest", ahead.last().copied().unwrap_or_default(), "ms", None);
    figure.add("nothing fetched ahead, median", median(&mut behind), "ms", None);
    Ok(figure)
}

/// The gaps in milliseconds.
async fn gaps(bench: &Bench, options: &Options, max_input_cache_bytes: u64) -> anyhow::Result<Vec<f64>> {
    let server = bench.start(Verification::Bench).await?;
    let (mut client, mut wanted) = prepare(&server).await?;
    let mut piece = vec![0; 1 << 20];
    let mut ids = Vec::new();
    for number in 0..options.count {
        rand::rng().fill_bytes(&mut piece);
        wanted.stdin_uri = client.upload(ArtifactType::Stdin, &piece, options.mib).await?;
        ids.push(client.request_proof(wanted.request(client.key(), number, Variant::Base)).await?);
    }
    let settings = Settings { script: format!("work {}ms", options.work), max_input_cache_bytes };
    let contemplant = Contemplant::start(bench, server.endpoints().http, settings)?;
    for id in &ids {
        let question = status_request(id);
        loop {
            match client.status(question.clone()).await? {
                FulfillmentStatus::Fulfilled => break,
                FulfillmentStatus::Assigned => sleep(PAUSE).await,
                other => bail!("a request became {other:?}"),
            }
        }
    }
    let times = contemplant.times().context("the times of the prover")?;
    ensure!(times.len() == options.count, "{} proofs were made", times.len());
    let gap = |pair: &[(u64, u64)]| float(pair[1].0.saturating_sub(pair[0].1)) / 1e6;
    let gaps = times.windows(2).map(gap).collect();
    drop(contemplant);
    server.stop().await?;
    Ok(gaps)
}
