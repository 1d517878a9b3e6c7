//! Graphics cards.

use super::facts::Gpu;
use crate::{
    artifacts::readable,
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
