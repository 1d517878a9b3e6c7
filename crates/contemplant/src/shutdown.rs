//! Signals: the first one asks for a clean stop, the second one ends the process at once.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// The exit status after a second signal.
const ABORTED: i32 = 130;

/// Cancels the returned token at the first SIGTERM or SIGINT.
///
/// # Errors
/// When signals cannot be listened to.
pub fn on_signal(tracker: &TaskTracker, ended: CancellationToken) -> io::Result<CancellationToken> {
    let (terminate, interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let requested = CancellationToken::new();
    let request = requested.clone();
    // Not awaited at the end: it ends with `ended`.
    tracker.spawn(ended.run_until_cancelled_owned(listen(terminate, interrupt, request)));
    Ok(requested)
}

async fn listen(mut terminate: Signal, mut interrupt: Signal, request: CancellationToken) {
    next(&mut terminate, &mut interrupt).await;
    tracing::info!("Stopping; a second signal stops at once");
    request.cancel();
    next(&mut terminate, &mut interrupt).await;
    tracing::warn!("Stopped at once; the journal has what was in hand");
    // The children see their standard input end, and leave.
    std::process::exit(ABORTED);
}

async fn next(terminate: &mut Signal, interrupt: &mut Signal) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}
