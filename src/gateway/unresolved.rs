//! Calls of unknown outcome, until a free look tells what became of them.
//!
//! Every look at such a number is weighed, whoever made it. Where nobody looks, the resolver does: once the call can no longer take
//! effect, and then ever more rarely, one number at a time, until its evidence is too old to mean anything. The ledger has counted
//! the call as billed all along; what a look shows is one more entry.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::HeaderValue;
use tokio::sync::Notify;
use tokio::time::timeout;
use uuid::Uuid;

use super::Gateway;
use super::charge::LEDGER_WAIT;
use crate::cache::Key;
use crate::policy::decide::Probe;
use crate::policy::hindsight::{Patience, Trace, Unresolved, trace};
use crate::spend::{Finding, HoldId};
use crate::upstream::{Context, Credential};

/// Numbers with such calls; more are left as the ledger has them.
const MOST_NUMBERS: usize = 10_000;

/// The resolver's second look at a number comes so long after its first; each further wait is twice as long.
const FIRST_WAIT: Duration = Duration::from_secs(30);

/// A look that gave way to callers' requests tries again after this.
const GIVES_WAY: Duration = Duration::from_secs(1);

/// The wait does not grow beyond this.
const LONGEST_WAIT: Duration = Duration::from_hours(1);

/// All calls of unknown outcome that may still be resolved; clones share them.
#[derive(Clone, Debug, Default)]
pub(super) struct Pending(Arc<Shelf>);

#[derive(Debug, Default)]
struct Shelf {
    numbers: Mutex<HashMap<Key, Number>>,
    changed: Notify,
}

/// A number with such calls.
#[derive(Debug)]
struct Number {
    /// What goes upstream with a look; none for a call of a former run.
    context: Option<Context>,
    calls: Vec<Call>,
    /// When to look (monotonic).
    due: Duration,
    wait: Duration,
}

/// One such call.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call {
    hold: HoldId,
    sent: Duration,
    left_nothing: bool,
    failed: bool,
}

impl Call {
    /// A call that was sent at `sent` (monotonic). `failed`: the upstream said that it failed for this number.
    pub(super) fn new(hold: HoldId, sent: Duration, failed: bool) -> Self {
        Self { hold, sent, left_nothing: false, failed }
    }
}

/// What a look showed of a call.
#[derive(Clone, Copy, Debug)]
struct Resolved {
    call: Call,
    finding: Finding,
    why: &'static str,
}

impl Pending {
    /// A call's outcome is unknown. It can take effect until `settled`.
    pub(super) fn add(&self, key: Key, call: Call, settled: Duration, context: Option<Context>) {
        let mut numbers = self.numbers();
        let room = numbers.len() < MOST_NUMBERS;
        match numbers.entry(key) {
            Slot::Occupied(slot) => {
                let number = slot.into_mut();
                number.calls.push(call);
                number.due = number.due.min(settled);
                number.wait = FIRST_WAIT;
                number.context = context.or(number.context.take());
            }
            Slot::Vacant(slot) if room => {
                slot.insert(Number { context, calls: vec![call], due: settled, wait: FIRST_WAIT });
            }
            Slot::Vacant(_) => {}
        }
        self.0.changed.notify_one();
    }

    /// How many calls there are.
    pub(super) fn count(&self) -> usize {
        self.numbers().values().map(|number| number.calls.len()).sum()
    }

    /// Something happened to a number that makes a look worthwhile now.
    pub(super) fn hasten(&self, key: &Key, now: Duration) {
        if let Some(number) = self.numbers().get_mut(key) {
            number.due = number.due.min(now);
            self.0.changed.notify_one();
        }
    }

    /// When the next look is due.
    fn next(&self) -> Option<Duration> {
        self.numbers().values().map(|number| number.due).min()
    }

    /// A number whose look is due and may be sent, with the next one put off. Calls from before `forgotten` are dropped.
    fn take_due(
        &self,
        now: Duration,
        forgotten: Duration,
        may_be_sent: impl Fn(&Key, Option<&Context>) -> bool,
    ) -> Option<(Key, Option<Context>)> {
        let mut numbers = self.numbers();
        numbers.retain(|_, number| {
            number.calls.retain(|call| call.sent >= forgotten);
            !number.calls.is_empty()
        });
        let due = numbers.iter_mut().filter(|(key, number)| number.due <= now && may_be_sent(key, number.context.as_ref()));
        let (key, number) = due.min_by_key(|(_, number)| number.due)?;
        number.due = now + number.wait;
        number.wait = (number.wait * 2).min(LONGEST_WAIT);
        Some((*key, number.context.clone()))
    }

    /// Weighs a look: the calls that it resolves.
    fn weigh(&self, key: &Key, look: Probe, now: Duration, patience: Patience) -> Vec<Resolved> {
        let mut numbers = self.numbers();
        let mut resolved = Vec::new();
        for call in numbers.get_mut(key).into_iter().flat_map(|number| &mut number.calls) {
            let age = now.saturating_sub(call.sent);
            let trace = trace(Unresolved { age, left_nothing: call.left_nothing, failed: call.failed }, look, patience);
            call.left_nothing |= trace == Trace::Nothing;
            if let Some(why) = trace.why() {
                resolved.push(Resolved { call: *call, finding: if trace.is_billed() { Finding::Billed } else { Finding::NotBilled }, why });
            }
        }
        resolved
    }

    /// The ledger has what became of a call.
    fn close(&self, key: &Key, hold: HoldId) {
        let mut numbers = self.numbers();
        if let Slot::Occupied(mut slot) = numbers.entry(*key) {
            slot.get_mut().calls.retain(|call| call.hold != hold);
            if slot.get().calls.is_empty() {
                slot.remove();
            }
        }
    }

    fn numbers(&self) -> MutexGuard<'_, HashMap<Key, Number>> {
        self.0.numbers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Gateway {
    /// Looks at numbers with calls of unknown outcome, until `stop`.
    pub async fn resolve(&self, stop: impl Future<Output = ()>) {
        let looking = async {
            loop {
                let now = self.0.clock.elapsed();
                let forgotten = now.saturating_sub(self.0.rules.memory);
                if let Some((key, context)) = self.0.pending.take_due(now, forgotten, |key, context| self.may_look(key, context)) {
                    if let Some(context) = context.or_else(|| self.own_context(&key)) {
                        let _ended = self.look(key, &context).landed().await;
                    }
                    continue;
                }
                let changed = self.0.pending.0.changed.notified();
                match self.0.pending.next() {
                    // What is due already gave way to somebody.
                    Some(due) => tokio::select! {
                        () = self.0.clock.reaches(due.max(now + GIVES_WAY)) => {}
                        () = changed => {}
                    },
                    None => changed.await,
                }
            }
        };
        tokio::select! {
            () = looking => {}
            () = stop => {}
        }
    }

    /// Whether a look that nobody waits for may be sent now. One that has no key is dropped without having been sent.
    fn may_look(&self, key: &Key, context: Option<&Context>) -> bool {
        let may = |context: &Context| self.0.upstream.is_at_ease(&context.credential);
        context.map_or_else(|| self.own_context(key).as_ref().is_none_or(may), may)
    }

    /// Weighs what a look says of calls of unknown outcome, and corrects the ledger.
    pub(super) async fn weigh(&self, key: &Key, look: Probe) {
        let policy = &self.0.rules.policy;
        let patience = Patience { effect: policy.unknown_window, same_data: policy.min_age };
        for Resolved { call, finding, why } in self.0.pending.weigh(key, look, self.0.clock.elapsed(), patience) {
            match finding {
                Finding::Billed => self.0.calls.recovered(*key, call.sent),
                Finding::NotBilled => self.0.calls.not_billed(*key, call.sent, None),
            }
            // What cannot be recorded now is found again by the next look; two looks at once record it once.
            if let Ok(Ok(_)) = timeout(LEDGER_WAIT, self.0.ledger.correct(call.hold, finding, why)).await {
                self.0.pending.close(key, call.hold);
            }
        }
    }

    /// What goes upstream with a request of the gateway's own; none under forwarded credentials.
    fn own_context(&self, key: &Key) -> Option<Context> {
        let keys = &self.0.rules.keys;
        let credential = keys.by_enterprise.get(&key.enterprise).or(keys.default.as_ref()).cloned()?;
        let request_id = HeaderValue::from_str(&Uuid::now_v7().simple().to_string()).ok()?;
        Some(Context { credential: Credential::Own(credential), request_id, traceparent: None })
    }
}
