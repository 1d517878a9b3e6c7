//! Runs that broke a promise, as files: what made them, what was broken, and everything that happened.

use std::{fs, io, path::Path};

use serde::{Deserialize, Serialize};

use crate::{
    invariants::Violation,
    mix::Kind,
    run::{Options, Outcome, run},
};

/// A saved run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replay {
    /// What makes the run.
    pub options: Options,
    /// The promise that was broken.
    pub violation: Violation,
    /// Everything that happened.
    pub log: Vec<String>,
}

impl Replay {
    /// The replay of a run that broke a promise; `None` of one that did not.
    pub fn of(outcome: &Outcome) -> Option<Self> {
        let violation = outcome.violation.clone()?;
        Some(Self { options: outcome.options.clone(), violation, log: outcome.log() })
    }

    /// Writes it to a file.
    ///
    /// # Errors
    /// When the file cannot be written.
    ///
    /// # Panics
    /// Never: a replay is plain text and numbers.
    pub fn save(&self, path: &Path) -> io::Result<()> {
        let text = serde_json::to_string_pretty(self).expect("text and numbers");
        fs::write(path, text)
    }

    /// Reads it from a file.
    ///
    /// # Errors
    /// When the file cannot be read or holds something else.
    pub fn load(path: &Path) -> io::Result<Self> {
        serde_json::from_slice(&fs::read(path)?).map_err(io::Error::other)
    }

    /// Runs it again. The second value tells whether everything happened just as before.
    pub fn run(&self) -> (Outcome, bool) {
        let outcome = run(&self.options);
        let is_same = outcome.violation.as_ref() == Some(&self.violation) && outcome.log() == self.log;
        (outcome, is_same)
    }
}

/// Leaves kinds of faults out, one after the other, as long as the same promise stays broken.
pub fn shrink(mut outcome: Outcome) -> Outcome {
    let Some(broken) = outcome.violation.as_ref().map(|violation| violation.promise.clone()) else { return outcome };
    for kind in Kind::ALL {
        if !outcome.options.kinds().contains(&kind) {
            continue;
        }
        let mut options = outcome.options.clone();
        options.without.insert(kind);
        let simpler = run(&options);
        if simpler.violation.as_ref().is_some_and(|violation| violation.promise == broken) {
            outcome = simpler;
        }
    }
    outcome
}
