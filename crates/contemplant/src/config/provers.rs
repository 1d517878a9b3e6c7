//! The provers of this worker.

use std::{path::PathBuf, time::Duration};

use bytesize::ByteSize;
use figment::value::Value;
use network_lib::{Backend, Vm};
use proving::script::{Origin, Script};
use serde::Deserialize;

use super::{gpu::GpuConfig, legacy, raw::Reader};

/// Most provers of one worker, as the protocol has it.
pub(crate) const MAX_PROVERS: usize = 64;

/// One prover.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProverConfig {
    /// The virtual machine whose programs it proves.
    pub vm: Vm,
    /// What makes the proofs.
    pub backend: Backend,
    /// The child process.
    pub program: ProverProgram,
    /// What a mock prover plays for requests that bring no script along.
    pub script: Option<Script>,
    /// Most memory of the prover's processes together.
    pub memory_limit: Option<ByteSize>,
    /// Most time for one attempt.
    pub time_limit: Option<Duration>,
    /// Whether a second prover stands by. If not said, the machine's memory decides.
    pub spare: Option<bool>,
}

/// The child process of a prover.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProverProgram {
    /// This binary, under its hidden subcommand.
    BuiltIn,
    /// This binary, for a GPU.
    Gpu(GpuProgram),
    /// Another program that speaks the frames of the crate `proving`.
    External {
        /// Its path.
        program: PathBuf,
        /// Its arguments.
        args: Vec<String>,
    },
}

/// What the prover child of a GPU is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GpuProgram {
    /// The device's number, as `nvidia-smi` counts.
    pub device: u32,
    /// What is said of all devices.
    pub config: GpuConfig,
    /// Where a downloaded server is kept.
    pub directory: PathBuf,
}

/// A prover as it stands in a file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawProver {
    vm: Option<String>,
    backend: Option<String>,
    program: Option<PathBuf>,
    #[serde(default)]
    args: Vec<String>,
    script: Option<String>,
    memory_limit: Option<String>,
    time_limit: Option<String>,
    spare: Option<bool>,
    moongate_endpoint: Option<Value>,
    groth16_enabled: Option<Value>,
}

/// Whether one mock prover takes the place of all others.
pub(super) fn is_mock(reader: &mut Reader, mock: bool) -> bool {
    mock || reader.flag("mock").unwrap_or(false)
}

/// Reads `[[provers]]`; `is_mock` is short for one mock prover. Without either there is one CPU prover, if `is_cpu_meant`.
pub(super) fn read(
    reader: &mut Reader,
    is_mock: bool,
    is_cpu_meant: bool,
    has_built_in_prover: bool,
) -> Vec<ProverConfig> {
    let raw = match reader.value("provers").cloned() {
        _ if is_mock => vec![Value::from(figment::value::Dict::from([("backend".to_owned(), Value::from("mock"))]))],
        None if is_cpu_meant => vec![Value::from(figment::value::Dict::new())],
        None => return Vec::new(), // GPUs alone
        Some(Value::Array(_, provers)) if provers.is_empty() => {
            reader.problem("provers", "a worker has at least one prover: leave the key out for one on the processor");
            return Vec::new();
        }
        Some(Value::Array(_, provers)) if provers.len() > MAX_PROVERS => {
            reader.problem("provers", format!("a worker has at most {MAX_PROVERS} provers: run another worker"));
            return Vec::new();
        }
        Some(Value::Array(_, provers)) => provers,
        Some(_) => {
            reader.problem("provers", "expected a list of tables: begin each with the line [[provers]]");
            return Vec::new();
        }
    };
    let read = raw.iter().enumerate().map(|(index, value)| read_one(reader, index, value, has_built_in_prover));
    read.collect::<Vec<_>>().into_iter().flatten().collect()
}

fn read_one(reader: &mut Reader, index: usize, value: &Value, has_built_in_prover: bool) -> Option<ProverConfig> {
    let key = |field: &str| format!("provers[{index}].{field}");
    let raw: RawProver = match value.deserialize() {
        Ok(raw) => raw,
        Err(error) => {
            reader.problem(&format!("provers[{index}]"), error.kind.to_string());
            return None;
        }
    };
    if raw.moongate_endpoint.is_some() {
        reader.warning(format!("{} has no meaning any more: {}", key("moongate_endpoint"), legacy::MOONGATE));
    }
    if raw.groth16_enabled.is_some() {
        let what = "an SP1 prover says itself which proof modes it makes";
        reader.warning(format!("{} has no meaning any more: {what}", key("groth16_enabled")));
    }
    let vm = raw.vm.map_or(Ok(Vm::Sp1), |vm| vm.parse());
    let vm = vm.map_err(|problem: String| reader.problem(&key("vm"), problem)).ok();
    let backend = raw.backend.map_or(Ok(Backend::Cpu), |backend| backend.parse());
    let backend = backend.map_err(|problem: String| reader.problem(&key("backend"), problem)).ok();
    let program = match raw.program {
        Some(program) => ProverProgram::External { program, args: raw.args },
        None if !raw.args.is_empty() => {
            reader.problem(&key("args"), "are for a program, and none is given");
            return None;
        }
        None if !has_built_in_prover => {
            let problem = "must be given, since this contemplant was built without the feature \"sp1\": name a program \
                that speaks the frames of the crate proving, or build with the feature";
            reader.problem(&key("program"), problem);
            return None;
        }
        None if backend == Some(Backend::Gpu) => {
            let problem = "a GPU is named outside of [[provers]]: write gpu_devices = \"all\", or a list like [0, 1]";
            reader.problem(&key("backend"), problem);
            return None;
        }
        None => ProverProgram::BuiltIn,
    };
    let script = match raw.script {
        Some(_) if backend != Some(Backend::Mock) || program != ProverProgram::BuiltIn => {
            reader.problem(&key("script"), "is for backend = \"mock\" without a program of its own");
            None
        }
        Some(text) => {
            let script = Script::parse(&text, Origin::Operator);
            script.map_err(|error| reader.problem(&key("script"), error.to_string())).ok()
        }
        None => None,
    };
    let memory_limit = raw.memory_limit.and_then(|text| match text.parse::<ByteSize>() {
        Ok(limit) if limit.as_u64() > 0 => Some(limit),
        _ => {
            reader.problem(&key("memory_limit"), format!("{text:?} is not a limit: write it like \"24GiB\""));
            None
        }
    });
    let time_limit = raw.time_limit.and_then(|text| match humantime::parse_duration(&text) {
        Ok(limit) if !limit.is_zero() => Some(limit),
        _ => {
            reader.problem(&key("time_limit"), format!("{text:?} is not a limit: write it like \"4h\""));
            None
        }
    });
    Some(ProverConfig { vm: vm?, backend: backend?, program, script, memory_limit, time_limit, spare: raw.spare })
}
