//! What some scenarios need of the machine beyond what building takes, and why it is not there.

use std::{path::PathBuf, process::Command};

/// What a scenario needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Hosts of one's own, on a network of one's own.
    Hosts,
    /// Disks of one's own.
    Disks,
    /// A library that tells programs another time.
    Clocks,
}

impl Need {
    /// What is missing here, and what to do about it.
    pub fn missing(self) -> Option<String> {
        let lacking = match self {
            Self::Hosts => {
                let tools = [("ip", "-V"), ("nft", "-v"), ("ss", "-V"), ("nsenter", "-V")];
                let absent = tools.iter().find(|(tool, version)| !succeeds(tool, &[version])).map(|(tool, _)| *tool);
                match absent {
                    Some(tool) => format!("there is no {tool}"),
                    None if !succeeds("unshare", &["-n", "true"]) => "no network namespace may be made".to_owned(),
                    None => return None,
                }
            }
            Self::Disks => {
                if !succeeds("unshare", &["-m", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]) {
                    "no disk may be mounted".to_owned()
                } else if !succeeds("mkfs.ext4", &["-V"]) {
                    "there is no mkfs.ext4".to_owned()
                } else {
                    return None;
                }
            }
            Self::Clocks => match faketime_library() {
                Some(_) => return None,
                None => "there is no libfaketime".to_owned(),
            },
        };
        Some(format!("{lacking}: run `scripts/setup.sh tests` once, and this as root"))
    }
}

fn succeeds(tool: &str, arguments: &[&str]) -> bool {
    Command::new(tool).args(arguments).output().is_ok_and(|output| output.status.success())
}

/// Where Debian and its kin have the library.
pub(crate) fn faketime_library() -> Option<PathBuf> {
    let mut architectures = std::fs::read_dir("/usr/lib").ok()?.filter_map(Result::ok);
    architectures.find_map(|entry| Some(entry.path().join("faketime/libfaketime.so.1")).filter(|path| path.exists()))
}
