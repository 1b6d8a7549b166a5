//! Remediation requests: $1.00 a number. Nobody works on them, so they stay pending for ever.

use std::collections::BTreeSet;

use http::StatusCode;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::answer::{Refusal, Reply};
use super::call::Call;
use super::charges::{Operation, REMEDIATION};
use super::numbers::numbers;
use super::state::State;

/// Numbers in one request.
const MAX_NUMBERS: usize = 2_000;
const PAGE: usize = 20;
const STATUS: &str = "pending";

/// A request for remediation as the API shows it, and the numbers it is for.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Remediation {
    id: String,
    status: &'static str,
    call_purpose: String,
    contact_email: Option<String>,
    webhook_url: Option<String>,
    phone_numbers_count: usize,
    phone_numbers_submitted: usize,
    phone_numbers_ineligible: usize,
    created_at: Timestamp,
    updated_at: Timestamp,
    #[serde(skip)]
    numbers: BTreeSet<String>,
}

/// Its shorter form, in lists.
#[derive(Serialize)]
struct Listed<'a> {
    id: &'a str,
    status: &'static str,
    call_purpose: &'a str,
    phone_numbers_count: usize,
    created_at: Timestamp,
    updated_at: Timestamp,
}

#[derive(Deserialize)]
struct Wanted {
    call_purpose: Option<String>,
    contact_email: Option<String>,
    webhook_url: Option<String>,
}

/// Row 14: all or none of the numbers; a number with a pending request conflicts.
pub(super) fn remediate(state: &mut State, call: &Call) -> Result<Reply, Refusal> {
    let id = call.enterprise();
    let enterprise = state.enterprise(id)?;
    enterprise.settings()?;
    let wanted: Wanted = call.json()?;
    let call_purpose = wanted.call_purpose.filter(|text| !text.trim().is_empty());
    let call_purpose = call_purpose.ok_or_else(|| Refusal::unprocessable("call_purpose is required.").at("/body/call_purpose"))?;
    let numbers: BTreeSet<String> = numbers(call, MAX_NUMBERS)?.into_iter().collect();
    if let Some(stranger) = numbers.iter().find(|number| !enterprise.numbers.contains_key(*number)) {
        return Err(Refusal::not_found(format!("{stranger} is not associated with this enterprise.")));
    }
    if enterprise.remediations.iter().any(|pending| !pending.numbers.is_disjoint(&numbers)) {
        return Err(Refusal::conflict("A remediation request for one of the numbers is pending."));
    }
    let request = Remediation {
        id: state.new_id("remediation"),
        status: STATUS,
        call_purpose,
        contact_email: wanted.contact_email,
        webhook_url: wanted.webhook_url,
        phone_numbers_count: numbers.len(),
        phone_numbers_submitted: numbers.len(),
        phone_numbers_ineligible: 0,
        created_at: call.now,
        updated_at: call.now,
        numbers,
    };
    for number in &request.numbers {
        state.charge(Operation::Remediation, REMEDIATION, id, Some(number), call.now);
    }
    state.enterprise(id)?.remediations.push(request.clone());
    Ok(Reply::one(StatusCode::ACCEPTED, request))
}

/// Row 15, the list; `filter[status]` is the one filter.
pub(super) fn list(state: &mut State, call: &Call) -> Result<Reply, Refusal> {
    let enterprise = state.enterprise(call.enterprise())?;
    let wanted = call.query.parameter("filter[status]").is_none_or(|status| status == STATUS);
    let listed = enterprise.remediations.iter().filter(|_| wanted).map(|request| Listed {
        id: &request.id,
        status: request.status,
        call_purpose: &request.call_purpose,
        phone_numbers_count: request.phone_numbers_count,
        created_at: request.created_at,
        updated_at: request.updated_at,
    });
    Ok(Reply::page(&listed.collect::<Vec<_>>(), call.query.paging(PAGE)?))
}

/// Row 15, one request.
pub(super) fn one(state: &mut State, call: &Call) -> Result<Reply, Refusal> {
    let enterprise = state.enterprise(call.enterprise())?;
    let request = enterprise.remediations.iter().find(|request| request.id.eq_ignore_ascii_case(&call.route.item));
    request.map(|request| Reply::one(StatusCode::OK, request)).ok_or_else(|| Refusal::not_found("Remediation request not found."))
}
