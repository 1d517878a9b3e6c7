//! What a mock prover plays, as an SDK client can ask for it.

use network_lib::{Fault, FaultClass, ProofMode};
use proving::{
    Phase,
    child::Prove as _,
    frames::ProverMessage,
    script::{MARKER, Origin, Script},
};
use proving_sp1::mock::MockProver;
use sp1_sdk::SP1Stdin;
use tempfile::TempDir;

use crate::common::{fibonacci, prove_order, reporter};

/// The input of the program, and a script that it does not read.
fn with_script(steps: &str) -> SP1Stdin {
    let mut stdin = fibonacci(20);
    stdin.write_slice(format!("{MARKER}\n{steps}").as_bytes());
    stdin
}

async fn play(prover: &MockProver, stdin: &SP1Stdin) -> (Result<Vec<u8>, Fault>, Vec<ProverMessage>) {
    let folder = TempDir::new().unwrap();
    let (reporter, messages) = reporter();
    let order = prove_order(folder.path(), stdin, ProofMode::Core, [0; 32]);
    let outcome = prover.prove(&order, &reporter).await;
    drop(reporter);
    (outcome.map(|()| std::fs::read(order.output).unwrap()), messages.into_iter().collect())
}

fn is_executed(message: &ProverMessage) -> bool {
    matches!(message, ProverMessage::Executed { .. })
}

#[tokio::test]
async fn a_script_in_the_input_is_played_after_a_real_execution() {
    let prover = MockProver::build(Script::default());
    let (outcome, messages) = play(&prover, &with_script("resources the device is full")).await;
    assert_eq!(outcome, Err(Fault::resources("the device is full")));
    assert_eq!(messages.iter().filter(|message| is_executed(message)).count(), 1);

    let (outcome, messages) = play(&prover, &with_script("phase compressing\nprogress 3 4\nprove 5000")).await;
    assert!(outcome.unwrap().len() > 5000);
    let told = |message: &ProverMessage| {
        matches!(message, ProverMessage::Progress { progress, .. }
        if (progress.phase, progress.done, progress.total) == (Phase::Compressing, 3, 4))
    };
    assert!(messages.iter().any(told), "{messages:?}");
    let mut as_string = fibonacci(20);
    as_string.write(&format!("{MARKER}\nguest before\nexecuted"));
    let (outcome, messages) = play(&prover, &as_string).await;
    assert_eq!(outcome, Err(Fault::guest("before")));
    assert!(!messages.iter().any(is_executed));
}

#[tokio::test]
async fn a_script_that_cannot_be_played_is_the_guests_fault_and_says_why() {
    let prover = MockProver::build(Script::default());
    let (outcome, _) = play(&prover, &with_script("mark /tmp/x")).await;
    let fault = outcome.unwrap_err();
    assert_eq!(fault.class, FaultClass::Guest);
    assert!(fault.cause.contains("line 2 of the script: mark names a file"), "{fault}");
}

#[tokio::test]
async fn a_provers_own_script_counts_where_the_request_brings_none() {
    let prover = MockProver::build(Script::parse("worker by default", Origin::Operator).unwrap());
    assert_eq!(play(&prover, &fibonacci(20)).await.0, Err(Fault::worker("by default")));
    assert!(play(&prover, &with_script("")).await.0.is_ok());
}
