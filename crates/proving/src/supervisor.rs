//! One child process: started in a process group of its own, heard, and killed with all its descendants.

use std::{
    collections::BTreeSet,
    ffi::OsString,
    io,
    os::unix::process::ExitStatusExt as _,
    path::PathBuf,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use futures_util::{SinkExt as _, StreamExt as _};
use network_lib::Fault;
use process_wrap::tokio::{ChildWrapper, CommandWrap, KillOnDrop, ProcessGroup};
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use tokio::{
    process::{ChildStdin, ChildStdout},
    task::JoinHandle,
    time::{Instant, timeout, timeout_at},
};
use tokio_util::codec::{FramedRead, FramedWrite, LinesCodec};

use crate::{frames::MAX_FRAME_BYTES, group_memory::memory_of_group, shared_memory, shortage, stderr};

/// How long a child may take to read a line: its pipe holds more than what is ever outstanding.
const WRITE_LIMIT: Duration = Duration::from_secs(10);
/// How long the other half of an end (exit, end of output) may take after the first.
const END_LIMIT: Duration = Duration::from_secs(2);
/// How long a killed process may take to be gone. It may have gigabytes to give back.
const KILL_LIMIT: Duration = Duration::from_secs(30);

/// How to start a child.
///
/// It inherits the environment, less `PUB_KEY` and what starts with `HIEROPHANT_` or `CONTEMPLANT_`: those may
/// hold secrets, and a child works on bytes from outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChildCommand {
    /// The program; `std::env::current_exe()` for a hidden subcommand.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Environment on top of what is inherited.
    pub env: Vec<(OsString, OsString)>,
}

fn is_private(name: &OsString) -> bool {
    let name = name.to_string_lossy();
    name == "PUB_KEY" || name.starts_with("HIEROPHANT_") || name.starts_with("CONTEMPLANT_")
}

/// What comes from a child.
#[derive(Debug)]
pub(crate) enum ChildEvent {
    /// A line of its output.
    Line(String),
    /// It exited, and its group was killed. The last event.
    Exited(ExitStatus),
    /// It cannot be spoken with any more, for this reason, but may still run.
    Broken(String),
}

/// A running child. Its whole process group dies with this value.
#[derive(Debug)]
pub(crate) struct RunningChild {
    name: &'static str,
    pid: u32,
    process: Box<dyn ChildWrapper>,
    stdin: FramedWrite<ChildStdin, LinesCodec>,
    stdout: FramedRead<ChildStdout, LinesCodec>,
    tail: stderr::Tail,
    /// Fills the tail.
    stderr: JoinHandle<()>,
    /// Set when the process is gone, with the time until which the rest of its output is awaited.
    exited: Option<(ExitStatus, Instant)>,
    /// Set when the output ended, with the time until which the exit is awaited.
    output_ended: Option<Instant>,
    is_group_dead: bool,
}

impl RunningChild {
    /// Starts `command`; `name` is for logs. With `memory_bytes` its writable memory is bounded: past that
    /// allocations fail in the child, which then aborts.
    pub(crate) fn start(name: &'static str, command: &ChildCommand, memory_bytes: Option<u64>) -> io::Result<Self> {
        let mut wrap = CommandWrap::with_new(&command.program, |process| {
            process.args(&command.args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
            for (variable, _) in std::env::vars_os().filter(|(variable, _)| is_private(variable)) {
                process.env_remove(variable);
            }
            process.envs(command.env.iter().map(|(variable, value)| (variable, value)));
        });
        let mut process = wrap.wrap(ProcessGroup::leader()).wrap(KillOnDrop).spawn()?;
        let missing = || io::Error::other("a standard stream of the child is missing");
        let pid = process.id().ok_or_else(missing)?;
        let stdin = process.stdin().take().ok_or_else(missing)?;
        let stdout = process.stdout().take().ok_or_else(missing)?;
        let stderr = process.stderr().take().ok_or_else(missing)?;

        // When memory runs out, the child goes before its parent and whatever else this machine does.
        if let Err(error) = std::fs::write(format!("/proc/{pid}/oom_score_adj"), "1000") {
            tracing::debug!(child = name, pid, %error, "cannot set the child's oom_score_adj");
        }
        if let Some(limit) = memory_bytes {
            // Set from here, so that it holds for any program. RLIMIT_DATA and not RLIMIT_AS: allocators and
            // thread stacks reserve far more addresses than they use.
            let limits = Rlimit { current: Some(limit), maximum: Some(limit) };
            let id = i32::try_from(pid).ok().and_then(Pid::from_raw);
            if let Err(error) = prlimit(id, Resource::Data, limits) {
                tracing::warn!(child = name, pid, %error, "cannot bound the child's memory");
            }
        }
        let tail = stderr::Tail::default();
        #[expect(clippy::disallowed_methods, reason = "ends with the pipe, that is with the child's group")]
        let stderr = tokio::spawn(stderr::forward(stderr, name, pid, tail.clone()));
        tracing::debug!(child = name, pid, program = %command.program.display(), "started a child");
        Ok(Self {
            name,
            pid,
            process,
            stdin: FramedWrite::new(stdin, LinesCodec::new()),
            stdout: FramedRead::new(stdout, LinesCodec::new_with_max_length(MAX_FRAME_BYTES)),
            tail,
            stderr,
            exited: None,
            output_ended: None,
            is_group_dead: false,
        })
    }

    /// Writes a line. An error means that the child cannot be spoken with any more.
    pub(crate) async fn send(&mut self, line: String) -> Result<(), String> {
        match timeout(WRITE_LIMIT, self.stdin.send(line)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(format!("the {} does not listen: {error}", self.name)),
            Err(_) => Err(format!("the {} read nothing for {} s", self.name, WRITE_LIMIT.as_secs())),
        }
    }

    /// The next thing that comes from the child. Cancel-safe.
    pub(crate) async fn next_event(&mut self) -> ChildEvent {
        loop {
            match (self.exited, self.output_ended) {
                // What the child said last is still in its pipes.
                (Some((status, until)), Some(_)) => {
                    if !self.stderr.is_finished() {
                        let _ = timeout_at(until, &mut self.stderr).await;
                    }
                    return ChildEvent::Exited(status);
                }
                (Some((_, until)), None) => {
                    if let Ok(Some(Ok(line))) = timeout_at(until, self.stdout.next()).await {
                        return ChildEvent::Line(line);
                    }
                    self.output_ended = Some(until);
                }
                (None, Some(until)) => match timeout_at(until, self.process.wait()).await {
                    Ok(Ok(status)) => self.has_exited(status),
                    Ok(Err(error)) => return ChildEvent::Broken(format!("cannot wait for the {}: {error}", self.name)),
                    Err(_) => {
                        return ChildEvent::Broken(format!("the {} closed its output but goes on running", self.name));
                    }
                },
                (None, None) => tokio::select! {
                    biased;
                    line = self.stdout.next() => match line {
                        Some(Ok(line)) => return ChildEvent::Line(line),
                        Some(Err(error)) => {
                            return ChildEvent::Broken(format!("the {} sent a line that is no frame: {error}", self.name));
                        }
                        None => self.output_ended = Some(Instant::now() + END_LIMIT),
                    },
                    status = self.process.wait() => match status {
                        Ok(status) => self.has_exited(status),
                        Err(error) => return ChildEvent::Broken(format!("cannot wait for the {}: {error}", self.name)),
                    },
                },
            }
        }
    }

    fn has_exited(&mut self, status: ExitStatus) {
        self.exited = Some((status, Instant::now() + END_LIMIT));
        self.kill_group(); // descendants may hold the pipe, and memory
    }

    /// Forgets what the child wrote to its standard error so far.
    pub(crate) fn forget_last_words(&self) {
        self.tail.clear();
    }

    /// Memory of its process group, in bytes.
    pub(crate) async fn memory(&self) -> u64 {
        let pid = self.pid;
        tokio::task::spawn_blocking(move || memory_of_group(pid)).await.unwrap_or_default()
    }

    /// Kills the process group and waits until the child is gone.
    pub(crate) async fn kill(mut self) {
        self.kill_group();
        if timeout(KILL_LIMIT, self.process.wait()).await.is_err() {
            tracing::error!(child = self.name, pid = self.pid, "a killed child is still there; its memory may be too");
        }
    }

    /// Whose fault it is that the child exited with `status`, and what it said last.
    pub(crate) fn exit_fault(&self, status: ExitStatus) -> Fault {
        let mut cause = format!("the {} {}", self.name, describe(status));
        // A shell in between reports a killed child as 128 + the signal.
        let killed_by = |signal| status.signal() == Some(signal) || status.code() == Some(128 + signal);
        let last_words = self.tail.text();
        let is_killed = killed_by(9);
        let shortage = shortage(if killed_by(7) { "signal: 7," } else { &last_words });
        if is_killed {
            cause += ", most likely by the kernel for want of memory";
        } else if let Some(shortage) = shortage {
            cause += ", most likely since ";
            cause += shortage;
        }
        if !last_words.is_empty() {
            cause += "; it said last: ";
            cause += &last_words;
        }
        if is_killed || shortage.is_some() { Fault::resources(cause) } else { Fault::worker(cause) }
    }

    fn kill_group(&mut self) {
        if self.is_group_dead {
            return;
        }
        self.is_group_dead = true;
        let left_behind: BTreeSet<PathBuf> = shared_memory::mapped_by(shared_memory::group_members(self.pid));
        // No such group means that the child was the last of it and is gone.
        if let Err(error) = self.process.start_kill()
            && error.raw_os_error() != Some(rustix::io::Errno::SRCH.raw_os_error())
        {
            tracing::warn!(child = self.name, pid = self.pid, %error, "cannot kill the child's process group");
        }
        shared_memory::unlink(&left_behind);
    }
}

impl Drop for RunningChild {
    fn drop(&mut self) {
        self.kill_group();
    }
}

/// What became of a process: `exited with status 3`, `was killed by signal 9 (SIGKILL)`.
fn describe(status: ExitStatus) -> String {
    let Some(signal) = status.signal() else {
        return match status.code() {
            Some(code) => format!("exited with status {code}"),
            None => format!("ended ({status})"),
        };
    };
    let name = match signal {
        4 => " (SIGILL)",
        6 => " (SIGABRT)",
        7 => " (SIGBUS)",
        9 => " (SIGKILL)",
        11 => " (SIGSEGV)",
        15 => " (SIGTERM)",
        24 => " (SIGXCPU)",
        31 => " (SIGSYS)",
        _ => "",
    };
    format!("was killed by signal {signal}{name}")
}

/// How long to wait before a child is started again, when it keeps dying.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BackOff {
    first: Duration,
    longest: Duration,
    deaths: u32,
}

impl BackOff {
    pub(crate) fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, deaths: 0 }
    }

    /// The wait after one more death.
    pub(crate) fn next(&mut self) -> Duration {
        let wait = self.first.saturating_mul(2_u32.saturating_pow(self.deaths)).min(self.longest);
        self.deaths = self.deaths.saturating_add(1);
        wait
    }

    /// The child did something useful: the next death is a first one again.
    pub(crate) fn reset(&mut self) {
        self.deaths = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_and_start_again_after_success() {
        let mut back_off = BackOff::new(Duration::from_secs(1), Duration::from_secs(5));
        let waits: Vec<u64> = (0..40).map(|_| back_off.next().as_secs()).collect();
        assert_eq!(waits[..5], [1, 2, 4, 5, 5]);
        assert_eq!(waits[39], 5);
        back_off.reset();
        assert_eq!(back_off.next().as_secs(), 1);
    }

    #[test]
    fn secrets_of_the_parent_are_recognised() {
        assert!(is_private(&"HIEROPHANT_TOKEN".into()));
        assert!(is_private(&"PUB_KEY".into()));
        assert!(!is_private(&"PATH".into()));
    }
}
