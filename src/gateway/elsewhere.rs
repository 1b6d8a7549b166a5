//! What the other gateways do that share the ledger: they pay for the same numbers, and whoever comes second waits and learns.
//!
//! Nobody is asked but the ledger. It refuses an order where another hold is open for the same, and one that was decided on less than it knows of the last
//! calls; a refused order holds nothing, so gateways that wait for each other's calls never wait for each other. Its log, which every gateway
//! follows, tells of each end as it comes: it wakes who waits, and is what keeps knowledge young. Nothing depends on it: who hears nothing asks again.

use std::future::Future;
use std::time::Duration;

use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use super::answer::Refused;
use super::wait::Unmet;
use super::{Gateway, refusal};
use crate::cache::{Call, Calls, Key};
use crate::policy::claim::HoldId;
use crate::policy::entitlement::Partition;
use crate::shared::{self, News};
use crate::spend::{Became, Heard, Past, Told};

/// Ends that one who waits may be behind by; then it asks the ledger.
const UNHEARD: usize = 1024;

/// Who waits and hears nothing asks the ledger again after this.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// The ends of holds, as the log tells them; clones share it.
#[derive(Clone, Debug)]
pub(super) struct Ends(broadcast::Sender<HoldId>);

impl Default for Ends {
    fn default() -> Self {
        Self(broadcast::Sender::new(UNHEARD))
    }
}

impl Ends {
    /// Hears of all ends from now on. Who listens before it asks the ledger misses none.
    pub(super) fn listen(&self) -> Ending {
        Ending { holds: Vec::new(), ends: self.0.subscribe() }
    }
}

/// The end of others' holds, waited for.
#[derive(Debug)]
pub(super) struct Ending {
    holds: Vec<HoldId>,
    ends: broadcast::Receiver<HoldId>,
}

impl Ending {
    /// Waits for these.
    pub(super) fn of(self, holds: Vec<HoldId>) -> Self {
        Self { holds, ..self }
    }

    /// Which these are.
    pub(super) fn holds(&self) -> &[HoldId] {
        &self.holds
    }

    /// Until all of them have ended, or that may have been missed.
    async fn heard(mut self) {
        while !self.holds.is_empty() {
            match self.ends.recv().await {
                Ok(ended) => self.holds.retain(|hold| *hold != ended),
                Err(RecvError::Lagged(_) | RecvError::Closed) => return,
            }
        }
    }
}

/// Why an order may not be decided on as it was, after all.
#[derive(Debug)]
pub(super) enum Elsewhere {
    /// Others have holds open for what it claims.
    Busy(Ending),
    /// They had, and it is known now.
    Learnt,
}

impl Gateway {
    /// Waits until others' calls have ended, as long as a request may that has waited for them since `since`. What became of them is for the
    /// ledger to say, and so is whether they have ended. It takes no waiter's place, as who pays itself takes none: those who have one may wait
    /// for just this.
    pub(super) async fn wait_for_others(&self, ending: Ending, since: Duration) -> Result<(), Unmet> {
        let (now, until) = (self.0.clock.elapsed(), since.saturating_add(self.0.rules.wait_timeout));
        if now >= until {
            return Err(Unmet::TooLong);
        }
        tokio::select! {
            () = ending.heard() => {}
            () = self.0.clock.reaches(until.min(now + LOOK_AGAIN)) => {}
        }
        Ok(())
    }

    /// Waits where a call that was decided on has to be decided on anew.
    pub(super) async fn wait_elsewhere(&self, elsewhere: Elsewhere, since: Duration) -> Refused<()> {
        match elsewhere {
            Elsewhere::Busy(ending) => self.wait_for_others(ending, since).await.map_err(|unmet| refusal::failed(&unmet.into())),
            Elsewhere::Learnt => Ok(()),
        }
    }

    /// Follows the ledger's log until `stop`. What was missed is told when an order is refused for it.
    pub async fn follow_ledger(&self, stop: impl Future<Output = ()>) {
        let Some(redis) = &self.0.redis else { return };
        let following = shared::follow(redis, "log", None, |news| match news {
            News::Entries(entries) => {
                let now = self.0.clock.now();
                entries.iter().filter_map(|entry| Heard::read(entry, now)).for_each(|heard| self.hear(&heard));
            }
            News::Gap(_) | News::InStep => {}
            News::Away(error) => tracing::warn!(%error, "the log of the shared ledger is not followed until it can be reached again"),
        });
        tokio::select! {
            () = stop => {}
            _ = following => {}
        }
    }

    fn hear(&self, heard: &Heard) {
        let hold = heard.call.hold;
        // Under forwarded credentials the ledger does not know whose part of the cache a call was for.
        if !self.is_partitioned() {
            self.learn_end(heard);
        }
        if let Became::Corrected { .. } = heard.became {
            self.0.pending.close(hold);
        }
        // Nobody may be waiting.
        let _told = self.0.ends.0.send(hold);
    }

    fn learn_end(&self, Heard { call: past, became, enterprise, number, operation }: &Heard) {
        let whose = (Partition::SHARED, *enterprise);
        let Some(number) = *number else {
            return match became.is_billed() {
                Some(true) => self.0.monitoring.learn(whose, *operation, [Some(past), None], self.0.clock.elapsed()),
                Some(false) => self.0.monitoring.was_not_billed(whose, *operation, past.hold),
                None => self.0.monitoring.learn(whose, *operation, [None, Some(past)], self.0.clock.elapsed()),
            };
        };
        let key = Key { partition: Partition::SHARED, enterprise: *enterprise, number };
        let call = self.call(past);
        match became.is_billed() {
            Some(true) => self.learn_paid(key, call),
            // What was released was never known here, but to whoever held it.
            Some(false) if matches!(became, Became::Corrected { .. }) => self.0.calls.not_billed(key, call.hold, None),
            Some(false) => {}
            None => self.0.calls.learn(key, Calls::unknown(call)),
        }
    }

    /// Learns what the ledger knows more of a number's last calls.
    pub(super) fn learn_calls(&self, key: Key, told: &Told) {
        let [paid, unknown] = [&told.paid, &told.unknown].map(|past| past.as_ref().map(|past| self.call(past)));
        if let Some(paid) = paid {
            self.learn_paid(key, paid);
        }
        self.0.calls.learn(key, Calls { paid: None, unknown });
    }

    /// Learns of a call that was billed. Where that is news, what is here, or comes of a fetch under way, may be from before it: the copy is outdated
    /// before the call is known, so that it is not taken for what was paid for.
    fn learn_paid(&self, key: Key, call: Call) {
        let (known, now) = (self.0.calls.of(&key), self.0.clock.elapsed());
        if !known.are_own(call.hold) && known.paid.is_none_or(|paid| paid.hold < call.hold) {
            self.0.cache.outdate(key, now);
            self.0.pending.overtaken(&key, call.hold, now);
        }
        self.0.calls.learn(key, Calls::paid(call));
    }

    fn call(&self, past: &Past) -> Call {
        Call { hold: past.hold, sent: self.0.clock.elapsed().saturating_sub(past.ago), is_own: false }
    }
}
