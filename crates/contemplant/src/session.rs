//! One session after the other with the coordinator: dial, say hello, pass messages on, back off.
//!
//! The attempts are the agent's: a session may end at any moment and nothing is lost.

use std::{fmt, io, time::Duration};

use backon::{BackoffBuilder as _, ExponentialBuilder};
use futures_util::{SinkExt as _, StreamExt as _};
use network_lib::{
    CONTEMPLANT_VERSION,
    protocol::{EvictionCode, Instruction, MAX_FRAME_BYTES, Report, Settings, WORKER_PATH},
};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::{
    net::TcpStream,
    time::{Instant, MissedTickBehavior, interval, sleep, sleep_until, timeout},
};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async_with_config,
    tungstenite::{
        self, Message,
        client::IntoClientRequest as _,
        http::{HeaderValue, StatusCode, header::AUTHORIZATION},
        protocol::WebSocketConfig,
    },
};
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::{
    agent::{ActorStopped, AgentHandle, Link},
    artifacts::readable,
    failure::chain,
};

/// How often, and how patiently.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// The first wait after a session ended or none came about; it doubles from there.
    pub first_wait: Duration,
    /// The longest such wait. Short, since workers that wait long leave a restarted coordinator without work.
    pub longest_wait: Duration,
    /// The wait after an eviction.
    pub evicted_wait: Duration,
    /// How long a dial may take, and the answer to `Hello`.
    pub dial_limit: Duration,
    /// A session that lasted this long was a good one: the next wait is a first one.
    pub good_session: Duration,
    /// How long a dial that goes on failing for the same reason is not logged again.
    pub quiet: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            first_wait: Duration::from_millis(250),
            longest_wait: Duration::from_secs(10),
            evicted_wait: Duration::from_mins(1),
            dial_limit: Duration::from_secs(15),
            good_session: Duration::from_secs(10),
            quiet: Duration::from_mins(1),
        }
    }
}

/// Shortest and longest interval of heartbeats that is believed, whatever the coordinator says.
const HEARTBEAT_BOUNDS: (Duration, Duration) = (Duration::from_millis(50), Duration::from_mins(1));

/// Where the coordinator is, and what opens its door.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// The WebSocket address.
    pub url: Url,
    /// The token of this worker.
    pub token: Option<SecretString>,
}

impl Endpoint {
    fn host(&self) -> impl fmt::Display {
        let host = self.url.host_str().unwrap_or("?").to_owned();
        match self.url.port_or_known_default() {
            Some(port) => format!("{host}:{port}"),
            None => host,
        }
    }
}

/// Why no session came about.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// Nobody listens.
    #[error(
        "nothing listens at {address}: is Hierophant running there, and is {address} the address of its http_port?"
    )]
    Refused {
        /// Host and port.
        address: String,
    },
    /// There is an HTTP server, and no worker endpoint at this path.
    #[error(
        "{url} answers 404 Not Found: the worker endpoint of a Hierophant has the path {WORKER_PATH}, so \
         hierophant_ws_address should be {expected}, with the http_port of Hierophant"
    )]
    NotFound {
        /// The address that was dialled.
        url: Url,
        /// The same with the right path.
        expected: Url,
    },
    /// The coordinator does not let this worker in.
    #[error("{address} does not let this worker in ({status}): {reason}")]
    Denied {
        /// Host and port.
        address: String,
        /// The answer's status.
        status: StatusCode,
        /// What the coordinator says.
        reason: String,
    },
    /// An HTTP server answered something else.
    #[error("{address} answers {status} where a WebSocket was asked for: {reason}")]
    Answered {
        /// Host and port.
        address: String,
        /// The answer's status.
        status: StatusCode,
        /// What it says.
        reason: String,
    },
    /// No answer in time.
    #[error("{address} does not answer within {} s: a firewall, a wrong port, or a stuck coordinator", limit.as_secs())]
    Silent {
        /// Host and port.
        address: String,
        /// How long was waited.
        limit: Duration,
    },
    /// The address is none that can be dialled with this token.
    #[error("cannot dial {address}")]
    Request {
        /// Host and port.
        address: String,
        /// What is wrong.
        #[source]
        source: Box<tungstenite::Error>,
    },
    /// Anything else: names that do not resolve, TLS, networks that are down.
    #[error("cannot reach {address}")]
    Unreachable {
        /// Host and port.
        address: String,
        /// What happened.
        #[source]
        source: Box<tungstenite::Error>,
    },
}

/// Why the worker cannot go on, and an operator must act.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// Worker and coordinator are of different versions.
    #[error("the coordinator does not work with this version ({CONTEMPLANT_VERSION}) of contemplant: {reason}")]
    Version {
        /// What the coordinator says; it names both versions.
        reason: String,
    },
    /// The agent has ended.
    #[error(transparent)]
    Agent(#[from] ActorStopped),
}

/// How a session ended.
#[derive(Debug)]
enum End {
    /// As this program wished.
    Stopped,
    /// The coordinator closed it, or the connection broke.
    Lost(String),
    /// The coordinator will not work with this worker.
    Evicted { code: Option<EvictionCode>, reason: String },
}

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// Keeps a session with the coordinator until `stop`, which ends the current one after what it still has to say.
///
/// # Errors
/// [`SessionError`]. Trouble with the network, however long, is none.
pub async fn run(
    endpoint: &Endpoint,
    agent: &AgentHandle,
    pace: Pace,
    stop: &CancellationToken,
) -> Result<(), SessionError> {
    let waits = ExponentialBuilder::default()
        .with_min_delay(pace.first_wait)
        .with_max_delay(pace.longest_wait)
        .without_max_times()
        .with_jitter();
    let mut next_waits = waits.build();
    let mut last_trouble: Option<(String, Instant)> = None;
    while !stop.is_cancelled() {
        let Some(dialled) = stop.run_until_cancelled(Box::pin(dial(endpoint, pace.dial_limit))).await else { break };
        let mut wait = None;
        match dialled {
            Ok(socket) => {
                let opened = Instant::now();
                match converse(socket, endpoint, agent, pace, stop).await? {
                    End::Stopped => break,
                    End::Lost(reason) => tracing::warn!("Lost the coordinator at {}: {reason}", endpoint.host()),
                    End::Evicted { code, reason } if is_of_version(code, &reason) => {
                        return Err(SessionError::Version { reason });
                    }
                    End::Evicted { reason, .. } => {
                        tracing::error!(
                            "The coordinator at {} evicted this worker: {reason} (next try in {:?})",
                            endpoint.host(),
                            pace.evicted_wait
                        );
                        wait = Some(pace.evicted_wait);
                    }
                }
                last_trouble = None;
                if opened.elapsed() >= pace.good_session {
                    next_waits = waits.build();
                }
            }
            Err(error) => {
                let trouble = chain(&error);
                let is_told =
                    last_trouble.as_ref().is_some_and(|(last, since)| *last == trouble && since.elapsed() < pace.quiet);
                if is_told {
                    tracing::debug!("Still no session: {trouble}");
                } else {
                    tracing::warn!("No session with the coordinator, trying again until there is one: {trouble}");
                    last_trouble = Some((trouble, Instant::now()));
                }
            }
        }
        let wait = wait.or_else(|| next_waits.next()).unwrap_or(pace.longest_wait);
        if stop.run_until_cancelled(sleep(wait)).await.is_none() {
            break;
        }
    }
    Ok(())
}

/// Whether an eviction is for the version. A coordinator that gives no code names both versions in such a refusal.
fn is_of_version(code: Option<EvictionCode>, reason: &str) -> bool {
    code.map_or_else(
        || reason.contains("version") && reason.contains(CONTEMPLANT_VERSION),
        |code| code == EvictionCode::Version,
    )
}

/// Opens a connection and asks for a WebSocket.
///
/// # Errors
/// [`DialError`], with the remedy where there is a likely one.
pub async fn dial(endpoint: &Endpoint, limit: Duration) -> Result<Socket, DialError> {
    let address = endpoint.host().to_string();
    let request = request(endpoint).map_err(|source| DialError::Request { address: address.clone(), source })?;
    let config =
        WebSocketConfig::default().max_message_size(Some(MAX_FRAME_BYTES)).max_frame_size(Some(MAX_FRAME_BYTES));
    let Ok(dialled) = timeout(limit, connect_async_with_config(request, Some(config), true)).await else {
        return Err(DialError::Silent { address, limit });
    };
    let error = match dialled {
        Ok((socket, _)) => return Ok(socket),
        Err(error) => error,
    };
    Err(match error {
        tungstenite::Error::Io(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            DialError::Refused { address }
        }
        tungstenite::Error::Http(response) => {
            let status = response.status();
            let reason = readable(response.body().as_deref().unwrap_or_default());
            match status {
                StatusCode::NOT_FOUND => {
                    let mut expected = endpoint.url.clone();
                    expected.set_path(WORKER_PATH);
                    DialError::NotFound { url: endpoint.url.clone(), expected }
                }
                StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => DialError::Denied { address, status, reason },
                _ => DialError::Answered { address, status, reason },
            }
        }
        source => DialError::Unreachable { address, source: Box::new(source) },
    })
}

fn request(endpoint: &Endpoint) -> Result<tungstenite::http::Request<()>, Box<tungstenite::Error>> {
    let mut request = endpoint.url.as_str().into_client_request()?;
    if let Some(token) = &endpoint.token {
        let bearer = HeaderValue::from_str(&format!("Bearer {}", token.expose_secret()));
        let mut bearer = bearer.map_err(|error| Box::new(error.into()))?;
        bearer.set_sensitive(true);
        request.headers_mut().insert(AUTHORIZATION, bearer);
    }
    Ok(request)
}

/// One session, from `Hello` to its end.
async fn converse(
    mut socket: Socket,
    endpoint: &Endpoint,
    agent: &AgentHandle,
    pace: Pace,
    stop: &CancellationToken,
) -> Result<End, ActorStopped> {
    let Link { hello, mut reports } = agent.open_session().await?;
    if let Err(reason) = say(&mut socket, hello, pace.dial_limit).await {
        return Ok(End::Lost(reason));
    }
    let settings = tokio::select! {
        () = stop.cancelled() => return Ok(close(socket, reports, pace.dial_limit).await),
        answer = timeout(pace.dial_limit, hear(&mut socket)) => match answer {
            Ok(Ok(Instruction::Welcome(settings))) => settings,
            Ok(Ok(Instruction::Evicted { code, reason })) => return Ok(End::Evicted { code, reason }),
            Ok(Ok(_)) => return Ok(End::Lost("its first message was no welcome".to_owned())),
            Ok(Err(reason)) => return Ok(End::Lost(reason)),
            Err(_) => return Ok(End::Lost(format!("no welcome within {:?}", pace.dial_limit))),
        },
    };
    if settings.version != CONTEMPLANT_VERSION {
        let reason = format!("the coordinator has version {} and the worker {CONTEMPLANT_VERSION}", settings.version);
        return Ok(End::Evicted { code: Some(EvictionCode::Version), reason });
    }
    tracing::info!(coordinator = %endpoint.host(), mock_mode = settings.mock_mode, "The coordinator welcomes this worker");
    let heartbeat_interval = settings.heartbeat_interval.clamp(HEARTBEAT_BOUNDS.0, HEARTBEAT_BOUNDS.1);
    let silence_limit = settings.silence_limit.max(2 * heartbeat_interval);
    agent.instruct(Instruction::Welcome(Settings { heartbeat_interval, silence_limit, ..settings })).await?;

    let mut heartbeat = interval(heartbeat_interval);
    heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut silent_at = Instant::now() + silence_limit;
    loop {
        let report = tokio::select! {
            () = stop.cancelled() => return Ok(close(socket, reports, silence_limit).await),
            heard = hear(&mut socket) => match heard {
                Ok(Instruction::Evicted { code, reason }) => return Ok(End::Evicted { code, reason }),
                Ok(instruction) => {
                    silent_at = Instant::now() + silence_limit;
                    agent.instruct(instruction).await?;
                    continue;
                }
                Err(reason) => return Ok(End::Lost(reason)),
            },
            report = reports.recv() => report.ok_or(ActorStopped)?,
            _ = heartbeat.tick() => Report::Heartbeat,
            () = sleep_until(silent_at) => {
                return Ok(End::Lost(format!("it has said nothing for {silence_limit:?}")));
            }
        };
        // A coordinator that reads nothing for so long is as good as gone.
        if let Err(reason) = say(&mut socket, report, silence_limit).await {
            return Ok(End::Lost(reason));
        }
    }
}

/// Says what is left to say, and goodbye.
async fn close(mut socket: Socket, mut reports: tokio::sync::mpsc::Receiver<Report>, limit: Duration) -> End {
    let goodbye = async {
        while let Ok(report) = reports.try_recv() {
            if say(&mut socket, report, limit).await.is_err() {
                return;
            }
        }
        // Whether the coordinator hears it or notices the closed connection is the same to both.
        drop(socket.close(None).await);
    };
    drop(timeout(Duration::from_secs(1), goodbye).await);
    End::Stopped
}

async fn say(socket: &mut Socket, report: Report, limit: Duration) -> Result<(), String> {
    match timeout(limit, socket.send(Message::Binary(report.encode().into()))).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(chain(&error)),
        Err(_) => Err(format!("it has read nothing for {limit:?}")),
    }
}

/// The next instruction. Cancel-safe. Frames of the WebSocket's own are answered by the library and skipped;
/// instructions that this version does not know are skipped as well.
async fn hear(socket: &mut Socket) -> Result<Instruction, String> {
    loop {
        match socket.next().await {
            Some(Ok(Message::Binary(frame))) => match Instruction::decode(&frame) {
                Ok(instruction) => return Ok(instruction),
                Err(network_lib::protocol::ProtocolError::UnknownKind) => {
                    tracing::warn!("Skipped an instruction of an unknown kind");
                }
                Err(error) => return Err(chain(&error)),
            },
            Some(Ok(Message::Text(_))) => return Err("it sent text, which is not of the worker protocol".to_owned()),
            Some(Ok(Message::Close(Some(close)))) if !close.reason.is_empty() => {
                return Err(format!("it closed the session: {}", readable(close.reason.as_bytes())));
            }
            Some(Ok(Message::Close(_))) | None => return Err("it closed the session".to_owned()),
            Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
            Some(Err(error)) => return Err(chain(&error)),
        }
    }
}
