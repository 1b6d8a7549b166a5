//! Where a budget will stand, if money goes on as it has gone in its window so far.

use jiff::{SignedDuration, Timestamp};

use super::budget::Interval;
use super::money::Usd;

/// What is to be expected of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forecast {
    /// What will have been spent when the window ends, if nothing refuses it.
    pub at_reset: Usd,
    /// When the limit will be reached; none, if that is not within the window.
    pub exhausted_at: Option<Timestamp>,
}

/// No pace is told of less than this part of a window: one call in its first minute would be a thousand in its month.
const LEAST_PART: i128 = 100;

/// Goes on with the mean pace of the window up to `now`. `spent`: posted and held. None where it is too early to tell, or `now` is outside.
pub fn forecast(spent: Usd, limit: Usd, window: Interval, now: Timestamp) -> Option<Forecast> {
    let nanos = |from: Timestamp, to: Timestamp| to.as_nanosecond() - from.as_nanosecond();
    let (passed, length) = (nanos(window.start, now), nanos(window.start, window.end));
    if !window.contains(now) || passed * LEAST_PART < length {
        return None;
    }
    let (spent_micros, limit_micros) = (i128::from(spent.micros().max(0)), i128::from(limit.micros().max(0)));
    let at_reset = Usd::from_micros(i64::try_from(spent_micros * length / passed).unwrap_or(i64::MAX));
    let exhausted_at = if spent_micros >= limit_micros {
        Some(now)
    } else {
        // Spending is at least one micro-dollar where this is divided by it.
        let reached = (spent_micros > 0).then(|| passed * limit_micros / spent_micros).filter(|reached| *reached < length);
        reached.and_then(|reached| window.start.checked_add(SignedDuration::from_nanos(i64::try_from(reached).ok()?)).ok())
    };
    Some(Forecast { at_reset, exhausted_at })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DAY: Interval = Interval { start: Timestamp::UNIX_EPOCH, end: Timestamp::constant(86_400, 0) };

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a time")
    }

    fn usd(text: &str) -> Usd {
        text.parse().expect("an amount")
    }

    #[test]
    fn a_quarter_of_the_day_and_a_third_of_the_money_end_it_after_three_quarters() {
        let six = at(6 * 3_600);
        let told = forecast(usd("3.00"), usd("9.00"), DAY, six);
        assert_eq!(told, Some(Forecast { at_reset: usd("12.00"), exhausted_at: Some(at(18 * 3_600)) }));
        assert_eq!(forecast(usd("3.00"), usd("12.00"), DAY, six).expect("told").exhausted_at, None, "the new window begins at that moment");
        assert_eq!(forecast(usd("9.00"), usd("9.00"), DAY, six).expect("told").exhausted_at, Some(six), "it is reached");
        assert_eq!(forecast(Usd::ZERO, usd("9.00"), DAY, six), Some(Forecast { at_reset: Usd::ZERO, exhausted_at: None }));
        assert_eq!(forecast(Usd::ZERO, Usd::ZERO, DAY, six).expect("told").exhausted_at, Some(six), "nothing may be spent");
    }

    #[test]
    fn nothing_is_told_too_early_or_of_another_window() {
        assert_eq!(forecast(usd("1.00"), usd("9.00"), DAY, at(863)), None);
        assert!(forecast(usd("1.00"), usd("9.00"), DAY, at(864)).is_some());
        assert_eq!(forecast(usd("1.00"), usd("9.00"), DAY, at(86_400)), None);
        assert_eq!(forecast(usd("1.00"), usd("9.00"), DAY, at(-1)), None);
    }

    proptest! {
        #[test]
        fn it_is_exhausted_within_the_window_exactly_where_more_than_the_limit_is_foretold(
            spent in 0..i64::MAX, limit in 0..i64::MAX, second in 864..86_400_i64,
        ) {
            let told = forecast(Usd::from_micros(spent), Usd::from_micros(limit), DAY, at(second)).expect("within the window");
            if let Some(exhausted_at) = told.exhausted_at {
                prop_assert!(DAY.contains(exhausted_at) && (exhausted_at >= at(second) || spent < limit));
                prop_assert!(told.at_reset.micros() >= limit || told.at_reset.micros() == i64::MAX);
            } else {
                prop_assert!(told.at_reset.micros() <= limit);
            }
        }
    }
}
