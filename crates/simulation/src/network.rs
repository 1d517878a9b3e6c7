//! Connections between workers and the coordinator: ordered, delayed, cut off, and not always noticed to be.

use std::{
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{Sink, stream};
use hierophant::fleet::{Broken, Frame, FrameSink, Frames};
use tokio::{
    sync::{mpsc, watch},
    time::sleep,
};
use tokio_util::sync::{CancellationToken, PollSender};

use crate::{
    event::{Event, WorkerIndex},
    world::World,
};

/// Frames that are under way in one direction. Whoever sends more waits, as with the buffers of a socket.
const BUFFER: usize = 64;

/// Who notices that a connection was cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Noticed {
    Both,
    WorkerOnly,
    CoordinatorOnly,
}

/// What can be done to a connection from outside.
#[derive(Debug, Default)]
struct Wire {
    /// Neither end hears of the other's end.
    is_silent: AtomicBool,
    worker_end: CancellationToken,
    coordinator_end: CancellationToken,
}

/// One worker's way to the coordinator. Counts what blocks it.
#[derive(Debug)]
struct Path {
    up: watch::Sender<u32>,
    down: watch::Sender<u32>,
    wire: Mutex<Weak<Wire>>,
}

/// The network of one run.
#[derive(Clone)]
pub(crate) struct Network {
    world: World,
    paths: Arc<Vec<Path>>,
}

/// A worker's end of a connection.
pub(crate) struct Line {
    pub(crate) up: mpsc::Sender<Bytes>,
    down: mpsc::Receiver<Frame>,
    wire: Arc<Wire>,
}

impl Line {
    /// The next frame; `None` when the connection has ended. Cancel-safe.
    pub(crate) async fn hear(&mut self) -> Option<Frame> {
        tokio::select! {
            biased;
            () = self.wire.worker_end.cancelled() => None,
            frame = self.down.recv() => frame,
        }
    }
}

/// Where the coordinator puts its frames.
struct CoordinatorEnd {
    frames: PollSender<Frame>,
    cut: CancellationToken,
    world: World,
    worker: WorkerIndex,
}

fn reset<T>(_: T) -> Broken {
    Broken::Connection("reset by peer".into())
}

impl Sink<Frame> for CoordinatorEnd {
    type Error = Broken;

    fn poll_ready(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        if self.cut.is_cancelled() {
            return Poll::Ready(Err(reset(())));
        }
        self.frames.poll_reserve(context).map_err(reset)
    }

    fn start_send(mut self: Pin<&mut Self>, frame: Frame) -> Result<(), Broken> {
        if let Frame::Goodbye(reason) = &frame {
            self.world.tell(Event::Dismissed { worker: self.worker, reason: reason.clone() });
        }
        self.frames.send_item(frame).map_err(reset)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        Poll::Ready(Ok(()))
    }
}

impl Network {
    pub(crate) fn new(world: World, workers: usize) -> Self {
        let path = || Path { up: watch::Sender::new(0), down: watch::Sender::new(0), wire: Mutex::default() };
        Self { world, paths: Arc::new((0..workers).map(|_| path()).collect()) }
    }

    /// Both ends of a new connection.
    pub(crate) fn connect(&self, worker: WorkerIndex) -> (Line, impl Frames + use<>, impl FrameSink + use<>) {
        let wire = Arc::new(Wire::default());
        let (up, up_end) = self.pump(&self.paths[worker].up, &wire);
        let (down, down_end) = self.pump(&self.paths[worker].down, &wire);
        *self.paths[worker].wire.lock().unwrap_or_else(PoisonError::into_inner) = Arc::downgrade(&wire);
        let coordinator_end = wire.coordinator_end.clone();
        let world = self.world.clone();
        let frames = stream::unfold((up_end, coordinator_end.clone()), move |(mut frames, cut)| {
            let world = world.clone();
            async move {
                let frame: Bytes = cut.run_until_cancelled(frames.recv()).await.flatten()?;
                world.touch(worker);
                Some((Ok::<_, Broken>(frame), (frames, cut)))
            }
        });
        let sink =
            CoordinatorEnd { frames: PollSender::new(down), cut: coordinator_end, world: self.world.clone(), worker };
        (Line { up, down: down_end, wire }, Box::pin(frames), sink)
    }

    /// Carries frames from one end to the other, in order.
    fn pump<T: Send + 'static>(
        &self,
        blocked: &watch::Sender<u32>,
        wire: &Arc<Wire>,
    ) -> (mpsc::Sender<T>, mpsc::Receiver<T>) {
        let (sender, mut from) = mpsc::channel(BUFFER);
        let (to, receiver) = mpsc::channel(BUFFER);
        let mut blocked = blocked.subscribe();
        let (world, wire) = (self.world.clone(), Arc::downgrade(wire));
        let pace = self.world.draw(|chance| chance.spread(Duration::from_millis(1), Duration::from_millis(80)));
        let is_silent = move || wire.upgrade().is_some_and(|wire| wire.is_silent.load(Ordering::Relaxed));
        self.world.tasks().spawn(async move {
            loop {
                let frame = tokio::select! {
                    biased;
                    () = to.closed() => {
                        if !is_silent() {
                            return;
                        }
                        // The other end does not know, and goes on for as long as the buffers last.
                        sleep(Duration::from_mins(20)).await;
                        return;
                    }
                    frame = from.recv() => frame,
                };
                let delay = world.draw(|chance| chance.millis(0, u64::try_from(pace.as_millis()).unwrap_or(1)));
                sleep(delay).await;
                let _ = blocked.wait_for(|blocks| *blocks == 0).await;
                match frame {
                    Some(frame) => drop(to.send(frame).await),
                    None if is_silent() => return to.closed().await,
                    None => return,
                }
            }
        });
        (sender, receiver)
    }

    /// Whether frames go through, both ways.
    pub(crate) fn is_open(&self, worker: WorkerIndex) -> bool {
        let path = &self.paths[worker];
        *path.up.borrow() == 0 && *path.down.borrow() == 0
    }

    /// Holds frames back until [`unblock`](Self::unblock).
    pub(crate) fn block(&self, worker: WorkerIndex, up: bool, down: bool) {
        self.paths[worker].up.send_modify(|blocks| *blocks += u32::from(up));
        self.paths[worker].down.send_modify(|blocks| *blocks += u32::from(down));
    }

    pub(crate) fn unblock(&self, worker: WorkerIndex, up: bool, down: bool) {
        self.paths[worker].up.send_modify(|blocks| *blocks = blocks.saturating_sub(u32::from(up)));
        self.paths[worker].down.send_modify(|blocks| *blocks = blocks.saturating_sub(u32::from(down)));
    }

    /// Lets everything through.
    pub(crate) fn heal(&self) {
        for path in self.paths.iter() {
            path.up.send_replace(0);
            path.down.send_replace(0);
        }
    }

    /// Cuts a worker's latest connection.
    pub(crate) fn cut(&self, worker: WorkerIndex, noticed: Noticed) {
        let wire = self.paths[worker].wire.lock().unwrap_or_else(PoisonError::into_inner).upgrade();
        let Some(wire) = wire else { return };
        wire.is_silent.store(noticed != Noticed::Both, Ordering::Relaxed);
        if noticed != Noticed::CoordinatorOnly {
            wire.worker_end.cancel();
        }
        if noticed != Noticed::WorkerOnly {
            wire.coordinator_end.cancel();
        }
    }

    /// From here on neither end of a worker's latest connection hears of the other's end: a machine lost power.
    pub(crate) fn silence(&self, worker: WorkerIndex) {
        if let Some(wire) = self.paths[worker].wire.lock().unwrap_or_else(PoisonError::into_inner).upgrade() {
            wire.is_silent.store(true, Ordering::Relaxed);
        }
    }
}
