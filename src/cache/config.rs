//! Settings of the cache.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Key;
use crate::units::{ByteSize, Fraction, Span, spread};

/// `[cache]`: how much is kept, and for how long.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "a table of settings")]
#[schemars(inline)]
pub struct Config {
    /// The memory of all copies together, with what keeping them takes.
    pub max_size: ByteSize,
    /// How long a record with data is fresh.
    pub ttl: Span,
    /// How long after `ttl` it is served while a free read renews it.
    pub stale_while_revalidate: Span,
    /// How long after `ttl` it stands in for an answer that cannot be had.
    pub stale_if_error: Span,
    /// How long after a look upstream that failed a stale copy is served without another look; 0: each read looks again.
    pub error_ttl: Span,
    /// How long a 404 is fresh.
    pub negative_ttl: Span,
    /// How long a record without data is fresh, and how long its first touch is not paid again.
    pub null_ttl: Span,
    /// How long a page of a list is fresh.
    pub list_ttl: Span,
    /// How long a read waits for a look or a purchase that it shares with others; then it gets what is stored, or an error.
    pub wait_timeout: Span,
    /// Reads that wait for what others do at once; further ones do not wait.
    pub max_waiters: usize,
    /// By which part of itself each lifetime is spread, down to shorter ones, so that copies made together do not end together.
    pub ttl_jitter: Fraction,
    /// The file that the copies are in while no process runs, in modes `keys` and `open`. Without one, a restart begins with none.
    pub snapshot: Option<PathBuf>,
    /// From one writing of `snapshot` to the next; at least 1s. A stop writes it too.
    pub snapshot_interval: Span,
}

/// `enterprise.cache`: lifetimes of one enterprise's copies, where they differ from those in `[cache]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "a table such as { ttl = \"15m\" }")]
#[schemars(inline)]
pub struct Overrides {
    /// In place of `cache.ttl`, for copies of this enterprise.
    pub ttl: Option<Span>,
    /// In place of `cache.stale_while_revalidate`, for copies of this enterprise.
    pub stale_while_revalidate: Option<Span>,
    /// In place of `cache.stale_if_error`, for copies of this enterprise.
    pub stale_if_error: Option<Span>,
    /// In place of `cache.negative_ttl`, for copies of this enterprise.
    pub negative_ttl: Option<Span>,
    /// In place of `cache.null_ttl`, for copies of this enterprise.
    pub null_ttl: Option<Span>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_size: ByteSize(256 << 20),
            ttl: Span(Duration::from_hours(1)),
            stale_while_revalidate: Span(Duration::from_mins(10)),
            stale_if_error: Span(Duration::from_hours(7 * 24)),
            error_ttl: Span(Duration::from_secs(10)),
            negative_ttl: Span(Duration::from_mins(5)),
            null_ttl: Span(Duration::from_hours(6)),
            list_ttl: Span(Duration::from_secs(30)),
            wait_timeout: Span(Duration::from_secs(30)),
            max_waiters: 10_000,
            ttl_jitter: Fraction(0.1),
            snapshot: None,
            snapshot_interval: Span(Duration::from_mins(5)),
        }
    }
}

impl Config {
    /// The same with one enterprise's own lifetimes.
    #[must_use]
    pub fn with(&self, own: &Overrides) -> Self {
        Self {
            ttl: own.ttl.unwrap_or(self.ttl),
            stale_while_revalidate: own.stale_while_revalidate.unwrap_or(self.stale_while_revalidate),
            stale_if_error: own.stale_if_error.unwrap_or(self.stale_if_error),
            negative_ttl: own.negative_ttl.unwrap_or(self.negative_ttl),
            null_ttl: own.null_ttl.unwrap_or(self.null_ttl),
            ..self.clone()
        }
    }

    /// After this a copy cannot be served in any way.
    pub(super) fn longest_life(&self) -> Duration {
        self.ttl.0.max(self.null_ttl.0).max(self.negative_ttl.0) + self.stale_while_revalidate.0.max(self.stale_if_error.0)
    }

    /// `ttl`, shortened by a part that depends on the key alone: reproducible, and no two numbers alike.
    pub(super) fn jittered(&self, ttl: Duration, key: &Key) -> Duration {
        spread(ttl, self.ttl_jitter.0, key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::entitlement::Partition;

    #[test]
    fn lifetimes_are_spread_downwards_and_reproducibly() {
        let config = Config::default();
        let enterprise = "6a09cdc3-8948-47f0-aa62-74ac943d6c58".parse().expect("a UUID");
        let lives: Vec<_> = (0..200)
            .map(|n| Key { partition: Partition::SHARED, enterprise, number: format!("+1202555{n:04}").parse().expect("E.164") })
            .map(|key| (config.jittered(config.ttl.0, &key), config.jittered(config.ttl.0, &key)))
            .collect();
        assert!(lives.iter().all(|(life, again)| life == again && *life <= config.ttl.0 && *life >= config.ttl.0.mul_f64(0.9)));
        let distinct: std::collections::HashSet<_> = lives.iter().map(|(life, _)| life).collect();
        assert!(distinct.len() > 190, "only {} lifetimes", distinct.len());
    }
}
