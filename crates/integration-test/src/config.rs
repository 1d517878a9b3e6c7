//! What to try: flags, over a file, over defaults.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Parser, ValueEnum};
use serde::Deserialize;

/// Starts a Hierophant and a Contemplant, and proves through them with the published SP1 SDK.
#[derive(Debug, Parser)]
#[command(version)]
pub(crate) struct Args {
    /// Settings in TOML; the keys are the names of the flags, with underscores.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The form of the proof, the last one with --aggregate [default: core, or compressed with --aggregate].
    #[arg(long)]
    mode: Option<Mode>,
    /// The SDK's network mode [default: reserved].
    #[arg(long)]
    network_mode: Option<SdkMode>,
    /// Use the mock prover: seconds instead of minutes, and proofs that prove nothing.
    #[arg(long)]
    mock: bool,
    /// Requests to make, all at once [default: 1].
    #[arg(long)]
    requests: Option<usize>,
    /// Which Fibonacci number to prove [default: 20].
    #[arg(long)]
    n: Option<u32>,
    /// Ask for compressed proofs, then for one of a second program that they verify, as rollups do.
    #[arg(long, conflicts_with = "mock")]
    aggregate: bool,
    /// End this program (SIGKILL) while the client waits, and start it again five seconds later.
    #[arg(long, value_name = "PROGRAM", conflicts_with = "rpc_url")]
    kill: Option<Victim>,
    /// Use the network that is running at this URL instead of starting one.
    #[arg(long, conflicts_with = "keep")]
    rpc_url: Option<String>,
    /// Leave both programs up until interrupted, and say how to use them.
    #[arg(long)]
    keep: bool,
    /// Port of the coordinator's gRPC [default: any free one, or 9000 with --keep].
    #[arg(long)]
    grpc_port: Option<u16>,
    /// Port of the coordinator's HTTP [default: any free one, or 9010 with --keep].
    #[arg(long)]
    http_port: Option<u16>,
}

/// The form of the proof.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Mode {
    Core,
    Compressed,
    Plonk,
    Groth16,
}

/// A program that is ended while the client waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Victim {
    Hierophant,
    Contemplant,
}

/// The SDK's network mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum SdkMode {
    Reserved,
    Mainnet,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct File {
    mode: Option<Mode>,
    network_mode: Option<SdkMode>,
    mock: bool,
    requests: Option<usize>,
    n: Option<u32>,
    aggregate: bool,
    kill: Option<Victim>,
    keep: bool,
    rpc_url: Option<String>,
    grpc_port: Option<u16>,
    http_port: Option<u16>,
}

/// What to try.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    pub(crate) mode: Mode,
    pub(crate) network_mode: SdkMode,
    pub(crate) mock: bool,
    pub(crate) requests: usize,
    pub(crate) n: u32,
    pub(crate) aggregate: bool,
    pub(crate) kill: Option<Victim>,
    pub(crate) keep: bool,
    pub(crate) rpc_url: Option<String>,
    pub(crate) grpc_port: u16,
    pub(crate) http_port: u16,
}

impl Args {
    /// Reads the file, if one is named; flags win.
    pub(crate) fn load(self) -> anyhow::Result<Config> {
        let file = match &self.config {
            Some(path) => {
                let text =
                    std::fs::read_to_string(path).with_context(|| format!("could not read {}", path.display()))?;
                toml::from_str(&text).with_context(|| format!("could not use {}", path.display()))?
            }
            None => File::default(),
        };
        let (keep, aggregate) = (self.keep || file.keep, self.aggregate || file.aggregate);
        let usual = if aggregate { Mode::Compressed } else { Mode::Core };
        let port = |chosen: Option<u16>, usual| chosen.unwrap_or(if keep { usual } else { 0 });
        Ok(Config {
            mode: self.mode.or(file.mode).unwrap_or(usual),
            network_mode: self.network_mode.or(file.network_mode).unwrap_or(SdkMode::Reserved),
            mock: self.mock || file.mock,
            requests: self.requests.or(file.requests).unwrap_or(1),
            n: self.n.or(file.n).unwrap_or(20),
            aggregate,
            kill: self.kill.or(file.kill),
            keep,
            rpc_url: self.rpc_url.or(file.rpc_url),
            grpc_port: port(self.grpc_port.or(file.grpc_port), 9000),
            http_port: port(self.http_port.or(file.http_port), 9010),
        })
    }
}
