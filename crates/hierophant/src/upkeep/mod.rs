//! Keeps the data directory in order, in the background and in small steps.
//!
//! `consistency` brings rows and files together at the start; `retention` deletes what nobody needs any more: the row
//! first, then the file.

mod consistency;
mod retention;

#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use hierophant_core::{Moment, Now};
use network_lib::ArtifactId;
use tokio::sync::mpsc;

use crate::{
    artifacts::{ArtifactFiles, Claims},
    clock::SharedClock,
    store::{RetentionRules, TidyStore},
};

/// How often it is looked for what should be deleted.
const INTERVAL: Duration = Duration::from_mins(10);

/// How long nothing is deleted after the wall clock ran ahead: time for whoever set it to set it right.
const DOUBT: Duration = Duration::from_hours(24);

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
        let mut doubt = Doubt::from(self.clock.now());
        loop {
            if !doubt.holds(self.clock.now()) {
                self.retain().await;
            }
            tokio::time::sleep(INTERVAL).await;
        }
    }

    async fn tell_lost(&self, id: ArtifactId) {
        // Nobody listens any more when the program stops; the next start finds the requests without their artifact.
        let _ = self.lost.send(id).await;
    }
}

/// Whether the wall clock is to be doubted. By one that is a year ahead everything is old enough to be deleted, and
/// setting it back brings nothing back.
#[derive(Debug)]
struct Doubt {
    last: Now,
    until: Option<Moment>,
}

impl From<Now> for Doubt {
    fn from(last: Now) -> Self {
        Self { last, until: None }
    }
}

impl Doubt {
    /// Whether it is doubted now. To be asked again and again.
    fn holds(&mut self, now: Now) -> bool {
        let (by_wall, elapsed) = (now.time.since(self.last.time), now.moment.since(self.last.moment));
        if by_wall > elapsed + INTERVAL {
            let ahead_secs = by_wall.saturating_sub(elapsed).as_secs();
            tracing::warn!(ahead_secs, "the clock was set ahead, or this machine slept: nothing is deleted for a day");
            self.until = Some(now.moment.plus(DOUBT));
        }
        self.last = now;
        self.until.is_some_and(|until| now.moment < until)
    }
}
