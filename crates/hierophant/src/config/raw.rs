//! The configuration as it is written: keys, units in the values, defaults.

use std::{net::IpAddr, path::PathBuf, time::Duration};

use bytesize::ByteSize;
use figment::{
    Figment,
    error::Kind,
    value::{Dict, Tag, Value},
};
use hierophant_core::RetryPolicy;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use url::Url;

/// Every key. Those of the first Hierophant stand at the end, with what became of them.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Raw {
    pub(super) grpc_port: u16,
    pub(super) http_port: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) listen_address: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) public_url: Option<Url>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) data_directory: Option<PathBuf>,
    pub(super) mock_mode: bool,
    pub(super) allowed_requesters: Vec<String>,
    #[serde(skip_serializing)]
    pub(super) worker_token: Option<SecretString>,
    pub(super) limits: Limits,
    pub(super) retention: Retention,
    pub(super) workers: Workers,
    pub(super) retry: Retry,
    pub(super) verifier: Verifier,
    pub(super) log: Log,

    // Keys of the first Hierophant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) this_hierophant_ip: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) artifact_store_directory: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) pub_key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) max_stdin_artifacts_stored: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) max_proof_artifacts_stored: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) worker_response_timeout_secs: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) worker_registry: Option<WorkerRegistry>,
}

impl Default for Raw {
    fn default() -> Self {
        Self {
            grpc_port: 9000,
            http_port: 9010,
            listen_address: None,
            public_url: None,
            data_directory: None,
            mock_mode: false,
            allowed_requesters: Vec::new(),
            worker_token: None,
            limits: Limits::default(),
            retention: Retention::default(),
            workers: Workers::default(),
            retry: Retry::default(),
            verifier: Verifier::default(),
            log: Log::default(),
            this_hierophant_ip: None,
            artifact_store_directory: None,
            pub_key: None,
            max_stdin_artifacts_stored: None,
            max_proof_artifacts_stored: None,
            worker_response_timeout_secs: None,
            worker_registry: None,
        }
    }
}

impl Raw {
    /// Reads every key. One that cannot be read is a problem, and counts as left out so that the others are read too.
    ///
    /// # Errors
    /// The problems, when the sources themselves cannot be read.
    pub(super) fn read(figment: &Figment) -> Result<(Self, Vec<String>), Vec<String>> {
        let texts = |error: figment::Error| error.into_iter().map(|problem| problem.to_string()).collect::<Vec<_>>();
        let mut values = Value::Dict(Tag::Default, figment.extract::<Dict>().map_err(texts)?);
        let mut problems = Vec::new();
        loop {
            let error = match values.deserialize::<Self>() {
                Ok(raw) => return Ok((raw, problems)),
                Err(error) => error,
            };
            // Serde stops at the first.
            let mut path = error.path.clone();
            if let Kind::UnknownField(name, _) = &error.kind
                && path.last() != Some(name)
            {
                path.push(name.clone());
            }
            let key = path.join(".");
            let source = match figment.find_metadata(&key) {
                Some(metadata) => match metadata.source.as_ref().and_then(figment::Source::file_path) {
                    Some(file) => format!(" (in {})", file.display()),
                    None => format!(" (in {})", metadata.name),
                },
                None => String::new(),
            };
            problems.push(format!("{key}: {}{source}", error.kind));
            if !remove(&mut values, &path) {
                return Err(problems);
            }
        }
    }
}

/// Removes what stands at `path`; whether anything did.
fn remove(values: &mut Value, path: &[String]) -> bool {
    let Value::Dict(_, values) = values else { return false };
    match path {
        [] => false,
        [key] => values.remove(key).is_some(),
        [key, rest @ ..] => match values.get_mut(key) {
            // An element of a list, perhaps: then all of the list.
            Some(inner) => remove(inner, rest) || values.remove(key).is_some(),
            None => false,
        },
    }
}

#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Limits {
    pub(super) queued_requests: usize,
    pub(super) program_size: ByteSize,
    pub(super) stdin_size: ByteSize,
    pub(super) proof_size: ByteSize,
    pub(super) keep_free: ByteSize,
    #[serde(with = "humantime_serde")]
    pub(super) deadline: Duration,
    pub(super) connections: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            queued_requests: 100_000,
            program_size: ByteSize::mib(256),
            stdin_size: ByteSize::gib(4),
            proof_size: ByteSize::gib(4),
            keep_free: ByteSize::gib(1),
            deadline: Duration::from_hours(7 * 24),
            connections: 4096,
        }
    }
}

#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Retention {
    #[serde(with = "humantime_serde")]
    pub(super) age: Duration,
    pub(super) requests: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) bytes: Option<ByteSize>,
    #[serde(with = "humantime_serde")]
    pub(super) unused_artifacts: Duration,
}

impl Default for Retention {
    fn default() -> Self {
        let rules = crate::store::RetentionRules::default();
        Self { age: rules.age, requests: rules.requests, bytes: None, unused_artifacts: rules.unused_artifacts }
    }
}

#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Workers {
    #[serde(with = "humantime_serde")]
    pub(super) heartbeat_interval: Duration,
    #[serde(with = "humantime_serde")]
    pub(super) silence_limit: Duration,
    #[serde(with = "humantime_serde")]
    pub(super) grace: Duration,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) evict_after_faults: Option<u32>,
    #[serde(with = "humantime_serde", skip_serializing_if = "Option::is_none")]
    pub(super) hedge_before: Option<Duration>,
}

impl Default for Workers {
    fn default() -> Self {
        Self {
            heartbeat_interval: Duration::from_secs(5),
            silence_limit: Duration::from_secs(30),
            grace: Duration::from_mins(2),
            evict_after_faults: None,
            hedge_before: None,
        }
    }
}

#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Retry {
    pub(super) max_failed_attempts: u32,
    pub(super) max_lost_attempts: u32,
    pub(super) guest_reports_needed: u32,
    #[serde(with = "humantime_serde")]
    pub(super) first_pause: Duration,
    #[serde(with = "humantime_serde")]
    pub(super) longest_pause: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        let policy = RetryPolicy::default();
        let fleet = hierophant_core::FleetSettings::default();
        Self {
            max_failed_attempts: policy.max_failed_attempts,
            max_lost_attempts: policy.max_lost_attempts,
            guest_reports_needed: policy.guest_reports_needed,
            first_pause: fleet.first_pause,
            longest_pause: fleet.longest_pause,
        }
    }
}

impl Retry {
    /// How often a request is tried.
    pub(super) const fn policy(&self) -> RetryPolicy {
        let Self { max_failed_attempts, max_lost_attempts, guest_reports_needed, .. } = *self;
        RetryPolicy { max_failed_attempts, max_lost_attempts, guest_reports_needed }
    }
}

#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Verifier {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) program: Option<PathBuf>,
    pub(super) args: Vec<String>,
    #[serde(with = "humantime_serde")]
    pub(super) timeout: Duration,
    pub(super) memory: ByteSize,
    pub(super) children: usize,
}

impl Default for Verifier {
    fn default() -> Self {
        let settings = proving::VerifierSettings::default();
        Self {
            program: None,
            args: Vec::new(),
            timeout: settings.timeout,
            memory: ByteSize::b(settings.memory_bytes),
            children: settings.children,
        }
    }
}

#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Log {
    pub(super) filter: String,
    pub(super) format: LogFormat,
}

impl Default for Log {
    fn default() -> Self {
        Self { filter: "info".to_owned(), format: LogFormat::Text }
    }
}

/// How logs are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// A line for people.
    Text,
    /// A JSON object a line.
    Json,
}

/// The section of the first Hierophant, accepted whole.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct WorkerRegistry {
    pub(super) max_worker_strikes: Option<u32>,
    pub(super) max_worker_heartbeat_interval_secs: Option<u64>,
    pub(super) proof_timeout_mins: Option<u64>,
    pub(super) worker_required_progress_interval_mins: Option<u64>,
    pub(super) worker_max_execution_report_mins: Option<u64>,
}
