//! What an association does about each of its numbers: values in, the next action out.
//!
//! Telnyx takes all numbers or none, and each number it takes is checked and billed. What was paid for a number long ago does not
//! count: it may have been removed since. What was sent a moment ago, or by the same intent, is looked for instead of being sent again.

use super::decide::{Facts, Policy, Probe, barred};
use super::decision::{Decision, Reason};
use super::refresh::Action;

/// The next action for one number.
pub fn decide(facts: &Facts, policy: &Policy) -> Action {
    let unclear = barred(facts, policy);
    let paid = facts.paid_ago.is_some_and(|ago| ago < policy.unknown_window.max(facts.want.retries()));
    match facts.probe {
        _ if facts.in_flight => Action::Follow,
        _ if !unclear && !paid => Action::Buy,
        None => Action::Look,
        // It is associated, so there is nothing left to buy.
        Some(Probe::Data(_) | Probe::Null) if unclear => Action::Satisfied(Decision::Recovered),
        Some(Probe::Data(_) | Probe::Null) => Action::Satisfied(Decision::Cooldown),
        _ if !unclear => Action::Buy,
        Some(Probe::Failed | Probe::Refused) => Action::Barred(Reason::Upstream),
        Some(Probe::Missing | Probe::Inconclusive) => Action::Barred(Reason::OutcomeUnknown),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::decide::{FirstTouch, OnDenied, Want};
    use super::*;

    const MINUTE: Duration = Duration::from_mins(1);

    fn decided(facts: Facts) -> Action {
        let policy = Policy {
            min_age: 60 * MINUTE,
            unknown_window: 2 * MINUTE,
            on_denied: OnDenied::Cached,
            first_touch: FirstTouch::Bill,
            stale_while_revalidate: 10 * MINUTE,
            stale_if_error: 60 * MINUTE,
            error_ttl: Duration::ZERO,
            null_ttl: 60 * MINUTE,
        };
        decide(&facts, &policy)
    }

    #[test]
    fn what_was_paid_for_long_ago_does_not_count() {
        assert_eq!(decided(Facts::default()), Action::Buy);
        assert_eq!(decided(Facts { paid_ago: Some(2 * MINUTE), ..Facts::default() }), Action::Buy);
        let paid = Facts { paid_ago: Some(MINUTE), ..Facts::default() };
        assert_eq!(decided(paid), Action::Look);
        assert_eq!(decided(Facts { probe: Some(Probe::Null), ..paid }), Action::Satisfied(Decision::Cooldown));
        for probe in [Probe::Missing, Probe::Failed, Probe::Inconclusive] {
            assert_eq!(decided(Facts { probe: Some(probe), ..paid }), Action::Buy, "{probe:?}");
        }
    }

    #[test]
    fn a_call_under_way_or_of_unknown_outcome_is_waited_for() {
        let unknown = Facts { unknown_ago: Some(MINUTE), ..Facts::default() };
        assert_eq!(decided(Facts { in_flight: true, ..unknown }), Action::Follow);
        assert_eq!(decided(unknown), Action::Look);
        let found = |probe| decided(Facts { probe: Some(probe), ..unknown });
        for probe in [Probe::Null, Probe::Data(None), Probe::Data(Some(MINUTE))] {
            assert_eq!(found(probe), Action::Satisfied(Decision::Recovered), "{probe:?}");
        }
        assert_eq!(found(Probe::Missing), Action::Barred(Reason::OutcomeUnknown));
        assert_eq!(found(Probe::Failed), Action::Barred(Reason::Upstream));
        assert_eq!(decided(Facts { unknown_ago: Some(2 * MINUTE), ..Facts::default() }), Action::Buy);
        let retry = Want { retry: true, ..Want::default() };
        assert_eq!(decided(Facts { want: retry, unknown_ago: Some(3 * MINUTE), ..Facts::default() }), Action::Look, "a retry");
    }
}
