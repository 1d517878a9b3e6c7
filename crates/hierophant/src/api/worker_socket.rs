//! The door for workers: `GET /ws`, upgraded to a WebSocket.

use std::{future, net::SocketAddr};

use axum::{
    Router,
    extract::{
        ConnectInfo, State, WebSocketUpgrade,
        ws::{CloseFrame, Message, WebSocket, close_code},
    },
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use futures_util::{SinkExt as _, StreamExt as _, TryStreamExt as _};
use network_lib::protocol::{MAX_FRAME_BYTES, WORKER_PATH};
use secrecy::{ExposeSecret as _, SecretString};
use subtle::ConstantTimeEq as _;

use crate::{
    fleet::{self, Broken, Frame, FrameSink, Frames, SessionSettings},
    service::Service,
};

/// What the worker endpoint needs.
#[derive(Clone)]
pub struct WorkerSocket {
    /// The use cases.
    pub service: Service,
    /// Heartbeats.
    pub settings: SessionSettings,
    /// What workers must present; without it only workers on this machine may join.
    pub token: Option<SecretString>,
}

/// Why a worker may not join.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
enum Refusal {
    #[error("workers connect by themselves: pages of a browser may not open this socket")]
    Browser,
    #[error(
        "without worker_token only contemplants on Hierophant's own machine may join: set worker_token here, and the same at the contemplant"
    )]
    NotLocal,
    #[error("the worker token is missing: set worker_token at the contemplant to the one that is set here")]
    NoToken,
    #[error("the worker token is wrong: set worker_token at the contemplant to the one that is set here")]
    WrongToken,
}

/// The route of the worker endpoint.
pub fn router(socket: WorkerSocket) -> Router {
    Router::new().route(WORKER_PATH, get(join)).with_state(socket)
}

async fn join(
    State(socket): State<WorkerSocket>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    upgrade: WebSocketUpgrade,
) -> Response {
    if let Err(refusal) = admit(&headers, peer, socket.token.as_ref()) {
        tracing::warn!(peer = %peer, reason = %refusal, "a worker was refused");
        let status = match refusal {
            Refusal::Browser | Refusal::NotLocal => StatusCode::FORBIDDEN,
            Refusal::NoToken | Refusal::WrongToken => StatusCode::UNAUTHORIZED,
        };
        return (status, refusal.to_string()).into_response();
    }
    upgrade.max_message_size(MAX_FRAME_BYTES).max_frame_size(MAX_FRAME_BYTES).on_upgrade(move |stream| {
        let (frames, sink) = frames_of(stream);
        fleet::run_session(frames, sink, peer, socket.service, socket.settings)
    })
}

/// A WebSocket as sessions see it: pings and pongs are its own affair.
fn frames_of(socket: WebSocket) -> (impl Frames, impl FrameSink) {
    let (sink, messages) = socket.split();
    let messages =
        messages.map_err(Broken::from).take_while(|message| future::ready(!matches!(message, Ok(Message::Close(_)))));
    let frames = messages.try_filter_map(|message| {
        future::ready(match message {
            Message::Binary(frame) => Ok(Some(frame)),
            Message::Text(_) => Err(Broken::NotBinary),
            Message::Ping(_) | Message::Pong(_) | Message::Close(_) => Ok(None),
        })
    });
    // Not `sink_map_err`, which panics when it is used again after an error, as for the goodbye.
    let sink = sink.with(|frame| {
        future::ready(Ok::<_, Broken>(match frame {
            Frame::Message(message) => Message::Binary(message),
            Frame::Goodbye(reason) => Message::Close(Some(goodbye(reason))),
        }))
    });
    (frames, sink)
}

impl From<axum::Error> for Broken {
    fn from(error: axum::Error) -> Self {
        Self::Connection(Box::new(error))
    }
}

/// A close frame's reason holds at most 123 bytes.
fn goodbye(mut reason: String) -> CloseFrame {
    let mut length = reason.len().min(123);
    while !reason.is_char_boundary(length) {
        length -= 1;
    }
    reason.truncate(length);
    CloseFrame { code: close_code::NORMAL, reason: reason.into() }
}

fn admit(headers: &HeaderMap, peer: SocketAddr, token: Option<&SecretString>) -> Result<(), Refusal> {
    if headers.contains_key(header::ORIGIN) {
        return Err(Refusal::Browser);
    }
    let Some(token) = token else {
        return if peer.ip().to_canonical().is_loopback() { Ok(()) } else { Err(Refusal::NotLocal) };
    };
    let presented = headers.get(header::AUTHORIZATION).ok_or(Refusal::NoToken)?;
    let presented = presented.as_bytes().strip_prefix(b"Bearer ").ok_or(Refusal::NoToken)?;
    if bool::from(presented.ct_eq(token.expose_secret().as_bytes())) { Ok(()) } else { Err(Refusal::WrongToken) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCAL: ([u8; 4], u16) = ([127, 0, 0, 1], 1);
    const REMOTE: ([u8; 4], u16) = ([192, 0, 2, 1], 1);

    fn headers(entries: &[(header::HeaderName, &'static str)]) -> HeaderMap {
        entries.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect()
    }

    #[test]
    fn without_a_token_only_this_machine_may_join_and_the_refusal_says_how_to_change_that() {
        assert_eq!(admit(&headers(&[]), LOCAL.into(), None), Ok(()));
        assert_eq!(admit(&headers(&[]), REMOTE.into(), None), Err(Refusal::NotLocal));
        assert!(Refusal::NotLocal.to_string().contains("set worker_token"));
    }

    #[test]
    fn with_a_token_everyone_must_present_it() {
        let token = SecretString::from("correct horse battery");
        let with = |value| headers(&[(header::AUTHORIZATION, value)]);
        assert_eq!(admit(&with("Bearer correct horse battery"), REMOTE.into(), Some(&token)), Ok(()));
        assert_eq!(admit(&with("Bearer wrong"), LOCAL.into(), Some(&token)), Err(Refusal::WrongToken));
        assert_eq!(admit(&headers(&[]), LOCAL.into(), Some(&token)), Err(Refusal::NoToken));
    }

    #[test]
    fn a_page_in_a_browser_may_not_open_the_socket() {
        let from_page = headers(&[(header::ORIGIN, "http://localhost")]);
        assert_eq!(admit(&from_page, LOCAL.into(), None), Err(Refusal::Browser));
    }
}
