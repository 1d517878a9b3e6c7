//! What a worker says.

use prost::Message as _;
use serde::{Deserialize, Serialize};

use super::{
    ProtocolError,
    wire::{self, report::Kind},
};
use crate::{AttemptId, Digest, Fault, FaultClass, ProverProfile, RequestId, WorkerProfile};

/// How far an attempt has come. For display only: no decision rests on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// What is being done, one word: `executing`, `proving`, `compressing`.
    pub phase: String,
    /// Steps of this phase that are done.
    pub done: u64,
    /// Steps of this phase in all, as far as known; 0 when unknown.
    pub total: u64,
    /// Whether the total is estimated, and may still change.
    pub is_estimate: bool,
}

/// What executing the program showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Execution {
    /// Instructions executed.
    pub cycles: u64,
    /// The network's gas, where the prover computes it.
    pub gas: Option<u64>,
    /// SHA-256 of the public values.
    pub public_values_hash: Digest,
}

/// An attempt that a worker still has after a reconnect or restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InHand {
    /// The attempt.
    pub attempt: AttemptId,
    /// The request that it is for.
    pub request: RequestId,
    /// Index of the prover that works on it.
    pub prover: usize,
    /// How far it has come.
    pub stage: Stage,
}

/// How far an attempt in hand has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// It waits for its prover, or is being proved.
    Working,
    /// Its proof lies on the worker's disk.
    Proved,
    /// It failed, and the worker does not know yet that the coordinator knows.
    Failed,
}

/// A message from a worker to its coordinator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Report {
    /// The first message of a session.
    Hello {
        /// The worker's [`CONTEMPLANT_VERSION`](crate::CONTEMPLANT_VERSION).
        version: String,
        /// What it is and can do.
        profile: WorkerProfile,
        /// What it still has.
        in_hand: Vec<InHand>,
    },
    /// A sign of life.
    Heartbeat,
    /// The attempt is in the worker's journal.
    Accepted(AttemptId),
    /// How far an attempt has come.
    Progress(AttemptId, Progress),
    /// The program was executed.
    Executed(AttemptId, Execution),
    /// The proof is on the worker's disk.
    Proved {
        /// The attempt.
        attempt: AttemptId,
        /// BLAKE3 of the proof's bytes.
        digest: Digest,
        /// Size of the proof in bytes.
        size: u64,
    },
    /// The proof was uploaded to the address that `Deliver` named.
    Delivered(AttemptId),
    /// The attempt failed. Told again in each session until the coordinator answers
    /// [`Stored`](super::Instruction::Stored).
    Failed(AttemptId, Fault),
    /// The worker gives the attempt back, for this reason. Nothing was done, and nothing is at fault. After `Accepted` it
    /// is told again in each session until the coordinator answers [`Stored`](super::Instruction::Stored).
    Declined(AttemptId, String),
    /// No more attempts, please.
    Draining,
    /// The provers that are ready now, in the order of their indices.
    ProversChanged(Vec<ProverProfile>),
}

impl Report {
    /// The bytes of this message.
    pub fn encode(self) -> Vec<u8> {
        wire::Report { kind: Some(self.into()) }.encode_to_vec()
    }

    /// Reads a message.
    ///
    /// # Errors
    /// [`ProtocolError`] naming the bad field. A `Hello` of another version is read as far as its version.
    pub fn decode(frame: &[u8]) -> Result<Self, ProtocolError> {
        let message = wire::Report::decode(frame).map_err(ProtocolError::Encoding)?;
        message.kind.ok_or(ProtocolError::UnknownKind)?.try_into()
    }
}

impl From<Report> for Kind {
    fn from(report: Report) -> Self {
        let id = |attempt: AttemptId| attempt.as_bytes().to_vec();
        match report {
            Report::Hello { version, profile, in_hand } => Self::Hello(wire::Hello {
                version,
                worker_id: profile.id.as_bytes().to_vec(),
                name: profile.name,
                provers: profile.provers.into_iter().map(Into::into).collect(),
                in_hand: in_hand.into_iter().map(Into::into).collect(),
                magister_drop_endpoint: profile.magister_drop_endpoint.unwrap_or_default(),
                instance: profile.instance,
            }),
            Report::Heartbeat => Self::Heartbeat(wire::Heartbeat {}),
            Report::Accepted(attempt) => Self::Accepted(wire::Accepted { attempt: id(attempt) }),
            Report::Progress(attempt, Progress { phase, done, total, is_estimate }) => {
                Self::Progress(wire::Progress { attempt: id(attempt), phase, done, total, is_estimate })
            }
            Report::Executed(attempt, execution) => Self::Executed(wire::Executed {
                attempt: id(attempt),
                cycles: execution.cycles,
                gas: execution.gas,
                public_values_hash: execution.public_values_hash.as_bytes().to_vec(),
            }),
            Report::Proved { attempt, digest, size } => {
                Self::Proved(wire::Proved { attempt: id(attempt), digest: digest.as_bytes().to_vec(), size })
            }
            Report::Delivered(attempt) => Self::Delivered(wire::Delivered { attempt: id(attempt) }),
            Report::Failed(attempt, fault) => Self::Failed(wire::Failed {
                attempt: id(attempt),
                fault: fault.class.name().to_owned(),
                cause: fault.cause,
            }),
            Report::Declined(attempt, cause) => Self::Declined(wire::Declined { attempt: id(attempt), cause }),
            Report::Draining => Self::Draining(wire::Draining {}),
            Report::ProversChanged(provers) => {
                Self::ProversChanged(wire::ProversChanged { provers: provers.into_iter().map(Into::into).collect() })
            }
        }
    }
}

impl TryFrom<Kind> for Report {
    type Error = ProtocolError;

    fn try_from(kind: Kind) -> Result<Self, ProtocolError> {
        let id = |attempt: &[u8]| wire::bytes::<AttemptId>("attempt", attempt);
        Ok(match kind {
            Kind::Hello(hello) => hello.try_into()?,
            Kind::Heartbeat(_) => Self::Heartbeat,
            Kind::Accepted(accepted) => Self::Accepted(id(&accepted.attempt)?),
            Kind::Progress(wire::Progress { attempt, phase, done, total, is_estimate }) => {
                if phase.len() > 40 {
                    return Err(ProtocolError::field("phase", "longer than 40 bytes"));
                }
                Self::Progress(id(&attempt)?, Progress { phase, done, total, is_estimate })
            }
            Kind::Executed(executed) => Self::Executed(
                id(&executed.attempt)?,
                Execution {
                    cycles: executed.cycles,
                    gas: executed.gas,
                    public_values_hash: wire::bytes("public_values_hash", &executed.public_values_hash)?,
                },
            ),
            Kind::Proved(proved) => Self::Proved {
                attempt: id(&proved.attempt)?,
                digest: wire::bytes("digest", &proved.digest)?,
                size: proved.size,
            },
            Kind::Delivered(delivered) => Self::Delivered(id(&delivered.attempt)?),
            Kind::Failed(failed) => {
                let class = [FaultClass::Guest, FaultClass::Resources, FaultClass::Worker]
                    .into_iter()
                    .find(|class| class.name() == failed.fault)
                    .ok_or_else(|| ProtocolError::field("fault", "expected guest, resources or worker"))?;
                Self::Failed(id(&failed.attempt)?, Fault::new(class, failed.cause))
            }
            Kind::Declined(declined) => Self::Declined(id(&declined.attempt)?, Fault::lost(declined.cause).cause),
            Kind::Draining(_) => Self::Draining,
            Kind::ProversChanged(changed) => Self::ProversChanged(provers(changed.provers)?),
        })
    }
}

/// Provers that one worker may have: a machine with more devices runs a second worker.
const MAX_PROVERS: usize = 64;

/// Longest address of a magister.
const MAX_ENDPOINT: usize = 2000;

/// Attempts that one worker may have in hand: those running, and those whose proofs wait for delivery.
const MAX_IN_HAND: usize = 1024;

fn provers(provers: Vec<wire::Prover>) -> Result<Vec<ProverProfile>, ProtocolError> {
    if provers.len() > MAX_PROVERS {
        return Err(ProtocolError::field("provers", format!("more than {MAX_PROVERS}")));
    }
    provers.into_iter().map(TryInto::try_into).collect()
}

impl TryFrom<wire::Hello> for Report {
    type Error = ProtocolError;

    fn try_from(hello: wire::Hello) -> Result<Self, ProtocolError> {
        if hello.in_hand.len() > MAX_IN_HAND {
            return Err(ProtocolError::field("in_hand", format!("more than {MAX_IN_HAND}")));
        }
        let endpoint = wire::short("magister_drop_endpoint", hello.magister_drop_endpoint, MAX_ENDPOINT)?;
        Ok(Self::Hello {
            version: wire::short("version", hello.version, wire::MAX_NAME)?,
            profile: WorkerProfile {
                id: wire::bytes("worker_id", &hello.worker_id)?,
                name: wire::short("name", hello.name, wire::MAX_NAME)?,
                provers: provers(hello.provers)?,
                magister_drop_endpoint: (!endpoint.is_empty()).then_some(endpoint),
                instance: hello.instance,
            },
            in_hand: hello.in_hand.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?,
        })
    }
}

impl From<InHand> for wire::InHand {
    fn from(in_hand: InHand) -> Self {
        Self {
            attempt: in_hand.attempt.as_bytes().to_vec(),
            request: in_hand.request.as_bytes().to_vec(),
            prover: u32::try_from(in_hand.prover).unwrap_or(u32::MAX),
            proved: in_hand.stage == Stage::Proved,
            failed: in_hand.stage == Stage::Failed,
        }
    }
}

impl TryFrom<wire::InHand> for InHand {
    type Error = ProtocolError;

    fn try_from(in_hand: wire::InHand) -> Result<Self, ProtocolError> {
        Ok(Self {
            attempt: wire::bytes("attempt", &in_hand.attempt)?,
            request: wire::bytes("request", &in_hand.request)?,
            prover: in_hand.prover as usize,
            stage: match in_hand {
                wire::InHand { proved: true, .. } => Stage::Proved,
                wire::InHand { failed: true, .. } => Stage::Failed,
                _ => Stage::Working,
            },
        })
    }
}
