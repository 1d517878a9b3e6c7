//! Downloads and uploads of a worker, with the patience of the real ones.

use std::{sync::atomic::Ordering, time::Duration};

use axum::body::Body;
use bytes::Bytes;
use http::{Method, Request, StatusCode};
use network_lib::{Digest, Fault, protocol::Source};
use tokio::time::sleep;

use crate::{coordinator::Coordinator, event::WorkerIndex, network::Network, world::World};

/// As contemplant's `Patience`: about four minutes of trouble make a round of tries.
const TRIES: usize = 12;
const FIRST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(30);
const SILENCE: Duration = Duration::from_mins(1);

/// A worker's way to the artifacts.
#[derive(Clone)]
pub(crate) struct Transfers {
    pub(crate) worker: WorkerIndex,
    pub(crate) world: World,
    pub(crate) coordinator: Coordinator,
    pub(crate) network: Network,
}

impl Transfers {
    /// One exchange; `None` for any trouble on the way, after which it may have happened all the same.
    async fn exchange(&self, method: &Method, url: &str, body: Bytes) -> Option<(StatusCode, Bytes)> {
        self.world.pause(1, 200).await;
        let breaks = || {
            self.world.weather().transfers_break.load(Ordering::Relaxed) && self.world.draw(|chance| chance.percent(50))
        };
        if !self.network.is_open(self.worker) {
            sleep(SILENCE).await;
            return None;
        }
        if breaks() {
            return None;
        }
        let request = Request::builder().method(method).uri(url).body(Body::from(body)).expect("a path and a query");
        let answer = self.coordinator.fetch(request).await?;
        self.world.pause(1, 200).await;
        if breaks() {
            return None;
        }
        if !self.network.is_open(self.worker) {
            sleep(SILENCE).await;
            return None;
        }
        Some(answer)
    }

    /// A round of tries. Without an answer that is final there is no status.
    async fn patiently(&self, method: Method, url: &str, body: Bytes) -> Result<Bytes, Option<StatusCode>> {
        let mut wait = FIRST_WAIT;
        for _ in 0..TRIES {
            match self.exchange(&method, url, body.clone()).await {
                Some((status, bytes)) if status.is_success() => return Ok(bytes),
                Some((status, _)) if status.is_client_error() && status != StatusCode::TOO_MANY_REQUESTS => {
                    return Err(Some(status));
                }
                Some(_) | None => {}
            }
            sleep(wait).await;
            wait = (wait * 2).min(LONGEST_WAIT);
        }
        Err(None)
    }

    /// Downloads what `source` names, whole, however long that takes.
    pub(crate) async fn download(&self, source: &Source) -> Result<Bytes, Fault> {
        let bytes = loop {
            match self.patiently(Method::GET, &source.url, Bytes::new()).await {
                Ok(bytes) => break bytes,
                Err(Some(status)) => return Err(Fault::lost(format!("the server answered {status}"))),
                Err(None) => {}
            }
        };
        if Digest::of(&bytes) == source.digest { Ok(bytes) } else { Err(Fault::worker("a download is damaged")) }
    }

    /// Uploads a proof; whether that worked.
    pub(crate) async fn upload(&self, url: &str, proof: Bytes) -> bool {
        self.patiently(Method::PUT, url, proof).await.is_ok()
    }
}
