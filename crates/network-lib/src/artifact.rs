//! Artifacts: the bulk bytes of the network (programs, inputs, proofs), named by unguessable ids.

use std::{fmt, io, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// What an artifact holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ArtifactKind {
    /// An ELF.
    Program,
    /// The input of one request.
    Stdin,
    /// The input of one request, which only the worker that proves it may read.
    PrivateStdin,
    /// A proof with its public values.
    Proof,
}

impl ArtifactKind {
    /// Every kind.
    pub const ALL: [Self; 4] = [Self::Program, Self::Stdin, Self::PrivateStdin, Self::Proof];

    /// The kind's name, as it stands in ids.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Program => "program",
            Self::Stdin => "stdin",
            Self::PrivateStdin => "private-stdin",
            Self::Proof => "proof",
        }
    }
}

impl fmt::Display for ArtifactKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Names one artifact: its kind and 128 random bits, written `stdin_0f3a…`.
///
/// There is one spelling per id and no other grammar, so an id is safe as a file name and in a URL.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ArtifactId {
    kind: ArtifactKind,
    key: [u8; 16],
}

impl ArtifactId {
    /// The id of `kind` with these random bytes.
    pub const fn new(kind: ArtifactKind, key: [u8; 16]) -> Self {
        Self { kind, key }
    }

    /// A fresh id from a cryptographically secure source.
    pub fn random(kind: ArtifactKind, rng: &mut impl rand::CryptoRng) -> Self {
        let mut key = [0; 16];
        rng.fill_bytes(&mut key);
        Self { kind, key }
    }

    /// What the artifact holds.
    pub const fn kind(&self) -> ArtifactKind {
        self.kind
    }

    /// Its random bytes.
    pub const fn key(&self) -> &[u8; 16] {
        &self.key
    }
}

/// A text that is not an artifact id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not an artifact id: expected program_, stdin_, private-stdin_ or proof_ and 32 lower-case hex digits")]
pub struct ParseArtifactIdError;

impl FromStr for ArtifactId {
    type Err = ParseArtifactIdError;

    fn from_str(text: &str) -> Result<Self, ParseArtifactIdError> {
        let (kind, digits) = text.split_once('_').ok_or(ParseArtifactIdError)?;
        let kind = ArtifactKind::ALL.into_iter().find(|known| known.name() == kind).ok_or(ParseArtifactIdError)?;
        if digits.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Err(ParseArtifactIdError);
        }
        let mut key = [0; 16];
        hex::decode_to_slice(digits, &mut key).map_err(|_| ParseArtifactIdError)?;
        Ok(Self { kind, key })
    }
}

impl fmt::Display for ArtifactId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}_{}", self.kind, hex::encode(self.key))
    }
}

impl fmt::Debug for ArtifactId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for ArtifactId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ArtifactId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}

/// 32 bytes that stand for some content, written in lower-case hex.
///
/// Of an artifact it is the BLAKE3 ([`Digest::of`]): several times as fast as SHA-256 where the processor has no
/// instructions for that, and every byte that passes through is hashed. What the SP1 network calls a hash is SHA-256
/// ([`Digest::sha256`]).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    /// A digest from its bytes.
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The BLAKE3 of `bytes`: how artifacts are told apart.
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }

    /// The SHA-256 of `bytes`: how the SP1 network tells public values and requests apart.
    pub fn sha256(bytes: &[u8]) -> Self {
        use sha2::Digest as _;
        Self(sha2::Sha256::digest(bytes).into())
    }

    /// The bytes of this digest.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// Works out [`Digest::of`] piece by piece.
#[derive(Debug, Clone, Default)]
pub struct Hasher(blake3::Hasher);

impl Hasher {
    /// Takes in the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The digest of all bytes so far.
    pub fn digest(&self) -> Digest {
        Digest(*self.0.finalize().as_bytes())
    }
}

impl io::Write for Hasher {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl TryFrom<&[u8]> for Digest {
    type Error = crate::ParseIdError;

    fn try_from(bytes: &[u8]) -> Result<Self, Self::Error> {
        let array = bytes.try_into().map_err(|_| crate::ParseIdError::Length {
            kind: "digest",
            expected: 32,
            actual: bytes.len(),
        })?;
        Ok(Self(array))
    }
}

impl FromStr for Digest {
    type Err = crate::ParseIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes).map_err(|_| crate::ParseIdError::NotHex { kind: "digest" })?;
        Ok(Self(bytes))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_id_reads_back_from_what_it_prints() {
        for kind in ArtifactKind::ALL {
            let id = ArtifactId::new(kind, [0x5e; 16]);
            assert_eq!(id.to_string().parse(), Ok(id));
        }
    }

    #[test]
    fn a_digest_in_pieces_is_the_digest_of_the_whole() {
        let mut hasher = Hasher::default();
        hasher.update(b"hiero");
        hasher.update(b"phant");
        assert_eq!(hasher.digest(), Digest::of(b"hierophant"));
        assert_ne!(hasher.digest(), Digest::sha256(b"hierophant"));
    }

    proptest! {
        #[test]
        fn whatever_parses_has_one_spelling(text in "\\PC{0,60}") {
            if let Ok(id) = text.parse::<ArtifactId>() {
                prop_assert_eq!(id.to_string(), text);
            }
        }

        #[test]
        fn nothing_that_parses_can_leave_its_directory(text in "(program|stdin|proof)_[0-9a-f./%]{30,34}") {
            if let Ok(id) = text.parse::<ArtifactId>() {
                prop_assert!(id.to_string().bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-'));
            }
        }
    }
}
