//! From the configuration in force to the next: what of it can be in force at once, and what needs a restart.

use std::path::PathBuf;

use jiff::Timestamp;

use super::Config;
use crate::policy::budget::Budget;
use crate::policy::money::Usd;

/// The configuration in force, and how it came to be.
#[derive(Clone, Debug)]
pub struct InForce {
    /// All settings, as they are in force.
    pub config: Config,
    /// The file that it was read from, if it was from one.
    pub file: Option<PathBuf>,
    /// When it came into force.
    pub since: Timestamp,
    /// What was wanted besides, and needs a restart.
    pub restart_needed: Vec<&'static str>,
    /// Why what was read last is not in force, if it is not.
    pub refused: Option<Refused>,
}

/// A configuration that did not come into force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// When.
    pub at: Timestamp,
    /// Why; a line for each fault.
    pub why: String,
}

/// Keeps what cannot change, and names what was to.
macro_rules! keys_that_need_a_restart {
    ($($table:ident.$key:ident),* $(,)?) => {
        /// What is as it was when the process started, whatever a file says since.
        pub const NEED_RESTART: &[&str] = &[$(concat!(stringify!($table), ".", stringify!($key))),*];

        fn keep(running: &Config, wanted: &mut Config) -> Vec<&'static str> {
            let mut changed = Vec::new();
            $(if wanted.$table.$key != running.$table.$key {
                changed.push(concat!(stringify!($table), ".", stringify!($key)));
                wanted.$table.$key.clone_from(&running.$table.$key);
            })*
            changed
        }
    };
}

keys_that_need_a_restart! {
    server.listen, server.workers, server.max_connections, server.header_timeout, server.body_timeout, server.idle_timeout,
    server.max_header_size, server.max_body_size, server.max_buffered, server.drain_timeout, server.http2_max_streams,
    server.http2_max_resets, server.http2_max_malformed, server.http2_max_frame_size, server.http2_send_buffer,
    server.http2_ping_interval, server.tls,
    admin.listen,
    upstream.base_url, upstream.connect_timeout, upstream.max_in_flight, upstream.max_queue, upstream.max_streams,
    upstream.breaker_failures, upstream.breaker_pause,
    auth.mode,
    cache.max_size, cache.max_waiters, cache.snapshot, cache.snapshot_interval,
    fresh.remembered_numbers,
    ledger.path, ledger.retention,
    shared.redis_url, shared.prefix, shared.cluster, shared.sentinels, shared.sentinel_service, shared.ca_certificate, shared.timeout,
    shared.connect_timeout, shared.lease, shared.clock_skew, shared.wait_for, shared.copies,
    telemetry.format, telemetry.log_full_numbers, telemetry.decisions, telemetry.otlp_endpoint, telemetry.otlp_headers, telemetry.otlp_sample,
}

impl Config {
    /// What of `wanted` can come into force while the process runs, and the keys of what cannot, which stays as it is here. Gateways that share a
    /// ledger have to agree on its prices, and on its budgets but for their limits: there these stay too.
    pub fn followed_by(&self, mut wanted: Self) -> (Self, Vec<&'static str>) {
        let mut restart_needed = keep(self, &mut wanted);
        if self.shared.redis_url.is_some() {
            if wanted.prices != self.prices {
                restart_needed.push("prices");
                wanted.prices = self.prices;
            }
            let terms = |budgets: &[Budget]| budgets.iter().map(|budget| Budget { limit: Usd::ZERO, ..budget.clone() }).collect::<Vec<_>>();
            if terms(&wanted.budget) != terms(&self.budget) {
                restart_needed.push("budget");
                wanted.budget.clone_from(&self.budget);
            }
        }
        (wanted, restart_needed)
    }

    /// The files that those secrets are read from which can change while the process runs.
    pub fn secret_files(&self) -> Vec<PathBuf> {
        let enterprises = self.enterprise.iter().filter_map(|enterprise| enterprise.api_key.as_ref());
        let webhooks = self.webhook.iter().map(|webhook| &webhook.secret);
        let secrets = [Some(&self.upstream.api_key), self.admin.token.as_ref()].into_iter().flatten().chain(enterprises).chain(webhooks);
        secrets.filter_map(|secret| secret.file().map(Into::into)).collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    /// The files that secrets stand in, wherever they are below `path`, but for what needs a restart.
    fn files(path: &str, value: &Value) -> Vec<PathBuf> {
        match value {
            _ if NEED_RESTART.contains(&path) => Vec::new(),
            Value::Object(fields) => match fields.get("file").and_then(Value::as_str) {
                Some(file) => vec![file.into()],
                None => fields.iter().flat_map(|(name, value)| files([path, name].join(".").trim_start_matches('.'), value)).collect(),
            },
            Value::Array(list) => list.iter().flat_map(|value| files(path, value)).collect(),
            _ => Vec::new(),
        }
    }

    #[test]
    fn the_file_of_every_secret_that_is_live_is_looked_at() {
        let text = r#"
            admin.token = { file = "/token" }
            upstream.api_key = { file = "/upstream" }
            shared.redis_url = { file = "/redis" }
            telemetry.otlp_headers.authorization = { file = "/otlp" }
            enterprise = [{ id = "6a09cdc3-8948-47f0-aa62-74ac943d6c58", api_key = { file = "/enterprise" } }]
            webhook = [{ url = "https://example.com/", secret = { file = "/webhook" } }]
        "#;
        let config = Config::parse(text, "gateway.toml", []).expect("a configuration");
        let (mut watched, mut live) = (config.secret_files(), files("", &serde_json::to_value(&config).expect("JSON")));
        watched.sort();
        live.sort();
        assert_eq!(watched, live);
        assert_eq!(live.len(), 4, "{live:?}");
    }
}
