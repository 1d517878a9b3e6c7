//! Use cases, one per file: each reads facts, asks the core for a decision, writes it, and tells the fleet.
//!
//! No wire format and no database type comes in here. Decisions are written over the version that they were made on;
//! when someone was quicker, they are made again.

mod abandon;
mod artifacts;
mod assign;
mod cancel;
mod expire;
mod partials;
mod permission;
mod programs;
mod recover;
pub(crate) mod report;
mod status;
mod submit;
mod verify;

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use hierophant_core::{Change, Request, RetryPolicy, Timestamp, TransitionError};
use network_lib::{AttemptId, RequestId};
use proving::Verifier;

use self::permission::listed;
pub(crate) use self::recover::Welcome;
pub use self::{
    artifacts::CreateArtifactError,
    cancel::CancelError,
    permission::NotAllowed,
    programs::{MAX_VERIFYING_KEY_BYTES, RegisterError, Registration},
    status::{RequestStatus, StatusError},
    submit::{Submission, SubmitError},
};
use crate::{
    artifacts::{ArtifactFiles, Capabilities},
    clock::SharedClock,
    fleet::FleetHandle,
    ids::SharedIds,
    store::{SharedStore, StorageError},
};

/// What the use cases decide by.
#[derive(Debug, Clone)]
pub struct ServiceSettings {
    /// How often a request is tried.
    pub retry: RetryPolicy,
    /// Whether proofs of mock provers count.
    pub mock_mode: bool,
    /// Deadlines further ahead than this are taken back to it.
    pub max_deadline: Duration,
    /// Requests that may wait at once; more are answered with "try again later".
    pub max_queued_requests: usize,
    /// Addresses that may ask; empty: everyone who signs.
    pub allowed_requesters: Vec<hierophant_core::Requester>,
    /// Circuit versions whose proofs this coordinator can verify.
    pub circuit_versions: Vec<network_lib::CircuitVersion>,
}

/// The use cases, over what they need.
#[derive(Clone)]
pub struct Service {
    pub(crate) store: SharedStore,
    pub(crate) artifacts: Arc<dyn ArtifactFiles>,
    pub(crate) capabilities: Capabilities,
    pub(crate) verifier: Arc<dyn Verifier>,
    pub(crate) fleet: FleetHandle,
    pub(crate) clock: SharedClock,
    pub(crate) ids: SharedIds,
    pub(crate) settings: Arc<ServiceSettings>,
    /// Attempts whose proofs are being checked by this process.
    pub(crate) verifying: Arc<Mutex<HashSet<AttemptId>>>,
    /// How many verifiers of this process broke at the proof of an attempt: seldom any.
    pub(crate) broken: Arc<Mutex<HashMap<AttemptId, u32>>>,
    /// What is held against workers, and not written yet.
    pub(crate) standings: Arc<recover::Standings>,
    /// Verifications and claims that were begun are finished, whoever stops listening for them.
    pub(crate) tasks: tokio_util::task::TaskTracker,
}

/// How often a decision is made again because someone was quicker. Each round someone else made progress.
const MAX_ROUNDS: usize = 32;

/// Longest pause between two tries to write while the store is not available.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Why a request could not be changed.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// There is no such request.
    #[error("request {0} is not known here")]
    Unknown(RequestId),
    /// The change is not possible (any more).
    #[error(transparent)]
    Impossible(#[from] TransitionError),
    /// The store did not say what attempt this is.
    #[error("could not look up attempt {attempt}")]
    Attempt {
        /// The attempt.
        attempt: AttemptId,
        /// Why.
        #[source]
        source: StorageError,
    },
    /// The store did not do it.
    #[error("could not change request {id}")]
    Store {
        /// The request.
        id: RequestId,
        /// Why.
        #[source]
        source: StorageError,
    },
}

/// What the use cases work on.
pub struct Ports {
    /// Durable facts.
    pub store: SharedStore,
    /// Bytes.
    pub artifacts: Arc<dyn ArtifactFiles>,
    /// Signs addresses of artifacts.
    pub capabilities: Capabilities,
    /// Says whether proofs are good.
    pub verifier: Arc<dyn Verifier>,
    /// The live workers.
    pub fleet: FleetHandle,
    /// The time.
    pub clock: SharedClock,
    /// Names what is new.
    pub ids: SharedIds,
    /// Where tasks are tracked.
    pub tasks: tokio_util::task::TaskTracker,
}

impl Service {
    /// The use cases over these ports.
    pub fn new(ports: Ports, settings: ServiceSettings) -> Self {
        let Ports { store, artifacts, capabilities, verifier, fleet, clock, ids, tasks } = ports;
        Self {
            store,
            artifacts,
            capabilities,
            verifier,
            fleet,
            clock,
            ids,
            settings: Arc::new(settings),
            verifying: Arc::default(),
            broken: Arc::default(),
            standings: Arc::default(),
            tasks,
        }
    }

    /// What is durable, for whoever only reads.
    pub fn store(&self) -> SharedStore {
        Arc::clone(&self.store)
    }

    /// As [`Self::change`], for what nobody would report again: waits for as long as the store is not available.
    async fn change_surely(
        &self,
        id: RequestId,
        decide: impl Fn(&Request, Timestamp) -> Result<Change, TransitionError> + Send + Sync,
    ) -> Result<(Arc<Request>, Change), ChangeError> {
        let mut pause = Duration::from_millis(500);
        loop {
            match self.change(id, &decide).await {
                Err(ChangeError::Store { source: StorageError::Unavailable { problem }, .. }) => {
                    tracing::error!(request.id = %id, problem, "a change waits for the store");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
                outcome => return outcome,
            }
        }
    }

    /// Changes a request as `decide` says, deciding again when someone was quicker.
    async fn change(
        &self,
        id: RequestId,
        decide: impl Fn(&Request, Timestamp) -> Result<Change, TransitionError> + Send + Sync,
    ) -> Result<(Arc<Request>, Change), ChangeError> {
        let store_error = |source| ChangeError::Store { id, source };
        for _ in 0..MAX_ROUNDS {
            let request = self.store.request(id).await.map_err(store_error)?.ok_or(ChangeError::Unknown(id))?;
            let change = decide(&request, self.clock.now().time)?;
            match self.store.write(change.clone()).await {
                Ok(request) => return Ok((request, change)),
                Err(StorageError::Conflict(_)) => {}
                Err(source) => return Err(store_error(source)),
            }
        }
        Err(store_error(StorageError::Conflict(id)))
    }
}
