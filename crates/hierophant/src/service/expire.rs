//! Ending a request whose deadline has passed.

use std::time::Duration;

use hierophant_core::{Event, Request, TransitionError};
use network_lib::RequestId;

use super::{ChangeError, Service};

/// When to look again at a request that could not be ended.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

impl Service {
    /// Ends a request whose deadline has passed, and stops whoever works on it.
    pub(crate) async fn expire(&self, id: RequestId) {
        match self.change(id, Request::expire).await {
            Ok((_, change)) => {
                let hierophant_core::Happening::Expired { superseded } = change.happening else { return };
                tracing::info!(request.id = %id, "a request expired");
                self.fleet.release(id, superseded, "the deadline passed").await;
            }
            // The fleet was told so, and may since have been told by someone slower that it waits.
            Err(ChangeError::Unknown(_) | ChangeError::Impossible(TransitionError::Ended { .. })) => {
                self.fleet.send(Event::Settled { request: id }).await;
            }
            Err(ChangeError::Impossible(_)) => self.look_again(id).await,
            Err(error @ (ChangeError::Store { .. } | ChangeError::Attempt { .. })) => {
                tracing::error!(request.id = %id, error = &error as &dyn std::error::Error,
                    "an expired request could not be ended");
                self.look_again(id).await;
            }
        }
    }

    async fn look_again(&self, request: RequestId) {
        let deadline = self.clock.now().time.plus(LOOK_AGAIN);
        self.fleet.send(Event::Watched { request, deadline }).await;
    }
}
