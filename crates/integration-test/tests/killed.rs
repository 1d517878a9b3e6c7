//! The published SDK waits for a proof while a program of the network is killed, and gets it.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::process::Command;

/// Runs the real programs with the mock prover, which is at work for 20 s, and kills `program` meanwhile.
fn client_gets_its_proof(program: &str, network_mode: &str) {
    let arguments = ["--mock", "--kill", program, "--network-mode", network_mode];
    let run = Command::new(env!("CARGO_BIN_EXE_integration-test")).args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&run.stdout);
    assert!(run.status.success(), "{said}{}", String::from_utf8_lossy(&run.stderr));
    assert!(said.contains(&format!("{program} is started again")), "{said}");
}

#[test]
fn a_client_in_reserved_mode_gets_its_proof_though_the_coordinator_is_killed() {
    client_gets_its_proof("hierophant", "reserved");
}

#[test]
fn a_client_in_mainnet_mode_gets_its_proof_though_the_coordinator_is_killed() {
    client_gets_its_proof("hierophant", "mainnet");
}

#[test]
fn a_client_gets_its_proof_though_the_worker_is_killed() {
    client_gets_its_proof("contemplant", "reserved");
}
