//! Chance and load. Each run prints its seed and its figures.
//!
//! `FAULTS_SEED` repeats what was drawn (not how the machine scheduled it); `FAULTS_KILLS` says how often a program is
//! ended.

use std::{
    cell::Cell,
    collections::BTreeSet,
    future::Future,
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use futures_util::future::{try_join, try_join_all};
use libtest_mimic::Trial;
use network_lib::{
    WorkerId,
    protocol::{InHand, Instruction, Stage},
};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use serde_json::{Value, json};
use testbed::{
    clock,
    network::{Network, Setup},
    program::until,
    proxy::Proxy,
    worker::Worker,
};
use tokio::time::sleep;

use super::{
    ledger::{Ledger, check_order, database},
    long,
};

/// Clients that each wait for one proof after the other.
const CLIENTS: usize = 8;

/// The tests.
pub(crate) fn tests() -> Vec<Trial> {
    vec![
        long("nothing_is_lost_while_programs_are_ended_at_random", ended_at_random),
        long("nothing_is_lost_over_a_bad_network", bad_network),
        long("ten_thousand_requests_and_five_hundred_workers_come_over_a_restart", crowd),
    ]
}

fn number(variable: &str) -> Option<u64> {
    std::env::var_os(variable)?.to_str()?.parse().ok()
}

pub(crate) fn seed() -> u64 {
    let seed = number("FAULTS_SEED").unwrap_or_else(rand::random);
    println!("FAULTS_SEED={seed}");
    seed
}

/// Workers that are quick, and have much to do.
pub(crate) fn busy() -> Setup {
    Setup {
        contemplants: 4,
        script: "work 50ms\nprove 100000".to_owned(),
        // A worker that lost the coordinator several times in a row waits for 10 s.
        grace: Duration::from_secs(30),
        ..Setup::default()
    }
}

/// Asks for one proof after the other until it is over.
async fn ask(ledger: &mut Ledger, is_over: &Cell<bool>) -> anyhow::Result<()> {
    ledger.prepare().await?;
    while !is_over.get() {
        ledger.submit().await?;
        ledger.until_one_fulfilled(ledger.len() - 1).await?;
    }
    Ok(())
}

/// Clients that will bear much.
pub(crate) fn ledgers(network: &Network) -> Vec<Ledger> {
    (0..CLIENTS).map(|_| Ledger::new(network).patient()).collect()
}

/// Lets all clients ask until `disturbance` is done.
pub(crate) async fn ask_until(
    ledgers: &mut [Ledger],
    disturbance: impl Future<Output = anyhow::Result<()>>,
) -> anyhow::Result<()> {
    let is_over = Cell::new(false);
    let disturbance = async {
        let outcome = disturbance.await;
        is_over.set(true);
        outcome
    };
    let clients = try_join_all(ledgers.iter_mut().map(|ledger| ask(ledger, &is_over)));
    try_join(disturbance, clients).await.map(drop)
}

/// What all requests together took.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sums {
    pub(crate) requests: u64,
    pub(crate) attempts: u64,
    pub(crate) lost: u64,
}

/// Checks all that was acknowledged, and prints what it took.
pub(crate) async fn check_all(
    ledgers: &mut [Ledger],
    network: &Network,
    crashes: usize,
    began: Instant,
) -> anyhow::Result<Sums> {
    let (mut requests, mut attempts, mut lost) = (0, 0, 0);
    for ledger in &mut *ledgers {
        ledger.until_fulfilled().await?;
        ledger.check_proofs().await?;
        let sums = ledger.attempts().await?;
        (requests, attempts, lost) = (requests + ledger.len() as u64, attempts + sums.0, lost + sums.1);
    }
    ledgers[0].until_idle(network.contemplants.len()).await?;
    check_order(network, crashes).await?;
    println!(
        "{requests} requests, all fulfilled; {attempts} attempts, {lost} of them lost; {} proofs begun; {:.0} s",
        network.proofs_begun(),
        began.elapsed().as_secs_f64()
    );
    Ok(Sums { requests, attempts, lost })
}

async fn ended_at_random() -> anyhow::Result<()> {
    let (mut random, endings) = (StdRng::seed_from_u64(seed()), number("FAULTS_KILLS").unwrap_or(100));
    let began = clock::now();
    let mut network = Network::new(&busy())?;
    network.start().await?;
    let mut ledgers = ledgers(&network);
    let mut crashes = 0;
    let disturbance = async {
        for ending in 0..endings {
            sleep(Duration::from_millis(random.random_range(50..700))).await;
            let workers = network.contemplants.len();
            let chosen = random.random_range(0..=workers);
            let program = network.contemplants.get_mut(chosen).unwrap_or(&mut network.hierophant);
            let by_itself = program.ended()?;
            ensure!(by_itself.is_none(), "{} ended by itself: {}", program.name(), program.last_words());
            program.cut_off().with_context(|| format!("ending {ending}"))?;
            sleep(Duration::from_millis(random.random_range(0..200))).await;
            program.start(None)?;
            if chosen == workers {
                crashes += 1;
                network.until_serving().await?;
            }
        }
        Ok(())
    };
    ask_until(&mut ledgers, disturbance).await?;
    println!("{endings} programs ended, {crashes} of them coordinators");
    check_all(&mut ledgers, &network, crashes, began).await.map(drop)
}

async fn bad_network() -> anyhow::Result<()> {
    let began = clock::now();
    let proxy = Proxy::bind().await?;
    let setup = Setup { behind: Some(proxy.address()?.to_string()), ..busy() };
    let mut network = Network::new(&setup)?;
    let _serving = proxy.serve(network.endpoints().http, seed());
    network.start().await?;
    let mut ledgers = ledgers(&network);
    let disturbance = async {
        sleep(Duration::from_mins(1)).await;
        Ok(())
    };
    ask_until(&mut ledgers, disturbance).await?;
    check_all(&mut ledgers, &network, 0, began).await.map(drop)
}

/// Requests that wait.
const QUEUED: usize = 10_000;

/// Simulated workers, each of which has one attempt and proves nothing.
const WORKERS: usize = 500;

async fn crowd() -> anyhow::Result<()> {
    let usual = Setup::default();
    // Five hundred workers on a machine of two processors are given the times that one would run.
    let times = (Duration::from_secs(5), Duration::from_secs(30), Duration::from_mins(2));
    let (heartbeat, silence_limit, grace) = times;
    let mut network = Network::new(&Setup { contemplants: 0, heartbeat, silence_limit, grace, ..usual })?;
    network.start().await?;
    let mut ledgers: Vec<_> = (0..CLIENTS).map(|_| Ledger::new(&network)).collect();
    let began = clock::now();
    try_join_all(ledgers.iter_mut().map(|ledger| submit_share(ledger, (QUEUED + WORKERS) / CLIENTS))).await?;
    let accepted: usize = ledgers.iter().map(Ledger::len).sum();
    println!("{accepted} requests accepted in {:.1} s", began.elapsed().as_secs_f64());
    let workers = join(&network).await?;

    let is_over = Cell::new(false);
    let clock = async {
        sleep(Duration::from_secs(30)).await;
        is_over.set(true);
        Ok(())
    };
    let ((), calls) = try_join(clock, try_join_all(ledgers.iter_mut().map(|ledger| press(ledger, &is_over)))).await?;
    let (submissions, polls) = calls.iter().fold((0, 0), |sums, (s, p)| (sums.0 + s, sums.1 + p));
    println!("{:.0} submissions and {:.0} polls each second", f64::from(submissions) / 30.0, f64::from(polls) / 30.0);
    let departed = ledgers[0].facts("/dead-contemplants").await?;
    let evictions = departed.as_array().map_or(0, Vec::len);
    println!("{evictions} workers were sent away meanwhile");
    ensure!(evictions == 0, "workers left: {departed}");
    check_held(&mut ledgers[0], &workers).await?;

    network.hierophant.cut_off()?;
    let held: Vec<_> = workers.into_iter().map(|Holding { worker, in_hand }| (worker.id(), in_hand)).collect();
    let began = clock::now();
    network.hierophant.start(None)?;
    network.until_serving().await?;
    let serving = began.elapsed();
    let http = network.endpoints().http;
    let workers = try_join_all(held.into_iter().map(|(id, in_hand)| come_back(id, in_hand, http))).await?;
    check_held(&mut ledgers[0], &workers).await?;
    let back = began.elapsed();
    println!(
        "after the restart: serving in {:.2} s, all workers with their attempts in {:.2} s",
        serving.as_secs_f64(),
        back.as_secs_f64()
    );
    ensure!(serving < Duration::from_secs(10) && back < Duration::from_secs(30), "too late");
    try_join_all(ledgers.iter_mut().map(Ledger::check_known)).await?;
    let attempts = "SELECT count(*), count(ended_at) FROM attempts";
    let (given, ended): (u32, u32) =
        database(&network.data())?.query_row(attempts, (), |row| Ok((row.get(0)?, row.get(1)?)))?;
    ensure!(given as usize == WORKERS && ended == 0, "{given} attempts for {WORKERS} workers, {ended} ended");
    drop(workers);
    network.require_no_panic()
}

/// A simulated worker and the attempt that it has.
struct Holding {
    worker: Worker,
    in_hand: InHand,
}

/// All workers, each once it has an attempt.
async fn join(network: &Network) -> anyhow::Result<Vec<Holding>> {
    try_join_all((0..WORKERS).map(|_| arrive(network.endpoints().http))).await
}

async fn arrive(http: SocketAddr) -> anyhow::Result<Holding> {
    let mut worker = Worker::join(http).await?;
    let Instruction::Assign(assignment) = worker.next().await?.1 else { bail!("it was told something else") };
    let (attempt, request, prover) = (assignment.attempt, assignment.request, assignment.prover);
    Ok(Holding { worker, in_hand: InHand { attempt, request, prover, stage: Stage::Working } })
}

async fn come_back(id: WorkerId, in_hand: InHand, http: SocketAddr) -> anyhow::Result<Holding> {
    Ok(Holding { worker: Worker::join_as(id, vec![in_hand], http).await?, in_hand })
}

/// Waits until every worker is connected and has its own attempt and no other.
async fn check_held(ledger: &mut Ledger, workers: &[Holding]) -> anyhow::Result<()> {
    let pair = |worker: &Value, attempt: &Value| format!("{worker} {attempt}");
    let own: BTreeSet<_> =
        workers.iter().map(|Holding { worker, in_hand }| pair(&json!(worker.id()), &json!(in_hand.attempt))).collect();
    let facts = until("all workers are there with their attempts", Duration::from_secs(30), async || {
        let facts = ledger.facts("/contemplants").await.ok()?;
        let connected: Vec<_> = facts.as_array()?.iter().filter(|worker| worker["connected"] == true).collect();
        let held = |worker: &&Value| {
            let attempts = worker["current_proofs"].as_array().cloned().unwrap_or_default();
            attempts.into_iter().map(|proof| pair(&worker["id"], &proof["attempt"])).collect::<Vec<_>>()
        };
        let held: Vec<_> = connected.iter().flat_map(held).collect();
        (connected.len() == own.len() && held.len() == own.len()).then_some(held)
    });
    ensure!(facts.await?.into_iter().collect::<BTreeSet<_>>() == own, "workers have attempts of others");
    Ok(())
}

async fn submit_share(ledger: &mut Ledger, share: usize) -> anyhow::Result<()> {
    ledger.prepare().await?;
    // One more, since the shares may leave a rest.
    for _ in 0..=share {
        ledger.submit().await?;
    }
    Ok(())
}

/// Submits and polls as fast as one client can, ten polls for each submission. Answers how many of each.
async fn press(ledger: &mut Ledger, is_over: &Cell<bool>) -> anyhow::Result<(u32, u32)> {
    let (mut submissions, mut polls) = (0, 0);
    while !is_over.get() {
        ledger.submit().await?;
        submissions += 1;
        for number in 0..10 {
            ledger.check_one_known(number).await?;
            polls += 1;
        }
    }
    Ok((submissions, polls))
}
