//! What is kept on disk, and how much.

use std::{collections::BTreeMap, path::PathBuf};

use bytesize::ByteSize;

use super::raw::Reader;

/// What is kept on disk, and how much.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StorageConfig {
    /// Identity, journal and programs. One contemplant at a time.
    pub state_directory: PathBuf,
    /// Size of the programs that are kept for later requests.
    pub max_program_cache_bytes: ByteSize,
    /// Size of the inputs that are fetched while the attempts before them are still being made.
    pub max_input_cache_bytes: ByteSize,
    /// Room that an attempt must leave on the disk.
    pub min_free_disk_bytes: ByteSize,
}

impl StorageConfig {
    pub(super) fn read(reader: &mut Reader, environment: &BTreeMap<String, String>) -> Self {
        let state_directory =
            reader.text("state_directory").map(PathBuf::from).or_else(|| default_directory(environment));
        if state_directory.is_none() && reader.value("state_directory").is_none() {
            reader.problem(
                "state_directory",
                "must be given, since neither XDG_STATE_HOME nor HOME says where it could be",
            );
        }
        Self {
            state_directory: state_directory.unwrap_or_default(),
            max_program_cache_bytes: reader.bytes("max_program_cache_bytes").unwrap_or(ByteSize::gib(2)),
            max_input_cache_bytes: reader.bytes("max_input_cache_bytes").unwrap_or(ByteSize::gib(8)),
            min_free_disk_bytes: reader.bytes("min_free_disk_bytes").unwrap_or(ByteSize::gib(1)),
        }
    }
}

fn default_directory(environment: &BTreeMap<String, String>) -> Option<PathBuf> {
    let of = |name: &str| environment.get(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let base = of("XDG_STATE_HOME").filter(|path| path.is_absolute());
    Some(base.or_else(|| Some(of("HOME")?.join(".local/state")))?.join("contemplant"))
}
