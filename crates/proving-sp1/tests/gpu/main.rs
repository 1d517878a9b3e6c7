//! The GPU prover as it is shipped: SP1's real executor and verifier, and a server that plays SP1's.
//!
//! What a server may do wrong is tried out one layer below, in `gpu/tests`. This binary is also the prover child, its
//! executor, and that server.

#![expect(clippy::unwrap_used, reason = "a test, though without the harness that clippy knows tests by")]

use std::{future::Future, path::Path, process::ExitCode, time::Duration};

use libtest_mimic::{Arguments, Trial};
use network_lib::{AttemptId, Digest, FaultClass};
use proving::{ChildCommand, Execution, ProveOrder, ProverChild, ProverReport, ProverSettings};
use proving_sp1::GpuOptions;
use sp1_sdk::SP1VerifyingKey;
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

#[path = "../sp1/common.rs"]
#[expect(dead_code, reason = "the other tests need more of it")]
mod common;
#[path = "../../gpu/tests/gpu/fake.rs"]
mod fake;

use common::{KEY, PROOF, fibonacci, hash_of_20, prove_order};

/// How this binary is called as a prover child and as an executor.
const PROVER: &str = "prover-child";
const EXECUTOR: &str = "executor-child";

/// Far longer than anything here takes.
const LIMIT: Duration = Duration::from_mins(5);

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.as_slice() {
        [command, folder, rest @ ..] if command == fake::COMMAND => fake::run(Path::new(folder), rest),
        [command, server, device] if command == PROVER => {
            let executor = this(&[EXECUTOR]);
            let options = GpuOptions {
                device: device.parse().unwrap(),
                server: Some(server.into()),
                head_start: LIMIT, // whatever else this machine is at
                ..GpuOptions::default()
            };
            ended(proving_sp1::run_gpu_prover_child(executor, options))
        }
        [command] if command == EXECUTOR => ended(proving_sp1::run_executor_child()),
        _ => {
            let tests = vec![
                test("a_real_proof_of_what_was_executed_is_delivered", a_real_proof_of_what_was_executed_is_delivered),
                test("a_guests_panic_is_told_in_its_words_and_costs_no_gpu", a_guests_panic_costs_no_gpu),
                test("a_proof_of_another_input_is_not_delivered", a_proof_of_another_input_is_not_delivered),
            ];
            libtest_mimic::run(&Arguments::from_args(), tests).exit_code()
        }
    }
}

fn ended(outcome: Result<(), proving_sp1::ChildError>) -> ExitCode {
    outcome.map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS)
}

fn test<F: Future<Output = ()> + 'static>(name: &str, body: fn() -> F) -> Trial {
    Trial::test(name, move || {
        let runtime = tokio::runtime::Runtime::new()?;
        Ok(runtime.block_on(async { tokio::time::timeout(LIMIT, body()).await })?)
    })
}

/// This binary, called so.
fn this(args: &[&str]) -> ChildCommand {
    let args = args.iter().map(Into::into).collect();
    ChildCommand { program: std::env::current_exe().unwrap(), args, env: Vec::new() }
}

/// A supervised prover that is ready.
struct Bench {
    folder: TempDir,
    prover: ProverChild,
    reports: mpsc::Receiver<ProverReport>,
    stop: CancellationToken,
    tracker: TaskTracker,
}

impl Bench {
    /// With the device of this number, which is none of this machine: it names a socket.
    async fn ready(number: u32) -> Self {
        let folder = TempDir::new().unwrap();
        let server = folder.path().join("server");
        fake::install(&server, folder.path());
        let device = 900_000_000 + std::process::id() % 1_000_000 * 8 + number;
        let command = this(&[PROVER, &server.display().to_string(), &device.to_string()]);
        let (stop, tracker) = (CancellationToken::new(), TaskTracker::new());
        let (prover, reports) = ProverChild::start(command, ProverSettings::default(), &tracker, stop.clone());
        let mut bench = Self { folder, prover, reports, stop, tracker };
        bench.is_ready().await;
        bench
    }

    async fn is_ready(&mut self) {
        let report = self.reports.recv().await.unwrap();
        assert!(matches!(report, ProverReport::Ready(_)), "{report:?}");
    }

    /// Orders a proof of fibonacci `n`, and waits for how it ends; before that, what was executed.
    async fn order(&mut self, attempt: u8, n: u32) -> (Option<Execution>, ProverReport) {
        let vk_hash = sp1_sdk::HashableKey::hash_bytes(&bincode::deserialize::<SP1VerifyingKey>(KEY).unwrap());
        let order = prove_order(self.folder.path(), &fibonacci(n), network_lib::ProofMode::Core, vk_hash);
        self.prover.prove(ProveOrder { attempt: AttemptId::new([attempt; 16]), ..order }).await.unwrap();
        let mut executed = None;
        loop {
            match self.reports.recv().await.unwrap() {
                ProverReport::Progress { .. } => {}
                ProverReport::Executed { execution, .. } => executed = Some(execution),
                end => return (executed, end),
            }
        }
    }

    /// How many proofs the server was asked for.
    fn asked(&self) -> usize {
        let requests = std::fs::read_to_string(self.folder.path().join("requests")).unwrap_or_default();
        requests.lines().filter(|line| *line == "prove").count()
    }

    async fn end(self) {
        self.stop.cancel();
        self.tracker.close();
        self.tracker.wait().await;
    }
}

async fn a_real_proof_of_what_was_executed_is_delivered() {
    let mut bench = Bench::ready(0).await;
    let (executed, end) = bench.order(1, 20).await;
    let execution = executed.unwrap();
    assert_eq!(execution.public_values_hash, hash_of_20());
    assert!(execution.cycles > 1000 && execution.gas.is_some(), "{execution:?}");
    assert!(matches!(end, ProverReport::Proved { digest, .. } if digest == Digest::of(PROOF)), "{end:?}");
    bench.end().await;
}

async fn a_guests_panic_costs_no_gpu() {
    let mut bench = Bench::ready(1).await;
    let (_, end) = bench.order(1, 10_000_001).await;
    let ProverReport::Failed { fault, .. } = end else { panic!("{end:?}") };
    assert_eq!(fault.class, FaultClass::Guest, "{fault}");
    assert!(fault.cause.contains("n must be at most 10,000,000, not 10000001"), "{fault}");
    assert_eq!(bench.asked(), 0);
    let (_, end) = bench.order(2, 20).await;
    assert!(matches!(end, ProverReport::Proved { .. }), "the next one is served: {end:?}");
    bench.end().await;
}

/// The server's proof is a real one of fibonacci 20, whatever it is asked for.
async fn a_proof_of_another_input_is_not_delivered() {
    let mut bench = Bench::ready(2).await;
    let (executed, end) = bench.order(1, 21).await;
    assert!(executed.is_some());
    let ProverReport::Failed { fault, .. } = end else { panic!("{end:?}") };
    assert_eq!(fault.class, FaultClass::Worker, "{fault}");
    assert!(fault.cause.starts_with("sp1-gpu-server made a proof that is not good: "), "{fault}");
    assert!(matches!(bench.reports.recv().await.unwrap(), ProverReport::Unavailable { .. }));
    bench.is_ready().await;
    let (_, end) = bench.order(2, 20).await;
    assert!(matches!(end, ProverReport::Proved { .. }), "{end:?}");
    bench.end().await;
}
