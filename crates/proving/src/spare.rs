//! The spare: a prover child that is started ahead and stands by, so that one that ends has a successor at once.

use std::{mem, time::Duration};

use network_lib::ProverProfile;
use tokio::time::{Instant, sleep_until};

use crate::{
    frames::{self, PROTOCOL_VERSION, ProverMessage},
    prover::start_child,
    supervisor::{BackOff, ChildCommand, ChildEvent, RunningChild},
};

/// A child in waiting. It is given no work, and ends with this value.
pub(crate) struct Spare {
    command: ChildCommand,
    start_timeout: Duration,
    back_off: BackOff,
    state: State,
}

/// A child that takes over.
pub(crate) enum Successor {
    /// It can take an order.
    Ready(RunningChild, ProverProfile),
    /// It is not up yet, and has until then.
    Starting(RunningChild, Instant),
}

enum State {
    /// There is none, and none is wanted yet.
    Unwanted,
    /// To be started then.
    Wanted(Instant),
    /// Given up if it is not ready by then.
    Starting(RunningChild, Instant),
    Ready(RunningChild, ProverProfile),
}

impl Spare {
    pub(crate) fn new(command: ChildCommand, start_timeout: Duration, back_off: BackOff) -> Self {
        Self { command, start_timeout, back_off, state: State::Unwanted }
    }

    /// Asks for a child to stand by, if none does; it is not started before `from`.
    pub(crate) fn stand_by(&mut self, from: Instant) {
        if matches!(self.state, State::Unwanted) {
            self.state = State::Wanted(from);
        }
    }

    /// Kills the child, and waits until it is gone.
    pub(crate) async fn end(self) {
        match self.state {
            State::Unwanted | State::Wanted(_) => {}
            State::Starting(child, _) | State::Ready(child, _) => child.kill().await,
        }
    }

    /// Gives the child away. Another is started when one is [asked for](Self::stand_by).
    pub(crate) fn take(&mut self) -> Option<Successor> {
        match mem::replace(&mut self.state, State::Unwanted) {
            State::Unwanted | State::Wanted(_) => None,
            State::Starting(child, until) => Some(Successor::Starting(child, until)),
            State::Ready(child, profile) => {
                self.back_off.reset();
                Some(Successor::Ready(child, profile))
            }
        }
    }

    /// Waits for the next thing that happens to the child, and sees to it. Cancel-safe.
    pub(crate) async fn tend(&mut self) {
        let event = match &mut self.state {
            State::Unwanted => std::future::pending().await,
            State::Wanted(from) => {
                sleep_until(*from).await;
                return self.start();
            }
            State::Starting(child, until) => tokio::select! {
                event = child.next_event() => event,
                () = sleep_until(*until) => {
                    return self.lost(&format!("it was not ready after {} s", self.start_timeout.as_secs()));
                }
            },
            State::Ready(child, _) => child.next_event().await,
        };
        match event {
            ChildEvent::Line(line) => match frames::decode(&line) {
                Ok(ProverMessage::Ready { protocol: PROTOCOL_VERSION, profile }) => self.is_ready(profile),
                Ok(ProverMessage::Ready { protocol, .. }) => {
                    self.lost(&format!("it speaks version {protocol} of the frames, not {PROTOCOL_VERSION}"));
                }
                Ok(_) => {} // it has nothing to tell of
                Err(cause) => self.lost(&format!("it sent garbage: {cause}")),
            },
            ChildEvent::Broken(cause) => self.lost(&cause),
            ChildEvent::Exited(status) => {
                let cause = match &self.state {
                    State::Starting(child, _) | State::Ready(child, _) => child.exit_fault(status).cause,
                    State::Unwanted | State::Wanted(_) => status.to_string(),
                };
                self.lost(&cause);
            }
        }
    }

    fn start(&mut self) {
        match start_child(&self.command) {
            Ok(child) => self.state = State::Starting(child, Instant::now() + self.start_timeout),
            Err(error) => self.lost(&error),
        }
    }

    fn is_ready(&mut self, profile: ProverProfile) {
        self.state = match mem::replace(&mut self.state, State::Unwanted) {
            State::Starting(child, _) => {
                tracing::debug!("a spare prover stands by");
                State::Ready(child, profile)
            }
            other => other,
        };
    }

    /// Ends what is left of the child, and sets the time of the next.
    fn lost(&mut self, cause: &str) {
        tracing::warn!(cause, "a spare prover ended");
        self.state = State::Wanted(Instant::now() + self.back_off.next());
    }
}

#[cfg(test)]
mod tests {
    use network_lib::{Backend, CircuitVersion, Vm};
    use tokio::time::timeout;

    use super::*;

    fn profile() -> ProverProfile {
        ProverProfile {
            vm: Vm::Sp1,
            backend: Backend::Cpu,
            device: "cpu".to_owned(),
            circuit_version: CircuitVersion::new("sp1-v6.1.0"),
            modes: Vec::new(),
            memory_bytes: 0,
        }
    }

    fn spare(script: &str) -> Spare {
        let command = ChildCommand { program: "/bin/sh".into(), args: vec!["-c".into(), script.into()], env: vec![] };
        let millisecond = Duration::from_millis(1);
        Spare::new(command, Duration::from_mins(1), BackOff::new(millisecond, millisecond))
    }

    async fn until(spare: &mut Spare, is_it: fn(&State) -> bool) {
        let tending = async {
            while !is_it(&spare.state) {
                spare.tend().await;
            }
        };
        timeout(Duration::from_mins(1), tending).await.expect("it comes to that");
    }

    #[tokio::test]
    async fn a_spare_that_is_ready_is_given_away_once() {
        let ready = frames::encode(&ProverMessage::Ready { protocol: PROTOCOL_VERSION, profile: profile() });
        let mut spare = spare(&format!("echo '{}'; cat", ready.expect("a frame")));
        assert!(spare.take().is_none(), "there is none before it is asked for");
        spare.stand_by(Instant::now());
        until(&mut spare, |state| matches!(state, State::Ready(..))).await;
        assert!(matches!(spare.take(), Some(Successor::Ready(_, told)) if told == profile()));
        assert!(spare.take().is_none());
        spare.stand_by(Instant::now());
        until(&mut spare, |state| matches!(state, State::Ready(..))).await;
        spare.end().await;
    }

    #[tokio::test]
    async fn a_spare_that_ends_is_started_again_and_not_before_its_time() {
        let mut spare = spare("exit 3");
        let begun = Instant::now();
        spare.stand_by(begun + Duration::from_millis(50));
        until(&mut spare, |state| matches!(state, State::Starting(..))).await;
        assert!(begun.elapsed() >= Duration::from_millis(50));
        until(&mut spare, |state| matches!(state, State::Wanted(_))).await;
        until(&mut spare, |state| matches!(state, State::Starting(..))).await;
    }
}
