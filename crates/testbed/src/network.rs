//! A coordinator and its workers, each on the same ports and directories from start to start.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, bail};
use serde::Serialize;
use sp1_network_api::network::{GetNonceRequest, GetNonceResponse};
use tempfile::TempDir;

use crate::{
    disk::Disk,
    grpc::{Frame, GrpcConnection, path},
    netns::Lan,
    program::{Program, until},
    server::Endpoints,
};

/// Below what systems give to outgoing connections: a program that is down must find its port free again.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// The coordinator's ports where it has a host of its own.
const LAN_PORTS: (u16, u16) = (9000, 9010);

/// The token there.
const TOKEN: &str = "a-token-that-tests-may-read";

/// What the programs keep, below their directories.
const DATA: &str = "data";
const STATE: &str = "state";

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
    /// Where contemplants find the coordinator (host and port), if not at its own address.
    pub behind: Option<String>,
    /// Room that an attempt must leave on a contemplant's disk.
    pub min_free_disk: u64,
    /// Room that the coordinator keeps free for proofs.
    pub keep_free: u64,
    /// What lets contemplants in that are on other hosts.
    pub worker_token: Option<String>,
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
            min_free_disk: 1 << 30,
            keep_free: 1 << 30,
            worker_token: None,
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
    setup: Setup,
    /// Where the coordinator's data and each worker's state are seen from here.
    data: PathBuf,
    states: Vec<PathBuf>,
    // Last, so that it outlives the programs.
    directory: TempDir,
}

impl Network {
    /// A network of which nothing runs yet.
    ///
    /// # Errors
    /// When the programs are not there, or its directory cannot be made.
    pub fn new(setup: &Setup) -> anyhow::Result<Self> {
        Self::at(setup, Endpoints { grpc: free_port()?, http: free_port()? })
    }

    /// The same, of which each program has a host of its own.
    ///
    /// # Errors
    /// When the programs are not there, or its directory cannot be made.
    pub fn on(setup: &Setup, lan: &mut Lan) -> anyhow::Result<Self> {
        let host = IpAddr::V4(lan.coordinator().address());
        let endpoints =
            Endpoints { grpc: SocketAddr::new(host, LAN_PORTS.0), http: SocketAddr::new(host, LAN_PORTS.1) };
        let setup = Setup { worker_token: Some(TOKEN.to_owned()), ..setup.clone() };
        let mut network = Self::at(&setup, endpoints)?;
        network.hierophant.set_launcher(lan.coordinator().launcher());
        for (number, contemplant) in network.contemplants.iter_mut().enumerate() {
            contemplant.set_launcher(lan.worker(number).launcher());
        }
        Ok(network)
    }

    fn at(setup: &Setup, endpoints: Endpoints) -> anyhow::Result<Self> {
        let directory = tempfile::Builder::new().prefix("hierophant-faults-").tempdir()?;
        let hierophant = hierophant(setup, directory.path(), &endpoints)?;
        let workers = 0..setup.contemplants;
        let behind = setup.behind.clone().unwrap_or_else(|| endpoints.http.to_string());
        let contemplants = workers.clone().map(|number| contemplant(setup, directory.path(), number, &behind));
        let contemplants = contemplants.collect::<anyhow::Result<_>>()?;
        let states = workers.map(|number| worker_directory(directory.path(), number).join(STATE)).collect();
        let data = directory.path().join(DATA);
        Ok(Self { hierophant, contemplants, endpoints, setup: setup.clone(), data, states, directory })
    }

    /// From its next start on, the coordinator listens elsewhere. Workers are not told.
    ///
    /// # Errors
    /// When its configuration cannot be written.
    pub fn move_coordinator(&mut self, endpoints: Endpoints) -> anyhow::Result<()> {
        self.endpoints = endpoints;
        write_hierophant_config(&self.setup, self.directory.path(), &self.endpoints).map(drop)
    }

    /// From its next start on, a worker looks for the coordinator where it is now.
    ///
    /// # Errors
    /// When its configuration cannot be written.
    pub fn tell_worker(&mut self, number: usize) -> anyhow::Result<()> {
        let behind = self.endpoints.http.to_string();
        write_contemplant_config(&self.setup, self.directory.path(), number, &behind).map(drop)
    }

    /// The coordinator's data are on this disk, at [`Self::data`]. Before the first start.
    pub fn put_data_on(&mut self, disk: &Disk) {
        self.hierophant.set_launcher(disk.launcher());
        self.data = disk.seen();
    }

    /// A worker's state is on this disk, at [`Self::worker_state`]. Before its first start.
    pub fn put_state_on(&mut self, disk: &Disk, number: usize) {
        self.contemplants[number].set_launcher(disk.launcher());
        self.states[number] = disk.seen();
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
        self.data.clone()
    }

    /// Where a worker keeps everything durable.
    pub fn worker_state(&self, number: usize) -> &Path {
        &self.states[number]
    }

    /// The directory of a worker.
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

/// Where a program that is down finds its port free again.
///
/// # Errors
/// When no port is free.
pub fn free_port() -> anyhow::Result<SocketAddr> {
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
    let config = write_hierophant_config(setup, directory, endpoints)?;
    Ok(Program::new("hierophant", built("hierophant")?, named(&config), directory))
}

fn named(config: &Path) -> Vec<String> {
    vec!["--config".to_owned(), config.display().to_string()]
}

fn write_hierophant_config(setup: &Setup, directory: &Path, endpoints: &Endpoints) -> anyhow::Result<PathBuf> {
    let config = directory.join("hierophant.toml");
    let verifier = VerifierSection { program: std::env::current_exe()?, args: vec!["verifier".to_owned()] };
    let text = toml::to_string(&HierophantConfig {
        listen_address: endpoints.http.ip(),
        grpc_port: endpoints.grpc.port(),
        http_port: endpoints.http.port(),
        data_directory: directory.join(DATA),
        mock_mode: true,
        worker_token: setup.worker_token.clone(),
        limits: LimitsSection { keep_free: format!("{}B", setup.keep_free) },
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
    Ok(config)
}

fn contemplant(setup: &Setup, network: &Path, number: usize, coordinator: &str) -> anyhow::Result<Program> {
    let directory = worker_directory(network, number);
    std::fs::create_dir(&directory)?;
    let config = write_contemplant_config(setup, network, number, coordinator)?;
    Ok(Program::new(format!("contemplant-{number}"), built("contemplant")?, named(&config), &directory))
}

fn write_contemplant_config(
    setup: &Setup,
    network: &Path,
    number: usize,
    coordinator: &str,
) -> anyhow::Result<PathBuf> {
    let directory = worker_directory(network, number);
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
        state_directory: directory.join(STATE),
        min_free_disk_bytes: setup.min_free_disk,
        worker_token: setup.worker_token.clone(),
        log: "info",
        provers: vec![ProverSection { backend: "mock", program: std::env::current_exe()?, args: args.to_vec() }],
    })?;
    let config = directory.join("contemplant.toml");
    std::fs::write(&config, text)?;
    Ok(config)
}

fn millis(time: Duration) -> String {
    format!("{}ms", time.as_millis())
}

#[derive(Serialize)]
struct HierophantConfig {
    listen_address: IpAddr,
    grpc_port: u16,
    http_port: u16,
    data_directory: PathBuf,
    mock_mode: bool,
    worker_token: Option<String>,
    limits: LimitsSection,
    workers: WorkersSection,
    retry: RetrySection,
    verifier: VerifierSection,
    log: LogSection,
}

#[derive(Serialize)]
struct LimitsSection {
    keep_free: String,
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
    min_free_disk_bytes: u64,
    worker_token: Option<String>,
    log: &'static str,
    provers: Vec<ProverSection>,
}

#[derive(Serialize)]
struct ProverSection {
    backend: &'static str,
    program: PathBuf,
    args: Vec<String>,
}
