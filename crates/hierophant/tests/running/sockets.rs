//! Sockets that outlive the program, and what its service manager is told.

use std::{
    net::{SocketAddr, TcpListener},
    os::{fd::OwnedFd, unix::net::UnixDatagram},
    path::Path,
    process::Command,
};

use rustix::process::Signal;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use crate::hierophant::{Hierophant, PATIENCE, arguments, command};

/// What the SP1 SDK's gRPC begins with: the words of HTTP/2, and settings without any.
const HTTP2: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// What a service manager holds: first the socket of gRPC, then that of HTTP.
struct Manager([TcpListener; 2]);

impl Manager {
    fn new() -> Self {
        Self([(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap()))
    }

    fn addresses(&self) -> [SocketAddr; 2] {
        [0, 1].map(|place: usize| self.0[place].local_addr().unwrap())
    }

    /// A command that starts the program with the sockets in this order as its descriptors 3 and 4.
    fn command(&self, order: [usize; 2], names: &str, directory: &Path) -> Command {
        let [third, fourth] = order.map(|place| OwnedFd::from(self.0[place].try_clone().unwrap()));
        let mut command = Command::new("sh");
        // The shell becomes the program, so that its number is the one that the sockets are for.
        let script = "exec 3<&0 4<&1 0</dev/null 1>/dev/null; export LISTEN_PID=$$; exec \"$0\" \"$@\"";
        command.args(["-c", script, env!("CARGO_BIN_EXE_hierophant")]).stdin(third).stdout(fourth);
        command.env("LISTEN_FDS", "2").env("LISTEN_FDNAMES", names);
        arguments(&mut command, directory, "");
        command
    }

    fn start(&self, directory: &Path) -> Hierophant {
        Hierophant::run(self.command([0, 1], "hierophant.socket:hierophant.socket", directory), directory)
    }
}

/// Says these words to whoever listens at `address`.
async fn call(address: SocketAddr, words: &[u8]) -> TcpStream {
    let mut socket = TcpStream::connect(address).await.unwrap();
    socket.write_all(words).await.unwrap();
    socket
}

/// Waits for the beginning of the answer.
async fn answer<const LENGTH: usize>(mut socket: TcpStream) -> [u8; LENGTH] {
    let mut answer = [0; LENGTH];
    timeout(PATIENCE, socket.read_exact(&mut answer)).await.expect("no answer came").unwrap();
    answer
}

#[tokio::test]
async fn what_was_asked_while_the_program_was_down_is_answered_when_it_is_up_again() {
    let directory = tempfile::tempdir().unwrap();
    let manager = Manager::new();
    let [grpc, http] = manager.addresses();
    let first = manager.start(directory.path());
    assert_eq!([first.endpoints.grpc, first.endpoints.http], [grpc, http]);
    assert!(first.is_healthy().await);
    first.stop();

    let asked = call(http, b"GET /health HTTP/1.1\r\nHost: hierophant\r\nConnection: close\r\n\r\n").await;
    let called = call(grpc, HTTP2).await;
    let second = manager.start(directory.path());
    assert_eq!(&answer::<15>(asked).await, b"HTTP/1.1 200 OK");
    let [_, _, _, kind, ..] = answer::<9>(called).await;
    assert_eq!(kind, 4, "the settings of an HTTP/2 server");
    second.stop();
}

#[tokio::test]
async fn named_sockets_may_come_in_any_order() {
    let directory = tempfile::tempdir().unwrap();
    let manager = Manager::new();
    let [grpc, http] = manager.addresses();
    let hierophant = Hierophant::run(manager.command([1, 0], "http:grpc", directory.path()), directory.path());
    assert_eq!([hierophant.endpoints.grpc, hierophant.endpoints.http], [grpc, http]);
    assert!(hierophant.is_healthy().await);
    hierophant.stop();
}

#[tokio::test]
async fn a_socket_that_is_missing_among_those_handed_over_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let mut command = Manager::new().command([0, 1], "grpc:other", directory.path());
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("none for http_port") && said.contains("name them grpc and http"), "{said}");
}

#[test]
fn the_service_manager_is_told_when_it_serves_and_when_it_stops() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    let told = || {
        let mut message = [0; 100];
        let length = manager.recv(&mut message).unwrap();
        String::from_utf8_lossy(&message[..length]).into_owned()
    };
    let data = directory.path().join("data");
    let mut command = command(&data, "");
    command.env("NOTIFY_SOCKET", &path);
    let hierophant = Hierophant::run(command, &data);
    assert_eq!(told(), "READY=1\n");
    hierophant.signal(Signal::TERM);
    assert_eq!(told(), "STOPPING=1\n");
    assert!(hierophant.end().0.success());
}
