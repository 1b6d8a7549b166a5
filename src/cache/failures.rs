//! For which numbers the last look failed: they are left alone for a while.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use moka::policy::EvictionPolicy;
use moka::sync::Cache as Moka;

use super::Key;
use super::moments::nanos;

/// Numbers of which it is remembered. One that is forgotten is looked at again, as if it had not failed.
const FAILED: u64 = 100_000;

/// When looks failed (monotonic). The least recently used leave first.
#[derive(Debug)]
pub struct FailedLooks {
    numbers: Moka<Key, Duration>,
    /// The latest of all, in nanoseconds: mostly none failed lately, and then no number is looked up.
    latest: AtomicU64,
}

impl Default for FailedLooks {
    fn default() -> Self {
        let numbers = Moka::builder().max_capacity(FAILED).eviction_policy(EvictionPolicy::lru()).build();
        Self { numbers, latest: AtomicU64::new(0) }
    }
}

impl FailedLooks {
    /// A look for the number failed at `now`.
    pub fn failed(&self, key: Key, now: Duration) {
        self.numbers.insert(key, now);
        self.latest.fetch_max(nanos(now), Ordering::Relaxed);
    }

    /// A look for the number was answered.
    pub fn answered(&self, key: &Key) {
        self.numbers.invalidate(key);
    }

    /// When the last look for the number failed, if none has been answered since. It is asked where that matters for a time of `matters`: a failure
    /// that was longer ago may not be told.
    pub fn of(&self, key: &Key, now: Duration, matters: Duration) -> Option<Duration> {
        let latest = Duration::from_nanos(self.latest.load(Ordering::Relaxed));
        if now.saturating_sub(latest) < matters { self.numbers.get(key) } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::entitlement::Partition;

    #[test]
    fn a_failure_is_told_as_long_as_it_matters_and_until_a_look_is_answered() {
        let (second, enterprise) = (Duration::from_secs(1), "6a09cdc3-8948-47f0-aa62-74ac943d6c58".parse().expect("a UUID"));
        let key = |number: &str| Key { partition: Partition::SHARED, enterprise, number: number.parse().expect("E.164") };
        let (one, other) = (key("+12025550001"), key("+12025550002"));
        let (looks, matters) = (FailedLooks::default(), 10 * second);
        assert_eq!(looks.of(&one, second, matters), None);
        looks.failed(one, second);
        assert_eq!(
            [looks.of(&one, 2 * second, matters), looks.of(&other, 2 * second, matters), looks.of(&one, 11 * second, matters)],
            [Some(second), None, None]
        );
        looks.failed(other, 20 * second);
        looks.failed(one, 21 * second);
        looks.answered(&one);
        assert_eq!([looks.of(&one, 21 * second, matters), looks.of(&other, 21 * second, matters)], [None, Some(20 * second)]);
    }
}
