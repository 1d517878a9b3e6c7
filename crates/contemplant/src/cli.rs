//! The command line.

use std::{collections::BTreeMap, path::PathBuf};

use clap::{Args, Parser, Subcommand};

use crate::config::Overrides;

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
    },
    /// Be the executor child of a prover child
    #[command(hide = true)]
    Executor,
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
        assert!(matches!(cli.command, Some(Command::Prover { backend: network_lib::Backend::Mock })));
        assert!(!help.contains("executor child"), "{help}");
        assert!(matches!(Cli::parse_from(["contemplant", "executor"]).command, Some(Command::Executor)));
    }
}
