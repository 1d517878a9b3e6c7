//! How far the proofs are, told as it changes.

use std::{collections::HashMap, fmt, time::Instant};

use serde::Deserialize;

use crate::say;

/// A proof that a worker is at, as `GET /contemplants` tells it.
#[derive(Debug, Deserialize)]
pub(crate) struct CurrentProof {
    request: String,
    progress: Option<Progress>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Progress {
    phase: String,
    done: u64,
    total: u64,
    is_estimate: bool,
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { phase, done, total, is_estimate } = self;
        match (total, is_estimate) {
            (0, _) if *done == 0 => write!(f, "{phase}"),
            (0, _) => write!(f, "{phase}: {done}"),
            (_, true) => write!(f, "{phase}: {done} of about {total}"),
            (_, false) => write!(f, "{phase}: {done} of {total}"),
        }
    }
}

/// Tells people what is new.
pub(crate) struct Narrator {
    since: Instant,
    told: HashMap<String, Progress>,
}

impl Default for Narrator {
    #[expect(clippy::disallowed_methods, reason = "a stopwatch")]
    fn default() -> Self {
        Self { since: Instant::now(), told: HashMap::new() }
    }
}

impl Narrator {
    /// Takes what workers are at. Whether one of them is beyond preparations.
    pub(crate) fn hear<'a>(&mut self, current: impl Iterator<Item = &'a CurrentProof>) -> bool {
        let mut is_proving = false;
        for CurrentProof { request, progress } in current {
            let Some(progress) = progress else { continue };
            is_proving |= progress.phase == "proving";
            if self.told.get(request) != Some(progress) {
                let after = self.since.elapsed().as_secs();
                say(&format!("{after:>5} s  {}…  {progress}", request.get(..8).unwrap_or(request)));
                self.told.insert(request.clone(), progress.clone());
            }
        }
        is_proving
    }
}
