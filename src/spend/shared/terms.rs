//! What gateways that share a ledger have to agree on: prices, and budgets but for their limits, which can be edited one gateway after another.

use serde::Serialize;
use serde_json::Value;

use crate::policy::budget::Budget;
use crate::policy::money::Usd;
use crate::policy::pricing::PriceList;

#[derive(Serialize)]
struct Terms<'a> {
    prices: &'a PriceList,
    budgets: Vec<Budget>,
}

/// The terms as they are compared.
pub(super) fn written(budgets: &[Budget], prices: &PriceList) -> String {
    let budgets = budgets.iter().map(|budget| Budget { limit: Usd::ZERO, ..budget.clone() }).collect();
    serde_json::to_string(&Terms { prices, budgets }).expect("settings always serialise")
}

/// What of two terms differs.
pub(super) fn difference(ours: &str, others: &str) -> String {
    let part = |terms: &str, name: &str| serde_json::from_str::<Value>(terms).ok().map(|mut terms| terms[name].take()).unwrap_or_default();
    let differing = ["prices", "budgets"].into_iter().filter(|name| part(ours, name) != part(others, name));
    differing.map(|name| format!("{name} ({} there, {} here)", part(others, name), part(ours, name))).collect::<Vec<_>>().join(" and ")
}
