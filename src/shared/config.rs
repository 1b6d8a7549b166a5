//! The settings of `[shared]`.

use std::convert::Infallible;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::secret::Secret;
use crate::units::{Span, as_text};

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
    #[schemars(with = "Vec<String>")]
    pub sentinels: Vec<SentinelUrl>,
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

/// The URL of a Sentinel, shown without the user, the password and the options that may be in it.
#[derive(Clone, PartialEq, Eq)]
pub struct SentinelUrl(String);

impl SentinelUrl {
    /// The whole of it, for the one place that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl FromStr for SentinelUrl {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for SentinelUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, rest) = self.0.split_once("://").unwrap_or(("", &self.0));
        let (user, place) = rest.rsplit_once('@').map_or(("", rest), |(_, place)| ("[redacted]@", place));
        let (place, options) = place.split_once('?').map_or((place, ""), |(place, _)| (place, "?[redacted]"));
        let separator = if scheme.is_empty() { "" } else { "://" };
        write!(f, "{scheme}{separator}{user}{place}{options}")
    }
}

impl fmt::Debug for SentinelUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

as_text! { SentinelUrl: "a URL in quotes" }

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_secret_in_the_url_of_a_sentinel_is_not_shown() {
        for (text, shown) in [
            ("redis://10.0.0.1:26379", "redis://10.0.0.1:26379"),
            ("rediss://ops:pass@w@10.0.0.1:26379/0", "rediss://[redacted]@10.0.0.1:26379/0"),
            ("redis://10.0.0.1:26379/?password=pass", "redis://10.0.0.1:26379/?[redacted]"),
            ("ops:pass@host?pass=a@b", "[redacted]@b"),
            ("", ""),
        ] {
            let Ok(url) = text.parse::<SentinelUrl>();
            assert_eq!((url.expose(), url.to_string(), format!("{url:?}")), (text, shown.to_owned(), shown.to_owned()));
        }
        let config: Config = toml::from_str("sentinels = [\"redis://:pass@s1:26379\"]").expect("settings");
        assert!(!toml::to_string(&config).expect("TOML").contains("pass@") && !format!("{config:?}").contains("pass@"));
    }
}
