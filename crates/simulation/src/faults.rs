//! What goes wrong, and when.

use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use tokio::{task::JoinSet, time::sleep};

use crate::{
    coordinator::Coordinator,
    event::Event,
    mix::{Kind, LONG, SHORT},
    network::{Network, Noticed},
    worker::Machine,
    world::World,
};

/// Brings trouble, and takes all of it back in the end.
pub(crate) struct Faults {
    pub(crate) world: World,
    pub(crate) coordinator: Coordinator,
    pub(crate) network: Network,
    pub(crate) machines: Vec<Machine>,
    pub(crate) kinds: BTreeSet<Kind>,
    /// What ends by itself, later.
    lasting: JoinSet<()>,
}

impl Faults {
    pub(crate) fn new(
        world: World,
        coordinator: Coordinator,
        network: Network,
        machines: Vec<Machine>,
        kinds: BTreeSet<Kind>,
    ) -> Self {
        Self { world, coordinator, network, machines, kinds, lasting: JoinSet::new() }
    }

    /// Brings trouble for this long, then mends everything.
    pub(crate) async fn run(mut self, time: Duration) {
        let end = self.world.elapsed() + time;
        let breaks = self.kinds.contains(&Kind::Prover);
        self.world.weather().provers_break.store(breaks, Ordering::Relaxed);
        // The first worker can do everything, and is honest: there is always one that knows better.
        if self.kinds.contains(&Kind::Liar) && self.machines.len() > 1 {
            let liar = 1 + self.world.draw(|chance| chance.below(self.machines.len() - 1));
            self.world.weather().liar.store(liar, Ordering::Relaxed);
        }
        let kinds: Vec<Kind> = self.kinds.iter().copied().filter(|kind| is_of_a_moment(*kind)).collect();
        let pace = self.world.draw(|chance| chance.spread(Duration::from_secs(5), Duration::from_mins(1)));
        while self.world.elapsed() < end {
            let wait = self.world.draw(|chance| chance.spread(Duration::from_millis(200), pace * 2));
            sleep(wait).await;
            if !kinds.is_empty() {
                let kind = self.world.draw(|chance| chance.pick(&kinds));
                self.bring(kind);
            }
            while self.lasting.try_join_next().is_some() {}
        }
        self.mend();
    }

    /// How long a fault lasts.
    fn time(&self, from: Duration) -> Duration {
        let is_long = self.kinds.contains(&Kind::Long) && self.world.draw(|chance| chance.percent(25));
        let longest = if is_long { LONG } else { SHORT };
        self.world.draw(|chance| chance.spread(from, longest))
    }

    fn bring(&mut self, kind: Kind) {
        let world = self.world.clone();
        let machine = self.machines[world.draw(|chance| chance.below(self.machines.len()))].clone();
        let (worker, coordinator, network) = (machine.index, self.coordinator.clone(), self.network.clone());
        let is_silent = world.draw(|chance| chance.percent(30));
        match kind {
            Kind::Restart => {
                let pause = self.time(Duration::from_millis(50));
                if is_silent {
                    self.machines.iter().for_each(|machine| network.silence(machine.index));
                }
                coordinator.crash();
                self.lasting.spawn(async move {
                    sleep(pause).await;
                    coordinator.start();
                });
            }
            Kind::Partition => {
                let time = self.time(Duration::from_secs(1));
                let (up, down) = world.draw(|chance| chance.pick(&[(true, true), (true, false), (false, true)]));
                let workers: Vec<_> = if world.draw(|chance| chance.percent(25)) {
                    self.machines.iter().map(|machine| machine.index).collect()
                } else {
                    vec![worker]
                };
                world.tell(Event::Fault(format!("workers {workers:?} cut off (up {up}, down {down}) for {time:?}")));
                for worker in &workers {
                    network.block(*worker, up, down);
                }
                self.lasting.spawn(async move {
                    sleep(time).await;
                    for worker in workers {
                        network.unblock(worker, up, down);
                    }
                });
            }
            Kind::Cut => {
                let noticed = [Noticed::Both, Noticed::WorkerOnly, Noticed::CoordinatorOnly];
                let noticed = world.draw(|chance| chance.pick(&noticed));
                world.tell(Event::Fault(format!("connection of worker {worker} cut, noticed by {noticed:?}")));
                network.cut(worker, noticed);
            }
            Kind::WorkerCrash => {
                let pause = self.time(Duration::from_millis(500));
                if is_silent {
                    network.silence(worker);
                }
                machine.crash();
                self.lasting.spawn(async move {
                    sleep(pause).await;
                    machine.start();
                });
            }
            Kind::Freeze => {
                let time = self.time(Duration::from_secs(1));
                world.tell(Event::Fault(format!("worker {worker} stands still for {time:?}")));
                machine.freeze(true);
                self.lasting.spawn(async move {
                    sleep(time).await;
                    machine.freeze(false);
                });
            }
            Kind::Transfer => self.lower("transfers", |world| &world.weather().transfers_break),
            Kind::Verifier => self.lower("the verifier", |world| &world.weather().verifier_is_down),
            Kind::Store => self.lower("the store", |world| &world.weather().store_is_down),
            Kind::Stall => {
                let time = world.draw(|chance| chance.spread(Duration::from_secs(6), Duration::from_mins(10)));
                world.stall(time);
                world.tell(Event::Stalled(time));
            }
            Kind::Clock => {
                let time = world.draw(|chance| chance.spread(Duration::from_secs(1), Duration::from_hours(12)));
                let millis = i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
                let millis = if world.draw(|chance| chance.percent(50)) { millis } else { -millis };
                world.tell(Event::Fault(format!("the coordinator's clock is set by {millis} ms")));
                world.set_clock(millis);
            }
            Kind::Prover | Kind::Liar | Kind::Long | Kind::Hedging => {}
        }
    }

    fn lower(&mut self, what: &str, flag: fn(&World) -> &AtomicBool) {
        let time = self.time(Duration::from_secs(1));
        let world = self.world.clone();
        world.tell(Event::Fault(format!("{what} fails for {time:?}")));
        flag(&world).store(true, Ordering::Relaxed);
        self.lasting.spawn(async move {
            sleep(time).await;
            flag(&world).store(false, Ordering::Relaxed);
        });
    }

    fn mend(mut self) {
        self.lasting.abort_all();
        self.network.heal();
        let weather = self.world.weather();
        for flag in
            [&weather.transfers_break, &weather.verifier_is_down, &weather.store_is_down, &weather.provers_break]
        {
            flag.store(false, Ordering::Relaxed);
        }
        weather.liar.store(0, Ordering::Relaxed);
        self.world.tell(Event::Healed);
        self.coordinator.start();
        for machine in &self.machines {
            machine.freeze(false);
            machine.start();
        }
    }
}

/// Whether a fault of this kind is brought at some moment; the others are there all the time.
const fn is_of_a_moment(kind: Kind) -> bool {
    !matches!(kind, Kind::Prover | Kind::Liar | Kind::Long | Kind::Hedging)
}
