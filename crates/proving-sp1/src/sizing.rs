//! How much a prover does at the same time, from the memory that it may use.

use proving::Memory;
use proving_sp1_engine::Sizing;

const GIB: u64 = 1 << 30;

/// SP1's own size of shards, in elements.
const FULL_SHARD: u64 = (1 << 28) + (1 << 27);

/// What memory of so many GiB or more is used for; the first row that fits counts. In each row: provers, stages, accesses
/// of a chunk, chunks, elements of a shard, records.
#[rustfmt::skip]
const TABLE: [(u64, Sizing); 5] = [
    (192, row(4, 4, 1 << 24, 5, FULL_SHARD, 256)),
    (96,  row(2, 2, 1 << 24, 5, FULL_SHARD, 128)),
    (40,  row(1, 2, 1 << 24, 5, FULL_SHARD,  64)),
    (20,  row(1, 1, 1 << 23, 3, 1 << 27,     32)),
    (0,   row(1, 1, 1 << 22, 3, 1 << 26,     16)),
];

const fn row(
    provers: usize,
    stages: usize,
    chunk_accesses: u64,
    chunks: usize,
    shard_elements: u64,
    records: usize,
) -> Sizing {
    Sizing { provers, stages, chunk_accesses, chunks, shard_elements, records, executor_bytes: 0 }
}

/// How much to do at the same time in `memory_bytes` of memory.
pub fn for_memory(memory_bytes: u64) -> Sizing {
    // What calls itself 24 GiB has a little less.
    let gib = (memory_bytes + GIB) / GIB;
    let fitting = TABLE.iter().find(|(from, _)| gib >= *from);
    let sizing = fitting.map_or(TABLE[TABLE.len() - 1].1, |(_, sizing)| *sizing);
    Sizing { executor_bytes: executor_bytes(memory_bytes), ..sizing }
}

/// Most memory of an executor: a third, since the prover beside it keeps its own. Two GiB at least, which most programs
/// need for a trace of their memory.
pub(crate) fn executor_bytes(memory_bytes: u64) -> u64 {
    (memory_bytes / 3).max(2 * GIB)
}

/// Memory that this process may use, in bytes.
pub(crate) fn memory_bytes() -> u64 {
    Memory::look().allowed()
}
