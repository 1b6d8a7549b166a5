//! Metrics of the configuration in force.

use prometheus::{Gauge, IntGauge};

use super::make::{Maker, opts};

/// What is told of the configuration in force.
#[derive(Clone, Debug)]
pub struct ConfigMetrics {
    /// Whether the one that was read last is: 0 or 1.
    pub reload_success: IntGauge,
    /// Since when it is, as Unix time.
    pub last_reload_success: Gauge,
    /// Settings that were changed and need a restart.
    pub restart_needed: IntGauge,
}

impl ConfigMetrics {
    pub(super) fn new(make: &Maker<'_>) -> Self {
        let gauge = |name, help| make.register(IntGauge::with_opts(opts(name, help)));
        let since = opts("config_last_reload_success_timestamp_seconds", "Since when the configuration in force is.");
        Self {
            reload_success: gauge("config_reload_success", "Whether the last configuration is in force."),
            last_reload_success: make.register(Gauge::with_opts(since)),
            restart_needed: gauge("config_restart_needed", "Changed settings that need a restart."),
        }
    }
}
