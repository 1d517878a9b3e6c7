//! What the facts mean. Pure.

use std::time::Duration;

use bytesize::ByteSize;
use network_lib::{Backend, CONTEMPLANT_VERSION};
use proving::Memory;

use super::facts::{CoordinatorFacts, Facts, Gpu, GpuServer, Health, ProverFacts, Speed, StateFacts};
use crate::{
    failure::chain,
    machine::Room,
    session::DialError,
    snark::{
        docker::Docker,
        readiness::{Obstacle, SnarkFacts},
    },
};

/// Memory without which the CPU prover does not get through one shard: it was seen to take 9 GB, and is not alone.
const LEAST_MEMORY: u64 = 10_000_000_000;
/// The same for a compressed proof, which was seen to take 15 GB.
const GOOD_MEMORY: u64 = 16_000_000_000;
/// Shared memory of an execution, 1.4 GiB, with some room.
const LEAST_SHARED_MEMORY: u64 = 2 << 30;
/// Shared memory of an execution that counts gas, at worst: 4.4 GiB.
const GOOD_SHARED_MEMORY: u64 = 5 << 30;
/// Disk for a few large inputs and proofs.
const GOOD_ROOM: u64 = 10 << 30;
/// Clocks further apart make logs of the two programs hard to read side by side.
const CLOCKS_APART: Duration = Duration::from_secs(10);

/// How good a thing is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// Something can be better, or is missing for some proofs.
    Warning,
    /// Nothing can be proved, or the coordinator cannot be reached.
    Problem,
}

impl Verdict {
    /// The verdict in a word.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Problem => "problem",
        }
    }
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// What was looked at.
    pub name: &'static str,
    /// How good it is.
    pub verdict: Verdict,
    /// What was found.
    pub text: String,
    /// What mends it, where something can: a command, if there is one.
    pub remedy: Option<String>,
}

impl Check {
    fn ok(name: &'static str, text: impl Into<String>) -> Self {
        Self { name, verdict: Verdict::Ok, text: text.into(), remedy: None }
    }

    fn warning(name: &'static str, text: impl Into<String>) -> Self {
        Self { verdict: Verdict::Warning, ..Self::ok(name, text) }
    }

    fn problem(name: &'static str, text: impl Into<String>) -> Self {
        Self { verdict: Verdict::Problem, ..Self::ok(name, text) }
    }

    fn mended_by(self, remedy: impl Into<String>) -> Self {
        Self { remedy: Some(remedy.into()), ..self }
    }
}

/// All that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnosis {
    /// The checks, in the order in which one would mend things.
    pub checks: Vec<Check>,
    /// What this machine can prove as it is, in words.
    pub proves: Vec<String>,
}

impl Diagnosis {
    /// How many checks came out like this.
    pub fn count(&self, verdict: Verdict) -> usize {
        self.checks.iter().filter(|check| check.verdict == verdict).count()
    }

    /// Whether nothing keeps this machine from proving and from reaching its coordinator.
    pub fn is_well(&self) -> bool {
        self.count(Verdict::Problem) == 0
    }
}

/// Judges the facts.
pub fn judge(facts: &Facts) -> Diagnosis {
    let mut checks = configuration(&facts.configuration);
    checks.extend(facts.provers.iter().filter_map(program));
    checks.push(cores(facts.cores));
    let is_own = facts.provers.iter().any(|prover| prover.program.is_none());
    let is_real = facts.provers.iter().any(|prover| prover.program.is_none() && prover.backend != Backend::Mock);
    let has = |backend| facts.provers.iter().any(|prover| prover.program.is_none() && prover.backend == backend);
    checks.push(memory(&facts.memory, has(Backend::Cpu)));
    checks.push(shared_memory(facts.shared_memory, is_own));
    checks.extend(facts.state.as_ref().map(state));
    checks.push(gpu(&facts.gpu, has(Backend::Gpu)));
    checks.extend(facts.gpu_server.as_ref().map(gpu_server));
    checks.extend(facts.snarks.first().and_then(|facts| docker(facts, is_real)));
    checks.extend(facts.snarks.iter().map(|facts| snark(facts, is_real)));
    checks.push(speed(&facts.speed));
    if let Some(coordinator) = &facts.coordinator {
        checks.extend(self::coordinator(coordinator));
    }
    let is_able = checks.iter().all(|check| check.verdict != Verdict::Problem || is_of_coordinator(check.name));
    let proves = if is_able { proves(facts) } else { Vec::new() };
    Diagnosis { checks, proves }
}

fn configuration(configuration: &Result<Vec<String>, Vec<String>>) -> Vec<Check> {
    const NAME: &str = "configuration";
    match configuration {
        Ok(warnings) if warnings.is_empty() => vec![Check::ok(NAME, "can be used")],
        Ok(warnings) => warnings.iter().map(|text| Check::warning(NAME, text)).collect(),
        Err(problems) => problems.iter().map(|text| Check::problem(NAME, text)).collect(),
    }
}

fn program(prover: &ProverFacts) -> Option<Check> {
    let (path, is_there) = prover.program.as_ref()?;
    let path = path.display();
    Some(if *is_there {
        Check::ok("prover", format!("{path} says itself what it proves"))
    } else {
        Check::problem("prover", format!("{path} is not a program that can be started"))
            .mended_by("give the path of one as program under [[provers]]")
    })
}

fn cores(cores: usize) -> Check {
    match cores {
        1 => Check::warning("cores", "1: proofs will take long, and heartbeats share it with them"),
        _ => Check::ok("cores", cores.to_string()),
    }
}

fn memory(memory: &Memory, is_real: bool) -> Check {
    const NAME: &str = "memory";
    let size = |bytes| ByteSize::b(bytes).to_string();
    let of = memory.limit.map_or_else(String::new, |_| format!(" (allowed of {})", size(memory.total)));
    let text = format!("{}{of}, {} of it free", size(memory.allowed()), size(memory.available.min(memory.allowed())));
    let remedy = if memory.limit.is_some() {
        "raise the limit of this container or service (docker: --memory, systemd: MemoryMax)"
    } else {
        "use a machine with 24 GB or more"
    };
    match memory.allowed() {
        _ if !is_real => Check::ok(NAME, text),
        ..LEAST_MEMORY => {
            Check::problem(NAME, format!("{text}: a core proof on the processor takes 9 GB")).mended_by(remedy)
        }
        LEAST_MEMORY..GOOD_MEMORY => {
            Check::warning(NAME, format!("{text}: compressed proofs take 15 GB")).mended_by(remedy)
        }
        _ => Check::ok(NAME, text),
    }
}

fn shared_memory(room: Option<Room>, is_own: bool) -> Check {
    const NAME: &str = "/dev/shm";
    let remedy = "docker: --shm-size=8g; elsewhere: mount -o remount,size=8G /dev/shm";
    let Some(room) = room else {
        let text = "is not there, and SP1 executes programs through it";
        return if is_own { Check::problem(NAME, text).mended_by(remedy) } else { Check::warning(NAME, text) };
    };
    let text = format!("{}, {} of it free", ByteSize::b(room.total), ByteSize::b(room.free));
    match room.free {
        ..LEAST_SHARED_MEMORY => {
            let text = format!("{text}: executing a program takes 2 GiB");
            let check = if is_own { Check::problem(NAME, text) } else { Check::warning(NAME, text) };
            check.mended_by(remedy)
        }
        LEAST_SHARED_MEMORY..GOOD_SHARED_MEMORY => {
            Check::warning(NAME, format!("{text}: executing a large program takes up to 5 GiB")).mended_by(remedy)
        }
        _ => Check::ok(NAME, text),
    }
}

fn state(state: &StateFacts) -> Check {
    const NAME: &str = "state directory";
    let path = state.path.display();
    if !state.is_writable {
        return Check::problem(NAME, format!("{path} cannot be written by this user"))
            .mended_by(format!("mkdir -p {path} && chown $USER {path}, or set state_directory"));
    }
    let Some(room) = state.room else { return Check::ok(NAME, format!("{path}")) };
    let text = format!("{path}, {} free", ByteSize::b(room.free));
    if room.free < state.min_free {
        let needed = ByteSize::b(state.min_free);
        Check::problem(NAME, format!("{text}: every attempt is refused that leaves less than {needed}"))
            .mended_by("make room there, or set state_directory to a larger disk")
    } else if room.free < GOOD_ROOM {
        Check::warning(NAME, format!("{text}: large inputs and proofs may not fit"))
    } else {
        Check::ok(NAME, text)
    }
}

fn gpu(gpu: &Gpu, is_wanted: bool) -> Check {
    match gpu {
        Gpu::None if is_wanted => Check::problem("gpu", "gpu_devices asks for GPUs, and there is no nvidia-smi")
            .mended_by("install NVIDIA's driver: nvidia-smi must succeed"),
        Gpu::Cards(cards) if is_wanted && cards.is_empty() => {
            Check::problem("gpu", "gpu_devices asks for GPUs, and nvidia-smi shows none")
                .mended_by("see that the cards are in this machine or container, or leave gpu_devices out")
        }
        Gpu::Unusable(words) if is_wanted => {
            Check::problem("gpu", format!("gpu_devices asks for GPUs, and nvidia-smi does not work: {words}"))
                .mended_by("install the driver that fits the card and this kernel: nvidia-smi must succeed")
        }
        Gpu::None => Check::ok("gpu", "none (no nvidia-smi)"),
        Gpu::Cards(cards) if cards.is_empty() => Check::ok("gpu", "none"),
        Gpu::Cards(cards) => Check::ok("gpu", cards.join("; ")),
        Gpu::Unusable(words) => Check::warning("gpu", format!("nvidia-smi does not work: {words}"))
            .mended_by("install the driver that fits the card and this kernel: nvidia-smi must succeed"),
    }
}

fn gpu_server(server: &GpuServer) -> Check {
    const NAME: &str = "gpu server";
    match &server.found {
        Ok(path) => Check::ok(NAME, path),
        Err(_) if server.may_be_downloaded => Check::ok(NAME, "is not here yet, and is downloaded when it is needed"),
        Err(words) => Check::problem(NAME, words),
    }
}

/// Docker counts for the SNARKs alone. That it is not installed is said there; that it is and does not work, here too.
fn docker(facts: &SnarkFacts, is_real: bool) -> Option<Check> {
    const NAME: &str = "docker";
    Some(match facts.docker.as_ref()? {
        _ if !is_real => Check::ok(NAME, "none of the configured provers would make use of it"),
        Docker::Missing => Check::ok(NAME, "is not installed; only plonk and groth16 proofs take it"),
        Docker::Unusable(words) => {
            let check = Check::warning(NAME, format!("does not work, and plonk and groth16 proofs take it: {words}"));
            Check { remedy: Obstacle::Docker(words.clone()).remedy(), ..check }
        }
        Docker::WithoutImage if facts.may_pull_image => {
            Check::ok(NAME, format!("works, and will fetch {} when a proof needs it", facts.image))
        }
        Docker::WithoutImage => Check::ok(NAME, format!("works, without the image {}", facts.image)),
        Docker::Ready => Check::ok(NAME, format!("works, and has the image {}", facts.image)),
    })
}

fn snark(facts: &SnarkFacts, is_real: bool) -> Check {
    let name = facts.snark.name();
    if !is_real {
        return Check::ok(name, "none of the configured provers would make use of circuit files here");
    }
    let obstacles = facts.obstacles();
    if obstacles.is_empty() {
        return Check::ok(name, "offered: circuit files, gnark and memory are there");
    }
    let reasons: Vec<String> = obstacles.iter().map(Obstacle::to_string).collect();
    let check = Check::warning(name, format!("not offered: {}", reasons.join("; ")));
    // Little memory cannot be mended by a command, and then gigabytes of files would be fetched for nothing.
    if obstacles.iter().any(|obstacle| matches!(obstacle, Obstacle::Memory { .. })) {
        return check;
    }
    match obstacles.iter().filter_map(Obstacle::remedy).collect::<Vec<_>>() {
        remedies if remedies.is_empty() => check,
        remedies => check.mended_by(remedies.join("; then: ")),
    }
}

fn speed(speed: &Speed) -> Check {
    const NAME: &str = "speed";
    match speed {
        Speed::Unknown(reason) => Check::ok(NAME, format!("not measured: {reason}")),
        Speed::Failed(reason) => Check::problem(NAME, format!("a small program cannot be executed: {reason}")),
        Speed::Measured(cycles, took) => {
            let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX).max(1);
            let tenths = cycles.saturating_mul(10) / micros;
            let text = format!("executes {}.{} million cycles per second", tenths / 10, tenths % 10);
            Check::ok(NAME, text)
        }
    }
}

const REACHED: &str = "hierophant";
const DOOR: &str = "worker token";
const VERSION: &str = "version";
const CLOCK: &str = "clock";

fn is_of_coordinator(name: &str) -> bool {
    [REACHED, DOOR, VERSION, CLOCK].contains(&name)
}

fn coordinator(facts: &CoordinatorFacts) -> Vec<Check> {
    let address = &facts.address;
    let mut checks = Vec::new();
    let is_hierophant = matches!(&facts.health, Ok(Health { version: Some(_), .. }));
    match &facts.door {
        Ok(()) | Err(DialError::Denied { .. }) => checks.push(Check::ok(REACHED, format!("answers at {address}"))),
        Err(error @ DialError::NotFound { expected, .. }) if is_hierophant => checks.push(
            Check::problem(REACHED, chain(error)).mended_by(format!("set hierophant_ws_address = \"{expected}\"")),
        ),
        Err(error @ DialError::Refused { .. }) => checks
            .push(Check::problem(REACHED, chain(error)).mended_by("start hierophant, or set hierophant_ws_address")),
        Err(error) => {
            let but = if is_hierophant { " (its /health does answer)" } else { "" };
            checks
                .push(Check::problem(REACHED, format!("{}{but}", chain(error))).mended_by(
                    "set hierophant_ws_address to the address of Hierophant's http_port, with the path /ws",
                ));
        }
    }
    match &facts.door {
        Ok(()) if facts.has_token => checks.push(Check::ok(DOOR, "this worker is let in with it")),
        Ok(()) => checks.push(Check::ok(DOOR, "this worker is let in without one")),
        Err(DialError::Denied { status, reason, .. }) => checks.push(
            Check::problem(DOOR, format!("this worker is not let in ({status}): {reason}"))
                .mended_by("set CONTEMPLANT_WORKER_TOKEN or worker_token_file to the worker_token of that Hierophant"),
        ),
        Err(_) => {}
    }
    match &facts.health {
        Ok(health) => {
            checks.push(version(health, facts.door.is_ok()));
            checks.extend(health.clock.map(|(apart, is_ahead)| clock(apart, is_ahead)));
        }
        // Whoever does not let workers in has been named above.
        Err(reason) if facts.door.is_ok() => {
            checks.push(Check::warning(VERSION, format!("Hierophant's /health does not answer: {reason}")));
        }
        Err(_) => {}
    }
    checks
}

fn version(health: &Health, is_open: bool) -> Check {
    match &health.version {
        Some(version) if version != CONTEMPLANT_VERSION => {
            let text =
                format!("Hierophant is {version} and this contemplant is {CONTEMPLANT_VERSION}: they must be the same");
            Check::problem(VERSION, text).mended_by(format!("install contemplant {version} here"))
        }
        Some(version) if health.status != 200 => {
            Check::warning(VERSION, format!("{version}, the same here; but Hierophant says that it is not well"))
                .mended_by("look into the log of Hierophant")
        }
        Some(version) => {
            let mock = if health.mock_mode { "; mock proofs count there" } else { "" };
            Check::ok(VERSION, format!("{version}, the same here{mock}"))
        }
        None if is_open => {
            Check::warning(VERSION, format!("unknown: /health answers {}, through a proxy perhaps", health.status))
        }
        None => {
            let text = format!("what answers there is no Hierophant: /health answers {}", health.status);
            Check::problem(VERSION, text)
                .mended_by("set hierophant_ws_address to the address of Hierophant's http_port")
        }
    }
}

fn clock(apart: Duration, is_ahead: bool) -> Check {
    let whose = if is_ahead { "ahead of" } else { "behind" };
    let text = format!("Hierophant's is {} s {whose} the one here", apart.as_secs());
    if apart < CLOCKS_APART {
        Check::ok(CLOCK, text)
    } else {
        Check::warning(CLOCK, text).mended_by("timedatectl set-ntp true, here and there")
    }
}

fn proves(facts: &Facts) -> Vec<String> {
    let mut proves: Vec<String> = Vec::new();
    for prover in &facts.provers {
        match (&prover.program, prover.backend) {
            (Some((path, _)), backend) => proves.push(format!("what {} can ({backend})", path.display())),
            (None, Backend::Mock) => proves.push("mock proofs of all modes".to_owned()),
            (None, _) => {
                proves.extend(["core".to_owned(), "compressed".to_owned()]);
                let snarks = facts.snarks.iter().filter(|snark| snark.obstacles().is_empty());
                proves.extend(snarks.map(|facts| facts.snark.name().to_owned()));
            }
        }
    }
    let mut once = Vec::new();
    for what in proves {
        if !once.contains(&what) {
            once.push(what);
        }
    }
    once
}

#[cfg(test)]
mod tests;
