//! What a billable operation costs.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use strum::{IntoStaticStr, VariantArray};

use super::money::Usd;

/// An operation that Telnyx bills.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum Billable {
    /// A check of one number with `fresh=true`.
    Fresh,
    /// The first read of a number that has no data yet, which makes Telnyx check it.
    FirstTouch,
    /// A check of one number of a refresh.
    Refresh,
    /// The check of one number that is put under monitoring.
    Associate,
    /// One number handed over for remediation.
    Remediation,
}

/// A text that names no billable operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a billable operation")]
pub struct NotBillable;

impl Billable {
    /// Every operation, in the order in which reports show them.
    pub const ALL: &[Self] = Self::VARIANTS;

    /// Whether it is a check of a number, whose data shows afterwards that it was carried out.
    pub const fn is_check(self) -> bool {
        match self {
            Self::Fresh | Self::FirstTouch | Self::Refresh | Self::Associate => true,
            Self::Remediation => false,
        }
    }

    /// Its name in budgets, logs, metrics and the ledger.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

impl fmt::Display for Billable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Billable {
    type Err = NotBillable;

    fn from_str(text: &str) -> Result<Self, NotBillable> {
        Self::ALL.iter().copied().find(|operation| operation.as_str() == text).ok_or(NotBillable)
    }
}

/// `[prices]`: what Telnyx charges for one unit, in dollars.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a table of settings")]
pub struct PriceList {
    /// One check of one number, however it came about.
    pub check: Usd,
    /// One number handed over for remediation.
    pub remediation: Usd,
    /// One month of monitoring of an enterprise.
    pub monitoring: Usd,
}

impl Default for PriceList {
    fn default() -> Self {
        Self { check: Usd::from_micros(100_000), remediation: Usd::from_micros(1_000_000), monitoring: Usd::from_micros(100_000_000) }
    }
}

impl PriceList {
    /// The price of one such operation on one number.
    pub const fn price(&self, operation: Billable) -> Usd {
        match operation {
            Billable::Fresh | Billable::FirstTouch | Billable::Refresh | Billable::Associate => self.check,
            Billable::Remediation => self.remediation,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operation_has_one_name_everywhere() {
        for operation in Billable::ALL.iter().copied() {
            assert_eq!(operation.as_str().parse(), Ok(operation));
            assert_eq!(serde_json::to_string(&operation).expect("serialises"), format!("{:?}", operation.as_str()));
        }
        assert_eq!("cached".parse::<Billable>(), Err(NotBillable));
    }

    #[test]
    fn every_check_costs_ten_cents_unless_told_otherwise() {
        let prices: PriceList = toml::from_str("").expect("defaults");
        assert_eq!(prices.price(Billable::Fresh).to_string(), "0.10");
        assert_eq!(prices.price(Billable::FirstTouch).to_string(), "0.10");
        assert_eq!(prices.price(Billable::Refresh).to_string(), "0.10");
        assert_eq!(prices.price(Billable::Remediation).to_string(), "1.00");
        assert_eq!((prices.remediation.to_string(), prices.monitoring.to_string()), ("1.00".to_owned(), "100.00".to_owned()));
        let prices: PriceList = toml::from_str("check = \"0.125\"").expect("a price");
        assert_eq!(prices.price(Billable::Fresh).to_string(), "0.125");
    }
}
