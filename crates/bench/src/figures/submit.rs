//! Requests from many clients at once.

use std::sync::Arc;

use anyhow::ensure;

use super::{bounds, more_clients, prepare};
use crate::{
    client::{Client, Variant, Wanted},
    grpc::Frame,
    key::Key,
    load::{self, Caller},
    process,
    report::Figure,
    server::{Bench, Server, Verification},
};

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Requests.
    #[arg(long, default_value_t = 40_000)]
    count: usize,
    /// Clients at once.
    #[arg(long, default_value_t = 64)]
    clients: usize,
    /// Most seconds.
    #[arg(long, default_value_t = 20)]
    seconds: u64,
}

/// Not measured.
const WARM_UP: usize = 2000;

pub(crate) async fn measure(bench: &Bench, options: &Options) -> anyhow::Result<Figure> {
    let server = bench.start(Verification::Bench).await?;
    let (client, wanted) = prepare(&server).await?;
    let callers = callers(&server, *client.key(), &wanted, 0..WARM_UP, options.clients).await?;
    let (_, callers) = load::run(&server, callers, bounds(WARM_UP, options.seconds)).await?;
    drop(callers);
    let numbers = WARM_UP..WARM_UP + options.count;
    let callers = self::callers(&server, *client.key(), &wanted, numbers, options.clients).await?;
    let (measured, _callers) = load::run(&server, callers, bounds(options.count, options.seconds)).await?;
    let about = format!("RequestProof, durable and signature-checked, both variants, {} clients", options.clients);
    let mut figure = Figure::new("submit", about);
    figure.add_rate(&measured, Some(5000.0));
    figure.add_latency(&measured, None, None);
    figure.add_cpu(&measured, Some(0.3));
    figure.add_commits(&measured);
    figure.add_memory(&process::tree_memory(server.pid())?);
    server.stop().await?;
    Ok(figure)
}

/// Signs requests with these numbers, and makes clients that will send them.
async fn callers(
    server: &Server,
    key: Key,
    wanted: &Wanted,
    numbers: std::ops::Range<usize>,
    clients: usize,
) -> anyhow::Result<Vec<Submitter>> {
    let frames: Arc<Vec<Frame>> =
        Arc::new(numbers.map(|number| wanted.request(&key, number, Variant::of(number))).collect());
    let clients = more_clients(server, key, clients).await?;
    Ok(clients.into_iter().map(|client| Submitter { client, frames: Arc::clone(&frames), ids: Vec::new() }).collect())
}

/// Submits so many requests; answers their ids.
pub(super) async fn submit(server: &Server, count: usize, clients: usize) -> anyhow::Result<Vec<Vec<u8>>> {
    let (client, wanted) = prepare(server).await?;
    let callers = callers(server, *client.key(), &wanted, 0..count, clients).await?;
    let (_, callers) = load::run(server, callers, bounds(count, 300)).await?;
    let ids: Vec<Vec<u8>> = callers.into_iter().flat_map(|caller| caller.ids).collect();
    ensure!(ids.len() == count, "only {} of {count} requests were accepted in time", ids.len());
    Ok(ids)
}

struct Submitter {
    client: Client,
    frames: Arc<Vec<Frame>>,
    ids: Vec<Vec<u8>>,
}

impl Caller for Submitter {
    async fn call(&mut self, number: usize) -> anyhow::Result<()> {
        let id = self.client.request_proof(self.frames[number].clone()).await?;
        self.ids.push(id);
        Ok(())
    }
}
