//! The mock prover: executes for real, proves nothing, and says so in each proof.
//!
//! Where a proof would be made it plays a [script](proving::script): its own, or one that the request brings along as
//! a value of its input (`stdin.write_slice(b"#!hierophant-mock\nwork 30s 10")`), which the program need not read.

use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use network_lib::{Backend, Fault, ProofMode, ProverProfile, Vm};
use proving::{
    Execution, Phase, Progress, ProveOrder,
    child::{Prove, Reporter},
    mock::MockClaim,
    script::{Host, Player, ProofForm, Script},
    still_running,
};
use proving_sp1_engine::LightEngine;
use sp1_sdk::{ProofFromNetwork, SP1_CIRCUIT_VERSION, SP1Proof, SP1ProofWithPublicValues, SP1PublicValues, SP1Stdin};
use tokio::time::timeout;

use crate::{
    convert::{circuit_version, sdk_mode},
    cpu::{check_circuit, read_inputs, write},
    execute::{execute, time_limit},
    keys::KeyRing,
    sizing::{executor_bytes, memory_bytes},
};

/// Makes mock proofs. A client decodes them like real ones; they do not verify.
pub struct MockProver {
    engine: LightEngine,
    keys: KeyRing,
    /// Played for requests that bring none along.
    script: Script,
    player: Player,
    /// Set when a program that has no end goes on executing.
    is_broken: AtomicBool,
}

impl MockProver {
    /// Builds the prover: half a second.
    pub fn build(script: Script) -> Self {
        Self {
            engine: LightEngine::build(),
            keys: KeyRing::default(),
            script,
            player: Player::default(),
            is_broken: AtomicBool::default(),
        }
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

    fn stops_when_dropped(&self) -> bool {
        self.player.hear_cancel();
        false
    }

    fn is_broken(&self) -> bool {
        self.is_broken.load(Ordering::Relaxed)
    }

    async fn prove(&self, order: &ProveOrder, reporter: &Reporter) -> Result<(), Fault> {
        check_circuit(order)?;
        reporter.progress(Progress::begun(Phase::Preparing));
        let (elf, stdin) = read_inputs(order).await?;
        let script = match Script::among(stdin.buffer.iter().map(Vec::as_slice)) {
            None => self.script.clone(),
            Some(Ok(script)) => script,
            Some(Err(error)) => {
                return Err(Fault::guest(format!("the input holds a script for the mock prover: {error}")));
            }
        };
        let mut scene = Scene { prover: self, order, reporter, elf, stdin: Some(stdin), executed: None };
        self.player.play(&script.executing_first(), reporter, &mut scene).await
    }
}

/// One order, and how far it has come.
struct Scene<'a> {
    prover: &'a MockProver,
    order: &'a ProveOrder,
    reporter: &'a Reporter,
    elf: Vec<u8>,
    /// Until the program is executed.
    stdin: Option<SP1Stdin>,
    executed: Option<(SP1PublicValues, Execution)>,
}

#[async_trait]
impl Host for Scene<'_> {
    async fn execute(&mut self, _cycles: u64) -> Result<(), Fault> {
        let Some(stdin) = self.stdin.take() else { return Ok(()) };
        self.reporter.progress(Progress::begun(Phase::Executing));
        let memory = executor_bytes(memory_bytes());
        let limit = time_limit(self.order.cycle_limit);
        let execution = timeout(limit, execute(&self.elf, stdin, self.order.cycle_limit, memory)).await;
        let (public_values, execution) = execution.unwrap_or_else(|_| {
            self.prover.is_broken.store(true, Ordering::Relaxed);
            Err(still_running(limit))
        })?;
        self.reporter.executed(execution);
        self.reporter.progress(Progress::begun(Phase::Proving));
        self.executed = Some((public_values, execution));
        Ok(())
    }

    async fn prove(&mut self, form: ProofForm) -> Result<(), Fault> {
        self.execute(0).await?;
        let Some((public_values, execution)) = self.executed.clone() else {
            return Err(Fault::worker("the program was not executed"));
        };
        let proof = self.prover.imitate(self.order, &self.elf, public_values).await?;
        self.reporter.progress(Progress::begun(Phase::Finishing));
        let claim = MockClaim {
            vk_hash: self.order.vk_hash,
            mode: self.order.mode,
            circuit_version: self.order.circuit_version.clone(),
            public_values_hash: execution.public_values_hash,
        };
        write(&self.order.output, &proof, |bytes| form.finish(bytes, claim))
    }
}
