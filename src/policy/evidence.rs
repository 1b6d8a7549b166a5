//! Was it billed? Telnyx says so nowhere; the answer's status, body and `Date` are the evidence.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use strum::{IntoStaticStr, VariantArray};

use super::decide::CLOCK_TOLERANCE;
use super::pricing::{Billable, Subject};
use crate::telnyx::record::Reputation;

/// What a billable call cost, as far as can be known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum Billing {
    /// It was billed.
    Billed,
    /// It reached Telnyx and was not billed.
    NotBilled,
    /// It may have been billed.
    Unknown,
    /// It never left.
    NotSent,
}

impl Billing {
    /// All of them.
    pub const ALL: &[Self] = Self::VARIANTS;

    /// Whether the caller's own request was billed, for its answer and its line in the log.
    pub const fn answer(self) -> &'static str {
        match self {
            Self::Billed => "yes",
            Self::NotBilled | Self::NotSent => "no",
            Self::Unknown => "unknown",
        }
    }

    /// The word in metrics.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// An answer, as evidence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answered {
    /// Its status.
    pub status: u16,
    /// What its body says of the number that was asked for; none if it is not that number's whole record.
    pub reputation: Option<Reputation>,
    /// The upstream's own time, from `Date`.
    pub date: Option<Timestamp>,
    /// From the request's first byte to the answer's head.
    pub elapsed: Duration,
}

/// Judges one call, and says why.
pub fn judge(operation: Billable, answered: &Answered) -> (Billing, &'static str) {
    match (answered.status, answered.reputation) {
        (200..=299, None) => (Billing::Unknown, "the answer is not this number's record"),
        (200..=299, Some(reputation)) => match operation {
            Billable::FirstTouch => first_touch(reputation, answered),
            _ => (Billing::Billed, "a fresh check was answered"),
        },
        (status, _) => by_status(status),
    }
}

/// Judges one number of a call for many, or a call as a whole, and says why. `success` is what the answer says of it, if it does.
pub fn judge_one(operation: Billable, status: u16, success: Option<bool>) -> (Billing, &'static str) {
    match (status, success) {
        (200..=299, Some(true)) => match operation {
            Billable::Associate => (Billing::Billed, "the number was associated, and so checked"),
            Billable::Remediation => (Billing::Billed, "a remediation was ordered"),
            Billable::Enable => (Billing::Billed, "monitoring was enabled"),
            Billable::Frequency => (Billing::Billed, "the schedule was set"),
            Billable::Unpublished => (Billing::Billed, "the call was answered"),
            _ => (Billing::Billed, "a refresh succeeded"),
        },
        // Whether a check that failed is billed is documented nowhere.
        (200..=299, Some(false)) => (Billing::Unknown, "a refresh failed for this number"),
        (200..=299, None) if operation.subject() == Subject::Number => (Billing::Unknown, "the answer does not tell of this number"),
        (200..=299, None) => (Billing::Unknown, "the answer is not this operation's"),
        (status, _) => by_status(status),
    }
}

/// Of an answer that brought nothing.
fn by_status(status: u16) -> (Billing, &'static str) {
    match status {
        // Something on the way gave up waiting, which says nothing of what Telnyx did.
        408 => (Billing::Unknown, "the upstream timed out after the request was sent"),
        400..=499 => (Billing::NotBilled, "refused by the upstream"),
        _ => (Billing::Unknown, "the upstream failed after the request was sent"),
    }
}

/// A plain GET was billed if it made Telnyx check the number: its data is as young as the call, or there still is none.
fn first_touch(reputation: Reputation, answered: &Answered) -> (Billing, &'static str) {
    let (refreshed_at, date) = match (reputation, answered.date) {
        (Reputation::Null, _) => return (Billing::Billed, "a first read found no data"),
        (_, None) => return (Billing::Billed, "the upstream sent no date to compare with"),
        (Reputation::Stored(None), _) => return (Billing::Billed, "the data has no time to compare with"),
        (Reputation::Stored(Some(at)), Some(date)) => (at, date),
    };
    let allowed = SignedDuration::try_from(answered.elapsed + CLOCK_TOLERANCE).unwrap_or(SignedDuration::MAX);
    let dispatched = date.checked_sub(allowed).unwrap_or(Timestamp::MIN);
    if refreshed_at >= dispatched {
        (Billing::Billed, "the data is as young as the call")
    } else {
        (Billing::NotBilled, "stored data was served")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DATE: &str = "2026-03-24T12:00:00Z";

    fn answered(status: u16, reputation: Option<Reputation>) -> Answered {
        Answered { status, reputation, date: DATE.parse().ok(), elapsed: Duration::from_secs(2) }
    }

    fn stored(at: &str) -> Option<Reputation> {
        Some(Reputation::Stored(Some(at.parse().expect("a time"))))
    }

    #[test]
    fn a_fresh_check_is_billed_by_its_status_and_its_body() {
        use Billing::{Billed, NotBilled, Unknown};
        for (status, reputation, billing) in [
            (200, stored(DATE), Billed),
            (200, Some(Reputation::Null), Billed),
            (200, None, Unknown),
            (302, None, Unknown),
            (402, None, NotBilled),
            (404, None, NotBilled),
            (408, None, Unknown),
            (429, None, NotBilled),
            (500, None, Unknown),
            (503, stored(DATE), Unknown),
        ] {
            assert_eq!(judge(Billable::Fresh, &answered(status, reputation)).0, billing, "{status} {reputation:?}");
        }
    }

    #[test]
    fn a_refresh_is_billed_number_by_number() {
        use Billing::{Billed, NotBilled, Unknown};
        for (status, success, billing) in [
            (200, Some(true), Billed),
            (202, Some(true), Billed),
            (200, Some(false), Unknown),
            (200, None, Unknown),
            (302, None, Unknown),
            (404, None, NotBilled),
            (408, None, Unknown),
            (429, None, NotBilled),
            (500, None, Unknown),
            (500, Some(true), Unknown),
        ] {
            assert_eq!(judge_one(Billable::Refresh, status, success).0, billing, "{status} {success:?}");
        }
    }

    #[test]
    fn a_plain_read_is_billed_if_its_data_is_as_young_as_the_call() {
        use Billing::{Billed, NotBilled};
        for (at, billing) in [
            ("2026-03-24T12:00:00Z", Billed),
            ("2026-03-24T11:59:53Z", Billed),
            ("2026-03-24T11:59:52Z", NotBilled),
            ("2026-03-01T00:00:00Z", NotBilled),
        ] {
            assert_eq!(judge(Billable::FirstTouch, &answered(200, stored(at))).0, billing, "{at}");
        }
        assert_eq!(judge(Billable::FirstTouch, &answered(200, Some(Reputation::Null))).0, Billed);
        assert_eq!(judge(Billable::FirstTouch, &answered(200, Some(Reputation::Stored(None)))).0, Billed);
        let dateless = Answered { date: None, ..answered(200, stored("2026-03-01T00:00:00Z")) };
        assert_eq!(judge(Billable::FirstTouch, &dateless).0, Billed);
    }
}
