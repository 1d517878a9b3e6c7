//! Scripts: what a prover that only plays at proving does, and how it goes wrong. The tool of fault tests.
//!
//! One step per line; empty lines and lines that begin with `#` do nothing.
//!
//! | step | does |
//! |---|---|
//! | `phase NAME` | names the phase of the progress that follows; before the first it is *proving* |
//! | `progress DONE TOTAL` | reports progress |
//! | `work TIME [STEPS]` | takes so long (`500ms`, `2min`) and reports so many steps on the way |
//! | `burn TIME [THREADS]` | keeps so many threads busy for so long; without a number one for each processor |
//! | `memory SIZE` | takes so much memory (`512MiB`) and keeps it until the attempt ends |
//! | `executed CYCLES` | executes the program here; provers without a virtual machine report so many cycles |
//! | `print TEXT`, `say TEXT` | prints to standard output, as a careless library would, or to standard error |
//! | `flood LINES` | prints so many lines to standard error |
//! | `frame TEXT` | writes a line to the parent, whether or not it is a frame |
//! | `guest TEXT`, `resources TEXT`, `worker TEXT` | fails with that fault |
//! | `panic TEXT` | panics |
//! | `exit STATUS`, `abort` | ends the process |
//! | `hang` | never ends; stops when dropped |
//! | `spin` | never ends and blocks its thread |
//! | `deaf` | from here on a cancel is not answered |
//! | `freeze` | stops the process as SIGSTOP does |
//! | `forge CLAIM` | the proof will claim another `program`, `mode`, `circuit` or other `values`, or `nothing` at all |
//! | `prove [BYTES]` | writes the proof, so many bytes longer than it must be |
//! | `wait FILE`, `mark FILE`, `offspring FILE` | waits for a file; writes this process's id to it; starts a process that sleeps and writes its id. Not in the script of a request |
//! | `end` | what follows is not read |
//!
//! A script that ends without a fault proves, if it has not proved yet.

mod parse;

use std::{
    io::Write as _,
    path::Path,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use async_trait::async_trait;
use network_lib::{CircuitVersion, Fault, ProofMode};
use rustix::process::{Signal, getpid, kill_process};

use self::parse::Step;
pub use self::parse::{MARKER, Origin, ScriptError};
use crate::{
    Phase, Progress,
    child::Reporter,
    mock::{MockClaim, seal},
};

/// Memory is taken in pieces of this size.
const PIECE: u64 = 16 << 20;

/// A script that can be played.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Script {
    text: String,
    steps: Vec<Step>,
}

/// What a proof that a script asks for is like.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ProofForm {
    padding: usize,
    forgery: Option<Forgery>,
}

/// What is wrong with a proof.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Forgery {
    Program,
    Mode,
    Circuit,
    Values,
    Nothing,
}

impl ProofForm {
    /// Makes `proof` a mock proof: padded, and sealed with `claim` or with what the script forges.
    pub fn finish(self, mut proof: Vec<u8>, mut claim: MockClaim) -> Vec<u8> {
        proof.resize(proof.len().saturating_add(self.padding), 0x5a);
        match self.forgery {
            None => {}
            Some(Forgery::Nothing) => return proof,
            Some(Forgery::Program) => claim.vk_hash[0] ^= 1,
            Some(Forgery::Values) => claim.public_values_hash[0] ^= 1,
            Some(Forgery::Circuit) => claim.circuit_version = CircuitVersion::new("forged"),
            Some(Forgery::Mode) => {
                claim.mode = if claim.mode == ProofMode::Core { ProofMode::Compressed } else { ProofMode::Core };
            }
        }
        seal(proof, &claim)
    }
}

/// The parts of a prover that a script does not play.
#[async_trait]
pub trait Host: Send {
    /// Executes the program and reports that. `cycles` is what the script says for provers that cannot.
    ///
    /// # Errors
    /// Why it does not execute.
    async fn execute(&mut self, cycles: u64) -> Result<(), Fault>;

    /// Writes the proof.
    ///
    /// # Errors
    /// Why there is none.
    async fn prove(&mut self, form: ProofForm) -> Result<(), Fault>;
}

impl Script {
    /// This script, executing before its first step if it does not say where to.
    #[must_use]
    pub fn executing_first(mut self) -> Self {
        if !self.steps.iter().any(|step| matches!(step, Step::Executed(_))) {
            self.steps.insert(0, Step::Executed(0));
        }
        self
    }

    /// The script as it was written.
    pub fn text(&self) -> &str {
        &self.text
    }
}

/// Plays scripts, one at a time.
#[derive(Debug, Default)]
pub struct Player {
    is_deaf: AtomicBool,
}

impl Player {
    /// What a prover asks when it is told to cancel. Never returns where the script said `deaf`: to the parent that is
    /// a child which ignores a cancel.
    pub fn hear_cancel(&self) {
        while self.is_deaf.load(Ordering::Relaxed) {
            thread::park();
        }
    }

    /// Plays `script` to its end, which has a proof. Dropped, it stops what can be stopped.
    ///
    /// # Errors
    /// The fault that the script asks for, or one of the host's.
    ///
    /// # Panics
    /// Where the script says so, and when it names a file that cannot be written.
    pub async fn play(&self, script: &Script, reporter: &Reporter, host: &mut impl Host) -> Result<(), Fault> {
        let mut phase = Phase::Proving;
        let mut form = ProofForm::default();
        let mut memory = Vec::new();
        let mut is_proved = false;
        self.is_deaf.store(false, Ordering::Relaxed);
        for step in &script.steps {
            match step {
                Step::Phase(next) => phase = *next,
                Step::Progress { done, total } => {
                    reporter.progress(Progress::counted(phase, *done, *total));
                }
                Step::Work { time, steps } => work(*time, *steps, phase, reporter).await,
                Step::Burn { time, threads } => burn(*time, *threads).await,
                Step::Memory(bytes) => take_memory(*bytes, &mut memory).await,
                Step::Executed(cycles) => host.execute(*cycles).await?,
                #[expect(clippy::print_stdout, reason = "that this does no harm is what is tested")]
                Step::Print(text) => println!("{text}"),
                #[expect(clippy::print_stderr, reason = "that this is heard is what is tested")]
                Step::Say(text) => eprintln!("{text}"),
                Step::Flood(lines) => flood(*lines),
                Step::Frame(text) => reporter.write_line(text),
                Step::Fail(fault) => return Err(fault.clone()),
                Step::Panic(text) => panic!("{text}"),
                Step::Exit(status) => std::process::exit(*status),
                Step::Abort => std::process::abort(),
                Step::Hang => std::future::pending().await,
                Step::Spin => loop {
                    thread::park();
                },
                Step::Deaf => self.is_deaf.store(true, Ordering::Relaxed),
                Step::Freeze => {
                    // A process may always stop itself.
                    let _ = kill_process(getpid(), Signal::STOP);
                }
                Step::Forge(forgery) => form.forgery = Some(*forgery),
                Step::Prove(padding) => {
                    form.padding = *padding;
                    host.prove(form).await?;
                    is_proved = true;
                }
                Step::Wait(file) => {
                    while !Path::new(file).exists() {
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                }
                Step::Mark(file) => mark(file, std::process::id()),
                Step::Offspring(file) => {
                    #[expect(clippy::zombie_processes, reason = "it is there to be ended with its group")]
                    let offspring = Command::new("sleep").arg("1000").spawn().expect("cannot start sleep");
                    mark(file, offspring.id());
                }
            }
        }
        if is_proved { Ok(()) } else { host.prove(form).await }
    }
}

async fn work(time: Duration, steps: u32, phase: Phase, reporter: &Reporter) {
    let steps = steps.max(1);
    for done in 1..=steps {
        tokio::time::sleep(time / steps).await;
        reporter.progress(Progress::counted(phase, done.into(), steps.into()));
    }
}

/// Ends what was begun, however the play ends.
struct Burning(Arc<AtomicBool>);

impl Drop for Burning {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

async fn burn(time: Duration, threads: Option<usize>) {
    let threads = threads.unwrap_or_else(|| thread::available_parallelism().map_or(1, Into::into));
    let burning = Burning(Arc::new(AtomicBool::new(true)));
    for _ in 0..threads {
        let goes_on = Arc::clone(&burning.0);
        thread::spawn(move || {
            while goes_on.load(Ordering::Relaxed) {
                std::hint::spin_loop();
            }
        });
    }
    tokio::time::sleep(time).await;
}

async fn take_memory(bytes: u64, memory: &mut Vec<Vec<u8>>) {
    let mut left = bytes;
    while left > 0 {
        let piece = left.min(PIECE);
        // Written to, so that it is memory and not only addresses.
        memory.push(vec![0x5a; usize::try_from(piece).unwrap_or(usize::MAX)]);
        left -= piece;
        tokio::task::yield_now().await;
    }
}

fn flood(lines: u64) {
    let mut out = std::io::stderr().lock();
    for line in 0..lines {
        if writeln!(out, "line {line} of {lines} that nobody wants to read").is_err() {
            return;
        }
    }
}

/// Creates a file that is either not there or whole.
fn mark(path: &str, id: u32) {
    let draft = format!("{path}.draft");
    std::fs::write(&draft, id.to_string()).expect("cannot write a mark");
    std::fs::rename(draft, path).expect("cannot write a mark");
}

#[cfg(test)]
mod tests;
