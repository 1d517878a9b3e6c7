//! Verifiers: their answers, and what becomes of them.

use std::{path::Path, time::Duration};

use network_lib::{CircuitVersion, ProofMode};
use proving::{
    KeyHashes, Verified, Verifier as _, VerifierChild, VerifierSettings, VerifyError, VerifyOrder,
    mock::{self, MockClaim},
    testing::{CIRCUIT_VERSION, key_hashes},
};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::{Test, bench::child};

pub(crate) const TESTS: &[Test] = &tests![
    a_verifier_answers_and_refuses,
    a_verifier_that_hangs_is_killed_and_replaced,
    a_verifier_that_dies_is_replaced,
    a_verifier_that_panics_rejects_a_key_and_says_nothing_about_a_proof,
    a_verifier_that_cannot_be_started_has_not_broken_at_the_question,
    a_verifier_that_takes_too_much_memory_dies_alone,
    verifiers_work_side_by_side,
];

struct VerifierBench {
    verifier: VerifierChild,
    stop: CancellationToken,
    tracker: TaskTracker,
}

impl VerifierBench {
    fn start(name: &str, settings: VerifierSettings) -> Self {
        let (stop, tracker) = (CancellationToken::new(), TaskTracker::new());
        let verifier = VerifierChild::start(child(name), settings, &tracker, stop.clone());
        Self { verifier, stop, tracker }
    }

    async fn hash(&self, key: impl Into<Vec<u8>>) -> Result<KeyHashes, VerifyError> {
        self.verifier.hash_verifying_key(key.into()).await
    }

    async fn end(self) {
        self.stop.cancel();
        self.tracker.close();
        self.tracker.wait().await;
        assert!(matches!(self.hash("key").await, Err(VerifyError::Unavailable { .. })));
    }
}

fn cause_of(error: VerifyError) -> String {
    match error {
        VerifyError::Broken { cause } => cause,
        other => panic!("it broke at the question: {other}"),
    }
}

/// A proof that is checked by a key which says what the verifier does.
fn odd_order(key: &str, proof: &Path) -> VerifyOrder {
    VerifyOrder {
        verifying_key: key.into(),
        vk_hash: [0; 32],
        proof: proof.to_owned(),
        mode: ProofMode::Core,
        circuit_version: CircuitVersion::new(CIRCUIT_VERSION),
        public_values_hash: None,
        accept_mock: true,
    }
}

async fn a_verifier_answers_and_refuses() {
    let bench = VerifierBench::start("verifier", VerifierSettings::default());
    let folder = TempDir::new().unwrap();
    let proof = folder.path().join("proof");
    let key = b"key".to_vec();
    let claim = MockClaim {
        vk_hash: key_hashes(&key).field,
        mode: ProofMode::Core,
        circuit_version: CircuitVersion::new(CIRCUIT_VERSION),
        public_values_hash: [3; 32],
    };
    std::fs::write(&proof, mock::seal(vec![], &claim)).unwrap();
    let order = VerifyOrder {
        verifying_key: key.clone(),
        vk_hash: key_hashes(&key).field,
        proof,
        mode: ProofMode::Core,
        circuit_version: CircuitVersion::new(CIRCUIT_VERSION),
        public_values_hash: None,
        accept_mock: true,
    };
    let good = bench.verifier.verify(order.clone()).await;
    assert_eq!(good, Ok(Verified { public_values_hash: [3; 32], is_mock: true }));
    let refused = bench.verifier.verify(VerifyOrder { accept_mock: false, ..order.clone() }).await;
    let reason = "the worker sent a mock proof and mock_mode is off here".to_owned();
    assert_eq!(refused, Err(VerifyError::Rejected { reason }));
    let unread = bench.verifier.verify(VerifyOrder { proof: folder.path().join("nowhere"), ..order }).await;
    assert!(matches!(unread, Err(VerifyError::Unavailable { .. })), "{unread:?}");
    assert_eq!(bench.hash(key.clone()).await, Ok(key_hashes(&key)));
    assert_eq!(bench.hash("").await, Err(VerifyError::Rejected { reason: "the verifying key is empty".to_owned() }));
    let too_long = bench.hash(vec![0; proving::frames::MAX_FRAME_BYTES]).await;
    assert!(matches!(too_long, Err(VerifyError::Rejected { .. })), "{too_long:?}");
    bench.end().await;
}

async fn a_verifier_that_hangs_is_killed_and_replaced() {
    let settings = VerifierSettings { timeout: Duration::from_millis(200), ..VerifierSettings::default() };
    let bench = VerifierBench::start("odd-verifier", settings);
    let cause = cause_of(bench.hash("hang").await.unwrap_err());
    assert_eq!(cause, "it gave no answer in 200 ms and was killed");
    // The next child may take longer to start than an answer may take.
    assert_eq!(bench.hash("key").await, Ok(key_hashes(b"key")));
    bench.end().await;
}

async fn a_verifier_that_dies_is_replaced() {
    let bench = VerifierBench::start("odd-verifier", VerifierSettings::default());
    let cause = cause_of(bench.hash("exit").await.unwrap_err());
    assert!(cause.starts_with("the verifier exited with status 7"), "{cause}");
    assert_eq!(bench.hash("key").await, Ok(key_hashes(b"key")));
    bench.end().await;
}

async fn a_verifier_that_panics_rejects_a_key_and_says_nothing_about_a_proof() {
    let bench = VerifierBench::start("odd-verifier", VerifierSettings::default());
    let reason = "the verifier panicked: odd bytes".to_owned();
    assert_eq!(bench.hash("panic").await, Err(VerifyError::Rejected { reason }));
    let cause = cause_of(bench.verifier.verify(odd_order("panic", Path::new("/nowhere"))).await.unwrap_err());
    assert!(cause.contains("exited with status 101") && cause.contains("odd bytes"), "{cause}");
    assert_eq!(bench.hash("key").await, Ok(key_hashes(b"key")));
    bench.end().await;
}

async fn a_verifier_that_cannot_be_started_has_not_broken_at_the_question() {
    let bench = VerifierBench::start("no-such-child", VerifierSettings::default());
    let error = bench.verifier.verify(odd_order("key", Path::new("/nowhere"))).await.unwrap_err();
    assert!(matches!(error, VerifyError::Unavailable { .. }), "{error:?}");
    bench.end().await;
}

async fn a_verifier_that_takes_too_much_memory_dies_alone() {
    let settings = VerifierSettings { memory_bytes: 256 << 20, ..VerifierSettings::default() };
    let bench = VerifierBench::start("odd-verifier", settings);
    let cause = cause_of(bench.hash("memory").await.unwrap_err());
    assert!(cause.contains("signal 6 (SIGABRT)") && cause.contains("memory allocation"), "{cause}");
    assert_eq!(bench.hash("key").await, Ok(key_hashes(b"key")));
    bench.end().await;
}

async fn verifiers_work_side_by_side() {
    let bench = VerifierBench::start("odd-verifier", VerifierSettings { children: 2, ..VerifierSettings::default() });
    let folder = TempDir::new().unwrap();
    let (a, b) = (folder.path().join("a"), folder.path().join("b"));
    let meet = |own: &Path, other: &Path| format!("meet {} {}", own.display(), other.display());
    // Each answers only once the other is being asked.
    let (first, second) = tokio::join!(bench.hash(meet(&a, &b)), bench.hash(meet(&b, &a)));
    assert!(first.is_ok() && second.is_ok(), "{first:?} {second:?}");
    bench.end().await;
}
