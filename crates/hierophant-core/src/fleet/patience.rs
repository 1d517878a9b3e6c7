//! What time brings: silence, claims that nobody answers, pauses and rests that end, deadlines, clocks that jump.

use std::time::Duration;

use network_lib::{AttemptId, FaultClass, RequestId, WorkerId};

use super::{Claim, Effect, Fleet, QueuedRequest, matching};
use crate::{Moment, Now};

/// Workers without session and attempts that are remembered at most: whoever may join may do so under any number of ids.
const MOST_REMEMBERED: usize = 1000;

/// The least time for which a request is put off, whatever the settings say.
const SHORTEST_PUT_OFF: Duration = Duration::from_secs(1);

/// A request that waits out a pause.
#[derive(Debug)]
pub(super) struct Paused {
    pub(super) until: Moment,
    pub(super) request: QueuedRequest,
    /// Whether it waits whoever comes, since no worker was the trouble.
    pub(super) is_put_off: bool,
}

impl Fleet {
    pub(super) fn tick(&mut self, now: Now, effects: &mut Vec<Effect>) {
        self.look_at_clocks(now, effects);
        if now.moment >= self.expire_from {
            effects.extend(self.deadlines.due(now.time).map(|request| Effect::Expire { request }));
        }
        self.wake(now.moment);
        for worker in self.workers.values_mut() {
            worker.rests_until.take_if(|until| *until <= now.moment);
        }
        if now.moment >= self.judge_from {
            self.close_silent_sessions(now.moment, effects);
            self.take_back_unanswered(now.moment, effects);
            self.lose_attempts_of_the_lost(now.moment, effects);
        }
        self.hedge(now, effects);
    }

    /// Compares the clocks with each other and with the tick before.
    fn look_at_clocks(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let Some(last) = self.last_tick.replace(now) else { return };
        let passed = now.moment.since(last.moment);
        if passed > self.settings.stall {
            // This program stood still: what workers said meanwhile has yet to be read, and the time counts against none.
            self.judge_from = now.moment.plus(self.settings.silence_limit);
            for worker in self.workers.values_mut() {
                worker.excuse(passed, now.moment);
            }
        }
        let expected = last.time.plus(passed);
        let (ahead, behind) = (now.time.since(expected), expected.since(now.time));
        if ahead.max(behind) > self.settings.clock_jump {
            let held = self.settings.grace;
            self.expire_from = now.moment.plus(held);
            let secs = |duration: Duration| i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
            let by_secs = if ahead > behind { secs(ahead) } else { -secs(behind) };
            effects.push(Effect::ClockJumped { by_secs, held });
        }
    }

    fn close_silent_sessions(&mut self, now: Moment, effects: &mut Vec<Effect>) {
        for worker in self.workers.values_mut() {
            let silence = now.since(worker.last_heard);
            if silence > self.settings.silence_limit
                && let Some(session) = worker.session.take()
            {
                effects.push(Effect::Close { session, reason: "the worker has been silent for too long" });
            }
        }
    }

    /// A worker that is heard says within seconds that it has what it was given; it is told once more. Of one that is not
    /// heard nothing is known: it may have it, and its answer be on the way.
    fn take_back_unanswered(&mut self, now: Moment, effects: &mut Vec<Effect>) {
        let limit = self.settings.claim_limit;
        let mut unanswered = Vec::new();
        for (id, worker) in self.workers.iter_mut().filter(|(_, worker)| worker.session.is_some()) {
            let last_heard = worker.last_heard;
            for (attempt, lease) in &mut worker.leases {
                match &mut lease.claim {
                    Claim::Told { at, again } if last_heard.since(*at) > limit => {
                        if *again {
                            unanswered.push(*attempt);
                            continue;
                        }
                        (*at, *again) = (now, true);
                        let (request, prover) = (lease.work.id, lease.prover);
                        effects.push(Effect::Remind { attempt: *attempt, request, worker: *id, prover });
                    }
                    Claim::Told { .. } | Claim::Acknowledged => {}
                }
            }
        }
        for attempt in unanswered {
            self.lose(attempt, "the worker did not say that it has it", effects);
        }
    }

    fn lose_attempts_of_the_lost(&mut self, now: Moment, effects: &mut Vec<Effect>) {
        let lost: Vec<AttemptId> = self
            .workers
            .values()
            .filter(|worker| worker.session.is_none() && now.since(worker.last_heard) > self.settings.grace)
            .flat_map(|worker| worker.leases.keys().copied())
            .collect();
        for attempt in lost {
            self.lose(attempt, "the worker was not heard of for longer than the grace period", effects);
        }
        self.forget_the_gone(now);
    }

    fn forget_the_gone(&mut self, now: Moment) {
        let mut gone = Vec::new();
        self.workers.retain(|id, worker| {
            if worker.session.is_some() || !worker.leases.is_empty() || !worker.claims.is_empty() {
                return true;
            }
            // One that was only expected is nobody's, once it has not come.
            let is_unseen = worker.profile.provers.is_empty();
            let forget_after = if is_unseen { self.settings.grace } else { self.settings.forget_after };
            let is_remembered = now.since(worker.last_heard) <= forget_after;
            gone.extend(is_remembered.then_some((worker.last_heard, *id)));
            is_remembered
        });
        let excess = gone.len().saturating_sub(MOST_REMEMBERED);
        gone.sort_unstable();
        for (_, id) in &gone[..excess] {
            self.workers.remove(id);
        }
    }

    /// Gives stragglers to provers that have nothing better to do.
    fn hedge(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let Some(before) = self.settings.hedge_before else { return };
        for (request, worker, prover) in matching::stragglers(self, now.time.plus(before)) {
            self.claim(request, worker, prover, true, now.moment, effects);
        }
    }

    /// Lets a request wait for a prover; first for some time, if it met with trouble and nobody is here who has not
    /// tried it yet.
    pub(super) fn enqueue(&mut self, request: QueuedRequest, now: Moment) {
        self.queue.remove(request.id);
        self.paused.remove(&request.id);
        let pause = self.pause(request.troubles);
        if pause.is_zero() || self.has_fresh_worker(&request) {
            self.queue.insert(request);
        } else {
            self.paused.insert(request.id, Paused { until: now.plus(pause), request, is_put_off: false });
        }
    }

    /// Lets a request wait whose lease could not be written through its own trouble, as when the row of its input is
    /// damaged: others go by meanwhile, and each time in a row it waits twice as long.
    pub(super) fn put_off(&mut self, request: QueuedRequest, claimed: Option<&QueuedRequest>, now: Moment) {
        self.queue.remove(request.id);
        let troubles = claimed.map_or(0, |claimed| claimed.troubles).max(request.troubles).saturating_add(1);
        let until = now.plus(self.pause(troubles).max(SHORTEST_PUT_OFF));
        let request = QueuedRequest { troubles, ..request };
        self.paused.insert(request.id, Paused { until, request, is_put_off: true });
    }

    fn pause(&self, troubles: u32) -> Duration {
        let Some(doublings) = troubles.checked_sub(1) else { return Duration::ZERO };
        let factor = 1_u32.checked_shl(doublings).unwrap_or(u32::MAX);
        self.settings.first_pause.saturating_mul(factor).min(self.settings.longest_pause)
    }

    /// Lets those requests wait for a prover whose pause is over, or for whom somebody has come.
    pub(super) fn wake(&mut self, now: Moment) {
        let ready =
            |paused: &Paused| paused.until <= now || (!paused.is_put_off && self.has_fresh_worker(&paused.request));
        let woken: Vec<RequestId> = self.paused.iter().filter(|(_, paused)| ready(paused)).map(|(id, _)| *id).collect();
        for id in woken {
            if let Some(Paused { request, .. }) = self.paused.remove(&id) {
                self.queue.insert(request);
            }
        }
    }

    /// A proof of the worker verified.
    pub(super) fn praise(&mut self, id: WorkerId, effects: &mut Vec<Effect>) {
        if let Some(worker) = self.workers.get_mut(&id)
            && worker.standing.clear()
        {
            worker.rests_until = None;
            effects.push(Effect::Note { worker: id, standing: worker.standing.clone() });
        }
    }

    /// A worker failed at a request: see [`Standing`](super::Standing) for what that says about whom.
    pub(super) fn blame(
        &mut self,
        id: WorkerId,
        request: RequestId,
        class: FaultClass,
        now: Moment,
        effects: &mut Vec<Effect>,
    ) {
        let mut is_of_request = false;
        for (other, worker) in self.workers.iter_mut().filter(|(other, _)| **other != id) {
            if worker.standing.forgive(request) {
                is_of_request = true;
                if worker.standing.rest(&self.settings.faults).is_zero() {
                    worker.rests_until = None;
                }
                effects.push(Effect::Note { worker: *other, standing: worker.standing.clone() });
            }
        }
        if !is_of_request {
            self.hold_against(id, request, class, now, effects);
        }
    }

    /// Counts a fault at `request` against a worker, which rests, or is sent away, when it has too many.
    pub(super) fn hold_against(
        &mut self,
        id: WorkerId,
        request: RequestId,
        class: FaultClass,
        now: Moment,
        effects: &mut Vec<Effect>,
    ) {
        let is_alone = !self.workers.iter().any(|(other, worker)| *other != id && worker.is_available());
        let policy = self.settings.faults;
        let Some(worker) = self.workers.get_mut(&id) else { return };
        if !worker.standing.blame(request, class) {
            return;
        }
        effects.push(Effect::Note { worker: id, standing: worker.standing.clone() });
        let rest = worker.standing.rest(&policy);
        if !rest.is_zero() {
            worker.rests_until = Some(now.plus(rest));
        }
        // Better a worker that fails than none: without another one, nobody can tell whose fault it is.
        if worker.standing.is_intolerable(&policy)
            && !is_alone
            && let Some(session) = worker.session.take()
        {
            let reason = format!(
                "it failed at {} requests in a row, and another worker is here; it may come back in {} s",
                worker.standing.faults(),
                rest.as_secs()
            );
            effects.push(Effect::Evict { worker: id, session, reason });
        }
    }
}
