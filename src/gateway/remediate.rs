//! A remediation: numbers handed over to be cleared of a spam label, each for a dollar, by one order.
//!
//! Nothing shows afterwards whether an order whose answer was lost was carried out and billed. So it counts for good, and no look is made
//! for it. Telnyx answers an order for a number that has one pending with 409: sent again, it is not billed twice.

use http::request::Parts;
use serde_json::Value;

use super::Gateway;
use super::answer::{Answer, Refused};
use super::ask;
use super::batch::{Order, Sale};
use super::pass::path;
use super::trail;
use super::visit::Visit;
use crate::auth::{Identity, Permission};
use crate::policy::pricing::Billable;
use crate::telnyx::Route;
use crate::upstream::Message;
use crate::wire::directives::Directives;

impl Gateway {
    /// Orders a remediation.
    pub(super) async fn remediate(
        &self,
        route: &Route<'_>,
        (head, body): (&Parts, &[u8]),
        identity: &Identity,
        wishes: Directives,
        visit: &mut Visit,
    ) -> Refused<Answer> {
        let enterprise = self.permitted(Permission::Remediation, route, None, identity, wishes, visit).await?;
        let object = ask::object(head, body, Some(enterprise))?.unwrap_or_default();
        let asks = self.asks(ask::remediated(&object)?, enterprise, identity, wishes, visit)?;
        let message = Message::post(path(route, Some(enterprise))?, Value::Object(object).to_string());
        let order = Order { billable: Billable::Remediation, operation: route.operation, message };
        // A task of its own, which owns the holds: who leaves does not cancel it.
        let (gateway, count) = (self.clone(), asks.len());
        let buying = self.0.tasks.spawn(trail::along(async move { gateway.buy_all(&asks, &order, &[]).await }));
        // It claims nothing that another gateway could have.
        let sale = visit.waiting_for(buying).await.ok().and_then(Result::ok).unwrap_or_else(|| Sale::lost(count));
        self.sold(sale, Billable::Remediation)
    }
}
