//! A coordinator and a worker, as two processes in a temporary directory.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use serde::Deserialize;
use tempfile::TempDir;
use tokio::{
    process::{Child, Command},
    time::{sleep, timeout},
};

use crate::{
    config::{Config, SdkMode, Victim},
    progress::{CurrentProof, Narrator},
    say,
    timeline::Timeline,
};

/// How long the coordinator may take to serve.
const COORDINATOR_START: Duration = Duration::from_secs(30);

/// How long the worker's prover may take to be ready: the CPU prover takes 80 s on two free cores.
const WORKER_START: Duration = Duration::from_mins(20);

/// How long a program may take to stop when asked.
const STOP_TIME: Duration = Duration::from_secs(20);

/// Pause between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// Pause between two looks at how far the proofs are.
const LOOK_AT_PROGRESS: Duration = Duration::from_secs(1);

/// How long a program that was ended stays away.
const DOWN_TIME: Duration = Duration::from_secs(5);

/// The running programs. Dropped, they are killed.
pub(crate) struct Network {
    directory: TempDir,
    coordinator: Child,
    worker: Child,
    endpoints: Endpoints,
    is_mock: bool,
    http: reqwest::Client,
}

#[derive(Debug, Deserialize)]
struct Endpoints {
    grpc: String,
    http: String,
}

#[derive(Debug, Deserialize)]
struct Contemplant {
    name: String,
    provers: Vec<Prover>,
    current_proofs: Vec<CurrentProof>,
}

#[derive(Debug, Deserialize)]
struct Prover {
    device: String,
    modes: Vec<String>,
}

impl Network {
    /// Starts both programs and waits until the worker can prove.
    pub(crate) async fn start(config: &Config) -> anyhow::Result<Self> {
        let directory = tempfile::tempdir().context("could not make a temporary directory")?;
        let mut coordinator = hierophant(directory.path(), [config.grpc_port, config.http_port], config.mock)?;
        let endpoints = endpoints(&mut coordinator, directory.path()).await?;
        say(&format!("hierophant serves: gRPC on {}, HTTP on {}", endpoints.grpc, endpoints.http));
        let worker = contemplant(directory.path(), &endpoints, config.mock)?;
        let http = reqwest::Client::new();
        let mut network = Self { directory, coordinator, worker, endpoints, is_mock: config.mock, http };
        network.wait_for_prover().await.map_err(|error| anyhow::anyhow!("{error:#}\n{}", network.last_words()))?;
        Ok(network)
    }

    /// Where the SDK calls.
    pub(crate) fn rpc_url(&self) -> String {
        format!("http://{}", self.endpoints.grpc)
    }

    /// Tells how far the proofs are, for as long as they are waited for. Ends `victim` when the first of them is being
    /// proved, and starts it again.
    ///
    /// # Errors
    /// When it cannot be started again. Otherwise this does not end.
    pub(crate) async fn accompany(&mut self, mut victim: Option<Victim>) -> anyhow::Result<()> {
        let mut narrator = Narrator::default();
        loop {
            sleep(LOOK_AT_PROGRESS).await;
            // The coordinator may be down.
            let Ok(workers) = self.contemplants().await else { continue };
            let current = workers.iter().flat_map(|worker| &worker.current_proofs);
            let is_proving = narrator.hear(current);
            if let Some(victim) = victim.take_if(|_| is_proving) {
                self.kill(victim).await?;
            }
        }
    }

    async fn kill(&mut self, victim: Victim) -> anyhow::Result<()> {
        let directory = self.directory.path();
        match victim {
            Victim::Hierophant => {
                self.coordinator.kill().await?;
                say("hierophant is killed");
                sleep(DOWN_TIME).await;
                self.coordinator = hierophant(directory, self.endpoints.ports()?, self.is_mock)?;
                say("hierophant is started again");
            }
            Victim::Contemplant => {
                self.worker.kill().await?;
                say("contemplant is killed");
                sleep(DOWN_TIME).await;
                self.worker = contemplant(directory, &self.endpoints, self.is_mock)?;
                say("contemplant is started again");
            }
        }
        Ok(())
    }

    async fn contemplants(&self) -> reqwest::Result<Vec<Contemplant>> {
        let url = format!("http://{}/contemplants", self.endpoints.http);
        self.http.get(&url).send().await?.error_for_status()?.json().await
    }

    /// What happened to a request, by the coordinator's own account.
    pub(crate) async fn timeline(&self, request_id: &str) -> anyhow::Result<Timeline> {
        let url = format!("http://{}/requests/{request_id}", self.endpoints.http);
        let response = self.http.get(url).send().await?.error_for_status()?;
        Ok(response.json().await?)
    }

    /// How to use what is running, for people.
    pub(crate) fn invitation(&self, config: &Config) -> String {
        let (rpc, http) = (self.rpc_url(), &self.endpoints.http);
        let mode = match config.network_mode {
            SdkMode::Reserved => "Reserved",
            SdkMode::Mainnet => "Mainnet",
        };
        format!(
            "Both programs stay up until you press Ctrl-C. From another project, with sp1-sdk's feature \"network\":\n  \
             NETWORK_RPC_URL={rpc} NETWORK_PRIVATE_KEY=<any key> SP1_PROVER=network\n  \
             or ProverClient::builder().network_for(NetworkMode::{mode}).rpc_url(\"{rpc}\")\n\
             Who is here: http://{http}/contemplants  What was proved: http://{http}/proof-history"
        )
    }

    /// The ends of both logs.
    pub(crate) fn last_words(&self) -> String {
        ["hierophant", "contemplant"]
            .map(|name| last_words(&self.directory.path().join(format!("{name}.log"))))
            .join("\n")
    }

    /// Asks both programs to stop, and waits until they have.
    pub(crate) async fn stop(mut self) -> anyhow::Result<()> {
        for (name, child) in [("contemplant", &mut self.worker), ("hierophant", &mut self.coordinator)] {
            stop(name, child).await?;
        }
        Ok(())
    }

    #[expect(clippy::disallowed_methods, reason = "a stopwatch")]
    async fn wait_for_prover(&mut self) -> anyhow::Result<()> {
        let start = Instant::now();
        let mut is_announced = false;
        while start.elapsed() < WORKER_START {
            if let Some(status) = self.worker.try_wait()? {
                bail!("contemplant ended: {status}");
            }
            let workers = self.contemplants().await?;
            if let Some(worker) = workers.first() {
                if !is_announced {
                    say(&format!("contemplant {} joined; its prover starts", worker.name));
                    is_announced = true;
                }
                if let Some(prover) = worker.provers.iter().find(|prover| !prover.modes.is_empty()) {
                    let (device, modes) = (&prover.device, prover.modes.join(", "));
                    say(&format!("prover {device} is ready after {:.1} s: {modes}", start.elapsed().as_secs_f64()));
                    return Ok(());
                }
            }
            sleep(LOOK_AGAIN).await;
        }
        bail!("no prover was ready within {} s", WORKER_START.as_secs())
    }
}

impl Endpoints {
    /// The two ports.
    fn ports(&self) -> anyhow::Result<[u16; 2]> {
        let port = |address: &str| address.parse::<SocketAddr>().map(|address| address.port());
        Ok([port(&self.grpc)?, port(&self.http)?])
    }
}

fn hierophant(directory: &Path, [grpc, http]: [u16; 2], is_mock: bool) -> anyhow::Result<Child> {
    let mut command = program("hierophant")?;
    command.arg("--data-directory").arg(data(directory));
    command.args(["--grpc-port", &grpc.to_string(), "--http-port", &http.to_string()]);
    if is_mock {
        command.arg("--mock-mode");
    }
    spawn(command, &directory.join("hierophant.log"))
}

fn contemplant(directory: &Path, endpoints: &Endpoints, is_mock: bool) -> anyhow::Result<Child> {
    let mut command = program("contemplant")?;
    command.arg("--hierophant-ws-address").arg(format!("ws://{}/ws", endpoints.http));
    command.arg("--state-directory").arg(directory.join("contemplant"));
    if is_mock {
        command.arg("--mock");
    }
    spawn(command, &directory.join("contemplant.log"))
}

/// Where the coordinator keeps everything.
fn data(directory: &Path) -> PathBuf {
    directory.join("hierophant")
}

/// A sibling of this program: all three are built together.
fn program(name: &str) -> anyhow::Result<Command> {
    let own: PathBuf = std::env::current_exe()?;
    let path = own.with_file_name(name);
    ensure!(path.exists(), "{} is missing: run `cargo build --release --workspace` first", path.display());
    Ok(Command::new(path))
}

fn spawn(mut command: Command, log: &Path) -> anyhow::Result<Child> {
    let log = std::fs::File::options().create(true).append(true).open(log)?;
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).kill_on_drop(true);
    command.spawn().with_context(|| format!("could not start {command:?}"))
}

#[expect(clippy::disallowed_methods, reason = "a stopwatch")]
async fn endpoints(coordinator: &mut Child, directory: &Path) -> anyhow::Result<Endpoints> {
    let start = Instant::now();
    while start.elapsed() < COORDINATOR_START {
        if let Ok(text) = std::fs::read_to_string(data(directory).join("endpoints.json")) {
            return Ok(serde_json::from_str(&text)?);
        }
        if let Some(status) = coordinator.try_wait()? {
            bail!("hierophant ended: {status}\n{}", last_words(&directory.join("hierophant.log")));
        }
        sleep(LOOK_AGAIN).await;
    }
    bail!("hierophant did not serve within {} s", COORDINATOR_START.as_secs())
}

async fn stop(name: &str, child: &mut Child) -> anyhow::Result<()> {
    if let Some(pid) = child.id().and_then(|id| i32::try_from(id).ok()).and_then(rustix::process::Pid::from_raw) {
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
    }
    let Ok(status) = timeout(STOP_TIME, child.wait()).await else {
        child.kill().await?;
        bail!("{name} did not stop within {} s and was killed", STOP_TIME.as_secs());
    };
    let status = status?;
    ensure!(status.success(), "{name} stopped with {status}");
    Ok(())
}

fn last_words(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let tail = lines.len().saturating_sub(30);
    format!("--- the end of {} ---\n{}", log.file_name().unwrap_or_default().display(), lines[tail..].join("\n"))
}
