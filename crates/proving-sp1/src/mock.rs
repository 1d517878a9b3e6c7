//! The mock prover: executes for real, proves nothing, and says so in each proof.

use async_trait::async_trait;
use network_lib::{Backend, Fault, ProofMode, ProverProfile, Vm};
use proving::{
    Phase, ProveOrder,
    child::{Prove, Reporter},
    mock::{MockClaim, seal},
};
use proving_sp1_engine::LightEngine;
use sp1_sdk::{ProofFromNetwork, SP1_CIRCUIT_VERSION, SP1Proof, SP1ProofWithPublicValues, SP1PublicValues};

use crate::{
    convert::{circuit_version, sdk_mode},
    cpu::{at, blocking, check_circuit, write},
    decode,
    execute::execute,
    keys::KeyRing,
    sizing::{executor_bytes, memory_bytes},
};

/// Makes mock proofs. A client decodes them like real ones; they do not verify.
pub struct MockProver {
    engine: LightEngine,
    keys: KeyRing,
}

impl MockProver {
    /// Builds the prover: half a second.
    pub fn build() -> Self {
        Self { engine: LightEngine::build(), keys: KeyRing::default() }
    }

    async fn imitate(
        &self,
        order: &ProveOrder,
        elf: &[u8],
        public_values: SP1PublicValues,
    ) -> Result<ProofFromNetwork, Fault> {
        let (proof, public_values) = if order.mode == ProofMode::Core {
            // Needs no verifying key, and deriving one is most of the work.
            (SP1Proof::Core(vec![]), public_values)
        } else {
            let set_up = async {
                let key = self.engine.set_up(elf).await;
                key.map_err(|error| Fault::worker(format!("cannot set up the program: {error}")))
            };
            let key = self.keys.key_of(order, set_up).await?;
            let mode = sdk_mode(order.mode);
            let mock = SP1ProofWithPublicValues::create_mock_proof(&key, public_values, mode, SP1_CIRCUIT_VERSION);
            (mock.proof, mock.public_values)
        };
        Ok(ProofFromNetwork { proof, public_values, sp1_version: SP1_CIRCUIT_VERSION.to_owned() })
    }
}

#[async_trait]
impl Prove for MockProver {
    fn profile(&self) -> ProverProfile {
        ProverProfile {
            vm: Vm::Sp1,
            backend: Backend::Mock,
            device: "mock".to_owned(),
            circuit_version: circuit_version(),
            modes: ProofMode::ALL.to_vec(),
            memory_bytes: memory_bytes(),
        }
    }

    async fn prove(&self, order: &ProveOrder, reporter: &Reporter) -> Result<(), Fault> {
        check_circuit(order)?;
        reporter.progress(at(Phase::Preparing));
        let (program, stdin) = (order.program.clone(), order.stdin.clone());
        let (elf, stdin) = blocking(move || Ok((decode::read_program(&program)?, decode::read_stdin(&stdin)?))).await?;

        reporter.progress(at(Phase::Executing));
        let memory = executor_bytes(memory_bytes());
        let (public_values, execution) = execute(&elf, stdin, order.cycle_limit, memory).await?;
        reporter.executed(execution);

        reporter.progress(at(Phase::Proving));
        let proof = self.imitate(order, &elf, public_values).await?;

        reporter.progress(at(Phase::Finishing));
        let claim = MockClaim {
            vk_hash: order.vk_hash,
            mode: order.mode,
            circuit_version: order.circuit_version.clone(),
            public_values_hash: execution.public_values_hash,
        };
        write(&order.output, &proof, |bytes| seal(bytes, &claim))
    }
}
