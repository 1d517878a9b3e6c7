//! What an SDK does, as far as the figures need it: upload, register, ask, poll.

use std::time::Duration;

use anyhow::Context as _;
use http::Uri;
use network_lib::{Digest, ProofMode};
use prost::{Message as _, encoding};
use sp1_network_api::{
    artifact::{ArtifactType, CreateArtifactRequest, CreateArtifactResponse},
    network::{
        CancelRequestBody, CancelRequestResponse, CreateProgramBody, CreateProgramResponse, FulfillmentStatus,
        GetProofRequestStatusRequest, GetProofRequestStatusResponse, MessageFormat, RequestProofBody,
        RequestProofResponse, SignedRequest,
    },
};

use crate::{
    artifact_http::HttpConnection,
    clock,
    grpc::{Frame, GrpcConnection, path},
    key::Key,
    server::Endpoints,
    verifier,
};

/// The circuit that proofs are asked for.
pub const CIRCUIT_VERSION: &str = "sp1-v6.1.0";

/// How far ahead deadlines lie: no figure takes that long.
const DEADLINE: Duration = Duration::from_hours(4);

/// A client with a connection to each port.
#[derive(Debug)]
pub struct Client {
    key: Key,
    grpc: GrpcConnection,
    http: HttpConnection,
}

/// Where an artifact is uploaded.
#[derive(Debug)]
pub struct Place {
    /// Names the artifact in requests.
    pub uri: String,
    /// Path and query of the upload.
    pub target: String,
}

impl Client {
    /// Connects to both ports.
    ///
    /// # Errors
    /// When one does not accept.
    pub async fn connect(endpoints: &Endpoints, key: Key) -> anyhow::Result<Self> {
        let grpc = GrpcConnection::open(endpoints.grpc).await?;
        let http = HttpConnection::open(endpoints.http).await?;
        Ok(Self { key, grpc, http })
    }

    /// What it signs with.
    pub const fn key(&self) -> &Key {
        &self.key
    }

    /// Asks where to upload an artifact.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn create_artifact(&mut self, kind: ArtifactType) -> anyhow::Result<Place> {
        let request = CreateArtifactRequest { signature: self.key.sign_create_artifact(), artifact_type: kind.into() };
        let place: CreateArtifactResponse = self.grpc.call(path::CREATE_ARTIFACT, Frame::of(&request)).await?;
        let url: Uri = place.artifact_presigned_url.parse().context("the upload URL")?;
        let target = url.path_and_query().context("the upload URL has no path")?.to_string();
        Ok(Place { uri: place.artifact_uri, target })
    }

    /// Uploads `piece`, `times` times in a row, as one artifact; answers its URI.
    ///
    /// # Errors
    /// When a call or the upload fails.
    pub async fn upload(&mut self, kind: ArtifactType, piece: &[u8], times: u64) -> anyhow::Result<String> {
        let place = self.create_artifact(kind).await?;
        self.http.put(&place.target, piece, times).await?;
        Ok(place.uri)
    }

    /// Uploads and registers a program; answers the hash that names it.
    ///
    /// # Errors
    /// When a call or the upload fails.
    pub async fn register_program(&mut self) -> anyhow::Result<Digest> {
        let elf = [b"\x7fELF".as_slice(), &[0x5a; 4096]].concat();
        let encoded = [&(elf.len() as u64).to_le_bytes(), elf.as_slice()].concat(); // bincode of a byte vector
        let program_uri = self.upload(ArtifactType::Program, &encoded, 1).await?;
        let vk = rand::random::<[u8; 32]>().repeat(8);
        self.register(vk, program_uri).await
    }

    /// Registers a program under this verifying key, as the [`verifier`] hashes it; answers the hash that names it.
    /// Repeating it is harmless.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn register(&mut self, vk: Vec<u8>, program_uri: String) -> anyhow::Result<Digest> {
        let vk_hash = Digest::new(verifier::key_hashes(&vk).field);
        self.register_as(vk_hash, vk, program_uri).await?;
        Ok(vk_hash)
    }

    /// Registers a program under this verifying key, which has this hash. Repeating it is harmless.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn register_as(&mut self, vk_hash: Digest, vk: Vec<u8>, program_uri: String) -> anyhow::Result<()> {
        let body = CreateProgramBody { nonce: 0, vk_hash: vk_hash.as_bytes().to_vec(), vk, program_uri };
        let request = signed(&self.key, body.encode_to_vec());
        let _: CreateProgramResponse = self.grpc.call(path::CREATE_PROGRAM, request).await?;
        Ok(())
    }

    /// Uploads `bytes` to a place that was given before. Repeating it is harmless.
    ///
    /// # Errors
    /// When the upload fails.
    pub async fn upload_to(&mut self, place: &Place, bytes: &[u8]) -> anyhow::Result<()> {
        self.http.put(&place.target, bytes, 1).await
    }

    /// Gives a request up.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn cancel(&mut self, id: &[u8]) -> anyhow::Result<()> {
        let body = CancelRequestBody { nonce: 0, request_id: id.to_vec() };
        let request = signed(&self.key, body.encode_to_vec());
        let _: CancelRequestResponse = self.grpc.call(path::CANCEL, request).await?;
        Ok(())
    }

    /// The proof of a request.
    ///
    /// # Errors
    /// When there is none, or the download fails.
    pub async fn proof(&mut self, id: &[u8]) -> anyhow::Result<Vec<u8>> {
        let reply: GetProofRequestStatusResponse = self.grpc.call(path::STATUS, status_request(id)).await?;
        let url: Uri = reply.proof_uri.context("there is no proof")?.parse().context("the proof's URL")?;
        let target = url.path_and_query().context("the proof's URL has no path")?.as_str();
        self.http.get_bytes(target).await
    }

    /// Facts as JSON, at a path like `/contemplants`.
    ///
    /// # Errors
    /// When the coordinator does not answer, or says no.
    pub async fn facts(&mut self, target: &str) -> anyhow::Result<serde_json::Value> {
        Ok(serde_json::from_str(&self.http.get_text(target).await?)?)
    }

    /// Sends a signed request for a proof; answers its id.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn request_proof(&mut self, request: Frame) -> anyhow::Result<Vec<u8>> {
        let reply: RequestProofResponse = self.grpc.call(path::REQUEST_PROOF, request).await?;
        Ok(reply.body.context("the answer to RequestProof has no body")?.request_id)
    }

    /// How far a request is.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn status(&mut self, request: Frame) -> anyhow::Result<FulfillmentStatus> {
        status(&mut self.grpc, request).await
    }
}

/// How far a request is, asked on this connection.
///
/// # Errors
/// When the call fails.
pub async fn status(grpc: &mut GrpcConnection, request: Frame) -> anyhow::Result<FulfillmentStatus> {
    let reply: GetProofRequestStatusResponse = grpc.call(path::STATUS, request).await?;
    Ok(reply.fulfillment_status())
}

/// The question how far a request is.
pub fn status_request(id: &[u8]) -> Frame {
    Frame::of(&GetProofRequestStatusRequest { request_id: id.to_vec() })
}

/// What is asked for, the same program and input each time.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Names the program.
    pub vk_hash: Digest,
    /// The input.
    pub stdin_uri: String,
}

/// In which form a request is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Variant {
    /// Reserved capacity.
    Base,
    /// The auction, with its further fields.
    Auction,
}

impl Variant {
    /// Each form in turn.
    pub const fn of(number: usize) -> Self {
        if number.is_multiple_of(2) { Self::Base } else { Self::Auction }
    }
}

impl Wanted {
    /// A signed request. `number` goes into the cycle limit, which makes each a request of its own.
    pub fn request(&self, key: &Key, number: usize, variant: Variant) -> Frame {
        signed(key, self.body(number, variant))
    }

    /// The same, with a deadline so far ahead.
    pub fn request_until(&self, key: &Key, number: usize, deadline: Duration) -> Frame {
        signed(key, self.body_until(number, Variant::Base, deadline))
    }

    fn body(&self, number: usize, variant: Variant) -> Vec<u8> {
        self.body_until(number, variant, DEADLINE)
    }

    fn body_until(&self, number: usize, variant: Variant, deadline: Duration) -> Vec<u8> {
        let body = RequestProofBody {
            nonce: 0,
            vk_hash: self.vk_hash.as_bytes().to_vec(),
            version: CIRCUIT_VERSION.to_owned(),
            mode: ProofMode::Compressed.number(),
            strategy: if variant == Variant::Base { 2 } else { 3 },
            stdin_uri: self.stdin_uri.clone(),
            deadline: clock::unix_seconds() + deadline.as_secs(),
            cycle_limit: 1_000_000_000 + number as u64,
            gas_limit: 1_000_000_000,
            ..RequestProofBody::default()
        };
        let mut encoded = body.encode_to_vec();
        if variant == Variant::Auction {
            // Tags 12 to 20, which the common message leaves out: domain, three addresses, two prices, treasury.
            let fields: [(u32, Vec<u8>); 7] = [
                (12, vec![1; 32]),
                (13, vec![2; 20]),
                (14, vec![3; 20]),
                (15, vec![4; 20]),
                (17, b"0".to_vec()),
                (18, b"1000000000".to_vec()),
                (20, vec![5; 20]),
            ];
            for (tag, value) in fields {
                encoding::bytes::encode(tag, &value, &mut encoded);
            }
        }
        encoded
    }
}

/// A body as SDKs sign it.
pub fn signed(key: &Key, body: Vec<u8>) -> Frame {
    let signature = key.sign(&body);
    Frame::of(&SignedRequest { format: MessageFormat::Binary.into(), signature, body: Some(body) })
}

#[cfg(test)]
mod tests {
    use sp1_network_api::variant;

    use super::*;

    #[test]
    fn both_variants_are_read_as_what_they_are() {
        let wanted = Wanted { vk_hash: Digest::new([7; 32]), stdin_uri: "stdin_00".to_owned() };
        let read = |kind| variant::read_variant(&wanted.body(1, kind)).unwrap();
        assert_eq!(read(Variant::Base), variant::Variant::Base { stdin_private: false });
        assert_eq!(read(Variant::Auction), variant::Variant::Auction);
        assert_ne!(wanted.body(1, Variant::Base), wanted.body(2, Variant::Base));
    }
}
