//! Reading what clients uploaded.

use std::{
    io::{self, Read as _},
    path::Path,
};

use network_lib::{Fault, FaultClass};
use proving_sp1::decode::{MAX_PROGRAM_BYTES, read_program, read_stdin};
use sp1_sdk::SP1Stdin;

fn file(bytes: &[u8]) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), bytes).unwrap();
    file
}

fn cause(fault: &Fault) -> &str {
    assert_eq!(fault.class, FaultClass::Guest, "{fault}");
    &fault.cause
}

#[test]
fn an_input_is_read_compressed_or_not() {
    let mut stdin = SP1Stdin::new();
    stdin.write(&20_u32);
    let plain = bincode::serialize(&stdin).unwrap();
    let packed = zstd::encode_all(plain.as_slice(), 3).unwrap();
    for bytes in [plain, packed] {
        assert_eq!(read_stdin(file(&bytes).path()).unwrap().buffer, stdin.buffer);
    }
}

#[test]
fn an_input_that_is_none_is_the_guests_fault() {
    let fault = read_stdin(file(&[0xff; 64]).path()).unwrap_err();
    assert!(cause(&fault).starts_with("stdin does not decode: "), "{fault}");
    let fault = read_stdin(file(&[]).path()).unwrap_err();
    assert!(cause(&fault).starts_with("stdin does not decode: "), "{fault}");
    let cut = &zstd::encode_all([7; 1000].as_slice(), 3).unwrap()[..12];
    let fault = read_stdin(file(cut).path()).unwrap_err();
    assert!(cause(&fault).starts_with("stdin does not decompress: "), "{fault}");
}

#[test]
fn a_bomb_is_found_before_it_fills_the_memory() {
    let limit = MAX_PROGRAM_BYTES;
    let zeros = io::repeat(0).take(limit + 100);
    let bomb = zstd::encode_all(zeros, 1).unwrap();
    assert!(bomb.len() < 100_000);
    let fault = read_program(file(&bomb).path()).unwrap_err();
    assert_eq!(cause(&fault), format!("program expands to more than {limit} bytes"));
}

#[test]
fn a_length_that_lies_takes_no_memory() {
    let fault = read_program(file(&(u64::MAX - 1).to_le_bytes()).path()).unwrap_err();
    assert!(cause(&fault).starts_with("program does not decode: "), "{fault}");
}

#[test]
fn a_program_that_is_no_elf_is_the_guests_fault() {
    for elf in [&b"#!/bin/sh"[..], b"", b"\x7fELF\x02\x01\x01"] {
        let fault = read_program(file(&bincode::serialize(elf).unwrap()).path()).unwrap_err();
        assert!(cause(&fault).starts_with("program is not an ELF for SP1: "), "{fault}");
    }
}

#[test]
fn a_missing_file_is_the_workers_fault() {
    let fault = read_stdin(Path::new("/nowhere")).unwrap_err();
    assert_eq!(fault.class, FaultClass::Worker);
}
