//! Signing as the SDK does: EIP-191 over exactly the bytes that are sent.

use alloy_primitives::Keccak256;
use secp256k1::{Message, SECP256K1, SecretKey};

/// What a client signs to be given a place for an upload.
const CREATE_ARTIFACT: &[u8] = b"create_artifact";

/// A client's key.
#[derive(Debug, Clone, Copy)]
pub struct Key(SecretKey);

impl Key {
    /// A fresh key.
    pub fn random() -> Self {
        loop {
            // All but one in 2^128 draws are keys.
            if let Ok(key) = SecretKey::from_byte_array(rand::random()) {
                return Self(key);
            }
        }
    }

    /// `r`, `s` and `v`, which is 27 or 28.
    ///
    /// # Panics
    /// Never: a parity is 0 to 3.
    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        let signature = SECP256K1.sign_ecdsa_recoverable(Message::from_digest(digest(message)), &self.0);
        let (parity, compact) = signature.serialize_compact();
        let mut bytes = compact.to_vec();
        bytes.push(27 + u8::try_from(i32::from(parity)).expect("a parity is 0 to 3"));
        bytes
    }

    /// The signature of `CreateArtifact`, with the `v` of 54 or 55 that SDKs have sent since 5.1.1.
    pub fn sign_create_artifact(&self) -> Vec<u8> {
        let mut signature = self.sign(CREATE_ARTIFACT);
        if let Some(v) = signature.last_mut() {
            *v += 27;
        }
        signature
    }
}

fn digest(message: &[u8]) -> [u8; 32] {
    let mut hasher = Keccak256::new();
    hasher.update(b"\x19Ethereum Signed Message:\n");
    hasher.update(message.len().to_string());
    hasher.update(message);
    hasher.finalize().0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_upload_signature_has_27_added_twice() {
        let key = Key::random();
        let (usual, upload) = (key.sign(CREATE_ARTIFACT), key.sign_create_artifact());
        assert_eq!(usual[..64], upload[..64]);
        assert!(matches!(usual[64], 27 | 28));
        assert_eq!(upload[64], usual[64] + 27);
    }
}
