//! Workers: the real core ([`contemplant::agent::hand`]) in a small shell, over a disk that survives.

mod prover;
mod shell;
mod transfer;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use contemplant::journal::Record;
use network_lib::{AttemptId, CircuitVersion, ProofMode, ProverProfile, WorkerId};
use proving::testing::{CIRCUIT_VERSION, ScriptedProver};
use tokio::{sync::watch, task::AbortHandle};

use self::shell::Shell;
use crate::{
    coordinator::Coordinator,
    event::{Event, WorkerIndex},
    network::Network,
    world::World,
};

/// What a worker's journal holds.
#[derive(Debug, Default)]
pub(crate) struct Disk {
    pub(crate) records: BTreeMap<AttemptId, Record>,
    pub(crate) inputs: BTreeMap<AttemptId, Bytes>,
    pub(crate) proofs: BTreeMap<AttemptId, Bytes>,
    /// Provers that are at something.
    pub(crate) busy: usize,
}

pub(crate) type SharedDisk = Arc<Mutex<Disk>>;

pub(crate) fn locked(disk: &SharedDisk) -> MutexGuard<'_, Disk> {
    disk.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The id of a worker tells its place.
pub(crate) fn worker_id(index: WorkerIndex) -> WorkerId {
    WorkerId::new([u8::try_from(index).unwrap_or(u8::MAX); 16])
}

/// A worker's machine.
#[derive(Clone)]
pub(crate) struct Machine {
    pub(crate) index: WorkerIndex,
    world: World,
    coordinator: Coordinator,
    network: Network,
    disk: SharedDisk,
    /// What each prover can do once it is up.
    provers: Arc<[ProverProfile]>,
    is_frozen: watch::Sender<bool>,
    running: Arc<Mutex<Option<AbortHandle>>>,
}

impl Machine {
    pub(crate) fn new(index: WorkerIndex, world: World, coordinator: Coordinator, network: Network) -> Self {
        // Most can do everything; some have two provers, some make core proofs only.
        let (count, is_simple) = world.draw(|chance| (1 + usize::from(chance.percent(30)), chance.percent(25)));
        let modes = if is_simple && index > 0 { vec![ProofMode::Core] } else { ProofMode::ALL.to_vec() };
        let profile = ProverProfile { modes, ..ScriptedProver::profile() };
        let provers = vec![profile; count].into();
        let (is_frozen, running) = (watch::Sender::new(false), Arc::default());
        Self { index, world, coordinator, network, disk: SharedDisk::default(), provers, is_frozen, running }
    }

    /// Starts the worker from its journal, unless it runs.
    pub(crate) fn start(&self) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if running.is_none() {
            self.world.tell(Event::WorkerStarted(self.index));
            let shell = Shell::new(self.clone());
            *running = Some(self.world.tasks().spawn(shell.run()).abort_handle());
        }
    }

    /// Ends the worker at once, with its provers and transfers.
    pub(crate) fn crash(&self) {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(running) = running {
            running.abort();
            locked(&self.disk).busy = 0;
            self.is_frozen.send_replace(false);
            self.world.tell(Event::WorkerCrashed(self.index));
        }
    }

    /// Lets the worker stand still, or go on. Its provers are processes of their own, and do not care.
    pub(crate) fn freeze(&self, is_frozen: bool) {
        self.is_frozen.send_replace(is_frozen);
    }

    /// How many attempts are in hand, and how many provers are at something.
    pub(crate) fn load(&self) -> (usize, usize) {
        let disk = locked(&self.disk);
        (disk.records.len(), disk.busy)
    }

    /// What is said of a prover that is not up.
    fn placeholder(profile: &ProverProfile) -> ProverProfile {
        ProverProfile {
            circuit_version: CircuitVersion::new(""),
            modes: Vec::new(),
            memory_bytes: 0,
            ..profile.clone()
        }
    }
}

/// The circuit of all proofs here.
pub(crate) fn circuit() -> CircuitVersion {
    CircuitVersion::new(CIRCUIT_VERSION)
}
