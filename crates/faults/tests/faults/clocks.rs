//! Clocks that are wrong, that are set while programs run, and that jump since a machine was suspended.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use libtest_mimic::Trial;
use testbed::{
    clock,
    faketime::FakeClock,
    needs::Need,
    network::{Network, Setup},
    program::until,
};

use super::{
    SOON,
    ledger::Ledger,
    needing,
    scenarios::{check_nothing_lost, gated, prove_on},
};

const TWO_HOURS: i64 = 2 * 3600;

const DAY: i64 = 24 * 3600;

/// How far ahead deadlines lie that no jump passes.
const LONG: Duration = Duration::from_hours(4);

/// The tests.
pub(crate) fn tests() -> Vec<Trial> {
    let here = &[Need::Clocks];
    vec![
        needing(here, "a_coordinators_clock_that_is_set_ahead_and_back_changes_nothing", || set_and_back(TWO_HOURS)),
        needing(here, "a_coordinators_clock_that_is_set_back_and_ahead_changes_nothing", || set_and_back(-TWO_HOURS)),
        needing(here, "a_coordinators_clock_that_stays_ahead_ends_what_is_due_after_a_grace", set_for_good),
        needing(here, "a_coordinator_that_was_suspended_for_hours_loses_no_attempt", suspended),
        needing(here, "a_workers_clock_that_is_a_day_off_has_no_effect", wrong_on_workers),
    ]
}

/// A network whose coordinator goes by a wall clock of its own. One request each worker is being proved, with an hour to
/// go; three wait, with four.
async fn proving(setup: &Setup) -> anyhow::Result<(Network, Ledger, FakeClock)> {
    let mut network = Network::new(setup)?;
    let clock = FakeClock::of_wall(&network.directory().join("clock"))?;
    network.hierophant.set_environment(clock.environment());
    let mut ledger = prove_on(&mut network, setup.contemplants).await?;
    for _ in 0..3 {
        ledger.submit_until(LONG).await?;
    }
    Ok((network, ledger, clock))
}

/// Waits until the coordinator has noticed so many jumps.
async fn until_noticed(network: &Network, jumps: usize) -> anyhow::Result<()> {
    until("the coordinator has noticed that its clock jumped", SOON, async || {
        (network.hierophant.log().matches("the wall clock jumped").count() == jumps).then_some(())
    })
    .await
}

/// Everything that a jump must leave alone: the state of each request, its deadline and its attempts.
async fn facts(ledger: &mut Ledger) -> anyhow::Result<Vec<[serde_json::Value; 4]>> {
    let mut all = Vec::new();
    for number in 0..ledger.len() {
        let facts = ledger.facts_of(&ledger.id(number)).await?;
        all.push(["state", "deadline", "attempts", "lost_attempts"].map(|key| facts[key].clone()));
    }
    Ok(all)
}

async fn require_nobody_left(ledger: &mut Ledger) -> anyhow::Result<()> {
    let departed = ledger.facts("/dead-contemplants").await?;
    ensure!(departed.as_array().is_some_and(Vec::is_empty), "workers left: {departed}");
    Ok(())
}

async fn set_and_back(seconds: i64) -> anyhow::Result<()> {
    let setup = Setup { grace: Duration::from_secs(8), ..gated(2) };
    let (network, mut ledger, wall) = proving(&setup).await?;
    let before = facts(&mut ledger).await?;
    wall.set(seconds)?;
    until_noticed(&network, 1).await?;
    let after = facts(&mut ledger).await?;
    ensure!(before == after, "the jump changed {before:?} to {after:?}");
    wall.set(0)?;
    until_noticed(&network, 2).await?;
    // Whoever was judged by the clock would be by now.
    let began = clock::now();
    until("a grace has passed", SOON, async || (began.elapsed() > setup.grace).then_some(())).await?;
    let after = facts(&mut ledger).await?;
    ensure!(before == after, "the jump back changed {before:?} to {after:?}");
    require_nobody_left(&mut ledger).await?;
    network.open_gate("gate")?;
    check_nothing_lost(&mut ledger, &network).await
}

async fn set_for_good() -> anyhow::Result<()> {
    let setup = Setup { grace: Duration::from_secs(4), ..gated(1) };
    let (network, mut ledger, wall) = proving(&setup).await?;
    let first = ledger.id(0);
    let began = clock::now();
    wall.set(TWO_HOURS)?;
    ledger.until_state(&first, "expired").await?;
    let held = began.elapsed();
    ensure!(held >= setup.grace, "it expired after {held:?}");
    require_nobody_left(&mut ledger).await?;
    network.open_gate("gate")?;
    for number in 1..ledger.len() {
        let id = ledger.id(number);
        ledger.until_state(&id, "fulfilled").await?;
    }
    let attempts = ledger.attempts().await?;
    ensure!(attempts == (4, 0), "attempts and lost ones: {attempts:?}");
    network.require_no_panic()
}

async fn suspended() -> anyhow::Result<()> {
    let mut network = Network::new(&gated(2))?;
    let clock = FakeClock::of_machine(&network.directory().join("clock"))?;
    network.hierophant.set_environment(clock.environment());
    network.start().await?;
    let mut ledger = Ledger::new(&network);
    ledger.prepare().await?;
    ledger.until_idle(2).await?;
    for _ in 0..4 {
        ledger.submit_until(LONG).await?;
    }
    until("all proofs are begun", SOON, async || (network.proofs_begun() == 2).then_some(())).await?;
    network.hierophant.freeze()?;
    clock.set(TWO_HOURS)?;
    until("all workers have noticed", SOON, async || {
        network.contemplants.iter().all(|worker| worker.log().contains("it has said nothing for")).then_some(())
    })
    .await?;
    network.hierophant.thaw()?;
    for worker in ["worker 0", "worker 1"] {
        ledger.until_connected(worker, true).await?;
    }
    network.open_gate("gate")?;
    check_nothing_lost(&mut ledger, &network).await
}

async fn wrong_on_workers() -> anyhow::Result<()> {
    let mut network = Network::new(&gated(2))?;
    for (worker, seconds) in [DAY, -DAY].into_iter().enumerate() {
        let clock = FakeClock::of_wall(&network.worker_directory(worker).join("clock"))?;
        clock.set(seconds)?;
        network.contemplants[worker].set_environment(clock.environment());
    }
    let mut ledger = prove_on(&mut network, 4).await?;
    network.open_gate("gate")?;
    check_nothing_lost(&mut ledger, &network).await?;
    let log = network.contemplants[0].log();
    let (today, logged) = (network.hierophant.log(), log.get(..10).context("a log line")?.to_owned());
    ensure!(!today.starts_with(&logged), "the worker's clock was not wrong: {logged}");
    Ok(())
}
