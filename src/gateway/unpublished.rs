//! Calls whose price Telnyx does not publish: they pass once an operator says what one costs. For nothing they are reads and writes like others;
//! for more each is held, sent once, and settled.

use http::Method;
use http::request::Parts;
use serde_json::Value;

use super::Gateway;
use super::answer::{Answer, Content, Forward, Refused};
use super::ask;
use super::failure::{Failure, relay};
use super::pass::path;
use super::single::{Single, crashed, is_whole};
use super::visit::Visit;
use super::write::About;
use super::{refusal, trail};
use crate::auth::{Identity, Permission};
use crate::policy::decision::Decision;
use crate::policy::evidence::Billing;
use crate::policy::money::Usd;
use crate::policy::pricing::Billable;
use crate::telnyx::{Operation, Route};
use crate::upstream::Message;
use crate::wire::directives::Directives;

impl Gateway {
    /// Carries out such a call.
    pub(super) async fn unpublished(
        &self,
        route: &Route<'_>,
        (head, body): (&Parts, &[u8]),
        identity: &Identity,
        wishes: Directives,
        visit: &mut Visit,
    ) -> Refused<Answer> {
        let price = self.0.rules.prices.unpublished.ok_or_else(|| refusal::unpublished(permission(route.operation)))?;
        let number = if route.number.is_some() { Some(ask::number(route.number)?) } else { None };
        let enterprise = self.permitted(permission(route.operation), route, number, identity, wishes, visit).await?;
        let reads = matches!(head.method, Method::GET | Method::HEAD);
        let target = match number {
            Some(number) if reads => format!("/enterprises/{enterprise}/reputation/numbers/{number}/ownership"),
            Some(number) => format!("/enterprises/{enterprise}/reputation/numbers/{number}/ownership_confirm"),
            None => path(route, Some(enterprise))?,
        };
        let json = ask::object(head, body, Some(enterprise))?.map(|object| Value::Object(object).to_string());
        if reads && wishes.only_if_cached {
            return Err(refusal::not_in_cache());
        }
        if reads && price > Usd::ZERO && (head.method == Method::HEAD || wishes.no_cache) {
            return Err(refusal::never_buys());
        }
        let message =
            if reads { Message::get(target.clone()) } else { Message::new(head.method.clone(), target.clone(), json.unwrap_or_default()) };
        let (context, operation, billable) = (self.context(identity, Some(enterprise), visit)?, route.operation, Billable::Unpublished);
        let call = Single { caller: identity.caller.clone(), context, enterprise, number, operation, billable, price, message };
        let (gateway, identity) = (self.clone(), identity.clone());
        // A task of its own: who leaves does not keep what it changed from being forgotten.
        let calling =
            self.0.tasks.spawn(trail::along(async move { gateway.call_unpublished(&call, &identity, reads.then_some(&target)).await }));
        visit.waiting_for(calling).await.unwrap_or_else(|_| Err(crashed(price)))
    }

    async fn call_unpublished(&self, call: &Single, identity: &Identity, reads: Option<&String>) -> Refused<Answer> {
        let about = About { operation: call.operation, enterprise: Some(call.enterprise), number: call.number };
        let forward = if reads.is_some() { Forward::Bypass } else { Forward::Method };
        if call.price > Usd::ZERO {
            let Ok(bought) = self.buy_single(call, None, (identity.partition, call.enterprise), |_, _| {}).await else {
                unreachable!("it claims nothing that another gateway could have")
            };
            if reads.is_none() && matches!(bought.billing, Billing::Billed | Billing::Unknown) {
                self.forget(about, false, identity.partition);
            }
            return self.bought(bought, call.price, forward);
        }
        let (sent, refused): (_, fn(&Failure) -> Box<Answer>) = match reads {
            Some(target) => (self.free(target, call.operation, &call.context).await, refusal::failed),
            None => (self.send_write(&call.message, about, identity, &call.context).await, refusal::write_failed),
        };
        let answer = sent.map_err(|failure| refused(&failure))?;
        if !is_whole(&answer, call.operation, call.enterprise) {
            return Err(refused(&Failure::Invalid));
        }
        Ok(Answer::free(Decision::Passed, Content::Passed(relay(answer), forward)))
    }
}

pub(super) fn permission(operation: Operation) -> Permission {
    if operation == Operation::Webhook { Permission::Enable } else { Permission::Ownership }
}
