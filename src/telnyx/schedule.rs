//! How often Telnyx checks all numbers of an enterprise by itself.

use std::fmt;
use std::str::FromStr;

use strum::{IntoStaticStr, VariantArray};

/// The values of `check_frequency`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum CheckFrequency {
    /// From Monday to Friday.
    BusinessDaily,
    /// Each day.
    Daily,
    /// Each week.
    Weekly,
    /// Every other week.
    Biweekly,
    /// Each month.
    Monthly,
    /// Not at all.
    Never,
}

/// A text that names no frequency.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("check_frequency is business_daily, daily, weekly, biweekly, monthly or never")]
pub struct NotAFrequency;

impl CheckFrequency {
    /// All of them.
    pub const ALL: &[Self] = Self::VARIANTS;

    /// The most runs that any 30 days hold; of a monthly schedule its one.
    pub const fn most_runs(self) -> u64 {
        match self {
            Self::BusinessDaily => 22,
            Self::Daily => 30,
            Self::Weekly => 5,
            Self::Biweekly => 3,
            Self::Monthly => 1,
            Self::Never => 0,
        }
    }

    /// Its name on the wire.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

impl fmt::Display for CheckFrequency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for CheckFrequency {
    type Err = NotAFrequency;

    fn from_str(text: &str) -> Result<Self, NotAFrequency> {
        Self::ALL.iter().copied().find(|frequency| frequency.as_str() == text).ok_or(NotAFrequency)
    }
}

#[cfg(test)]
mod tests {
    use jiff::ToSpan;
    use jiff::civil::{Date, Weekday};

    use super::*;

    /// The most of these days that lie within any 30 days that begin within a year.
    fn most(runs_on: impl Fn(Date) -> bool) -> u64 {
        let first = jiff::civil::date(2026, 1, 1);
        let within = |start: Date| start.series(1.day()).take(30).filter(|day| runs_on(*day)).count() as u64;
        first.series(1.day()).take(366).map(within).max().expect("days")
    }

    #[test]
    fn a_month_holds_the_most_runs_that_30_days_can() {
        let monday = jiff::civil::date(2025, 12, 29);
        let every = |days: i32| move |day: Date| (day - monday).get_days() % days == 0;
        let business = |day: Date| !matches!(day.weekday(), Weekday::Saturday | Weekday::Sunday);
        assert_eq!(most(business), CheckFrequency::BusinessDaily.most_runs());
        assert_eq!(most(every(1)), CheckFrequency::Daily.most_runs());
        assert_eq!(most(every(7)), CheckFrequency::Weekly.most_runs());
        assert_eq!(most(every(14)), CheckFrequency::Biweekly.most_runs());
        assert_eq!((CheckFrequency::Monthly.most_runs(), CheckFrequency::Never.most_runs()), (1, 0));
    }

    #[test]
    fn a_frequency_has_one_name_and_the_error_lists_them_all() {
        for frequency in CheckFrequency::ALL.iter().copied() {
            assert_eq!(frequency.to_string().parse(), Ok(frequency));
            assert!(NotAFrequency.to_string().contains(frequency.as_str()), "{frequency}");
        }
        for text in ["hourly", "Daily", "daily ", ""] {
            assert_eq!(text.parse::<CheckFrequency>(), Err(NotAFrequency), "{text:?}");
        }
    }
}
