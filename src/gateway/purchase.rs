//! A billable call: rate limit, hold, one request, verdict, settlement. It runs in a task of its own, which owns the hold.
//!
//! Whoever asked may leave; the call goes on, is settled, and its answer is kept. Nothing here sends twice.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use tokio::time::timeout;

use super::Gateway;
use super::ask::Ask;
use super::failure::Failure;
use super::look::Look;
use crate::cache::{Content, Entry};
use crate::limit::{Limited, Limiter};
use crate::policy::budget::Charge;
use crate::policy::decide::{CLOCK_TOLERANCE, Kind};
use crate::policy::decision::{Decision, Reason};
use crate::policy::evidence::{Answered, Billing, judge};
use crate::policy::pricing::Billable;
use crate::spend::{Hold, HoldRefused};
use crate::telnyx::{Operation, record};
use crate::upstream::{Answer, NotSent, Outcome};

/// How a purchase ended. All who waited for it share this.
#[derive(Clone, Debug)]
pub(super) struct Landing {
    /// For whom it was made.
    pub(super) caller: Arc<str>,
    /// What was to be bought.
    pub(super) operation: Billable,
    /// Whether it was billed, as far as is known in the end.
    pub(super) billing: Billing,
    /// What it brought.
    pub(super) end: End,
}

/// What a purchase brought.
#[derive(Clone, Debug)]
pub(super) enum End {
    /// An answer to serve.
    Served(Arc<Entry>, Decision),
    /// It was refused before anything was sent.
    Denied(Denied),
    /// It failed.
    Failed(Failure),
}

impl Landing {
    /// Whether another request can be answered with it: one of `caller`'s that wanted this bought, or nothing if it could do without.
    pub(super) fn suits(&self, caller: &str, wanted: Option<Billable>) -> bool {
        match &self.end {
            // Who asked for fresh data does not take what a plain read found stored.
            End::Served(..) => wanted != Some(Billable::Fresh) || self.operation == Billable::Fresh || self.billing == Billing::Billed,
            // Another caller's limits are none of this one's.
            End::Denied(denied) => wanted == Some(self.operation) && (denied.concerns_all() || *self.caller == *caller),
            End::Failed(_) => wanted == Some(self.operation),
        }
    }
}

/// What refused a purchase.
#[derive(Clone, Debug)]
pub(super) enum Denied {
    /// A rate limit.
    Limited(Limited),
    /// A budget, or the ledger.
    Hold(HoldRefused),
}

impl Denied {
    /// Whether any caller would have been refused.
    fn concerns_all(&self) -> bool {
        matches!(
            self,
            Self::Limited(Limited { limiter: Limiter::Global, .. }) | Self::Hold(HoldRefused::Stopped | HoldRefused::Unavailable)
        )
    }

    pub(super) fn reason(&self) -> Reason {
        match self {
            Self::Limited(_) => Reason::RateLimited,
            Self::Hold(HoldRefused::NoBudget | HoldRefused::Exhausted(_)) => Reason::BudgetExhausted,
            Self::Hold(HoldRefused::Stopped) => Reason::Stopped,
            Self::Hold(HoldRefused::Unavailable) => Reason::LedgerUnavailable,
        }
    }
}

/// What a call brought, and what it cost.
struct Verdict {
    billing: Billing,
    why: &'static str,
    result: Result<Content, Failure>,
}

/// A ledger whose disk hangs is not waited for: nothing is bought, and what was bought is not kept from its callers.
pub(super) const LEDGER_WAIT: Duration = Duration::from_secs(2);

/// The look for what became of a call is made while its caller waits, who has waited for the call already.
const RECOVERY_WAIT: Duration = Duration::from_secs(5);

impl Gateway {
    /// Buys one answer.
    pub(super) async fn purchase(&self, ask: &Ask, operation: Billable) -> Landing {
        let (billing, end) = match self.permit(ask, operation).await {
            Ok(hold) => self.carry_out(ask, operation, hold).await,
            Err(denied) => (Billing::NotSent, End::Denied(denied)),
        };
        Landing { caller: ask.caller.name.clone(), operation, billing, end }
    }

    /// The rates' consent, and a hold in every budget that applies. A call that no budget will pay for takes nothing from the rates:
    /// who has no money must not keep others from spending theirs.
    async fn permit(&self, ask: &Ask, operation: Billable) -> Result<Hold, Denied> {
        let caller = &ask.caller.name;
        let charge = Charge {
            request_id: ask.context.request_id.to_str().unwrap_or_default().to_owned(),
            caller: caller.clone(),
            enterprise: ask.key.enterprise,
            number: ask.key.number,
            operation,
            price: self.0.rules.prices.price(operation),
        };
        match self.0.ledger.preview(std::slice::from_ref(&charge)) {
            Ok(()) => self.0.limits.take(caller).map_err(|limited| {
                self.0.metrics.rate_limit_denied.with_label_values(&[limited.limiter.as_str()]).inc();
                Denied::Limited(limited)
            })?,
            Err(refused @ (HoldRefused::Stopped | HoldRefused::Unavailable)) => return Err(Denied::Hold(refused)),
            // The ledger itself decides, and counts.
            Err(HoldRefused::NoBudget | HoldRefused::Exhausted(_)) => {}
        }
        let held = timeout(LEDGER_WAIT, self.0.ledger.hold(charge)).await;
        held.unwrap_or(Err(HoldRefused::Unavailable)).map_err(Denied::Hold)
    }

    /// Sends the number's GET, once. Until the verdict the outcome counts as unknown: if this task dies, nothing is sent again.
    async fn carry_out(&self, ask: &Ask, operation: Billable, hold: Hold) -> (Billing, End) {
        let place = self.0.upstream.place().await;
        if self.0.ledger.is_stopped() {
            self.settle(hold, Billing::NotSent, "stopped before it was sent").await;
            return (Billing::NotSent, End::Denied(Denied::Hold(HoldRefused::Stopped)));
        }
        let unknown_before = self.0.calls.of(&ask.key).unknown;
        let sent = self.0.clock.elapsed();
        self.0.calls.unknown(ask.key, sent);
        let query = match operation {
            Billable::Fresh => "?fresh=true",
            Billable::FirstTouch => "",
        };
        let path = format!("/enterprises/{}/reputation/numbers/{}{query}", ask.key.enterprise, ask.key.number);
        let outcome = match place {
            Ok(_) if self.0.tasks.is_closed() => Outcome::NotSent(NotSent::Stopping),
            Ok(place) => self.0.upstream.get(place, &path, &ask.context).await,
            Err(crowded) => Outcome::NotSent(crowded),
        };
        let verdict = verdict(outcome, operation, ask);
        self.count_upstream(Operation::Retrieve, verdict.billing, self.0.clock.elapsed().saturating_sub(sent));
        let id = hold.id();
        self.settle(hold, verdict.billing, verdict.why).await;
        if verdict.billing == Billing::Unknown {
            self.0.pending.add(ask.key, id, sent, sent + self.0.rules.policy.unknown_window, Some(ask.context.clone()));
        }
        let end = match verdict.result {
            Ok(content) => self.keep_answer(ask, operation, verdict.billing, content, sent),
            Err(Failure::OutcomeUnknown) => return self.recover(ask, sent).await,
            Err(failure) => End::Failed(failure),
        };
        // After the answer is kept: who sees that it was paid finds it.
        match verdict.billing {
            Billing::Billed => {
                self.0.calls.paid(ask.key, sent);
                self.0.pending.hasten(&ask.key, self.0.clock.elapsed());
            }
            Billing::NotBilled | Billing::NotSent => self.0.calls.not_billed(ask.key, sent, unknown_before),
            Billing::Unknown => {}
        }
        (verdict.billing, end)
    }

    fn keep_answer(&self, ask: &Ask, operation: Billable, billing: Billing, content: Content, sent: Duration) -> End {
        let decision = match (content.kind, billing, operation) {
            (Kind::Missing, ..) => Decision::NotFound,
            (_, Billing::Billed, Billable::Fresh) => Decision::Billed,
            (_, Billing::Billed, Billable::FirstTouch) => Decision::FirstTouch,
            _ => Decision::Miss,
        };
        let entry = self.0.cache.entry(&ask.key, content, self.0.clock.elapsed());
        self.0.cache.keep(ask.key, &entry, sent);
        End::Served(entry, decision)
    }

    /// The free look that may show what became of a call: data newer than its dispatch means that it worked.
    async fn recover(&self, ask: &Ask, sent: Duration) -> (Billing, End) {
        // A task of its own: what the look shows is recorded, also if nobody waits any more.
        let (gateway, key, context) = (self.clone(), ask.key, ask.context.clone());
        let look = self.0.tasks.spawn(async move { gateway.look_upstream(key, &context).await });
        if let Ok(Ok(Look::Found(entry, _))) = timeout(RECOVERY_WAIT, look).await {
            let since_sent = self.0.clock.elapsed().saturating_sub(sent);
            if entry.data_age().is_some_and(|age| age <= since_sent + CLOCK_TOLERANCE) {
                self.0.calls.recovered(ask.key, sent);
                return (Billing::Billed, End::Served(entry, Decision::Recovered));
            }
        }
        (Billing::Unknown, End::Failed(Failure::OutcomeUnknown))
    }

    /// Ends the hold. An end that cannot be written now is kept by the ledger, which goes on trying.
    async fn settle(&self, hold: Hold, billing: Billing, why: &str) {
        let id = hold.id();
        let end = async {
            match billing {
                Billing::Billed => hold.settle(why).await,
                Billing::NotBilled | Billing::NotSent => hold.release(why).await,
                Billing::Unknown => hold.assume(why).await,
            }
        };
        if !matches!(timeout(LEDGER_WAIT, end).await, Ok(Ok(()))) {
            tracing::error!(
                hold = %id,
                outcome = billing.as_str(),
                "the ledger has not recorded how a hold ended, and goes on trying"
            );
        }
    }
}

fn verdict(outcome: Outcome, operation: Billable, ask: &Ask) -> Verdict {
    let answer = match outcome {
        Outcome::Answered(answer) => answer,
        Outcome::NotSent(why) => {
            return Verdict { billing: Billing::NotSent, why: "it was never sent", result: Err(Failure::NotSent(why)) };
        }
        Outcome::Unknown(_) => {
            let why = "the answer was lost after the request was sent";
            return Verdict { billing: Billing::Unknown, why, result: Err(Failure::OutcomeUnknown) };
        }
    };
    let content = content(&answer, ask);
    let reputation = content.as_ref().and_then(|(reputation, _)| *reputation);
    let answered = Answered { status: answer.status.as_u16(), reputation, date: answer.date, elapsed: answer.elapsed };
    let (billing, why) = judge(operation, &answered);
    let result = match content {
        Some((_, content)) => Ok(content),
        None if billing == Billing::Unknown && !answer.status.is_success() => Err(Failure::OutcomeUnknown),
        None => Err(Failure::of(answer, &ask.context.credential)),
    };
    Verdict { billing, why, result }
}

/// What can be served of an answer: this number's whole record, or that there is no such number.
fn content(answer: &Answer, ask: &Ask) -> Option<(Option<record::Reputation>, Content)> {
    if answer.status == StatusCode::NOT_FOUND && record::is_error(&answer.body) {
        return Some((None, Content::missing(answer.body.clone())));
    }
    let record = record::document(&answer.body).ok().filter(|_| answer.status.is_success())?;
    let this = record.phone_number == ask.key.number && record.enterprise_id == ask.key.enterprise;
    this.then(|| (Some(record.reputation), Content::record(record.reputation, answer.body.clone(), answer.date)))
}
