//! How fast this machine executes: a measure for doctors, in a process that can be ended.

use std::time::Duration;

use sp1_sdk::SP1Stdin;

use crate::{
    ChildError,
    execute::execute,
    runtime,
    sizing::{executor_bytes, memory_bytes},
};

/// Fibonacci numbers, from `programs/fibonacci`.
const PROGRAM: &[u8] = include_bytes!("../../../programs/fibonacci/elf/fibonacci");

/// Steps of it: some ten million cycles, which take seconds at most.
const STEPS: u32 = 1_000_000;

/// What was measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Measured {
    /// Cycles that were executed.
    pub cycles: u64,
    /// How long that took.
    pub took: Duration,
}

/// Executes a program. To be called in a process of its own, which may be killed: SP1 may hang.
///
/// # Errors
/// [`ChildError`]
pub fn measure() -> Result<Measured, ChildError> {
    let mut stdin = SP1Stdin::new();
    stdin.write(&STEPS);
    let (took, outcome) = runtime()?.block_on(async {
        let begun = tokio::time::Instant::now();
        let outcome = execute(PROGRAM, stdin, u64::MAX, executor_bytes(memory_bytes())).await;
        (begun.elapsed(), outcome)
    });
    let (_, execution) = outcome.map_err(|fault| ChildError::Measure(fault.cause))?;
    Ok(Measured { cycles: execution.cycles, took })
}
