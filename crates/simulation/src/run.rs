//! One run, from its seed to its verdict.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    sync::Once,
    time::Duration,
};

use hierophant::fleet::FleetView;
use hierophant_core::RequestState;
use network_lib::RequestId;
use serde::{Deserialize, Serialize};
use tokio::time::sleep;

use crate::{
    client::{self, Order},
    coordinator::{Coordinator, session_settings},
    faults::Faults,
    invariants::{self, Rules, Violation},
    mix::{Kind, Mix, Sabotage},
    network::Network,
    worker::Machine,
    world::World,
};

/// What makes a run what it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Options {
    /// Where all chance comes from.
    pub seed: u64,
    /// Which faults there are.
    pub mix: Mix,
    /// Faults of the mix that are left out.
    #[serde(default)]
    pub without: BTreeSet<Kind>,
    /// A defect on purpose.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sabotage: Option<Sabotage>,
}

impl Options {
    /// The run of this seed in this mix.
    pub fn new(seed: u64, mix: Mix) -> Self {
        Self { seed, mix, without: BTreeSet::new(), sabotage: None }
    }

    /// The faults that there are.
    pub fn kinds(&self) -> BTreeSet<Kind> {
        self.mix.kinds().difference(&self.without).copied().collect()
    }
}

/// What happened in a run, in numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Figures {
    /// Events that were checked.
    pub events: u64,
    /// Crashes of the coordinator.
    pub restarts: u64,
    /// Crashes of workers.
    pub worker_crashes: u64,
    /// Other faults.
    pub faults: u64,
    /// Reports that a good program fails.
    pub lies: u64,
    /// Requests that were accepted.
    pub requests: u64,
    /// Requests that were refused.
    pub refused: u64,
    /// Requests that were fulfilled.
    pub fulfilled: u64,
    /// Proofs that were begun.
    pub provings: u64,
    /// How much time passed in the run.
    pub simulated: Duration,
}

impl Figures {
    /// Adds another run's.
    pub fn add(&mut self, other: &Self) {
        self.events += other.events;
        self.restarts += other.restarts;
        self.worker_crashes += other.worker_crashes;
        self.faults += other.faults;
        self.lies += other.lies;
        self.requests += other.requests;
        self.refused += other.refused;
        self.fulfilled += other.fulfilled;
        self.provings += other.provings;
        self.simulated += other.simulated;
    }
}

/// How a run went.
#[derive(Debug)]
pub struct Outcome {
    /// What made it.
    pub options: Options,
    /// In numbers.
    pub figures: Figures,
    /// The promise that was broken, if one was.
    pub violation: Option<Violation>,
    record: Vec<(Duration, crate::event::Event)>,
}

impl Outcome {
    /// Everything that happened, one line each.
    pub fn log(&self) -> Vec<String> {
        let line = |(at, event): &(Duration, crate::event::Event)| {
            format!("{:>6}.{:03} {event}", at.as_secs(), at.subsec_millis())
        };
        self.record.iter().map(line).collect()
    }
}

/// How long everything may take to come to rest once nothing is broken any more: a prover that hangs holds its request
/// for minutes.
const PATIENCE: Duration = Duration::from_hours(3);

thread_local! {
    /// What the last panic on this thread said: a task that panics ends quietly otherwise.
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}

fn note_panics() {
    static NOTED: Once = Once::new();
    NOTED.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            PANIC.with_borrow_mut(|noted| *noted = Some(panic.to_string()));
            before(panic);
        }));
    });
    PANIC.take();
}

/// Runs one simulation. The same options give the same outcome.
///
/// A part of the network that panics is a broken promise too.
///
/// # Panics
/// When the runtime cannot be built.
pub fn run(options: &Options) -> Outcome {
    note_panics();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without input and output needs nothing");
    let mut outcome = runtime.block_on(Box::pin(simulate(options.clone())));
    drop(runtime);
    if let Some(words) = PANIC.take() {
        outcome.violation = Some(Violation { promise: "no panic".to_owned(), words });
    }
    outcome
}

async fn simulate(options: Options) -> Outcome {
    let kinds = options.kinds();
    let loses_work = [Kind::WorkerCrash, Kind::Freeze, Kind::Prover, Kind::Store, Kind::Hedging];
    let rules = Rules {
        silence_limit: session_settings().silence_limit,
        grace: hierophant_core::FleetSettings::default().grace,
        keeps_work: loses_work.iter().all(|kind| !kinds.contains(kind)),
        hedges: kinds.contains(&Kind::Hedging),
        // Who was here lately when a coordinator starts is told by a clock.
        expects_back: ![Kind::Clock, Kind::Stall].iter().any(|kind| kinds.contains(kind)),
    };
    // The number of workers is drawn apart, since the world needs it.
    let mut chance = crate::chance::Chance::new(!options.seed);
    let (workers, orders) = (1 + chance.below(5), 3 + chance.below(10));
    let troubled = chance.spread(Duration::from_secs(40), Duration::from_mins(6));

    let world = World::new(&options, workers, rules);
    let network = Network::new(world.clone(), workers);
    let coordinator = Coordinator::new(world.clone(), network.clone());
    client::register_program(&world);
    let machine = |index| Machine::new(index, world.clone(), coordinator.clone(), network.clone());
    let machines: Vec<Machine> = (0..workers).map(machine).collect();
    coordinator.start();
    machines.iter().for_each(Machine::start);
    let mut clients = tokio::task::JoinSet::new();
    for index in 0..orders {
        clients.spawn(Order::new(index, &world, &coordinator, troubled).run());
    }
    let faults = Faults::new(world.clone(), coordinator.clone(), network, machines.clone(), kinds);
    let course = async {
        faults.run(troubled).await;
        come_to_rest(&world, &coordinator, &machines, &mut clients).await;
    };
    let course = async {
        tokio::select! {
            biased;
            () = course => {}
            () = look(&world, &coordinator) => {}
        }
    };
    let _ = world.broken().run_until_cancelled(course).await;

    // What holds on to each other is taken apart.
    let figures = world.with_model(|model| model.figures);
    let (record, violation) = world.take_record();
    coordinator.crash();
    machines.iter().for_each(Machine::crash);
    Outcome { options, figures, violation, record }
}

/// Looks at the fleet every few seconds, for as long as there is a run.
async fn look(world: &World, coordinator: &Coordinator) {
    loop {
        sleep(Duration::from_secs(5)).await;
        let leases = coordinator
            .inspect(|view| {
                let workers = view.fleet().workers();
                workers.flat_map(|(_, worker)| worker.leases.values().map(|lease| lease.work.id)).collect::<Vec<_>>()
            })
            .await;
        let most = if world.rules().hedges { 2 } else { 1 };
        let mut held: BTreeMap<RequestId, usize> = BTreeMap::new();
        for request in leases.unwrap_or_default() {
            *held.entry(request).or_default() += 1;
        }
        if let Some((request, count)) = held.into_iter().find(|(_, count)| *count > most) {
            let words = format!("{count} attempts hold request {request} at the same time");
            world.object(Violation { promise: "P5".to_owned(), words });
        }
    }
}

/// Two comparisons of store and fleet, and the time in which a change is left alone.
const NOTICED_AFTER: Duration = Duration::from_secs(45);

/// Whether the fleet knows of everything that waits for long.
async fn require_known(world: &World, coordinator: &Coordinator) {
    let now = world.elapsed();
    let waiting = world.with_model(|model| {
        let waiting = model
            .requests
            .values()
            .filter(|known| known.request.state == RequestState::Queued && known.changed_at + NOTICED_AFTER < now);
        waiting.map(|known| known.request.id).collect::<Vec<_>>()
    });
    let is_unknown = move |view: &FleetView<'_>| {
        let in_work = view.fleet().in_work();
        waiting.into_iter().find(|id| !view.fleet().is_waiting(*id) && !in_work.contains(id))
    };
    let unknown = coordinator.inspect(is_unknown).await;
    // One that was given away while we asked is not waiting any more.
    let is_queued = |id| world.facts().request(id).is_some_and(|request| request.state == RequestState::Queued);
    if let Some(id) = unknown.flatten().filter(|id| is_queued(*id)) {
        let words = format!("request {id} waits, and the fleet does not know of it");
        world.object(Violation { promise: "P6".to_owned(), words });
    }
}

/// Waits until everything has ended, and says what has not.
async fn come_to_rest(
    world: &World,
    coordinator: &Coordinator,
    machines: &[Machine],
    clients: &mut tokio::task::JoinSet<()>,
) {
    let began = world.elapsed();
    let until = began + PATIENCE;
    loop {
        sleep(Duration::from_secs(10)).await;
        if world.elapsed() > began + NOTICED_AFTER {
            require_known(world, coordinator).await;
        }
        while let Some(ended) = clients.try_join_next() {
            ended.expect("clients do not panic");
        }
        let leases = coordinator
            .inspect(|view| view.fleet().workers().map(|(_, worker)| worker.leases.len()).sum::<usize>())
            .await;
        let in_hand: Vec<_> = machines.iter().map(|machine| (machine.index, machine.load().0)).collect();
        let busy = machines.iter().map(|machine| machine.load().1).sum();
        let at_rest = world.with_model(|model| invariants::at_rest(model, leases.unwrap_or(0), &in_hand, busy));
        match at_rest {
            Ok(()) if clients.is_empty() => break,
            Err(violation) if world.elapsed() > until => return world.object(violation),
            Ok(()) if world.elapsed() > until => {
                let words = format!("{} clients still wait", clients.len());
                return world.object(Violation { promise: "P6".to_owned(), words });
            }
            Ok(()) | Err(_) => {}
        }
    }
    audit(world, coordinator).await;
}

/// Every id that was given out is asked for once more, and every proof fetched.
async fn audit(world: &World, coordinator: &Coordinator) {
    let ids: BTreeSet<_> = world.with_model(|model| model.orders.values().flatten().copied().collect());
    for id in ids {
        let Some((_, service)) = coordinator.service() else { return };
        let Ok(request) = service.request(id).await else { continue };
        world.tell(crate::event::Event::Seen { id, request: request.clone() });
        if let Some(request) = request {
            client::download(world, coordinator, &request).await;
        }
    }
}
