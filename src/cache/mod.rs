//! What is remembered of the numbers: copies of answers, lists, and which calls were paid for.
//!
//! Copies live in a table of our own, bounded by their weight (`store`); what is small beside them lives in moka, bounded by its count.
//! Freshness is judged by `policy` on ages that come from the gateway's own clock. moka's `get_with` is not used: what fills the
//! cache may cost money and has its own single flight.

mod calls;
mod config;
mod entry;
mod failures;
mod lists;
#[cfg(test)]
mod model;
mod moments;
mod record;
mod snapshot;
mod store;
mod sweep;
mod tier;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use moka::policy::EvictionPolicy;
use moka::sync::Cache as Moka;
use strum::{IntoStaticStr, VariantArray};

pub use calls::{Call, Calls, PaidCalls};
pub use config::{Config, Overrides};
pub use entry::{Content, Entry, Evidence};
pub use failures::FailedLooks;
pub use lists::{ListKey, Lists};
pub use moments::Scope;
pub use snapshot::Unread;
pub use tier::{Asked, Change as SharedChange, Degraded, OnTier, Ruling, Tier, Told};

use moments::{Fate, Moments};
use store::{Change, Store};

use crate::policy::decide::Kind;
use crate::policy::entitlement::Partition;
use crate::telnyx::{EnterpriseId, PhoneNumber};

/// Whose copy of which number. Simplified and scoped paths meet here: the enterprise is always known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// Who may read it.
    pub partition: Partition,
    /// The enterprise.
    pub enterprise: EnterpriseId,
    /// The number.
    pub number: PhoneNumber,
}

/// Told of every copy that leaves.
pub type OnEviction = Arc<dyn Fn(Eviction) + Send + Sync>;

/// Why a copy left without having been replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum Eviction {
    /// For want of room.
    Size,
    /// It was too old to be served even in place of an error.
    Expired,
}

impl Eviction {
    /// All of them.
    pub const ALL: &[Self] = Self::VARIANTS;

    /// The word in metrics.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// Numbers for which it is remembered when their copies were outdated. It matters as long as a fetch takes.
const OUTDATED: u64 = 100_000;

/// The copies.
#[derive(Clone)]
pub struct Cache {
    entries: Arc<Store>,
    /// When a number's copies were last outdated (monotonic), for fetches that were under way then.
    outdated: Moka<Key, Duration>,
    /// When copies were purged, or all of an enterprise forgotten, whoever may read them.
    moments: Moments,
    lifetimes: Arc<ArcSwap<Lifetimes>>,
}

/// How long copies made from now on are fresh. Those that are kept already stay so for as long as they were to.
#[derive(Debug)]
struct Lifetimes {
    config: Config,
    /// Of enterprises with lifetimes of their own.
    configs: HashMap<EnterpriseId, Config>,
}

impl Lifetimes {
    fn of(&self, key: &Key) -> &Config {
        self.configs.get(&key.enterprise).unwrap_or(&self.config)
    }

    fn longest(&self) -> Duration {
        self.configs.values().map(Config::longest_life).fold(self.config.longest_life(), Duration::max)
    }
}

impl Cache {
    /// An empty cache. `configs`: of enterprises with lifetimes of their own.
    pub fn new(config: &Config, configs: HashMap<EnterpriseId, Config>, on_eviction: OnEviction) -> Self {
        let lifetimes = Lifetimes { config: config.clone(), configs };
        let entries = Arc::new(Store::new(config.max_size.0 as u64, lifetimes.longest(), on_eviction));
        let outdated = Moka::builder().max_capacity(OUTDATED).eviction_policy(EvictionPolicy::lru()).build();
        Self { entries, outdated, moments: Moments::default(), lifetimes: Arc::new(ArcSwap::from_pointee(lifetimes)) }
    }

    /// Makes copies from now on with these lifetimes; `configs`: of enterprises with lifetimes of their own. How much is kept stays as it is.
    pub fn renew(&self, config: &Config, configs: HashMap<EnterpriseId, Config>) {
        let lifetimes = Lifetimes { config: config.clone(), configs };
        self.entries.live(lifetimes.longest());
        self.lifetimes.store(Arc::new(lifetimes));
    }

    /// The copy of an answer, fresh or not, unless it is too old to be served in any way.
    pub fn get(&self, key: &Key) -> Option<Entry> {
        self.as_it_stands(self.entries.get(key)?)
    }

    /// What moments have left of a copy.
    fn as_it_stands(&self, kept: Entry) -> Option<Entry> {
        match self.fate(&kept) {
            Fate::Stands => Some(kept),
            Fate::Outdated(since) => Some(kept.outdated(since)),
            Fate::Gone => None,
        }
    }

    fn fate(&self, entry: &Entry) -> Fate {
        self.moments.fate(entry.key().enterprise, entry.key().number, entry.begun())
    }

    fn lifetimes(&self) -> Arc<Lifetimes> {
        self.lifetimes.load_full()
    }

    /// Makes an entry of an answer that was asked for at `begun` and came at `stored` (monotonic). It is not kept yet.
    pub fn entry(&self, key: &Key, content: Content, begun: Duration, stored: Duration) -> Entry {
        let lifetime = self.lifetimes.load().of(key).lifetime(content.kind, key);
        Entry::new(key, content, begun, stored, lifetime)
    }

    /// Keeps an entry, unless something newer is kept already, or may be at Telnyx. Whether it is kept.
    pub fn keep(&self, entry: &Entry) -> bool {
        self.keep_from(entry, entry.begun())
    }

    /// The same for one whose answer was asked for at `begun` (monotonic), and of which it is known that it stood when it was asked for itself.
    fn keep_from(&self, entry: &Entry, begun: Duration) -> bool {
        let mut is_kept = true;
        let mut refuse = || {
            is_kept = false;
            Change::Nothing
        };
        self.entries.change(entry.key(), |kept| match kept {
            _ if self.outdated.get(entry.key()).is_some_and(|outdated| entry.begun() < outdated) => refuse(),
            _ if self.fate(entry) != Fate::Stands => refuse(),
            // A copy that was purged gives way to whatever was asked for since.
            Some(kept) if self.fate(kept) == Fate::Stands && kept.outdates(entry, begun) => refuse(),
            _ => Change::Put(entry.clone()),
        });
        is_kept
    }

    /// Telnyx may have something newer from `now` on (monotonic): the copy is not fresh any more, and no fetch that began before
    /// makes one that is.
    pub fn outdate(&self, key: Key, now: Duration) {
        // First of all, so that a fetch which is kept after the copy was marked has seen it.
        self.outdated.insert(key, now);
        self.entries.change(&key, |kept| kept.map_or(Change::Nothing, |kept| Change::Put(kept.outdated(now))));
    }

    /// What is known of the number is not true any more from `now` on (monotonic): the copy goes, and no fetch that began before makes one.
    pub fn forget(&self, key: &Key, now: Duration) {
        self.outdated.insert(*key, now);
        self.entries.change(key, |_| Change::Remove);
    }

    /// The same for all numbers of an enterprise. Their copies stay in memory until there is no room for them, and are not served.
    pub fn forget_enterprise(&self, enterprise: EnterpriseId, now: Duration) {
        self.forget_scope(Scope::Enterprise(enterprise), now);
    }

    /// The same for any scope.
    pub fn forget_scope(&self, scope: Scope, now: Duration) {
        self.moments.forget(scope, now);
    }

    /// A scope's copies are outdated from `now` on (monotonic), and so is whatever a fetch that began before brings.
    pub fn purge_softly(&self, scope: Scope, now: Duration) {
        self.moments.outdate(scope, now);
    }

    /// A scope's copies go at `now` (monotonic), and so does whatever a fetch that began before brings. Their memory is given back here,
    /// which takes a walk over all copies.
    pub fn purge_hard(&self, scope: Scope, now: Duration) {
        self.forget_scope(scope, now);
        self.entries.retain(|entry| !scope.includes(entry.key()) || self.fate(entry) != Fate::Gone);
    }

    /// All copies, as they stand, in no order. What is kept meanwhile may be missing.
    pub fn copies(&self) -> impl Iterator<Item = Entry> {
        self.entries.iter().filter_map(|kept| self.as_it_stands(kept))
    }

    /// Gives back the memory of some copies that are, at `now` (monotonic), too old to be served in any way. Storing does so too; this is
    /// for when nothing is stored, and has seen them all when it was called 32 times.
    pub fn expire(&self, now: Duration) {
        self.entries.expire(now);
    }

    /// How many copies there are, and how many bytes they count for.
    pub fn size(&self) -> (u64, u64) {
        self.entries.size()
    }
}

impl std::fmt::Debug for Cache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cache").field("lifetimes", &self.lifetimes).finish_non_exhaustive()
    }
}

impl Config {
    fn lifetime(&self, kind: Kind, key: &Key) -> Duration {
        let ttl = match kind {
            Kind::Data => self.ttl,
            Kind::Null => self.null_ttl,
            Kind::Missing => self.negative_ttl,
        };
        self.jittered(ttl.0, key)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::telnyx::record::Reputation;

    const SECOND: Duration = Duration::from_secs(1);

    fn cache() -> Cache {
        Cache::new(&Config::default(), HashMap::new(), Arc::new(|_| {}))
    }

    fn key() -> Key {
        let enterprise = "6a09cdc3-8948-47f0-aa62-74ac943d6c58".parse().expect("a UUID");
        Key { partition: Partition::SHARED, enterprise, number: "+16035551234".parse().expect("E.164") }
    }

    fn store(cache: &Cache, content: Content, begun: Duration, stored: Duration) {
        let entry = cache.entry(&key(), content, begun, stored);
        cache.keep(&entry);
    }

    fn data(refreshed_at: &str, body: &'static str) -> Content {
        let reputation = Reputation::Stored(Some(refreshed_at.parse().expect("a time")));
        Content::record(reputation, body.into(), None)
    }

    #[test]
    fn newer_data_is_not_overwritten_by_older() {
        let cache = cache();
        store(&cache, data("2026-03-02T00:00:00Z", "new"), SECOND, 2 * SECOND);
        store(&cache, data("2026-03-01T00:00:00Z", "old"), 3 * SECOND, 4 * SECOND);
        assert_eq!(cache.get(&key()).expect("kept").body(), b"new");
        store(&cache, data("2026-03-03T00:00:00Z", "newer"), 3 * SECOND, 4 * SECOND);
        assert_eq!(cache.get(&key()).expect("kept").body(), b"newer");
    }

    #[test]
    fn an_absence_that_was_seen_before_the_data_came_does_not_replace_it() {
        let cache = cache();
        store(&cache, data("2026-03-02T00:00:00Z", "new"), SECOND, 3 * SECOND);
        store(&cache, Content::missing("gone".into()), 2 * SECOND, 4 * SECOND);
        assert_eq!(cache.get(&key()).expect("kept").body(), b"new");
        store(&cache, Content::missing("gone".into()), 4 * SECOND, 5 * SECOND);
        assert_eq!(cache.get(&key()).expect("kept").body(), b"gone");
    }

    #[test]
    fn an_outdated_copy_is_not_fresh_and_a_fetch_begun_before_does_not_make_it_so() {
        let cache = cache();
        store(&cache, data("2026-03-02T00:00:00Z", "old"), SECOND, SECOND);
        cache.outdate(key(), 3 * SECOND);
        let facts = || cache.get(&key()).expect("kept").facts(4 * SECOND);
        assert!(facts().outdated && facts().age > facts().lifetime);
        store(&cache, data("2026-03-02T00:00:00Z", "same"), 2 * SECOND, 4 * SECOND);
        assert!(facts().outdated, "that fetch may have seen what was there before");
        store(&cache, data("2026-03-02T00:00:00Z", "same"), 3 * SECOND, 4 * SECOND);
        assert!(!facts().outdated);
    }

    #[test]
    fn a_fetch_begun_before_stores_nothing_also_where_there_was_no_copy() {
        let cache = cache();
        cache.outdate(key(), 3 * SECOND);
        store(&cache, data("2026-03-02T00:00:00Z", "old"), 2 * SECOND, 4 * SECOND);
        assert!(cache.get(&key()).is_none());
    }

    #[test]
    fn what_was_forgotten_is_gone_and_a_fetch_begun_before_does_not_bring_it_back() {
        let cache = cache();
        for (forgotten, forget) in
            [(10, &(|now| cache.forget(&key(), now)) as &dyn Fn(Duration)), (20, &|now| cache.forget_enterprise(key().enterprise, now))]
        {
            let at = |second: u32| (forgotten + second) * SECOND;
            store(&cache, data("2026-03-02T00:00:00Z", "old"), at(1), at(2));
            assert!(cache.get(&key()).is_some());
            forget(at(4));
            assert!(cache.get(&key()).is_none());
            store(&cache, data("2026-03-03T00:00:00Z", "late"), at(3), at(5));
            assert!(cache.get(&key()).is_none(), "that fetch may have seen what was there before");
            store(&cache, data("2026-03-01T00:00:00Z", "new"), at(5), at(6));
            assert_eq!(cache.get(&key()).expect("kept").body(), b"new", "whatever was there before");
        }
        let other = Key { enterprise: "11111111-2222-4333-8444-555555555555".parse().expect("a UUID"), ..key() };
        cache.forget_enterprise(other.enterprise, 40 * SECOND);
        assert!(cache.get(&key()).is_some(), "another enterprise's");
    }

    #[test]
    fn copies_are_bounded_by_their_weight_and_new_ones_are_let_in() {
        let config = Config { max_size: crate::units::ByteSize(64 * 1024), ..Config::default() };
        let evicted = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&evicted);
        let cache = Cache::new(&config, HashMap::new(), Arc::new(move |why| seen.lock().expect("unpoisoned").push(why)));
        for n in 0..1_000_u64 {
            let number = format!("+1202555{n:04}").parse().expect("E.164");
            let newest = Key { number, ..key() };
            let entry = cache.entry(&newest, data("2026-03-02T00:00:00Z", "x"), SECOND, SECOND);
            cache.keep(&entry);
            cache.size();
            assert!(cache.get(&newest).is_some(), "entry {n} was not let in");
        }
        let (entries, bytes) = cache.size();
        assert!(bytes <= 64 * 1024 && entries > 0, "{entries} entries of {bytes} bytes");
        let evicted = evicted.lock().expect("unpoisoned");
        assert!(evicted.iter().all(|why| *why == Eviction::Size));
        assert_eq!(entries + evicted.len() as u64, 1_000);
    }

    #[test]
    fn max_size_holds_after_many_threads_have_stored_replaced_and_read_at_once() {
        const THREADS: u64 = 8;
        let config = Config { max_size: crate::units::ByteSize(256 * 1024), ..Config::default() };
        let cache = Cache::new(&config, HashMap::new(), Arc::new(|_| {}));
        // Numbers overlap, and a body's length depends on who wrote it and when: a copy is replaced by longer and by shorter ones.
        let change = |thread: u64, round: u64, n: u64| {
            let key = Key { number: format!("+1202555{n:04}").parse().expect("E.164"), ..key() };
            let length = usize::try_from((n * 31 + thread * 517 + round * 1_033) % 2_000).expect("short");
            let at = SECOND * u32::try_from(round + 1).expect("few");
            let content = Content::record(Reputation::Stored(None), vec![b'x'; length].into(), None);
            let entry = cache.entry(&key, content, at, at);
            assert!(entry.weight() as usize > entry.body().len() && entry.body().len() == length);
            cache.keep(&entry);
            cache.get(&key)
        };
        std::thread::scope(|scope| {
            for thread in 0..THREADS {
                scope.spawn(move || (0..4).for_each(|round| (0..500).for_each(|n| drop(change(thread, round, (n + thread * 61) % 700)))));
            }
        });
        let (entries, counted) = cache.size();
        let kept: Vec<_> = cache.copies().map(|entry| u64::from(entry.weight())).collect();
        assert_eq!((entries, counted), (kept.len() as u64, kept.iter().sum()), "what is counted is what is there");
        assert!(counted <= 256 * 1024 && counted > 128 * 1024, "{counted} bytes");
    }
}
