//! The server's socket: a name in `/tmp` that the server and its clients agree on, which also means that whatever
//! was there before has to be told from the server that was just started.

use std::{io, path::PathBuf, time::Duration};

use rustix::{
    io::Errno,
    process::{Pid, Signal, getpgid, kill_process, test_kill_process},
};
use tokio::{
    net::UnixStream,
    time::{Instant, sleep},
};

/// Marks the environment of a server that was started here.
pub(crate) const MARK: (&str, &str) = ("HIEROPHANT_GPU_SERVER", "1");

/// How often a socket is looked at.
const LOOK: Duration = Duration::from_millis(50);

/// The socket of the server for `device`.
pub(crate) fn path(device: u32) -> PathBuf {
    sp1_cuda::client::socket_path(device)
}

/// Makes sure that nothing answers for `device`: removes the socket of a server that is gone, ends a server whose
/// prover child is gone, and waits up to `limit` for one that is about to end.
///
/// # Errors
/// Who answers there, and what to do.
pub(crate) async fn clear(device: u32, limit: Duration) -> Result<(), String> {
    let path = path(device);
    let until = Instant::now() + limit;
    let (mut pid, mut last_ended) = (None, None);
    loop {
        let is_left_behind = match UnixStream::connect(&path).await {
            Ok(stream) => {
                pid = peer(&stream);
                // A server listens itself: whoever holds its socket when it is gone is no server.
                pid.is_some_and(is_gone)
            }
            // Somebody listens and accepts nobody: earlier looks still stand in line.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => false,
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => true,
            Err(error) if error.kind() == io::ErrorKind::NotFound => break,
            Err(error) => return Err(format!("cannot look at the socket {}: {error}", path.display())),
        };
        if is_left_behind {
            std::fs::remove_file(&path).map_err(|error| {
                format!("cannot remove the socket {} that an earlier server left: {error}", path.display())
            })?;
            break;
        }
        if let Some(pid) = pid.filter(|&pid| is_orphan(pid) && last_ended != Some(pid)) {
            last_ended = Some(pid);
            let _ = kill_process(pid, Signal::KILL); // it may be gone by now
        }
        if Instant::now() >= until {
            let who = pid.map_or("another process".to_owned(), |pid| format!("process {}", pid.as_raw_nonzero()));
            return Err(format!(
                "{who} already answers at {}: a device has one sp1-gpu-server, so end it or take the device out of \
                 gpu_devices",
                path.display()
            ));
        }
        sleep(LOOK).await;
    }
    // Its memory comes back only when it is gone.
    while last_ended.is_some_and(is_there) && Instant::now() < until {
        sleep(LOOK).await;
    }
    Ok(())
}

/// Connects to the server for `device` as soon as it listens. Waits for ever: the caller knows when the server ended.
///
/// # Errors
/// When it is not the server that was started here that answers.
pub(crate) async fn connect(device: u32) -> Result<UnixStream, String> {
    let path = path(device);
    loop {
        match UnixStream::connect(&path).await {
            Ok(stream) => {
                let group = peer(&stream).and_then(|pid| getpgid(Some(pid)).ok());
                if group.is_some() && group == getpgid(None).ok() {
                    return Ok(stream);
                }
                return Err(format!("what answers at {} is not the server that was started here", path.display()));
            }
            Err(error) => match error.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused | io::ErrorKind::WouldBlock => {
                    sleep(LOOK).await;
                }
                _ => return Err(format!("cannot connect to {}: {error}", path.display())),
            },
        }
    }
}

fn peer(stream: &UnixStream) -> Option<Pid> {
    Pid::from_raw(stream.peer_cred().ok()?.pid()?)
}

/// Whether this is a server that was started here, by a prover child that is gone. The child led its group, and a
/// number that names a group is not given to another process.
fn is_orphan(pid: Pid) -> bool {
    let environment = std::fs::read(format!("/proc/{}/environ", pid.as_raw_nonzero())).unwrap_or_default();
    let mark = format!("{}={}", MARK.0, MARK.1);
    let is_marked = environment.split(|&byte| byte == 0).any(|variable| variable == mark.as_bytes());
    is_marked && getpgid(Some(pid)).is_ok_and(|leader| !is_there(leader))
}

/// Whether this process is known not to run any more. `/proc` may hide the processes of others.
fn is_gone(pid: Pid) -> bool {
    !is_there(pid) && test_kill_process(pid) != Err(Errno::PERM)
}

/// Whether this process runs; one that only waits to be reaped does not.
fn is_there(pid: Pid) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}
