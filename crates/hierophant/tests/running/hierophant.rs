//! A coordinator as a process, on a data directory of its own.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, ChildStderr, Command, ExitStatus, Stdio},
    sync::{
        Mutex,
        mpsc::{Receiver, channel},
    },
    thread,
    time::Duration,
};

use hierophant::{app::Endpoints, artifacts::Capabilities};
use hierophant_core::Timestamp;
use network_lib::{ArtifactId, ArtifactKind};
use rustix::process::{Pid, Signal, kill_process};
use url::Url;

/// Nothing that is waited for takes this long, unless something is wrong.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// The program. It does not outlive this.
pub(crate) struct Hierophant {
    child: Child,
    /// Only its owner asks; the lock lets others look on from any thread.
    lines: Mutex<Receiver<String>>,
    /// What it has logged so far.
    said: Vec<String>,
    pub(crate) endpoints: Endpoints,
    directory: PathBuf,
}

/// A command that starts the program on `directory`, on ports of its own choice.
pub(crate) fn command(directory: &Path, settings: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hierophant"));
    command.stdin(Stdio::null());
    arguments(&mut command, directory, settings);
    command
}

/// Gives `command` the arguments of the program.
pub(crate) fn arguments(command: &mut Command, directory: &Path, settings: &str) {
    let file = tempfile::Builder::new().suffix(".toml").tempfile().unwrap().into_temp_path().keep().unwrap();
    // A verifier that is never asked anything here.
    fs::write(&file, format!("{settings}\n[verifier]\nprogram = '/bin/cat'\n")).unwrap();
    command.args(["--grpc-port", "0", "--http-port", "0"]);
    command.arg("--data-directory").arg(directory).arg("--config").arg(file);
}

impl Hierophant {
    pub(crate) fn start(directory: &Path) -> Self {
        Self::start_with(directory, "")
    }

    pub(crate) fn start_with(directory: &Path, settings: &str) -> Self {
        Self::run(command(directory, settings), directory)
    }

    /// Starts `command`, which is to become the program, and waits until it serves. `directory` is its data directory as
    /// it is seen from here.
    pub(crate) fn run(command: Command, directory: &Path) -> Self {
        Self::try_run(command, directory).unwrap_or_else(|(status, said)| panic!("it ended ({status}):\n{said}"))
    }

    /// The same; when it ends without serving: how, and what it said.
    pub(crate) fn try_run(mut command: Command, directory: &Path) -> Result<Self, (ExitStatus, String)> {
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        // It may hold sockets that are the program's by now.
        drop(command);
        let lines = Mutex::new(lines(child.stderr.take().unwrap()));
        let endpoints = Endpoints { grpc: ([0; 4], 0).into(), http: ([0; 4], 0).into() };
        let mut started = Self { child, lines, said: Vec::new(), endpoints, directory: directory.to_owned() };
        let Some(ready) = started.hear("serving") else { return Err(started.end()) };
        let address = |key: &str| {
            let (_, rest) = ready.split_once(&format!("{key}=")).unwrap();
            rest.split_whitespace().next().unwrap().parse().unwrap()
        };
        started.endpoints = Endpoints { grpc: address("grpc"), http: address("http") };
        Ok(started)
    }

    /// Waits for a line of the log that has these words.
    pub(crate) fn line(&mut self, words: &str) -> String {
        self.hear(words).unwrap_or_else(|| panic!("{words:?} was never said, but:\n{}", self.said.join("\n")))
    }

    /// The same; `None` when the log ends, or nothing is said for a long time.
    fn hear(&mut self, words: &str) -> Option<String> {
        while let Ok(line) = self.lines.get_mut().unwrap().recv_timeout(PATIENCE) {
            self.said.push(line.clone());
            if line.contains(words) {
                return Some(line);
            }
        }
        None
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits for the end, and answers everything that was logged.
    pub(crate) fn end(mut self) -> (ExitStatus, String) {
        // The log ends with the program, and the wait for it has a bound.
        while let Ok(line) = self.lines.get_mut().unwrap().recv_timeout(PATIENCE) {
            self.said.push(line);
        }
        let status = self.child.try_wait().unwrap();
        let said = self.said.join("\n");
        (status.or_else(|| self.child.wait().ok()).unwrap(), said)
    }

    /// Stops it as a service manager does.
    pub(crate) fn stop(self) {
        self.signal(Signal::TERM);
        let (status, said) = self.end();
        assert!(status.success(), "{status}:\n{said}");
    }

    fn base(&self) -> Url {
        format!("http://{}", self.endpoints.http).parse().unwrap()
    }

    /// The address that takes this artifact.
    pub(crate) fn upload_url(&self, id: ArtifactId) -> Url {
        let capabilities = Capabilities::load_or_create(&self.directory.join("capability.key")).unwrap();
        capabilities.put_url(&self.base(), id, None, Timestamp::MAX)
    }

    /// Uploads an artifact: the status, and what was said.
    pub(crate) async fn upload(&self, id: ArtifactId, bytes: Vec<u8>) -> (u16, String) {
        let response = reqwest::Client::new().put(self.upload_url(id)).body(bytes).send().await.unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    }

    /// Downloads a proof, if it is there.
    pub(crate) async fn download(&self, id: ArtifactId) -> Option<Vec<u8>> {
        let response = reqwest::get(Capabilities::proof_url(&self.base(), id)).await.unwrap();
        let is_there = response.status().is_success();
        let bytes = response.bytes().await.unwrap();
        is_there.then(|| bytes.into())
    }

    pub(crate) async fn is_healthy(&self) -> bool {
        reqwest::get(self.base().join("health").unwrap()).await.unwrap().status().is_success()
    }
}

impl Drop for Hierophant {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn lines(stderr: ChildStderr) -> Receiver<String> {
    let (sender, lines) = channel();
    thread::spawn(move || BufReader::new(stderr).lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
    lines
}

pub(crate) fn proof(number: u32) -> ArtifactId {
    let mut key = [0; 16];
    key[..4].copy_from_slice(&number.to_be_bytes());
    ArtifactId::new(ArtifactKind::Proof, key)
}
