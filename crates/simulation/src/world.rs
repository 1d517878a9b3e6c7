//! What all parts of a run share: time, chance, the log of events, and what is durable at the coordinator.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use hierophant::{
    clock::Clock,
    ids::Ids,
    store::memory::{Facts, MemoryStore},
};
use hierophant_core::{Moment, Now, Timestamp};
use tokio::time::Instant;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    chance::Chance,
    event::{Event, WorkerIndex},
    files::Files,
    invariants::{Rules, Violation, Witness},
    mix::Sabotage,
    model::Model,
    run::Options,
};

/// When runs begin, by the wall clock: a day in 2027.
const EPOCH: Timestamp = Timestamp::from_secs(1_800_000_000);

/// Troubles that are on or off.
#[derive(Debug, Default)]
pub(crate) struct Weather {
    pub(crate) verifier_is_down: AtomicBool,
    pub(crate) store_is_down: AtomicBool,
    pub(crate) transfers_break: AtomicBool,
    pub(crate) provers_break: AtomicBool,
    /// The worker that lies; 0, the first one, for none.
    pub(crate) liar: AtomicUsize,
}

struct Record {
    model: Model,
    log: Vec<(Duration, Event)>,
    violation: Option<Violation>,
}

struct Shared {
    began: Instant,
    rules: Rules,
    sabotage: Option<Sabotage>,
    chance: Mutex<Chance>,
    record: Mutex<Record>,
    store: MemoryStore,
    files: Files,
    weather: Weather,
    /// How far the coordinator's wall clock is ahead of the true time, in milliseconds.
    skew: AtomicI64,
    /// For how long the coordinator's machine stood still in all, in milliseconds.
    stalled: AtomicU64,
    broken: CancellationToken,
    tasks: TaskTracker,
}

/// The world of one run.
#[derive(Clone)]
pub(crate) struct World(Arc<Shared>);

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl World {
    pub(crate) fn new(options: &Options, workers: usize, rules: Rules) -> Self {
        Self(Arc::new(Shared {
            began: Instant::now(),
            rules,
            sabotage: options.sabotage,
            chance: Mutex::new(Chance::new(options.seed)),
            record: Mutex::new(Record { model: Model::new(workers), log: Vec::new(), violation: None }),
            store: MemoryStore::default(),
            files: Files::default(),
            weather: Weather::default(),
            skew: AtomicI64::new(0),
            stalled: AtomicU64::new(0),
            broken: CancellationToken::new(),
            tasks: TaskTracker::new(),
        }))
    }

    /// What the promises are checked by.
    pub(crate) fn rules(&self) -> &Rules {
        &self.0.rules
    }

    /// Whether there is this defect on purpose.
    pub(crate) fn has(&self, sabotage: Sabotage) -> bool {
        self.0.sabotage == Some(sabotage)
    }

    /// The time since the run began.
    pub(crate) fn elapsed(&self) -> Duration {
        self.0.began.elapsed()
    }

    /// The true time of day, which clients have.
    pub(crate) fn true_time(&self) -> Timestamp {
        EPOCH.plus(self.elapsed())
    }

    /// The time of day that the coordinator's clock shows.
    pub(crate) fn coordinator_time(&self) -> Timestamp {
        let stalled = Duration::from_millis(self.0.stalled.load(Ordering::Relaxed));
        let millis = self.true_time().plus(stalled).as_millis();
        Timestamp::from_millis(millis.saturating_add_signed(self.0.skew.load(Ordering::Relaxed)))
    }

    pub(crate) fn set_clock(&self, millis: i64) {
        self.0.skew.fetch_add(millis, Ordering::Relaxed);
    }

    pub(crate) fn stall(&self, time: Duration) {
        self.0.stalled.fetch_add(u64::try_from(time.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    pub(crate) fn draw<T>(&self, draw: impl FnOnce(&mut Chance) -> T) -> T {
        draw(&mut locked(&self.0.chance))
    }

    /// Waits for a random time.
    pub(crate) async fn pause(&self, from_millis: u64, to_millis: u64) {
        tokio::time::sleep(self.draw(|chance| chance.millis(from_millis, to_millis))).await;
    }

    pub(crate) fn weather(&self) -> &Weather {
        &self.0.weather
    }

    pub(crate) fn files(&self) -> &Files {
        &self.0.files
    }

    pub(crate) fn facts(&self) -> MutexGuard<'_, Facts> {
        self.0.store.facts()
    }

    /// What is durable, for whoever reads it as the coordinator does.
    pub(crate) fn store(&self) -> &MemoryStore {
        &self.0.store
    }

    pub(crate) fn tasks(&self) -> &TaskTracker {
        &self.0.tasks
    }

    /// Ends when a promise was broken.
    pub(crate) fn broken(&self) -> &CancellationToken {
        &self.0.broken
    }

    /// Something happened: it is checked, logged and taken note of. Nothing counts after a broken promise.
    pub(crate) fn tell(&self, event: Event) {
        let now = self.elapsed();
        let mut record = locked(&self.0.record);
        if record.violation.is_some() {
            return;
        }
        let proof = |attempt| self.0.files.proof(attempt);
        let time = self.coordinator_time();
        let witness = Witness { model: &record.model, rules: &self.0.rules, now, proof: &proof, time };
        let checked = witness.check(&event);
        match checked {
            Ok(is_excused) => record.model.apply(&event, now, is_excused),
            Err(violation) => {
                record.violation = Some(violation);
                self.0.broken.cancel();
            }
        }
        record.log.push((now, event));
    }

    /// A promise turned out to be broken that no single event shows.
    pub(crate) fn object(&self, violation: Violation) {
        locked(&self.0.record).violation.get_or_insert(violation);
        self.0.broken.cancel();
    }

    /// Something of a worker reached the coordinator.
    pub(crate) fn touch(&self, worker: WorkerIndex) {
        let now = self.elapsed();
        locked(&self.0.record).model.workers[worker].touch(now);
    }

    pub(crate) fn with_model<T>(&self, look: impl FnOnce(&Model) -> T) -> T {
        look(&locked(&self.0.record).model)
    }

    /// What happened, and what was wrong with it.
    pub(crate) fn take_record(&self) -> (Vec<(Duration, Event)>, Option<Violation>) {
        let mut record = locked(&self.0.record);
        (std::mem::take(&mut record.log), record.violation.clone())
    }
}

impl Ids for World {
    fn fill(&self, bytes: &mut [u8]) {
        self.draw(|chance| chance.fill(bytes));
    }
}

/// The clocks of one coordinator.
pub(crate) struct CoordinatorClock {
    world: World,
    started: u64,
}

impl CoordinatorClock {
    pub(crate) fn new(world: World) -> Self {
        let started = Self::uptime(&world);
        Self { world, started }
    }

    fn uptime(world: &World) -> u64 {
        let elapsed = u64::try_from(world.elapsed().as_millis()).unwrap_or(u64::MAX);
        elapsed + world.0.stalled.load(Ordering::Relaxed)
    }
}

impl Clock for CoordinatorClock {
    fn now(&self) -> Now {
        let moment = Moment::from_millis(Self::uptime(&self.world) - self.started);
        Now { moment, time: self.world.coordinator_time() }
    }
}
