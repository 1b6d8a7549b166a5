//! Acts of operators: raising a budget's limit for a while, stopping all billable work.

use http::StatusCode;
use jiff::Timestamp;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{Refused, problem};
use crate::gateway::Gateway;
use crate::policy::money::Usd;
use crate::spend::{BudgetStatus, KillSwitch, Override, OverrideRefused};
use crate::wire::problem::Problem;

/// A reason or an author, in bytes.
const LONGEST_TEXT: usize = 500;

/// The body of `POST budgets/{name}/overrides`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NewOverride {
    amount_usd: Usd,
    expires_at: Timestamp,
    reason: String,
    #[serde(default = "somebody")]
    author: String,
}

/// The body of `POST kill-switch`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NewState {
    on: bool,
    reason: String,
    #[serde(default = "somebody")]
    author: String,
}

/// The body of `POST acknowledge-loss`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Acknowledgement {
    reason: String,
    #[serde(default = "somebody")]
    author: String,
}

/// Whoever holds the admin token, or reaches the listener.
pub(super) fn somebody() -> String {
    "admin".to_owned()
}

/// Every budget, and what else decides whether money may be spent.
pub(super) fn budgets(gateway: &Gateway) -> Value {
    let budgets: Vec<_> = gateway.budgets().iter().map(shown).collect();
    json!({ "data": budgets, "kill_switch": gateway.kill_switch(), "ledger_available": gateway.ledger_is_available() })
}

pub(super) fn kill_switch(state: &KillSwitch) -> Value {
    json!({ "data": state })
}

/// Raises a budget's limit.
pub(super) async fn raise(gateway: &Gateway, name: String, body: &[u8]) -> Refused<Value> {
    let NewOverride { amount_usd, expires_at, reason, author } = read(body)?;
    let (reason, author) = (text("reason", &reason)?, text("author", &author)?);
    if amount_usd <= Usd::ZERO {
        return Err(bad("amount_usd is more than nothing: what the limit is raised by".to_owned()));
    }
    let granted_at = gateway.clock().now();
    if expires_at <= granted_at {
        return Err(bad(format!("expires_at is {expires_at}, which is over: name an instant to come")));
    }
    match gateway.raise(Override { budget: name.clone(), amount: amount_usd, granted_at, expires_at, reason, author }).await {
        Ok(status) => {
            tracing::warn!(budget = status.name, %amount_usd, %expires_at, "an operator raised a budget's limit");
            Ok(json!({ "data": shown(&status) }))
        }
        Err(why @ OverrideRefused::NoSuchBudget) => Err(problem(StatusCode::NOT_FOUND, "budget_not_found", format!("{name:?}: {why}"))),
        Err(why @ OverrideRefused::TooMany(_)) => Err(problem(StatusCode::CONFLICT, "too_many_overrides", why.to_string())),
        Err(OverrideRefused::Unavailable) => {
            Err(unavailable("the ledger has not recorded the override, so it is not in force; look at the budget before you ask again"))
        }
    }
}

/// Stops all billable work, or allows it again.
pub(super) async fn switch(gateway: &Gateway, body: &[u8]) -> Refused<Value> {
    let NewState { on, reason, author } = read(body)?;
    let (reason, author) = (text("reason", &reason)?, text("author", &author)?);
    tracing::warn!(on, reason, author, "an operator sets the kill switch");
    match gateway.switch(on, reason, author).await {
        Ok(state) => Ok(kill_switch(&state)),
        Err(_) if on => {
            Err(unavailable("billable work is stopped, but the ledger has not recorded that yet: a restart before it has forgets it"))
        }
        Err(_) => {
            Err(unavailable("the ledger has not recorded that, so billable work stays stopped; look at kill-switch before you ask again"))
        }
    }
}

/// Goes on with what the Redis of a shared ledger has, after it lost something.
pub(super) async fn acknowledge_loss(gateway: &Gateway, body: &[u8]) -> Refused<Value> {
    let Acknowledgement { reason, author } = read(body)?;
    let (reason, author) = (text("reason", &reason)?, text("author", &author)?);
    tracing::warn!(reason, author, "an operator acknowledges a loss of the shared ledger");
    match gateway.acknowledge_loss(reason, author).await {
        Ok(true) => Ok(json!({ "data": { "acknowledged": true } })),
        Ok(false) => Err(problem(StatusCode::CONFLICT, "nothing_lost", "nothing of the ledger is known to be lost")),
        Err(_) => Err(unavailable("the Redis of the shared ledger does not answer, so nothing is acknowledged")),
    }
}

pub(super) fn shown(budget: &BudgetStatus) -> Value {
    json!({
        "name": budget.name,
        "scope": budget.scope.to_string(),
        "enforced": budget.enforced,
        "limit_usd": budget.limit,
        "override_usd": budget.raised,
        "spent_usd": budget.spent,
        "held_usd": budget.held,
        "starts_at": budget.starts_at,
        "resets_at": budget.resets_at,
        "threshold_percent": budget.threshold,
        "overrides": budget.overrides,
    })
}

pub(super) fn read<T: DeserializeOwned>(body: &[u8]) -> Refused<T> {
    serde_json::from_slice(body).map_err(|error| bad(error.to_string()))
}

pub(super) fn text(name: &str, text: &str) -> Refused<String> {
    let trimmed = text.trim();
    if trimmed.is_empty() || trimmed.len() > LONGEST_TEXT {
        return Err(bad(format!("{name} is a text of 1 to {LONGEST_TEXT} bytes: it is kept with the record")));
    }
    Ok(trimmed.to_owned())
}

pub(super) fn bad(detail: String) -> Box<Problem> {
    problem(StatusCode::BAD_REQUEST, "bad_request", detail)
}

fn unavailable(detail: &str) -> Box<Problem> {
    problem(StatusCode::SERVICE_UNAVAILABLE, "ledger_unavailable", detail)
}
