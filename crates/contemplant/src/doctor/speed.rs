//! How fast this machine executes: measured in a child, which is ended when it hangs.

use std::{process::Stdio, time::Duration};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{process::Command, time::timeout};

use super::facts::Speed;
use crate::{HAS_BUILT_IN_PROVER, artifacts::readable, config::process_environment};

/// How long it may take: seconds on any machine that proves.
const LIMIT: Duration = Duration::from_mins(1);

/// Starts this program as `contemplant measure`, and hears what it says; not where `is_prover` says that it proves nothing
/// itself. What is ended leaves shared memory behind, which the next start of a contemplant sweeps up.
pub(super) async fn measure(is_prover: bool) -> Speed {
    if !HAS_BUILT_IN_PROVER {
        return Speed::Unknown("this contemplant was built without SP1");
    }
    if !is_prover {
        return Speed::Unknown("no prover of the configuration is this program itself");
    }
    let mut command = Command::new("/proc/self/exe");
    // As with the children that prove: secrets stay here.
    for (name, _) in process_environment().filter(|(name, _)| name.starts_with("CONTEMPLANT_")) {
        command.env_remove(name);
    }
    let child = command
        .arg("measure")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn();
    let child = match child {
        Ok(child) => child,
        Err(error) => return Speed::Failed(format!("cannot start this program again: {error}")),
    };
    let group = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
    let outcome = timeout(LIMIT, child.wait_with_output()).await;
    // SP1's executor is a child of the child.
    if let (Err(_), Some(group)) = (&outcome, group) {
        // One that ended in this very moment is as good.
        let _ = kill_process_group(group, Signal::KILL);
    }
    match outcome {
        Err(_) => Speed::Failed(format!("it did not end within {} s", LIMIT.as_secs())),
        Ok(Err(error)) => Speed::Failed(error.to_string()),
        Ok(Ok(output)) => match parse(&String::from_utf8_lossy(&output.stdout)) {
            Some((cycles, took)) if output.status.success() => Speed::Measured(cycles, took),
            _ => Speed::Failed(format!("it ended with {}: {}", output.status, readable(&output.stderr))),
        },
    }
}

/// What `contemplant measure` prints: cycles and microseconds.
pub fn print(cycles: u64, took: Duration) -> String {
    format!("{cycles} {}\n", took.as_micros())
}

fn parse(text: &str) -> Option<(u64, Duration)> {
    let (cycles, micros) = text.trim().split_once(' ')?;
    Some((cycles.parse().ok()?, Duration::from_micros(micros.parse().ok()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_is_understood() {
        let took = Duration::from_micros(1_234_567);
        assert_eq!(parse(&print(10, took)), Some((10, took)));
        assert_eq!(parse(""), None);
        assert_eq!(parse("10 cycles"), None);
    }
}
