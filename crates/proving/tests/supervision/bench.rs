//! A supervised prover, and what tests of children need besides.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use network_lib::{AttemptId, CircuitVersion, Digest, FaultClass, ProofMode};
use proving::{
    ChildCommand, ProveOrder, ProverChild, ProverReport, ProverSettings,
    testing::{CIRCUIT_VERSION, ScriptedProver},
};
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub(crate) fn child(name: &str) -> ChildCommand {
    let program = std::env::current_exe().unwrap();
    ChildCommand { program, args: vec!["child".into(), name.into()], env: vec![] }
}

pub(crate) fn shell(script: &str) -> ChildCommand {
    ChildCommand { program: "/bin/sh".into(), args: vec!["-c".into(), script.into()], env: vec![] }
}

/// The frame that says ready, for shell scripts.
pub(crate) fn ready_line() -> String {
    let profile = ScriptedProver::profile();
    proving::frames::encode(&proving::frames::ProverMessage::Ready { protocol: 1, profile }).unwrap()
}

pub(crate) fn settings() -> ProverSettings {
    ProverSettings { first_restart_delay: Duration::from_millis(1), ..ProverSettings::default() }
}

/// A supervised prover and a folder for its files.
pub(crate) struct Bench {
    pub(crate) folder: TempDir,
    pub(crate) prover: ProverChild,
    pub(crate) reports: mpsc::Receiver<ProverReport>,
    pub(crate) stop: CancellationToken,
    pub(crate) tracker: TaskTracker,
}

impl Bench {
    pub(crate) fn start(command: ChildCommand, settings: ProverSettings) -> Self {
        let (stop, tracker) = (CancellationToken::new(), TaskTracker::new());
        let (prover, reports) = ProverChild::start(command, settings, &tracker, stop.clone());
        Self { folder: TempDir::new().unwrap(), prover, reports, stop, tracker }
    }

    pub(crate) async fn ready(command: ChildCommand, settings: ProverSettings) -> Self {
        let mut bench = Self::start(command, settings);
        bench.is_ready().await;
        bench
    }

    pub(crate) async fn next(&mut self) -> ProverReport {
        self.reports.recv().await.expect("the supervision ended")
    }

    pub(crate) async fn is_ready(&mut self) {
        assert_eq!(self.next().await, ProverReport::Ready(ScriptedProver::profile()));
    }

    /// Waits until a prover is ready after one that was has ended, whether or not that was told.
    pub(crate) async fn is_ready_again(&mut self) {
        match self.next().await {
            ProverReport::Unavailable { .. } => self.is_ready().await,
            report => assert_eq!(report, ProverReport::Ready(ScriptedProver::profile())),
        }
    }

    pub(crate) async fn is_unavailable(&mut self) -> String {
        match self.next().await {
            ProverReport::Unavailable { cause } => cause,
            other => panic!("expected Unavailable, got {other:?}"),
        }
    }

    pub(crate) async fn has_failed(&mut self, attempt: u8) -> (FaultClass, String) {
        match self.next().await {
            ProverReport::Failed { attempt: of, fault } if of == id(attempt) => (fault.class, fault.cause),
            other => panic!("expected Failed, got {other:?}"),
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn order(&self, attempt: u8, script: &str) -> ProveOrder {
        let stdin = self.path(&format!("{attempt}.script"));
        std::fs::write(&stdin, script).unwrap();
        ProveOrder {
            attempt: id(attempt),
            program: self.path("program"),
            program_digest: Digest::of(b"program"),
            stdin,
            output: self.path(&format!("{attempt}.proof")),
            mode: ProofMode::Core,
            circuit_version: CircuitVersion::new(CIRCUIT_VERSION),
            vk_hash: [7; 32],
            cycle_limit: u64::MAX,
            gas_limit: u64::MAX,
        }
    }

    /// Gives an order and checks that it is proved, that is that the child is well.
    pub(crate) async fn proves(&mut self, attempt: u8) {
        self.prover.prove(self.order(attempt, "prove 10")).await.unwrap();
        match self.next().await {
            ProverReport::Proved { attempt: of, .. } => assert_eq!(of, id(attempt)),
            other => panic!("expected Proved, got {other:?}"),
        }
    }

    pub(crate) async fn end(self) {
        self.stop.cancel();
        self.tracker.close();
        self.tracker.wait().await;
    }
}

pub(crate) fn id(number: u8) -> AttemptId {
    AttemptId::new([number; 16])
}

/// Waits for a file and reads it.
pub(crate) async fn contents(path: &Path) -> String {
    loop {
        match std::fs::read_to_string(path) {
            Ok(text) if !text.is_empty() => return text,
            _ => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    }
}

/// Waits until a process is gone, or a zombie that only init has still to reap.
pub(crate) async fn is_gone(pid: &str) {
    let state = || {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        stat.rsplit_once(')')?.1.trim().chars().next()
    };
    while state().is_some_and(|state| state != 'Z' && state != 'X') {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
