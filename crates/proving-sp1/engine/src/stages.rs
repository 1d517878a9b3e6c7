//! How each kind of task is run: by which of SP1's stages.

use anyhow::anyhow;
use sp1_prover::{
    CpuSP1ProverComponents,
    worker::{CoreExecuteTaskRequest, RawTaskRequest, SP1Worker, TaskError, TaskId, TaskMetadata},
};
use sp1_prover_types::{Artifact, ArtifactClient as _, TaskType};
use sp1_sdk::SP1VerifyingKey;

use crate::{
    artifacts::Artifacts,
    chain,
    drive::{Outcome, RunTask},
    tasks::Tasks,
};

/// SP1's stages. There is one such type, since it takes minutes to compile.
pub(crate) type Worker = SP1Worker<Artifacts, Tasks, CpuSP1ProverComponents>;

/// SP1's stages, for a program whose key is known.
pub(crate) struct Stages {
    pub(crate) worker: Worker,
    pub(crate) key: SP1VerifyingKey,
}

impl RunTask for Stages {
    fn run(&self, kind: TaskType, id: TaskId, request: RawTaskRequest) -> Outcome {
        let worker = self.worker.clone();
        match kind {
            TaskType::SetupVkey => {
                let key = self.key.clone();
                Box::pin(async move {
                    let output = request.outputs.first().ok_or_else(|| TaskError::Fatal(anyhow!("no output")))?;
                    Ok(worker.artifact_client().upload(output, key).await?)
                })
            }
            _ => Box::pin(run(worker, kind, id, request)),
        }
    }
}

async fn run(worker: Worker, kind: TaskType, id: TaskId, request: RawTaskRequest) -> Result<(), TaskError> {
    let (controller, engine) = (worker.controller(), worker.prover_engine());
    // Nothing recovers what an earlier run of the same task has done: here a task runs again only after it failed,
    // and it hands on its outputs last.
    match kind {
        TaskType::Controller => controller.run(request).await.map(drop),
        TaskType::CoreExecute => controller.execute(id, CoreExecuteTaskRequest::from_raw(request)?).await.map(drop),
        TaskType::ProveShard => ended(engine.submit_prove_core_shard(request).await?.await),
        TaskType::RecursionReduce => ended(engine.submit_recursion_reduce(request).await?.await),
        TaskType::RecursionDeferred => ended(engine.submit_prove_deferred(request).await?.await),
        TaskType::ShrinkWrap => engine.run_shrink_wrap(request).await.map(drop),
        TaskType::PlonkWrap => engine.run_plonk(request).await,
        TaskType::Groth16Wrap => engine.run_groth16(request).await,
        other => Err(TaskError::Fatal(anyhow!("nothing here runs tasks of the kind {other:?}"))),
    }
}

/// The outcome of a task on one of SP1's pipelines; the outer error is most often a panic.
fn ended<E: std::error::Error>(outcome: Result<Result<TaskMetadata, TaskError>, E>) -> Result<(), TaskError> {
    outcome.map_err(|error| TaskError::Fatal(anyhow!("{}", chain(&error))))?.map(drop)
}

/// What the controller is asked for, in the order that it expects.
pub(crate) struct ControllerInputs<'a> {
    pub(crate) elf: &'a Artifact,
    pub(crate) stdin: &'a Artifact,
    pub(crate) mode: i32,
    pub(crate) cycle_limit: Option<u64>,
    pub(crate) nonce: Option<&'a Artifact>,
}

impl ControllerInputs<'_> {
    pub(crate) fn into_inputs(self) -> Vec<Artifact> {
        let text = |text: Option<String>| Artifact(text.unwrap_or_default());
        vec![
            self.elf.clone(),
            self.stdin.clone(),
            Artifact(self.mode.to_string()),
            text(self.cycle_limit.map(|limit| limit.to_string())), // what is no number is no limit
            text(self.nonce.map(|nonce| nonce.0.clone())),
            text(None), // the input is not private to SP1: nothing leaves this process
        ]
    }
}
