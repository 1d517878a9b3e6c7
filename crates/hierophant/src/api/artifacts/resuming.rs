//! Uploads of proofs that go on where they broke off, by the methods of the IETF's resumable uploads on one address.
//!
//! `HEAD` is answered with `Upload-Offset`, how many bytes are here, and `Upload-Complete`, whether that is all. `PATCH`
//! with `Upload-Offset` brings the rest; at another offset than the true one it is refused with that one. The address
//! itself says which bytes they must come to be, so nothing about an upload is remembered beside its bytes. Whoever asks
//! last has the upload: one before it, on a connection that is dead and does not know it, is over.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::{
    body::BodyDataStream,
    extract::{RawQuery, Request, State},
    response::{IntoResponse as _, Response},
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use network_lib::ArtifactId;

use super::{ArtifactApi, RawId, read_id, refusal::Refusal, refuse, stored};
use crate::artifacts::{Action, Announced, Condition, Grant, Published};

/// How many bytes are here.
pub(super) const UPLOAD_OFFSET: HeaderName = HeaderName::from_static("upload-offset");

/// Whether that is all.
const UPLOAD_COMPLETE: HeaderName = HeaderName::from_static("upload-complete");

/// What the body of a `PATCH` is.
const PARTIAL_UPLOAD: &str = "application/partial-upload";

/// How much of an upload is here.
enum Progress {
    All,
    Part(u64),
}

/// Says how much of a proof is here.
pub(super) async fn head(api: &ArtifactApi, id: &RawId, query: Option<&str>) -> Response {
    let (offset, is_complete) = match api.progress(id, query).await {
        Ok((Progress::All, announced)) => (announced.size, "?1"),
        Ok((Progress::Part(there), _)) => (there, "?0"),
        Err(refusal) => {
            refusal.log();
            return refusal.into_response();
        }
    };
    let headers = [
        (UPLOAD_OFFSET, HeaderValue::from(offset)),
        (UPLOAD_COMPLETE, HeaderValue::from_static(is_complete)),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    (StatusCode::NO_CONTENT, headers).into_response()
}

/// Takes in the rest of a proof.
pub(super) async fn patch(
    State(api): State<ArtifactApi>,
    id: RawId,
    RawQuery(query): RawQuery,
    request: Request,
) -> Response {
    let (head, body) = request.into_parts();
    let mut body = body.into_data_stream();
    match api.patch(&id, query.as_deref(), &head.headers, &mut body).await {
        Ok(published) => stored(&published),
        Err(refusal) => refuse(refusal, &head, body),
    }
}

impl ArtifactApi {
    async fn progress(&self, id: &RawId, query: Option<&str>) -> Result<(Progress, Announced), Refusal> {
        let (id, _, announced) = self.resumable(id, query)?;
        let there = self.files.partial(id).await?;
        // Again: what was being finished meanwhile has a row now, and no partial upload, or will have.
        self.finishing.require_none(id)?;
        if let Some(row) = self.rows.artifact(id).await? {
            if row.digest != announced.digest {
                return Err(Refusal::Conflict);
            }
            // What was lost is brought again.
            let api = self.clone();
            // A look that takes longer than its worker waits is not begun anew with each question.
            let look = self.tasks.spawn(async move { api.condition(&row).await });
            if look.await.map_err(|source| Refusal::Stopped { source })?? == Condition::Intact {
                return Ok((Progress::All, announced));
            }
        }
        if there > announced.size {
            tracing::warn!(artifact.id = %id, there, size = announced.size,
                "more is here of an upload than its worker announced; it is thrown away and begins anew");
            self.files.discard(id).await?;
            return Ok((Progress::Part(0), announced));
        }
        Ok((Progress::Part(there), announced))
    }

    async fn patch(
        &self,
        id: &RawId,
        query: Option<&str>,
        headers: &HeaderMap,
        body: &mut BodyDataStream,
    ) -> Result<Published, Refusal> {
        let (id, grant, announced) = self.resumable(id, query)?;
        let offset = part_offset(headers).ok_or(Refusal::PartHeaders)?;
        let place = self.place(id, grant, headers, offset).await?;
        let upload = self.files.resume(id, offset, announced).await?;
        if offset > 0 {
            tracing::info!(artifact.id = %id, offset, size = announced.size, "an upload goes on where it broke off");
        }
        let (upload, received) = self.receive(upload, &place, body).await?;
        let there = offset + received;
        if there == 0 {
            return Err(Refusal::Empty);
        }
        if there < announced.size {
            upload.suspend().await?;
            return Err(Refusal::BrokeOff { there });
        }
        self.finish(upload, place).await
    }

    /// The upload that this address is for, if it can be gone on with and is not being finished.
    fn resumable(&self, id: &RawId, query: Option<&str>) -> Result<(ArtifactId, Grant, Announced), Refusal> {
        let id = read_id(id)?;
        let grant = self.capabilities.check(Action::Put, id, query, self.clock.now().time)?;
        let announced = grant.announced.ok_or(Refusal::NotResumable)?;
        self.finishing.require_none(id)?;
        Ok((id, grant, announced))
    }
}

/// Where the part begins.
fn part_offset(headers: &HeaderMap) -> Option<u64> {
    (headers.get(header::CONTENT_TYPE)? == PARTIAL_UPLOAD).then_some(())?;
    headers.get(UPLOAD_OFFSET)?.to_str().ok()?.parse().ok()
}

/// The uploads whose bytes have all come and that have no row yet.
///
/// Between the two there is neither a partial upload nor a row, and a worker that asked would be told to begin anew.
#[derive(Debug, Clone, Default)]
pub(super) struct Finishing(Arc<Mutex<Vec<ArtifactId>>>);

/// One of them, until this is dropped.
pub(super) struct Finish {
    finishing: Finishing,
    id: ArtifactId,
}

impl Finishing {
    pub(super) fn begin(&self, id: ArtifactId) -> Finish {
        self.ids().push(id);
        Finish { finishing: self.clone(), id }
    }

    fn require_none(&self, id: ArtifactId) -> Result<(), Refusal> {
        if self.ids().contains(&id) { Err(Refusal::Finishing) } else { Ok(()) }
    }

    fn ids(&self) -> MutexGuard<'_, Vec<ArtifactId>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Finish {
    fn drop(&mut self) {
        let mut ids = self.finishing.ids();
        if let Some(place) = ids.iter().position(|id| *id == self.id) {
            ids.swap_remove(place);
        }
    }
}
