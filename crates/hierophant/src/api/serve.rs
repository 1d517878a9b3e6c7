//! One port: accepts connections, bounds them, and ends them in good order.

use std::{io, sync::Arc, time::Duration};

use axum::{Router, extract::ConnectInfo};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto, graceful::GracefulShutdown},
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

/// A client must have sent its request's head within this time.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// Pause after a failed accept, usually for want of descriptors: waiting is the only remedy, spinning is none.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Streams that one connection may have open at once. SDKs use one or a few.
const MAX_STREAMS: u32 = 256;

/// Bytes of headers that one request may have.
const MAX_HEADER_BYTES: u32 = 32 << 10;

/// HTTP/2 pings of ours, to notice clients that went away without a word.
const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// Flow-control windows: large enough for a large upload on a long line.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 2 << 20;

/// How long connections may take to finish what they are at when the program stops.
const DRAIN_TIME: Duration = Duration::from_secs(5);

/// Serves `router` on `listener` until told to stop, at most `connections` at once; more wait unaccepted.
pub async fn serve(listener: TcpListener, router: Router, connections: usize, stop: CancellationToken) {
    let builder = Arc::new(builder());
    let slots = Arc::new(Semaphore::new(connections));
    let graceful = GracefulShutdown::new();
    let sessions = tokio_util::task::TaskTracker::new();
    loop {
        let slot = tokio::select! {
            slot = Arc::clone(&slots).acquire_owned() => slot,
            () = stop.cancelled() => break,
        };
        let Ok(slot) = slot else { break };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => break,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(error = %error, "a connection could not be accepted");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        if let Err(error) = set_up(&stream) {
            tracing::debug!(peer = %peer, error = %error, "a connection was gone before it was served");
            continue;
        }
        let service = router.clone().map_request(move |mut request: http::Request<hyper::body::Incoming>| {
            request.extensions_mut().insert(ConnectInfo(peer));
            request.map(axum::body::Body::new)
        });
        let connection =
            builder.serve_connection_with_upgrades(TokioIo::new(stream), TowerToHyperService::new(service));
        let connection = graceful.watch(connection.into_owned());
        sessions.spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(peer = %peer, error = %error, "a connection ended in error");
            }
            drop(slot);
        });
    }
    drop(listener);
    if timeout(DRAIN_TIME, graceful.shutdown()).await.is_err() {
        tracing::info!("some connections were still busy and are cut");
    }
}

fn set_up(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)
}

fn builder() -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT).max_buf_size(512 << 10);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEADER_BYTES)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW);
    builder
}
