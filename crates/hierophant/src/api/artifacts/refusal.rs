//! Why a transfer was refused, and how that looks over HTTP: one place for both.

use std::time::Duration;

use axum::response::{IntoResponse, Response};
use bytesize::ByteSize;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use network_lib::{ArtifactId, ArtifactKind};
use tokio::task::JoinError;

use super::resuming::UPLOAD_OFFSET;
use crate::{
    api::status::http_status,
    artifacts::{ArtifactError, CapabilityError},
    class::Class,
    store::StorageError,
};

/// Why a transfer was refused. The text is for the client: what is wrong, and what to do.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    /// The same whether the id is malformed, unknown, or not uploaded completely.
    #[error("there is no such artifact: the URL is wrong, or the upload was never completed, or it is no longer kept")]
    NotFound,
    #[error(transparent)]
    Capability(#[from] CapabilityError),
    #[error("a {kind} may have at most {} here: make it smaller, or ask the operator to raise the bound", ByteSize(*limit))]
    TooLarge { kind: ArtifactKind, limit: u64 },
    #[error("the upload has no bytes: send the artifact as the body of the request")]
    Empty,
    #[error(
        "the upload was cut off: {received} {}bytes came; send it again from the start",
        length.map(|length| format!("of {length} ")).unwrap_or_default()
    )]
    CutOff { received: u64, length: Option<u64>, source: Option<axum::Error> },
    #[error(
        "the upload came too slowly: {received} bytes in all, and next to none in the last {}; send it again",
        humantime::format_duration(*time)
    )]
    TooSlow { received: u64, time: Duration },
    #[error("the upload broke off or came too slowly: {there} bytes are here; go on from there")]
    BrokeOff { there: u64 },
    #[error("the upload does not go on there: {there} bytes are here; go on from there")]
    Offset { there: u64 },
    #[error("the upload is over here: another one of the same proof took its place, or it is not needed any more")]
    TakenOver,
    #[error("what came is being stored: ask again in a moment")]
    Finishing,
    #[error(
        "the bytes that came of {id} are not those that its worker announced, perhaps since a crash damaged those that were \
         here before; they were thrown away: send it again from the start"
    )]
    NotAnnounced { id: ArtifactId },
    #[error("an upload to this URL cannot be gone on with: send the whole artifact by PUT")]
    NotResumable,
    #[error(
        "a part of an upload needs the headers `Content-Type: application/partial-upload` and `Upload-Offset` with the \
         number of bytes that are here, which HEAD tells"
    )]
    PartHeaders,
    #[error("other bytes were uploaded to this URL before, and they stay: ask for a new URL (CreateArtifact)")]
    Conflict,
    #[error("there is no such range: ask for one range inside its {size} bytes, as in `Range: bytes=0-99`")]
    Range { size: u64 },
    #[error("what was uploaded here before is being removed, since nobody asked for it: try again in a moment")]
    BeingRemoved,
    #[error("too many transfers are under way: try again in a moment")]
    Busy,
    #[error("the hierophant's disk is full: try again later; its operator must make room")]
    Full,
    #[error("the hierophant could not read or write its artifacts: try again later; its operator finds why in its log")]
    Files(#[source] ArtifactError),
    #[error("the hierophant's database did not answer: try again later; its operator finds why in its log")]
    Rows(#[source] StorageError),
    #[error("the hierophant's database is damaged: its operator finds more in its log")]
    DamagedRow(#[source] StorageError),
    #[error("the hierophant stopped while it finished the upload: send it again")]
    Stopped { source: JoinError },
    #[error("{id} was stored, but its file is gone: the hierophant's operator must restore the artifact directory")]
    Lost { id: ArtifactId },
    #[error(
        "{id} was damaged on the hierophant's disk and is not served: ask for the proof again, or upload the input again; \
         its operator finds more in the log"
    )]
    Gone { id: ArtifactId },
}

impl From<ArtifactError> for Refusal {
    fn from(error: ArtifactError) -> Self {
        match error {
            ArtifactError::TooLarge { id, limit } => Self::TooLarge { kind: id.kind(), limit },
            ArtifactError::Conflict(_) => Self::Conflict,
            ArtifactError::NotAnnounced(id) => Self::NotAnnounced { id },
            ArtifactError::Offset { there, .. } => Self::Offset { there },
            ArtifactError::TakenOver(_) => Self::TakenOver,
            ArtifactError::Full => Self::Full,
            ArtifactError::Io { .. } => Self::Files(error),
        }
    }
}

impl From<StorageError> for Refusal {
    fn from(error: StorageError) -> Self {
        match error {
            StorageError::Exists { .. } => Self::Conflict,
            StorageError::Damaged { .. } => Self::DamagedRow(error),
            StorageError::Conflict(_) | StorageError::Unavailable { .. } | StorageError::Closed => Self::Rows(error),
        }
    }
}

impl Refusal {
    /// The SDK repeats an upload or a download for 408 and 504 only, and gives up on everything else: trouble that passes
    /// must be one of them, above all never 500 or 503.
    pub(super) const fn status(&self) -> StatusCode {
        match self {
            Self::NotFound => http_status(Class::NotFound),
            Self::Capability(_) => http_status(Class::Denied),
            Self::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Empty | Self::CutOff { .. } | Self::PartHeaders => http_status(Class::Rejected),
            Self::TooSlow { .. } | Self::BrokeOff { .. } => StatusCode::REQUEST_TIMEOUT,
            Self::Conflict | Self::Offset { .. } | Self::TakenOver => http_status(Class::Conflict),
            Self::NotAnnounced { .. } => StatusCode::UNPROCESSABLE_ENTITY,
            Self::NotResumable => StatusCode::METHOD_NOT_ALLOWED,
            Self::Range { .. } => StatusCode::RANGE_NOT_SATISFIABLE,
            Self::BeingRemoved
            | Self::Finishing
            | Self::Busy
            | Self::Full
            | Self::Files(_)
            | Self::Rows(_)
            | Self::Stopped { .. } => http_status(Class::Unavailable),
            Self::DamagedRow(_) | Self::Lost { .. } => http_status(Class::Internal),
            Self::Gone { .. } => StatusCode::GONE,
        }
    }

    pub(super) fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        match self {
            Self::Range { size } => {
                let size = HeaderValue::try_from(format!("bytes */{size}")).expect("digits make a header value");
                headers.insert(header::CONTENT_RANGE, size);
            }
            Self::Offset { there } | Self::BrokeOff { there } => {
                headers.insert(UPLOAD_OFFSET, HeaderValue::from(*there));
            }
            Self::NotResumable => {
                headers.insert(header::ALLOW, HeaderValue::from_static("GET,HEAD,PUT"));
            }
            _ => {}
        }
        headers
    }

    pub(super) fn text(&self) -> String {
        format!("{self}\n")
    }

    /// Whether nothing more will come of the body that is being refused.
    pub(super) const fn is_the_body_over(&self) -> bool {
        matches!(
            self,
            Self::Empty | Self::CutOff { .. } | Self::TooSlow { .. } | Self::BrokeOff { .. } | Self::Stopped { .. }
        )
    }

    /// Logs what the operator should know: someone must act on a full disk and on damage; a client's own trouble is
    /// noise.
    pub(super) fn log(&self) {
        let cause = std::error::Error::source(self).map(causes).unwrap_or_default();
        match self {
            Self::Full | Self::Files(_) | Self::DamagedRow(_) | Self::Lost { .. } => {
                tracing::error!(cause, "a transfer failed: {self}");
            }
            Self::Rows(_) | Self::Busy | Self::Stopped { .. } | Self::NotAnnounced { .. } => {
                tracing::warn!(cause, "a transfer failed: {self}");
            }
            _ => tracing::debug!(cause, "a transfer was refused: {self}"),
        }
    }
}

/// The chain of causes, in one line.
fn causes(first: &(dyn std::error::Error + 'static)) -> String {
    let mut text = first.to_string();
    let mut next = first.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.status(), self.headers(), self.text()).into_response()
    }
}
