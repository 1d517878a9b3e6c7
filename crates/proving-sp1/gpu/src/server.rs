//! One running server, and the one connection to it.

use std::{
    os::unix::process::ExitStatusExt as _,
    path::Path,
    process::{ExitStatus, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use network_lib::Fault;
use proving::Progress;
use tokio::{
    io::AsyncWriteExt as _,
    net::unix::{OwnedReadHalf, OwnedWriteHalf},
    process::{Child, Command},
    sync::mpsc,
    time::{sleep, timeout},
};
use tokio_util::task::TaskTracker;

use crate::{
    ended::Ended,
    log::Log,
    socket,
    wire::{self, Answer},
};

/// What the server logs: its steps are told at the level debug.
const LOG_FILTER: &str = "sp1_prover=debug,info";
/// How long the last words of a server may take that has exited.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// How long a server may take to be gone whose connection has ended: its end says more than that. One that was killed
/// first gives its device's memory back, which takes seconds.
const EXIT_LIMIT: Duration = Duration::from_secs(10);

/// A server that can be asked. It is in the process group of this process, and ends with it.
#[derive(Debug)]
pub(crate) struct Server {
    writer: OwnedWriteHalf,
    /// At most one answer waits: one request is asked at a time.
    answers: mpsc::Receiver<Vec<u8>>,
    /// Set from a request until its answer is there.
    is_asked: Arc<AtomicBool>,
    ended: Ended,
    log: Log,
    /// How long it may be silent at work. None while it builds its prover, of which it says nothing.
    silence_limit: Option<Duration>,
}

impl Server {
    /// Starts `program` for `device`, at whose socket nobody answers yet, and connects to it. Takes as long as the
    /// server does.
    ///
    /// # Errors
    /// Why there is no server that can be asked.
    pub(crate) async fn start(program: &Path, device: u32, log: Log, futures: &TaskTracker) -> Result<Self, String> {
        let mut process = Command::new(program)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .env("CUDA_VISIBLE_DEVICES", device.to_string())
            .env("CUDA_DEVICE_ORDER", "PCI_BUS_ID") // as nvidia-smi counts
            .env("RUST_LOG", LOG_FILTER)
            .env("NO_COLOR", "1")
            .env(socket::MARK, device.to_string())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| format!("cannot run {}: {error}", program.display()))?;
        let ended = Ended::default();
        let output = TaskTracker::new();
        if let Some(stdout) = process.stdout.take() {
            output.spawn(log.clone().follow(stdout, ended.clone()));
        }
        if let Some(stderr) = process.stderr.take() {
            output.spawn(log.clone().follow(stderr, ended.clone()));
        }
        output.close();
        futures.spawn(watch(process, output, log.clone(), ended.clone()));

        let stream = tokio::select! {
            stream = socket::connect(device) => stream?,
            fault = ended.wait() => return Err(fault.cause),
        };
        let (reader, writer) = stream.into_split();
        let (sender, answers) = mpsc::channel(1);
        let is_asked = Arc::default();
        futures.spawn(listen(reader, sender, Arc::clone(&is_asked), log.clone(), ended.clone()));
        Ok(Self { writer, answers, is_asked, ended, log, silence_limit: None })
    }

    /// From now on this much silence at work is a hang.
    pub(crate) fn limit_silence(&mut self, limit: Duration) {
        self.silence_limit = Some(limit);
    }

    /// The end of this server, to wait for.
    pub(crate) fn ended(&self) -> Ended {
        self.ended.clone()
    }

    /// The fault of a server that could not do `what` it was asked, for the reason `text`. Its log, which knows more, comes
    /// another way than its answer, and may come later.
    pub(crate) async fn refusal(&self, what: &str, text: &str) -> Fault {
        sleep(LAST_WORDS).await;
        self.log.explain(&format!("sp1-gpu-server could not {what}: {text}"))
    }

    /// Asks the server, and waits for its answer as long as it gives signs of life; `on_progress` hears what its log
    /// says meanwhile.
    ///
    /// # Errors
    /// Why there is no answer. The server must not be asked again then; nor after this future was dropped.
    pub(crate) async fn ask(&mut self, request: &[u8], on_progress: impl Fn(Progress)) -> Result<Answer, Fault> {
        self.log.begin();
        self.is_asked.store(true, Ordering::SeqCst);
        let (ended, log, silence_limit) = (self.ended.clone(), self.log.clone(), self.silence_limit);
        let mut progress = log.progress();
        let mut exchange = std::pin::pin!(async {
            if self.writer.write_all(request).await.is_err() {
                return None; // it has ended, or will in a moment
            }
            self.log.sign();
            self.answers.recv().await
        });
        let bytes = loop {
            tokio::select! {
                biased;
                bytes = &mut exchange => match bytes {
                    Some(bytes) => break bytes,
                    None => return Err(ended.wait().await),
                },
                fault = ended.wait() => return Err(fault),
                Ok(()) = progress.changed() => on_progress(*progress.borrow_and_update()),
                limit = silent(&log, silence_limit) => {
                    let limit = limit.as_secs_f64();
                    return Err(log.explain(&format!("sp1-gpu-server hangs: it gave no sign of life for {limit} s")));
                }
            }
        };
        wire::answer(bytes).map_err(|what| log.explain(&format!("sp1-gpu-server sent {what}")))
    }
}

/// Returns when the server was silent for `limit`, if there is one.
async fn silent(log: &Log, limit: Option<Duration>) -> Duration {
    let Some(limit) = limit else { return std::future::pending().await };
    log.silence(limit).await;
    limit
}

/// Reads answers until the connection ends, and the use of the server with it. An answer to nothing ends that too: no
/// answer says what it is for, so the next request would take it for its own.
async fn listen(
    mut reader: OwnedReadHalf,
    answers: mpsc::Sender<Vec<u8>>,
    is_asked: Arc<AtomicBool>,
    log: Log,
    ended: Ended,
) {
    loop {
        match wire::read(&mut reader, || log.sign()).await {
            Ok(bytes) if is_asked.swap(false, Ordering::SeqCst) => {
                if answers.send(bytes).await.is_err() {
                    return; // nobody asks any more
                }
            }
            Ok(_) => {
                ended.tell(log.explain("sp1-gpu-server answered what it was not asked"));
                return;
            }
            Err(error) => {
                log.close();
                // If it closed the connection by exiting, that says more; but at rest a server that is gone takes orders.
                let limit = if is_asked.load(Ordering::SeqCst) { EXIT_LIMIT } else { 2 * LAST_WORDS };
                let _ = timeout(limit, ended.wait()).await;
                let how = if error.kind() == std::io::ErrorKind::UnexpectedEof {
                    "sp1-gpu-server closed its connection".to_owned()
                } else {
                    format!("sp1-gpu-server cannot be heard: {error}")
                };
                ended.tell(log.explain(&how));
                return;
            }
        }
    }
}

/// Waits until the server exits.
async fn watch(mut process: Child, output: TaskTracker, log: Log, ended: Ended) {
    let status = process.wait().await;
    // What it said last is still in the pipes.
    drop(timeout(LAST_WORDS, output.wait()).await);
    ended.tell(match status {
        Ok(status) => exit_fault(status, &log),
        Err(error) => Fault::worker(format!("cannot wait for sp1-gpu-server: {error}")),
    });
}

fn exit_fault(status: ExitStatus, log: &Log) -> Fault {
    // A shell in between reports a killed child as 128 + the signal.
    if status.signal() == Some(9) || status.code() == Some(137) {
        let cause = "sp1-gpu-server was killed by signal 9, most likely by the kernel for want of memory";
        return Fault::resources(log.explain(cause).cause);
    }
    // Says "exit status: 3" or "signal: 6 (SIGABRT)".
    log.explain(&format!("sp1-gpu-server ended ({status})"))
}
