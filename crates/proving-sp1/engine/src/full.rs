//! Proving on this machine's processor.

use std::{fmt, sync::Arc};

use sp1_core_executor::Program;
use sp1_hypercube::prover::{AirProver as _, ProverSemaphore};
use sp1_prover::{
    CpuSP1ProverComponents, CpuWrapProverBuilder, SP1ProverComponents,
    worker::{RawTaskRequest, RequesterId, SP1WorkerBuilder, SP1WorkerConfig, TaskContext},
};
use sp1_prover_types::{Artifact, ArtifactClient as _, ArtifactType, TaskType, network_base_types::ProofMode};
use sp1_sdk::{ProofFromNetwork, RiscvAir, SP1ProofMode, SP1Stdin, SP1VerifyingKey};
use tokio::task::JoinSet;

use crate::{
    Boxed,
    artifacts::Artifacts,
    drive::{Counts, TaskFailure, drive},
    stages::{ControllerInputs, Stages, Worker},
    tasks::Tasks,
};

type Core = <CpuSP1ProverComponents as SP1ProverComponents>::CoreProver;
type Recursion = <CpuSP1ProverComponents as SP1ProverComponents>::RecursionProver;

/// How much is done at the same time, which decides what memory a proof takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizing {
    /// Shards, or joined proofs, that are proved at the same time. Each takes all cores, and some gigabytes.
    pub provers: usize,
    /// How many of each other stage work at the same time: what they have ready waits in memory for a prover.
    pub stages: usize,
    /// Length of a chunk of the trace, in memory accesses of 16 bytes.
    pub chunk_accesses: u64,
    /// Chunks that the executor may be ahead.
    pub chunks: usize,
    /// Largest shard, in elements of its trace.
    pub shard_elements: u64,
    /// Shards that may wait to be proved: then execution waits, too.
    pub records: usize,
    /// Most memory of the executor of the guest, in bytes.
    pub executor_bytes: u64,
}

impl Sizing {
    fn apply(self, config: &mut SP1WorkerConfig) {
        let Self { stages, .. } = self;
        let controller = &mut config.controller_config;
        controller.num_splicing_workers = stages.min(2);
        controller.splicing_buffer_size = stages.min(2);
        controller.global_memory_buffer_size = 2 * stages.min(2);
        controller.opts.minimal_trace_chunk_threshold = self.chunk_accesses;
        controller.opts.trace_chunk_slots = self.chunks;
        controller.opts.memory_limit = self.executor_bytes;
        controller.opts.sharding_threshold.element_threshold = self.shard_elements;
        let core = &mut config.prover_config.core_prover_config;
        core.num_core_workers = stages;
        core.core_buffer_size = stages;
        core.num_setup_workers = 1;
        core.setup_buffer_size = 1;
        let recursion = &mut config.prover_config.recursion_prover_config;
        recursion.num_prepare_reduce_workers = stages;
        recursion.prepare_reduce_buffer_size = stages;
        recursion.num_recursion_executor_workers = stages;
        recursion.recursion_executor_buffer_size = stages;
        recursion.num_recursion_prover_workers = stages;
        recursion.recursion_prover_buffer_size = stages;
        let deferred = &mut config.prover_config.deferred_prover_config;
        deferred.num_deferred_workers = stages;
        deferred.deferred_buffer_size = stages;
    }
}

/// What to prove.
pub struct Wanted {
    /// Names the program: the same for the same program, and for no other.
    pub program_id: String,
    /// The program.
    pub elf: Vec<u8>,
    /// The program's key, from [`FullEngine::set_up`].
    pub key: SP1VerifyingKey,
    /// Its input.
    pub stdin: SP1Stdin,
    /// The form of the proof.
    pub mode: SP1ProofMode,
    /// Most instructions that it may execute.
    pub cycle_limit: Option<u64>,
    /// What makes the proof differ from others of the same; most often zeros.
    pub nonce: [u32; 4],
}

/// Why there is no proof.
#[derive(Debug)]
pub enum ProveError {
    /// A task failed.
    Task(TaskFailure),
    /// Something before or after the tasks failed.
    Other(String),
}

impl fmt::Display for ProveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Task(failure) => failure.fmt(f),
            Self::Other(text) => text.fmt(f),
        }
    }
}

impl From<TaskFailure> for ProveError {
    fn from(failure: TaskFailure) -> Self {
        Self::Task(failure)
    }
}

fn other(error: impl fmt::Display) -> ProveError {
    ProveError::Other(format!("{error:#}"))
}

/// Proves on this machine's processor, one proof after the other.
pub struct FullEngine {
    worker: Worker,
    core: Arc<Core>,
    permits: ProverSemaphore,
    tasks: Tasks,
    artifacts: Artifacts,
}

impl FullEngine {
    /// Sets up the recursion circuits: 80 s on two cores, 6.4 GB that stay.
    ///
    /// # Errors
    /// What SP1 says.
    pub fn build(sizing: Sizing) -> Boxed<'static, Self> {
        Box::pin(async move {
            let permits = ProverSemaphore::new(sizing.provers);
            let core = CpuSP1ProverComponents::core_verifier(RiscvAir::machine());
            let core = Arc::new(Core::new(core.shard_verifier().clone()));
            let compress = CpuSP1ProverComponents::compress_verifier();
            let compress = Arc::new(Recursion::new(compress.shard_verifier().clone()));
            let shrink = CpuSP1ProverComponents::shrink_verifier();
            let shrink = Arc::new(Recursion::new(shrink.shard_verifier().clone()));
            let (tasks, artifacts) = (Tasks::default(), Artifacts::new(sizing.records));
            let builder = SP1WorkerBuilder::<CpuSP1ProverComponents>::new()
                .with_artifact_client(artifacts.clone())
                .with_worker_client(tasks.clone())
                .with_config(|config| sizing.apply(config))
                .with_core_air_prover(Arc::clone(&core), permits.clone())
                .with_compress_air_prover(compress, permits.clone())
                .with_shrink_air_prover(shrink, permits.clone())
                .with_wrap_air_prover(CpuWrapProverBuilder, permits.clone());
            let worker = builder.build().await.map_err(|error| format!("{error:#}"))?;
            Ok(Self { worker, core, permits, tasks, artifacts })
        })
    }

    /// The verifying key of a program: 8 s on two cores.
    ///
    /// # Errors
    /// What SP1 says, or the text of its panic.
    pub fn set_up<'a>(&'a self, elf: &'a [u8]) -> Boxed<'a, SP1VerifyingKey> {
        Box::pin(async move {
            let program = Program::from(elf).map_err(|error| format!("the program cannot be read: {error}"))?;
            let (core, permits) = (Arc::clone(&self.core), self.permits.clone());
            // In a future of its own, so that a panic stays in it.
            let mut set_up = JoinSet::new();
            set_up.spawn(async move { core.setup(Arc::new(program), permits).await.1 });
            match set_up.join_next().await {
                Some(Ok(vk)) => Ok(SP1VerifyingKey { vk }),
                Some(Err(error)) => Err(error.to_string()),
                None => Err("the set-up is gone".to_owned()),
            }
        })
    }

    /// Makes a proof, and tells `watch` how far it has come. One at a time.
    ///
    /// After an error, threads may still be at work on the proof, with all its memory; after a panic, SP1's own state
    /// may be broken. So the process should end.
    ///
    /// # Errors
    /// [`ProveError`]
    pub fn prove<'a>(
        &'a self,
        wanted: Wanted,
        watch: impl Fn(Counts) + Send + 'a,
    ) -> Boxed<'a, ProofFromNetwork, ProveError> {
        let watch: Box<dyn Fn(Counts) + Send + 'a> = Box::new(watch);
        Box::pin(self.make(wanted, watch))
    }

    async fn make<'a>(
        &'a self,
        wanted: Wanted,
        watch: Box<dyn Fn(Counts) + Send + 'a>,
    ) -> Result<ProofFromNetwork, ProveError> {
        let proof = self.tasks.open();
        let _cleared = Cleared(&self.artifacts);
        let artifacts = &self.artifacts;

        // The controller remembers keys by the program's id.
        let elf = Artifact(format!("program-{}", wanted.program_id));
        let [stdin, nonce, output] = ["stdin", "nonce", "proof"].map(|name| Artifact(name.to_owned()));
        artifacts.keep(&elf);
        artifacts.keep(&stdin);
        artifacts.upload_program(&elf, wanted.elf).await.map_err(other)?;
        artifacts.upload_with_type(&stdin, ArtifactType::Stdin, wanted.stdin).await.map_err(other)?;
        let has_nonce = wanted.nonce != [0; 4];
        if has_nonce {
            artifacts.upload(&nonce, wanted.nonce).await.map_err(other)?;
        }
        let inputs = ControllerInputs {
            elf: &elf,
            stdin: &stdin,
            mode: number(wanted.mode),
            cycle_limit: wanted.cycle_limit,
            nonce: has_nonce.then_some(&nonce),
        };
        let context = TaskContext {
            proof_id: proof.id().clone(),
            parent_id: None,
            parent_context: None,
            requester_id: RequesterId::new("engine"),
        };
        let request = RawTaskRequest { inputs: inputs.into_inputs(), outputs: vec![output.clone()], context };
        let stages = Arc::new(Stages { worker: self.worker.clone(), key: wanted.key });
        drive(stages, proof, (TaskType::Controller, request), watch).await?;
        artifacts.download_with_type(&output, ArtifactType::Proof).await.map_err(other)
    }
}

/// Clears the shelf when the proof has ended, however it did.
struct Cleared<'a>(&'a Artifacts);

impl Drop for Cleared<'_> {
    fn drop(&mut self) {
        self.0.clear();
    }
}

fn number(mode: SP1ProofMode) -> i32 {
    let mode = match mode {
        SP1ProofMode::Core => ProofMode::Core,
        SP1ProofMode::Compressed => ProofMode::Compressed,
        SP1ProofMode::Plonk => ProofMode::Plonk,
        SP1ProofMode::Groth16 => ProofMode::Groth16,
    };
    mode as i32
}
