//! Downloading the server: only where the operator allows it, and nothing is run or kept whose digest is another than
//! the operator gave.

use std::{
    fs::{self, File},
    io::{self, Read as _, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use sha2::{Digest as _, Sha256};

use crate::{SP1_VERSION, find::NAME};

/// How long the connection may take, and then each read.
const PATIENCE: Duration = Duration::from_mins(1);
/// Most bytes that are downloaded.
const MAX_BYTES: u64 = 4 << 30;

/// The operator's permission to download the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Download {
    /// A `.tar.gz` that holds the server, or the server itself; without it SP1's own release.
    pub url: Option<String>,
    /// SHA-256 of what is downloaded.
    pub sha256: [u8; 32],
    /// Where servers are kept, each in a folder with its digest for a name.
    pub directory: PathBuf,
}

impl Download {
    fn folder(&self) -> PathBuf {
        self.directory.join(hex::encode(self.sha256))
    }

    /// Where the server is once it was downloaded.
    pub(crate) fn program(&self) -> PathBuf {
        self.folder().join(NAME)
    }

    fn address(&self) -> String {
        self.url.clone().unwrap_or_else(|| {
            format!(
                "https://github.com/succinctlabs/sp1/releases/download/v{SP1_VERSION}/sp1_gpu_server_v{SP1_VERSION}_x86_64.tar.gz"
            )
        })
    }
}

/// Downloads the server, unless another process has done so meanwhile. The folder is there only once all is checked.
///
/// # Errors
/// Why there is still no server.
pub(crate) async fn install(download: &Download) -> Result<PathBuf, String> {
    let address = download.address();
    let failed = |error: &dyn std::fmt::Display| format!("cannot download {NAME} from {address}: {error}");
    let directory = download.directory.clone();
    let lock = tokio::task::spawn_blocking(move || lock(&directory)).await.map_err(|error| failed(&error))?;
    let _lock = lock.map_err(|error| failed(&error))?;
    if download.program().is_file() {
        return Ok(download.program());
    }
    // Names of their own, under the lock: what a killed process leaves there is overwritten by the next.
    let (archive, folder) = (download.directory.join("archive"), download.directory.join("unpacking"));
    let installed = match fetch(&address, &archive).await {
        Ok(()) => {
            let (download, shown) = (download.clone(), address.clone());
            let (archive, folder) = (archive.clone(), folder.clone());
            let unpacked = tokio::task::spawn_blocking(move || unpack_checked(&archive, &folder, &download, &shown));
            unpacked.await.map_err(|error| failed(&error)).flatten()
        }
        Err(error) => Err(failed(&error)),
    };
    let _ = fs::remove_file(archive);
    let _ = fs::remove_dir_all(folder);
    installed
}

/// Unpacks `archive` by way of `folder`, if it has the digest that it should have.
fn unpack_checked(archive: &Path, folder: &Path, download: &Download, shown: &str) -> Result<PathBuf, String> {
    let digest = digest(archive).map_err(|error| format!("cannot read what {shown} served: {error}"))?;
    if digest != download.sha256 {
        let (actual, expected) = (hex::encode(digest), hex::encode(download.sha256));
        return Err(format!(
            "what {shown} serves has the SHA-256 {actual}, not {expected}, and was thrown away: correct \
             gpu_server_download.sha256 if you trust it"
        ));
    }
    unpack(archive, folder, download).map_err(|error| format!("cannot unpack what {shown} serves: {error}"))?;
    Ok(download.program())
}

/// Makes the directory, and takes the right to write there. It comes back when the file is closed.
fn lock(directory: &Path) -> io::Result<File> {
    fs::create_dir_all(directory)?;
    let file = File::options().create(true).truncate(false).write(true).open(directory.join("lock"))?;
    file.lock()?;
    Ok(file)
}

async fn fetch(address: &str, archive: &Path) -> Result<(), String> {
    let client = reqwest::Client::builder().connect_timeout(PATIENCE).read_timeout(PATIENCE).build();
    let client = client.map_err(|error| error.to_string())?;
    let response = client.get(address).send().await.and_then(reqwest::Response::error_for_status);
    let mut response = response.map_err(|error| chain(&error))?;
    let mut file = File::create(archive).map_err(|error| error.to_string())?;
    let mut length = 0;
    while let Some(bytes) = response.chunk().await.map_err(|error| chain(&error))? {
        length += u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        if length > MAX_BYTES {
            return Err(format!("it is longer than {MAX_BYTES} bytes"));
        }
        file.write_all(&bytes).map_err(|error| error.to_string())?;
    }
    Ok(())
}

/// The text of an error with all its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |error| error.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

fn digest(path: &Path) -> io::Result<[u8; 32]> {
    let mut hasher = Sha256::new();
    let mut file = File::open(path)?;
    let mut chunk = vec![0; 1 << 20];
    while let length @ 1.. = file.read(&mut chunk)? {
        hasher.update(&chunk[..length]);
    }
    Ok(hasher.finalize().into())
}

fn unpack(archive: &Path, folder: &Path, download: &Download) -> io::Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder)?;
    }
    fs::create_dir(folder)?;
    let program = folder.join(NAME);
    let mut magic = [0; 2];
    File::open(archive)?.read_exact(&mut magic)?;
    if magic == [0x1f, 0x8b] {
        let mut tar = Command::new("tar");
        tar.arg("-xzf").arg(archive).arg("-C").arg(folder);
        let output = tar.stdin(Stdio::null()).output()?;
        if !output.status.success() {
            return Err(io::Error::other(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
        }
        if !program.is_file() {
            return Err(io::Error::other(format!("the archive holds no {NAME} at its top")));
        }
    } else {
        fs::copy(archive, &program)?;
    }
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
    File::open(&program)?.sync_all()?;
    fs::rename(folder, download.folder())
}
