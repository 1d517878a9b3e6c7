//! The worker of a Hierophant. Reads its configuration, builds the worker, runs it, and reports how it ended.

use std::{io, process::ExitCode};

use clap::Parser as _;
use contemplant::{
    HAS_BUILT_IN_PROVER,
    app::App,
    artifacts::Patience,
    cli::{Cli, Command, ConfigAction},
    config::{self, Config, Overrides},
    session::{Pace, SessionError},
    shutdown, telemetry,
};
use network_lib::Backend;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// The configuration is wrong: a restart will not help (`EX_CONFIG`).
const CONFIGURATION: u8 = 78;
/// The coordinator is of another version: a restart will not help (`EX_PROTOCOL`).
const VERSION: u8 = 76;

fn main() -> ExitCode {
    let cli = Cli::parse();
    match cli.command {
        Some(Command::Prover { backend }) => return prover_child(backend),
        Some(Command::Executor) => return executor_child(),
        Some(Command::Config { .. }) | None => {}
    }
    let config = match config::load(&Overrides::from(cli.flags), config::process_environment(), HAS_BUILT_IN_PROVER) {
        Ok(config) => config,
        Err(problems) => {
            let lines: Vec<String> = problems.iter().map(|problem| format!("  {problem}\n")).collect();
            say(&mut io::stderr(), &format!("The configuration cannot be used:\n{}", lines.concat()));
            return ExitCode::from(CONFIGURATION);
        }
    };
    if let Some(Command::Config { action }) = cli.command {
        match action {
            ConfigAction::Show => say(&mut io::stdout(), &config.to_string()),
            ConfigAction::Check => {
                let warnings: Vec<String> = config.warnings.iter().map(|text| format!("Warning: {text}.\n")).collect();
                say(&mut io::stdout(), &format!("{}The configuration is fine.\n", warnings.concat()));
            }
        }
        return ExitCode::SUCCESS;
    }
    if let Err(error) = telemetry::init(&config.telemetry) {
        say(&mut io::stderr(), &format!("Cannot log: {error}\n"));
    }
    match run(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("Contemplant ends: {error:#}");
            let is_of_version = matches!(error.downcast_ref(), Some(SessionError::Version { .. }));
            if is_of_version { ExitCode::from(VERSION) } else { ExitCode::FAILURE }
        }
    }
}

fn run(config: Config) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    for warning in &config.warnings {
        tracing::warn!("Configuration: {warning}");
    }
    let outcome = runtime.block_on(async {
        let (signals, ended) = (TaskTracker::new(), CancellationToken::new());
        let stop = shutdown::on_signal(&signals, ended.clone())?;
        let outcome = Box::pin(App::build(config, Pace::default(), Patience::default())?.run(stop)).await;
        ended.cancel();
        outcome
    });
    // What still runs by now was told to stop and did not.
    runtime.shutdown_background();
    outcome
}

#[cfg(feature = "sp1")]
fn prover_child(backend: Backend) -> ExitCode {
    told("prover", proving_sp1::run_prover_child(backend, contemplant::provers::executor_command()))
}

#[cfg(feature = "sp1")]
fn executor_child() -> ExitCode {
    told("executor", proving_sp1::run_executor_child())
}

#[cfg(feature = "sp1")]
fn told(child: &str, outcome: Result<(), proving_sp1::ChildError>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&mut io::stderr(), &format!("The {child} child ends: {}\n", contemplant::failure::chain(&error)));
            ExitCode::FAILURE
        }
    }
}

#[cfg(not(feature = "sp1"))]
fn prover_child(backend: Backend) -> ExitCode {
    let text =
        format!("This contemplant was built without SP1 and is no {backend} prover: give the prover a program.\n");
    say(&mut io::stderr(), &text);
    ExitCode::from(CONFIGURATION)
}

#[cfg(not(feature = "sp1"))]
fn executor_child() -> ExitCode {
    say(&mut io::stderr(), "This contemplant was built without SP1 and executes nothing.\n");
    ExitCode::from(CONFIGURATION)
}

/// Writes to a standard stream; a reader that has gone away is no trouble.
fn say(stream: &mut impl io::Write, text: &str) {
    drop(stream.write_all(text.as_bytes()));
}
