//! What a request would come to, decided as it would be and acted upon in no way: nothing is asked upstream, held, counted or taken from a rate.

use http::request::Parts;
use http::{HeaderValue, Method, StatusCode};
use serde_json::{Map, Value, json};

use super::answer::{Answer, Content, Refused};
use super::ask::{self, Ask};
use super::charge::Denied;
use super::told::{self, Teller};
use super::{Gateway, refusal, unpublished, write};
use crate::auth::{Caller, Identity, Permission};
use crate::cache::Key;
use crate::policy::budget::Charge;
use crate::policy::decide::Action;
use crate::policy::decision::Reason;
use crate::policy::entitlement::Partition;
use crate::policy::money::Usd;
use crate::policy::outlook::{Outlook, outlook};
use crate::policy::pricing::Billable;
use crate::telnyx::{EnterpriseId, NoRoute, Operation, PhoneNumber, Route, route};
use crate::wire::directives::Directives;
use crate::wire::target::Target;

/// The id that a charge would be made for.
const NO_REQUEST: &str = "explain";

/// Why a gateway cannot explain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unexplained {
    /// No caller has this name.
    NoSuchCaller,
    /// Which credential's copies are meant cannot be said.
    Partitioned,
}

impl Gateway {
    /// Explains what a request of this head would come to, were it `caller`'s.
    pub fn explain(&self, head: &Parts, caller: &str) -> Result<Value, Unexplained> {
        if self.is_partitioned() {
            return Err(Unexplained::Partitioned);
        }
        let caller = self.0.auth.named(caller).ok_or(Unexplained::NoSuchCaller)?;
        let identity = Identity { caller, partition: Partition::SHARED, forwarded: None };
        let mut told = Map::new();
        told.insert("caller".to_owned(), (*identity.caller.name).into());
        told.insert("method".to_owned(), head.method.as_str().into());
        if let Err(refused) = self.explain_to(head, &identity, &mut told) {
            told.insert("outcome".to_owned(), json!({ "action": "refuse", "decision": refused.decision.as_str() }));
            told.insert("refusal".to_owned(), problem(&refused));
        }
        Ok(Value::Object(told))
    }

    /// Tells what is found on the way, up to a refusal.
    fn explain_to(&self, head: &Parts, identity: &Identity, told: &mut Map<String, Value>) -> Refused<()> {
        refusal::check_head(head, self.0.rules.max_header_size)?;
        let target = Target::parse(&head.uri).map_err(refusal::bad_target)?;
        let route = match route(&head.method, &target.segments) {
            Err(NoRoute::Path) if self.passes(&head.method, &target.segments, identity).is_ok() => {
                told.insert("operation".to_owned(), Operation::Route.as_str().into());
                told.insert("outcome".to_owned(), json!({ "action": "pass", "rule": "a [[route]] lets it pass, unmetered" }));
                return Ok(());
            }
            found => found.map_err(|why| self.no_route(why, head, &target, identity))?,
        };
        told.insert("operation".to_owned(), route.operation.as_str().into());
        told.insert("price_class".to_owned(), route.price.as_str().into());
        let number = if route.number.is_some() { Some(ask::number(route.number)?) } else { None };
        if let Some(number) = number {
            told.insert("number".to_owned(), self.teller().number(number).into());
        }
        let (enterprise, billable) = (self.enterprise_at_hand(route.enterprise, identity)?, billable(route.operation));
        told.insert("enterprise".to_owned(), enterprise.map(|id| id.to_string()).into());
        if let Some(permission) = permission(&route, &head.method) {
            told.insert("permission".to_owned(), json!({ "needs": permission.as_str(), "granted": identity.caller.may(permission) }));
            if !identity.caller.may(permission) {
                return Err(refusal::no_permission(permission));
            }
        }
        match (number, enterprise, billable) {
            (Some(number), Some(enterprise), _) if route.operation == Operation::Retrieve => {
                let want = ask::want(head, &target.query, Directives::parse(&head.headers))?;
                let key = Key { partition: identity.partition, enterprise, number };
                let context = self.context_for(identity, Some(enterprise), HeaderValue::from_static(NO_REQUEST), None)?;
                self.explain_read(&Ask { key, want, caller: identity.caller.clone(), context }, told);
            }
            (_, Some(enterprise), Some(billable)) => {
                let prices = &self.0.rules.prices;
                if billable == Billable::Unpublished && prices.unpublished.is_none() {
                    return Err(refusal::unpublished(unpublished::permission(route.operation)));
                }
                let price = prices.price(billable);
                self.explain_budgets(&[charge(&identity.caller, enterprise, number, billable, price)], told);
            }
            (_, None, _) if route.operation == Operation::Retrieve || billable.is_some() => {
                let rule = "the path names no enterprise and none is configured: Telnyx would be asked, for nothing, which the account has";
                told.insert("outcome".to_owned(), json!({ "action": "ask", "rule": rule }));
            }
            _ => {}
        }
        Ok(())
    }

    /// The facts, the tree, and what the budgets say to what may be bought.
    fn explain_read(&self, ask: &Ask, told: &mut Map<String, Value>) {
        let mut course = self.course(ask);
        let policy = self.0.rules.policy(ask.key.enterprise);
        told.insert("facts".to_owned(), told::facts(&course.facts));
        told.insert("policy".to_owned(), told::policy(policy));
        let charge = |operation| {
            let price = self.0.rules.prices.price(operation);
            charge(&ask.caller, ask.key.enterprise, Some(ask.key.number), operation, price)
        };
        let denied = |operation| self.foresee(&ask.context, &[charge(operation)]).err();
        let denial = |operation| denied(operation).map(|denied| denied.reason());
        let tree = outlook(&course.facts, policy, self.looks_first(&course), &denial);
        if ask.want.may_bill {
            let operation = if ask.want.fresh { Billable::Fresh } else { Billable::FirstTouch };
            self.explain_budgets(&[charge(operation)], told);
            course.denied = denied(operation);
        }
        if let Some(reason) = certain_refusal(&tree) {
            told.insert("refusal".to_owned(), problem(&self.refuse(reason, &course)));
        }
        told.insert("outcome".to_owned(), self.node(&tree));
    }

    /// Price, budgets, and what would refuse the hold. The rates are not asked: that would take from them.
    fn explain_budgets(&self, charges: &[Charge], told: &mut Map<String, Value>) {
        let budgets = self.0.ledger.consulted(charges);
        told.insert("budgets".to_owned(), budgets.iter().map(told::budget).collect::<Vec<_>>().into());
        let refused = self.0.ledger.preview(charges).err();
        let price: Usd = charges.iter().map(|charge| charge.price).sum();
        let billable = charges.first().map(|charge| charge.operation.as_str());
        told.insert(
            "purchase".to_owned(),
            json!({
                "operation": billable, "unit_price_usd": price,
                "refused_by": refused.map(|refused| Denied::Hold(refused).reason().decision().as_str()),
            }),
        );
    }

    fn node(&self, Outlook { action, then }: &Outlook) -> Value {
        let mut node = self.teller().action(*action);
        if !then.is_empty() {
            let then: Map<_, _> = then.iter().map(|(event, next)| (event.as_str().to_owned(), self.node(next))).collect();
            node["then"] = then.into();
        }
        node
    }

    /// What puts facts into words here.
    pub(super) fn teller(&self) -> Teller<'_> {
        Teller { prices: &self.0.rules.prices, full_numbers: self.0.rules.log_full_numbers }
    }
}

/// The refusal that a read ends with whatever a look shows: at once, or since nothing may be bought.
fn certain_refusal(tree: &Outlook) -> Option<Reason> {
    match (tree.action, &tree.then[..]) {
        (Action::Refuse(reason), _) => Some(reason),
        (Action::Buy(_), [(_, next)]) => certain_refusal(next),
        _ => None,
    }
}

/// The answer that would be given.
fn problem(refused: &Answer) -> Value {
    match &refused.content {
        Content::Problem(problem) => json!({ "status": problem.status.as_u16(), "code": problem.code, "detail": problem.detail }),
        _ => json!({ "status": StatusCode::BAD_GATEWAY.as_u16() }),
    }
}

fn charge(caller: &Caller, enterprise: EnterpriseId, number: Option<PhoneNumber>, operation: Billable, price: Usd) -> Charge {
    Charge { request_id: NO_REQUEST.to_owned(), caller: caller.name.clone(), enterprise, number, operation, price }
}

/// What an operation but a read is charged as.
fn billable(operation: Operation) -> Option<Billable> {
    match operation {
        Operation::Refresh => Some(Billable::Refresh),
        Operation::Associate => Some(Billable::Associate),
        Operation::Remediate => Some(Billable::Remediation),
        Operation::Enable => Some(Billable::Enable),
        Operation::Frequency => Some(Billable::Frequency),
        Operation::Ownership | Operation::Webhook => Some(Billable::Unpublished),
        _ => None,
    }
}

/// What a caller has to be allowed for an operation; a read's is decided with it.
fn permission(route: &Route<'_>, method: &Method) -> Option<Permission> {
    match route.operation {
        Operation::Refresh => Some(Permission::Refresh),
        Operation::Associate => Some(Permission::Associate),
        Operation::Remediate => Some(Permission::Remediation),
        Operation::Enable => Some(Permission::Enable),
        Operation::Frequency => Some(Permission::Frequency),
        Operation::Ownership | Operation::Webhook => Some(unpublished::permission(route.operation)),
        _ if matches!(*method, Method::GET | Method::HEAD) => None,
        operation => Some(write::permission(operation)),
    }
}
