//! Proving on this machine's processor.

use std::sync::Arc;

use sp1_hypercube::prover::ProverSemaphore;
use sp1_prover::{
    CpuSP1ProverComponents, CpuWrapProverBuilder, SP1ProverComponents,
    worker::{SP1LocalNode, SP1LocalNodeBuilder, cpu_worker_builder},
};
use sp1_prover_types::network_base_types;
use sp1_sdk::{ProofFromNetwork, RiscvAir, SP1Context, SP1ProofMode, SP1PublicValues, SP1Stdin, SP1VerifyingKey};

use crate::{
    Boxed,
    light::{ExecuteError, execute},
};
use sp1_core_executor::ExecutionReport;

/// Proves on this machine's processor.
pub struct FullEngine {
    node: SP1LocalNode,
}

impl FullEngine {
    /// Sets up the recursion circuits: 80 s on two cores, 6.4 GB that stay. At most `permits` shards are proved at
    /// the same time; each takes all cores, and some 4 GB.
    ///
    /// # Errors
    /// What SP1 says.
    pub fn build(permits: usize) -> Boxed<'static, Self> {
        type Core = <CpuSP1ProverComponents as SP1ProverComponents>::CoreProver;
        type Recursion = <CpuSP1ProverComponents as SP1ProverComponents>::RecursionProver;
        Box::pin(async move {
            let permits = ProverSemaphore::new(permits);
            let core = CpuSP1ProverComponents::core_verifier(RiscvAir::machine());
            let core = Arc::new(Core::new(core.shard_verifier().clone()));
            let compress = CpuSP1ProverComponents::compress_verifier();
            let compress = Arc::new(Recursion::new(compress.shard_verifier().clone()));
            let shrink = CpuSP1ProverComponents::shrink_verifier();
            let shrink = Arc::new(Recursion::new(shrink.shard_verifier().clone()));
            let builder = cpu_worker_builder()
                .with_core_air_prover(core, permits.clone())
                .with_compress_air_prover(compress, permits.clone())
                .with_shrink_air_prover(shrink, permits.clone())
                .with_wrap_air_prover(CpuWrapProverBuilder, permits);
            let node = SP1LocalNodeBuilder::from_worker_client_builder(builder).build().await;
            Ok(Self { node: node.map_err(|error| format!("{error:#}"))? })
        })
    }

    /// Runs a program without proving it.
    ///
    /// # Errors
    /// [`ExecuteError`]
    pub fn execute<'a>(
        &'a self,
        elf: &'a [u8],
        stdin: SP1Stdin,
        context: SP1Context<'static>,
    ) -> Boxed<'a, (SP1PublicValues, ExecutionReport), ExecuteError> {
        execute(self.node.core(), elf, stdin, context)
    }

    /// The verifying key of a program: 8 s on two cores.
    ///
    /// # Errors
    /// What SP1 says.
    pub fn set_up<'a>(&'a self, elf: &'a [u8]) -> Boxed<'a, SP1VerifyingKey> {
        Box::pin(async move { self.node.setup(elf).await.map_err(|error| format!("{error:#}")) })
    }

    /// Makes a proof. When one of SP1's stages panics this never ends.
    ///
    /// # Errors
    /// What SP1 says, most often that the proof is missing: it only logs why.
    pub fn prove<'a>(&'a self, elf: &'a [u8], stdin: SP1Stdin, mode: SP1ProofMode) -> Boxed<'a, ProofFromNetwork> {
        let mode = match mode {
            SP1ProofMode::Core => network_base_types::ProofMode::Core,
            SP1ProofMode::Compressed => network_base_types::ProofMode::Compressed,
            SP1ProofMode::Plonk => network_base_types::ProofMode::Plonk,
            SP1ProofMode::Groth16 => network_base_types::ProofMode::Groth16,
        };
        Box::pin(async move {
            let proof = self.node.prove_with_mode(elf, stdin, SP1Context::default(), mode).await;
            proof.map_err(|error| format!("{error:#}"))
        })
    }
}
