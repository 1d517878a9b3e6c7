//! The gRPC services that the SP1 SDK's network client speaks: generated types, and the one rule
//! of the wire that protobuf cannot express ([`variant`]).
//!
//! The SDK has two variants of its protocol, *base* and *auction*, under the same service paths.
//! One set of types serves both and every SDK from 4.0 on: fields that all agree on are declared,
//! those that contradict each other are not, and signed bodies stay bytes until their signature
//! has been checked ([`network::SignedRequest`]).
//!
//! Names of messages and fields are not on the wire. Those of services and methods are, and so are
//! the numbers; `tests/` holds bytes written by the SDK's own types.

mod other_methods;
pub mod variant;

pub use other_methods::OTHER_METHODS;

/// The service [`ArtifactStore`](artifact::artifact_store_server::ArtifactStore) and its messages.
#[expect(clippy::allow_attributes, clippy::pedantic, unused_qualifications, reason = "generated code")]
pub mod artifact {
    tonic::include_proto!("artifact");
}

/// The service [`ProverNetwork`](network::prover_network_server::ProverNetwork) and its messages.
#[expect(clippy::allow_attributes, clippy::pedantic, unused_qualifications, reason = "generated code")]
pub mod network {
    tonic::include_proto!("network");
}
