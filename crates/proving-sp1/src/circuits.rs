//! Which SNARKs this machine can make: that takes gigabytes of circuit files, and gnark.

use std::{
    path::PathBuf,
    process::{Command, Stdio},
    time::Duration,
};

use network_lib::ProofMode;
use sp1_prover::build::{groth16_circuit_artifacts_dir, plonk_circuit_artifacts_dir};

/// What the installer of circuit files creates last.
const COMPLETE: &str = ".complete";

/// How often docker is looked at until it has said that it is there, and how many times: ten seconds in all.
const DOCKER_LOOK: Duration = Duration::from_millis(50);
const DOCKER_LOOKS: u32 = 200;

/// The SNARK modes whose circuit files are installed.
pub(crate) fn installed() -> Vec<ProofMode> {
    let is_installed = |folder: Result<PathBuf, _>| folder.is_ok_and(|folder: PathBuf| folder.join(COMPLETE).is_file());
    let mut modes = vec![];
    if is_installed(plonk_circuit_artifacts_dir()) {
        modes.push(ProofMode::Plonk);
    }
    if is_installed(groth16_circuit_artifacts_dir()) {
        modes.push(ProofMode::Groth16);
    }
    modes
}

/// The SNARK modes whose circuit files are installed, if gnark can be run.
pub(crate) fn provable() -> Vec<ProofMode> {
    let mut modes = installed();
    if !modes.is_empty() && !has_docker() {
        tracing::warn!("circuit files are installed but docker does not answer: plonk and groth16 are not offered");
        modes.clear();
    }
    modes
}

/// Whether docker answers. SP1 runs gnark in it, and panics when it does not.
fn has_docker() -> bool {
    let started =
        Command::new("docker").arg("info").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let Ok(mut process) = started else { return false };
    for _ in 0..DOCKER_LOOKS {
        match process.try_wait() {
            Ok(Some(status)) => return status.success(),
            Ok(None) => std::thread::sleep(DOCKER_LOOK),
            Err(_) => break,
        }
    }
    let _ = process.kill();
    let _ = process.wait();
    false
}
