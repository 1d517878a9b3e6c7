//! The journal: one directory per attempt, which outlives crashes of the worker and of its machine.
//!
//! ```text
//! attempts/<attempt>/attempt.json   what the attempt is, and how far it came
//!                    stdin          its input, checked against its digest before use
//!                    proof          the proof, fsynced before attempt.json says that it is there
//! ```
//! What a crash leaves, and what [`Journal::open`] makes of it:
//! - a directory without `attempt.json` (before the first write was done): as if the attempt had never come;
//! - an unfinished temporary file: the former `attempt.json` counts;
//! - `<attempt>.gone` (while it was being forgotten): forgotten;
//! - a proof that `attempt.json` does not speak of yet: it is made again, since nobody was told of it.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use network_lib::{
    AttemptId, Digest, Fault, Hasher, crash_point,
    protocol::{Assignment, Execution},
};
use serde::{Deserialize, Serialize};

use crate::durable;

/// How far an attempt came.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// The coordinator was told that it is here.
    Received,
    /// A prover was given it.
    Proving,
    /// Its proof is on disk.
    Proved {
        /// Digest of the proof's bytes.
        digest: Digest,
        /// Size of the proof in bytes.
        size: u64,
    },
    /// It failed, and the coordinator may not know yet.
    Failed(Fault),
}

/// What the journal knows of an attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// What was asked for. Its addresses are capabilities that may have expired.
    pub assignment: Assignment,
    /// How far it came.
    pub stage: Stage,
    /// What executing the program showed, once known.
    #[serde(default)]
    pub execution: Option<Execution>,
}

impl Record {
    /// The attempt.
    pub const fn attempt(&self) -> AttemptId {
        self.assignment.attempt
    }
}

/// Where the files of an attempt lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttemptFiles {
    /// The attempt's directory.
    pub directory: PathBuf,
    /// The input.
    pub stdin: PathBuf,
    /// The proof.
    pub proof: PathBuf,
}

/// Why the journal could not be read or written.
#[derive(Debug, thiserror::Error)]
#[error("could not {action} at {}", path.display())]
pub struct JournalError {
    action: &'static str,
    path: PathBuf,
    #[source]
    source: io::Error,
}

impl JournalError {
    fn at<'a>(action: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> Self + 'a {
        move |source| Self { action, path: path.to_owned(), source }
    }
}

const RECORD: &str = "attempt.json";
const GONE: &str = "gone";
const UNREADABLE: &str = "unreadable";

/// The journal. Clones share it; its methods block on the disk, so call them off the async runtime.
#[derive(Debug, Clone)]
pub struct Journal {
    root: Arc<Path>,
}

impl Journal {
    /// Opens the journal at `root` and tidies up what a crash left. Returns the attempts in the order of their ids.
    ///
    /// A proof whose bytes are not what the journal says is made again. A record that cannot be read is put aside
    /// under `<attempt>.unreadable` and never deleted, since a proof may lie beside it.
    ///
    /// # Errors
    /// When the directory cannot be read or tidied.
    pub fn open(root: &Path) -> Result<(Self, Vec<Record>), JournalError> {
        durable::create_directory(root).map_err(JournalError::at("create the journal", root))?;
        let journal = Self { root: root.into() };
        let entries = fs::read_dir(root).and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect());
        let paths: Vec<PathBuf> = entries.map_err(JournalError::at("list the journal", root))?;
        // First, since recovering an attempt may forget it.
        for path in paths.iter().filter(|path| path.extension().is_some_and(|extension| extension == GONE)) {
            fs::remove_dir_all(path).map_err(JournalError::at("remove a forgotten attempt", path))?;
        }
        let mut records = Vec::new();
        for path in &paths {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if let Ok(attempt) = name.parse::<AttemptId>() {
                records.extend(journal.recover(attempt)?);
            }
        }
        records.sort_by_key(Record::attempt);
        Ok((journal, records))
    }

    fn recover(&self, attempt: AttemptId) -> Result<Option<Record>, JournalError> {
        let files = self.files(attempt);
        let path = files.directory.join(RECORD);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.forget(attempt)?;
                return Ok(None);
            }
            Err(source) => return Err(JournalError::at("read an attempt", &path)(source)),
        };
        let mut record = match serde_json::from_slice::<Record>(&bytes) {
            Ok(record) if record.attempt() == attempt => record,
            unreadable => {
                let aside = files.directory.with_extension(UNREADABLE);
                tracing::error!(
                    attempt.id = %attempt,
                    reason = %unreadable.err().map_or_else(|| "another attempt's record".to_owned(), |e| e.to_string()),
                    "An attempt in the journal cannot be read; it was put aside at {}", aside.display()
                );
                fs::rename(&files.directory, &aside).map_err(JournalError::at("put aside an attempt", &aside))?;
                return Ok(None);
            }
        };
        remove_unfinished(&files.directory).map_err(JournalError::at("tidy an attempt", &files.directory))?;
        if let Stage::Proved { digest, size } = record.stage
            && !holds(&files.proof, digest, size).map_err(JournalError::at("read a proof", &files.proof))?
        {
            tracing::warn!(attempt.id = %attempt, "A proof on disk is damaged or missing and will be made again");
            record.stage = Stage::Received;
            self.write(&record)?;
        }
        Ok(Some(record))
    }

    /// The directory of all attempts.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where the files of `attempt` lie, whether or not it is in the journal.
    pub fn files(&self, attempt: AttemptId) -> AttemptFiles {
        let directory = self.root.join(attempt.to_string());
        AttemptFiles { stdin: directory.join("stdin"), proof: directory.join("proof"), directory }
    }

    /// Writes `record` over the former one of its attempt. Durable when it returns; before a record says
    /// [`Stage::Proved`], the proof itself is made durable and its size compared.
    ///
    /// # Errors
    /// When the disk refuses, or the proof is not there in the size that the record says. The former record counts then.
    ///
    /// # Panics
    /// Never: a record is always writable as JSON.
    pub fn write(&self, record: &Record) -> Result<(), JournalError> {
        let files = self.files(record.attempt());
        if !files.directory.is_dir() {
            durable::create_directory(&files.directory)
                .and_then(|()| durable::sync_directory(&self.root))
                .map_err(JournalError::at("create an attempt", &files.directory))?;
        }
        if let Stage::Proved { size, .. } = record.stage {
            crash_point!("wk.prover_done_before_fsync");
            make_durable(&files.proof, size).map_err(JournalError::at("make a proof durable", &files.proof))?;
            crash_point!("wk.after_fsync_before_journal");
        }
        let path = files.directory.join(RECORD);
        let bytes = serde_json::to_vec_pretty(record).expect("a record has only text keys");
        durable::write(&path, &bytes).map_err(JournalError::at("write an attempt", &path))
    }

    /// Forgets `attempt` with all its files. Repeating it is harmless.
    ///
    /// A crash midway leaves the attempt either whole or forgotten.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn forget(&self, attempt: AttemptId) -> Result<(), JournalError> {
        let directory = self.files(attempt).directory;
        let gone = directory.with_extension(GONE);
        if gone.exists() {
            fs::remove_dir_all(&gone).map_err(JournalError::at("remove a forgotten attempt", &gone))?;
        }
        match fs::rename(&directory, &gone) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(source) => return Err(JournalError::at("forget an attempt", &directory)(source)),
        }
        durable::sync_directory(&self.root).map_err(JournalError::at("forget an attempt", &directory))?;
        crash_point!("wk.after_forget_before_delete");
        fs::remove_dir_all(&gone).map_err(JournalError::at("remove a forgotten attempt", &gone))
    }
}

fn make_durable(path: &Path, size: u64) -> io::Result<()> {
    let file = File::open(path)?;
    let actual = file.metadata()?.len();
    if actual != size {
        return Err(io::Error::other(format!("the file has {actual} bytes, the prover spoke of {size}")));
    }
    file.sync_all()?;
    path.parent().map_or(Ok(()), durable::sync_directory)
}

fn remove_unfinished(directory: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(durable::TEMPORARY_PREFIX) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Whether the file at `path` has this size and digest. A missing file has not.
pub(crate) fn holds(path: &Path, digest: Digest, size: u64) -> io::Result<bool> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    if file.metadata()?.len() != size {
        return Ok(false);
    }
    let mut hasher = Hasher::default();
    io::copy(&mut file, &mut hasher)?;
    Ok(hasher.digest() == digest)
}

#[cfg(test)]
mod tests;
