//! A refresh: many numbers checked by one call. Each number is decided about like `fresh=true`; those that have to be bought are bought
//! together.

use http::StatusCode;
use serde_json::{Value, json};

use super::Gateway;
use super::answer::{Answer, Content, Refused};
use super::ask::Ask;
use super::batch::{End, Item, Order, Sale, Verdict};
use super::failure::Failure;
use super::refusal;
use super::retrieve::MOST_ROUNDS;
use super::visit::Visit;
use crate::policy::decision::{Decision, Reason};
use crate::policy::evidence::Billing;
use crate::policy::pricing::Billable;
use crate::policy::refresh::Action;
use crate::telemetry::metrics::Avoided;
use crate::telnyx::Operation;
use crate::telnyx::record::{self, Refreshed};
use crate::upstream::{Message, NotSent};

/// The error of a number whose check may have been carried out.
const UNKNOWN: &str = "a check of this number was sent and it is not known whether it was carried out; none is sent until that is clear";

/// The error of a number whose earlier check may have been carried out, and who could tell did not answer.
const UNSEEN: &str = "it could not be found out what became of an earlier check of this number, so none was sent";

impl Gateway {
    /// Answers a refresh of these numbers.
    pub(super) async fn refresh(&self, asks: Vec<Ask>, visit: &mut Visit) -> Refused<Answer> {
        let mut items = self.items(asks, Billable::Refresh, visit).await;
        for _ in 0..MOST_ROUNDS {
            if self.wait_for(&mut items, visit).await {
                continue;
            }
            if !items.iter().any(|item| item.action == Action::Buy) {
                return self.without_sale(&items);
            }
            let order = order(&items);
            if let Some(sale) = self.buy(&mut items, order, visit).await {
                return self.with_sale(&items, sale);
            }
        }
        Err(refusal::failed(&Failure::NotSent(NotSent::Crowded)))
    }

    /// Answers where nothing was bought.
    fn without_sale(&self, items: &[Item]) -> Refused<Answer> {
        if items.iter().any(|item| matches!(item.action, Action::Satisfied(_))) {
            return Ok(self.in_parts(items, None));
        }
        // All are barred.
        let failed =
            items.iter().find(|item| item.action == Action::Barred(Reason::Upstream)).and_then(|item| item.course.failure.as_ref());
        Err(failed.map_or_else(refusal::outcome_unknown, refusal::failed))
    }

    /// Answers with what a purchase brought.
    fn with_sale(&self, items: &[Item], sale: Sale) -> Refused<Answer> {
        let price = self.0.rules.prices.price(Billable::Refresh);
        let bill = sale.bill(price);
        let some_done = items.iter().any(|item| matches!(item.action, Action::Satisfied(_)));
        match &sale.end {
            End::Answered(answer) if sale.verdicts.len() == items.len() => {
                let content = Content::Results { status: answer.status, body: answer.body.clone(), forwarded: true };
                return Ok(Answer { decision: sale.decision(), bill, avoided: None, content });
            }
            End::Failed(_) if bill.billing == Billing::Unknown && some_done => {}
            _ => {
                if let Some(refused) = self.refused(&sale, price) {
                    return Err(refused);
                }
            }
        }
        Ok(Answer { bill, ..self.in_parts(items, Some(sale)) })
    }

    /// The answer put together number by number, in their order; and what of it would have cost a check each.
    fn in_parts(&self, items: &[Item], sale: Option<Sale>) -> Answer {
        let forwarded = sale.is_some();
        let decision = sale.as_ref().map_or_else(|| decision(items), Sale::decision);
        let mut bought = sale.map(|sale| sale.verdicts).unwrap_or_default().into_iter();
        let result = |item: &Item| {
            let (phone_number, error) = (item.ask.key.number, |error: &str| Value::String(error.to_owned()));
            let done = Refreshed { phone_number, success: true, error: Value::Null };
            match item.action {
                Action::Satisfied(why) => {
                    self.0.metrics.avoided.add(avoided(item, why).as_str(), self.0.rules.prices.check);
                    done
                }
                Action::Buy => match bought.next() {
                    Some(Verdict { said: Some(said), .. }) => said,
                    _ => Refreshed { success: false, error: error(UNKNOWN), ..done },
                },
                Action::Barred(Reason::Upstream) => Refreshed { success: false, error: error(UNSEEN), ..done },
                Action::Barred(_) | Action::Follow | Action::Look => Refreshed { success: false, error: error(UNKNOWN), ..done },
            }
        };
        let results: Vec<_> = items.iter().map(result).collect();
        let content = Content::Results { status: StatusCode::OK, body: record::refresh(&results), forwarded };
        Answer::free(decision, content)
    }
}

/// What is bought of these numbers.
fn order(items: &[Item]) -> Order {
    let numbers: Vec<_> = items.iter().filter(|item| item.action == Action::Buy).map(|item| item.ask.key.number.to_string()).collect();
    let path = format!("/enterprises/{}/reputation/numbers/refresh", items[0].ask.key.enterprise);
    let message = Message::post(path, json!({ "phone_numbers": numbers }).to_string());
    Order { billable: Billable::Refresh, operation: Operation::Refresh, message }
}

/// How a batch was decided that bought nothing: by what kept a number from being bought, else by what made all purchases needless.
pub(super) fn decision(items: &[Item]) -> Decision {
    let mut needless = Vec::new();
    for item in items {
        match item.action {
            Action::Barred(reason) => return reason.decision(),
            Action::Satisfied(_) if item.followed => needless.push(Decision::Collapsed),
            Action::Satisfied(why) => needless.push(why),
            Action::Buy | Action::Follow | Action::Look => {}
        }
    }
    match needless.first() {
        Some(first) if needless.iter().all(|decision| decision == first) => *first,
        _ => Decision::Cooldown,
    }
}

/// What kept a number from being bought.
pub(super) fn avoided(item: &Item, why: Decision) -> Avoided {
    match why {
        _ if item.followed => Avoided::Collapsed,
        Decision::Recovered => Avoided::Recovered,
        _ => Avoided::Cooldown,
    }
}
