//! A coordinator for tests: real sockets, and a script in the place of a mind.

use std::{
    collections::{HashMap, VecDeque},
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{
        Path, State, WebSocketUpgrade,
        ws::{Message, WebSocket},
    },
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse as _, Response},
    routing::{get, head, put},
};
use futures_util::{StreamExt as _, stream};
use network_lib::{
    AttemptId, CONTEMPLANT_VERSION, CircuitVersion, Digest, ProofMode, RequestId,
    protocol::{Assignment, InHand, Instruction, Report, Settings, Source},
};
use tokio::{net::TcpListener, sync::mpsc, task::JoinHandle};

/// What the coordinator has and saw.
#[derive(Debug, Default)]
pub(crate) struct Facts {
    /// Artifacts to be fetched, by name.
    pub(crate) artifacts: HashMap<String, Vec<u8>>,
    /// After how many bytes the next answers break off.
    pub(crate) cuts: VecDeque<usize>,
    /// `Range` of every GET, by name.
    pub(crate) ranges: Vec<(String, Option<String>)>,
    /// Answers to the next GETs, before they are served.
    pub(crate) troubles: VecDeque<StatusCode>,
    /// `Authorization` of every request.
    pub(crate) authorizations: Vec<Option<String>>,
    /// Answers to the next PUTs, before they count.
    pub(crate) refusals: VecDeque<StatusCode>,
    /// What was PUT, or came in parts and is whole, by name.
    pub(crate) uploads: HashMap<String, Vec<u8>>,
    /// What came in parts so far.
    pub(crate) parts: Vec<u8>,
    /// After how many bytes the next parts are cut off.
    pub(crate) part_cuts: VecDeque<usize>,
    /// Offset and length of every part, as far as it came.
    pub(crate) offsets: Vec<(usize, usize)>,
    /// The digest that whatever came in parts must have; other bytes are thrown away.
    pub(crate) announced: Option<(Digest, usize)>,
}

#[derive(Clone)]
struct Shared {
    facts: Arc<Mutex<Facts>>,
    sessions: mpsc::Sender<Session>,
}

pub(crate) struct Coordinator {
    pub(crate) address: SocketAddr,
    facts: Arc<Mutex<Facts>>,
    sessions: mpsc::Receiver<Session>,
    server: JoinHandle<()>,
}

impl Drop for Coordinator {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Coordinator {
    pub(crate) async fn start() -> Self {
        let (sender, sessions) = mpsc::channel(8);
        let facts = Arc::<Mutex<Facts>>::default();
        let router = Router::new()
            .route("/ws", get(open_session))
            .route("/artifacts/{name}", get(give))
            .route("/proofs/{name}", put(take))
            .route("/resumable/{name}", head(say_offset).patch(take_part))
            .layer(axum::extract::DefaultBodyLimit::disable())
            .with_state(Shared { facts: Arc::clone(&facts), sessions: sender });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        #[expect(clippy::disallowed_methods, reason = "ends with this value")]
        let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { address, facts, sessions, server }
    }

    pub(crate) fn facts(&self) -> MutexGuard<'_, Facts> {
        self.facts.lock().unwrap()
    }

    /// The next session that a worker opens.
    pub(crate) async fn session(&mut self) -> Session {
        self.sessions.recv().await.expect("the server runs")
    }

    /// The next session, welcomed, and what the worker said that it has in hand.
    pub(crate) async fn welcomed_session(&mut self) -> (Session, Vec<InHand>) {
        let mut session = self.session().await;
        let Report::Hello { version, in_hand, .. } = session.report().await else { panic!("no hello") };
        assert_eq!(version, CONTEMPLANT_VERSION);
        session.say(welcome()).await;
        (session, in_hand)
    }

    /// Puts program and input there, and asks for a proof of them.
    pub(crate) fn assignment(&self, attempt: u8, script: &str) -> Assignment {
        let program = format!("program of {attempt}").into_bytes();
        let stdin = script.as_bytes().to_vec();
        let source = |name: String, bytes: Vec<u8>| {
            let source =
                Source { url: format!("/artifacts/{name}"), digest: Digest::of(&bytes), size: bytes.len() as u64 };
            self.facts().artifacts.insert(name, bytes);
            source
        };
        Assignment {
            attempt: AttemptId::new([attempt; 16]),
            request: RequestId::new([attempt; 32]),
            prover: 0,
            mode: ProofMode::Compressed,
            circuit_version: CircuitVersion::new(proving::testing::CIRCUIT_VERSION),
            vk_hash: Digest::new([8; 32]),
            program: source(format!("program_{attempt}"), program),
            stdin: source(format!("stdin_{attempt}"), stdin),
            cycle_limit: u64::MAX,
            gas_limit: u64::MAX,
        }
    }
}

pub(crate) fn welcome() -> Instruction {
    Instruction::Welcome(Settings {
        version: CONTEMPLANT_VERSION.to_owned(),
        heartbeat_interval: Duration::from_millis(100),
        silence_limit: Duration::from_secs(20),
        mock_mode: true,
    })
}

/// A session, from the coordinator's side. Dropping it closes the connection.
pub(crate) struct Session {
    reports: mpsc::Receiver<Report>,
    instructions: mpsc::Sender<Vec<u8>>,
}

impl Session {
    /// The next report that is neither a heartbeat nor about provers.
    pub(crate) async fn report(&mut self) -> Report {
        loop {
            let report = self.reports.recv().await.expect("the worker closed the session");
            if !matches!(report, Report::Heartbeat | Report::ProversChanged(_)) {
                return report;
            }
        }
    }

    /// The next report, whatever it is.
    pub(crate) async fn any_report(&mut self) -> Report {
        self.reports.recv().await.expect("the worker closed the session")
    }

    /// The next report for which `wanted` has an answer.
    pub(crate) async fn until<T>(&mut self, wanted: impl Fn(&Report) -> Option<T>) -> T {
        loop {
            let report = self.reports.recv().await.expect("the worker closed the session");
            if let Some(answer) = wanted(&report) {
                return answer;
            }
        }
    }

    /// Waits for the proof of an attempt, and gives its digest.
    pub(crate) async fn proved(&mut self, attempt: u8) -> Digest {
        let id = AttemptId::new([attempt; 16]);
        let wanted = |report: &Report| match report {
            Report::Proved { attempt, digest, .. } if *attempt == id => Some(*digest),
            Report::Failed(attempt, fault) if *attempt == id => panic!("{fault}"),
            _ => None,
        };
        self.until(wanted).await
    }

    /// Waits for the proof of an attempt, which will come in parts.
    pub(crate) async fn announced(&mut self, attempt: u8, coordinator: &Coordinator) -> Digest {
        let id = AttemptId::new([attempt; 16]);
        let wanted = |report: &Report| match report {
            Report::Proved { attempt, digest, size } if *attempt == id => Some((*digest, *size)),
            _ => None,
        };
        let (digest, size) = self.until(wanted).await;
        coordinator.facts().announced = Some((digest, usize::try_from(size).unwrap()));
        digest
    }

    /// Waits until the worker closes the session.
    pub(crate) async fn closed(&mut self) {
        while self.reports.recv().await.is_some() {}
    }

    pub(crate) async fn say(&self, instruction: Instruction) {
        self.say_bytes(instruction.encode()).await;
    }

    pub(crate) async fn say_bytes(&self, frame: Vec<u8>) {
        self.instructions.send(frame).await.expect("the worker closed the session");
    }

    pub(crate) async fn assign(&self, assignment: &Assignment) {
        self.say(Instruction::Assign(Box::new(assignment.clone()))).await;
    }

    pub(crate) async fn deliver(&self, attempt: u8, url: &str) {
        self.say(Instruction::Deliver { attempt: AttemptId::new([attempt; 16]), url: url.to_owned() }).await;
    }
}

async fn open_session(State(shared): State<Shared>, headers: HeaderMap, upgrade: WebSocketUpgrade) -> Response {
    shared.note(&headers);
    upgrade.on_upgrade(move |socket| converse(socket, shared))
}

async fn converse(mut socket: WebSocket, shared: Shared) {
    let (reports, reader) = mpsc::channel(1000);
    let (instructions, mut writer) = mpsc::channel(1000);
    drop(shared.sessions.send(Session { reports: reader, instructions }).await);
    loop {
        tokio::select! {
            frame = socket.recv() => match frame {
                Some(Ok(Message::Binary(frame))) => {
                    if reports.send(Report::decode(&frame).unwrap()).await.is_err() {
                        return;
                    }
                }
                Some(Ok(Message::Close(_)) | Err(_)) | None => return,
                Some(Ok(_)) => {}
            },
            frame = writer.recv() => {
                let Some(frame) = frame else { return };
                if socket.send(Message::Binary(frame.into())).await.is_err() {
                    return;
                }
            }
        }
    }
}

impl Shared {
    fn note(&self, headers: &HeaderMap) {
        let authorization = headers.get(header::AUTHORIZATION).map(|value| value.to_str().unwrap().to_owned());
        self.facts.lock().unwrap().authorizations.push(authorization);
    }
}

async fn give(State(shared): State<Shared>, Path(name): Path<String>, headers: HeaderMap) -> Response {
    shared.note(&headers);
    let mut facts = shared.facts.lock().unwrap();
    if let Some(status) = facts.troubles.pop_front() {
        return (status, "not now").into_response();
    }
    let range = headers.get(header::RANGE).map(|range| range.to_str().unwrap().to_owned());
    facts.ranges.push((name.clone(), range.clone()));
    let Some(bytes) = facts.artifacts.get(&name).cloned() else {
        return (StatusCode::NOT_FOUND, "there is no such artifact").into_response();
    };
    let start: usize =
        range.map_or(0, |range| range.strip_prefix("bytes=").unwrap().trim_end_matches('-').parse().unwrap());
    let rest = bytes[start..].to_vec();
    let response = Response::builder()
        .status(if start == 0 { StatusCode::OK } else { StatusCode::PARTIAL_CONTENT })
        .header(header::CONTENT_LENGTH, rest.len())
        .header(header::CONTENT_RANGE, format!("bytes {start}-{}/{}", bytes.len() - 1, bytes.len()));
    let body = match facts.cuts.pop_front() {
        Some(cut) if cut < rest.len() => {
            let chunk = Bytes::copy_from_slice(&rest[..cut]);
            // The server writes out what it has whenever the body is not ready.
            let end = stream::once(async {
                tokio::task::yield_now().await;
                Err(std::io::Error::other("cut"))
            });
            Body::from_stream(stream::once(async { Ok(chunk) }).chain(end))
        }
        Some(_) | None => Body::from(rest),
    };
    response.body(body).unwrap()
}

async fn take(State(shared): State<Shared>, Path(name): Path<String>, headers: HeaderMap, body: Bytes) -> Response {
    shared.note(&headers);
    assert_eq!(headers[header::CONTENT_LENGTH].to_str().unwrap(), body.len().to_string());
    let mut facts = shared.facts.lock().unwrap();
    if let Some(status) = facts.refusals.pop_front() {
        return (status, "not now").into_response();
    }
    facts.uploads.insert(name, body.to_vec());
    StatusCode::CREATED.into_response()
}

async fn say_offset(State(shared): State<Shared>, Path(name): Path<String>, headers: HeaderMap) -> Response {
    shared.note(&headers);
    let facts = shared.facts.lock().unwrap();
    let (offset, is_complete) = facts.uploads.get(&name).map_or((facts.parts.len(), "?0"), |whole| (whole.len(), "?1"));
    (StatusCode::NO_CONTENT, [("upload-offset", offset.to_string()), ("upload-complete", is_complete.to_owned())])
        .into_response()
}

async fn take_part(State(shared): State<Shared>, Path(name): Path<String>, headers: HeaderMap, body: Body) -> Response {
    shared.note(&headers);
    assert_eq!(headers[header::CONTENT_TYPE], "application/partial-upload");
    assert_eq!(headers["upload-complete"], "?1");
    let offset: usize = headers["upload-offset"].to_str().unwrap().parse().unwrap();
    let cut = shared.facts.lock().unwrap().part_cuts.pop_front().unwrap_or(usize::MAX);
    let mut body = body.into_data_stream();
    let mut part = Vec::new();
    while part.len() < cut
        && let Some(Ok(chunk)) = body.next().await
    {
        part.extend_from_slice(&chunk[..chunk.len().min(cut - part.len())]);
    }
    let mut facts = shared.facts.lock().unwrap();
    facts.offsets.push((offset, part.len()));
    if offset != facts.parts.len() {
        return (StatusCode::CONFLICT, [("upload-offset", facts.parts.len().to_string())]).into_response();
    }
    facts.parts.extend_from_slice(&part);
    let (digest, size) = facts.announced.unwrap();
    if facts.parts.len() < size {
        // The server closes the connection, since the body has not ended.
        return StatusCode::BAD_GATEWAY.into_response();
    }
    let whole = std::mem::take(&mut facts.parts);
    if Digest::of(&whole) != digest {
        return StatusCode::UNPROCESSABLE_ENTITY.into_response();
    }
    facts.uploads.insert(name, whole);
    StatusCode::OK.into_response()
}
