//! Other programs of this machine, asked with a limit: docker and nvidia-smi hang when what is behind them does.

use std::{
    io::{self, Read as _},
    os::unix::process::CommandExt as _,
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process_group};

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

/// What `program` prints when it succeeds. Blocks, ten seconds at most. What it has started ends with it.
///
/// # Errors
/// [`NoAnswer`]
pub fn ask(program: &str, args: &[&str]) -> Result<String, NoAnswer> {
    let failed = |error: io::Error| NoAnswer::Failed(error.to_string());
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let mut process = match command.spawn() {
        Ok(process) => process,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(NoAnswer::Missing),
        Err(error) => return Err(failed(error)),
    };
    let status = wait(&mut process).map_err(failed)?;
    // They may all have ended by now, which is as good.
    let _ = kill_process_group(Pid::from_child(&process), Signal::KILL);
    let Some(status) = status else {
        drop(process.wait());
        return Err(NoAnswer::Failed(format!("it does not answer within {} s", (LOOK * LOOKS).as_secs())));
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
    Err(NoAnswer::Failed(readable(if complained.is_empty() { &said } else { &complained })))
}

/// How the process ended, if it did in time.
fn wait(process: &mut Child) -> io::Result<Option<ExitStatus>> {
    for _ in 0..LOOKS {
        if let Some(status) = process.try_wait()? {
            return Ok(Some(status));
        }
        std::thread::sleep(LOOK);
    }
    Ok(None)
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

    #[test]
    fn what_a_program_has_started_ends_with_it() {
        let started = ask("sh", &["-c", "sleep 1000 >/dev/null 2>&1 & echo $!"]).unwrap();
        let command_line = format!("/proc/{}/cmdline", started.trim());
        // One that has ended and was not waited for has none.
        let is_there = |_: &u32| std::fs::read(&command_line).is_ok_and(|line| !line.is_empty());
        let looks = (0..LOOKS).take_while(is_there).inspect(|_| std::thread::sleep(LOOK)).count();
        assert!(looks < LOOKS as usize, "it goes on");
    }
}
