//! The command line.

use std::{collections::BTreeMap, ffi::OsString, path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand};
use network_lib::Digest;

use crate::config::{Overrides, provers::GpuProgram};

/// Proves for a Hierophant.
#[derive(Debug, Parser)]
#[command(name = "contemplant", version, about, args_conflicts_with_subcommands = false)]
pub struct Cli {
    /// What overrides the configuration.
    #[command(flatten)]
    pub flags: Flags,
    /// Something else than to work.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What overrides the configuration.
#[derive(Debug, Args)]
pub struct Flags {
    /// Configuration file; without it contemplant.toml in this directory, if it is there
    #[arg(long, value_name = "FILE", global = true)]
    pub config: Option<PathBuf>,
    /// Address of the Hierophant: host:port or ws://host:port/ws
    #[arg(long, value_name = "ADDRESS", global = true)]
    pub hierophant_ws_address: Option<String>,
    /// Name of this worker, for people
    #[arg(long = "name", value_name = "NAME", global = true)]
    pub contemplant_name: Option<String>,
    /// Directory for the worker's identity, journal and programs
    #[arg(long, value_name = "DIRECTORY", global = true)]
    pub state_directory: Option<String>,
    /// One mock prover: executes programs for real and proves nothing
    #[arg(long, global = true)]
    pub mock: bool,
    /// What to log, in the notation of `RUST_LOG`
    #[arg(long, value_name = "FILTER", global = true)]
    pub log: Option<String>,
}

/// Something else than to work.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Look at the configuration without starting anything
    Config {
        /// What to do with it.
        #[command(subcommand)]
        action: ConfigAction,
    },
    /// Be the prover child of a contemplant
    #[command(hide = true)]
    Prover {
        /// What makes the proofs.
        #[arg(long)]
        backend: network_lib::Backend,
        /// Which GPU, and what is said of GPUs.
        #[command(flatten)]
        gpu: GpuArgs,
    },
}

/// What the prover child of a GPU is told: keys of the configuration, which a child does not read.
#[derive(Debug, Default, PartialEq, Eq, Args)]
pub struct GpuArgs {
    /// The device's number.
    #[arg(long, value_name = "NUMBER", default_value_t)]
    pub device: u32,
    /// The server.
    #[arg(long, value_name = "FILE")]
    pub gpu_server: Option<PathBuf>,
    /// How long the server may be silent at work.
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub gpu_silence_limit: Option<Duration>,
    /// SHA-256 of a server that may be downloaded.
    #[arg(long, value_name = "SHA256", requires = "gpu_server_directory")]
    pub gpu_server_sha256: Option<Digest>,
    /// Where it may be downloaded from.
    #[arg(long, value_name = "URL", requires = "gpu_server_sha256")]
    pub gpu_server_url: Option<String>,
    /// Where it is kept.
    #[arg(long, value_name = "DIRECTORY")]
    pub gpu_server_directory: Option<PathBuf>,
}

/// The arguments that make a contemplant this prover child.
pub(crate) fn gpu_prover(program: &GpuProgram) -> Vec<OsString> {
    let GpuProgram { device, config, directory } = program;
    let silence_limit = humantime::format_duration(config.silence_limit).to_string();
    let mut args: Vec<OsString> = ["prover", "--backend", "gpu", "--device"].map(Into::into).to_vec();
    args.extend([device.to_string().into(), "--gpu-silence-limit".into(), silence_limit.into()]);
    if let Some(server) = &config.server {
        args.extend(["--gpu-server".into(), server.into()]);
    }
    if let Some(download) = &config.download {
        args.extend(["--gpu-server-sha256".into(), download.sha256.to_string().into()]);
        args.extend(["--gpu-server-directory".into(), directory.into()]);
        if let Some(url) = &download.url {
            args.extend(["--gpu-server-url".into(), url.as_str().into()]);
        }
    }
    args
}

/// What to do with the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Subcommand)]
pub enum ConfigAction {
    /// Say whether it is right, and everything that is not
    Check,
    /// Print what counts in the end, without secrets
    Show,
}

impl From<Flags> for Overrides {
    fn from(flags: Flags) -> Self {
        let values = [
            ("hierophant_ws_address", flags.hierophant_ws_address),
            ("contemplant_name", flags.contemplant_name),
            ("state_directory", flags.state_directory),
            ("log", flags.log),
        ];
        let values = values.into_iter().filter_map(|(key, value)| Some((key, value?))).collect::<BTreeMap<_, _>>();
        Self { file: flags.config, values, mock: flags.mock }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn flags_override_keys() {
        let cli = Cli::parse_from(["contemplant", "--config", "x.toml", "--name", "Amos", "--mock"]);
        let overrides = Overrides::from(cli.flags);
        assert_eq!(overrides.file, Some(PathBuf::from("x.toml")));
        assert_eq!(overrides.values, BTreeMap::from([("contemplant_name", "Amos".to_owned())]));
        assert!(overrides.mock);
    }

    #[test]
    fn the_prover_child_is_not_shown_but_there() {
        let help = Cli::command().render_long_help().to_string();
        assert!(!help.contains("prover child"), "{help}");
        let cli = Cli::parse_from(["contemplant", "prover", "--backend", "mock"]);
        assert!(matches!(cli.command, Some(Command::Prover { backend: network_lib::Backend::Mock, .. })));
    }

    #[test]
    fn the_prover_child_of_a_gpu_hears_what_the_configuration_says() {
        use crate::config::gpu::{GpuConfig, GpuServerDownload};
        let sha256 = Digest::sha256(b"a server");
        let config = GpuConfig {
            server: Some("/opt/sp1-gpu-server".into()),
            silence_limit: Duration::from_secs(90),
            download: Some(GpuServerDownload { url: Some("https://example.com/x".parse().unwrap()), sha256 }),
            ..GpuConfig::default()
        };
        let program = GpuProgram { device: 3, config, directory: "/state/gpu-server".into() };
        let args = [OsString::from("contemplant")].into_iter().chain(gpu_prover(&program));
        let Some(Command::Prover { backend, gpu }) = Cli::parse_from(args).command else { panic!("no prover") };
        assert_eq!(backend, network_lib::Backend::Gpu);
        let expected = GpuArgs {
            device: 3,
            gpu_server: Some("/opt/sp1-gpu-server".into()),
            gpu_silence_limit: Some(Duration::from_secs(90)),
            gpu_server_sha256: Some(sha256),
            gpu_server_url: Some("https://example.com/x".to_owned()),
            gpu_server_directory: Some("/state/gpu-server".into()),
        };
        assert_eq!(gpu, expected);
    }
}
