//! Keeps the data directory in order, in the background and in small steps.
//!
//! `consistency` brings rows and files together at the start; `retention` deletes what nobody needs any more: the row
//! first, then the file.

mod consistency;
mod retention;

#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use network_lib::ArtifactId;
use tokio::sync::mpsc;

use crate::{
    artifacts::{ArtifactFiles, Claims},
    clock::SharedClock,
    store::{RetentionRules, TidyStore},
};

/// How often it is looked for what should be deleted.
const INTERVAL: Duration = Duration::from_mins(10);

/// Pause between two steps, for those who wait for the store meanwhile.
const PAUSE: Duration = Duration::from_millis(5);

/// What upkeep works on.
#[derive(Clone)]
pub struct Upkeep {
    /// Rows.
    pub store: Arc<dyn TidyStore>,
    /// Bytes.
    pub files: Arc<dyn ArtifactFiles>,
    /// The uploads under way.
    pub claims: Claims,
    /// The time.
    pub clock: SharedClock,
    /// How much is kept.
    pub rules: RetentionRules,
    /// Is told of artifacts that are gone although they should be there.
    pub lost: mpsc::Sender<ArtifactId>,
}

impl Upkeep {
    /// Keeps order until it is dropped, which is safe at any point.
    pub async fn run(self) {
        self.bring_together().await;
        loop {
            self.retain().await;
            tokio::time::sleep(INTERVAL).await;
        }
    }

    async fn tell_lost(&self, id: ArtifactId) {
        // Nobody listens any more when the program stops; the next start finds the requests without their artifact.
        let _ = self.lost.send(id).await;
    }
}
