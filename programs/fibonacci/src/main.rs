//! Fibonacci numbers modulo 7919, as a program for SP1's virtual machine.
//!
//! Input: one `u32`, `n`, at most [`MAX_N`]. Above that the program panics, which makes it a
//! fixture for failing guests too.
//!
//! Public values: three little-endian `u32`, twelve bytes in all: `n`, then the `n`th and the
//! `n + 1`th Fibonacci number modulo [`MODULUS`], counting `F(0) = 0` and `F(1) = 1`. For `n = 20`
//! they are 20, 6765 and 3027.
//!
//! Each step costs a few cycles, so `n` is also the knob for how long a proof takes.

#![no_main]

sp1_zkvm::entrypoint!(main);

/// The largest input that the program accepts.
const MAX_N: u32 = 10_000_000;

/// What the numbers are reduced by: a prime, small enough that no sum overflows a `u32`.
const MODULUS: u32 = 7919;

/// Reads `n`, walks the sequence, commits `n` and the pair reached.
///
/// A missing or malformed input ends the program with exit code 3, SP1's code for bad input.
///
/// # Panics
/// When `n` is larger than [`MAX_N`]: exit code 1.
pub fn main() {
    let n = sp1_zkvm::io::read::<u32>();
    assert!(n <= MAX_N, "n must be at most 10,000,000, not {n}");

    let (mut a, mut b) = (0_u32, 1_u32);
    for _ in 0..n {
        (a, b) = (b, (a + b) % MODULUS);
    }

    sp1_zkvm::io::commit(&n);
    sp1_zkvm::io::commit(&a);
    sp1_zkvm::io::commit(&b);
}
