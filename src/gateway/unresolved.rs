//! Calls of unknown outcome, until a free look tells what became of them.
//!
//! Every look at such a number is weighed, whoever made it. Where nobody looks, the resolver does: once the call can no longer take
//! effect, and then ever more rarely, one number at a time, until its evidence is too old to mean anything. The ledger has counted
//! the call as billed all along; what a look shows is one more entry.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::HeaderValue;
use tokio::sync::Notify;
use tokio::time::timeout;
use uuid::Uuid;

use super::charge::LEDGER_WAIT;
use super::look::Keep;
use super::{Gateway, Live};
use crate::cache::Key;
use crate::policy::decide::Probe;
use crate::policy::hindsight::{Trace, Unresolved, trace};
use crate::spend::{Finding, HoldId};
use crate::telnyx::EnterpriseId;
use crate::upstream::{Context, Credential};

/// Such calls; more are left as the ledger has them.
const MOST_CALLS: usize = 10_000;

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
    numbers: Mutex<Numbers>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Numbers {
    all: HashMap<Key, Number>,
    /// How many calls they have together.
    calls: usize,
}

/// A number with such calls.
#[derive(Debug)]
struct Number {
    /// Whose key a look goes with; none for a call of a former run.
    credential: Option<Credential>,
    calls: Vec<Call>,
    /// When to look (monotonic).
    due: Duration,
    wait: Duration,
}

/// One such call.
#[derive(Clone, Copy, Debug)]
#[allow(clippy::struct_excessive_bools, reason = "what is known of a call, as hindsight weighs it")]
pub(super) struct Call {
    hold: HoldId,
    sent: Duration,
    /// Whether it counts whatever a look finds.
    counts: bool,
    is_overtaken: bool,
    left_nothing: bool,
    failed: bool,
    /// What a look has shown, which stays true until the ledger has it.
    resolved: Option<Trace>,
}

impl Call {
    /// A call that was sent at `sent` (monotonic). `failed`: the upstream said that it failed for this number.
    pub(super) const fn new(hold: HoldId, sent: Duration, failed: bool) -> Self {
        Self { hold, sent, counts: false, is_overtaken: false, left_nothing: false, failed, resolved: None }
    }

    /// One that looks may confirm and never take back.
    pub(super) const fn counted(hold: HoldId, sent: Duration) -> Self {
        Self { counts: true, ..Self::new(hold, sent, false) }
    }

    /// Weighs a look that began and ended at these moments.
    fn weigh(&mut self, look: Probe, (begun, ended): (Duration, Duration), effect: Duration) -> Option<Trace> {
        // What was asked before the call was sent knows nothing of it.
        if self.resolved.is_some() || begun < self.sent {
            return self.resolved;
        }
        let Self { counts, is_overtaken, left_nothing, failed, .. } = *self;
        let is_over = begun.saturating_sub(self.sent) >= effect;
        let trace = trace(Unresolved { age: ended.saturating_sub(self.sent), is_over, counts, is_overtaken, left_nothing, failed }, look);
        self.left_nothing |= trace == Trace::Nothing;
        self.resolved = trace.why().map(|_| trace);
        self.resolved
    }
}

impl Pending {
    /// A call's outcome is unknown. It can take effect until `settled`.
    pub(super) fn add(&self, key: Key, call: Call, settled: Duration, credential: Option<Credential>) {
        let mut numbers = self.numbers();
        if numbers.calls >= MOST_CALLS {
            return;
        }
        numbers.calls += 1;
        let number =
            numbers.all.entry(key).or_insert_with(|| Number { credential: None, calls: Vec::new(), due: settled, wait: FIRST_WAIT });
        number.calls.push(call);
        number.due = number.due.min(settled);
        number.wait = FIRST_WAIT;
        number.credential = credential.or(number.credential.take());
        drop(numbers);
        self.0.changed.notify_one();
    }

    /// How many calls there are.
    pub(super) fn count(&self) -> usize {
        self.numbers().calls
    }

    /// A later call for the number was billed: what is found from now on may be that one's, and is worth a look.
    pub(super) fn overtaken(&self, key: &Key, by: HoldId, now: Duration) {
        if let Some(number) = self.numbers().all.get_mut(key) {
            number.calls.iter_mut().for_each(|call| call.is_overtaken |= call.hold < by);
            number.due = number.due.min(now);
            self.0.changed.notify_one();
        }
    }

    /// When the next look is due.
    fn next(&self) -> Option<Duration> {
        self.numbers().all.values().map(|number| number.due).min()
    }

    /// A number whose look is due and may be sent, with the next one put off. Calls from before `forgotten` are dropped.
    fn take_due(
        &self,
        now: Duration,
        forgotten: Duration,
        may_be_sent: impl Fn(&Key, Option<&Credential>) -> bool,
    ) -> Option<(Key, Option<Credential>)> {
        let mut numbers = self.numbers();
        numbers.keep(|call| call.sent >= forgotten);
        let due = numbers.all.iter_mut().filter(|(key, number)| number.due <= now && may_be_sent(key, number.credential.as_ref()));
        let (key, number) = due.min_by_key(|(_, number)| number.due)?;
        number.due = now + number.wait;
        number.wait = (number.wait * 2).min(LONGEST_WAIT);
        Some((*key, number.credential.clone()))
    }

    /// Weighs a look: the calls of which it is known what became of them.
    fn weigh(&self, key: &Key, look: Probe, span: (Duration, Duration), effect: Duration) -> Vec<(Call, Trace)> {
        let mut numbers = self.numbers();
        let calls = numbers.all.get_mut(key).into_iter().flat_map(|number| &mut number.calls);
        calls.filter_map(|call| call.weigh(look, span, effect).map(|trace| (*call, trace))).collect()
    }

    /// The ledger has what became of a call.
    pub(super) fn close(&self, hold: HoldId) {
        self.numbers().keep(|call| call.hold != hold);
    }

    fn numbers(&self) -> MutexGuard<'_, Numbers> {
        self.0.numbers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Numbers {
    /// Drops the other calls, and numbers without any.
    fn keep(&mut self, keep: impl Fn(&Call) -> bool) {
        self.all.retain(|_, number| {
            number.calls.retain(&keep);
            !number.calls.is_empty()
        });
        self.calls = self.all.values().map(|number| number.calls.len()).sum();
    }
}

impl Live {
    /// Looks at numbers with calls of unknown outcome, until `stop`.
    pub async fn resolve(&self, stop: impl Future<Output = ()>) {
        let looking = async {
            loop {
                self.gateway().resolve_one().await;
            }
        };
        tokio::select! {
            () = looking => {}
            () = stop => {}
        }
    }
}

impl Gateway {
    /// Looks at a number if a look is due, or waits until one may be.
    async fn resolve_one(&self) {
        let now = self.0.clock.elapsed();
        let forgotten = now.saturating_sub(self.0.rules.memory);
        if let Some((key, credential)) = self.0.pending.take_due(now, forgotten, |key, credential| self.may_look(key, credential)) {
            if let Some(context) = self.own_context(key.enterprise, credential) {
                let _ended = self.look(key, &context, Keep::Yes).landed().await;
            }
            return;
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

    /// Whether a look that nobody waits for may be sent now. One that has no key is dropped without having been sent.
    fn may_look(&self, key: &Key, credential: Option<&Credential>) -> bool {
        self.credential(key.enterprise, credential.cloned()).is_none_or(|credential| self.0.upstream.is_at_ease(&credential))
    }

    /// Weighs what a look, begun at `begun`, says of calls of unknown outcome, and corrects the ledger.
    pub(super) async fn weigh(&self, key: &Key, look: Probe, begun: Duration) {
        let span = (begun, self.0.clock.elapsed());
        for (call, trace) in self.0.pending.weigh(key, look, span, self.0.rules.effect) {
            let finding = if trace.is_billed() { Finding::Billed } else { Finding::NotBilled };
            let why = trace.why().unwrap_or_default();
            // What cannot be recorded now is, after the next look; until then the call stays unknown. Two looks record it once.
            if let Ok(Ok(_)) = timeout(LEDGER_WAIT, self.0.ledger.correct(call.hold, finding, why)).await {
                match finding {
                    Finding::Billed => self.0.calls.recovered(*key, call.hold),
                    Finding::NotBilled => self.0.calls.not_billed(*key, call.hold, None),
                }
                self.0.pending.close(call.hold);
            }
        }
    }

    /// Whose key goes with a request of the gateway's own: the caller's if it was forwarded, else the gateway's.
    pub(super) fn credential(&self, enterprise: EnterpriseId, forwarded: Option<Credential>) -> Option<Credential> {
        let keys = &self.0.rules.keys;
        forwarded.or_else(|| keys.by_enterprise.get(&enterprise).or(keys.default.as_ref()).cloned().map(Credential::Own))
    }

    /// What goes with a request of the gateway's own.
    pub(super) fn own_context(&self, enterprise: EnterpriseId, forwarded: Option<Credential>) -> Option<Context> {
        let request_id = HeaderValue::from_str(&Uuid::now_v7().simple().to_string()).ok()?;
        Some(Context { credential: self.credential(enterprise, forwarded)?, request_id, trace: None })
    }
}
