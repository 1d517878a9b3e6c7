//! Disks that are full, and disks that fail, beneath real programs that have work in hand.

use std::time::Duration;

use anyhow::ensure;
use libtest_mimic::Trial;
use testbed::{
    clock,
    disk::Disk,
    needs::Need,
    network::{Network, Setup},
    program::until,
};

use super::{
    SOON,
    ledger::Ledger,
    needing,
    scenarios::{check_nothing_lost, gated, prove_on, until_proved},
};

const MIB: usize = 1 << 20;

/// Room that must be left on small disks, by attempts and by whatever is no proof.
const RESERVE: u64 = 8 << 20;

/// The tests.
pub(crate) fn tests() -> Vec<Trial> {
    let here = &[Need::Disks];
    vec![
        needing(here, "a_worker_whose_disk_is_full_takes_nothing_until_there_is_room", worker_full),
        needing(here, "a_proof_waits_on_its_worker_while_the_coordinators_disk_is_full", coordinator_full),
        needing(here, "a_coordinator_whose_disk_fails_says_so_and_goes_on_once_it_is_mended", coordinator_fails),
    ]
}

fn small(contemplants: usize) -> Setup {
    Setup { min_free_disk: RESERVE, keep_free: RESERVE, ..gated(contemplants) }
}

async fn worker_full() -> anyhow::Result<()> {
    let mut network = Network::new(&small(1))?;
    let disk = Disk::small(&network.worker_directory(0).join("state"), 32)?;
    network.put_state_on(&disk, 0);
    network.start().await?;
    let mut ledger = Ledger::new(&network);
    ledger.prepare().await?;
    ledger.until_ready(1).await?;
    for left in [2 * MIB, 0] {
        disk.fill(left)?;
        ledger.until_ready(0).await?;
        ledger.submit().await?;
        let number = ledger.len() - 1;
        let began = clock::now();
        until("it has waited", SOON, async || (began.elapsed() > Duration::from_secs(3)).then_some(())).await?;
        let facts = ledger.facts_of(&ledger.id(number)).await?;
        ensure!(facts["state"] == "queued" && facts["attempts"] == 0, "with {left} bytes left: {facts}");
        disk.clear();
        network.open_gate("gate")?;
        ledger.until_one_fulfilled(number).await?;
        ledger.until_ready(1).await?;
    }
    let strikes = ledger.facts("/contemplants").await?[0]["strikes"].clone();
    ensure!(strikes == 0, "the worker has {strikes} strikes");
    check_nothing_lost(&mut ledger, &network).await
}

async fn coordinator_full() -> anyhow::Result<()> {
    let mut network = Network::new(&Setup { min_free_disk: 0, ..small(1) })?;
    let disk = Disk::small(&network.data(), 48)?;
    network.put_data_on(&disk);
    let mut ledger = prove_on(&mut network, 1).await?;
    disk.fill(0)?;
    network.open_gate("gate")?;
    until_proved(&network, 0).await?;
    // Nothing is asked for that could not be recorded: the worker comes again and again, and keeps it.
    until("the proof could not be recorded", SOON, async || {
        network.hierophant.log().contains("a report was not recorded").then_some(())
    })
    .await?;
    disk.clear();
    check_nothing_lost(&mut ledger, &network).await
}

async fn coordinator_fails() -> anyhow::Result<()> {
    // It is away for as long as an operator takes.
    let mut network = Network::new(&Setup { grace: Duration::from_secs(40), ..small(1) })?;
    let disk = Disk::that_may_fail(&network.data())?;
    network.put_data_on(&disk);
    let mut ledger = prove_on(&mut network, 1).await?;
    disk.fail()?;
    network.open_gate("gate")?;
    until_proved(&network, 0).await?;
    // It may serve what it has, or end: both are honest.
    if network.hierophant.ended()?.is_none() {
        network.hierophant.cut_off()?;
    }
    network.hierophant.start(None)?;
    let status = network.hierophant.until_ended(SOON).await?;
    let words = network.hierophant.last_words();
    ensure!(status.code() == Some(1) && words.contains("could not"), "it ended with {status}: {words}");
    disk.mend()?;
    network.hierophant.start(None)?;
    network.until_serving().await?;
    check_nothing_lost(&mut ledger, &network).await
}
