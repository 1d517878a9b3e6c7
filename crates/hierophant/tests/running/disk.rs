//! A disk that fills up: nothing that was acknowledged is lost, and everything goes on once there is room.

use std::{
    fs::{self, File},
    io::{self, BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
};

use network_lib::{ArtifactId, ArtifactKind};
use rustix::process::Signal;

use crate::hierophant::{Hierophant, arguments, proof};

const MIB: usize = 1 << 20;

/// A small disk of its own, in a mount namespace that a process holds.
struct Disk {
    holder: Child,
    mount: PathBuf,
    /// The mount as it is seen from here.
    seen: PathBuf,
    _directory: tempfile::TempDir,
}

impl Disk {
    /// `None`, loudly, where this may not be done.
    fn mount(options: &str) -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let mount = directory.path().join("disk");
        fs::create_dir(&mount).unwrap();
        let script = "mount -t tmpfs -o \"$1\" tmpfs \"$2\" && echo mounted && read -r _";
        let mut holder = Command::new("unshare")
            .args(["-m", "sh", "-c", script, "sh", options])
            .arg(&mount)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let mut said = String::new();
        BufReader::new(holder.stdout.take().unwrap()).read_line(&mut said).unwrap();
        if said != "mounted\n" {
            drop(holder.wait());
            assert!(std::env::var_os("CI").is_none_or(|value| value != "true"), "a small disk cannot be mounted here");
            // Past the test's capture, which shows nothing of what succeeds.
            let words = "SKIPPED: a small disk cannot be mounted here, so a full disk is NOT tested; run this as root";
            let mut loudly = io::stderr();
            writeln!(loudly, "{words}").unwrap();
            return None;
        }
        let seen = PathBuf::from(format!("/proc/{}/root{}", holder.id(), mount.display()));
        Some(Self { holder, mount, seen, _directory: directory })
    }

    /// Starts the program with its data on this disk.
    fn start(&self, settings: &str) -> Hierophant {
        self.try_start(settings).unwrap_or_else(|(status, said)| panic!("it ended ({status}):\n{said}"))
    }

    fn try_start(&self, settings: &str) -> Result<Hierophant, (ExitStatus, String)> {
        let mut command = Command::new("nsenter");
        command.args(["-t", &self.holder.id().to_string(), "-m", env!("CARGO_BIN_EXE_hierophant")]);
        command.stdin(Stdio::null());
        arguments(&mut command, &self.mount.join("data"), settings);
        Hierophant::try_run(command, &self.seen.join("data"))
    }

    fn free(&self) -> usize {
        let disk = rustix::fs::statvfs(&self.seen).unwrap();
        usize::try_from(disk.f_bavail * disk.f_frsize).unwrap()
    }

    /// Something else takes so much of the disk that only `left` bytes are free.
    fn fill(&self, left: usize) {
        self.clear();
        let mut file = File::create(self.seen.join("filler")).unwrap();
        while self.free() > left {
            let piece = (self.free() - left).min(MIB);
            if file.write_all(&vec![1; piece]).is_err() {
                break;
            }
        }
    }

    fn clear(&self) {
        drop(fs::remove_file(self.seen.join("filler")));
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // The end of its input is the end of the holder, and of the mount.
        drop(self.holder.stdin.take());
        drop(self.holder.wait());
    }
}

fn input(number: u8) -> ArtifactId {
    ArtifactId::new(ArtifactKind::Stdin, [number; 16])
}

fn unfinished(data: &Path) -> usize {
    fs::read_dir(data.join("artifacts/incoming")).unwrap().count()
}

#[tokio::test]
async fn below_the_watermark_inputs_are_refused_and_proofs_taken_until_there_is_room_again() {
    let Some(disk) = Disk::mount("size=64m") else { return };
    let hierophant = disk.start("[limits]\nkeep_free = '16MiB'");
    assert_eq!(hierophant.upload(input(1), vec![1; MIB]).await.0, 200);

    disk.fill(8 * MIB);
    let (status, words) = hierophant.upload(input(2), vec![2; MIB]).await;
    assert!(status == 504 && words.contains("disk is full"), "{status}: {words}");
    assert_eq!(hierophant.upload(proof(1), vec![3; MIB]).await.0, 200, "work that was accepted is still delivered");

    // Below the reserve for the database.
    disk.fill(3 * MIB);
    let (status, words) = hierophant.upload(proof(2), vec![4; MIB]).await;
    assert!(status == 504 && words.contains("disk is full"), "{status}: {words}");
    assert_eq!(hierophant.download(proof(1)).await.unwrap(), vec![3; MIB]);
    assert!(hierophant.is_healthy().await);

    disk.clear();
    for id in [input(2), proof(2)] {
        assert_eq!(hierophant.upload(id, vec![4; MIB]).await.0, 200, "{id}");
    }
    hierophant.stop();
}

/// Uploads small proofs until one is refused; answers the numbers of those that were taken.
async fn upload_until_refused(hierophant: &Hierophant, from: u32) -> Vec<u32> {
    let mut taken = Vec::new();
    for number in from.. {
        match hierophant.upload(proof(number), number.to_be_bytes().repeat(2000)).await {
            (200, _) => taken.push(number),
            (status, words) => {
                assert_eq!(status, 504, "{words}");
                return taken;
            }
        }
    }
    taken
}

#[tokio::test]
async fn of_a_disk_that_is_full_to_the_last_byte_nothing_acknowledged_is_lost() {
    for options in ["size=32m", "size=32m,nr_inodes=300"] {
        let Some(disk) = Disk::mount(options) else { return };
        let data = disk.seen.join("data");
        let hierophant = disk.start("[limits]\nkeep_free = '0B'");
        let mut taken = Vec::new();
        // The room is used up at different places: by files, by the database, by its log.
        for left in [400_000, 100_000, 20_000, 0] {
            disk.fill(left);
            taken.extend(upload_until_refused(&hierophant, 1000 * (1 + u32::try_from(taken.len()).unwrap())).await);
            for number in &taken {
                assert!(hierophant.download(proof(*number)).await.is_some(), "{number}");
            }
        }
        assert!(!taken.is_empty());
        assert!(hierophant.is_healthy().await, "what is there can be read");

        // Killed and started on the full disk, it ends in words or serves.
        hierophant.signal(Signal::KILL);
        hierophant.end();
        match disk.try_start("[limits]\nkeep_free = '0B'") {
            Ok(hierophant) => hierophant.stop(),
            Err((status, said)) => {
                assert_eq!(status.code(), Some(1), "{said}");
                assert!(said.contains("could not") && !said.contains("panicked"), "{said}");
            }
        }
        disk.clear();
        let hierophant = disk.start("[limits]\nkeep_free = '0B'");
        assert_eq!(unfinished(&data), 0);
        for number in &taken {
            let bytes = hierophant.download(proof(*number)).await;
            assert_eq!(bytes, Some(number.to_be_bytes().repeat(2000)), "{number}");
        }
        if !options.contains("inodes") {
            assert_eq!(hierophant.upload(proof(1), b"proof".to_vec()).await.0, 200);
        }
        hierophant.stop();
    }
}
