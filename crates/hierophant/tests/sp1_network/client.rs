//! A light client: the SDK's messages and signatures, and nothing else of it.

use alloy_primitives::keccak256;
use hierophant_core::Requester;
use prost::{
    Message as _,
    encoding::{bool, bytes, string},
};
use secp256k1::{Message, PublicKey, SECP256K1, SecretKey};
use sp1_network_api::{
    artifact::{ArtifactType, CreateArtifactRequest, artifact_store_client::ArtifactStoreClient},
    network::{
        CreateProgramBody, GetProofRequestDetailsRequest, GetProofRequestStatusRequest, GetProofRequestStatusResponse,
        ProofRequest, RequestProofBody, SignedRequest, prover_network_client::ProverNetworkClient,
    },
};
use tonic::{Code, Response, Status, transport::Channel};

use crate::network::{Network, START};

/// A verifying key that every test may register.
pub(crate) const VERIFYING_KEY: &[u8] = b"the verifying key of a program";

/// A client with a key of its own.
#[derive(Clone)]
pub(crate) struct Client {
    key: SecretKey,
    pub(crate) network: ProverNetworkClient<Channel>,
    pub(crate) artifacts: ArtifactStoreClient<Channel>,
}

impl Client {
    pub(crate) async fn connect(url: &str, key: u8) -> Self {
        Self {
            key: SecretKey::from_byte_array([key; 32]).unwrap(),
            network: ProverNetworkClient::connect(url.to_owned()).await.unwrap(),
            artifacts: ArtifactStoreClient::connect(url.to_owned()).await.unwrap(),
        }
    }

    pub(crate) fn address(&self) -> Requester {
        let public = PublicKey::from_secret_key_global(&self.key).serialize_uncompressed();
        Requester::new(keccak256(&public[1..])[12..].try_into().unwrap())
    }

    /// An EIP-191 signature whose `v` is 0 or 1 above `offset`.
    pub(crate) fn sign_with(&self, message: &[u8], offset: u8) -> Vec<u8> {
        let prefix = format!("\x19Ethereum Signed Message:\n{}", message.len());
        let digest = keccak256([prefix.as_bytes(), message].concat());
        let signature = SECP256K1.sign_ecdsa_recoverable(Message::from_digest(digest.0), &self.key);
        let (parity, compact) = signature.serialize_compact();
        [compact.as_slice(), &[u8::try_from(i32::from(parity)).unwrap() + offset]].concat()
    }

    /// A body as the SDK sends it.
    pub(crate) fn signed(&self, body: Vec<u8>) -> SignedRequest {
        SignedRequest { format: 1, signature: self.sign_with(&body, 27), body: Some(body) }
    }

    /// An artifact of this kind that was uploaded.
    pub(crate) async fn upload(&mut self, network: &Network, kind: ArtifactType, bytes: u64) -> String {
        let uri = self.create_artifact(kind).await;
        network.record_upload(&uri, self.address(), bytes).await;
        uri
    }

    /// An artifact of this kind that was not uploaded yet.
    pub(crate) async fn create_artifact(&mut self, kind: ArtifactType) -> String {
        let request =
            CreateArtifactRequest { signature: self.sign_with(b"create_artifact", 54), artifact_type: kind.into() };
        self.artifacts.create_artifact(request).await.unwrap().into_inner().artifact_uri
    }

    /// Registers the program of [`VERIFYING_KEY`], uploading it first.
    pub(crate) async fn register(&mut self, network: &Network) -> [u8; 32] {
        let program_uri = self.upload(network, ArtifactType::Program, 1000).await;
        let vk_hash = vk_hash();
        let body = CreateProgramBody { nonce: 0, vk_hash: vk_hash.to_vec(), vk: VERIFYING_KEY.to_vec(), program_uri };
        self.network.create_program(self.signed(body.encode_to_vec())).await.unwrap();
        vk_hash
    }

    /// The body of a request that is right in every way: the program is registered, the input uploaded.
    pub(crate) async fn good_body(&mut self, network: &Network) -> RequestProofBody {
        let vk_hash = self.register(network).await;
        let stdin_uri = self.upload(network, ArtifactType::Stdin, 100).await;
        RequestProofBody {
            nonce: 0,
            vk_hash: vk_hash.to_vec(),
            version: "sp1-v6.1.0".to_owned(),
            mode: 1,
            strategy: 2,
            stdin_uri,
            deadline: START.as_secs() + 14400,
            cycle_limit: 100_000_000,
            gas_limit: 1_000_000_000,
            ..RequestProofBody::default()
        }
    }

    /// Sends a body as a client of the base variant does.
    pub(crate) async fn ask(&mut self, body: &RequestProofBody) -> Result<Vec<u8>, Status> {
        self.ask_encoded(body.encode_to_vec()).await
    }

    pub(crate) async fn ask_encoded(&mut self, body: Vec<u8>) -> Result<Vec<u8>, Status> {
        self.send(self.signed(body)).await
    }

    pub(crate) async fn send(&mut self, request: SignedRequest) -> Result<Vec<u8>, Status> {
        let reply = self.network.request_proof(request).await?.into_inner();
        let id = reply.body.unwrap().request_id;
        assert_eq!((reply.tx_hash.len(), id.len()), (32, 32), "the SDK panics on any other length");
        Ok(id)
    }

    pub(crate) async fn status(&mut self, id: &[u8]) -> GetProofRequestStatusResponse {
        let request = GetProofRequestStatusRequest { request_id: id.to_vec() };
        self.network.get_proof_request_status(request).await.unwrap().into_inner()
    }

    pub(crate) async fn details(&mut self, id: &[u8]) -> Option<ProofRequest> {
        let request = GetProofRequestDetailsRequest { request_id: id.to_vec() };
        self.network.get_proof_request_details(request).await.unwrap().into_inner().request
    }
}

/// The hash of [`VERIFYING_KEY`] in the form of current SDKs.
pub(crate) fn vk_hash() -> [u8; 32] {
    proving::testing::key_hashes(VERIFYING_KEY).field
}

/// A body as clients of the base variant send it since 6.2, with the flag on tag 12.
pub(crate) fn base(body: &RequestProofBody, is_stdin_private: bool) -> Vec<u8> {
    let mut encoded = body.encode_to_vec();
    bool::encode(12, &is_stdin_private, &mut encoded);
    encoded
}

/// A body as clients of the auction variant send it.
pub(crate) fn auction(body: &RequestProofBody) -> Vec<u8> {
    let mut encoded = body.encode_to_vec();
    bytes::encode(12, &vec![0x11; 32], &mut encoded);
    for tag in [13, 14, 15, 20] {
        bytes::encode(tag, &vec![0; 20], &mut encoded);
    }
    for tag in [17, 18] {
        string::encode(tag, &"0".to_owned(), &mut encoded);
    }
    encoded
}

/// Checks that a call was refused, with this code and in these words.
#[track_caller]
pub(crate) fn assert_refused<T>(result: Result<T, Status>, code: Code, words: &str) {
    let Err(status) = result else { panic!("the call was served, instead of: {words}") };
    assert_eq!(status.code(), code, "{}", status.message());
    assert!(status.message().contains(words), "{:?} does not say {words:?}", status.message());
}

/// As [`assert_refused`], for calls of generated clients.
#[track_caller]
pub(crate) fn assert_invalid<T>(result: Result<Response<T>, Status>, words: &str) {
    assert_refused(result, Code::InvalidArgument, words);
}
