//! A coordinator without workers, in this process, with a clock that the test sets.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use hierophant::{
    api,
    artifacts::{Capabilities, DiskArtifacts, PublicUrl},
    clock::Clock,
    fleet::{FleetActor, FleetHandle},
    ids::RandomIds,
    service::{Ports, Service, ServiceSettings},
    store::{
        Artifact, SharedStore,
        sqlite::{Settings, SqliteStore},
    },
};
use hierophant_core::{
    Change, FleetSettings, Moment, Now, Request, Requester, RetryPolicy, Timestamp, TransitionError,
};
use network_lib::{ArtifactId, CircuitVersion, Digest, RequestId};
use proving::testing::{CIRCUIT_VERSION, TestVerifier};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

use crate::client::Client;

/// The time at the start of every test.
pub(crate) const START: Timestamp = Timestamp::from_secs(1_900_000_000);

/// The port that artifacts are said to be on.
pub(crate) const HTTP_PORT: u16 = 9010;

/// Tells the time that the test set.
pub(crate) struct TestClock(AtomicU64);

impl Clock for TestClock {
    fn now(&self) -> Now {
        let millis = self.0.load(Ordering::SeqCst);
        Now { moment: Moment::from_millis(millis - START.as_millis()), time: Timestamp::from_millis(millis) }
    }
}

/// A coordinator without workers. It stops when dropped.
pub(crate) struct Network {
    pub(crate) store: SharedStore,
    pub(crate) url: String,
    clock: Arc<TestClock>,
    _directory: TempDir,
    _stop: DropGuard,
}

impl Network {
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| ()).await
    }

    pub(crate) async fn start_with(change: impl FnOnce(&mut ServiceSettings)) -> Self {
        Self::start_on(0, change).await
    }

    /// One whose disk has less room than it should keep free for proofs.
    pub(crate) async fn start_on_a_full_disk() -> Self {
        Self::start_on(u64::MAX, |_| ()).await
    }

    async fn start_on(keep_free: u64, change: impl FnOnce(&mut ServiceSettings)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store: SharedStore =
            Arc::new(SqliteStore::open(&directory.path().join("store.sqlite"), &Settings::default()).unwrap());
        let clock = Arc::new(TestClock(AtomicU64::new(START.as_millis())));
        let (fleet, inbox) = FleetHandle::new();
        let tasks = TaskTracker::new();
        let mut settings = ServiceSettings {
            retry: RetryPolicy::default(),
            mock_mode: true,
            max_deadline: Duration::from_hours(7 * 24),
            max_queued_requests: 1000,
            allowed_requesters: Vec::new(),
            circuit_versions: vec![CircuitVersion::new(CIRCUIT_VERSION)],
        };
        change(&mut settings);
        let ports = Ports {
            store: Arc::clone(&store),
            artifacts: Arc::new(DiskArtifacts::open(directory.path().join("artifacts"), keep_free).unwrap()),
            capabilities: Capabilities::new([7; 32]),
            verifier: Arc::new(TestVerifier),
            fleet,
            clock: Arc::clone(&clock) as Arc<dyn Clock>,
            ids: Arc::new(RandomIds),
            tasks: tasks.clone(),
        };
        let service = Service::new(ports, settings);
        let stop = CancellationToken::new();
        tasks.spawn(FleetActor::new(inbox, service.clone(), FleetSettings::default()).run(stop.clone()));
        let router = api::sp1_network::router(service, PublicUrl::default(), HTTP_PORT);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tasks.spawn(api::serve::serve(listener, router, 1000, stop.clone()));
        Self { store, url, clock, _directory: directory, _stop: stop.drop_guard() }
    }

    /// A client with this key.
    pub(crate) async fn client(&self, key: u8) -> Client {
        Client::connect(&self.url, key).await
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now().time
    }

    pub(crate) fn advance(&self, by: Duration) {
        self.clock.0.fetch_add(u64::try_from(by.as_millis()).unwrap(), Ordering::SeqCst);
    }

    /// Acts as if `bytes` bytes had been uploaded.
    pub(crate) async fn record_upload(&self, uri: &str, owner: Requester, bytes: u64) {
        let id: ArtifactId = uri.parse().unwrap();
        let artifact =
            Artifact { id, owner: Some(owner), digest: Digest::of(uri.as_bytes()), size: bytes, created_at: START };
        self.store.record_artifact(artifact).await.unwrap();
    }

    /// The request as it is stored.
    pub(crate) async fn stored(&self, id: &[u8]) -> Arc<Request> {
        self.store.request(RequestId::try_from(id).unwrap()).await.unwrap().unwrap()
    }

    /// Changes a request as a worker's report would.
    pub(crate) async fn change(
        &self,
        id: &[u8],
        decide: impl FnOnce(&Request, Timestamp) -> Result<Change, TransitionError>,
    ) -> Arc<Request> {
        let change = decide(&*self.stored(id).await, self.now()).unwrap();
        self.store.write(change).await.unwrap()
    }
}
