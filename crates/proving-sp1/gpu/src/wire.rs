//! The server's frames: a length as little-endian `u32`, and the bincode of `sp1_cuda::api`'s types.

use std::io;

use sp1_cuda::api::{Request, Response};
use sp1_prover_types::{SerializableRiscvMachine, network_base_types};
use sp1_sdk::SP1Stdin;
use tokio::io::{AsyncRead, AsyncReadExt as _};

use network_lib::ProofMode;

/// How the bincode of [`Response::Proof`] begins. What follows is the bincode of a `ProofFromNetwork`, as it is stored.
const PROOF: [u8; 4] = 2_u32.to_le_bytes();

/// An answer of the server.
pub(crate) enum Answer {
    /// The request was carried out, and there is nothing to tell.
    Done,
    /// A program was set up.
    SetUp {
        /// What names it from now on: the SHA-256 of its ELF.
        id: [u8; 32],
        /// Its verifying key, in bincode.
        verifying_key: Vec<u8>,
    },
    /// A proof, in bincode, neither decoded nor verified.
    Proof(Vec<u8>),
    /// The request could not be carried out, for this reason.
    Refused(String),
}

/// A frame that asks for the set-up of a program.
pub(crate) fn set_up(elf: Vec<u8>) -> Result<Vec<u8>, String> {
    frame(&Request::Setup { elf, machine: SerializableRiscvMachine })
}

/// A frame that asks for a proof.
pub(crate) fn prove(mode: ProofMode, id: [u8; 32], stdin: SP1Stdin) -> Result<Vec<u8>, String> {
    let mode = match mode {
        ProofMode::Core => network_base_types::ProofMode::Core,
        ProofMode::Compressed => network_base_types::ProofMode::Compressed,
        ProofMode::Plonk => network_base_types::ProofMode::Plonk,
        ProofMode::Groth16 => network_base_types::ProofMode::Groth16,
    };
    frame(&Request::ProveWithMode { mode, key: id, stdin, proof_nonce: [0; 4] })
}

/// A frame that makes the server forget a program.
pub(crate) fn forget(id: [u8; 32]) -> Result<Vec<u8>, String> {
    frame(&Request::Destroy { key: id })
}

fn frame(request: &Request) -> Result<Vec<u8>, String> {
    let mut frame = vec![0; 4];
    bincode::serialize_into(&mut frame, request).map_err(|error| format!("cannot encode a request: {error}"))?;
    let length = u32::try_from(frame.len() - 4);
    let length = length.map_err(|_| "a request is longer than the 4 GiB that its length can say".to_owned())?;
    frame[..4].copy_from_slice(&length.to_le_bytes());
    Ok(frame)
}

/// Reads one frame. `on_bytes` is called whenever some have come. Takes no more memory than bytes came, whatever
/// length is announced.
pub(crate) async fn read(mut stream: impl AsyncRead + Unpin, on_bytes: impl Fn()) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    stream.read_exact(&mut length).await?;
    on_bytes();
    let length = usize::try_from(u32::from_le_bytes(length)).map_err(io::Error::other)?;
    let mut bytes = Vec::new();
    while bytes.len() < length {
        let wanted = (length - bytes.len()).min(1 << 20);
        let end = bytes.len();
        bytes.resize(end + wanted, 0);
        let read = stream.read(&mut bytes[end..]).await?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        bytes.truncate(end + read);
        on_bytes();
    }
    Ok(bytes)
}

/// Reads an answer off the bytes of its frame.
///
/// # Errors
/// Why it is none.
pub(crate) fn answer(mut bytes: Vec<u8>) -> Result<Answer, String> {
    if bytes.starts_with(&PROOF) {
        bytes.drain(..PROOF.len()); // in place: a proof may be gigabytes long
        return Ok(Answer::Proof(bytes));
    }
    let answer = bincode::deserialize(&bytes).map_err(|error| {
        let start = hex::encode(bytes.get(..16).unwrap_or(&bytes));
        format!("{} bytes that are no answer ({start}…): {error}", bytes.len())
    })?;
    Ok(match answer {
        Response::Ok => Answer::Done,
        Response::Setup { id, vk } => {
            let verifying_key = bincode::serialize(&vk).map_err(|error| format!("a verifying key: {error}"))?;
            Answer::SetUp { id, verifying_key }
        }
        Response::Proof { .. } => return Err("a proof that begins otherwise than proofs do".to_owned()),
        Response::ProverError(text) | Response::InternalError(text) => Answer::Refused(text),
        Response::ConnectionClosed => Answer::Refused("it closed the connection".to_owned()),
    })
}

#[cfg(test)]
mod tests {
    use sp1_sdk::{ProofFromNetwork, SP1Proof, SP1PublicValues};

    use super::*;

    fn proof() -> ProofFromNetwork {
        let public_values = SP1PublicValues::from(&[1, 2, 3]);
        ProofFromNetwork { proof: SP1Proof::Core(vec![]), public_values, sp1_version: "v6.1.0".to_owned() }
    }

    /// A server of the same release decodes what is sent: these bytes may not change unless SP1's do.
    #[test]
    fn requests_are_these_bytes() {
        assert_eq!(hex::encode(set_up(vec![1, 2]).unwrap()), "0e0000000000000002000000000000000102");
        assert_eq!(hex::encode(forget([7; 32]).unwrap()), format!("2400000002000000{}", "07".repeat(32)));
        let mut stdin = SP1Stdin::new();
        stdin.write(&5_u32);
        let input = "0100000000000000040000000000000005000000" // one piece of four bytes
            .to_owned()
            + &"00".repeat(16); // read from its start, no proofs in it
        let expected = format!("5c00000001000000{}{}{input}{}", "02000000", "07".repeat(32), "00".repeat(16));
        assert_eq!(hex::encode(prove(ProofMode::Compressed, [7; 32], stdin).unwrap()), expected);
    }

    #[test]
    fn a_proof_is_taken_out_of_its_answer_as_clients_decode_it() {
        let bytes = bincode::serialize(&Response::Proof { proof: proof() }).unwrap();
        let Ok(Answer::Proof(taken)) = answer(bytes) else { panic!("not a proof") };
        assert_eq!(taken, bincode::serialize(&proof()).unwrap());
    }

    #[test]
    fn refusals_and_garbage_are_told_apart() {
        let refusals = [
            (Response::ProverError("a".to_owned()), "a"),
            (Response::InternalError("b".to_owned()), "b"),
            (Response::ConnectionClosed, "it closed the connection"),
        ];
        for (response, expected) in refusals {
            let Ok(Answer::Refused(text)) = answer(bincode::serialize(&response).unwrap()) else {
                panic!("{expected}")
            };
            assert_eq!(text, expected);
        }
        assert!(matches!(answer(bincode::serialize(&Response::Ok).unwrap()), Ok(Answer::Done)));
        let Err(text) = answer(vec![0xff; 40]) else { panic!("an answer") };
        assert!(text.starts_with("40 bytes that are no answer (ffffffffffffffffffffffffffffffff…)"), "{text}");
    }

    #[tokio::test]
    async fn a_length_that_lies_takes_no_memory() {
        let bytes = [0xff; 100];
        let error = read(bytes.as_slice(), || {}).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        let bytes = [3, 0, 0, 0, 7, 8, 9, 10];
        assert_eq!(read(bytes.as_slice(), || {}).await.unwrap(), [7, 8, 9]);
    }
}
