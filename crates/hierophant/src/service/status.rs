//! What has become of requests.

use std::sync::Arc;

use hierophant_core::{Request, RequestState, WaitingReason};
use network_lib::RequestId;
use url::Url;

use super::{Service, report::proof_artifact};
use crate::{
    artifacts::Capabilities,
    class::Class,
    store::{RequestFilter, StorageError},
};

/// A request, with what only the live side knows.
#[derive(Debug, Clone)]
pub struct RequestStatus {
    /// The request.
    pub request: Arc<Request>,
    /// Why it waits, if it does.
    pub waiting: Option<WaitingReason>,
}

impl RequestStatus {
    /// Why the request waits, in words, if it does.
    pub fn why_it_waits(&self) -> Option<String> {
        let reason = self.waiting.as_ref()?;
        let guest = &self.request.tries.guest;
        if guest.is_empty() {
            return Some(reason.to_string());
        }
        Some(format!(
            "a worker reports that the program fails: {}; waits for a second one to say so: {reason}",
            guest.cause
        ))
    }
}

/// Why nothing can be said of a request.
#[derive(Debug, thiserror::Error)]
#[error("could not look it up: ask again")]
pub struct StatusError(#[from] StorageError);

impl StatusError {
    /// What kind of trouble this is.
    pub const fn class(&self) -> Class {
        self.0.class()
    }
}

impl Service {
    /// The request with this id, if it is known. Costs no I/O for requests in use, and never asks the fleet.
    ///
    /// # Errors
    /// [`StatusError`]
    pub async fn request(&self, id: RequestId) -> Result<Option<Arc<Request>>, StatusError> {
        Ok(self.store.request(id).await?)
    }

    /// The request with this id and why it waits. Asks the fleet, if the request is queued.
    ///
    /// # Errors
    /// [`StatusError`]
    pub async fn request_status(&self, id: RequestId) -> Result<Option<RequestStatus>, StatusError> {
        let Some(request) = self.store.request(id).await? else { return Ok(None) };
        let waiting = match request.state {
            RequestState::Queued => self.fleet.waiting_reason(id).await,
            _ => None,
        };
        Ok(Some(RequestStatus { request, waiting }))
    }

    /// Requests that pass the filter, newest first.
    ///
    /// # Errors
    /// [`StatusError`]
    pub async fn requests(&self, filter: &RequestFilter) -> Result<Vec<Arc<Request>>, StatusError> {
        Ok(self.store.requests(filter).await?)
    }

    /// Where the proof of a fulfilled request can be fetched, under `base`, for as long as it is kept; `None` for any
    /// other request.
    pub fn proof_url(base: &Url, request: &Request) -> Option<Url> {
        let RequestState::Fulfilled { attempt, .. } = request.state else { return None };
        Some(Capabilities::proof_url(base, proof_artifact(attempt)))
    }
}
