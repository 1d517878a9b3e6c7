//! The envelope of signed bodies, and what is inside.

use hierophant_core::{Requester, Timestamp, Variant};
use network_lib::{CircuitVersion, Digest, RequestId};
use prost::Message;
use sha2::{Digest as _, Sha256};
use sp1_network_api::{
    network::{CancelRequestBody, CreateProgramBody, MessageFormat, RequestProofBody, SignedRequest},
    variant::{self, read_variant, without_nonce},
};

use super::{fields, refusal::Refusal, signature};
use crate::service::{MAX_VERIFYING_KEY_BYTES, Registration, Submission};

/// Longest body of a `RequestProof`: some hundred bytes, and 22 for each prover of a whitelist.
const MAX_REQUEST_PROOF_BODY: usize = 64 << 10;
/// Longest body of a `CreateProgram`: the verifying key and some hundred bytes.
const MAX_CREATE_PROGRAM_BODY: usize = MAX_VERIFYING_KEY_BYTES + (4 << 10);
/// Longest body of a `CancelRequest`: under a hundred bytes.
const MAX_CANCEL_REQUEST_BODY: usize = 4 << 10;
/// Longest name of a circuit version: it comes back in refusals.
const MAX_VERSION_BYTES: usize = 64;

/// Keeps fingerprints apart from every other use of SHA-256.
const FINGERPRINT_DOMAIN: &[u8] = b"hierophant/request-fingerprint/1\0";

/// The strategies of the SP1 network, by their numbers.
const STRATEGIES: &[&str] = &["unspecified", "hosted", "reserved", "auction"];

/// A body whose signer is known. Its bytes are those that were signed.
#[derive(Debug)]
struct Signed {
    signer: Requester,
    body: Vec<u8>,
}

impl Signed {
    /// Finds out who signed. Nothing of the body is decoded before.
    fn open(request: SignedRequest, limit: usize) -> Result<Self, Refusal> {
        let SignedRequest { format, signature, body } = request;
        if format != MessageFormat::Binary as i32 {
            return Err(Refusal::rejected(format!(
                "format {format} is not served here: sign the protobuf encoding of body, and send format 1 (binary)"
            )));
        }
        let body = body.ok_or_else(|| Refusal::rejected("body is missing"))?;
        if body.len() > limit {
            return Err(Refusal::rejected(format!("body must be at most {limit} bytes, not {}", body.len())));
        }
        let signer = signature::recover(&body, &signature)?;
        Ok(Self { signer, body })
    }

    fn decode<T: Message + Default>(&self, name: &str) -> Result<T, Refusal> {
        T::decode(self.body.as_slice())
            .map_err(|error| Refusal::rejected(format!("body is not the encoding of a {name} body: {error}")))
    }
}

/// What a `RequestProof` asks for.
pub(super) fn submission(request: SignedRequest) -> Result<Submission, Refusal> {
    let signed = Signed::open(request, MAX_REQUEST_PROOF_BODY)?;
    let unreadable = |error| Refusal::rejected(format!("body is not the encoding of a RequestProof body: {error}"));
    let body: RequestProofBody = signed.decode("RequestProof")?;
    let (variant, is_stdin_private, public_values_hash) = match read_variant(&signed.body).map_err(unreadable)? {
        variant::Variant::Base { stdin_private } => (Variant::Base, stdin_private, None),
        variant::Variant::Auction => (Variant::Auction, body.stdin_private, body.public_values_hash),
    };
    let fingerprint = fingerprint(signed.signer, &without_nonce(&signed.body).map_err(unreadable)?);
    if body.version.len() > MAX_VERSION_BYTES {
        let length = body.version.len();
        return Err(Refusal::rejected(format!("version must be at most {MAX_VERSION_BYTES} bytes, not {length}")));
    }
    Ok(Submission {
        requester: signed.signer,
        vk_hash: fields::digest("vk_hash", &body.vk_hash)?,
        circuit_version: CircuitVersion::new(body.version),
        mode: fields::proof_mode(body.mode)?,
        stdin: fields::artifact("stdin_uri", &body.stdin_uri)?,
        deadline: Timestamp::from_secs(body.deadline),
        cycle_limit: body.cycle_limit,
        gas_limit: body.gas_limit,
        public_values_hash: public_values_hash.map(|hash| fields::digest("public_values_hash", &hash)).transpose()?,
        is_stdin_private,
        variant,
        strategy: fields::one_of("strategy", body.strategy, STRATEGIES)?,
        fingerprint,
    })
}

/// What a `CreateProgram` registers.
pub(super) fn registration(request: SignedRequest) -> Result<Registration, Refusal> {
    let signed = Signed::open(request, MAX_CREATE_PROGRAM_BODY)?;
    let body: CreateProgramBody = signed.decode("CreateProgram")?;
    Ok(Registration {
        vk_hash: fields::digest("vk_hash", &body.vk_hash)?,
        verifying_key: body.vk,
        program: fields::artifact("program_uri", &body.program_uri)?,
        owner: signed.signer,
    })
}

/// What a `CancelRequest` cancels, and for whom.
pub(super) fn cancellation(request: SignedRequest) -> Result<(RequestId, Requester), Refusal> {
    let signed = Signed::open(request, MAX_CANCEL_REQUEST_BODY)?;
    let body: CancelRequestBody = signed.decode("CancelRequest")?;
    Ok((fields::request_id(&body.request_id)?, signed.signer))
}

/// What all retries of one logical request have in common, and nothing else has: the signer, and the body without its
/// nonce. The signer has a fixed length, so the two cannot run into each other.
fn fingerprint(signer: Requester, body_without_nonce: &[u8]) -> Digest {
    let mut hasher = Sha256::new();
    hasher.update(FINGERPRINT_DOMAIN);
    hasher.update(signer.as_bytes());
    hasher.update(body_without_nonce);
    Digest::new(hasher.finalize().into())
}
