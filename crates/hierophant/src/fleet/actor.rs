//! The one task that owns the live state. The core decides; this performs, and never waits for anyone.

use std::{collections::HashMap, sync::atomic::Ordering, time::Duration};

use hierophant_core::{Effect, Event, Fleet, FleetSettings, SessionId, WaitingReason};
use network_lib::{
    RequestId, WorkerId,
    protocol::{EvictionCode, Instruction},
};
use tokio::{
    sync::mpsc::{self, error::TrySendError},
    time::{Interval, MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;

use super::{
    complaints::Complaints,
    handle::{FleetView, Inbox, Message, Outbound, WorkerView},
    magister,
};
use crate::service::Service;

/// How often time passes for the fleet. Timeouts are at least twenty times as long.
const TICK: Duration = Duration::from_secs(1);

/// Ticks between two comparisons of the fleet with the store, which mend every lost wake-up.
const TICKS_PER_RECONCILE: u32 = 15;

/// A session as the actor sees it.
struct Session {
    worker: WorkerId,
    mailbox: mpsc::Sender<Outbound>,
}

/// Owns the live state.
pub struct FleetActor {
    fleet: Fleet,
    sessions: HashMap<SessionId, Session>,
    addresses: HashMap<WorkerId, String>,
    inbox: Inbox,
    service: Service,
    complaints: Complaints,
    ticks: u32,
}

/// What the actor takes note of next.
enum Next {
    Message(Message),
    Tick,
}

impl FleetActor {
    /// An actor without workers and requests.
    pub fn new(inbox: Inbox, service: Service, settings: FleetSettings) -> Self {
        Self {
            fleet: Fleet::new(settings),
            sessions: HashMap::new(),
            addresses: HashMap::new(),
            inbox,
            service,
            complaints: Complaints::default(),
            ticks: 0,
        }
    }

    /// Serves until told to stop. Nothing durable is here, so stopping at any point is safe.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
        while let Some(next) = self.next(&mut tick, &stop).await {
            match next {
                Next::Message(message) => self.take(message),
                Next::Tick => self.tick(),
            }
            self.inbox.queue_len.store(self.fleet.queue_len(), Ordering::Relaxed);
        }
        for (_, session) in self.sessions.drain() {
            let _ = session.mailbox.try_send(Outbound::Close("the coordinator is stopping"));
        }
    }

    async fn next(&mut self, tick: &mut Interval, stop: &CancellationToken) -> Option<Next> {
        tokio::select! {
            biased;
            () = stop.cancelled() => None,
            // Before the messages, among which there may always be another one.
            _ = tick.tick() => Some(Next::Tick),
            message = self.inbox.messages.recv() => message.map(Next::Message),
        }
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Event(event) => {
                let may_be_unserved = matches!(event, Event::Queued(_));
                self.apply(event);
                if may_be_unserved {
                    self.complain();
                }
            }
            Message::Join { session, profile, address, leases, standing, mailbox } => {
                let worker = profile.id;
                self.sessions.insert(session, Session { worker, mailbox });
                self.addresses.insert(worker, address);
                self.apply(Event::Joined { session, profile, leases, standing });
            }
            Message::Disconnect { worker, session, reason } => {
                if self.sessions.contains_key(&session) {
                    self.close(session, reason.to_owned(), Outbound::Close(reason));
                    self.apply(Event::Left { worker, session });
                }
            }
            Message::Leave { worker, session, reason } => {
                self.sessions.remove(&session);
                let is_current = self.fleet.worker(worker).is_some_and(|known| known.session == Some(session));
                if is_current {
                    self.record_departure(worker, reason);
                }
                self.apply(Event::Left { worker, session });
            }
            Message::Instruct { worker, instruction } => self.instruct(worker, instruction),
            Message::Release { request, attempts, reason } => {
                for attempt in attempts {
                    if let Some(worker) = self.fleet.holder(attempt) {
                        self.instruct(worker, Instruction::Cancel { attempt, reason: reason.to_owned() });
                    }
                    self.apply(Event::Released { attempt });
                }
                self.apply(Event::Settled { request });
            }
            Message::Inspect(question) => question(&FleetView { actor: self }),
        }
    }

    fn tick(&mut self) {
        // What has been said counts: nobody is judged for a word that waits to be read.
        for _ in 0..self.inbox.messages.len() {
            let Ok(message) = self.inbox.messages.try_recv() else { break };
            self.take(message);
        }
        self.apply(Event::Tick);
        self.complain();
        self.addresses.retain(|worker, _| self.fleet.worker(*worker).is_some());
        self.ticks = self.ticks.wrapping_add(1);
        if self.ticks.is_multiple_of(TICKS_PER_RECONCILE) {
            let service = self.service.clone();
            self.service.tasks.spawn(async move {
                service.reconcile().await;
                service.sweep_partials().await;
            });
        }
    }

    /// Tells the operator what waits without anyone who could prove it: on acceptance, and when the last able worker
    /// has left.
    fn complain(&mut self) {
        let now = self.service.clock.now().moment;
        for unserved in self.fleet.unserved().filter(|unserved| self.complaints.is_news(unserved, now)) {
            let requirement = &unserved.requirement;
            tracing::warn!(mode = %requirement.mode, circuit_version = %requirement.circuit_version,
                waiting = unserved.waiting, reason = %unserved.reason,
                "{} requests wait and nobody can prove them: on a machine that should, run contemplant doctor",
                requirement.mode);
        }
    }

    fn apply(&mut self, event: Event) {
        let now = self.service.clock.now();
        for effect in self.fleet.apply(event, now) {
            self.perform(effect);
        }
    }

    /// Does what the core wants done. Whatever waits (the store, a worker) goes to a tracked task of its own.
    fn perform(&mut self, effect: Effect) {
        let service = self.service.clone();
        match effect {
            Effect::Claim { request, worker, prover, is_hedge } => {
                self.service.tasks.spawn(async move { service.claim(request, worker, prover, is_hedge).await });
            }
            Effect::Remind { attempt, request, worker, prover } => {
                self.service.tasks.spawn(async move { service.remind(attempt, request, worker, prover).await });
            }
            Effect::Lose { attempt, request, worker, reason } => {
                self.service.tasks.spawn(async move { service.lose(attempt, request, worker, reason).await });
            }
            Effect::Hint { worker, prover, request: Some(request) } => {
                self.service.tasks.spawn(async move { service.hint(request, worker, prover).await });
            }
            Effect::Hint { worker, prover, request: None } => {
                self.instruct(worker, Instruction::Prefetch { prover, next: None });
            }
            Effect::Expire { request } => {
                self.service.tasks.spawn(async move { service.expire(request).await });
            }
            Effect::Close { session, reason } => self.close(session, reason.to_owned(), Outbound::Close(reason)),
            Effect::Note { worker, standing } => service.note_standing(worker, standing),
            Effect::Evict { worker, session, reason } => {
                tracing::error!(worker.id = %worker, reason, "a worker is evicted: look at its log, and run contemplant doctor there");
                let told = Outbound::Instruction(Instruction::Evicted {
                    code: Some(EvictionCode::Faults),
                    reason: reason.clone(),
                });
                self.close(session, format!("evicted: {reason}"), told);
                let endpoint = self.fleet.worker(worker).and_then(|known| known.profile.magister_drop_endpoint.clone());
                if let Some(endpoint) = endpoint {
                    self.service.tasks.spawn(async move { magister::drop_worker(worker, &endpoint).await });
                }
            }
            Effect::ClockJumped { by_secs, held } => {
                tracing::error!(by_secs, "the wall clock jumped; no request expires for {} s", held.as_secs());
            }
        }
    }

    /// Ends a session with a last word; its worker has departed unless it has a newer one.
    fn close(&mut self, session: SessionId, reason: String, last_word: Outbound) {
        let Some(closed) = self.sessions.remove(&session) else { return };
        let _ = closed.mailbox.try_send(last_word);
        let is_replaced =
            self.fleet.worker(closed.worker).is_some_and(|worker| worker.session.is_some_and(|now| now != session));
        if !is_replaced {
            self.record_departure(closed.worker, reason);
        }
    }

    /// Puts an instruction in the mailbox of a worker's session. A worker whose mailbox is full does not read: its
    /// session ends, the lease goes on, and it is told again when it comes back.
    fn instruct(&mut self, worker: WorkerId, instruction: Instruction) {
        let Some(session) = self.fleet.worker(worker).and_then(|known| known.session) else { return };
        let Some(open) = self.sessions.get(&session) else { return };
        match open.mailbox.try_send(Outbound::Instruction(instruction)) {
            Ok(()) | Err(TrySendError::Closed(_)) => {}
            Err(TrySendError::Full(_)) => {
                tracing::warn!(worker.id = %worker, "a worker does not read its instructions; its session ends");
                self.sessions.remove(&session);
                self.record_departure(worker, "did not read its instructions".to_owned());
                self.apply(Event::Left { worker, session });
            }
        }
    }

    fn record_departure(&self, worker: WorkerId, reason: String) {
        tracing::info!(worker.id = %worker, reason, "a worker left");
        let service = self.service.clone();
        self.service.tasks.spawn(async move { service.record_departure(worker, &reason).await });
    }
}

impl FleetView<'_> {
    /// The core's state.
    pub fn fleet(&self) -> &Fleet {
        &self.actor.fleet
    }

    /// Why the request waits; `None` when it does not.
    pub fn waiting_reason(&self, request: RequestId) -> Option<WaitingReason> {
        self.actor.fleet.waiting_reason(request, self.actor.service.clock.now().moment)
    }

    /// The workers that are connected or remembered, in the order of their ids.
    pub fn workers(&self) -> Vec<WorkerView> {
        let address = |id| self.actor.addresses.get(id).cloned().unwrap_or_default();
        let workers = self.actor.fleet.workers();
        workers.map(|(id, worker)| WorkerView { worker: worker.clone(), address: address(id) }).collect()
    }
}

#[cfg(test)]
mod tests;
