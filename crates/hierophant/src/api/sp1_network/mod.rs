//! The door for the SP1 SDK: two gRPC services on one port, for both variants of the protocol.
//!
//! Everything here is wire: messages are read into domain types ([`signed`], [`fields`], [`listing`]), handed to a use
//! case, and what comes back is written ([`reply`], [`refusal`]). Messages are never logged as such: they hold
//! signatures and addresses that are keys.

mod artifact_store;
mod fields;
mod listing;
mod prover_network;
mod refusal;
mod reply;
mod signature;
mod signed;
mod unserved;

use std::{
    convert::Infallible,
    future::{Ready, ready},
    sync::Arc,
    task::{Context, Poll},
};

use axum::body::HttpBody;
use bytes::Bytes;
use futures_util::{
    FutureExt as _,
    future::{Either, Map},
};
use http::{
    Extensions, HeaderValue, Request, Response, header,
    uri::{Authority, Scheme},
};
use sp1_network_api::{
    artifact::artifact_store_server::ArtifactStoreServer, network::prover_network_server::ProverNetworkServer,
};
use tonic::{Status, body::Body, codegen::BoxFuture};
use url::Url;

use crate::{artifacts::PublicUrl, service::Service};

/// Longest message that is decoded: a verifying key of a megabyte and its envelope fit twice.
const MAX_MESSAGE_BYTES: usize = 2 << 20;

/// The calls that are served. All others are answered by [`unserved`].
const PROVER_NETWORK: &str = "/network.ProverNetwork/";
const PROVER_NETWORK_METHODS: &[&str] = &[
    "GetProofRequestStatus",
    "RequestProof",
    "GetProofRequestDetails",
    "GetNonce",
    "GetProgram",
    "CreateProgram",
    "GetBalance",
    "GetFilteredProofRequests",
    "GetProofRequestParams",
    "GetProversByUptime",
    "CancelRequest",
    "GetMarketPricePerPgu",
];
const CREATE_ARTIFACT: &str = "/artifact.ArtifactStore/CreateArtifact";

const INTERNAL: HeaderValue = HeaderValue::from_static("13");
const INVALID_ARGUMENT: HeaderValue = HeaderValue::from_static("3");

type Answer = Result<Response<Body>, Infallible>;
type Correct = fn(Answer) -> Answer;

/// What both services stand on.
struct Door {
    service: Service,
    public: PublicUrl,
    http_port: u16,
}

/// The host that the client used, from which it is told its addresses.
#[derive(Debug, Clone)]
struct ClientHost {
    host: Option<Bytes>,
    is_tls: bool,
}

impl Door {
    /// The address under which this client reaches the artifacts.
    fn base_url(&self, extensions: &Extensions) -> Url {
        let used = extensions.get::<ClientHost>();
        let host = used.and_then(|used| std::str::from_utf8(used.host.as_deref()?).ok());
        self.public.base_for(host, used.is_some_and(|used| used.is_tls), self.http_port)
    }
}

/// Serves `network.ProverNetwork` and `artifact.ArtifactStore`, and answers every other call in words.
#[derive(Clone)]
pub struct Sp1Network {
    prover_network: ProverNetworkServer<Door>,
    artifact_store: ArtifactStoreServer<Door>,
    http_port: u16,
}

impl Sp1Network {
    /// The services over `service`. Artifacts are told to be under `public`, and where that says nothing, under the
    /// client's own name for this host and `http_port`.
    pub fn new(service: Service, public: PublicUrl, http_port: u16) -> Self {
        let door = Arc::new(Door { service, public, http_port });
        Self {
            prover_network: ProverNetworkServer::from_arc(Arc::clone(&door))
                .max_decoding_message_size(MAX_MESSAGE_BYTES),
            artifact_store: ArtifactStoreServer::from_arc(door).max_decoding_message_size(MAX_MESSAGE_BYTES),
            http_port,
        }
    }
}

impl<B> tower::Service<Request<B>> for Sp1Network
where
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<tonic::codegen::StdError> + Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Either<Map<BoxFuture<Response<Body>, Infallible>, Correct>, Ready<Answer>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let path = request.uri().path();
        let is_prover_network =
            path.strip_prefix(PROVER_NETWORK).is_some_and(|method| PROVER_NETWORK_METHODS.contains(&method));
        if !is_prover_network && path != CREATE_ARTIFACT {
            return Either::Right(ready(Ok(unserved::answer(path, request.headers(), self.http_port))));
        }
        let used = client_host(&request);
        request.extensions_mut().insert(used);
        let answer =
            if is_prover_network { self.prover_network.call(request) } else { self.artifact_store.call(request) };
        Either::Left(answer.map(correct as Correct))
    }
}

/// Calls a message that could not be decoded what it is: the client's fault.
///
/// The framework answers it with `INTERNAL`, which SDKs retry for two minutes. Defects of ours are marked as such.
fn correct(answer: Answer) -> Answer {
    answer.map(|mut response| {
        let headers = response.headers_mut();
        let is_internal = headers.get(Status::GRPC_STATUS).is_some_and(|code| code == INTERNAL);
        if is_internal && headers.remove(refusal::DEFECT).is_none() {
            headers.insert(Status::GRPC_STATUS, INVALID_ARGUMENT);
        }
        response
    })
}

fn client_host<B>(request: &Request<B>) -> ClientHost {
    let authority = request.uri().authority().map(Authority::as_str);
    let header = || request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    let host = authority.or_else(header).map(|host| Bytes::copy_from_slice(host.as_bytes()));
    ClientHost { host, is_tls: request.uri().scheme() == Some(&Scheme::HTTPS) }
}

/// [`Sp1Network`] as the only thing on its port.
pub fn router(service: Service, public: PublicUrl, http_port: u16) -> axum::Router {
    axum::Router::new().fallback_service(Sp1Network::new(service, public, http_port))
}
