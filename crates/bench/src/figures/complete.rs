//! How many requests a coordinator completes each second, from submission to verified proof, with many workers.

use std::time::Duration;

use tokio::time::sleep;

use super::{bounds, fulfil::Bed, more_clients, prepare};
use crate::{
    client::{Client, Variant, Wanted},
    load::{self, Caller},
    process,
    report::Figure,
    server::{Bench, Verification},
};

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Workers at once.
    #[arg(long, default_value_t = 100)]
    workers: usize,
    /// Bytes of each proof: by default about those of a Groth16 proof.
    #[arg(long, default_value_t = 1500)]
    bytes: usize,
    /// Milliseconds that each worker takes for a proof.
    #[arg(long, default_value_t = 50)]
    proving: u64,
    /// Seconds.
    #[arg(long, default_value_t = 30)]
    seconds: u64,
}

/// Seconds that are not measured.
const WARM_UP: u64 = 3;

pub(crate) async fn measure(bench: &Bench, options: &Options) -> anyhow::Result<Figure> {
    let server = bench.start(Verification::Bench).await?;
    let (mut client, wanted) = prepare(&server).await?;
    let mut clients = more_clients(&server, *client.key(), options.workers).await?;
    // Twice as many wait as there are workers, so that none waits for a client.
    for number in 0..2 * options.workers {
        client.request_proof(wanted.request(client.key(), number, Variant::of(number))).await?;
    }
    let mut callers = Vec::with_capacity(options.workers);
    for client in clients.drain(..) {
        let bed = Bed::join(server.endpoints().http, &wanted, options.bytes).await?;
        let proving = Duration::from_millis(options.proving);
        callers.push(Completer { client, wanted: wanted.clone(), bed, proving, first: 2 * options.workers });
    }
    let (warm, mut callers) = load::run(&server, callers, bounds(usize::MAX, WARM_UP)).await?;
    let begun = usize::try_from(warm.count())? + options.workers;
    for caller in &mut callers {
        caller.first += begun;
    }
    let (measured, callers) = load::run(&server, callers, bounds(usize::MAX, options.seconds)).await?;
    let about = format!(
        "requests submitted, proved in {} ms, {} bytes delivered and verified at once; {} workers",
        options.proving, options.bytes, options.workers
    );
    let mut figure = Figure::new("complete", about);
    figure.add_rate(&measured, Some(100.0));
    figure.add_latency(&measured, None, None);
    figure.add_cpu(&measured, None);
    figure.add_commits(&measured);
    figure.add_memory(&process::tree_memory(server.pid())?);
    drop(callers);
    server.stop().await?;
    Ok(figure)
}

/// A worker that completes one request, and a client that submits one in its place.
struct Completer {
    client: Client,
    wanted: Wanted,
    bed: Bed,
    proving: Duration,
    /// The number of the first request that is submitted here.
    first: usize,
}

impl Caller for Completer {
    async fn call(&mut self, number: usize) -> anyhow::Result<()> {
        let number = self.first + number;
        self.client.request_proof(self.wanted.request(self.client.key(), number, Variant::of(number))).await?;
        let attempt = self.bed.assigned().await?;
        sleep(self.proving).await;
        self.bed.deliver(attempt).await
    }
}
