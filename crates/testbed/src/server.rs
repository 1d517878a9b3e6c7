//! The hierophant that is measured: started with an empty data directory, and ended whatever happens.

use std::{
    fs::File,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};
use sp1_network_api::network::{GetNonceRequest, GetNonceResponse};
use tempfile::TempDir;
use tokio::{
    process::{Child, Command},
    time::{sleep, timeout},
};

use crate::{
    artifact_http::HttpConnection,
    clock,
    grpc::{Frame, GrpcConnection, path},
};

/// How long it may take to serve, and to end when it is told to.
const START_TIME: Duration = Duration::from_secs(30);
const STOP_TIME: Duration = Duration::from_secs(20);

/// How often it is looked whether it serves: what the start-up time is exact to.
const LOOK: Duration = Duration::from_millis(1);

/// What figures run on.
#[derive(Debug)]
pub struct Bench {
    /// The program to measure, if it is not the one beside this program.
    pub hierophant: Option<PathBuf>,
    /// The worker to measure, if it is not the one beside this program.
    pub contemplant: Option<PathBuf>,
    /// Where data directories are made.
    pub directory: PathBuf,
    /// What it logs.
    pub log: String,
}

/// Who verifies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verification {
    /// This program, at once.
    Bench,
    /// The hierophant's own child, with SP1 in it.
    Own,
}

impl Bench {
    /// The program to measure.
    ///
    /// # Errors
    /// When it is not there.
    pub fn program(&self) -> anyhow::Result<PathBuf> {
        beside("hierophant", self.hierophant.as_ref())
    }

    /// The worker to measure.
    ///
    /// # Errors
    /// When it is not there.
    pub fn contemplant(&self) -> anyhow::Result<PathBuf> {
        beside("contemplant", self.contemplant.as_ref())
    }

    /// Starts a hierophant and waits until it serves.
    ///
    /// # Errors
    /// When it does not.
    pub async fn start(&self, verification: Verification) -> anyhow::Result<Server> {
        let directory = tempfile::Builder::new().prefix("hierophant-bench-").tempdir_in(&self.directory)?;
        let config = directory.path().join("config.toml");
        std::fs::write(&config, self.config(verification)?)?;
        let data = directory.path().join("data");
        let log = directory.path().join("log");
        let mut command = Command::new(self.program()?);
        command
            .arg("--config")
            .arg(&config)
            .args(["--grpc-port", "0", "--http-port", "0", "--mock-mode", "--data-directory"])
            .arg(&data)
            .env_clear() // nothing of this shell's environment configures it
            .env("NO_COLOR", "1")
            .current_dir(directory.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log)?)
            .kill_on_drop(true);
        let began = clock::now();
        let child = command.spawn().context("the hierophant could not be started")?;
        let pid = child.id().context("the hierophant ended at once")?;
        let endpoints = Endpoints { grpc: ([127, 0, 0, 1], 0).into(), http: ([127, 0, 0, 1], 0).into() };
        let mut server = Server { child, pid, endpoints, start_up: Duration::ZERO, directory };
        match timeout(START_TIME, server.served(&data, began)).await {
            Ok(Ok(())) => Ok(server),
            Ok(Err(error)) => Err(error.context(server.last_words())),
            Err(_) => bail!("the hierophant did not serve in {} s: {}", START_TIME.as_secs(), server.last_words()),
        }
    }

    fn config(&self, verification: Verification) -> anyhow::Result<String> {
        let own = std::env::current_exe()?;
        let verifier = match verification {
            Verification::Own => None,
            Verification::Bench => Some(VerifierSection { program: own, args: vec!["verifier".to_owned()] }),
        };
        Ok(toml::to_string(&Config { log: LogSection { filter: self.log.clone() }, verifier })?)
    }
}

fn beside(name: &str, given: Option<&PathBuf>) -> anyhow::Result<PathBuf> {
    let program = match given {
        Some(program) => program.clone(),
        None => std::env::current_exe()?.with_file_name(name),
    };
    let program = program.canonicalize();
    program.with_context(|| format!("there is no {name} beside this program: build it, or name one with --{name}"))
}

#[derive(Serialize)]
struct Config {
    log: LogSection,
    verifier: Option<VerifierSection>,
}

#[derive(Serialize)]
struct LogSection {
    filter: String,
}

#[derive(Serialize)]
struct VerifierSection {
    program: PathBuf,
    args: Vec<String>,
}

/// Where a hierophant listens, as it says in `endpoints.json`.
#[derive(Debug, Clone, Copy, Deserialize)]
pub struct Endpoints {
    /// The SDK's port.
    pub grpc: SocketAddr,
    /// Artifacts, facts, workers.
    pub http: SocketAddr,
}

/// A running hierophant. Dropped, it is killed, and its data directory removed.
#[derive(Debug)]
pub struct Server {
    child: Child,
    pid: u32,
    endpoints: Endpoints,
    start_up: Duration,
    directory: TempDir,
}

impl Server {
    /// Its process.
    pub const fn pid(&self) -> u32 {
        self.pid
    }

    /// Where it listens.
    pub const fn endpoints(&self) -> &Endpoints {
        &self.endpoints
    }

    /// Transactions that its database has committed.
    ///
    /// # Errors
    /// When it does not say.
    pub async fn commits(&self) -> anyhow::Result<u64> {
        let health = HttpConnection::open(self.endpoints.http).await?.get_text("/health").await?;
        let health: serde_json::Value = serde_json::from_str(&health).context("/health is no JSON")?;
        health["database"]["commits"].as_u64().context("/health does not count commits")
    }

    /// From exec to the answer to the first call.
    pub const fn start_up(&self) -> Duration {
        self.start_up
    }

    /// Ends it in good order and removes its data.
    ///
    /// # Errors
    /// When it does not end, or not well.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw).context("it has no process id")?;
        kill_process(pid, Signal::TERM)?;
        let status = timeout(STOP_TIME, self.child.wait()).await;
        let Ok(status) = status else { bail!("the hierophant did not end in {} s", STOP_TIME.as_secs()) };
        let status = status?;
        if !status.success() {
            bail!("the hierophant ended with {status}: {}", self.last_words());
        }
        Ok(())
    }

    /// Waits until it answers a call.
    async fn served(&mut self, data: &Path, began: Instant) -> anyhow::Result<()> {
        let file = data.join("endpoints.json");
        self.endpoints = loop {
            if let Ok(text) = std::fs::read(&file) {
                break serde_json::from_slice(&text).context("endpoints.json")?;
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("the hierophant ended with {status}");
            }
            sleep(LOOK).await;
        };
        let mut grpc = GrpcConnection::open(self.endpoints.grpc).await?;
        let _: GetNonceResponse =
            grpc.call(path::GET_NONCE, Frame::of(&GetNonceRequest { address: vec![0; 20] })).await?;
        self.start_up = began.elapsed();
        Ok(())
    }

    /// The end of its log.
    fn last_words(&self) -> String {
        let log = std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().rev().take(5).collect();
        if lines.is_empty() {
            return "its log is empty".to_owned();
        }
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }
}
