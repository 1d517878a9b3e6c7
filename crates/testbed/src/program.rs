//! A real program that may be ended, frozen and started again.

use std::{
    fs::File,
    io,
    os::unix::process::ExitStatusExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use anyhow::{Context as _, bail};
use rustix::process::{Pid, Signal, kill_process};
use tokio::time::sleep;

use crate::clock;

/// How often a condition is looked at.
const LOOK: Duration = Duration::from_millis(5);

/// Waits until `condition` has an answer.
///
/// # Errors
/// When it has none for `limit`.
pub async fn until<T>(what: &str, limit: Duration, mut condition: impl AsyncFnMut() -> Option<T>) -> anyhow::Result<T> {
    let began = clock::now();
    loop {
        if let Some(answer) = condition().await {
            return Ok(answer);
        }
        if began.elapsed() > limit {
            bail!("after {} s still waiting until {what}", limit.as_secs());
        }
        sleep(LOOK).await;
    }
}

/// A program, running or not. Dropped, it is ended.
#[derive(Debug)]
pub struct Program {
    name: String,
    path: PathBuf,
    arguments: Vec<String>,
    directory: PathBuf,
    log: PathBuf,
    launcher: Vec<String>,
    environment: Vec<(String, String)>,
    child: Option<Child>,
}

impl Program {
    /// A program that will run in `directory`, and log to a file there.
    pub fn new(name: impl Into<String>, path: PathBuf, arguments: Vec<String>, directory: &Path) -> Self {
        let name = name.into();
        let log = directory.join(format!("{name}.log"));
        Self {
            name,
            path,
            arguments,
            directory: directory.to_owned(),
            log,
            launcher: Vec::new(),
            environment: Vec::new(),
            child: None,
        }
    }

    /// From its next start on, it is started by these words before its own. They must become the program, and not stay
    /// beside it.
    pub fn set_launcher(&mut self, launcher: Vec<String>) {
        self.launcher = launcher;
    }

    /// What its environment says from its next start on.
    pub fn set_environment(&mut self, environment: Vec<(String, String)>) {
        self.environment = environment;
    }

    /// What it is called here.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Starts it, with these crash points if any. Its log goes on where it ended.
    ///
    /// # Errors
    /// When it runs already, or cannot be started.
    pub fn start(&mut self, points: Option<&str>) -> anyhow::Result<()> {
        if self.child.is_some() {
            bail!("{} runs already", self.name);
        }
        let log = File::options().create(true).append(true).open(&self.log)?;
        let mut command = match self.launcher.split_first() {
            Some((first, rest)) => {
                let mut command = Command::new(first);
                command.args(rest).arg(&self.path);
                command
            }
            None => Command::new(&self.path),
        };
        command.args(&self.arguments).env_clear().env("NO_COLOR", "1").current_dir(&self.directory);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        if let Some(points) = points {
            command.env(network_lib::crash::VARIABLE, points);
        }
        self.child = Some(command.spawn().with_context(|| format!("{} could not be started", self.name))?);
        Ok(())
    }

    /// How it ended, if it has: then it may be started again.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        let Some(child) = &mut self.child else { return Ok(None) };
        let status = child.try_wait()?;
        if status.is_some() {
            self.child = None;
        }
        Ok(status)
    }

    /// Waits until it has ended.
    ///
    /// # Errors
    /// When it does not.
    pub async fn until_ended(&mut self, limit: Duration) -> anyhow::Result<ExitStatus> {
        let what = format!("{} has ended", self.name);
        until(&what, limit, async || self.ended().transpose()).await?.context("its status")
    }

    /// Whether it runs, as far as it was looked.
    pub const fn is_running(&self) -> bool {
        self.child.is_some()
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// When it does not run.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let child = self.child.as_ref().with_context(|| format!("{} does not run", self.name))?;
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).context("its process id")?;
        Ok(kill_process(pid, signal)?)
    }

    /// Ends it as a power cut does (SIGKILL).
    ///
    /// # Errors
    /// When it does not run.
    pub fn cut_off(&mut self) -> anyhow::Result<()> {
        let mut child = self.child.take().with_context(|| format!("{} does not run", self.name))?;
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    /// Stops it where it is (SIGSTOP).
    ///
    /// # Errors
    /// When it does not run.
    pub fn freeze(&self) -> anyhow::Result<()> {
        self.signal(Signal::STOP)
    }

    /// Lets it go on (SIGCONT).
    ///
    /// # Errors
    /// When it does not run.
    pub fn thaw(&self) -> anyhow::Result<()> {
        self.signal(Signal::CONT)
    }

    /// Asks it to end (SIGTERM), and waits until it has.
    ///
    /// # Errors
    /// When it does not, or not well.
    pub async fn stop(&mut self) -> anyhow::Result<()> {
        self.signal(Signal::TERM)?;
        let status = self.until_ended(Duration::from_secs(20)).await?;
        if !status.success() {
            bail!("{} ended with {status}: {}", self.name, self.last_words());
        }
        Ok(())
    }

    /// What it logged in all its runs.
    pub fn log(&self) -> String {
        std::fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// The end of its log.
    pub fn last_words(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().rev().take(8).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if self.child.is_some() {
            // It may have ended by itself meanwhile.
            let _ = self.cut_off();
        }
    }
}

/// Whether a program ended by a crash point.
pub fn is_aborted(status: ExitStatus) -> bool {
    status.signal() == Some(Signal::ABORT.as_raw())
}
