//! When to stop: the first signal drains, the second one ends at once.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// A token that the first SIGTERM or SIGINT cancels. A second signal ends the process: whatever matters is on disk.
///
/// # Errors
/// When the signals cannot be listened to.
pub fn requested() -> std::io::Result<CancellationToken> {
    let token = CancellationToken::new();
    let stop = token.clone();
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    #[expect(clippy::disallowed_methods, reason = "listens as long as the process lives; there is nothing to drain")]
    tokio::spawn(async move {
        let mut next = async || tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} };
        next().await;
        tracing::info!("stopping; a second signal stops at once");
        stop.cancel();
        next().await;
        tracing::warn!("a second signal: stopping at once");
        std::process::exit(130);
    });
    Ok(token)
}
