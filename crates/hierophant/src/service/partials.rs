//! What is left of uploads that broke off: how long it waits for its worker.

use std::time::{Duration, SystemTime};

use hierophant_core::{Verdict, reconcile};
use network_lib::{
    ArtifactId, AttemptId,
    protocol::{InHand, Stage},
};

use super::Service;
use crate::{artifacts::ArtifactError, store::StorageError};

/// A worker that has not gone on with its upload for so long begins anew when it does.
const LONGEST_WAIT: Duration = Duration::from_hours(24);

/// Uploads that wait at most; of more, those that were written to last stay. As many as may be under way at once.
const MOST: usize = 256;

/// Why what is left of an upload was not looked at.
#[derive(Debug, thiserror::Error)]
enum SweepError {
    #[error(transparent)]
    Rows(#[from] StorageError),
    #[error(transparent)]
    Files(#[from] ArtifactError),
}

impl Service {
    /// Removes what is left of uploads that nobody will go on with, or should not have to keep any longer.
    pub async fn sweep_partials(&self) {
        if let Err(error) = self.sweep().await {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "what is left of uploads could not be looked through"
            );
        }
    }

    async fn sweep(&self) -> Result<(), SweepError> {
        let mut partials: Vec<_> = self.artifacts.partials().await?.into_iter().collect();
        partials.sort_unstable_by_key(|(id, written)| (std::cmp::Reverse(*written), *id));
        // Files have the system's time, not that of the clock, which may be set in tests.
        #[expect(clippy::disallowed_methods, reason = "compared with what the file system wrote")]
        let now = SystemTime::now();
        for (place, (id, written)) in partials.into_iter().enumerate() {
            let is_old = now.duration_since(written).is_ok_and(|age| age > LONGEST_WAIT);
            if is_old || place >= MOST || !self.is_awaited(id).await? {
                tracing::info!(artifact.id = %id, "removed what was left of an upload that nobody goes on with");
                self.artifacts.discard(id).await?;
            }
        }
        Ok(())
    }

    /// Whether the worker of this proof would be asked for it if it came.
    async fn is_awaited(&self, id: ArtifactId) -> Result<bool, StorageError> {
        let attempt = AttemptId::new(*id.key());
        let Some(record) = self.store.attempt(attempt).await? else { return Ok(false) };
        let Some(request) = self.store.request(record.request).await? else { return Ok(false) };
        let in_hand = InHand { attempt, request: record.request, prover: 0, stage: Stage::Proved };
        Ok(matches!(reconcile(Some(&request), record.worker, &in_hand), Verdict::Deliver | Verdict::Continue))
    }
}
