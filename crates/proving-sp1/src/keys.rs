//! Verifying keys: their encoding, their hashes, and which program has which.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use bincode::Options as _;
use network_lib::{Digest, Fault};
use proving::{KeyHashes, ProveOrder};
use sp1_sdk::{HashableKey as _, SP1VerifyingKey};

/// Longest encoded key that is decoded, in bytes. A key of today is 104 bytes long.
const MAX_KEY_BYTES: u64 = 1 << 16;

/// Keys that are remembered; each is small, but programs come without end.
const MAX_REMEMBERED: usize = 256;

/// Reads a verifying key from its bincode.
pub(crate) fn decode(bytes: &[u8]) -> Result<SP1VerifyingKey, String> {
    let options = bincode::DefaultOptions::new().with_fixint_encoding().with_limit(MAX_KEY_BYTES);
    options.deserialize(bytes).map_err(|error| {
        let version = sp1_sdk::SP1_CIRCUIT_VERSION;
        format!("the verifying key does not decode as one of SP1 {version}: {error}")
    })
}

/// Both forms of a key's hash.
pub(crate) fn hashes(key: &SP1VerifyingKey) -> KeyHashes {
    // Not `bytes32_raw`, which panics when the number has a leading zero byte.
    let text = key.bytes32();
    let mut bn254 = [0; 32];
    hex::decode_to_slice(text.trim_start_matches("0x"), &mut bn254).expect("bytes32 is 64 hex digits");
    KeyHashes { bn254, field: key.hash_bytes() }
}

/// The verifying keys of programs seen, by the digests of their files. Deriving one takes seconds.
#[derive(Default)]
pub(crate) struct KeyRing(Mutex<HashMap<Digest, SP1VerifyingKey>>);

impl KeyRing {
    /// The key of the order's program, derived by `set_up` unless it is known. It has the hash that the order names.
    pub(crate) async fn key_of(
        &self,
        order: &ProveOrder,
        set_up: impl Future<Output = Result<SP1VerifyingKey, Fault>>,
    ) -> Result<SP1VerifyingKey, Fault> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&order.program_digest).cloned();
        let key = if let Some(key) = known {
            key
        } else {
            let key = set_up.await?;
            let mut ring = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if ring.len() >= MAX_REMEMBERED {
                ring.clear();
            }
            ring.insert(order.program_digest, key.clone());
            key
        };
        let hashes = hashes(&key);
        if hashes.contains(&order.vk_hash) {
            Ok(key)
        } else {
            let (actual, expected) = (hex::encode(hashes.field), hex::encode(order.vk_hash));
            Err(Fault::guest(format!(
                "the program's verifying key has the hash {actual}, not {expected}, under which it was registered"
            )))
        }
    }
}
