//! Identifiers that travel between the programs: fixed-size byte strings, written in lower-case hex.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// Why a string or byte string is not an identifier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseIdError {
    /// The length is wrong.
    #[error("{kind} must be {expected} bytes, not {actual}")]
    Length {
        /// Which identifier was read.
        kind: &'static str,
        /// Bytes that it has.
        expected: usize,
        /// Bytes that were given.
        actual: usize,
    },
    /// The text is not hexadecimal.
    #[error("{kind} must be lower-case hexadecimal")]
    NotHex {
        /// Which identifier was read.
        kind: &'static str,
    },
}

macro_rules! byte_id {
    ($(#[$doc:meta])* $name:ident, $length:literal, $kind:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; $length]);

        impl $name {
            /// An id from its bytes.
            pub const fn new(bytes: [u8; $length]) -> Self {
                Self(bytes)
            }

            /// A fresh id from a cryptographically secure source.
            pub fn random(rng: &mut impl rand::CryptoRng) -> Self {
                let mut bytes = [0; $length];
                rng.fill_bytes(&mut bytes);
                Self(bytes)
            }

            /// The bytes of this id.
            pub const fn as_bytes(&self) -> &[u8; $length] {
                &self.0
            }
        }

        impl TryFrom<&[u8]> for $name {
            type Error = ParseIdError;

            fn try_from(bytes: &[u8]) -> Result<Self, ParseIdError> {
                let array = bytes.try_into().map_err(|_| ParseIdError::Length {
                    kind: $kind,
                    expected: $length,
                    actual: bytes.len(),
                })?;
                Ok(Self(array))
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                if text.len() != 2 * $length {
                    return Err(ParseIdError::Length { kind: $kind, expected: $length, actual: text.len() / 2 });
                }
                if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
                    return Err(ParseIdError::NotHex { kind: $kind });
                }
                let mut bytes = [0; $length];
                hex::decode_to_slice(text, &mut bytes).map_err(|_| ParseIdError::NotHex { kind: $kind })?;
                Ok(Self(bytes))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex::encode(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(D::Error::custom)
            }
        }
    };
}

byte_id!(
    /// What a client asked for. Unguessable, since whoever knows it may read the request's status.
    RequestId,
    32,
    "request_id"
);
byte_id!(
    /// One try at a request by one worker. It fences the lease: reports of any other attempt are stale.
    AttemptId,
    16,
    "attempt_id"
);
byte_id!(
    /// A worker, from its own state directory; the same over reconnects, restarts and changes of address.
    WorkerId,
    16,
    "worker_id"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_reads_back_from_what_it_prints() {
        let id = RequestId::new([0xab; 32]);
        assert_eq!(id.to_string().parse(), Ok(id));
    }

    #[test]
    fn a_short_id_is_refused_with_both_lengths() {
        let error = RequestId::try_from([0_u8; 31].as_slice()).unwrap_err();
        assert_eq!(error.to_string(), "request_id must be 32 bytes, not 31");
    }

    #[test]
    fn an_upper_case_id_is_refused_so_that_each_id_has_one_spelling() {
        assert_eq!("AB".repeat(16).parse::<AttemptId>(), Err(ParseIdError::NotHex { kind: "attempt_id" }));
    }
}
