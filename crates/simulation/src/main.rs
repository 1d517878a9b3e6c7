//! `simulation`: runs many seeds, or one again.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
};

use anyhow::Context as _;
use clap::Parser;
use simulation::{
    Figures, Mix, Options, Outcome,
    replay::{Replay, shrink},
    run,
};

/// Runs the whole network in one thread under random faults, and checks what it promises.
#[derive(Debug, Parser)]
struct Args {
    /// How many seeds to run.
    #[arg(long, default_value_t = 1000)]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Which faults: calm, restarts, network, workers, clocks, services, hedging, lies or everything; without it one
    /// after the other.
    #[arg(long)]
    mix: Option<Mix>,
    /// Runs this seed alone and prints all that happens.
    #[arg(long, conflicts_with_all = ["seeds", "from"])]
    seed: Option<u64>,
    /// Runs a saved replay again and prints all that happens.
    #[arg(long, conflicts_with_all = ["seeds", "from", "seed", "mix"])]
    replay: Option<PathBuf>,
    /// Prints what the programs log as well, with --seed or --replay: a filter like "debug".
    #[arg(long)]
    log: Option<String>,
    /// Where replays of broken promises are saved.
    #[arg(long, default_value = "target/simulation")]
    output: PathBuf,
    /// Runs at the same time; by default as many as there are cores.
    #[arg(long)]
    threads: Option<usize>,
}

fn main() -> ExitCode {
    match start(&Args::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            say(&format!("failed: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::print_stdout, reason = "what was asked for")]
fn say(words: &str) {
    println!("{words}");
}

fn start(args: &Args) -> anyhow::Result<bool> {
    if let Some(filter) = &args.log {
        let filter = tracing_subscriber::EnvFilter::try_new(filter).context("--log")?;
        tracing_subscriber::fmt().without_time().with_env_filter(filter).init();
    }
    if let Some(path) = &args.replay {
        let replay = Replay::load(path).with_context(|| format!("{} could not be read", path.display()))?;
        let (outcome, is_same) = replay.run();
        tell(&outcome);
        say(if is_same { "everything happened as in the replay" } else { "this differs from what the replay says" });
        return Ok(outcome.violation.is_none());
    }
    if let Some(seed) = args.seed {
        let outcome = run(&Options::new(seed, args.mix.unwrap_or(mix_of(seed))));
        tell(&outcome);
        return Ok(outcome.violation.is_none());
    }
    run_all(args)
}

/// Every mix gets its share of the seeds.
fn mix_of(seed: u64) -> Mix {
    let place = seed % Mix::ALL.len() as u64;
    Mix::ALL[usize::try_from(place).unwrap_or(0)]
}

fn tell(outcome: &Outcome) {
    outcome.log().iter().for_each(|line| say(line));
    say(&format!("seed {} of mix {}: {:?}", outcome.options.seed, outcome.options.mix, outcome.figures));
    match &outcome.violation {
        Some(violation) => say(&violation.to_string()),
        None => say("every promise was kept"),
    }
}

/// Seeds between two lines that say how far it is.
const SEEDS_PER_LINE: u64 = 1000;

fn run_all(args: &Args) -> anyhow::Result<bool> {
    let threads = args.threads.or_else(|| thread::available_parallelism().ok().map(Into::into)).unwrap_or(1);
    let next = AtomicU64::new(args.from);
    let end = args.from.saturating_add(args.seeds);
    let all_kept = AtomicBool::new(true);
    let sum = Mutex::new((0_u64, Figures::default()));
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= end {
                return Ok(());
            }
            let outcome = run(&Options::new(seed, args.mix.unwrap_or(mix_of(seed))));
            let mut sum = sum.lock().unwrap_or_else(PoisonError::into_inner);
            sum.0 += 1;
            sum.1.add(&outcome.figures);
            if sum.0.is_multiple_of(SEEDS_PER_LINE) || sum.0 == args.seeds {
                say(&format!("{} seeds: {:?}", sum.0, sum.1));
            }
            drop(sum);
            if outcome.violation.is_some() {
                all_kept.store(false, Ordering::Relaxed);
                save(outcome, &args.output)?;
            }
        }
    };
    thread::scope(|scope| {
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        running.into_iter().try_for_each(|thread| thread.join().unwrap_or_else(|_| anyhow::bail!("a run panicked")))
    })?;
    Ok(all_kept.into_inner())
}

/// Saves a run that broke a promise, with as few faults as it takes.
fn save(outcome: Outcome, directory: &Path) -> anyhow::Result<()> {
    let outcome = shrink(outcome);
    let Some(replay) = Replay::of(&outcome) else { return Ok(()) };
    let Options { seed, mix, .. } = replay.options;
    let path = directory.join(format!("{mix}-{seed}.json"));
    std::fs::create_dir_all(directory).context("the directory for replays could not be made")?;
    replay.save(&path).with_context(|| format!("{} could not be written", path.display()))?;
    say(&format!("seed {seed} of mix {mix}: {}\n  saved as {}", replay.violation, path.display()));
    Ok(())
}
