//! Brings rows and files together after a crash, or after someone changed the artifact directory by hand.
//!
//! A row is written after its file and deleted before it, so a crash leaves files without rows, never rows without files.
//! What is listed is a proposal: whatever is deleted is looked at again, while nobody may bring it.
//!
//! When most of one side has no counterpart, this is no crash: a disk is not mounted, or the database is an old copy.
//! Then nothing is touched. A few files without rows are removed whatever their share, since a crash leaves those.

use std::{
    collections::HashMap,
    time::{Duration, SystemTime},
};

use network_lib::ArtifactId;

use super::Upkeep;
use crate::{artifacts::ArtifactError, store::StorageError};

/// Files without a row that are younger stay: whoever brought them may be about to write the row, or bring them again.
const YOUNG: Duration = Duration::from_hours(1);

/// Rows that are read at once.
const ROWS: u32 = 1000;

/// So few files without a row are removed whatever their share.
pub(super) const FEW: usize = 16;

/// Why rows and files were not compared to the end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CompareError {
    #[error(
        "{lost} of {rows} artifacts in the database have no file: is the artifact directory the right one, and its disk \
         mounted? Nothing was changed; a start with the right directory mends it. If the files are gone for good, start \
         with a data_directory of its own: this database is of no use without them"
    )]
    WrongFiles { lost: usize, rows: usize },
    #[error(
        "{unknown} of {files} files of artifacts are not in the database: is it an old copy? Nothing was removed; move \
         them away if they are not needed"
    )]
    WrongRows { unknown: usize, files: usize },
    #[error(transparent)]
    Rows(#[from] StorageError),
    #[error(transparent)]
    Files(#[from] ArtifactError),
}

/// What was found not to belong together.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Compared {
    /// Files that nobody knew, removed.
    pub(crate) unknown: usize,
    /// Artifacts whose files were gone.
    pub(crate) lost: Vec<ArtifactId>,
}

impl Upkeep {
    /// Compares rows and files, mends what does not fit, and tells of it.
    pub(crate) async fn bring_together(&self) {
        match self.compare().await {
            Ok(Compared { unknown, lost }) => {
                if unknown > 0 {
                    tracing::info!(files = unknown, "removed files of artifacts that are not in the database");
                }
                for id in lost {
                    tracing::error!(artifact.id = %id, "the file of an artifact is gone; requests that need it are given up");
                    self.tell_lost(id).await;
                }
            }
            Err(error) => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "rows and files of artifacts could not be compared; the next start tries again"
                );
            }
        }
    }

    pub(crate) async fn compare(&self) -> Result<Compared, CompareError> {
        // Rows first: what is brought meanwhile has its file before its row.
        let rows = self.rows().await?;
        let mut files = self.files.list().await?;
        let count = files.len();
        let missing: Vec<_> = rows.iter().copied().filter(|id| files.remove(id).is_none()).collect();
        if missing.len() > rows.len() / 2 {
            return Err(CompareError::WrongFiles { lost: missing.len(), rows: rows.len() });
        }
        let mut compared = Compared::default();
        for id in missing {
            if self.forget_if_lost(id).await? {
                compared.lost.push(id);
            }
        }
        // Files have the system's time, not that of the clock, which may be set in tests.
        #[expect(clippy::disallowed_methods, reason = "compared with what the file system wrote")]
        let now = SystemTime::now();
        files.retain(|_, written| now.duration_since(*written).unwrap_or_default() >= YOUNG);
        if files.len() > FEW && files.len() > count / 2 {
            return Err(CompareError::WrongRows { unknown: files.len(), files: count });
        }
        compared.unknown = self.remove_unknown(files).await?;
        Ok(compared)
    }

    async fn rows(&self) -> Result<Vec<ArtifactId>, StorageError> {
        let mut rows = Vec::new();
        loop {
            let page = self.store.recorded_artifacts(rows.last().copied(), ROWS).await?;
            if page.is_empty() {
                return Ok(rows);
            }
            rows.extend(page);
        }
    }

    /// Removes an artifact's row if its file is gone; whether it was.
    async fn forget_if_lost(&self, id: ArtifactId) -> Result<bool, CompareError> {
        let Some(_claim) = self.claims.remove(id) else { return Ok(false) };
        if self.files.local_file(id).await?.is_some() {
            return Ok(false);
        }
        let is_recorded = self.store.artifact(id).await?.is_some();
        if is_recorded {
            self.store.forget_artifact(id).await?;
        }
        Ok(is_recorded)
    }

    /// Removes those of the files that have no row; how many that were.
    async fn remove_unknown(&self, files: HashMap<ArtifactId, SystemTime>) -> Result<usize, CompareError> {
        let mut removed = 0;
        for id in files.into_keys() {
            let Some(_claim) = self.claims.remove(id) else { continue };
            if self.store.artifact(id).await?.is_none() {
                self.files.remove(id).await?;
                removed += 1;
            }
        }
        Ok(removed)
    }
}
