//! Whole submissions: a place for the input, the input, the request.

use std::sync::Arc;

use rand::RngCore as _;
use sp1_network_api::artifact::ArtifactType;

use super::{bounds, more_clients, prepare};
use crate::{
    client::{Client, Variant, Wanted},
    load::{self, Caller},
    process,
    report::{Figure, float, mib},
    server::{Bench, Verification},
};

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Submissions.
    #[arg(long, default_value_t = 5000)]
    count: usize,
    /// Clients at once.
    #[arg(long, default_value_t = 16)]
    clients: usize,
    /// Bytes of each input.
    #[arg(long, default_value_t = 1 << 20)]
    bytes: usize,
    /// Most seconds.
    #[arg(long, default_value_t = 15)]
    seconds: u64,
}

/// Not measured.
const WARM_UP: usize = 100;

pub(crate) async fn measure(bench: &Bench, options: &Options) -> anyhow::Result<Figure> {
    let server = bench.start(Verification::Bench).await?;
    let (client, wanted) = prepare(&server).await?;
    let mut input = vec![0; options.bytes];
    rand::rng().fill_bytes(&mut input);
    let input: Arc<[u8]> = input.into();
    let clients = more_clients(&server, *client.key(), options.clients).await?;
    let uploader = |client| Uploader { client, wanted: wanted.clone(), input: Arc::clone(&input) };
    let callers = clients.into_iter().map(uploader).collect();
    let (_, callers) = load::run(&server, callers, bounds(WARM_UP, options.seconds)).await?;
    let (measured, _callers) = load::run(&server, callers, bounds(options.count, options.seconds)).await?;
    let about = format!(
        "CreateArtifact, upload of {} bytes and RequestProof (signed in between), {} clients",
        options.bytes, options.clients
    );
    let mut figure = Figure::new("upload", about);
    figure.add_rate(&measured, Some(700.0));
    figure.add("bytes", measured.rate() * mib(1) * float(options.bytes as u64), "MiB/s", None);
    figure.add_latency(&measured, None, None);
    figure.add_cpu(&measured, None);
    figure.add_commits(&measured);
    figure.add_memory(&process::tree_memory(server.pid())?);
    server.stop().await?;
    Ok(figure)
}

struct Uploader {
    client: Client,
    wanted: Wanted,
    input: Arc<[u8]>,
}

impl Caller for Uploader {
    async fn call(&mut self, number: usize) -> anyhow::Result<()> {
        self.wanted.stdin_uri = self.client.upload(ArtifactType::Stdin, &self.input, 1).await?;
        let request = self.wanted.request(self.client.key(), number, Variant::of(number));
        self.client.request_proof(request).await?;
        Ok(())
    }
}
