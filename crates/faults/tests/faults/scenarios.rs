//! Single stories: who is ended, frozen or cut off, and what that may cost.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use libtest_mimic::Trial;
use testbed::{
    network::{Network, Setup},
    program::{Program, until},
    proxy::Proxy,
};

use super::{SOON, ledger::Ledger, short};

/// A prover that waits until the network's gate is open.
const GATED: &str = "wait {network}/gate\nprove 1000";

/// The tests.
pub(crate) fn tests() -> Vec<Trial> {
    vec![
        short("a_coordinator_that_is_cut_off_costs_no_proving", coordinator_cut_off),
        short("a_worker_that_is_cut_off_while_proving_takes_its_attempt_up_again", worker_cut_off_while_proving),
        short("a_proof_that_was_made_before_its_worker_was_cut_off_is_not_made_again", worker_cut_off_with_proof),
        short("a_late_proof_of_a_frozen_worker_counts_and_the_other_worker_stops", worker_frozen),
        short("a_frozen_coordinator_loses_no_attempt_and_no_worker", coordinator_frozen),
        short("a_coordinator_and_workers_that_are_frozen_together_lose_no_attempt", several_frozen),
        short("half_the_fleet_that_is_ended_at_once_takes_its_attempts_up_again", half_the_fleet_ended),
        short("a_worker_that_reads_nothing_delays_nobody_else", worker_deaf),
        short("a_proof_crosses_a_line_that_breaks_every_few_megabytes_about_once", line_that_breaks),
        short("a_request_that_is_sent_again_after_a_restart_has_the_same_id", sent_again),
    ]
}

pub(crate) fn gated(contemplants: usize) -> Setup {
    Setup { contemplants, script: GATED.to_owned(), ..Setup::default() }
}

/// A network in which so many requests are being proved, as far as their gate.
async fn proving(setup: &Setup, requests: usize) -> anyhow::Result<(Network, Ledger)> {
    let mut network = Network::new(setup)?;
    let ledger = prove_on(&mut network, requests).await?;
    Ok((network, ledger))
}

/// Starts a network, and waits until so many requests are being proved.
pub(crate) async fn prove_on(network: &mut Network, requests: usize) -> anyhow::Result<Ledger> {
    network.start().await?;
    let mut ledger = Ledger::new(network);
    ledger.prepare().await?;
    ledger.until_idle(network.contemplants.len()).await?;
    for _ in 0..requests {
        ledger.submit().await?;
    }
    let all = requests.min(network.contemplants.len());
    until("all proofs are begun", SOON, async || (network.proofs_begun() == all).then_some(())).await?;
    Ok(ledger)
}

/// Checks what was acknowledged, and that no proving was lost on the way: one proof, one attempt for each request.
pub(crate) async fn check_nothing_lost(ledger: &mut Ledger, network: &Network) -> anyhow::Result<()> {
    ledger.check(network).await?;
    let (requests, begun) = (ledger.len(), network.proofs_begun());
    ensure!(begun == requests, "{begun} proofs were begun for {requests} requests");
    let attempts = ledger.attempts().await?;
    ensure!(attempts == (requests as u64, 0), "attempts and lost ones: {attempts:?}");
    for worker in &network.contemplants {
        ensure!(!worker.log().contains("evicted this worker"), "{} was evicted", worker.name());
    }
    Ok(())
}

/// Waits until a worker has a proof in its journal.
pub(crate) async fn until_proved(network: &Network, worker: usize) -> anyhow::Result<()> {
    let attempts = network.worker_state(worker).join("attempts");
    until("the proof is in the journal", SOON, async || {
        let attempt = std::fs::read_dir(&attempts).ok()?.next()?.ok()?;
        let record = std::fs::read_to_string(attempt.path().join("attempt.json")).ok()?;
        record.contains("\"proved\"").then_some(())
    })
    .await
}

/// Whose prover has begun.
pub(crate) fn holder(network: &Network) -> anyhow::Result<usize> {
    let has_begun = |number: &usize| network.worker_directory(*number).join("starts").exists();
    (0..network.contemplants.len()).find(has_begun).context("nobody has begun")
}

async fn coordinator_cut_off() -> anyhow::Result<()> {
    let (mut network, mut ledger) = proving(&gated(4), 4).await?;
    network.hierophant.cut_off()?;
    network.hierophant.start(None)?;
    network.until_serving().await?;
    network.open_gate("gate")?;
    check_nothing_lost(&mut ledger, &network).await
}

async fn worker_cut_off_while_proving() -> anyhow::Result<()> {
    let (mut network, mut ledger) = proving(&gated(1), 1).await?;
    network.contemplants[0].cut_off()?;
    network.contemplants[0].start(None)?;
    until("the proof is begun again", SOON, async || (network.proofs_begun() == 2).then_some(())).await?;
    network.open_gate("gate")?;
    ledger.check(&network).await?;
    ensure!(ledger.attempts().await? == (1, 0), "attempts and lost ones: {:?}", ledger.attempts().await?);
    Ok(())
}

async fn worker_cut_off_with_proof() -> anyhow::Result<()> {
    let (mut network, mut ledger) = proving(&gated(1), 1).await?;
    // Nobody asks for the proof while the coordinator is frozen.
    network.hierophant.freeze()?;
    network.open_gate("gate")?;
    until_proved(&network, 0).await?;
    network.contemplants[0].cut_off()?;
    network.contemplants[0].start(None)?;
    network.hierophant.thaw()?;
    ledger.check(&network).await?;
    ensure!(network.proofs_begun() == 1, "the proof was made again");
    ensure!(ledger.attempts().await? == (1, 0), "attempts and lost ones: {:?}", ledger.attempts().await?);
    Ok(())
}

async fn worker_frozen() -> anyhow::Result<()> {
    let setup = Setup {
        script: "wait {worker}gate\nprove 1000".to_owned(),
        silence_limit: Duration::from_millis(1500),
        grace: Duration::from_millis(2500),
        ..gated(2)
    };
    let (network, mut ledger) = proving(&setup, 1).await?;
    let first = holder(&network)?;
    network.contemplants[first].freeze()?;
    until("the other worker has begun too", SOON, async || (network.proofs_begun() == 2).then_some(())).await?;
    let (attempts, lost) = ledger.attempts().await?;
    ensure!((attempts, lost) == (2, 1), "{attempts} attempts, {lost} lost");
    // Only the frozen one's prover goes on; the other one waits for ever, unless it is told to stop.
    network.open_gate(&format!("worker-{first}/gate"))?;
    network.contemplants[first].thaw()?;
    ledger.check(&network).await?;
    ensure!(ledger.attempts().await? == (2, 1), "another attempt was begun");
    Ok(())
}

async fn coordinator_frozen() -> anyhow::Result<()> {
    let (network, mut ledger) = proving(&gated(4), 4).await?;
    network.hierophant.freeze()?;
    until("all workers have noticed", SOON, async || {
        network.contemplants.iter().all(|worker| worker.log().contains("it has said nothing for")).then_some(())
    })
    .await?;
    network.hierophant.thaw()?;
    network.open_gate("gate")?;
    check_nothing_lost(&mut ledger, &network).await
}

async fn several_frozen() -> anyhow::Result<()> {
    // Nobody may have to wait for longer than the grace.
    let setup = Setup { grace: Duration::from_secs(30), ..gated(4) };
    let (network, mut ledger) = proving(&setup, 4).await?;
    network.contemplants[0].freeze()?;
    network.hierophant.freeze()?;
    network.contemplants[1].freeze()?;
    until("the others have noticed", SOON, async || {
        network.contemplants[2..].iter().all(|worker| worker.log().contains("it has said nothing for")).then_some(())
    })
    .await?;
    network.contemplants[1].thaw()?;
    network.hierophant.thaw()?;
    // By now the coordinator misses the one that is still frozen.
    ledger.until_connected("worker 0", false).await?;
    network.contemplants[0].thaw()?;
    network.open_gate("gate")?;
    check_nothing_lost(&mut ledger, &network).await
}

async fn half_the_fleet_ended() -> anyhow::Result<()> {
    let (mut network, mut ledger) = proving(&gated(4), 4).await?;
    network.contemplants[..2].iter_mut().try_for_each(Program::cut_off)?;
    network.contemplants[..2].iter_mut().try_for_each(|worker| worker.start(None))?;
    until("their proofs are begun again", SOON, async || (network.proofs_begun() == 6).then_some(())).await?;
    network.open_gate("gate")?;
    ledger.check(&network).await?;
    ensure!(ledger.attempts().await? == (4, 0), "attempts and lost ones: {:?}", ledger.attempts().await?);
    Ok(())
}

async fn worker_deaf() -> anyhow::Result<()> {
    // Long enough for the other one to be done before anybody is judged, on a busy machine too.
    let (silence_limit, grace) = (Duration::from_secs(8), Duration::from_secs(12));
    let setup = Setup { contemplants: 2, script: "prove 1000".to_owned(), silence_limit, grace, ..Setup::default() };
    let (network, mut ledger) = proving(&setup, 0).await?;
    network.contemplants[0].freeze()?;
    for _ in 0..8 {
        ledger.submit().await?;
    }
    // The frozen one has one at most, which waits until it is taken back.
    until("the others are fulfilled", setup.silence_limit, async || {
        let mut fulfilled = 0;
        for number in 0..8 {
            let id = ledger.id(number);
            fulfilled += usize::from(ledger.facts_of(&id).await.ok()?["state"] == "fulfilled");
        }
        (fulfilled >= 7).then_some(())
    })
    .await?;
    network.contemplants[0].thaw()?;
    ledger.check(&network).await
}

async fn sent_again() -> anyhow::Result<()> {
    let (mut network, mut ledger) = proving(&gated(2), 2).await?;
    ledger.submit().await?;
    network.hierophant.cut_off()?;
    network.hierophant.start(None)?;
    ledger.submit_again().await?;
    network.open_gate("gate")?;
    ledger.until_fulfilled().await?;
    network.hierophant.stop().await?;
    network.hierophant.start(None)?;
    ledger.submit_again().await?;
    ledger.check(&network).await?;
    ensure!(network.proofs_begun() == 3, "{} proofs were begun for 3 requests", network.proofs_begun());
    Ok(())
}

async fn line_that_breaks() -> anyhow::Result<()> {
    const MIB: u64 = 1 << 20;
    const SIZE: u64 = 64 * MIB;
    let proxy = Proxy::bind().await?;
    let setup =
        Setup { script: format!("prove {SIZE}"), behind: Some(proxy.address()?.to_string()), ..Setup::default() };
    let mut network = Network::new(&setup)?;
    let line = proxy.serve_cutting(network.endpoints().http, 6 << 20);
    network.start().await?;
    let mut ledger = Ledger::new(&network).patient();
    ledger.prepare().await?;
    let id = ledger.submit().await?;
    let incoming = network.data().join("artifacts/incoming");
    let arrived = || -> Option<u64> {
        let entries = std::fs::read_dir(&incoming).ok()?;
        entries.map(|entry| entry.and_then(|entry| entry.metadata()).map_or(0, |metadata| metadata.len())).max()
    };
    let half = async || arrived().filter(|bytes| *bytes > SIZE / 2);
    let before = until("half of the proof has come", 3 * SOON, half).await?;
    network.hierophant.cut_off()?;
    network.hierophant.start(None)?;
    network.until_serving().await?;
    let kept = arrived().context("nothing is left of the upload")?;
    ensure!(kept >= before, "of {before} bytes {kept} are left");
    ledger.check(&network).await?;
    ensure!(network.proofs_begun() == 1, "the proof was made again");
    ensure!(ledger.attempts().await? == (1, 0), "attempts and lost ones: {:?}", ledger.attempts().await?);
    let passed = line.passed();
    println!("{} MiB crossed the line for a proof of {} MiB", passed / MIB, SIZE / MIB);
    ensure!(passed < SIZE + SIZE / 2, "{passed} bytes crossed the line for a proof of {SIZE}");
    ensure!(ledger.facts_of(&id).await?["state"] == "fulfilled", "the request is not fulfilled");
    Ok(())
}
