//! Groth16 and Plonk: what it takes to make them here, and what of it is missing.
//!
//! SP1 wraps a compressed proof with gnark, which reads gigabytes of circuit files and is either linked in (feature
//! `enable-native-gnark`) or run in docker. Whatever is missing would fail each proof after hours of work, so a mode is
//! offered only when all of it is there.

pub mod docker;
pub mod install;
pub mod readiness;

use std::path::Path;

use network_lib::{Backend, ProofMode};
use proving::Memory;

use crate::{
    config::snark::SnarkConfig,
    snark::{
        docker::Docker,
        readiness::{Obstacle, SnarkFacts},
    },
};

/// SP1's version of its circuits: the name of the directory that SP1 reads. Tested against the SP1 that is linked.
pub const CIRCUITS: &str = "v6.1.0";

/// Where SP1 publishes its circuit files. Tested against the SP1 that is linked.
pub const PUBLISHED_AT: &str = "https://sp1-circuits.s3-us-east-2.amazonaws.com";

/// The file that SP1 takes for the sign of a whole installation.
pub const COMPLETE: &str = ".complete";

/// Whether gnark is linked in.
pub const IS_GNARK_LINKED: bool = cfg!(feature = "enable-native-gnark");

/// A proof that takes gnark.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Snark {
    /// Plonk over BN254.
    Plonk,
    /// Groth16 over BN254.
    Groth16,
}

impl Snark {
    /// Both, in the order of their proof modes.
    pub const ALL: [Self; 2] = [Self::Plonk, Self::Groth16];

    /// The proof mode.
    pub const fn mode(self) -> ProofMode {
        match self {
            Self::Plonk => ProofMode::Plonk,
            Self::Groth16 => ProofMode::Groth16,
        }
    }

    /// The name in lower case.
    pub const fn name(self) -> &'static str {
        self.mode().name()
    }

    /// Where SP1 publishes its circuit files.
    pub fn published_at(self) -> String {
        format!("{PUBLISHED_AT}/{CIRCUITS}-{}.tar.gz", self.name())
    }

    /// Files without which gnark cannot prove.
    pub const fn files(self) -> [&'static str; 3] {
        match self {
            Self::Plonk => ["plonk_circuit.bin", "plonk_pk.bin", "plonk_vk.bin"],
            Self::Groth16 => ["groth16_circuit.bin", "groth16_pk.bin", "groth16_vk.bin"],
        }
    }

    /// The first of its files that is not in `directory`, or is empty.
    pub fn missing_file(self, directory: &Path) -> Option<&'static str> {
        self.files()
            .into_iter()
            .find(|name| !std::fs::metadata(directory.join(name)).is_ok_and(|file| file.is_file() && file.len() > 0))
    }
}

/// The modes that can be offered, which depends on where gnark is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Snarks {
    /// By provers on the processor, which take docker or a gnark that is linked in.
    pub cpu: Vec<ProofMode>,
    /// By provers on GPUs, whose server has gnark in it.
    pub gpu: Vec<ProofMode>,
}

impl Snarks {
    /// By provers of this kind.
    pub fn of(&self, backend: Backend) -> &[ProofMode] {
        match backend {
            Backend::Cpu => &self.cpu,
            Backend::Gpu => &self.gpu,
            Backend::Mock => &[],
        }
    }
}

/// What is true here of each, docker asked at most once if gnark is not linked in: always, or only where all else is
/// there.
pub fn look(config: &SnarkConfig, memory: &Memory, is_gnark_linked: bool, is_docker_asked: bool) -> Vec<SnarkFacts> {
    let mut facts: Vec<SnarkFacts> =
        Snark::ALL.into_iter().map(|snark| SnarkFacts::look(snark, config, memory, is_gnark_linked)).collect();
    if !is_gnark_linked && (is_docker_asked || facts.iter().any(|facts| facts.obstacles().is_empty())) {
        let docker = Docker::look(&config.image);
        for facts in &mut facts {
            facts.docker = Some(docker.clone());
        }
    }
    facts
}

/// The modes that can be offered here; why another cannot is logged. May take ten seconds, while docker is asked.
pub fn offered(config: &SnarkConfig, memory: &Memory, is_gnark_linked: bool) -> Vec<ProofMode> {
    let mut modes = Vec::new();
    for facts in look(config, memory, is_gnark_linked, false) {
        let obstacles = facts.obstacles();
        if obstacles.is_empty() {
            modes.push(facts.snark.mode());
        } else {
            let reasons: Vec<String> = obstacles.iter().map(Obstacle::to_string).collect();
            let remedy = obstacles.iter().find_map(Obstacle::remedy);
            let remedy = remedy.map_or_else(String::new, |remedy| format!(" (to mend that: {remedy})"));
            tracing::info!("Proofs of the mode {} are not offered: {}{remedy}", facts.snark.name(), reasons.join("; "));
        }
    }
    modes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_without_one_of_the_files_is_not_whole() {
        let directory = tempfile::tempdir().expect("a directory");
        for name in ["groth16_circuit.bin", "groth16_pk.bin"] {
            std::fs::write(directory.path().join(name), "x").expect("written");
        }
        assert_eq!(Snark::Groth16.missing_file(directory.path()), Some("groth16_vk.bin"));
        std::fs::write(directory.path().join("groth16_vk.bin"), "").expect("written");
        assert_eq!(Snark::Groth16.missing_file(directory.path()), Some("groth16_vk.bin"), "empty is missing");
        std::fs::write(directory.path().join("groth16_vk.bin"), "x").expect("written");
        assert_eq!(Snark::Groth16.missing_file(directory.path()), None);
        assert_eq!(Snark::Plonk.missing_file(directory.path()), Some("plonk_circuit.bin"));
    }

    /// SP1 finds its circuit files by its own names, which are repeated here for builds without SP1.
    #[cfg(feature = "sp1")]
    #[test]
    fn names_and_places_are_those_of_the_linked_sp1() {
        assert_eq!(proving_sp1::circuit_version().as_str(), format!("sp1-{CIRCUITS}"));
        assert_eq!(proving_sp1::CIRCUIT_FILES_PUBLISHED_AT, PUBLISHED_AT);
        let environment = crate::config::process_environment().collect();
        let config = SnarkConfig::of_environment(&environment);
        let [groth16, plonk] = proving_sp1::circuit_directories();
        assert_eq!(config.directory(Snark::Groth16), groth16.as_deref());
        assert_eq!(config.directory(Snark::Plonk), plonk.as_deref());
    }
}
