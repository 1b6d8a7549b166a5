//! An association: numbers put under monitoring, all of them or none. Telnyx checks each, and answers with their records.

use http::StatusCode;
use serde_json::json;

use super::Gateway;
use super::answer::{Answer, Content, Refused};
use super::ask::Ask;
use super::batch::{Item, Order};
use super::failure::Failure;
use super::retrieve::MOST_ROUNDS;
use super::visit::Visit;
use super::{refresh, refusal};
use crate::policy::decision::Reason;
use crate::policy::pricing::Billable;
use crate::policy::refresh::Action;
use crate::telnyx::{Operation, record};
use crate::upstream::{Message, NotSent};

impl Gateway {
    /// Answers an association of these numbers.
    pub(super) async fn associate(&self, asks: Vec<Ask>, visit: &mut Visit) -> Refused<Answer> {
        let mut items = self.items(asks, Billable::Associate, visit).await;
        for _ in 0..MOST_ROUNDS {
            if self.wait_for(&mut items, visit).await {
                continue;
            }
            if let Some(barred) = items.iter().find(|item| matches!(item.action, Action::Barred(_))) {
                let failed = barred.course.failure.as_ref().filter(|_| barred.action == Action::Barred(Reason::Upstream));
                return Err(failed.map_or_else(refusal::outcome_unknown, refusal::failed));
            }
            if let Some(answer) = self.without_association(&items) {
                return Ok(answer);
            }
            // All or none: whether those that are associated by now stand in the way of the others is for Telnyx to say.
            for item in &mut items {
                item.action = Action::Buy;
            }
            let order = order(&items);
            if let Some(sale) = self.buy(&mut items, order, visit).await {
                return self.sold(sale, Billable::Associate);
            }
        }
        Err(refusal::failed(&Failure::NotSent(NotSent::Crowded)))
    }

    /// The answer where all numbers are associated by now, put together from what looks found.
    fn without_association(&self, items: &[Item]) -> Option<Answer> {
        let record = |item: &Item| {
            let entry = item.course.look.as_ref()?.entry()?.clone();
            record::inner(entry.body()).map(str::to_owned).filter(|_| matches!(item.action, Action::Satisfied(_)))
        };
        let records: Vec<_> = items.iter().map(record).collect::<Option<_>>()?;
        for item in items {
            if let Action::Satisfied(why) = item.action {
                self.0.metrics.avoided.add(refresh::avoided(item, why).as_str(), self.0.rules.prices.check);
            }
        }
        let meta = json!({ "page_number": 1, "page_size": records.len(), "total_pages": 1, "total_results": records.len() });
        let body = format!(r#"{{"data":[{}],"meta":{meta}}}"#, records.join(",")).into();
        let content = Content::Results { status: StatusCode::CREATED, body, forwarded: false };
        Some(Answer::free(refresh::decision(items), content))
    }
}

fn order(items: &[Item]) -> Order {
    let numbers: Vec<_> = items.iter().map(|item| item.ask.key.number.to_string()).collect();
    let path = format!("/enterprises/{}/reputation/numbers", items[0].ask.key.enterprise);
    let message = Message::post(path, json!({ "phone_numbers": numbers }).to_string());
    Order { billable: Billable::Associate, operation: Operation::Associate, message }
}
