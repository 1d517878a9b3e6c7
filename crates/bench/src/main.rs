//! `bench`: load generators for the figures that the README quotes.
//!
//! Each figure starts a `hierophant` of its own on loopback with an empty data directory, loads it, and ends it.
//! Server and generator share the machine, so the generator speaks the bare protocols ([`grpc`], [`artifact_http`])
//! and its own CPU time is reported beside the server's.

mod figures;
mod load;
mod machine;
mod process;
mod report;

use std::{path::PathBuf, process::ExitCode};

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use testbed::{artifact_http, client, clock, contemplant, grpc, key, prover, server, verifier, worker};
use tokio::signal::unix::{SignalKind, signal};

use crate::{figures::Figures, report::Report, server::Bench};

/// Measures a hierophant.
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    /// The program to measure; by default the one beside this program.
    #[arg(long, global = true, value_name = "FILE")]
    hierophant: Option<PathBuf>,
    /// The worker to measure; by default the one beside this program.
    #[arg(long, global = true, value_name = "FILE")]
    contemplant: Option<PathBuf>,
    /// Where data directories are made and removed: the disk that is measured.
    #[arg(long, global = true, value_name = "DIRECTORY", default_value_os_t = std::env::temp_dir())]
    directory: PathBuf,
    /// What the hierophant logs (to a file).
    #[arg(long, global = true, value_name = "FILTER", default_value = "info")]
    log: String,
    /// Threads of the generator.
    #[arg(long, global = true, default_value_t = 1)]
    threads: usize,
    /// Also write the figures here, as JSON.
    #[arg(long, global = true, value_name = "FILE")]
    json: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    #[command(flatten)]
    Figures(Figures),
    /// Serves verification to a parent process. Not for people.
    #[command(hide = true)]
    Verifier,
    /// Proves for a parent process. Not for people.
    #[command(hide = true)]
    Prover(prover::Options),
}

fn main() -> ExitCode {
    let args = Args::parse();
    let outcome = match args.command {
        Command::Verifier => return verifier::run(),
        Command::Prover(options) => return prover::run(&options),
        Command::Figures(figures) => {
            let bench = Bench {
                hierophant: args.hierophant,
                contemplant: args.contemplant,
                directory: args.directory,
                log: args.log,
            };
            measure(&bench, figures, args.threads, args.json)
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report::progress(&format!("bench: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn measure(bench: &Bench, figures: Figures, threads: usize, json: Option<PathBuf>) -> anyhow::Result<()> {
    let mut builder = match threads {
        0 | 1 => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    let runtime = builder.worker_threads(threads.max(1)).enable_all().build()?;
    runtime.block_on(async {
        let mut terminated = signal(SignalKind::terminate())?;
        // Whichever way this ends, the server that a figure started is dropped, which ends its process.
        tokio::select! {
            outcome = all(bench, figures, json) => outcome,
            _ = tokio::signal::ctrl_c() => anyhow::bail!("interrupted"),
            _ = terminated.recv() => anyhow::bail!("told to stop"),
        }
    })
}

async fn all(bench: &Bench, figures: Figures, json: Option<PathBuf>) -> anyhow::Result<()> {
    let mut report = Report::new(bench.program()?, machine::look(&bench.directory)?);
    report.show_head();
    for figure in figures.into_each() {
        let figure = figure.measure(bench).await?;
        figure.show();
        report.figures.push(figure);
    }
    if let Some(path) = json {
        std::fs::write(&path, serde_json::to_vec_pretty(&report)?)
            .with_context(|| format!("{} could not be written", path.display()))?;
    }
    Ok(())
}
