//! The prover on this machine's processor.

use std::{
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
};

use async_trait::async_trait;
use network_lib::{Backend, Fault, ProofMode, ProverProfile, Vm};
use proving::{
    Phase, Progress, ProveOrder,
    child::{Prove, Reporter},
};
use proving_sp1_engine::FullEngine;
use sp1_sdk::ProofFromNetwork;

use crate::{
    convert::{circuit_version, sdk_mode},
    decode,
    execute::{Executor, execute},
    keys::KeyRing,
    panics,
};

/// Memory for which one more shard is proved at the same time, in bytes; at most four are. Less than two of these is
/// one shard at a time, which the machine's cores share.
const MEMORY_PER_PERMIT: u64 = 24 << 30;

/// Makes real proofs, slowly. Built once, then kept: building takes minutes.
pub struct CpuProver {
    engine: FullEngine,
    keys: KeyRing,
    profile: ProverProfile,
    is_broken: AtomicBool,
}

impl CpuProver {
    /// Builds the prover. It makes `snarks` besides core and compressed proofs: whether this machine can, is for the
    /// caller to know.
    ///
    /// # Errors
    /// Why SP1 could not be set up.
    pub async fn build(snarks: &[ProofMode]) -> Result<Self, String> {
        let memory_bytes = memory_bytes();
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
        let permits = usize::try_from((memory_bytes / MEMORY_PER_PERMIT).clamp(1, 4)).unwrap_or(1);
        let engine = FullEngine::build(permits).await?;
        Ok(Self { engine, keys: KeyRing::default(), profile, is_broken: AtomicBool::new(false) })
    }

    /// The outcome of `work`, or the text of a panic on any thread meanwhile, after which this prover is broken.
    async fn heeding_panics<T>(&self, work: impl Future<Output = Result<T, String>>) -> Result<T, String> {
        let mut heard = panics::listen();
        tokio::select! {
            outcome = work => outcome,
            text = panics::next(&mut heard) => {
                self.is_broken.store(true, Ordering::Relaxed);
                Err(format!("SP1 panicked: {text}"))
            }
        }
    }

    async fn make(&self, order: &ProveOrder, reporter: &Reporter) -> Result<(), Fault> {
        check_circuit(order)?;
        reporter.progress(at(Phase::Preparing));
        let (elf, stdin) = read_inputs(order).await?;

        reporter.progress(at(Phase::Executing));
        let (_, execution) = execute(Executor::Full(&self.engine), &elf, stdin.clone(), order.cycle_limit).await?;
        reporter.executed(execution);

        reporter.progress(at(Phase::Preparing));
        let set_up = async {
            let key = self.heeding_panics(self.engine.set_up(&elf)).await;
            key.map_err(|error| Fault::worker(format!("cannot set up the program: {error}")))
        };
        self.keys.key_of(order, set_up).await?;

        reporter.progress(at(Phase::Proving));
        let proof = self.heeding_panics(self.engine.prove(&elf, stdin, sdk_mode(order.mode))).await;
        let proof = proof.map_err(|error| Fault::worker(format!("the proof could not be made: {error}")))?;

        reporter.progress(at(Phase::Finishing));
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

    fn is_broken(&self) -> bool {
        self.is_broken.load(Ordering::Relaxed)
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

/// The program and its input, decoded on a thread that may block.
pub(crate) async fn read_inputs(order: &ProveOrder) -> Result<(Vec<u8>, sp1_sdk::SP1Stdin), Fault> {
    let (program, stdin) = (order.program.clone(), order.stdin.clone());
    let read = move || Ok((decode::read_program(&program)?, decode::read_stdin(&stdin)?));
    let outcome = tokio::task::spawn_blocking(read).await;
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

pub(crate) fn at(phase: Phase) -> Progress {
    Progress { phase, done: 0, total: 0 }
}

/// Memory that this process may use: the machine's, or what its control group allows, in bytes.
pub(crate) fn memory_bytes() -> u64 {
    let total = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
        line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
    });
    let allowed = |path| std::fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
    let limits = [total, allowed("/sys/fs/cgroup/memory.max"), allowed("/sys/fs/cgroup/memory/memory.limit_in_bytes")];
    limits.into_iter().flatten().min().unwrap_or_default()
}
