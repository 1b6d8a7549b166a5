//! Budgets: how much may be spent, on what, in which stretch of the calendar.
//!
//! A budget is a view over the charges that were made: those its scope covers, held within the window that contains the
//! moment. It owns no counter, so nothing has to be reset when a window ends, and editing a budget never loses usage.
//!
//! Windows tile time: every instant is in exactly one, and one ends where the next begins. Days, weeks (from Monday) and
//! months begin at the first instant that bears their first date in the budget's zone. Hours begin with the zone's
//! hours and last sixty minutes, also where a clock set back shows the same hour twice; one is cut short only where the
//! zone's offset changes in its middle.

use std::fmt;
use std::sync::Arc;

use jiff::civil::Date;
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{Timestamp, ToSpan};
use serde::{Deserialize, Serialize};

use super::money::Usd;
use super::pricing::Billable;
use crate::telnyx::{EnterpriseId, PhoneNumber};

/// `[[budget]]`: a limit on what is spent within a scope and a window.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
pub struct Budget {
    /// Its name in refusals, metrics and alerts; no two budgets have the same.
    pub name: String,
    /// Dollars that may be held and posted together in one window.
    pub limit: Usd,
    /// The stretch of the calendar that the limit is for.
    pub window: Window,
    /// Whether it refuses. One that does not is a dry run: it counts what it would have refused.
    #[serde(default = "enforced", skip_serializing_if = "is_enforced")]
    #[schemars(extend("default" = true))]
    pub enforce: bool,
    /// The IANA name of the zone whose calendar it is, such as `America/New_York`.
    #[serde(with = "iana", default = "utc")]
    #[schemars(with = "String")]
    pub time_zone: TimeZone,
    /// Only what this caller spends; everybody if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caller: Option<String>,
    /// Only what is spent on this enterprise's numbers; every enterprise if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enterprise: Option<EnterpriseId>,
    /// Only what is spent on this operation; every operation if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation: Option<Billable>,
}

/// The length of a budget's window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Window {
    /// From the zone's full hour.
    Hour,
    /// From midnight.
    Day,
    /// From Monday.
    Week,
    /// From the first.
    Month,
}

/// One window in time. Its start is its identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interval {
    /// Its first instant.
    pub start: Timestamp,
    /// The first instant after it, and the start of the next.
    pub end: Timestamp,
}

/// A billable call, for one number or for a whole enterprise: what a budget is asked to pay for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Charge {
    /// The request that caused it.
    pub request_id: String,
    /// Who asked.
    pub caller: Arc<str>,
    /// For which enterprise.
    pub enterprise: EnterpriseId,
    /// The number; none, if it is for the enterprise as a whole.
    pub number: Option<PhoneNumber>,
    /// What is done with it.
    pub operation: Billable,
    /// The full price; never negative.
    pub price: Usd,
}

/// What a budget covers; displayed as `global`, or as the conditions that a charge must meet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Scope {
    /// Only this caller.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub caller: Option<String>,
    /// Only this enterprise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enterprise: Option<EnterpriseId>,
    /// Only this operation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operation: Option<Billable>,
}

impl Budget {
    /// Whether this budget has to agree to `charge`.
    pub fn applies_to(&self, charge: &Charge) -> bool {
        self.caller.as_deref().is_none_or(|caller| caller == &*charge.caller)
            && self.enterprise.is_none_or(|enterprise| enterprise == charge.enterprise)
            && self.operation.is_none_or(|operation| operation == charge.operation)
    }

    /// The window that contains `now`.
    pub fn window_at(&self, now: Timestamp) -> Interval {
        match self.window {
            Window::Hour => hour_at(now, &self.time_zone),
            Window::Day | Window::Week | Window::Month => self.window.days_at(now, &self.time_zone),
        }
    }

    /// What it covers.
    pub fn scope(&self) -> Scope {
        Scope { caller: self.caller.clone(), enterprise: self.enterprise, operation: self.operation }
    }
}

impl Interval {
    /// Whether `now` lies in it.
    pub fn contains(&self, now: Timestamp) -> bool {
        self.start <= now && now < self.end
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let conditions: Vec<String> = [
            self.caller.as_ref().map(|caller| format!("caller={caller}")),
            self.enterprise.map(|enterprise| format!("enterprise={enterprise}")),
            self.operation.map(|operation| format!("operation={operation}")),
        ]
        .into_iter()
        .flatten()
        .collect();
        f.write_str(if conditions.is_empty() { "global".to_owned() } else { conditions.join(",") }.as_str())
    }
}

impl Window {
    /// The window of whole days around `now`.
    fn days_at(self, now: Timestamp, zone: &TimeZone) -> Interval {
        let mut first = self.first_day(zone.to_datetime(now).date());
        let mut start = midnight(first, zone);
        loop {
            let Some(next) = self.next_first_day(first) else { return Interval { start, end: Timestamp::MAX } };
            let end = midnight(next, zone);
            if now < end {
                return Interval { start, end };
            }
            // Where clocks are set back over midnight (St. John's, 00:01 to 23:01), yesterday's date returns for an hour.
            // The new day has begun by then; it does not end and begin again.
            (first, start) = (next, end);
        }
    }

    fn first_day(self, date: Date) -> Date {
        match self {
            Self::Month => date.first_of_month(),
            Self::Week => date.checked_sub(i64::from(date.weekday().to_monday_zero_offset()).days()).unwrap_or(Date::MIN),
            Self::Hour | Self::Day => date,
        }
    }

    fn next_first_day(self, first: Date) -> Option<Date> {
        let length = match self {
            Self::Month => 1.month(),
            Self::Week => 7.days(),
            Self::Hour | Self::Day => 1.day(),
        };
        first.checked_add(length).ok()
    }
}

/// The first instant that bears `date`.
fn midnight(date: Date, zone: &TimeZone) -> Timestamp {
    let midnight = zone.to_ambiguous_timestamp(date.at(0, 0, 0, 0));
    let skipped = matches!(midnight.offset(), AmbiguousOffset::Gap { .. });
    let beyond_time = if date.year() < 0 { Timestamp::MIN } else { Timestamp::MAX };
    let instant = midnight.compatible().unwrap_or(beyond_time);
    // Where a gap swallows midnight the date begins with the gap's end, which may come before midnight moved by the gap's length.
    if skipped { last_change(instant, zone).unwrap_or(instant) } else { instant }
}

fn hour_at(now: Timestamp, zone: &TimeZone) -> Interval {
    const HOUR: i128 = 3_600_000_000_000;
    let offset = i128::from(zone.to_offset(now).seconds()) * 1_000_000_000;
    let start = (now.as_nanosecond() + offset).div_euclid(HOUR) * HOUR - offset;
    let hour = Interval {
        start: Timestamp::from_nanosecond(start).unwrap_or(Timestamp::MIN),
        end: Timestamp::from_nanosecond(start + HOUR).unwrap_or(Timestamp::MAX),
    };
    let next_change = zone.following(now).next().map(|change| change.timestamp());
    Interval {
        start: last_change(now, zone).map_or(hour.start, |change| hour.start.max(change)),
        end: next_change.map_or(hour.end, |change| hour.end.min(change)),
    }
}

/// When the zone last changed its offset, up to and including `now`.
fn last_change(now: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
    let just_after = now.checked_add(1.nanosecond()).unwrap_or(Timestamp::MAX);
    zone.preceding(just_after).next().map(|change| change.timestamp())
}

fn utc() -> TimeZone {
    TimeZone::UTC
}

fn enforced() -> bool {
    true
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
fn is_enforced(enforce: &bool) -> bool {
    *enforce
}

/// A zone as its IANA name. Offsets such as `+02:00` are refused: they know nothing of daylight saving time.
mod iana {
    use jiff::tz::TimeZone;
    use serde::{Deserialize, Deserializer, Serializer, de, ser};

    pub(super) fn serialize<S: Serializer>(zone: &TimeZone, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(zone.iana_name().ok_or_else(|| ser::Error::custom("a time zone without an IANA name"))?)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<TimeZone, D::Error> {
        let name = String::deserialize(deserializer)?;
        TimeZone::get(&name)
            .map_err(|_| de::Error::custom(format_args!("{name:?} is no IANA time zone, such as \"UTC\" or \"America/New_York\"")))
    }
}

#[cfg(test)]
mod tests;
