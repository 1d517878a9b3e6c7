//! The worker of a Hierophant. Reads its configuration, builds the worker, runs it, and reports how it ended.

use std::{io, process::ExitCode};

use clap::Parser as _;
use contemplant::{
    HAS_BUILT_IN_PROVER,
    app::App,
    artifacts::Patience,
    cli::{Cli, Command, ConfigAction, GpuArgs},
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
    if let Some(Command::Prover { backend, gpu }) = cli.command {
        return prover_child(backend, gpu);
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
fn prover_child(backend: Backend, gpu: GpuArgs) -> ExitCode {
    let outcome = match backend {
        Backend::Gpu => proving_sp1::run_gpu_prover_child(gpu_options(gpu)),
        Backend::Cpu | Backend::Mock => proving_sp1::run_prover_child(backend),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&mut io::stderr(), &format!("The prover child ends: {}\n", contemplant::failure::chain(&error)));
            ExitCode::FAILURE
        }
    }
}

#[cfg(feature = "sp1")]
fn gpu_options(args: GpuArgs) -> proving_sp1::GpuOptions {
    let defaults = proving_sp1::GpuOptions::default();
    let GpuArgs { device, gpu_server, gpu_silence_limit, gpu_server_sha256, gpu_server_url, gpu_server_directory } =
        args;
    let download = gpu_server_sha256.zip(gpu_server_directory).map(|(sha256, directory)| proving_sp1::Download {
        url: gpu_server_url,
        sha256: *sha256.as_bytes(),
        directory,
    });
    let silence_limit = gpu_silence_limit.unwrap_or(defaults.silence_limit);
    proving_sp1::GpuOptions { device, server: gpu_server, silence_limit, download }
}

#[cfg(not(feature = "sp1"))]
fn prover_child(backend: Backend, _: GpuArgs) -> ExitCode {
    let text =
        format!("This contemplant was built without SP1 and is no {backend} prover: give the prover a program.\n");
    say(&mut io::stderr(), &text);
    ExitCode::from(CONFIGURATION)
}

/// Writes to a standard stream; a reader that has gone away is no trouble.
fn say(stream: &mut impl io::Write, text: &str) {
    drop(stream.write_all(text.as_bytes()));
}
