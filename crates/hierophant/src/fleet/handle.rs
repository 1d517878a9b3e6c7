//! What callers see of the fleet: async methods over one bounded channel.

use std::sync::{
    Arc,
    atomic::{AtomicU64, AtomicUsize, Ordering},
};

use hierophant_core::{Event, HeldLease, SessionId, Standing, WaitingReason, fleet::Worker};
use network_lib::{AttemptId, RequestId, WorkerId, WorkerProfile, protocol::Instruction};
use tokio::sync::{mpsc, oneshot};

/// Messages that wait for the actor. It never waits for anyone, so this fills only in a burst; callers then wait.
const CHANNEL_BOUND: usize = 4096;

/// What a session is told.
#[derive(Debug)]
pub enum Outbound {
    /// Tell the worker.
    Instruction(Instruction),
    /// End the session.
    Close(&'static str),
}

pub(super) enum Message {
    Event(Event),
    Join {
        session: SessionId,
        profile: WorkerProfile,
        address: String,
        leases: Vec<HeldLease>,
        standing: Standing,
        mailbox: mpsc::Sender<Outbound>,
    },
    Disconnect {
        worker: WorkerId,
        session: SessionId,
        reason: &'static str,
    },
    Leave {
        worker: WorkerId,
        session: SessionId,
        reason: String,
    },
    Instruct {
        worker: WorkerId,
        instruction: Instruction,
    },
    Release {
        request: RequestId,
        attempts: Vec<AttemptId>,
        reason: &'static str,
    },
    Inspect(Box<dyn FnOnce(&FleetView<'_>) + Send>),
}

/// A worker, with what only the shell knows of it.
#[derive(Debug, Clone)]
pub struct WorkerView {
    /// What the core knows.
    pub worker: Worker,
    /// Where its last session came from.
    pub address: String,
}

/// The fleet as it is at one moment.
pub struct FleetView<'a> {
    pub(super) actor: &'a super::FleetActor,
}

/// The way to the fleet. When the fleet has stopped, messages to it vanish: the program is stopping too.
#[derive(Clone)]
pub struct FleetHandle {
    messages: mpsc::Sender<Message>,
    queue_len: Arc<AtomicUsize>,
    next_session: Arc<AtomicU64>,
}

/// The actor's end of the channel.
pub struct Inbox {
    pub(super) messages: mpsc::Receiver<Message>,
    pub(super) queue_len: Arc<AtomicUsize>,
}

impl FleetHandle {
    /// A handle, and the inbox for the actor that will serve it.
    pub fn new() -> (Self, Inbox) {
        let (sender, receiver) = mpsc::channel(CHANNEL_BOUND);
        let queue_len = Arc::new(AtomicUsize::new(0));
        let handle =
            Self { messages: sender, queue_len: Arc::clone(&queue_len), next_session: Arc::new(AtomicU64::new(1)) };
        (handle, Inbox { messages: receiver, queue_len })
    }

    /// A number for a new session.
    pub fn new_session(&self) -> SessionId {
        SessionId(self.next_session.fetch_add(1, Ordering::Relaxed))
    }

    /// How many requests wait, as of the last event.
    pub fn queue_len(&self) -> usize {
        self.queue_len.load(Ordering::Relaxed)
    }

    /// Tells the fleet that something happened.
    pub async fn send(&self, event: Event) {
        self.post(Message::Event(event)).await;
    }

    /// A worker opened a session; instructions for it go to `mailbox`.
    pub async fn join(
        &self,
        session: SessionId,
        profile: WorkerProfile,
        address: String,
        leases: Vec<HeldLease>,
        standing: Standing,
        mailbox: mpsc::Sender<Outbound>,
    ) {
        self.post(Message::Join { session, profile, address, leases, standing, mailbox }).await;
    }

    /// Ends a session. The worker comes back, and says again what was not recorded.
    pub async fn disconnect(&self, worker: WorkerId, session: SessionId, reason: &'static str) {
        self.post(Message::Disconnect { worker, session, reason }).await;
    }

    /// A session ended.
    pub async fn leave(&self, worker: WorkerId, session: SessionId, reason: String) {
        self.post(Message::Leave { worker, session, reason }).await;
    }

    /// Tells a worker something, if it is connected.
    pub async fn instruct(&self, worker: WorkerId, instruction: Instruction) {
        self.post(Message::Instruct { worker, instruction }).await;
    }

    /// The request has ended; whoever makes one of `attempts` may stop.
    pub async fn release(&self, request: RequestId, attempts: Vec<AttemptId>, reason: &'static str) {
        self.post(Message::Release { request, attempts, reason }).await;
    }

    /// Why the request waits; `None` when it does not.
    pub async fn waiting_reason(&self, request: RequestId) -> Option<WaitingReason> {
        self.inspect(move |view| view.waiting_reason(request)).await.flatten()
    }

    /// Asks something about the fleet as it is at one moment. `None` when the fleet has stopped.
    pub async fn inspect<T: Send + 'static>(
        &self,
        question: impl FnOnce(&FleetView<'_>) -> T + Send + 'static,
    ) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        let ask = Box::new(move |view: &FleetView<'_>| {
            let _ = reply.send(question(view));
        });
        self.post(Message::Inspect(ask)).await;
        answer.await.ok()
    }

    async fn post(&self, message: Message) {
        if self.messages.send(message).await.is_err() {
            tracing::debug!("the fleet has stopped; a message to it was dropped");
        }
    }
}
