//! What becomes of a proof whose check goes wrong, or takes long.

use std::{
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use hierophant::clock::{Clock, SystemClock};
use hierophant_core::{FleetSettings, Now, RequestState};
use network_lib::{
    ArtifactId, ArtifactKind, AttemptId, Digest, RequestId,
    protocol::{InHand, Instruction, Report, Stage},
};
use proving::{KeyHashes, Verified, Verifier, VerifyError, VerifyOrder, testing::TestVerifier};
use tokio::sync::Semaphore;

use crate::{
    coordinator::Coordinator,
    worker::{Worker, good_proof},
};

/// Has no answer until there is a permit.
struct Held(Semaphore);

#[async_trait]
impl Verifier for Held {
    async fn verify(&self, order: VerifyOrder) -> Result<Verified, VerifyError> {
        let _permit = self.0.acquire().await;
        Verifier::verify(&TestVerifier, order).await
    }

    async fn hash_verifying_key(&self, verifying_key: Vec<u8>) -> Result<KeyHashes, VerifyError> {
        Verifier::hash_verifying_key(&TestVerifier, verifying_key).await
    }
}

/// A proof that breaks [`Brittle`].
const BREAKING: &[u8] = b"a hammer";

/// Breaks at one proof, each time anew.
#[derive(Default)]
struct Brittle {
    broken: AtomicUsize,
}

#[async_trait]
impl Verifier for Brittle {
    async fn verify(&self, order: VerifyOrder) -> Result<Verified, VerifyError> {
        if fs::read(&order.proof).unwrap() == BREAKING {
            self.broken.fetch_add(1, Ordering::SeqCst);
            return Err(VerifyError::Broken { cause: "it died".to_owned() });
        }
        Verifier::verify(&TestVerifier, order).await
    }

    async fn hash_verifying_key(&self, verifying_key: Vec<u8>) -> Result<KeyHashes, VerifyError> {
        Verifier::hash_verifying_key(&TestVerifier, verifying_key).await
    }
}

/// The machine's clock, so many seconds ahead.
#[derive(Default)]
struct Ahead {
    clock: SystemClock,
    secs: AtomicU64,
}

impl Ahead {
    fn advance(&self, time: Duration) {
        self.secs.fetch_add(time.as_secs(), Ordering::SeqCst);
    }
}

impl Clock for Ahead {
    fn now(&self) -> Now {
        let Now { moment, time } = self.clock.now();
        let ahead = Duration::from_secs(self.secs.load(Ordering::SeqCst));
        Now { moment: moment.plus(ahead), time: time.plus(ahead) }
    }
}

/// A grace that passes while a test waits.
fn impatient() -> FleetSettings {
    FleetSettings { grace: Duration::from_millis(300), ..FleetSettings::default() }
}

/// A request whose proof was uploaded, and whose check a crash cut off; the attempt, and the proof.
async fn cut_off(coordinator: &mut Coordinator, worker: &mut Worker) -> (RequestId, AttemptId, Vec<u8>) {
    let id = coordinator.submit().await;
    let assignment = worker.assigned().await;
    let attempt = assignment.attempt;
    let proof = good_proof(&assignment);
    worker.say(Report::Proved { attempt, digest: Digest::of(&proof), size: proof.len() as u64 }).await;
    let Instruction::Deliver { url, .. } = worker.hear().await else { panic!("the proof is wanted") };
    worker.upload(coordinator, &url, proof.clone()).await;
    let request = coordinator.request(id).await;
    coordinator.store().write(request.deliver(attempt, request.updated_at).unwrap()).await.unwrap();
    (id, attempt, proof)
}

/// Where the coordinator keeps the proof.
fn harm(directory: &Path, attempt: AttemptId, with: impl FnOnce(&Path)) {
    let id = ArtifactId::new(ArtifactKind::Proof, *attempt.as_bytes());
    with(&directory.join("artifacts").join(id.kind().name()).join(id.to_string()));
}

#[tokio::test]
async fn a_proof_lost_or_damaged_on_the_coordinators_disk_is_asked_for_again_and_blames_nobody() {
    let harms: [fn(&Path); 2] = [
        |proof| fs::remove_file(proof).unwrap(),
        |proof| fs::write(proof, vec![0; fs::read(proof).unwrap().len()]).unwrap(),
    ];
    for with in harms {
        let directory = tempfile::tempdir().unwrap();
        let mut coordinator = Coordinator::start(directory.path()).await;
        let mut worker = Worker::join(&coordinator, 1).await;
        let (id, attempt, proof) = cut_off(&mut coordinator, &mut worker).await;
        drop(worker);
        harm(directory.path(), attempt, with);
        let coordinator = coordinator.restart(directory.path()).await;

        let proved = InHand { attempt, request: id, prover: 0, stage: Stage::Proved };
        let mut worker = Worker::join_with(&coordinator, 1, vec![proved]).await;
        worker.say(Report::Proved { attempt, digest: Digest::of(&proof), size: proof.len() as u64 }).await;
        // Asked when the loss is found, and when the proof is offered.
        let told = loop {
            match worker.hear().await {
                Instruction::Deliver { url, .. } => {
                    worker.upload(&coordinator, &url, proof.clone()).await;
                    worker.say(Report::Delivered(attempt)).await;
                }
                told => break told,
            }
        };
        assert_eq!(told, Instruction::Stored(attempt));
        let tries = coordinator.request(id).await.tries.clone();
        assert_eq!((tries.begun, tries.failed, tries.lost), (1, 0, 0));
        assert_eq!(coordinator.facts("/contemplants").await[0]["strikes"], 0);
        let url = format!("http://{}/artifacts/proof_{attempt}", coordinator.address);
        assert_eq!(reqwest::get(url).await.unwrap().bytes().await.unwrap(), proof);
    }
}

#[tokio::test]
async fn a_proof_that_is_lost_and_whose_worker_stays_away_is_made_anew() {
    let directory = tempfile::tempdir().unwrap();
    let mut coordinator = Coordinator::start_with(directory.path(), impatient(), None).await;
    let mut worker = Worker::join(&coordinator, 1).await;
    let (id, attempt, _) = cut_off(&mut coordinator, &mut worker).await;
    drop(worker);
    harm(directory.path(), attempt, |proof| fs::remove_file(proof).unwrap());
    // As the next start does.
    coordinator.service.recover().await.unwrap();
    coordinator.wait_for(id, |state| *state == RequestState::Queued).await;
    let tries = coordinator.request(id).await.tries.clone();
    assert_eq!((tries.failed, tries.lost), (0, 1));
}

#[tokio::test]
async fn a_proof_that_is_being_checked_is_not_lost_with_its_worker() {
    let directory = tempfile::tempdir().unwrap();
    let verifier = Arc::new(Held(Semaphore::new(0)));
    let clock = Arc::new(SystemClock::new());
    let mut coordinator = Coordinator::start_on(directory.path(), impatient(), None, verifier.clone(), clock).await;
    let mut first = Worker::join(&coordinator, 1).await;
    let id = coordinator.submit().await;
    let assignment = first.assigned().await;
    first.deliver(&coordinator, assignment.attempt, good_proof(&assignment)).await;
    coordinator.wait_for(id, |state| matches!(state, RequestState::Verifying { .. })).await;
    drop(first);
    // Until the grace has passed.
    while coordinator.facts("/contemplants").await[0]["current_proofs"][0].is_object() {}

    let mut second = Worker::join(&coordinator, 2).await;
    let other = coordinator.submit().await;
    assert_eq!(second.assigned().await.request, other, "nobody is given what is proved");
    verifier.0.add_permits(1);
    let state = coordinator.wait_fulfilled(id).await;
    assert!(matches!(state, RequestState::Fulfilled { attempt, .. } if attempt == assignment.attempt));
    assert_eq!(coordinator.request(id).await.tries.lost, 0);
}

#[tokio::test]
async fn a_proof_that_breaks_the_verifier_three_times_counts_against_its_worker_which_keeps_it() {
    let directory = tempfile::tempdir().unwrap();
    let verifier = Arc::new(Brittle::default());
    let (settings, clock) = (FleetSettings::default(), Arc::new(SystemClock::new()));
    let mut coordinator = Coordinator::start_on(directory.path(), settings, None, verifier.clone(), clock).await;
    let mut first = Worker::join(&coordinator, 1).await;
    let id = coordinator.submit().await;
    let attempt = first.assigned().await.attempt;
    let mut second = Worker::join(&coordinator, 2).await;
    first.deliver(&coordinator, attempt, BREAKING.to_vec()).await;

    let again = second.assigned().await;
    assert_eq!(again.request, id);
    assert_eq!(verifier.broken.load(Ordering::SeqCst), 3);
    assert_eq!(coordinator.facts("/contemplants").await[0]["strikes"], 1);
    let next = coordinator.submit().await;
    assert_eq!(first.assigned().await.request, next, "its next word: it was not told to forget the proof");
    second.deliver(&coordinator, again.attempt, good_proof(&again)).await;
    coordinator.wait_fulfilled(id).await;
}

#[tokio::test]
async fn a_request_waits_no_longer_for_a_check_that_has_no_end_and_a_good_proof_still_counts() {
    let directory = tempfile::tempdir().unwrap();
    let verifier = Arc::new(Held(Semaphore::new(0)));
    let (settings, clock) = (FleetSettings::default(), Arc::new(Ahead::default()));
    let mut coordinator =
        Coordinator::start_on(directory.path(), settings, None, verifier.clone(), clock.clone()).await;
    let mut worker = Worker::join(&coordinator, 1).await;
    let id = coordinator.submit().await;
    let assignment = worker.assigned().await;
    let attempt = assignment.attempt;
    worker.deliver(&coordinator, attempt, good_proof(&assignment)).await;
    coordinator.wait_for(id, |state| matches!(state, RequestState::Verifying { .. })).await;

    let deadline = coordinator.request(id).await.spec.deadline;
    clock.advance(deadline.since(clock.now().time));
    let passes = |state: &RequestState| {
        clock.advance(Duration::from_secs(1));
        state.is_terminal()
    };
    let state = coordinator.wait_for(id, passes).await;
    assert!(matches!(state, RequestState::Expired { .. }), "{state:?}");
    verifier.0.add_permits(1);
    coordinator.wait_fulfilled(id).await;
    loop {
        match worker.hear().await {
            Instruction::Stored(stored) if stored == attempt => break,
            // It may have been given the request again, just before that ended.
            Instruction::Assign(other) => assert_ne!(other.attempt, attempt),
            Instruction::Cancel { attempt: other, .. } => assert_ne!(other, attempt),
            told => panic!("it keeps its proof: {told:?}"),
        }
    }
}
