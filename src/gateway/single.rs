//! One call under one hold, as a whole: no check of a number, so no look at a number shows what became of it.
//!
//! It runs in a task of its own, which owns the hold. Calls about the same enterprise's monitoring are made one after another.

use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use moka::policy::EvictionPolicy;
use moka::sync::Cache;

use super::Gateway;
use super::answer::{Answer, Bill, Content, Forward, Refused};
use super::batch::End;
use super::charge::{Denied, STOPPED, Unheld};
use super::elsewhere::Elsewhere;
use super::enable::Enabling;
use super::failure::{Failure, relay};
use super::frequency::Counted;
use super::pass::tells_of;
use super::refusal;
use super::retrieve::MOST_ROUNDS;
use super::visit::Visit;
use super::wait::Unmet;
use crate::auth::Caller;
use crate::flight::{Flights, Lead, Seat};
use crate::policy::budget::Charge;
use crate::policy::claim::Known;
use crate::policy::decision::Decision;
use crate::policy::enable::Fate;
use crate::policy::entitlement::Partition;
use crate::policy::evidence::{Billing, judge_one};
use crate::policy::money::Usd;
use crate::policy::pricing::Billable;
use crate::spend::{Claim, HoldId, HoldRefused, Past};
use crate::telnyx::{EnterpriseId, Operation, PhoneNumber};
use crate::upstream::{self, Context, Message, NotSent, Outcome};

/// Whose enterprise.
pub(super) type Whose = (Partition, EnterpriseId);

/// Enterprises whose last calls are remembered.
const REMEMBERED: u64 = 10_000;

/// What is known of calls that were about an enterprise as a whole; clones share it.
#[derive(Clone, Debug)]
pub(super) struct Monitoring {
    /// The calls under way.
    aloft: Flights<Whose, ()>,
    /// The last that enabled it, or may have.
    pub(super) enablings: Cache<Whose, Enabling>,
    /// The last schedule whose month was counted.
    pub(super) schedules: Cache<Whose, Counted>,
    /// The last calls, whatever was forgotten of them since.
    known: Cache<(Whose, Billable), Known>,
}

impl Default for Monitoring {
    fn default() -> Self {
        Self { aloft: Flights::default(), enablings: memory(), schedules: memory(), known: memory() }
    }
}

impl Monitoring {
    /// Whether a call for it is under way.
    pub(super) fn is_busy(&self, whose: &Whose) -> bool {
        self.aloft.follow(whose).is_some()
    }

    /// It may be disabled now: no look tells any more whether a call of unknown outcome enabled it. So nothing is taken back of that call,
    /// which bars the next one as before.
    pub(super) fn doubt(&self, whose: &Whose) {
        if let Some(last) = self.enablings.get(whose).filter(|last| last.fate == Fate::Unknown) {
            self.enablings.insert(*whose, Enabling { fate: Fate::Counted, ..last });
        }
    }

    /// The same for an enterprise, whoever made the call, or for all: another gateway tells that what is known of it is not true any more.
    pub(super) fn doubt_all(&self, enterprise: Option<EnterpriseId>) {
        for (whose, _) in self.enablings.iter().filter(|(whose, _)| enterprise.is_none_or(|enterprise| whose.1 == enterprise)) {
            self.doubt(&whose);
        }
    }

    /// It may have been disabled: what was paid for it is over. Under forwarded credentials another of the account's may have enabled it.
    pub(super) fn forget(&self, whose: &Whose) {
        self.doubt_all(Some(whose.1));
        if self.enablings.get(whose).is_some_and(|last| last.fate == Fate::Paid) {
            self.enablings.invalidate(whose);
        }
        self.schedules.invalidate(whose);
    }

    /// The last calls of an operation for an enterprise. Asked before anything is decided on what is remembered of them.
    pub(super) fn known(&self, whose: Whose, operation: Billable) -> Known {
        self.known.get(&(whose, operation)).unwrap_or_default()
    }

    /// A call was billed, or may have been.
    fn knows(&self, whose: Whose, operation: Billable, told: Known) {
        self.known.entry((whose, operation)).and_upsert_with(|kept| {
            let kept = kept.map(moka::Entry::into_value).unwrap_or_default();
            let paid = kept.paid.max(told.paid);
            Known { paid, unknown: kept.unknown.max(told.unknown).filter(|unknown| Some(*unknown) > paid) }
        });
    }

    /// Learns of the last call that was billed and of the last of unknown outcome, in whatever order they are told. What was known is
    /// not learnt again: it may have been forgotten on purpose.
    pub(super) fn learn(&self, whose: Whose, operation: Billable, [paid, unknown]: [Option<&Past>; 2], now: Duration) {
        let known = self.known(whose, operation);
        let paid = paid.filter(|past| Some(past.hold) > known.paid);
        let unknown = unknown.filter(|past| Some(past.hold) > known.unknown.max(known.paid));
        for (past, fate) in paid.map(|past| (past, Fate::Paid)).into_iter().chain(unknown.map(|past| (past, Fate::Counted))) {
            let sent = now.saturating_sub(past.ago);
            match operation {
                Billable::Enable => self.learn_enabling(whose, Enabling { hold: past.hold, sent, fate }),
                Billable::Frequency => self.learn_schedule(whose, past, sent),
                _ => {}
            }
        }
        // After what it is about: whoever finds it known finds that too.
        self.knows(whose, operation, Known { paid: paid.map(|past| past.hold), unknown: unknown.map(|past| past.hold) });
    }

    fn learn_enabling(&self, whose: Whose, told: Enabling) {
        match self.enablings.get(&whose) {
            Some(last) if last.hold > told.hold || (last.hold == told.hold && told.fate != Fate::Paid) => {}
            Some(last) if last.hold == told.hold => self.enablings.insert(whose, Enabling { fate: Fate::Paid, ..last }),
            _ => {
                self.enablings.insert(whose, told);
                // Where it was enabled anew, what was scheduled before is over.
                self.schedules.invalidate(&whose);
            }
        }
    }

    fn learn_schedule(&self, whose: Whose, past: &Past, sent: Duration) {
        let Some(frequency) = past.variant.as_ref().and_then(|variant| variant.parse().ok()) else { return };
        if self.schedules.get(&whose).is_none_or(|last| last.hold < past.hold) {
            self.schedules.insert(whose, Counted { hold: past.hold, frequency, price: past.price, at: sent });
        }
    }

    /// A call turned out not to have been billed.
    pub(super) fn was_not_billed(&self, whose: Whose, operation: Billable, hold: HoldId) {
        match operation {
            Billable::Enable if self.enablings.get(&whose).is_some_and(|last| last.hold == hold) => self.enablings.invalidate(&whose),
            Billable::Frequency if self.schedules.get(&whose).is_some_and(|last| last.hold == hold) => self.schedules.invalidate(&whose),
            _ => {}
        }
    }
}

/// `TinyLFU` could refuse to remember a call that was just made.
fn memory<K: Eq + Hash + Send + Sync + 'static, T: Clone + Send + Sync + 'static>() -> Cache<K, T> {
    Cache::builder().max_capacity(REMEMBERED).eviction_policy(EvictionPolicy::lru()).build()
}

/// A call, with all that it takes to pay for it.
pub(super) struct Single {
    pub(super) caller: Arc<Caller>,
    pub(super) context: Context,
    pub(super) enterprise: EnterpriseId,
    pub(super) number: Option<PhoneNumber>,
    pub(super) operation: Operation,
    pub(super) billable: Billable,
    /// All of it.
    pub(super) price: Usd,
    pub(super) message: Message,
}

/// What became of it.
pub(super) struct Bought {
    pub(super) billing: Billing,
    pub(super) end: End,
}

impl Gateway {
    /// Waits until nobody else makes such a call for this enterprise, but for no longer than reads wait: it has sent nothing.
    pub(super) async fn alone(&self, whose: Whose, visit: &mut Visit) -> Refused<Lead<Whose, ()>> {
        for _ in 0..MOST_ROUNDS {
            match self.0.monitoring.aloft.board(&whose) {
                Seat::Lead(lead) => return Ok(lead),
                Seat::Follow(flight) => match visit.waiting_for(self.wait(flight)).await {
                    // Whatever became of it.
                    Ok(()) | Err(Unmet::Crashed) => {}
                    Err(why) => return Err(refusal::failed(&why.into())),
                },
            }
        }
        Err(refusal::failed(&Failure::NotSent(NotSent::Crowded)))
    }

    /// Buys what nobody else could be buying. `sending` is told of the hold right before the call leaves.
    pub(super) async fn buy_single(
        &self,
        call: &Single,
        claim: Option<Claim>,
        whose: Whose,
        sending: impl FnOnce(HoldId, Duration),
    ) -> Result<Bought, Elsewhere> {
        let denied = |denied| Bought { billing: Billing::NotSent, end: End::Denied(denied) };
        let charge = Charge {
            request_id: call.context.request_id.to_str().unwrap_or_default().to_owned(),
            caller: call.caller.name.clone(),
            enterprise: call.enterprise,
            number: call.number,
            operation: call.billable,
            price: call.price,
        };
        let wanted = (vec![charge], claim.into_iter().collect());
        let hold = match self.permit_all(&call.caller.name, &call.context, wanted).await.map(|mut holds| holds.pop()) {
            Ok(Some(hold)) => hold,
            Ok(None) => return Ok(denied(Denied::Hold(HoldRefused::Unavailable))),
            Err(Unheld::Denied(why)) => return Ok(denied(why)),
            Err(Unheld::Busy(ending)) => return Err(Elsewhere::Busy(ending)),
            Err(Unheld::Later(told)) => {
                for told in &told {
                    self.0.monitoring.learn(whose, call.billable, [told.paid.as_ref(), told.unknown.as_ref()], self.0.clock.elapsed());
                }
                return Err(Elsewhere::Learnt);
            }
        };
        let turn = match self.turn(&call.context).await {
            Ok(turn) => turn,
            Err(why) => {
                self.settle(hold, Billing::NotSent, STOPPED).await;
                return Ok(denied(why));
            }
        };
        let at = self.0.clock.elapsed();
        sending(hold.id(), at);
        let mut sent = self.begin_call(call.operation, call.message.method().clone(), &call.context);
        let outcome = self.send(turn, &call.message, &mut sent).await;
        let (billing, why, end) = call.judged(outcome);
        self.end_call(sent, billing);
        let id = hold.id();
        self.settle(hold, billing, why).await;
        let known = match billing {
            Billing::Billed => Known { paid: Some(id), unknown: None },
            Billing::Unknown => Known { paid: None, unknown: Some(id) },
            Billing::NotBilled | Billing::NotSent => Known::default(),
        };
        self.0.monitoring.knows(whose, call.billable, known);
        Ok(Bought { billing, end })
    }

    /// The answer to it, in Telnyx's bytes.
    pub(super) fn bought(&self, bought: Bought, price: Usd, forward: Forward) -> Refused<Answer> {
        let bill = Bill::of(bought.billing, price);
        let refused = bought.end.refusal(price, &self.0.rules);
        match (bought.end, refused) {
            (End::Answered(answer), None) => {
                Ok(Answer { decision: Decision::Billed, bill, avoided: None, content: Content::Passed(relay(answer), forward) })
            }
            (_, refused) => Err(Box::new(Answer { bill, ..*refused.unwrap_or_else(refusal::outcome_unknown) })),
        }
    }
}

impl Single {
    fn judged(&self, outcome: Outcome) -> (Billing, &'static str, End) {
        let answer = match outcome {
            Outcome::Answered(answer) => answer,
            Outcome::NotSent(why) => return (Billing::NotSent, "it was never sent", End::Failed(Failure::NotSent(why))),
            Outcome::Unknown(_) => {
                let why = "the answer was lost after the request was sent";
                return (Billing::Unknown, why, End::Failed(Failure::OutcomeUnknown));
            }
        };
        let (status, is_success) = (answer.status, answer.status.is_success());
        let is_whole = is_success && is_whole(&answer, self.operation, self.enterprise);
        let (billing, why) = judge_one(self.billable, status.as_u16(), is_whole.then_some(true));
        let end = match billing {
            _ if is_whole => End::Answered(answer),
            Billing::Unknown if !is_success => End::Failed(Failure::OutcomeUnknown),
            _ => End::Failed(Failure::of(answer, &self.context.credential)),
        };
        (billing, why, end)
    }
}

/// Whether it is the whole answer to a write about this enterprise.
pub(super) fn is_whole(answer: &upstream::Answer, operation: Operation, enterprise: EnterpriseId) -> bool {
    answer.status == StatusCode::NO_CONTENT || tells_of(&answer.body, operation, Some(enterprise))
}

/// The task that owned the call is gone.
pub(super) fn crashed(price: Usd) -> Box<Answer> {
    Box::new(Answer { bill: Bill::of(Billing::Unknown, price), ..*refusal::outcome_unknown() })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_hours(1);

    fn whose() -> Whose {
        (Partition::SHARED, "6a09cdc3-8948-47f0-aa62-74ac943d6c58".parse().expect("a UUID"))
    }

    fn past(hold: i64, variant: Option<&str>) -> Past {
        Past { hold: HoldId(hold), ago: Duration::from_mins(1), price: Usd::from_micros(3), variant: variant.map(str::to_owned) }
    }

    fn enabling(monitoring: &Monitoring) -> Option<(i64, Fate)> {
        monitoring.enablings.get(&whose()).map(|last| (last.hold.0, last.fate))
    }

    #[test]
    fn the_last_enabling_is_learnt_in_whatever_order_it_is_told_and_not_again_once_forgotten() {
        let monitoring = Monitoring::default();
        let learn = |told: [Option<Past>; 2]| monitoring.learn(whose(), Billable::Enable, [told[0].as_ref(), told[1].as_ref()], NOW);
        learn([None, Some(past(2, None))]);
        learn([Some(past(1, None)), None]);
        assert_eq!(enabling(&monitoring), Some((2, Fate::Counted)), "nothing is taken back of another gateway's call");
        assert_eq!(monitoring.known(whose(), Billable::Enable), Known { paid: Some(HoldId(1)), unknown: Some(HoldId(2)) });
        learn([Some(past(2, None)), None]);
        assert_eq!(enabling(&monitoring), Some((2, Fate::Paid)));
        assert_eq!(monitoring.known(whose(), Billable::Enable), Known { paid: Some(HoldId(2)), unknown: None });
        monitoring.forget(&whose());
        learn([Some(past(2, None)), None]);
        assert_eq!(enabling(&monitoring), None, "it was disabled since");
        learn([Some(past(3, None)), None]);
        monitoring.was_not_billed(whose(), Billable::Enable, HoldId(2));
        assert_eq!(enabling(&monitoring), Some((3, Fate::Paid)));
    }

    #[test]
    fn nothing_is_taken_back_of_a_call_after_which_another_gateway_may_have_disabled_it() {
        for enterprise in [None, Some(whose().1)] {
            let monitoring = Monitoring::default();
            monitoring.enablings.insert(whose(), Enabling { hold: HoldId(1), sent: NOW, fate: Fate::Unknown });
            monitoring.doubt_all(Some("11111111-2222-4333-8444-555555555555".parse().expect("a UUID")));
            assert_eq!(enabling(&monitoring), Some((1, Fate::Unknown)), "another enterprise");
            monitoring.doubt_all(enterprise);
            assert_eq!(enabling(&monitoring), Some((1, Fate::Counted)), "{enterprise:?}");
        }
    }

    #[test]
    fn a_schedule_is_over_where_monitoring_was_enabled_anew() {
        let monitoring = Monitoring::default();
        let counted = || monitoring.schedules.get(&whose()).map(|counted| (counted.hold.0, counted.frequency.as_str()));
        monitoring.learn(whose(), Billable::Frequency, [Some(&past(5, Some("daily"))), None], NOW);
        monitoring.learn(whose(), Billable::Frequency, [None, Some(&past(4, Some("weekly")))], NOW);
        assert_eq!(counted(), Some((5, "daily")));
        monitoring.learn(whose(), Billable::Enable, [Some(&past(6, None)), None], NOW);
        assert_eq!(counted(), None);
        monitoring.learn(whose(), Billable::Frequency, [Some(&past(7, Some("no word of ours"))), None], NOW);
        assert_eq!((counted(), monitoring.known(whose(), Billable::Frequency).paid), (None, Some(HoldId(7))), "and is counted again");
    }
}
