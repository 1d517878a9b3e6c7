//! Finding the server: where the operator says, or where it usually is, and only of the right version.

use std::{
    env, io,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _},
    process::Command,
    time::timeout,
};

use crate::{Download, SP1_VERSION, download};

/// The program's name.
pub(crate) const NAME: &str = "sp1-gpu-server";

/// How long a server may take to say its version. A doctor, who waits ten seconds, still hears of two that hang.
const VERSION_LIMIT: Duration = Duration::from_secs(4);
/// Most bytes that are read of that.
const MAX_BYTES: usize = 64 << 10;

/// The server to run: `named` if it is given, else the first of the right version in the `PATH`, in `~/.sp1/bin`, or
/// downloaded earlier; and if there is none, one that is downloaded now, where that is allowed.
///
/// # Errors
/// Why there is none, and what to do.
pub(crate) async fn find(named: Option<&Path>, download: Option<&Download>) -> Result<PathBuf, String> {
    if let Some(path) = named {
        check(path).await?;
        return Ok(path.to_owned());
    }
    let search = env::var_os("PATH").unwrap_or_default();
    let mut places: Vec<PathBuf> = env::split_paths(&search).map(|folder| folder.join(NAME)).collect();
    places.extend(env::var_os("HOME").map(|home| Path::new(&home).join(".sp1/bin").join(NAME)));
    places.extend(download.map(Download::program));
    let mut refused = Vec::new();
    for place in places.into_iter().filter(|place| place.is_file()) {
        match check(&place).await {
            Ok(()) => return Ok(place),
            Err(why) => refused.push(why),
        }
    }
    if let Some(download) = download {
        let program = download::install(download).await?;
        check(&program).await?;
        return Ok(program);
    }
    if let Some(why) = refused.into_iter().next() {
        return Err(why);
    }
    Err(format!("there is no {NAME} in the PATH or in ~/.sp1/bin: {}", remedy()))
}

fn remedy() -> String {
    format!("install that of SP1 {SP1_VERSION}, name it by gpu_server, or allow its download by gpu_server_download")
}

/// The server that would be run, without downloading anything. For doctors.
///
/// # Errors
/// Why there is none, and what to do.
pub async fn find_installed(named: Option<&Path>) -> Result<PathBuf, String> {
    find(named, None).await
}

/// Refuses a server of another version than the one that is linked. It is asked in the process group of this process,
/// so that whatever hangs there ends with this process, even when that is killed.
async fn check(path: &Path) -> Result<(), String> {
    let shown = path.display();
    let cannot_run = |error: io::Error| format!("cannot run {shown}: {error}");
    let mut process = Command::new(path)
        .arg("--version")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(cannot_run)?;
    let (stdout, stderr) = (process.stdout.take(), process.stderr.take());
    let answer = async {
        let (said, complained) = tokio::try_join!(beginning(stdout), beginning(stderr))?;
        Ok((process.wait().await?, said, complained))
    };
    let answer = timeout(VERSION_LIMIT, answer)
        .await
        .map_err(|_| format!("{shown} --version does not end within {} s: {}", VERSION_LIMIT.as_secs(), remedy()))?;
    let (status, said, complained) = answer.map_err(cannot_run)?;
    if said.len() == MAX_BYTES {
        return Err(format!("{shown} --version says far more than a version: {}", remedy()));
    }
    let first_line = |bytes: &[u8]| -> String {
        let text = String::from_utf8_lossy(bytes);
        text.trim().lines().next().unwrap_or_default().chars().take(200).collect()
    };
    if !status.success() {
        return Err(format!(
            "{shown} --version failed ({status}), most likely for want of the NVIDIA driver's libraries: {}",
            first_line(&complained)
        ));
    }
    let version = first_line(&said);
    if version == SP1_VERSION {
        return Ok(());
    }
    Err(format!("{shown} is of SP1 {version:?}, and this contemplant is of SP1 {SP1_VERSION}: {}", remedy()))
}

/// The first bytes of a stream. What is written after that finds it closed, which ends most programs.
async fn beginning(stream: Option<impl AsyncRead + Unpin>) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(stream) = stream {
        stream.take(MAX_BYTES as u64).read_to_end(&mut bytes).await?;
    }
    Ok(bytes)
}
