//! Who signed: EIP-191 signatures over exactly the bytes that were received.

use alloy_primitives::Keccak256;
use hierophant_core::Requester;
use secp256k1::{
    Message,
    ecdsa::{RecoverableSignature, RecoveryId},
};

/// `r`, `s` and `v`.
const SIGNATURE_BYTES: usize = 65;

/// Why it cannot be told who signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum SignatureError {
    /// There is none.
    #[error("signature is missing: sign the request (the SDK does with NETWORK_PRIVATE_KEY set)")]
    Missing,
    /// It has another length.
    #[error("signature must be {SIGNATURE_BYTES} bytes (r, s and v), not {0}")]
    Length(usize),
    /// Its last byte is none of those that SDKs write.
    #[error("signature ends with v = {0}: it must be 0, 1, 27, 28, 54 or 55")]
    UnknownV(u8),
    /// No key makes such a signature.
    #[error("signature is no ECDSA signature over secp256k1 of what was sent")]
    NoSigner,
}

/// Who signed `message` as Ethereum's `personal_sign` does.
///
/// Any well-formed signature has a signer: if the message was changed on the way, someone whom nobody knows. A high `s`
/// is accepted, since nothing rests on a signature's being the only one: identity is the address alone.
pub(super) fn recover(message: &[u8], signature: &[u8]) -> Result<Requester, SignatureError> {
    if signature.is_empty() {
        return Err(SignatureError::Missing);
    }
    let (compact, v) = match signature.split_last() {
        Some((v, compact)) if signature.len() == SIGNATURE_BYTES => (compact, *v),
        _ => return Err(SignatureError::Length(signature.len())),
    };
    let signature = RecoverableSignature::from_compact(compact, parity(v)?).map_err(|_| SignatureError::NoSigner)?;
    let key = signature.recover(Message::from_digest(digest(message))).map_err(|_| SignatureError::NoSigner)?;
    let uncompressed = key.serialize_uncompressed();
    let mut hasher = Keccak256::new();
    hasher.update(&uncompressed[1..]);
    let hash = hasher.finalize().0;
    let mut address = [0; 20];
    address.copy_from_slice(&hash[12..]);
    Ok(Requester::new(address))
}

/// The parity that a `v` stands for.
///
/// 54 and 55 are what the SDK has sent with `CreateArtifact` since 5.1.1: 27 added twice. They are not EIP-155 values,
/// by whose rule the parity would come out inverted.
const fn parity(v: u8) -> Result<RecoveryId, SignatureError> {
    match v {
        0 | 27 | 54 => Ok(RecoveryId::Zero),
        1 | 28 | 55 => Ok(RecoveryId::One),
        other => Err(SignatureError::UnknownV(other)),
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
    use proptest::prelude::*;
    use secp256k1::{PublicKey, SECP256K1, SecretKey};

    use super::*;

    /// The order of the curve's group, big-endian.
    const ORDER: [u8; 32] = [
        0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfe, 0xba, 0xae,
        0xdc, 0xe6, 0xaf, 0x48, 0xa0, 0x3b, 0xbf, 0xd2, 0x5e, 0x8c, 0xd0, 0x36, 0x41, 0x41,
    ];

    fn key() -> SecretKey {
        SecretKey::from_byte_array([0x11; 32]).unwrap()
    }

    /// The address of [`key`], as every Ethereum wallet shows it.
    fn address() -> Requester {
        "0x19e7e376e7c213b7e7e7e46cc70a5dd086daff2a".parse().unwrap()
    }

    /// `r`, `s`, and the parity.
    fn sign(message: &[u8]) -> (Vec<u8>, u8) {
        let (parity, compact) =
            SECP256K1.sign_ecdsa_recoverable(Message::from_digest(digest(message)), &key()).serialize_compact();
        (compact.to_vec(), u8::try_from(i32::from(parity)).unwrap())
    }

    fn negated(s: &[u8]) -> Vec<u8> {
        let mut result = vec![0; 32];
        let mut borrow = 0;
        for index in (0..32).rev() {
            let difference = i32::from(ORDER[index]) - i32::from(s[index]) - borrow;
            borrow = i32::from(difference < 0);
            result[index] = u8::try_from(difference.rem_euclid(256)).unwrap();
        }
        result
    }

    #[test]
    fn the_signer_is_found_with_every_v_that_an_sdk_writes() {
        for message in [b"create_artifact".as_slice(), b"", &[0xff; 3000]] {
            let (compact, parity) = sign(message);
            for offset in [0, 27, 54] {
                let signature = [compact.as_slice(), &[parity + offset]].concat();
                assert_eq!(recover(message, &signature), Ok(address()), "offset {offset}");
            }
        }
    }

    #[test]
    fn the_other_parity_is_another_signer() {
        let (compact, parity) = sign(b"message");
        for offset in [0, 27, 54] {
            let signature = [compact.as_slice(), &[(1 - parity) + offset]].concat();
            assert_ne!(recover(b"message", &signature), Ok(address()));
        }
    }

    #[test]
    fn every_other_v_is_refused_by_name() {
        let (compact, _) = sign(b"message");
        for v in (0..=u8::MAX).filter(|v| ![0, 1, 27, 28, 54, 55].contains(v)) {
            let signature = [compact.as_slice(), &[v]].concat();
            assert_eq!(recover(b"message", &signature), Err(SignatureError::UnknownV(v)));
        }
    }

    #[test]
    fn a_signature_with_a_high_s_has_the_same_signer() {
        let (compact, parity) = sign(b"message");
        let signature = [&compact[..32], &negated(&compact[32..]), &[1 - parity]].concat();
        assert_eq!(recover(b"message", &signature), Ok(address()));
    }

    #[test]
    fn a_changed_message_has_another_signer() {
        let (compact, parity) = sign(b"message");
        let signature = [compact.as_slice(), &[parity]].concat();
        assert_ne!(recover(b"messagE", &signature), Ok(address()));
    }

    #[test]
    fn what_is_no_signature_is_refused_in_words() {
        assert_eq!(recover(b"message", b""), Err(SignatureError::Missing));
        assert_eq!(recover(b"message", &[0; 64]), Err(SignatureError::Length(64)));
        assert_eq!(recover(b"message", &[0; 66]), Err(SignatureError::Length(66)));
        assert_eq!(recover(b"message", &[0; 65]), Err(SignatureError::NoSigner));
        let beyond_the_order = [&[0xff; 64][..], &[27]].concat();
        assert_eq!(recover(b"message", &beyond_the_order), Err(SignatureError::NoSigner));
    }

    #[test]
    fn the_address_is_the_hash_of_the_public_key() {
        let public = PublicKey::from_secret_key_global(&key()).serialize_uncompressed();
        let hash = alloy_primitives::keccak256(&public[1..]);
        assert_eq!(Requester::new(hash[12..].try_into().unwrap()), address());
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(message: Vec<u8>, signature in prop::collection::vec(any::<u8>(), 0..70)) {
            let _ = recover(&message, &signature);
        }

        #[test]
        fn no_signature_of_the_right_length_makes_it_panic(
            message: Vec<u8>,
            compact in prop::collection::vec(any::<u8>(), 64),
            v in prop::sample::select(vec![0, 1, 27, 28, 54, 55]),
        ) {
            let _ = recover(&message, &[compact.as_slice(), &[v]].concat());
        }
    }
}
