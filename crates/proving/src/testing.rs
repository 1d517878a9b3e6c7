//! Provers and verifiers for tests, without a virtual machine.

use async_trait::async_trait;
use network_lib::{Backend, CircuitVersion, Digest, Fault, ProofMode, ProverProfile, Vm};

use crate::{
    Execution, KeyHashes, ProveOrder, Verified, Verifier, VerifyError, VerifyOrder,
    child::{Prove, Reporter, Verify},
    mock::{self, MockClaim},
    script::{Host, Origin, Player, ProofForm, Script},
};

/// The circuit version of the provers and proofs of this module.
pub const CIRCUIT_VERSION: &str = "sp1-v6.1.0";

/// The hashes that [`TestVerifier`] gives a key: SHA-256 as the field form, SHA-256 of that as the other.
pub fn key_hashes(verifying_key: &[u8]) -> KeyHashes {
    let field = *Digest::sha256(verifying_key).as_bytes();
    KeyHashes { bn254: *Digest::sha256(&field).as_bytes(), field }
}

/// Accepts only sealed mock proofs that claim what is asked for. In this process, or served as a child.
#[derive(Debug, Clone, Copy, Default)]
pub struct TestVerifier;

impl Verify for TestVerifier {
    fn verify(&self, order: &VerifyOrder) -> Result<Verified, VerifyError> {
        if !key_hashes(&order.verifying_key).contains(&order.vk_hash) {
            return Err("the verifying key has another hash".to_owned().into());
        }
        let claim = mock::read_claim_file(&order.proof).map_err(|error| VerifyError::unreadable(&error))?;
        let claim = claim.ok_or_else(|| "the proof is not a mock proof, and only those are known here".to_owned())?;
        Ok(claim.check(order)?)
    }

    fn hash_verifying_key(&self, verifying_key: &[u8]) -> Result<KeyHashes, String> {
        if verifying_key.is_empty() {
            Err("the verifying key is empty".to_owned())
        } else {
            Ok(key_hashes(verifying_key))
        }
    }
}

#[async_trait]
impl Verifier for TestVerifier {
    async fn verify(&self, order: VerifyOrder) -> Result<Verified, VerifyError> {
        Verify::verify(self, &order)
    }

    async fn hash_verifying_key(&self, verifying_key: Vec<u8>) -> Result<KeyHashes, VerifyError> {
        Ok(Verify::hash_verifying_key(self, &verifying_key)?)
    }
}

/// A prover that plays the [script](crate::script) that is the order's input, from its first byte on.
///
/// The public values of every program are empty, and a proof is as many bytes long as the script says, or 100, and its
/// trailer.
#[derive(Debug, Default)]
pub struct ScriptedProver {
    stops_when_dropped: bool,
    player: Player,
}

impl ScriptedProver {
    /// A prover that can drop its work, in the sense of [`Prove::stops_when_dropped`].
    pub fn droppable() -> Self {
        Self { stops_when_dropped: true, player: Player::default() }
    }

    /// What it says of itself.
    pub fn profile() -> ProverProfile {
        ProverProfile {
            vm: Vm::Sp1,
            backend: Backend::Mock,
            device: "script".to_owned(),
            circuit_version: CircuitVersion::new(CIRCUIT_VERSION),
            modes: ProofMode::ALL.to_vec(),
            memory_bytes: 1 << 20,
        }
    }

    /// The SHA-256 of no bytes: what every program's public values have here.
    pub fn public_values_hash() -> [u8; 32] {
        *Digest::sha256(&[]).as_bytes()
    }
}

/// One order and whom to tell.
struct Scene<'a> {
    order: &'a ProveOrder,
    reporter: &'a Reporter,
}

#[async_trait]
impl Host for Scene<'_> {
    async fn execute(&mut self, cycles: u64) -> Result<(), Fault> {
        let public_values_hash = ScriptedProver::public_values_hash();
        self.reporter.executed(Execution { cycles, gas: None, public_values_hash });
        Ok(())
    }

    async fn prove(&mut self, form: ProofForm) -> Result<(), Fault> {
        let order = self.order;
        let claim = MockClaim {
            vk_hash: order.vk_hash,
            mode: order.mode,
            circuit_version: order.circuit_version.clone(),
            public_values_hash: ScriptedProver::public_values_hash(),
        };
        let body = if form == ProofForm::default() { vec![0x5a; 100] } else { Vec::new() };
        let written = std::fs::write(&order.output, form.finish(body, claim));
        written.map_err(|error| Fault::worker(format!("cannot write the proof: {error}")))
    }
}

#[async_trait]
impl Prove for ScriptedProver {
    fn profile(&self) -> ProverProfile {
        Self::profile()
    }

    fn stops_when_dropped(&self) -> bool {
        self.player.hear_cancel();
        self.stops_when_dropped
    }

    async fn prove(&self, order: &ProveOrder, reporter: &Reporter) -> Result<(), Fault> {
        let bad = |error: &dyn std::fmt::Display| Fault::guest(format!("the input is not a script: {error}"));
        let text = std::fs::read(&order.stdin).map_err(|error| bad(&error))?;
        let script = Script::parse(&String::from_utf8_lossy(&text), Origin::Operator).map_err(|error| bad(&error))?;
        self.player.play(&script, reporter, &mut Scene { order, reporter }).await
    }
}
