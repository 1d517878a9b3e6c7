//! What the rest of the program sees of the agent.

use network_lib::protocol::{Instruction, Report};
use tokio::sync::{mpsc, oneshot};

/// The agent has ended, so the program is about to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the agent has stopped")]
pub struct ActorStopped;

/// A session's side of the agent.
#[derive(Debug)]
pub struct Link {
    /// The first message of the session.
    pub hello: Report,
    /// What to send after the coordinator's `Welcome` was passed on. Ends when another session is opened.
    pub reports: mpsc::Receiver<Report>,
}

#[derive(Debug)]
pub(super) enum Message {
    OpenSession { reply: oneshot::Sender<Link> },
    Instruct(Instruction),
    Drain { told: oneshot::Sender<()>, empty: oneshot::Sender<()> },
}

/// A handle on the agent; clones are for the same one.
#[derive(Debug, Clone)]
pub struct AgentHandle(pub(super) mpsc::Sender<Message>);

impl AgentHandle {
    /// Begins a session. The one before gets no more reports.
    ///
    /// # Errors
    /// [`ActorStopped`]
    pub async fn open_session(&self) -> Result<Link, ActorStopped> {
        let (reply, answer) = oneshot::channel();
        self.0.send(Message::OpenSession { reply }).await.map_err(|_| ActorStopped)?;
        answer.await.map_err(|_| ActorStopped)
    }

    /// Passes on what the coordinator said in the current session. Returns when the agent has it, not when it is done.
    ///
    /// # Errors
    /// [`ActorStopped`]
    pub async fn instruct(&self, instruction: Instruction) -> Result<(), ActorStopped> {
        self.0.send(Message::Instruct(instruction)).await.map_err(|_| ActorStopped)
    }

    /// Takes no more attempts from now on, and tells the coordinator so.
    ///
    /// The first receiver answers once a session has the `Draining` report; the second once no attempt is in hand.
    ///
    /// # Errors
    /// [`ActorStopped`]
    pub async fn drain(&self) -> Result<(oneshot::Receiver<()>, oneshot::Receiver<()>), ActorStopped> {
        let (told, is_told) = oneshot::channel();
        let (empty, is_empty) = oneshot::channel();
        self.0.send(Message::Drain { told, empty }).await.map_err(|_| ActorStopped)?;
        Ok((is_told, is_empty))
    }
}
