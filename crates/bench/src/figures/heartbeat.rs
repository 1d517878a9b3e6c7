//! Whether a worker is heard of in time while its prover takes every processor.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context as _, bail, ensure};
use futures_util::{SinkExt as _, StreamExt as _};
use network_lib::{
    AttemptId, CONTEMPLANT_VERSION, CircuitVersion, Digest, ProofMode, RequestId,
    protocol::{Assignment, Instruction, Report, Settings as Session, Source},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tokio_tungstenite::{WebSocketStream, accept_async, tungstenite::Message};

use crate::{
    client::CIRCUIT_VERSION,
    clock,
    contemplant::{Contemplant, Settings},
    load::{histogram, nanos},
    process,
    report::{Figure, Target, float},
    server::Bench,
};

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Heartbeats that are looked at.
    #[arg(long, default_value_t = 200)]
    count: u64,
    /// Busy threads of the prover for each processor.
    #[arg(long, default_value_t = 2)]
    threads: usize,
}

/// Between two heartbeats, as the worker is told.
const INTERVAL: Duration = Duration::from_millis(100);

/// How long anything that is waited for may take.
const PATIENCE: Duration = Duration::from_mins(1);

/// What program and input are here.
const BYTES: &[u8] = b"nothing";

pub(crate) async fn measure(bench: &Bench, options: &Options) -> anyhow::Result<Figure> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let threads = std::thread::available_parallelism()?.get() * options.threads;
    let script = format!("progress 0 1\nburn 1h {threads}");
    let _contemplant = Contemplant::start(bench, address, Settings { script, max_input_cache_bytes: 0 })?;
    let mut session = timeout(PATIENCE, welcome(&listener)).await.context("the contemplant did not come")??;
    assign(&mut session).await?;
    timeout(PATIENCE, busy(&listener, &mut session)).await.context("the prover did not begin")??;

    let mut late = histogram();
    let (before, began) = (process::machine_cpu()?, clock::now());
    let mut last = heartbeat(&mut session).await?;
    for _ in 0..options.count {
        let next = heartbeat(&mut session).await?;
        late.record(nanos(next.duration_since(last).abs_diff(INTERVAL)))?;
        last = next;
    }
    let busy = process::machine_cpu()?.saturating_sub(before).as_secs_f64() / began.elapsed().as_secs_f64();
    let about =
        format!("a heartbeat is due every {} ms; the prover keeps {threads} threads busy", INTERVAL.as_millis());
    let mut figure = Figure::new("heartbeat", about);
    let at = |quantile| float(late.value_at_quantile(quantile)) / 1e6;
    figure.add("off by, median", at(0.5), "ms", None);
    figure.add("off by, p99", at(0.99), "ms", Some(Target::Below(1000.0)));
    figure.add("off by, most", at(1.0), "ms", None);
    figure.add("processors busy", busy, "", None);
    Ok(figure)
}

type Socket = WebSocketStream<TcpStream>;

/// The worker's session, after the hello.
async fn welcome(listener: &TcpListener) -> anyhow::Result<Socket> {
    let mut socket = accept_async(listener.accept().await?.0).await.context("the first call is no WebSocket")?;
    let hello = report(&mut socket).await?;
    ensure!(matches!(hello, Report::Hello { .. }), "the contemplant began with {hello:?}");
    let settings = Session {
        version: CONTEMPLANT_VERSION.to_owned(),
        heartbeat_interval: INTERVAL,
        silence_limit: PATIENCE,
        mock_mode: true,
    };
    socket.send(Message::Binary(Instruction::Welcome(settings).encode().into())).await?;
    Ok(socket)
}

async fn assign(socket: &mut Socket) -> anyhow::Result<()> {
    let source = Source { url: "/x".to_owned(), digest: Digest::of(BYTES), size: BYTES.len() as u64 };
    let assignment = Assignment {
        attempt: AttemptId::new([1; 16]),
        request: RequestId::new([1; 32]),
        prover: 0,
        mode: ProofMode::Core,
        circuit_version: CircuitVersion::new(CIRCUIT_VERSION),
        vk_hash: Digest::new([0; 32]),
        program: source.clone(),
        stdin: source,
        cycle_limit: u64::MAX,
        gas_limit: u64::MAX,
    };
    socket.send(Message::Binary(Instruction::Assign(Box::new(assignment)).encode().into())).await?;
    Ok(())
}

/// Gives out program and input until the prover is at work.
async fn busy(listener: &TcpListener, socket: &mut Socket) -> anyhow::Result<()> {
    loop {
        tokio::select! {
            accepted = listener.accept() => give(accepted?).await?,
            report = report(socket) => match report? {
                Report::Progress(..) => return Ok(()),
                Report::Failed(_, fault) => bail!("the attempt failed: {fault}"),
                _ => {}
            },
        }
    }
}

/// Answers one request, whatever it is for.
async fn give((mut stream, _): (TcpStream, SocketAddr)) -> anyhow::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    let reply = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", BYTES.len());
    stream.write_all(&[reply.as_bytes(), BYTES].concat()).await?;
    Ok(())
}

async fn heartbeat(socket: &mut Socket) -> anyhow::Result<std::time::Instant> {
    loop {
        match timeout(PATIENCE, report(socket)).await.context("no heartbeat came")?? {
            Report::Heartbeat => return Ok(clock::now()),
            Report::Failed(_, fault) => bail!("the attempt failed: {fault}"),
            _ => {}
        }
    }
}

async fn report(socket: &mut Socket) -> anyhow::Result<Report> {
    loop {
        match socket.next().await.context("the contemplant closed its session")?? {
            Message::Binary(frame) => return Ok(Report::decode(&frame)?),
            Message::Close(_) => bail!("the contemplant closed its session"),
            _ => {}
        }
    }
}
