//! A copy as the server has it: in one piece, believed whole or not at all.
//!
//! `rgc1`, then as text of fixed lengths, which scripts read: when it was asked for and when it came, at the earliest, and when it came at the
//! latest, 16 digits each, in microseconds of the server's Unix time; when its data was refreshed, 32 hexadecimal digits that sort as the times do, or dashes; the hold that bought it, 20 digits,
//! 0 for none. Then what it was made of, u8; the record (`record.rs`); and the SHA-256 of all before it.

use std::time::Duration;

use sha2::{Digest, Sha256};

use super::super::record::{self, Record};
use super::super::{Entry, Evidence};

/// The version, in which scripts know a copy.
const MAGIC: &[u8; 4] = b"rgc1";
const DIGITS: usize = 16;
const REFRESHED: usize = 32;
const TOKEN: usize = 20;
const SUM: usize = 32;

/// When a copy was asked for, and when it came: microseconds of the server's Unix time, which no gateway knows to the last of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamps {
    /// When it was asked for, at the earliest.
    pub(super) begun: u64,
    /// When it came, at the earliest: so old it is at most.
    pub(super) stored: u64,
    /// When it came, at the latest: what was asked for before is no newer.
    pub(super) came_by: u64,
}

/// What the server has of a copy.
#[derive(Debug)]
pub(super) struct Value {
    pub(super) stamps: Stamps,
    /// The hold that bought it.
    pub(super) token: Option<u64>,
    pub(super) record: Record,
}

/// When a copy's data was refreshed, as scripts compare it.
pub(super) fn refreshed(entry: &Entry) -> String {
    // With its sign turned, a whole number sorts as its digits do.
    let sorted = |nanosecond: i128| format!("{:032x}", nanosecond.cast_unsigned() ^ (1 << 127));
    entry.refreshed_at().map_or_else(|| "-".repeat(REFRESHED), |at| sorted(at.as_nanosecond()))
}

/// Writes a copy as it is at `elapsed` (monotonic).
pub(super) fn written(entry: &Entry, elapsed: Duration, stamps: Stamps, token: Option<u64>) -> Vec<u8> {
    let Stamps { begun, stored, came_by } = stamps;
    let mut value = MAGIC.to_vec();
    value.extend(format!("{begun:016}{stored:016}{came_by:016}{}{:020}", refreshed(entry), token.unwrap_or_default()).bytes());
    value.push(entry.evidence() as u8);
    record::write(&mut value, entry, elapsed).expect("memory takes all");
    let sum = Sha256::digest(&value);
    value.extend_from_slice(&sum);
    value
}

/// Reads a copy; none, if it is not one of this version, whole.
pub(super) fn read(value: &[u8]) -> Option<Value> {
    let (value, sum) = value.split_last_chunk::<SUM>()?;
    if <[u8; SUM]>::from(Sha256::digest(value)) != *sum {
        return None;
    }
    let text = value.strip_prefix(MAGIC)?;
    let (begun, text) = number(text, DIGITS)?;
    let (stored, text) = number(text, DIGITS)?;
    let (came_by, text) = number(text, DIGITS)?;
    let (token, text) = number(text.get(REFRESHED..)?, TOKEN)?;
    let (evidence, record) = text.split_first()?;
    let record = record::read(record, *Evidence::ALL.get(usize::from(*evidence))?)?;
    Some(Value { stamps: Stamps { begun, stored, came_by }, token: Some(token).filter(|token| *token > 0), record })
}

fn number(text: &[u8], digits: usize) -> Option<(u64, &[u8])> {
    let (number, rest) = text.split_at_checked(digits)?;
    Some((str::from_utf8(number).ok()?.parse().ok()?, rest))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::cache::{Content, Key};
    use crate::policy::decide::Kind;
    use crate::policy::entitlement::Partition;

    const ELAPSED: Duration = Duration::from_hours(9_000);
    const STAMPS: Stamps = Stamps { begun: 1, stored: 2, came_by: 3 };

    fn entry(content: Content, age: Duration) -> Entry {
        let enterprise = "6a09cdc3-8948-47f0-aa62-74ac943d6c58".parse().expect("a UUID");
        let key = Key { partition: Partition::SHARED, enterprise, number: "+16035551234".parse().expect("E.164") };
        let at = ELAPSED.saturating_sub(age);
        Entry::new(&key, content, at, at, Duration::from_hours(1))
    }

    fn content() -> impl Strategy<Value = Content> {
        let kinds = prop_oneof![Just(Kind::Data), Just(Kind::Null), Just(Kind::Missing)];
        let times = prop::option::of((-10_000_000_000_i64..100_000_000_000, 0..1_000_000_000_i32))
            .prop_map(|time| time.map(|(second, nanosecond)| jiff::Timestamp::new(second.max(0), nanosecond).expect("a time")));
        let ages = prop::option::of((0..u64::MAX / 2).prop_map(Duration::from_nanos));
        let evidence = prop::sample::select(Evidence::ALL);
        (kinds, prop::collection::vec(any::<u8>(), 0..200), times, ages, evidence).prop_map(
            |(kind, body, refreshed_at, data_age, evidence)| Content { kind, body: Bytes::from(body), refreshed_at, data_age, evidence },
        )
    }

    proptest! {
        #[test]
        fn whatever_is_written_is_read(
            content in content(), age in 0..1_000_000_u64, token in prop::option::of(1..u64::MAX), stamps in (0..1_u64 << 52, 0..1_u64 << 52, 0..1_u64 << 52)
        ) {
            let entry = entry(content.clone(), Duration::from_micros(age));
            let stamps = Stamps { begun: stamps.0, stored: stamps.1, came_by: stamps.2 };
            let value = read(&written(&entry, ELAPSED, stamps, token)).expect("it is whole");
            prop_assert_eq!((value.stamps, value.token), (stamps, token));
            let record = value.record;
            prop_assert_eq!((record.key, record.lifetime, record.outdated), (*entry.key(), entry.lifetime(), false));
            prop_assert_eq!(record.age, Duration::from_micros(age));
            let read = record.content;
            prop_assert_eq!((read.kind, read.body, read.evidence), (content.kind, content.body, content.evidence));
            prop_assert_eq!((read.refreshed_at, read.data_age), (content.refreshed_at, content.data_age));
        }

        #[test]
        fn any_flipped_bit_and_any_missing_byte_is_a_miss(content in content(), bit in any::<prop::sample::Index>()) {
            let mut value = written(&entry(content, Duration::ZERO), ELAPSED, STAMPS, Some(3));
            prop_assert!(read(&value[..value.len() - 1]).is_none());
            let bit = bit.index(value.len() * 8);
            value[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(read(&value).is_none());
        }

        #[test]
        fn whatever_the_bytes_are_nothing_panics(mut value in prop::collection::vec(any::<u8>(), 0..300)) {
            read(&value);
            let sum = Sha256::digest(&value);
            value.extend_from_slice(&sum);
            read(&value);
        }

        #[test]
        fn times_sort_as_they_are_compared(one in any::<i64>(), other in any::<i64>()) {
            let at = |nanosecond: i64| {
                let refreshed_at = Some(jiff::Timestamp::from_nanosecond(nanosecond.into()).expect("a time"));
                refreshed(&entry(Content { refreshed_at, ..Content::missing("x".into()) }, Duration::ZERO))
            };
            prop_assert_eq!(one.cmp(&other), at(one).cmp(&at(other)));
        }
    }

    #[test]
    fn a_copy_of_a_newer_version_is_a_miss() {
        let mut value = written(&entry(Content::missing("x".into()), Duration::ZERO), ELAPSED, STAMPS, None);
        assert!(read(&value).is_some());
        value[3] = b'2';
        let whole = value.len() - SUM;
        let sum = Sha256::digest(&value[..whole]);
        value[whole..].copy_from_slice(&sum);
        assert!(read(&value).is_none(), "its checksum is right");
    }
}
