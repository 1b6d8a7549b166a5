//! Who owns a number, the proof for numbers hosted elsewhere, and where events go. No price is published for any of it: nothing is billed.

use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::answer::{Refusal, Reply};
use super::call::Call;
use super::record::{OWNERSHIP_STATUS, SOURCE};
use super::routes::is_e164;
use super::state::State;

#[derive(Deserialize)]
struct Confirmation {
    still_own: Option<bool>,
}

#[derive(Deserialize)]
struct Proof {
    document_ids: Option<Vec<String>>,
    #[serde(default)]
    phone_numbers: Vec<String>,
}

/// Row 18: what is known of a number's owner.
pub(super) fn ownership(state: &mut State, call: &Call) -> Result<Reply, Refusal> {
    let owner = state.owner(Some(call.enterprise()), &call.route.item)?;
    let known = json!({
        "phone_number": owner.numbers[&call.route.item].phone_number,
        "ownership_status": OWNERSHIP_STATUS,
        "source": SOURCE,
        "last_checked_at": call.now,
        "history": [{ "event_type": "added", "occurred_at": call.now, "outcome": "unchanged" }],
    });
    Ok(Reply::one(StatusCode::OK, known))
}

/// Row 18: a number that is no longer owned is removed.
pub(super) fn confirm(state: &mut State, call: &Call) -> Result<Reply, Refusal> {
    let owner = state.owner(Some(call.enterprise()), &call.route.item)?;
    let wanted: Confirmation = call.json()?;
    let still_own = wanted.still_own.ok_or_else(|| Refusal::unprocessable("still_own is required.").at("/body/still_own"))?;
    let record = owner.numbers[&call.route.item].clone();
    if !still_own {
        owner.numbers.remove(&call.route.item);
    }
    Ok(Reply::one(StatusCode::OK, record))
}

/// Row 18: documents that prove who owns numbers hosted elsewhere. Nobody reviews them, so they stay pending.
pub(super) fn prove(state: &mut State, call: &Call) -> Result<Reply, Refusal> {
    let enterprise = state.enterprise(call.enterprise())?;
    enterprise.settings()?;
    let Proof { document_ids, phone_numbers } = call.json()?;
    let documents = document_ids.filter(|ids| !ids.is_empty());
    let documents = documents.ok_or_else(|| Refusal::unprocessable("document_ids is required.").at("/body/document_ids"))?;
    if let Some(text) = phone_numbers.iter().find(|text| !is_e164(text)) {
        return Err(Refusal::not_e164(text));
    }
    let proof = json!({
        "enterprise_id": enterprise.id,
        "status": "pending",
        "document_ids": documents,
        "phone_numbers": phone_numbers,
        "submitted_at": call.now,
    });
    enterprise.proof = Some(proof.clone());
    Ok(Reply::one(StatusCode::CREATED, proof))
}

/// Row 18: the proof, as it stands.
pub(super) fn proof(state: &mut State, call: &Call) -> Result<Reply, Refusal> {
    let proof = state.enterprise(call.enterprise())?.proof.clone();
    proof.map(|proof| Reply::one(StatusCode::OK, proof)).ok_or_else(|| Refusal::not_found("No proof was submitted."))
}

/// Row 18: where events go; null stops them.
pub(super) fn set_webhook(state: &mut State, call: &Call) -> Result<Reply, Refusal> {
    let settings = state.enterprise(call.enterprise())?.settings()?;
    let wanted: Value = call.json()?;
    settings.webhook_url = match &wanted["webhook_url"] {
        Value::Null => None,
        Value::String(url) if url.starts_with("https://") => Some(url.clone()),
        _ => return Err(Refusal::unprocessable("webhook_url must be an HTTPS URL or null.").at("/body/webhook_url")),
    };
    settings.updated_at = call.now;
    Ok(Reply::one(StatusCode::OK, settings))
}
