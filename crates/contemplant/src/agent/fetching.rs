//! Getting what an attempt needs: its program and its input, for as long as the attempt is in hand.

use network_lib::{AttemptId, Fault, protocol::Assignment};
use tokio::time::sleep;

use super::room;
use crate::{
    artifacts::{ArtifactClient, TransferError},
    failure::chain,
    inputs::InputCache,
    journal::AttemptFiles,
    programs::{PinnedProgram, ProgramCache},
};

/// What an attempt needs, and where it is had.
pub(super) struct Fetch {
    pub(super) assignment: Assignment,
    pub(super) files: AttemptFiles,
    pub(super) artifacts: ArtifactClient,
    pub(super) programs: ProgramCache,
    pub(super) inputs: InputCache,
    pub(super) min_free_disk: u64,
}

impl Fetch {
    /// Makes sure that program and input are on disk. Trouble that may pass is never given up on, since giving up would
    /// count it as somebody's: the coordinator ends an attempt that is of no use any more, and a fresh address replaces
    /// this fetch. Cancel-safe.
    ///
    /// # Errors
    /// Whose fault it is that they cannot be had: `Lost`, and so nobody's, when the server will not give them.
    pub(super) async fn run(self) -> Result<PinnedProgram, Fault> {
        let Assignment { program, stdin, .. } = &self.assignment;
        let is_input_here = self.inputs.give(stdin, &self.files.stdin).await.unwrap_or_else(|error| {
            tracing::warn!(attempt.id = %self.attempt(), "An input that was fetched ahead cannot be used: {error}");
            false
        });
        let stdin_size = if is_input_here { 0 } else { stdin.size };
        let bytes = program.size.saturating_add(stdin_size).saturating_add(self.min_free_disk);
        room::make(self.files.directory.clone(), &self.inputs, bytes).await?;
        let input = async { if is_input_here { Ok(()) } else { self.input().await } };
        let (program, ()) = tokio::try_join!(self.program(), input)?;
        Ok(program)
    }

    fn attempt(&self) -> AttemptId {
        self.assignment.attempt
    }

    async fn program(&self) -> Result<PinnedProgram, Fault> {
        loop {
            match self.programs.fetch(&self.artifacts, &self.assignment.program).await {
                Ok(program) => return Ok(program),
                Err(error) => self.sit_out("program", &error).await?,
            }
        }
    }

    async fn input(&self) -> Result<(), Fault> {
        loop {
            match self.artifacts.download(&self.assignment.stdin, &self.files.stdin).await {
                Ok(()) => return Ok(()),
                Err(error) => self.sit_out("input", &error).await?,
            }
        }
    }

    /// Waits before the next round of tries, and says why there is one.
    ///
    /// # Errors
    /// When no round would help.
    async fn sit_out(&self, what: &str, error: &TransferError) -> Result<(), Fault> {
        let cause = format!("could not get the {what}: {}", chain(error));
        if !error.is_transient() {
            return Err(Fault::new(error.class(), cause));
        }
        tracing::warn!(attempt.id = %self.attempt(), "An attempt waits, and goes on trying: {cause}");
        sleep(self.artifacts.longest_wait()).await;
        Ok(())
    }
}
