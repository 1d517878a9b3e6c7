//! `hierophant`: read, build, run, report.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use clap::{Parser, Subcommand};
use hierophant::{
    app::App,
    config::{Config, Overrides},
    shutdown,
    sockets::Inherited,
    telemetry,
};
use network_lib::crash;

/// Exit code for a configuration that cannot be used (sysexits.h: `EX_CONFIG`).
const EXIT_CONFIG: u8 = 78;

/// How long file operations that nobody waits for any more may take when the program ends.
const LAST_WAIT: Duration = Duration::from_secs(2);

/// The coordinator of a self-hosted prover network for the SP1 SDK.
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    /// Configuration file; everything has a default.
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Port of the SP1 SDK's gRPC; 0 for any free one.
    #[arg(long, global = true)]
    grpc_port: Option<u16>,
    /// Port of artifacts, status and workers; 0 for any free one.
    #[arg(long, global = true)]
    http_port: Option<u16>,
    /// Where everything durable is.
    #[arg(long, global = true, value_name = "DIRECTORY")]
    data_directory: Option<PathBuf>,
    /// Accept proofs of mock provers, which prove nothing.
    #[arg(long, global = true)]
    mock_mode: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Looks at the configuration.
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },
    /// Serves verification to a parent process. Not for people.
    #[cfg(feature = "sp1")]
    #[command(hide = true)]
    Verifier,
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Checks it and says all that is wrong.
    Check,
    /// Shows it as it takes effect, without secrets.
    Show,
}

fn main() -> ExitCode {
    let args = Args::parse();
    #[cfg(feature = "sp1")]
    if matches!(args.command, Some(Command::Verifier)) {
        return match proving_sp1::run_verifier_child() {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(1, &format!("the verifier ended: {:#}", anyhow::Error::from(error))),
        };
    }
    let overrides = Overrides {
        grpc_port: args.grpc_port,
        http_port: args.http_port,
        data_directory: args.data_directory,
        mock_mode: args.mock_mode.then_some(true),
    };
    let config = match Config::load(args.config.as_deref(), &overrides) {
        Ok(config) => config,
        Err(problems) => return fail(EXIT_CONFIG, &problems.to_string()),
    };
    if let Some(Command::Config { command }) = args.command {
        return show(&command, &config);
    }
    telemetry::init(&config.log);
    if let Some(points) = crash::arm() {
        tracing::warn!(
            "{} is set: this program ENDS ITSELF at these points, for tests only: {points}",
            crash::VARIABLE
        );
    }
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    let sockets = Inherited::from_environment();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(1, &format!("the runtime could not be started: {error}")),
    };
    let outcome = runtime.block_on(run(config, sockets));
    // What still runs was waited for; a disk that hangs must not keep the program from ending.
    runtime.shutdown_timeout(LAST_WAIT);
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(1, &format!("{error:#}")),
    }
}

async fn run(config: Config, sockets: Inherited) -> anyhow::Result<()> {
    let stop = shutdown::requested()?;
    let app = App::build(config, sockets).await?;
    app.serve(stop).await
}

#[expect(clippy::print_stdout, reason = "the answer to a command")]
fn show(command: &ConfigCommand, config: &Config) -> ExitCode {
    match command {
        ConfigCommand::Check => {
            config.warnings.iter().for_each(|warning| println!("{warning}"));
            println!("the configuration is good");
        }
        ConfigCommand::Show => println!("{config:#?}"),
    }
    ExitCode::SUCCESS
}

#[expect(clippy::print_stderr, reason = "the last word before the program ends")]
fn fail(code: u8, problem: &str) -> ExitCode {
    eprintln!("hierophant: {problem}");
    ExitCode::from(code)
}
