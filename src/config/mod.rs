//! The configuration: gathers what each engine owns, from a file and the environment over it, and refuses unsafe mixes.

mod check;
mod load;
mod renew;
mod schema;
mod sync;

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::time::Duration;

use http::StatusCode;
use serde::{Deserialize, Serialize};

pub use check::Unsafe;
pub use load::{LoadError, PREFIX};
pub use renew::{InForce, NEED_RESTART, Refused};
pub use sync::ListSync;

use crate::policy::budget::Budget;
use crate::policy::decide::{FirstTouch, OnDenied, Policy};
use crate::policy::pricing::PriceList;
use crate::policy::routes::Route;
use crate::secret::Secret;
use crate::telnyx::EnterpriseId;
use crate::units::{Period, Rate, Span};
use crate::{auth, cache, server, shared, spend, telemetry, upstream, webhook};

/// All settings. `config/gateway.toml` shows each with its default.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "a table of settings")]
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
    /// What passes beside the reputation API. Without a route, nothing does.
    pub route: Vec<Route>,
    /// What is remembered.
    pub cache: cache::Config,
    /// Whether enterprises' lists are read ahead.
    pub sync: ListSync,
    /// When money may be spent on fresh data.
    pub fresh: Fresh,
    /// What Telnyx charges.
    pub prices: PriceList,
    /// Where what was spent is recorded.
    pub ledger: spend::Config,
    /// How much may be spent. Without a budget that applies, nothing is.
    pub budget: Vec<Budget>,
    /// What several gateways share.
    pub shared: shared::Config,
    /// Where events are posted.
    pub webhook: Vec<webhook::Config>,
    /// What is logged.
    pub telemetry: telemetry::Config,
}

/// `[admin]`: where operators connect.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "a table of settings")]
#[schemars(inline)]
pub struct Admin {
    /// The address of metrics, health checks and the admin API.
    pub listen: std::net::SocketAddr,
    /// The bearer token that `/admin/v1` asks for. Needed to bind beyond loopback.
    pub token: Option<Secret>,
}

impl Default for Admin {
    fn default() -> Self {
        Self { listen: ([127, 0, 0, 1], 8081).into(), token: None }
    }
}

/// `[[enterprise]]`: one with a name or a key of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
pub struct Enterprise {
    /// The UUID that Telnyx gave it.
    pub id: EnterpriseId,
    /// A name for it in logs.
    pub name: Option<String>,
    /// The Telnyx key of its account, where that is not `upstream.api_key`: for several accounts behind one gateway.
    pub api_key: Option<Secret>,
    /// Lifetimes of its copies, where they are not those in `[cache]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<cache::Overrides>,
}

/// `[fresh]`: when money may be spent on fresh data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "a table of settings")]
#[schemars(inline)]
pub struct Fresh {
    /// Data younger than this answers `fresh=true` from the cache, unbilled; Telnyx updates scores hourly.
    pub min_age: Span,
    /// Billable calls of all callers together; each number of a refresh is one.
    pub rate: Rate,
    /// Whether a refusal is answered from the cache, where there is something.
    pub on_denied: OnDenied,
    /// What a plain read of a number that was never checked does.
    pub first_touch: FirstTouch,
    /// How long a billable call of unknown outcome bars the next one for its number.
    pub unknown_window: Span,
    /// Numbers whose last billable call is remembered when their copy is gone; at least `rate` × `null_ttl` and `rate` × `min_age`.
    pub remembered_numbers: u64,
    /// The HTTP status of a refusal for want of money: 402, 403 or 429.
    pub budget_status: BudgetStatus,
}

/// The statuses that a refusal for want of money can have. The SDKs know 402 only as some API error; 429 they may try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(try_from = "u16", into = "u16")]
#[schemars(extend("enum" = [402, 403, 429]))]
pub enum BudgetStatus {
    /// 402
    PaymentRequired,
    /// 403
    Forbidden,
    /// 429
    TooManyRequests,
}

impl From<BudgetStatus> for u16 {
    fn from(status: BudgetStatus) -> Self {
        StatusCode::from(status).as_u16()
    }
}

impl From<BudgetStatus> for StatusCode {
    fn from(status: BudgetStatus) -> Self {
        match status {
            BudgetStatus::PaymentRequired => Self::PAYMENT_REQUIRED,
            BudgetStatus::Forbidden => Self::FORBIDDEN,
            BudgetStatus::TooManyRequests => Self::TOO_MANY_REQUESTS,
        }
    }
}

impl TryFrom<u16> for BudgetStatus {
    type Error = &'static str;

    fn try_from(status: u16) -> Result<Self, Self::Error> {
        match status {
            402 => Ok(Self::PaymentRequired),
            403 => Ok(Self::Forbidden),
            429 => Ok(Self::TooManyRequests),
            _ => Err("expected 402, 403 or 429"),
        }
    }
}

impl Default for Fresh {
    fn default() -> Self {
        Self {
            min_age: Span(Duration::from_hours(1)),
            rate: Rate { count: NonZeroU32::new(10).expect("not zero"), per: Period::Second },
            on_denied: OnDenied::Cached,
            first_touch: FirstTouch::Bill,
            unknown_window: Span(Duration::from_mins(2)),
            remembered_numbers: 250_000,
            budget_status: BudgetStatus::PaymentRequired,
        }
    }
}

impl Config {
    /// What reads do under these settings.
    pub fn policy(&self) -> Policy {
        self.policy_with(&self.cache)
    }

    /// The settings of the cache for each enterprise that has lifetimes of its own.
    pub fn caches(&self) -> HashMap<EnterpriseId, cache::Config> {
        let own = |enterprise: &Enterprise| enterprise.cache.as_ref().map(|own| (enterprise.id, self.cache.with(own)));
        self.enterprise.iter().filter_map(own).collect()
    }

    /// What reads do where the cache has these settings.
    pub fn policy_with(&self, cache: &cache::Config) -> Policy {
        Policy {
            min_age: self.fresh.min_age.0,
            unknown_window: self.fresh.unknown_window.0,
            on_denied: self.fresh.on_denied,
            first_touch: self.fresh.first_touch,
            stale_while_revalidate: cache.stale_while_revalidate.0,
            stale_if_error: cache.stale_if_error.0,
            error_ttl: cache.error_ttl.0,
            null_ttl: cache.null_ttl.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    const SHOWN: &str = include_str!("../../config/gateway.toml");

    fn parsed(text: &str) -> Config {
        Config::parse(text, "gateway.toml", []).unwrap_or_else(|wrong| panic!("{wrong}"))
    }

    #[test]
    fn the_file_that_shows_every_setting_shows_the_defaults() {
        assert_eq!(parsed(SHOWN), Config::default());
    }

    #[test]
    fn the_file_leaves_no_setting_out() {
        let everything = parsed(&SHOWN.replace("\n#= ", "\n"));
        let shown = serde_json::to_value(&everything).expect("serialises");
        let absent = absent("", &shown);
        assert!(absent.is_empty(), "not shown: {absent:?}");
        let is_elsewhere = |mix: &Unsafe| mix.why.contains("environment variable") || mix.key == "server.tls.certificate";
        assert!(everything.unsafe_mixes().iter().all(is_elsewhere), "{:?}", everything.unsafe_mixes());
    }

    #[test]
    fn the_demo_is_safe_and_spends_half_a_dollar_a_day() {
        let demo = parsed(include_str!("../../config/demo.toml"));
        assert_eq!(demo.budget[0].limit.to_string(), "0.50");
        let with_key = Config { upstream: upstream::Config { api_key: Secret::Plain("x".into()), ..demo.upstream.clone() }, ..demo };
        assert_eq!(with_key.unsafe_mixes(), []);
    }

    /// The paths of settings that are null or empty.
    fn absent(path: &str, value: &Value) -> Vec<String> {
        match value {
            Value::Null => vec![path.to_owned()],
            Value::Array(list) if list.is_empty() => vec![path.to_owned()],
            Value::Array(list) => list.iter().flat_map(|value| absent(path, value)).collect(),
            Value::Object(fields) => fields.iter().flat_map(|(name, value)| absent(&format!("{path}.{name}"), value)).collect(),
            _ => Vec::new(),
        }
    }
}
