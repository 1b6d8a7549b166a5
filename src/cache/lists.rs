//! Pages of lists, kept for a short while.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use moka::sync::Cache as Moka;

use super::Config;
use crate::policy::entitlement::Partition;
use crate::telnyx::EnterpriseId;

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

/// The pages.
#[derive(Clone, Debug)]
pub struct Lists {
    pages: Moka<ListKey, (Bytes, Duration)>,
    ttl: Duration,
}

impl Lists {
    /// No pages yet.
    pub fn new(config: &Config) -> Self {
        let weight = |key: &ListKey, page: &(Bytes, Duration)| u32::try_from(key.query.len() + page.0.len() + 256).unwrap_or(u32::MAX);
        let pages = Moka::builder()
            .max_capacity(config.max_size.0 as u64 / SHARE)
            .weigher(weight)
            .time_to_live(config.list_ttl.0.max(Duration::from_secs(1)))
            .build();
        Self { pages, ttl: config.list_ttl.0 }
    }

    /// A page that is still fresh at `now`, and its age.
    pub fn get(&self, key: &ListKey, now: Duration) -> Option<(Bytes, Duration)> {
        let (page, stored) = self.pages.get(key)?;
        let age = now.saturating_sub(stored);
        (age < self.ttl).then_some((page, age))
    }

    /// Keeps a page that came at `now`.
    pub fn store(&self, key: ListKey, page: Bytes, now: Duration) {
        self.pages.insert(key, (page, now));
    }
}
