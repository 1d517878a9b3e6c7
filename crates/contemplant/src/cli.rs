//! The command line.

use std::{collections::BTreeMap, ffi::OsString, path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand};
use network_lib::{Backend, Digest, ProofMode};

use crate::{
    config::{Overrides, provers::GpuProgram},
    snark::{
        Snark,
        install::{Origin, parse_sha256},
    },
};

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
    /// Say what this machine can prove, how fast, what is missing, and how to mend it
    ///
    /// Starts no prover, and works without a Hierophant. Ends with 1 when something keeps this machine from proving
    /// anything or from reaching its Hierophant.
    Doctor {
        /// Say it in JSON
        #[arg(long)]
        json: bool,
    },
    /// Install the circuit files that Groth16 or Plonk proofs take: some gigabytes
    ///
    /// After an interruption the same command goes on where it stopped. Nothing is installed by half.
    InstallCircuits {
        /// Which circuit files
        snark: Snark,
        /// A file, or an http(s) address; without it where SP1 publishes them
        #[arg(long, value_name = "FILE|URL", value_parser = Origin::parse)]
        from: Option<Origin>,
        /// SHA-256 that the archive must have
        #[arg(long, value_name = "HEX", value_parser = parse_sha256)]
        sha256: Option<[u8; 32]>,
    },
    /// Be the prover child of a contemplant
    #[command(hide = true)]
    Prover(ProverArgs),
    /// Be the executor child of a prover child
    #[command(hide = true)]
    Executor,
    /// Execute a program, and print how long that took
    #[command(hide = true)]
    Measure,
    /// Print where the GPU server is that a prover would run
    #[command(hide = true)]
    FindGpuServer {
        /// The one that is configured
        #[arg(long, value_name = "FILE")]
        gpu_server: Option<PathBuf>,
    },
}

/// What a prover child is told: keys of the configuration, which a child does not read.
#[derive(Debug, PartialEq, Eq, Args)]
pub struct ProverArgs {
    /// What makes the proofs.
    #[arg(long)]
    pub backend: Backend,
    /// The SNARKs that this machine is ready for.
    #[arg(long, value_delimiter = ',')]
    pub snarks: Vec<ProofMode>,
    /// Memory that it should do with, in bytes; without it the machine's.
    #[arg(long)]
    pub memory: Option<u64>,
    /// What a mock prover plays.
    #[arg(long, default_value = "")]
    pub script: String,
    /// Which GPU, and what is said of GPUs.
    #[command(flatten)]
    pub gpu: GpuArgs,
}

/// What the prover child of a GPU is told besides.
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
    /// Whether another prover child for the device stands by.
    #[arg(long)]
    pub gpu_spare: bool,
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

impl From<&GpuProgram> for GpuArgs {
    fn from(program: &GpuProgram) -> Self {
        let GpuProgram { device, config, directory } = program;
        let download = config.download.as_ref();
        Self {
            device: *device,
            gpu_server: config.server.clone(),
            gpu_silence_limit: Some(config.silence_limit),
            gpu_spare: config.has_spare,
            gpu_server_sha256: download.map(|download| download.sha256),
            gpu_server_url: download.and_then(|download| Some(download.url.as_ref()?.to_string())),
            gpu_server_directory: download.map(|_| directory.clone()),
        }
    }
}

impl GpuArgs {
    /// As they stand on a command line.
    pub(crate) fn into_args(self) -> Vec<OsString> {
        let Self {
            device,
            gpu_server,
            gpu_silence_limit,
            gpu_spare,
            gpu_server_sha256,
            gpu_server_url,
            gpu_server_directory,
        } = self;
        let silence_limit = gpu_silence_limit.map(|limit| humantime::format_duration(limit).to_string());
        let values: [(&str, Option<OsString>); 6] = [
            ("--device", Some(device.to_string().into())),
            ("--gpu-server", gpu_server.map(Into::into)),
            ("--gpu-silence-limit", silence_limit.map(Into::into)),
            ("--gpu-server-sha256", gpu_server_sha256.map(|sha256| sha256.to_string().into())),
            ("--gpu-server-url", gpu_server_url.map(Into::into)),
            ("--gpu-server-directory", gpu_server_directory.map(Into::into)),
        ];
        let values = values.into_iter().filter_map(|(name, value)| Some([name.into(), value?])).flatten();
        values.chain(gpu_spare.then(|| "--gpu-spare".into())).collect()
    }
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
        let Some(Command::Prover(args)) = cli.command else { panic!("{cli:?}") };
        let nothing_more = ProverArgs {
            backend: Backend::Mock,
            snarks: vec![],
            memory: None,
            script: String::new(),
            gpu: GpuArgs::default(),
        };
        assert_eq!(args, nothing_more);
        let cli = Cli::parse_from(["contemplant", "prover", "--backend", "cpu", "--snarks", "plonk,groth16"]);
        let Some(Command::Prover(args)) = cli.command else { panic!("{cli:?}") };
        assert_eq!(args.snarks, [ProofMode::Plonk, ProofMode::Groth16]);
        assert!(!help.contains("executor child"), "{help}");
        assert!(matches!(Cli::parse_from(["contemplant", "executor"]).command, Some(Command::Executor)));
    }

    #[test]
    fn the_prover_child_of_a_gpu_hears_what_the_configuration_says() {
        use crate::config::gpu::{GpuConfig, GpuServerDownload};
        let sha256 = Digest::sha256(b"a server");
        let config = GpuConfig {
            server: Some("/opt/sp1-gpu-server".into()),
            silence_limit: Duration::from_secs(90),
            has_spare: true,
            download: Some(GpuServerDownload { url: Some("https://example.com/x".parse().unwrap()), sha256 }),
            ..GpuConfig::default()
        };
        let program = GpuProgram { device: 3, config, directory: "/state/gpu-server".into() };
        let args = ["contemplant", "prover", "--backend", "gpu"].map(OsString::from).into_iter();
        let cli = Cli::parse_from(args.chain(GpuArgs::from(&program).into_args()));
        let Some(Command::Prover(ProverArgs { backend: Backend::Gpu, gpu, .. })) = cli.command else {
            panic!("{cli:?}")
        };
        let expected = GpuArgs {
            device: 3,
            gpu_server: Some("/opt/sp1-gpu-server".into()),
            gpu_silence_limit: Some(Duration::from_secs(90)),
            gpu_spare: true,
            gpu_server_sha256: Some(sha256),
            gpu_server_url: Some("https://example.com/x".to_owned()),
            gpu_server_directory: Some("/state/gpu-server".into()),
        };
        assert_eq!(gpu, expected);
    }
}
