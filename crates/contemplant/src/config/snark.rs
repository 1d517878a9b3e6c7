//! What Groth16 and Plonk take, and where SP1 looks for it.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use bytesize::ByteSize;

use super::raw::Reader;
use crate::snark::{CIRCUITS, Snark};

/// What Groth16 and Plonk take, and where SP1 looks for it. The paths and the image are set by SP1's own environment
/// variables, which the prover child inherits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnarkConfig {
    groth16_directory: Option<PathBuf>,
    plonk_directory: Option<PathBuf>,
    min_groth16_memory: ByteSize,
    min_plonk_memory: ByteSize,
    /// Docker's image with gnark.
    pub image: String,
    /// Whether docker may fetch the image when the first proof needs it.
    pub may_pull_image: bool,
    /// Whether SP1 is told to build circuits of its own.
    pub is_development: bool,
}

impl SnarkConfig {
    pub(super) fn read(reader: &mut Reader, environment: &BTreeMap<String, String>) -> Self {
        let default = Self::of_environment(environment);
        Self {
            min_groth16_memory: reader.bytes("min_groth16_memory_bytes").unwrap_or(default.min_groth16_memory),
            min_plonk_memory: reader.bytes("min_plonk_memory_bytes").unwrap_or(default.min_plonk_memory),
            may_pull_image: reader.flag("allow_gnark_image_pull").unwrap_or(false),
            ..default
        }
    }

    /// What holds when nothing but SP1's own variables is set.
    pub fn of_environment(environment: &BTreeMap<String, String>) -> Self {
        let home = environment.get("HOME").filter(|home| !home.is_empty()).map(PathBuf::from);
        let directory = |variable: &str, name: &str| {
            let of_home = || Some(home.as_ref()?.join(".sp1/circuits").join(name));
            // An empty variable is an empty path to SP1 too.
            Some(environment.get(variable).map(PathBuf::from).or_else(of_home)?.join(CIRCUITS))
        };
        let image = environment.get("SP1_GNARK_IMAGE").cloned();
        Self {
            groth16_directory: directory("SP1_GROTH16_CIRCUIT_PATH", "groth16"),
            plonk_directory: directory("SP1_PLONK_CIRCUIT_PATH", "plonk"),
            min_groth16_memory: ByteSize::gib(16),
            min_plonk_memory: ByteSize::gib(60),
            image: image.unwrap_or_else(|| format!("ghcr.io/succinctlabs/sp1-gnark:{CIRCUITS}")),
            may_pull_image: false,
            is_development: environment.get("SP1_CIRCUIT_MODE").is_some_and(|mode| mode == "dev"),
        }
    }

    /// Where SP1 looks for circuit files; `None` when nothing says so.
    pub fn directory(&self, snark: Snark) -> Option<&Path> {
        match snark {
            Snark::Groth16 => self.groth16_directory.as_deref(),
            Snark::Plonk => self.plonk_directory.as_deref(),
        }
    }

    /// Memory that such a proof takes.
    pub fn min_memory(&self, snark: Snark) -> ByteSize {
        match snark {
            Snark::Groth16 => self.min_groth16_memory,
            Snark::Plonk => self.min_plonk_memory,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn circuit_files_are_where_sp1_looks_for_them() {
        let of = |pairs: &[(&str, &str)]| {
            let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
            SnarkConfig::of_environment(&pairs.iter().map(own).collect())
        };
        let home = of(&[("HOME", "/home/amos")]);
        assert_eq!(home.directory(Snark::Groth16), Some(Path::new("/home/amos/.sp1/circuits/groth16/v6.1.0")));
        let set = of(&[("HOME", "/home/amos"), ("SP1_PLONK_CIRCUIT_PATH", "/srv/plonk"), ("SP1_CIRCUIT_MODE", "dev")]);
        assert_eq!(set.directory(Snark::Plonk), Some(Path::new("/srv/plonk/v6.1.0")));
        assert!(set.is_development && !home.is_development);
        assert_eq!(of(&[]).directory(Snark::Plonk), None);
    }
}
