//! One connection of a worker, from its hello to its end.

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use futures_util::{Sink, SinkExt as _, Stream, StreamExt as _};
use hierophant_core::{Event, SessionId};
use network_lib::{
    CONTEMPLANT_VERSION, WorkerId, WorkerProfile, crash_point,
    protocol::{EvictionCode, InHand, Instruction, ProtocolError, Report, Settings},
};
use tokio::{
    sync::mpsc,
    time::{MissedTickBehavior, interval, timeout},
};

use super::handle::{FleetView, Outbound};
use crate::service::{Service, Welcome};

/// A worker must say hello within this time.
const HELLO_TIMEOUT: Duration = Duration::from_secs(10);

/// A worker that does not take a message within this time does not read.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// Instructions that wait for a worker's socket. One worker holds at most a few dozen attempts.
const MAILBOX_BOUND: usize = 1024;

/// Reports of one worker that wait for the store; the worker waits when there are more.
const RECORDER_BOUND: usize = 64;

/// What sessions go by.
#[derive(Debug, Clone)]
pub struct SessionSettings {
    /// How often each side sends a heartbeat.
    pub heartbeat_interval: Duration,
    /// Silence after which either side takes the other for gone.
    pub silence_limit: Duration,
}

/// What a session puts on its connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// A message of the protocol.
    Message(Bytes),
    /// The last frame: why the session ends, in words of any length.
    Goodbye(String),
}

/// Why a connection brings or takes nothing more.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    /// It broke.
    #[error("the connection broke: {0}")]
    Connection(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Something came that is no binary frame.
    #[error("the worker sent something other than binary frames")]
    NotBinary,
}

/// The frames that a worker sends. Ends when the worker closes the connection.
pub trait Frames: Stream<Item = Result<Bytes, Broken>> + Unpin + Send {}

impl<T: Stream<Item = Result<Bytes, Broken>> + Unpin + Send> Frames for T {}

/// Takes frames to a worker.
pub trait FrameSink: Sink<Frame, Error = Broken> + Unpin + Send {}

impl<T: Sink<Frame, Error = Broken> + Unpin + Send> FrameSink for T {}

/// Why a session ended, in words; none of these is a defect of ours.
#[derive(Debug, thiserror::Error)]
enum End {
    #[error("the connection was closed")]
    Closed,
    #[error(transparent)]
    Broken(#[from] Broken),
    #[error("the worker did not take a message within {} s", WRITE_TIMEOUT.as_secs())]
    WriteTimeout,
    #[error("the worker did not say hello within {} s", HELLO_TIMEOUT.as_secs())]
    NoHello,
    #[error("the worker sent something that is not the protocol: {0}")]
    Protocol(#[from] ProtocolError),
    #[error("{reason}")]
    Refused { code: EvictionCode, reason: String },
    // It must fit into a close frame, which is all that the worker sees of it.
    #[error("another contemplant has this worker's id: in a copied state directory, delete worker.id")]
    Twin { worker: WorkerId, recently: Duration },
    #[error("{0}")]
    Told(&'static str),
}

/// Serves one worker until either side ends the session.
pub async fn run(
    mut frames: impl Frames,
    mut sink: impl FrameSink,
    peer: SocketAddr,
    service: Service,
    settings: SessionSettings,
) {
    let (profile, in_hand) = match greet(&mut frames, &service, &settings).await {
        Ok(hello) => hello,
        Err(end) => {
            if let End::Twin { worker, recently } = &end {
                tracing::error!(worker.id = %worker, peer = %peer,
                    "two contemplants have one id, and one is turned away: if its state directory was copied, as with \
                     an image, delete worker.id in it; if it was cut off and restarted, it comes in within {} s",
                    recently.as_secs());
            } else {
                tracing::warn!(peer = %peer, reason = %end, "a worker was turned away");
            }
            if let End::Refused { code, reason } = &end {
                let _ = send(&mut sink, Instruction::Evicted { code: Some(*code), reason: reason.clone() }).await;
            }
            close(&mut sink, &end).await;
            return;
        }
    };
    let worker = profile.id;
    tracing::info!(worker.id = %worker, worker.name = profile.name, peer = %peer, "a worker joined");
    let session = service.fleet.new_session();
    let end = serve(&mut sink, &mut frames, session, profile, in_hand, peer, &service, &settings).await;
    close(&mut sink, &end).await;
    service.fleet.leave(worker, session, end.to_string()).await;
}

/// The first message of a worker that may come in.
async fn greet(
    frames: &mut impl Frames,
    service: &Service,
    settings: &SessionSettings,
) -> Result<(WorkerProfile, Vec<InHand>), End> {
    let hello = timeout(HELLO_TIMEOUT, next_report(frames)).await.map_err(|_| End::NoHello)?;
    let (profile, in_hand) = check_hello(hello?)?;
    // They would take turns, each losing the other's attempts. One that was cut off without a word seems to be here for a
    // moment longer, and its next process comes again until it does not.
    let (worker, instance, recently) = (profile.id, profile.instance, 3 * settings.heartbeat_interval);
    let now = service.clock.now().moment;
    let has_twin = move |view: &FleetView<'_>| view.fleet().has_twin(worker, instance, recently, now);
    if service.fleet.inspect(has_twin).await.unwrap_or(false) {
        return Err(End::Twin { worker, recently });
    }
    Ok((profile, in_hand))
}

/// Checks a first message.
fn check_hello(report: Report) -> Result<(WorkerProfile, Vec<InHand>), End> {
    let Report::Hello { version, profile, in_hand } = report else {
        let reason = "the first message of a session must be Hello".to_owned();
        return Err(End::Refused { code: EvictionCode::Protocol, reason });
    };
    if version != CONTEMPLANT_VERSION {
        let reason = format!(
            "this contemplant is version {version} and this Hierophant is version {CONTEMPLANT_VERSION}: \
             install contemplant {CONTEMPLANT_VERSION}"
        );
        return Err(End::Refused { code: EvictionCode::Version, reason });
    }
    Ok((profile, in_hand))
}

#[expect(clippy::too_many_arguments, reason = "the parts of one session, used here alone")]
async fn serve(
    sink: &mut impl FrameSink,
    frames: &mut impl Frames,
    session: SessionId,
    profile: WorkerProfile,
    in_hand: Vec<InHand>,
    peer: SocketAddr,
    service: &Service,
    settings: &SessionSettings,
) -> End {
    let worker = profile.id;
    let (mailbox, mut instructions) = mpsc::channel(MAILBOX_BOUND);
    let welcome = Instruction::Welcome(Settings {
        version: CONTEMPLANT_VERSION.to_owned(),
        heartbeat_interval: settings.heartbeat_interval,
        silence_limit: settings.silence_limit,
        mock_mode: service.settings.mock_mode,
    });
    if let Err(end) = send(sink, welcome).await {
        return end;
    }
    let Welcome { leases, answers, standing } = match service.welcome(worker, in_hand).await {
        Ok(welcome) => welcome,
        Err(error) => {
            tracing::error!(worker.id = %worker, error = %error, "a worker's attempts could not be looked up");
            return End::Told("the coordinator's store is not available");
        }
    };
    let held: Vec<_> = leases.iter().map(|lease| (lease.work.id, lease.attempt)).collect();
    // Only of one whose departure will be recorded too: others would be taken to be here for ever.
    service.record_arrival(&profile, &peer.to_string()).await;
    service.fleet.join(session, profile, peer.to_string(), leases, standing, mailbox).await;
    if service.release_outdated(held).await {
        // Its next hello is answered by what is true by then.
        return End::Told("an attempt of the worker ended while it was welcomed");
    }
    for answer in answers {
        if let Err(end) = send(sink, answer).await {
            return end;
        }
    }
    let (recorder, reports) = mpsc::channel(RECORDER_BOUND);
    service.tasks.spawn(record(worker, session, reports, service.clone()));
    let mut heartbeat = interval(settings.heartbeat_interval);
    heartbeat.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        // What comes seldom goes first, so that a talkative worker does not hold it up.
        let outcome = tokio::select! {
            biased;
            _ = heartbeat.tick() => send(sink, Instruction::Heartbeat).await,
            instruction = instructions.recv() => match instruction {
                Some(Outbound::Instruction(instruction)) => send(sink, instruction).await,
                Some(Outbound::Close(reason)) => Err(End::Told(reason)),
                None => Err(End::Told("the session was given up")),
            },
            report = next_report(frames) => match report {
                Ok(report) => hear(worker, session, report, service, &recorder).await,
                Err(end) => Err(end),
            },
        };
        if let Err(end) = outcome {
            return end;
        }
    }
}

/// Takes note of one report. What changes a request goes to the session's recorder, in order.
async fn hear(
    worker: WorkerId,
    session: SessionId,
    report: Report,
    service: &Service,
    recorder: &mpsc::Sender<Report>,
) -> Result<(), End> {
    service.fleet.send(Event::Heard { worker, session }).await;
    match report {
        Report::Hello { .. } => Err(End::Told("a second hello in one session")),
        Report::Heartbeat => Ok(()),
        Report::Accepted(attempt) => {
            crash_point!("claim.after_send_before_ack");
            service.fleet.send(Event::Accepted { attempt, worker }).await;
            Ok(())
        }
        Report::Progress(attempt, progress) => {
            service.fleet.send(Event::Progressed { attempt, worker, progress }).await;
            Ok(())
        }
        Report::ProversChanged(provers) => {
            service.fleet.send(Event::ProversChanged { worker, session, provers }).await;
            Ok(())
        }
        Report::Draining => {
            service.fleet.send(Event::Draining { worker, session }).await;
            Ok(())
        }
        Report::Executed(..)
        | Report::Proved { .. }
        | Report::Delivered(_)
        | Report::Failed(..)
        | Report::Declined(..) => recorder.send(report).await.map_err(|_| End::Told("the coordinator is stopping")),
    }
}

/// Records what one session reports, in the order in which it came. Runs in a task of its own: the end of the session
/// cuts nothing off. What cannot be recorded ends the session, since the worker says it again in the next one.
async fn record(worker: WorkerId, session: SessionId, mut reports: mpsc::Receiver<Report>, service: Service) {
    while let Some(report) = reports.recv().await {
        if let Err(error) = service.record(worker, report).await {
            tracing::error!(worker.id = %worker, error = &error as &dyn std::error::Error, "a report was not recorded");
            return service.fleet.disconnect(worker, session, "the coordinator's store is not available").await;
        }
    }
}

async fn next_report(frames: &mut impl Frames) -> Result<Report, End> {
    let frame = frames.next().await.ok_or(End::Closed)??;
    Ok(Report::decode(&frame)?)
}

async fn send(sink: &mut impl FrameSink, instruction: Instruction) -> Result<(), End> {
    match timeout(WRITE_TIMEOUT, sink.send(Frame::Message(instruction.encode().into()))).await {
        Ok(sent) => Ok(sent?),
        Err(_) => Err(End::WriteTimeout),
    }
}

async fn close(sink: &mut impl FrameSink, end: &End) {
    let _ = timeout(WRITE_TIMEOUT, sink.send(Frame::Goodbye(end.to_string()))).await;
}
