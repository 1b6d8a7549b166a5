//! What a billable operation costs.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use strum::{IntoStaticStr, VariantArray};

use super::money::Usd;
use crate::telnyx::CheckFrequency;

/// An operation that Telnyx bills.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, IntoStaticStr, VariantArray, schemars::JsonSchema,
)]
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
    /// Monitoring enabled for an enterprise: its first month.
    Enable,
    /// A schedule of checks set for an enterprise: what a month of it costs.
    Frequency,
    /// A call whose price Telnyx does not publish.
    Unpublished,
}

/// What a charge is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// One number.
    Number,
    /// An enterprise as a whole.
    Enterprise,
    /// Either.
    Any,
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
            Self::Remediation | Self::Enable | Self::Frequency | Self::Unpublished => false,
        }
    }

    /// Whether a later run has to know that it was paid for: where a free look can tell what became of it.
    pub const fn is_recalled(self) -> bool {
        self.is_check() || matches!(self, Self::Enable)
    }

    /// What a charge for it is about.
    pub const fn subject(self) -> Subject {
        match self {
            Self::Fresh | Self::FirstTouch | Self::Refresh | Self::Associate | Self::Remediation => Subject::Number,
            Self::Enable | Self::Frequency => Subject::Enterprise,
            Self::Unpublished => Subject::Any,
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "a table of settings")]
#[schemars(inline)]
pub struct PriceList {
    /// One check of one number, however it came about.
    pub check: Usd,
    /// One number handed over for remediation.
    pub remediation: Usd,
    /// One month of monitoring of an enterprise.
    pub monitoring: Usd,
    /// One call of an operation whose price is not published; such calls are refused without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unpublished: Option<Usd>,
}

impl Default for PriceList {
    fn default() -> Self {
        Self {
            check: Usd::from_micros(100_000),
            remediation: Usd::from_micros(1_000_000),
            monitoring: Usd::from_micros(100_000_000),
            unpublished: None,
        }
    }
}

impl PriceList {
    /// The price of one such operation on one number or enterprise; of a schedule, of one number's part in one run.
    pub fn price(&self, operation: Billable) -> Usd {
        match operation {
            Billable::Fresh | Billable::FirstTouch | Billable::Refresh | Billable::Associate | Billable::Frequency => self.check,
            Billable::Remediation => self.remediation,
            Billable::Enable => self.monitoring,
            Billable::Unpublished => self.unpublished.unwrap_or_default(),
        }
    }

    /// What a month of a schedule costs for so many numbers. A run checks each of them.
    pub fn month(&self, numbers: u64, frequency: CheckFrequency) -> Usd {
        self.price(Billable::Frequency).times(numbers.saturating_mul(frequency.most_runs()))
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
        assert_eq!((prices.price(Billable::Enable).to_string(), prices.unpublished), ("100.00".to_owned(), None));
        let prices: PriceList = toml::from_str("check = \"0.125\"").expect("a price");
        assert_eq!(prices.price(Billable::Fresh).to_string(), "0.125");
    }

    #[test]
    fn a_month_of_a_schedule_is_each_of_its_runs_for_each_number() {
        let month = |numbers, frequency| PriceList::default().month(numbers, frequency);
        assert_eq!(month(10_000, CheckFrequency::BusinessDaily).to_string(), "22000.00");
        assert_eq!(month(1_002, CheckFrequency::Daily).to_string(), "3006.00");
        assert_eq!(month(3, CheckFrequency::Weekly).to_string(), "1.50");
        assert_eq!((month(0, CheckFrequency::Daily), month(u64::MAX, CheckFrequency::Never)), (Usd::ZERO, Usd::ZERO));
        assert_eq!(month(u64::MAX, CheckFrequency::Monthly), Usd::from_micros(i64::MAX), "no budget has room for it");
    }
}
