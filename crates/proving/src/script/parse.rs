//! From text to steps.

use std::{str::FromStr, time::Duration};

use network_lib::Fault;

use super::{Forgery, Script};
use crate::Phase;

/// The first line of an input that holds a script.
pub const MARKER: &str = "#!hierophant-mock";

/// Longest script of a request, in bytes.
const MAX_BYTES: usize = 64 << 10;

/// Who wrote a script.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// Whoever runs the prover: every step is allowed.
    Operator,
    /// Whoever asks for the proof: no step that names a file of the prover's machine.
    Request,
}

/// Why a text is no script.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line} of the script: {problem}")]
pub struct ScriptError {
    line: usize,
    problem: String,
}

/// One step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    Phase(Phase),
    Progress { done: u64, total: u64 },
    Work { time: Duration, steps: u32 },
    Burn { time: Duration, threads: Option<usize> },
    Memory(u64),
    Executed(u64),
    Print(String),
    Say(String),
    Flood(u64),
    Frame(String),
    Fail(Fault),
    Panic(String),
    Exit(i32),
    Abort,
    Hang,
    Spin,
    Deaf,
    Freeze,
    Forge(Forgery),
    Prove(usize),
    Wait(String),
    Mark(String),
    Offspring(String),
}

impl Script {
    /// Reads a script.
    ///
    /// # Errors
    /// The first line that is no step, and why.
    pub fn parse(text: &str, origin: Origin) -> Result<Self, ScriptError> {
        let mut steps = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line == "end" {
                break;
            }
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            steps.push(step(line, origin).map_err(|problem| ScriptError { line: index + 1, problem })?);
        }
        Ok(Self { text: text.to_owned(), steps })
    }

    /// The script among the values of a request's input: the first that begins with [`MARKER`] as a line of its own,
    /// as bytes or as a string in bincode. The program need not read it.
    ///
    /// # Errors
    /// [`ScriptError`] when there is one, and it cannot be played.
    pub fn among<'a>(values: impl IntoIterator<Item = &'a [u8]>) -> Option<Result<Self, ScriptError>> {
        let found = values.into_iter().find_map(|value| {
            let begins = |text: &&[u8]| text.starts_with(MARKER.as_bytes());
            // In bincode its length stands before a string, in eight bytes.
            [Some(value), value.get(8..)].into_iter().flatten().find(begins)
        })?;
        let text = String::from_utf8_lossy(found.get(..MAX_BYTES).unwrap_or(found)).into_owned();
        Some(Self::parse(&text, Origin::Request))
    }
}

fn step(line: &str, origin: Origin) -> Result<Step, String> {
    let (name, rest) = line.split_once(' ').unwrap_or((line, ""));
    let rest = rest.trim_start();
    let (first, second) = rest.split_once(' ').unwrap_or((rest, ""));
    let text = || rest.to_owned();
    Ok(match name {
        "phase" => {
            let phases = [
                Phase::Preparing,
                Phase::Executing,
                Phase::Proving,
                Phase::Compressing,
                Phase::Wrapping,
                Phase::Finishing,
            ];
            let named = phases.into_iter().find(|phase| phase.name() == rest);
            Step::Phase(named.ok_or_else(|| format!("{rest:?} is not a phase"))?)
        }
        "progress" => Step::Progress { done: number(first)?, total: number_or(second, 0)? },
        "work" => Step::Work { time: time(first)?, steps: number_or(second, 1)? },
        "burn" => {
            let threads = if second.is_empty() { None } else { Some(number(second)?) };
            Step::Burn { time: time(first)?, threads }
        }
        "memory" => Step::Memory(size(rest)?),
        "executed" => Step::Executed(number_or(rest, 0)?),
        "print" => Step::Print(text()),
        "say" => Step::Say(text()),
        "flood" => Step::Flood(number(rest)?),
        "frame" => Step::Frame(text()),
        "guest" => Step::Fail(Fault::guest(rest)),
        "resources" => Step::Fail(Fault::resources(rest)),
        "worker" => Step::Fail(Fault::worker(rest)),
        "panic" => Step::Panic(text()),
        "exit" => Step::Exit(number_or(rest, 1)?),
        "abort" => Step::Abort,
        "hang" => Step::Hang,
        "spin" => Step::Spin,
        "deaf" => Step::Deaf,
        "freeze" => Step::Freeze,
        "forge" => Step::Forge(match rest {
            "program" => Forgery::Program,
            "mode" => Forgery::Mode,
            "circuit" => Forgery::Circuit,
            "values" => Forgery::Values,
            "nothing" => Forgery::Nothing,
            other => return Err(format!("{other:?} cannot be forged: use program, mode, circuit, values or nothing")),
        }),
        "prove" => Step::Prove(number_or(rest, 0)?),
        "wait" | "mark" | "offspring" if origin == Origin::Request => {
            return Err(format!("{name} names a file of the prover's machine, which a request may not"));
        }
        "wait" => Step::Wait(text()),
        "mark" => Step::Mark(text()),
        "offspring" => Step::Offspring(text()),
        other => return Err(format!("{other:?} is not a step")),
    })
}

fn number<T: FromStr>(text: &str) -> Result<T, String> {
    text.trim().parse().map_err(|_| format!("{text:?} is not a number that fits here"))
}

fn number_or<T: FromStr>(text: &str, default: T) -> Result<T, String> {
    if text.is_empty() { Ok(default) } else { number(text) }
}

fn time(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|_| format!("{text:?} is not a time: write it like 500ms"))
}

fn size(text: &str) -> Result<u64, String> {
    let size = text.parse::<bytesize::ByteSize>();
    size.map(|size| size.as_u64()).map_err(|_| format!("{text:?} is not a size: write it like 512MiB"))
}
