//! What a later look says of a billable call whose outcome was unknown.
//!
//! Telnyx names no bills. What a check leaves behind is `last_refreshed_at`: data as young as the call shows that the call was
//! carried out, and data that is older long after the call shows that it was not. A number without data says nothing by
//! itself, since a check may find nothing; but scores change no more than hourly, so a check within the same time that does find
//! data shows that the earlier one, which left none, was not carried out.

use std::time::Duration;

use super::decide::{CLOCK_TOLERANCE, Probe};

/// A call of unknown outcome, as a look finds it. All ages are at the time of the look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unresolved {
    /// Time since the call was sent.
    pub age: Duration,
    /// Whether an earlier look, after the call could still take effect, found the number without data.
    pub left_nothing: bool,
    /// Whether the upstream answered that it failed for this number.
    pub failed: bool,
}

/// How long things take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// A call may still take effect for so long after it was sent.
    pub effect: Duration,
    /// Two checks of a number within this time find the same.
    pub same_data: Duration,
}

/// What the look says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trace {
    /// The call was carried out.
    Billed,
    /// It was not carried out, by data that it would have replaced.
    Untouched,
    /// It was not carried out: it left no data where a later check found some.
    FoundByAnother,
    /// It was not carried out: the upstream said that it failed, and there is no such number.
    NoNumber,
    /// It left no data, or has not taken effect yet.
    Nothing,
    /// The look does not tell.
    Silent,
}

/// Judges one look.
pub fn trace(call: Unresolved, look: Probe, patience: Patience) -> Trace {
    let is_over = call.age >= patience.effect;
    match look {
        Probe::Null if is_over => Trace::Nothing,
        Probe::Data(Some(age)) if age > call.age + CLOCK_TOLERANCE => {
            if is_over {
                Trace::Untouched
            } else {
                Trace::Silent
            }
        }
        Probe::Data(Some(_)) if !call.left_nothing => Trace::Billed,
        Probe::Data(Some(age)) if call.age.saturating_sub(age) < patience.same_data => Trace::FoundByAnother,
        // By itself this says nothing: a number can be removed after it was checked.
        Probe::Missing if call.failed => Trace::NoNumber,
        Probe::Null | Probe::Data(_) | Probe::Missing | Probe::Inconclusive | Probe::Refused | Probe::Failed => Trace::Silent,
    }
}

impl Trace {
    /// Whether the call turned out to have been billed.
    pub const fn is_billed(self) -> bool {
        matches!(self, Self::Billed)
    }

    /// Why the ledger is corrected; none, if it is not.
    pub const fn why(self) -> Option<&'static str> {
        match self {
            Self::Billed => Some("a look found data as young as the call: it was billed"),
            Self::Untouched => Some("a look found data older than the call: it was not carried out"),
            Self::FoundByAnother => Some("the number had no data after the call, and a later check found some: it was not carried out"),
            Self::NoNumber => Some("the upstream said that it failed, and there is no such number: it was not carried out"),
            Self::Nothing | Self::Silent => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_mins(1);
    const PATIENCE: Patience = Patience { effect: Duration::from_mins(2), same_data: Duration::from_hours(1) };

    fn call(age: Duration, left_nothing: bool) -> Unresolved {
        Unresolved { age, left_nothing, failed: false }
    }

    #[test]
    fn data_as_young_as_the_call_shows_that_it_was_billed_at_any_time() {
        for age in [Duration::ZERO, MINUTE, 90 * MINUTE] {
            for data in [Duration::ZERO, age, age + CLOCK_TOLERANCE] {
                assert_eq!(trace(call(age, false), Probe::Data(Some(data)), PATIENCE), Trace::Billed, "{age:?} {data:?}");
            }
        }
    }

    #[test]
    fn older_data_shows_that_it_was_not_once_the_call_can_no_longer_take_effect() {
        let older = |age: Duration| Probe::Data(Some(age + CLOCK_TOLERANCE + Duration::from_secs(1)));
        for (age, expected) in [(MINUTE, Trace::Silent), (2 * MINUTE, Trace::Untouched), (90 * MINUTE, Trace::Untouched)] {
            assert_eq!(trace(call(age, false), older(age), PATIENCE), expected, "{age:?}");
            assert_eq!(trace(call(age, true), older(age), PATIENCE), expected, "{age:?}");
        }
    }

    #[test]
    fn a_number_without_data_says_something_only_together_with_a_later_check() {
        assert_eq!(trace(call(MINUTE, false), Probe::Null, PATIENCE), Trace::Silent);
        assert_eq!(trace(call(2 * MINUTE, false), Probe::Null, PATIENCE), Trace::Nothing);
        let checked_after = |minutes: u32| Probe::Data(Some((90 - minutes) * MINUTE));
        assert_eq!(trace(call(90 * MINUTE, true), checked_after(59), PATIENCE), Trace::FoundByAnother);
        assert_eq!(trace(call(90 * MINUTE, true), checked_after(60), PATIENCE), Trace::Silent, "the networks may know more by then");
    }

    #[test]
    fn a_failure_that_the_upstream_told_of_is_believed_where_there_is_no_number() {
        for age in [Duration::ZERO, 10 * MINUTE] {
            let failed = Unresolved { failed: true, ..call(age, false) };
            assert_eq!(trace(failed, Probe::Missing, PATIENCE), Trace::NoNumber);
            assert_eq!(trace(failed, Probe::Data(Some(age)), PATIENCE), Trace::Billed, "data as young as the call says more");
        }
    }

    #[test]
    fn a_look_that_does_not_tell_changes_nothing() {
        for look in [Probe::Data(None), Probe::Missing, Probe::Inconclusive, Probe::Refused, Probe::Failed] {
            for left_nothing in [false, true] {
                assert_eq!(trace(call(10 * MINUTE, left_nothing), look, PATIENCE), Trace::Silent, "{look:?}");
            }
        }
    }
}
