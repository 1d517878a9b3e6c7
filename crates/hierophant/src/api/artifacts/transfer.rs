//! Bodies that do not come as they should: too slowly, or in spite of a refusal.

use std::{convert::Infallible, time::Duration};

use axum::body::{Body, BodyDataStream};
use bytes::Bytes;
use futures_util::{StreamExt as _, future, stream};
use tokio::time::{Instant, timeout};

use super::ArtifactLimits;

/// How long a body may still keep us waiting. Time that we take ourselves, writing, is not counted.
pub(super) struct Patience {
    pace_time: Duration,
    pace_bytes: u64,
    left: Duration,
    brought: u64,
}

impl Patience {
    pub(super) fn new(limits: &ArtifactLimits) -> Self {
        Self { pace_time: limits.pace_time, pace_bytes: limits.pace_bytes, left: limits.pace_time, brought: 0 }
    }

    /// The next piece of the body, `None` at its end; or, after too long a wait, how long that was.
    pub(super) async fn wait(
        &mut self,
        body: &mut BodyDataStream,
    ) -> Result<Option<Result<Bytes, axum::Error>>, Duration> {
        let began = Instant::now();
        let next = timeout(self.left, body.next()).await.map_err(|_| self.pace_time)?;
        self.left = self.left.saturating_sub(began.elapsed());
        if let Some(Ok(chunk)) = &next {
            self.brought += chunk.len() as u64;
            if self.brought >= self.pace_bytes {
                (self.left, self.brought) = (self.pace_time, 0);
            }
        }
        Ok(next)
    }
}

/// A client that has read the refusal stops at once; these bound what is read of one that does not.
const LINGER_IDLE: Duration = Duration::from_millis(500);
const LINGER_TIME: Duration = Duration::from_secs(10);
const LINGER_BYTES: usize = 64 << 20;

/// A reply that is sent while the client still sends its body, and ends when the body does or the bounds are reached.
///
/// If the connection were closed with bytes of the body unread, the kernel would reset it, and the client would see
/// "connection reset" instead of the reply.
pub(super) fn reply_while_draining(text: String, mut body: BodyDataStream) -> Body {
    let drain = async move {
        let mut drained = 0;
        while let Ok(Some(Ok(chunk))) = timeout(LINGER_IDLE, body.next()).await {
            drained += chunk.len();
            if drained > LINGER_BYTES {
                break;
            }
        }
    };
    let drained = stream::once(timeout(LINGER_TIME, drain)).filter_map(|_| future::ready(None));
    Body::from_stream(stream::once(future::ready(Ok::<_, Infallible>(Bytes::from(text)))).chain(drained))
}
