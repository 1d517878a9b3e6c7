//! Room on the disk: an attempt that cannot be written down is not taken, and a disk that is full is no fault.

use std::{collections::HashSet, path::PathBuf, time::Duration};

use network_lib::Fault;
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::{actor::off_runtime, ahead};
use crate::inputs::InputCache;

/// How often the disk is looked at.
const LOOK: Duration = Duration::from_secs(2);

/// What the journal takes for an attempt, and then some. So much must be free whatever is configured.
const RECORD_BYTES: u64 = 256 << 10;

/// Watches whether there is room for another attempt.
#[derive(Debug)]
pub(super) struct RoomWatch {
    directory: PathBuf,
    inputs: InputCache,
    bytes: u64,
    looks: Interval,
    has_room: bool,
}

impl RoomWatch {
    /// Watches the disk of `directory`, of which so many bytes are to be left free.
    pub(super) fn new(directory: PathBuf, inputs: InputCache, min_free_disk: u64) -> Self {
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { directory, inputs, bytes: min_free_disk.max(RECORD_BYTES), looks, has_room: true }
    }

    /// Waits until there is room where there was none, or none where there was some: which of the two. Cancel-safe.
    pub(super) async fn changed(&mut self) -> bool {
        loop {
            self.looks.tick().await;
            let outcome = make(self.directory.clone(), &self.inputs, self.bytes).await;
            if outcome.is_ok() == self.has_room {
                continue;
            }
            self.has_room = outcome.is_ok();
            match outcome {
                Ok(()) => tracing::info!("The disk has room again: this worker takes attempts"),
                Err(fault) => tracing::error!("This worker takes no attempts until there is room: {}", fault.cause),
            }
            return self.has_room;
        }
    }
}

/// Makes sure that so many bytes are free, if need be at the cost of inputs that were fetched ahead: attempts go first.
///
/// # Errors
/// When there is no such room. A file system that does not tell has some: writing will show.
pub(super) async fn make(directory: PathBuf, inputs: &InputCache, bytes: u64) -> Result<(), Fault> {
    if free(&directory).await >= bytes {
        return Ok(());
    }
    inputs.write().await.retain(HashSet::new()).await.ok();
    let free = free(&directory).await;
    if free >= bytes {
        return Ok(());
    }
    Err(Fault::resources(format!(
        "the worker's disk has {free} bytes free at {}, and {bytes} are needed with the reserve",
        directory.display()
    )))
}

async fn free(directory: &std::path::Path) -> u64 {
    let path = directory.to_owned();
    off_runtime(move || ahead::free_bytes(&path)).await.unwrap_or(u64::MAX)
}
