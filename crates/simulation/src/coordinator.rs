//! The real coordinator, started and crashed again and again over what is durable.
//!
//! A crash aborts its actor, its sessions and its writer. Work that it has begun elsewhere goes no further than the next
//! use of anything outside: [`Life::go_on`] does not return in a coordinator that is dead. So nothing of it has any
//! effect after the crash.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::{Router, body::Body};
use bytes::Bytes;
use hierophant::{
    api::artifacts::{ArtifactApi, ArtifactLimits, router},
    artifacts::{ArtifactFiles, Capabilities},
    clock::SharedClock,
    fleet::{FleetActor, FleetHandle, FleetView, SessionSettings, run_session},
    service::{Ports, Service, ServiceSettings},
    store::SharedStore,
};
use hierophant_core::{FleetSettings, RetryPolicy};
use http::{Request, StatusCode};
use network_lib::CircuitVersion;
use proving::testing::CIRCUIT_VERSION;
use tokio::task::JoinSet;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt as _;

use crate::{
    event::{Event, WorkerIndex},
    files::{LiveFiles, LiveVerifier},
    mix::Sabotage,
    network::{Line, Network},
    store::{LiveStore, run_writer},
    world::{CoordinatorClock, World},
};

/// Whether one coordinator still lives.
#[derive(Clone)]
pub(crate) struct Life {
    world: World,
    dead: CancellationToken,
}

impl Life {
    pub(crate) fn world(&self) -> &World {
        &self.world
    }

    /// Returns at once in a coordinator that lives, and never in a dead one.
    pub(crate) async fn go_on(&self) {
        if self.dead.is_cancelled() {
            std::future::pending::<()>().await;
        }
    }

    /// Takes a random time, and does not return when the coordinator died meanwhile.
    pub(crate) async fn wait(&self, from_millis: u64, to_millis: u64) {
        self.world.pause(from_millis, to_millis).await;
        self.go_on().await;
    }
}

/// A coordinator that serves.
#[derive(Clone)]
struct Serving {
    service: Service,
    fleet: FleetHandle,
    artifacts: Router,
}

/// A coordinator that was started.
struct Started {
    life: Life,
    tasks: JoinSet<()>,
    serving: Option<Serving>,
}

#[derive(Default)]
struct State {
    number: u64,
    started: Option<Started>,
}

/// The place where coordinators run, one at a time.
#[derive(Clone)]
pub(crate) struct Coordinator {
    world: World,
    network: Network,
    state: Arc<Mutex<State>>,
}

/// How often sessions send heartbeats, and which silence ends them: as the program does by default.
pub(crate) fn session_settings() -> SessionSettings {
    SessionSettings { heartbeat_interval: Duration::from_secs(5), silence_limit: Duration::from_secs(30) }
}

impl Coordinator {
    pub(crate) fn new(world: World, network: Network) -> Self {
        Self { world, network, state: Arc::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts a coordinator, unless one runs.
    pub(crate) fn start(&self) {
        let mut state = self.state();
        if state.started.is_some() {
            return;
        }
        state.number += 1;
        let number = state.number;
        let life = Life { world: self.world.clone(), dead: CancellationToken::new() };
        let mut tasks = JoinSet::new();
        let serving = build(&life, &mut tasks);
        let place = self.clone();
        tasks.spawn(async move {
            // As the program does: the ports open when every open request has been announced.
            while serving.service.recover().await.is_err() {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            place.audit(&serving.service).await;
            place.world.tell(Event::CoordinatorStarted { number });
            if let Some(started) = &mut place.state().started {
                started.serving = Some(serving);
            }
        });
        state.started = Some(Started { life, tasks, serving: None });
    }

    /// Every id that was ever acknowledged is still known.
    async fn audit(&self, service: &Service) {
        let ids: Vec<_> = self.world.with_model(|model| model.orders.values().flatten().copied().collect());
        for id in ids {
            if let Ok(request) = service.request(id).await {
                self.world.tell(Event::Seen { id, request });
            }
        }
    }

    /// Crashes the coordinator, if one runs.
    pub(crate) fn crash(&self) {
        let mut state = self.state();
        let number = state.number;
        if let Some(started) = state.started.take() {
            started.life.dead.cancel();
            drop(state);
            self.world.tell(Event::CoordinatorCrashed { number });
            if self.world.has(Sabotage::LostProofs) {
                self.world.files().lose_proofs();
            }
        }
    }

    /// The coordinator, and what ends when it dies. `None` when none serves.
    pub(crate) fn service(&self) -> Option<(CancellationToken, Service)> {
        self.serving().map(|(dead, serving)| (dead, serving.service))
    }

    /// Looks at the fleet. `None` when there is none.
    pub(crate) async fn inspect<T: Send + 'static>(
        &self,
        look: impl FnOnce(&FleetView<'_>) -> T + Send + 'static,
    ) -> Option<T> {
        let (dead, serving) = self.serving()?;
        dead.run_until_cancelled(serving.fleet.inspect(look)).await.flatten()
    }

    /// Sends a request for an artifact. `None` when no answer came.
    pub(crate) async fn fetch(&self, request: Request<Body>) -> Option<(StatusCode, Bytes)> {
        let (dead, serving) = self.serving()?;
        let exchange = async {
            let response = serving.artifacts.oneshot(request).await.expect("routes answer always");
            let status = response.status();
            let body = axum::body::to_bytes(response.into_body(), usize::MAX).await.ok()?;
            Some((status, body))
        };
        dead.run_until_cancelled(exchange).await.flatten()
    }

    fn serving(&self) -> Option<(CancellationToken, Serving)> {
        let state = self.state();
        let started = state.started.as_ref()?;
        Some((started.life.dead.clone(), started.serving.clone()?))
    }

    /// Opens a connection for a worker. `None` when nobody listens.
    pub(crate) fn dial(&self, worker: WorkerIndex) -> Option<Line> {
        let mut state = self.state();
        let started = state.started.as_mut()?;
        let service = started.serving.as_ref()?.service.clone();
        while started.tasks.try_join_next().is_some() {}
        let (line, frames, sink) = self.network.connect(worker);
        let peer = SocketAddr::from(([10, 0, 0, u8::try_from(worker).unwrap_or(0)], 1));
        started.tasks.spawn(run_session(frames, sink, peer, service, session_settings()));
        Some(line)
    }
}

fn build(life: &Life, tasks: &mut JoinSet<()>) -> Serving {
    let world = life.world.clone();
    let (store, writes) = LiveStore::new(life.clone());
    tasks.spawn(run_writer(life.clone(), writes));
    let store = Arc::new(store);
    let clock: SharedClock = Arc::new(CoordinatorClock::new(world.clone()));
    let files: Arc<dyn ArtifactFiles> = Arc::new(LiveFiles(life.clone()));
    let capabilities = Capabilities::new([7; 32]);
    let begun = TaskTracker::new();
    let artifacts = ArtifactApi::new(
        Arc::clone(&files),
        Arc::clone(&store) as Arc<_>,
        capabilities.clone(),
        Arc::clone(&clock),
        ArtifactLimits::default(),
        begun.clone(),
    );
    let (fleet, inbox) = FleetHandle::new();
    let ports = Ports {
        store: store as SharedStore,
        artifacts: files,
        capabilities,
        verifier: Arc::new(LiveVerifier(life.clone())),
        fleet: fleet.clone(),
        clock,
        ids: Arc::new(world),
        tasks: begun,
    };
    let mut retry = RetryPolicy::default();
    if life.world.has(Sabotage::Credulous) {
        retry.guest_reports_needed = 1;
    }
    let settings = ServiceSettings {
        retry,
        mock_mode: true,
        max_deadline: Duration::from_hours(7 * 24),
        max_queued_requests: 1000,
        allowed_requesters: Vec::new(),
        circuit_versions: vec![CircuitVersion::new(CIRCUIT_VERSION)],
    };
    let service = Service::new(ports, settings);
    let mut fleet_settings = FleetSettings::default();
    if life.world.rules().hedges {
        fleet_settings.hedge_before = Some(Duration::from_hours(24));
    }
    if life.world.has(Sabotage::NoGrace) {
        fleet_settings.grace = Duration::ZERO;
    }
    let actor = FleetActor::new(inbox, service.clone(), fleet_settings);
    // Never told to stop: it ends as everything here does, in a crash.
    tasks.spawn(actor.run(CancellationToken::new()));
    Serving { service, fleet, artifacts: router(artifacts) }
}
