//! Free writes: sent once, never again, and followed by forgetting what they make untrue, whatever became of them.

use bytes::Bytes;
use http::request::Parts;
use http::{Method, StatusCode};

use super::Gateway;
use super::answer::{Answer, Content, Forward, Refused};
use super::ask;
use super::failure::{Failure, relay};
use super::pass::{path, tells_of};
use super::visit::Visit;
use super::{refusal, trail};
use crate::auth::{Identity, Permission};
use crate::cache::{Key, Ruling, Scope};
use crate::policy::decision::Decision;
use crate::policy::entitlement::Partition;
use crate::policy::evidence::Billing;
use crate::policy::invalidation::{Untrue, may_have_changed, untrue};
use crate::telnyx::{EnterpriseId, Operation, PhoneNumber, Route};
use crate::upstream::{Context, Errand, Message, Outcome};
use crate::wire::directives::Directives;

/// What a write is about.
#[derive(Clone, Copy, Debug)]
pub(super) struct About {
    pub(super) operation: Operation,
    pub(super) enterprise: Option<EnterpriseId>,
    pub(super) number: Option<PhoneNumber>,
}

impl Gateway {
    /// Carries out a free write.
    pub(super) async fn write(
        &self,
        route: &Route<'_>,
        (head, body): (&Parts, &[u8]),
        identity: &Identity,
        wishes: Directives,
        visit: &mut Visit,
    ) -> Refused<Answer> {
        let number = if route.number.is_some() { Some(ask::number(route.number)?) } else { None };
        let enterprise = match (route.enterprise, number) {
            (None, None) => None,
            (in_path, _) => Some(self.enterprise(in_path, identity, wishes, visit).await?),
        };
        if let Some(enterprise) = enterprise {
            visit.about(enterprise, number);
        }
        let permission = permission(route.operation);
        if !identity.caller.may(permission) {
            return Err(refusal::no_permission(permission));
        }
        let json = ask::object(head, body, enterprise)?.map(|object| Bytes::from(serde_json::Value::Object(object).to_string()));
        let target = match (enterprise, number) {
            (Some(enterprise), Some(number)) => format!("/enterprises/{enterprise}/reputation/numbers/{number}"),
            _ => path(route, enterprise)?,
        };
        let message = Message::new(head.method.clone(), target, json.unwrap_or_default());
        let renders = route.operation == Operation::Loa && head.method == Method::POST;
        let message = if renders { message.for_pdf() } else { message };
        let about = About { operation: route.operation, enterprise, number };
        let (gateway, identity, context) = (self.clone(), identity.clone(), self.context(identity, enterprise, visit)?);
        // A task of its own: who leaves does not keep what it changed from being forgotten.
        let writing = self.0.tasks.spawn(trail::along(async move { gateway.send_write(&message, about, &identity, &context).await }));
        let answer = visit.waiting_for(writing).await.unwrap_or(Err(Failure::Lost(crate::upstream::Lost::Cut)));
        let answer = answer.map_err(|failure| refusal::write_failed(&failure))?;
        let empty = head.method == Method::DELETE && answer.body.is_empty() || answer.status == StatusCode::NO_CONTENT;
        let is_pdf = renders && is_pdf(&answer) && !answer.body.is_empty();
        if !(empty || is_pdf || tells_of(&answer.body, route.operation, enterprise)) {
            return Err(refusal::write_failed(&Failure::Invalid));
        }
        Ok(Answer::free(Decision::Passed, Content::Passed(relay(answer), Forward::Method)))
    }

    /// Sends a write that costs nothing, once, and forgets what it may have made untrue.
    pub(super) async fn send_write(
        &self,
        message: &Message,
        about: About,
        identity: &Identity,
        context: &Context,
    ) -> Result<crate::upstream::Answer, Failure> {
        let mut call = self.begin_call(about.operation, message.method().clone(), context).free();
        if let (Untrue::Enterprise, Some(enterprise)) = (untrue(about.operation, message.is_delete()), about.enterprise) {
            // It is carried out before its answer is here.
            self.0.monitoring.doubt(&(identity.partition, enterprise));
        }
        let turn = self.0.upstream.place(Errand::Billable, &context.credential).await;
        let outcome = self.send(turn, message, &mut call).await;
        let (result, changed) = match &outcome {
            Outcome::Answered(answer) => (Billing::NotBilled, may_have_changed(Some(answer.status.as_u16()))),
            Outcome::NotSent(_) => (Billing::NotSent, false),
            Outcome::Unknown(_) => (Billing::Unknown, may_have_changed(None)),
        };
        self.end_call(call, result);
        if changed {
            self.forget(about, message.is_delete(), identity.partition);
        }
        Failure::or_success(outcome, &context.credential)
    }

    /// Forgets what a write that may have been carried out makes untrue.
    pub(super) fn forget(&self, about: About, deletes: bool, partition: Partition) {
        let Some(enterprise) = about.enterprise else { return };
        match (untrue(about.operation, deletes), about.number) {
            (Untrue::Number, Some(number)) => {
                let now = self.tell_others(Scope::Number(enterprise, number), Ruling::Hard);
                self.0.cache.forget(&Key { partition, enterprise, number }, now);
                self.outdate_snapshot();
                self.0.lists.outdate(partition, enterprise, now);
            }
            (Untrue::Enterprise, _) => {
                let now = self.tell_others(Scope::Enterprise(enterprise), Ruling::Hard);
                self.0.cache.forget_enterprise(enterprise, now);
                self.outdate_snapshot();
                self.0.lists.outdate(partition, enterprise, now);
                self.forget_sole(partition, enterprise);
                if about.operation != Operation::Enable {
                    self.0.monitoring.forget(&(partition, enterprise));
                }
            }
            (Untrue::Number, None) | (Untrue::Nothing, _) => {}
        }
    }
}

fn is_pdf(answer: &crate::upstream::Answer) -> bool {
    let kind = answer.headers.get(http::header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    kind.is_some_and(|kind| ask::media_type(kind).eq_ignore_ascii_case("application/pdf"))
}

pub(super) fn permission(operation: Operation) -> Permission {
    match operation {
        Operation::Disassociate => Permission::Associate,
        Operation::Enterprises => Permission::Enterprises,
        _ => Permission::Enable,
    }
}
