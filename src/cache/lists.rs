//! Pages of lists, kept for a short while.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use moka::Expiry;
use moka::sync::Cache as Moka;

use super::Config;
use super::moments::{Fate, Moments, Scope, nanos};
use crate::policy::entitlement::Partition;
use crate::telnyx::EnterpriseId;
use crate::wire::encoding::Encodable;

/// Whose page of which list.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ListKey {
    /// Who may read it.
    pub partition: Partition,
    /// The enterprise.
    pub enterprise: EnterpriseId,
    /// The query in its canonical form.
    pub query: Arc<str>,
}

/// Part of `max_size` that pages of lists may take.
const SHARE: u64 = 16;

/// Enterprises for which it is remembered when their lists were outdated. It matters as long as a page is kept.
const OUTDATED: u64 = 10_000;

/// The pages.
#[derive(Clone, Debug)]
pub struct Lists {
    pages: Moka<ListKey, Page>,
    /// When an enterprise's lists were last outdated (monotonic).
    outdated: Moka<(Partition, EnterpriseId), Duration>,
    /// When lists were purged, whoever may read them.
    purged: Moments,
    /// How long pages that are stored from now on are fresh, in nanoseconds.
    ttl: Arc<AtomicU64>,
}

/// A page. Times are monotonic.
#[derive(Clone, Debug)]
struct Page {
    body: Encodable,
    begun: Duration,
    stored: Duration,
    /// How long it is fresh.
    lifetime: Duration,
}

/// Pages leave when they are not fresh any more.
struct Life;

impl Expiry<ListKey, Page> for Life {
    fn expire_after_create(&self, _: &ListKey, page: &Page, _: Instant) -> Option<Duration> {
        Some(page.lifetime.max(Duration::from_secs(1)))
    }

    fn expire_after_update(&self, _: &ListKey, page: &Page, _: Instant, _: Option<Duration>) -> Option<Duration> {
        Some(page.lifetime.max(Duration::from_secs(1)))
    }
}

impl Lists {
    /// No pages yet.
    pub fn new(config: &Config) -> Self {
        let weight = |key: &ListKey, page: &Page| u32::try_from(key.query.len() + page.body.size() + 256).unwrap_or(u32::MAX);
        let pages = Moka::builder().max_capacity(config.max_size.0 as u64 / SHARE).weigher(weight).expire_after(Life).build();
        let ttl = Arc::new(AtomicU64::new(nanos(config.list_ttl.0)));
        Self { pages, outdated: Moka::new(OUTDATED), purged: Moments::default(), ttl }
    }

    /// Pages that are stored from now on are fresh for so long.
    pub fn renew(&self, ttl: Duration) {
        self.ttl.store(nanos(ttl), Ordering::Relaxed);
    }

    /// A page that is still fresh at `now`, and its age.
    pub fn get(&self, key: &ListKey, now: Duration) -> Option<(Encodable, Duration)> {
        let page = self.pages.get(key)?;
        let age = now.saturating_sub(page.stored);
        let outdated = self.outdated.get(&(key.partition, key.enterprise));
        let stands = self.purged.fate_of_enterprise(key.enterprise, page.begun) == Fate::Stands;
        (stands && age < page.lifetime && outdated.is_none_or(|outdated| page.begun >= outdated)).then_some((page.body, age))
    }

    /// Keeps a page that was asked for at `begun` and came at `stored` (monotonic).
    pub fn store(&self, key: ListKey, body: Encodable, begun: Duration, stored: Duration) {
        let lifetime = Duration::from_nanos(self.ttl.load(Ordering::Relaxed));
        self.pages.insert(key, Page { body, begun, stored, lifetime });
    }

    /// Telnyx's list may differ from `now` on (monotonic): no page that was asked for before is served any more.
    pub fn outdate(&self, partition: Partition, enterprise: EnterpriseId, now: Duration) {
        self.outdated.insert((partition, enterprise), now);
    }

    /// The same for the lists of a scope, whoever may read them. A number's are its enterprise's.
    pub fn purge(&self, scope: Scope, now: Duration) {
        let scope = match scope {
            Scope::Number(enterprise, _) => Scope::Enterprise(enterprise),
            Scope::Enterprise(_) | Scope::All => scope,
        };
        self.purged.outdate(scope, now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(text: &'static str) -> Encodable {
        bytes::Bytes::from(text).into()
    }

    #[test]
    fn a_page_asked_for_before_its_list_changed_is_not_served() {
        let second = Duration::from_secs(1);
        let lists = Lists::new(&Config::default());
        let enterprise = "6a09cdc3-8948-47f0-aa62-74ac943d6c58".parse().expect("a UUID");
        let key = ListKey { partition: Partition::SHARED, enterprise, query: "".into() };
        lists.store(key.clone(), page("old"), second, 2 * second);
        assert!(lists.get(&key, 3 * second).is_some());
        lists.outdate(Partition::SHARED, enterprise, 3 * second);
        assert!(lists.get(&key, 3 * second).is_none());
        lists.store(key.clone(), page("late"), 2 * second, 4 * second);
        assert!(lists.get(&key, 4 * second).is_none());
        lists.store(key.clone(), page("new"), 3 * second, 4 * second);
        assert!(lists.get(&key, 4 * second).is_some());
        let scopes = [Scope::Number(enterprise, "+16035551234".parse().expect("E.164")), Scope::Enterprise(enterprise), Scope::All];
        for (scope, at) in scopes.into_iter().zip([5, 7, 9]) {
            lists.purge(scope, at * second);
            assert!(lists.get(&key, at * second).is_none(), "{scope:?}");
            lists.store(key.clone(), page("late"), at * second, (at + 1) * second);
            assert!(lists.get(&key, (at + 1) * second).is_none(), "{scope:?}");
            lists.store(key.clone(), page("new"), (at + 1) * second, (at + 1) * second);
            assert!(lists.get(&key, (at + 1) * second).is_some(), "{scope:?}");
        }
    }
}
