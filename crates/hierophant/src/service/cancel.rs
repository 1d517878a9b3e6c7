//! A client gives a request up.

use hierophant_core::{Happening, Request, Requester};
use network_lib::{RequestId, crash_point};

use super::{ChangeError, Service};
use crate::{class::Class, store::StorageError};

/// Why a request was not cancelled.
#[derive(Debug, thiserror::Error)]
pub enum CancelError {
    /// There is no such request.
    #[error("request {0} is not known here")]
    Unknown(RequestId),
    /// The request is another's.
    #[error("request {id} was not asked for by {by}: sign with the key that asked for it")]
    OfAnother {
        /// The request.
        id: RequestId,
        /// Who wanted to cancel it.
        by: Requester,
    },
    /// The write was cut off, as when the coordinator is stopped.
    #[error("cancelling request {0} was interrupted: cancel it again")]
    Interrupted(RequestId),
    /// The store did not do it.
    #[error("could not cancel request {id}: cancel it again")]
    Store {
        /// The request.
        id: RequestId,
        /// Why.
        #[source]
        source: StorageError,
    },
}

impl CancelError {
    /// What kind of trouble this is.
    pub const fn class(&self) -> Class {
        match self {
            Self::Unknown(_) => Class::NotFound,
            Self::OfAnother { .. } => Class::Denied,
            Self::Interrupted(_) => Class::Unavailable,
            Self::Store { source, .. } => source.class(),
        }
    }
}

impl Service {
    /// Cancels a request of `by`. One that has ended, whichever way, stays as it is: `Ok` all the same.
    ///
    /// Once begun, the change is written and the fleet is told, even when the caller stops waiting.
    ///
    /// # Errors
    /// [`CancelError`]
    pub async fn cancel(&self, id: RequestId, by: Requester) -> Result<(), CancelError> {
        let store_error = |source| CancelError::Store { id, source };
        let request = self.store.request(id).await.map_err(store_error)?.ok_or(CancelError::Unknown(id))?;
        if request.spec.requester != by {
            return Err(CancelError::OfAnother { id, by });
        }
        let service = self.clone();
        self.tasks.spawn(async move { service.cancel_own(id).await }).await.map_err(|_| CancelError::Interrupted(id))?
    }

    async fn cancel_own(&self, id: RequestId) -> Result<(), CancelError> {
        let (request, change) = match self.change(id, Request::cancel).await {
            Ok(changed) => changed,
            Err(ChangeError::Impossible(why)) => {
                tracing::debug!(request.id = %id, %why, "a request that has ended was cancelled");
                return Ok(());
            }
            Err(ChangeError::Unknown(id)) => return Err(CancelError::Unknown(id)),
            Err(ChangeError::Store { source, .. } | ChangeError::Attempt { source, .. }) => {
                return Err(CancelError::Store { id, source });
            }
        };
        crash_point!("cancel.after_commit_before_stop");
        let superseded = match change.happening {
            Happening::Cancelled { superseded } => superseded,
            _ => Vec::new(),
        };
        self.fleet.release(id, superseded, "cancelled by its requester").await;
        tracing::info!(request.id = %id, requester = %request.spec.requester, "cancelled a request");
        Ok(())
    }
}
