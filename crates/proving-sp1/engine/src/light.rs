//! Executing and setting up, without what proving needs.

use std::sync::Arc;

use sp1_core_executor::{ExecutionError, ExecutionReport, Program, SP1CoreOpts};
use sp1_prover::worker::{SP1ExecutorConfig, SP1LightNode, execute_with_options};
use sp1_sdk::{SP1Context, SP1PublicValues, SP1Stdin, SP1VerifyingKey};

use crate::Boxed;

/// Why a program could not be executed to its end.
#[derive(Debug)]
pub enum ExecuteError {
    /// The executor says why.
    Execution(ExecutionError),
    /// Something around the executor says why.
    Other(String),
}

/// Sets up. Half a second to build, 28 MB.
pub struct LightEngine {
    node: SP1LightNode,
}

impl LightEngine {
    /// Builds it. Blocks for half a second.
    pub fn build() -> Self {
        Self { node: SP1LightNode::with_opts_and_machine_sync(sp1_sdk::RiscvAir::machine(), SP1CoreOpts::default()) }
    }

    /// The verifying key of a program: 8 s on two cores, 590 MB.
    ///
    /// # Errors
    /// What SP1 says.
    pub fn set_up<'a>(&'a self, elf: &'a [u8]) -> Boxed<'a, SP1VerifyingKey> {
        Box::pin(async move { self.node.setup(elf).await.map_err(|error| format!("{error:#}")) })
    }
}

/// Runs a program without proving it. Its executor, a process of its own, is killed when it takes more than
/// `memory_bytes`.
///
/// # Errors
/// [`ExecuteError`]
pub fn execute<'a>(
    elf: &'a [u8],
    stdin: SP1Stdin,
    context: SP1Context<'static>,
    memory_bytes: u64,
) -> Boxed<'a, (SP1PublicValues, ExecutionReport), ExecuteError> {
    Box::pin(async move {
        let program = Program::from(elf).map_err(|error| ExecuteError::Other(format!("{error:#}")))?;
        let opts = SP1CoreOpts { memory_limit: memory_bytes, ..SP1CoreOpts::default() };
        let config = SP1ExecutorConfig::default();
        match execute_with_options(Arc::new(program), stdin, context, opts, config).await {
            Ok((public_values, _, report)) => Ok((public_values, report)),
            Err(error) => Err(match error.downcast::<ExecutionError>() {
                Ok(error) => ExecuteError::Execution(error),
                Err(error) => ExecuteError::Other(format!("{error:#}")),
            }),
        }
    })
}
