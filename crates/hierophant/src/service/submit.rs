//! A client asks for a proof.

use std::sync::Arc;

use hierophant_core::{Event, Priority, QueuedRequest, Request, RequestSpec, Requester, Timestamp, Variant};
use network_lib::{ArtifactId, ArtifactKind, CircuitVersion, Digest, ProofMode, Vm, crash_point};

use super::{NotAllowed, Service, listed};
use crate::{
    class::Class,
    store::{NewRequest, StorageError, Submitted},
};

/// What a client asks for, as far as it can be understood without looking anything up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Submission {
    /// Who asks.
    pub requester: Requester,
    /// Names the program.
    pub vk_hash: Digest,
    /// The circuit that the proof must be of.
    pub circuit_version: CircuitVersion,
    /// The form of the proof.
    pub mode: ProofMode,
    /// The input's artifact.
    pub stdin: ArtifactId,
    /// When the client gives up.
    pub deadline: Timestamp,
    /// Most instructions that the program may execute; `u64::MAX` for no limit.
    pub cycle_limit: u64,
    /// Most gas that the program may use; 0 and `u64::MAX` for no limit.
    pub gas_limit: u64,
    /// SHA-256 that the public values must have.
    pub public_values_hash: Option<Digest>,
    /// Whether only the worker that proves it may read the input.
    pub is_stdin_private: bool,
    /// The wire form that the client used.
    pub variant: Variant,
    /// The SP1 network's number of the strategy that the client named.
    pub strategy: i32,
    /// The same for every retry of one logical request, and for no other request.
    pub fingerprint: Digest,
}

/// Why a request was not accepted.
#[derive(Debug, thiserror::Error)]
pub enum SubmitError {
    /// The signer may not ask here.
    #[error(transparent)]
    NotAllowed(#[from] NotAllowed),
    /// No program is registered under this hash.
    #[error("program {0} is not registered here: call CreateProgram (the SDK's register_program) first")]
    UnknownProgram(Digest),
    /// Proofs of this circuit version cannot be verified here.
    #[error(
        "version \"{asked}\" is not supported here: proofs are made for {}; use an SDK of that circuit version",
        listed(supported)
    )]
    UnsupportedVersion {
        /// The version that was asked for.
        asked: CircuitVersion,
        /// The versions that can be had.
        supported: Vec<CircuitVersion>,
    },
    /// No deadline was given.
    #[error("deadline is 0: give the Unix time in seconds until which the proof is wanted")]
    NoDeadline,
    /// The deadline has passed.
    #[error(
        "deadline {} has passed, it is {} (Unix seconds) here: give a later one, and check this machine's clock",
        deadline.as_secs(),
        now.as_secs()
    )]
    DeadlinePassed {
        /// The deadline.
        deadline: Timestamp,
        /// The time here.
        now: Timestamp,
    },
    /// The artifact is no input.
    #[error("stdin_uri {0} names a {kind}, not an input: upload the input through CreateArtifact", kind = .0.kind())]
    NotAnInput(ArtifactId),
    /// The request calls its input private, the artifact is not.
    #[error("stdin_private is set, but stdin_uri {0} was not created as private: create it with artifact type 7")]
    InputNotPrivate(ArtifactId),
    /// The input was never uploaded, not wholly, or is gone.
    #[error("stdin_uri {0} has not been uploaded: PUT the input to the URL that CreateArtifact gave, then ask again")]
    InputMissing(ArtifactId),
    /// The input belongs to someone else.
    #[error(
        "stdin_uri {stdin} was not uploaded by {requester}, whose signature this is: upload and ask with one key, and \
         sign exactly the bytes of body"
    )]
    InputOfAnother {
        /// The artifact.
        stdin: ArtifactId,
        /// Who wanted to use it.
        requester: Requester,
    },
    /// Too many requests wait.
    #[error("{limit} requests wait already, which is as many as may: ask again later")]
    QueueFull {
        /// How many may wait.
        limit: usize,
    },
    /// The write was cut off, as when the coordinator is stopped.
    #[error("storing the request was interrupted: ask again")]
    Interrupted,
    /// The store did not take it.
    #[error("could not store the request: ask again")]
    Store(#[source] StorageError),
}

impl SubmitError {
    /// What kind of trouble this is.
    pub const fn class(&self) -> Class {
        match self {
            Self::NotAllowed(_) | Self::InputOfAnother { .. } => Class::Denied,
            Self::UnknownProgram(_) => Class::NotFound,
            Self::UnsupportedVersion { .. }
            | Self::NoDeadline
            | Self::DeadlinePassed { .. }
            | Self::NotAnInput(_)
            | Self::InputNotPrivate(_)
            | Self::InputMissing(_) => Class::Rejected,
            Self::QueueFull { .. } | Self::Interrupted => Class::Unavailable,
            Self::Store(source) => source.class(),
        }
    }
}

impl Service {
    /// Accepts a request, or finds the one that stands for it already. What is returned is durable.
    ///
    /// Once begun, the write is finished and the fleet is told, even when the caller stops waiting: a client that
    /// hangs up half-way finds the same request when it asks again.
    ///
    /// # Errors
    /// [`SubmitError`]; nothing was accepted then, except that after [`SubmitError::Store`] and
    /// [`SubmitError::Interrupted`] it may have been.
    pub async fn submit(&self, submission: Submission) -> Result<Arc<Request>, SubmitError> {
        let now = self.clock.now().time;
        let (spec, fingerprint) = self.check(submission, now).await?;
        let requester = spec.requester;
        let limit = self.settings.max_queued_requests;
        if self.fleet.queue_len() >= limit {
            // What was accepted before has its place, however many wait.
            let known = self.store.standing_for(fingerprint).await.map_err(SubmitError::Store)?;
            return known.ok_or(SubmitError::QueueFull { limit });
        }
        let stdin = spec.stdin;
        let new = NewRequest { id: self.ids.request(), fingerprint, spec, created_at: now };
        let (store, fleet) = (Arc::clone(&self.store), self.fleet.clone());
        let writing = self.tasks.spawn(async move {
            crash_point!("accept.before_tx");
            let submitted = store.submit(new).await;
            if let Ok(Submitted::Accepted(request)) = &submitted {
                fleet.send(Event::Queued(QueuedRequest::from(&**request))).await;
            }
            submitted
        });
        match writing.await.map_err(|_| SubmitError::Interrupted)?.map_err(SubmitError::Store)? {
            Submitted::Accepted(request) => {
                crash_point!("accept.after_commit_before_reply");
                tracing::info!(request.id = %request.id, %requester, mode = %request.spec.mode, "accepted a request");
                Ok(request)
            }
            Submitted::Existing(request) => {
                tracing::debug!(request.id = %request.id, %requester, "a request was asked for again");
                Ok(request)
            }
            Submitted::StdinMissing => Err(SubmitError::InputMissing(stdin)),
            Submitted::StdinOfAnother => Err(SubmitError::InputOfAnother { stdin, requester }),
        }
    }

    /// What is to be stored of a submission, if it can be accepted. Whether its input is there is left to the store,
    /// which checks it in the transaction that accepts the request.
    async fn check(&self, submission: Submission, now: Timestamp) -> Result<(RequestSpec, Digest), SubmitError> {
        let Submission { requester, vk_hash, circuit_version, stdin, deadline, .. } = submission;
        self.require_allowed(requester)?;
        if !self.settings.circuit_versions.contains(&circuit_version) {
            let supported = self.settings.circuit_versions.clone();
            return Err(SubmitError::UnsupportedVersion { asked: circuit_version, supported });
        }
        if deadline == Timestamp::default() {
            return Err(SubmitError::NoDeadline);
        }
        if deadline <= now {
            return Err(SubmitError::DeadlinePassed { deadline, now });
        }
        match stdin.kind() {
            ArtifactKind::Stdin if submission.is_stdin_private => return Err(SubmitError::InputNotPrivate(stdin)),
            ArtifactKind::Stdin | ArtifactKind::PrivateStdin => {}
            ArtifactKind::Program | ArtifactKind::Proof => return Err(SubmitError::NotAnInput(stdin)),
        }
        let program = self.store.program(vk_hash).await.map_err(SubmitError::Store)?;
        let program = program.ok_or(SubmitError::UnknownProgram(vk_hash))?.program;
        let spec = RequestSpec {
            requester,
            vm: Vm::Sp1,
            vk_hash,
            program,
            stdin,
            mode: submission.mode,
            circuit_version,
            deadline: deadline.min(now.plus(self.settings.max_deadline)),
            cycle_limit: submission.cycle_limit,
            gas_limit: submission.gas_limit,
            public_values_hash: submission.public_values_hash,
            priority: Priority::default(),
            variant: submission.variant,
            strategy: submission.strategy,
        };
        Ok((spec, submission.fingerprint))
    }
}
