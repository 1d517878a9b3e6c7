//! Programs that come to be elsewhere: the attempt in hand survives.

use std::{fs, net::SocketAddr, path::Path, time::Duration};

use anyhow::ensure;
use libtest_mimic::Trial;
use testbed::{
    needs::Need,
    netns::Lan,
    network::{Network, Setup, free_port},
    program::until,
    server::Endpoints,
};

use super::{
    SOON, needing,
    scenarios::{check_nothing_lost, gated, prove_on},
    short,
};

/// What workers call the coordinator.
const NAME: &str = "coordinator.test";

/// The tests.
pub(crate) fn tests() -> Vec<Trial> {
    let here = &[Need::Hosts];
    vec![
        needing(here, "a_worker_whose_address_changes_goes_on_with_its_attempt", worker_moves),
        needing(here, "workers_find_a_coordinator_whose_name_comes_to_mean_another_address", coordinator_moves),
        short("a_worker_that_is_told_of_another_port_takes_its_attempt_there", worker_is_told),
    ]
}

fn patient() -> Setup {
    Setup { silence_limit: Duration::from_millis(1500), grace: Duration::from_secs(40), ..gated(1) }
}

async fn worker_moves() -> anyhow::Result<()> {
    let mut lan = Lan::new(1)?;
    let mut network = Network::on(&patient(), &mut lan)?;
    let mut ledger = prove_on(&mut network, 1).await?;
    let before = ledger.facts("/contemplants").await?[0]["ip"].clone();
    lan.worker(0).readdress(99)?;
    // It may be back before the coordinator has noticed that it was away.
    until("the worker is at its new address", SOON, async || {
        let worker = ledger.facts("/contemplants").await.ok()?[0].take();
        (worker["connected"] == true && worker["ip"] != before).then_some(())
    })
    .await?;
    network.open_gate("gate")?;
    check_nothing_lost(&mut ledger, &network).await
}

/// Writes where the name leads.
fn write_hosts(file: &Path, coordinator: SocketAddr) -> anyhow::Result<()> {
    Ok(fs::write(file, format!("127.0.0.1 localhost\n{} {NAME}\n", coordinator.ip()))?)
}

async fn coordinator_moves() -> anyhow::Result<()> {
    let mut lan = Lan::new(1)?;
    let setup = Setup { behind: Some(format!("{NAME}:9010")), ..patient() };
    let mut network = Network::on(&setup, &mut lan)?;
    let hosts = network.directory().join("hosts");
    write_hosts(&hosts, network.endpoints().http)?;
    // The program sees this file in place of the machine's own.
    let script = "mount --bind \"$0\" /etc/hosts && exec \"$@\"";
    let mut launcher = lan.worker(0).launcher();
    launcher.extend(["unshare", "-m", "sh", "-c", script].map(str::to_owned));
    launcher.push(hosts.display().to_string());
    network.contemplants[0].set_launcher(launcher);
    let mut ledger = prove_on(&mut network, 1).await?;

    // The old address is gone with all its connections: nobody is told.
    lan.coordinator().unplug()?;
    network.hierophant.cut_off()?;
    lan.coordinator().readdress(7)?;
    lan.coordinator().plug()?;
    let (host, Endpoints { grpc, http }) = (lan.coordinator().address().into(), *network.endpoints());
    let moved = |address: SocketAddr| SocketAddr::new(host, address.port());
    network.move_coordinator(Endpoints { grpc: moved(grpc), http: moved(http) })?;
    network.hierophant.start(None)?;
    network.until_serving().await?;
    write_hosts(&hosts, network.endpoints().http)?;
    ledger.find(&network);
    ledger.until_connected("worker 0", true).await?;
    network.open_gate("gate")?;
    check_nothing_lost(&mut ledger, &network).await
}

async fn worker_is_told() -> anyhow::Result<()> {
    let mut network = Network::new(&gated(1))?;
    let mut ledger = prove_on(&mut network, 1).await?;
    network.hierophant.cut_off()?;
    network.move_coordinator(Endpoints { grpc: free_port()?, http: free_port()? })?;
    network.hierophant.start(None)?;
    network.until_serving().await?;
    network.contemplants[0].cut_off()?;
    network.tell_worker(0)?;
    network.contemplants[0].start(None)?;
    ledger.find(&network);
    until("the proof is begun again", SOON, async || (network.proofs_begun() == 2).then_some(())).await?;
    network.open_gate("gate")?;
    ledger.check(&network).await?;
    let attempts = ledger.attempts().await?;
    ensure!(attempts == (1, 0), "attempts and lost ones: {attempts:?}");
    Ok(())
}
