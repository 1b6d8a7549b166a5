//! From a configuration to a gateway: every engine is made here, and told where to count.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

use super::decisions::Decisions;
use super::single::Monitoring;
use super::snapshot::Snapshots;
use super::unresolved::{Call, Pending};
use super::{Gateway, Purge, Rules, Shared, elsewhere, sync, tier};
use crate::auth::{ANONYMOUS, Mode};
use crate::cache::{self, Asked, Cache, Calls, Degraded, Eviction, FailedLooks, Key, Lists, PaidCalls, Tier};
use crate::clock::Clock;
use crate::config::Config;
use crate::flight::Flights;
use crate::limit::Limiter;
use crate::policy::entitlement::Partition;
use crate::policy::money::Usd;
use crate::secret::NoSecret;
use crate::shared::{NoRedis, Redis};
use crate::spend::{End, Event, Ledger, Observe, OpenError, Past, Posted, THRESHOLDS};
use crate::telemetry::metrics::Labels;
use crate::telemetry::traces::NoTraces;
use crate::telemetry::{Metrics, Traces};
use crate::upstream::Standing;
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
    /// Spans cannot be exported.
    #[error("{0}")]
    Traces(#[from] NoTraces),
    /// The machine's certificates cannot be read.
    #[error("the machine's CA certificates cannot be read: {0}")]
    Certificates(std::io::Error),
}

/// Stale copies are renewed with one part in so many of the requests that may be under way.
const RENEWALS: usize = 4;

impl Shared {
    /// Makes the engines, for the rules of the first configuration.
    pub(super) fn new(config: &Config, rules: &Rules, clock: &Clock) -> Result<Self, BuildError> {
        let metrics = Metrics::new(&labels(config));
        metrics.config.reload_success.set(1);
        metrics.config.last_reload_success.set(clock.now().as_duration().as_secs_f64());
        let evictions = metrics.cache_evictions.clone();
        // Under forwarded credentials the ledger does not know whose part of the cache a call was for.
        let memory = match config.auth.mode {
            Mode::Forward => Duration::ZERO,
            Mode::Keys | Mode::Open => rules.memory,
        };
        let (calls, pending, monitoring) = (PaidCalls::new(config.fresh.remembered_numbers), Pending::default(), Monitoring::default());
        let recall = Recall {
            calls: calls.clone(),
            pending: pending.clone(),
            monitoring: monitoring.clone(),
            clock: clock.clone(),
            effect: rules.effect,
        };
        let recall = Some(recall).filter(|_| config.auth.mode != Mode::Forward);
        let redis = Redis::new(&config.shared)?;
        let webhooks = webhooks(config, clock, &metrics)?;
        let ledger = ledger(config, redis.clone(), rules.memory, clock, observe(&metrics, recall, (webhooks.clone(), clock.clone())))?;
        let on_eviction = Arc::new(move |why: Eviction| evictions.with_label_values(&[why.as_str()]).inc());
        let cache = Cache::new(&config.cache, config.caches(), on_eviction);
        // After the ledger, which knows what was bought since the snapshot.
        let snapshots = Snapshots::restored(config, &cache, &calls, clock, &metrics);
        metrics.shared.configured.set(i64::from(redis.is_some()));
        let tier = redis.clone().map(|redis| tier::tier(redis, config, clock, &metrics));
        Ok(Self {
            cache,
            lists: Lists::new(&config.cache),
            calls,
            pending,
            ledger,
            traces: Traces::new(&config.telemetry, &metrics.spans)?,
            webhooks,
            metrics,
            decisions: Decisions::new(config.telemetry.decisions),
            clock: clock.clone(),
            looks: Flights::default(),
            fetches: Flights::default(),
            failed_looks: FailedLooks::default(),
            purchases: Flights::default(),
            monitoring,
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
        })
    }
}

impl Gateway {
    /// All metrics in Prometheus's text format. Gauges are read here and now, from what they tell of. When the certificates of callers'
    /// connections are over is told to it, as Unix time.
    pub fn scrape(&self, certificate_expiry: Option<Duration>) -> Vec<u8> {
        let metrics = &self.0.metrics;
        metrics.certificate_expiry.set(certificate_expiry.unwrap_or_default().as_secs_f64());
        let budgets = self.0.ledger.budgets();
        metrics.show_budgets(budgets.iter().map(|budget| budget.name.as_str()));
        for budget in budgets {
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

pub(super) fn labels(config: &Config) -> Labels {
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
