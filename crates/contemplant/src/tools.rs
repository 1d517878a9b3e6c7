//! Other programs of this machine, asked with a limit: docker and nvidia-smi hang when what is behind them does.

use std::{
    io::{self, Read as _},
    process::{Command, Stdio},
    time::Duration,
};

use crate::artifacts::readable;

/// How often a program is looked at until it has answered, and how many times: ten seconds in all.
const LOOK: Duration = Duration::from_millis(50);
const LOOKS: u32 = 200;

/// Longest part of an answer that is read, in bytes: less than a pipe holds.
const MAX_ANSWER: u64 = 32 << 10;

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoAnswer {
    /// There is no such program.
    Missing,
    /// It failed, or took too long; in its own words where it has some.
    Failed(String),
}

/// What `program` prints when it succeeds. Blocks, ten seconds at most.
///
/// # Errors
/// [`NoAnswer`]
pub fn ask(program: &str, args: &[&str]) -> Result<String, NoAnswer> {
    let failed = |error: io::Error| NoAnswer::Failed(error.to_string());
    let started =
        Command::new(program).args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut process = match started {
        Ok(process) => process,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(NoAnswer::Missing),
        Err(error) => return Err(failed(error)),
    };
    for _ in 0..LOOKS {
        let Some(status) = process.try_wait().map_err(failed)? else {
            std::thread::sleep(LOOK);
            continue;
        };
        let (mut said, mut complained) = (Vec::new(), Vec::new());
        if let (Some(stdout), Some(stderr)) = (process.stdout.take(), process.stderr.take()) {
            stdout.take(MAX_ANSWER).read_to_end(&mut said).map_err(failed)?;
            stderr.take(MAX_ANSWER).read_to_end(&mut complained).map_err(failed)?;
        }
        if status.success() {
            return Ok(String::from_utf8_lossy(&said).into_owned());
        }
        // nvidia-smi complains on its standard output.
        return Err(NoAnswer::Failed(readable(if complained.is_empty() { &said } else { &complained })));
    }
    // It may have ended by now, which is as good.
    drop(process.kill());
    drop(process.wait());
    Err(NoAnswer::Failed(format!("it does not answer within {} s", (LOOK * LOOKS).as_secs())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_a_failure_and_an_absence_are_told_apart() {
        assert_eq!(ask("echo", &["fine"]), Ok("fine\n".to_owned()));
        let failure = ask("sh", &["-c", "echo broken >&2; exit 3"]);
        assert_eq!(failure, Err(NoAnswer::Failed("broken".to_owned())));
        let failure = ask("sh", &["-c", "echo on the wrong stream; exit 3"]);
        assert_eq!(failure, Err(NoAnswer::Failed("on the wrong stream".to_owned())));
        assert_eq!(ask("no-such-program-anywhere", &[]), Err(NoAnswer::Missing));
    }
}
