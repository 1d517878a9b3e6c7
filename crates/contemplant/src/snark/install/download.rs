//! Fetching a large file, going on where it was interrupted: by a broken connection at once, by the end of this
//! program at the next call.

use std::{io, path::Path, time::Duration};

use backon::{BackoffBuilder as _, ExponentialBuilder};
use bytesize::ByteSize;
use futures_util::StreamExt as _;
use reqwest::{Response, StatusCode, header};
use tokio::{
    fs::{self, File},
    io::AsyncWriteExt as _,
    time::{Instant, sleep, timeout},
};
use url::Url;

use super::{InstallError, disk};
use crate::{artifacts::readable, durable, failure::chain};

/// Silence after which a try is given up.
const SILENCE: Duration = Duration::from_mins(1);

/// Tries in a row that may bring nothing new. About a minute of trouble is sat out.
const FRUITLESS_TRIES: usize = 6;

/// How often progress is told.
const TELL: Duration = Duration::from_secs(10);

/// Why a file did not come.
#[derive(Debug, thiserror::Error)]
pub enum DownloadError {
    /// TLS cannot be set up.
    #[error("cannot set up HTTP")]
    Client(#[source] reqwest::Error),
    /// The server answered, and not with the file.
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
    /// Nothing moved.
    #[error("nothing moved for {} s", SILENCE.as_secs())]
    Silence,
    /// The connection ended early.
    #[error("the connection ended after {received} of {expected} bytes")]
    Cut {
        /// Bytes on disk.
        received: u64,
        /// Bytes that there are.
        expected: u64,
    },
    /// The part on disk does not fit any more.
    #[error("the file there has changed since a part of it was fetched; it is fetched anew")]
    Changed,
}

impl DownloadError {
    fn is_transient(&self) -> bool {
        match self {
            Self::Connection(_) | Self::Silence | Self::Cut { .. } | Self::Changed => true,
            Self::Refused { status, .. } => status.is_server_error() || *status == StatusCode::TOO_MANY_REQUESTS,
            Self::Client(_) => false,
        }
    }
}

/// Fetches the file at `url` to `part`, from where that ends. `has_room` is asked with the bytes that are left and
/// those of the whole, as soon as they are known.
///
/// Beside the part lies the name of what it is a part of: the address, and the server's name for this version of the
/// file. A part of another address is thrown away; one of another version is recognised by the server.
pub(super) async fn fetch(
    url: &Url,
    part: &Path,
    has_room: &(dyn Fn(u64, u64) -> Result<(), InstallError> + Sync),
    say: &mut (dyn FnMut(&str) + Send),
) -> Result<(), InstallError> {
    let origin = part.with_extension("origin");
    let text = fs::read_to_string(&origin).await.unwrap_or_default();
    let (known_url, version) = text.split_once('\n').unwrap_or_default();
    let is_known = known_url == url.as_str();
    let mut file = File::options().create(true).append(true).open(part).await.map_err(disk(part))?;
    if !is_known {
        file.set_len(0).await.map_err(disk(part))?;
    }
    let size = file.metadata().await.map_err(disk(part))?.len();
    let mut version = if is_known { version.trim().to_owned() } else { String::new() };
    if size > 0 {
        say(&format!("{} are there already; going on from there.", ByteSize::b(size)));
    }
    // Through a proxy where the environment names one: unlike a Hierophant, this server is out in the world.
    let client = reqwest::Client::builder()
        .user_agent(concat!("contemplant/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(Duration::from_secs(15))
        .build()
        .map_err(|error| InstallError::Download(DownloadError::Client(error)))?;

    let mut fetch = Fetch { client, url, part, origin: &origin, file: &mut file, size, version: &mut version };
    let waits = ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(500))
        .with_max_delay(Duration::from_secs(30))
        .with_max_times(FRUITLESS_TRIES);
    let mut next_waits = waits.build();
    loop {
        let before = fetch.size;
        let error = match fetch.once(has_room, say).await {
            Ok(()) => return Ok(()),
            Err(InstallError::Download(error)) if error.is_transient() => error,
            Err(error) => return Err(error),
        };
        if fetch.size > before {
            next_waits = waits.build();
        }
        let Some(wait) = next_waits.next() else { return Err(InstallError::Download(error)) };
        say(&format!("Trying again in {wait:?}: {}.", chain(&error)));
        sleep(wait).await;
    }
}

struct Fetch<'a> {
    client: reqwest::Client,
    url: &'a Url,
    part: &'a Path,
    origin: &'a Path,
    file: &'a mut File,
    size: u64,
    /// The server's entity tag of what the part is of; empty when it gave none.
    version: &'a mut String,
}

impl Fetch<'_> {
    async fn once(
        &mut self,
        has_room: &(dyn Fn(u64, u64) -> Result<(), InstallError> + Sync),
        say: &mut (dyn FnMut(&str) + Send),
    ) -> Result<(), InstallError> {
        let response = self.ask().await.map_err(InstallError::Download)?;
        let total = match response.status() {
            StatusCode::PARTIAL_CONTENT => match range(&response) {
                Some((Some(first), total)) if first == self.size => total,
                _ => return self.begin_anew().await,
            },
            // Nothing is left after what is here.
            StatusCode::RANGE_NOT_SATISFIABLE => match range(&response) {
                Some((None, Some(total))) if total == self.size => return Ok(()),
                _ => return self.begin_anew().await,
            },
            StatusCode::OK => {
                self.restart().await?;
                let tag = response.headers().get(header::ETAG).and_then(|tag| tag.to_str().ok());
                // A weak one is not of the bytes.
                tag.filter(|tag| !tag.starts_with("W/")).unwrap_or_default().clone_into(self.version);
                let text = format!("{}\n{}\n", self.url, self.version);
                durable::write(self.origin, text.as_bytes()).map_err(disk(self.origin))?;
                response.content_length()
            }
            status => {
                let body = timeout(Duration::from_secs(5), response.bytes()).await;
                let body = body.ok().and_then(Result::ok).unwrap_or_default();
                return Err(InstallError::Download(DownloadError::Refused { status, reason: readable(&body) }));
            }
        };
        if let Some(total) = total {
            has_room(total.saturating_sub(self.size), total)?;
        }
        self.receive(response, total, say).await
    }

    async fn ask(&self) -> Result<Response, DownloadError> {
        let mut request = self.client.get(self.url.clone()).header(header::ACCEPT_ENCODING, "identity");
        if self.size > 0 {
            request = request.header(header::RANGE, format!("bytes={}-", self.size));
            if !self.version.is_empty() {
                request = request.header(header::IF_RANGE, self.version.as_str());
            }
        }
        let response = timeout(SILENCE, request.send()).await.map_err(|_| DownloadError::Silence)?;
        response.map_err(DownloadError::Connection)
    }

    async fn receive(
        &mut self,
        response: Response,
        total: Option<u64>,
        say: &mut (dyn FnMut(&str) + Send),
    ) -> Result<(), InstallError> {
        let mut chunks = response.bytes_stream();
        let mut told = Instant::now();
        let outcome = loop {
            match timeout(SILENCE, chunks.next()).await {
                Err(_) => break Err(DownloadError::Silence),
                Ok(Some(Err(error))) => break Err(DownloadError::Connection(error)),
                Ok(None) => break Ok(()),
                Ok(Some(Ok(chunk))) => {
                    self.file.write_all(&chunk).await.map_err(disk(self.part))?;
                    self.size += chunk.len() as u64;
                }
            }
            if told.elapsed() >= TELL {
                told = Instant::now();
                let of = total.map_or_else(String::new, |total| format!(" of {}", ByteSize::b(total)));
                say(&format!("{}{of}", ByteSize::b(self.size)));
            }
        };
        // What came is kept, however it ended.
        self.file.flush().await.map_err(disk(self.part))?;
        outcome.map_err(InstallError::Download)?;
        match total {
            Some(expected) if self.size != expected => {
                Err(InstallError::Download(DownloadError::Cut { received: self.size, expected }))
            }
            _ => Ok(()),
        }
    }

    async fn begin_anew(&mut self) -> Result<(), InstallError> {
        self.restart().await?;
        Err(InstallError::Download(DownloadError::Changed))
    }

    async fn restart(&mut self) -> Result<(), InstallError> {
        let truncated: io::Result<()> = async {
            self.file.flush().await?;
            self.file.set_len(0).await
        }
        .await;
        truncated.map_err(disk(self.part))?;
        self.size = 0;
        Ok(())
    }
}

/// The first byte that an answer holds, if any, and the size of the whole, if it says so.
fn range(response: &Response) -> Option<(Option<u64>, Option<u64>)> {
    parse_range(response.headers().get(header::CONTENT_RANGE)?.to_str().ok()?)
}

fn parse_range(text: &str) -> Option<(Option<u64>, Option<u64>)> {
    let (bytes, total) = text.strip_prefix("bytes ")?.split_once('/')?;
    let first = bytes.split_once('-').and_then(|(first, _)| first.parse().ok());
    Some((first, total.parse().ok()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_says_where_it_begins_and_how_large_the_whole_is() {
        assert_eq!(parse_range("bytes 5-9/10"), Some((Some(5), Some(10))));
        assert_eq!(parse_range("bytes 5-9/*"), Some((Some(5), None)));
        assert_eq!(parse_range("bytes */10"), Some((None, Some(10))));
        assert_eq!(parse_range("5-9/10"), None);
    }
}
