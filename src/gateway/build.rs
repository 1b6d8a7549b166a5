//! From a configuration to a gateway: every engine is made here, and told where to count.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

use super::single::Monitoring;
use super::snapshot::Snapshots;
use super::unresolved::{Call, Pending};
use super::{Gateway, Keys, Purge, Rules, Shared, elsewhere, enterprise, sync, tier};
use crate::auth::{ANONYMOUS, Auth, Mode};
use crate::cache::{self, Asked, Cache, Calls, Degraded, Eviction, FailedLooks, Key, Lists, PaidCalls, Tier};
use crate::clock::Clock;
use crate::config::Config;
use crate::flight::Flights;
use crate::limit::{Limiter, Limits};
use crate::policy::decide::Policy;
use crate::policy::entitlement::Partition;
use crate::policy::hindsight::LEAST_EFFECT;
use crate::policy::money::Usd;
use crate::secret::{NoSecret, Secret};
use crate::shared::{NoRedis, Redis};
use crate::spend::{End, Event, Ledger, Observe, OpenError, Past, Posted, THRESHOLDS};
use crate::telemetry::Metrics;
use crate::telemetry::metrics::Labels;
use crate::telnyx::EnterpriseId;
use crate::upstream::{Client, Standing};
use crate::webhook::{self, Delivery, NoKey, Notice, Webhooks};
use crate::wire::room::Room;

/// Why a gateway cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// A secret is not where the configuration says.
    #[error("{0}: {1}")]
    Secret(&'static str, #[source] NoSecret),
    /// A key has bytes that no HTTP field may hold.
    #[error("{0}: the key has characters that an HTTP header cannot carry")]
    Key(&'static str),
    /// A receiver's secret is no key.
    #[error("webhook.secret: {0}")]
    Webhook(#[from] NoKey),
    /// The ledger cannot be opened.
    #[error("{0}")]
    Ledger(#[from] OpenError),
    /// Nobody knows where the shared Redis is.
    #[error("{0}")]
    Shared(#[from] NoRedis),
    /// The machine's certificates cannot be read.
    #[error("the machine's CA certificates cannot be read: {0}")]
    Certificates(std::io::Error),
}

/// A call that timed out here may take effect for so much longer there.
const AFTER_TIMEOUT: Duration = Duration::from_mins(1);

/// Stale copies are renewed with one part in so many of the requests that may be under way.
const RENEWALS: usize = 4;

impl Gateway {
    /// Makes a gateway. Nothing is sent upstream before it runs.
    pub fn build(config: &Config, clock: &Clock) -> Result<Self, BuildError> {
        let (keys, auth) = (keys(config)?, Auth::new(&config.auth, &config.caller));
        let metrics = Metrics::new(&labels(config));
        metrics.config_reload_success.set(1);
        let evictions = metrics.cache_evictions.clone();
        let (policy, caches) = (config.policy(), config.caches());
        let policies: HashMap<_, _> = caches.iter().map(|(id, cache)| (*id, config.policy_with(cache))).collect();
        let longest = memory(&policy, &policies);
        // Under forwarded credentials the ledger does not know whose part of the cache a call was for.
        let memory = match config.auth.mode {
            Mode::Forward => Duration::ZERO,
            Mode::Keys | Mode::Open => longest,
        };
        let (calls, pending, monitoring) = (PaidCalls::new(config.fresh.remembered_numbers), Pending::default(), Monitoring::default());
        let effect = policy.unknown_window.max(LEAST_EFFECT).max(config.upstream.timeout.0 + AFTER_TIMEOUT);
        let recall =
            Recall { calls: calls.clone(), pending: pending.clone(), monitoring: monitoring.clone(), clock: clock.clone(), effect };
        let recall = Some(recall).filter(|_| config.auth.mode != Mode::Forward);
        let redis = Redis::new(&config.shared)?;
        let webhooks = webhooks(config, clock, &metrics)?;
        let ledger = ledger(config, redis.clone(), longest, clock, observe(&metrics, recall, (webhooks.clone(), clock.clone())))?;
        let cache = Cache::new(&config.cache, caches, Arc::new(move |why: Eviction| evictions.with_label_values(&[why.as_str()]).inc()));
        // After the ledger, which knows what was bought since the snapshot.
        let snapshots = Snapshots::restored(config, &cache, &calls, clock, &metrics);
        let tier = redis.clone().map(|redis| tier::tier(redis, config, clock, &metrics));
        Ok(Self(Arc::new(Shared {
            callers: auth.names().iter().map(|name| metrics.requests.caller(name)).collect(),
            auth,
            limits: limits(config, clock),
            cache,
            lists: Lists::new(&config.cache),
            calls,
            pending,
            ledger,
            webhooks,
            upstream: Client::new(&config.upstream, clock).map_err(BuildError::Certificates)?,
            metrics,
            clock: clock.clone(),
            rules: rules(config, clock, keys, policies, effect),
            looks: Flights::default(),
            fetches: Flights::default(),
            failed_looks: FailedLooks::new(config.cache.error_ttl.0),
            purchases: Flights::default(),
            monitoring,
            sole_enterprises: enterprise::no_soles_yet(),
            waiters: Semaphore::new(config.cache.max_waiters),
            renewals: Arc::new(Semaphore::new((config.upstream.max_in_flight / RENEWALS).max(1))),
            snapshots,
            synced: sync::Synced::default(),
            redis,
            ends: elsewhere::Ends::default(),
            tier,
            tasks: TaskTracker::new(),
            room: Room::new(config.server.max_buffered.0),
            remembers_since: clock.elapsed().saturating_sub(memory),
        })))
    }

    /// All metrics in Prometheus's text format. Gauges are read here and now, from what they tell of. When the certificates of callers'
    /// connections are over is told to it, as Unix time.
    pub fn scrape(&self, certificate_expiry: Option<Duration>) -> Vec<u8> {
        let metrics = &self.0.metrics;
        metrics.certificate_expiry.set(certificate_expiry.unwrap_or_default().as_secs_f64());
        for budget in self.0.ledger.budgets() {
            let name = [budget.name.as_str()];
            metrics.budget_limit.with_label_values(&name).set(budget.limit.as_metric());
            metrics.budget_spent.with_label_values(&name).set(budget.spent.as_metric());
            metrics.budget_held.with_label_values(&name).set(budget.held.as_metric());
            metrics.budget_resets.with_label_values(&name).set(budget.resets_at.as_duration().as_secs_f64());
            metrics.budget_enforced.with_label_values(&name).set(f64::from(u8::from(budget.enforced)));
        }
        metrics.upstream_breaker_state.set(match self.0.upstream.standing() {
            Standing::Closed => 0,
            Standing::Open(_) => 1,
            Standing::Due | Standing::Tried => 2,
        });
        metrics.upstream_paused.set(self.0.upstream.paused().as_secs_f64());
        metrics.ledger_available.set(i64::from(self.0.ledger.is_available()));
        metrics.shared.up.set(i64::from(self.0.tier.as_ref().is_some_and(Tier::is_up)));
        metrics.kill_switch.set(i64::from(self.0.ledger.is_stopped()));
        let holds = self.0.ledger.holds();
        let whole = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        metrics.holds_open.set(whole(holds.count as u64));
        metrics.hold_oldest_age.set(holds.oldest_age.unwrap_or_default().as_secs_f64());
        // A ledger that cannot be read leaves what was read last.
        if let Ok(Some(last)) = self.books().and_then(|books| books.last_reconciliation()) {
            metrics.reconciliation_timestamp.set(last.at.as_duration().as_secs_f64());
            metrics.reconciliation_drift.set(last.drift.as_metric());
            metrics.reconciliation_drifts.set(whole(last.drifts));
        }
        metrics.buffered_bytes.set(whole(self.0.room.taken() as u64));
        metrics.webhook.queue.set(whole(self.0.webhooks.waiting() as u64));
        metrics.calls_unresolved.set(whole(self.0.pending.count() as u64));
        let waiting = self.0.rules.max_waiters.saturating_sub(self.0.waiters.available_permits());
        metrics.requests_waiting.set(whole(waiting as u64));
        self.0.cache.expire(self.0.clock.elapsed());
        let (entries, bytes) = self.0.cache.size();
        metrics.cache_entries.set(whole(entries));
        metrics.cache_bytes.set(whole(bytes));
        metrics.render()
    }
}

/// The operator's choices. `effect`: how long a call may still take effect.
fn rules(config: &Config, clock: &Clock, keys: Keys, policies: HashMap<EnterpriseId, Policy>, effect: Duration) -> Rules {
    let policy = config.policy();
    Rules {
        policy,
        memory: memory(&policy, &policies),
        policies,
        effect,
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
        sync: sync::Plan::of(config, clock),
        log_full_numbers: config.telemetry.log_full_numbers,
    }
}

/// The limits on billable calls, of this gateway or of all that share the ledger.
fn limits(config: &Config, clock: &Clock) -> Limits {
    let rated = config.caller.iter().filter_map(|caller| Some((Arc::from(caller.name.as_str()), caller.fresh_rate?)));
    let limits = Limits::new(config.fresh.rate, rated, clock);
    if config.shared.redis_url.is_some() { limits.shared() } else { limits }
}

/// How long the policies need calls to be remembered.
fn memory(policy: &Policy, policies: &HashMap<EnterpriseId, Policy>) -> Duration {
    policies.values().map(Policy::memory).fold(policy.memory(), Duration::max)
}

/// Where events are posted.
fn webhooks(config: &Config, clock: &Clock, metrics: &Metrics) -> Result<Webhooks, BuildError> {
    let deliveries = metrics.webhook.deliveries.clone();
    let report = Arc::new(move |became: Delivery| deliveries.with_label_values(&[became.as_str()]).inc());
    Webhooks::new(webhook::endpoints(&config.webhook)?, clock, report).map_err(BuildError::Certificates)
}

/// A ledger of its own, or the one that gateways share.
fn ledger(config: &Config, redis: Option<Redis>, memory: Duration, clock: &Clock, observe: Observe) -> Result<Ledger, BuildError> {
    let budgets = config.budget.clone();
    let opened = match redis {
        None => Ledger::open(&config.ledger, budgets, memory, clock.clone(), observe),
        Some(redis) => Ledger::join(&config.ledger, redis, (budgets, config.prices), memory, clock.clone(), observe),
    };
    Ok(opened?)
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

fn labels(config: &Config) -> Labels {
    let callers = config.caller.iter().map(|caller| Arc::from(caller.name.as_str()));
    Labels {
        callers: callers.chain([Arc::from(ANONYMOUS)]).collect(),
        budgets: config.budget.iter().map(|budget| Arc::from(budget.name.as_str())).collect(),
        thresholds: THRESHOLDS.iter().map(ToString::to_string).collect(),
        hold_ends: End::ALL.iter().map(|end| end.as_str()).collect(),
        evictions: Eviction::ALL.iter().map(|why| why.as_str()).collect(),
        purges: Purge::ALL.iter().map(|how| how.as_str()).collect(),
        shared_copies: Asked::ALL.iter().map(|asked| asked.as_str()).collect(),
        degraded: Degraded::ALL.iter().map(|what| what.as_str()).collect(),
        limiters: Limiter::ALL.iter().map(|limiter| limiter.as_str()).collect(),
        deliveries: Delivery::ALL.iter().map(|became| became.as_str()).collect(),
    }
}

/// What a former run paid for is not paid for again.
struct Recall {
    calls: PaidCalls,
    pending: Pending,
    monitoring: Monitoring,
    clock: Clock,
    /// How long a call may still take effect.
    effect: Duration,
}

impl Recall {
    fn take(&self, posted: &Posted) {
        let ago = self.clock.now().duration_since(posted.held_at).try_into().unwrap_or_default();
        let sent = self.clock.elapsed().saturating_sub(ago);
        let Some(number) = posted.number else {
            let past = Some(Past { hold: posted.id, ago, price: Usd::ZERO, variant: None });
            let told = if posted.is_known { [past.as_ref(), None] } else { [None, past.as_ref()] };
            return self.monitoring.learn((Partition::SHARED, posted.enterprise), posted.operation, told, self.clock.elapsed());
        };
        let key = Key { partition: Partition::SHARED, enterprise: posted.enterprise, number };
        let call = cache::Call { hold: posted.id, sent, is_own: false };
        if posted.is_known {
            self.calls.learn(key, Calls::paid(call));
        } else {
            self.calls.learn(key, Calls::unknown(call));
            self.pending.add(key, Call::counted(posted.id, sent), sent + self.effect, None);
        }
    }
}

/// Counts, logs, remembers and posts what the ledger tells.
fn observe(metrics: &Metrics, recall: Option<Recall>, (webhooks, clock): (Webhooks, Clock)) -> Observe {
    let metrics = metrics.clone();
    let decided = |metrics: &Metrics, budget: &str, decision: &str| metrics.budget_decisions.with_label_values(&[budget, decision]).inc();
    Arc::new(move |event| match event {
        Event::Recalled(posted) => {
            if let Some(recall) = &recall {
                recall.take(posted);
            }
        }
        Event::CommitTook(time) => metrics.ledger_commit.observe(time.as_secs_f64()),
        Event::Allowed { budget } => decided(&metrics, budget, "allowed"),
        Event::Denied { budget } => decided(&metrics, budget, "denied"),
        Event::Ended { end, amount, caller } => {
            metrics.holds.with_label_values(&[end.as_str()]).inc();
            metrics.spend.add(caller, amount);
        }
        Event::TakenBack { amount, caller } => metrics.taken_back.add(caller, amount),
        Event::Threshold { budget, percent, spent, limit, window, at } => {
            metrics.budget_thresholds.with_label_values(&[budget, &percent.to_string()]).inc();
            tracing::warn!(budget, percent, %spent, %limit, "a budget's window reached a part of its limit");
            webhooks.tell(Notice::threshold(budget, percent, (spent, limit), window, at));
        }
        Event::Unknown { id, charge, held_at } => webhooks.tell(Notice::outcome_unknown(id, charge, held_at, clock.now())),
        Event::Switched(set) => {
            let at = set.since.unwrap_or_else(|| clock.now());
            webhooks.tell(Notice::kill_switch(set.on, at, set.reason.as_deref(), set.author.as_deref()));
        }
    })
}
