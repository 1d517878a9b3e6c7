//! A program that speaks the frames of `sp1-gpu-server` with SP1's own types, and fails as it is told.
//!
//! Each start takes the first line of the folder's file `faults`:
//!
//! | fault | what it does |
//! |---|---|
//! | `never-listens` | nothing, for ever |
//! | `exit-at-start` | exits with status 101 and a text |
//! | `unfit` | panics when it sets up its first program, as the real one does on a small device |
//! | `other-key` | derives another verifying key |
//! | `wrong-key`, `wrong-id` | names another verifying key, or program, for what is no ELF as the trial is |
//! | `slow-start` | says nothing for longer than the silence limit while it sets up its first program |
//! | `idle-exit` | exits soon after its first set-up |
//! | `heir` | starts a process that leaves the group and holds its socket, and exits with status 3 for a proof |
//! | `hang` | never answers for a proof |
//! | `slow` | answers for a proof late, with signs of life |
//! | `crash`, `killed` | exits with status 3, or by SIGKILL, for a proof |
//! | `killed-slowly` | closes its connection for a proof, and ends by SIGKILL some seconds later |
//! | `garbage`, `lie`, `close` | answers with bytes that mean nothing, half a frame, or by closing the connection |
//! | `refuse`, `memory` | answers with an error whose cause only its log tells |
//! | `panic` | panics in a stage and never answers |
//! | `wrong-proof` | answers with a proof in which one bit is flipped |
//! | `mute` | answers `Ok` for a proof |
//! | `twice` | answers for a proof, and then once more |

use std::{
    fs::{self, OpenOptions},
    io::{Read as _, Write as _},
    os::unix::{
        net::{UnixListener, UnixStream},
        process::CommandExt as _,
    },
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
    time::Duration,
};

use sp1_cuda::{
    api::{Request, Response},
    client::socket_path,
};

use crate::{KEY, PROOF};

/// How the fake is called, by the script that makes a program of it.
pub(crate) const COMMAND: &str = "fake-server";

/// Makes `path` a program that is the fake, with its files in `folder`.
pub(crate) fn install(path: &Path, folder: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, script(folder)).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// The text of that program.
pub(crate) fn script(folder: &Path) -> String {
    let this = std::env::current_exe().unwrap();
    format!("#!/bin/sh\nexec '{}' {COMMAND} '{}' \"$@\"\n", this.display(), folder.display())
}

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "as the real one does")]
pub(crate) fn run(folder: &Path, args: &[String]) -> ExitCode {
    if args == ["--version"] {
        let version = fs::read_to_string(folder.join("version"));
        println!("{}", version.unwrap_or_else(|_| proving_sp1_gpu::SP1_VERSION.to_owned()));
        return ExitCode::SUCCESS;
    }
    let device = std::env::var_os("CUDA_VISIBLE_DEVICES").unwrap().into_string().unwrap().parse().unwrap();
    note(folder, "starts", &std::process::id().to_string());
    let fault = next_fault(folder);
    eprintln!("Running sp1-gpu-server {} with device {device}", proving_sp1_gpu::SP1_VERSION);
    match fault.as_str() {
        "never-listens" => sleep(3600),
        "exit-at-start" => {
            eprintln!("error while loading the driver: CUDA_ERROR_NO_DEVICE");
            return ExitCode::from(101);
        }
        _ => {}
    }
    let path = socket_path(device);
    let _ = fs::remove_file(&path);
    let listener = UnixListener::bind(&path).unwrap();
    if fault == "heir" {
        bequeath(folder, &listener);
    }
    println!("2026-01-01T00:00:00Z  INFO sp1_gpu_server::server: Server listening @ {}", path.display());
    for stream in listener.incoming() {
        Connection { folder: folder.to_owned(), fault: fault.clone(), stream: stream.unwrap() }.serve();
    }
    ExitCode::SUCCESS
}

/// Starts a process that outlives this one and holds its socket open.
fn bequeath(folder: &Path, listener: &UnixListener) {
    rustix::io::fcntl_setfd(listener, rustix::io::FdFlags::empty()).unwrap();
    let mut heir = Command::new("sleep");
    heir.arg("120").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
    #[expect(clippy::zombie_processes, reason = "it is there to outlive this process")]
    let heir = heir.spawn().unwrap();
    note(folder, "heirs", &heir.id().to_string());
}

fn sleep(seconds: u64) {
    std::thread::sleep(Duration::from_secs(seconds));
}

fn note(folder: &Path, file: &str, line: &str) {
    let mut file = OpenOptions::new().create(true).append(true).open(folder.join(file)).unwrap();
    writeln!(file, "{line}").unwrap();
}

fn next_fault(folder: &Path) -> String {
    let path = folder.join("faults");
    let text = fs::read_to_string(&path).unwrap_or_default();
    let (first, rest) = text.split_once('\n').unwrap_or((&text, ""));
    fs::write(&path, rest).unwrap();
    first.trim().to_owned()
}

struct Connection {
    folder: PathBuf,
    fault: String,
    stream: UnixStream,
}

impl Connection {
    fn serve(mut self) {
        while let Some(request) = self.read() {
            let goes_on = match request {
                Request::Setup { elf, .. } => self.set_up(&elf),
                Request::ProveWithMode { .. } => self.prove(),
                Request::Destroy { .. } => {
                    note(&self.folder, "requests", "destroy");
                    self.answer(&Response::Ok)
                }
            };
            if !goes_on {
                return;
            }
        }
    }

    fn read(&mut self) -> Option<Request> {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length).ok()?;
        let mut bytes = vec![0; usize::try_from(u32::from_le_bytes(length)).unwrap()];
        self.stream.read_exact(&mut bytes).ok()?;
        Some(bincode::deserialize(&bytes).unwrap())
    }

    fn answer(&mut self, response: &Response) -> bool {
        self.send(&bincode::serialize(response).unwrap())
    }

    fn send(&mut self, bytes: &[u8]) -> bool {
        let length = u32::try_from(bytes.len()).unwrap();
        self.stream.write_all(&length.to_le_bytes()).is_ok() && self.stream.write_all(bytes).is_ok()
    }

    #[expect(clippy::print_stderr, reason = "as the real one does")]
    fn set_up(&mut self, elf: &[u8]) -> bool {
        note(&self.folder, "requests", "set up");
        let mut vk: sp1_sdk::SP1VerifyingKey = bincode::deserialize(KEY).unwrap();
        let mut id = *network_lib::Digest::sha256(elf).as_bytes();
        let is_trial = elf.starts_with(b"\x7fELF");
        match self.fault.as_str() {
            "unfit" => {
                eprintln!("thread 'tokio-runtime-worker' panicked at src/builder.rs:37:9:");
                eprintln!("Unsupported GPU memory: 12, must be at least 24GB");
                return false;
            }
            "other-key" => vk.vk.pc_start.swap(0, 1),
            "slow-start" if is_trial => sleep(5),
            "wrong-key" if !is_trial => vk.vk.pc_start.swap(0, 1),
            "wrong-id" if !is_trial => id = [0; 32],
            "idle-exit" => {
                std::thread::spawn(|| {
                    std::thread::sleep(Duration::from_millis(800));
                    eprintln!("2026-01-01T00:00:00Z ERROR sp1_gpu: the device fell off the bus");
                    std::process::exit(7);
                });
            }
            _ => {}
        }
        self.answer(&Response::Setup { id, vk })
    }

    #[expect(clippy::print_stdout, clippy::print_stderr, reason = "as the real one does")]
    fn prove(&mut self) -> bool {
        note(&self.folder, "requests", "prove");
        let log = |line: &str| println!("2026-01-01T00:00:00Z {line}");
        log("DEBUG prove{mode=Core}: sp1_prover::worker::client::local: submitting task of kind ProveShard");
        log("DEBUG ProveShard{proof_id=p task_id=t}: sp1_prover::worker::node::full::init: task succeeded");
        let proof = || [2_u32.to_le_bytes().as_slice(), PROOF].concat();
        match self.fault.as_str() {
            "hang" => sleep(3600),
            "slow" => {
                for _ in 0..10 {
                    std::thread::sleep(Duration::from_millis(500));
                    log("DEBUG sp1_prover: still there");
                }
            }
            "crash" | "heir" => {
                log("ERROR sp1_gpu: an illegal memory access was encountered");
                std::process::exit(3);
            }
            "killed" | "killed-slowly" => {
                if self.fault == "killed-slowly" {
                    self.stream.shutdown(std::net::Shutdown::Both).unwrap();
                    sleep(4);
                }
                let own = rustix::process::getpid();
                rustix::process::kill_process(own, rustix::process::Signal::KILL).unwrap();
            }
            "garbage" => return self.send(&[0xff; 40]),
            "lie" => {
                self.stream.write_all(&[0xff; 64]).unwrap();
                return false;
            }
            "close" => return false,
            "refuse" | "memory" => {
                let cause = if self.fault == "memory" { "CUDA error: out of memory" } else { "shard 3 is odd" };
                log(&format!("ERROR Controller{{task_id=t}}: sp1_prover: Controller: task failed: {cause}"));
                return self.answer(&Response::ProverError("artifact not found".to_owned()));
            }
            "panic" => {
                eprintln!("thread 'tokio-runtime-worker' (77) panicked at src/shard.rs:5:6:\nshard 3 is odd");
                sleep(3600);
            }
            "wrong-proof" => {
                let mut proof = proof();
                let middle = proof.len() / 2;
                proof[middle] ^= 1;
                return self.send(&proof);
            }
            "mute" => return self.answer(&Response::Ok),
            "twice" => return self.send(&proof()) && self.answer(&Response::Ok),
            _ => {}
        }
        self.send(&proof())
    }
}
