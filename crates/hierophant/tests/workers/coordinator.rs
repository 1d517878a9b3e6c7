//! A coordinator on a directory, as the program builds it, but for the verifier, which accepts sealed mock proofs.

use std::{path::Path, sync::Arc, time::Duration};

use hierophant::{
    api::{
        self,
        artifacts::{ArtifactApi, ArtifactLimits},
        worker_socket::WorkerSocket,
    },
    artifacts::{Capabilities, DiskArtifacts},
    clock::{Clock as _, SharedClock, SystemClock},
    fleet::{FleetActor, FleetHandle, SessionSettings},
    ids::RandomIds,
    service::{Ports, Service, ServiceSettings, Submission},
    store::{
        Artifact, Program, SharedStore,
        sqlite::{Settings, SqliteStore},
    },
};
use hierophant_core::{FleetSettings, Request, RequestState, Requester, RetryPolicy, Timestamp, Variant};
use network_lib::{ArtifactId, ArtifactKind, CircuitVersion, Digest, ProofMode, RequestId};
use proving::{
    Verifier,
    testing::{CIRCUIT_VERSION, TestVerifier, key_hashes},
};
use secrecy::SecretString;
use tokio::net::TcpListener;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

const VERIFYING_KEY: &[u8] = b"the verifying key of a program";
const REQUESTER: Requester = Requester::new([7; 20]);

/// A coordinator. Dropped, it stops without a word, as in a crash.
pub(crate) struct Coordinator {
    pub(crate) service: Service,
    pub(crate) address: String,
    tasks: TaskTracker,
    stop: CancellationToken,
    inputs: u8,
}

impl Drop for Coordinator {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Coordinator {
    pub(crate) async fn start(directory: &Path) -> Self {
        Self::start_with(directory, FleetSettings::default(), None).await
    }

    pub(crate) async fn start_with(directory: &Path, fleet_settings: FleetSettings, token: Option<&str>) -> Self {
        Self::start_on(directory, fleet_settings, token, Arc::new(TestVerifier), Arc::new(SystemClock::new())).await
    }

    pub(crate) async fn start_on(
        directory: &Path,
        fleet_settings: FleetSettings,
        token: Option<&str>,
        verifier: Arc<dyn Verifier>,
        clock: SharedClock,
    ) -> Self {
        let store: SharedStore =
            Arc::new(SqliteStore::open(&directory.join("store.sqlite"), &Settings::default()).unwrap());
        let (fleet, inbox) = FleetHandle::new();
        let tasks = TaskTracker::new();
        let settings = ServiceSettings {
            retry: RetryPolicy::default(),
            mock_mode: true,
            max_deadline: Duration::from_hours(24),
            max_queued_requests: 1000,
            allowed_requesters: Vec::new(),
            circuit_versions: vec![CircuitVersion::new(CIRCUIT_VERSION)],
        };
        let ports = Ports {
            store: Arc::clone(&store),
            artifacts: Arc::new(DiskArtifacts::open(directory.join("artifacts"), 0).unwrap()),
            capabilities: Capabilities::new([7; 32]),
            verifier,
            fleet,
            clock: Arc::clone(&clock),
            ids: Arc::new(RandomIds),
            tasks: tasks.clone(),
        };
        let artifacts = ArtifactApi::new(
            Arc::clone(&ports.artifacts),
            Arc::clone(&store) as Arc<_>,
            ports.capabilities.clone(),
            clock,
            ArtifactLimits::default(),
            tasks.clone(),
        );
        let service = Service::new(ports, settings);
        let stop = CancellationToken::new();
        tasks.spawn(FleetActor::new(inbox, service.clone(), fleet_settings).run(stop.clone()));
        service.recover().await.unwrap();
        let socket = WorkerSocket {
            service: service.clone(),
            settings: SessionSettings {
                heartbeat_interval: Duration::from_secs(1),
                silence_limit: fleet_settings.silence_limit,
            },
            token: token.map(SecretString::from),
        };
        let router = api::artifacts::router(artifacts)
            .merge(api::facts::router(service.clone()))
            .merge(api::worker_socket::router(socket));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        tasks.spawn(api::serve::serve(listener, router, 1000, stop.clone()));
        Self { service, address, tasks, stop, inputs: 0 }
    }

    /// Stops, and starts again on the same directory; workers' sockets are cut.
    pub(crate) async fn restart(self, directory: &Path) -> Self {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        let inputs = self.inputs;
        drop(self);
        let mut next = Self::start(directory).await;
        next.inputs = inputs;
        next
    }

    /// A core proof is asked for, with an input of its own.
    pub(crate) async fn submit(&mut self) -> RequestId {
        self.submit_mode(ProofMode::Core).await
    }

    pub(crate) async fn submit_mode(&mut self, mode: ProofMode) -> RequestId {
        self.submit_with(mode, ArtifactKind::Stdin).await
    }

    /// The same with an input that only its prover may see.
    pub(crate) async fn submit_private(&mut self) -> RequestId {
        self.submit_with(ProofMode::Core, ArtifactKind::PrivateStdin).await
    }

    pub(crate) async fn cancel(&self, id: RequestId) {
        self.service.cancel(id, REQUESTER).await.unwrap();
    }

    async fn submit_with(&mut self, mode: ProofMode, kind: ArtifactKind) -> RequestId {
        self.inputs += 1;
        let now = now();
        let program = ArtifactId::new(ArtifactKind::Program, [1; 16]);
        let stdin = ArtifactId::new(kind, [self.inputs; 16]);
        let store = self.store();
        for id in [program, stdin] {
            let digest = Digest::of(id.to_string().as_bytes());
            let artifact = Artifact { id, owner: Some(REQUESTER), digest, size: 100, created_at: now };
            store.record_artifact(artifact).await.unwrap();
        }
        let vk_hash = Digest::new(key_hashes(VERIFYING_KEY).field);
        let verifying_key = VERIFYING_KEY.to_vec();
        store
            .register_program(Program { vk_hash, verifying_key, program, owner: REQUESTER, created_at: now })
            .await
            .unwrap();
        let submission = Submission {
            requester: REQUESTER,
            vk_hash,
            circuit_version: CircuitVersion::new(CIRCUIT_VERSION),
            mode,
            stdin,
            deadline: now.plus(Duration::from_hours(4)),
            cycle_limit: u64::MAX,
            gas_limit: 0,
            public_values_hash: None,
            is_stdin_private: kind == ArtifactKind::PrivateStdin,
            variant: Variant::Base,
            strategy: 2,
            fingerprint: Digest::new([self.inputs; 32]),
        };
        self.service.submit(submission).await.unwrap().id
    }

    pub(crate) fn store(&self) -> SharedStore {
        self.service.store()
    }

    pub(crate) async fn request(&self, id: RequestId) -> Arc<Request> {
        self.store().request(id).await.unwrap().unwrap()
    }

    /// Waits until the request is in a state like this.
    pub(crate) async fn wait_for(&self, id: RequestId, is_like: impl Fn(&RequestState) -> bool) -> RequestState {
        loop {
            let request = self.request(id).await;
            if is_like(&request.state) {
                return request.state.clone();
            }
            tokio::task::yield_now().await;
        }
    }

    pub(crate) async fn wait_fulfilled(&self, id: RequestId) -> RequestState {
        self.wait_for(id, |state| matches!(state, RequestState::Fulfilled { .. })).await
    }

    /// The page of a request that waits, once it says why.
    pub(crate) async fn wait_for_reason(&self, id: RequestId) -> serde_json::Value {
        loop {
            let page = self.facts(&format!("/requests/{id}")).await;
            if page["waiting"].is_string() {
                return page;
            }
        }
    }

    /// What a page of facts says.
    pub(crate) async fn facts(&self, path: &str) -> serde_json::Value {
        let url = format!("http://{}{path}", self.address);
        reqwest::get(url).await.unwrap().error_for_status().unwrap().json().await.unwrap()
    }
}

fn now() -> Timestamp {
    SystemClock::new().now().time
}
