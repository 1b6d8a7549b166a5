//! The settings of `[shared]`.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::secret::Secret;
use crate::units::Span;

/// `[shared]`: what several gateways share. Without a URL a gateway is on its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "a table of settings")]
#[schemars(inline)]
pub struct Config {
    /// The Redis or Valkey: `redis://user:password@host:port/database`, `rediss://` for TLS, or `unix:///path`.
    pub redis_url: Option<Secret>,
    /// What all keys begin with. Gateways with one prefix are one.
    pub prefix: String,
    /// Whether the URL is of a node of a Cluster.
    pub cluster: bool,
    /// URLs of Sentinels, which say where the master is; `redis_url` then says how to speak to it, and its host does not matter.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sentinels: Vec<String>,
    /// What the Sentinels call the master.
    pub sentinel_service: String,
    /// Whose certificates to trust, in PEM, where those of the machine are not it.
    pub ca_certificate: Option<PathBuf>,
    /// How long an answer may take before billable work is refused.
    pub timeout: Span,
    /// How long connecting to the server may take.
    pub connect_timeout: Span,
    /// How long a gateway may not be heard of before it is taken for dead; from 3s to 1h.
    pub lease: Span,
    /// How far this machine's clock may be from the server's; beyond that nothing is bought.
    pub clock_skew: Span,
    /// How many replicas of the server have to have what was recorded (`WAIT`) before it counts; not with a Cluster.
    pub wait_for: u32,
    /// Whether copies are shared too. Purges always are.
    pub copies: bool,
}

/// Half a minute without an answer is no answer, and a lease of an hour keeps a dead gateway's money for that long.
const LONGEST: Duration = Duration::from_hours(1);
/// A gateway that is busy is heard of each second.
const SHORTEST_LEASE: Duration = Duration::from_secs(3);

impl Config {
    /// What is wrong with these settings, each with its key.
    pub fn faults(&self) -> Vec<(&'static str, String)> {
        let mut faults = Vec::new();
        let mut refuse_if = |wrong: bool, key, why: &str| faults.extend(wrong.then(|| (key, why.to_owned())));
        let is_tag = |letter: char| !letter.is_ascii_graphic() || "{}".contains(letter);
        refuse_if(self.prefix.is_empty() || self.prefix.contains(is_tag), "shared.prefix", "is one word without braces");
        for (key, span) in [("shared.timeout", self.timeout), ("shared.connect_timeout", self.connect_timeout)] {
            refuse_if(span.0.is_zero() || span.0 > LONGEST, key, "is not from 1ms to an hour");
        }
        refuse_if(!(SHORTEST_LEASE..=LONGEST).contains(&self.lease.0), "shared.lease", "is not from 3s to an hour");
        let both = self.cluster && !self.sentinels.is_empty();
        refuse_if(both, "shared.sentinels", "a Cluster has none: set one of shared.cluster and shared.sentinels");
        refuse_if(self.cluster && self.wait_for > 0, "shared.wait_for", "cannot be asked of a Cluster");
        let unread = self.redis_url.as_ref().and_then(|url| url.read().err());
        refuse_if(unread.is_some(), "shared.redis_url", &unread.map(|error| error.to_string()).unwrap_or_default());
        faults
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            redis_url: None,
            prefix: "reputation-gateway".to_owned(),
            cluster: false,
            sentinels: Vec::new(),
            sentinel_service: "mymaster".to_owned(),
            ca_certificate: None,
            timeout: Span(Duration::from_millis(40)),
            connect_timeout: Span(Duration::from_secs(1)),
            lease: Span(Duration::from_secs(10)),
            clock_skew: Span(Duration::from_secs(5)),
            wait_for: 0,
            copies: true,
        }
    }
}
