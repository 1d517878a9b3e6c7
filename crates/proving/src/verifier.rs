//! The verifier port, and the parent's side of a verifier child.

use std::{io, sync::Arc, time::Duration};

use async_trait::async_trait;
use network_lib::Fault;
use tokio::{
    sync::{Mutex, mpsc, oneshot},
    time::{Instant, timeout, timeout_at},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    frames::{self, PROTOCOL_VERSION, VerifierInstruction, VerifierMessage},
    order::{KeyHashes, Verified, VerifyOrder},
    supervisor::{BackOff, ChildCommand, ChildEvent, RunningChild},
};

const NAME: &str = "verifier";
/// Questions that wait for a child; more wait in their callers.
const MAX_QUESTIONS: usize = 64;

/// Why a proof or a key was not found good.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// It is not good; asking again gives the same answer.
    #[error("{reason}")]
    Rejected {
        /// Why.
        reason: String,
    },
    /// Nobody knows: the verifier could not be started, was stopped, or could not read the proof. Asking again may help.
    #[error("the verifier is not available: {cause}")]
    Unavailable {
        /// Why.
        cause: String,
    },
    /// Nobody knows: the verifier died at it, or took too long and was killed. Asking again may help; where it does not,
    /// this proof or key is the cause.
    #[error("the verifier broke at it: {cause}")]
    Broken {
        /// How.
        cause: String,
    },
}

impl VerifyError {
    /// The proof cannot be read here, which says nothing about it.
    pub fn unreadable(error: &io::Error) -> Self {
        Self::Unavailable { cause: format!("the proof cannot be read: {error}") }
    }
}

/// Mere words speak against the proof or key.
impl From<String> for VerifyError {
    fn from(reason: String) -> Self {
        Self::Rejected { reason }
    }
}

/// Says whether proofs are good.
#[async_trait]
pub trait Verifier: Send + Sync {
    /// Checks a proof: its form, its circuit, its public values, and that it proves the program of this key.
    ///
    /// # Errors
    /// [`VerifyError`]
    async fn verify(&self, order: VerifyOrder) -> Result<Verified, VerifyError>;

    /// The hashes of a verifying key, given in bincode.
    ///
    /// # Errors
    /// [`VerifyError::Rejected`] when it is no verifying key, or another [`VerifyError`] when nobody knows.
    async fn hash_verifying_key(&self, verifying_key: Vec<u8>) -> Result<KeyHashes, VerifyError>;
}

/// How verifier children are looked after.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VerifierSettings {
    /// Wall-clock time that one answer may take, not counting the wait for a free child, and as much again for each
    /// 64 MiB of the proof. Then the child is killed.
    pub timeout: Duration,
    /// Most writable memory of a child, in bytes (`RLIMIT_DATA`).
    pub memory_bytes: u64,
    /// How long a child may take to be ready.
    pub start_timeout: Duration,
    /// Children, that is answers worked out at the same time. At least 1; all but the first start when needed.
    pub children: usize,
}

impl Default for VerifierSettings {
    fn default() -> Self {
        Self {
            timeout: Duration::from_mins(1),
            memory_bytes: 4 << 30,
            start_timeout: Duration::from_mins(1),
            children: 1,
        }
    }
}

/// A proof may take the time of one answer once more for each so many bytes: 46 shards of a core proof, each of which
/// takes less than 0.1 s on an idle machine.
const BYTES_PER_TIMEOUT: u64 = 64 << 20;

impl VerifierSettings {
    /// How long the answer about a proof of this size may take.
    fn time_limit(&self, proof_bytes: u64) -> Duration {
        self.timeout.saturating_mul(u32::try_from(1 + proof_bytes / BYTES_PER_TIMEOUT).unwrap_or(u32::MAX))
    }
}

enum Question {
    Verify { order: Box<VerifyOrder>, reply: oneshot::Sender<Result<Verified, VerifyError>> },
    Hash { verifying_key: Vec<u8>, reply: oneshot::Sender<Result<KeyHashes, VerifyError>> },
}

/// A handle on one or more verifier children, which end with the last handle.
///
/// A child that dies, hangs or speaks garbage is killed; the question that it was at is answered
/// [`Broken`](VerifyError::Broken), and the next one gets a new child.
#[derive(Debug, Clone)]
pub struct VerifierChild(mpsc::Sender<Question>);

impl VerifierChild {
    /// Starts a child and looks after it until `stop`, when it is killed.
    #[expect(clippy::needless_pass_by_value, reason = "the same shape as the prover's, which keeps them")]
    pub fn start(
        command: ChildCommand,
        settings: VerifierSettings,
        tracker: &TaskTracker,
        stop: CancellationToken,
    ) -> Self {
        let (handle, questions) = mpsc::channel(MAX_QUESTIONS);
        let questions = Arc::new(Mutex::new(questions));
        for index in 0..settings.children.max(1) {
            let keeper = Keeper {
                command: command.clone(),
                settings,
                questions: Arc::clone(&questions),
                child: None,
                next_id: 1,
                back_off: BackOff::new(Duration::from_millis(100), Duration::from_secs(5)),
                resting: None,
            };
            tracker.spawn(keeper.run(index == 0, stop.clone()));
        }
        Self(handle)
    }
}

fn stopped<T>(_: T) -> VerifyError {
    VerifyError::Unavailable { cause: "it was stopped".to_owned() }
}

#[async_trait]
impl Verifier for VerifierChild {
    async fn verify(&self, order: VerifyOrder) -> Result<Verified, VerifyError> {
        let (reply, answer) = oneshot::channel();
        self.0.send(Question::Verify { order: Box::new(order), reply }).await.map_err(stopped)?;
        answer.await.map_err(stopped)?
    }

    async fn hash_verifying_key(&self, verifying_key: Vec<u8>) -> Result<KeyHashes, VerifyError> {
        let (reply, answer) = oneshot::channel();
        self.0.send(Question::Hash { verifying_key, reply }).await.map_err(stopped)?;
        answer.await.map_err(stopped)?
    }
}

/// Keeps one child, and takes questions to it one by one.
struct Keeper {
    command: ChildCommand,
    settings: VerifierSettings,
    questions: Arc<Mutex<mpsc::Receiver<Question>>>,
    child: Option<RunningChild>,
    next_id: u64,
    back_off: BackOff,
    /// After a failed start: when the next may be tried, and the cause of the failure.
    resting: Option<(Instant, String)>,
}

enum Event {
    Stop,
    Question(Question),
    Child(ChildEvent),
}

impl Keeper {
    async fn run(mut self, at_once: bool, stop: CancellationToken) {
        let work = async {
            if at_once {
                let _ = self.ready_child().await; // a failure is logged, and told to whoever asks
            }
            loop {
                match self.next_event().await {
                    Event::Stop => break,
                    Event::Question(question) => self.answer(question).await,
                    Event::Child(event) => self.lost(&event).await,
                }
            }
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = work => {}
        }
        if let Some(child) = self.child.take() {
            child.kill().await;
        }
    }

    async fn next_event(&mut self) -> Event {
        let Self { questions, child, .. } = self;
        let next_question = async { questions.lock().await.recv().await };
        tokio::select! {
            biased;
            event = async { child.as_mut().expect("checked by the branch").next_event().await }, if child.is_some() => Event::Child(event),
            question = next_question => question.map_or(Event::Stop, Event::Question),
        }
    }

    async fn answer(&mut self, question: Question) {
        let id = self.next_id;
        self.next_id += 1;
        match question {
            Question::Verify { reply, .. } if reply.is_closed() => {}
            Question::Hash { reply, .. } if reply.is_closed() => {}
            Question::Verify { order, reply } => {
                let size = tokio::fs::metadata(&order.proof).await.map_or(0, |metadata| metadata.len());
                let limit = self.settings.time_limit(size);
                let answer = match self.ask(id, &VerifierInstruction::Verify { id, order: *order }, limit).await {
                    Ok(VerifierMessage::Verified { verified, .. }) => Ok(verified),
                    Ok(other) => Err(refusal(other)),
                    Err(error) => Err(error),
                };
                let _ = reply.send(answer); // a caller who left does not mind
            }
            Question::Hash { verifying_key, reply } => {
                let instruction = VerifierInstruction::HashVerifyingKey { id, verifying_key };
                let answer = match self.ask(id, &instruction, self.settings.timeout).await {
                    Ok(VerifierMessage::KeyHashes { hashes, .. }) => Ok(hashes),
                    Ok(other) => Err(refusal(other)),
                    Err(error) => Err(error),
                };
                let _ = reply.send(answer);
            }
        }
    }

    /// Asks the child; a child that does not answer properly within `limit` is killed.
    async fn ask(
        &mut self,
        id: u64,
        instruction: &VerifierInstruction,
        limit: Duration,
    ) -> Result<VerifierMessage, VerifyError> {
        let line = frames::encode(instruction).map_err(|error| VerifyError::Rejected { reason: error.to_string() })?;
        let child = self.ready_child().await.map_err(|cause| VerifyError::Unavailable { cause })?;
        // One that does not take the question has broken before it.
        let outcome = match child.send(line).await {
            Err(cause) => Err(VerifyError::Unavailable { cause: tidy(cause) }),
            Ok(()) => match timeout(limit, answer_of(child, id)).await {
                Ok(Ok(message)) => Ok(message),
                Ok(Err(cause)) => Err(VerifyError::Broken { cause: tidy(cause) }),
                Err(_) => {
                    let cause = format!("it gave no answer in {} ms and was killed", limit.as_millis());
                    Err(VerifyError::Broken { cause })
                }
            },
        };
        match &outcome {
            Ok(_) => self.back_off.reset(),
            Err(error) => {
                tracing::warn!(%error, "a verifier failed");
                if let Some(child) = self.child.take() {
                    child.kill().await;
                }
            }
        }
        outcome
    }

    /// The child, started if it is not up.
    async fn ready_child(&mut self) -> Result<&mut RunningChild, String> {
        if self.child.is_none() {
            if let Some((until, cause)) = &self.resting
                && Instant::now() < *until
            {
                return Err(cause.clone());
            }
            match self.start().await {
                Ok(child) => {
                    self.child = Some(child);
                    self.resting = None;
                }
                Err(cause) => {
                    tracing::warn!(cause, "cannot start a verifier");
                    self.resting = Some((Instant::now() + self.back_off.next(), cause.clone()));
                    return Err(cause);
                }
            }
        }
        Ok(self.child.as_mut().expect("set above"))
    }

    async fn start(&self) -> Result<RunningChild, String> {
        let mut child = RunningChild::start(NAME, &self.command, Some(self.settings.memory_bytes))
            .map_err(|error| format!("cannot start {}: {error}", self.command.program.display()))?;
        let until = Instant::now() + self.settings.start_timeout;
        let waited = self.settings.start_timeout.as_secs();
        let outcome = match timeout_at(until, next_message(&mut child)).await {
            Err(_) => Err(format!("it was not ready after {waited} s")),
            Ok(Err(cause)) => Err(cause),
            Ok(Ok(VerifierMessage::Ready { protocol: PROTOCOL_VERSION })) => Ok(()),
            Ok(Ok(VerifierMessage::Ready { protocol })) => {
                Err(format!("it speaks version {protocol} of the frames, not {PROTOCOL_VERSION}"))
            }
            Ok(Ok(_)) => Err("it did not say ready first".to_owned()),
        };
        match outcome {
            Ok(()) => Ok(child),
            Err(cause) => {
                child.kill().await;
                Err(tidy(cause))
            }
        }
    }

    /// The idle child ended, or spoke without being asked.
    async fn lost(&mut self, event: &ChildEvent) {
        tracing::warn!(?event, "an idle verifier was lost; the next question starts another");
        if let Some(child) = self.child.take() {
            child.kill().await;
        }
    }
}

/// The next message of the child, or why there is none.
async fn next_message(child: &mut RunningChild) -> Result<VerifierMessage, String> {
    match child.next_event().await {
        ChildEvent::Line(line) => frames::decode(&line),
        ChildEvent::Exited(status) => Err(child.exit_fault(status).cause),
        ChildEvent::Broken(cause) => Err(cause),
    }
}

/// The answer to question `id`. Each question has its own and a child that missed one is killed, so any other
/// id is a fault of the child.
async fn answer_of(child: &mut RunningChild, id: u64) -> Result<VerifierMessage, String> {
    let message = next_message(child).await?;
    match message {
        VerifierMessage::Verified { id: of, .. }
        | VerifierMessage::Rejected { id: of, .. }
        | VerifierMessage::Unavailable { id: of, .. }
        | VerifierMessage::KeyHashes { id: of, .. }
            if of == id =>
        {
            Ok(message)
        }
        other => Err(format!("it said {other:?} when asked question {id}")),
    }
}

/// What an answer that is not the good one means.
fn refusal(message: VerifierMessage) -> VerifyError {
    match message {
        VerifierMessage::Rejected { reason, .. } => VerifyError::Rejected { reason: tidy(reason) },
        VerifierMessage::Unavailable { cause, .. } => VerifyError::Unavailable { cause: tidy(cause) },
        other => VerifyError::Unavailable { cause: format!("it gave an answer to another question: {other:?}") },
    }
}

/// What a child said, bounded and freed of control characters.
pub(crate) fn tidy(words: String) -> String {
    Fault::worker(words).cause
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_proof_may_take_longer() {
        let settings = VerifierSettings::default();
        let minutes = |bytes| settings.time_limit(bytes).as_secs() / 60;
        assert_eq!([0, (64 << 20) - 1, 64 << 20, 4 << 30].map(minutes), [1, 1, 2, 65]);
    }
}
