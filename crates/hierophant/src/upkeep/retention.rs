//! Deletes what the rules say, a few at a time.

use std::time::{Duration, SystemTime};

use network_lib::{ArtifactId, crash_point};

use super::{PAUSE, Upkeep};
use crate::store::StorageError;

/// Requests that are deleted in one step, each with some ten rows: a millisecond or two of the writer's time.
const REQUESTS: u32 = 32;

/// Artifacts that are deleted in one step. A crash in between leaves as many files without rows, which the next start
/// must not take for those of another database: no more than it mends whatever their share.
const ARTIFACTS: usize = super::consistency::FEW;

/// Most bytes of damaged files that are kept for the operator to look at: as many as the largest of them has by default,
/// twice.
const MOST_ASIDE: u64 = 8 << 30;

impl Upkeep {
    /// Deletes everything that should go. A crash in between leaves files without rows, which the next start removes.
    pub(crate) async fn retain(&self) {
        match self.prune_requests().await {
            Ok(0) => {}
            Ok(requests) => tracing::info!(requests, "deleted requests that ended long ago"),
            Err(error) => tracing::error!(%error, "old requests could not be deleted; they are tried again"),
        }
        match self.prune_artifacts().await {
            Ok(0) => {}
            Ok(artifacts) => tracing::info!(artifacts, "deleted artifacts that nobody needs any more"),
            Err(error) => tracing::error!(%error, "old artifacts could not be deleted; they are tried again"),
        }
        let kept_from = self.clock.now().time.minus(self.rules.age).as_millis();
        let before = SystemTime::UNIX_EPOCH + Duration::from_millis(kept_from);
        match self.files.clear_aside(before, MOST_ASIDE).await {
            Ok((0, _)) => {}
            Ok((files, bytes)) => tracing::info!(files, bytes, "removed damaged files that had been moved aside"),
            Err(error) => tracing::error!(
                error = &error as &dyn std::error::Error,
                "damaged files could not be removed; they are tried again"
            ),
        }
    }

    async fn prune_requests(&self) -> Result<usize, StorageError> {
        let mut pruned = 0;
        loop {
            let now = self.clock.now().time;
            let ids = self.store.prunable_requests(self.rules, now, REQUESTS).await?;
            let gone = if ids.is_empty() { 0 } else { self.store.prune_requests(ids, now).await? };
            // None went: there were none, or whatever was found has changed meanwhile.
            if gone == 0 {
                return Ok(pruned);
            }
            pruned += gone;
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn prune_artifacts(&self) -> Result<usize, StorageError> {
        let now = self.clock.now().time;
        let ids = self.store.prunable_artifacts(self.rules, now).await?;
        let mut pruned = 0;
        for ids in ids.chunks(ARTIFACTS) {
            pruned += self.prune(ids).await?;
            tokio::time::sleep(PAUSE).await;
        }
        Ok(pruned)
    }

    /// Deletes those of a few artifacts that may go.
    async fn prune(&self, ids: &[ArtifactId]) -> Result<usize, StorageError> {
        // Whoever uploads one of them at this moment keeps it.
        let claims: Vec<_> = ids.iter().filter_map(|id| self.claims.remove(*id)).collect();
        let ids = claims.iter().map(crate::artifacts::Claim::id).collect();
        crash_point!("gc.after_mark");
        let gone = self.store.prune_artifacts(ids, self.rules, self.clock.now().time).await?;
        if !gone.is_empty() {
            crash_point!("gc.after_row_before_unlink");
        }
        for id in &gone {
            if let Err(error) = self.files.remove(*id).await {
                tracing::error!(artifact.id = %id, error = &error as &dyn std::error::Error,
                    "the file of a deleted artifact could not be removed; the next start tries again");
            }
            crash_point!("gc.after_unlink");
        }
        Ok(gone.len())
    }
}
