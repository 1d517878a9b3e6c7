//! Panics on any thread of this process.
//!
//! SP1's local node runs its stages in futures of their own and logs their panics; who waits for such a stage waits
//! for ever. So the panic itself must be heard.

use std::sync::LazyLock;

use tokio::sync::watch;

static PANICKED: LazyLock<watch::Sender<Option<String>>> = LazyLock::new(|| {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        before(info);
        let thread = std::thread::current();
        let text = info.payload_as_str().unwrap_or("no message").to_owned();
        let place = info.location().map(|location| format!(" ({location})")).unwrap_or_default();
        let name = thread.name().unwrap_or("unnamed");
        PANICKED.send_replace(Some(format!("{text}{place}, on the thread {name}")));
    }));
    watch::channel(None).0
});

/// Listens for panics from now on.
pub(crate) fn listen() -> watch::Receiver<Option<String>> {
    let mut heard = PANICKED.subscribe();
    heard.mark_unchanged();
    heard
}

/// The next panic's text.
pub(crate) async fn next(heard: &mut watch::Receiver<Option<String>>) -> String {
    if heard.changed().await.is_err() {
        return std::future::pending().await;
    }
    heard.borrow().clone().unwrap_or_default()
}
