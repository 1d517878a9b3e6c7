//! Whether docker can run gnark for SP1.

use crate::tools::{NoAnswer, ask};

/// What docker is good for here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Docker {
    /// There is no such program.
    Missing,
    /// It does not answer, for this reason.
    Unusable(String),
    /// It runs; the image with gnark is not here yet.
    WithoutImage,
    /// It runs, and has the image.
    Ready,
}

impl Docker {
    /// Asks docker for itself, as SP1 will do, and for `image`. Blocks, twenty seconds at most.
    pub fn look(image: &str) -> Self {
        match ask("docker", &["info", "--format", "{{.ServerVersion}}"]) {
            Err(NoAnswer::Missing) => Self::Missing,
            Err(NoAnswer::Failed(words)) => Self::Unusable(words),
            Ok(_) => match ask("docker", &["image", "inspect", "--format", "{{.Id}}", image]) {
                Ok(_) => Self::Ready,
                Err(_) => Self::WithoutImage,
            },
        }
    }
}
