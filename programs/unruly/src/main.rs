//! A guest that never ends, in a way that its input chooses: a fixture for what ends it.
//!
//! Input: one `u32`.
//!
//! | input | does |
//! |---|---|
//! | 0 | loops without reading memory: SP1's executor never comes to where it looks at a limit |
//! | 1 | takes memory until there is no more |
//! | 2 | loops and reads memory: a cycle limit ends it |

#![no_main]

use std::hint::black_box;

sp1_zkvm::entrypoint!(main);

const MEBIBYTE: usize = 1 << 20;
const PAGE: usize = 1 << 12;

/// Does what the input says, for ever.
///
/// # Panics
/// When the input is larger than 2: exit code 1.
pub fn main() {
    match sp1_zkvm::io::read::<u32>() {
        0 => loop {},
        1 => loop {
            let mut block: Vec<u8> = Vec::with_capacity(MEBIBYTE);
            block.resize(MEBIBYTE, 0);
            for page in block.chunks_mut(PAGE) {
                page[0] = black_box(1);
            }
            std::mem::forget(block);
        },
        2 => {
            let numbers = black_box([1_u64; 64]);
            let mut sum = 0_u64;
            loop {
                for number in &numbers {
                    sum = sum.wrapping_add(unsafe { std::ptr::read_volatile(number) });
                }
                black_box(sum);
            }
        }
        other => panic!("{other} is no way to misbehave"),
    }
}
