//! Status polls over many open requests.

use std::{net::SocketAddr, sync::Arc};

use anyhow::ensure;
use rand::seq::SliceRandom as _;
use sp1_network_api::network::FulfillmentStatus;

use super::{bounds, submit::submit};
use crate::{
    client::{status, status_request},
    grpc::{Frame, GrpcConnection},
    load::{self, Caller},
    process,
    report::Figure,
    server::{Bench, Verification},
};

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Polls at most: 300,000, or 15,000 with new connections (a machine has some 28,000 ports to call from).
    #[arg(long)]
    count: Option<usize>,
    /// Requests that are open.
    #[arg(long, default_value_t = 10_000)]
    requests: usize,
    /// Clients at once.
    #[arg(long, default_value_t = 16)]
    clients: usize,
    /// Most seconds.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// A new connection for each call, as SDKs before 6.2.2.
    #[arg(long)]
    new_connections: bool,
}

impl Options {
    /// The same with a new connection for each call.
    pub(super) const fn with_new_connections(self) -> Self {
        Self { new_connections: true, ..self }
    }
}

/// Not measured.
const WARM_UP: usize = 1000;

pub(crate) async fn measure(bench: &Bench, options: &Options) -> anyhow::Result<Figure> {
    let server = bench.start(Verification::Bench).await?;
    let mut ids = submit(&server, options.requests, 64).await?;
    ids.shuffle(&mut rand::rng());
    let questions: Arc<Vec<Frame>> = Arc::new(ids.iter().map(|id| status_request(id)).collect());
    let address = server.endpoints().grpc;
    let mut callers = Vec::new();
    for _ in 0..options.clients {
        let kept = if options.new_connections { None } else { Some(GrpcConnection::open(address).await?) };
        callers.push(Poller { address, kept, questions: Arc::clone(&questions) });
    }
    let (_, callers) = load::run(&server, callers, bounds(WARM_UP, options.seconds)).await?;
    let count = options.count.unwrap_or(if options.new_connections { 15_000 } else { 300_000 });
    let (measured, _callers) = load::run(&server, callers, bounds(count, options.seconds)).await?;
    let (name, how, rate, cpu) = if options.new_connections {
        ("poll, new connections", "a new connection for each", None, None)
    } else {
        ("poll", "on kept connections", Some(25_000.0), Some(0.05))
    };
    let about = format!("status polls over {} open requests, {} clients, {how}", options.requests, options.clients);
    let mut figure = Figure::new(name, about);
    figure.add_rate(&measured, rate);
    figure.add_latency(&measured, None, None);
    figure.add_cpu(&measured, cpu);
    figure.add_memory(&process::tree_memory(server.pid())?);
    server.stop().await?;
    Ok(figure)
}

struct Poller {
    address: SocketAddr,
    /// The connection that is used for all calls.
    kept: Option<GrpcConnection>,
    questions: Arc<Vec<Frame>>,
}

impl Caller for Poller {
    async fn call(&mut self, number: usize) -> anyhow::Result<()> {
        let question = self.questions[number % self.questions.len()].clone();
        let status = match &mut self.kept {
            Some(connection) => status(connection, question).await?,
            None => status(&mut GrpcConnection::open(self.address).await?, question).await?,
        };
        ensure!(status == FulfillmentStatus::Assigned, "an open request is {status:?}");
        Ok(())
    }
}
