//! Running the tasks of a proof: each in a future of its own, the first that fails ends the proof.

use std::{any::Any, collections::HashMap, fmt, pin::Pin, sync::Arc};

use sp1_prover::worker::{RawTaskRequest, TaskError, TaskId, WorkerClient as _};
use sp1_prover_types::TaskType;
use tokio::task::{self, JoinError, JoinSet};

use crate::tasks::{OpenProof, Submitted};

/// How often a task is run again after an error that SP1 says may not come again, such as a shard proof that does not
/// verify.
const MAX_REPEATS: u32 = 2;

/// How a task ended.
pub type Outcome = Pin<Box<dyn Future<Output = Result<(), TaskError>> + Send>>;

/// Knows how each kind of task is run.
pub trait RunTask: Send + Sync {
    /// Runs a task. It stops when the future is dropped, as far as SP1 can be stopped.
    fn run(&self, kind: TaskType, id: TaskId, request: RawTaskRequest) -> Outcome;
}

/// How many tasks of a kind there are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count {
    /// So many were submitted.
    pub submitted: u64,
    /// So many of them have succeeded.
    pub done: u64,
}

/// How far a proof has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Proofs of shards, and of the proofs that the input holds.
    pub shards: Count,
    /// Whether the program has run to its end: no more shards will be submitted.
    pub has_all_shards: bool,
    /// How many instructions, about, the shards cover that were submitted.
    pub instructions: u64,
    /// Joining proofs into one.
    pub reductions: Count,
    /// Shrinking the joined proof, then turning it into a SNARK.
    pub wraps: Count,
}

impl Counts {
    fn of(&mut self, kind: TaskType) -> Option<&mut Count> {
        match kind {
            TaskType::ProveShard | TaskType::RecursionDeferred => Some(&mut self.shards),
            TaskType::RecursionReduce => Some(&mut self.reductions),
            TaskType::ShrinkWrap | TaskType::PlonkWrap | TaskType::Groth16Wrap => Some(&mut self.wraps),
            _ => None,
        }
    }

    fn submitted(&mut self, kind: TaskType) {
        if let Some(count) = self.of(kind) {
            count.submitted += 1;
        }
    }

    fn succeeded(&mut self, kind: TaskType) {
        self.has_all_shards |= kind == TaskType::CoreExecute;
        if let Some(count) = self.of(kind) {
            count.done += 1;
        }
    }
}

/// The first task of a proof that failed, and why.
#[derive(Debug)]
pub struct TaskFailure {
    /// Which kind of task.
    pub kind: TaskType,
    /// Its error, or the text of its panic.
    pub text: String,
    /// Whether the guest's executor was killed, as it is when memory runs out.
    pub is_short_of_memory: bool,
}

impl fmt::Display for TaskFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SP1's task {:?} failed: {}", self.kind, self.text)
    }
}

impl TaskFailure {
    fn new(kind: TaskType, error: &TaskError) -> Self {
        let text = match error {
            TaskError::Retryable(error) | TaskError::Fatal(error) => format!("{error:#}"),
            TaskError::Execution(error) => error.to_string(),
        };
        let is_short_of_memory = kind == TaskType::CoreExecute && matches!(error, TaskError::Retryable(_));
        Self { kind, text, is_short_of_memory }
    }

    fn panicked(kind: TaskType, error: JoinError) -> Self {
        let text = match error.try_into_panic() {
            Ok(panic) => format!("it panicked: {}", panic_text(panic.as_ref())),
            Err(error) => error.to_string(),
        };
        Self { kind, text, is_short_of_memory: false }
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message")
}

/// Runs the task of kind `first` and all that it and others submit, until it has succeeded. Tells `watch` how far it
/// has come, after each step.
///
/// When this ends or is dropped, no task is left; work that SP1 does on threads runs on for a while.
///
/// # Errors
/// [`TaskFailure`], of the first task that failed.
pub async fn drive(
    runner: Arc<dyn RunTask>,
    mut proof: OpenProof,
    (first, request): (TaskType, RawTaskRequest),
    watch: impl Fn(Counts),
) -> Result<(), TaskFailure> {
    let lost = |text: String| TaskFailure { kind: first, text, is_short_of_memory: false };
    let first_id = proof.tasks().submit_task(first, request).await.map_err(|error| lost(error.to_string()))?;
    let mut counts = Counts::default();
    let mut running = JoinSet::new();
    let mut known: HashMap<task::Id, (TaskType, TaskId)> = HashMap::new();
    loop {
        let ended = tokio::select! {
            biased; // so that what a task has submitted is counted before its end
            Some(submitted) = proof.next() => {
                counts.submitted(submitted.kind);
                // A marker is never run: the task that it stands for completes it.
                if submitted.kind != TaskType::MarkerDeferredRecord {
                    let (kind, id) = (submitted.kind, submitted.id.clone());
                    let handle = running.spawn(run(Arc::clone(&runner), submitted));
                    known.insert(handle.id(), (kind, id));
                }
                None
            }
            Some(ended) = running.join_next_with_id() => Some(ended),
            else => return Err(lost("it is gone".to_owned())),
        };
        if let Some(ended) = ended {
            let (number, outcome) = match ended {
                Ok((number, outcome)) => (number, Ok(outcome)),
                Err(error) => (error.id(), Err(error)),
            };
            let (kind, id) = known.remove(&number).unwrap_or_else(|| (first, first_id.clone()));
            match outcome {
                Ok(Ok(())) => {}
                Ok(Err(error)) => return Err(TaskFailure::new(kind, &error)),
                Err(error) => return Err(TaskFailure::panicked(kind, error)),
            }
            counts.succeeded(kind);
            proof.tasks().succeed(&id);
            if id == first_id {
                return Ok(());
            }
        }
        counts.instructions = proof.instructions_cut();
        watch(counts);
    }
}

/// Runs a task to its end, more than once if need be: its subscribers wait on.
async fn run(runner: Arc<dyn RunTask>, submitted: Submitted) -> Result<(), TaskError> {
    let Submitted { kind, id, request } = submitted;
    // What these two have submitted before they failed cannot be taken back, so they are not run again.
    let repeats = if matches!(kind, TaskType::Controller | TaskType::CoreExecute) { 0 } else { MAX_REPEATS };
    for _ in 0..repeats {
        match runner.run(kind, id.clone(), request.clone()).await {
            Err(TaskError::Retryable(error)) => tracing::warn!(task.id = %id, "running a task again: {error:#}"),
            outcome => return outcome,
        }
    }
    runner.run(kind, id, request).await
}
