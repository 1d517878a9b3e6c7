//! Another time than that of the machine, for one program.

use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::needs::faketime_library;

/// The clock of one program, which may be set while it runs.
#[derive(Debug)]
pub struct FakeClock {
    library: PathBuf,
    file: PathBuf,
    is_whole: bool,
}

impl FakeClock {
    /// A wall clock that is set: time goes on as ever beside it. The file says what it shows.
    ///
    /// # Errors
    /// When the library is not there, or the file cannot be written.
    pub fn of_wall(file: &Path) -> anyhow::Result<Self> {
        Self::new(file, false)
    }

    /// All clocks at once, as when a machine was suspended.
    ///
    /// # Errors
    /// When the library is not there, or the file cannot be written.
    pub fn of_machine(file: &Path) -> anyhow::Result<Self> {
        Self::new(file, true)
    }

    fn new(file: &Path, is_whole: bool) -> anyhow::Result<Self> {
        let library = faketime_library().context("there is no libfaketime")?;
        let clock = Self { library, file: file.to_owned(), is_whole };
        clock.set(0)?;
        Ok(clock)
    }

    /// Sets it so many seconds off.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn set(&self, seconds: i64) -> anyhow::Result<()> {
        // Renamed, since the program reads it at any moment.
        let fresh = self.file.with_extension("fresh");
        std::fs::write(&fresh, format!("{seconds:+}\n"))?;
        Ok(std::fs::rename(&fresh, &self.file)?)
    }

    /// What the program's environment must say.
    pub fn environment(&self) -> Vec<(String, String)> {
        let pair = |name: &str, value: String| (name.to_owned(), value);
        let mut environment = vec![
            pair("LD_PRELOAD", self.library.display().to_string()),
            pair("FAKETIME_TIMESTAMP_FILE", self.file.display().to_string()),
            pair("FAKETIME_NO_CACHE", "1".to_owned()),
        ];
        if !self.is_whole {
            environment.push(pair("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()));
        }
        environment
    }
}
