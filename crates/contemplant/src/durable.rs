//! Files that after a crash are either whole or absent.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    os::unix::fs::DirBuilderExt as _,
    path::Path,
};

/// Replaces `path` by `bytes`: a temporary file beside it, fsync, rename, fsync of the directory.
///
/// A crash midway leaves the former file, and perhaps a temporary one whose name starts with [`TEMPORARY_PREFIX`].
pub(crate) fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new().prefix(TEMPORARY_PREFIX).tempfile_in(directory)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    sync_directory(directory)
}

/// How the name of an unfinished file starts.
pub(crate) const TEMPORARY_PREFIX: &str = ".unfinished-";

/// Makes creations, renames and removals inside `directory` durable.
pub(crate) fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// Creates `path` and its parents, readable by this user only, where they are missing.
pub(crate) fn create_directory(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}
