//! A client registers a program.

use std::sync::Arc;

use hierophant_core::Requester;
use network_lib::{ArtifactId, ArtifactKind, CircuitVersion, Digest, crash_point};
use proving::VerifyError;

use super::{NotAllowed, Service, StatusError, listed};
use crate::{
    class::Class,
    store::{Program, StorageError},
};

/// Longest verifying key, in bytes. SP1's take some hundred bytes, those of version 5 some thousand.
pub const MAX_VERIFYING_KEY_BYTES: usize = 1 << 20;

/// An upload smaller than this holds no ELF: its header alone is as long, and compression does not shorten that of a
/// real program below it. An empty program takes 8 bytes, or some twenty compressed.
const MIN_PROGRAM_BYTES: u64 = 52;

/// A program that is to be registered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registration {
    /// Names the program from then on.
    pub vk_hash: Digest,
    /// The verifying key, in bincode.
    pub verifying_key: Vec<u8>,
    /// The program's artifact.
    pub program: ArtifactId,
    /// Who registers it.
    pub owner: Requester,
}

/// Why a program was not registered.
#[derive(Debug, thiserror::Error)]
pub enum RegisterError {
    /// The signer may not register programs here.
    #[error(transparent)]
    NotAllowed(#[from] NotAllowed),
    /// There is no verifying key, or too much of it.
    #[error("vk must be 1 to {MAX_VERIFYING_KEY_BYTES} bytes, not {bytes}: send the bincode of the verifying key")]
    KeySize {
        /// How many bytes were sent.
        bytes: usize,
    },
    /// The artifact is no program.
    #[error("program_uri {0} names a {kind}, not a program: upload the ELF through CreateArtifact", kind = .0.kind())]
    NotAProgram(ArtifactId),
    /// The program was never uploaded, not wholly, or is gone.
    #[error("program_uri {0} has not been uploaded: PUT the ELF to the URL that CreateArtifact gave, then register it")]
    ProgramMissing(ArtifactId),
    /// The program was uploaded by someone else.
    #[error(
        "program_uri {program} was not uploaded by {owner}, whose signature this is: upload and register with one key, \
         and sign exactly the bytes of body"
    )]
    ProgramOfAnother {
        /// The artifact.
        program: ArtifactId,
        /// Who wanted to register it.
        owner: Requester,
    },
    /// What was uploaded is too small to be an ELF.
    #[error("the program is empty: program_uri {program} holds {bytes} bytes, which is no ELF")]
    ProgramEmpty {
        /// The artifact.
        program: ArtifactId,
        /// Its size.
        bytes: u64,
    },
    /// The verifying key does not decode.
    #[error("vk is not a verifying key of {}: {reason}", listed(supported))]
    NotAKey {
        /// The versions whose keys are.
        supported: Vec<CircuitVersion>,
        /// Why it is not.
        reason: String,
    },
    /// The verifying key has another hash.
    #[error(
        "vk does not hash to vk_hash {named}, but to {field} (bytes32 form {bn254}): name the program by its own key"
    )]
    KeyMismatch {
        /// The hash that was sent.
        named: Digest,
        /// The key's hash in the form of SDKs from 5.0.7 on.
        field: Digest,
        /// The key's hash in the form of earlier SDKs.
        bn254: Digest,
    },
    /// The verifier does not answer.
    #[error("vk could not be checked for the moment: register the program again")]
    Verifier(#[source] VerifyError),
    /// The write was cut off, as when the coordinator is stopped.
    #[error("storing the program was interrupted: register it again")]
    Interrupted,
    /// The store did not take it.
    #[error("could not store the program: register it again")]
    Store(#[source] StorageError),
}

impl RegisterError {
    /// What kind of trouble this is.
    pub const fn class(&self) -> Class {
        match self {
            Self::NotAllowed(_) | Self::ProgramOfAnother { .. } => Class::Denied,
            Self::KeySize { .. }
            | Self::NotAProgram(_)
            | Self::ProgramMissing(_)
            | Self::ProgramEmpty { .. }
            | Self::NotAKey { .. }
            | Self::KeyMismatch { .. } => Class::Rejected,
            Self::Verifier(_) | Self::Interrupted => Class::Unavailable,
            Self::Store(source) => source.class(),
        }
    }
}

impl Service {
    /// Registers a program. One that is registered already stays as it is: `Ok` all the same.
    ///
    /// That the ELF is the verifying key's is not checked here, since it takes a prover: the first attempt finds out.
    ///
    /// # Errors
    /// [`RegisterError`]; the program is not registered then, except that after [`RegisterError::Store`] it may be.
    pub async fn register_program(&self, registration: Registration) -> Result<(), RegisterError> {
        let Registration { vk_hash, verifying_key, program, owner } = registration;
        self.require_allowed(owner)?;
        if self.usable_program(vk_hash).await.map_err(RegisterError::Store)?.is_some() {
            tracing::debug!(program = %vk_hash, requester = %owner, "a program was registered again");
            return Ok(());
        }
        self.check_program(program, owner).await?;
        self.check_key(vk_hash, &verifying_key).await?;

        let created_at = self.clock.now().time;
        let record = Program { vk_hash, verifying_key, program, owner, created_at };
        let store = Arc::clone(&self.store);
        crash_point!("program.after_file_before_row");
        let writing = self.tasks.spawn(async move { store.register_program(record).await });
        writing.await.map_err(|_| RegisterError::Interrupted)?.map_err(RegisterError::Store)?;
        tracing::info!(program = %vk_hash, requester = %owner, artifact.id = %program, "registered a program");
        Ok(())
    }

    /// The program with this hash, if it is registered. One whose ELF was lost is not: the SDK then registers it anew.
    ///
    /// # Errors
    /// [`StatusError`]
    pub async fn program(&self, vk_hash: Digest) -> Result<Option<Arc<Program>>, StatusError> {
        Ok(self.usable_program(vk_hash).await?)
    }

    async fn usable_program(&self, vk_hash: Digest) -> Result<Option<Arc<Program>>, StorageError> {
        let Some(program) = self.store.program(vk_hash).await? else { return Ok(None) };
        let is_there = self.store.artifact(program.program).await?.is_some();
        Ok(is_there.then_some(program))
    }

    async fn check_program(&self, program: ArtifactId, owner: Requester) -> Result<(), RegisterError> {
        if program.kind() != ArtifactKind::Program {
            return Err(RegisterError::NotAProgram(program));
        }
        let artifact = self.store.artifact(program).await.map_err(RegisterError::Store)?;
        let artifact = artifact.ok_or(RegisterError::ProgramMissing(program))?;
        if artifact.owner != Some(owner) {
            return Err(RegisterError::ProgramOfAnother { program, owner });
        }
        let bytes = artifact.size;
        if bytes < MIN_PROGRAM_BYTES {
            return Err(RegisterError::ProgramEmpty { program, bytes });
        }
        Ok(())
    }

    async fn check_key(&self, vk_hash: Digest, verifying_key: &[u8]) -> Result<(), RegisterError> {
        let bytes = verifying_key.len();
        if bytes == 0 || bytes > MAX_VERIFYING_KEY_BYTES {
            return Err(RegisterError::KeySize { bytes });
        }
        let hashes = self.verifier.hash_verifying_key(verifying_key.to_vec()).await.map_err(|error| match error {
            VerifyError::Rejected { reason } => {
                RegisterError::NotAKey { supported: self.settings.circuit_versions.clone(), reason }
            }
            VerifyError::Unavailable { .. } | VerifyError::Broken { .. } => RegisterError::Verifier(error),
        })?;
        if !hashes.contains(vk_hash.as_bytes()) {
            let (field, bn254) = (Digest::new(hashes.field), Digest::new(hashes.bn254));
            return Err(RegisterError::KeyMismatch { named: vk_hash, field, bn254 });
        }
        Ok(())
    }
}
