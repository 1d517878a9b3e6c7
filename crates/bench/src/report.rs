//! What was measured: for people on standard output, for programs as JSON. The one module that prints.

use std::path::PathBuf;

use serde::Serialize;

use crate::{load::Measured, machine::Machine, process::TreeMemory};

/// A run of this program.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    hierophant: PathBuf,
    machine: Machine,
    pub(crate) figures: Vec<Figure>,
}

impl Report {
    pub(crate) const fn new(hierophant: PathBuf, machine: Machine) -> Self {
        Self { hierophant, machine, figures: Vec::new() }
    }

    #[expect(clippy::print_stdout, reason = "the report is the output of this program")]
    pub(crate) fn show_head(&self) {
        println!("{}\n{}", self.hierophant.display(), self.machine.line());
    }
}

/// Says on standard error what is going on.
#[expect(clippy::print_stderr, reason = "standard output is for the report")]
pub(crate) fn progress(text: &str) {
    eprintln!("{text}");
}

/// One figure: what was done, and what it showed.
#[derive(Debug, Serialize)]
pub(crate) struct Figure {
    name: String,
    about: String,
    facts: Vec<Fact>,
}

/// One number.
#[derive(Debug, Serialize)]
struct Fact {
    name: String,
    value: f64,
    unit: &'static str,
    target: Option<Target>,
    is_met: Option<bool>,
}

/// What a number should be.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Target {
    Below(f64),
    Above(f64),
}

impl Target {
    fn is_met_by(self, value: f64) -> bool {
        match self {
            Self::Below(bound) => value < bound,
            Self::Above(bound) => value > bound,
        }
    }
}

impl Figure {
    pub(crate) fn new(name: impl Into<String>, about: impl Into<String>) -> Self {
        Self { name: name.into(), about: about.into(), facts: Vec::new() }
    }

    pub(crate) fn add(&mut self, name: impl Into<String>, value: f64, unit: &'static str, target: Option<Target>) {
        let is_met = target.map(|target| target.is_met_by(value));
        self.facts.push(Fact { name: name.into(), value, unit, target, is_met });
    }

    /// The median and the 99th percentile.
    pub(crate) fn add_latency(&mut self, measured: &Measured, median: Option<f64>, p99: Option<f64>) {
        self.add("latency, median", measured.quantile_ms(0.5), "ms", median.map(Target::Below));
        self.add("latency, p99", measured.quantile_ms(0.99), "ms", p99.map(Target::Below));
        self.add("latency, longest", measured.quantile_ms(1.0), "ms", None);
    }

    pub(crate) fn add_rate(&mut self, measured: &Measured, target: Option<f64>) {
        self.add("calls", float(measured.count()), "", None);
        self.add("rate", measured.rate(), "/s", target.map(Target::Above));
    }

    /// CPU time of both sides, per call.
    pub(crate) fn add_cpu(&mut self, measured: &Measured, target: Option<f64>) {
        self.add("server CPU each", measured.server_cpu_ms(), "ms", target.map(Target::Below));
        self.add("generator CPU each", measured.own_cpu_ms(), "ms", None);
        self.add("processors busy", measured.busy(), "", None);
        self.add("  with something else", measured.busy_elsewhere(), "", None);
    }

    /// An fsync may take a hundred times as long on another disk.
    pub(crate) fn add_commits(&mut self, measured: &Measured) {
        self.add("commits each", measured.commits_each(), "", None);
    }

    pub(crate) fn add_memory(&mut self, memory: &TreeMemory) {
        self.add("RSS of hierophant", mib(memory.parent.resident), "MiB", None);
        self.add("RSS of its children", mib(memory.children.resident), "MiB", None);
    }

    #[expect(clippy::print_stdout, reason = "the report is the output of this program")]
    pub(crate) fn show(&self) {
        println!("\n{}: {}", self.name, self.about);
        for Fact { name, value, unit, target, is_met } in &self.facts {
            let target = match target {
                Some(Target::Below(bound)) => format!("< {bound}"),
                Some(Target::Above(bound)) => format!("> {bound}"),
                None => String::new(),
            };
            let verdict = match is_met {
                Some(true) => "met",
                Some(false) => "MISSED",
                None => "",
            };
            println!("{}", format!("  {name:<26}{:>12} {unit:<6}{target:<10}{verdict}", number(*value)).trim_end());
        }
    }
}

/// With as many digits as mean something.
fn number(value: f64) -> String {
    if value >= 1000.0 || value.fract() == 0.0 {
        format!("{value:.0}")
    } else if value >= 10.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.3}")
    }
}

/// Bytes in MiB.
pub(crate) fn mib(bytes: u64) -> f64 {
    float(bytes) / f64::from(1 << 20)
}

#[expect(clippy::cast_precision_loss, reason = "counts and sizes here are far below 2^52")]
pub(crate) const fn float(number: u64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_met_on_its_own_side_only() {
        assert!(Target::Below(4.0).is_met_by(3.9) && !Target::Below(4.0).is_met_by(4.0));
        assert!(Target::Above(4.0).is_met_by(4.1) && !Target::Above(4.0).is_met_by(4.0));
    }

    #[test]
    fn numbers_have_about_four_digits() {
        assert_eq!(
            ["12345", "123.5", "1.235", "7"],
            [12345.4, 123.46, 1.2346, 7.0].map(number).each_ref().map(String::as_str)
        );
    }
}
