//! Verifies compressed proofs of another program, and permutes a Keccak state: what proofs of rollups consist of.
//!
//! Input: a `u32`, how often the state is permuted; the verifying key's hash of the other program, eight `u32`; a
//! `u32`, how many proofs follow; the public values of each. The proofs themselves come with the input, as SP1 has it.
//!
//! Public values: the first word of the Keccak state, a little-endian `u64`; then the public values of all proofs.

#![no_main]

use sha2::{Digest as _, Sha256};
use sp1_zkvm::{lib::verify::verify_sp1_proof, syscalls::syscall_keccak_permute};

sp1_zkvm::entrypoint!(main);

/// Permutes, verifies, and commits what came of it.
pub fn main() {
    let permutations = sp1_zkvm::io::read::<u32>();
    let vk_hash = sp1_zkvm::io::read::<[u32; 8]>();
    let proofs = sp1_zkvm::io::read::<u32>();

    let mut state = [0_u64; 25];
    for _ in 0..permutations {
        syscall_keccak_permute(&mut state);
    }
    sp1_zkvm::io::commit_slice(&state[0].to_le_bytes());

    for _ in 0..proofs {
        let public_values = sp1_zkvm::io::read_vec();
        verify_sp1_proof(&vk_hash, &Sha256::digest(&public_values).into());
        sp1_zkvm::io::commit_slice(&public_values);
    }
}
