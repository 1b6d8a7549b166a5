//! Settings of the way to Telnyx.

use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::str::FromStr;
use std::time::Duration;

use http::Uri;
use serde::{Deserialize, Serialize};

use crate::secret::Secret;
use crate::telnyx::EnterpriseId;
use crate::units::{Period, Rate, Span, as_text};

/// `[upstream]`: where Telnyx is, and how much is asked of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "a table of settings")]
#[schemars(inline)]
pub struct Config {
    /// The base URL of Telnyx's API, with its version: https, or http to this machine.
    pub base_url: BaseUrl,
    /// The Telnyx key that goes upstream in modes `keys` and `open`.
    pub api_key: Secret,
    /// The enterprise of simplified paths, which name none, for callers that have none of their own; the account's only one if not given.
    pub default_enterprise: Option<EnterpriseId>,
    /// How long making a connection may take, its TLS handshake included.
    pub connect_timeout: Span,
    /// A connection that is older than this is not used for another request, so that the host's name is resolved anew.
    pub connection_lifetime: Span,
    /// How long a request may take, from its dispatch to the last byte of its answer. The SDKs give up after 60 s.
    pub timeout: Span,
    /// How long a request waits for its turn, before it is refused.
    pub queue_timeout: Span,
    /// Requests under way at once; further ones wait for their turn.
    pub max_in_flight: usize,
    /// Requests that wait for their turn; further ones are refused at once.
    pub max_queue: usize,
    /// Requests by a route under way at once, beside all others; further ones are refused at once.
    pub max_streams: usize,
    /// Requests of any kind that are sent, free or not; further ones wait for their turn.
    pub rate: Rate,
    /// Failures in a row after which the upstream is left alone for a while; 0: it never is.
    pub breaker_failures: u32,
    /// How long the upstream is left alone after `breaker_failures`, at first; twice as long after each trial that fails, up to a minute.
    pub breaker_pause: Span,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            base_url: "https://api.telnyx.com/v2".parse().expect("a URL"),
            api_key: Secret::env("TELNYX_API_KEY"),
            default_enterprise: None,
            connect_timeout: Span(Duration::from_secs(3)),
            connection_lifetime: Span(Duration::from_mins(5)),
            timeout: Span(Duration::from_secs(25)),
            queue_timeout: Span(Duration::from_secs(15)),
            max_in_flight: 64,
            max_queue: 1_000,
            max_streams: 64,
            rate: Rate { count: NonZeroU32::new(50).expect("not zero"), per: Period::Second },
            breaker_failures: 5,
            breaker_pause: Span(Duration::from_secs(5)),
        }
    }
}

/// An absolute http or https URL without query, and without a slash at its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseUrl(Uri);

/// A text that is no base URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected an absolute URL without query, such as \"https://api.telnyx.com/v2\"")]
pub struct NotABaseUrl;

impl BaseUrl {
    pub(super) fn uri(&self) -> &Uri {
        &self.0
    }

    pub(super) fn prefix(&self) -> &str {
        self.0.path().trim_end_matches('/')
    }

    /// Whether a key sent there could be read on the way: plain http to anywhere but this machine.
    pub fn exposes_keys(&self) -> bool {
        let host = self.0.host().unwrap_or_default().trim_matches(['[', ']']);
        let loopback = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
        self.0.scheme_str() == Some("http") && !loopback
    }
}

impl FromStr for BaseUrl {
    type Err = NotABaseUrl;

    fn from_str(text: &str) -> Result<Self, NotABaseUrl> {
        let uri: Uri = text.trim_end_matches('/').parse().map_err(|_| NotABaseUrl)?;
        let credentials = uri.authority().is_some_and(|authority| authority.as_str().contains('@'));
        let plain = matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some() && uri.query().is_none() && !credentials;
        if plain { Ok(Self(uri)) } else { Err(NotABaseUrl) }
    }
}

impl fmt::Display for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.to_string().trim_end_matches('/'))
    }
}

as_text! { BaseUrl: "a URL in quotes" }

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_url_is_absolute_and_plain() {
        for (text, shown) in
            [("https://api.telnyx.com/v2/", "https://api.telnyx.com/v2"), ("http://127.0.0.1:9000", "http://127.0.0.1:9000")]
        {
            assert_eq!(text.parse::<BaseUrl>().expect(text).to_string(), shown);
        }
        for text in ["", "/v2", "api.telnyx.com", "ftp://host", "https://host?x=1", "https://user:pass@host"] {
            assert_eq!(text.parse::<BaseUrl>(), Err(NotABaseUrl), "{text}");
        }
    }

    #[test]
    fn a_key_is_exposed_by_plain_http_beyond_this_machine() {
        for (text, exposed) in [
            ("http://127.0.0.1:1/v2", false),
            ("http://[::1]:1", false),
            ("http://localhost", false),
            ("https://host", false),
            ("http://host", true),
            ("http://10.0.0.1", true),
        ] {
            assert_eq!(text.parse::<BaseUrl>().expect(text).exposes_keys(), exposed, "{text}");
        }
    }
}
