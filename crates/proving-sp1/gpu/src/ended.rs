//! The end of a server: the first reason counts, and everyone who waits for something else hears it.

use std::sync::Arc;

use network_lib::Fault;
use tokio::sync::watch;

/// Why a server cannot be used any more, once that is so.
#[derive(Debug, Clone)]
pub(crate) struct Ended(Arc<watch::Sender<Option<Fault>>>);

impl Default for Ended {
    fn default() -> Self {
        Self(Arc::new(watch::channel(None).0))
    }
}

impl Ended {
    /// The server cannot be used any more. A reason that comes later is not heard.
    pub(crate) fn tell(&self, fault: Fault) {
        self.0.send_if_modified(|known| {
            let is_first = known.is_none();
            known.get_or_insert(fault);
            is_first
        });
    }

    /// Whether that is so already.
    pub(crate) fn is_told(&self) -> bool {
        self.0.borrow().is_some()
    }

    /// The reason, once there is one. Cancel-safe.
    pub(crate) async fn wait(&self) -> Fault {
        let mut known = self.0.subscribe();
        loop {
            if let Some(fault) = known.borrow_and_update().clone() {
                return fault;
            }
            if known.changed().await.is_err() {
                return Fault::worker("ended"); // cannot be: `self` holds the sender
            }
        }
    }
}
