//! Requests in memory, so that a poll costs no I/O.
//!
//! A cached request is never older than the newest version that anyone was told of:
//! - The writer publishes a version after its commit and before its answer, and it publishes versions of one request
//!   in order, because it is one thread and publishes only the last of each transaction.
//! - A reader that finds nothing puts a placeholder first, and only then reads the database. So its read sees every
//!   commit that was published before the placeholder; and a version that is published after it replaces the
//!   placeholder (or removes it), upon which what the reader brings is refused. Eviction changes nothing in this: what
//!   is accepted is the one placeholder that the reader put, not whatever the key holds by then.
//!
//! Unknown ids leave nothing behind: their placeholder goes with the read. So an id that is unknown now is found as
//! soon as it is accepted, and asking for many of them takes no memory.

use std::sync::Arc;

use hierophant_core::{Request, RequestState};
use network_lib::RequestId;
use quick_cache::{Weighter, sync::Cache};

use crate::store::StorageError;

/// Heavier requests are read anew each time. Far below what one part of the cache may hold, so that whatever is put
/// into it is taken.
const MAX_ENTRY_BYTES: u64 = 16 << 10;

/// Bytes of a usual request in the cache, its key and its place included; measured.
const USUAL_BYTES: u64 = 800;

/// The most recently used requests, up to a number of bytes.
#[derive(Debug)]
pub(super) struct RequestCache(Cache<RequestId, Arc<Request>, Weight>);

impl RequestCache {
    /// A cache that takes about `bytes` of memory when it is full.
    pub(super) fn new(bytes: u64) -> Self {
        let expected = usize::try_from(bytes / USUAL_BYTES).unwrap_or(usize::MAX);
        Self(Cache::with_weighter(expected, bytes, Weight))
    }

    /// Puts a version that was just committed. Only for the writer, and in the order of the commits.
    pub(super) fn publish(&self, request: &Arc<Request>) {
        if weight(request) <= MAX_ENTRY_BYTES {
            self.0.insert(request.id, Arc::clone(request));
        } else {
            self.0.remove(&request.id);
        }
    }

    /// Takes a request out that was just deleted. Only for the writer, and in the order of the commits.
    pub(super) fn retract(&self, id: RequestId) {
        self.0.remove(&id);
    }

    /// The request from memory, or else what `load` reads from the database; callers for the same id wait for one
    /// `load`. When it is polled first, `load` must not have begun to read.
    pub(super) async fn get_or_load(
        &self,
        id: RequestId,
        load: impl Future<Output = Result<Option<Arc<Request>>, StorageError>>,
    ) -> Result<Option<Arc<Request>>, StorageError> {
        let placeholder = match self.0.get_value_or_guard_async(&id).await {
            Ok(request) => return Ok(Some(request)),
            Err(placeholder) => placeholder,
        };
        let loaded = load.await?;
        if let Some(request) = &loaded
            && weight(request) <= MAX_ENTRY_BYTES
        {
            // Refused if a newer version was published meanwhile. What was read is then still a right answer: this
            // call began before that version was told to anyone.
            let _ = placeholder.insert(Arc::clone(request));
        }
        Ok(loaded)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

#[derive(Debug, Clone)]
struct Weight;

impl Weighter<RequestId, Arc<Request>> for Weight {
    fn weight(&self, _: &RequestId, request: &Arc<Request>) -> u64 {
        weight(request)
    }
}

fn weight(request: &Request) -> u64 {
    let cause = match &request.state {
        RequestState::Unexecutable { cause, .. } | RequestState::Unfulfillable { cause, .. } => cause.len(),
        _ => 0,
    };
    let workers = request.tries.failed_workers.len() * size_of::<network_lib::WorkerId>();
    USUAL_BYTES + (cause + workers + request.spec.circuit_version.as_str().len()) as u64
}
