//! Whether a server keeps what it was told.

use std::collections::HashMap;
use std::fmt;

use super::{Config, Link};

/// Something for which money may be forgotten.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shortcoming {
    /// What it is, and how to mend it.
    pub what: String,
    /// Whether no gateway starts with it.
    pub is_fatal: bool,
}

impl fmt::Display for Shortcoming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

/// What the server's settings leave to be desired. One that does not show them, as a Cluster or a hosted one may not, is told of by that.
pub async fn shortcomings(config: &Config, link: &mut Link) -> Vec<Shortcoming> {
    let Link::Server(connection) = link else {
        return vec![minor("shared: the settings of a Cluster's nodes are not looked at: see to appendonly, appendfsync and noeviction")];
    };
    let mut asked = redis::cmd("CONFIG");
    asked.arg("GET").arg(&["appendonly", "appendfsync", "maxmemory-policy"]);
    let found: Result<HashMap<String, String>, _> = asked.query_async(connection).await;
    let mut shortcomings = match &found {
        Ok(settings) if settings.len() == 3 => of_settings(settings),
        _ => vec![minor("shared: the server does not show its settings (CONFIG GET): see to appendonly, appendfsync and noeviction")],
    };
    let replication: Result<String, _> = redis::cmd("INFO").arg("replication").query_async(connection).await;
    let replicas =
        replication.ok().and_then(|text| text.lines().find_map(|line| line.strip_prefix("connected_slaves:")?.trim().parse().ok()));
    if let Some(replicas) = replicas.filter(|replicas: &u32| *replicas > 0 && config.wait_for == 0) {
        let what = format!("shared.wait_for is 0 and the server has {replicas} replicas: a failover may forget what they did not have yet");
        shortcomings.push(minor(&what));
    }
    shortcomings
}

fn of_settings(settings: &HashMap<String, String>) -> Vec<Shortcoming> {
    let is = |name: &str, value: &str| settings.get(name).is_some_and(|found| found == value);
    let mut shortcomings = Vec::new();
    if !is("maxmemory-policy", "noeviction") {
        let what = "shared: the server may throw away keys when its memory is full, money among them: set maxmemory-policy to noeviction";
        shortcomings.push(Shortcoming { what: what.to_owned(), is_fatal: true });
    }
    if !is("appendonly", "yes") {
        shortcomings.push(minor("shared: a restart of the server forgets what was spent since its last snapshot: set appendonly to yes"));
    } else if !is("appendfsync", "always") {
        shortcomings
            .push(minor("shared: a crash of the server's machine forgets up to a second or more of spending: set appendfsync to always"));
    }
    shortcomings
}

fn minor(what: &str) -> Shortcoming {
    Shortcoming { what: what.to_owned(), is_fatal: false }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_forgets_is_told_of_and_one_that_evicts_is_refused() {
        let found = |appendonly: &str, appendfsync: &str, policy: &str| {
            let settings = [("appendonly", appendonly), ("appendfsync", appendfsync), ("maxmemory-policy", policy)];
            let all = of_settings(&settings.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
            all.iter().map(|each| (each.is_fatal, each.what.rsplit(" set ").next().unwrap_or_default().to_owned())).collect::<Vec<_>>()
        };
        assert_eq!(found("yes", "always", "noeviction"), []);
        assert_eq!(found("no", "always", "noeviction"), [(false, "appendonly to yes".to_owned())]);
        assert_eq!(found("yes", "everysec", "noeviction"), [(false, "appendfsync to always".to_owned())]);
        assert_eq!(found("yes", "always", "volatile-lru"), [(true, "maxmemory-policy to noeviction".to_owned())]);
    }
}
