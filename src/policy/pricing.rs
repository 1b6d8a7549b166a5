//! What billable operations cost.

use serde::{Deserialize, Serialize};

use super::money::Usd;

/// An operation that Telnyx bills.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Billable {
    /// A live check, by `fresh=true`.
    Fresh,
    /// The first plain GET of a number.
    FirstTouch,
}

impl Billable {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Fresh, Self::FirstTouch];

    /// The word in the ledger, in budgets and in logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fresh => "fresh",
            Self::FirstTouch => "first_touch",
        }
    }
}

/// `[prices]`: what Telnyx charges, in US dollars.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PriceList {
    /// One reputation check of one number.
    pub check: Usd,
    /// The remediation of one number.
    pub remediation: Usd,
    /// Monitoring of one enterprise for a month.
    pub monitoring: Usd,
}

impl Default for PriceList {
    fn default() -> Self {
        Self { check: Usd::from_micros(100_000), remediation: Usd::from_micros(1_000_000), monitoring: Usd::from_micros(100_000_000) }
    }
}

impl PriceList {
    /// The price of an operation on one number.
    pub fn price(&self, operation: Billable) -> Usd {
        match operation {
            Billable::Fresh | Billable::FirstTouch => self.check,
        }
    }
}
