//! The command line.

use std::{collections::BTreeMap, path::PathBuf};

use clap::{Args, Parser, Subcommand};

use crate::{
    config::Overrides,
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
    Prover {
        /// What makes the proofs.
        #[arg(long)]
        backend: network_lib::Backend,
        /// The SNARKs that this machine is ready for.
        #[arg(long, value_delimiter = ',')]
        snarks: Vec<network_lib::ProofMode>,
        /// What a mock prover plays.
        #[arg(long, default_value = "")]
        script: String,
    },
    /// Execute a program, and print how long that took
    #[command(hide = true)]
    Measure,
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
        let Some(Command::Prover { backend: network_lib::Backend::Mock, snarks, script }) = cli.command else {
            panic!("{cli:?}")
        };
        assert_eq!((snarks, script), (vec![], String::new()));
        let cli = Cli::parse_from(["contemplant", "prover", "--backend", "cpu", "--snarks", "plonk,groth16"]);
        let Some(Command::Prover { snarks, .. }) = cli.command else { panic!("{cli:?}") };
        assert_eq!(snarks, [network_lib::ProofMode::Plonk, network_lib::ProofMode::Groth16]);
    }
}
