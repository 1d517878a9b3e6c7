//! Orders, carried out by a server.

use std::{
    io::ErrorKind,
    path::Path,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use network_lib::{Backend, Digest, Fault, FaultClass, ProverProfile, Vm};
use proving::{
    Execution, Phase, Progress, ProveOrder, VerifyOrder,
    child::{Prove, Reporter},
};
use sp1_sdk::SP1Stdin;
use tokio::{
    sync::{Mutex, oneshot},
    time::timeout,
};
use tokio_util::task::TaskTracker;

use crate::{
    GpuSettings, Sp1,
    ended::Ended,
    find,
    log::Log,
    server::Server,
    smi, socket,
    wire::{self, Answer},
};

/// A small program and its verifying key. A server that sets it up as the linked SP1 does is of the same SP1, and
/// its device is good enough: it builds its prover for the first program that it sees.
const TRIAL_PROGRAM: &[u8] = include_bytes!("../../../../programs/fibonacci/elf/fibonacci");
const TRIAL_KEY: &[u8] = include_bytes!("../../tests/fixtures/fibonacci.vk");

/// How long the executor may take to say that it was the guest, when the server has failed.
const GUEST_WORD: Duration = Duration::from_mins(1);

/// How long a killed server may take to be gone. It may have much memory to give back.
const CLEAR_LIMIT: Duration = Duration::from_secs(30);

/// Programs that a server keeps set up; it holds their ELFs in memory.
const MAX_PROGRAMS: usize = 32;

/// Makes real proofs on a GPU.
#[derive(Debug)]
pub struct GpuProver {
    profile: ProverProfile,
    sp1: Port,
    hand: Mutex<Hand>,
    ended: Ended,
    /// Set while the server is at work, and for good when it is not trusted any more.
    is_in_doubt: AtomicBool,
    head_start: Duration,
    /// Set from an order until the question that follows its end, [`Prove::is_broken`].
    is_at_work: Arc<AtomicBool>,
    /// What watches the server.
    _futures: TaskTracker,
}

#[derive(Clone)]
struct Port(Arc<dyn Sp1>);

impl std::fmt::Debug for Port {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Port")
    }
}

/// The server, and the programs that it has set up, the oldest first.
#[derive(Debug)]
struct Hand {
    server: Server,
    programs: Vec<(Digest, Program)>,
}

/// A program that the server has set up.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Program {
    id: [u8; 32],
    verifying_key: Vec<u8>,
}

impl GpuProver {
    /// Finds the server, starts it and tries it out.
    ///
    /// # Errors
    /// Why there is no server that can be used, and what to do.
    pub async fn start(settings: GpuSettings, sp1: Arc<dyn Sp1>) -> Result<Self, String> {
        let GpuSettings {
            device,
            server,
            silence_limit,
            has_spare,
            head_start,
            start_limit,
            download,
            circuit_version,
            modes,
        } = settings;
        let program = find::find(server.as_deref(), download.as_ref()).await?;
        let (log, futures) = (Log::default(), TaskTracker::new());
        let try_out = async {
            socket::clear(device, CLEAR_LIMIT.min(start_limit / 2)).await?;
            let mut server = Server::start(&program, device, log.clone(), &futures).await?;
            if has_spare {
                socket::give_up(device)?;
            }
            let trial = set_up(&mut server, TRIAL_PROGRAM).await.map_err(|fault| fault.cause)?;
            if trial.verifying_key != TRIAL_KEY {
                let (path, version) = (program.display(), crate::SP1_VERSION);
                return Err(format!(
                    "{path} derives other verifying keys than SP1 {version}: it is of another release"
                ));
            }
            server.limit_silence(silence_limit);
            Ok(server)
        };
        let Ok(server) = timeout(start_limit, try_out).await else {
            let limit = start_limit.as_secs_f64();
            return Err(log.explain(&format!("sp1-gpu-server was not ready after {limit} s")).cause);
        };
        let server = server?;
        let (name, memory_bytes) = smi::describe(device).await.unwrap_or_default();
        let profile = ProverProfile {
            vm: Vm::Sp1,
            backend: Backend::Gpu,
            device: if name.is_empty() { format!("gpu {device}") } else { format!("gpu {device} ({name})") },
            circuit_version,
            modes,
            memory_bytes,
        };
        let ended = server.ended();
        let hand = Mutex::new(Hand { server, programs: Vec::new() });
        Ok(Self {
            profile,
            sp1: Port(sp1),
            hand,
            ended,
            is_in_doubt: AtomicBool::default(),
            head_start,
            is_at_work: Arc::default(),
            _futures: futures,
        })
    }

    /// Why the server ended, once it does so while there is no order. Where there is one, its outcome is told first.
    pub fn ended_while_idle(&self) -> impl Future<Output = String> + use<> {
        let (ended, is_at_work) = (self.ended.clone(), Arc::clone(&self.is_at_work));
        async move {
            let fault = ended.wait().await;
            if is_at_work.load(Ordering::SeqCst) {
                return std::future::pending().await;
            }
            fault.cause
        }
    }

    async fn make(&self, order: &ProveOrder, reporter: &Reporter) -> Result<(), Fault> {
        let own = &self.profile.circuit_version;
        if order.circuit_version != *own {
            let other = &order.circuit_version;
            return Err(Fault::worker(format!("this prover makes proofs of circuit {own}, not {other}")));
        }
        reporter.progress(Progress::begun(Phase::Executing));
        let ((read, is_read), (executed, is_executed)) = (oneshot::channel(), oneshot::channel());
        let execution = async {
            let execution = self.sp1.0.execute(order, read).await?;
            reporter.executed(execution);
            let _ = executed.send(()); // if it took long, nobody waits for it any more
            Ok(execution)
        };
        let proof = async {
            // Here, too, it is only decoded when that has been tried out; and if it could not be, this ends with it.
            let _ = is_read.await;
            let _ = timeout(self.head_start, is_executed).await;
            self.ask(order, reporter).await
        };
        let (mut execution, mut proof) = (pin!(execution), pin!(proof));
        let (execution, program) = tokio::select! {
            execution = &mut execution => (execution?, proof.await?),
            program = &mut proof => match program {
                Ok(program) => (execution.await?, program),
                // Not the server's.
                Err(fault) if fault.class == FaultClass::Guest || !self.is_in_doubt.load(Ordering::SeqCst) => {
                    return Err(fault);
                }
                // A program that fails does so in the server too, and only the executor tells it from other faults.
                Err(fault) => return Err(match timeout(GUEST_WORD, execution).await {
                    Ok(Err(told)) if told.class == FaultClass::Guest => told,
                    Ok(_) | Err(_) => fault,
                }),
            },
        };
        self.verify(order, program, execution).await.inspect_err(|_| self.doubt())
    }

    /// Has the server make the proof, and writes it.
    async fn ask(&self, order: &ProveOrder, reporter: &Reporter) -> Result<Program, Fault> {
        let mut hand = self.hand.lock().await;
        reporter.progress(Progress::begun(Phase::Preparing));
        let (elf, stdin) = self.sp1.0.read(order).await?;
        let program = self.doubting(hand.program(order.program_digest, &elf)).await?;
        self.check_key(order, &program, &elf).await?;

        reporter.progress(Progress::begun(Phase::Proving));
        let proof = self.doubting(hand.prove(order, &program, stdin, reporter)).await?;

        reporter.progress(Progress::begun(Phase::Finishing));
        write(&order.output, &proof)?;
        Ok(program)
    }

    /// The outcome of what the server does. It is not trusted any more if it fails or is given up: work of that request
    /// may go on in it, and where a stage of it panicked, the next request may never be answered.
    async fn doubting<T>(&self, work: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
        self.doubt();
        let done = work.await?;
        self.is_in_doubt.store(false, Ordering::SeqCst);
        Ok(done)
    }

    fn doubt(&self) {
        self.is_in_doubt.store(true, Ordering::SeqCst);
    }

    /// Refuses a program that has another key than the order says. The server's word is not enough for that, since
    /// a guest's fault is final and a GPU may compute what is wrong.
    async fn check_key(&self, order: &ProveOrder, program: &Program, elf: &[u8]) -> Result<(), Fault> {
        let hash = |key: &[u8]| {
            let hashes = self.sp1.0.hash_verifying_key(key);
            hashes.map_err(|error| Fault::worker(format!("cannot hash the verifying key: {error}")))
        };
        let claimed = hash(&program.verifying_key).inspect_err(|_| self.doubt())?;
        if claimed.contains(&order.vk_hash) {
            return Ok(());
        }
        let derived = self.sp1.0.verifying_key(elf).await;
        let derived = derived.map_err(|error| Fault::worker(format!("cannot derive the verifying key: {error}")))?;
        if derived != program.verifying_key {
            self.doubt(); // whatever the order says
        }
        let hashes = hash(&derived)?;
        let (actual, expected) = (hex::encode(hashes.field), hex::encode(order.vk_hash));
        if hashes.contains(&order.vk_hash) {
            let claimed = hex::encode(claimed.field);
            return Err(Fault::worker(format!(
                "sp1-gpu-server derived a wrong verifying key: its hash is {claimed} instead of {actual}"
            )));
        }
        Err(Fault::guest(format!(
            "the program's verifying key has the hash {actual}, not {expected}, under which it was registered"
        )))
    }

    async fn verify(&self, order: &ProveOrder, program: Program, execution: Execution) -> Result<(), Fault> {
        let check = VerifyOrder {
            verifying_key: program.verifying_key,
            vk_hash: order.vk_hash,
            proof: order.output.clone(),
            mode: order.mode,
            circuit_version: order.circuit_version.clone(),
            public_values_hash: Some(execution.public_values_hash),
            accept_mock: false,
        };
        let sp1 = self.sp1.clone();
        let verdict = tokio::task::spawn_blocking(move || sp1.0.verify(&check)).await;
        match verdict {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(reason)) => Err(Fault::worker(format!("sp1-gpu-server made a proof that is not good: {reason}"))),
            Err(error) => Err(Fault::worker(format!("the proof of sp1-gpu-server cannot be verified: {error}"))),
        }
    }
}

impl Hand {
    /// The program of these ELF bytes, set up now unless it is known.
    async fn program(&mut self, digest: Digest, elf: &[u8]) -> Result<Program, Fault> {
        if let Some((_, program)) = self.programs.iter().find(|(known, _)| *known == digest) {
            return Ok(program.clone());
        }
        if self.programs.len() >= MAX_PROGRAMS {
            let (_, oldest) = self.programs.remove(0);
            // The same ELF may have come in two files.
            if self.programs.iter().all(|(_, program)| program.id != oldest.id) {
                let request = wire::forget(oldest.id).map_err(Fault::worker)?;
                match self.server.ask(&request, |_| {}).await? {
                    Answer::Done => {}
                    other => return Err(unexpected(&other, "forget a program")),
                }
            }
        }
        let program = set_up(&mut self.server, elf).await?;
        self.programs.push((digest, program.clone()));
        Ok(program)
    }

    async fn prove(
        &mut self,
        order: &ProveOrder,
        program: &Program,
        stdin: SP1Stdin,
        reporter: &Reporter,
    ) -> Result<Vec<u8>, Fault> {
        let request = wire::prove(order.mode, program.id, stdin).map_err(Fault::resources)?;
        match self.server.ask(&request, |progress| reporter.progress(progress)).await? {
            Answer::Proof(proof) => Ok(proof),
            Answer::Refused(text) => Err(self.server.refusal("make the proof", &text).await),
            other => Err(unexpected(&other, "make a proof")),
        }
    }
}

async fn set_up(server: &mut Server, elf: &[u8]) -> Result<Program, Fault> {
    let request = wire::set_up(elf.to_vec()).map_err(Fault::worker)?;
    match server.ask(&request, |_| {}).await? {
        Answer::SetUp { id, .. } if id != *Digest::sha256(elf).as_bytes() => {
            Err(Fault::worker("sp1-gpu-server set up another program than it was asked to"))
        }
        Answer::SetUp { id, verifying_key } => Ok(Program { id, verifying_key }),
        Answer::Refused(text) => Err(server.refusal("set up the program", &text).await),
        other => Err(unexpected(&other, "set up a program")),
    }
}

fn unexpected(answer: &Answer, request: &str) -> Fault {
    let answer = match answer {
        Answer::Done => "done",
        Answer::SetUp { .. } => "a verifying key",
        Answer::Proof(_) => "a proof",
        Answer::Refused(text) => text,
    };
    Fault::worker(format!("sp1-gpu-server was asked to {request} and answered: {answer}"))
}

#[async_trait]
impl Prove for GpuProver {
    fn profile(&self) -> ProverProfile {
        self.profile.clone()
    }

    async fn prove(&self, order: &ProveOrder, reporter: &Reporter) -> Result<(), Fault> {
        self.is_at_work.store(true, Ordering::SeqCst);
        self.make(order, reporter).await
    }

    fn stops_when_dropped(&self) -> bool {
        // An execution is in a child that ends with it, and decoding and verifying end by themselves in seconds; a request
        // to the server cannot be taken back.
        !self.is_in_doubt.load(Ordering::SeqCst)
    }

    fn is_broken(&self) -> bool {
        self.is_at_work.store(false, Ordering::SeqCst);
        self.is_in_doubt.load(Ordering::SeqCst) || self.ended.is_told()
    }
}

fn write(path: &Path, proof: &[u8]) -> Result<(), Fault> {
    std::fs::write(path, proof).map_err(|error| match error.kind() {
        ErrorKind::StorageFull => Fault::resources(format!("cannot write the proof: {error}")),
        _ => Fault::worker(format!("cannot write the proof: {error}")),
    })
}
