//! The contemplant that is measured: a real one, whose prover is this program and plays a script.

use std::{
    fs::File,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::Context as _;
use serde::Serialize;
use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::server::Bench;

/// What a contemplant is told.
#[derive(Debug, Clone)]
pub struct Settings {
    /// What its prover plays.
    pub script: String,
    /// Bytes of inputs that it may fetch ahead.
    pub max_input_cache_bytes: u64,
}

/// A running contemplant. Dropped, it is ended with its prover, and its state removed.
#[derive(Debug)]
pub struct Contemplant {
    _child: Child,
    directory: TempDir,
}

impl Contemplant {
    /// Starts one for the coordinator at this address.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(bench: &Bench, coordinator: SocketAddr, settings: Settings) -> anyhow::Result<Self> {
        let directory = tempfile::Builder::new().prefix("contemplant-bench-").tempdir_in(&bench.directory)?;
        let config = directory.path().join("config.toml");
        let prover = ProverSection {
            backend: "mock",
            program: std::env::current_exe()?,
            args: vec![
                "prover".into(),
                "--times".into(),
                times(directory.path()).display().to_string(),
                "--script".into(),
                settings.script,
            ],
        };
        let text = toml::to_string(&Config {
            hierophant_ws_address: format!("ws://{coordinator}/ws"),
            state_directory: directory.path().join("state"),
            max_input_cache_bytes: settings.max_input_cache_bytes,
            log: bench.log.clone(),
            provers: vec![prover],
        })?;
        std::fs::write(&config, text)?;
        let child = Command::new(bench.contemplant()?)
            .arg("--config")
            .arg(&config)
            .env_clear()
            .env("NO_COLOR", "1")
            .current_dir(directory.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(directory.path().join("log"))?)
            .kill_on_drop(true)
            .spawn()
            .context("the contemplant could not be started")?;
        Ok(Self { _child: child, directory })
    }

    /// When its prover began and ended each proof so far, in nanoseconds since some moment.
    ///
    /// # Errors
    /// When what it wrote cannot be read.
    pub fn times(&self) -> anyhow::Result<Vec<(u64, u64)>> {
        let text = std::fs::read_to_string(times(self.directory.path()))?;
        let line = |line: &str| {
            let (began, ended) = line.split_once(' ').context("a line of the prover's times")?;
            anyhow::Ok((began.parse()?, ended.parse()?))
        };
        text.lines().map(line).collect()
    }
}

fn times(directory: &Path) -> PathBuf {
    directory.join("times")
}

#[derive(Serialize)]
struct Config {
    hierophant_ws_address: String,
    state_directory: PathBuf,
    max_input_cache_bytes: u64,
    log: String,
    provers: Vec<ProverSection>,
}

#[derive(Serialize)]
struct ProverSection {
    backend: &'static str,
    program: PathBuf,
    args: Vec<String>,
}
