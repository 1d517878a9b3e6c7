//! A simulated worker: it speaks the worker protocol, and proves nothing.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use futures_util::{SinkExt as _, StreamExt as _};
use network_lib::{
    Backend, CONTEMPLANT_VERSION, CircuitVersion, ProofMode, ProverProfile, Vm, WorkerId, WorkerProfile,
    protocol::{InHand, Instruction, Report, WORKER_PATH},
};
use tokio::{
    net::TcpStream,
    sync::mpsc,
    task::JoinSet,
    time::{interval, timeout},
};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async_with_config, tungstenite::Message};

use crate::{client::CIRCUIT_VERSION, clock};

/// How long the coordinator may take to say something that is waited for.
const PATIENCE: Duration = Duration::from_secs(30);

/// Messages between the session and its figure, which handles one attempt at a time.
const QUEUE: usize = 64;

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// A connected worker with one prover.
#[derive(Debug)]
pub struct Worker {
    id: WorkerId,
    reports: mpsc::Sender<Report>,
    instructions: mpsc::Receiver<(Instant, Instruction)>,
    /// Ends with the worker.
    _session: JoinSet<()>,
}

impl Worker {
    /// Joins the network of the coordinator at this address, as one that was never there.
    ///
    /// # Errors
    /// When it is not welcome there.
    pub async fn join(address: SocketAddr) -> anyhow::Result<Self> {
        Self::join_as(WorkerId::new(rand::random()), Vec::new(), address).await
    }

    /// Joins as one that was there before and has these attempts in hand.
    ///
    /// # Errors
    /// When it is not welcome there.
    pub async fn join_as(id: WorkerId, in_hand: Vec<InHand>, address: SocketAddr) -> anyhow::Result<Self> {
        let url = format!("ws://{address}{WORKER_PATH}");
        let (mut socket, _) =
            connect_async_with_config(url, None, true).await.context("the worker could not connect")?;
        let hello = Report::Hello { version: CONTEMPLANT_VERSION.to_owned(), profile: profile(id), in_hand };
        socket.send(Message::Binary(hello.encode().into())).await?;
        let (reports, to_send) = mpsc::channel(QUEUE);
        let (received, instructions) = mpsc::channel(QUEUE);
        let mut session = JoinSet::new();
        session.spawn(serve(socket, to_send, received));
        let mut worker = Self { id, reports, instructions, _session: session };
        match worker.next().await? {
            (_, Instruction::Welcome(_)) => Ok(worker),
            (_, other) => bail!("the coordinator answered Hello with {other:?}"),
        }
    }

    /// What it is known by.
    pub const fn id(&self) -> WorkerId {
        self.id
    }

    /// What the coordinator says next, heartbeats and hints apart, and when that was read off the socket.
    ///
    /// # Errors
    /// When nothing comes, or the session is over.
    pub async fn next(&mut self) -> anyhow::Result<(Instant, Instruction)> {
        let next = timeout(PATIENCE, self.instructions.recv()).await.context("the coordinator did not say a word")?;
        next.context("the coordinator closed the worker's session")
    }

    /// Says something.
    ///
    /// # Errors
    /// When the session is over.
    pub async fn report(&self, report: Report) -> anyhow::Result<()> {
        self.reports.send(report).await.context("the worker's session is over")
    }
}

async fn serve(
    mut socket: Socket,
    mut to_send: mpsc::Receiver<Report>,
    received: mpsc::Sender<(Instant, Instruction)>,
) {
    let mut heartbeat = interval(Duration::from_secs(5));
    loop {
        let sent = tokio::select! {
            frame = socket.next() => {
                let at = clock::now();
                let Some(Ok(frame)) = frame else { return };
                match frame {
                    Message::Binary(frame) => match Instruction::decode(&frame) {
                        Ok(Instruction::Heartbeat | Instruction::Prefetch { .. }) => {}
                        Ok(instruction) => {
                            if let Instruction::Assign(assignment) = &instruction {
                                let accepted = Report::Accepted(assignment.attempt).encode();
                                if socket.send(Message::Binary(accepted.into())).await.is_err() { return }
                            }
                            if received.send((at, instruction)).await.is_err() { return }
                        }
                        Err(_) => return,
                    },
                    Message::Close(_) => return,
                    _ => {}
                }
                continue;
            }
            report = to_send.recv() => match report {
                Some(report) => socket.send(Message::Binary(report.encode().into())).await,
                None => return,
            },
            _ = heartbeat.tick() => socket.send(Message::Binary(Report::Heartbeat.encode().into())).await,
        };
        if sent.is_err() {
            return;
        }
    }
}

fn profile(id: WorkerId) -> WorkerProfile {
    let (name, provers) = ("bench".to_owned(), vec![prover()]);
    WorkerProfile { id, name, provers, magister_drop_endpoint: None, instance: None }
}

/// A prover that proves nothing.
pub fn prover() -> ProverProfile {
    ProverProfile {
        vm: Vm::Sp1,
        backend: Backend::Mock,
        device: "none".to_owned(),
        circuit_version: CircuitVersion::new(CIRCUIT_VERSION),
        modes: ProofMode::ALL.to_vec(),
        memory_bytes: 1 << 30,
    }
}
