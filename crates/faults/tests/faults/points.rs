//! Ends a program at every named point, once at the first pass and once at the second, and looks at what is left.
//!
//! `result.mid_stream` and `wk.mid_deliver` leave a part of a proof with the coordinator, with which the next delivery goes
//! on; at all later points of `result.*` nothing of it is sent again, or what is there already is found to be the same.
//!
//! Moments that other designs have and this one has not:
//! - `result.after_verify_before_rename`: a proof has its name, and its row, before it is checked. What comes between
//!   the check and its record is `result.after_verify_before_tx`.
//! - `wk.prover_done_before_copy`: a prover writes into its attempt's directory, nothing is copied. What comes before the
//!   proof is made durable is `wk.prover_done_before_fsync`.
//! - `wk.after_delete_before_journal`: the directory is the journal. Forgetting renames it, then deletes it; in between
//!   is `wk.after_forget_before_delete`.
//! - `migrate.step_k`: each step is a transaction of its own within the library. What is ours comes before:
//!   `migrate.before`.

use std::{fs::File, time::Duration};

use anyhow::{Context as _, ensure};
use libtest_mimic::Trial;
use rusqlite::Connection;
use sp1_network_api::artifact::ArtifactType;
use testbed::{
    clock,
    network::{Network, Setup},
    program::{Program, is_aborted, until},
};

use super::{
    ledger::{Ledger, check_order, database},
    long, short,
};

/// How soon everything must be well again.
const RECOVERY: Duration = Duration::from_secs(20);

/// How long a program may take to come to the point.
const REACH: Duration = Duration::from_secs(20);

/// Requests of a usual load.
const REQUESTS: usize = 3;

/// Whose point it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Coordinator,
    Worker,
}

/// What brings a program to the point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Load {
    /// Requests that are proved.
    Proofs,
    /// The same, whose first attempts fail.
    Failures,
    /// Requests that nobody proves before their deadline.
    Deadlines,
    /// Requests that are cancelled while they are proved.
    Cancels,
    /// A start with open requests.
    Recovery,
    /// A start with artifacts that nobody needs.
    Upkeep,
}

#[derive(Debug, Clone, Copy)]
struct Point {
    name: &'static str,
    side: Side,
    load: Load,
    /// How often one run passes it, as far as that is looked at.
    hits: usize,
    /// Attempts that one crash here may cost: where one side alone knows of a claim, its own or that of the next request.
    costs: u64,
    /// Whether it is among those of the short test.
    is_telling: bool,
}

const fn at(name: &'static str, side: Side, load: Load) -> Point {
    Point { name, side, load, hits: 2, costs: 0, is_telling: false }
}

const fn coordinator(name: &'static str) -> Point {
    at(name, Side::Coordinator, Load::Proofs)
}

const fn worker(name: &'static str) -> Point {
    at(name, Side::Worker, Load::Proofs)
}

impl Point {
    const fn once(self) -> Self {
        Self { hits: 1, ..self }
    }

    const fn telling(self) -> Self {
        Self { is_telling: true, ..self }
    }

    /// A crash here may meet a claim of which one side alone knows.
    const fn costing(self) -> Self {
        Self { costs: 1, ..self }
    }
}

const POINTS: &[Point] = &[
    coordinator("migrate.before").once(),
    coordinator("lock.after_acquire_before_epoch").once(),
    at("recover.mid", Side::Coordinator, Load::Recovery),
    coordinator("artifact.mid_stream"),
    coordinator("artifact.after_stage_before_fsync"),
    coordinator("artifact.after_fsync_before_rename"),
    coordinator("artifact.after_rename_before_dirsync"),
    coordinator("artifact.after_rename_before_row"),
    coordinator("program.after_file_before_row").once(),
    coordinator("accept.before_tx").costing(),
    coordinator("accept.in_tx").costing(),
    coordinator("accept.after_commit_before_reply").costing().telling(),
    coordinator("claim.before_tx").costing(),
    coordinator("claim.after_commit_before_send").costing().telling(),
    coordinator("claim.after_send_before_ack").costing(),
    at("requeue.after_commit", Side::Coordinator, Load::Failures).once(),
    at("expire.in_tx", Side::Coordinator, Load::Deadlines),
    at("cancel.after_commit_before_stop", Side::Coordinator, Load::Cancels).costing(),
    coordinator("result.mid_stream").costing(),
    coordinator("result.after_stage_before_fsync").costing(),
    coordinator("result.after_fsync_before_rename").costing(),
    coordinator("result.after_rename_before_dirsync").costing(),
    coordinator("result.after_dirsync_before_tx").costing().telling(),
    coordinator("result.after_fsync_before_verify").costing(),
    coordinator("result.in_verify").costing(),
    coordinator("result.after_verify_before_tx").costing(),
    coordinator("result.in_tx").costing(),
    coordinator("result.after_commit_before_ack").costing().telling(),
    at("gc.after_mark", Side::Coordinator, Load::Upkeep),
    at("gc.after_row_before_unlink", Side::Coordinator, Load::Upkeep),
    at("gc.after_unlink", Side::Coordinator, Load::Upkeep),
    worker("wk.after_assign_before_journal").costing(),
    worker("wk.after_journal_before_ack"),
    worker("wk.after_spawn"),
    worker("wk.prover_done_before_fsync").costing(),
    worker("wk.after_fsync_before_journal").costing().telling(),
    worker("wk.mid_deliver").costing(),
    worker("wk.after_delivered_before_ack").costing().telling(),
    worker("wk.after_ack_before_delete").costing(),
    worker("wk.after_forget_before_delete").costing(),
];

/// The tests.
pub(crate) fn tests() -> Vec<Trial> {
    vec![
        short("a_crash_at_the_most_telling_points_loses_nothing", || {
            enumerate(POINTS.iter().filter(|point| point.is_telling).map(|point| (*point, 1)).collect())
        }),
        long("a_crash_at_any_point_loses_nothing", || {
            let all = POINTS.iter().flat_map(|point| (1..=point.hits).map(|hit| (*point, hit)));
            // One point of choice, while one looks for a fault.
            let only = std::env::var_os("FAULTS_POINT");
            enumerate(all.filter(|(point, _)| only.as_ref().is_none_or(|only| only == point.name)).collect())
        }),
    ]
}

/// What a crash cost.
struct Cost {
    recovery: Duration,
    requests: u64,
    attempts: u64,
    begun: usize,
}

async fn enumerate(points: Vec<(Point, usize)>) -> anyhow::Result<()> {
    println!("{:<40}{:>4}{:>10}{:>10}{:>10}{:>8}", "point", "hit", "recovery", "requests", "attempts", "proofs");
    let mut problems = Vec::new();
    for (point, hit) in points {
        match crash(point, hit).await {
            Ok(Cost { recovery, requests, attempts, begun }) => {
                let seconds = recovery.as_secs_f64();
                println!("{:<40}{hit:>4}{seconds:>8.2} s{requests:>10}{attempts:>10}{begun:>8}", point.name);
            }
            Err(error) => {
                println!("{:<40}{hit:>4} {error:#}", point.name);
                problems.push(format!("{} at hit {hit}: {error:#}", point.name));
            }
        }
    }
    ensure!(problems.is_empty(), "{}", problems.join("\n"));
    Ok(())
}

/// Ends the program at the point, starts it again, and checks.
async fn crash(point: Point, hit: usize) -> anyhow::Result<Cost> {
    let mut setup = Setup::default();
    match point.load {
        Load::Failures => setup.failures = 1,
        Load::Deadlines => setup.contemplants = 0,
        Load::Cancels | Load::Recovery => "wait {network}/gate\nprove 1000".clone_into(&mut setup.script),
        Load::Proofs | Load::Upkeep => {}
    }
    let mut network = Network::new(&setup)?;
    let mut ledger = Ledger::new(&network);
    let points = match hit {
        1 => format!("{}=return", point.name),
        _ => format!("{}={}*off->return", point.name, hit - 1),
    };
    let outcome = run(point, &points, &mut network, &mut ledger).await;
    let outcome =
        outcome.with_context(|| format!("the coordinator's last words:\n{}", network.hierophant.last_words()));
    let (recovery, requests) = outcome?;
    check_order(&network, 1).await?;
    ensure!(recovery < RECOVERY, "recovery took {} s", recovery.as_secs());
    let (attempts, _) = ledger.attempts().await?;
    let failures = setup.failures as u64;
    if point.load != Load::Deadlines {
        let most = requests + point.costs + failures;
        ensure!(attempts <= most, "{attempts} attempts where {most} do");
    }
    Ok(Cost { recovery, requests, attempts, begun: network.proofs_begun() })
}

/// Runs the load over the crash. Answers how long recovery took, and how many requests there were.
async fn run(
    point: Point,
    points: &str,
    network: &mut Network,
    ledger: &mut Ledger,
) -> anyhow::Result<(Duration, u64)> {
    let workers = network.contemplants.len();
    match point.load {
        Load::Proofs | Load::Failures => {
            let (at_coordinator, at_worker) =
                if point.side == Side::Coordinator { (Some(points), None) } else { (None, Some(points)) };
            network.hierophant.start(at_coordinator)?;
            for contemplant in &mut network.contemplants {
                contemplant.start(at_worker)?;
            }
            let program = match point.side {
                Side::Coordinator => &mut network.hierophant,
                Side::Worker => &mut network.contemplants[0],
            };
            let load = async {
                ledger.prepare().await?;
                for _ in 0..REQUESTS {
                    ledger.submit().await?;
                }
                ledger.until_fulfilled().await
            };
            let (began, worked) = tokio::join!(restart(program), load);
            let began = began?;
            worked?;
            ledger.until_idle(workers).await?;
            let recovery = began.elapsed();
            ledger.submit_again().await?;
            ledger.check(network).await?;
            Ok((recovery, REQUESTS as u64))
        }
        Load::Deadlines => {
            network.hierophant.start(Some(points))?;
            let load = async {
                ledger.prepare().await?;
                let first = ledger.submit_until(Duration::from_secs(2)).await?;
                let second = ledger.submit_until(Duration::from_secs(2)).await?;
                ledger.until_state(&first, "expired").await?;
                ledger.until_state(&second, "expired").await
            };
            let (began, worked) = tokio::join!(restart(&mut network.hierophant), load);
            worked?;
            Ok((began?.elapsed(), 2))
        }
        Load::Cancels => {
            network.hierophant.start(Some(points))?;
            network.contemplants[0].start(None)?;
            let load = async {
                ledger.prepare().await?;
                let (first, second) = (ledger.submit().await?, ledger.submit().await?);
                ledger.until_state(&first, "leased").await?;
                ledger.cancel(&first).await?;
                ledger.until_state(&second, "leased").await?;
                ledger.cancel(&second).await?;
                ledger.until_state(&first, "cancelled").await?;
                ledger.until_state(&second, "cancelled").await?;
                ledger.until_idle(workers).await
            };
            let (began, worked) = tokio::join!(restart(&mut network.hierophant), load);
            worked?;
            Ok((began?.elapsed(), 2))
        }
        Load::Recovery => {
            network.start().await?;
            ledger.prepare().await?;
            for _ in 0..REQUESTS {
                ledger.submit().await?;
            }
            let first = ledger.id(0);
            ledger.until_state(&first, "leased").await?;
            network.hierophant.cut_off()?;
            network.hierophant.start(Some(points))?;
            let began = restart(&mut network.hierophant).await?;
            network.open_gate("gate")?;
            ledger.until_fulfilled().await?;
            let recovery = began.elapsed();
            ledger.check(network).await?;
            Ok((recovery, REQUESTS as u64))
        }
        Load::Upkeep => tidy_up(points, network, ledger).await,
    }
}

/// The run of [`Load::Upkeep`].
async fn tidy_up(points: &str, network: &mut Network, ledger: &mut Ledger) -> anyhow::Result<(Duration, u64)> {
    network.start().await?;
    ledger.prepare().await?;
    // More than go in one step.
    for _ in 0..40 {
        ledger.upload(ArtifactType::Stdin, b"nobody asks for a proof of this").await?;
    }
    ledger.submit().await?;
    ledger.until_fulfilled().await?;
    network.hierophant.stop().await?;
    make_old(network)?;
    network.hierophant.start(Some(points))?;
    let began = restart(&mut network.hierophant).await?;
    let data = network.data();
    until("nothing is left that nobody needs", RECOVERY, async || {
        let artifacts = "SELECT count(*) FROM artifacts";
        let count = database(&data).and_then(|c| Ok(c.query_row(artifacts, (), |row| row.get::<_, i64>(0))?));
        // The program, the input and the proof.
        (count.ok()? == 3).then_some(())
    })
    .await?;
    let recovery = began.elapsed();
    ledger.check(network).await?;
    Ok((recovery, 1))
}

/// Waits until a program has ended at its point, and starts it without; answers when that was.
async fn restart(program: &mut Program) -> anyhow::Result<std::time::Instant> {
    let status = program.until_ended(REACH).await.context("the point was never reached")?;
    ensure!(is_aborted(status), "{} ended with {status}, and not at the point", program.name());
    program.start(None)?;
    Ok(clock::now())
}

/// Makes all artifacts look as if they had been made two days ago. The coordinator must not run.
fn make_old(network: &Network) -> anyhow::Result<()> {
    let database = Connection::open(network.data().join("hierophant.sqlite"))?;
    database.execute("UPDATE artifacts SET created_at = created_at - 2 * 24 * 3600 * 1000", ())?;
    for kind in std::fs::read_dir(network.data().join("artifacts"))? {
        for file in std::fs::read_dir(kind?.path())? {
            let file = File::options().write(true).open(file?.path())?;
            let age = Duration::from_hours(48);
            file.set_modified(file.metadata()?.modified()?.checked_sub(age).context("files are younger than 1970")?)?;
        }
    }
    Ok(())
}
