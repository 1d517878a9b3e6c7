//! What the server writes: its only signs of life, what it is at, and what it said last.
//!
//! All of it is best effort: a line that is not understood means nothing.

use std::{
    collections::VecDeque,
    io::Write as _,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use network_lib::Fault;
use proving::{Phase, Progress};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _},
    sync::watch,
    time::{Instant, sleep},
};

use crate::ended::Ended;

/// Longest line that is kept, in bytes; the rest of it is dropped.
const MAX_LINE_BYTES: usize = 2048;
/// Lines that are kept to explain an end.
const TAIL_LINES: usize = 4;
/// How many times in a row the server is found to have been silent before its silence counts.
const SILENT_LOOKS: u32 = 20;
/// How long a panic may take to be written.
const PANIC_TEXT: Duration = Duration::from_millis(300);

/// What the server has written so far.
#[derive(Debug, Clone)]
pub(crate) struct Log(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    progress: watch::Sender<Progress>,
}

#[derive(Debug)]
struct State {
    last_sign: Instant,
    /// Set when the connection has ended: what comes next is the server's end, and its silence means nothing.
    is_closed: bool,
    tail: VecDeque<String>,
    steps: Steps,
}

impl State {
    fn new() -> Self {
        Self { last_sign: Instant::now(), is_closed: false, tail: VecDeque::new(), steps: Steps::default() }
    }
}

impl Default for Log {
    fn default() -> Self {
        let state = State::new();
        let progress = watch::channel(state.steps.progress()).0;
        Self(Arc::new(Shared { state: Mutex::new(state), progress }))
    }
}

impl Log {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The server gave a sign of life.
    pub(crate) fn sign(&self) {
        self.state().last_sign = Instant::now();
    }

    /// The connection has ended.
    pub(crate) fn close(&self) {
        self.state().is_closed = true;
    }

    /// Forgets what belongs to an earlier request.
    pub(crate) fn begin(&self) {
        let mut state = self.state();
        *state = State::new();
        self.0.progress.send_replace(state.steps.progress());
    }

    /// How far the proof has come, as it changes.
    pub(crate) fn progress(&self) -> watch::Receiver<Progress> {
        let mut progress = self.0.progress.subscribe();
        progress.mark_unchanged();
        progress
    }

    /// Returns when there was no sign of life for `limit`, from now on. Time during which this process was stopped does
    /// not count: what the server said meanwhile has still to be read.
    pub(crate) async fn silence(&self, limit: Duration) {
        let step = limit / SILENT_LOOKS;
        let mut last_sign = self.state().last_sign;
        let mut silent_looks = 0;
        while silent_looks < SILENT_LOOKS {
            let begun = Instant::now();
            sleep(step).await;
            let (latest, is_closed) = {
                let state = self.state();
                (state.last_sign, state.is_closed)
            };
            if latest != last_sign || is_closed {
                (last_sign, silent_looks) = (latest, 0);
            } else if begun.elapsed() < 2 * step {
                silent_looks += 1;
            }
        }
    }

    /// `cause`, with what the server said last.
    pub(crate) fn explain(&self, cause: &str) -> Fault {
        let tail: Vec<String> = self.state().tail.iter().cloned().collect();
        let text =
            if tail.is_empty() { cause.to_owned() } else { format!("{cause}; it said last: {}", tail.join("\n")) };
        let said = text.to_lowercase();
        // CUDA's words and name for it, and those of Rust's allocator.
        let is_short_of_memory =
            ["out of memory", "outofmemory", "memory allocation of "].iter().any(|words| said.contains(words));
        if is_short_of_memory { Fault::resources(text) } else { Fault::worker(text) }
    }

    /// Reads what the server writes until that ends. A panic of the server ends its use: where it happened, an
    /// answer may never come.
    pub(crate) async fn follow(self, mut stream: impl AsyncRead + Unpin, ended: Ended) {
        let mut line = Vec::new();
        let mut chunk = [0; 4096];
        while let Ok(length @ 1..) = stream.read(&mut chunk).await {
            let mut has_panicked = false;
            for &byte in &chunk[..length] {
                if byte == b'\n' {
                    has_panicked |= self.hear(&String::from_utf8_lossy(&line));
                    line.clear();
                } else if line.len() < MAX_LINE_BYTES {
                    line.push(byte);
                }
            }
            if has_panicked {
                let (log, ended) = (self.clone(), ended.clone());
                let told = async move {
                    sleep(PANIC_TEXT).await;
                    ended.tell(log.explain("sp1-gpu-server panicked"));
                };
                #[expect(clippy::disallowed_methods, reason = "ends by itself, at once")]
                tokio::spawn(told);
            }
        }
        if !line.is_empty() {
            self.hear(&String::from_utf8_lossy(&line));
        }
    }

    /// Takes a line; says whether it begins the text of a panic.
    fn hear(&self, line: &str) -> bool {
        let mut state = self.state();
        state.last_sign = Instant::now();
        if state.steps.hear(line) {
            self.0.progress.send_replace(state.steps.progress());
        }
        let level = line.split_whitespace().nth(1).unwrap_or_default();
        if matches!(level, "DEBUG" | "TRACE") {
            return false; // of no use but for the steps, and there is much of it
        }
        // To this process's own log, that is its standard error. One that nobody reads is no trouble.
        drop(std::io::stderr().write_all(format!("{line}\n").as_bytes()));
        // What a guest prints explains nothing.
        if level != "INFO" && !is_backtrace(line) && !line.starts_with("stdout: ") && !line.starts_with("stderr: ") {
            if state.tail.len() == TAIL_LINES {
                state.tail.pop_front();
            }
            state.tail.push_back(line.to_owned());
        }
        line.starts_with("thread '") && line.contains(" panicked at ")
    }
}

/// Whether a line belongs to a backtrace, which would push what explains the panic out of the tail.
fn is_backtrace(line: &str) -> bool {
    let frame = line.trim_start();
    let (number, _) = frame.split_once(": ").unwrap_or((frame, ""));
    frame.is_empty()
        || line == "stack backtrace:"
        || line.starts_with("note: ")
        || (line.starts_with(' ') && (frame.starts_with("at ") || number.parse::<u32>().is_ok()))
}

/// The steps of a proof, as the server's log at the level debug names them.
#[derive(Debug, Default)]
struct Steps {
    shards: u64,
    shards_done: u64,
    joins: u64,
    joins_done: u64,
    is_wrapping: bool,
}

impl Steps {
    /// Takes a line; says whether it counted.
    fn hear(&mut self, line: &str) -> bool {
        if let Some((_, kind)) = line.split_once("submitting task of kind ") {
            match kind.trim() {
                "ProveShard" => self.shards += 1,
                "RecursionReduce" | "RecursionDeferred" => self.joins += 1,
                "ShrinkWrap" => self.is_wrapping = true,
                _ => return false,
            }
        } else if line.contains("task succeeded") && line.contains("ProveShard{") {
            self.shards_done += 1;
        } else if line.contains("task succeeded") && line.contains("Recursion") {
            self.joins_done += 1;
        } else {
            return false;
        }
        true
    }

    fn progress(&self) -> Progress {
        // The log tells of no end to the shards and joins that are to come.
        if self.is_wrapping {
            Progress::begun(Phase::Wrapping)
        } else if self.joins > 0 && self.shards_done >= self.shards {
            Progress::estimated(Phase::Compressing, self.joins_done, self.joins)
        } else {
            Progress::estimated(Phase::Proving, self.shards_done, self.shards)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use network_lib::FaultClass;
    use tokio::time::timeout;

    use super::*;

    fn heard(lines: &[&str]) -> Log {
        let log = Log::default();
        for line in lines {
            log.hear(line);
        }
        log
    }

    #[test]
    fn progress_is_read_off_the_lines_of_sp1() {
        let submit =
            "2026-01-01T00:00:00Z DEBUG prove{mode=Core}: sp1_prover::worker::client::local: submitting task of kind ";
        let done =
            "2026-01-01T00:00:00Z DEBUG ProveShard{proof_id=p task_id=t}: sp1_prover::worker::node: task succeeded";
        let log = Log::default();
        let seen = |log: &Log| *log.0.progress.borrow();
        log.hear(&format!("{submit}Controller"));
        log.hear(&format!("{submit}ProveShard"));
        log.hear(&format!("{submit}ProveShard"));
        log.hear(done);
        assert_eq!(seen(&log), Progress::estimated(Phase::Proving, 1, 2));
        log.hear(done);
        log.hear(&format!("{submit}RecursionReduce"));
        assert_eq!(seen(&log), Progress::estimated(Phase::Compressing, 0, 1));
        log.hear(&format!("{submit}ShrinkWrap"));
        assert_eq!(seen(&log).phase, Phase::Wrapping);
        log.hear("task succeeded? \u{1b}[31m ProveShard{");
        log.begin();
        assert_eq!(seen(&log), Progress::estimated(Phase::Proving, 0, 0));
    }

    #[test]
    fn an_end_is_explained_by_errors_and_not_by_the_rest() {
        let log = heard(&[
            "2026-01-01T00:00:00Z ERROR Controller{}: sp1_prover: task failed: no room",
            "2026-01-01T00:00:00Z  INFO sp1_gpu_server::server: Running setup",
            "2026-01-01T00:00:00Z DEBUG sp1_prover: submitting task of kind ProveShard",
            "stdout: what a guest prints",
        ]);
        let fault = log.explain("sp1-gpu-server refused");
        assert_eq!(
            fault.cause,
            "sp1-gpu-server refused; it said last: 2026-01-01T00:00:00Z ERROR Controller{}: sp1_prover: task failed: no room"
        );
        assert_eq!(fault.class, FaultClass::Worker);
        assert_eq!(heard(&["x: CUDA error: out of memory"]).explain("it ended").class, FaultClass::Resources);
    }

    #[tokio::test]
    async fn time_during_which_this_process_was_stopped_is_no_silence() {
        let (log, limit) = (Log::default(), Duration::from_millis(400));
        let mut silence = pin!(log.silence(limit));
        assert!(timeout(limit / 4, &mut silence).await.is_err());
        std::thread::sleep(limit); // holds up all of this runtime, as SIGSTOP does
        assert!(timeout(limit / 4, &mut silence).await.is_err(), "it is not due as soon as the process goes on");
        silence.await;
    }

    #[test]
    fn a_panic_is_known_by_its_first_line() {
        let log = Log::default();
        assert!(log.hear("thread 'tokio-runtime-worker' panicked at src/a.rs:1:2:"));
        assert!(log.hear("thread 'tokio-runtime-worker' (4711) panicked at src/a.rs:1:2:"));
        assert!(!log.hear("stdout: thread 'main' panicked at src/a.rs:1:2:"));
        assert!(!log.hear("2026-01-01T00:00:00Z  INFO sp1_gpu_server: nothing panicked at all"));
    }
}
