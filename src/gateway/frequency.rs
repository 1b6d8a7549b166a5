//! The schedule of Telnyx's own checks. Setting it costs nothing, and what it sets off passes no meter: so the most that a month of it can
//! cost is held and counted when it is set.
//!
//! It is the whole month each time, and not the difference to the schedule before: what ran under that one has been billed, or was counted by
//! nobody. A schedule that is set again within minutes is one intent, and is counted once.

use std::time::Duration;

use http::Method;
use http::request::Parts;
use serde_json::json;

use super::Gateway;
use super::answer::{Answer, Content, Forward, Refused};
use super::ask;
use super::elsewhere::Elsewhere;
use super::failure::{Failure, relay};
use super::pass::{path, tells_of};
use super::refusal;
use super::retrieve::MOST_ROUNDS;
use super::single::{Single, Whose, crashed, is_whole};
use super::trail::{self, Step};
use super::visit::Visit;
use super::write::About;
use crate::auth::{Identity, Permission};
use crate::policy::decide::RETRIES;
use crate::policy::decision::Decision;
use crate::policy::evidence::Billing;
use crate::policy::money::Usd;
use crate::policy::pricing::Billable;
use crate::spend::{Claim, HoldId, HoldRefused};
use crate::telnyx::{CheckFrequency, EnterpriseId, Operation, Route, record};
use crate::upstream::{Context, Message, NotSent};
use crate::wire::directives::Directives;

/// A month that was counted, or may have to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Counted {
    pub(super) hold: HoldId,
    pub(super) frequency: CheckFrequency,
    pub(super) price: Usd,
    /// When its call was sent (monotonic).
    pub(super) at: Duration,
}

/// A schedule that is to be set.
#[derive(Clone)]
struct Change {
    identity: Identity,
    enterprise: EnterpriseId,
    frequency: CheckFrequency,
    context: Context,
    message: Message,
}

impl Gateway {
    /// Sets how often Telnyx checks an enterprise's numbers by itself.
    pub(super) async fn frequency(
        &self,
        route: &Route<'_>,
        (head, body): (&Parts, &[u8]),
        identity: &Identity,
        wishes: Directives,
        visit: &mut Visit,
    ) -> Refused<Answer> {
        let enterprise = self.permitted(Permission::Frequency, route, None, identity, wishes, visit).await?;
        let frequency = ask::frequency(head, body)?;
        let context = self.context(identity, Some(enterprise), visit)?;
        let message = json!({ "check_frequency": frequency.as_str() }).to_string();
        let message = Message::new(Method::PATCH, path(route, Some(enterprise))?, message);
        let change = Change { identity: identity.clone(), enterprise, frequency, context, message };
        let lead = self.alone((identity.partition, enterprise), visit).await?;
        let gateway = self.clone();
        let changing = self.0.tasks.spawn(trail::along(async move {
            let answer = gateway.change(&change).await;
            lead.land(());
            answer
        }));
        visit.waiting_for(changing).await.unwrap_or_else(|_| Err(crashed(Usd::ZERO)))
    }

    /// Decides anew as long as other gateways' calls for the enterprise come in between.
    async fn change(&self, change: &Change) -> Refused<Answer> {
        let since = self.0.clock.elapsed();
        for _ in 0..MOST_ROUNDS {
            match self.change_as_known(change).await? {
                Ok(answer) => return Ok(answer),
                Err(elsewhere) => self.wait_elsewhere(elsewhere, since).await?,
            }
        }
        Err(refusal::failed(&Failure::NotSent(NotSent::Crowded)))
    }

    async fn change_as_known(&self, change: &Change) -> Refused<Result<Answer, Elsewhere>> {
        let numbers = if change.frequency == CheckFrequency::Never { 0 } else { self.numbers_of(change).await? };
        let price = self.0.rules.prices.month(numbers, change.frequency);
        let whose = (change.identity.partition, change.enterprise);
        let has_counted = price > Usd::ZERO && self.has_counted(whose, change.frequency, price);
        trail::note(|| Step::Schedule { frequency: change.frequency, numbers, price, has_counted });
        if price == Usd::ZERO {
            return self.reset(change, Decision::Passed).await.map(Ok);
        }
        let claim = Claim { known: self.0.monitoring.known(whose, Billable::Frequency), variant: Some(change.frequency.as_str()) };
        if has_counted {
            // It costs nothing more, and sets off what costs money all the same.
            let stopped = self.0.ledger.is_stopped().then(|| refusal::hold_refused(&HoldRefused::Stopped, price, &self.0.rules));
            return match stopped {
                Some(refused) => Err(refused),
                None => self.reset(change, Decision::Cooldown).await.map(Ok),
            };
        }
        let Change { identity, enterprise, frequency, context, message } = change.clone();
        let (operation, billable) = (Operation::Frequency, Billable::Frequency);
        let call = Single { caller: identity.caller, context, enterprise, number: None, operation, billable, price, message };
        let schedules = &self.0.monitoring.schedules;
        let sending = |hold, at| schedules.insert(whose, Counted { hold, frequency, price, at });
        let bought = match self.buy_single(&call, Some(claim), whose, sending).await {
            Ok(bought) => bought,
            Err(elsewhere) => return Ok(Err(elsewhere)),
        };
        if matches!(bought.billing, Billing::NotBilled | Billing::NotSent) {
            schedules.invalidate(&whose);
        }
        self.bought(bought, price, Forward::Method).map(Ok).map_err(|mut refused| {
            if let Content::Problem(problem) = &mut refused.content {
                let (runs, check) = (frequency.most_runs(), self.0.rules.prices.price(billable));
                let sum = format!("a month of this schedule is {numbers} numbers x {runs} runs x {check} dollars = {price}");
                problem.detail = format!("{}; {sum}", problem.detail);
            }
            refused
        })
    }

    /// How many numbers the schedule is for, asked of Telnyx now.
    async fn numbers_of(&self, change: &Change) -> Refused<u64> {
        let path = format!("/enterprises/{}/reputation/numbers?page%5Bnumber%5D=1&page%5Bsize%5D=1", change.enterprise);
        let page = self.free(&path, Operation::List, &change.context).await.map_err(|failure| refusal::failed(&failure))?;
        let own = tells_of(&page.body, Operation::List, Some(change.enterprise));
        record::total(&page.body).ok().filter(|_| own).ok_or_else(|| refusal::failed(&Failure::Invalid))
    }

    /// Whether a month of it was counted a moment ago. It has to have been as dear: numbers may have come since.
    fn has_counted(&self, whose: Whose, frequency: CheckFrequency, price: Usd) -> bool {
        let now = self.0.clock.elapsed();
        let covers =
            |counted: Counted| counted.frequency == frequency && counted.price >= price && now.saturating_sub(counted.at) < RETRIES;
        self.0.monitoring.schedules.get(&whose).is_some_and(covers)
    }

    /// Sets it without a hold.
    async fn reset(&self, change: &Change, decision: Decision) -> Refused<Answer> {
        let about = About { operation: Operation::Frequency, enterprise: Some(change.enterprise), number: None };
        let sent = self.send_write(&change.message, about, &change.identity, &change.context).await;
        let answer = sent.map_err(|failure| refusal::write_failed(&failure))?;
        if !is_whole(&answer, Operation::Frequency, change.enterprise) {
            return Err(refusal::write_failed(&Failure::Invalid));
        }
        Ok(Answer::free(decision, Content::Passed(relay(answer), Forward::Method)))
    }
}
