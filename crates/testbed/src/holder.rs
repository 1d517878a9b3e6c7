//! A process that holds namespaces: they end with it, and it ends with its owner, however that ends.

use std::{
    io::{BufRead as _, BufReader, Read as _},
    process::{Child, Command, Stdio},
};

use anyhow::{Context as _, bail};

/// Holds namespaces until it is dropped.
#[derive(Debug)]
pub(crate) struct Holder(Child);

impl Holder {
    /// Starts one that runs `script` in namespaces of its own: `-n` is the network's, `-m` that of mounts.
    pub(crate) fn unshare(kind: &str, script: &str, arguments: &[&str]) -> anyhow::Result<Self> {
        let script = format!("{{ {script}; }} >&2; echo ready; read -r _");
        let mut child = Command::new("unshare")
            .args([kind, "sh", "-ec", &script, "sh"])
            .args(arguments)
            .stdin(Stdio::piped()) // its end is the end of the holder
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("unshare could not be started")?;
        let mut said = String::new();
        if let Some(stdout) = child.stdout.take() {
            BufReader::new(stdout).read_line(&mut said)?;
        }
        let mut holder = Self(child);
        if said != "ready\n" {
            let mut words = String::new();
            if let Some(stderr) = &mut holder.0.stderr {
                stderr.read_to_string(&mut words)?;
            }
            bail!("a namespace could not be made: {}", words.trim());
        }
        Ok(holder)
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        // Nothing else can be done about it.
        let _ = self.0.wait();
    }
}

/// Runs a tool to its end.
///
/// # Errors
/// With its words, when it does not succeed.
pub(crate) fn run(tool: &str, arguments: &[&str]) -> anyhow::Result<()> {
    let output = Command::new(tool).args(arguments).output().with_context(|| format!("{tool} could not be started"))?;
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr);
        bail!("{tool} {}: {}", arguments.join(" "), words.trim());
    }
    Ok(())
}
