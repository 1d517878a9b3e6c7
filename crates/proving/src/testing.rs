//! Provers and verifiers for tests, without a virtual machine.

use std::{path::Path, process::Command, time::Duration};

use async_trait::async_trait;
use network_lib::{Backend, CircuitVersion, Digest, Fault, ProofMode, ProverProfile, Vm};

use crate::{
    Execution, KeyHashes, Phase, Progress, ProveOrder, Verified, Verifier, VerifyError, VerifyOrder,
    child::{Prove, Reporter, Verify},
    mock::{self, MockClaim},
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
    fn verify(&self, order: &VerifyOrder) -> Result<Verified, String> {
        if !key_hashes(&order.verifying_key).contains(&order.vk_hash) {
            return Err("the verifying key has another hash".to_owned());
        }
        let claim = mock::read_claim_file(&order.proof).map_err(|error| format!("cannot read the proof: {error}"))?;
        claim.ok_or("the proof is not a mock proof, and only those are known here")?.check(order)
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
        Verify::verify(self, &order).map_err(|reason| VerifyError::Rejected { reason })
    }

    async fn hash_verifying_key(&self, verifying_key: Vec<u8>) -> Result<KeyHashes, VerifyError> {
        Verify::hash_verifying_key(self, &verifying_key).map_err(|reason| VerifyError::Rejected { reason })
    }
}

/// A prover that does what the order's input file says, one step per line:
///
/// | line | does |
/// |---|---|
/// | `progress DONE TOTAL` | reports progress in the phase *proving* |
/// | `executed CYCLES` | reports an execution |
/// | `print TEXT` | prints to standard output, as a careless library would |
/// | `say TEXT` | prints to standard error |
/// | `wait PATH` | waits until the file is there |
/// | `mark PATH` | creates the file, with this process's id in it |
/// | `offspring PATH` | starts a process that sleeps, and writes its id to the file |
/// | `guest TEXT`, `resources TEXT` | fails with that fault |
/// | `panic TEXT` | panics |
/// | `exit STATUS`, `abort` | ends the process |
/// | `hang` | never ends; stops when dropped |
/// | `spin` | never ends and blocks its thread |
/// | `prove BYTES` | writes a mock proof of that many bytes and its trailer |
///
/// A script that ends without a fault proves 100 bytes if it has not proved yet. The public values of every
/// program are empty.
#[derive(Debug, Clone, Copy, Default)]
pub struct ScriptedProver {
    /// What [`Prove::stops_when_dropped`] answers.
    pub stops_when_dropped: bool,
}

impl ScriptedProver {
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

    fn write_proof(order: &ProveOrder, size: usize) -> Result<(), Fault> {
        let claim = MockClaim {
            vk_hash: order.vk_hash,
            mode: order.mode,
            circuit_version: order.circuit_version.clone(),
            public_values_hash: Self::public_values_hash(),
        };
        let proof = mock::seal(vec![0x5a; size], &claim);
        std::fs::write(&order.output, proof).map_err(|error| Fault::worker(format!("cannot write the proof: {error}")))
    }
}

#[async_trait]
impl Prove for ScriptedProver {
    fn profile(&self) -> ProverProfile {
        Self::profile()
    }

    fn stops_when_dropped(&self) -> bool {
        self.stops_when_dropped
    }

    async fn prove(&self, order: &ProveOrder, reporter: &Reporter) -> Result<(), Fault> {
        let script = std::fs::read_to_string(&order.stdin)
            .map_err(|error| Fault::guest(format!("the input is not a script: {error}")))?;
        let mut is_proved = false;
        for line in script.lines() {
            let (step, rest) = line.split_once(' ').unwrap_or((line, ""));
            match step {
                "progress" => {
                    let (done, total) = rest.split_once(' ').unwrap_or((rest, "0"));
                    reporter.progress(Progress { phase: Phase::Proving, done: number(done), total: number(total) });
                }
                "executed" => reporter.executed(Execution {
                    cycles: number(rest),
                    gas: None,
                    public_values_hash: Self::public_values_hash(),
                }),
                #[expect(clippy::print_stdout, reason = "that this does no harm is what is tested")]
                "print" => println!("{rest}"),
                #[expect(clippy::print_stderr, reason = "that this is heard is what is tested")]
                "say" => eprintln!("{rest}"),
                "wait" => {
                    while !Path::new(rest).exists() {
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                }
                "mark" => mark(rest, std::process::id()),
                "offspring" => {
                    #[expect(clippy::zombie_processes, reason = "it is there to be killed with its group")]
                    let offspring = Command::new("sleep").arg("1000").spawn().expect("cannot start sleep");
                    mark(rest, offspring.id());
                }
                "guest" => return Err(Fault::guest(rest)),
                "resources" => return Err(Fault::resources(rest)),
                "panic" => panic!("{rest}"),
                "exit" => std::process::exit(rest.parse().unwrap_or(1)),
                "abort" => std::process::abort(),
                "hang" => std::future::pending().await,
                "spin" => loop {
                    std::thread::park();
                },
                "prove" => {
                    Self::write_proof(order, usize::try_from(number(rest)).unwrap_or_default())?;
                    is_proved = true;
                }
                "" => {}
                other => return Err(Fault::guest(format!("{other:?} is not a step"))),
            }
        }
        if is_proved { Ok(()) } else { Self::write_proof(order, 100) }
    }
}

fn number(text: &str) -> u64 {
    text.trim().parse().unwrap_or_default()
}

/// Creates a file that is either not there or whole.
fn mark(path: &str, id: u32) {
    let draft = format!("{path}.draft");
    std::fs::write(&draft, id.to_string()).expect("cannot write a mark");
    std::fs::rename(draft, path).expect("cannot write a mark");
}
