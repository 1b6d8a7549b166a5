//! One copy of an answer.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{HeaderValue, StatusCode};
use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimePrinter;
use sha2::{Digest, Sha256};
use strum::{IntoStaticStr, VariantArray};
use triomphe::ThinArc;

use super::Key;
use super::moments::nanos;
use crate::policy::decide::{Copy, Kind};
use crate::policy::decision::Decision;
use crate::telnyx::record::Reputation;

/// What a copy was made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoStaticStr, VariantArray)]
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
    /// All of them, in an order that shared copies rely on.
    pub const ALL: &[Self] = Self::VARIANTS;

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

/// A copy, with what is needed to serve it and to judge its age: one allocation, which clones share.
///
/// Behind what is judged stand the header lines that every answer of it has, ready to send, and then Telnyx's bytes.
#[derive(Clone)]
pub struct Entry(ThinArc<Meta, u8>);

/// Times are monotonic; they and spans are nanoseconds.
struct Meta {
    /// Whose copy of which number. The table that it is in has no other.
    key: Key,
    begun: u64,
    stored: u64,
    lifetime: u64,
    /// [`NO_AGE`]: unknown.
    data_age: u64,
    refreshed_second: i64,
    /// [`NO_TIME`]: unknown.
    refreshed_nanosecond: i32,
    kind: Kind,
    evidence: Evidence,
    /// Whether something newer may be at Telnyx, so that this only stands in for what cannot be had.
    outdated: bool,
    /// How long the lines are.
    lines: u8,
    /// The place of the last decision that it was served with in [`Decision::ALL`], counted from 1; 0: not served yet.
    served: AtomicU8,
    /// Whether it was used since the table's hand was there.
    used: AtomicBool,
}

const NO_AGE: u64 = u64::MAX;
const NO_TIME: i32 = i32::MIN;

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
    /// The key's copy of an answer that was asked for at `begun`, came at `stored` and is fresh for `lifetime`.
    pub fn new(key: &Key, content: Content, begun: Duration, stored: Duration, lifetime: Duration) -> Self {
        let Content { kind, body, refreshed_at, data_age, evidence } = content;
        let lines = lines(&body, refreshed_at);
        let meta = Meta {
            key: *key,
            begun: nanos(begun),
            stored: nanos(stored),
            lifetime: nanos(lifetime),
            data_age: data_age.map_or(NO_AGE, |age| nanos(age).min(NO_AGE - 1)),
            refreshed_second: refreshed_at.map_or(0, Timestamp::as_second),
            refreshed_nanosecond: refreshed_at.map_or(NO_TIME, Timestamp::subsec_nanosecond),
            kind,
            evidence,
            outdated: false,
            lines: u8::try_from(lines.len()).expect("three short lines"),
            served: AtomicU8::new(0),
            used: AtomicBool::new(true),
        };
        Self(ThinArc::from_header_and_slice(meta, &[&lines, &*body].concat()))
    }

    /// The same copy, not fresh any more.
    pub(super) fn outdated(&self, now: Duration) -> Self {
        let (lifetime, served) = (nanos(self.lifetime().min(self.age(now))), AtomicU8::new(self.meta().served.load(Ordering::Relaxed)));
        let meta = Meta { lifetime, outdated: true, served, used: AtomicBool::new(true), ..*self.meta() };
        Self(ThinArc::from_header_and_slice(meta, &self.0.slice))
    }

    fn meta(&self) -> &Meta {
        &self.0.header.header
    }

    /// Whose copy of which number.
    pub fn key(&self) -> &Key {
        &self.meta().key
    }

    /// What kind of answer.
    pub fn kind(&self) -> Kind {
        self.meta().kind
    }

    /// The header lines that every answer with this copy has, as HTTP/1.1 writes them, each with its end: `etag`, `last-modified` where
    /// the record tells it, `content-length`.
    pub fn lines(&self) -> &[u8] {
        &self.0.slice[..usize::from(self.meta().lines)]
    }

    /// Telnyx's bytes.
    pub fn body(&self) -> &[u8] {
        &self.0.slice[usize::from(self.meta().lines)..]
    }

    /// The same, to be sent: shared, not copied.
    pub fn body_to_send(&self) -> Bytes {
        Bytes::from_owner(Body(self.clone()))
    }

    /// A strong validator of the bytes.
    pub fn etag(&self) -> HeaderValue {
        self.field(ETAG).expect("every copy has one")
    }

    /// When Telnyx refreshed the data, as a date of HTTP (RFC 9110, 5.6.7); none for a time that has no such form.
    pub fn last_modified(&self) -> Option<HeaderValue> {
        self.field(LAST_MODIFIED)
    }

    fn field(&self, name: &str) -> Option<HeaderValue> {
        let value = |line: &'_ [u8]| HeaderValue::from_bytes(line.strip_prefix(name.as_bytes())?.strip_suffix(b"\r")?).ok();
        self.lines().split(|byte| *byte == b'\n').find_map(value)
    }

    /// The status it is served with.
    pub fn status(&self) -> StatusCode {
        match self.kind() {
            Kind::Data | Kind::Null => StatusCode::OK,
            Kind::Missing => StatusCode::NOT_FOUND,
        }
    }

    /// Time since Telnyx gave it.
    pub fn age(&self, now: Duration) -> Duration {
        now.saturating_sub(self.stored())
    }

    /// When it was asked for (monotonic): it tells nothing of what happened since.
    pub(super) fn begun(&self) -> Duration {
        Duration::from_nanos(self.meta().begun)
    }

    /// When it came (monotonic).
    pub(super) fn stored(&self) -> Duration {
        Duration::from_nanos(self.meta().stored)
    }

    /// Whether it came before this (monotonic, in nanoseconds).
    pub(super) fn came_before(&self, moment: u64) -> bool {
        self.meta().stored < moment
    }

    /// Whether both are one copy, and not only alike.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.0.ptr() == other.0.ptr()
    }

    /// It was read. Nothing is written where that is known.
    pub(super) fn mark_used(&self) {
        if !self.meta().used.load(Ordering::Relaxed) {
            self.meta().used.store(true, Ordering::Relaxed);
        }
    }

    /// Whether it was used since this was asked last.
    pub(super) fn take_mark(&self) -> bool {
        let was_used = self.meta().used.load(Ordering::Relaxed);
        self.meta().used.store(false, Ordering::Relaxed);
        was_used
    }

    /// Whether it only stands in for what cannot be had.
    pub fn is_outdated(&self) -> bool {
        self.meta().outdated
    }

    /// What it was made of.
    pub fn evidence(&self) -> Evidence {
        self.meta().evidence
    }

    /// It was served with this decision. Nothing is written where that is the last one again: a hit that many share stays a read.
    pub fn serve(&self, decision: Decision) {
        let place = decision as u8 + 1;
        if self.meta().served.load(Ordering::Relaxed) != place {
            self.meta().served.store(place, Ordering::Relaxed);
        }
    }

    /// The last decision that it was served with.
    pub fn last_decision(&self) -> Option<Decision> {
        let place = usize::from(self.meta().served.load(Ordering::Relaxed)).checked_sub(1)?;
        Decision::ALL.get(place).copied()
    }

    /// When Telnyx refreshed the data.
    pub fn refreshed_at(&self) -> Option<Timestamp> {
        let Meta { refreshed_second, refreshed_nanosecond, .. } = *self.meta();
        (refreshed_nanosecond != NO_TIME).then(|| Timestamp::new(refreshed_second, refreshed_nanosecond).expect("it was a time"))
    }

    /// How long it is fresh, from its coming on.
    pub fn lifetime(&self) -> Duration {
        Duration::from_nanos(self.meta().lifetime)
    }

    /// Whether Telnyx has refreshed the data since; not, if it does not say when it did. Dates of HTTP are whole seconds.
    pub fn is_modified_since(&self, then: SystemTime) -> bool {
        self.refreshed_at().is_none_or(|at| Timestamp::try_from(then).is_ok_and(|then| at.as_second() > then.as_second()))
    }

    /// How long it stays fresh from now on; negative once it is stale. In whole seconds, as `Cache-Status` has it.
    pub fn ttl_seconds(&self, now: Duration) -> i64 {
        let seconds = |span: Duration| i64::try_from(span.as_secs()).unwrap_or(i64::MAX);
        seconds(self.lifetime()) - seconds(self.age(now))
    }

    /// How old the data was when it came, by the upstream's own clock.
    pub fn data_age(&self) -> Option<Duration> {
        let data_age = self.meta().data_age;
        (data_age != NO_AGE).then(|| Duration::from_nanos(data_age))
    }

    /// The copy as a decision sees it.
    pub fn facts(&self, now: Duration) -> Copy {
        let age = self.age(now);
        Copy {
            kind: self.kind(),
            age,
            lifetime: self.lifetime(),
            data_age: self.data_age().map(|data_age| data_age + age),
            outdated: self.is_outdated(),
        }
    }

    /// Whether this copy is to be kept rather than `other`, whose answer was asked for at `begun` (monotonic).
    pub(super) fn outdates(&self, other: &Self, begun: Duration) -> bool {
        match (self.refreshed_at(), other.refreshed_at()) {
            (Some(kept), Some(offered)) => kept > offered,
            _ => self.stored() > begun,
        }
    }

    /// Bytes that keeping it takes: its allocation, its places in the table and its queue, and what the allocator adds.
    pub fn weight(&self) -> u32 {
        // By `benches/memory.rs`, between what a cache adds whose copies were all put in once and one whose copies all changed. glibc, 64 bits.
        const UPKEEP: usize = 90;
        u32::try_from(2 * size_of::<usize>() + size_of::<Meta>() + self.0.slice.len() + UPKEEP).unwrap_or(u32::MAX)
    }
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Entry").field("key", self.key()).field("kind", &self.kind()).finish_non_exhaustive()
    }
}

/// What shares a copy's bytes with it.
struct Body(Entry);

impl AsRef<[u8]> for Body {
    fn as_ref(&self) -> &[u8] {
        self.0.body()
    }
}

const ETAG: &str = "etag: ";
const LAST_MODIFIED: &str = "last-modified: ";

/// See [`Entry::lines`].
fn lines(body: &[u8], refreshed_at: Option<Timestamp>) -> Vec<u8> {
    let mut lines = String::from(ETAG);
    lines.push('"');
    lines.extend(Sha256::digest(body)[..16].iter().map(|byte| format!("{byte:02x}")));
    lines.push_str("\"\r\n");
    let mut date = String::new();
    if let Some(Ok(())) = refreshed_at.map(|at| DateTimePrinter::new().print_timestamp_rfc9110(&at, &mut date)) {
        lines.extend([LAST_MODIFIED, &date, "\r\n"]);
    }
    lines.extend(["content-length: ", &body.len().to_string(), "\r\n"]);
    lines.into_bytes()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::policy::entitlement::Partition;

    fn entry(content: Content) -> Entry {
        let enterprise = "6a09cdc3-8948-47f0-aa62-74ac943d6c58".parse().expect("a UUID");
        let key = Key { partition: Partition::SHARED, enterprise, number: "+16035551234".parse().expect("E.164") };
        Entry::new(&key, content, Duration::ZERO, Duration::ZERO, Duration::ZERO)
    }

    #[test]
    fn an_entry_keeps_no_buffer_that_its_body_came_in() {
        let buffer: Arc<[u8]> = Arc::from([b'x'; 64]);
        let entry = entry(Content::missing(Bytes::from_owner(Arc::clone(&buffer)).slice(60..)));
        assert_eq!((entry.body(), Arc::strong_count(&buffer)), (b"xxxx".as_slice(), 1));
        let (address, body) = (entry.body().as_ptr(), entry.body_to_send());
        assert_eq!(body.as_ptr(), address, "it is sent from where it is");
        drop(entry);
        assert_eq!(body, "xxxx", "and stays there until it was sent");
    }

    #[test]
    fn an_entry_is_one_pointer() {
        assert_eq!(size_of::<Option<Entry>>(), size_of::<usize>());
    }

    #[test]
    fn the_fields_of_answers_are_those_of_the_bytes_and_of_the_refresh() {
        let reputation = Reputation::Stored(Some("2026-03-24T10:00:00.123456789Z".parse().expect("a time")));
        let copy = entry(Content::record(reputation, "abc".into(), None));
        // FIPS 180-4's own example.
        assert_eq!(copy.etag(), "\"ba7816bf8f01cfea414140de5dae2223\"");
        assert_eq!(copy.last_modified().expect("a date"), "Tue, 24 Mar 2026 10:00:00 GMT");
        let absence = entry(Content::missing("abc".into()));
        assert_eq!((absence.etag(), absence.last_modified()), (copy.etag(), None));
    }

    #[test]
    fn the_lines_are_those_fields_and_the_length_ready_to_send() {
        let lines = |entry: &Entry| String::from_utf8(entry.lines().to_vec()).expect("ASCII");
        let at = |time: &str| Reputation::Stored(Some(time.parse().expect("a time")));
        let tag = "etag: \"ba7816bf8f01cfea414140de5dae2223\"\r\n";
        let copy = entry(Content::record(at("2026-03-24T10:00:00.123456789Z"), "abc".into(), None));
        let expected = format!("{tag}last-modified: Tue, 24 Mar 2026 10:00:00 GMT\r\ncontent-length: 3\r\n");
        assert_eq!(lines(&copy), expected);
        assert_eq!(lines(&copy.outdated(Duration::ZERO)), expected);
        assert_eq!(copy.outdated(Duration::ZERO).body(), b"abc");
        let timeless = entry(Content::record(at("-000001-03-24T10:00:00Z"), "abc".into(), None));
        assert_eq!(lines(&timeless), format!("{tag}content-length: 3\r\n"), "HTTP has no such date");
        let long = entry(Content::missing(vec![b'x'; 12_345].into()));
        assert!(lines(&long).ends_with("\r\ncontent-length: 12345\r\n") && long.body().len() == 12_345);
    }

    #[test]
    fn what_an_entry_was_made_of_is_what_it_tells() {
        let refreshed_at = Some("2026-03-24T10:00:00.123456789Z".parse().expect("a time"));
        let content = Content { kind: Kind::Data, body: "x".into(), refreshed_at, data_age: Some(Duration::MAX), evidence: Evidence::Get };
        let copy = entry(content.clone());
        assert_eq!((copy.kind(), copy.refreshed_at(), copy.evidence()), (Kind::Data, refreshed_at, Evidence::Get));
        assert!(copy.data_age().is_some(), "an age beyond all measure is no unknown one");
        let absence = entry(Content { data_age: None, refreshed_at: None, ..content });
        assert_eq!((absence.data_age(), absence.refreshed_at()), (None, None));
    }

    #[test]
    fn the_last_decision_is_remembered_whichever_it_is() {
        let entry = entry(Content::missing("x".into()));
        assert_eq!(entry.last_decision(), None);
        for decision in Decision::ALL {
            entry.serve(*decision);
            assert_eq!(entry.last_decision(), Some(*decision));
        }
        let outdated = entry.outdated(Duration::ZERO);
        assert_eq!((outdated.last_decision(), outdated.evidence()), (entry.last_decision(), Evidence::Look));
    }
}
