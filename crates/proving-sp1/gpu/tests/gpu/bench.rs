//! A supervised GPU prover, its server's faults, and orders for it.

use std::{
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use network_lib::{AttemptId, CircuitVersion, Digest, FaultClass, ProofMode, ProverProfile};
use proving::{
    ChildCommand, Execution, ProveOrder, ProverChild, ProverReport, ProverSettings, testing::CIRCUIT_VERSION,
};
use sp1_sdk::SP1Stdin;
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{KEY, PROOF, child, fake};

/// A number that is no device of this machine, nor of another test's: it names a socket.
pub(crate) fn device() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    1_000_000 + std::process::id() * 64 + NEXT.fetch_add(1, Ordering::Relaxed)
}

/// A supervised prover.
pub(crate) struct Bench {
    pub(crate) folder: TempDir,
    pub(crate) device: u32,
    pub(crate) prover: ProverChild,
    pub(crate) reports: mpsc::Receiver<ProverReport>,
    stop: CancellationToken,
    tracker: TaskTracker,
}

/// How a [`Bench`] is set up.
pub(crate) struct Setting {
    pub(crate) folder: TempDir,
    pub(crate) device: u32,
    pub(crate) start_limit: Duration,
    pub(crate) first_restart_delay: Duration,
    pub(crate) has_spare: bool,
}

impl Setting {
    /// A server that has these faults, one for each start, and none after that.
    pub(crate) fn new(faults: &[&str]) -> Self {
        let setting = Self::without_server();
        let server = setting.path("named-server");
        fake::install(&server, setting.folder.path());
        setting.write("named", &server.display().to_string());
        setting.write("faults", &faults.join("\n"));
        setting
    }

    /// No server at all.
    pub(crate) fn without_server() -> Self {
        let minute = Duration::from_mins(1);
        let folder = TempDir::new().unwrap();
        let first_restart_delay = Duration::from_millis(1);
        Self { folder, device: device(), start_limit: minute, first_restart_delay, has_spare: false }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    /// Starts the prover.
    pub(crate) fn start(self) -> Bench {
        let (stop, tracker) = (CancellationToken::new(), TaskTracker::new());
        let args = [
            child::COMMAND.into(),
            self.folder.path().as_os_str().to_owned(),
            self.device.to_string().into(),
            self.start_limit.as_millis().to_string().into(),
            self.has_spare.to_string().into(),
        ];
        let env = [
            ("PATH".into(), format!("{}:/usr/bin:/bin", self.path("bin").display()).into()),
            ("HOME".into(), self.path("home").into()),
        ];
        let program = std::env::current_exe().unwrap();
        let command = ChildCommand { program, args: args.to_vec(), env: env.to_vec() };
        let Self { first_restart_delay, has_spare, .. } = self;
        let settings = ProverSettings { first_restart_delay, has_spare, ..ProverSettings::default() };
        let (prover, reports) = ProverChild::start(command, settings, &tracker, stop.clone());
        Bench { folder: self.folder, device: self.device, prover, reports, stop, tracker }
    }
}

impl Bench {
    /// A prover that is ready, with a server that has these faults.
    pub(crate) async fn ready(faults: &[&str]) -> Self {
        let mut bench = Setting::new(faults).start();
        bench.is_ready().await;
        bench
    }

    pub(crate) async fn is_ready(&mut self) -> ProverProfile {
        match self.reports.recv().await.unwrap() {
            ProverReport::Ready(profile) => profile,
            other => panic!("expected Ready, got {other:?}"),
        }
    }

    pub(crate) async fn is_unavailable(&mut self) -> String {
        match self.reports.recv().await.unwrap() {
            ProverReport::Unavailable { cause } => cause,
            other => panic!("expected Unavailable, got {other:?}"),
        }
    }

    pub(crate) fn order(&self, attempt: u8) -> ProveOrder {
        let (program, stdin) = (self.folder.path().join("program"), self.folder.path().join("stdin"));
        std::fs::write(&program, b"a program").unwrap();
        std::fs::write(&stdin, bincode::serialize(&SP1Stdin::new()).unwrap()).unwrap();
        ProveOrder {
            attempt: AttemptId::new([attempt; 16]),
            program_digest: Digest::of(b"a program"),
            program,
            stdin,
            output: self.folder.path().join(format!("{attempt}.proof")),
            mode: ProofMode::Core,
            circuit_version: CircuitVersion::new(CIRCUIT_VERSION),
            vk_hash: child::hashes(KEY).unwrap().field,
            cycle_limit: u64::MAX,
            gas_limit: u64::MAX,
        }
    }

    /// Gives an order and waits for its end, which is a failure.
    pub(crate) async fn fails(&mut self, order: ProveOrder) -> (FaultClass, String) {
        self.prover.prove(order).await.unwrap();
        loop {
            match self.reports.recv().await.unwrap() {
                ProverReport::Failed { fault, .. } => return (fault.class, fault.cause),
                ProverReport::Progress { .. } | ProverReport::Executed { .. } => {}
                other => panic!("expected Failed, got {other:?}"),
            }
        }
    }

    /// Gives an order that is proved. Says what was executed, and whether the shards were counted.
    pub(crate) async fn proves(&mut self, attempt: u8) -> (Execution, bool) {
        let order = self.order(attempt);
        self.proves_order(order).await
    }

    /// As [`Self::proves`], for another order.
    pub(crate) async fn proves_order(&mut self, order: ProveOrder) -> (Execution, bool) {
        let output = order.output.clone();
        self.prover.prove(order).await.unwrap();
        let (mut executed, mut is_counted) = (None, false);
        loop {
            match self.reports.recv().await.unwrap() {
                ProverReport::Proved { digest, .. } => {
                    assert_eq!(digest, Digest::of(PROOF));
                    assert!(std::fs::read(output).unwrap() == PROOF, "the proof is stored as it came");
                    return (executed.unwrap(), is_counted);
                }
                ProverReport::Executed { execution, .. } => executed = Some(execution),
                ProverReport::Progress { progress, .. } => is_counted |= (progress.done, progress.total) == (1, 1),
                other => panic!("expected Proved, got {other:?}"),
            }
        }
    }

    /// Waits until the prover was replaced, and has it prove.
    pub(crate) async fn recovers(&mut self) {
        self.is_unavailable().await;
        self.is_ready().await;
        self.proves(9).await;
        assert_eq!(self.lines("starts").len(), 2);
    }

    /// What the server noted down.
    pub(crate) fn lines(&self, file: &str) -> Vec<String> {
        let text = std::fs::read_to_string(self.folder.path().join(file)).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    pub(crate) async fn end(self) {
        self.stop.cancel();
        self.tracker.close();
        self.tracker.wait().await;
        for pid in self.lines("starts") {
            is_gone(&pid).await;
        }
        let _ = std::fs::remove_file(sp1_cuda::client::socket_path(self.device));
    }
}

/// Waits for a file that is not empty, and reads it.
pub(crate) async fn contents(path: &Path) -> String {
    loop {
        match std::fs::read_to_string(path) {
            Ok(text) if !text.is_empty() => return text,
            _ => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    }
}

/// Whether a process runs; one that only waits to be reaped does not.
pub(crate) fn is_there(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

/// Waits until a process is gone.
pub(crate) async fn is_gone(pid: &str) {
    while is_there(pid) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
