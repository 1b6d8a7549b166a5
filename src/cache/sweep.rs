//! Forgetting the numbers that an enterprise's list has no more.

use std::collections::HashSet;
use std::time::Duration;

use super::store::Change;
use super::{Cache, Entry, Key};
use crate::policy::decide::Kind;
use crate::policy::entitlement::Partition;
use crate::telnyx::{EnterpriseId, PhoneNumber};

impl Cache {
    /// Forgets each copy that says that a number of the enterprise is there, if it is not among `listed`: the whole list as it was at some
    /// time after `begun` (monotonic). What came after that stays. Looks at every copy there is, so it may take a while; tells how many went.
    pub fn forget_unlisted(&self, enterprise: EnterpriseId, listed: &HashSet<PhoneNumber>, begun: Duration) -> usize {
        let is_of = |key: &Key| key.partition == Partition::SHARED && key.enterprise == enterprise;
        let is_gone = |copy: &Entry| is_of(copy.key()) && copy.kind() != Kind::Missing && !listed.contains(&copy.key().number);
        let gone: Vec<Key> = self.entries.iter().filter(is_gone).map(|copy| *copy.key()).collect();
        gone.into_iter().filter(|key| self.forget_older(*key, begun)).count()
    }

    /// Forgets the copy that came before `moment`, and lets no fetch that began before make one. Whether there was one.
    fn forget_older(&self, key: Key, moment: Duration) -> bool {
        // First of all, as when a copy is outdated. An earlier moment does not replace a later one.
        self.outdated.entry(key).and_upsert_with(|known| known.map_or(moment, |known| known.into_value().max(moment)));
        let removed = self.entries.change(&key, |kept| match kept {
            Some(kept) if kept.begun() < moment => Change::Remove,
            _ => Change::Nothing,
        });
        removed.is_some()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::sync::Arc;

    use super::*;
    use crate::cache::{Config, Content};
    use crate::telnyx::record::Reputation;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn what_the_list_has_no_more_goes_unless_it_came_after_the_pass_had_begun() {
        let cache = Cache::new(&Config::default(), HashMap::new(), Arc::new(|_| {}));
        let enterprise: EnterpriseId = "6a09cdc3-8948-47f0-aa62-74ac943d6c58".parse().expect("a UUID");
        let other: EnterpriseId = "11111111-2222-4333-8444-555555555555".parse().expect("a UUID");
        let key = |enterprise, n: u32| Key {
            partition: Partition::SHARED,
            enterprise,
            number: format!("+1202555{n:04}").parse().expect("E.164"),
        };
        let store = |key, content, at| cache.keep(&cache.entry(&key, content, at, at));
        let data = || Content::record(Reputation::Stored(None), "x".into(), None);
        for (key, content, at) in [
            (key(enterprise, 1), data(), 1),
            (key(enterprise, 2), data(), 1),
            (key(enterprise, 3), data(), 7),
            (key(enterprise, 4), Content::record(Reputation::Null, "x".into(), None), 1),
            (key(enterprise, 5), Content::missing("x".into()), 1),
            (key(other, 2), data(), 1),
        ] {
            store(key, content, at * SECOND);
        }
        let listed = HashSet::from([key(enterprise, 1).number]);
        assert_eq!(cache.forget_unlisted(enterprise, &listed, 5 * SECOND), 2);
        let left: Vec<bool> = (1..=5).map(|n| cache.get(&key(enterprise, n)).is_some()).collect();
        assert_eq!(left, [true, false, true, false, true], "the list, the copy that is younger, and the 404 stay");
        assert!(cache.get(&key(other, 2)).is_some(), "another enterprise's");
        store(key(enterprise, 2), data(), 4 * SECOND);
        assert!(cache.get(&key(enterprise, 2)).is_none(), "that fetch may have seen what was there before");
        store(key(enterprise, 2), data(), 6 * SECOND);
        assert!(cache.get(&key(enterprise, 2)).is_some());
    }
}
