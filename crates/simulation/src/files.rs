//! The bytes of artifacts, and the verifier that reads them.

use std::{
    collections::{BTreeMap, HashMap},
    ops::Range,
    path::PathBuf,
    sync::{Mutex, PoisonError, atomic::Ordering},
    time::SystemTime,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use hierophant::artifacts::{Announced, ArtifactError, ArtifactFiles, Published, Reader, Stamp, Upload};
use network_lib::{ArtifactId, ArtifactKind, AttemptId, Digest};
use proving::{KeyHashes, Verified, Verifier, VerifyError, VerifyOrder, mock::read_claim, testing::key_hashes};

use crate::{coordinator::Life, event::Event, mix::Sabotage};

/// What lies on the coordinator's disk, synced.
#[derive(Debug, Default)]
pub(crate) struct Files(Mutex<BTreeMap<ArtifactId, Bytes>>);

impl Files {
    pub(crate) fn get(&self, id: ArtifactId) -> Option<Bytes> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&id).cloned()
    }

    /// Puts bytes there, unless there are some.
    pub(crate) fn put(&self, id: ArtifactId, bytes: Bytes) -> Bytes {
        let mut files = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        files.entry(id).or_insert(bytes).clone()
    }

    /// Loses every proof.
    pub(crate) fn lose_proofs(&self) {
        let mut files = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        files.retain(|id, _| id.kind() != ArtifactKind::Proof);
    }

    /// The bytes of the proof of an attempt.
    pub(crate) fn proof(&self, attempt: AttemptId) -> Option<Vec<u8>> {
        self.get(ArtifactId::new(ArtifactKind::Proof, *attempt.as_bytes())).map(Into::into)
    }
}

/// The files as one coordinator uses them.
pub(crate) struct LiveFiles(pub(crate) Life);

fn stamp(bytes: &Bytes) -> Stamp {
    Stamp { size: bytes.len() as u64, written: None }
}

struct LiveUpload {
    life: Life,
    id: ArtifactId,
    limit: u64,
    bytes: Vec<u8>,
}

#[async_trait]
impl ArtifactFiles for LiveFiles {
    async fn begin(&self, id: ArtifactId, limit: u64) -> Result<Box<dyn Upload>, ArtifactError> {
        self.0.go_on().await;
        Ok(Box::new(LiveUpload { life: self.0.clone(), id, limit, bytes: Vec::new() }))
    }

    async fn partial(&self, _: ArtifactId) -> Result<u64, ArtifactError> {
        unreachable!("nobody asks how much is here in these runs")
    }

    /// Workers send a proof in one piece in these runs.
    async fn resume(&self, id: ArtifactId, _: u64, announced: Announced) -> Result<Box<dyn Upload>, ArtifactError> {
        self.begin(id, announced.size).await
    }

    async fn discard(&self, _: ArtifactId) -> Result<(), ArtifactError> {
        Ok(())
    }

    async fn partials(&self) -> Result<HashMap<ArtifactId, SystemTime>, ArtifactError> {
        Ok(HashMap::new())
    }

    async fn open(&self, id: ArtifactId, range: Range<u64>) -> Result<Option<Reader>, ArtifactError> {
        self.0.go_on().await;
        Ok(self.0.world().files().get(id).map(|bytes| {
            let place = |at: u64| usize::try_from(at).unwrap_or(usize::MAX).min(bytes.len());
            let part = bytes.slice(place(range.start)..place(range.end));
            Reader { size: bytes.len() as u64, chunks: stream::iter([Ok(part)]).boxed() }
        }))
    }

    async fn local_file(&self, id: ArtifactId) -> Result<Option<PathBuf>, ArtifactError> {
        self.0.go_on().await;
        Ok(self.0.world().files().get(id).map(|_| id.to_string().into()))
    }

    async fn remove(&self, _: ArtifactId) -> Result<(), ArtifactError> {
        unreachable!("nothing is removed in these runs")
    }

    async fn has_room(&self, _: ArtifactKind) -> Result<bool, ArtifactError> {
        Ok(true)
    }

    async fn stamp(&self, id: ArtifactId) -> Result<Option<Stamp>, ArtifactError> {
        self.0.go_on().await;
        Ok(self.0.world().files().get(id).map(|bytes| stamp(&bytes)))
    }

    async fn measure(&self, id: ArtifactId) -> Result<Option<(Published, Stamp)>, ArtifactError> {
        self.0.go_on().await;
        Ok(self
            .0
            .world()
            .files()
            .get(id)
            .map(|bytes| (Published { digest: Digest::of(&bytes), size: bytes.len() as u64 }, stamp(&bytes))))
    }

    async fn set_aside(&self, _: ArtifactId) -> Result<(), ArtifactError> {
        unreachable!("nothing is damaged in these runs")
    }

    async fn was_set_aside(&self, _: ArtifactId) -> Result<bool, ArtifactError> {
        Ok(false)
    }

    async fn clear_aside(&self, _: SystemTime, _: u64) -> Result<(u64, u64), ArtifactError> {
        unreachable!("nothing is tidied in these runs")
    }

    async fn list(&self) -> Result<HashMap<ArtifactId, SystemTime>, ArtifactError> {
        unreachable!("nothing is tidied in these runs")
    }
}

#[async_trait]
impl Upload for LiveUpload {
    async fn write(&mut self, chunk: Bytes) -> Result<(), ArtifactError> {
        self.bytes.extend_from_slice(&chunk);
        if self.bytes.len() as u64 > self.limit {
            return Err(ArtifactError::TooLarge { id: self.id, limit: self.limit });
        }
        Ok(())
    }

    async fn suspend(self: Box<Self>) -> Result<(), ArtifactError> {
        Ok(())
    }

    async fn publish(self: Box<Self>, expected: Option<Digest>) -> Result<Published, ArtifactError> {
        let digest = Digest::of(&self.bytes);
        if expected.is_some_and(|expected| expected != digest) {
            return Err(ArtifactError::Conflict(self.id));
        }
        self.life.wait(1, 30).await;
        let size = self.bytes.len() as u64;
        let there = self.life.world().files().put(self.id, self.bytes.into());
        if Digest::of(&there) != digest {
            return Err(ArtifactError::Conflict(self.id));
        }
        if self.id.kind() == ArtifactKind::Proof {
            let attempt = self.id.to_string().trim_start_matches("proof_").parse();
            let attempt = attempt.expect("a proof is named by its attempt");
            self.life.world().tell(Event::Published { attempt, digest });
        }
        self.life.wait(1, 30).await;
        Ok(Published { digest, size })
    }
}

/// Accepts sealed mock proofs that claim what is asked for, as `proving::testing::TestVerifier` does.
pub(crate) struct LiveVerifier(pub(crate) Life);

#[async_trait]
impl Verifier for LiveVerifier {
    async fn verify(&self, order: VerifyOrder) -> Result<Verified, VerifyError> {
        self.0.wait(20, 1500).await;
        if self.0.world().weather().verifier_is_down.load(Ordering::Relaxed) {
            return Err(VerifyError::Unavailable { cause: "the verifier was killed".to_owned() });
        }
        if self.0.world().has(Sabotage::AcceptEverything) {
            return Ok(Verified { public_values_hash: [0; 32], is_mock: true });
        }
        let rejected = |reason: &str| VerifyError::Rejected { reason: reason.to_owned() };
        if !key_hashes(&order.verifying_key).contains(&order.vk_hash) {
            return Err(rejected("the verifying key has another hash"));
        }
        let id = order.proof.to_str().and_then(|name| name.parse().ok()).expect("a path of these files");
        let bytes = self.0.world().files().get(id).ok_or_else(|| rejected("there is no proof"))?;
        let claim = read_claim(&bytes).ok_or_else(|| rejected("the proof is not a mock proof"))?;
        claim.check(&order).map_err(|reason| VerifyError::Rejected { reason })
    }

    async fn hash_verifying_key(&self, verifying_key: Vec<u8>) -> Result<KeyHashes, VerifyError> {
        self.0.wait(20, 200).await;
        Ok(key_hashes(&verifying_key))
    }
}
