//! A prover, as the worker's core sees one: it starts, proves, fails in every way, dies and starts again.

use std::{sync::atomic::Ordering, time::Duration};

use bytes::Bytes;
use network_lib::{AttemptId, Digest, Fault, ProverProfile, protocol::Assignment};
use proving::{
    Execution, ProverReport,
    mock::{MockClaim, seal},
    testing::ScriptedProver,
};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};

use super::{SharedDisk, locked};
use crate::{
    client::{GUEST_FAILS, public_values_hash},
    event::{Event, WorkerIndex},
    world::World,
};

/// What a prover is told, as contemplant's `provers::Command`.
pub(super) enum Command {
    Prove { assignment: Box<Assignment>, readiness: u64 },
    Cancel(AttemptId),
}

/// What comes of a prover.
pub(super) enum Answer {
    Says(ProverReport),
    NotTaken { attempt: AttemptId, readiness: u64 },
    Stopped(AttemptId),
}

/// How a proof goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Good,
    /// The prover says that it has a proof, and it is none.
    Garbage,
    /// A proof of another program.
    Foreign,
    TooLarge,
    Broken,
    /// The child dies.
    Dies,
    /// No outcome until the time limit, which ends the child.
    Hangs,
}

/// Most time of a proof, after which its prover is given up.
const TIME_LIMIT: Duration = Duration::from_mins(8);

/// One prover of a worker.
pub(super) struct Prover {
    pub(super) worker: WorkerIndex,
    pub(super) index: usize,
    pub(super) profile: ProverProfile,
    pub(super) world: World,
    pub(super) disk: SharedDisk,
    pub(super) commands: mpsc::Receiver<Command>,
    pub(super) answers: mpsc::Sender<(usize, Answer)>,
}

impl Prover {
    async fn answer(&self, answer: Answer) {
        // Without a reader the worker has ended, and this with it.
        drop(self.answers.send((self.index, answer)).await);
    }

    /// Lives until its worker dies.
    pub(super) async fn run(mut self) {
        loop {
            self.come_up().await;
            self.answer(Answer::Says(ProverReport::Ready(self.profile.clone()))).await;
            loop {
                let Some(command) = self.commands.recv().await else { return };
                let (attempt, is_alive) = match command {
                    Command::Cancel(attempt) => {
                        self.answer(Answer::Stopped(attempt)).await;
                        continue;
                    }
                    Command::Prove { assignment, .. } => {
                        locked(&self.disk).busy += 1;
                        let is_alive = self.prove(&assignment).await;
                        locked(&self.disk).busy -= 1;
                        (assignment.attempt, is_alive)
                    }
                };
                if !is_alive {
                    let cause = format!("it ended at {attempt}");
                    self.answer(Answer::Says(ProverReport::Unavailable { cause })).await;
                    break;
                }
            }
        }
    }

    /// The child is down for a while.
    async fn come_up(&mut self) {
        let up_at = Instant::now() + self.world.draw(|chance| chance.millis(200, 8000));
        loop {
            let answer = tokio::select! {
                biased;
                () = sleep_until(up_at) => return,
                Some(command) = self.commands.recv() => match command {
                    Command::Prove { assignment, readiness } => Answer::NotTaken { attempt: assignment.attempt, readiness },
                    Command::Cancel(attempt) => Answer::Stopped(attempt),
                },
            };
            self.answer(answer).await;
        }
    }

    /// Carries out an order; whether the child lives after it.
    async fn prove(&mut self, assignment: &Assignment) -> bool {
        let (worker, attempt, request) = (self.worker, assignment.attempt, assignment.request);
        self.world.tell(Event::Proving { worker, attempt, request });
        let breaks = self.world.weather().provers_break.load(Ordering::Relaxed);
        let (fate, time) = self.world.draw(|chance| {
            let fates = [Fate::Garbage, Fate::Foreign, Fate::TooLarge, Fate::Broken, Fate::Dies, Fate::Hangs];
            let fate = if breaks && chance.percent(30) { chance.pick(&fates) } else { Fate::Good };
            (fate, chance.spread(Duration::from_secs(2), Duration::from_mins(3)))
        });
        let time = if fate == Fate::Hangs { TIME_LIMIT } else { time };
        if let Some(is_alive) = self.work(time / 5, attempt).await {
            return is_alive;
        }
        let input = locked(&self.disk).inputs.get(&attempt).cloned().unwrap_or_default();
        let fails = input.first() == Some(&GUEST_FAILS);
        let lies = self.world.weather().liar.load(Ordering::Relaxed) == worker && worker > 0;
        if fails || (lies && self.world.draw(|chance| chance.percent(70))) {
            let fault = Fault::guest("the program panicked");
            self.world.tell(Event::ProofFailed { worker, attempt, fault: fault.clone(), is_lie: !fails });
            self.answer(Answer::Says(ProverReport::Failed { attempt, fault })).await;
            return true;
        }
        let execution = Execution { cycles: 1000, gas: None, public_values_hash: *public_values_hash().as_bytes() };
        self.answer(Answer::Says(ProverReport::Executed { attempt, execution })).await;
        if let Some(is_alive) = self.work(time / 2, attempt).await {
            return is_alive;
        }
        let progress = proving::Progress::counted(proving::Phase::Proving, 1, 2);
        self.answer(Answer::Says(ProverReport::Progress { attempt, progress })).await;
        if let Some(is_alive) = self.work(time * 3 / 10, attempt).await {
            return is_alive;
        }
        match fate {
            Fate::Good | Fate::Garbage | Fate::Foreign => self.finish(assignment, fate).await,
            Fate::TooLarge => self.fail(attempt, Fault::resources("it took more memory than it may")).await,
            Fate::Broken => self.fail(attempt, Fault::worker("a stage of the prover failed")).await,
            Fate::Dies => self.fail(attempt, Fault::worker("the prover was killed by signal 11")).await,
            Fate::Hangs => self.fail(attempt, Fault::resources("it took longer than it may")).await,
        }
        !matches!(fate, Fate::Dies | Fate::Hangs)
    }

    async fn fail(&self, attempt: AttemptId, fault: Fault) {
        let told = Event::ProofFailed { worker: self.worker, attempt, fault: fault.clone(), is_lie: false };
        self.world.tell(told);
        self.answer(Answer::Says(ProverReport::Failed { attempt, fault })).await;
    }

    /// The proof is durable before it is spoken of.
    async fn finish(&self, assignment: &Assignment, fate: Fate) {
        let attempt = assignment.attempt;
        let mut body = self.world.draw(|chance| {
            let mut body = [0; 24];
            chance.fill(&mut body);
            body.to_vec()
        });
        body.extend_from_slice(attempt.as_bytes());
        let mut claim = MockClaim {
            vk_hash: *assignment.vk_hash.as_bytes(),
            mode: assignment.mode,
            circuit_version: assignment.circuit_version.clone(),
            public_values_hash: ScriptedProver::public_values_hash(),
        };
        let proof = match fate {
            Fate::Garbage => body,
            Fate::Foreign => {
                claim.vk_hash = [0xee; 32];
                seal(body, &claim)
            }
            _ => seal(body, &claim),
        };
        let (digest, size) = (Digest::of(&proof), proof.len() as u64);
        locked(&self.disk).proofs.insert(attempt, Bytes::from(proof));
        let is_good = fate == Fate::Good;
        self.world.tell(Event::Proved { worker: self.worker, attempt, digest, is_good });
        self.answer(Answer::Says(ProverReport::Proved { attempt, digest, size })).await;
    }

    /// Works for this long. Cancelled meanwhile, answers whether the child lived through that.
    async fn work(&mut self, time: Duration, current: AttemptId) -> Option<bool> {
        let until = Instant::now() + time;
        loop {
            let command = tokio::select! {
                biased;
                command = self.commands.recv() => command,
                () = sleep_until(until) => return None,
            };
            match command {
                None => return Some(false),
                Some(Command::Cancel(attempt)) if attempt == current => {
                    self.world.pause(1, 3000).await;
                    self.answer(Answer::Stopped(attempt)).await;
                    return Some(self.world.draw(|chance| chance.percent(70)));
                }
                Some(Command::Cancel(attempt)) => self.answer(Answer::Stopped(attempt)).await,
                Some(Command::Prove { assignment, readiness }) => {
                    self.world.object(crate::Violation {
                        promise: "capacity".to_owned(),
                        words: format!("a busy prover of worker {} was given {}", self.worker, assignment.attempt),
                    });
                    self.answer(Answer::NotTaken { attempt: assignment.attempt, readiness }).await;
                }
            }
        }
    }
}
