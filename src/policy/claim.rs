//! What a billable call is about, and which calls about it were the last: what keeps gateways that share a ledger from paying twice.
//!
//! A claim is no lock beside the hold: it is the hold. While one is open, no other is taken for the same subject.

use std::fmt;

use super::budget::Charge;
use super::pricing::Billable;

/// The id of a hold: its row in the table `charge`. A later hold has a greater one, for as long as there is a ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HoldId(pub i64);

impl fmt::Display for HoldId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The last calls about a subject, as far as whoever wants another one knew them when that was decided.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// The last that was billed.
    pub paid: Option<HoldId>,
    /// The last whose outcome is unknown.
    pub unknown: Option<HoldId>,
}

impl Charge {
    /// What it is about, where a second one at the same time would pay for the same thing. All checks of a number bring the same data.
    pub fn subject(&self) -> Option<String> {
        let Self { enterprise, number, operation, .. } = self;
        match (operation, number) {
            (operation, Some(number)) if operation.is_check() => Some(format!("{enterprise}/{number}")),
            (Billable::Enable | Billable::Frequency, _) => Some(format!("{enterprise}/{operation}")),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checks_of_a_number_are_about_the_same_and_what_may_be_bought_twice_is_about_nothing() {
        const ENTERPRISE: &str = "6a09cdc3-8948-47f0-aa62-74ac943d6c58";
        let subject = |operation: Billable| {
            let number = (operation.is_check() || operation == Billable::Remediation).then(|| "+12025550000".parse().expect("E.164"));
            let (request_id, caller, enterprise) = (String::new(), "dialer".into(), ENTERPRISE.parse().expect("a UUID"));
            Charge { request_id, caller, enterprise, number, operation, price: super::super::money::Usd::ZERO }.subject()
        };
        for operation in Billable::ALL.iter().copied() {
            let expected = match operation {
                Billable::Remediation | Billable::Unpublished => None,
                Billable::Enable => Some(format!("{ENTERPRISE}/enable")),
                Billable::Frequency => Some(format!("{ENTERPRISE}/frequency")),
                _ => Some(format!("{ENTERPRISE}/+12025550000")),
            };
            assert_eq!(subject(operation), expected, "{operation}");
        }
    }
}
