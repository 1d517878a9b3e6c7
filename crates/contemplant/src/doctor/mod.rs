//! What this machine can prove, how fast, what is missing, and how to mend it.
//!
//! [`look`] gathers [`Facts`], [`checks::judge`] judges them, [`report`] says it. Nothing is changed and no prover is
//! started.

pub mod checks;
mod coordinator;
pub mod facts;
mod gpu;
pub mod report;
mod speed;

use network_lib::Backend;
use proving::Memory;
use tokio::task::spawn_blocking;

use self::facts::{ProverFacts, StateFacts};
pub use self::{
    checks::{Check, Diagnosis, Verdict, judge},
    facts::Facts,
    speed::print as print_measure,
};
use crate::{
    HAS_BUILT_IN_PROVER,
    config::{
        Config, Problem,
        gpu::GpuDevices,
        provers::{ProverConfig, ProverProgram},
    },
    machine::{Room, cores, is_writable},
    snark,
};

/// Looks at this machine and at what the configuration names. Takes seconds; each thing that does not answer is
/// waited for ten seconds or so.
pub async fn look(configuration: Result<&Config, &[Problem]>) -> Facts {
    // Measured before anything else is at work.
    let has_gpus = configuration.is_ok_and(|config| config.gpu.devices != GpuDevices::None);
    let is_built_in = |prover: &ProverConfig| prover.program == ProverProgram::BuiltIn;
    let is_prover = has_gpus || configuration.is_ok_and(|config| config.provers.iter().any(is_built_in));
    let speed = speed::measure(is_prover).await;
    let memory = Memory::look();
    let gpu = spawn_blocking(gpu::look);
    let mut facts = Facts {
        configuration: Ok(Vec::new()),
        provers: Vec::new(),
        cores: cores(),
        memory,
        shared_memory: Room::look("/dev/shm".as_ref()),
        state: None,
        gpu: facts::Gpu::None,
        gpu_server: None,
        snarks: Vec::new(),
        coordinator: None,
        speed,
    };
    match configuration {
        Ok(config) => {
            // The server of a GPU has gnark in it.
            let is_gnark_there = snark::IS_GNARK_LINKED || (has_gpus && config.provers.is_empty());
            let snarks = {
                let config = config.snark.clone();
                spawn_blocking(move || snark::look(&config, &memory, is_gnark_there, true))
            };
            facts.coordinator = Some(Box::pin(coordinator::look(&config.coordinator)).await);
            facts.configuration = Ok(config.warnings.clone());
            facts.provers = config.provers.iter().map(prover).collect();
            facts.provers.extend(has_gpus.then_some(ProverFacts { backend: Backend::Gpu, program: None }));
            if has_gpus && HAS_BUILT_IN_PROVER {
                let config = config.gpu.clone();
                facts.gpu_server = spawn_blocking(move || gpu::look_for_server(&config)).await.ok();
            }
            facts.state = Some(state(config));
            facts.snarks = snarks.await.unwrap_or_default();
        }
        Err(problems) => facts.configuration = Err(problems.iter().map(Problem::to_string).collect()),
    }
    facts.gpu = gpu.await.unwrap_or(facts::Gpu::None);
    facts
}

fn prover(config: &ProverConfig) -> ProverFacts {
    let program = match &config.program {
        ProverProgram::BuiltIn | ProverProgram::Gpu(_) => None,
        ProverProgram::External { program, .. } => {
            let is_there = program.is_file() && rustix::fs::access(program, rustix::fs::Access::EXEC_OK).is_ok();
            Some((program.clone(), is_there))
        }
    };
    ProverFacts { backend: config.backend, program }
}

fn state(config: &Config) -> StateFacts {
    let path = config.storage.state_directory.clone();
    StateFacts {
        is_writable: is_writable(&path),
        room: Room::look(&path),
        min_free: config.storage.min_free_disk_bytes.as_u64(),
        path,
    }
}
