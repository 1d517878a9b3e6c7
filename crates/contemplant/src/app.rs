//! The worker as a whole: what it is built from, and how it stops.

use std::{path::PathBuf, time::Duration};

use anyhow::Context as _;
use network_lib::{Backend, WorkerId};
use proving::Memory;
use tokio::time::timeout;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    agent::{Agent, AgentHandle, AgentParts, Identity},
    artifacts::{ArtifactClient, Patience},
    config::{
        Config,
        provers::{ProverConfig, ProverProgram},
    },
    gpu,
    inputs::InputCache,
    journal::Journal,
    programs::ProgramCache,
    provers::{ProverPort, decide_spares},
    session::{self, Endpoint, Pace},
    snark::{self, Snarks},
    state::StateDirectory,
};

/// How long the coordinator may take to hear that this worker leaves.
const FAREWELL_LIMIT: Duration = Duration::from_secs(1);
/// How long children and transfers may take to end.
const END_LIMIT: Duration = Duration::from_secs(4);

/// A worker that is ready to run.
#[derive(Debug)]
pub struct App {
    config: Config,
    pace: Pace,
    /// Held so that no other contemplant works here.
    _state: StateDirectory,
    identity: Identity,
    endpoint: Endpoint,
    journal: Journal,
    records: Vec<crate::journal::Record>,
    artifacts: ArtifactClient,
    programs: ProgramCache,
    inputs: InputCache,
    /// Where downloaded GPU servers are kept.
    gpu_servers: PathBuf,
    /// Where provers put temporary files.
    scratch: PathBuf,
}

impl App {
    /// Opens the state directory and reads the journal. Starts nothing.
    ///
    /// # Errors
    /// When the state directory is in use or unusable, or TLS cannot be set up.
    pub fn build(config: Config, pace: Pace, patience: Patience) -> anyhow::Result<Self> {
        // Fails when a provider is chosen already, which is as good.
        drop(rustls::crypto::ring::default_provider().install_default());
        let state = StateDirectory::open(&config.storage.state_directory)?;
        let identity = Identity {
            id: state.worker_id()?,
            name: match &config.coordinator.name {
                Some(name) => name.clone(),
                None => state.drawn_name()?,
            },
            magister_drop_endpoint: config.coordinator.magister_drop_endpoint.clone(),
        };
        let (journal, records) = Journal::open(&state.attempts())?;
        let token = config.coordinator.token.clone();
        let artifacts = ArtifactClient::new(config.coordinator.http_address(), token.clone(), patience)
            .context("cannot set up HTTP")?;
        let programs = ProgramCache::new(state.programs(), config.storage.max_program_cache_bytes.as_u64());
        let inputs = InputCache::open(state.inputs(), config.storage.max_input_cache_bytes.as_u64())
            .context("cannot empty the directory of inputs that were fetched ahead")?;
        let endpoint = Endpoint { url: config.coordinator.ws_address.clone(), token };
        let (gpu_servers, scratch) = (state.gpu_servers(), state.scratch()?);
        Ok(Self {
            config,
            pace,
            _state: state,
            identity,
            endpoint,
            journal,
            records,
            artifacts,
            programs,
            inputs,
            gpu_servers,
            scratch,
        })
    }

    /// The id of this worker.
    pub fn worker_id(&self) -> WorkerId {
        self.identity.id
    }

    /// The SNARKs that can be offered; nobody is asked where no prover would make one.
    async fn snarks(&self, provers: &[ProverConfig]) -> Snarks {
        let has = |backend| {
            let is_own = |prover: &&ProverConfig| !matches!(prover.program, ProverProgram::External { .. });
            provers.iter().filter(is_own).any(|prover| prover.backend == backend)
        };
        let (on_processor, on_gpus) = (has(Backend::Cpu), has(Backend::Gpu));
        let config = self.config.snark.clone();
        let looking = tokio::task::spawn_blocking(move || {
            let memory = Memory::look();
            let offered = |is_gnark_linked| snark::offered(&config, &memory, is_gnark_linked);
            Snarks {
                cpu: if on_processor { offered(snark::IS_GNARK_LINKED) } else { Vec::new() },
                gpu: if on_gpus { offered(true) } else { Vec::new() },
            }
        });
        looking.await.unwrap_or_default()
    }

    /// Works until `stop`, and then ends cleanly: what is in hand stays in the journal.
    ///
    /// # Errors
    /// When an operator must act: the coordinator is of another version.
    pub async fn run(self, stop: CancellationToken) -> anyhow::Result<()> {
        tracing::info!(
            worker.id = %self.identity.id, worker.name = %self.identity.name, in_hand = self.records.len(),
            "This is contemplant {}, working for {}", network_lib::CONTEMPLANT_VERSION, self.endpoint.url
        );
        match tokio::task::spawn_blocking(proving::sweep_shared_memory).await {
            Ok(0) | Err(_) => {}
            Ok(count) => tracing::info!(count, "Removed shared memory that provers of an earlier run left behind"),
        }
        let tracker = TaskTracker::new();
        // The agent ends before its provers do: it must not take their end for a fault of theirs.
        let (session_stop, agent_stop, provers_stop) =
            (CancellationToken::new(), CancellationToken::new(), CancellationToken::new());
        let mut provers = self.config.provers.clone();
        provers.extend(gpu::provers(&self.config.gpu, provers.len(), &self.gpu_servers).await?);
        let snarks = self.snarks(&provers).await;
        let memory = tokio::task::spawn_blocking(|| Memory::look().allowed()).await.unwrap_or_default();
        decide_spares(&mut provers, memory);
        let start = |config| ProverPort::start(config, &snarks, &self.scratch, &tracker, &provers_stop);
        let provers = provers.iter().map(start).collect();
        let parts = AgentParts {
            identity: self.identity,
            journal: self.journal,
            records: self.records,
            artifacts: self.artifacts,
            programs: self.programs,
            inputs: self.inputs,
            min_free_disk: self.config.storage.min_free_disk_bytes.as_u64(),
            provers,
        };
        let (agent, agent_running) = Agent::start(parts, &tracker, agent_stop.clone());

        let mut session = std::pin::pin!(session::run(&self.endpoint, &agent, self.pace, &session_stop));
        let outcome = tokio::select! {
            outcome = &mut session => outcome,
            outcome = async {
                stop.cancelled().await;
                drain(&agent, self.config.drain_timeout).await;
                session_stop.cancel();
                std::future::pending().await
            } => outcome,
        };
        session_stop.cancel();
        agent_stop.cancel();
        let is_agent_ended = timeout(END_LIMIT, agent_running).await.is_ok();
        provers_stop.cancel();
        tracker.close();
        let are_provers_ended = timeout(END_LIMIT, tracker.wait()).await.is_ok();
        if !(is_agent_ended && are_provers_ended) {
            tracing::warn!("Something did not end in time and is left behind");
        }
        outcome?;
        tracing::info!("Stopped");
        Ok(())
    }
}

/// Says goodbye, and waits up to `limit` for what is in hand.
async fn drain(agent: &AgentHandle, limit: Duration) {
    let Ok((told, empty)) = agent.drain().await else { return };
    // Without a session there is nobody to tell.
    drop(timeout(FAREWELL_LIMIT, told).await);
    if !limit.is_zero() && timeout(limit, empty).await.is_err() {
        tracing::info!("Not everything was done within {limit:?}; the rest stays in the journal");
    }
}
