//! The child: what this binary is when it is run with `child NAME`.

use std::{path::Path, process::ExitCode, time::Duration};

use proving::{
    KeyHashes, Verified, VerifyError, VerifyOrder,
    child::{Channel, Verify, serve_prover, serve_verifier},
    testing::{ScriptedProver, TestVerifier, key_hashes},
};

pub(crate) fn serve(name: &str) -> ExitCode {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let channel = Channel::take().unwrap();
    match name {
        "prover" => runtime.block_on(serve_prover(channel, ScriptedProver::default())).unwrap(),
        "droppable" => runtime.block_on(serve_prover(channel, ScriptedProver::droppable())).unwrap(),
        "mapping" => {
            let _mapped = map_shared_memory();
            runtime.block_on(serve_prover(channel, ScriptedProver::default())).unwrap();
        }
        "verifier" => serve_verifier(channel, &TestVerifier).unwrap(),
        "odd-verifier" => serve_verifier(channel, &OddVerifier).unwrap(),
        _ => return ExitCode::FAILURE,
    }
    ExitCode::SUCCESS
}

/// Maps the file that the environment names, as SP1's executor does. Without unsafe code only a library can: a database
/// in this mode maps the file beside it.
#[expect(clippy::disallowed_methods, reason = "how this child is told its file")]
fn map_shared_memory() -> rusqlite::Connection {
    let connection = rusqlite::Connection::open(std::env::var("MAPPED").unwrap()).unwrap();
    connection.pragma_update(None, "journal_mode", "wal").unwrap();
    connection.execute_batch("create table t (x); begin; select * from t; commit").unwrap();
    connection
}

/// Does what the verifying key says.
struct OddVerifier;

impl Verify for OddVerifier {
    fn verify(&self, order: &VerifyOrder) -> Result<Verified, VerifyError> {
        self.hash_verifying_key(&order.verifying_key)?;
        Ok(Verified { public_values_hash: [0; 32], is_mock: false })
    }

    fn hash_verifying_key(&self, verifying_key: &[u8]) -> Result<KeyHashes, String> {
        let text = String::from_utf8_lossy(verifying_key).into_owned();
        match text.split_once(' ').unwrap_or((&text, "")) {
            ("hang", _) => loop {
                std::thread::park();
            },
            ("exit", _) => std::process::exit(7),
            ("panic", _) => panic!("odd bytes"),
            ("memory", _) => {
                // Written to, so that it is not optimised away.
                let hog = vec![verifying_key[0]; 3 << 30];
                Err(format!("the bytes were there: {}", hog.iter().map(|byte| u64::from(*byte)).sum::<u64>()))
            }
            ("meet", paths) => {
                let (own, other) = paths.split_once(' ').unwrap();
                std::fs::write(own, "").unwrap();
                while !Path::new(other).exists() {
                    std::thread::sleep(Duration::from_millis(5));
                }
                Ok(key_hashes(verifying_key))
            }
            _ => Ok(key_hashes(verifying_key)),
        }
    }
}
