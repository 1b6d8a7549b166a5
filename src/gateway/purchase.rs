//! A billable call: rate limit, hold, one request, verdict, settlement. It runs in a task of its own, which owns the hold.
//!
//! Whoever asked may leave; the call goes on, is settled, and its answer is kept. Nothing here sends twice.

use std::sync::Arc;
use std::time::Duration;

use super::Gateway;
use super::ask::Ask;
use super::failure::Failure;
use super::look::Look;
use crate::cache::{Content, Entry};
use crate::limit::Limited;
use crate::policy::budget::Charge;
use crate::policy::decide::{CLOCK_TOLERANCE, Kind};
use crate::policy::decision::{Decision, Reason};
use crate::policy::evidence::{Answered, Billing, judge};
use crate::policy::pricing::Billable;
use crate::spend::{Hold, HoldRefused};
use crate::telnyx::{Operation, record};
use crate::upstream::{Answer, Outcome};

/// How a purchase ended. All who waited for it share this.
#[derive(Clone, Debug)]
pub(super) enum Landing {
    /// There is an answer to serve, which the decision and the billing are those of.
    Served(Arc<Entry>, Decision, Billing),
    /// It was refused before anything was sent, for this caller.
    Denied(Arc<str>, Denied),
    /// It failed.
    Failed(Failure),
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
    pub(super) fn reason(&self) -> Reason {
        match self {
            Self::Limited(_) => Reason::RateLimited,
            Self::Hold(HoldRefused::NoBudget | HoldRefused::Exhausted(_)) => Reason::BudgetExhausted,
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

impl Gateway {
    /// Buys one answer.
    pub(super) async fn purchase(&self, ask: &Ask, operation: Billable) -> Landing {
        let caller = &ask.caller.name;
        if let Err(limited) = self.limits.take(caller) {
            self.metrics.rate_limit_denied.with_label_values(&[limited.limiter.as_str()]).inc();
            return Landing::Denied(caller.clone(), Denied::Limited(limited));
        }
        let charge = Charge {
            request_id: ask.context.request_id.to_str().unwrap_or_default().to_owned(),
            caller: caller.clone(),
            enterprise: ask.key.enterprise,
            number: ask.key.number,
            operation,
            price: self.0.rules.prices.price(operation),
        };
        match self.ledger.hold(charge).await {
            Ok(hold) => self.carry_out(ask, operation, hold).await,
            Err(refused) => Landing::Denied(caller.clone(), Denied::Hold(refused)),
        }
    }

    /// Sends the number's GET, once. Until the verdict the outcome counts as unknown: if this task dies, nothing is sent again.
    async fn carry_out(&self, ask: &Ask, operation: Billable, hold: Hold) -> Landing {
        let sent = self.clock.elapsed();
        self.calls.unknown(ask.key, sent);
        let query = match operation {
            Billable::Fresh => "?fresh=true",
            Billable::FirstTouch => "",
        };
        let path = format!("/enterprises/{}/reputation/numbers/{}{query}", ask.key.enterprise, ask.key.number);
        let outcome = self.upstream.get(&path, &ask.context).await;
        let verdict = verdict(outcome, operation, ask);
        self.count_upstream(Operation::Retrieve, verdict.billing, self.clock.elapsed().saturating_sub(sent));
        self.settle(hold, &verdict).await;
        match verdict.billing {
            Billing::Billed => self.calls.paid(ask.key, sent),
            Billing::NotBilled | Billing::NotSent => self.calls.clear(&ask.key),
            Billing::Unknown => {}
        }
        match (verdict.billing, verdict.result) {
            (billing, Ok(content)) => self.land(ask, operation, billing, content, sent),
            (Billing::Unknown, Err(Failure::Lost(_) | Failure::Refused(_))) => self.recover(ask, sent).await,
            (_, Err(failure)) => Landing::Failed(failure),
        }
    }

    fn land(&self, ask: &Ask, operation: Billable, billing: Billing, content: Content, sent: Duration) -> Landing {
        let decision = match (content.kind, billing, operation) {
            (Kind::Missing, ..) => Decision::NotFound,
            (_, Billing::Billed, Billable::Fresh) => Decision::Billed,
            (_, Billing::Billed, Billable::FirstTouch) => Decision::FirstTouch,
            _ => Decision::Miss,
        };
        let entry = self.cache.entry(&ask.key, content, self.clock.elapsed());
        self.cache.keep(ask.key, &entry, sent);
        Landing::Served(entry, decision, billing)
    }

    /// The free look that may show what became of a call: data newer than its dispatch means that it worked.
    async fn recover(&self, ask: &Ask, sent: Duration) -> Landing {
        if let Look::Found(entry) = self.look_upstream(ask).await {
            let since_sent = self.clock.elapsed().saturating_sub(sent);
            if entry.data_age().is_some_and(|age| age <= since_sent + CLOCK_TOLERANCE) {
                self.calls.recovered(ask.key);
                return Landing::Served(entry, Decision::Recovered, Billing::Billed);
            }
        }
        Landing::Failed(Failure::OutcomeUnknown)
    }

    async fn settle(&self, hold: Hold, verdict: &Verdict) {
        let id = hold.id();
        let ended = match verdict.billing {
            Billing::Billed => hold.settle(verdict.why).await,
            Billing::NotBilled | Billing::NotSent => hold.release(verdict.why).await,
            Billing::Unknown => hold.assume(verdict.why).await,
        };
        if ended.is_err() {
            tracing::error!(
                hold = %id,
                outcome = verdict.billing.as_str(),
                "the ledger could not record how a hold ended, and will try again"
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
        Outcome::Unknown(lost) => {
            let why = "the answer was lost after the request was sent";
            return Verdict { billing: Billing::Unknown, why, result: Err(Failure::of(Outcome::Unknown(lost), &ask.context.credential)) };
        }
    };
    let content = content(&answer, ask);
    let reputation = content.as_ref().and_then(|(reputation, _)| *reputation);
    let answered = Answered { status: answer.status.as_u16(), reputation, date: answer.date, elapsed: answer.elapsed };
    let (billing, why) = judge(operation, &answered);
    let result = match content {
        Some((_, content)) => Ok(content),
        None => Err(Failure::of(Outcome::Answered(answer), &ask.context.credential)),
    };
    Verdict { billing, why, result }
}

/// What can be served of an answer: this number's whole record, or that there is no such number.
fn content(answer: &Answer, ask: &Ask) -> Option<(Option<record::Reputation>, Content)> {
    if answer.status == http::StatusCode::NOT_FOUND {
        return Some((None, Content::missing(answer.body.clone())));
    }
    let record = record::document(&answer.body).ok().filter(|_| answer.status.is_success())?;
    let this = record.phone_number == ask.key.number && record.enterprise_id == ask.key.enterprise;
    this.then(|| (Some(record.reputation), Content::record(record.reputation, answer.body.clone(), answer.date)))
}
