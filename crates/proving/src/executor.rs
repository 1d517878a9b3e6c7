//! Executing a program once, in a process of its own that a clock can end.
//!
//! A guest may loop for ever, take all memory, or crash what decodes its input. That ends this process and nothing
//! else. The frames are lines as those of a prover, in one order: the [`ExecuteOrder`], then `read`, then `executed`;
//! or `failed` in place of either.

use std::{path::PathBuf, time::Duration};

use network_lib::Fault;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, timeout_at};

use crate::{
    frames,
    order::Execution,
    supervisor::{ChildCommand, ChildEvent, RunningChild},
};

/// What to execute. The files are as those of a [`ProveOrder`](crate::ProveOrder).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecuteOrder {
    /// The program.
    pub program: PathBuf,
    /// Its input.
    pub stdin: PathBuf,
    /// Most instructions that it may execute; `u64::MAX` for no limit.
    pub cycle_limit: u64,
    /// Most memory that reading the program and its input may take, in bytes, and then most that the guest may.
    pub memory_bytes: u64,
}

/// What an executor says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum ExecutorMessage {
    /// There is a program, and an input for it.
    Read,
    /// It came to a good end.
    Executed { execution: Execution },
    /// It did not.
    Failed { fault: Fault },
}

/// A program that is being executed. Killed with all its descendants when this is dropped.
#[derive(Debug)]
pub struct Executor {
    child: RunningChild,
    deadline: Instant,
    time_limit: Duration,
}

impl Executor {
    /// Starts a child by `command`, and returns when it has read the program and its input. It is killed when it takes
    /// longer than `time_limit` in all.
    ///
    /// # Errors
    /// Whose fault it is that there is nothing to execute, and why.
    pub async fn start(command: &ChildCommand, order: &ExecuteOrder, time_limit: Duration) -> Result<Self, Fault> {
        let line = frames::encode(order)
            .map_err(|error| Fault::worker(format!("the executor cannot be told what to do: it {error}")))?;
        let child = RunningChild::start("executor", command, None)
            .map_err(|error| Fault::worker(format!("cannot start {}: {error}", command.program.display())))?;
        let mut executor = Self { child, deadline: Instant::now() + time_limit, time_limit };
        executor.child.send(line).await.map_err(Fault::worker)?;
        match executor.hear().await? {
            ExecutorMessage::Read => Ok(executor),
            ExecutorMessage::Executed { .. } => Err(Fault::worker("the executor executed what it had not read")),
            ExecutorMessage::Failed { fault } => Err(executor.end(fault).await),
        }
    }

    /// What executing the program showed; when this returns, nothing of the child is left.
    ///
    /// # Errors
    /// Whose fault it is that the program did not come to a good end, and why.
    pub async fn finish(mut self) -> Result<Execution, Fault> {
        match self.hear().await {
            Ok(ExecutorMessage::Executed { execution }) => {
                self.child.kill().await;
                Ok(execution)
            }
            Ok(ExecutorMessage::Read) => Err(self.end(Fault::worker("the executor read twice")).await),
            Ok(ExecutorMessage::Failed { fault }) | Err(fault) => Err(self.end(fault).await),
        }
    }

    async fn hear(&mut self) -> Result<ExecutorMessage, Fault> {
        match timeout_at(self.deadline, self.child.next_event()).await {
            Ok(ChildEvent::Line(line)) => {
                frames::decode(&line).map_err(|cause| Fault::worker(format!("the executor sent garbage: {cause}")))
            }
            Ok(ChildEvent::Exited(status)) => Err(self.child.exit_fault(status)),
            Ok(ChildEvent::Broken(cause)) => Err(Fault::worker(cause)),
            Err(_) => Err(still_running(self.time_limit)),
        }
    }

    async fn end(self, fault: Fault) -> Fault {
        self.child.kill().await;
        Fault::new(fault.class, fault.cause) // bounded and tidied
    }
}

/// The fault of a program that did not come to its end within `time_limit`. Not the guest's for certain: on a faster
/// machine it may.
pub fn still_running(time_limit: Duration) -> Fault {
    Fault::resources(format!(
        "the program was still running after {} s: most likely it has no end for this input; otherwise it needs a faster \
         worker",
        time_limit.as_secs()
    ))
}
