//! Enterprises, their settings, and the terms of service.

use http::StatusCode;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::answer::{Refusal, Reply};
use super::call::Call;
use super::charges::{MONITORING, Operation};
use super::state::{Enterprise, State};

const FREQUENCIES: [&str; 6] = ["business_daily", "daily", "weekly", "biweekly", "monthly", "never"];
const TERMS_VERSION: &str = "v1.0.0";
const PAGE: usize = 20;

/// Enough of a PDF to be recognised as one.
const LOA: &str = "%PDF-1.4\n% A letter of authorization would be here.\n%%EOF\n";

#[derive(Deserialize)]
struct Wanted {
    loa_document_id: Option<String>,
    check_frequency: Option<String>,
}

/// Row 9.
pub(super) fn settings(state: &mut State, call: &Call) -> Result<Reply, Refusal> {
    Ok(Reply::one(StatusCode::OK, state.enterprise(call.enterprise())?.settings()?))
}

/// Row 10: $100.00, the first month.
pub(super) fn enable(state: &mut State, call: &Call) -> Result<Reply, Refusal> {
    let terms_agreed = state.terms_agreed_at.is_some();
    let enterprise = state.enterprise(call.enterprise())?;
    if !terms_agreed {
        return Err(Refusal::forbidden("The Terms of Service have not been accepted."));
    }
    if enterprise.settings.is_some() {
        return Err(Refusal::bad_request("Reputation is already enabled for this enterprise."));
    }
    let wanted: Wanted = call.json()?;
    let loa = loa(wanted.loa_document_id)?;
    let frequency = frequency(wanted.check_frequency.as_deref().unwrap_or("business_daily"))?;
    let settings = enterprise.enable(frequency, loa, call.now);
    state.charge(Operation::Monitoring, MONITORING, call.enterprise(), None, call.now);
    Ok(Reply::one(StatusCode::CREATED, settings))
}

/// Row 11: all numbers are de-registered.
pub(super) fn disable(state: &mut State, call: &Call) -> Result<Reply, Refusal> {
    let enterprise = state.enterprise(call.enterprise())?;
    enterprise.settings()?;
    enterprise.settings = None;
    enterprise.numbers.clear();
    enterprise.remediations.clear();
    Ok(Reply::no_content())
}

/// Row 12. The schedule itself is not run: it would bill without a request.
pub(super) fn set_frequency(state: &mut State, call: &Call) -> Result<Reply, Refusal> {
    let settings = state.enterprise(call.enterprise())?.settings()?;
    let wanted: Wanted = call.json()?;
    settings.check_frequency = frequency(wanted.check_frequency.as_deref().unwrap_or_default())?;
    settings.updated_at = call.now;
    Ok(Reply::one(StatusCode::OK, settings))
}

/// Row 13, `PATCH`. The letter is approved at once.
pub(super) fn replace_loa(state: &mut State, call: &Call) -> Result<Reply, Refusal> {
    let settings = state.enterprise(call.enterprise())?.settings()?;
    let wanted: Wanted = call.json()?;
    settings.loa_document_id = loa(wanted.loa_document_id)?;
    settings.updated_at = call.now;
    Ok(Reply::one(StatusCode::OK, settings))
}

/// Row 13, `POST`: a PDF to sign.
pub(super) fn render_loa(state: &mut State, call: &Call) -> Result<Reply, Refusal> {
    state.enterprise(call.enterprise())?;
    Ok(Reply::new(StatusCode::OK, "application/pdf", LOA))
}

/// Row 16. Agreeing again changes nothing.
pub(super) fn agree_terms(state: &mut State, call: &Call) -> Reply {
    let agreed_at = *state.terms_agreed_at.get_or_insert(call.now);
    let agreement = json!({ "product_type": "number_reputation", "terms_version": TERMS_VERSION, "agreed_at": agreed_at });
    Reply::one(StatusCode::CREATED, agreement)
}

/// Row 16. Like the service, it speaks of another product unless it is asked about this one.
pub(super) fn terms_status(state: &mut State, call: &Call) -> Reply {
    let product = call.query.parameter("product_type").unwrap_or("branded_calling");
    let agreed_at = state.terms_agreed_at.filter(|_| product == "number_reputation");
    let status = json!({
        "product_type": product,
        "current_terms_version": TERMS_VERSION,
        "has_agreed": agreed_at.is_some(),
        "agreement_required": agreed_at.is_none(),
        "agreed_at": agreed_at,
        "agreed_version": agreed_at.map(|_| TERMS_VERSION),
    });
    Reply::one(StatusCode::OK, status)
}

/// Row 17, the list.
pub(super) fn enterprises(state: &mut State, call: &Call) -> Result<Reply, Refusal> {
    let shown: Vec<Value> = state.enterprises.iter().map(Enterprise::shown).collect();
    Ok(Reply::page(&shown, call.query.paging(PAGE)?))
}

/// Row 17, one enterprise.
pub(super) fn enterprise(state: &mut State, call: &Call) -> Result<Reply, Refusal> {
    Ok(Reply::one(StatusCode::OK, state.enterprise(call.enterprise())?.shown()))
}

/// Row 17, `POST`. Any object is a profile.
pub(super) fn create_enterprise(state: &mut State, call: &Call) -> Result<Reply, Refusal> {
    let profile: Map<String, Value> = call.json()?;
    let enterprise = Enterprise::new(state.new_id("enterprise"), profile, call.now);
    let reply = Reply::one(StatusCode::CREATED, enterprise.shown());
    state.enterprises.push(enterprise);
    Ok(reply)
}

/// Row 17, `PUT`.
pub(super) fn update_enterprise(state: &mut State, call: &Call) -> Result<Reply, Refusal> {
    let enterprise = state.enterprise(call.enterprise())?;
    let wanted: Map<String, Value> = call.json()?;
    enterprise.profile.extend(wanted.into_iter().filter(|(field, _)| field != "created_at"));
    enterprise.profile.insert("updated_at".to_owned(), json!(call.now));
    Ok(Reply::one(StatusCode::OK, enterprise.shown()))
}

/// Row 17, `DELETE`.
pub(super) fn delete_enterprise(state: &mut State, call: &Call) -> Result<Reply, Refusal> {
    let id = state.enterprise(call.enterprise())?.id.clone();
    state.enterprises.retain(|enterprise| enterprise.id != id);
    Ok(Reply::no_content())
}

fn loa(document: Option<String>) -> Result<String, Refusal> {
    document.ok_or_else(|| Refusal::unprocessable("loa_document_id is required.").at("/body/loa_document_id"))
}

fn frequency(wanted: &str) -> Result<String, Refusal> {
    if FREQUENCIES.contains(&wanted) {
        return Ok(wanted.to_owned());
    }
    Err(Refusal::bad_request(format!("check_frequency must be one of {}.", FREQUENCIES.join(", "))).at("/body/check_frequency"))
}
