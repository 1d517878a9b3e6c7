//! What has to be read off the encoded body of a request, tag by tag.
//!
//! Tag 12 of a proof request's body is a flag in the base variant and bytes in the auction
//! variant. No single message type decodes both, so [`read_variant`] looks at the tags.

use prost::DecodeError;
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};

/// The nonce: tag 1 in every signed body.
const NONCE: u32 = 1;
/// `stdin_private` as a varint in the base variant, `domain` as bytes in the auction variant.
const CONTESTED: u32 = 12;

/// The variant of the protocol that a proof request's body was written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Variant {
    /// Reserved capacity, and every SDK before there were two variants.
    Base {
        /// The input is for the prover's eyes only.
        stdin_private: bool,
    },
    /// The auction of the public network. Whether the input is private is said by
    /// [`RequestProofBody::stdin_private`](crate::network::RequestProofBody::stdin_private).
    Auction,
}

/// Why the tags of a body could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VariantError {
    /// The bytes are not a protobuf message.
    #[error("body is not a protobuf message")]
    Malformed(#[from] DecodeError),
    /// Tag 12 has a wire type that it has in neither variant.
    #[error("tag 12 of the body has wire type {0:?}, which is neither a flag nor bytes")]
    UnknownTag12(WireType),
    /// Tag 12 is there as a flag and as bytes: neither variant can decode the body.
    #[error("tag 12 of the body is there both as a flag and as bytes")]
    ContradictoryTag12,
}

/// Which variant the body of a `RequestProof` was written in.
///
/// Tag 12 decides by its wire type. Without it, any of the tags 13-21 means auction, and none of
/// them base. The rule is total: the auction variant never leaves tags 13, 14 and 15 empty. Where
/// the flag is repeated, the last one counts, as everywhere in protobuf.
///
/// # Errors
/// [`VariantError::Malformed`] when the bytes are not a protobuf message;
/// [`VariantError::UnknownTag12`] and [`VariantError::ContradictoryTag12`] when no variant can
/// decode them. All three are the client's fault.
pub fn read_variant(body: &[u8]) -> Result<Variant, VariantError> {
    let mut flag = None;
    let mut domain = false;
    let mut auction_tag = false;

    let mut rest = body;
    while !rest.is_empty() {
        let (tag, wire_type) = decode_key(&mut rest)?;
        match (tag, wire_type) {
            (CONTESTED, WireType::Varint) => flag = Some(decode_varint(&mut rest)? != 0),
            (CONTESTED, WireType::LengthDelimited) => {
                domain = true;
                skip_field(wire_type, tag, &mut rest, DecodeContext::default())?;
            }
            (CONTESTED, other) => return Err(VariantError::UnknownTag12(other)),
            _ => {
                auction_tag |= (13..=21).contains(&tag);
                skip_field(wire_type, tag, &mut rest, DecodeContext::default())?;
            }
        }
    }

    match flag {
        Some(_) if domain => Err(VariantError::ContradictoryTag12),
        Some(stdin_private) => Ok(Variant::Base { stdin_private }),
        None if domain || auction_tag => Ok(Variant::Auction),
        None => Ok(Variant::Base { stdin_private: false }),
    }
}

/// The bytes of a signed body without its nonce, every occurrence of it.
///
/// The SDK sends a request again with nothing but a new nonce, so for one signer these bytes
/// identify the logical request. All other bytes stay as they are, in their order.
///
/// # Errors
/// [`VariantError::Malformed`] when the bytes are not a protobuf message.
pub fn without_nonce(body: &[u8]) -> Result<Vec<u8>, VariantError> {
    let mut kept = Vec::with_capacity(body.len());
    let mut rest = body;
    while !rest.is_empty() {
        let field = rest;
        let (tag, wire_type) = decode_key(&mut rest)?;
        skip_field(wire_type, tag, &mut rest, DecodeContext::default())?;
        if tag != NONCE {
            kept.extend_from_slice(&field[..field.len() - rest.len()]);
        }
    }
    Ok(kept)
}
