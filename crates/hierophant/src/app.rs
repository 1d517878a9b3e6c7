//! Puts the parts together, serves both ports, and takes the parts apart again.

use std::{
    fs::{DirBuilder, File, TryLockError},
    io,
    net::SocketAddr,
    os::unix::fs::DirBuilderExt as _,
    path::Path,
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use proving::{ChildCommand, Verifier, VerifierChild};
use sd_notify::NotifyState;
use serde::{Deserialize, Serialize};
use tokio::{net::TcpListener, sync::mpsc, time::timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    api::{
        self,
        artifacts::{ArtifactApi, ArtifactLimits},
        sp1_network,
        worker_socket::WorkerSocket,
    },
    artifacts::{Capabilities, DiskArtifacts, PublicUrl},
    clock::{SharedClock, SystemClock},
    config::{Config, VerifierConfig},
    fleet::{FleetActor, FleetHandle},
    ids::RandomIds,
    service::{Ports, Service, ServiceSettings},
    sockets::{self, Inherited, Socket},
    store::{
        SharedStore, TidyStore,
        sqlite::{Settings, SqliteStore},
    },
    upkeep::Upkeep,
};

/// Artifacts found to be gone that wait for their requests to be ended; whoever finds more waits.
const LOSSES: usize = 64;

/// How long background work may take to finish what it is at when the program stops.
const DRAIN_TIME: Duration = Duration::from_secs(10);

/// The program, with both ports bound and nothing served yet.
pub struct App {
    config: Config,
    grpc: TcpListener,
    http: TcpListener,
    store: Arc<SqliteStore>,
    service: Service,
    actor: FleetActor,
    tasks: TaskTracker,
    /// Ends what serves others: verifier child, fleet. After the ports.
    stop_inner: CancellationToken,
    /// Held as long as the program runs: one program per data directory.
    _lock: File,
}

/// Where a running coordinator listens; written to `endpoints.json` in the data directory.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Endpoints {
    /// The SP1 SDK's gRPC.
    pub grpc: SocketAddr,
    /// Artifacts, status, workers.
    pub http: SocketAddr,
}

impl App {
    /// Opens what is durable and binds the ports, unless their sockets were inherited.
    ///
    /// # Errors
    /// When the data directory cannot be used, another coordinator uses it, or a port is taken: in words.
    pub async fn build(config: Config, mut sockets: Inherited) -> anyhow::Result<Self> {
        let lock = lock_directory(&config.data_directory)?;
        let tasks = TaskTracker::new();
        let stop_inner = CancellationToken::new();
        let clock: SharedClock = Arc::new(SystemClock::new());
        let database = config.data_directory.join("hierophant.sqlite");
        let store = SqliteStore::open(&database, &Settings::default()).context("the database could not be opened")?;
        let store = Arc::new(store);
        let artifacts = DiskArtifacts::open(&config.artifact_directory, config.limits.keep_free)
            .context("the artifact directory could not be used")?;
        let artifacts: Arc<dyn crate::artifacts::ArtifactFiles> = Arc::new(artifacts);
        let capabilities = Capabilities::load_or_create(&config.data_directory.join("capability.key"))
            .context("the key that signs addresses could not be used")?;
        let grpc = listen(&mut sockets, sockets::GRPC, config.grpc_address, "grpc_port").await?;
        let http = listen(&mut sockets, sockets::HTTP, config.http_address, "http_port").await?;
        let verifier = start_verifier(&config.verifier, &tasks, stop_inner.clone())?;
        let (fleet, inbox) = FleetHandle::new();
        let settings = ServiceSettings {
            retry: config.retry,
            mock_mode: config.mock_mode,
            max_deadline: config.limits.deadline,
            max_queued_requests: config.limits.queued_requests,
            allowed_requesters: config.allowed_requesters.clone(),
            circuit_versions: vec![network_lib::CircuitVersion::new(CIRCUIT_VERSION)],
        };
        let ports = Ports {
            store: Arc::clone(&store) as SharedStore,
            artifacts,
            capabilities,
            verifier,
            fleet,
            clock,
            ids: Arc::new(RandomIds),
            tasks: tasks.clone(),
        };
        let service = Service::new(ports, settings);
        let actor = FleetActor::new(inbox, service.clone(), config.fleet);
        Ok(Self { config, grpc, http, store, service, actor, tasks, stop_inner, _lock: lock })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// When a socket does not know its own address.
    pub fn endpoints(&self) -> io::Result<Endpoints> {
        Ok(Endpoints { grpc: self.grpc.local_addr()?, http: self.http.local_addr()? })
    }

    /// The use cases, for tests that look behind the doors.
    pub fn service(&self) -> &Service {
        &self.service
    }

    /// Serves until told to stop, then lets connections and tasks finish, within limits.
    ///
    /// # Errors
    /// When the store cannot be read at the start.
    pub async fn serve(self, stop: CancellationToken) -> anyhow::Result<()> {
        let endpoints = self.endpoints()?;
        let Self { config, grpc, http, store, service, actor, tasks, stop_inner, _lock } = self;
        tasks.spawn(actor.run(stop_inner.clone()));
        let open = service.recover().await.context("the open requests could not be read")?;
        let public_url = PublicUrl::new(config.public_url.clone()).context("public_url")?;
        let (lost, mut losses) = mpsc::channel(LOSSES);
        let artifact_api = ArtifactApi::new(
            Arc::clone(&service.artifacts),
            Arc::clone(&service.store) as Arc<_>,
            service.capabilities.clone(),
            Arc::clone(&service.clock),
            artifact_limits(&config),
            tasks.clone(),
        )
        .telling(lost.clone());
        let upkeep = Upkeep {
            store: Arc::clone(&store) as Arc<dyn TidyStore>,
            files: Arc::clone(&service.artifacts),
            claims: artifact_api.claims(),
            clock: Arc::clone(&service.clock),
            rules: config.retention,
            lost,
        };
        let bereaved = service.clone();
        tasks.spawn(stop_inner.clone().run_until_cancelled_owned(async move {
            while let Some(artifact) = losses.recv().await {
                bereaved.artifact_gone(artifact).await;
            }
        }));
        let grpc_router = sp1_network::router(service.clone(), public_url, endpoints.http.port());
        let http_router = api::artifacts::router(artifact_api).merge(api::facts::router(service.clone())).merge(
            api::worker_socket::router(WorkerSocket {
                service: service.clone(),
                settings: config.session.clone(),
                token: config.worker_token.clone(),
            }),
        );
        tasks.spawn(stop_inner.clone().run_until_cancelled_owned(upkeep.run()));
        if let Err(error) = publish_endpoints(&config.data_directory, &endpoints) {
            // As on a full disk, on which what is there can still be served.
            tracing::warn!("endpoints.json could not be written: {error:#}");
        }
        announce(&config, &endpoints, open);
        tell_manager(NotifyState::Ready);
        let connections = config.limits.connections;
        let ports = async {
            tokio::join!(
                api::serve::serve(grpc, grpc_router, connections, stop.clone()),
                api::serve::serve(http, http_router, connections, stop.clone()),
                async {
                    stop.cancelled().await;
                    tell_manager(NotifyState::Stopping);
                },
            );
            None
        };
        let failure = tokio::select! {
            failure = ports => failure,
            // Nothing can be accepted any more; another start reads what is really on the disk, if it is ours.
            problem = store.stopped() => Some(problem),
        };
        stop_inner.cancel();
        tasks.close();
        if timeout(DRAIN_TIME, tasks.wait()).await.is_err() {
            tracing::warn!("some background work did not finish in time; it is taken up again at the next start");
        }
        if let Some(problem) = failure {
            anyhow::bail!("the database takes no more writes: {problem}");
        }
        tracing::info!("stopped");
        Ok(())
    }
}

/// The circuit whose proofs this program verifies.
const CIRCUIT_VERSION: &str = "sp1-v6.1.0";

fn artifact_limits(config: &Config) -> ArtifactLimits {
    ArtifactLimits {
        program: config.limits.program_bytes,
        stdin: config.limits.stdin_bytes,
        proof: config.limits.proof_bytes,
        ..ArtifactLimits::default()
    }
}

fn announce(config: &Config, endpoints: &Endpoints, open: usize) {
    if config.mock_mode {
        tracing::warn!("mock mode: proofs of mock provers are accepted, and prove nothing");
    }
    if config.allowed_requesters.is_empty() {
        tracing::warn!("everyone who signs may ask for proofs; allowed_requesters closes this network");
    }
    if config.worker_token.is_none() {
        tracing::info!("only contemplants on this machine may join; worker_token opens the network to others");
    }
    tracing::info!(
        grpc = %endpoints.grpc, http = %endpoints.http, data_directory = %config.data_directory.display(),
        open_requests = open, "serving; clients use NETWORK_RPC_URL=http://{}", endpoints.grpc
    );
}

/// The socket that was inherited for this port, or else one that is bound here.
async fn listen(
    sockets: &mut Inherited,
    socket: Socket,
    address: SocketAddr,
    key: &str,
) -> anyhow::Result<TcpListener> {
    let inherited = sockets.take(socket).with_context(|| {
        format!("the socket that was handed over in place of {key} cannot be used; it must be a listening TCP socket")
    })?;
    match inherited {
        Some(socket) => TcpListener::from_std(socket).context("a socket that was handed over cannot be used"),
        None if sockets.count() > 0 => anyhow::bail!(
            "{} socket(s) were handed over (LISTEN_FDS) and none for {key}: give both, grpc first and then http, or name \
             them grpc and http",
            sockets.count()
        ),
        None => bind(address, key).await,
    }
}

async fn bind(address: SocketAddr, key: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| {
        format!(
            "{address} could not be bound: another program may use the port; set {key} or listen_address to another"
        )
    })
}

/// Tells the service manager, if there is one that wants to know.
fn tell_manager(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::warn!(%error, "the service manager could not be told");
    }
}

/// Creates the data directory and takes it for this process alone. The lock ends with the process, however it ends.
fn lock_directory(directory: &Path) -> anyhow::Result<File> {
    let unusable = || format!("the data directory {} could not be used; set data_directory", directory.display());
    // Ids in the database are capabilities, so it is for its owner's eyes.
    DirBuilder::new().recursive(true).mode(0o700).create(directory).with_context(unusable)?;
    let lock = File::create(directory.join("lock")).with_context(unusable)?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => anyhow::bail!(
            "another hierophant uses the data directory {}: stop it, or set data_directory to another",
            directory.display()
        ),
        Err(TryLockError::Error(error)) => Err(error).with_context(unusable),
    }
}

fn publish_endpoints(directory: &Path, endpoints: &Endpoints) -> anyhow::Result<()> {
    let text = serde_json::to_string(endpoints)?;
    let (staged, published) = (directory.join("endpoints.json.new"), directory.join("endpoints.json"));
    let written = std::fs::write(&staged, text).and_then(|()| std::fs::rename(&staged, &published));
    if written.is_err() {
        // Those of an earlier start would send people to a port of someone else.
        let _ = std::fs::remove_file(published);
        let _ = std::fs::remove_file(staged);
    }
    Ok(written?)
}

fn start_verifier(
    config: &VerifierConfig,
    tasks: &TaskTracker,
    stop: CancellationToken,
) -> anyhow::Result<Arc<dyn Verifier>> {
    let command = match &config.program {
        Some(program) => ChildCommand {
            program: program.clone(),
            args: config.args.iter().map(Into::into).collect(),
            env: Vec::new(),
        },
        None => own_verifier()?,
    };
    Ok(Arc::new(VerifierChild::start(command, config.settings, tasks, stop)))
}

#[cfg(feature = "sp1")]
fn own_verifier() -> anyhow::Result<ChildCommand> {
    let program = std::env::current_exe().context("this program's own file could not be found")?;
    Ok(ChildCommand { program, args: vec!["verifier".into()], env: Vec::new() })
}

#[cfg(not(feature = "sp1"))]
fn own_verifier() -> anyhow::Result<ChildCommand> {
    anyhow::bail!("this build has no verifier of its own (feature sp1 is off): set verifier.program")
}
