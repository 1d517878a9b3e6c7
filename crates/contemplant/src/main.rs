//! The worker of a Hierophant. Reads its configuration, builds the worker, runs it, and reports how it ended.

use std::{io, process::ExitCode};

use clap::Parser as _;
use contemplant::{
    HAS_BUILT_IN_PROVER,
    app::App,
    artifacts::Patience,
    cli::{Cli, Command, ConfigAction, ProverArgs},
    config::{self, Config, Overrides, Problem},
    doctor,
    session::{Pace, SessionError},
    shutdown,
    snark::{
        self, Snark,
        install::{self, Order, Origin},
    },
    telemetry,
};
use network_lib::crash;
use proving::Memory;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// The configuration is wrong: a restart will not help (`EX_CONFIG`).
const CONFIGURATION: u8 = 78;
/// The coordinator is of another version: a restart will not help (`EX_PROTOCOL`).
const VERSION: u8 = 76;

fn main() -> ExitCode {
    let cli = Cli::parse();
    match cli.command {
        Some(Command::Prover(args)) => return prover_child(args),
        Some(Command::Executor) => return executor_child(),
        Some(Command::Measure) => return measure(),
        Some(Command::FindGpuServer { gpu_server }) => return find_gpu_server(gpu_server.as_deref()),
        _ => {}
    }
    let config = config::load(&Overrides::from(cli.flags), config::process_environment(), HAS_BUILT_IN_PROVER);
    if let Some(Command::Doctor { json }) = cli.command {
        return examine(&config, json);
    }
    let config = match config {
        Ok(config) => config,
        Err(problems) => {
            let lines: Vec<String> = problems.iter().map(|problem| format!("  {problem}\n")).collect();
            say(&mut io::stderr(), &format!("The configuration cannot be used:\n{}", lines.concat()));
            return ExitCode::from(CONFIGURATION);
        }
    };
    match cli.command {
        Some(Command::InstallCircuits { snark, from, sha256 }) => {
            return install_circuits(&config, snark, from, sha256);
        }
        Some(Command::Config { action }) => {
            show_or_check(&config, action);
            return ExitCode::SUCCESS;
        }
        _ => {}
    }
    if let Err(error) = telemetry::init(&config.telemetry) {
        say(&mut io::stderr(), &format!("Cannot log: {error}\n"));
    }
    if let Some(points) = crash::arm() {
        tracing::warn!(
            "{} is set: this program ENDS ITSELF at these points, for tests only: {points}",
            crash::VARIABLE
        );
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

fn show_or_check(config: &Config, action: ConfigAction) {
    match action {
        ConfigAction::Show => say(&mut io::stdout(), &config.to_string()),
        ConfigAction::Check => {
            let warnings: Vec<String> = config.warnings.iter().map(|text| format!("Warning: {text}.\n")).collect();
            say(&mut io::stdout(), &format!("{}The configuration is fine.\n", warnings.concat()));
        }
    }
}

/// Says how this machine is. 1 when something keeps it from proving or from reaching its coordinator.
fn examine(config: &Result<Config, Vec<Problem>>, json: bool) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error.into()),
    };
    let facts = runtime.block_on(doctor::look(config.as_ref().map_err(Vec::as_slice)));
    let diagnosis = doctor::judge(&facts);
    let report = if json { doctor::report::json(&diagnosis) } else { doctor::report::text(&diagnosis) };
    say(&mut io::stdout(), &report);
    if diagnosis.is_well() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn install_circuits(config: &Config, snark: Snark, from: Option<Origin>, sha256: Option<[u8; 32]>) -> ExitCode {
    // Fails when a provider is chosen already, which is as good.
    drop(rustls::crypto::ring::default_provider().install_default());
    let installed = || -> anyhow::Result<()> {
        let from = match from {
            Some(from) => from,
            None => Origin::Web(snark.published_at().parse()?),
        };
        let directory = config.snark.directory(snark).map(Into::into);
        let order = Order { snark, directory, from, sha256 };
        let mut tell = |text: &str| say(&mut io::stdout(), &format!("{text}\n"));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(install::install(&order, &mut tell))?;
        let all = snark::look(&config.snark, &Memory::look(), snark::IS_GNARK_LINKED, true);
        let left: Vec<_> = all.into_iter().filter(|facts| facts.snark == snark).flat_map(|f| f.obstacles()).collect();
        for obstacle in &left {
            tell(&format!("Still missing for {} proofs: {obstacle}.", snark.name()));
        }
        if left.is_empty() {
            tell(&format!("A contemplant that is started from now on offers {} proofs.", snark.name()));
        }
        Ok(())
    };
    match installed() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error),
    }
}

fn failed(error: &anyhow::Error) -> ExitCode {
    say(&mut io::stderr(), &format!("{}.\n", contemplant::failure::chain(error.as_ref())));
    ExitCode::FAILURE
}

#[cfg(feature = "sp1")]
fn measure() -> ExitCode {
    match proving_sp1::measure() {
        Ok(measured) => {
            say(&mut io::stdout(), &doctor::print_measure(measured.cycles, measured.took));
            ExitCode::SUCCESS
        }
        Err(error) => failed(&error.into()),
    }
}

#[cfg(not(feature = "sp1"))]
fn measure() -> ExitCode {
    failed(&anyhow::anyhow!("this contemplant was built without SP1 and executes nothing"))
}

#[cfg(feature = "sp1")]
fn find_gpu_server(named: Option<&std::path::Path>) -> ExitCode {
    match proving_sp1::find_gpu_server(named) {
        Ok(path) => {
            say(&mut io::stdout(), &format!("{}\n", path.display()));
            ExitCode::SUCCESS
        }
        Err(error) => failed(&error.into()),
    }
}

#[cfg(not(feature = "sp1"))]
fn find_gpu_server(_: Option<&std::path::Path>) -> ExitCode {
    failed(&anyhow::anyhow!("this contemplant was built without SP1 and runs no GPU server"))
}

#[cfg(feature = "sp1")]
fn prover_child(args: ProverArgs) -> ExitCode {
    use network_lib::Backend;
    use proving::script::{Origin, Script};
    let executor = contemplant::provers::executor_command();
    let outcome = match args.backend {
        Backend::Cpu => proving_sp1::run_cpu_prover_child(executor, &args.snarks, args.memory),
        Backend::Gpu => proving_sp1::run_gpu_prover_child(executor, gpu_options(args.gpu, args.snarks)),
        Backend::Mock => match Script::parse(&args.script, Origin::Operator) {
            Ok(script) => proving_sp1::run_mock_prover_child(script),
            Err(error) => {
                say(&mut io::stderr(), &format!("The prover child does not start: {error}\n"));
                return ExitCode::from(CONFIGURATION);
            }
        },
    };
    told("prover", outcome)
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

#[cfg(feature = "sp1")]
fn gpu_options(args: contemplant::cli::GpuArgs, snarks: Vec<network_lib::ProofMode>) -> proving_sp1::GpuOptions {
    let defaults = proving_sp1::GpuOptions::default();
    let contemplant::cli::GpuArgs {
        device,
        gpu_server,
        gpu_silence_limit,
        gpu_spare,
        gpu_server_sha256,
        gpu_server_url,
        gpu_server_directory,
    } = args;
    let download = gpu_server_sha256.zip(gpu_server_directory).map(|(sha256, directory)| proving_sp1::Download {
        url: gpu_server_url,
        sha256: *sha256.as_bytes(),
        directory,
    });
    proving_sp1::GpuOptions {
        device,
        server: gpu_server,
        silence_limit: gpu_silence_limit.unwrap_or(defaults.silence_limit),
        has_spare: gpu_spare,
        download,
        snarks,
        ..defaults
    }
}

#[cfg(not(feature = "sp1"))]
fn prover_child(ProverArgs { backend, .. }: ProverArgs) -> ExitCode {
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
