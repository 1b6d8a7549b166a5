//! Metrics of what goes on without a caller: reading the lists ahead, a file over a restart, what gateways share, webhooks.

use prometheus::{Gauge, IntCounter, IntCounterVec, IntGauge};
use strum::{IntoStaticStr, VariantArray};

use super::make::{Maker, opts};

/// What became of a page of a list that was read ahead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum SyncPage {
    /// Its records were kept.
    Read,
    /// It could not be had, and is asked for again.
    Failed,
    /// Telnyx refuses to show it.
    Refused,
}

impl SyncPage {
    /// The word in the metric.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// What is told of lists that are read ahead.
#[derive(Clone, Debug)]
pub struct SyncMetrics {
    /// Pages of lists that were read ahead, by what became of them.
    pub pages: IntCounterVec,
    /// Numbers on the lists, by the last whole pass over each.
    pub numbers: IntGauge,
    /// Numbers whose copies were forgotten, since a list had them no more.
    pub forgotten: IntCounter,
    /// When the enterprise that was read longest ago was read to its end, as Unix time; 0 until each of them was.
    pub last_success: Gauge,
    /// Passes under way.
    pub running: IntGauge,
}

impl SyncMetrics {
    pub(super) fn new(make: &Maker<'_>) -> Self {
        let metrics = Self {
            pages: make.int_counters("sync_pages_total", "Pages of lists that were read ahead.", &["result"]),
            numbers: make.register(IntGauge::with_opts(opts("sync_numbers", "Numbers on the lists that were read ahead."))),
            forgotten: make
                .register(IntCounter::with_opts(opts("sync_forgotten_total", "Copies forgotten since a list had them no more."))),
            last_success: make
                .register(Gauge::with_opts(opts("sync_last_success_timestamp_seconds", "Since when every list was read to its end."))),
            running: make.register(IntGauge::with_opts(opts("sync_running", "Passes over lists under way."))),
        };
        for result in SyncPage::VARIANTS {
            metrics.pages.with_label_values(&[result.as_str()]);
        }
        metrics
    }
}

/// What is told of the file that the cache is kept in over a restart.
#[derive(Clone, Debug)]
pub struct SnapshotMetrics {
    /// Copies that the start brought back.
    pub restored: IntGauge,
    /// Copies in the last one that this process wrote.
    pub entries: IntGauge,
    /// When that was, as Unix time; 0 if it wrote none.
    pub last_success: Gauge,
}

impl SnapshotMetrics {
    pub(super) fn new(make: &Maker<'_>) -> Self {
        let gauge = |name, help| make.register(IntGauge::with_opts(opts(name, help)));
        Self {
            restored: gauge("snapshot_restored_entries", "Copies that the start brought back."),
            entries: gauge("snapshot_entries", "Copies in the last snapshot."),
            last_success: make
                .register(Gauge::with_opts(opts("snapshot_last_success_timestamp_seconds", "When the last snapshot was written."))),
        }
    }
}

/// What is told of what gateways share on a Redis.
#[derive(Clone, Debug)]
pub struct SharedMetrics {
    /// Copies that were to be asked for, by what came of it.
    pub copies: IntCounterVec,
    /// What was done without, by what it was.
    pub degraded: IntCounterVec,
    /// Whether the Redis is reached, and all that others changed is known: 0 or 1; 0 where nothing is shared.
    pub up: IntGauge,
    /// Whether this gateway is to share anything: 0 or 1.
    pub configured: IntGauge,
}

impl SharedMetrics {
    pub(super) fn new(make: &Maker<'_>) -> Self {
        Self {
            copies: make.int_counters("shared_copies_total", "Copies asked for of the shared Redis.", &["result"]),
            degraded: make.int_counters("shared_degraded_total", "What was done without the shared Redis.", &["what"]),
            up: make.register(IntGauge::with_opts(opts("shared_up", "Whether copies and purges are shared now."))),
            configured: make.register(IntGauge::with_opts(opts("shared_configured", "Whether anything is to be shared."))),
        }
    }
}

/// What is told of events that are posted to receivers.
#[derive(Clone, Debug)]
pub struct WebhookMetrics {
    /// Deliveries, by what became of them.
    pub deliveries: IntCounterVec,
    /// Events that wait, once for each receiver, with those that are being posted.
    pub queue: IntGauge,
}

impl WebhookMetrics {
    pub(super) fn new(make: &Maker<'_>) -> Self {
        Self {
            deliveries: make.int_counters("webhook_deliveries_total", "Events posted to receivers, by what became of it.", &["result"]),
            queue: make.register(IntGauge::with_opts(opts("webhook_queue", "Events that wait to be posted."))),
        }
    }
}
