//! A copy as bytes, in a snapshot and in what gateways share.
//!
//! All numbers are little-endian. A record: `enterprise` u128, `number` u64, `kind` u8, `outdated` u8, `age` u64 and `lifetime` u64 in
//! nanoseconds, `data_age` u64 (all ones: none), `refreshed_at` i128 (the least: none), the body.

use std::io::{self, Write};
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;

use super::{Content, Entry, Evidence, Key};
use crate::policy::decide::Kind;
use crate::policy::entitlement::Partition;
use crate::telnyx::EnterpriseId;

/// A record without its body.
pub(super) const FIXED: usize = 66;
const NO_AGE: u64 = u64::MAX;
const NO_TIME: i128 = i128::MIN;

/// What was written of a copy.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) key: Key,
    pub(super) content: Content,
    pub(super) age: Duration,
    pub(super) lifetime: Duration,
    pub(super) outdated: bool,
}

/// Writes a copy as it is at `elapsed` (monotonic).
pub(super) fn write(out: &mut impl Write, entry: &Entry, elapsed: Duration) -> io::Result<()> {
    let kind: u8 = match entry.kind() {
        Kind::Data => 0,
        Kind::Null => 1,
        Kind::Missing => 2,
    };
    out.write_all(&entry.key().enterprise.as_u128().to_le_bytes())?;
    out.write_all(&entry.key().number.digits().to_le_bytes())?;
    out.write_all(&[kind, u8::from(entry.is_outdated())])?;
    out.write_all(&nanos(entry.age(elapsed)).to_le_bytes())?;
    out.write_all(&nanos(entry.lifetime()).to_le_bytes())?;
    out.write_all(&entry.data_age().map_or(NO_AGE, nanos).to_le_bytes())?;
    out.write_all(&entry.refreshed_at().map_or(NO_TIME, Timestamp::as_nanosecond).to_le_bytes())?;
    out.write_all(entry.body())
}

/// Reads a record, all of it; none, if it is not one.
pub(super) fn read(mut record: &[u8], evidence: Evidence) -> Option<Record> {
    let source = &mut record;
    let enterprise = EnterpriseId::from_u128(u128::from_le_bytes(bytes(source)?));
    let number = format!("+{}", u64::from_le_bytes(bytes(source)?)).parse().ok()?;
    let (kind, outdated) = match bytes(source)? {
        [0, outdated] => (Kind::Data, outdated),
        [1, outdated] => (Kind::Null, outdated),
        [2, outdated] => (Kind::Missing, outdated),
        _ => return None,
    };
    let age = u64::from_le_bytes(bytes(source)?);
    let lifetime = u64::from_le_bytes(bytes(source)?);
    let data_age = u64::from_le_bytes(bytes(source)?);
    let refreshed_at = match i128::from_le_bytes(bytes(source)?) {
        NO_TIME => None,
        nanosecond => Some(Timestamp::from_nanosecond(nanosecond).ok()?),
    };
    let data_age = (data_age != NO_AGE).then(|| Duration::from_nanos(data_age));
    Some(Record {
        key: Key { partition: Partition::SHARED, enterprise, number },
        content: Content { kind, body: Bytes::copy_from_slice(source), refreshed_at, data_age, evidence },
        age: Duration::from_nanos(age),
        lifetime: Duration::from_nanos(lifetime),
        outdated: outdated != 0,
    })
}

/// Less than what stands for none.
fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(NO_AGE).min(NO_AGE - 1)
}

fn bytes<const N: usize>(source: &mut &[u8]) -> Option<[u8; N]> {
    let (bytes, rest) = source.split_first_chunk()?;
    *source = rest;
    Some(*bytes)
}
