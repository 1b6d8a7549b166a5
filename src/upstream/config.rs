//! Settings of the way to Telnyx.

use std::num::NonZeroU32;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::secret::Secret;
use crate::telnyx::EnterpriseId;
use crate::units::{Period, Rate, Span};
use crate::wire::base_url::BaseUrl;

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
