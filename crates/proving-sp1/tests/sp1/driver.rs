//! The driver of SP1's tasks, with tasks that follow a script.

use std::{
    future::pending,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
};

use anyhow::anyhow;
use proving_sp1_engine::{
    artifacts::Artifacts,
    drive::{Count, Counts, Outcome, RunTask, TaskFailure, drive},
    tasks::{OpenProof, Tasks},
};
use sp1_hypercube::air::ShardRange;
use sp1_prover::worker::{
    ProofData, ProofId, RawTaskRequest, RequesterId, TaskContext, TaskError, TaskId, TaskMetadata, WorkerClient as _,
};
use sp1_prover_types::{Artifact, ArtifactClient as _, ArtifactType, TaskStatus, TaskType};

fn request(proof: &ProofId) -> RawTaskRequest {
    let requester_id = RequesterId::new("test");
    let context = TaskContext { proof_id: proof.clone(), parent_id: None, parent_context: None, requester_id };
    RawTaskRequest { inputs: vec![], outputs: vec![], context }
}

async fn submit(proof: &OpenProof, kind: TaskType) -> TaskId {
    proof.tasks().submit_task(kind, request(proof.id())).await.unwrap()
}

// ---- what tasks submit, wait for and tell

#[tokio::test]
async fn who_subscribes_late_hears_of_the_end_at_once() {
    let proof = Tasks::default().open();
    let id = submit(&proof, TaskType::ProveShard).await;
    proof.tasks().succeed(&id);
    let subscriber = proof.tasks().subscriber(proof.id().clone()).await.unwrap().per_task();
    assert_eq!(subscriber.wait_task(id.clone()).await.unwrap(), TaskStatus::Succeeded);
    assert_eq!(subscriber.wait_task(id).await.unwrap(), TaskStatus::Succeeded, "and again");
}

#[tokio::test]
async fn a_stream_tells_of_what_was_subscribed_to_alone_and_ends_with_the_last_of_it() {
    let proof = Tasks::default().open();
    let [first, other, last] = [
        submit(&proof, TaskType::ProveShard).await,
        submit(&proof, TaskType::ProveShard).await,
        submit(&proof, TaskType::MarkerDeferredRecord).await,
    ];
    let (subscriber, mut events) = proof.tasks().subscriber(proof.id().clone()).await.unwrap().stream();
    subscriber.subscribe(first.clone()).unwrap();
    subscriber.subscribe(last.clone()).unwrap();
    drop(subscriber);
    proof.tasks().succeed(&other);
    proof.tasks().succeed(&first);
    assert_eq!(events.recv().await, Some((first, TaskStatus::Succeeded)));
    // A marker was never run. To complete it twice is as good as once.
    for _ in 0..2 {
        let metadata = TaskMetadata::default();
        proof.tasks().complete_task(proof.id().clone(), last.clone(), metadata).await.unwrap();
    }
    assert_eq!(events.recv().await, Some((last, TaskStatus::Succeeded)));
    assert_eq!(events.recv().await, None);
}

#[tokio::test]
async fn messages_wait_for_their_listener_in_order_and_end_with_their_task() {
    let proof = Tasks::default().open();
    let id = submit(&proof, TaskType::CoreExecute).await;
    let tasks = proof.tasks();
    tasks.send_task_message(&id, vec![1]).await.unwrap();
    tasks.send_task_message(&id, vec![2]).await.unwrap();
    let mut messages = tasks.subscribe_task_messages(&id).await.unwrap();
    tasks.send_task_message(&id, vec![3]).await.unwrap();
    for expected in 1..=3 {
        assert_eq!(messages.recv().await, Some(vec![expected]));
    }
    assert!(messages.try_recv().is_err_and(|error| error == tokio::sync::mpsc::error::TryRecvError::Empty), "open");
    assert!(tasks.subscribe_task_messages(&id).await.is_err(), "one listener");
    tasks.send_task_message(&id, vec![4]).await.unwrap();
    tasks.succeed(&id);
    assert!(tasks.send_task_message(&id, vec![5]).await.is_err());
    assert_eq!(messages.recv().await, Some(vec![4]));
    assert_eq!(messages.recv().await, None);
}

#[tokio::test]
async fn a_proof_that_ends_takes_its_tasks_along_and_no_others() {
    let tasks = Tasks::default();
    let (one, other) = (tasks.open(), tasks.open());
    let id = submit(&one, TaskType::ProveShard).await;
    submit(&other, TaskType::ProveShard).await;
    let (subscriber, mut events) = tasks.subscriber(one.id().clone()).await.unwrap().stream();
    subscriber.subscribe(id).unwrap();
    drop(subscriber);
    let ended = request(one.id());
    drop(one);
    assert_eq!(events.recv().await, None, "who waits is let go");
    assert_eq!(tasks.len(), 1);
    assert!(tasks.submit_task(TaskType::ProveShard, ended).await.is_err());
}

#[tokio::test]
async fn how_far_a_program_is_cut_is_read_off_what_its_executor_tells() {
    let proof = Tasks::default().open();
    let id = submit(&proof, TaskType::CoreExecute).await;
    let told = async |from, to| {
        let range = ShardRange { timestamp_range: (from, to), ..ShardRange::default() };
        let shard = ProofData { task_id: TaskId::new("shard"), range, proof: artifact("proof") };
        proof.tasks().send_task_message(&id, bincode::serialize(&shard).unwrap()).await.unwrap();
    };
    assert_eq!(proof.instructions_cut(), 0);
    told(1, 8_001).await;
    told(8_001, 24_001).await;
    told(0, 0).await; // as of a shard that is not of the program's own instructions
    proof.tasks().send_task_message(&id, vec![1, 2]).await.unwrap(); // of another kind
    assert_eq!(proof.instructions_cut(), 3_000);
}

// ---- running them

struct Script<F>(F);

impl<F, R> RunTask for Script<F>
where
    F: Fn(TaskType, TaskId) -> R + Send + Sync,
    R: Future<Output = Result<(), TaskError>> + Send + 'static,
{
    fn run(&self, kind: TaskType, id: TaskId, _: RawTaskRequest) -> Outcome {
        Box::pin((self.0)(kind, id))
    }
}

/// Drives a proof whose tasks do as `script` says, and tells what was counted last.
async fn driven<F, R>(script: impl FnOnce(Tasks, ProofId) -> F) -> (Result<(), TaskFailure>, Counts)
where
    F: Fn(TaskType, TaskId) -> R + Send + Sync + 'static,
    R: Future<Output = Result<(), TaskError>> + Send + 'static,
{
    let tasks = Tasks::default();
    let proof = tasks.open();
    let script = Script(script(tasks.clone(), proof.id().clone()));
    let first = (TaskType::Controller, request(proof.id()));
    let last = Mutex::new(Counts::default());
    let outcome = drive(Arc::new(script), proof, first, |counts| *last.lock().unwrap() = counts).await;
    assert!(tasks.is_empty(), "nothing is remembered of a proof that has ended");
    let counts = *last.lock().unwrap();
    (outcome, counts)
}

async fn submit_and_wait(tasks: &Tasks, proof: &ProofId, kind: TaskType) -> Result<TaskStatus, TaskError> {
    let id = tasks.submit_task(kind, request(proof)).await?;
    tasks.subscriber(proof.clone()).await?.per_task().wait_task(id).await
}

fn fatal(text: &str) -> TaskError {
    TaskError::Fatal(anyhow!("{text}"))
}

#[tokio::test]
async fn a_proof_ends_with_its_first_task_and_every_step_is_counted() {
    let (outcome, counts) = driven(|tasks, proof| {
        move |kind, _| {
            let (tasks, proof) = (tasks.clone(), proof.clone());
            async move {
                match kind {
                    TaskType::Controller => {
                        submit_and_wait(&tasks, &proof, TaskType::CoreExecute).await?;
                        submit_and_wait(&tasks, &proof, TaskType::RecursionReduce).await?;
                        submit_and_wait(&tasks, &proof, TaskType::ShrinkWrap).await?;
                    }
                    TaskType::CoreExecute => {
                        for _ in 0..3 {
                            tasks.submit_task(TaskType::MarkerDeferredRecord, request(&proof)).await?;
                            submit_and_wait(&tasks, &proof, TaskType::ProveShard).await?;
                        }
                        submit_and_wait(&tasks, &proof, TaskType::RecursionDeferred).await?;
                    }
                    TaskType::MarkerDeferredRecord => return Err(fatal("a marker was run")),
                    _ => {}
                }
                Ok(())
            }
        }
    })
    .await;
    outcome.unwrap();
    let once = Count { submitted: 1, done: 1 };
    let shards = Count { submitted: 4, done: 4 };
    let (instructions, has_all_shards) = (0, true);
    assert_eq!(counts, Counts { shards, has_all_shards, instructions, reductions: once, wraps: once });
}

#[tokio::test]
async fn an_error_that_may_not_come_again_is_tried_again_under_the_same_id_unheard() {
    let runs = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&runs);
    let (outcome, _) = driven(|tasks, proof| {
        move |kind, id| {
            let (tasks, proof, runs) = (tasks.clone(), proof.clone(), Arc::clone(&runs));
            async move {
                if kind == TaskType::Controller {
                    let status = submit_and_wait(&tasks, &proof, TaskType::ProveShard).await?;
                    return if status == TaskStatus::Succeeded { Ok(()) } else { Err(fatal("heard of a failure")) };
                }
                let earlier = {
                    let mut runs = runs.lock().unwrap();
                    runs.push(id);
                    runs.len()
                };
                if earlier < 3 { Err(TaskError::Retryable(anyhow!("bad luck"))) } else { Ok(()) }
            }
        }
    })
    .await;
    outcome.unwrap();
    let runs = seen.lock().unwrap();
    assert_eq!(runs.len(), 3);
    assert!(runs.iter().all(|id| *id == runs[0]), "{runs:?}");
}

#[tokio::test]
async fn luck_is_not_tried_for_ever_and_never_with_the_execution() {
    for (kind, expected) in [(TaskType::ProveShard, 3), (TaskType::CoreExecute, 1)] {
        let runs = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&runs);
        let (outcome, _) = driven(|tasks, proof| {
            move |this, _| {
                let (tasks, proof, runs) = (tasks.clone(), proof.clone(), Arc::clone(&runs));
                async move {
                    if this == TaskType::Controller {
                        return submit_and_wait(&tasks, &proof, kind).await.map(drop);
                    }
                    runs.fetch_add(1, Ordering::Relaxed);
                    Err(TaskError::Retryable(anyhow!("no luck").context("a shard")))
                }
            }
        })
        .await;
        let failure = outcome.unwrap_err();
        assert_eq!((failure.kind, counted.load(Ordering::Relaxed)), (kind, expected));
        assert_eq!(failure.to_string(), format!("SP1's task {kind:?} failed: a shard: no luck"));
        assert_eq!(failure.is_short_of_memory, kind == TaskType::CoreExecute);
    }
}

/// SP1's controller does not look at how these waits ended, and fails for want of the artifact.
#[tokio::test]
async fn the_first_failure_is_the_one_that_is_told() {
    let (outcome, _) = driven(|tasks, proof| {
        move |kind, _| {
            let (tasks, proof) = (tasks.clone(), proof.clone());
            async move {
                match kind {
                    TaskType::Controller => {
                        submit_and_wait(&tasks, &proof, TaskType::ShrinkWrap).await?;
                        Err(fatal("artifact not found"))
                    }
                    _ => Err(fatal("no docker")),
                }
            }
        }
    })
    .await;
    assert_eq!(outcome.unwrap_err().to_string(), "SP1's task ShrinkWrap failed: no docker");
}

struct Flag(Arc<AtomicU32>);

impl Drop for Flag {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[tokio::test]
async fn a_panic_is_its_proofs_error_and_stops_all_the_rest() {
    let stopped = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&stopped);
    let (outcome, _) = driven(|tasks, proof| {
        move |kind, _| {
            let (tasks, proof, stopped) = (tasks.clone(), proof.clone(), Arc::clone(&stopped));
            async move {
                let _flag = Flag(stopped);
                match kind {
                    TaskType::Controller => {
                        tasks.submit_task(TaskType::ProveShard, request(&proof)).await?;
                        pending().await
                    }
                    TaskType::ProveShard => {
                        tasks.submit_task(TaskType::RecursionReduce, request(&proof)).await?;
                        pending().await
                    }
                    _ => panic!("index {} out of bounds", 7),
                }
            }
        }
    })
    .await;
    let failure = outcome.unwrap_err();
    assert_eq!(failure.to_string(), "SP1's task RecursionReduce failed: it panicked: index 7 out of bounds");
    while count.load(Ordering::Relaxed) < 3 {
        tokio::task::yield_now().await; // aborted, which takes a moment
    }
}

// ---- what they hand on

fn artifact(name: &str) -> Artifact {
    Artifact(name.to_owned())
}

const KIND: ArtifactType = ArtifactType::UnspecifiedArtifactType;

#[tokio::test]
async fn what_is_kept_stays_until_the_proof_ends() {
    let artifacts = Artifacts::new(1);
    let (kept, other) = (artifact("program"), artifact("other"));
    artifacts.keep(&kept);
    artifacts.upload(&kept, 1_u32).await.unwrap();
    artifacts.upload(&other, 2_u32).await.unwrap();
    artifacts.delete_batch(&[kept.clone(), other.clone()], KIND).await.unwrap();
    artifacts.delete(&kept, KIND).await.unwrap();
    assert_eq!(artifacts.download::<u32>(&kept).await.unwrap(), 1);
    assert!(artifacts.download::<u32>(&other).await.unwrap_err().to_string().contains("no artifact other"));
    artifacts.clear();
    assert!(artifacts.is_empty());
}

#[tokio::test]
async fn what_several_read_goes_with_the_last_of_them() {
    let artifacts = Artifacts::new(1);
    let events = artifact("events");
    artifacts.upload(&events, 1_u32).await.unwrap();
    artifacts.add_ref(&events, "0_4").await.unwrap();
    artifacts.add_ref(&events, "4_8").await.unwrap();
    assert!(!artifacts.remove_ref(&events, KIND, "0_4").await.unwrap());
    assert!(artifacts.exists(&events, KIND).await.unwrap());
    assert!(artifacts.remove_ref(&events, KIND, "4_8").await.unwrap());
    assert!(artifacts.is_empty());
}

#[tokio::test]
async fn no_more_records_wait_than_there_is_room_for() {
    let artifacts = Artifacts::new(1);
    let room = artifacts.acquire_shard_permit(&artifact("a")).await;
    let (elsewhere, name) = (artifacts.clone(), artifact("b"));
    let mut next = std::pin::pin!(elsewhere.acquire_shard_permit(&name));
    tokio::select! {
        biased;
        _ = &mut next => panic!("there was room for two"),
        () = tokio::task::yield_now() => {}
    }
    drop(room);
    next.await;
}
