//! The GPUs that prove: one prover for each.

use std::{io::ErrorKind, path::Path, process::Stdio, time::Duration};

use network_lib::{Backend, Vm};
use tokio::{process::Command, time::timeout};

use crate::config::{
    gpu::{GpuConfig, GpuDevices},
    provers::{GpuProgram, MAX_PROVERS, ProverConfig, ProverProgram},
};

/// What lists the devices.
const NVIDIA_SMI: &str = "nvidia-smi";
/// How long it may take. On a machine with many devices at rest it takes seconds.
const LIMIT: Duration = Duration::from_secs(30);
/// What an operator can do when it does not help.
const REMEDY: &str = "name the devices instead: gpu_devices = [0]";

/// Why it is not known which GPUs there are.
#[derive(Debug, thiserror::Error)]
pub enum GpuError {
    /// It is not installed.
    #[error("gpu_devices is \"all\", and {0}, which lists them, is not there: install NVIDIA's driver, or {REMEDY}")]
    NotInstalled(String),
    /// It cannot be run, or failed; most often the driver is not loaded.
    #[error("gpu_devices is \"all\", and {program} does not list them ({cause}): see to the driver, or {REMEDY}")]
    Failed {
        /// What was asked.
        program: String,
        /// What it says.
        cause: String,
    },
    /// More than one worker can have.
    #[error("{0} provers are more than the {MAX_PROVERS} of one worker: name some of the devices by gpu_devices")]
    TooMany(usize),
}

/// The provers that `config` asks for, to come after `others`. Downloads of their server go into `directory`.
///
/// # Errors
/// [`GpuError`]
pub async fn provers(config: &GpuConfig, others: usize, directory: &Path) -> Result<Vec<ProverConfig>, GpuError> {
    let devices = match &config.devices {
        GpuDevices::None => Vec::new(),
        GpuDevices::Named(devices) => devices.clone(),
        GpuDevices::All => list(NVIDIA_SMI).await?,
    };
    if devices.len() + others > MAX_PROVERS {
        return Err(GpuError::TooMany(devices.len() + others));
    }
    let prover = |device| {
        let program = GpuProgram { device, config: config.clone(), directory: directory.to_owned() };
        ProverConfig {
            vm: Vm::Sp1,
            backend: Backend::Gpu,
            program: ProverProgram::Gpu(program),
            script: None,
            memory_limit: None,
            time_limit: None,
            spare: Some(config.has_spare),
        }
    };
    Ok(devices.into_iter().map(prover).collect())
}

/// The numbers of all devices, as `program` has them; at least one.
async fn list(program: &str) -> Result<Vec<u32>, GpuError> {
    let failed = |cause: String| GpuError::Failed { program: program.to_owned(), cause };
    let mut command = Command::new(program);
    command.args(["--query-gpu=index", "--format=csv,noheader"]).stdin(Stdio::null()).kill_on_drop(true);
    let output = match timeout(LIMIT, command.output()).await {
        Err(_) => return Err(failed(format!("it said nothing for {} s", LIMIT.as_secs()))),
        Ok(Err(error)) if error.kind() == ErrorKind::NotFound => {
            return Err(GpuError::NotInstalled(program.to_owned()));
        }
        Ok(Err(error)) => return Err(failed(error.to_string())),
        Ok(Ok(output)) => output,
    };
    let text = String::from_utf8_lossy(&output.stdout);
    let devices: Option<Vec<u32>> = text.lines().map(|line| line.trim().parse().ok()).collect();
    match devices {
        Some(devices) if output.status.success() && !devices.is_empty() => Ok(devices),
        // It tells its troubles on its standard output.
        _ => {
            let said = format!("{text} {}", String::from_utf8_lossy(&output.stderr)).replace('\n', " ");
            Err(failed(format!("{}: {}", output.status, said.trim())))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    async fn listed(script: &str) -> Result<Vec<u32>, String> {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("nvidia-smi");
        std::fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        list(&program.display().to_string()).await.map_err(|error| error.to_string())
    }

    #[tokio::test]
    async fn all_devices_are_those_that_nvidia_smi_lists() {
        assert_eq!(
            listed("[ \"$*\" = '--query-gpu=index --format=csv,noheader' ] && printf '0\\n1\\n'").await,
            Ok(vec![0, 1])
        );
    }

    #[tokio::test]
    async fn trouble_with_nvidia_smi_is_told_with_the_remedy() {
        let broken = listed("echo 'NVIDIA-SMI has failed: no driver'; exit 9").await.unwrap_err();
        assert!(broken.contains("exit status: 9: NVIDIA-SMI has failed: no driver"), "{broken}");
        assert!(broken.ends_with("gpu_devices = [0]"), "{broken}");
        assert!(listed("echo 'No devices were found'").await.unwrap_err().contains("No devices were found"));
        assert!(listed("true").await.is_err());
        let missing = list("/nowhere/nvidia-smi").await.unwrap_err().to_string();
        let expected = "gpu_devices is \"all\", and /nowhere/nvidia-smi, which lists them, is not there: install \
            NVIDIA's driver, or name the devices instead: gpu_devices = [0]";
        assert_eq!(missing, expected);
    }

    #[tokio::test]
    async fn each_named_device_is_a_prover() {
        let config = GpuConfig { devices: GpuDevices::Named(vec![0, 2]), ..GpuConfig::default() };
        let provers = provers(&config, 1, Path::new("/state/gpu-server")).await.unwrap();
        let devices: Vec<u32> = provers
            .iter()
            .map(|prover| match &prover.program {
                ProverProgram::Gpu(program) => program.device,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(devices, [0, 2]);
        assert!(matches!(super::provers(&config, 63, Path::new("/")).await, Err(GpuError::TooMany(65))));
    }
}
