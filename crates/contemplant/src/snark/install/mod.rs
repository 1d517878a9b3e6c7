//! Installing circuit files: fetched, checked, unpacked beside their place, and moved there whole.
//!
//! ```text
//! <where SP1 looks>/v6.1.0                       the installation, with .complete in it
//! <where SP1 looks>/v6.1.0.staging/archive.part  what was fetched so far; a second call goes on with it
//! <where SP1 looks>/v6.1.0.staging/unpacked      what will become the installation
//! <where SP1 looks>/.v6.1.0.lock                 held meanwhile; SP1's own installer takes the same
//! ```
//!
//! A crash leaves the staging directory and never half an installation: the marker is written after everything else is
//! on disk, and the whole directory gets its name in one step.

mod download;

use std::{
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
    process::Command,
};

use bytesize::ByteSize;
use sha2::{Digest as _, Sha256};
use url::Url;

pub use self::download::DownloadError;
use super::{CIRCUITS, COMPLETE, Snark, readiness::Files};
use crate::{durable, machine::Room};

/// An archive unpacks to less than this many times its size. An estimate: of older releases it is known that Plonk's
/// archive had 1.15 GB (v3) and its files 5.13 GB (v2).
const UNPACKED_PER_ARCHIVE: u64 = 5;

/// What is to be installed, and from where.
#[derive(Debug, Clone)]
pub struct Order {
    /// Which circuit files.
    pub snark: Snark,
    /// Where SP1 looks for them.
    pub directory: Option<PathBuf>,
    /// Where the archive is.
    pub from: Origin,
    /// What SHA-256 it must have.
    pub sha256: Option<[u8; 32]>,
}

/// Where an archive is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// On a web server.
    Web(Url),
    /// On this machine.
    File(PathBuf),
}

impl Origin {
    /// An address that begins with `http://` or `https://`, or else a path.
    ///
    /// # Errors
    /// When the address is none.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.starts_with("http://") || text.starts_with("https://") {
            Url::parse(text).map(Self::Web).map_err(|error| format!("{text:?} is not an address: {error}"))
        } else if text.contains("://") {
            Err(format!("{text:?}: give a path, or an address that begins with http:// or https://"))
        } else {
            Ok(Self::File(text.into()))
        }
    }
}

/// A SHA-256 in hexadecimal digits.
///
/// # Errors
/// When it is none.
pub fn parse_sha256(text: &str) -> Result<[u8; 32], String> {
    let mut digest = [0; 32];
    let problem = || format!("{text:?} is not a SHA-256: give its 64 hexadecimal digits");
    if text.len() != 64 || !text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return Err(problem());
    }
    for (byte, at) in digest.iter_mut().zip((0..64).step_by(2)) {
        *byte = u8::from_str_radix(&text[at..at + 2], 16).map_err(|_| problem())?;
    }
    Ok(digest)
}

/// Why nothing was installed.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// Nothing says where SP1 looks.
    #[error("nothing says where circuit files belong: set HOME, or SP1_{}_CIRCUIT_PATH", .0.name().to_uppercase())]
    NoPlace(Snark),
    /// Another process is at it.
    #[error("another installation is at work in {}: wait for it, or stop it", .0.display())]
    Locked(PathBuf),
    /// The disk is too small.
    #[error(
        "the disk of {} has {} free and this takes up to {}: make room, or set SP1_{}_CIRCUIT_PATH to a larger disk",
        path.display(), ByteSize::b(*free), ByteSize::b(*needs), snark.name().to_uppercase()
    )]
    Room {
        /// Which circuit files.
        snark: Snark,
        /// Where they belong.
        path: PathBuf,
        /// What is free, in bytes.
        free: u64,
        /// What it takes, in bytes.
        needs: u64,
    },
    /// The archive did not come.
    #[error("the archive could not be fetched; what came so far is kept, the same command goes on with it")]
    Download(#[source] DownloadError),
    /// The archive is another one.
    #[error("the archive has the SHA-256 {actual}, not {expected}: nothing was unpacked")]
    Digest {
        /// What was asked for.
        expected: String,
        /// What it has.
        actual: String,
    },
    /// It is no archive, or the disk is full.
    #[error("tar could not unpack {}: {words} (if it is damaged, remove it and give the same command again)", archive.display())]
    Unpack {
        /// The archive.
        archive: PathBuf,
        /// What tar says.
        words: String,
    },
    /// It is the archive of something else.
    #[error("the archive has no {file}, so it does not hold {} circuit files: nothing was installed", snark.name())]
    Foreign {
        /// Which circuit files were expected.
        snark: Snark,
        /// What is missing.
        file: &'static str,
    },
    /// The disk refuses.
    #[error("cannot use {}", path.display())]
    Disk {
        /// The file or directory.
        path: PathBuf,
        /// What the operating system says.
        #[source]
        source: io::Error,
    },
}

fn disk(path: &Path) -> impl FnOnce(io::Error) -> InstallError {
    let path = path.to_owned();
    move |source| InstallError::Disk { path, source }
}

/// Installs circuit files, and says meanwhile what it does. What is installed already is left alone.
///
/// # Errors
/// [`InstallError`]; what was there before is then as it was, and a download is kept to go on with.
pub async fn install(order: &Order, say: &mut (dyn FnMut(&str) + Send)) -> Result<(), InstallError> {
    let target = order.directory.as_deref().ok_or(InstallError::NoPlace(order.snark))?;
    let name = order.snark.name();
    if Files::look(order.snark, target) == Files::Whole {
        say(&format!("The {name} circuit files are installed at {} already; nothing is done.", target.display()));
        return Ok(());
    }
    let parent = target.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(parent).map_err(disk(parent))?;
    let _lock = lock(parent)?;
    let staging = parent.join(format!("{CIRCUITS}.staging"));
    fs::create_dir_all(&staging).map_err(disk(&staging))?;

    let archive = match &order.from {
        Origin::File(path) => {
            let size = fs::metadata(path).map_err(disk(path))?.len();
            say(&format!("Installing {name} circuit files from {} ({}).", path.display(), ByteSize::b(size)));
            check_room(order.snark, parent, size.saturating_mul(UNPACKED_PER_ARCHIVE))?;
            path.clone()
        }
        Origin::Web(url) => {
            say(&format!("Fetching {name} circuit files from {url} to {}.", staging.display()));
            let part = staging.join("archive.part");
            let has_room = |left: u64, total: u64| {
                check_room(order.snark, parent, total.saturating_mul(UNPACKED_PER_ARCHIVE).saturating_add(left))
            };
            download::fetch(url, &part, &has_room, say).await?;
            part
        }
    };
    let actual = sha256(&archive).map_err(disk(&archive))?;
    say(&format!("The archive's SHA-256 is {}.", hex(&actual)));
    if let Some(expected) = order.sha256.filter(|expected| *expected != actual) {
        if matches!(order.from, Origin::Web(_)) {
            fs::remove_file(&archive).map_err(disk(&archive))?;
        }
        return Err(InstallError::Digest { expected: hex(&expected), actual: hex(&actual) });
    }
    if order.sha256.is_none() {
        say("It is compared with nothing: SP1 publishes no digests. Give --sha256 to have it checked.");
    }

    let unpacked = staging.join("unpacked");
    say(&format!("Unpacking it to {}.", unpacked.display()));
    unpack(&archive, &unpacked)?;
    if let Some(file) = order.snark.missing_file(&unpacked) {
        remove(&unpacked)?;
        if matches!(order.from, Origin::Web(_)) {
            fs::remove_file(&archive).map_err(disk(&archive))?;
        }
        return Err(InstallError::Foreign { snark: order.snark, file });
    }
    if target.exists() {
        say(&format!("Replacing what is at {}: it was not whole.", target.display()));
    }
    publish(&unpacked, target).map_err(disk(target))?;
    remove(&staging)?;
    say(&format!("Installed the {name} circuit files at {}.", target.display()));
    Ok(())
}

fn lock(parent: &Path) -> Result<File, InstallError> {
    let path = parent.join(format!(".{CIRCUITS}.lock"));
    let lock = File::options().create(true).truncate(false).write(true).open(&path).map_err(disk(&path))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(InstallError::Locked(parent.to_owned())),
        Err(TryLockError::Error(source)) => Err(InstallError::Disk { path, source }),
    }
}

fn check_room(snark: Snark, path: &Path, needs: u64) -> Result<(), InstallError> {
    match Room::look(path) {
        Some(Room { free, .. }) if free < needs => {
            Err(InstallError::Room { snark, path: path.to_owned(), free, needs })
        }
        _ => Ok(()),
    }
}

fn sha256(path: &Path) -> io::Result<[u8; 32]> {
    let mut hasher = Sha256::new();
    io::copy(&mut File::open(path)?, &mut hasher)?;
    Ok(hasher.finalize().into())
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        // A string takes anything.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Unpacks with the system's tar, as SP1 does, but for absolute paths, which tar then makes relative.
fn unpack(archive: &Path, unpacked: &Path) -> Result<(), InstallError> {
    let unpackable = |words| InstallError::Unpack { archive: archive.to_owned(), words };
    remove(unpacked)?;
    fs::create_dir(unpacked).map_err(disk(unpacked))?;
    let output = Command::new("tar").args(["--no-same-owner", "-xzf"]).arg(archive).arg("-C").arg(unpacked).output();
    let output = output.map_err(|error| unpackable(format!("tar cannot be started: {error}")))?;
    if output.status.success() {
        Ok(())
    } else {
        remove(unpacked)?;
        Err(unpackable(crate::artifacts::readable(&output.stderr)))
    }
}

/// Everything on disk first, then the marker, then the name.
fn publish(unpacked: &Path, target: &Path) -> io::Result<()> {
    rustix::fs::syncfs(File::open(unpacked)?)?;
    let marker = File::create(unpacked.join(COMPLETE))?;
    marker.sync_all()?;
    durable::sync_directory(unpacked)?;
    if target.exists() {
        fs::remove_dir_all(target)?;
    }
    fs::rename(unpacked, target)?;
    durable::sync_directory(target.parent().unwrap_or(Path::new(".")))
}

fn remove(directory: &Path) -> Result<(), InstallError> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(disk(directory)(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_an_address_or_a_path() {
        assert_eq!(Origin::parse("/mnt/x.tar.gz"), Ok(Origin::File("/mnt/x.tar.gz".into())));
        assert!(matches!(Origin::parse("https://mirror/x.tar.gz"), Ok(Origin::Web(_))));
        for wrong in ["ftp://mirror/x", "https://"] {
            assert!(Origin::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_digest_is_64_hexadecimal_digits() {
        let digest = parse_sha256(&"0aFF".repeat(16)).expect("fine");
        assert_eq!((digest[0], digest[1], hex(&digest)), (0x0a, 0xff, "0aff".repeat(16)));
        for wrong in ["", "0a", &"0g".repeat(32), &"é".repeat(32)] {
            assert!(parse_sha256(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_disk_that_is_too_small_is_an_error_with_both_numbers() {
        let directory = tempfile::tempdir().expect("a directory");
        let error = check_room(Snark::Plonk, directory.path(), u64::MAX).expect_err("too small");
        assert!(error.to_string().contains("SP1_PLONK_CIRCUIT_PATH"), "{error}");
        assert!(check_room(Snark::Plonk, directory.path(), 1).is_ok());
    }
}
