//! One copy of an answer.

use std::sync::Arc;
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

/// A copy, with what is needed to serve it and to judge its age. Times are monotonic. Fields of answers are written when one is made: kept,
/// they would be a fifth of an entry.
#[derive(Debug)]
pub struct Entry {
    /// What kind of answer.
    pub kind: Kind,
    /// Telnyx's bytes, in an allocation as long as they are. What came may be a slice that keeps all of a larger buffer.
    body: Arc<[u8]>,
    /// The first half of the body's SHA-256 digest.
    digest: [u8; 16],
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
        let (body, digest, served) = (Arc::from(&*body), half_digest(&body), AtomicU8::new(0));
        Self { kind, body, digest, refreshed_at, data_age, begun, stored, lifetime, outdated: false, evidence, served }
    }

    /// The same copy, not fresh any more.
    pub(super) fn outdated(&self, now: Duration) -> Self {
        let served = AtomicU8::new(self.served.load(Ordering::Relaxed));
        Self { body: Arc::clone(&self.body), lifetime: self.lifetime.min(self.age(now)), outdated: true, served, ..*self }
    }

    /// Telnyx's bytes.
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// The same, to be sent: shared, not copied.
    pub fn body_to_send(&self) -> Bytes {
        Bytes::from_owner(Arc::clone(&self.body))
    }

    /// A strong validator of the bytes.
    pub fn etag(&self) -> HeaderValue {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        // On the way of every hit: formatting is several times as slow.
        let mut tag = [b'"'; 34];
        for (digits, byte) in tag[1..33].chunks_exact_mut(2).zip(self.digest) {
            digits.copy_from_slice(&[DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
        }
        HeaderValue::from_bytes(&tag).expect("hexadecimal digits in quotes")
    }

    /// The constant lines.
    pub fn lines(&self) -> Vec<u8> {
        let mut lines = Vec::new();
        lines.extend_from_slice(b"etag: ");
        lines.extend_from_slice(self.etag().as_bytes());
        if let Some(date) = self.last_modified() {
            lines.extend_from_slice(b"\r\nlast-modified: ");
            lines.extend_from_slice(date.as_bytes());
        }
        lines.extend_from_slice(format!("\r\ncontent-length: {}\r\n", self.body.len()).as_bytes());
        lines
    }

    /// When Telnyx refreshed the data, as a date of HTTP (RFC 9110, 5.6.7); none for a time that has no such form.
    pub fn last_modified(&self) -> Option<HeaderValue> {
        let mut date = String::with_capacity("Sun, 06 Nov 1994 08:49:37 GMT".len());
        DateTimePrinter::new().print_timestamp_rfc9110(&self.refreshed_at?, &mut date).ok()?;
        Some(HeaderValue::try_from(date).expect("letters, digits and spaces"))
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

    /// Bytes that keeping it takes: itself, its body, and what its key, moka and the allocator add to each entry.
    pub fn weight(&self) -> u32 {
        // By `benches/memory.rs`, between what a cache adds whose copies were all put in once and one whose copies all changed. glibc, 64 bits.
        const UPKEEP: usize = 540;
        u32::try_from(size_of::<Self>() + self.body.len() + UPKEEP).unwrap_or(u32::MAX)
    }
}

fn half_digest(body: &[u8]) -> [u8; 16] {
    Sha256::digest(body)[..16].try_into().expect("half of 32 bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_keeps_no_buffer_that_its_body_came_in() {
        let buffer: Arc<[u8]> = Arc::from([b'x'; 64]);
        let body = Bytes::from_owner(Arc::clone(&buffer)).slice(60..);
        let entry = Entry::new(Content::missing(body), Duration::ZERO, Duration::ZERO, Duration::ZERO);
        assert_eq!((entry.body(), Arc::strong_count(&buffer)), (b"xxxx".as_slice(), 1));
        assert_eq!(entry.body_to_send().as_ptr(), entry.body().as_ptr(), "it is sent from where it is");
    }

    #[test]
    fn the_fields_of_answers_are_those_of_the_bytes_and_of_the_refresh() {
        let reputation = Reputation::Stored(Some("2026-03-24T10:00:00.123456789Z".parse().expect("a time")));
        let entry = |content| Entry::new(content, Duration::ZERO, Duration::ZERO, Duration::ZERO);
        let copy = entry(Content::record(reputation, "abc".into(), None));
        // FIPS 180-4's own example.
        assert_eq!(copy.etag(), "\"ba7816bf8f01cfea414140de5dae2223\"");
        assert_eq!(copy.last_modified().expect("a date"), "Tue, 24 Mar 2026 10:00:00 GMT");
        let absence = entry(Content::missing("abc".into()));
        assert_eq!((absence.etag(), absence.last_modified()), (copy.etag(), None));
    }

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
