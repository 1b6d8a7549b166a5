//! What a later look says of a billable call whose outcome was unknown.
//!
//! Telnyx names no bills. What a check leaves behind is `last_refreshed_at`: data as young as the call shows that the call was
//! carried out, and data that is older long after the call shows that it was not. A number without data says nothing by
//! itself, since a check may find nothing; but scores change no more than hourly, so a check a few minutes later that does find
//! data shows that the earlier one, which left none, was not carried out.
//!
//! What would take money back has to be proved by ages that no clock was set in between. So nothing is taken back of a
//! call of a former run, whose age is known by the wall clock only. Nor of an association: that the number is listed shows that it
//! was carried out, and its check may come later.

use std::time::Duration;

use super::decide::{CLOCK_TOLERANCE, Probe};

/// A check of a number finds what another one found up to so long before.
const SAME_DATA: Duration = Duration::from_mins(10);

/// A call may take effect for at least so long after it was sent, whatever an operator is ready to wait.
pub const LEAST_EFFECT: Duration = Duration::from_mins(2);

/// A call of unknown outcome, as a look finds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "independent facts of one call")]
pub struct Unresolved {
    /// Time from when the call was sent until the look ended.
    pub age: Duration,
    /// Whether the look began only after the call could no longer take effect.
    pub is_over: bool,
    /// Whether it counts whatever a look finds: a look may only confirm it.
    pub counts: bool,
    /// Whether a later call for the number was billed, so that young data may be that one's.
    pub is_overtaken: bool,
    /// Whether an earlier look, begun after the call could still take effect, found the number without data.
    pub left_nothing: bool,
    /// Whether the upstream answered that it failed for this number.
    pub failed: bool,
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
pub fn trace(call: Unresolved, look: Probe) -> Trace {
    let may_take_back = !call.counts;
    match look {
        Probe::Null if call.is_over => Trace::Nothing,
        Probe::Data(Some(age)) if age > call.age + CLOCK_TOLERANCE => {
            if call.is_over && may_take_back {
                Trace::Untouched
            } else {
                Trace::Silent
            }
        }
        Probe::Data(Some(age)) if call.left_nothing => {
            if may_take_back && call.age.saturating_sub(age) < SAME_DATA {
                Trace::FoundByAnother
            } else {
                Trace::Silent
            }
        }
        Probe::Data(Some(_)) if !call.is_overtaken => Trace::Billed,
        // By itself this says nothing: a number can be removed after it was checked.
        Probe::Missing if call.failed && may_take_back => Trace::NoNumber,
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

    /// A call of this run, long enough ago or not.
    fn call(age: Duration) -> Unresolved {
        let is_over = age >= LEAST_EFFECT;
        Unresolved { age, is_over, counts: false, is_overtaken: false, left_nothing: false, failed: false }
    }

    #[test]
    fn data_as_young_as_the_call_shows_that_it_was_billed_at_any_time() {
        for age in [Duration::ZERO, MINUTE, 90 * MINUTE] {
            for data in [Duration::ZERO, age, age + CLOCK_TOLERANCE] {
                for counts in [false, true] {
                    let call = Unresolved { counts, ..call(age) };
                    assert_eq!(trace(call, Probe::Data(Some(data))), Trace::Billed, "{call:?} {data:?}");
                }
            }
        }
    }

    #[test]
    fn young_data_may_be_that_of_a_later_call() {
        let overtaken = Unresolved { is_overtaken: true, ..call(5 * MINUTE) };
        assert_eq!(trace(overtaken, Probe::Data(Some(MINUTE))), Trace::Silent);
    }

    #[test]
    fn older_data_shows_that_it_was_not_once_the_call_can_no_longer_take_effect() {
        let older = |age: Duration| Probe::Data(Some(age + CLOCK_TOLERANCE + Duration::from_secs(1)));
        for (age, expected) in [(MINUTE, Trace::Silent), (2 * MINUTE, Trace::Untouched), (90 * MINUTE, Trace::Untouched)] {
            assert_eq!(trace(call(age), older(age)), expected, "{age:?}");
            assert_eq!(trace(Unresolved { is_overtaken: true, ..call(age) }, older(age)), expected, "{age:?}");
        }
    }

    #[test]
    fn a_number_without_data_says_something_only_together_with_a_check_soon_after() {
        assert_eq!(trace(call(MINUTE), Probe::Null), Trace::Silent);
        assert_eq!(trace(call(2 * MINUTE), Probe::Null), Trace::Nothing);
        let left = Unresolved { left_nothing: true, ..call(90 * MINUTE) };
        let checked_after = |minutes: u32| Probe::Data(Some((90 - minutes) * MINUTE));
        assert_eq!(trace(left, checked_after(9)), Trace::FoundByAnother);
        assert_eq!(trace(left, checked_after(10)), Trace::Silent, "the networks may know more by then");
    }

    #[test]
    fn nothing_is_taken_back_of_a_call_that_counts_whatever_a_look_finds() {
        for left_nothing in [false, true] {
            let counted = Unresolved { counts: true, left_nothing, failed: true, ..call(5 * MINUTE) };
            for look in [Probe::Data(Some(90 * MINUTE)), Probe::Null, Probe::Missing] {
                assert!(!matches!(trace(counted, look), Trace::Untouched | Trace::NoNumber), "{look:?}");
            }
        }
        let left = Unresolved { counts: true, left_nothing: true, ..call(5 * MINUTE) };
        assert_eq!(trace(left, Probe::Data(Some(MINUTE))), Trace::Silent);
    }

    #[test]
    fn a_failure_that_the_upstream_told_counts_only_where_there_is_no_such_number() {
        let failed = Unresolved { failed: true, ..call(MINUTE) };
        assert_eq!(trace(failed, Probe::Missing), Trace::NoNumber);
        assert_eq!(trace(failed, Probe::Null), Trace::Silent);
        assert_eq!(trace(call(10 * MINUTE), Probe::Missing), Trace::Silent);
    }

    #[test]
    fn a_look_that_does_not_tell_changes_nothing() {
        for look in [Probe::Data(None), Probe::Missing, Probe::Inconclusive, Probe::Refused, Probe::Failed] {
            for left_nothing in [false, true] {
                assert_eq!(trace(Unresolved { left_nothing, ..call(10 * MINUTE) }, look), Trace::Silent, "{look:?}");
            }
        }
    }
}
