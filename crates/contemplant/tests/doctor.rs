//! `contemplant doctor` and `contemplant install-circuits`, as an operator starts them.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::{Arc, Mutex},
    thread,
};

const VERSION: &str = env!("CARGO_PKG_VERSION");
const TOKEN: &str = "a-token-that-is-never-printed";

/// The program, in an environment of its own: home and configuration in `home`.
fn contemplant(home: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_contemplant"))
        .args(args)
        .current_dir(home)
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("HOME", home)
        .env("CONTEMPLANT_WORKER_TOKEN", TOKEN)
        .output()
        .unwrap()
}

fn words(output: &Output) -> String {
    let words = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(!words.contains(TOKEN), "the token is shown: {words}");
    words
}

/// A home with a prover that needs nothing of this machine, so that what is found is of the coordinator alone.
fn home() -> tempfile::TempDir {
    let home = tempfile::tempdir().unwrap();
    fs::write(home.path().join("contemplant.toml"), "[[provers]]\nprogram = \"/bin/true\"\n").unwrap();
    home
}

fn examine(home: &Path, address: &str) -> (Option<i32>, String) {
    let output = contemplant(home, &["doctor", "--hierophant-ws-address", address]);
    (output.status.code(), words(&output))
}

/// Answers each request by what `answer` says to its head, until the test ends.
fn serve(answer: impl Fn(&str) -> Vec<u8> + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream: TcpStream = stream.unwrap();
            let lines = BufReader::new(&stream).lines().map_while(Result::ok);
            let head: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
            // A client that hangs up early is its own affair.
            let _ = stream.write_all(&answer(&head.join("\n")));
        }
    });
    address
}

fn reply(status: &str, headers: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n{body}").into_bytes()
}

/// Something like a Hierophant of this version, with a token.
fn hierophant(version: &'static str, token: &'static str) -> SocketAddr {
    serve(move |head| {
        let path = head.split(' ').nth(1).unwrap_or_default();
        match path {
            "/health" => {
                let body = format!("{{\"status\":\"ok\",\"version\":\"{version}\",\"mock_mode\":false}}");
                reply("200 OK", "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n", &body)
            }
            "/ws" if head.contains(&format!("Bearer {token}")) => {
                let key = head.lines().find(|line| line.to_lowercase().starts_with("sec-websocket-key")).unwrap();
                let key = key.split_once(": ").unwrap().1;
                let accept = tokio_tungstenite::tungstenite::handshake::derive_accept_key(key.as_bytes());
                format!(
                    "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                     Sec-WebSocket-Accept: {accept}\r\n\r\n"
                )
                .into_bytes()
            }
            "/ws" => reply("401 Unauthorized", "", "the worker token is wrong"),
            _ => reply("404 Not Found", "", ""),
        }
    })
}

#[test]
fn without_a_hierophant_it_says_so_and_what_to_do() {
    let home = home();
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (code, words) = examine(home.path(), &free.to_string());
    assert_eq!(code, Some(1), "{words}");
    assert!(words.contains("problem   hierophant"), "{words}");
    assert!(words.contains("nothing listens at") && words.contains("-> start hierophant"), "{words}");
    assert!(words.contains("what /bin/true can"), "{words}");
}

#[test]
fn a_hierophant_that_lets_it_in_is_all_well_and_its_clock_is_compared() {
    let home = home();
    let address = hierophant(VERSION, TOKEN);
    let (code, words) = examine(home.path(), &address.to_string());
    assert_eq!(code, Some(0), "{words}");
    assert!(words.contains("this worker is let in with it"), "{words}");
    assert!(words.contains("warning   clock") && words.contains("s behind the one here"), "{words}");
    assert!(words.contains("Found: no problems and"), "{words}");
}

#[test]
fn a_wrong_path_a_wrong_token_and_another_version_are_told_apart() {
    let home = home();
    let address = hierophant(VERSION, TOKEN);
    let (code, words) = examine(home.path(), &format!("ws://{address}/socket"));
    assert_eq!(code, Some(1), "{words}");
    assert!(words.contains(&format!("-> set hierophant_ws_address = \"ws://{address}/ws\"")), "{words}");

    let address = hierophant(VERSION, "another");
    let (code, words) = examine(home.path(), &address.to_string());
    assert_eq!(code, Some(1), "{words}");
    assert!(words.contains("problem   worker token") && words.contains("the worker token is wrong"), "{words}");

    let address = hierophant("9.9.9", TOKEN);
    let (code, words) = examine(home.path(), &address.to_string());
    assert_eq!(code, Some(1), "{words}");
    assert!(words.contains("-> install contemplant 9.9.9 here"), "{words}");

    let address = serve(|_| reply("200 OK", "", "<html>"));
    let (code, words) = examine(home.path(), &address.to_string());
    assert_eq!(code, Some(1), "{words}");
    assert!(words.contains("what answers there is no Hierophant"), "{words}");
}

#[test]
fn machines_get_json_and_a_configuration_that_cannot_be_used_is_a_problem() {
    let home = home();
    fs::write(home.path().join("contemplant.toml"), "drain_timeout = 7\n[[provers]]\nprogram = \"/bin/true\"\n")
        .unwrap();
    let output = contemplant(home.path(), &["doctor", "--json"]);
    assert_eq!(output.status.code(), Some(1), "{}", words(&output));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["version"], VERSION);
    assert_eq!(report["checks"][0]["check"], "configuration");
    assert_eq!(report["checks"][0]["verdict"], "problem");
    assert!(report["checks"][0]["text"].as_str().unwrap().contains("drain_timeout"), "{report}");
    assert!(report["problems"].as_u64().unwrap() >= 1);
}

// ---- install-circuits

/// An archive with these files in it.
fn archive(home: &Path, names: &[&str]) -> PathBuf {
    let files = home.join("files");
    fs::create_dir_all(&files).unwrap();
    for name in names {
        // Not to be compressed to nothing.
        let bytes: Vec<u8> = (0..12_500_u32).flat_map(|i| i.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
        fs::write(files.join(name), bytes).unwrap();
    }
    let path = home.join("archive.tar.gz");
    let made = Command::new("tar").arg("-czf").arg(&path).arg("-C").arg(&files).arg(".").status().unwrap();
    assert!(made.success());
    path
}

const GROTH16: [&str; 3] = ["groth16_circuit.bin", "groth16_pk.bin", "groth16_vk.bin"];

fn installed(home: &Path) -> PathBuf {
    home.join(".sp1/circuits/groth16/v6.1.0")
}

#[test]
fn circuit_files_are_installed_from_a_file_and_then_found() {
    let home = home();
    let archive = archive(home.path(), &GROTH16);
    let install = ["install-circuits", "groth16", "--from", archive.to_str().unwrap()];
    let output = contemplant(home.path(), &install);
    assert!(output.status.success(), "{}", words(&output));
    assert!(words(&output).contains("SHA-256 is "), "{}", words(&output));
    assert!(installed(home.path()).join(".complete").is_file());
    assert!(installed(home.path()).join("groth16_pk.bin").is_file());
    assert!(archive.is_file(), "the operator's file is left alone");
    assert!(!installed(home.path()).with_file_name("v6.1.0.staging").exists());

    let again = words(&contemplant(home.path(), &install));
    assert!(again.contains("already; nothing is done"), "{again}");
}

#[test]
fn an_archive_with_another_digest_or_of_something_else_is_not_installed() {
    let home = home();
    let archive = archive(home.path(), &GROTH16[..2]);
    let from = archive.to_str().unwrap();
    let output =
        contemplant(home.path(), &["install-circuits", "groth16", "--from", from, "--sha256", &"0a".repeat(32)]);
    assert_eq!(output.status.code(), Some(1));
    assert!(words(&output).contains(&format!("not {}", "0a".repeat(32))), "{}", words(&output));
    assert!(!words(&output).contains("Unpacking"), "{}", words(&output));

    let output = contemplant(home.path(), &["install-circuits", "groth16", "--from", from]);
    assert_eq!(output.status.code(), Some(1));
    assert!(words(&output).contains("no groth16_vk.bin"), "{}", words(&output));

    fs::write(&archive, "no archive at all").unwrap();
    let output = contemplant(home.path(), &["install-circuits", "groth16", "--from", from]);
    assert!(words(&output).contains("tar could not unpack"), "{}", words(&output));
    assert!(!installed(home.path()).exists());
}

#[test]
fn an_interrupted_download_is_gone_on_with_and_what_was_half_there_is_replaced() {
    let home = home();
    let bytes = fs::read(archive(home.path(), &GROTH16)).unwrap();
    let (half, whole) = (bytes.len() / 2, bytes.len());
    let heads = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&heads);
    // First the half and a cut, then no more, then the rest.
    let address = serve(move |head| {
        let mut heads = seen.lock().unwrap();
        heads.push(head.to_lowercase());
        let head = |status: &str, more: String| {
            format!("HTTP/1.1 {status}\r\nConnection: close\r\nETag: \"v\"\r\n{more}\r\n").into_bytes()
        };
        match heads.len() {
            1 => [head("200 OK", format!("Content-Length: {whole}\r\n")), bytes[..half].to_vec()].concat(),
            2 => reply("403 Forbidden", "", "closed for today"),
            _ => {
                let range = format!("Content-Range: bytes {half}-{}/{whole}\r\n", whole - 1);
                let more = format!("Content-Length: {}\r\n{range}", whole - half);
                [head("206 Partial Content", more), bytes[half..].to_vec()].concat()
            }
        }
    });
    // What some other installer left behind.
    fs::create_dir_all(installed(home.path())).unwrap();
    fs::write(installed(home.path()).join("groth16_pk.bin"), "half").unwrap();

    let from = format!("http://{address}/v6.1.0-groth16.tar.gz");
    let output = contemplant(home.path(), &["install-circuits", "groth16", "--from", &from]);
    assert_eq!(output.status.code(), Some(1), "{}", words(&output));
    assert!(words(&output).contains("403") && words(&output).contains("closed for today"), "{}", words(&output));
    assert_eq!(fs::read(installed(home.path()).join("groth16_pk.bin")).unwrap(), b"half");

    let output = contemplant(home.path(), &["install-circuits", "groth16", "--from", &from]);
    assert!(output.status.success(), "{}", words(&output));
    assert!(words(&output).contains("going on from there"), "{}", words(&output));
    assert!(words(&output).contains("it was not whole"), "{}", words(&output));
    assert_eq!(fs::read(installed(home.path()).join("groth16_pk.bin")).unwrap().len(), 50_000);
    assert!(installed(home.path()).join(".complete").is_file());
    let heads = heads.lock().unwrap();
    assert_eq!(heads.len(), 3);
    assert!(heads[2].contains(&format!("range: bytes={half}-")) && heads[2].contains("if-range: \"v\""), "{heads:?}");
}
