//! The whole at a glance, for the page: money first.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::control::shown;
use crate::gateway::Gateway;
use crate::policy::budget::Interval;
use crate::policy::forecast::forecast;
use crate::spend::BudgetStatus;

/// Where the budgets stand and will, what else decides whether money may be spent, and what was counted since the start.
pub(super) fn overview(gateway: &Gateway) -> Value {
    let now = gateway.clock().now();
    let (counted, holds) = (gateway.counted(), gateway.open_holds());
    let budgets: Vec<_> = gateway.budgets().iter().map(|budget| foretold(budget, now)).collect();
    let decisions: Map<_, _> =
        counted.decisions.iter().map(|(decision, count)| (decision.as_str().to_owned(), Value::from(*count))).collect();
    let avoided: Map<_, _> = counted.avoided.iter().map(|(cause, usd)| (cause.as_str().to_owned(), json!(usd))).collect();
    json!({ "data": {
        "now": now,
        "version": env!("CARGO_PKG_VERSION"),
        "ledger": { "available": gateway.ledger_is_available(), "warnings": *gateway.ledger_warnings() },
        "kill_switch": gateway.kill_switch(),
        "budgets": budgets,
        "holds": {
            "open": holds.count, "oldest_age_s": holds.oldest_age.unwrap_or_default().as_secs(), "unresolved": gateway.unresolved(),
        },
        "avoided_usd": avoided,
        "decisions": decisions,
    } })
}

/// A budget, and what is to be expected of its window.
fn foretold(budget: &BudgetStatus, now: Timestamp) -> Value {
    let window = Interval { start: budget.starts_at, end: budget.resets_at };
    let mut told = shown(budget);
    told["forecast"] = forecast(budget.spent + budget.held, budget.limit, window, now)
        .map_or(Value::Null, |forecast| json!({ "at_reset_usd": forecast.at_reset, "exhausted_at": forecast.exhausted_at }));
    told
}
