//! Programs on hosts of their own, between which packets are lost: connections whose end nobody is told of, one way
//! alone, links that flap.

use std::{fs, time::Duration};

use anyhow::ensure;
use libtest_mimic::Trial;
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use testbed::{
    clock,
    needs::Need,
    netns::{Lan, Way},
    network::{Network, Setup},
    program::until,
};
use tokio::time::sleep;

use super::{
    SOON,
    ledger::Ledger,
    long_needing, needing,
    scenarios::{check_nothing_lost, gated, holder, prove_on, until_proved},
    storm::{ask_until, busy, check_all, ledgers, seed},
};

/// How much later than at its limit silence may be noticed on a busy machine.
const SLACK: Duration = Duration::from_secs(3);

/// The tests.
pub(crate) fn tests() -> Vec<Trial> {
    let here = &[Need::Hosts];
    vec![
        needing(here, "a_link_that_is_down_for_less_than_the_grace_costs_no_proving", down_and_up),
        needing(here, "a_request_whose_worker_is_away_for_longer_than_the_grace_is_proved_elsewhere", down_for_long),
        needing(here, "a_proof_that_was_made_while_the_link_was_down_is_delivered_afterwards", made_while_down),
        needing(here, "a_worker_that_hears_nothing_and_is_heard_loses_no_attempt", || one_way(Way::In)),
        needing(here, "a_worker_that_hears_and_is_not_heard_loses_no_attempt", || one_way(Way::Out)),
        long_needing(here, "nothing_is_lost_while_packets_are_and_connections_are_reset", lossy),
        long_needing(here, "a_link_that_flaps_costs_at_most_one_attempt_each_grace", flapping),
    ]
}

/// Times for a link that is down for a few seconds: whoever dials into the void tries again seconds later.
fn patient(contemplants: usize) -> Setup {
    Setup { silence_limit: Duration::from_millis(1500), grace: Duration::from_secs(40), ..gated(contemplants) }
}

/// A network of hosts. The switch must outlive it.
fn hosts(setup: &Setup) -> anyhow::Result<(Lan, Network)> {
    let mut lan = Lan::new(u8::try_from(setup.contemplants)?)?;
    let network = Network::on(setup, &mut lan)?;
    Ok((lan, network))
}

/// Waits until worker 0 and the coordinator have both noticed that they do not hear each other.
async fn until_both_noticed(ledger: &mut Ledger, network: &Network, limit: Duration) -> anyhow::Result<()> {
    let began = clock::now();
    let worker = &network.contemplants[0];
    until("the worker has noticed", SOON, async || worker.log().contains("Lost the coordinator at").then_some(()))
        .await?;
    let here = began.elapsed();
    ledger.until_connected("worker 0", false).await?;
    let there = began.elapsed();
    ensure!(there < limit + SLACK, "the worker noticed after {here:?}, both after {there:?}");
    Ok(())
}

async fn down_and_up() -> anyhow::Result<()> {
    let setup = patient(1);
    let (mut lan, mut network) = hosts(&setup)?;
    let mut ledger = prove_on(&mut network, 1).await?;
    lan.worker(0).unplug()?;
    until_both_noticed(&mut ledger, &network, setup.silence_limit).await?;
    lan.worker(0).plug()?;
    ledger.until_connected("worker 0", true).await?;
    network.open_gate("gate")?;
    check_nothing_lost(&mut ledger, &network).await
}

async fn down_for_long() -> anyhow::Result<()> {
    let script = "wait {worker}gate\nprove 1000".to_owned();
    let setup = Setup { script, grace: Duration::from_secs(3), ..patient(2) };
    let (mut lan, mut network) = hosts(&setup)?;
    let mut ledger = prove_on(&mut network, 1).await?;
    let first = holder(&network)?;
    lan.worker(first).unplug()?;
    until("the other worker has begun too", SOON, async || (network.proofs_begun() == 2).then_some(())).await?;
    network.open_gate(&format!("worker-{first}/gate"))?;
    until_proved(&network, first).await?;
    network.open_gate(&format!("worker-{}/gate", 1 - first))?;
    ledger.until_fulfilled().await?;
    ledger.check_proofs().await?;
    lan.worker(first).plug()?;
    ledger.check(&network).await?;
    let attempts = ledger.attempts().await?;
    ensure!(attempts == (2, 1), "attempts and lost ones: {attempts:?}");
    Ok(())
}

async fn made_while_down() -> anyhow::Result<()> {
    let setup = patient(1);
    let (mut lan, mut network) = hosts(&setup)?;
    let mut ledger = prove_on(&mut network, 1).await?;
    lan.worker(0).unplug()?;
    until_both_noticed(&mut ledger, &network, setup.silence_limit).await?;
    network.open_gate("gate")?;
    until_proved(&network, 0).await?;
    lan.worker(0).plug()?;
    check_nothing_lost(&mut ledger, &network).await
}

async fn one_way(way: Way) -> anyhow::Result<()> {
    let setup = patient(1);
    let (mut lan, mut network) = hosts(&setup)?;
    let mut ledger = prove_on(&mut network, 1).await?;
    lan.worker(0).lose(100, way)?;
    until_both_noticed(&mut ledger, &network, setup.silence_limit).await?;
    // What comes through one way alone is no session: it stays away.
    let steady = clock::now();
    let is_back = until("the worker is back", 2 * setup.silence_limit, async || {
        let facts = ledger.facts("/contemplants").await.ok()?;
        (facts[0]["connected"] == true).then_some(steady.elapsed())
    });
    if let Ok(after) = is_back.await {
        anyhow::bail!("a worker that is heard one way alone was taken in again after {after:?}");
    }
    lan.worker(0).lose_nothing()?;
    ledger.until_connected("worker 0", true).await?;
    network.open_gate("gate")?;
    check_nothing_lost(&mut ledger, &network).await
}

async fn lossy() -> anyhow::Result<()> {
    let mut random = StdRng::seed_from_u64(seed());
    let began = clock::now();
    let (mut lan, mut network) = hosts(&busy())?;
    network.start().await?;
    let mut ledgers = ledgers(&network);
    for worker in 0..network.contemplants.len() {
        lan.worker(worker).lose(5, Way::In)?;
        lan.worker(worker).lose(5, Way::Out)?;
    }
    let workers = network.contemplants.len();
    let disturbance = async {
        for _ in 0..20 {
            sleep(Duration::from_secs(3)).await;
            lan.worker(random.random_range(0..workers)).reset_connections()?;
        }
        Ok(())
    };
    ask_until(&mut ledgers, disturbance).await?;
    for worker in 0..workers {
        lan.worker(worker).lose_nothing()?;
    }
    let sums = check_all(&mut ledgers, &network, 0, began).await?;
    ensure!(sums.attempts == sums.requests, "packets and connections that are lost cost attempts");
    Ok(())
}

async fn flapping() -> anyhow::Result<()> {
    let began = clock::now();
    // Down for longer than silence is borne, and away for longer than the grace now and then.
    let setup = Setup { silence_limit: Duration::from_millis(1500), grace: Duration::from_secs(4), ..busy() };
    let (mut lan, mut network) = hosts(&setup)?;
    network.start().await?;
    let mut ledgers = ledgers(&network);
    let disturbance = async {
        for _ in 0..15 {
            sleep(Duration::from_secs(2)).await;
            lan.worker(0).unplug()?;
            sleep(Duration::from_secs(2)).await;
            lan.worker(0).plug()?;
        }
        Ok(())
    };
    ask_until(&mut ledgers, disturbance).await?;
    let flapped = began.elapsed();
    let sums = check_all(&mut ledgers, &network, 0, began).await?;
    let most = flapped.as_secs() / setup.grace.as_secs();
    ensure!(sums.lost <= most, "{} attempts were lost, and {most} are one each grace", sums.lost);
    ensure!(sums.attempts == sums.requests + sums.lost, "attempts failed");
    let starts = |worker: usize| fs::read_to_string(network.worker_directory(worker).join("starts"));
    println!("the worker behind the link began {} proofs", starts(0)?.lines().count());
    Ok(())
}
