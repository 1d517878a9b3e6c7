//! What it costs when nothing happens, and how soon it serves.

use std::time::Duration;

use tokio::time::sleep;

use crate::{
    clock, process,
    report::{Figure, Target, mib, progress},
    server::{Bench, Server, Verification},
};

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Seconds before memory is looked at, and over which CPU time is measured.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Starts.
    #[arg(long, default_value_t = 10)]
    starts: usize,
}

pub(crate) async fn measure(bench: &Bench, options: &Options) -> anyhow::Result<Figure> {
    let (server, verification, who) = start(bench).await?;
    let time = Duration::from_secs(options.seconds);
    sleep(time).await;
    let memory = process::tree_memory(server.pid())?;
    let (cpu, began) = (process::tree_cpu(server.pid())?, clock::now());
    sleep(time).await;
    let cpu = process::tree_cpu(server.pid())?.saturating_sub(cpu);
    let share = cpu.as_secs_f64() / began.elapsed().as_secs_f64() * 100.0;
    server.stop().await?;

    let mut starts = Vec::new();
    for _ in 0..options.starts {
        let server = bench.start(verification).await?;
        starts.push(server.start_up().as_secs_f64());
        server.stop().await?;
    }
    starts.sort_unstable_by(f64::total_cmp);

    let about = format!("{} s after the start, with {who}", options.seconds);
    let mut figure = Figure::new("idle", about);
    figure.add("RSS of all processes", mib(memory.resident()), "MiB", Some(Target::Below(60.0)));
    figure.add_memory(&memory);
    figure.add("CPU", share, "%", Some(Target::Below(1.0)));
    let median = starts.get(starts.len() / 2).copied().unwrap_or_default();
    figure.add("start to first call, median", median, "s", Some(Target::Below(0.3)));
    figure.add("start to first call, longest", starts.last().copied().unwrap_or_default(), "s", None);
    Ok(figure)
}

/// Starts it with its own verifier if it has one.
async fn start(bench: &Bench) -> anyhow::Result<(Server, Verification, &'static str)> {
    match bench.start(Verification::Own).await {
        Ok(server) => Ok((server, Verification::Own, "its own verifier")),
        Err(error) => {
            progress(&format!("idle: it did not start with its own verifier, so with that of this program: {error:#}"));
            Ok((bench.start(Verification::Bench).await?, Verification::Bench, "the verifier of this program"))
        }
    }
}
