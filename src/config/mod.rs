//! The configuration: gathers what each engine owns, from a file and the environment over it, and refuses unsafe mixes.

mod check;
mod load;

use std::num::NonZeroU32;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use check::Unsafe;
pub use load::{LoadError, PREFIX};

use crate::policy::budget::Budget;
use crate::policy::decide::{FirstTouch, OnDenied, Policy};
use crate::policy::pricing::PriceList;
use crate::secret::Secret;
use crate::telnyx::EnterpriseId;
use crate::units::{Period, Rate, Span};
use crate::{auth, cache, server, spend, telemetry, upstream};

/// All settings. `config/gateway.toml` shows each with its default.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where callers connect.
    pub server: server::Config,
    /// Where operators connect.
    pub admin: Admin,
    /// Where Telnyx is.
    pub upstream: upstream::Config,
    /// How callers are told apart.
    pub auth: auth::Config,
    /// The callers.
    pub caller: Vec<auth::CallerConfig>,
    /// Enterprises with a name or a key of their own.
    pub enterprise: Vec<Enterprise>,
    /// What is remembered.
    pub cache: cache::Config,
    /// When money may be spent on fresh data.
    pub fresh: Fresh,
    /// What Telnyx charges.
    pub prices: PriceList,
    /// Where what was spent is recorded.
    pub ledger: spend::Config,
    /// How much may be spent. Without a budget that applies, nothing is.
    pub budget: Vec<Budget>,
    /// What is logged.
    pub telemetry: telemetry::Config,
}

/// `[admin]`: where operators connect.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Admin {
    /// The address of metrics, health checks and the admin API.
    pub listen: std::net::SocketAddr,
    /// What `/admin/v1` asks for as a bearer token. Needed to bind beyond loopback.
    pub token: Option<Secret>,
}

impl Default for Admin {
    fn default() -> Self {
        Self { listen: ([127, 0, 0, 1], 8081).into(), token: None }
    }
}

/// `[[enterprise]]`: one with a name or a key of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Enterprise {
    /// Its id.
    pub id: EnterpriseId,
    /// Its name in logs.
    pub name: Option<String>,
    /// The key of its account, where that is not the one in `[upstream]`.
    pub api_key: Option<Secret>,
}

/// `[fresh]`: when money may be spent on fresh data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Fresh {
    /// Younger data answers `fresh=true`; Telnyx updates scores hourly.
    pub min_age: Span,
    /// Billable calls of all callers together.
    pub rate: Rate,
    /// Whether a refusal is answered from the cache, where there is something.
    pub on_denied: OnDenied,
    /// What a plain read of a number that was never checked does.
    pub first_touch: FirstTouch,
    /// How long a billable call of unknown outcome bars the next one for its number.
    pub unknown_window: Span,
    /// Numbers whose last billable call is remembered when their copy is gone; at least `rate` × `min_age`.
    pub remembered_numbers: u64,
}

impl Default for Fresh {
    fn default() -> Self {
        Self {
            min_age: Span(Duration::from_hours(1)),
            rate: Rate { count: NonZeroU32::new(10).expect("not zero"), per: Period::Second },
            on_denied: OnDenied::Cached,
            first_touch: FirstTouch::Bill,
            unknown_window: Span(Duration::from_mins(2)),
            remembered_numbers: 100_000,
        }
    }
}

impl Config {
    /// What reads do under these settings.
    pub fn policy(&self) -> Policy {
        Policy {
            min_age: self.fresh.min_age.0,
            unknown_window: self.fresh.unknown_window.0,
            on_denied: self.fresh.on_denied,
            first_touch: self.fresh.first_touch,
            stale_while_revalidate: self.cache.stale_while_revalidate.0,
            stale_if_error: self.cache.stale_if_error.0,
            null_ttl: self.cache.null_ttl.0,
        }
    }
}
