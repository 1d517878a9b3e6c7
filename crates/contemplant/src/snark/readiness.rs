//! What keeps this machine from making a kind of SNARK. Pure, but for [`SnarkFacts::look`].

use std::{
    fmt,
    path::{Path, PathBuf},
};

use bytesize::ByteSize;
use proving::Memory;

use super::{COMPLETE, Snark, docker::Docker};
use crate::config::snark::SnarkConfig;

/// What counts for one kind of SNARK.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnarkFacts {
    /// Which kind.
    pub snark: Snark,
    /// Where SP1 looks for its circuit files, if it knows.
    pub directory: Option<PathBuf>,
    /// What is there.
    pub files: Files,
    /// Whether SP1 is told to build circuits of its own, whose proofs nobody accepts.
    pub is_development: bool,
    /// Memory that this process may use, in bytes.
    pub memory: u64,
    /// Memory that it takes, in bytes.
    pub min_memory: u64,
    /// Whether gnark is linked in, so that docker does not count.
    pub is_gnark_linked: bool,
    /// What docker says; `None` when it was not asked.
    pub docker: Option<Docker>,
    /// The image with gnark.
    pub image: String,
    /// Whether docker may fetch the image when the first proof needs it.
    pub may_pull_image: bool,
}

/// What is where SP1 looks for circuit files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Files {
    /// Nothing that is marked as whole.
    Absent,
    /// It is marked as whole, and this one is missing.
    Damaged(&'static str),
    /// All of them.
    Whole,
}

impl Files {
    /// Looks into `directory`.
    pub fn look(snark: Snark, directory: &Path) -> Self {
        match snark.missing_file(directory) {
            _ if !directory.join(COMPLETE).is_file() => Self::Absent,
            Some(name) => Self::Damaged(name),
            None => Self::Whole,
        }
    }
}

/// Something that keeps a mode from being offered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Obstacle {
    /// Nobody says where circuit files are.
    NoPlace(Snark),
    /// They are not installed.
    NotInstalled(Snark, PathBuf),
    /// They are marked as whole, and one is missing.
    Damaged(Snark, PathBuf, &'static str),
    /// SP1 is told to build its own.
    Development,
    /// There is too little memory.
    Memory {
        /// Which kind.
        snark: Snark,
        /// What there is, in bytes.
        has: u64,
        /// What it takes, in bytes.
        needs: u64,
    },
    /// There is no docker.
    NoDocker,
    /// Docker does not answer.
    Docker(String),
    /// Docker has no gnark, and may not fetch it.
    NoImage(String),
}

impl SnarkFacts {
    /// Looks at files and memory; docker is left out.
    pub(super) fn look(snark: Snark, config: &SnarkConfig, memory: &Memory, is_gnark_linked: bool) -> Self {
        let directory = config.directory(snark).map(PathBuf::from);
        Self {
            snark,
            files: directory.as_ref().map_or(Files::Absent, |directory| Files::look(snark, directory)),
            directory,
            is_development: config.is_development,
            memory: memory.allowed(),
            min_memory: config.min_memory(snark).as_u64(),
            is_gnark_linked,
            docker: None,
            image: config.image.clone(),
            may_pull_image: config.may_pull_image,
        }
    }

    /// All that is in the way; nothing means that the mode can be offered, as far as docker was asked.
    pub fn obstacles(&self) -> Vec<Obstacle> {
        let mut obstacles = Vec::new();
        match (&self.directory, self.files) {
            (None, _) => obstacles.push(Obstacle::NoPlace(self.snark)),
            (Some(_), Files::Whole) => {}
            (Some(directory), Files::Absent) => {
                obstacles.push(Obstacle::NotInstalled(self.snark, directory.clone()));
            }
            (Some(directory), Files::Damaged(name)) => {
                obstacles.push(Obstacle::Damaged(self.snark, directory.clone(), name));
            }
        }
        if self.is_development {
            obstacles.push(Obstacle::Development);
        }
        // A machine of so much memory shows a little less: the kernel keeps some.
        if self.memory < self.min_memory - self.min_memory / 16 {
            obstacles.push(Obstacle::Memory { snark: self.snark, has: self.memory, needs: self.min_memory });
        }
        if !self.is_gnark_linked {
            match &self.docker {
                None | Some(Docker::Ready) => {}
                Some(Docker::WithoutImage) if self.may_pull_image => {}
                Some(Docker::Missing) => obstacles.push(Obstacle::NoDocker),
                Some(Docker::Unusable(words)) => obstacles.push(Obstacle::Docker(words.clone())),
                Some(Docker::WithoutImage) => obstacles.push(Obstacle::NoImage(self.image.clone())),
            }
        }
        obstacles
    }
}

impl Obstacle {
    /// What to do about it, as a command where there is one.
    pub fn remedy(&self) -> Option<String> {
        match self {
            Self::NoPlace(snark) => Some(format!("set HOME, or SP1_{}_CIRCUIT_PATH", snark.name().to_uppercase())),
            Self::NotInstalled(snark, _) => Some(format!("contemplant install-circuits {}", snark.name())),
            Self::Damaged(snark, directory, _) => {
                Some(format!("rm -r {} && contemplant install-circuits {}", directory.display(), snark.name()))
            }
            Self::Development => Some("unset SP1_CIRCUIT_MODE".to_owned()),
            Self::Memory { .. } => None,
            Self::NoDocker => Some(
                "install docker, or build with cargo build --release --workspace --bins \
                 --features contemplant/enable-native-gnark"
                    .to_owned(),
            ),
            Self::Docker(_) => Some("start docker, and let this user use it (docker info must succeed)".to_owned()),
            Self::NoImage(image) => Some(format!("docker pull {image}, or set allow_gnark_image_pull = true")),
        }
    }
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoPlace(_) => f.write_str("nothing says where circuit files are"),
            Self::NotInstalled(_, directory) => {
                write!(f, "no circuit files are installed at {}", directory.display())
            }
            Self::Damaged(_, directory, name) => {
                write!(f, "the circuit files at {} are damaged: {name} is missing", directory.display())
            }
            Self::Development => f.write_str("SP1_CIRCUIT_MODE=dev makes SP1 build circuits that nobody accepts"),
            Self::Memory { snark, has, needs } => write!(
                f,
                "it takes {} of memory and there are {} (min_{}_memory_bytes says how much it takes)",
                ByteSize::b(*needs),
                ByteSize::b(*has),
                snark.name()
            ),
            Self::NoDocker => f.write_str("docker is not installed, and this contemplant was built without gnark"),
            Self::Docker(words) => write!(f, "docker does not work: {words}"),
            Self::NoImage(image) => write!(f, "docker has no image {image}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ready() -> SnarkFacts {
        SnarkFacts {
            snark: Snark::Groth16,
            directory: Some("/c/groth16/v6.1.0".into()),
            files: Files::Whole,
            is_development: false,
            memory: 64 << 30,
            min_memory: 16 << 30,
            is_gnark_linked: false,
            docker: Some(Docker::Ready),
            image: "sp1-gnark:v6.1.0".to_owned(),
            may_pull_image: false,
        }
    }

    #[test]
    fn a_mode_is_offered_only_when_all_of_it_is_there() {
        assert_eq!(ready().obstacles(), []);
        let cases: [(SnarkFacts, &str, Option<&str>); 8] = [
            (SnarkFacts { directory: None, ..ready() }, "nothing says where", Some("SP1_GROTH16_CIRCUIT_PATH")),
            (
                SnarkFacts { files: Files::Absent, ..ready() },
                "no circuit files are installed at /c/groth16/v6.1.0",
                Some("contemplant install-circuits groth16"),
            ),
            (
                SnarkFacts { files: Files::Damaged("groth16_pk.bin"), ..ready() },
                "groth16_pk.bin is missing",
                Some("rm -r /c/groth16/v6.1.0 && contemplant install-circuits groth16"),
            ),
            (SnarkFacts { is_development: true, ..ready() }, "SP1_CIRCUIT_MODE", Some("unset SP1_CIRCUIT_MODE")),
            (SnarkFacts { memory: 14 << 30, ..ready() }, "it takes 16.0 GiB of memory and there are 14.0 GiB", None),
            (SnarkFacts { docker: Some(Docker::Missing), ..ready() }, "not installed", Some("enable-native-gnark")),
            (
                SnarkFacts { docker: Some(Docker::Unusable("permission denied".into())), ..ready() },
                "docker does not work: permission denied",
                Some("docker info"),
            ),
            (
                SnarkFacts { docker: Some(Docker::WithoutImage), ..ready() },
                "docker has no image sp1-gnark:v6.1.0",
                Some("docker pull sp1-gnark:v6.1.0"),
            ),
        ];
        for (facts, words, remedy) in cases {
            let obstacles = facts.obstacles();
            assert_eq!(obstacles.len(), 1, "{obstacles:?}");
            assert!(obstacles[0].to_string().contains(words), "{}", obstacles[0]);
            match (remedy, obstacles[0].remedy()) {
                (None, None) => {}
                (Some(remedy), Some(given)) => assert!(given.contains(remedy), "{given}"),
                (expected, given) => panic!("{expected:?} {given:?}"),
            }
        }
    }

    #[test]
    fn what_is_given_another_way_is_no_obstacle() {
        let linked = SnarkFacts { is_gnark_linked: true, docker: Some(Docker::Missing), ..ready() };
        assert_eq!(linked.obstacles(), []);
        let pulled = SnarkFacts { docker: Some(Docker::WithoutImage), may_pull_image: true, ..ready() };
        assert_eq!(pulled.obstacles(), []);
        // A machine of 16 GiB, as its kernel shows it.
        let shown = SnarkFacts { memory: 16_435_000 << 10, ..ready() };
        assert_eq!(shown.obstacles(), []);
    }
}
