//! The worker as a process: the first signal drains, the second one ends it at once.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::{
    fs,
    io::{BufRead as _, BufReader, Lines},
    net::TcpListener,
    process::{Child, ChildStderr, Command, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

/// What stopping may take when there is nothing in hand: the farewell, the agent and the children, each within its limit.
const STATED_LIMIT: Duration = Duration::from_secs(1 + 4 + 4);

/// A contemplant whose Hierophant takes the connection and says nothing. It does not outlive this.
struct Contemplant {
    child: Child,
    log: Lines<BufReader<ChildStderr>>,
    _silent: TcpListener,
    _home: tempfile::TempDir,
}

impl Contemplant {
    fn start() -> Self {
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        let home = tempfile::tempdir().unwrap();
        let config = home.path().join("contemplant.toml");
        // A prover that never says a word, and a drain that would wait for proofs if there were any.
        let text = format!(
            "hierophant_ws_address = \"{}\"\ndrain_timeout = \"1h\"\n[[provers]]\nprogram = \"/bin/sleep\"\n\
             args = [\"1000\"]\n",
            silent.local_addr().unwrap()
        );
        fs::write(&config, text).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_contemplant"))
            .arg("--config")
            .arg(config)
            .arg("--state-directory")
            .arg(home.path().join("state"))
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut started = Self { child, log, _silent: silent, _home: home };
        started.hear("This is contemplant");
        started
    }

    /// Waits for a line of the log that has these words.
    fn hear(&mut self, words: &str) {
        let is_said = self.log.by_ref().map_while(Result::ok).any(|line| line.contains(words));
        assert!(is_said, "the log ended without {words:?}");
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }
}

impl Drop for Contemplant {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[expect(clippy::disallowed_methods, reason = "time is what is measured")]
fn now() -> Instant {
    Instant::now()
}

#[test]
fn the_first_signal_ends_it_within_the_stated_limit_although_its_hierophant_and_its_prover_are_silent() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut contemplant = Contemplant::start();
        let began = now();
        contemplant.signal(signal);
        contemplant.hear("Stopping; a second signal stops at once");
        let status = contemplant.child.wait().unwrap();
        assert_eq!(status.code(), Some(0));
        assert!(began.elapsed() < STATED_LIMIT, "{:?}", began.elapsed());
    }
}

#[test]
fn the_second_signal_ends_it_at_once_with_a_code_of_its_own() {
    let mut contemplant = Contemplant::start();
    contemplant.signal(Signal::TERM);
    contemplant.hear("Stopping; a second signal stops at once");
    // It still waits for a session, to say goodbye in it.
    contemplant.signal(Signal::TERM);
    assert_eq!(contemplant.child.wait().unwrap().code(), Some(130));
}
