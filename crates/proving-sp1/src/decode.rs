//! Programs and inputs as clients upload them: bincode, compressed with zstd or not, and hostile until decoded.

use std::{
    fs::File,
    io::{self, BufReader, Read, Seek as _},
    panic::catch_unwind,
    path::Path,
};

use bincode::Options as _;
use network_lib::Fault;
use serde::de::DeserializeOwned;
use sp1_core_executor::Program;
use sp1_sdk::SP1Stdin;

/// Most bytes that a program may have once expanded.
pub const MAX_PROGRAM_BYTES: u64 = 256 << 20;
/// Most bytes that an input may have once expanded.
pub const MAX_STDIN_BYTES: u64 = 1 << 30;

/// The first bytes of zstd frames.
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// Largest zstd window, as a power of two: what decoding may take of memory (128 MiB).
const MAX_WINDOW_LOG: u32 = 27;

/// The ELF in a program file.
///
/// # Errors
/// A guest fault when it is no program, a worker fault when the file cannot be read.
pub fn read_program(path: &Path) -> Result<Vec<u8>, Fault> {
    let elf: Vec<u8> = read("program", path, MAX_PROGRAM_BYTES)?;
    // Parsing someone else's ELF may panic, and that says nothing good about the ELF either.
    match catch_unwind(|| Program::from(&elf).map(drop)) {
        Ok(Ok(())) => Ok(elf),
        Ok(Err(error)) => Err(Fault::guest(format!("program is not an ELF for SP1: {error}"))),
        Err(_) => Err(Fault::guest("program is not an ELF for SP1: it cannot be parsed")),
    }
}

/// The input in an input file.
///
/// # Errors
/// A guest fault when it is no input, a worker fault when the file cannot be read.
pub fn read_stdin(path: &Path) -> Result<SP1Stdin, Fault> {
    read("stdin", path, MAX_STDIN_BYTES)
}

fn read<T: DeserializeOwned>(what: &str, path: &Path, limit: u64) -> Result<T, Fault> {
    let bytes = expand(path, limit).map_err(|error| match error {
        ExpandError::Read(error) | ExpandError::Zstd(error) if error.kind() == io::ErrorKind::OutOfMemory => {
            Fault::resources(format!("the {what} takes more memory than this worker has for it: {error}"))
        }
        ExpandError::Read(error) => Fault::worker(format!("cannot read the {what} file: {error}")),
        ExpandError::Zstd(error) => Fault::guest(format!("{what} does not decompress: {error}")),
        ExpandError::TooLong => Fault::guest(format!("{what} expands to more than {limit} bytes")),
    })?;
    let options = bincode::DefaultOptions::new().with_fixint_encoding().allow_trailing_bytes().with_limit(limit);
    options.deserialize(&bytes).map_err(|error| Fault::guest(format!("{what} does not decode: {error}")))
}

enum ExpandError {
    Read(io::Error),
    Zstd(io::Error),
    TooLong,
}

fn expand(path: &Path, limit: u64) -> Result<Vec<u8>, ExpandError> {
    let mut file = File::open(path).map_err(ExpandError::Read)?;
    let mut magic = Vec::new();
    file.by_ref().take(4).read_to_end(&mut magic).map_err(ExpandError::Read)?;
    file.rewind().map_err(ExpandError::Read)?;
    if magic == ZSTD_MAGIC {
        let mut decoder = zstd::Decoder::with_buffer(BufReader::new(file)).map_err(ExpandError::Zstd)?;
        decoder.window_log_max(MAX_WINDOW_LOG).map_err(ExpandError::Zstd)?;
        bounded(decoder, limit, ExpandError::Zstd)
    } else {
        bounded(file, limit, ExpandError::Read)
    }
}

fn bounded(source: impl Read, limit: u64, failed: fn(io::Error) -> ExpandError) -> Result<Vec<u8>, ExpandError> {
    let mut bytes = Vec::new();
    let length = source.take(limit.saturating_add(1)).read_to_end(&mut bytes).map_err(failed)?;
    if u64::try_from(length).is_ok_and(|length| length <= limit) { Ok(bytes) } else { Err(ExpandError::TooLong) }
}
