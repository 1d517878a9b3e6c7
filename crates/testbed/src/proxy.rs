//! A network that misbehaves: a TCP proxy that delays, chops, stalls, cuts and half-opens connections, by a seed.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::sleep,
};

/// Bytes that are passed on at once.
const PIECE: usize = 64 << 10;

/// What happens to a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// Nothing.
    None,
    /// Each piece comes this much later.
    Delay(Duration),
    /// It comes in pieces of at most so many bytes.
    Chop(usize),
    /// After so many bytes nothing moves for this long, once.
    Stall(usize, Duration),
    /// After so many bytes it is closed.
    Cut(usize),
    /// After so many bytes nothing moves any more in this direction, and the connection stays open.
    HalfOpen(usize),
}

impl Fault {
    fn draw(random: &mut StdRng) -> Self {
        // A session has a few bytes now and then, an upload a million.
        let after = 1 << random.random_range(4..21);
        match random.random_range(0..10) {
            0 | 1 => Self::Delay(Duration::from_millis(random.random_range(1..40))),
            2 => Self::Chop(random.random_range(1..2000)),
            3 => Self::Stall(after, Duration::from_millis(random.random_range(200..5000))),
            4 | 5 => Self::Cut(after),
            6 => Self::HalfOpen(after),
            _ => Self::None,
        }
    }
}

/// A proxy that does not listen to reason yet. See [`Proxy::serve`].
#[derive(Debug)]
pub struct Proxy {
    listener: TcpListener,
}

/// A proxy at work. Dropped, it is gone with its connections.
#[derive(Debug)]
pub struct Serving {
    _connections: JoinSet<()>,
    passed: Arc<AtomicU64>,
}

impl Serving {
    /// Bytes that clients sent as far as this, in all connections.
    pub fn passed(&self) -> u64 {
        self.passed.load(Ordering::Relaxed)
    }
}

impl Proxy {
    /// Listens on a free port of this machine.
    ///
    /// # Errors
    /// When there is none.
    pub async fn bind() -> std::io::Result<Self> {
        Ok(Self { listener: TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await? })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Passes connections on to `target`. The `seed` says what happens to the first connection, the second, and so on.
    pub fn serve(self, target: SocketAddr, seed: u64) -> Serving {
        let mut random = StdRng::seed_from_u64(seed);
        self.serve_with(target, move || (Fault::draw(&mut random), Fault::draw(&mut random)))
    }

    /// Passes connections on to `target`, and cuts each after so many bytes of its client.
    pub fn serve_cutting(self, target: SocketAddr, after: usize) -> Serving {
        self.serve_with(target, move || (Fault::Cut(after), Fault::None))
    }

    /// `faults` are of the next connection: up to the server, and down from it.
    fn serve_with(self, target: SocketAddr, mut faults: impl FnMut() -> (Fault, Fault) + Send + 'static) -> Serving {
        let mut connections = JoinSet::new();
        let passed = Arc::<AtomicU64>::default();
        let counted = Arc::clone(&passed);
        connections.spawn(async move {
            let mut relays = JoinSet::new();
            while let Ok((client, _)) = self.listener.accept().await {
                let (up, down) = faults();
                relays.spawn(relay(client, target, up, down, Arc::clone(&counted)));
                while relays.try_join_next().is_some() {}
            }
        });
        Serving { _connections: connections, passed }
    }
}

async fn relay(mut client: TcpStream, target: SocketAddr, up: Fault, down: Fault, sent: Arc<AtomicU64>) {
    let Ok(mut server) = TcpStream::connect(target).await else { return };
    let (client_reads, client_writes) = client.split();
    let (server_reads, server_writes) = server.split();
    tokio::select! {
        () = pass(client_reads, server_writes, up, |bytes| { sent.fetch_add(bytes as u64, Ordering::Relaxed); }) => {}
        () = pass(server_reads, client_writes, down, |_| {}) => {}
    }
}

/// Passes one direction on until it ends.
async fn pass(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    fault: Fault,
    mut count: impl FnMut(usize),
) {
    let mut piece = vec![0; if let Fault::Chop(bytes) = fault { bytes } else { PIECE }];
    let mut passed = 0;
    let mut is_over = false;
    loop {
        let Ok(bytes @ 1..) = from.read(&mut piece).await else { return };
        passed += bytes;
        count(bytes);
        match fault {
            Fault::Delay(time) => sleep(time).await,
            Fault::Stall(after, time) if passed > after && !is_over => {
                is_over = true;
                sleep(time).await;
            }
            Fault::Cut(after) if passed > after => return,
            Fault::HalfOpen(after) if passed > after => std::future::pending().await,
            Fault::None | Fault::Chop(_) | Fault::Stall(..) | Fault::Cut(_) | Fault::HalfOpen(_) => {}
        }
        if to.write_all(&piece[..bytes]).await.is_err() {
            return;
        }
    }
}
