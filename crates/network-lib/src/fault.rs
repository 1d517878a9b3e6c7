//! Whose fault a failed attempt was. The answer decides what happens to the request and to the worker.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Whose fault a failed attempt was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FaultClass {
    /// The guest or its input: deterministic, every worker would see the same. The request is unexecutable.
    Guest,
    /// The machine was too small: memory, disk, time. Another worker may do.
    Resources,
    /// The worker or its prover broke. Another worker next.
    Worker,
    /// Contact with the worker was lost.
    Lost,
}

impl FaultClass {
    /// The class's name in lower case.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Guest => "guest",
            Self::Resources => "resources",
            Self::Worker => "worker",
            Self::Lost => "lost",
        }
    }
}

impl fmt::Display for FaultClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why an attempt failed: whose fault, and the cause in words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{class} fault: {cause}")]
pub struct Fault {
    /// Whose fault it was.
    pub class: FaultClass,
    /// What happened, and where there is one the remedy. At most [`Fault::MAX_CAUSE_BYTES`] long.
    pub cause: String,
}

impl Fault {
    /// Longest cause that is kept, in bytes: a guest's panic text comes from outside and may be of any length.
    pub const MAX_CAUSE_BYTES: usize = 4096;

    /// A fault of `class`. The cause is cut at a character boundary and freed of control characters.
    pub fn new(class: FaultClass, cause: impl Into<String>) -> Self {
        let mut cause: String = cause.into();
        let mut end = cause.len().min(Self::MAX_CAUSE_BYTES);
        while !cause.is_char_boundary(end) {
            end -= 1;
        }
        cause.truncate(end);
        let cause = cause.replace(|c: char| c.is_control() && c != '\n', " ");
        Self { class, cause }
    }

    /// The guest or its input is at fault.
    pub fn guest(cause: impl Into<String>) -> Self {
        Self::new(FaultClass::Guest, cause)
    }

    /// The machine was too small.
    pub fn resources(cause: impl Into<String>) -> Self {
        Self::new(FaultClass::Resources, cause)
    }

    /// The worker or its prover broke.
    pub fn worker(cause: impl Into<String>) -> Self {
        Self::new(FaultClass::Worker, cause)
    }

    /// Contact was lost.
    pub fn lost(cause: impl Into<String>) -> Self {
        Self::new(FaultClass::Lost, cause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_cause_is_cut_between_characters() {
        let fault = Fault::guest("é".repeat(Fault::MAX_CAUSE_BYTES));
        assert_eq!(fault.cause.len(), Fault::MAX_CAUSE_BYTES);
        let odd = Fault::guest(format!("x{}", "é".repeat(Fault::MAX_CAUSE_BYTES)));
        assert_eq!(odd.cause.len(), Fault::MAX_CAUSE_BYTES - 1);
    }

    #[test]
    fn control_characters_do_not_reach_logs_and_terminals() {
        assert_eq!(Fault::guest("a\u{1b}[31mb").cause, "a [31mb");
    }
}
