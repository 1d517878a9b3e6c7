//! What the machine itself can do: no figure can be better than this.

use std::{
    fs::File,
    io::Write as _,
    path::Path,
    time::{Duration, Instant},
};

use network_lib::Digest;
use serde::Serialize;

use crate::{clock, process, report::mib};

/// Writes that are timed.
const SYNCS: usize = 100;

/// What is hashed and written to find the rates.
const SAMPLE: usize = 128 << 20;
const PIECE: usize = 1 << 20;
const DISK_SAMPLE: usize = 256 << 20;

/// What the machine itself can do.
#[derive(Debug, Serialize)]
pub(crate) struct Machine {
    /// Processors that this process may use.
    processors: usize,
    /// The digest that every upload goes through, in a second of CPU time.
    digest_mib_per_second: f64,
    /// One small append and its fsync: what a commit cannot go below.
    fsync_ms: f64,
    /// A large file, written and synced.
    disk_mib_per_second: f64,
}

impl Machine {
    /// In one line.
    pub(crate) fn line(&self) -> String {
        format!(
            "{} processors; alone: digest {:.0} MiB/s, append+fsync {:.2} ms (median), write+fsync {:.0} MiB/s",
            self.processors, self.digest_mib_per_second, self.fsync_ms, self.disk_mib_per_second
        )
    }
}

/// Finds out what the machine can do, on the disk of this directory.
pub(crate) fn look(directory: &Path) -> anyhow::Result<Machine> {
    let piece = vec![0x5a; PIECE];
    let began = process::own_cpu()?;
    for _ in 0..SAMPLE / PIECE {
        std::hint::black_box(Digest::of(std::hint::black_box(&piece)));
    }
    let hashed = process::own_cpu()?.saturating_sub(began);
    let mut file = tempfile::tempfile_in(directory)?;
    let mut syncs = (0..SYNCS).map(|_| append(&mut file)).collect::<Result<Vec<_>, _>>()?;
    syncs.sort_unstable();
    let mut file = tempfile::tempfile_in(directory)?;
    let began = clock::now();
    for _ in 0..DISK_SAMPLE / PIECE {
        file.write_all(&piece)?;
    }
    file.sync_all()?;
    Ok(Machine {
        processors: std::thread::available_parallelism()?.get(),
        digest_mib_per_second: mib(SAMPLE as u64) / hashed.as_secs_f64(),
        fsync_ms: syncs[SYNCS / 2].as_secs_f64() * 1e3,
        disk_mib_per_second: rate(DISK_SAMPLE, began),
    })
}

fn append(file: &mut File) -> std::io::Result<Duration> {
    let began = clock::now();
    file.write_all(&[0x5a; 4096])?;
    file.sync_all()?;
    Ok(began.elapsed())
}

fn rate(bytes: usize, began: Instant) -> f64 {
    mib(bytes as u64) / began.elapsed().as_secs_f64()
}
