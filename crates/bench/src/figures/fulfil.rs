//! From the worker that has a proof to the client that is told so.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::{bail, ensure};
use network_lib::{
    AttemptId, CircuitVersion, Digest, ProofMode,
    protocol::{Instruction, Report},
};
use proving::mock::{self, MockClaim};
use rand::RngCore as _;
use sp1_network_api::network::FulfillmentStatus;
use tokio::time::sleep;

use super::prepare;
use crate::{
    artifact_http::HttpConnection,
    client::{CIRCUIT_VERSION, Client, Variant, Wanted, status_request},
    clock,
    load::{Meter, histogram, nanos},
    process,
    report::Figure,
    server::{Bench, Verification},
    worker::Worker,
};

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Proofs, one after the other.
    #[arg(long, default_value_t = 100)]
    count: usize,
    /// Bytes of each proof.
    #[arg(long, default_value_t = 2_800_000)]
    bytes: usize,
}

/// Not measured.
const WARM_UP: usize = 5;

/// Between two polls. Without a pause the polls would take the processor from what they wait for.
const PAUSE: Duration = Duration::from_millis(1);

pub(crate) async fn measure(bench: &Bench, options: &Options) -> anyhow::Result<Figure> {
    let server = bench.start(Verification::Bench).await?;
    let (mut client, wanted) = prepare(&server).await?;
    let mut bed = Bed::join(server.endpoints().http, &wanted, options.bytes).await?;
    for number in 0..WARM_UP {
        bed.fulfil(&mut client, &wanted, number).await?;
    }
    let mut latencies = histogram();
    let meter = Meter::start(&server).await?;
    for number in WARM_UP..WARM_UP + options.count {
        latencies.record(nanos(bed.fulfil(&mut client, &wanted, number).await?))?;
    }
    let measured = meter.finish(latencies).await?;
    let about = format!(
        "Proved sent until a status poll says fulfilled; {} bytes, verified at once; polled every {} ms",
        options.bytes,
        PAUSE.as_millis()
    );
    let mut figure = Figure::new("fulfil", about);
    figure.add_latency(&measured, Some(20.0), Some(40.0));
    figure.add_rate(&measured, None);
    figure.add_cpu(&measured, None);
    figure.add_commits(&measured);
    figure.add_memory(&process::tree_memory(server.pid())?);
    drop(bed);
    server.stop().await?;
    Ok(figure)
}

/// A mock proof.
struct Proof {
    bytes: Vec<u8>,
    digest: Digest,
}

impl Proof {
    fn of(wanted: &Wanted, size: usize) -> Self {
        let mut body = vec![0; size];
        rand::rng().fill_bytes(&mut body);
        let claim = MockClaim {
            vk_hash: *wanted.vk_hash.as_bytes(),
            mode: ProofMode::Compressed,
            circuit_version: CircuitVersion::new(CIRCUIT_VERSION),
            public_values_hash: [0; 32],
        };
        let bytes = mock::seal(body, &claim);
        let digest = Digest::of(&bytes);
        Self { bytes, digest }
    }
}

/// The worker's side.
pub(super) struct Bed {
    worker: Worker,
    http: HttpConnection,
    proof: Proof,
    /// What it was given and has not begun.
    given: VecDeque<AttemptId>,
}

impl Bed {
    /// A worker whose proofs have this size.
    pub(super) async fn join(address: SocketAddr, wanted: &Wanted, bytes: usize) -> anyhow::Result<Self> {
        let (worker, http) = (Worker::join(address).await?, HttpConnection::open(address).await?);
        Ok(Self { worker, http, proof: Proof::of(wanted, bytes), given: VecDeque::new() })
    }

    /// Waits for an attempt.
    pub(super) async fn assigned(&mut self) -> anyhow::Result<AttemptId> {
        if let Some(attempt) = self.given.pop_front() {
            return Ok(attempt);
        }
        match self.worker.next().await?.1 {
            Instruction::Assign(assignment) => Ok(assignment.attempt),
            other => bail!("the worker was told {other:?}"),
        }
    }

    /// The next instruction that gives nothing: whoever has a proof is given the next attempt.
    async fn told(&mut self) -> anyhow::Result<Instruction> {
        loop {
            match self.worker.next().await?.1 {
                Instruction::Assign(assignment) => self.given.push_back(assignment.attempt),
                other => return Ok(other),
            }
        }
    }

    async fn fulfil(&mut self, client: &mut Client, wanted: &Wanted, number: usize) -> anyhow::Result<Duration> {
        let id = client.request_proof(wanted.request(client.key(), number, Variant::of(number))).await?;
        let attempt = self.assigned().await?;
        let began = clock::now();
        let (fulfilled, ()) = tokio::try_join!(fulfilled(client, &id), self.deliver(attempt))?;
        Ok(fulfilled.duration_since(began))
    }

    /// Delivers until the coordinator says that the proof is stored.
    pub(super) async fn deliver(&mut self, attempt: AttemptId) -> anyhow::Result<()> {
        let (digest, size) = (self.proof.digest, self.proof.bytes.len() as u64);
        self.worker.report(Report::Proved { attempt, digest, size }).await?;
        let url = match self.told().await? {
            Instruction::Deliver { url, .. } => url,
            other => bail!("the worker was told {other:?}"),
        };
        self.http.put(&url, &self.proof.bytes, 1).await?;
        self.worker.report(Report::Delivered(attempt)).await?;
        let answer = self.told().await?;
        ensure!(answer == Instruction::Stored(attempt), "the worker was told {answer:?}");
        Ok(())
    }
}

/// Polls until the request is fulfilled; answers when that was.
async fn fulfilled(client: &mut Client, id: &[u8]) -> anyhow::Result<Instant> {
    let question = status_request(id);
    loop {
        match client.status(question.clone()).await? {
            FulfillmentStatus::Fulfilled => return Ok(clock::now()),
            FulfillmentStatus::Assigned => sleep(PAUSE).await,
            other => bail!("the request became {other:?}"),
        }
    }
}
