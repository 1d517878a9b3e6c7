//! Configuration: a TOML file, overridden by the environment, overridden by flags.
//!
//! [`load`] is the only way in, and nothing outside this module reads the environment. All problems come together,
//! each with its key, before anything is started.

pub mod coordinator;
pub mod gpu;
mod legacy;
pub mod provers;
mod raw;
pub mod snark;
pub mod storage;
pub mod telemetry;

use std::{collections::BTreeMap, fmt, path::PathBuf, time::Duration};

use bytesize::ByteSize;

use crate::snark::Snark;

use self::{
    coordinator::CoordinatorConfig,
    gpu::{GpuConfig, GpuDevices},
    provers::ProverConfig,
    raw::Reader,
    snark::SnarkConfig,
    storage::StorageConfig,
    telemetry::TelemetryConfig,
};

/// What is wrong with one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The key; empty where the file as a whole is meant.
    pub key: String,
    /// Where its value comes from.
    pub origin: String,
    /// What is wrong, and what to write instead.
    pub text: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.key.as_str(), self.origin.as_str()) {
            ("", "") => f.write_str(&self.text),
            ("", origin) => write!(f, "{origin}: {}", self.text),
            (key, "") => write!(f, "{key}: {}", self.text),
            (key, origin) => write!(f, "{key} (from {origin}): {}", self.text),
        }
    }
}

/// What the command line overrides.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overrides {
    /// The configuration file; without it `contemplant.toml` in the working directory counts if it is there.
    pub file: Option<PathBuf>,
    /// Values by key, as they would stand in the file without quotes.
    pub values: BTreeMap<&'static str, String>,
    /// One mock prover in the place of all others.
    pub mock: bool,
}

/// All that a worker needs to know.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where the coordinator is, and how it knows this worker.
    pub coordinator: CoordinatorConfig,
    /// What is kept on disk, and how much.
    pub storage: StorageConfig,
    /// The provers, in the order of their indices; those on GPUs come after them.
    pub provers: Vec<ProverConfig>,
    /// What Groth16 and Plonk take.
    pub snark: SnarkConfig,
    /// The GPUs that prove.
    pub gpu: GpuConfig,
    /// Logs.
    pub telemetry: TelemetryConfig,
    /// How long a stop waits for proofs that are being made or delivered.
    pub drain_timeout: Duration,
    /// What an operator should know about the configuration, one sentence each.
    pub warnings: Vec<String>,
}

/// Reads the configuration. `environment` is that of the process, or of a test; `has_built_in_prover` says whether
/// this binary can be its own prover child.
///
/// # Errors
/// Every problem that there is, in the order of the keys.
pub fn load(
    overrides: &Overrides,
    environment: impl IntoIterator<Item = (String, String)>,
    has_built_in_prover: bool,
) -> Result<Config, Vec<Problem>> {
    let environment: BTreeMap<String, String> = environment.into_iter().collect();
    let mut reader = Reader::new(overrides, &environment)?;
    let is_mock = provers::is_mock(&mut reader, overrides.mock);
    let gpu = if is_mock { GpuConfig::default() } else { GpuConfig::read(&mut reader, has_built_in_prover) };
    let is_cpu_meant = gpu.devices == GpuDevices::None;
    let config = Config {
        coordinator: CoordinatorConfig::read(&mut reader),
        storage: StorageConfig::read(&mut reader, &environment),
        provers: provers::read(&mut reader, is_mock, is_cpu_meant, has_built_in_prover),
        snark: SnarkConfig::read(&mut reader, &environment),
        gpu,
        telemetry: TelemetryConfig::read(&mut reader),
        drain_timeout: reader.duration("drain_timeout").unwrap_or(Duration::ZERO),
        warnings: Vec::new(),
    };
    legacy::warn(&mut reader);
    let warnings = reader.finish()?;
    Ok(Config { warnings, ..config })
}

/// The environment of this process, less what is not UTF-8.
pub fn process_environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}

impl fmt::Display for Config {
    /// A file that says the same. Secrets are not shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { coordinator, storage, provers, snark, gpu, telemetry, drain_timeout, warnings: _ } = self;
        let text = |value: &str| toml_text(value);
        writeln!(f, "hierophant_ws_address = {}", text(coordinator.ws_address.as_str()))?;
        match &coordinator.name {
            Some(name) => writeln!(f, "contemplant_name = {}", text(name))?,
            None => writeln!(f, "# contemplant_name: drawn at the first start")?,
        }
        let secret = if coordinator.token.is_some() { "given, not shown here" } else { "none" };
        writeln!(f, "# worker_token: {secret}")?;
        if let Some(endpoint) = &coordinator.magister_drop_endpoint {
            writeln!(f, "magister_drop_endpoint = {}", text(endpoint))?;
        }
        writeln!(f, "state_directory = {}", text(&storage.state_directory.display().to_string()))?;
        let bytes = |size: ByteSize| size.as_u64();
        writeln!(f, "max_program_cache_bytes = {}", bytes(storage.max_program_cache_bytes))?;
        writeln!(f, "max_input_cache_bytes = {}", bytes(storage.max_input_cache_bytes))?;
        writeln!(f, "min_free_disk_bytes = {}", bytes(storage.min_free_disk_bytes))?;
        for (key, kind) in [("min_groth16_memory_bytes", Snark::Groth16), ("min_plonk_memory_bytes", Snark::Plonk)] {
            writeln!(f, "{key} = {}", bytes(snark.min_memory(kind)))?;
        }
        writeln!(f, "allow_gnark_image_pull = {}", snark.may_pull_image)?;
        writeln!(f, "drain_timeout = {}", text(&humantime::format_duration(*drain_timeout).to_string()))?;
        writeln!(f, "log = {}", text(&telemetry.filter))?;
        writeln!(f, "log_format = {}", text(telemetry.format.name()))?;
        fmt_gpu(gpu, f)?;
        for prover in provers {
            writeln!(f, "\n[[provers]]\nvm = {}", text(&prover.vm.to_string()))?;
            writeln!(f, "backend = {}", text(prover.backend.name()))?;
            if let Some(script) = &prover.script {
                writeln!(f, "script = {}", text(script.text()))?;
            }
            if let Some(limit) = prover.memory_limit {
                writeln!(f, "memory_limit = {}", text(&format!("{} B", limit.as_u64())))?;
            }
            if let Some(limit) = prover.time_limit {
                writeln!(f, "time_limit = {}", text(&humantime::format_duration(limit).to_string()))?;
            }
            if let Some(spare) = prover.spare {
                writeln!(f, "spare = {spare}")?;
            }
            if let provers::ProverProgram::External { program, args } = &prover.program {
                writeln!(f, "program = {}", text(&program.display().to_string()))?;
                let args: Vec<String> = args.iter().map(|arg| text(arg)).collect();
                writeln!(f, "args = [{}]", args.join(", "))?;
            }
        }
        Ok(())
    }
}

fn fmt_gpu(gpu: &GpuConfig, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match &gpu.devices {
        GpuDevices::None => return Ok(()),
        GpuDevices::All => writeln!(f, "gpu_devices = \"all\"")?,
        GpuDevices::Named(devices) => writeln!(f, "gpu_devices = {devices:?}")?,
    }
    if let Some(server) = &gpu.server {
        writeln!(f, "gpu_server = {}", toml_text(&server.display().to_string()))?;
    }
    writeln!(f, "gpu_silence_limit = {}", toml_text(&humantime::format_duration(gpu.silence_limit).to_string()))?;
    writeln!(f, "gpu_spare = {}", gpu.has_spare)?;
    if let Some(download) = &gpu.download {
        let url = download.url.as_ref().map(|url| format!("url = {}, ", toml_text(url.as_str()))).unwrap_or_default();
        writeln!(f, "gpu_server_download = {{ {url}sha256 = \"{}\" }}", download.sha256)?;
    }
    Ok(())
}

/// A TOML string: JSON's escapes are TOML's, for all that JSON escapes.
fn toml_text(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests;
