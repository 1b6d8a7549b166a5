//! One copy of an answer.

use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{HeaderValue, StatusCode};
use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimePrinter;
use sha2::{Digest, Sha256};
use strum::IntoStaticStr;

use crate::policy::decide::{Copy, Kind};
use crate::policy::decision::Decision;
use crate::telnyx::record::Reputation;

/// What a copy was made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum Evidence {
    /// A look at the list for this number alone.
    Look,
    /// A page of the list that a caller read.
    Page,
    /// A page of the list that was read ahead.
    Sync,
    /// The number's own GET, which was not billed.
    Get,
    /// The number's own GET, which was billed.
    FirstTouch,
    /// A live check that was paid for.
    Check,
    /// The answer to an association.
    Association,
    /// The file that keeps copies over a restart.
    Snapshot,
}

impl Evidence {
    /// The word for operators.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// What an answer said, before it is an entry.
#[derive(Clone, Debug)]
pub struct Content {
    /// What kind of answer.
    pub kind: Kind,
    /// Telnyx's bytes.
    pub body: Bytes,
    /// When Telnyx refreshed the data.
    pub refreshed_at: Option<Timestamp>,
    /// How old the data was when it came, by the upstream's own clock.
    pub data_age: Option<Duration>,
    /// What said so.
    pub evidence: Evidence,
}

/// A copy, with what is needed to serve it and to judge its age. Times are monotonic.
#[derive(Debug)]
pub struct Entry {
    /// What kind of answer.
    pub kind: Kind,
    /// Telnyx's bytes.
    pub body: Bytes,
    /// A strong validator of the bytes.
    pub etag: HeaderValue,
    /// When Telnyx refreshed the data, as a date of HTTP.
    pub last_modified: Option<HeaderValue>,
    refreshed_at: Option<Timestamp>,
    data_age: Option<Duration>,
    begun: Duration,
    stored: Duration,
    lifetime: Duration,
    /// Whether something newer may be at Telnyx, so that this only stands in for what cannot be had.
    outdated: bool,
    evidence: Evidence,
    /// The place of the last decision that it was served with in [`Decision::ALL`], counted from 1; 0: not served yet.
    served: AtomicU8,
}

impl Content {
    /// A number's record. `date` is the upstream's own time.
    pub fn record(reputation: Reputation, body: Bytes, date: Option<Timestamp>) -> Self {
        let kind = if reputation == Reputation::Null { Kind::Null } else { Kind::Data };
        let refreshed_at = reputation.refreshed_at();
        let data_age = date.zip(refreshed_at).map(|(now, at)| Duration::try_from(now.duration_since(at)).unwrap_or_default());
        Self { kind, body, refreshed_at, data_age, evidence: Evidence::Look }
    }

    /// An answer that there is no such number.
    pub fn missing(body: Bytes) -> Self {
        Self { kind: Kind::Missing, body, refreshed_at: None, data_age: None, evidence: Evidence::Look }
    }

    /// The same, said otherwise than by a look.
    #[must_use]
    pub fn by(self, evidence: Evidence) -> Self {
        Self { evidence, ..self }
    }
}

impl Entry {
    /// A copy of an answer that was asked for at `begun`, came at `stored` and is fresh for `lifetime`.
    pub fn new(content: Content, begun: Duration, stored: Duration, lifetime: Duration) -> Self {
        let Content { kind, body, refreshed_at, data_age, evidence } = content;
        let last_modified = refreshed_at.and_then(http_date);
        let (etag, served) = (strong_etag(&body), AtomicU8::new(0));
        Self { kind, etag, last_modified, body, refreshed_at, data_age, begun, stored, lifetime, outdated: false, evidence, served }
    }

    /// The same copy, not fresh any more.
    pub(super) fn outdated(&self, now: Duration) -> Self {
        Self {
            kind: self.kind,
            body: self.body.clone(),
            etag: self.etag.clone(),
            last_modified: self.last_modified.clone(),
            lifetime: self.lifetime.min(self.age(now)),
            outdated: true,
            served: AtomicU8::new(self.served.load(Ordering::Relaxed)),
            ..*self
        }
    }

    /// The status it is served with.
    pub fn status(&self) -> StatusCode {
        match self.kind {
            Kind::Data | Kind::Null => StatusCode::OK,
            Kind::Missing => StatusCode::NOT_FOUND,
        }
    }

    /// Time since Telnyx gave it.
    pub fn age(&self, now: Duration) -> Duration {
        now.saturating_sub(self.stored)
    }

    /// When it was asked for (monotonic): it tells nothing of what happened since.
    pub(super) fn begun(&self) -> Duration {
        self.begun
    }

    /// Whether it only stands in for what cannot be had.
    pub fn is_outdated(&self) -> bool {
        self.outdated
    }

    /// What it was made of.
    pub fn evidence(&self) -> Evidence {
        self.evidence
    }

    /// It was served with this decision. Nothing is written where that is the last one again: a hit that many share stays a read.
    pub fn serve(&self, decision: Decision) {
        let place = decision as u8 + 1;
        if self.served.load(Ordering::Relaxed) != place {
            self.served.store(place, Ordering::Relaxed);
        }
    }

    /// The last decision that it was served with.
    pub fn last_decision(&self) -> Option<Decision> {
        let place = usize::from(self.served.load(Ordering::Relaxed)).checked_sub(1)?;
        Decision::ALL.get(place).copied()
    }

    /// When Telnyx refreshed the data.
    pub fn refreshed_at(&self) -> Option<Timestamp> {
        self.refreshed_at
    }

    /// How long it is fresh, from its coming on.
    pub fn lifetime(&self) -> Duration {
        self.lifetime
    }

    /// Whether Telnyx has refreshed the data since; not, if it does not say when it did. Dates of HTTP are whole seconds.
    pub fn is_modified_since(&self, then: SystemTime) -> bool {
        self.refreshed_at.is_none_or(|at| Timestamp::try_from(then).is_ok_and(|then| at.as_second() > then.as_second()))
    }

    /// How long it stays fresh from now on; negative once it is stale. In whole seconds, as `Cache-Status` has it.
    pub fn ttl_seconds(&self, now: Duration) -> i64 {
        let seconds = |span: Duration| i64::try_from(span.as_secs()).unwrap_or(i64::MAX);
        seconds(self.lifetime) - seconds(self.age(now))
    }

    /// How old the data was when it came, by the upstream's own clock.
    pub fn data_age(&self) -> Option<Duration> {
        self.data_age
    }

    /// The copy as a decision sees it.
    pub fn facts(&self, now: Duration) -> Copy {
        let age = self.age(now);
        Copy {
            kind: self.kind,
            age,
            lifetime: self.lifetime,
            data_age: self.data_age.map(|data_age| data_age + age),
            outdated: self.outdated,
        }
    }

    /// Whether this copy is to be kept rather than `other`.
    pub(super) fn outdates(&self, other: &Self) -> bool {
        match (self.refreshed_at, other.refreshed_at) {
            (Some(kept), Some(offered)) => kept > offered,
            _ => self.stored > other.begun,
        }
    }

    /// Bytes that keeping it takes: itself, its body, and what moka and the allocator add to each entry.
    pub fn weight(&self) -> u32 {
        const UPKEEP: usize = 256;
        let fields = self.etag.len() + self.last_modified.as_ref().map_or(0, HeaderValue::len);
        u32::try_from(size_of::<Self>() + self.body.len() + fields + UPKEEP).unwrap_or(u32::MAX)
    }
}

/// RFC 9110, 5.6.7; none for a time that has no such form.
fn http_date(at: Timestamp) -> Option<HeaderValue> {
    let date = DateTimePrinter::new().timestamp_to_rfc9110_string(&at).ok()?;
    Some(HeaderValue::from_str(&date).expect("letters, digits and spaces"))
}

fn strong_etag(body: &[u8]) -> HeaderValue {
    let digest = Sha256::digest(body);
    let half = u128::from_be_bytes(digest[..16].try_into().expect("half of 32 bytes"));
    HeaderValue::from_str(&format!("\"{half:032x}\"")).expect("hexadecimal digits in quotes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_decision_is_remembered_whichever_it_is() {
        let entry = Entry::new(Content::missing("x".into()), Duration::ZERO, Duration::ZERO, Duration::ZERO);
        assert_eq!(entry.last_decision(), None);
        for decision in Decision::ALL {
            entry.serve(*decision);
            assert_eq!(entry.last_decision(), Some(*decision));
        }
        let outdated = entry.outdated(Duration::ZERO);
        assert_eq!((outdated.last_decision(), outdated.evidence()), (entry.last_decision(), Evidence::Look));
    }
}
