//! One very large input: uploaded by its client, downloaded by the worker.

use std::time::{Duration, Instant};

use anyhow::{bail, ensure};
use network_lib::protocol::Instruction;
use rand::RngCore as _;
use sp1_network_api::artifact::ArtifactType;

use super::{median, prepare};
use crate::{
    artifact_http::HttpConnection,
    client::Variant,
    clock, process,
    report::{Figure, Target, float, mib},
    server::{Bench, Verification},
    worker::Worker,
};

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Size of the input in MiB.
    #[arg(long, default_value_t = 512)]
    mib: u64,
    /// Times that it is uploaded, and times that it is downloaded.
    #[arg(long, default_value_t = 5)]
    runs: usize,
}

/// What is sent again and again to make up the input.
const PIECE: usize = 1 << 20;

pub(crate) async fn measure(bench: &Bench, options: &Options) -> anyhow::Result<Figure> {
    let server = bench.start(Verification::Bench).await?;
    let (mut client, mut wanted) = prepare(&server).await?;
    let mut worker = Worker::join(server.endpoints().http).await?;
    let mut http = HttpConnection::open(server.endpoints().http).await?;
    let mut piece = vec![0; PIECE];
    rand::rng().fill_bytes(&mut piece);

    let before = process::tree_memory(server.pid())?;
    process::forget_peak(server.pid())?;
    let (mut up, cpu) = (Vec::new(), process::tree_cpu(server.pid())?);
    for _ in 0..options.runs {
        let began = clock::now();
        wanted.stdin_uri = client.upload(ArtifactType::Stdin, &piece, options.mib).await?;
        up.push(rate(options.mib, began));
    }
    let up_cpu = process::tree_cpu(server.pid())?.saturating_sub(cpu);
    let after_up = process::tree_memory(server.pid())?;

    client.request_proof(wanted.request(client.key(), 0, Variant::Base)).await?;
    let source = match worker.next().await?.1 {
        Instruction::Assign(assignment) => assignment.stdin,
        other => bail!("the worker was told {other:?}"),
    };
    process::forget_peak(server.pid())?;
    let (mut down, cpu) = (Vec::new(), process::tree_cpu(server.pid())?);
    for _ in 0..options.runs {
        let began = clock::now();
        let bytes = http.get(&source.url).await?;
        ensure!(bytes == options.mib << 20, "{bytes} bytes came back");
        down.push(rate(options.mib, began));
    }
    let down_cpu = process::tree_cpu(server.pid())?.saturating_sub(cpu);
    let after_down = process::tree_memory(server.pid())?;

    let about = format!("one artifact of {} MiB, {} times up and down", options.mib, options.runs);
    let mut figure = Figure::new("bulk", about);
    let cpu_each = |cpu: Duration| cpu.as_secs_f64() * 1e3 / float(options.mib * options.runs as u64);
    let growth = |peak: u64| mib(peak.saturating_sub(before.resident()));
    figure.add("up, median", median(&mut up), "MiB/s", Some(Target::Above(500.0)));
    figure.add("up, server CPU per MiB", cpu_each(up_cpu), "ms", None);
    figure.add("up, RSS growth (peak)", growth(after_up.peak()), "MiB", Some(Target::Below(64.0)));
    figure.add("down, median", median(&mut down), "MiB/s", Some(Target::Above(750.0)));
    figure.add("down, server CPU per MiB", cpu_each(down_cpu), "ms", None);
    figure.add("down, RSS growth (peak)", growth(after_down.peak()), "MiB", Some(Target::Below(64.0)));
    figure.add_memory(&after_down);
    drop(worker);
    server.stop().await?;
    Ok(figure)
}

fn rate(mib: u64, began: Instant) -> f64 {
    float(mib) / began.elapsed().as_secs_f64()
}
