//! Giving up requests that nobody can prove any more, because their program or input is gone.

use hierophant_core::{Event, Request, RequestState};
use network_lib::{ArtifactId, RequestId};

use super::{ChangeError, Service};

impl Service {
    /// Ends every request that waits for an artifact that is gone. Requests that are being proved go on: their workers
    /// have it already, or fail, and then [`Service::claim`] ends them.
    pub async fn artifact_gone(&self, artifact: ArtifactId) {
        let open = match self.store.open_requests().await {
            Ok(open) => open,
            Err(error) => {
                tracing::error!(artifact.id = %artifact, %error,
                    "requests that need a lost artifact could not be looked up; they end when a worker should have them");
                return;
            }
        };
        let needs = |request: &Request| request.spec.stdin == artifact || request.spec.program == artifact;
        for request in open.iter().filter(|request| request.state == RequestState::Queued && needs(request)) {
            self.give_up(request.id, artifact).await;
        }
    }

    /// Ends a request that waits and whose program or input is gone: with a cause that says what to do.
    pub(crate) async fn give_up(&self, id: RequestId, artifact: ArtifactId) {
        let kind = artifact.kind();
        let cause =
            format!("its {kind} {artifact} was lost from the hierophant's disk: upload it again, and ask again");
        match self.change(id, |request, now| request.give_up(cause.clone(), now)).await {
            Ok(_) => {
                tracing::error!(request.id = %id, artifact.id = %artifact, "a request was given up: its {kind} is gone");
                self.fleet.send(Event::Settled { request: id }).await;
            }
            Err(ChangeError::Impossible(_) | ChangeError::Unknown(_)) => {}
            Err(error @ (ChangeError::Store { .. } | ChangeError::Attempt { .. })) => {
                tracing::error!(request.id = %id, error = &error as &dyn std::error::Error,
                    "a request whose {kind} is gone could not be ended; it is tried again");
            }
        }
    }
}
