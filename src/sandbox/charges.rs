//! What the sandbox has billed: the oracle that tests compare the ledger with.

use std::collections::{BTreeMap, VecDeque};

use jiff::Timestamp;
use serde::Serialize;

use crate::policy::money::Usd;

/// One reputation check of one number.
pub(super) const CHECK: Usd = Usd::from_micros(100_000);
/// One number in a remediation request.
pub(super) const REMEDIATION: Usd = Usd::from_micros(1_000_000);
/// Monitoring of one enterprise for one month.
pub(super) const MONITORING: Usd = Usd::from_micros(100_000_000);

/// Single charges kept in [`Charges::last`]; sums are kept for all of them.
const MAX_LAST: usize = 100;

/// What a charge was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Operation {
    /// A read with `fresh=true`: $0.10.
    Fresh,
    /// A plain read of a number for which nothing was stored: $0.10.
    FirstTouch,
    /// One number of a refresh: $0.10.
    Refresh,
    /// One number of an association: $0.10.
    Associate,
    /// One number of a remediation request: $1.00.
    Remediation,
    /// Enabling reputation for an enterprise: $100.00, the first month.
    Monitoring,
}

impl Operation {
    const ALL: [Self; 6] = [Self::Fresh, Self::FirstTouch, Self::Refresh, Self::Associate, Self::Remediation, Self::Monitoring];
}

/// A sum of charges.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// Their sum.
    pub usd: Usd,
    /// How many there were.
    pub count: u32,
}

impl Tally {
    fn add(&mut self, usd: Usd) {
        self.usd += usd;
        self.count = self.count.saturating_add(1);
    }
}

/// One charge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Charge {
    /// When it was made, by the sandbox's clock.
    pub at: Timestamp,
    /// What for.
    pub operation: Operation,
    /// The enterprise that pays.
    pub enterprise_id: String,
    /// The number in E.164; none for monitoring.
    pub phone_number: Option<String>,
    /// How much.
    pub usd: Usd,
}

/// All that was billed since the start or the last reset. `GET /sandbox/charges` answers with it:
/// `{"total_usd": "0.10", "count": 1, "by_number": {"+12025550000": {"usd": "0.10", "count": 1}}, "by_operation": {…}, "last": […]}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Charges {
    /// The sum of all charges.
    #[serde(rename = "total_usd")]
    pub total: Usd,
    /// How many charges there were; a refresh of three numbers makes three.
    pub count: u32,
    /// Per number in E.164, over all enterprises; only numbers that were billed.
    pub by_number: BTreeMap<String, Tally>,
    /// Per operation; every operation is present.
    pub by_operation: BTreeMap<Operation, Tally>,
    /// The last charges, oldest first, at most 100.
    pub last: VecDeque<Charge>,
}

impl Default for Charges {
    fn default() -> Self {
        Self {
            total: Usd::ZERO,
            count: 0,
            by_number: BTreeMap::new(),
            by_operation: Operation::ALL.into_iter().map(|operation| (operation, Tally::default())).collect(),
            last: VecDeque::new(),
        }
    }
}

impl Charges {
    /// What this number (E.164) was billed for.
    pub fn number(&self, phone_number: &str) -> Tally {
        self.by_number.get(phone_number).copied().unwrap_or_default()
    }

    /// What this operation was billed for.
    pub fn operation(&self, operation: Operation) -> Tally {
        self.by_operation.get(&operation).copied().unwrap_or_default()
    }

    pub(super) fn add(&mut self, charge: Charge) {
        self.total += charge.usd;
        self.count = self.count.saturating_add(1);
        if let Some(number) = &charge.phone_number {
            self.by_number.entry(number.clone()).or_default().add(charge.usd);
        }
        self.by_operation.entry(charge.operation).or_default().add(charge.usd);
        if self.last.len() == MAX_LAST {
            self.last.pop_front();
        }
        self.last.push_back(charge);
    }
}
