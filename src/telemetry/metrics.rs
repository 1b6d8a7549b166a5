//! The metrics, a documented field each. Every series stands from the start: label sets are closed, and each member is made at once.

mod make;
mod process;
mod reload;
mod requests;
mod upkeep;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus::core::{Collector, Desc};
use prometheus::proto::{Counter as CounterValue, MetricFamily};
use prometheus::{Encoder, Gauge, GaugeVec, Histogram, HistogramVec, IntCounterVec, IntGauge, Registry, TextEncoder};
use strum::{IntoStaticStr, VariantArray};

pub use reload::ConfigMetrics;
pub use requests::{CallerCounters, Requests};
pub use upkeep::{SharedMetrics, SnapshotMetrics, SyncMetrics, SyncPage, WebhookMetrics};

use self::make::{Maker, histogram_opts, opts};
use crate::policy::evidence::Billing;
use crate::policy::money::Usd;
use crate::telemetry::traces::SpanEnd;
use crate::telnyx::Operation;

/// The members of label sets that depend on the configuration or on engines that this one does not know.
#[derive(Clone, Debug, Default)]
pub struct Labels {
    /// Callers' names.
    pub callers: Vec<Arc<str>>,
    /// Budgets' names.
    pub budgets: Vec<Arc<str>>,
    /// Hundredths of a budget's limit.
    pub thresholds: Vec<String>,
    /// Ends of a hold.
    pub hold_ends: Vec<&'static str>,
    /// Causes of an eviction.
    pub evictions: Vec<&'static str>,
    /// What purges do with copies.
    pub purges: Vec<&'static str>,
    /// What comes of asking for a shared copy.
    pub shared_copies: Vec<&'static str>,
    /// What a gateway does without, while what it shares cannot be had.
    pub degraded: Vec<&'static str>,
    /// Rate limiters.
    pub limiters: Vec<&'static str>,
    /// What becomes of a webhook's delivery.
    pub deliveries: Vec<&'static str>,
}

/// Why a call that would have cost money was not made, or cost nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum Avoided {
    /// Another caller's call answered it.
    Collapsed,
    /// The stored data was young enough.
    Cooldown,
    /// An earlier call of unknown outcome had worked.
    Recovered,
    /// The networks were known to hold no data.
    Null,
}

impl Avoided {
    /// All of them.
    pub const ALL: &[Self] = Self::VARIANTS;

    /// The word in the metric.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// Counters of dollars that add up whole micro-dollars: only what Prometheus reads is a float, rounded once.
#[derive(Clone, Debug)]
pub struct UsdCounters(IntCounterVec);

impl UsdCounters {
    /// Adds an amount, which is never negative, to the series of one label.
    pub fn add(&self, label: &str, amount: Usd) {
        self.0.with_label_values(&[label]).inc_by(u64::try_from(amount.micros()).unwrap_or(0));
    }

    /// What was added to the series of one label.
    pub fn of(&self, label: &str) -> Usd {
        Usd::from_micros(i64::try_from(self.0.with_label_values(&[label]).get()).unwrap_or(i64::MAX))
    }
}

impl Collector for UsdCounters {
    fn desc(&self) -> Vec<&Desc> {
        self.0.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let mut families = self.0.collect();
        for metric in families.iter_mut().flat_map(MetricFamily::mut_metric) {
            let mut dollars = CounterValue::default();
            dollars.set_value(metric.get_counter().get_value() / 1e6);
            metric.set_counter(dollars);
        }
        families
    }
}

/// All metrics of a gateway.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Registry,
    /// Requests, how they were decided and how long they took.
    pub requests: Requests,
    /// Requests sent upstream, by operation and by whether they were billed.
    pub upstream_requests: IntCounterVec,
    /// From a request's dispatch upstream to the end of its answer, in seconds, by operation.
    pub upstream_duration: HistogramVec,
    /// Dollars posted to the ledger, by caller.
    pub spend: UsdCounters,
    /// Dollars taken back from the ledger, since the calls were shown not to have been billed, by caller.
    pub taken_back: UsdCounters,
    /// Dollars that callers would have spent without the gateway, by cause.
    pub avoided: UsdCounters,
    /// A budget's limit, in dollars.
    pub budget_limit: GaugeVec,
    /// Dollars posted in a budget's present window.
    pub budget_spent: GaugeVec,
    /// Dollars held in a budget's present window.
    pub budget_held: GaugeVec,
    /// When a budget's present window ends, as Unix time.
    pub budget_resets: GaugeVec,
    /// Whether a budget refuses: 0 or 1.
    pub budget_enforced: GaugeVec,
    /// Parts of a budget's limit that were reached, once for each window.
    pub budget_thresholds: IntCounterVec,
    /// What budgets said when a hold was asked for.
    pub budget_decisions: IntCounterVec,
    /// Bytes of single requests, and of answers to them, that are in memory.
    pub buffered_bytes: IntGauge,
    /// Calls of unknown outcome that may still be resolved.
    pub calls_unresolved: IntGauge,
    /// Requests that wait for what another one does.
    pub requests_waiting: IntGauge,
    /// Whether the ledger could be written when it last was to be: 0 or 1.
    pub ledger_available: IntGauge,
    /// Holds that have not ended.
    pub holds_open: IntGauge,
    /// The age of the oldest of them, in seconds; 0 if there is none.
    pub hold_oldest_age: Gauge,
    /// Holds that ended, by how.
    pub holds: IntCounterVec,
    /// Copies in the cache.
    pub cache_entries: IntGauge,
    /// Bytes that they take.
    pub cache_bytes: IntGauge,
    /// Copies that left the cache without having been replaced, by cause.
    pub cache_evictions: IntCounterVec,
    /// Copies that operators purged, by what became of them.
    pub cache_purged: IntCounterVec,
    /// Lists that are read ahead.
    pub sync: SyncMetrics,
    /// The file that the cache is kept in over a restart.
    pub snapshot: SnapshotMetrics,
    /// What gateways share on a Redis.
    pub shared: SharedMetrics,
    /// Events that are posted to receivers.
    pub webhook: WebhookMetrics,
    /// Billable calls that a rate limit refused, by limiter.
    pub rate_limit_denied: IntCounterVec,
    /// How long the ledger's commits took, in seconds.
    pub ledger_commit: Histogram,
    /// When the ledger was last compared with a bill, as Unix time; 0 if never.
    pub reconciliation_timestamp: Gauge,
    /// What the ledger posted less what that bill said, in dollars.
    pub reconciliation_drift: Gauge,
    /// On how many days of numbers the two differ.
    pub reconciliation_drifts: IntGauge,
    /// Whether all billable work is stopped: 0 or 1.
    pub kill_switch: IntGauge,
    /// Whether requests go upstream: 0 they do (closed), 1 they do not (open), 2 one does, to see (half-open).
    pub upstream_breaker_state: IntGauge,
    /// How long Telnyx's rate limit still holds requests back, in seconds; 0 if it does not.
    pub upstream_paused: Gauge,
    /// When the first certificate that callers are shown is over, as Unix time; 0 without TLS.
    pub certificate_expiry: Gauge,
    /// Spans, by what became of them.
    pub spans: IntCounterVec,
    /// The configuration in force.
    pub config: ConfigMetrics,
    /// The budgets that the gauges tell of.
    shown: Arc<Mutex<BTreeSet<String>>>,
}

impl Metrics {
    /// Makes and registers every series.
    pub fn new(labels: &Labels) -> Self {
        let registry = Registry::new();
        let make = Maker(&registry);
        let metrics = Self {
            requests: make.register(Requests::new()),
            upstream_requests: make.int_counters(
                "upstream_requests_total",
                "Requests sent upstream, by billing.",
                &["operation", "result"],
            ),
            upstream_duration: make.histograms(
                "upstream_duration_seconds",
                "From dispatch upstream to the end of the answer.",
                &["operation"],
            ),
            spend: make.usd_counters("spend_usd_total", "Dollars posted to the ledger.", &["caller"]),
            taken_back: make.usd_counters("taken_back_usd_total", "Dollars posted and taken back by later evidence.", &["caller"]),
            avoided: make.usd_counters("avoided_usd_total", "Dollars that callers would have spent without the gateway.", &["cause"]),
            budget_limit: make.gauges("budget_limit_usd", "A budget's limit in dollars.", &["budget"]),
            budget_spent: make.gauges("budget_spent_usd", "Dollars posted in a budget's present window.", &["budget"]),
            budget_held: make.gauges("budget_held_usd", "Dollars held in a budget's present window.", &["budget"]),
            budget_resets: make.gauges("budget_resets_timestamp_seconds", "When a budget's present window ends.", &["budget"]),
            budget_enforced: make.gauges("budget_enforced", "Whether a budget refuses, or is a dry run.", &["budget"]),
            budget_thresholds: make.int_counters(
                "budget_thresholds_total",
                "Parts of a budget's limit that were reached.",
                &["budget", "percent"],
            ),
            budget_decisions: make.int_counters("budget_decisions_total", "What budgets said of holds.", &["budget", "decision"]),
            buffered_bytes: make.register(IntGauge::with_opts(opts("buffered_bytes", "Bytes held for single requests."))),
            calls_unresolved: make.int_gauge("calls_unresolved", "Calls of unknown outcome that may still be resolved."),
            requests_waiting: make.register(IntGauge::with_opts(opts("requests_waiting", "Requests that wait for what another one does."))),
            ledger_available: make.register(IntGauge::with_opts(opts("ledger_available", "Whether the ledger could be written last."))),
            holds_open: make.register(IntGauge::with_opts(opts("holds_open", "Holds that have not ended."))),
            hold_oldest_age: make.register(Gauge::with_opts(opts("hold_oldest_age_seconds", "Age of the oldest open hold."))),
            holds: make.int_counters("holds_total", "Holds that ended.", &["end"]),
            cache_entries: make.register(IntGauge::with_opts(opts("cache_entries", "Copies in the cache."))),
            cache_bytes: make.register(IntGauge::with_opts(opts("cache_bytes", "Bytes that the copies take."))),
            cache_evictions: make.int_counters("cache_evictions_total", "Copies that left the cache unreplaced.", &["cause"]),
            cache_purged: make.int_counters("cache_purged_total", "Copies that operators purged.", &["mode"]),
            sync: SyncMetrics::new(&make),
            snapshot: SnapshotMetrics::new(&make),
            shared: SharedMetrics::new(&make),
            webhook: WebhookMetrics::new(&make),
            rate_limit_denied: make.int_counters("rate_limit_denied_total", "Billable calls that a rate limit refused.", &["limiter"]),
            ledger_commit: make.register(Histogram::with_opts(histogram_opts("ledger_commit_seconds", "How long ledger commits took."))),
            reconciliation_timestamp: make
                .register(Gauge::with_opts(opts("reconciliation_timestamp_seconds", "When the ledger was last compared with a bill."))),
            reconciliation_drift: make
                .register(Gauge::with_opts(opts("reconciliation_drift_usd", "Dollars posted less billed, in the last comparison."))),
            reconciliation_drifts: make
                .register(IntGauge::with_opts(opts("reconciliation_drifts", "Days of numbers that differ in the last comparison."))),
            kill_switch: make.register(IntGauge::with_opts(opts("kill_switch", "Whether all billable work is stopped."))),
            upstream_breaker_state: make.register(IntGauge::with_opts(opts("upstream_breaker_state", "0 closed, 1 open, 2 half-open."))),
            upstream_paused: make.register(Gauge::with_opts(opts("upstream_paused_seconds", "How long the upstream's rate limit lasts."))),
            certificate_expiry: make.register(Gauge::with_opts(opts(
                "tls_certificate_expiry_timestamp_seconds",
                "When the first certificate shown to callers is over.",
            ))),
            spans: make.int_counters("spans_total", "Spans of traces, by what became of them.", &["result"]),
            config: ConfigMetrics::new(&make),
            shown: Arc::default(),
            registry: registry.clone(),
        };
        make.of_process();
        metrics.stand(labels);
        metrics
    }

    /// Prometheus's text format.
    pub fn render(&self) -> Vec<u8> {
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text).expect("a vector takes every byte");
        text
    }

    /// The budgets that there are. Gauges of others go; what was counted of them stays.
    pub fn show_budgets<'b>(&self, names: impl Iterator<Item = &'b str>) {
        let names: BTreeSet<_> = names.map(str::to_owned).collect();
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        for gone in shown.difference(&names) {
            for gauge in self.budget_gauges() {
                // It may never have been set.
                let _gone = gauge.remove_label_values(&[gone]);
            }
        }
        *shown = names;
    }

    fn budget_gauges(&self) -> [&GaugeVec; 5] {
        [&self.budget_limit, &self.budget_spent, &self.budget_held, &self.budget_resets, &self.budget_enforced]
    }

    /// Makes each member of each label set, so that a rate is there before the first event.
    pub fn stand(&self, labels: &Labels) {
        for operation in Operation::ALL.iter().map(|operation| operation.as_str()) {
            self.upstream_duration.with_label_values(&[operation]);
            for billing in Billing::ALL {
                self.upstream_requests.with_label_values(&[operation, billing.as_str()]);
            }
        }
        for caller in &labels.callers {
            self.requests.caller(caller);
            self.spend.add(caller, Usd::ZERO);
            self.taken_back.add(caller, Usd::ZERO);
        }
        for end in SpanEnd::ALL {
            self.spans.with_label_values(&[end.as_str()]);
        }
        for cause in Avoided::ALL {
            self.avoided.add(cause.as_str(), Usd::ZERO);
        }
        self.shown.lock().unwrap_or_else(PoisonError::into_inner).extend(labels.budgets.iter().map(ToString::to_string));
        for budget in &labels.budgets {
            for gauge in self.budget_gauges() {
                gauge.with_label_values(&[&**budget]);
            }
            for percent in &labels.thresholds {
                self.budget_thresholds.with_label_values(&[&**budget, percent]);
            }
            for decision in ["allowed", "denied"] {
                self.budget_decisions.with_label_values(&[&**budget, decision]);
            }
        }
        let singles = [
            (&self.holds, &labels.hold_ends),
            (&self.cache_evictions, &labels.evictions),
            (&self.cache_purged, &labels.purges),
            (&self.shared.copies, &labels.shared_copies),
            (&self.shared.degraded, &labels.degraded),
            (&self.rate_limit_denied, &labels.limiters),
            (&self.webhook.deliveries, &labels.deliveries),
        ];
        for (counter, members) in singles {
            for member in members {
                counter.with_label_values(&[*member]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_series_stands_before_the_first_event() {
        let labels =
            Labels { callers: vec!["dialer".into()], budgets: vec!["all".into()], hold_ends: vec!["settled"], ..Labels::default() };
        let text = String::from_utf8(Metrics::new(&labels).render()).expect("text");
        for series in [
            r#"reputation_gateway_requests_total{caller="dialer",decision="hit",operation="retrieve"} 0"#,
            r#"reputation_gateway_upstream_requests_total{operation="retrieve",result="billed"} 0"#,
            r#"reputation_gateway_spend_usd_total{caller="dialer"} 0"#,
            r#"reputation_gateway_avoided_usd_total{cause="null"} 0"#,
            r#"reputation_gateway_budget_decisions_total{budget="all",decision="denied"} 0"#,
            r#"reputation_gateway_holds_total{end="settled"} 0"#,
            "reputation_gateway_ledger_commit_seconds_count 0",
            "reputation_gateway_kill_switch 0",
        ] {
            assert!(text.lines().any(|line| line == series), "{series} is not in\n{text}");
        }
    }
}
