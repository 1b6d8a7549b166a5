//! Makes and registers metrics, under one prefix.

use std::time::Duration;

use prometheus::core::Collector;
use prometheus::{GaugeVec, HistogramOpts, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};

use super::{UsdCounters, process};
use crate::telemetry::log::DROPPED;

pub(super) const PREFIX: &str = "reputation_gateway";

/// Bounds of histograms, in nanoseconds: from 50 µs, a hit, to 30 s, past the longest wait for the upstream.
pub(super) const BOUNDS: [u64; 18] = [
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
    10_000_000_000,
    30_000_000_000,
];

/// Makes and registers; a failure would be a fault in this file, seen by every test.
pub(super) struct Maker<'r>(pub(super) &'r Registry);

impl Maker<'_> {
    pub(super) fn register<C: Collector + Clone + 'static>(&self, made: prometheus::Result<C>) -> C {
        let collector = made.expect("names and labels are well formed");
        self.0.register(Box::new(collector.clone())).expect("names differ");
        collector
    }

    pub(super) fn int_counters(&self, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
        self.register(IntCounterVec::new(opts(name, help), labels))
    }

    pub(super) fn usd_counters(&self, name: &str, help: &str, labels: &[&str]) -> UsdCounters {
        self.register(IntCounterVec::new(opts(name, help), labels).map(UsdCounters))
    }

    pub(super) fn int_gauge(&self, name: &str, help: &str) -> IntGauge {
        self.register(IntGauge::with_opts(opts(name, help)))
    }

    pub(super) fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> GaugeVec {
        self.register(GaugeVec::new(opts(name, help), labels))
    }

    pub(super) fn histograms(&self, name: &str, help: &str, labels: &[&str]) -> HistogramVec {
        self.register(HistogramVec::new(histogram_opts(name, help), labels))
    }

    /// What is the process's, whatever gateway it is about.
    pub(super) fn of_process(&self) {
        self.register(process::ProcessMetrics::new());
        self.register(Ok(DROPPED.clone()));
        let info: IntGaugeVec = self.register(IntGaugeVec::new(opts("build_info", "The running version; always 1."), &["version"]));
        info.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
    }
}

pub(super) fn opts(name: &str, help: &str) -> Opts {
    Opts::new(format!("{PREFIX}_{name}"), help)
}

pub(super) fn histogram_opts(name: &str, help: &str) -> HistogramOpts {
    HistogramOpts::from(opts(name, help)).buckets(BOUNDS.iter().map(|bound| Duration::from_nanos(*bound).as_secs_f64()).collect())
}
