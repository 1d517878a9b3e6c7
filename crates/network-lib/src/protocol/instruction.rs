//! What a coordinator says.

use std::time::Duration;

use prost::Message as _;
use serde::{Deserialize, Serialize};

use super::{
    ProtocolError,
    wire::{self, instruction::Kind},
};
use crate::{AttemptId, CircuitVersion, Digest, ProofMode, RequestId};

/// What a coordinator tells a worker about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The coordinator's [`CONTEMPLANT_VERSION`](crate::CONTEMPLANT_VERSION).
    pub version: String,
    /// How often each side sends a heartbeat.
    pub heartbeat_interval: Duration,
    /// Silence after which either side takes the other for gone.
    pub silence_limit: Duration,
    /// Whether proofs of mock provers count here.
    pub mock_mode: bool,
}

/// An artifact to fetch, and how to know that it arrived whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// Relative to the coordinator's address unless absolute. Holds a capability: not for logs.
    pub url: String,
    /// BLAKE3 of the bytes.
    pub digest: Digest,
    /// Size in bytes.
    pub size: u64,
}

/// An attempt, and all that a worker needs to make it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assignment {
    /// The attempt.
    pub attempt: AttemptId,
    /// The request that it is for.
    pub request: RequestId,
    /// Index of the prover that is to work on it.
    pub prover: usize,
    /// The form of the proof.
    pub mode: ProofMode,
    /// The circuit that the proof must be of.
    pub circuit_version: CircuitVersion,
    /// The program's verifying key hash, in the form that the client registered.
    pub vk_hash: Digest,
    /// The program, as the client uploaded it.
    pub program: Source,
    /// The input, as the client uploaded it.
    pub stdin: Source,
    /// Most instructions that the program may execute.
    pub cycle_limit: u64,
    /// Most gas that the program may use.
    pub gas_limit: u64,
}

/// A message from the coordinator to a worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Instruction {
    /// The answer to `Hello`.
    Welcome(Settings),
    /// A sign of life.
    Heartbeat,
    /// Make this attempt.
    Assign(Box<Assignment>),
    /// Stop this attempt and forget it.
    Cancel {
        /// The attempt.
        attempt: AttemptId,
        /// Why, for the worker's log.
        reason: String,
    },
    /// Upload the proof of this attempt.
    Deliver {
        /// The attempt.
        attempt: AttemptId,
        /// Where to upload it, by PUT or from where it broke off. Holds a capability: not for logs.
        url: String,
    },
    /// How the attempt ended is recorded, and its proof is safe or not needed: forget the attempt.
    Stored(AttemptId),
    /// The proof did not verify: forget the attempt.
    Rejected {
        /// The attempt.
        attempt: AttemptId,
        /// Why, for the worker's log.
        reason: String,
    },
    /// The coordinator will not work with this worker, and closes the session.
    Evicted {
        /// Why, for programs. `None` from coordinators that do not say, and for codes of later versions.
        code: Option<EvictionCode>,
        /// Why, and the remedy.
        reason: String,
    },
    /// What will most likely come next to a prover that is busy. It replaces the hint before for this prover, and is no
    /// promise: the request may go to anyone, or nowhere.
    Prefetch {
        /// Index of the prover.
        prover: usize,
        /// What to have ready; `None` when nothing is expected.
        next: Option<Next>,
    },
}

/// Why a worker is not wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EvictionCode {
    /// The versions do not fit: coming back is of no use.
    Version,
    /// It does not keep to the protocol.
    Protocol,
    /// It failed too often; it may come back later.
    Faults,
}

/// What will most likely be asked for next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Next {
    /// The program.
    pub program: Source,
    /// The input, unless it is only for the worker that will prove it.
    pub stdin: Option<Source>,
}

impl Instruction {
    /// The bytes of this message.
    pub fn encode(self) -> Vec<u8> {
        wire::Instruction { kind: Some(self.into()) }.encode_to_vec()
    }

    /// Reads a message.
    ///
    /// # Errors
    /// [`ProtocolError`] naming the bad field.
    pub fn decode(frame: &[u8]) -> Result<Self, ProtocolError> {
        let message = wire::Instruction::decode(frame).map_err(ProtocolError::Encoding)?;
        message.kind.ok_or(ProtocolError::UnknownKind)?.try_into()
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl From<Instruction> for Kind {
    fn from(instruction: Instruction) -> Self {
        let id = |attempt: AttemptId| attempt.as_bytes().to_vec();
        match instruction {
            Instruction::Welcome(settings) => Self::Welcome(wire::Welcome {
                version: settings.version,
                heartbeat_interval_ms: millis(settings.heartbeat_interval),
                silence_limit_ms: millis(settings.silence_limit),
                mock_mode: settings.mock_mode,
            }),
            Instruction::Heartbeat => Self::Heartbeat(wire::Heartbeat {}),
            Instruction::Assign(assignment) => Self::Assign((*assignment).into()),
            Instruction::Cancel { attempt, reason } => Self::Cancel(wire::Cancel { attempt: id(attempt), reason }),
            Instruction::Deliver { attempt, url } => Self::Deliver(wire::Deliver { attempt: id(attempt), url }),
            Instruction::Stored(attempt) => Self::Stored(wire::Stored { attempt: id(attempt) }),
            Instruction::Rejected { attempt, reason } => {
                Self::Rejected(wire::Rejected { attempt: id(attempt), reason })
            }
            Instruction::Evicted { code, reason } => {
                Self::Evicted(wire::Evicted { reason, code: code.map_or(0, EvictionCode::number) })
            }
            Instruction::Prefetch { prover, next } => {
                let (program, stdin) = next.map_or((None, None), |next| (Some(next.program), next.stdin));
                Self::Prefetch(wire::Prefetch {
                    prover: u32::try_from(prover).unwrap_or(u32::MAX),
                    program: program.map(Into::into),
                    stdin: stdin.map(Into::into),
                })
            }
        }
    }
}

impl TryFrom<Kind> for Instruction {
    type Error = ProtocolError;

    fn try_from(kind: Kind) -> Result<Self, ProtocolError> {
        let id = |attempt: &[u8]| wire::bytes::<AttemptId>("attempt", attempt);
        Ok(match kind {
            Kind::Welcome(welcome) => Self::Welcome(Settings {
                version: welcome.version,
                heartbeat_interval: Duration::from_millis(welcome.heartbeat_interval_ms),
                silence_limit: Duration::from_millis(welcome.silence_limit_ms),
                mock_mode: welcome.mock_mode,
            }),
            Kind::Heartbeat(_) => Self::Heartbeat,
            Kind::Assign(assign) => Self::Assign(Box::new(assign.try_into()?)),
            Kind::Cancel(cancel) => Self::Cancel { attempt: id(&cancel.attempt)?, reason: cancel.reason },
            Kind::Deliver(deliver) => Self::Deliver { attempt: id(&deliver.attempt)?, url: deliver.url },
            Kind::Stored(stored) => Self::Stored(id(&stored.attempt)?),
            Kind::Rejected(rejected) => Self::Rejected { attempt: id(&rejected.attempt)?, reason: rejected.reason },
            Kind::Evicted(evicted) => {
                Self::Evicted { code: EvictionCode::from_number(evicted.code), reason: evicted.reason }
            }
            Kind::Prefetch(wire::Prefetch { prover, program, stdin }) => {
                let next = match program {
                    None => None,
                    Some(program) => {
                        Some(Next { program: program.try_into()?, stdin: stdin.map(TryInto::try_into).transpose()? })
                    }
                };
                Self::Prefetch { prover: prover as usize, next }
            }
        })
    }
}

impl EvictionCode {
    const ALL: [Self; 3] = [Self::Version, Self::Protocol, Self::Faults];

    /// The code's number in messages; 0 is for none.
    const fn number(self) -> u32 {
        match self {
            Self::Version => 1,
            Self::Protocol => 2,
            Self::Faults => 3,
        }
    }

    fn from_number(number: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|code| code.number() == number)
    }
}

impl From<Source> for wire::Source {
    fn from(source: Source) -> Self {
        Self { url: source.url, digest: source.digest.as_bytes().to_vec(), size: source.size }
    }
}

impl TryFrom<wire::Source> for Source {
    type Error = ProtocolError;

    fn try_from(source: wire::Source) -> Result<Self, ProtocolError> {
        Ok(Self { url: source.url, digest: wire::bytes("digest", &source.digest)?, size: source.size })
    }
}

impl From<Assignment> for wire::Assign {
    fn from(assignment: Assignment) -> Self {
        Self {
            attempt: assignment.attempt.as_bytes().to_vec(),
            request: assignment.request.as_bytes().to_vec(),
            prover: u32::try_from(assignment.prover).unwrap_or(u32::MAX),
            mode: assignment.mode.number(),
            circuit_version: assignment.circuit_version.to_string(),
            vk_hash: assignment.vk_hash.as_bytes().to_vec(),
            program: Some(assignment.program.into()),
            stdin: Some(assignment.stdin.into()),
            cycle_limit: assignment.cycle_limit,
            gas_limit: assignment.gas_limit,
        }
    }
}

impl TryFrom<wire::Assign> for Assignment {
    type Error = ProtocolError;

    fn try_from(assign: wire::Assign) -> Result<Self, ProtocolError> {
        let source = |field, source: Option<wire::Source>| {
            source.ok_or_else(|| ProtocolError::field(field, "missing"))?.try_into()
        };
        Ok(Self {
            attempt: wire::bytes("attempt", &assign.attempt)?,
            request: wire::bytes("request", &assign.request)?,
            prover: assign.prover as usize,
            mode: wire::mode(assign.mode)?,
            circuit_version: CircuitVersion::new(assign.circuit_version),
            vk_hash: wire::bytes("vk_hash", &assign.vk_hash)?,
            program: source("program", assign.program)?,
            stdin: source("stdin", assign.stdin)?,
            cycle_limit: assign.cycle_limit,
            gas_limit: assign.gas_limit,
        })
    }
}
