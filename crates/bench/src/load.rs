//! A number of clients that each call as soon as their last call is answered, and what that took.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Context as _;
use hdrhistogram::Histogram;
use tokio::task::JoinSet;

use crate::{clock, process, report::float, server::Server};

/// One client.
pub(crate) trait Caller: Send + 'static {
    /// Makes call `number`, counted from 0 over all clients.
    fn call(&mut self, number: usize) -> impl Future<Output = anyhow::Result<()>> + Send;
}

/// When a load ends.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// After so many calls.
    pub(crate) count: usize,
    /// After this time.
    pub(crate) time: Duration,
}

/// What a load took.
pub(crate) struct Measured {
    /// In nanoseconds.
    latencies: Histogram<u64>,
    elapsed: Duration,
    server_cpu: Duration,
    own_cpu: Duration,
    machine_cpu: Duration,
    commits: u64,
}

impl Measured {
    pub(crate) fn count(&self) -> u64 {
        self.latencies.len()
    }

    pub(crate) fn rate(&self) -> f64 {
        float(self.count()) / self.elapsed.as_secs_f64()
    }

    pub(crate) fn quantile_ms(&self, quantile: f64) -> f64 {
        float(self.latencies.value_at_quantile(quantile)) / 1e6
    }

    pub(crate) fn server_cpu_ms(&self) -> f64 {
        self.each_ms(self.server_cpu)
    }

    pub(crate) fn own_cpu_ms(&self) -> f64 {
        self.each_ms(self.own_cpu)
    }

    /// How many processors both sides kept busy.
    pub(crate) fn busy(&self) -> f64 {
        (self.server_cpu + self.own_cpu).as_secs_f64() / self.elapsed.as_secs_f64()
    }

    /// How many processors were busy with something else: the figure is only as good as this is small.
    pub(crate) fn busy_elsewhere(&self) -> f64 {
        let elsewhere = self.machine_cpu.saturating_sub(self.server_cpu + self.own_cpu);
        elsewhere.as_secs_f64() / self.elapsed.as_secs_f64()
    }

    /// Transactions of the server's database per call, that is syncs of the disk.
    pub(crate) fn commits_each(&self) -> f64 {
        float(self.commits) / float(self.count().max(1))
    }

    fn each_ms(&self, time: Duration) -> f64 {
        time.as_secs_f64() * 1e3 / float(self.count().max(1))
    }
}

/// Looks at the clocks and the count of commits before and after.
pub(crate) struct Meter<'a> {
    server: &'a Server,
    commits: u64,
    server_cpu: Duration,
    own_cpu: Duration,
    machine_cpu: Duration,
    began: Instant,
}

impl<'a> Meter<'a> {
    pub(crate) async fn start(server: &'a Server) -> anyhow::Result<Self> {
        Ok(Self {
            server,
            commits: server.commits().await?,
            server_cpu: process::tree_cpu(server.pid())?,
            own_cpu: process::own_cpu()?,
            machine_cpu: process::machine_cpu()?,
            began: clock::now(),
        })
    }

    pub(crate) async fn finish(self, latencies: Histogram<u64>) -> anyhow::Result<Measured> {
        let elapsed = self.began.elapsed();
        let server_cpu = process::tree_cpu(self.server.pid())?.saturating_sub(self.server_cpu);
        let own_cpu = process::own_cpu()?.saturating_sub(self.own_cpu);
        let machine_cpu = process::machine_cpu()?.saturating_sub(self.machine_cpu);
        let commits = self.server.commits().await?.saturating_sub(self.commits);
        Ok(Measured { latencies, elapsed, server_cpu, own_cpu, machine_cpu, commits })
    }
}

/// A histogram of nanoseconds.
pub(crate) fn histogram() -> Histogram<u64> {
    Histogram::new(3).expect("three digits are a valid precision")
}

/// Nanoseconds, for a histogram.
pub(crate) fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// Lets the callers call until a bound is reached, and gives them back.
///
/// # Errors
/// The first error of any call, which ends the load.
pub(crate) async fn run<C: Caller>(
    server: &Server,
    callers: Vec<C>,
    bounds: Bounds,
) -> anyhow::Result<(Measured, Vec<C>)> {
    let next = Arc::new(AtomicUsize::new(0));
    let meter = Meter::start(server).await?;
    let until = clock::now() + bounds.time;
    let mut clients = JoinSet::new();
    for mut caller in callers {
        let next = Arc::clone(&next);
        clients.spawn(async move {
            let mut latencies = histogram();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                let began = clock::now();
                if number >= bounds.count || began >= until {
                    return anyhow::Ok((caller, latencies));
                }
                caller.call(number).await?;
                latencies.record(nanos(began.elapsed()))?;
            }
        });
    }
    let mut callers = Vec::new();
    let mut latencies = histogram();
    while let Some(client) = clients.join_next().await {
        let (caller, its) = client.context("a client of the generator")??;
        latencies.add(its)?;
        callers.push(caller);
    }
    Ok((meter.finish(latencies).await?, callers))
}
