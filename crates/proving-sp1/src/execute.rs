//! Running a program without proving it: cheap, and it tells the guest's own faults apart from all others.

use std::time::Duration;

use network_lib::{Digest, Fault};
use proving::{ChildCommand, ExecuteOrder, Execution, Executor, ProveOrder, shortage};
use proving_sp1_engine::ExecuteError;
use sp1_core_executor::ExecutionError;
use sp1_sdk::{SP1Context, SP1PublicValues, SP1Stdin};
use tokio::sync::watch;

use crate::sizing;

/// SP1's exit code for a panic.
const PANIC: u64 = 1;
/// SP1's exit code for input that the program could not make sense of.
const INVALID_HINT: u64 = 3;

/// Longest that a program may execute.
const LONGEST: Duration = Duration::from_mins(30);
/// What an execution takes in any case, on a machine that is busy with other things.
const SHORTEST: Duration = Duration::from_mins(2);
/// Instructions that any machine executes in a second, with their gas: a tenth of what two busy cores do.
const SLOWEST: u64 = 1_000_000;

/// How long a program may execute. One that is still running then may have no end: SP1 looks at the cycle limit only
/// when a program has read much memory.
pub fn time_limit(cycle_limit: u64) -> Duration {
    let longest = bound(cycle_limit).map_or(LONGEST, |cycles| Duration::from_secs(cycles / SLOWEST));
    SHORTEST.saturating_add(longest).min(LONGEST)
}

/// Starts a child by `command` that executes what `order` is about, on a machine with `memory_bytes` of memory.
///
/// # Errors
/// Whose fault it is that there is nothing to execute, and why.
pub(crate) async fn start(command: &ChildCommand, order: &ProveOrder, memory_bytes: u64) -> Result<Executor, Fault> {
    let execute = ExecuteOrder {
        program: order.program.clone(),
        stdin: order.stdin.clone(),
        cycle_limit: order.cycle_limit,
        memory_bytes: sizing::executor_bytes(memory_bytes),
    };
    Executor::start(command, &execute, time_limit(order.cycle_limit)).await
}

/// Runs `elf` on `stdin`, in at most `memory_bytes` of memory.
///
/// The cycle limit is checked by SP1 at the end of each chunk of the trace, so a loop that reads no memory goes on
/// for ever: the process that this runs in must be killed by the clock. Gas is computed but not limited: its model
/// differs between releases that share a circuit, and a client's limit is most often its own release's exact count.
///
/// # Errors
/// A guest fault with what the guest wrote to its standard error, a resources fault when the executor ran out of
/// memory, or else a worker fault.
pub async fn execute(
    elf: &[u8],
    stdin: SP1Stdin,
    cycle_limit: u64,
    memory_bytes: u64,
) -> Result<(SP1PublicValues, Execution), Fault> {
    let (sender, stderr) = watch::channel(String::new());
    let mut builder = SP1Context::builder();
    builder.calculate_gas(true).stderr_channel(sender);
    if let Some(first_too_many) = bound(cycle_limit) {
        builder.max_cycles(first_too_many);
    }
    let outcome = proving_sp1_engine::execute(elf, stdin, builder.build(), memory_bytes).await;
    let said = stderr.borrow().trim().to_owned();
    let (public_values, report) = outcome.map_err(|error| fault_of(error, &said, cycle_limit))?;
    match report.exit_code {
        0 => {}
        PANIC => return Err(Fault::guest(with("the program panicked", &said))),
        INVALID_HINT => {
            return Err(Fault::guest(with("the program could not make sense of its input (exit code 3)", &said)));
        }
        code => return Err(Fault::guest(with(&format!("the program ended with exit code {code}"), &said))),
    }
    let cycles = report.total_instruction_count();
    if bound(cycle_limit).is_some_and(|first_too_many| cycles >= first_too_many) {
        return Err(exceeded(cycle_limit));
    }
    let public_values_hash = *Digest::sha256(public_values.as_slice()).as_bytes();
    Ok((public_values, Execution { cycles, gas: report.gas(), public_values_hash }))
}

/// SP1 stops at its limit, ours may be reached. 0 is what clients that know no limit send.
pub fn bound(cycle_limit: u64) -> Option<u64> {
    if cycle_limit == 0 { None } else { cycle_limit.checked_add(1) }
}

fn exceeded(cycle_limit: u64) -> Fault {
    Fault::guest(format!("exceeded its cycle limit of {cycle_limit}"))
}

fn with(what: &str, said: &str) -> String {
    if said.is_empty() { what.to_owned() } else { format!("{what}: {said}") }
}

/// Whose fault it is that the program did not execute to a good end, with what it `said` on its way.
pub fn fault_of(error: ExecuteError, said: &str, cycle_limit: u64) -> Fault {
    let error = match error {
        ExecuteError::Execution(error) => error,
        // The input's own proofs, which a program may ask to have checked.
        ExecuteError::Other(text) if text.starts_with("deferred proof") => {
            return Fault::guest(format!("the input holds a proof that does not verify: {text}"));
        }
        ExecuteError::Other(text) => return not_executed(&text, ""),
    };
    let text = error.to_string();
    match error {
        ExecutionError::ExceededCycleLimit(_) => exceeded(cycle_limit),
        ExecutionError::KilledByMemoryMonitor(_) | ExecutionError::ChildKilled() => Fault::resources(format!(
            "the program takes more memory than this worker has for it, a worker with more may do: {text}"
        )),
        ExecutionError::Other(_) => not_executed(&text, said),
        _ => Fault::guest(with(&format!("the program broke a rule of the machine: {text}"), said)),
    }
}

/// The fault of this machine, for whatever reason it could not execute the program.
fn not_executed(text: &str, said: &str) -> Fault {
    match shortage(text) {
        Some(shortage) => {
            Fault::resources(format!("the program could not be executed, most likely since {shortage}: {text}"))
        }
        None => Fault::worker(with(&format!("the program could not be executed: {text}"), said)),
    }
}
