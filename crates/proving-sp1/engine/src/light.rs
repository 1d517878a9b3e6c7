//! Executing and setting up, without what proving needs.

use sp1_core_executor::{ExecutionError, ExecutionReport};
use sp1_prover::worker::{SP1LightNode, SP1NodeCore};
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

/// Executes and sets up. Half a second to build, 28 MB.
pub struct LightEngine {
    node: SP1LightNode,
}

impl LightEngine {
    /// Builds it. Blocks for half a second.
    pub fn build() -> Self {
        let machine = sp1_sdk::RiscvAir::machine();
        Self { node: SP1LightNode::with_opts_and_machine_sync(machine, sp1_core_executor::SP1CoreOpts::default()) }
    }

    /// Runs a program without proving it.
    ///
    /// # Errors
    /// [`ExecuteError`]
    pub fn execute<'a>(
        &'a self,
        elf: &'a [u8],
        stdin: SP1Stdin,
        context: SP1Context<'static>,
    ) -> Boxed<'a, (SP1PublicValues, ExecutionReport), ExecuteError> {
        execute(self.node.inner(), elf, stdin, context)
    }

    /// The verifying key of a program: 8 s on two cores, 590 MB.
    ///
    /// # Errors
    /// What SP1 says.
    pub fn set_up<'a>(&'a self, elf: &'a [u8]) -> Boxed<'a, SP1VerifyingKey> {
        Box::pin(async move { self.node.setup(elf).await.map_err(|error| format!("{error:#}")) })
    }
}

pub(crate) fn execute<'a>(
    node: &'a SP1NodeCore,
    elf: &'a [u8],
    stdin: SP1Stdin,
    context: SP1Context<'static>,
) -> Boxed<'a, (SP1PublicValues, ExecutionReport), ExecuteError> {
    Box::pin(async move {
        match node.execute(elf, stdin, context).await {
            Ok((public_values, _, report)) => Ok((public_values, report)),
            Err(error) => Err(match error.downcast::<ExecutionError>() {
                Ok(error) => ExecuteError::Execution(error),
                Err(error) => ExecuteError::Other(format!("{error:#}")),
            }),
        }
    })
}
