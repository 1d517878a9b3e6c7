//! Proofs go to the coordinator, and go on where they broke off: it is asked how much it has (`HEAD`), and is sent the
//! rest (`PATCH`). One that does not say is sent the whole (`PUT`).

use std::{io::SeekFrom, path::PathBuf};

use futures_util::StreamExt as _;
use network_lib::{AttemptId, Digest, crash_point};
use reqwest::{Method, Response, StatusCode, header};
use tokio::{
    fs::File,
    io::{AsyncReadExt as _, AsyncSeekExt as _},
    sync::watch,
    time::{sleep, timeout},
};
use tokio_util::io::ReaderStream;
use url::Url;

use super::{ArtifactClient, TransferError, off_the_runtime, refused};
use crate::{failure::chain, journal::holds};

/// How many bytes of an upload the coordinator has.
const UPLOAD_OFFSET: &str = "upload-offset";

/// Whether that is all, or will be when this request ends.
const UPLOAD_COMPLETE: &str = "upload-complete";

/// A proof on this disk.
#[derive(Debug, Clone)]
pub(crate) struct Proof {
    pub(crate) path: PathBuf,
    /// The digest that was announced.
    pub(crate) digest: Digest,
    /// The size that was announced, in bytes.
    pub(crate) size: u64,
}

/// What became of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Delivery {
    /// The coordinator has the proof.
    Done,
    /// It does not, and a good while has passed: a fresh address should be asked for.
    NotNow,
    /// The bytes on this disk are not those that were announced any more.
    Damaged,
}

/// How much the coordinator has.
enum There {
    All,
    Part(u64),
    /// It does not say.
    Untold,
}

impl ArtifactClient {
    /// Uploads a proof, patiently: tries that bring something do not count. Dropping the future gives up, and the next one
    /// goes on where it was.
    pub(crate) async fn deliver(&self, attempt: AttemptId, url: &str, proof: &Proof) -> Delivery {
        let size = proof.size;
        let mut waits = self.patience.waits();
        let mut is_second_chance = false;
        let mut there = 0;
        loop {
            let before = there;
            let error = match self.upload(url, proof, &mut there).await {
                Ok(()) => {
                    tracing::info!(attempt.id = %attempt, size, "Delivered a proof");
                    return Delivery::Done;
                }
                Err(error) => error,
            };
            if is_of_other_bytes(&error) {
                if is_damaged(proof).await {
                    tracing::error!(attempt.id = %attempt, "A proof on this disk is damaged and cannot be delivered; check the disk");
                    return Delivery::Damaged;
                }
                if !is_second_chance {
                    is_second_chance = true;
                    tracing::warn!(attempt.id = %attempt, "The delivery of a proof begins anew: {}", chain(&error));
                    continue;
                }
            }
            if there > before {
                waits = self.patience.waits();
            }
            if let Some(wait) = waits.next().filter(|_| error.is_transient()) {
                let what = "The delivery of a proof goes on";
                tracing::warn!(attempt.id = %attempt, there, size, "{what} in {wait:?}: {}", chain(&error));
                sleep(wait).await;
            } else {
                let what = "A proof cannot be delivered and stays on this disk; it will be offered again";
                tracing::error!(attempt.id = %attempt, there, size, "{what}: {}", chain(&error));
                sleep(self.patience.longest_wait).await;
                return Delivery::NotNow;
            }
        }
    }

    /// One try. `there` becomes what the coordinator had at its beginning.
    async fn upload(&self, url: &str, proof: &Proof, there: &mut u64) -> Result<(), TransferError> {
        let url = self.resolve(url)?;
        match self.ask(&url).await? {
            There::All => Ok(()),
            There::Part(offset) => {
                *there = offset;
                self.send(Method::PATCH, &url, proof, offset).await
            }
            There::Untold => self.send(Method::PUT, &url, proof, 0).await,
        }
    }

    /// Asks how much of an upload is there.
    async fn ask(&self, url: &Url) -> Result<There, TransferError> {
        let response = self.begin(self.authorized(self.http.head(url.clone()), url)).await?;
        match (response.status(), upload_offset(&response)) {
            (status, Some(_)) if status.is_success() && says(&response, UPLOAD_COMPLETE, "?1") => Ok(There::All),
            (status, Some(offset)) if status.is_success() => Ok(There::Part(offset)),
            // A coordinator of before knows no proof here, or one that is there already.
            (StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED, _) => Ok(There::Untold),
            (status, None) if status.is_success() => Ok(There::Untold),
            _ => Err(refused(response).await),
        }
    }

    /// Sends what follows `offset`. Cancel-safe.
    async fn send(&self, method: Method, url: &Url, proof: &Proof, offset: u64) -> Result<(), TransferError> {
        let rest = proof.size.checked_sub(offset).ok_or(TransferError::TooLong { expected: proof.size })?;
        let mut file = File::open(&proof.path).await.map_err(TransferError::Disk)?;
        file.seek(SeekFrom::Start(offset)).await.map_err(TransferError::Disk)?;
        let (moved, mut has_moved) = watch::channel(());
        let body = ReaderStream::with_capacity(file.take(rest), 64 << 10).inspect(move |_| {
            crash_point!("wk.mid_deliver");
            moved.send_replace(());
        });
        let mut request = self.http.request(method.clone(), url.clone()).header(header::CONTENT_LENGTH, rest);
        request = if method == Method::PATCH {
            let request = request.header(header::CONTENT_TYPE, "application/partial-upload");
            request.header(UPLOAD_OFFSET, offset).header(UPLOAD_COMPLETE, "?1")
        } else {
            request.header(header::CONTENT_TYPE, "application/octet-stream")
        };
        let request = self.authorized(request, url).body(reqwest::Body::wrap_stream(body));
        let silence = self.patience.silence;
        let mut sending = std::pin::pin!(request.send());
        let response = loop {
            tokio::select! {
                response = &mut sending => break response,
                // An error means that the body is sent: then the silence counts until the answer.
                moved = timeout(silence, has_moved.changed()) => match moved {
                    Ok(Ok(())) => {}
                    Ok(Err(_)) => break timeout(silence, &mut sending).await.map_err(|_| TransferError::Silence(silence))?,
                    Err(_) => return Err(TransferError::Silence(silence)),
                },
            }
        };
        let response = response.map_err(|error| TransferError::Connection(error.without_url()))?;
        match (response.status(), upload_offset(&response)) {
            (status, _) if status.is_success() => Ok(()),
            (StatusCode::CONFLICT, Some(there)) => Err(TransferError::Offset { sent: offset, there }),
            _ => Err(refused(response).await),
        }
    }
}

/// Whether the coordinator threw away what it had, since it was not what was announced.
fn is_of_other_bytes(error: &TransferError) -> bool {
    matches!(error, TransferError::Refused { status: StatusCode::UNPROCESSABLE_ENTITY, .. })
}

/// Whether a proof on this disk is for certain not the one that was announced.
async fn is_damaged(proof: &Proof) -> bool {
    let Proof { path, digest, size } = proof.clone();
    matches!(off_the_runtime(move || holds(&path, digest, size)).await, Ok(false))
}

fn upload_offset(response: &Response) -> Option<u64> {
    response.headers().get(UPLOAD_OFFSET)?.to_str().ok()?.parse().ok()
}

fn says(response: &Response, name: &str, value: &str) -> bool {
    response.headers().get(name).is_some_and(|said| said == value)
}
