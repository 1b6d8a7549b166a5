//! The copies in a file, so that a restart begins with what was known before it, as old as it is.
//!
//! Only the part of the cache is written that all callers of the gateway's own key share. The file is made beside its place and put there
//! whole; what is read is believed only if all of it is, by its checksum, and nothing is kept before that is known. Ages go on over the
//! time between, by the wall clock: a copy is never younger than it was, and where that clock was set back it only stands in for an answer
//! that cannot be had.
//!
//! All numbers are little-endian. `magic` 8 bytes, `version` u32, `written` i128 (wall time in nanoseconds), then the records, then a length
//! of 0, `count` u64, and the SHA-256 of all before it. Before each record (`record.rs`) stands its length, u32.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use sha2::{Digest, Sha256};

use super::record::{self, FIXED, Record};
use super::store::Change;
use super::{Cache, Entry, Evidence, Key};
use crate::policy::entitlement::Partition;

const MAGIC: [u8; 8] = *b"rgwcache";
const VERSION: u32 = 1;
/// Twice what an answer of the upstream can have.
const LONGEST_RECORD: usize = 2 * 1024 * 1024;

/// What a snapshot holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// Copies.
    pub entries: u64,
    /// The file's size.
    pub bytes: u64,
}

/// What came of a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Restored {
    /// Copies that are there again.
    pub entries: usize,
    /// Whether the wall clock was set back since, so that none of them is fresh.
    pub clock_went_back: bool,
}

/// Why a file is not read.
#[derive(Debug, thiserror::Error)]
pub enum Unread {
    /// Something else is in it.
    #[error("it is no snapshot")]
    Foreign,
    /// Another program wrote it, most likely a newer one.
    #[error("it is of version {0}, and this program knows {VERSION}")]
    Version(u32),
    /// Some of it is missing or not as it was written.
    #[error("it is damaged")]
    Damaged,
    /// The system does not let it be read.
    #[error("it cannot be read: {0}")]
    Io(io::Error),
}

impl From<io::Error> for Unread {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::UnexpectedEof { Self::Damaged } else { Self::Io(error) }
    }
}

impl Cache {
    /// Writes the copies that can still be served into a file, which takes the place of the one at `path` at once and whole. `elapsed` is the
    /// monotonic time, and `now` the wall time. Takes as long as the disk does.
    pub fn write_snapshot(&self, path: &Path, now: Timestamp, elapsed: Duration) -> io::Result<Written> {
        let beside = beside(path);
        let written = self.write_beside(&beside, path, now, elapsed);
        if written.is_err() {
            // It may be what fills the disk. That it is not there is as good.
            let _removed = fs::remove_file(&beside);
        }
        written
    }

    fn write_beside(&self, beside: &Path, path: &Path, now: Timestamp, elapsed: Duration) -> io::Result<Written> {
        // One that a crash left; its permissions need not be ours.
        match fs::remove_file(beside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(beside)?;
        let mut summed = Summed::of(BufWriter::new(file));
        let entries = self.write_records(&mut summed, now, elapsed)?;
        let (sum, mut buffer) = (summed.sha.finalize(), summed.inner);
        buffer.write_all(&sum)?;
        let file = buffer.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.sync_all()?;
        let bytes = file.metadata()?.len();
        fs::rename(beside, path)?;
        // So that the name outlives a loss of power too.
        File::open(path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new(".")))?.sync_all()?;
        Ok(Written { entries, bytes })
    }

    fn write_records(&self, out: &mut impl Write, now: Timestamp, elapsed: Duration) -> io::Result<u64> {
        out.write_all(&MAGIC)?;
        out.write_all(&VERSION.to_le_bytes())?;
        out.write_all(&now.as_nanosecond().to_le_bytes())?;
        let (mut count, lifetimes) = (0_u64, self.lifetimes());
        for entry in self.copies() {
            let key = entry.key();
            let is_of_use = entry.age(elapsed) < lifetimes.of(key).longest_life() && entry.body().len() <= LONGEST_RECORD - FIXED;
            if key.partition == Partition::SHARED && is_of_use {
                write_record(out, &entry, elapsed)?;
                count += 1;
            }
        }
        out.write_all(&0_u32.to_le_bytes())?;
        out.write_all(&count.to_le_bytes())?;
        Ok(count)
    }

    /// Brings back the copies of a snapshot, each as old as it is by now. One of which `touched` tells a later moment (monotonic) may have been
    /// renewed at Telnyx since, and is outdated. None if there is no file.
    pub fn read_snapshot(
        &self,
        path: &Path,
        (now, elapsed): (Timestamp, Duration),
        touched: impl Fn(&Key) -> Option<Duration>,
    ) -> Result<Option<Restored>, Unread> {
        match fs::metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Unread::Io(error)),
            Ok(found) if !found.is_file() => return Err(Unread::Foreign),
            Ok(_) => {}
        }
        self.restore(BufReader::new(File::open(path)?), now, elapsed, touched).map(Some)
    }

    fn restore(
        &self,
        source: impl Read,
        now: Timestamp,
        elapsed: Duration,
        touched: impl Fn(&Key) -> Option<Duration>,
    ) -> Result<Restored, Unread> {
        let mut source = Summed::of(source);
        let written = head(&mut source)?;
        let since = Duration::try_from(now.duration_since(written));
        let (clock_went_back, gap) = (since.is_err(), since.unwrap_or_default());
        let (mut kept, mut weight, mut count, lifetimes) = (Vec::new(), 0, 0_u64, self.lifetimes());
        while let Some(record) = next_record(&mut source)? {
            count += 1;
            let Record { key, content, age, lifetime, outdated } = record;
            let age = age.saturating_add(gap);
            let config = lifetimes.of(&key);
            if age >= config.longest_life() || age > elapsed {
                continue;
            }
            let stored = elapsed.saturating_sub(age);
            let lifetime = lifetime.min(config.lifetime(content.kind, &key));
            let mut entry = Entry::new(&key, content, stored, stored, lifetime);
            if outdated || clock_went_back || touched(&key).is_some_and(|moment| moment > stored) {
                entry = entry.outdated(elapsed);
            }
            weight += u64::from(entry.weight());
            if weight > lifetimes.config.max_size.0 as u64 {
                // The rest is read for the checksum alone.
                continue;
            }
            kept.push(entry);
        }
        end(&mut source, count)?;
        let entries = kept.len();
        for entry in kept {
            self.entries.change(entry.key(), |_| Change::Put(entry.clone()));
        }
        Ok(Restored { entries, clock_went_back })
    }
}

/// Where a snapshot is made.
fn beside(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    path.with_file_name(name)
}

fn write_record(out: &mut impl Write, entry: &Entry, elapsed: Duration) -> io::Result<()> {
    let length = u32::try_from(FIXED + entry.body().len()).map_err(io::Error::other)?;
    out.write_all(&length.to_le_bytes())?;
    record::write(out, entry, elapsed)
}

/// Reads what stands before the records: when they were written.
fn head(source: &mut impl Read) -> Result<Timestamp, Unread> {
    let magic: [u8; 8] = bytes(source)?;
    if magic != MAGIC {
        return Err(Unread::Foreign);
    }
    match u32::from_le_bytes(bytes(source)?) {
        VERSION => Timestamp::from_nanosecond(i128::from_le_bytes(bytes(source)?)).map_err(|_| Unread::Damaged),
        other => Err(Unread::Version(other)),
    }
}

/// Reads one record; none at their end.
fn next_record(source: &mut impl Read) -> Result<Option<Record>, Unread> {
    let length = u32::from_le_bytes(bytes(source)?) as usize;
    if length == 0 {
        return Ok(None);
    }
    if !(FIXED..=LONGEST_RECORD).contains(&length) {
        return Err(Unread::Damaged);
    }
    let mut record = vec![0; length];
    source.read_exact(&mut record)?;
    record::read(&record, Evidence::Snapshot).map(Some).ok_or(Unread::Damaged)
}

/// Reads what stands after the records, and believes them or not.
fn end(source: &mut Summed<impl Read>, read: u64) -> Result<(), Unread> {
    let count = u64::from_le_bytes(bytes(source)?);
    let sum: [u8; 32] = source.sha.clone().finalize().into();
    let written: [u8; 32] = bytes(source)?;
    let is_over = source.read(&mut [0])? == 0;
    if count == read && sum == written && is_over { Ok(()) } else { Err(Unread::Damaged) }
}

fn bytes<const N: usize>(source: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    source.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// What passes is summed up.
struct Summed<T> {
    inner: T,
    sha: Sha256,
}

impl<T> Summed<T> {
    fn of(inner: T) -> Self {
        Self { inner, sha: Sha256::new() }
    }
}

impl<R: Read> Read for Summed<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(into)?;
        self.sha.update(&into[..read]);
        Ok(read)
    }
}

impl<W: Write> Write for Summed<W> {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(from)?;
        self.sha.update(&from[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::os::unix::fs::PermissionsExt;
    use std::sync::Arc;

    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::cache::{Config, Content};
    use crate::policy::decide::Copy;
    use crate::telnyx::record::Reputation;
    use crate::units::{ByteSize, Span};

    const SECOND: Duration = Duration::from_secs(1);
    const DAY: Duration = Duration::from_hours(24);
    /// Any moment of a process's clock.
    const ELAPSED: Duration = Duration::from_hours(9_000);

    fn ago(seconds: u64) -> Duration {
        ELAPSED.saturating_sub(Duration::from_secs(seconds))
    }

    fn cache() -> Cache {
        Cache::new(&Config::default(), HashMap::new(), Arc::new(|_| {}))
    }

    fn wall() -> Timestamp {
        "2026-03-24T12:00:00Z".parse().expect("a time")
    }

    fn key(n: u32) -> Key {
        let enterprise = "6a09cdc3-8948-47f0-aa62-74ac943d6c58".parse().expect("a UUID");
        Key { partition: Partition::SHARED, enterprise, number: format!("+1202555{n:04}").parse().expect("E.164") }
    }

    fn data(body: &str) -> Content {
        let reputation = Reputation::Stored(Some("2026-03-24T10:00:00.123456789Z".parse().expect("a time")));
        Content::record(reputation, Bytes::copy_from_slice(body.as_bytes()), Some(wall()))
    }

    /// One copy of each kind, of which the first is a minute old.
    fn filled() -> Cache {
        let cache = cache();
        for (n, content) in
            [data("data"), Content::record(Reputation::Null, "null".into(), None), Content::missing("gone".into())].into_iter().enumerate()
        {
            let key = key(u32::try_from(n).expect("few"));
            cache.keep(&cache.entry(&key, content, ago(60), ago(60)));
        }
        cache
    }

    fn file_of(cache: &Cache) -> Vec<u8> {
        let mut summed = Summed::of(Vec::new());
        cache.write_records(&mut summed, wall(), ELAPSED).expect("memory takes all");
        let sum = summed.sha.finalize();
        [summed.inner.as_slice(), sum.as_slice()].concat()
    }

    fn restored(file: &[u8], gap: Duration) -> (Cache, Result<Restored, Unread>) {
        let cache = cache();
        let restored = cache.restore(file, wall().checked_add(gap).expect("a time"), ELAPSED + gap, |_| None);
        (cache, restored)
    }

    fn facts(cache: &Cache, n: u32, elapsed: Duration) -> Option<Copy> {
        cache.get(&key(n)).map(|entry| entry.facts(elapsed))
    }

    #[test]
    fn what_is_read_is_what_was_written_and_older_by_the_time_between() {
        let (before, gap) = (filled(), 30 * SECOND);
        let (after, read) = restored(&file_of(&before), gap);
        assert_eq!(read.expect("whole"), Restored { entries: 3, clock_went_back: false });
        for n in 0..3 {
            let (was, is) = (before.get(&key(n)).expect("kept"), after.get(&key(n)).expect("restored"));
            assert_eq!((was.body(), was.etag(), was.last_modified()), (is.body(), is.etag(), is.last_modified()));
            assert_eq!(was.facts(ELAPSED + gap), is.facts(ELAPSED + gap));
        }
        assert_eq!(facts(&after, 0, ELAPSED + gap).expect("there").age, 90 * SECOND);
    }

    #[test]
    fn where_the_clock_was_set_back_nothing_is_fresh_or_younger_than_it_was() {
        let (file, cache) = (file_of(&filled()), cache());
        let back = cache.restore(&*file, wall().checked_sub(SECOND).expect("a time"), ELAPSED, |_| None).expect("whole");
        assert_eq!(back, Restored { entries: 3, clock_went_back: true });
        let copy = facts(&cache, 0, ELAPSED).expect("there");
        assert!(copy.outdated && copy.age == 60 * SECOND && copy.lifetime <= copy.age, "{copy:?}");
    }

    #[test]
    fn what_is_too_old_to_be_served_in_any_way_is_left_out() {
        let file = file_of(&filled());
        let (stale, read) = restored(&file, 3 * DAY);
        assert_eq!(read.expect("whole").entries, 3);
        let copy = facts(&stale, 0, ELAPSED + 3 * DAY).expect("there");
        assert!(copy.age > copy.lifetime, "{copy:?}");
        for gap in [8 * DAY, 4_000 * DAY] {
            assert_eq!(restored(&file, gap).1.expect("whole").entries, 0);
        }
    }

    #[test]
    fn what_was_forgotten_outdated_or_is_anothers_does_not_come_back_fresh() {
        let cache = filled();
        let (secret, other) = (Partition::of_digest(&[7; 32]), "11111111-2222-4333-8444-555555555555".parse().expect("a UUID"));
        for key in [Key { partition: secret, ..key(0) }, Key { enterprise: other, ..key(0) }] {
            cache.keep(&cache.entry(&key, data("x"), ago(1), ago(1)));
        }
        cache.forget(&key(1), ELAPSED);
        cache.forget_enterprise(other, ELAPSED);
        cache.outdate(key(0), ELAPSED);
        let (after, read) = restored(&file_of(&cache), SECOND);
        assert_eq!(read.expect("whole").entries, 2);
        assert!(after.get(&key(1)).is_none() && facts(&after, 0, ELAPSED + SECOND).expect("there").outdated);
    }

    #[test]
    fn a_copy_of_a_number_that_was_bought_since_is_outdated() {
        let (file, cache) = (file_of(&filled()), cache());
        let bought = |then: &Key| (*then == key(0)).then_some(ago(30));
        cache.restore(&*file, wall(), ELAPSED, bought).expect("whole");
        assert!(facts(&cache, 0, ELAPSED).expect("there").outdated && !facts(&cache, 1, ELAPSED).expect("there").outdated);
    }

    #[test]
    fn a_shorter_lifetime_holds_for_old_copies_too_and_so_does_less_room() {
        let file = file_of(&filled());
        let short = Cache::new(&Config { ttl: Span(30 * SECOND), ..Config::default() }, HashMap::new(), Arc::new(|_| {}));
        short.restore(&*file, wall(), ELAPSED, |_| None).expect("whole");
        assert!(facts(&short, 0, ELAPSED).expect("there").lifetime <= 30 * SECOND);
        let one = filled().get(&key(0)).expect("kept").weight() as usize;
        let narrow = Cache::new(&Config { max_size: ByteSize(one), ..Config::default() }, HashMap::new(), Arc::new(|_| {}));
        assert_eq!(narrow.restore(&*file, wall(), ELAPSED, |_| None).expect("whole").entries, 1);
    }

    #[test]
    fn what_is_no_snapshot_or_of_another_version_is_told_apart() {
        assert!(matches!(restored(b"SQLite format 3\0", SECOND).1, Err(Unread::Foreign)));
        assert!(matches!(restored(b"rgw", SECOND).1, Err(Unread::Damaged)));
        let mut newer = file_of(&filled());
        newer[8] = 2;
        assert!(matches!(restored(&newer, SECOND).1, Err(Unread::Version(2))));
    }

    #[test]
    fn the_file_is_the_owners_alone_and_takes_the_place_of_the_one_before() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("cache.snapshot");
        fs::write(beside(&path), "left by a crash").expect("writable");
        for _ in 0..2 {
            let written = filled().write_snapshot(&path, wall(), ELAPSED).expect("writable");
            assert_eq!((written.entries, written.bytes), (3, fs::metadata(&path).expect("there").len()));
        }
        assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(directory.path()).expect("a directory").count(), 1, "nothing is left beside it");
        let read = cache().read_snapshot(&path, (wall(), ELAPSED), |_| None).expect("whole");
        assert_eq!(read.expect("a file").entries, 3);
        assert!(cache().read_snapshot(&directory.path().join("none"), (wall(), ELAPSED), |_| None).expect("no fault").is_none());
        assert!(matches!(cache().read_snapshot(directory.path(), (wall(), ELAPSED), |_| None), Err(Unread::Foreign)));
    }

    proptest! {
        #[test]
        fn whatever_the_bytes_are_nothing_panics(tail in proptest::collection::vec(any::<u8>(), 0..300), is_ours in any::<bool>()) {
            let head = [&MAGIC[..], &VERSION.to_le_bytes(), &wall().as_nanosecond().to_le_bytes()].concat();
            let file = if is_ours { [head, tail].concat() } else { tail };
            let (cache, read) = restored(&file, SECOND);
            prop_assert!(read.is_err() && cache.size().0 == 0);
        }

        #[test]
        fn a_file_with_one_byte_changed_or_missing_brings_nothing_back(at in any::<prop::sample::Index>(), bits in 1..=255_u8, is_cut in any::<bool>()) {
            let mut file = file_of(&filled());
            let at = at.index(file.len());
            if is_cut { file.truncate(at) } else { file[at] ^= bits }
            let (cache, read) = restored(&file, SECOND);
            prop_assert!(read.is_err() && cache.size().0 == 0);
        }

        #[test]
        fn a_hostile_record_with_a_right_checksum_does_not_panic(record in proptest::collection::vec(any::<u8>(), FIXED..200), gap in any::<u32>()) {
            let mut summed = Summed::of(Vec::new());
            let length = u32::try_from(record.len()).expect("short").to_le_bytes();
            for part in [&MAGIC[..], &VERSION.to_le_bytes(), &wall().as_nanosecond().to_le_bytes(), &length, &record, &[0; 4], &1_u64.to_le_bytes()] {
                summed.write_all(part).expect("memory takes all");
            }
            let sum = summed.sha.finalize();
            let file = [summed.inner.as_slice(), sum.as_slice()].concat();
            let (cache, _) = restored(&file, Duration::from_secs(u64::from(gap)));
            for entry in cache.copies() {
                entry.facts(ELAPSED + Duration::from_secs(u64::from(gap)));
            }
        }
    }
}
