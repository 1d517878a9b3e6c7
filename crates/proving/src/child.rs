//! The child's side: the ports that a prover or verifier implements, and the loops that serve them.
//!
//! A child takes its [`Channel`] first thing in `main`, builds what it needs, and serves. When its standard
//! input ends, because the parent closed it or died, the process and its whole group end at once.

use std::{
    any::Any,
    fs::File,
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use network_lib::{AttemptId, Digest, Fault, Hasher, ProverProfile};
use rustix::{
    io::fcntl_dupfd_cloexec,
    process::{Resource, Rlimit, Signal, getpgrp, getpid, getrlimit, kill_current_process_group, setrlimit},
};
use serde::Serialize;
use tokio::{sync::mpsc, task::JoinHandle};

use crate::{
    executor::{ExecuteOrder, ExecutorMessage},
    frames::{self, FrameError, MAX_FRAME_BYTES, PROTOCOL_VERSION, ProverInstruction, ProverMessage},
    frames::{VerifierInstruction, VerifierMessage},
    order::{Execution, KeyHashes, Progress, ProveOrder, Verified, VerifyOrder},
    shared_memory,
    verifier::{VerifyError, tidy},
};

/// Instructions that wait to be handled: a parent sends one order and its cancellation.
const MAX_INSTRUCTIONS: usize = 16;

/// Makes proofs.
#[async_trait]
pub trait Prove: Send + Sync {
    /// What this prover is and can do.
    fn profile(&self) -> ProverProfile;

    /// Makes the proof and writes it to the order's output, then returns; syncing and hashing the file is the
    /// caller's part. A panic counts as a fault of the worker.
    ///
    /// # Errors
    /// Whose fault it was that there is no proof, and why.
    async fn prove(&self, order: &ProveOrder, reporter: &Reporter) -> Result<(), Fault>;

    /// Whether dropping the future of [`Prove::prove`] now stops its work at once and gives its memory back; asked when
    /// an attempt is cancelled, and once more when it was dropped. Where it does not, the process ends.
    fn stops_when_dropped(&self) -> bool {
        false
    }

    /// Whether this prover cannot go on; asked after each order, however that ended. If so the process ends once the
    /// outcome is told, and its parent starts another.
    fn is_broken(&self) -> bool {
        false
    }
}

/// Checks proofs.
pub trait Verify {
    /// Checks a proof. A panic says nothing about it, since threads and files may be what it lacks: the process ends.
    ///
    /// # Errors
    /// Why it is not good, or cannot be read.
    fn verify(&self, order: &VerifyOrder) -> Result<Verified, VerifyError>;

    /// The hashes of a verifying key, given in bincode. A panic counts as a rejection.
    ///
    /// # Errors
    /// Why it is no verifying key.
    fn hash_verifying_key(&self, verifying_key: &[u8]) -> Result<KeyHashes, String>;
}

/// Why a child cannot speak with its parent.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The standard streams cannot be taken.
    #[error("cannot take the standard streams for frames")]
    Streams(#[source] io::Error),
    /// The parent does not listen.
    #[error("cannot write a frame")]
    Write(#[source] io::Error),
    /// Something cannot be said in a frame.
    #[error("a message cannot be written as a frame")]
    Frame(#[source] FrameError),
    /// The parent sent something else than frames.
    #[error("the parent sent garbage: {0}")]
    Garbage(String),
}

/// The line to the parent: this process's standard input and output, taken for frames alone.
///
/// From then on standard output is standard error, and standard input is empty, for every library in this
/// process and every process that it starts.
#[derive(Debug)]
pub struct Channel {
    lines: mpsc::Receiver<String>,
    writer: Writer,
}

impl Channel {
    /// Takes the standard streams, and from now on ends this process group when standard input ends.
    ///
    /// The end of standard input is what tells that the parent died. A parent-death signal would come too early:
    /// it is sent when the *thread* that started the child ends, and the threads of a runtime come and go.
    ///
    /// # Errors
    /// [`ServeError::Streams`]
    pub fn take() -> Result<Self, ServeError> {
        let take = || -> io::Result<(File, File)> {
            let input = fcntl_dupfd_cloexec(io::stdin(), 3)?;
            let output = fcntl_dupfd_cloexec(io::stdout(), 3)?;
            nix::unistd::dup2_stdin(File::open("/dev/null")?)?;
            nix::unistd::dup2_stdout(io::stderr())?;
            Ok((input.into(), output.into()))
        };
        let (input, output) = take().map_err(ServeError::Streams)?;
        let (sender, lines) = mpsc::channel(MAX_INSTRUCTIONS);
        // A thread, not a future: it must see the end of the input however busy the runtime is.
        std::thread::Builder::new()
            .name("frames".to_owned())
            .spawn(move || {
                forward_lines(input, &sender);
                leave();
            })
            .map_err(ServeError::Streams)?;
        Ok(Self { lines, writer: Writer(Arc::new(Mutex::new(output))) })
    }
}

/// Passes lines on until the input ends or breaks.
fn forward_lines(input: File, lines: &mpsc::Sender<String>) {
    let mut input = BufReader::new(input);
    loop {
        let mut line = String::new();
        let limit = u64::try_from(MAX_FRAME_BYTES).unwrap_or(u64::MAX).saturating_add(1);
        match input.by_ref().take(limit).read_line(&mut line) {
            Ok(1..) if line.ends_with('\n') => {
                line.pop();
                if lines.blocking_send(line).is_err() {
                    return; // the serving loop has ended
                }
            }
            Ok(_) | Err(_) => return,
        }
    }
}

/// Ends this process with its descendants, at once, and removes the shared memory that they would leave behind.
fn leave() -> ! {
    if getpgrp() == getpid() {
        // While there is someone to tell whose it is: nobody unlinks it after a SIGKILL.
        shared_memory::unlink_of_group(std::process::id());
        // SP1's executor is a process of its own, which would wait for its dead parent for ever.
        let _ = kill_current_process_group(Signal::KILL);
    }
    std::process::exit(0)
}

#[derive(Debug, Clone)]
struct Writer(Arc<Mutex<File>>);

impl Writer {
    /// Writes one frame. Blocks while the pipe is full, which the parent keeps empty.
    fn send(&self, frame: &impl Serialize) -> Result<(), ServeError> {
        self.write(frames::encode(frame).map_err(ServeError::Frame)?)
    }

    fn write(&self, mut line: String) -> Result<(), ServeError> {
        line.push('\n');
        let mut file = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        file.write_all(line.as_bytes()).map_err(ServeError::Write)
    }
}

/// What a prover may tell its parent.
enum Said<'a> {
    Message(ProverMessage),
    /// A line as it is.
    Line(&'a str),
}

type Sink = Arc<dyn Fn(Said<'_>) + Send + Sync>;

/// Tells the parent how an attempt goes. Cheap to clone.
#[derive(Clone)]
pub struct Reporter {
    attempt: AttemptId,
    sink: Sink,
}

impl Reporter {
    /// A reporter of `attempt` that gives its messages to `sink`.
    pub fn new(attempt: AttemptId, sink: impl Fn(ProverMessage) + Send + Sync + 'static) -> Self {
        let sink = move |said: Said<'_>| match said {
            Said::Message(message) => sink(message),
            Said::Line(_) => {}
        };
        Self { attempt, sink: Arc::new(sink) }
    }

    /// A reporter that writes to the parent. A parent that does not listen is gone, and this process with it in a moment.
    fn to_parent(attempt: AttemptId, writer: Writer) -> Self {
        let sink = move |said: Said<'_>| {
            let _ = match said {
                Said::Message(message) => writer.send(&message),
                Said::Line(line) => writer.write(line.to_owned()),
            };
        };
        Self { attempt, sink: Arc::new(sink) }
    }

    /// How far the attempt has come.
    pub fn progress(&self, progress: Progress) {
        (self.sink)(Said::Message(ProverMessage::Progress { attempt: self.attempt, progress }));
    }

    /// The program was executed.
    pub fn executed(&self, execution: Execution) {
        (self.sink)(Said::Message(ProverMessage::Executed { attempt: self.attempt, execution }));
    }

    /// Writes a line to the parent, frame or not: for a prover that plays at being broken.
    pub(crate) fn write_line(&self, line: &str) {
        (self.sink)(Said::Line(line));
    }
}

impl std::fmt::Debug for Reporter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reporter").field("attempt", &self.attempt).finish_non_exhaustive()
    }
}

/// Serves `prover` until the parent goes, which ends the process. Returns only when it cannot go on.
///
/// # Errors
/// [`ServeError`]
pub async fn serve_prover(mut channel: Channel, prover: impl Prove + 'static) -> Result<(), ServeError> {
    let prover: Arc<dyn Prove> = Arc::new(prover);
    let writer = channel.writer;
    writer.send(&ProverMessage::Ready { protocol: PROTOCOL_VERSION, profile: prover.profile() })?;
    let mut at_work: Option<Work> = None;
    loop {
        tokio::select! {
            line = channel.lines.recv() => {
                let Some(line) = line else { return Ok(()) };
                match frames::decode(&line).map_err(ServeError::Garbage)? {
                    ProverInstruction::Prove(order) => match &at_work {
                        None => at_work = Some(Work::begin(order, &prover, &writer)),
                        Some(work) => {
                            let fault = Fault::worker(format!("the prover is at work on {}", work.attempt));
                            writer.send(&ProverMessage::Failed { attempt: order.attempt, fault })?;
                        }
                    },
                    ProverInstruction::Cancel { attempt } => {
                        if let Some(work) = at_work.take_if(|work| work.attempt == attempt) {
                            if prover.stops_when_dropped() {
                                work.stop().await;
                            }
                            // By now it may have come to what does not stop.
                            if !prover.stops_when_dropped() || prover.is_broken() {
                                writer.send(&ProverMessage::Leaving)?;
                                leave();
                            }
                        }
                        writer.send(&ProverMessage::Cancelled { attempt })?;
                    }
                }
            }
            message = outcome_of(&mut at_work), if at_work.is_some() => {
                at_work = None;
                writer.send(&message)?;
                if prover.is_broken() {
                    writer.send(&ProverMessage::Leaving)?;
                    leave();
                }
            }
        }
    }
}

/// An attempt that is being made.
struct Work {
    attempt: AttemptId,
    outcome: JoinHandle<Result<(Digest, u64), Fault>>,
}

impl Work {
    fn begin(order: ProveOrder, prover: &Arc<dyn Prove>, writer: &Writer) -> Self {
        let attempt = order.attempt;
        let reporter = Reporter::to_parent(attempt, writer.clone());
        let prover = Arc::clone(prover);
        #[expect(
            clippy::disallowed_methods,
            reason = "a future of its own, so that a panic stays in it; awaited by `serve_prover`"
        )]
        let outcome = tokio::spawn(make(order, prover, reporter));
        Self { attempt, outcome }
    }

    async fn stop(self) {
        self.outcome.abort();
        let _ = self.outcome.await;
    }
}

async fn make(order: ProveOrder, prover: Arc<dyn Prove>, reporter: Reporter) -> Result<(Digest, u64), Fault> {
    prover.prove(&order, &reporter).await?;
    let sealed = tokio::task::spawn_blocking(move || seal(&order.output)).await;
    match sealed {
        Ok(Ok(sealed)) => Ok(sealed),
        Ok(Err(error)) if error.kind() == io::ErrorKind::StorageFull => {
            Err(Fault::resources(format!("cannot make the proof durable, the disk is full: {error}")))
        }
        Ok(Err(error)) => Err(Fault::worker(format!("cannot read back the proof: {error}"))),
        Err(error) => Err(Fault::worker(format!("cannot read back the proof: {error}"))),
    }
}

async fn outcome_of(work: &mut Option<Work>) -> ProverMessage {
    let Some(Work { attempt, outcome }) = work else { return std::future::pending().await };
    let attempt = *attempt;
    let fault = match outcome.await {
        Ok(Ok((digest, size))) => return ProverMessage::Proved { attempt, digest, size },
        Ok(Err(fault)) => fault,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => Fault::worker(format!("the prover panicked: {}", panic_text(panic.as_ref()))),
            Err(error) => Fault::worker(format!("the prover stopped: {error}")),
        },
    };
    ProverMessage::Failed { attempt, fault }
}

/// Makes a file durable, and tells its digest and size.
fn seal(path: &Path) -> io::Result<(Digest, u64)> {
    let mut file = File::open(path)?;
    file.sync_all()?;
    if let Some(directory) = path.parent() {
        File::open(directory)?.sync_all()?;
    }
    let mut hasher = Hasher::default();
    let size = io::copy(&mut file, &mut hasher)?;
    Ok((hasher.digest(), size))
}

/// Serves one execution: `read` finds out whether there is something to execute, and `run` executes it, keeping to the
/// order's memory by itself. Then the process ends with all its descendants. A panic ends it, too.
///
/// # Errors
/// [`ServeError`]
pub async fn serve_executor<R>(
    mut channel: Channel,
    read: impl FnOnce(&ExecuteOrder) -> Result<R, Fault>,
    run: impl AsyncFnOnce(R, ExecuteOrder) -> Result<Execution, Fault>,
) -> Result<(), ServeError> {
    let Some(line) = channel.lines.recv().await else { return Ok(()) };
    let order: ExecuteOrder = frames::decode(&line).map_err(ServeError::Garbage)?;
    let bounds = getrlimit(Resource::Data);
    bound_memory(Rlimit { current: Some(order.memory_bytes), ..bounds });
    let inputs = read(&order);
    bound_memory(bounds); // a virtual machine maps far more than it uses
    let message = match inputs {
        Ok(inputs) => {
            channel.writer.send(&ExecutorMessage::Read)?;
            match run(inputs, order).await {
                Ok(execution) => ExecutorMessage::Executed { execution },
                Err(fault) => ExecutorMessage::Failed { fault },
            }
        }
        Err(fault) => ExecutorMessage::Failed { fault },
    };
    channel.writer.send(&message)?;
    leave()
}

fn bound_memory(limits: Rlimit) {
    if let Err(error) = setrlimit(Resource::Data, limits) {
        tracing::warn!(%error, "cannot bound this process's memory");
    }
}

/// Serves `verifier` until the parent goes, which ends the process. Blocks; returns only when it cannot go on.
///
/// # Errors
/// [`ServeError`]
pub fn serve_verifier(mut channel: Channel, verifier: &impl Verify) -> Result<(), ServeError> {
    channel.writer.send(&VerifierMessage::Ready { protocol: PROTOCOL_VERSION })?;
    while let Some(line) = channel.lines.blocking_recv() {
        let answer = match frames::decode(&line).map_err(ServeError::Garbage)? {
            VerifierInstruction::Verify { id, order } => match verifier.verify(&order) {
                Ok(found) => VerifierMessage::Verified { id, verified: found },
                Err(VerifyError::Rejected { reason }) => VerifierMessage::Rejected { id, reason: tidy(reason) },
                Err(VerifyError::Unavailable { cause } | VerifyError::Broken { cause }) => {
                    VerifierMessage::Unavailable { id, cause: tidy(cause) }
                }
            },
            VerifierInstruction::HashVerifyingKey { id, verifying_key } => {
                match caught(|| verifier.hash_verifying_key(&verifying_key)) {
                    Ok(hashes) => VerifierMessage::KeyHashes { id, hashes },
                    Err(reason) => VerifierMessage::Rejected { id, reason: tidy(reason) },
                }
            }
        };
        channel.writer.send(&answer)?;
    }
    Ok(())
}

/// Runs `check`; a panic is a refusal, since hostile bytes may well cause one.
fn caught<T>(check: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    let outcome = catch_unwind(AssertUnwindSafe(check));
    outcome.unwrap_or_else(|panic| Err(format!("the verifier panicked: {}", panic_text(panic.as_ref()))))
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("no message")
}
