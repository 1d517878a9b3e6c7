//! Unary gRPC on one bare HTTP/2 connection, one call at a time.

use std::{future::poll_fn, net::SocketAddr};

use anyhow::{Context as _, bail};
use bytes::{BufMut as _, Bytes, BytesMut};
use h2::client::{Connection, SendRequest};
use http::{
    HeaderMap, HeaderValue, Method, Request, Uri,
    header::{CONTENT_TYPE, TE, USER_AGENT},
    uri::{Authority, PathAndQuery, Scheme},
};
use prost::Message;
use tokio::net::TcpStream;

/// The paths of the calls.
pub mod path {
    /// Asks where to upload.
    pub const CREATE_ARTIFACT: &str = "/artifact.ArtifactStore/CreateArtifact";
    /// Registers a program.
    pub const CREATE_PROGRAM: &str = "/network.ProverNetwork/CreateProgram";
    /// The smallest call.
    pub const GET_NONCE: &str = "/network.ProverNetwork/GetNonce";
    /// Gives a request up.
    pub const CANCEL: &str = "/network.ProverNetwork/CancelRequest";
    /// Asks for a proof.
    pub const REQUEST_PROOF: &str = "/network.ProverNetwork/RequestProof";
    /// Asks how far a request is.
    pub const STATUS: &str = "/network.ProverNetwork/GetProofRequestStatus";
}

/// The flag that says "not compressed", and the length.
const PREFIX: usize = 5;

/// A message as it goes over the wire, so that a frame may be made before the clock starts.
#[derive(Debug, Clone)]
pub struct Frame(Bytes);

impl Frame {
    /// Frames a message.
    ///
    /// # Panics
    /// When the message has 4 GiB.
    pub fn of(message: &impl Message) -> Self {
        let length = message.encoded_len();
        let mut frame = BytesMut::with_capacity(PREFIX + length);
        frame.put_u8(0);
        frame.put_u32(u32::try_from(length).expect("messages are small"));
        message.encode(&mut frame).expect("a growing buffer has room");
        Self(frame.freeze())
    }

    /// The message in a reply.
    fn read<T: Message + Default>(mut reply: Bytes) -> anyhow::Result<T> {
        if reply.len() < PREFIX || reply[0] != 0 {
            bail!("the reply is no gRPC message of {} bytes", reply.len());
        }
        Ok(T::decode(reply.split_off(PREFIX))?)
    }
}

/// A connection. It makes progress only during calls: nothing runs in the background that would cost the generator.
#[derive(Debug)]
pub struct GrpcConnection {
    sender: SendRequest<Bytes>,
    connection: Connection<TcpStream, Bytes>,
    authority: Authority,
}

impl GrpcConnection {
    /// Connects.
    ///
    /// # Errors
    /// When nobody accepts, or it is not HTTP/2.
    pub async fn open(address: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).await.context("the gRPC port did not accept a connection")?;
        stream.set_nodelay(true)?;
        let (sender, connection) = h2::client::handshake(stream).await?;
        Ok(Self { sender, connection, authority: address.to_string().parse()? })
    }

    /// Calls, and decodes the answer.
    ///
    /// # Errors
    /// When the connection breaks, and with the status when the call is refused.
    pub async fn call<T: Message + Default>(&mut self, path: &'static str, frame: Frame) -> anyhow::Result<T> {
        let Self { sender, connection, authority } = self;
        let exchange = exchange(sender, request(authority.clone(), path)?, frame);
        let reply = tokio::select! {
            biased;
            reply = exchange => reply,
            ended = connection => match ended {
                Ok(()) => bail!("{path}: the connection was closed"),
                Err(error) => Err(error.into()),
            },
        };
        Frame::read(reply.with_context(|| path.to_owned())?)
    }
}

fn request(authority: Authority, path: &'static str) -> anyhow::Result<Request<()>> {
    let mut parts = http::uri::Parts::default();
    parts.scheme = Some(Scheme::HTTP);
    parts.authority = Some(authority);
    parts.path_and_query = Some(PathAndQuery::from_static(path));
    let mut request = Request::new(());
    *request.method_mut() = Method::POST;
    *request.uri_mut() = Uri::from_parts(parts)?;
    let headers = request.headers_mut();
    headers.insert(TE, HeaderValue::from_static("trailers"));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(USER_AGENT, HeaderValue::from_static("hierophant-bench"));
    Ok(request)
}

async fn exchange(sender: &mut SendRequest<Bytes>, request: Request<()>, frame: Frame) -> anyhow::Result<Bytes> {
    poll_fn(|context| sender.poll_ready(context)).await?;
    let (response, mut body) = sender.send_request(request, false)?;
    body.send_data(frame.0, true)?;
    let (head, mut body) = response.await?.into_parts();
    if !head.status.is_success() {
        bail!("HTTP status {}", head.status);
    }
    let mut reply = BytesMut::new();
    while let Some(chunk) = body.data().await {
        let chunk = chunk?;
        body.flow_control().release_capacity(chunk.len())?;
        reply.extend_from_slice(&chunk);
    }
    let trailers = body.trailers().await?;
    check(trailers.as_ref().unwrap_or(&head.headers))?;
    Ok(reply.freeze())
}

/// Whether the call succeeded, from its trailers or, when there was no message, its headers.
fn check(trailers: &HeaderMap) -> anyhow::Result<()> {
    let text = |name| trailers.get(name).and_then(|value| value.to_str().ok());
    match text("grpc-status") {
        Some("0") => Ok(()),
        Some(code) => bail!("gRPC status {code}: {}", text("grpc-message").unwrap_or_default()),
        None => bail!("the reply has no gRPC status"),
    }
}

#[cfg(test)]
mod tests {
    use sp1_network_api::network::GetNonceResponse;

    use super::*;

    #[test]
    fn a_frame_reads_back() {
        let message = GetNonceResponse { nonce: 7 };
        assert_eq!(Frame::read::<GetNonceResponse>(Frame::of(&message).0).unwrap(), message);
        assert!(Frame::read::<GetNonceResponse>(Bytes::from_static(b"\0\0")).is_err());
    }
}
