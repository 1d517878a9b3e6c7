//! What the tasks of a proof submit, wait for and tell each other: SP1's `WorkerClient`, for one process.
//!
//! A subscriber hears of success alone: the first task that fails ends its whole proof ([`crate::drive`]), and with it
//! all who wait.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use anyhow::{anyhow, bail};
use sp1_prover::worker::{ProofData, ProofId, RawTaskRequest, SubscriberBuilder, TaskId, TaskMetadata, WorkerClient};
use sp1_prover_types::{ProofRequestStatus, TaskStatus, TaskType};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};

/// How far the guest's clock goes on with an instruction.
const CLOCK_STEP: u64 = 8;

/// A task that waits to be run.
pub struct Submitted {
    /// What it is.
    pub kind: TaskType,
    /// Its id; a task that is run again keeps it.
    pub id: TaskId,
    /// What it reads and writes.
    pub request: RawTaskRequest,
}

/// The tasks of all proofs that are open. Cheap to clone; all clones are one.
#[derive(Clone, Default)]
pub struct Tasks(Arc<Mutex<Register>>);

#[derive(Default)]
struct Register {
    last_number: u64,
    proofs: HashMap<ProofId, Proof>,
    /// All tasks of open proofs, ended or not: whoever subscribes late must still hear how a task ended.
    tasks: HashMap<TaskId, Task>,
}

struct Proof {
    /// Where what it submits goes.
    queue: UnboundedSender<Submitted>,
    /// The guest's clock at the end of the last shard that was told of.
    clock: u64,
}

struct Task {
    proof: ProofId,
    has_succeeded: bool,
    subscribers: Vec<UnboundedSender<(TaskId, TaskStatus)>>,
    /// What the task tells; there until it has ended, since who listens takes the end for its success.
    teller: Option<UnboundedSender<Vec<u8>>>,
    /// What it told, until somebody listens.
    told: Option<UnboundedReceiver<Vec<u8>>>,
}

/// A proof that is being made. Its tasks are forgotten when this is dropped.
pub struct OpenProof {
    id: ProofId,
    tasks: Tasks,
    submitted: UnboundedReceiver<Submitted>,
}

impl OpenProof {
    /// The proof's id.
    pub fn id(&self) -> &ProofId {
        &self.id
    }

    /// The tasks of this and all other proofs.
    pub fn tasks(&self) -> &Tasks {
        &self.tasks
    }

    /// How many instructions the shards cover that were cut so far: a little too many, since calls of the machine count
    /// more than once.
    pub fn instructions_cut(&self) -> u64 {
        self.tasks.lock().proofs.get(&self.id).map_or(0, |proof| proof.clock / CLOCK_STEP)
    }

    /// The next task to run, in the order of submission. Cancel-safe.
    pub async fn next(&mut self) -> Option<Submitted> {
        self.submitted.recv().await
    }
}

impl Drop for OpenProof {
    fn drop(&mut self) {
        let mut register = self.tasks.lock();
        register.proofs.remove(&self.id);
        register.tasks.retain(|_, task| task.proof != self.id);
    }
}

impl Tasks {
    /// Begins a proof.
    pub fn open(&self) -> OpenProof {
        let (sender, submitted) = channel();
        let mut register = self.lock();
        register.last_number += 1;
        let id = ProofId::new(format!("proof-{}", register.last_number));
        register.proofs.insert(id.clone(), Proof { queue: sender, clock: 0 });
        drop(register);
        OpenProof { id, tasks: self.clone(), submitted }
    }

    /// How many tasks are remembered.
    pub fn len(&self) -> usize {
        self.lock().tasks.len()
    }

    /// Whether none is remembered.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The task has succeeded: tells its subscribers, and ends what it tells. Nothing happens the second time.
    pub fn succeed(&self, id: &TaskId) {
        if let Some(task) = self.lock().tasks.get_mut(id) {
            task.has_succeeded = true;
            task.teller = None;
            for subscriber in task.subscribers.drain(..) {
                let _ = subscriber.send((id.clone(), TaskStatus::Succeeded)); // who left does not mind
            }
        }
    }

    /// Lets `subscriber` know when the task has succeeded, which may be now.
    fn subscribe(&self, id: TaskId, subscriber: &UnboundedSender<(TaskId, TaskStatus)>) {
        match self.lock().tasks.get_mut(&id) {
            Some(task) if task.has_succeeded => _ = subscriber.send((id, TaskStatus::Succeeded)),
            Some(task) => task.subscribers.push(subscriber.clone()),
            None => tracing::debug!(task.id = %id, "a subscription to a task of no open proof"),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Register> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl WorkerClient for Tasks {
    async fn submit_task(&self, kind: TaskType, request: RawTaskRequest) -> anyhow::Result<TaskId> {
        let proof = request.context.proof_id.clone();
        let (teller, told) = channel();
        let mut register = self.lock();
        register.last_number += 1;
        let id = TaskId::new(format!("{kind:?}-{}", register.last_number));
        let Some(open) = register.proofs.get(&proof) else { bail!("{proof} has ended") };
        open.queue.send(Submitted { kind, id: id.clone(), request }).map_err(|_| anyhow!("{proof} is ending"))?;
        let (teller, told) = (Some(teller), Some(told));
        register.tasks.insert(id.clone(), Task { proof, has_succeeded: false, subscribers: vec![], teller, told });
        Ok(id)
    }

    async fn complete_task(&self, _: ProofId, id: TaskId, _: TaskMetadata) -> anyhow::Result<()> {
        self.succeed(&id);
        Ok(())
    }

    async fn complete_proof(
        &self,
        _: ProofId,
        _: Option<TaskId>,
        _: ProofRequestStatus,
        _: impl Into<String> + Send,
    ) -> anyhow::Result<()> {
        Ok(()) // a proof ends with its `OpenProof`
    }

    async fn subscriber(&self, _: ProofId) -> anyhow::Result<SubscriberBuilder<Self>> {
        let (id_sender, mut ids) = channel();
        let (subscriber, statuses) = channel();
        let tasks = self.clone();
        // The stream of statuses ends when nobody can subscribe any more and each task subscribed to has ended: then
        // this clone of its sender is gone, and those that tasks hold.
        #[expect(clippy::disallowed_methods, reason = "ends with the subscriber, which ends with the proof's tasks")]
        tokio::spawn(async move {
            while let Some(id) = ids.recv().await {
                tasks.subscribe(id, &subscriber);
            }
        });
        Ok(SubscriberBuilder::new(self.clone(), id_sender, statuses))
    }

    async fn subscribe_task_messages(&self, id: &TaskId) -> anyhow::Result<UnboundedReceiver<Vec<u8>>> {
        let told = self.lock().tasks.get_mut(id).and_then(|task| task.told.take());
        told.ok_or_else(|| anyhow!("nobody can listen to {id}: its proof has ended, or somebody else does"))
    }

    async fn send_task_message(&self, id: &TaskId, message: Vec<u8>) -> anyhow::Result<()> {
        let shard = bincode::deserialize::<ProofData>(&message).ok();
        let mut register = self.lock();
        let Register { proofs, tasks, .. } = &mut *register;
        let task = tasks.get(id);
        if let Some((shard, proof)) = shard.zip(task.and_then(|task| proofs.get_mut(&task.proof))) {
            proof.clock = proof.clock.max(shard.range.timestamp_range.1);
        }
        let teller = task.and_then(|task| task.teller.as_ref());
        let is_heard = teller.is_some_and(|teller| teller.send(message).is_ok());
        if is_heard { Ok(()) } else { Err(anyhow!("{id} cannot tell any more: it has ended, or nobody listens")) }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "SP1's traits want these; what they hold is bounded by the proof's tasks"
)]
fn channel<T>() -> (UnboundedSender<T>, UnboundedReceiver<T>) {
    tokio::sync::mpsc::unbounded_channel()
}
