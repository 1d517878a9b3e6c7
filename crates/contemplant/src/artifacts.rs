//! Artifacts over HTTP: programs and inputs come, proofs go (`upload`). Nothing is ever held in memory whole.

mod upload;

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use backon::{BackoffBuilder as _, ExponentialBuilder};
use futures_util::StreamExt as _;
use network_lib::{Digest, FaultClass, Hasher, protocol::Source};
use reqwest::{StatusCode, header};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::{
    fs::{self, File},
    io::AsyncWriteExt as _,
    time::{sleep, timeout},
};
use url::Url;

pub(crate) use self::upload::{Delivery, Proof};
use crate::{failure::chain, journal::holds};

/// Longest part of an answer's body that is shown to people, in bytes.
const MAX_REASON_BYTES: usize = 1000;

/// How patient transfers are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// How long an answer may take to begin: a dead connection has cost nothing yet, and a coordinator that looks at the
    /// bytes before it answers goes on with that.
    pub answer: Duration,
    /// Silence in the middle of a transfer after which a try is given up.
    pub silence: Duration,
    /// The first wait between two tries; it doubles from there.
    pub first_wait: Duration,
    /// The longest wait between two tries.
    pub longest_wait: Duration,
    /// Tries in a row that may bring nothing new. Past them, what is fetched ahead is left to its attempt, a delivery asks
    /// for another address, and the fetch of an attempt says why it gets nowhere and goes on.
    pub fruitless_tries: usize,
}

impl Default for Patience {
    /// About four minutes of trouble make a round of tries, which is longer than a restart of the coordinator.
    fn default() -> Self {
        Self {
            answer: Duration::from_secs(15),
            silence: Duration::from_mins(1),
            first_wait: Duration::from_millis(500),
            longest_wait: Duration::from_secs(30),
            fruitless_tries: 12,
        }
    }
}

impl Patience {
    fn waits(&self) -> impl Iterator<Item = Duration> + Send + use<> {
        ExponentialBuilder::default()
            .with_min_delay(self.first_wait)
            .with_max_delay(self.longest_wait)
            .with_max_times(self.fruitless_tries)
            .with_jitter()
            .build()
    }
}

/// Why a transfer failed. No variant shows an address, since that holds a capability.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// The address is none that can be used.
    #[error("the address is not usable: {problem}")]
    Address {
        /// What is wrong with it.
        problem: String,
    },
    /// The server answered, and not with success.
    #[error("the server answered {status}: {reason}")]
    Refused {
        /// The answer's status.
        status: StatusCode,
        /// The answer's body, as far as it is text.
        reason: String,
    },
    /// The server cannot be reached, or the connection broke.
    #[error("the connection failed")]
    Connection(#[source] reqwest::Error),
    /// Nothing moved for this long.
    #[error("nothing moved for {} s", .0.as_secs())]
    Silence(Duration),
    /// The connection ended early.
    #[error("the connection ended after {received} of {expected} bytes")]
    Cut {
        /// Bytes on disk.
        received: u64,
        /// Bytes that there are.
        expected: u64,
    },
    /// An upload does not go on there.
    #[error("the server has {there} bytes and was sent those after {sent}")]
    Offset {
        /// Where it was gone on.
        sent: u64,
        /// Where it goes on.
        there: u64,
    },
    /// There are more bytes than announced.
    #[error("there are more bytes than the {expected} that were announced")]
    TooLong {
        /// Bytes that were announced.
        expected: u64,
    },
    /// The bytes are not those that were announced.
    #[error("the bytes have the digest {actual}, not {expected}")]
    Digest {
        /// The digest that was announced.
        expected: Digest,
        /// The digest of what came.
        actual: Digest,
    },
    /// The disk refuses.
    #[error("the disk refuses")]
    Disk(#[source] io::Error),
}

impl TransferError {
    /// Whose fault it is that an attempt does not get its program or input.
    pub fn class(&self) -> FaultClass {
        match self {
            Self::Disk(_) => FaultClass::Resources,
            // What came whole was damaged twice.
            Self::Digest { .. } => FaultClass::Worker,
            // The coordinator's or the network's: nothing is known against this worker.
            Self::Address { .. }
            | Self::Refused { .. }
            | Self::Connection(_)
            | Self::Silence(_)
            | Self::Cut { .. }
            | Self::Offset { .. }
            | Self::TooLong { .. } => FaultClass::Lost,
        }
    }

    /// Whether the same may work a little later.
    pub(crate) fn is_transient(&self) -> bool {
        match self {
            Self::Connection(_) | Self::Silence(_) | Self::Cut { .. } | Self::Offset { .. } => true,
            Self::Refused { status, .. } => {
                status.is_server_error()
                    || matches!(
                        *status,
                        StatusCode::REQUEST_TIMEOUT
                            | StatusCode::TOO_MANY_REQUESTS
                            | StatusCode::TOO_EARLY
                            // A part that is of no use.
                            | StatusCode::PARTIAL_CONTENT
                            | StatusCode::RANGE_NOT_SATISFIABLE
                    )
            }
            Self::Address { .. } | Self::TooLong { .. } | Self::Digest { .. } | Self::Disk(_) => false,
        }
    }
}

/// Moves artifacts between this machine and the coordinator, or the store that the coordinator names.
#[derive(Debug, Clone)]
pub struct ArtifactClient {
    http: reqwest::Client,
    base: Url,
    token: Option<SecretString>,
    patience: Patience,
}

impl ArtifactClient {
    /// A client for the coordinator at `base`, to which relative addresses refer. The token goes to its origin only.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn new(base: Url, token: Option<SecretString>, patience: Patience) -> Result<Self, reqwest::Error> {
        let http = reqwest::Client::builder()
            .user_agent(concat!("contemplant/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(Duration::from_secs(10))
            // Each transfer has a connection of its own: nobody tells of a kept one that is dead since an address has
            // changed, and a transfer over it is silent until its patience ends.
            .pool_max_idle_per_host(0)
            // The WebSocket knows no proxy either, and the environment is read by `config` alone.
            .no_proxy()
            .redirect(reqwest::redirect::Policy::limited(4))
            .build()?;
        Ok(Self { http, base, token, patience })
    }

    /// The longest wait between two tries.
    pub(crate) const fn longest_wait(&self) -> Duration {
        self.patience.longest_wait
    }

    /// Makes sure that `target` has the bytes of `source`, which may be there already in whole or, under
    /// `<target>.part`, in part. Whatever is there is checked against the digest before it counts.
    ///
    /// Cancel-safe: the next call goes on with the part. A crash leaves at worst a damaged file, which the next call
    /// recognises.
    ///
    /// # Errors
    /// [`TransferError`], where the trouble may pass after as many fruitless tries as [`Patience`] has.
    pub async fn download(&self, source: &Source, target: &Path) -> Result<(), TransferError> {
        let url = self.resolve(&source.url)?;
        if is_whole(target.to_owned(), source).await? {
            return Ok(());
        }
        let mut part = Part::open(target.with_extension("part")).await?;
        let mut waits = self.patience.waits();
        let mut is_second_chance = false;
        loop {
            let before = part.size;
            let outcome = match self.download_once(&url, source, &mut part).await {
                Ok(()) => part.finish(source, target).await,
                Err(error) => Err(error),
            };
            let error = match outcome {
                Ok(()) => return Ok(()),
                Err(error @ TransferError::Digest { .. }) if !is_second_chance => {
                    // What lay there from before may have been the damaged part.
                    is_second_chance = true;
                    tracing::warn!("A download is damaged and begins anew: {error}");
                    continue;
                }
                Err(error) if error.is_transient() => error,
                Err(error) => return Err(error),
            };
            if part.size > before {
                waits = self.patience.waits();
            }
            let Some(wait) = waits.next() else { return Err(error) };
            tracing::debug!(received = part.size, "A download goes on in {wait:?}: {}", chain(&error));
            sleep(wait).await;
        }
    }

    async fn download_once(&self, url: &Url, source: &Source, part: &mut Part) -> Result<(), TransferError> {
        if part.size > source.size {
            part.restart().await?;
        }
        if part.size == source.size {
            return Ok(());
        }
        let mut request = self.authorized(self.http.get(url.clone()), url);
        request = request.header(header::ACCEPT_ENCODING, "identity");
        if part.size > 0 {
            request = request.header(header::RANGE, format!("bytes={}-", part.size));
        }
        let response = self.begin(request).await?;
        match response.status() {
            StatusCode::PARTIAL_CONTENT if starts_at(&response, part.size) => {}
            // Another part than asked for, or one that cannot be: begin anew at the next try.
            StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE => {
                part.restart().await?;
                return Err(refused(response).await);
            }
            StatusCode::OK => part.restart().await?,
            _ => return Err(refused(response).await),
        }
        let silence = self.patience.silence;
        let mut chunks = response.bytes_stream();
        loop {
            let next = timeout(silence, chunks.next()).await.map_err(|_| TransferError::Silence(silence))?;
            let Some(chunk) = next else { break };
            let chunk = chunk.map_err(|error| TransferError::Connection(error.without_url()))?;
            if part.size + chunk.len() as u64 > source.size {
                part.restart().await?;
                return Err(TransferError::TooLong { expected: source.size });
            }
            part.append(&chunk).await?;
        }
        if part.size < source.size {
            return Err(TransferError::Cut { received: part.size, expected: source.size });
        }
        Ok(())
    }

    /// Sends a request without a body, and waits until its answer begins.
    async fn begin(&self, request: reqwest::RequestBuilder) -> Result<reqwest::Response, TransferError> {
        let answer = self.patience.answer;
        let response = timeout(answer, request.send()).await.map_err(|_| TransferError::Silence(answer))?;
        response.map_err(|error| TransferError::Connection(error.without_url()))
    }

    fn resolve(&self, address: &str) -> Result<Url, TransferError> {
        let problem = |problem: String| TransferError::Address { problem };
        let url = self.base.join(address).map_err(|error| problem(error.to_string()))?;
        match url.scheme() {
            "http" | "https" => Ok(url),
            scheme => Err(problem(format!("it begins with {scheme}: and not with http: or https:"))),
        }
    }

    fn authorized(&self, request: reqwest::RequestBuilder, url: &Url) -> reqwest::RequestBuilder {
        match &self.token {
            Some(token) if url.origin() == self.base.origin() => request.bearer_auth(token.expose_secret()),
            Some(_) | None => request,
        }
    }
}

/// The beginning of a download on disk, and the digest so far.
struct Part {
    path: PathBuf,
    file: File,
    size: u64,
    hasher: Hasher,
}

impl Part {
    async fn open(path: PathBuf) -> Result<Self, TransferError> {
        let read = path.clone();
        let reading = off_the_runtime(move || {
            let mut hasher = Hasher::default();
            match std::fs::File::open(read) {
                Ok(mut file) => io::copy(&mut file, &mut hasher).map(|size| (size, hasher)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok((0, hasher)),
                Err(error) => Err(error),
            }
        });
        let (size, hasher) = reading.await?;
        let file = File::options().create(true).append(true).open(&path).await.map_err(TransferError::Disk)?;
        Ok(Self { path, file, size, hasher })
    }

    async fn restart(&mut self) -> Result<(), TransferError> {
        self.file.flush().await.map_err(TransferError::Disk)?;
        self.file.set_len(0).await.map_err(TransferError::Disk)?;
        self.size = 0;
        self.hasher = Hasher::default();
        Ok(())
    }

    async fn append(&mut self, chunk: &[u8]) -> Result<(), TransferError> {
        self.file.write_all(chunk).await.map_err(TransferError::Disk)?;
        self.hasher.update(chunk);
        self.size += chunk.len() as u64;
        Ok(())
    }

    /// Gives the file its name if the bytes are right; otherwise begins anew.
    async fn finish(&mut self, source: &Source, target: &Path) -> Result<(), TransferError> {
        self.file.flush().await.map_err(TransferError::Disk)?;
        let actual = self.hasher.digest();
        if actual != source.digest {
            self.restart().await?;
            return Err(TransferError::Digest { expected: source.digest, actual });
        }
        fs::rename(&self.path, target).await.map_err(TransferError::Disk)
    }
}

async fn is_whole(path: PathBuf, source: &Source) -> Result<bool, TransferError> {
    let (digest, size) = (source.digest, source.size);
    off_the_runtime(move || holds(&path, digest, size)).await
}

async fn off_the_runtime<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, TransferError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| TransferError::Disk(error.into()))?.map_err(TransferError::Disk)
}

fn starts_at(response: &reqwest::Response, start: u64) -> bool {
    let range = response.headers().get(header::CONTENT_RANGE).and_then(|range| range.to_str().ok());
    let first = range.and_then(|range| range.strip_prefix("bytes ")).and_then(|range| range.split('-').next());
    first.and_then(|first| first.parse::<u64>().ok()) == Some(start)
}

/// What a refusal says, cut and freed of control characters, since it goes to logs.
async fn refused(response: reqwest::Response) -> TransferError {
    let status = response.status();
    let mut body = Vec::new();
    let mut chunks = response.bytes_stream();
    let read = async {
        while body.len() < MAX_REASON_BYTES
            && let Some(Ok(chunk)) = chunks.next().await
        {
            body.extend_from_slice(&chunk);
        }
    };
    // Whatever came by then is shown.
    drop(timeout(Duration::from_secs(5), read).await);
    TransferError::Refused { status, reason: readable(&body) }
}

/// What a server or a child says, as one line for people.
pub(crate) fn readable(body: &[u8]) -> String {
    let body = &body[..body.len().min(MAX_REASON_BYTES)];
    let text = String::from_utf8_lossy(body).replace(char::is_control, " ");
    let text = text.trim();
    if text.is_empty() { "it gives no reason".to_owned() } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };

    use super::*;

    const BYTES: &[u8] = b"nothing";

    /// Answers the first request of each connection, and then says nothing more on it.
    async fn serve_once_each(listener: TcpListener) {
        let mut silent = Vec::new();
        loop {
            let (mut stream, _) = listener.accept().await.expect("accepts");
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.expect("a request"));
            }
            let reply = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", BYTES.len());
            stream.write_all(&[reply.as_bytes(), BYTES].concat()).await.expect("is read");
            silent.push(stream);
        }
    }

    #[tokio::test]
    async fn a_connection_that_never_answers_is_soon_given_up_for_another() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let base = format!("http://{}", listener.local_addr().expect("its address")).parse().expect("an address");
        let patience = Patience { answer: Duration::from_secs(1), silence: Duration::MAX, ..Patience::default() };
        let client = ArtifactClient::new(base, None, patience).expect("builds");
        let source = Source { url: "/x".to_owned(), digest: Digest::of(BYTES), size: BYTES.len() as u64 };
        let directory = tempfile::tempdir().expect("a directory");
        let target = directory.path().join("x");
        let serve = async {
            let (_dead, _) = listener.accept().await.expect("accepts");
            serve_once_each(listener).await;
        };
        tokio::select! {
            outcome = client.download(&source, &target) => outcome.expect("comes"),
            () = serve => {}
        }
    }

    #[tokio::test]
    async fn a_transfer_uses_no_connection_of_another() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let base = format!("http://{}", listener.local_addr().expect("its address")).parse().expect("an address");
        let patience = Patience { answer: Duration::from_secs(5), fruitless_tries: 0, ..Patience::default() };
        let client = ArtifactClient::new(base, None, patience).expect("builds");
        let source = Source { url: "/x".to_owned(), digest: Digest::of(BYTES), size: BYTES.len() as u64 };
        let directory = tempfile::tempdir().expect("a directory");
        let downloads = async {
            for name in ["first", "second"] {
                client.download(&source, &directory.path().join(name)).await.expect("comes");
            }
        };
        tokio::select! {
            () = downloads => {}
            () = serve_once_each(listener) => {}
        }
    }
}
