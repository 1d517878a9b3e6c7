//! Executors as they are: processes of the real program, with guests that behave and guests that do not.

#![cfg(feature = "sp1")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::{
    fs,
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use network_lib::{Digest, Fault, FaultClass};
use proving::{ChildCommand, ExecuteOrder, Execution, Executor};
use tempfile::TempDir;

/// Long enough for any machine; a test that takes it has failed.
const PATIENCE: Duration = Duration::from_mins(5);

fn command() -> ChildCommand {
    ChildCommand { program: env!("CARGO_BIN_EXE_contemplant").into(), args: vec!["executor".into()], env: vec![] }
}

/// Bincode of some bytes.
fn packed(bytes: &[u8]) -> Vec<u8> {
    [&u64::try_from(bytes.len()).unwrap().to_le_bytes(), bytes].concat()
}

/// Bincode of an input of one `u32`: its buffers, where reading begins, and no proofs.
fn input(number: u32) -> Vec<u8> {
    [&1_u64.to_le_bytes()[..], &packed(&number.to_le_bytes()), &[0; 16]].concat()
}

fn order(folder: &TempDir, program: &str, stdin: &[u8]) -> ExecuteOrder {
    let elf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../programs").join(program).join("elf").join(program);
    let order = ExecuteOrder {
        program: folder.path().join("program"),
        stdin: folder.path().join("stdin"),
        cycle_limit: u64::MAX,
        memory_bytes: 1 << 30,
    };
    fs::write(&order.program, packed(&fs::read(elf).unwrap())).unwrap();
    fs::write(&order.stdin, stdin).unwrap();
    order
}

async fn execute(order: &ExecuteOrder, time_limit: Duration) -> Result<Execution, Fault> {
    Executor::start(&command(), order, time_limit).await?.finish().await
}

#[tokio::test]
async fn a_program_that_ends_well_is_told_of() {
    let folder = TempDir::new().unwrap();
    let execution = execute(&order(&folder, "fibonacci", &input(20)), PATIENCE).await.unwrap();
    let public_values: Vec<u8> = [20_u32, 6765, 3027].into_iter().flat_map(u32::to_le_bytes).collect();
    assert_eq!(execution.public_values_hash, *Digest::sha256(&public_values).as_bytes());
}

#[tokio::test]
async fn an_input_that_is_none_is_the_guests_fault() {
    let folder = TempDir::new().unwrap();
    let fault = execute(&order(&folder, "fibonacci", &[0xff; 64]), PATIENCE).await.unwrap_err();
    assert!(fault.class == FaultClass::Guest && fault.cause.starts_with("stdin does not decode: "), "{fault}");
}

#[tokio::test]
async fn an_input_that_takes_too_much_memory_ends_its_executor() {
    let folder = TempDir::new().unwrap();
    let bomb = packed(&vec![0; 64 << 20]); // so many empty buffers would be 24 bytes each
    let order = order(&folder, "fibonacci", &[&8_000_000_u64.to_le_bytes()[..], &bomb[8..]].concat());
    let fault = execute(&ExecuteOrder { memory_bytes: 200 << 20, ..order }, PATIENCE).await.unwrap_err();
    assert!(fault.class == FaultClass::Resources && fault.cause.contains("memory allocation of "), "{fault}");
}

#[tokio::test]
async fn a_guest_that_takes_all_memory_ends_its_executor() {
    let folder = TempDir::new().unwrap();
    let fault = execute(&order(&folder, "unruly", &input(1)), PATIENCE).await.unwrap_err();
    assert_eq!(fault.class, FaultClass::Resources, "{fault}");
    assert!(fault.cause.starts_with("the program takes more memory than this worker has for it"), "{fault}");
}

#[tokio::test]
async fn the_clock_ends_a_loop_that_reads_nothing() {
    let folder = TempDir::new().unwrap();
    let limited = ExecuteOrder { cycle_limit: 1_000_000, ..order(&folder, "unruly", &input(0)) };
    let fault = execute(&limited, Duration::from_secs(5)).await.unwrap_err();
    assert_eq!(fault.class, FaultClass::Resources, "{fault}");
    assert!(fault.cause.starts_with("the program was still running after 5 s: "), "{fault}");
}

/// The executor, in a world of its own in which `mount` was done.
fn with_mounts(mount: &str) -> ChildCommand {
    let ChildCommand { program, .. } = command();
    let script = format!("{mount} && exec \"$0\" executor");
    let args = ["--mount", "sh", "-c", &script].map(Into::into).into_iter().chain([program.into()]);
    ChildCommand { program: "unshare".into(), args: args.collect(), env: vec![] }
}

#[tokio::test]
async fn too_little_shared_memory_is_told_with_the_remedy() {
    let folder = TempDir::new().unwrap();
    let command = with_mounts("mount -t tmpfs -o size=1m tmpfs /dev/shm");
    let order = order(&folder, "unruly", &input(2)); // reads memory, all of which is traced
    let fault = Executor::start(&command, &order, PATIENCE).await.unwrap().finish().await.unwrap_err();
    assert_eq!(fault.class, FaultClass::Resources, "{fault}");
    assert!(fault.cause.contains("/dev/shm is full or missing: give it more room (docker: --shm-size)"), "{fault}");
}

#[tokio::test]
async fn a_full_disk_of_the_executor_is_told_with_the_remedy() {
    let folder = TempDir::new().unwrap();
    let full = "mount -t tmpfs -o size=16k tmpfs /mnt && export TMPDIR=/mnt && head -c 1m /dev/zero >/mnt/full";
    let command = with_mounts(&format!("{{ {full}; true; }}"));
    let order = order(&folder, "fibonacci", &input(20));
    let fault = Executor::start(&command, &order, PATIENCE).await.unwrap().finish().await.unwrap_err();
    assert_eq!(fault.class, FaultClass::Resources, "{fault}");
    assert!(fault.cause.contains("a disk is full: make room"), "{fault}");
}

#[tokio::test]
async fn a_dropped_execution_leaves_no_process_and_no_shared_memory() {
    let folder = TempDir::new().unwrap();
    let mut command = command();
    command.env.push((MARK.into(), folder.path().into()));
    let executor = Executor::start(&command, &order(&folder, "unruly", &input(0)), PATIENCE).await.unwrap();
    let running = Running::wait(&folder);
    drop(executor);
    running.wait_until_gone();
}

/// As when the prover that started it was killed.
#[test]
fn an_executor_whose_parent_is_gone_leaves_no_process_and_no_shared_memory() {
    use std::os::unix::process::CommandExt as _;
    let folder = TempDir::new().unwrap();
    let order = order(&folder, "unruly", &input(0));
    let mut child = Command::new(command().program)
        .args(command().args)
        .env(MARK, folder.path())
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    writeln!(stdin, "{}", serde_json::to_string(&order).unwrap()).unwrap();
    let running = Running::wait(&folder);
    drop(stdin);
    child.wait().unwrap();
    running.wait_until_gone();
}

/// A variable by which the processes of a test are known: its value is the test's folder.
const MARK: &str = "TEST_FOLDER";

/// An executor with its guest at work.
struct Running {
    processes: Vec<u32>,
    /// What the names of its shared memory have in common.
    memory_id: String,
}

impl Running {
    /// Waits until the executor of the test with this folder has its guest at work, in a process of its own.
    fn wait(folder: &TempDir) -> Self {
        let mark = format!("{MARK}={}\0", folder.path().display());
        loop {
            let is_marked = |pid: &u32| {
                fs::read(format!("/proc/{pid}/environ"))
                    .is_ok_and(|environ| environ.windows(mark.len()).any(|part| part == mark.as_bytes()))
            };
            let processes: Vec<u32> = pids().into_iter().filter(is_marked).collect();
            let memory_id = processes.iter().find_map(|pid| {
                let maps = fs::read_to_string(format!("/proc/{pid}/maps")).ok()?;
                let (_, name) = maps.split_once("/dev/shm/sp1_")?;
                Some(name.get(..20)?.to_owned())
            });
            if let (Some(memory_id), 2..) = (memory_id, processes.len()) {
                return Self { processes, memory_id };
            }
            pause();
        }
    }

    /// Waits until the processes are gone; then nothing may be left of their shared memory.
    fn wait_until_gone(&self) {
        let is_running = |pid: &u32| {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with('Z'))
        };
        while self.processes.iter().any(is_running) {
            pause();
        }
        let names = fs::read_dir("/dev/shm").unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let left: Vec<String> = names.filter(|name| name.contains(&self.memory_id)).collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

fn pids() -> Vec<u32> {
    fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect()
}

/// Between two looks at what cannot be waited for.
fn pause() {
    std::thread::sleep(Duration::from_millis(5));
}
