//! A disk of one's own that fills up or fails, in a mount namespace that nobody else sees.

use std::{
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
};

use anyhow::Context as _;

use crate::holder::{Holder, run};

const MIB: usize = 1 << 20;

/// A disk. Dropped, it is gone; what runs on it must have ended.
#[derive(Debug)]
pub struct Disk {
    holder: Holder,
    mount: PathBuf,
}

impl Disk {
    /// A small disk in memory at `mount`, a directory that is made.
    ///
    /// # Errors
    /// When this machine does not let it be.
    pub fn small(mount: &Path, mebibytes: usize) -> anyhow::Result<Self> {
        let options = format!("size={mebibytes}m");
        Self::mounted(mount, "mount -t tmpfs -o \"$2\" tmpfs \"$1\"", &options)
    }

    /// A disk at `mount` that may be made to fail, as [`Self::fail`] does.
    ///
    /// # Errors
    /// When this machine does not let it be.
    pub fn that_may_fail(mount: &Path) -> anyhow::Result<Self> {
        let image = mount.with_extension("image");
        File::create(&image)?.set_len((64 * MIB) as u64)?;
        let image = image.display().to_string();
        run("mkfs.ext4", &["-q", &image])?;
        Self::mounted(mount, "mount -o loop,errors=remount-ro \"$2\" \"$1\"", &image)
    }

    fn mounted(mount: &Path, script: &str, what: &str) -> anyhow::Result<Self> {
        fs::create_dir(mount)?;
        let holder = Holder::unshare("-m", script, &[&mount.display().to_string(), what])?;
        Ok(Self { holder, mount: mount.to_owned() })
    }

    /// What starts a program that sees this disk.
    pub fn launcher(&self) -> Vec<String> {
        vec!["nsenter".to_owned(), format!("--mount={}", self.namespace())]
    }

    /// The disk as it is seen from outside.
    pub fn seen(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{}", self.holder.pid(), self.mount.display()))
    }

    /// Something else takes so much of the disk that only `left` bytes are free.
    ///
    /// # Errors
    /// When the disk cannot be looked at.
    pub fn fill(&self, left: usize) -> anyhow::Result<()> {
        self.clear();
        let mut file = File::create(self.seen().join("filler"))?;
        loop {
            let disk = rustix::fs::statvfs(self.seen())?;
            let free = usize::try_from(disk.f_bavail * disk.f_frsize)?;
            let piece = free.saturating_sub(left).min(MIB);
            if piece == 0 || file.write_all(&vec![1; piece]).is_err() {
                return Ok(());
            }
        }
    }

    /// Makes room again.
    pub fn clear(&self) {
        // It may not be there.
        let _ = fs::remove_file(self.seen().join("filler"));
    }

    /// The file system finds an error, and takes no more writes.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn fail(&self) -> anyhow::Result<()> {
        let script = "echo 1 > /sys/fs/ext4/$(basename $(findmnt -n -o SOURCE \"$1\"))/trigger_fs_error";
        self.run(script).context("the disk cannot be made to fail")
    }

    /// Checks the file system and mounts it again, as an operator does. Nothing may be open there.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn mend(&self) -> anyhow::Result<()> {
        let image = "\"$(losetup -n -O BACK-FILE \"$disk\")\"";
        let check = "{ e2fsck -p \"$disk\" || [ $? -le 1 ]; }";
        let script = format!(
            "disk=$(findmnt -n -o SOURCE \"$1\"); file={image}; umount \"$1\"; disk=$file; {check}; \
             mount -o loop,errors=remount-ro \"$file\" \"$1\""
        );
        self.run(&script).context("the disk cannot be mended")
    }

    fn namespace(&self) -> String {
        format!("/proc/{}/ns/mnt", self.holder.pid())
    }

    fn run(&self, script: &str) -> anyhow::Result<()> {
        let mount = self.mount.display().to_string();
        run("nsenter", &[&format!("--mount={}", self.namespace()), "sh", "-ec", script, "sh", &mount])
    }
}
