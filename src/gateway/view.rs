//! From a configuration to what requests go by: callers, limits, keys, rules. What a former configuration has in common with it is kept as it stands.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;

use super::{BuildError, Keys, Rules, Shared, View, enterprise, sync};
use crate::auth::{Auth, Mode};
use crate::clock::Clock;
use crate::config::Config;
use crate::limit::Limits;
use crate::policy::decide::Policy;
use crate::policy::hindsight::LEAST_EFFECT;
use crate::secret::Secret;
use crate::upstream::Client;

/// A call that timed out here may take effect for so much longer there.
const AFTER_TIMEOUT: Duration = Duration::from_mins(1);

impl View {
    /// The first of a process, with its engines.
    pub(super) fn first(config: &Config, clock: &Clock) -> Result<Self, BuildError> {
        let (keys, upstream) = (keys(config)?, Client::new(&config.upstream, clock).map_err(BuildError::Certificates)?);
        let rules = rules(config, keys, sync::Plan::of(config, clock, None));
        let shared = Arc::new(Shared::new(config, &rules, clock)?);
        let limits = Limits::new(config.fresh.rate, config.rated_callers(), clock);
        let limits = if config.shared.redis_url.is_some() { limits.shared() } else { limits };
        Ok(Self::of(config, shared, (limits, upstream, enterprise::no_soles_yet()), rules))
    }

    /// The next, with the same engines. Nothing of it is in force yet.
    pub(super) fn next(&self, config: &Config) -> Result<Self, BuildError> {
        let keys = keys(config)?;
        // Another key may be another account's.
        let soles = if keys == self.rules.keys { self.sole_enterprises.clone() } else { enterprise::no_soles_yet() };
        let limits = self.limits.renewed(config.fresh.rate, config.rated_callers());
        let rules = rules(config, keys, sync::Plan::of(config, &self.clock, self.rules.sync.as_ref()));
        Ok(Self::of(config, Arc::clone(&self.shared), (limits, self.upstream.renewed(&config.upstream), soles), rules))
    }

    fn of(config: &Config, shared: Arc<Shared>, (limits, upstream, soles): (Limits, Client, enterprise::Sole), rules: Rules) -> Self {
        let auth = Auth::new(&config.auth, &config.caller);
        let callers = auth.names().iter().map(|name| shared.metrics.requests.caller(name)).collect();
        Self { shared, auth, limits, upstream, sole_enterprises: soles, callers, rules }
    }
}

/// The operator's choices.
fn rules(config: &Config, keys: Keys, sync: Option<Arc<sync::Plan>>) -> Rules {
    let policy = config.policy();
    let policies: HashMap<_, _> = config.caches().iter().map(|(id, cache)| (*id, config.policy_with(cache))).collect();
    Rules {
        policy,
        memory: policies.values().map(Policy::memory).fold(policy.memory(), Duration::max),
        policies,
        effect: policy.unknown_window.max(LEAST_EFFECT).max(config.upstream.timeout.0 + AFTER_TIMEOUT),
        wait_timeout: config.cache.wait_timeout.0,
        max_waiters: config.cache.max_waiters,
        prices: config.prices,
        keys,
        default_enterprise: config.upstream.default_enterprise,
        enterprise_names: config.enterprise.iter().filter_map(|enterprise| Some((enterprise.id, enterprise.name.clone()?))).collect(),
        max_header_size: config.server.max_header_size.0,
        max_body_size: config.server.max_body_size.0,
        body_timeout: config.server.body_timeout.0,
        budget_status: config.fresh.budget_status.into(),
        routes: config.route.clone(),
        stall_timeout: config.upstream.timeout.0,
        sync,
        log_full_numbers: config.telemetry.log_full_numbers,
    }
}

fn keys(config: &Config) -> Result<Keys, BuildError> {
    let bearer = |place, secret: &Secret| -> Result<HeaderValue, BuildError> {
        let key = secret.read().map_err(|error| BuildError::Secret(place, error))?;
        let mut value = HeaderValue::try_from(format!("Bearer {}", key.expose())).map_err(|_| BuildError::Key(place))?;
        value.set_sensitive(true);
        Ok(value)
    };
    if config.auth.mode == Mode::Forward {
        return Ok(Keys::default());
    }
    let with_keys = config.enterprise.iter().filter_map(|enterprise| Some((enterprise.id, enterprise.api_key.as_ref()?)));
    Ok(Keys {
        default: Some(bearer("upstream.api_key", &config.upstream.api_key)?),
        by_enterprise: with_keys.map(|(id, key)| bearer("enterprise.api_key", key).map(|key| (id, key))).collect::<Result<_, _>>()?,
    })
}
