//! The store as one coordinator uses it: one writer, whose commits take time, over what survives every crash.
//!
//! ```text
//!  write ──► queue ──► time ──► commit of all that waits ──► time ──► answers
//!                        └ a crash: as if never written        └ a crash: written, and nobody was told
//! ```

use std::sync::{Arc, atomic::Ordering};

use async_trait::async_trait;
use hierophant::store::{
    Artifact, Artifacts, AttemptRecord, DepartedWorker, HistoryRow, NewRequest, Program, Programs, ProofRecord,
    RequestFilter, Requests, Stats, StorageError, Store, Submitted, WorkerRecord, Workers, memory::Facts,
};
use hierophant_core::{Change, Happening, Request, Standing, Timestamp};
use network_lib::{ArtifactId, AttemptId, Digest, RequestId, WorkerId};
use tokio::sync::{mpsc, oneshot};

use crate::{coordinator::Life, event::Event, mix::Sabotage, world::World};

/// Writes that wait at most.
const QUEUE_BOUND: usize = 1024;

/// Answers whoever asked for a write.
type Answer = Box<dyn FnOnce() + Send>;

/// Does a write at one instant.
type Write = Box<dyn FnOnce(&World) -> Answer + Send>;

/// The store of one coordinator.
pub(crate) struct LiveStore {
    life: Life,
    writes: mpsc::Sender<Write>,
}

/// The end of the queue that [`run_writer`] serves.
pub(crate) struct Writes(mpsc::Receiver<Write>);

impl LiveStore {
    pub(crate) fn new(life: Life) -> (Self, Writes) {
        let (sender, receiver) = mpsc::channel(QUEUE_BOUND);
        (Self { life, writes: sender }, Writes(receiver))
    }

    /// Hands a write over. Once handed over it is done, whoever waits for it.
    async fn perform<T: Send + 'static>(
        &self,
        write: impl FnOnce(&mut Facts) -> (Result<T, StorageError>, Option<Event>) + Send + 'static,
    ) -> Result<T, StorageError> {
        self.life.go_on().await;
        let (reply, answer) = oneshot::channel();
        let write: Write = Box::new(move |world| {
            let outcome = if world.weather().store_is_down.load(Ordering::Relaxed) {
                Err(StorageError::Unavailable { problem: "the disk is full".to_owned() })
            } else {
                let (outcome, event) = write(&mut world.facts());
                if let Some(event) = event {
                    world.tell(event);
                }
                outcome
            };
            Box::new(move || drop(reply.send(outcome)))
        });
        self.writes.send(write).await.map_err(|_| StorageError::Closed)?;
        match answer.await {
            Ok(outcome) => outcome,
            // The writer is gone with its coordinator, and so is whoever waits here.
            Err(_) => std::future::pending().await,
        }
    }
}

/// Accepts a request into facts that nobody keeps.
fn submit_elsewhere(facts: &Facts, new: NewRequest) -> Result<Submitted, StorageError> {
    let mut elsewhere = Facts::default();
    if let Some(stdin) = facts.artifact(new.spec.stdin) {
        elsewhere.record_artifact(&stdin)?;
    }
    elsewhere.submit(new)
}

/// Commits what is handed over, group by group.
pub(crate) async fn run_writer(life: Life, mut writes: Writes) {
    while let Some(first) = writes.0.recv().await {
        life.wait(0, 12).await;
        let mut answers = vec![first(life.world())];
        while let Ok(next) = writes.0.try_recv() {
            answers.push(next(life.world()));
        }
        life.wait(0, 4).await;
        for answer in answers {
            answer();
        }
    }
}

impl Store for LiveStore {
    fn stats(&self) -> Stats {
        self.life.world().store().stats()
    }
}

#[async_trait]
impl Requests for LiveStore {
    async fn submit(&self, new: NewRequest) -> Result<Submitted, StorageError> {
        let is_written = !self.life.world().has(Sabotage::UnwrittenRequests);
        self.perform(move |facts| {
            let outcome = if is_written { facts.submit(new) } else { submit_elsewhere(facts, new) };
            let event = match &outcome {
                Ok(Submitted::Accepted(request)) if is_written => {
                    let (after, happening) = (Arc::clone(request), Happening::Accepted);
                    Some(Event::Committed { before: None, after, happening })
                }
                _ => None,
            };
            (outcome, event)
        })
        .await
    }

    async fn standing_for(&self, fingerprint: Digest) -> Result<Option<Arc<Request>>, StorageError> {
        self.life.wait(0, 3).await;
        self.life.world().store().standing_for(fingerprint).await
    }

    async fn request(&self, id: RequestId) -> Result<Option<Arc<Request>>, StorageError> {
        self.life.go_on().await;
        self.life.world().store().request(id).await
    }

    async fn write(&self, change: Change) -> Result<Arc<Request>, StorageError> {
        self.perform(move |facts| {
            let before = facts.request(change.request.id);
            let happening = change.happening.clone();
            let outcome = facts.write(change);
            let event =
                outcome.as_ref().ok().map(|after| Event::Committed { before, after: Arc::clone(after), happening });
            (outcome, event)
        })
        .await
    }

    async fn open_requests(&self) -> Result<Vec<Arc<Request>>, StorageError> {
        self.life.wait(0, 3).await;
        self.life.world().store().open_requests().await
    }

    async fn requests(&self, filter: &RequestFilter) -> Result<Vec<Arc<Request>>, StorageError> {
        self.life.wait(0, 3).await;
        self.life.world().store().requests(filter).await
    }

    async fn history(&self, id: RequestId) -> Result<Vec<HistoryRow>, StorageError> {
        self.life.wait(0, 3).await;
        self.life.world().store().history(id).await
    }

    async fn attempt(&self, id: AttemptId) -> Result<Option<AttemptRecord>, StorageError> {
        self.life.wait(0, 3).await;
        self.life.world().store().attempt(id).await
    }

    async fn proofs(&self, limit: u32) -> Result<Vec<ProofRecord>, StorageError> {
        self.life.wait(0, 3).await;
        self.life.world().store().proofs(limit).await
    }
}

#[async_trait]
impl Programs for LiveStore {
    async fn register_program(&self, program: Program) -> Result<(), StorageError> {
        self.perform(move |facts| {
            facts.register_program(program);
            (Ok(()), None)
        })
        .await
    }

    async fn program(&self, vk_hash: Digest) -> Result<Option<Arc<Program>>, StorageError> {
        self.life.go_on().await;
        self.life.world().store().program(vk_hash).await
    }
}

#[async_trait]
impl Artifacts for LiveStore {
    async fn record_artifact(&self, artifact: Artifact) -> Result<(), StorageError> {
        self.perform(move |facts| (facts.record_artifact(&artifact), None)).await
    }

    async fn forget_artifact(&self, id: ArtifactId) -> Result<(), StorageError> {
        self.perform(move |facts| {
            facts.forget_artifact(id);
            (Ok(()), None)
        })
        .await
    }

    async fn artifact(&self, id: ArtifactId) -> Result<Option<Artifact>, StorageError> {
        self.life.wait(0, 3).await;
        self.life.world().store().artifact(id).await
    }
}

#[async_trait]
impl Workers for LiveStore {
    async fn worker_joined(&self, id: WorkerId, name: &str, address: &str, at: Timestamp) -> Result<(), StorageError> {
        let (name, address) = (name.to_owned(), address.to_owned());
        self.perform(move |facts| {
            facts.worker_joined(id, &name, &address, at);
            (Ok(()), None)
        })
        .await
    }

    async fn worker_left(&self, id: WorkerId, at: Timestamp, reason: &str) -> Result<(), StorageError> {
        let reason = reason.to_owned();
        self.perform(move |facts| {
            facts.worker_left(id, at, &reason);
            (Ok(()), None)
        })
        .await
    }

    async fn worker_standing(&self, id: WorkerId) -> Result<Standing, StorageError> {
        self.life.wait(0, 3).await;
        self.life.world().store().worker_standing(id).await
    }

    async fn note_standing(&self, id: WorkerId, standing: &Standing) -> Result<(), StorageError> {
        let standing = standing.clone();
        self.perform(move |facts| {
            facts.note_standing(id, &standing);
            (Ok(()), None)
        })
        .await
    }

    async fn worker_record(&self, id: WorkerId) -> Result<WorkerRecord, StorageError> {
        self.life.wait(0, 3).await;
        self.life.world().store().worker_record(id).await
    }

    async fn workers_since(&self, since: Timestamp) -> Result<Vec<WorkerId>, StorageError> {
        self.life.wait(0, 3).await;
        self.life.world().store().workers_since(since).await
    }

    async fn departed_workers(&self, limit: u32) -> Result<Vec<DepartedWorker>, StorageError> {
        self.life.wait(0, 3).await;
        self.life.world().store().departed_workers(limit).await
    }
}
