//! Answers to calls that are not served here, in words.

use http::{HeaderMap, Response, StatusCode, header};
use sp1_network_api::OTHER_METHODS;
use tonic::{Status, body::Body};

/// Longest piece of a path that is repeated.
const MAX_NAME_BYTES: usize = 100;

/// The answer to a call of `path`.
pub(super) fn answer(path: &str, headers: &HeaderMap, http_port: u16) -> Response<Body> {
    let is_grpc = headers
        .get(header::CONTENT_TYPE)
        .is_some_and(|content_type| content_type.as_bytes().starts_with(b"application/grpc"));
    if is_grpc {
        return Status::unimplemented(sentence(path)).into_http();
    }
    let sentence = format!(
        "This port speaks gRPC with the SP1 SDK: set NETWORK_RPC_URL to it. Status and artifacts are on port {http_port}.\n"
    );
    let mut response = Response::new(Body::new(sentence));
    *response.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
    let plain = header::HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, plain);
    response
}

fn sentence(path: &str) -> String {
    let mut pieces = path.trim_start_matches('/').splitn(2, '/');
    let service = shortened(pieces.next().unwrap_or_default());
    let method = shortened(pieces.next().unwrap_or_default());
    match service {
        "network.ProverNetwork" if OTHER_METHODS.binary_search(&method).is_ok() => {
            format!("{method} is a method of Succinct's public network that this self-hosted one does not serve")
        }
        "network.ProverNetwork" | "artifact.ArtifactStore" => {
            format!("there is no method {method:?} in {service}")
        }
        _ => format!(
            "there is no service {service:?} here, only network.ProverNetwork and artifact.ArtifactStore: \
             an RPC URL must not have a path"
        ),
    }
}

fn shortened(name: &str) -> &str {
    let end = (0..=MAX_NAME_BYTES.min(name.len())).rev().find(|end| name.is_char_boundary(*end));
    &name[..end.unwrap_or_default()]
}
