//! Graphics cards, and the server that proves on them.

use super::facts::{Gpu, GpuServer};
use crate::{
    artifacts::readable,
    config::gpu::GpuConfig,
    tools::{NoAnswer, ask},
};

/// Asks `nvidia-smi`.
pub(super) fn look() -> Gpu {
    let query = ["--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"];
    match ask("nvidia-smi", &query) {
        Err(NoAnswer::Missing) => Gpu::None,
        Err(NoAnswer::Failed(words)) => Gpu::Unusable(words),
        Ok(text) => {
            let lines = text.lines().filter(|line| !line.trim().is_empty());
            Gpu::Cards(lines.map(|line| readable(line.as_bytes())).collect())
        }
    }
}

/// Asks this program, as `contemplant find-gpu-server`, which server a prover would run.
pub(super) fn look_for_server(config: &GpuConfig) -> GpuServer {
    let named = config.server.as_ref().map(|server| server.display().to_string());
    let mut args = vec!["find-gpu-server"];
    args.extend(named.iter().flat_map(|server| ["--gpu-server", server.as_str()]));
    let found = match ask("/proc/self/exe", &args) {
        Ok(path) => Ok(path.trim().to_owned()),
        Err(NoAnswer::Missing) => Err("this program cannot be started again".to_owned()),
        Err(NoAnswer::Failed(words)) => Err(words),
    };
    GpuServer { found, may_be_downloaded: config.download.is_some() }
}
