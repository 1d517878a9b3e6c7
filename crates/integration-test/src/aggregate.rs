//! A proof of proofs: `programs/aggregate` verifies what was proved before, and hashes by a precompile.

use anyhow::ensure;
use sp1_sdk::{HashableKey as _, ProvingKey as _, SP1Proof, SP1ProofWithPublicValues, SP1ProvingKey, SP1Stdin};

/// The program.
pub(crate) const AGGREGATE: &[u8] = include_bytes!("../../../programs/aggregate/elf/aggregate");

/// How often the program permutes its Keccak state: so often that shards of the precompile's own are proved.
const PERMUTATIONS: u32 = 2000;

/// The input: these compressed proofs, of the program with this key.
pub(crate) fn input(proofs: &[SP1ProofWithPublicValues], key: &SP1ProvingKey) -> anyhow::Result<SP1Stdin> {
    let key = key.verifying_key();
    let mut stdin = SP1Stdin::new();
    stdin.write(&PERMUTATIONS);
    stdin.write(&key.hash_u32());
    stdin.write(&u32::try_from(proofs.len())?);
    for proof in proofs {
        let SP1Proof::Compressed(compressed) = &proof.proof else {
            anyhow::bail!("only compressed proofs can be verified in a program");
        };
        stdin.write_slice(proof.public_values.as_slice());
        stdin.write_proof((**compressed).clone(), key.vk.clone());
    }
    Ok(stdin)
}

/// Checks what the program says of these proofs, by the program's own rule, worked out here.
///
/// # Errors
/// When it says something else.
pub(crate) fn check(said: &[u8], proofs: &[SP1ProofWithPublicValues]) -> anyhow::Result<String> {
    let mut state = [0; 25];
    keccak::Keccak::new().with_f1600(|permute| (0..PERMUTATIONS).for_each(|_| permute(&mut state)));
    let mut expected = state[0].to_le_bytes().to_vec();
    for proof in proofs {
        expected.extend_from_slice(proof.public_values.as_slice());
    }
    ensure!(said == expected, "the program said {}, not {}", hex::encode(said), hex::encode(expected));
    Ok(format!("{} proofs verified in a program, {PERMUTATIONS} permutations", proofs.len()))
}
