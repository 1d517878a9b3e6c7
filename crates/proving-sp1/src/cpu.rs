//! The prover on this machine's processor.

use std::{
    path::Path,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use async_trait::async_trait;
use network_lib::{Backend, Fault, ProofMode, ProverProfile, Vm};
use proving::{
    ChildCommand, Phase, Progress, ProveOrder,
    child::{Prove, Reporter},
    shortage,
};
use proving_sp1_engine::{FullEngine, ProveError, Wanted};
use sp1_sdk::{ProofFromNetwork, SP1Stdin};

use crate::{
    convert::{circuit_version, sdk_mode},
    decode,
    execute::{self, bound},
    keys::KeyRing,
    progress::progress,
    sizing::{self, memory_bytes},
};

/// Makes real proofs, slowly. Built once, then kept: building takes minutes.
///
/// Guests run in a child of this process, so that none can end it; it meets the program only after that child has read
/// it, and its input only after the program has come to its end.
pub struct CpuProver {
    engine: FullEngine,
    keys: KeyRing,
    executor: ChildCommand,
    profile: ProverProfile,
    /// Set while SP1 is at work on a proof, whose threads go on when nobody waits for it any more.
    is_proving: AtomicBool,
    is_broken: AtomicBool,
}

impl CpuProver {
    /// Builds the prover. `executor` starts a child that [serves](crate::run_executor_child) one execution. The prover
    /// makes `snarks` besides core and compressed proofs: whether this machine can, is for the caller to know. It aims to
    /// do with `memory_limit` bytes, or with what the machine has.
    ///
    /// # Errors
    /// Why SP1 could not be set up.
    pub async fn build(
        executor: ChildCommand,
        snarks: &[ProofMode],
        memory_limit: Option<u64>,
    ) -> Result<Self, String> {
        let memory_bytes = memory_bytes().min(memory_limit.unwrap_or(u64::MAX));
        let mut modes = vec![ProofMode::Core, ProofMode::Compressed];
        modes.extend(snarks.iter().filter(|mode| matches!(mode, ProofMode::Plonk | ProofMode::Groth16)));
        modes.sort_unstable();
        modes.dedup();
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let profile = ProverProfile {
            vm: Vm::Sp1,
            backend: Backend::Cpu,
            device: format!("cpu ({cores} cores)"),
            circuit_version: circuit_version(),
            modes,
            memory_bytes,
        };
        let sizing = sizing::for_memory(memory_bytes);
        tracing::debug!(?sizing, "building the prover");
        let engine = FullEngine::build(sizing).await?;
        Ok(Self {
            engine,
            keys: KeyRing::default(),
            executor,
            profile,
            is_proving: AtomicBool::default(),
            is_broken: AtomicBool::default(),
        })
    }

    async fn make(&self, order: &ProveOrder, reporter: &Reporter) -> Result<(), Fault> {
        check_circuit(order)?;
        reporter.progress(Progress::begun(Phase::Preparing));
        let executor = execute::start(&self.executor, order, self.profile.memory_bytes).await?;

        reporter.progress(Progress::begun(Phase::Executing));
        let execution = async {
            let execution = executor.finish().await?;
            reporter.executed(execution);
            reporter.progress(Progress::begun(Phase::Preparing));
            Ok(execution.cycles)
        };
        let preparation = async {
            let program = order.program.clone();
            let elf = blocking(move || decode::read_program(&program)).await?;
            let set_up = async {
                let key = self.engine.set_up(&elf).await;
                key.map_err(|error| Fault::worker(format!("cannot set up the program: {error}")))
            };
            let key = self.keys.key_of(order, set_up).await?;
            Ok((elf, key))
        };
        let (cycles, (elf, key)) = tokio::try_join!(execution, preparation)?;
        let stdin = order.stdin.clone();
        let stdin = blocking(move || decode::read_stdin(&stdin)).await?;

        reporter.progress(Progress::begun(Phase::Proving));
        let wanted = Wanted {
            program_id: order.program_digest.to_string(),
            elf,
            key,
            stdin,
            mode: sdk_mode(order.mode),
            cycle_limit: bound(order.cycle_limit).map(|_| order.cycle_limit),
            nonce: [0; 4], // clients of the network have no say in it
        };
        let last = Mutex::new(Progress::begun(Phase::Proving));
        let watch = |counts| {
            let now = progress(&counts, cycles, order.mode);
            let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
            if now != *last {
                *last = now;
                reporter.progress(now);
            }
        };
        self.is_proving.store(true, Ordering::SeqCst);
        let proof = self.engine.prove(wanted, watch).await.map_err(|error| {
            // Threads may still be at work on the proof, and hold its memory.
            self.is_broken.store(true, Ordering::Relaxed);
            fault_of(&error)
        })?;
        self.is_proving.store(false, Ordering::SeqCst);

        reporter.progress(Progress::begun(Phase::Finishing));
        write(&order.output, &proof, Vec::from)
    }
}

#[async_trait]
impl Prove for CpuProver {
    fn profile(&self) -> ProverProfile {
        self.profile.clone()
    }

    async fn prove(&self, order: &ProveOrder, reporter: &Reporter) -> Result<(), Fault> {
        self.make(order, reporter).await
    }

    fn stops_when_dropped(&self) -> bool {
        // An execution is in a child that ends with it, and a set-up is over in seconds; starting anew takes minutes.
        !self.is_proving.load(Ordering::SeqCst)
    }

    fn is_broken(&self) -> bool {
        self.is_broken.load(Ordering::Relaxed)
    }
}

/// Whose fault it is that there is no proof. Not the guest's: it has been executed by then.
fn fault_of(error: &ProveError) -> Fault {
    let cause = format!("the proof could not be made: {error}");
    let memory = "memory ran out: a worker with more of it may do";
    let shortage = match error {
        ProveError::Task(failure) if failure.is_short_of_memory => Some(memory),
        ProveError::Task(_) | ProveError::Other(_) => shortage(&cause),
    };
    match shortage {
        Some(shortage) => Fault::resources(format!("{cause}; most likely {shortage}")),
        None => Fault::worker(cause),
    }
}

/// Refuses an order for another circuit than the one that is linked.
pub(crate) fn check_circuit(order: &ProveOrder) -> Result<(), Fault> {
    let own = circuit_version();
    if order.circuit_version == own {
        Ok(())
    } else {
        Err(Fault::worker(format!("this prover makes proofs of circuit {own}, not {}", order.circuit_version)))
    }
}

/// The program and its input, decoded.
pub(crate) async fn read_inputs(order: &ProveOrder) -> Result<(Vec<u8>, SP1Stdin), Fault> {
    let (program, stdin) = (order.program.clone(), order.stdin.clone());
    blocking(move || Ok((decode::read_program(&program)?, decode::read_stdin(&stdin)?))).await
}

/// The outcome of `work`, which runs on a thread that may block.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Fault> + Send + 'static) -> Result<T, Fault> {
    let outcome = tokio::task::spawn_blocking(work).await;
    outcome.unwrap_or_else(|error| Err(Fault::worker(format!("cannot read the inputs: {error}"))))
}

/// Writes a proof as clients decode it, after `finish` had its way with the bytes.
pub(crate) fn write(
    path: &Path,
    proof: &ProofFromNetwork,
    finish: impl FnOnce(Vec<u8>) -> Vec<u8>,
) -> Result<(), Fault> {
    let bytes =
        bincode::serialize(proof).map_err(|error| Fault::worker(format!("cannot encode the proof: {error}")))?;
    std::fs::write(path, finish(bytes)).map_err(|error| match error.kind() {
        std::io::ErrorKind::StorageFull => Fault::resources(format!("cannot write the proof: {error}")),
        _ => Fault::worker(format!("cannot write the proof: {error}")),
    })
}
