//! A coordinator and its workers, each on the same ports and directories from start to start.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, bail};
use serde::Serialize;
use sp1_network_api::network::{GetNonceRequest, GetNonceResponse};
use tempfile::TempDir;

use crate::{
    grpc::{Frame, GrpcConnection, path},
    program::{Program, until},
    server::Endpoints,
};

/// Below what systems give to outgoing connections: a program that is down must find its port free again.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// How long a program may take to serve.
const START_TIME: Duration = Duration::from_secs(20);

/// How a network is set up. Times are scaled down from what one would run.
#[derive(Debug, Clone)]
pub struct Setup {
    /// How many contemplants there are.
    pub contemplants: usize,
    /// What their provers play. `{network}` stands for the directory of the network, `{worker}` for that of the worker.
    pub script: String,
    /// How many of the first proofs that each worker begins fail.
    pub failures: usize,
    /// Between two heartbeats.
    pub heartbeat: Duration,
    /// Silence after which a session is closed.
    pub silence_limit: Duration,
    /// How long after its last word a contemplant's attempts stay its own.
    pub grace: Duration,
    /// Where contemplants find the coordinator, if not at its own port.
    pub behind: Option<SocketAddr>,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            contemplants: 1,
            script: "prove 1200000".to_owned(),
            failures: 0,
            heartbeat: Duration::from_millis(250),
            silence_limit: Duration::from_secs(3),
            grace: Duration::from_secs(6),
            behind: None,
        }
    }
}

/// A coordinator and its workers. Dropped, all are ended and their directories removed.
#[derive(Debug)]
pub struct Network {
    /// The coordinator.
    pub hierophant: Program,
    /// The workers.
    pub contemplants: Vec<Program>,
    endpoints: Endpoints,
    // Last, so that it outlives the programs.
    directory: TempDir,
}

impl Network {
    /// A network of which nothing runs yet.
    ///
    /// # Errors
    /// When the programs are not there, or its directory cannot be made.
    pub fn new(setup: &Setup) -> anyhow::Result<Self> {
        let directory = tempfile::Builder::new().prefix("hierophant-faults-").tempdir()?;
        let endpoints = Endpoints { grpc: free_port()?, http: free_port()? };
        let hierophant = hierophant(setup, directory.path(), &endpoints)?;
        let workers = 0..setup.contemplants;
        let behind = setup.behind.unwrap_or(endpoints.http);
        let contemplants = workers.map(|number| contemplant(setup, directory.path(), number, behind));
        Ok(Self { hierophant, contemplants: contemplants.collect::<anyhow::Result<_>>()?, endpoints, directory })
    }

    /// Starts everything, and waits until the coordinator serves.
    ///
    /// # Errors
    /// When something does not start.
    pub async fn start(&mut self) -> anyhow::Result<()> {
        self.hierophant.start(None)?;
        self.until_serving().await?;
        self.contemplants.iter_mut().try_for_each(|contemplant| contemplant.start(None))
    }

    /// Where the coordinator listens, whenever it runs.
    pub const fn endpoints(&self) -> &Endpoints {
        &self.endpoints
    }

    /// The directory of everything.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Where the coordinator keeps everything durable.
    pub fn data(&self) -> PathBuf {
        self.directory().join("data")
    }

    /// The directory of a worker; its state is below it.
    pub fn worker_directory(&self, number: usize) -> PathBuf {
        worker_directory(self.directory(), number)
    }

    /// Waits until the coordinator answers a call.
    ///
    /// # Errors
    /// When it ends, or does not answer in time.
    pub async fn until_serving(&mut self) -> anyhow::Result<()> {
        let grpc = self.endpoints.grpc;
        let hierophant = &mut self.hierophant;
        let serving = until("the hierophant serves", START_TIME, async || {
            if let Ok(Some(status)) = hierophant.ended() {
                return Some(Err(status));
            }
            is_serving(grpc).await.then_some(Ok(()))
        });
        match serving.await? {
            Ok(()) => Ok(()),
            Err(status) => bail!("the hierophant ended with {status}: {}", self.hierophant.last_words()),
        }
    }

    /// How many proofs the workers' provers have begun, in all runs.
    pub fn proofs_begun(&self) -> usize {
        let begun = |number| std::fs::read_to_string(self.worker_directory(number).join("starts")).unwrap_or_default();
        (0..self.contemplants.len()).map(|number| begun(number).lines().count()).sum()
    }

    /// Lets scripts go on that wait for the file `name` in the directory of the network.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn open_gate(&self, name: &str) -> anyhow::Result<()> {
        Ok(std::fs::write(self.directory().join(name), "")?)
    }

    /// Looks through the logs of all programs for panics.
    ///
    /// # Errors
    /// With the line where there is one.
    pub fn require_no_panic(&self) -> anyhow::Result<()> {
        for program in self.contemplants.iter().chain([&self.hierophant]) {
            if let Some(line) = program.log().lines().find(|line| line.contains("panicked at")) {
                bail!("{} panicked: {line}", program.name());
            }
        }
        Ok(())
    }
}

async fn is_serving(grpc: SocketAddr) -> bool {
    let Ok(mut connection) = GrpcConnection::open(grpc).await else { return false };
    let nonce = Frame::of(&GetNonceRequest { address: vec![0; 20] });
    connection.call::<GetNonceResponse>(path::GET_NONCE, nonce).await.is_ok()
}

fn free_port() -> anyhow::Result<SocketAddr> {
    let tries = (0..1000).map(|_| SocketAddr::from((Ipv4Addr::LOCALHOST, rand::random_range(PORTS))));
    tries.into_iter().find(|address| TcpListener::bind(address).is_ok()).context("no port is free")
}

fn worker_directory(network: &Path, number: usize) -> PathBuf {
    network.join(format!("worker-{number}"))
}

/// A program of this workspace, built into the directory of the running one or, for tests, into that above.
///
/// # Errors
/// When it was not built.
pub fn built(name: &str) -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe()?;
    let found = own.ancestors().skip(1).take(2).map(|directory| directory.join(name)).find(|path| path.is_file());
    found.with_context(|| format!("there is no program {name} beside {}: build it first", own.display()))
}

fn hierophant(setup: &Setup, directory: &Path, endpoints: &Endpoints) -> anyhow::Result<Program> {
    let config = directory.join("hierophant.toml");
    let verifier = VerifierSection { program: std::env::current_exe()?, args: vec!["verifier".to_owned()] };
    let text = toml::to_string(&HierophantConfig {
        grpc_port: endpoints.grpc.port(),
        http_port: endpoints.http.port(),
        data_directory: directory.join("data"),
        mock_mode: true,
        workers: WorkersSection {
            heartbeat_interval: millis(setup.heartbeat),
            silence_limit: millis(setup.silence_limit),
            grace: millis(setup.grace),
        },
        retry: RetrySection { first_pause: "100ms", longest_pause: "1s" },
        verifier,
        log: LogSection { filter: "info" },
    })?;
    std::fs::write(&config, text)?;
    let arguments = vec!["--config".to_owned(), config.display().to_string()];
    Ok(Program::new("hierophant", built("hierophant")?, arguments, directory))
}

fn contemplant(setup: &Setup, network: &Path, number: usize, coordinator: SocketAddr) -> anyhow::Result<Program> {
    let directory = worker_directory(network, number);
    std::fs::create_dir(&directory)?;
    let place = |name: &str| directory.join(name).display().to_string();
    let script = setup.script.replace("{network}", &network.display().to_string()).replace("{worker}", &place(""));
    let args = [
        "prover".to_owned(),
        "--times".to_owned(),
        place("times"),
        "--starts".to_owned(),
        place("starts"),
        "--failures".to_owned(),
        setup.failures.to_string(),
        "--script".to_owned(),
        script,
    ];
    let text = toml::to_string(&ContemplantConfig {
        hierophant_ws_address: format!("ws://{coordinator}/ws"),
        contemplant_name: format!("worker {number}"),
        state_directory: directory.join("state"),
        log: "info",
        provers: vec![ProverSection { backend: "mock", program: std::env::current_exe()?, args: args.to_vec() }],
    })?;
    let config = directory.join("contemplant.toml");
    std::fs::write(&config, text)?;
    let arguments = vec!["--config".to_owned(), config.display().to_string()];
    Ok(Program::new(format!("contemplant-{number}"), built("contemplant")?, arguments, &directory))
}

fn millis(time: Duration) -> String {
    format!("{}ms", time.as_millis())
}

#[derive(Serialize)]
struct HierophantConfig {
    grpc_port: u16,
    http_port: u16,
    data_directory: PathBuf,
    mock_mode: bool,
    workers: WorkersSection,
    retry: RetrySection,
    verifier: VerifierSection,
    log: LogSection,
}

#[derive(Serialize)]
struct WorkersSection {
    heartbeat_interval: String,
    silence_limit: String,
    grace: String,
}

#[derive(Serialize)]
struct RetrySection {
    first_pause: &'static str,
    longest_pause: &'static str,
}

#[derive(Serialize)]
struct VerifierSection {
    program: PathBuf,
    args: Vec<String>,
}

#[derive(Serialize)]
struct LogSection {
    filter: &'static str,
}

#[derive(Serialize)]
struct ContemplantConfig {
    hierophant_ws_address: String,
    contemplant_name: String,
    state_directory: PathBuf,
    log: &'static str,
    provers: Vec<ProverSection>,
}

#[derive(Serialize)]
struct ProverSection {
    backend: &'static str,
    program: PathBuf,
    args: Vec<String>,
}
