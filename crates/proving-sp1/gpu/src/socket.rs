//! The server's socket: a name in `/tmp` that the server and its clients agree on, which also means that whatever
//! was there before has to be told from the server that was just started.

use std::{
    io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::{
    io::Errno,
    process::{Pid, Signal, getpgid, getuid, kill_process, test_kill_process},
};
use tokio::{
    net::UnixStream,
    time::{Instant, sleep},
};

use crate::find;

/// Marks the environment of a server that was started here: its value is the device.
pub(crate) const MARK: &str = "HIEROPHANT_GPU_SERVER";

/// How often a socket is looked at.
const LOOK: Duration = Duration::from_millis(50);

/// The socket of the server for `device`.
pub(crate) fn path(device: u32) -> PathBuf {
    sp1_cuda::client::socket_path(device)
}

/// Makes sure that nothing answers for `device`: removes the socket of a server that is gone, ends servers whose
/// prover child is gone, and waits up to `limit` for those that are about to end.
///
/// # Errors
/// Who answers there, and what to do.
pub(crate) async fn clear(device: u32, limit: Duration) -> Result<(), String> {
    let path = path(device);
    let until = Instant::now() + limit;
    let mut pid = None;
    loop {
        let left = Left::by_children(device);
        for orphan in &left.orphans {
            let _ = kill_process(*orphan, Signal::KILL); // it may be gone by now
        }
        let is_free = match UnixStream::connect(&path).await {
            Ok(stream) => {
                pid = peer(&stream);
                // A server listens itself: whoever holds its socket when it is gone is no server.
                pid.is_some_and(is_gone)
            }
            // Somebody listens and accepts nobody: earlier looks still stand in line.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => false,
            Err(error) if matches!(error.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound) => true,
            Err(error) => return Err(format!("cannot look at the socket {}: {error}", path.display())),
        };
        if is_free {
            remove(&path)?;
        }
        let is_late = Instant::now() >= until;
        // Their memory comes back only when they are gone.
        if is_free && (is_late || (left.orphans.is_empty() && !left.is_ending)) {
            return Ok(());
        }
        if is_late {
            let who = pid.map_or("another process".to_owned(), |pid| format!("process {}", pid.as_raw_nonzero()));
            return Err(format!(
                "{who} already answers at {}: a device has one sp1-gpu-server, so end it or take the device out of \
                 gpu_devices",
                path.display()
            ));
        }
        sleep(LOOK).await;
    }
}

/// Removes a socket, if it is there.
fn remove(path: &Path) -> Result<(), String> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(format!("cannot remove the socket {}: {error}", path.display()))
        }
        Ok(()) | Err(_) => Ok(()),
    }
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

/// Takes the server for `device` off its socket, to which this process is connected: now another one can have it.
///
/// # Errors
/// When that is not possible.
pub(crate) fn give_up(device: u32) -> Result<(), String> {
    remove(&path(device))
}

fn peer(stream: &UnixStream) -> Option<Pid> {
    Pid::from_raw(stream.peer_cred().ok()?.pid()?)
}

/// Servers whose prover child is gone.
struct Left {
    /// Started here for the device.
    orphans: Vec<Pid>,
    /// Some end: a process that ends says no more for which device it was, and may hold its memory for seconds.
    is_ending: bool,
}

impl Left {
    /// Looks. The child led its server's group, and a number that names a group is not given to another process.
    fn by_children(device: u32) -> Self {
        let mark = format!("{MARK}={device}");
        let mut left = Self { orphans: Vec::new(), is_ending: false };
        let own = getuid().as_raw();
        let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        // Of others nothing can be read, nor ended.
        let processes = processes.filter(|process| process.metadata().is_ok_and(|metadata| metadata.uid() == own));
        for pid in processes.filter_map(|process| Pid::from_raw(process.file_name().to_str()?.parse().ok()?)) {
            // First what takes no lock that a process may hold which hangs. The kernel's own have no group.
            if group(pid).is_none_or(is_there) {
                continue;
            }
            let read = |file: &str| std::fs::read(format!("/proc/{}/{file}", pid.as_raw_nonzero())).unwrap_or_default();
            let environment = read("environ");
            if environment.is_empty() {
                left.is_ending |= read("comm").trim_ascii() == find::NAME.as_bytes();
            } else if environment.split(|&byte| byte == 0).any(|variable| variable == mark.as_bytes()) {
                left.orphans.push(pid);
            }
        }
        left
    }
}

/// Whether this process is known not to run any more. `/proc` may hide the processes of others.
fn is_gone(pid: Pid) -> bool {
    !is_there(pid) && test_kill_process(pid) != Err(Errno::PERM)
}

/// Whether this process runs; one that only waits to be reaped does not.
fn is_there(pid: Pid) -> bool {
    stat(pid).is_some_and(|stat| !stat.starts_with(['Z', 'X']))
}

/// The leader of this process's group, if some thread of it is there: of one that was killed, the first thread is gone
/// before the last one has given its memory back.
fn group(pid: Pid) -> Option<Pid> {
    let stat = stat(pid)?;
    let number = |index| stat.split(' ').nth(index)?.parse::<i32>().ok();
    let is_gone = stat.starts_with(['Z', 'X']) && number(17)? <= 1;
    if is_gone { None } else { Pid::from_raw(number(2)?) }
}

/// What `proc_pid_stat(5)` says of a process, from its state on: the name before that may hold anything.
fn stat(pid: Pid) -> Option<String> {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()?;
    Some(stat.rsplit_once(") ")?.1.to_owned())
}
