//! Configuration: one file, overridden by the environment, then by flags. Nothing else reads the environment.
//!
//! [`Config::load`] reads all of it, reports every problem at once, with its key, and opens nothing.

mod legacy;
mod raw;

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use figment::{
    Figment,
    providers::{Env, Format as _, Serialized, Toml},
};
use hierophant_core::{FaultPolicy, FleetSettings, Requester, RetryPolicy};
use proving::VerifierSettings;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Serialize;
use url::Url;

pub use self::raw::LogFormat;
use self::raw::Raw;
use crate::{
    fleet::SessionSettings,
    store::{RetentionRules, SHORTEST_STAY},
};

/// Everything that can be set, checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where the SP1 SDK calls.
    pub grpc_address: SocketAddr,
    /// Where artifacts and status are served and workers connect.
    pub http_address: SocketAddr,
    /// The base of artifact addresses. Without it, the host that the client itself used.
    pub public_url: Option<Url>,
    /// Where everything durable is.
    pub data_directory: PathBuf,
    /// Where artifacts are.
    pub artifact_directory: PathBuf,
    /// Whether proofs of mock provers count.
    pub mock_mode: bool,
    /// Who may ask; empty: everyone who signs.
    pub allowed_requesters: Vec<Requester>,
    /// What workers must present. Without it only workers on this machine may join.
    pub worker_token: Option<SecretString>,
    /// Bounds.
    pub limits: Limits,
    /// How much is kept of what nobody works on any more.
    pub retention: RetentionRules,
    /// Patience with workers.
    pub fleet: FleetSettings,
    /// Heartbeats.
    pub session: SessionSettings,
    /// Patience with requests.
    pub retry: RetryPolicy,
    /// The verifier.
    pub verifier: VerifierConfig,
    /// Logs.
    pub log: LogSettings,
    /// What was set and means nothing any more, and what replaced it. Logged once at the start.
    pub warnings: Vec<String>,
}

/// Bounds on what comes from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Requests that may wait at once.
    pub queued_requests: usize,
    /// Largest program, in bytes as uploaded.
    pub program_bytes: u64,
    /// Largest input, in bytes as uploaded.
    pub stdin_bytes: u64,
    /// Largest proof, in bytes.
    pub proof_bytes: u64,
    /// Bytes of disk that are kept free for proofs: other uploads are refused before it gets there.
    pub keep_free: u64,
    /// Deadlines further ahead are taken back to this.
    pub deadline: Duration,
    /// Connections that each port serves at once.
    pub connections: usize,
}

/// How proofs are verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifierConfig {
    /// Another program than our own that speaks the frames of the `proving` crate.
    pub program: Option<PathBuf>,
    /// Its arguments.
    pub args: Vec<String>,
    /// Its bounds.
    pub settings: VerifierSettings,
}

/// What is logged, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogSettings {
    /// A filter in the syntax of `RUST_LOG`.
    pub filter: String,
    /// For people or for programs.
    pub format: LogFormat,
}

/// What the command line may override.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Overrides {
    /// See [`Config::grpc_address`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grpc_port: Option<u16>,
    /// See [`Config::http_address`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http_port: Option<u16>,
    /// See [`Config::data_directory`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data_directory: Option<PathBuf>,
    /// See [`Config::mock_mode`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mock_mode: Option<bool>,
}

/// All that is wrong with a configuration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the configuration has {} problem(s):\n{}", .0.len(), .0.iter().map(|problem| format!("  - {problem}")).collect::<Vec<_>>().join("\n"))]
pub struct ConfigProblems(pub Vec<String>);

impl Config {
    /// Reads the file (if one is named), the environment and the flags, in this order: the later wins.
    ///
    /// # Errors
    /// [`ConfigProblems`] with every problem found.
    pub fn load(file: Option<&Path>, overrides: &Overrides) -> Result<Self, ConfigProblems> {
        if let Some(file) = file
            && let Err(error) = std::fs::metadata(file)
        {
            return Err(ConfigProblems(vec![format!("the configuration file {}: {error}", file.display())]));
        }
        let mut figment = Figment::from(Serialized::defaults(Raw::default()));
        if let Some(file) = file {
            figment = figment.merge(Toml::file_exact(file));
        }
        let figment = figment
            .merge(Env::raw().only(&legacy::BARE_ENVIRONMENT))
            .merge(Env::prefixed("HIEROPHANT_").ignore(&legacy::OF_THE_WORKER).split("__"))
            .merge(Serialized::defaults(overrides));
        let (raw, problems) = Raw::read(&figment).map_err(ConfigProblems)?;
        Self::check(raw, problems)
    }

    /// What `raw` means, unless there are `problems` already or more are found.
    fn check(raw: Raw, mut problems: Vec<String>) -> Result<Self, ConfigProblems> {
        let warnings = legacy::warnings(&raw);
        let evict_after = raw.workers.evict_after_faults.or_else(|| raw.worker_registry.as_ref()?.max_worker_strikes);
        check_timers(&raw, &mut problems);
        check_retention(&raw, &mut problems);
        let mut allowed_requesters = Vec::new();
        for address in &raw.allowed_requesters {
            match address.to_lowercase().parse() {
                Ok(requester) => allowed_requesters.push(requester),
                Err(error) => problems.push(format!("allowed_requesters: {error}")),
            }
        }
        let public_url = raw.public_url.clone().or_else(|| {
            let ip = raw.this_hierophant_ip.as_ref()?;
            match Url::parse(&format!("http://{ip}:{}", raw.http_port)) {
                Ok(url) => Some(url),
                Err(error) => {
                    problems.push(format!("this_hierophant_ip: {ip:?} is not a host: {error}"));
                    None
                }
            }
        });
        if let Some(url) = &public_url
            && !matches!(url.scheme(), "http" | "https")
        {
            problems.push(format!("public_url: {url} must begin with http:// or https://"));
        }
        if raw.worker_token.as_ref().is_some_and(|token| token.expose_secret().len() < 16) {
            problems.push("worker_token: must have at least 16 characters".to_owned());
        }
        let data_directory = raw.data_directory.or_else(default_data_directory).unwrap_or_else(|| {
            problems.push("data_directory: must be set, since there is no home directory".to_owned());
            PathBuf::new()
        });
        // Whoever says under which address others reach it wants to be reached.
        let default_ip = if public_url.is_some() { Ipv4Addr::UNSPECIFIED } else { Ipv4Addr::LOCALHOST };
        let ip = raw.listen_address.unwrap_or(IpAddr::V4(default_ip));
        if raw.grpc_port == raw.http_port && raw.grpc_port != 0 {
            problems.push(format!("grpc_port and http_port: both are {}; they must differ", raw.grpc_port));
        }
        if !problems.is_empty() {
            return Err(ConfigProblems(problems));
        }
        Ok(Self {
            grpc_address: SocketAddr::new(ip, raw.grpc_port),
            http_address: SocketAddr::new(ip, raw.http_port),
            public_url,
            artifact_directory: raw.artifact_store_directory.unwrap_or_else(|| data_directory.join("artifacts")),
            data_directory,
            mock_mode: raw.mock_mode,
            allowed_requesters,
            worker_token: raw.worker_token,
            limits: Limits {
                queued_requests: raw.limits.queued_requests,
                program_bytes: raw.limits.program_size.as_u64(),
                stdin_bytes: raw.limits.stdin_size.as_u64(),
                proof_bytes: raw.limits.proof_size.as_u64(),
                keep_free: raw.limits.keep_free.as_u64(),
                deadline: raw.limits.deadline,
                connections: raw.limits.connections,
            },
            retention: RetentionRules {
                age: raw.retention.age,
                requests: raw.retention.requests,
                bytes: raw.retention.bytes.map(|bytes| bytes.as_u64()),
                unused_artifacts: raw.retention.unused_artifacts,
                inputs: raw.max_stdin_artifacts_stored,
                proofs: raw.max_proof_artifacts_stored,
            },
            fleet: FleetSettings {
                silence_limit: raw.workers.silence_limit,
                grace: raw.workers.grace,
                first_pause: raw.retry.first_pause,
                longest_pause: raw.retry.longest_pause,
                hedge_before: raw.workers.hedge_before,
                faults: FaultPolicy {
                    evict_after: evict_after.unwrap_or(FaultPolicy::default().evict_after),
                    ..FaultPolicy::default()
                },
                ..FleetSettings::default()
            },
            session: SessionSettings {
                heartbeat_interval: raw.workers.heartbeat_interval,
                silence_limit: raw.workers.silence_limit,
            },
            retry: raw.retry.policy(),
            verifier: VerifierConfig {
                program: raw.verifier.program,
                args: raw.verifier.args,
                settings: VerifierSettings {
                    timeout: raw.verifier.timeout,
                    memory_bytes: raw.verifier.memory.as_u64(),
                    children: raw.verifier.children.max(1),
                    ..VerifierSettings::default()
                },
            },
            log: LogSettings { filter: raw.log.filter, format: raw.log.format },
            warnings,
        })
    }
}

/// Checks that the timers fit each other.
fn check_timers(raw: &Raw, problems: &mut Vec<String>) {
    if raw.workers.heartbeat_interval.is_zero() {
        problems.push("workers.heartbeat_interval: must be longer than 0s".to_owned());
    }
    if raw.workers.silence_limit < raw.workers.heartbeat_interval * 4 {
        problems.push(format!(
            "workers.silence_limit: must be at least four heartbeat intervals ({:?}), or busy workers are taken for gone",
            raw.workers.heartbeat_interval * 4
        ));
    }
    if raw.workers.grace < raw.workers.silence_limit {
        problems.push(
            "workers.grace: must be at least workers.silence_limit, or attempts are lost before their worker is"
                .to_owned(),
        );
    }
    if raw.retry.max_failed_attempts == 0 || raw.retry.max_lost_attempts == 0 {
        problems.push("retry: every budget must be at least 1".to_owned());
    }
    if raw.retry.guest_reports_needed == 0 {
        problems.push(
            "retry.guest_reports_needed: must be at least 1; 1 believes the first worker that says that a program fails"
                .to_owned(),
        );
    }
}

/// Checks that nothing is to be deleted while a client may still want it.
fn check_retention(raw: &Raw, problems: &mut Vec<String>) {
    let spans = [("age", raw.retention.age), ("unused_artifacts", raw.retention.unused_artifacts)];
    for (key, span) in spans {
        if span < SHORTEST_STAY {
            problems.push(format!(
                "retention.{key}: must be at least {}, so that what was made can be fetched",
                humantime::format_duration(SHORTEST_STAY)
            ));
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the one module that reads the environment")]
fn default_data_directory() -> Option<PathBuf> {
    let var = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    let base =
        var("XDG_DATA_HOME").map(PathBuf::from).or_else(|| Some(PathBuf::from(var("HOME")?).join(".local/share")));
    Some(base?.join("hierophant"))
}

#[cfg(test)]
mod tests;
