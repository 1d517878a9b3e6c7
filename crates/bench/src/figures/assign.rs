//! From a client's request to the idle worker that has it.

use anyhow::{Context as _, bail, ensure};
use network_lib::{
    AttemptId, Fault,
    protocol::{Instruction, Report},
};
use sp1_network_api::network::FulfillmentStatus;

use super::prepare;
use crate::{
    client::{Client, Variant, Wanted, status_request},
    clock,
    load::{Meter, histogram, nanos},
    process,
    report::Figure,
    server::{Bench, Verification},
    worker::Worker,
};

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Requests, one after the other.
    #[arg(long, default_value_t = 300)]
    count: usize,
}

/// Not measured: the first requests meet cold caches.
const WARM_UP: usize = 20;

pub(crate) async fn measure(bench: &Bench, options: &Options) -> anyhow::Result<Figure> {
    let server = bench.start(Verification::Bench).await?;
    let (mut client, wanted) = prepare(&server).await?;
    let mut worker = Worker::join(server.endpoints().http).await?;
    for number in 0..WARM_UP {
        assign(&mut client, &mut worker, &wanted, number).await?;
    }
    let mut latencies = histogram();
    let meter = Meter::start(&server).await?;
    for number in WARM_UP..WARM_UP + options.count {
        latencies.record(assign(&mut client, &mut worker, &wanted, number).await?)?;
    }
    let measured = meter.finish(latencies).await?;
    let mut figure = Figure::new("assign", "RequestProof sent until an idle worker has the assignment, one at a time");
    figure.add_latency(&measured, Some(4.0), Some(10.0));
    figure.add_rate(&measured, None);
    figure.add_cpu(&measured, None);
    figure.add_commits(&measured);
    figure.add_memory(&process::tree_memory(server.pid())?);
    drop(worker);
    server.stop().await?;
    Ok(figure)
}

/// One request until it is assigned; then the worker gives it up, and is idle again. In nanoseconds.
async fn assign(client: &mut Client, worker: &mut Worker, wanted: &Wanted, number: usize) -> anyhow::Result<u64> {
    let request = wanted.request(client.key(), number, Variant::of(number));
    let began = clock::now();
    let (id, next) = tokio::try_join!(client.request_proof(request), worker.next())?;
    let (at, Instruction::Assign(assignment)) = next else { bail!("the worker was told {:?}", next.1) };
    ensure!(assignment.request.as_bytes() == id.as_slice(), "the worker was given another request");
    let latency = at.checked_duration_since(began).context("the assignment came before the request")?;
    // A guest's fault ends the request for good once it is reported again, and is no mark against the worker.
    fail(worker, assignment.attempt).await?;
    let (_, Instruction::Assign(again)) = worker.next().await? else { bail!("the worker was not asked again") };
    fail(worker, again.attempt).await?;
    while client.status(status_request(&id)).await? == FulfillmentStatus::Assigned {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    Ok(nanos(latency))
}

/// The worker says that the program fails, and is heard.
async fn fail(worker: &mut Worker, attempt: AttemptId) -> anyhow::Result<()> {
    worker.report(Report::Failed(attempt, Fault::guest("the generator does not prove"))).await?;
    let (_, answer) = worker.next().await?;
    ensure!(answer == Instruction::Stored(attempt), "the worker was told {answer:?}");
    Ok(())
}
