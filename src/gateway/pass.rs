//! Free reads that pass: settings, remediations, terms and enterprises. Each is asked of Telnyx anew and answered with its bytes.

use http::StatusCode;
use http::header::HeaderValue;
use serde_json::json;

use super::Gateway;
use super::answer::{Answer, Content, Forward, Refused, Relay};
use super::ask::{self, Paging};
use super::failure::{Failure, relay};
use super::refusal;
use super::visit::Visit;
use crate::auth::Identity;
use crate::policy::decision::Decision;
use crate::policy::entitlement::Enterprises;
use crate::telnyx::{EnterpriseId, Operation, Route, record};
use crate::upstream::Context;
use crate::wire::directives::Directives;
use crate::wire::target::Query;

/// Enterprises on one page upstream, when those that a caller may see are picked out.
const PICKED_FROM: u32 = 100;

/// Pages that are gone through for that.
const MOST_PAGES: u32 = 50;

impl Gateway {
    /// Answers a free read.
    pub(super) async fn pass(
        &self,
        route: &Route<'_>,
        query: &Query<'_>,
        identity: &Identity,
        wishes: Directives,
        visit: &mut Visit,
    ) -> Refused<Answer> {
        let enterprise = match route.enterprise {
            Some(text) => Some(self.enterprise(Some(text), identity, wishes, visit).await?),
            None => None,
        };
        if let Some(enterprise) = enterprise {
            visit.about(enterprise, None);
        }
        let path = path(route, enterprise)?;
        let canonical = ask::known(query, parameters(route))?;
        let paging = Paging::parse(query)?;
        if wishes.only_if_cached {
            return Err(refusal::not_in_cache());
        }
        self.room_for_answer()?;
        let context = self.context(identity, enterprise, visit)?;
        if let (Operation::Enterprises, None, Enterprises::Only(list)) = (route.operation, enterprise, &identity.caller.enterprises) {
            return visit.waiting_for(self.own_enterprises(list, &canonical, paging.unwrap_or_default(), &context)).await;
        }
        let query = [canonical, paging.map(Paging::query).unwrap_or_default()].into_iter().filter(|part| !part.is_empty());
        let query = query.collect::<Vec<_>>().join("&");
        let target = if query.is_empty() { path } else { format!("{path}?{query}") };
        let begun = self.0.clock.elapsed();
        let asked = visit.waiting_for(self.free(&target, route.operation, &context)).await;
        let answer = asked.map_err(|failure| refusal::failed(&failure))?;
        if !tells_of(&answer.body, route.operation, enterprise) {
            return Err(refusal::failed(&Failure::Invalid));
        }
        if let (Operation::Settings, Some(enterprise)) = (route.operation, enterprise) {
            self.saw_settings((identity.partition, enterprise), &answer.body, begun).await;
        }
        Ok(Answer::free(Decision::Passed, Content::Passed(relay(answer), Forward::Bypass)))
    }

    /// A page of those enterprises that the caller may see, picked from the account's. What is counted on it are these alone.
    async fn own_enterprises(&self, own: &[EnterpriseId], filter: &str, page: Paging, context: &Context) -> Refused<Answer> {
        let mut picked = Vec::new();
        for number in 1..=MOST_PAGES {
            let paging = Paging { number, size: PICKED_FROM }.query();
            let separator = if filter.is_empty() { "" } else { "&" };
            let asked = self.free(&format!("/enterprises?{filter}{separator}{paging}"), Operation::Enterprises, context).await;
            let answer = asked.map_err(|failure| refusal::failed(&failure))?;
            let found = record::enterprise_items(&answer.body).map_err(|_| refusal::failed(&Failure::Invalid))?;
            let is_last = found.len() < PICKED_FROM as usize;
            picked.extend(found.into_iter().filter(|(id, _)| own.contains(id)).map(|(_, raw)| raw.to_owned()));
            if is_last || picked.len() == own.len() {
                break;
            }
        }
        let total = picked.len();
        let size = usize::try_from(page.size).unwrap_or(usize::MAX);
        let before = usize::try_from(page.number - 1).unwrap_or(usize::MAX).saturating_mul(size);
        let items: Vec<_> = picked.into_iter().skip(before).take(size).collect();
        let meta = json!({
            "page_number": page.number, "page_size": items.len(), "total_pages": total.div_ceil(size), "total_results": total,
        });
        let body = format!(r#"{{"data":[{}],"meta":{meta}}}"#, items.join(",")).into();
        let content_type = Some(HeaderValue::from_static("application/json"));
        let page = Relay { status: StatusCode::OK, body, content_type, retry_after: None };
        Ok(Answer::free(Decision::Passed, Content::Passed(page, Forward::Bypass)))
    }
}

/// The path of an operation that is about no number, from parsed parts.
pub(super) fn path(route: &Route<'_>, enterprise: Option<EnterpriseId>) -> Refused<String> {
    let of = enterprise.map(|enterprise| format!("/enterprises/{enterprise}")).unwrap_or_default();
    Ok(match (route.operation, route.id) {
        (Operation::Settings | Operation::Enable | Operation::Disable, _) => format!("{of}/reputation"),
        (Operation::Frequency, _) => format!("{of}/reputation/frequency"),
        (Operation::Loa, _) => format!("{of}/reputation/loa"),
        (Operation::Webhook, _) => format!("{of}/reputation/webhook"),
        (Operation::Ownership, _) => format!("{of}/reputation/external_verification"),
        (Operation::Remediations | Operation::Remediate, None) => format!("{of}/reputation/remediation"),
        (Operation::Remediations | Operation::Remediate, Some(id)) => format!("{of}/reputation/remediation/{}", ask::id(id)?),
        (Operation::Terms, _) => "/terms_of_service/status".to_owned(),
        (Operation::AgreeTerms, _) => "/terms_of_service/number_reputation/agree".to_owned(),
        (Operation::Enterprises, _) if enterprise.is_none() => "/enterprises".to_owned(),
        (Operation::Enterprises, _) => of,
        (operation, _) => unreachable!("{operation:?} is about a number, or has no path of its own"),
    })
}

/// The parameters of a read beside its paging, in the order in which they go upstream.
fn parameters(route: &Route<'_>) -> &'static [&'static str] {
    match route.operation {
        Operation::Remediations if route.id.is_none() => &["filter[created_at][gte]", "filter[created_at][lte]", "filter[status]"],
        Operation::Terms => &["product_type"],
        Operation::Enterprises if route.enterprise.is_none() => &["filter[legal_name][contains]", "filter[role_type]", "legal_name"],
        _ => &[],
    }
}

/// Whether a body is a whole answer, about this enterprise where it says which one it is about.
pub(super) fn tells_of(body: &[u8], operation: Operation, enterprise: Option<EnterpriseId>) -> bool {
    let whose = record::whose(body);
    match (enterprise, whose) {
        (_, Err(_)) => false,
        (None, Ok(_)) => true,
        (Some(enterprise), Ok(whose)) => whose.iter().all(|owner| {
            let id = if operation == Operation::Enterprises { owner.id.as_deref() } else { None };
            let same = |text: &str| text.parse() == Ok(enterprise);
            owner.enterprise_id.is_none_or(|owner| owner == enterprise) && id.is_none_or(same)
        }),
    }
}
