//! Artifacts over HTTP: `PUT`, `GET` and `HEAD /artifacts/{id}`, and `PATCH` for uploads that go on (`resuming`).
//!
//! An upload is answered with 200 once its bytes and then its row are durable, in this order: whatever has a row can be
//! served after any crash. Bytes that are not those that were stored any more are never served. Inputs and programs need a
//! [capability](Capabilities) both ways; a proof is fetched by its unguessable id alone, since clients ask for it as long
//! as they like.

mod range;
mod refusal;
mod resuming;
mod transfer;

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    body::{Body, BodyDataStream},
    extract::{Path, RawQuery, Request, State, rejection::PathRejection},
    response::{IntoResponse as _, Response},
    routing,
};
use futures_util::StreamExt as _;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Version, header, request::Parts};
use network_lib::{ArtifactId, ArtifactKind, Digest, crash_point};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_util::task::TaskTracker;

use self::{
    range::requested_range,
    refusal::Refusal,
    resuming::{Finishing, head, patch},
    transfer::{Patience, reply_while_draining},
};
use crate::{
    artifacts::{
        Action, ArtifactError, ArtifactFiles, Capabilities, Claim, Claims, Condition, Grant, Intact, Published, Upload,
    },
    clock::SharedClock,
    store::{Artifact, Artifacts},
};

/// What transfers may cost.
#[derive(Debug, Clone)]
pub struct ArtifactLimits {
    /// Most bytes of a program, as uploaded.
    pub program: u64,
    /// Most bytes of an input, as uploaded.
    pub stdin: u64,
    /// Most bytes of a proof.
    pub proof: u64,
    /// An upload that keeps us waiting for this long in all while it brings fewer than `pace_bytes` is dropped.
    pub pace_time: Duration,
    /// See `pace_time`.
    pub pace_bytes: u64,
    /// Uploads at once, and downloads at once; each holds about 1.5 MiB. More are told to come again.
    pub transfers: usize,
}

impl Default for ArtifactLimits {
    /// Bounds that no honest use meets: SP1 programs have a few MiB, inputs with hundreds of proofs inside 2 GiB, Core
    /// proofs of long executions some GiB; and the slowest line still brings 1 KiB/s.
    fn default() -> Self {
        Self {
            program: 256 << 20,
            stdin: 4 << 30,
            proof: 4 << 30,
            pace_time: Duration::from_mins(1),
            pace_bytes: 64 << 10,
            transfers: 256,
        }
    }
}

impl ArtifactLimits {
    /// Most bytes of an artifact of this kind.
    pub const fn size(&self, kind: ArtifactKind) -> u64 {
        match kind {
            ArtifactKind::Program => self.program,
            ArtifactKind::Stdin | ArtifactKind::PrivateStdin => self.stdin,
            ArtifactKind::Proof => self.proof,
        }
    }
}

/// What the artifact routes work on.
#[derive(Clone)]
pub struct ArtifactApi {
    files: Arc<dyn ArtifactFiles>,
    rows: Arc<dyn Artifacts + Send + Sync>,
    capabilities: Capabilities,
    clock: SharedClock,
    limits: Arc<ArtifactLimits>,
    uploads: Arc<Semaphore>,
    downloads: Arc<Semaphore>,
    tasks: TaskTracker,
    finishing: Finishing,
    claims: Claims,
    intact: Intact,
    lost: Option<mpsc::Sender<ArtifactId>>,
}

impl ArtifactApi {
    /// The artifacts in `files`, whose rows are in `rows`.
    ///
    /// Uploads whose bytes have all come are finished as `tasks`, whether the client still listens or not:
    /// wait for them before the store is closed.
    pub fn new(
        files: Arc<dyn ArtifactFiles>,
        rows: Arc<dyn Artifacts + Send + Sync>,
        capabilities: Capabilities,
        clock: SharedClock,
        limits: ArtifactLimits,
        tasks: TaskTracker,
    ) -> Self {
        let transfers = || Arc::new(Semaphore::new(limits.transfers));
        let (uploads, downloads) = (transfers(), transfers());
        let (limits, claims) = (Arc::new(limits), Claims::default());
        let (intact, finishing) = (Intact::default(), Finishing::default());
        Self {
            files,
            rows,
            capabilities,
            clock,
            limits,
            uploads,
            downloads,
            tasks,
            finishing,
            claims,
            intact,
            lost: None,
        }
    }

    /// The same, and `lost` is told of every artifact that is found damaged and taken away.
    #[must_use]
    pub fn telling(self, lost: mpsc::Sender<ArtifactId>) -> Self {
        Self { lost: Some(lost), ..self }
    }

    /// The uploads under way: whoever removes an artifact must ask here.
    pub fn claims(&self) -> Claims {
        self.claims.clone()
    }
}

/// The artifact routes. No body limit, time limit or compression of the server may lie over them: they have their own.
pub fn router(state: ArtifactApi) -> Router {
    Router::new().route("/artifacts/{id}", routing::get(get).put(put).patch(patch)).with_state(state)
}

/// What an upload holds as long as it is under way, and by what it is judged.
struct Place {
    id: ArtifactId,
    grant: Grant,
    /// Of the body, if the client said.
    length: Option<u64>,
    /// Most bytes in all.
    limit: u64,
    /// Bytes that were here before.
    offset: u64,
    /// The digest of the bytes that have a row.
    expected: Option<Digest>,
    _permit: OwnedSemaphorePermit,
    _claim: Claim,
}

type RawId = Result<Path<String>, PathRejection>;

/// An id that does not read is not told from one that is not there.
fn read_id(id: &RawId) -> Result<ArtifactId, Refusal> {
    let Ok(Path(id)) = id else { return Err(Refusal::NotFound) };
    id.parse().map_err(|_| Refusal::NotFound)
}

async fn put(State(api): State<ArtifactApi>, id: RawId, RawQuery(query): RawQuery, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let mut body = body.into_data_stream();
    match api.put(&id, query.as_deref(), &head.headers, &mut body).await {
        Ok(published) => stored(&published),
        Err(refusal) => refuse(refusal, &head, body),
    }
}

fn stored(published: &Published) -> Response {
    ([(header::ETAG, etag(&published.digest))], "stored\n").into_response()
}

/// Answers an upload whose body may still come.
fn refuse(refusal: Refusal, head: &Parts, body: BodyDataStream) -> Response {
    refusal.log();
    // A client that waits to be asked for its body, or that can be stopped without closing the connection, learns at
    // once. Another one would find a connection that breaks under its upload, and not read why.
    let can_stop = head.version >= Version::HTTP_2 || head.headers.contains_key(header::EXPECT);
    if can_stop || refusal.is_the_body_over() {
        return refusal.into_response();
    }
    (refusal.status(), refusal.headers(), reply_while_draining(refusal.text(), body)).into_response()
}

async fn get(
    State(api): State<ArtifactApi>,
    id: RawId,
    RawQuery(query): RawQuery,
    method: Method,
    headers: HeaderMap,
) -> Response {
    // Who has nothing to say beside the id of a proof wants the proof; a worker, how much of it is here.
    let is_proof = || read_id(&id).is_ok_and(|id| id.kind() == ArtifactKind::Proof);
    if method == Method::HEAD && query.is_some() && is_proof() {
        return head(&api, &id, query.as_deref()).await;
    }
    match api.get(&id, query.as_deref(), &method, &headers).await {
        Ok(response) => response,
        Err(refusal) => {
            refusal.log();
            refusal.into_response()
        }
    }
}

impl ArtifactApi {
    /// Takes an upload in. Nothing of the body is read before the capability is checked.
    async fn put(
        &self,
        id: &RawId,
        query: Option<&str>,
        headers: &HeaderMap,
        body: &mut BodyDataStream,
    ) -> Result<Published, Refusal> {
        let id = read_id(id)?;
        let grant = self.capabilities.check(Action::Put, id, query, self.clock.now().time)?;
        let place = self.place(id, grant, headers, 0).await?;
        let upload = match grant.announced {
            Some(announced) => {
                self.files.discard(id).await?;
                self.files.resume(id, 0, announced).await?
            }
            None => self.files.begin(id, place.limit).await?,
        };
        let (upload, received) = self.receive(upload, &place, body).await?;
        if received == 0 {
            return Err(Refusal::Empty);
        }
        self.finish(upload, place).await
    }

    /// Makes place for an upload of which `offset` bytes are here.
    async fn place(&self, id: ArtifactId, grant: Grant, headers: &HeaderMap, offset: u64) -> Result<Place, Refusal> {
        let length = content_length(headers);
        let limit = self.limits.size(id.kind());
        let size = grant.announced.map(|announced| announced.size).or(length);
        if size.is_some_and(|size| size > limit) {
            return Err(Refusal::TooLarge { kind: id.kind(), limit });
        }
        let permit = permit(&self.uploads)?;
        let claim = self.claims.bring(id).ok_or(Refusal::BeingRemoved)?;
        // First come, first kept: bytes that have a row are never replaced, not even when their file was lost.
        let expected = self.rows.artifact(id).await?.map(|row| row.digest);
        if grant.announced.is_some_and(|announced| expected.is_some_and(|expected| expected != announced.digest)) {
            return Err(Refusal::Conflict);
        }
        Ok(Place { id, grant, length, limit, offset, expected, _permit: permit, _claim: claim })
    }

    /// Takes the body in; how much of it came.
    async fn receive(
        &self,
        mut upload: Box<dyn Upload>,
        place: &Place,
        body: &mut BodyDataStream,
    ) -> Result<(Box<dyn Upload>, u64), Refusal> {
        let &Place { id, grant, length, offset, .. } = place;
        let mut received = 0_u64;
        let mut patience = Patience::new(&self.limits);
        let broke = loop {
            let chunk = match patience.wait(body).await {
                Ok(Some(Ok(chunk))) => chunk,
                Ok(None) if length.is_none_or(|length| length == received) => return Ok((upload, received)),
                Ok(None) => break Refusal::CutOff { received, length, source: None },
                Ok(Some(Err(source))) => break Refusal::CutOff { received, length, source: Some(source) },
                Err(time) => break Refusal::TooSlow { received, time },
            };
            received += chunk.len() as u64;
            match upload.write(chunk).await {
                Err(ArtifactError::TooLarge { .. }) if grant.announced.is_some() => {
                    self.files.discard(id).await?;
                    return Err(Refusal::NotAnnounced { id });
                }
                written => written?,
            }
        };
        upload.suspend().await?;
        Err(if grant.announced.is_some() { Refusal::BrokeOff { there: offset + received } } else { broke })
    }

    /// Publishes what came, and then writes its row. Begun, it is finished.
    async fn finish(&self, upload: Box<dyn Upload>, place: Place) -> Result<Published, Refusal> {
        let api = self.clone();
        let finishing = self.finishing.begin(place.id);
        let finish = async move {
            let &Place { id, grant, expected, .. } = &place;
            let published = upload.publish(expected).await?;
            if id.kind() == ArtifactKind::Proof {
                crash_point!("result.after_dirsync_before_tx");
            } else {
                crash_point!("artifact.after_rename_before_row");
            }
            api.record(id, grant, published).await?;
            api.intact.note(&*api.files, id).await;
            drop((finishing, place));
            Ok(published)
        };
        self.tasks.spawn(finish).await.map_err(|source| Refusal::Stopped { source })?
    }

    async fn record(&self, id: ArtifactId, grant: Grant, published: Published) -> Result<(), Refusal> {
        let Published { digest, size } = published;
        let created_at = self.clock.now().time;
        self.rows.record_artifact(Artifact { id, owner: grant.owner, digest, size, created_at }).await?;
        tracing::debug!(artifact.id = %id, artifact.digest = %digest, artifact.size = size, "an artifact is stored");
        Ok(())
    }

    /// Serves an artifact, or a part of it, or (`HEAD`) its headers.
    async fn get(
        &self,
        id: &RawId,
        query: Option<&str>,
        method: &Method,
        headers: &HeaderMap,
    ) -> Result<Response, Refusal> {
        let id = read_id(id)?;
        if id.kind() != ArtifactKind::Proof {
            self.capabilities.check(Action::Get, id, query, self.clock.now().time)?;
        }
        let Some(row) = self.rows.artifact(id).await? else {
            return Err(if self.files.was_set_aside(id).await? { Refusal::Gone { id } } else { Refusal::NotFound });
        };
        let etag = etag(&row.digest);
        let part = requested_range(headers, &etag, row.size)?;
        let range = part.clone().unwrap_or(0..row.size);
        let permit = permit(&self.downloads)?;
        self.require_intact(&row).await?;
        let reader = self.files.open(id, range.clone()).await?.ok_or(Refusal::Lost { id })?;
        let body = if method == Method::HEAD {
            Body::empty()
        } else {
            Body::from_stream(reader.chunks.inspect(move |chunk| {
                let _held_while_it_is_sent = &permit;
                if let Err(error) = chunk {
                    tracing::error!(artifact.id = %id, %error, "a download broke off: its file cannot be read");
                }
            }))
        };
        let fixed = [
            (header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream")),
            (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
            (header::ACCEPT_RANGES, HeaderValue::from_static("bytes")),
            // The SDK does not decode: a proxy on the way must not encode.
            (header::CACHE_CONTROL, HeaderValue::from_static("private, no-transform")),
            (header::ETAG, etag),
            (header::CONTENT_LENGTH, HeaderValue::from(range.end - range.start)),
        ];
        let mut response = (fixed, body).into_response();
        if part.is_some() {
            *response.status_mut() = StatusCode::PARTIAL_CONTENT;
            let covered = format!("bytes {}-{}/{}", range.start, range.end - 1, row.size);
            response.headers_mut().insert(header::CONTENT_RANGE, ascii(&covered));
        }
        Ok(response)
    }
}

impl ArtifactApi {
    /// Makes sure that the bytes are those that were stored. Begun, it is finished: a client that hangs up while a large
    /// file is read finds it read when it comes back.
    async fn require_intact(&self, row: &Artifact) -> Result<(), Refusal> {
        let (api, row) = (self.clone(), row.clone());
        let id = row.id;
        let look = async move {
            match api.condition(&row).await? {
                Condition::Intact => Ok(()),
                Condition::Missing if api.files.was_set_aside(id).await? => Err(Refusal::Gone { id }),
                Condition::Missing => Err(Refusal::Lost { id }),
                Condition::Damaged => {
                    api.take_away(&row).await?;
                    Err(Refusal::Gone { id })
                }
            }
        };
        self.tasks.spawn(look).await.map_err(|source| Refusal::Stopped { source })?
    }

    async fn condition(&self, row: &Artifact) -> Result<Condition, Refusal> {
        Ok(self.intact.condition(&*self.files, row.id, row.digest, row.size).await?)
    }

    /// Takes damaged bytes away, and then their row: whoever needs them is told that they are gone.
    async fn take_away(&self, row: &Artifact) -> Result<(), Refusal> {
        let id = row.id;
        // Whoever brings them anew mends it.
        let Some(_claim) = self.claims.remove(id) else { return Ok(()) };
        if self.condition(row).await? != Condition::Damaged {
            return Ok(());
        }
        tracing::error!(artifact.id = %id, "an artifact is damaged: its bytes are not those that were stored. They are \
            kept beside it as {id}.damaged; check the disk");
        self.files.set_aside(id).await?;
        self.rows.forget_artifact(id).await?;
        if let Some(lost) = &self.lost {
            // Whoever listens has stopped when the program stops.
            let _ = lost.send(id).await;
        }
        Ok(())
    }
}

fn permit(transfers: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, Refusal> {
    Arc::clone(transfers).try_acquire_owned().map_err(|_| Refusal::Busy)
}

/// The length that the client announced; the server has refused what is no number.
fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

fn etag(digest: &Digest) -> HeaderValue {
    ascii(&format!("\"{digest}\""))
}

fn ascii(text: &str) -> HeaderValue {
    text.parse().expect("digits, hex and punctuation make a header value")
}

#[cfg(test)]
mod tests;
