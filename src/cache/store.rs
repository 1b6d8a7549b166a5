//! Where the copies are: a table in parts, each under a lock of its own, and all together bounded by the bytes that copies count for.
//!
//! A read takes its part's lock for a moment, to read, and writes nothing else that threads share but the copy's count of users. An entry
//! holds its key, so that a place in the table is one pointer.
//!
//! What leaves for want of room is told by the second chance: each part has a queue, and the first in it leaves, unless it was used since
//! it came there: then it loses its mark and goes to the end. A new copy has the mark, so nothing new leaves before what nobody uses.
//! So copies leave about as they came, and whole pages of memory with them. Were they picked from anywhere, as a hand over the table's
//! places does, half of it would stay as holes between the others.
//! What is too old goes by a hand over the places, which moves a little with every change, and with every [`Store::expire`].

use std::collections::{HashSet, VecDeque};
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use foldhash::quality::RandomState;
use hashbrown::HashTable;
use hashbrown::hash_table::{Entry as Place, OccupiedEntry};

use super::moments::nanos;
use super::{Entry, Eviction, Key, OnEviction};

/// Parts of the table, one for each value of a byte: so many that two threads hardly ever want the same one, unless for the same number.
const PARTS: usize = 256;
/// Marks that one change takes away in its search for room; then a copy goes though it was used.
const PATIENCE: usize = 256;
/// Places that a change looks at for what is too old.
const PLACES: usize = 4;
/// Parts that [`Store::expire`] looks at.
const SWEPT: usize = 8;
/// So many nanoseconds later it has to be before the table takes notice of the time.
const TICK: u64 = 1_000_000_000;

/// What becomes of a key's copy.
pub(super) enum Change {
    /// It stays, or none comes.
    Nothing,
    /// This takes its place.
    Put(Entry),
    /// It goes.
    Remove,
}

/// The copies.
pub(super) struct Store {
    parts: Box<[Part]>,
    hasher: RandomState,
    /// The bound, in bytes.
    room: u64,
    /// How long a copy stays at most.
    /// No copy is of use that is older, in nanoseconds. It only grows, since a copy may be from when it was longer.
    life: AtomicU64,
    /// What came before this (monotonic, in nanoseconds) is too old, by the latest time that the table was told.
    oldest: AtomicU64,
    on_eviction: OnEviction,
    totals: Apart<Totals>,
}

/// On cache lines of its own: writing to it keeps nobody from reading what is beside it.
#[repr(align(128))]
#[derive(Default)]
struct Apart<T>(T);

type Part = Apart<RwLock<Table>>;

/// What is counted of all parts, and where each round over them is.
#[derive(Default)]
struct Totals {
    entries: AtomicU64,
    bytes: AtomicU64,
    evicting: AtomicUsize,
    sweeping: AtomicUsize,
}

#[derive(Default)]
struct Table {
    entries: HashTable<Entry>,
    /// The hashes of their keys, those that leave first in front; and of some that left otherwise.
    queue: VecDeque<u64>,
    /// The hand that looks for what is too old.
    hand: usize,
}

impl Store {
    /// No copies yet, and room for so many bytes of them. `on_eviction` is told of all that leave on their own.
    pub(super) fn new(room: u64, life: Duration, on_eviction: OnEviction) -> Self {
        let parts = (0..PARTS).map(|_| Part::default()).collect();
        Self {
            parts,
            hasher: RandomState::default(),
            room,
            life: AtomicU64::new(nanos(life)),
            oldest: AtomicU64::new(0),
            on_eviction,
            totals: Apart::default(),
        }
    }

    /// Copies are of use for at least so long.
    pub(super) fn live(&self, life: Duration) {
        self.life.fetch_max(nanos(life), Ordering::Relaxed);
    }

    /// The key's copy, unless it is too old.
    pub(super) fn get(&self, key: &Key) -> Option<Entry> {
        let hash = self.hasher.hash_one(key);
        let entry = read(self.part(hash)).entries.find(hash, |entry| entry.key() == key)?.clone();
        entry.mark_used();
        (!entry.came_before(self.oldest())).then_some(entry)
    }

    /// Changes what is kept of a key; nobody else changes it meanwhile. Tells what was there before, if it is not there any more.
    pub(super) fn change(&self, key: &Key, decide: impl FnOnce(Option<&Entry>) -> Change) -> Option<Entry> {
        let hash = self.hasher.hash_one(key);
        let mut table = write(self.part(hash));
        let oldest = self.oldest();
        let kept = table.entries.find(hash, |entry| entry.key() == key).filter(|entry| !entry.came_before(oldest));
        let (former, newest) = match decide(kept) {
            Change::Nothing => return None,
            Change::Put(entry) => (self.put(&mut table, hash, entry.clone()), Some(entry)),
            Change::Remove => (self.take(&mut table, hash, key), None),
        };
        let expired = self.take_expired(&mut table, oldest, PLACES);
        drop(table);
        self.tell(Eviction::Expired, expired.len());
        if let Some(newest) = newest {
            self.learn(newest.stored());
            self.make_room(&newest);
        }
        former
    }

    /// Keeps what is to be kept of all copies. Each part is locked while it is looked at.
    pub(super) fn retain(&self, mut keep: impl FnMut(&Entry) -> bool) {
        for part in &self.parts {
            let mut table = write(part);
            // Their memory is given back when nobody waits for it any more.
            let gone: Vec<Entry> = table.entries.extract_if(|entry| !keep(entry)).collect();
            for entry in &gone {
                self.count_out(entry);
            }
            self.shrink(&mut table);
            drop(table);
        }
    }

    /// All copies, in no order. What comes meanwhile may be missing.
    pub(super) fn iter(&self) -> impl Iterator<Item = Entry> {
        let oldest = self.oldest();
        self.parts
            .iter()
            .flat_map(|part| read(part).entries.iter().cloned().collect::<Vec<_>>())
            .filter(move |entry| !entry.came_before(oldest))
    }

    /// How many copies there are, and the bytes that they count for.
    pub(super) fn size(&self) -> (u64, u64) {
        let Totals { entries, bytes, .. } = &self.totals.0;
        (entries.load(Ordering::Relaxed), bytes.load(Ordering::Relaxed))
    }

    /// It is `now` (monotonic): gives back some of what is too old; all of it, when called [`PARTS`] / [`SWEPT`] times.
    pub(super) fn expire(&self, now: Duration) {
        self.learn(now);
        for _ in 0..SWEPT {
            let mut table = write(self.next(&self.totals.0.sweeping));
            let all = table.entries.num_buckets();
            let expired = self.take_expired(&mut table, self.oldest(), all);
            if !expired.is_empty() {
                self.shrink(&mut table);
            }
            drop(table);
            self.tell(Eviction::Expired, expired.len());
        }
    }

    fn put(&self, table: &mut Table, hash: u64, entry: Entry) -> Option<Entry> {
        self.totals.0.entries.fetch_add(1, Ordering::Relaxed);
        self.totals.0.bytes.fetch_add(entry.weight().into(), Ordering::Relaxed);
        let former = match table.entries.entry(hash, |other| other.key() == entry.key(), |other| self.hash(other)) {
            Place::Occupied(mut place) => Some(std::mem::replace(place.get_mut(), entry)),
            Place::Vacant(place) => {
                place.insert(entry);
                table.queue.push_back(hash);
                self.drop_traces(table);
                None
            }
        };
        former.inspect(|former| self.count_out(former))
    }

    fn take(&self, table: &mut Table, hash: u64, key: &Key) -> Option<Entry> {
        let (entry, _) = table.entries.find_entry(hash, |entry| entry.key() == key).ok()?.remove();
        self.count_out(&entry);
        Some(entry)
    }

    /// Lets others leave until `newest` has room; it leaves itself, if it has none alone.
    fn make_room(&self, newest: &Entry) {
        if u64::from(newest.weight()) > self.room {
            let hash = self.hasher.hash_one(newest.key());
            let taken = self.take(&mut write(self.part(hash)), hash, newest.key());
            return self.tell(Eviction::Size, usize::from(taken.is_some()));
        }
        let mut patience = PATIENCE;
        while self.totals.0.bytes.load(Ordering::Relaxed) > self.room {
            let oldest = self.oldest();
            let mut table = write(self.next(&self.totals.0.evicting));
            let evicted = self.evict(&mut table, newest, oldest, &mut patience);
            drop(table);
            if let Some(entry) = evicted {
                self.tell(if entry.came_before(oldest) { Eviction::Expired } else { Eviction::Size }, 1);
            }
        }
    }

    /// The first in the queue that was not used since it came there, or is too old; once patience is at its end, the first. Never `newest`.
    fn evict(&self, table: &mut Table, newest: &Entry, oldest: u64, patience: &mut usize) -> Option<Entry> {
        for _ in 0..table.queue.len() {
            let hash = table.queue.pop_front()?;
            let Ok(place) = table.entries.find_entry(hash, |entry| self.hash(entry) == hash) else { continue };
            let entry = place.get();
            let is_used = *patience > 0 && !entry.came_before(oldest) && entry.take_mark();
            if is_used || entry.is_same(newest) {
                *patience -= usize::from(is_used);
                table.queue.push_back(hash);
                continue;
            }
            let (entry, _) = place.remove();
            self.count_out(&entry);
            return Some(entry);
        }
        None
    }

    /// Drops from the queue what left otherwise, and what came again since, once that is the most of it.
    fn drop_traces(&self, table: &mut Table) {
        let Table { entries, queue, .. } = table;
        if queue.len() > 2 * entries.len() + 16 {
            let mut seen = HashSet::with_capacity(entries.len());
            queue.retain(|hash| entries.find(*hash, |entry| self.hash(entry) == *hash).is_some() && seen.insert(*hash));
            queue.shrink_to_fit();
        }
    }

    fn hash(&self, entry: &Entry) -> u64 {
        self.hasher.hash_one(entry.key())
    }

    fn take_expired(&self, table: &mut Table, oldest: u64, places: usize) -> Vec<Entry> {
        let expired = if oldest == 0 { Vec::new() } else { table.expired(oldest, places) };
        for entry in &expired {
            self.count_out(entry);
        }
        expired
    }

    /// Counts one that left; its part is still locked, so that it was counted before.
    fn count_out(&self, entry: &Entry) {
        self.totals.0.entries.fetch_sub(1, Ordering::Relaxed);
        self.totals.0.bytes.fetch_sub(entry.weight().into(), Ordering::Relaxed);
    }

    /// Gives back the places of many that left.
    fn shrink(&self, table: &mut Table) {
        if table.entries.len() < table.entries.capacity() / 4 {
            table.entries.shrink_to(0, |entry| self.hash(entry));
        }
        self.drop_traces(table);
    }

    fn tell(&self, why: Eviction, count: usize) {
        (0..count).for_each(|_| (self.on_eviction)(why));
    }

    fn learn(&self, now: Duration) {
        let oldest = nanos(now).saturating_sub(self.life.load(Ordering::Relaxed));
        if oldest >= self.oldest().saturating_add(TICK) {
            self.oldest.fetch_max(oldest, Ordering::Relaxed);
        }
    }

    fn oldest(&self) -> u64 {
        self.oldest.load(Ordering::Relaxed)
    }

    /// The table takes its places by the lowest bits of a hash, and tells them apart by the highest.
    fn part(&self, hash: u64) -> &Part {
        &self.parts[usize::from(hash.to_le_bytes()[5])]
    }

    fn next(&self, round: &AtomicUsize) -> &Part {
        &self.parts[round.fetch_add(1, Ordering::Relaxed) % PARTS]
    }
}

impl Table {
    /// Takes what came before `oldest` out of the next so many places.
    fn expired(&mut self, oldest: u64, places: usize) -> Vec<Entry> {
        let mut expired = Vec::new();
        for _ in 0..places {
            expired.extend(
                next(&mut self.entries, &mut self.hand).filter(|place| place.get().came_before(oldest)).map(|place| place.remove().0),
            );
        }
        expired
    }
}

/// Moves a hand by one, and tells what is there.
fn next<'t>(entries: &'t mut HashTable<Entry>, hand: &mut usize) -> Option<OccupiedEntry<'t, Entry>> {
    *hand = (*hand + 1) % entries.num_buckets();
    entries.get_bucket_entry(*hand).ok()
}

fn read(part: &Part) -> RwLockReadGuard<'_, Table> {
    part.0.read().unwrap_or_else(PoisonError::into_inner)
}

fn write(part: &Part) -> RwLockWriteGuard<'_, Table> {
    part.0.write().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::cache::Content;
    use crate::policy::entitlement::Partition;

    const SECOND: Duration = Duration::from_secs(1);
    const LIFE: Duration = Duration::from_hours(1);

    /// A table with room for so many bytes, and what it told.
    fn store(room: u64) -> (Store, Arc<Mutex<Vec<Eviction>>>) {
        let told = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&told);
        (Store::new(room, LIFE, Arc::new(move |why| seen.lock().expect("unpoisoned").push(why))), told)
    }

    fn key(n: u64) -> Key {
        let enterprise = "6a09cdc3-8948-47f0-aa62-74ac943d6c58".parse().expect("a UUID");
        Key { partition: Partition::SHARED, enterprise, number: format!("+{}", 12_025_550_000 + n).parse().expect("E.164") }
    }

    fn entry(n: u64, at: Duration) -> Entry {
        Entry::new(&key(n), Content::missing("gone".into()), at, at, LIFE)
    }

    fn put(store: &Store, n: u64, at: Duration) {
        store.change(&key(n), |_| Change::Put(entry(n, at)));
    }

    fn weight() -> u64 {
        entry(0, SECOND).weight().into()
    }

    fn told(told: &Mutex<Vec<Eviction>>, why: Eviction) -> usize {
        told.lock().expect("unpoisoned").iter().filter(|told| **told == why).count()
    }

    #[test]
    fn what_is_read_now_and_then_stays_while_what_is_not_makes_room() {
        let (store, evictions) = store(1_000 * weight());
        (0..1_000).for_each(|n| put(&store, n, SECOND));
        assert_eq!((store.size(), told(&evictions, Eviction::Size)), ((1_000, 1_000 * weight()), 0), "all have room");
        let mut lost = 0;
        for n in 1_000..10_000 {
            put(&store, n, SECOND);
            // One in ten is read and, as long as all are as good as new, may have gone.
            let read = n % 100;
            if store.get(&key(read)).is_none() {
                lost += u32::from(n >= 2_000);
                put(&store, read, SECOND);
            }
        }
        assert_eq!((store.size(), lost), ((1_000, 1_000 * weight()), 0));
    }

    #[test]
    fn the_newest_stays_and_something_leaves_also_where_all_were_just_used() {
        let (store, _) = store(60 * weight());
        for n in 0..200_u64 {
            put(&store, n, SECOND);
            assert!(store.get(&key(n)).is_some(), "{n} was not let in");
            let used = (0..n).filter(|n| store.get(&key(*n)).is_some()).count() as u64;
            assert_eq!(used, n.min(59), "of those before {n}");
        }
    }

    #[test]
    fn what_is_larger_than_all_room_leaves_itself_and_takes_its_former_copy_along() {
        let (store, evictions) = store(weight());
        put(&store, 1, SECOND);
        let large = Entry::new(&key(1), Content::missing(vec![b'x'; 500].into()), SECOND, SECOND, LIFE);
        store.change(&key(1), |_| Change::Put(large));
        assert!(store.get(&key(1)).is_none(), "what it replaced is not true any more");
        assert_eq!((store.size(), told(&evictions, Eviction::Size)), ((0, 0), 1));
    }

    #[test]
    fn what_is_too_old_is_not_there_any_more_and_is_counted_once_its_memory_is_given_back() {
        let (store, evictions) = store(10_000 * weight());
        (0..1_000).for_each(|n| put(&store, n, SECOND));
        put(&store, 1_000, 30 * SECOND);
        store.expire(LIFE + SECOND);
        assert!((0..=1_000).all(|n| store.get(&key(n)).is_some()), "that old they may be");
        store.expire(LIFE + 20 * SECOND);
        assert!((0..1_000).all(|n| store.get(&key(n)).is_none()) && store.get(&key(1_000)).is_some());
        assert_eq!(store.iter().count(), 1);
        (0..PARTS / SWEPT).for_each(|_| store.expire(LIFE + 20 * SECOND));
        assert_eq!((store.size(), told(&evictions, Eviction::Expired)), ((1, weight()), 1_000));
    }

    #[test]
    fn storing_alone_gives_the_memory_of_what_is_too_old_back() {
        let (store, evictions) = store(100_000 * weight());
        (0..1_000).for_each(|n| put(&store, n, SECOND));
        (1_000..5_000).for_each(|n| put(&store, n, LIFE + 20 * SECOND));
        assert_eq!((store.size(), told(&evictions, Eviction::Expired)), ((4_000, 4_000 * weight()), 1_000));
    }

    #[test]
    fn places_in_the_table_are_given_back_with_what_was_in_them() {
        let (store, _) = store(u64::MAX);
        let places = || store.parts.iter().map(|part| read(part).entries.capacity() + read(part).queue.capacity()).sum::<usize>();
        (0..20_000).for_each(|n| put(&store, n, SECOND));
        assert!(places() >= 40_000);
        store.retain(|entry| entry.key().number == key(7).number);
        assert!(places() < 5_000 && store.get(&key(7)).is_some(), "{} places", places());
    }

    #[test]
    fn a_queue_is_not_longer_for_numbers_that_come_and_are_forgotten_all_the_time() {
        let (store, _) = store(u64::MAX);
        put(&store, 0, SECOND);
        for n in 0..100_000 {
            put(&store, 1 + n % 100, SECOND);
            store.change(&key(1 + n % 100), |_| Change::Remove);
        }
        let queued = store.parts.iter().map(|part| read(part).queue.len()).sum::<usize>();
        assert!(queued <= 20 * PARTS && store.size().0 == 1, "{queued} in the queues");
    }
}
