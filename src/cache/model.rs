//! The cache against a plain model of generations, whatever the order of fetches, purges and reads; and under threads.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use proptest::prelude::*;

use super::{Cache, Config, Content, Entry, Key, Scope};
use crate::policy::entitlement::Partition;
use crate::telnyx::EnterpriseId;
use crate::telnyx::record::Reputation;

/// Two readers' copies of two numbers of two enterprises.
fn key(n: usize) -> Key {
    let partition = if n & 1 == 0 { Partition::SHARED } else { Partition::of_digest(&[7; 32]) };
    Key { partition, enterprise: enterprise(n >> 1 & 1), number: format!("+1202555000{}", n >> 2 & 1).parse().expect("E.164") }
}

fn enterprise(n: usize) -> EnterpriseId {
    format!("6a09cdc3-8948-47f0-aa62-74ac943d6c5{n}").parse().expect("a UUID")
}

const KEYS: usize = 8;

/// What happens next. Keys and fetches are taken modulo how many there are.
#[derive(Clone, Copy, Debug)]
enum Step {
    Begin(usize),
    Land(usize),
    Soft(usize, Width),
    Hard(usize, Width),
    /// A call that brings no record may have renewed it.
    Outdate(usize),
    /// A write made it untrue.
    Forget(usize),
    ForgetEnterprise(usize),
}

#[derive(Clone, Copy, Debug)]
enum Width {
    Number,
    Enterprise,
    All,
}

impl Width {
    fn around(self, key: &Key) -> Scope {
        match self {
            Self::Number => Scope::Number(key.enterprise, key.number),
            Self::Enterprise => Scope::Enterprise(key.enterprise),
            Self::All => Scope::All,
        }
    }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let width = || prop_oneof![Just(Width::Number), Just(Width::Enterprise), Just(Width::All)];
    let step = prop_oneof![
        6 => (0..KEYS).prop_map(Step::Begin),
        6 => (0..64_usize).prop_map(Step::Land),
        1 => (0..KEYS, width()).prop_map(|(key, width)| Step::Soft(key, width)),
        1 => (0..KEYS, width()).prop_map(|(key, width)| Step::Hard(key, width)),
        1 => (0..KEYS).prop_map(Step::Outdate),
        1 => (0..KEYS).prop_map(Step::Forget),
        1 => (0..KEYS).prop_map(Step::ForgetEnterprise),
    ];
    prop::collection::vec(step, 1..120)
}

/// A fetch under way.
#[derive(Clone, Copy)]
struct Fetch {
    key: Key,
    begun: u32,
    generation: u32,
}

/// What should be kept of a key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Kept {
    /// When its fetch began: what it says is that old.
    begun: u32,
    fresh: bool,
}

/// Every key has a generation, which ends when something makes its copy untrue: what was fetched in a former one is not kept.
#[derive(Default)]
struct Model {
    generations: HashMap<Key, u32>,
    kept: HashMap<Key, Kept>,
}

impl Model {
    fn end_generation(&mut self, concerns: impl Fn(&Key) -> bool, goes: bool) {
        for key in (0..KEYS).map(key).filter(concerns) {
            *self.generations.entry(key).or_default() += 1;
            if goes {
                self.kept.remove(&key);
            } else if let Some(kept) = self.kept.get_mut(&key) {
                kept.fresh = false;
            }
        }
    }

    fn land(&mut self, fetch: Fetch) {
        let is_newer = self.kept.get(&fetch.key).is_none_or(|kept| !kept.fresh || kept.begun <= fetch.begun);
        if is_newer && fetch.generation == self.generation(&fetch.key) {
            self.kept.insert(fetch.key, Kept { begun: fetch.begun, fresh: true });
        }
    }

    fn generation(&self, key: &Key) -> u32 {
        self.generations.get(key).copied().unwrap_or_default()
    }
}

/// A record that Telnyx refreshed when it was asked for, and that says when that was.
fn entry(cache: &Cache, key: &Key, begun: u64, stored: u64) -> Entry {
    let refreshed = jiff::Timestamp::from_second(i64::try_from(begun).expect("soon")).expect("a time");
    let content = Content::record(Reputation::Stored(Some(refreshed)), begun.to_string().into(), None);
    cache.entry(key, content, Duration::from_secs(begun), Duration::from_secs(stored))
}

fn begun(entry: &Entry) -> u64 {
    std::str::from_utf8(entry.body()).expect("digits").parse().expect("digits")
}

proptest! {
    #[test]
    fn no_copy_is_older_than_what_made_it_untrue(steps in steps()) {
        let cache = Cache::new(&Config::default(), HashMap::new(), Arc::new(|_| {}));
        let (mut model, mut aloft) = (Model::default(), Vec::new());
        for (second, step) in (1_u32..).zip(steps) {
            let now = Duration::from_secs(u64::from(second));
            match step {
                Step::Begin(n) => aloft.push(Fetch { key: key(n), begun: second, generation: model.generation(&key(n)) }),
                Step::Land(_) if aloft.is_empty() => {}
                Step::Land(n) => {
                    let fetch = aloft.remove(n % aloft.len());
                    cache.keep(&entry(&cache, &fetch.key, fetch.begun.into(), second.into()));
                    model.land(fetch);
                }
                Step::Soft(n, width) => {
                    let scope = width.around(&key(n));
                    cache.purge_softly(scope, now);
                    model.end_generation(|key| scope.includes(key), false);
                }
                Step::Hard(n, width) => {
                    let scope = width.around(&key(n));
                    cache.purge_hard(scope, now);
                    model.end_generation(|key| scope.includes(key), true);
                    prop_assert!(!cache.entries.iter().any(|copy| scope.includes(copy.key())), "memory is given back");
                }
                Step::Outdate(n) => {
                    cache.outdate(key(n), now);
                    model.end_generation(|other| *other == key(n), false);
                }
                Step::Forget(n) => {
                    cache.forget(&key(n), now);
                    model.end_generation(|other| *other == key(n), true);
                }
                Step::ForgetEnterprise(n) => {
                    cache.forget_enterprise(key(n).enterprise, now);
                    model.end_generation(|other| other.enterprise == key(n).enterprise, true);
                }
            }
            let seen = |entry: &Entry| (begun(entry), !entry.is_outdated());
            for key in (0..KEYS).map(key) {
                let kept = model.kept.get(&key).map(|kept| (u64::from(kept.begun), kept.fresh));
                prop_assert_eq!(cache.get(&key).map(|entry| seen(&entry)), kept, "{:?}", key);
            }
            prop_assert_eq!(cache.copies().count(), model.kept.len());
        }
    }
}

#[test]
fn purges_race_a_thousand_fetches_and_no_copy_that_counts_as_fresh_is_older_than_the_last() {
    const FETCHES: usize = 1_000;
    let cache = Cache::new(&Config::default(), HashMap::new(), Arc::new(|_| {}));
    // Every reading is another, so that there is a before and an after.
    let clock = AtomicU64::new(1);
    let tick = || clock.fetch_add(1, Ordering::SeqCst);
    let purged = AtomicU64::new(0);
    let check = |key: &Key| {
        let last = purged.load(Ordering::SeqCst);
        if let Some(copy) = cache.get(key).filter(|copy| !copy.is_outdated()) {
            assert!(begun(&copy) > last, "a fetch of {} is kept after a purge at {last}", begun(&copy));
        }
    };
    std::thread::scope(|threads| {
        for thread in 0..4 {
            let (cache, tick, check) = (&cache, &tick, &check);
            threads.spawn(move || {
                for n in 0..FETCHES {
                    let key = key(n * 3 + thread);
                    let begun = tick();
                    std::thread::yield_now();
                    let entry = entry(cache, &key, begun, tick());
                    cache.keep(&entry);
                    check(&key);
                }
            });
        }
        threads.spawn(|| {
            for n in 0..200_usize {
                let now = tick();
                std::thread::yield_now();
                let moment = Duration::from_secs(now);
                if n % 2 == 0 {
                    cache.purge_softly(Scope::All, moment);
                } else {
                    cache.purge_hard(Scope::All, moment);
                }
                purged.store(now, Ordering::SeqCst);
            }
        });
    });
    (0..KEYS).map(key).for_each(|key| check(&key));
}
