//! A simulated worker: the protocol, and nothing behind it.

use futures_util::{SinkExt as _, StreamExt as _};
use network_lib::{
    AttemptId, Backend, CONTEMPLANT_VERSION, CircuitVersion, Digest, ProofMode, ProverProfile, Vm, WorkerId,
    WorkerProfile,
    protocol::{Assignment, InHand, Instruction, Next, Report},
};
use proving::{
    mock::{MockClaim, seal},
    testing::CIRCUIT_VERSION,
};
use tokio::net::TcpStream;
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{Error, Message, client::IntoClientRequest as _, http::StatusCode},
};

use crate::coordinator::Coordinator;

/// A connected worker.
pub(crate) struct Worker {
    id: WorkerId,
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
}

pub(crate) fn profile(n: u8) -> WorkerProfile {
    let prover = ProverProfile {
        vm: Vm::Sp1,
        backend: Backend::Mock,
        device: "simulated".to_owned(),
        circuit_version: CircuitVersion::new(CIRCUIT_VERSION),
        modes: vec![ProofMode::Core, ProofMode::Compressed],
        memory_bytes: 1 << 30,
    };
    WorkerProfile {
        id: WorkerId::new([n; 16]),
        name: format!("worker {n}"),
        provers: vec![prover],
        magister_drop_endpoint: None,
        instance: None,
    }
}

impl Worker {
    pub(crate) async fn join(coordinator: &Coordinator, n: u8) -> Self {
        Self::join_with(coordinator, n, Vec::new()).await
    }

    pub(crate) async fn join_with(coordinator: &Coordinator, n: u8, in_hand: Vec<InHand>) -> Self {
        Self::join_as(coordinator, profile(n), in_hand).await
    }

    pub(crate) async fn join_as(coordinator: &Coordinator, profile: WorkerProfile, in_hand: Vec<InHand>) -> Self {
        let mut worker = Self::dial(coordinator, profile.id.as_bytes()[0]).await;
        worker.say(Report::Hello { version: CONTEMPLANT_VERSION.to_owned(), profile, in_hand }).await;
        let welcome = worker.hear().await;
        assert!(matches!(welcome, Instruction::Welcome(_)), "{welcome:?}");
        worker
    }

    pub(crate) async fn dial(coordinator: &Coordinator, n: u8) -> Self {
        let (socket, _) = connect_async(format!("ws://{}/ws", coordinator.address)).await.unwrap();
        Self { id: WorkerId::new([n; 16]), socket }
    }

    pub(crate) fn id(&self) -> WorkerId {
        self.id
    }

    pub(crate) async fn say(&mut self, report: Report) {
        self.socket.send(Message::binary(report.encode())).await.unwrap();
    }

    pub(crate) async fn say_raw(&mut self, message: Message) {
        self.socket.send(message).await.unwrap();
    }

    /// The next instruction that is neither a heartbeat nor a hint.
    pub(crate) async fn hear(&mut self) -> Instruction {
        loop {
            match self.hear_any().await {
                Instruction::Prefetch { .. } => {}
                instruction => return instruction,
            }
        }
    }

    /// The next instruction, which is a hint: for which prover, and of what.
    pub(crate) async fn hinted(&mut self) -> (usize, Option<Next>) {
        match self.hear_any().await {
            Instruction::Prefetch { prover, next } => (prover, next),
            other => panic!("expected a hint: {other:?}"),
        }
    }

    /// The next instruction that is not a heartbeat.
    pub(crate) async fn hear_any(&mut self) -> Instruction {
        loop {
            match self.socket.next().await.expect("the session goes on").unwrap() {
                Message::Binary(frame) => match Instruction::decode(&frame).unwrap() {
                    Instruction::Heartbeat => {}
                    instruction => return instruction,
                },
                Message::Ping(_) | Message::Pong(_) => {}
                other => panic!("expected an instruction: {other:?}"),
            }
        }
    }

    /// The next instruction that is not about what may come next.
    pub(crate) async fn hear_unless_prefetch(&mut self) -> Instruction {
        loop {
            let instruction = self.hear().await;
            if !matches!(instruction, Instruction::Prefetch { .. }) {
                return instruction;
            }
        }
    }

    /// The reason that the coordinator gives for ending the session.
    pub(crate) async fn hear_the_end(&mut self) -> String {
        loop {
            match self.socket.next().await {
                Some(Ok(Message::Close(Some(frame)))) => return frame.reason.to_string(),
                Some(Ok(Message::Binary(_) | Message::Ping(_) | Message::Pong(_))) => {}
                other => panic!("expected a word before the end: {other:?}"),
            }
        }
    }

    pub(crate) async fn assigned(&mut self) -> Assignment {
        match self.hear_unless_prefetch().await {
            Instruction::Assign(assignment) => {
                self.say(Report::Accepted(assignment.attempt)).await;
                *assignment
            }
            other => panic!("expected an assignment: {other:?}"),
        }
    }

    /// Says that it proved, uploads, and says that it delivered; the answer follows.
    pub(crate) async fn deliver(&mut self, coordinator: &Coordinator, attempt: AttemptId, proof: Vec<u8>) {
        let (digest, size) = (Digest::of(&proof), proof.len() as u64);
        self.say(Report::Proved { attempt, digest, size }).await;
        let Instruction::Deliver { attempt: asked, url } = self.hear().await else { panic!("the proof is wanted") };
        assert_eq!(asked, attempt);
        self.upload(coordinator, &url, proof).await;
        self.say(Report::Delivered(attempt)).await;
    }

    pub(crate) async fn upload(&self, coordinator: &Coordinator, path: &str, proof: Vec<u8>) {
        let url = format!("http://{}{path}", coordinator.address);
        reqwest::Client::new().put(url).body(proof).send().await.unwrap().error_for_status().unwrap();
    }
}

/// A proof that the verifier of these tests accepts for this assignment.
pub(crate) fn good_proof(assignment: &Assignment) -> Vec<u8> {
    seal(
        b"a proof".to_vec(),
        &MockClaim {
            vk_hash: *assignment.vk_hash.as_bytes(),
            mode: assignment.mode,
            circuit_version: assignment.circuit_version.clone(),
            public_values_hash: [0; 32],
        },
    )
}

/// Dials with these headers; the answer's status and words when there is no session.
pub(crate) async fn refused(
    coordinator: &Coordinator,
    headers: &[(&'static str, &str)],
) -> Option<(StatusCode, String)> {
    let mut request = format!("ws://{}/ws", coordinator.address).into_client_request().unwrap();
    for (name, value) in headers {
        request.headers_mut().insert(*name, value.parse().unwrap());
    }
    match connect_async(request).await {
        Ok(_) => None,
        Err(Error::Http(response)) => {
            let words = response.body().clone().unwrap_or_default();
            Some((response.status(), String::from_utf8(words).unwrap()))
        }
        Err(error) => panic!("{error}"),
    }
}
