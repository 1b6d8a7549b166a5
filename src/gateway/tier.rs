//! What this gateway and the others tell each other about copies: a better copy is asked for before anything is looked for upstream, what was
//! learnt is offered, and what is not true any more is told.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use super::Gateway;
use super::ask::Ask;
use super::batch::Item;
use super::retrieve::Course;
use super::trail::{self, Step};
use super::visit::Visit;
use crate::auth::Mode;
use crate::cache::{Entry, Key, Ruling, Scope, SharedChange, Tier, Told};
use crate::clock::Clock;
use crate::config::Config;
use crate::flight::Seat;
use crate::policy::decide::Action;
use crate::policy::outlook::step;
use crate::policy::pricing::Billable;
use crate::policy::refresh;
use crate::shared::Redis;
use crate::spend::HoldId;
use crate::telemetry::Metrics;

/// What is shared over this Redis. Under forwarded credentials nobody may see another's copies, but purges are for all.
pub(super) fn tier(redis: Redis, config: &Config, clock: &Clock, metrics: &Metrics) -> Tier {
    let metrics = metrics.shared.clone();
    let count = Arc::new(move |told| match told {
        Told::Asked(asked) => metrics.copies.with_label_values(&[asked.as_str()]).inc(),
        Told::Degraded(what) => metrics.degraded.with_label_values(&[what.as_str()]).inc(),
    });
    // What a snapshot has is from whenever.
    let began = if config.cache.snapshot.is_some() { Duration::ZERO } else { clock.elapsed() };
    Tier::new(redis, config.shared.copies && config.auth.mode != Mode::Forward, (clock, began), count)
}

impl Gateway {
    /// Keeps in step with the gateways that share a Redis with this one, until `stop`.
    pub async fn follow_others(&self, stop: impl Future<Output = ()>) {
        let Some(tier) = &self.0.tier else { return };
        // Monitoring may have been disabled.
        let changed = |scope| match scope {
            Scope::All => self.0.monitoring.doubt_all(None),
            Scope::Enterprise(enterprise) => self.0.monitoring.doubt_all(Some(enterprise)),
            Scope::Number(..) => {}
        };
        tokio::select! {
            () = stop => {}
            () = tier.run(&self.0.cache, &self.0.lists, self.is_partitioned(), changed) => {}
        }
    }

    /// Whether copies and purges reach this gateway and leave it; so they do where it is on its own.
    pub fn is_in_step(&self) -> bool {
        self.0.tier.as_ref().is_none_or(Tier::is_up)
    }

    /// Whether all gateways have been told of every purge so far; waits a moment for that. Nothing, where there are no others.
    pub async fn others_know(&self) -> Option<bool> {
        match &self.0.tier {
            Some(tier) => Some(tier.have_been_told().await),
            None => None,
        }
    }

    /// These copies are not true any more: tells the others, and since which moment (monotonic) they are not true here.
    pub(super) fn tell_others(&self, scope: Scope, ruling: Ruling) -> Duration {
        if let Some(tier) = &self.0.tier {
            tier.change(SharedChange { scope, ruling });
        }
        self.0.clock.elapsed()
    }

    /// Keeps a copy, and offers it to the others.
    pub(super) fn keep(&self, entry: &Entry) {
        if self.0.cache.keep(entry)
            && let Some(tier) = &self.0.tier
        {
            tier.offer(entry);
        }
    }

    /// Keeps what was paid for, and has it where the others find it by its hold, before that ends.
    pub(super) async fn keep_bought(&self, entry: &Entry, hold: HoldId) {
        self.0.cache.keep(entry);
        if let Some(tier) = &self.0.tier {
            let _written = tier.put(&self.0.cache, entry, hold.0.unsigned_abs()).await;
        }
    }

    /// The copy that another gateway's call brought, by its hold.
    pub async fn bought_elsewhere(&self, key: &Key, hold: HoldId) -> Option<Entry> {
        let tier = self.0.tier.as_ref()?;
        tier.bought_by(&self.0.cache, key, hold.0.unsigned_abs()).await
    }

    /// What is known of the number now; where this gateway's own copy does not answer it, after the others' was asked for.
    pub(super) async fn course_of_all(&self, ask: &Ask, visit: &mut Visit) -> Course {
        let course = self.course(ask);
        if ask.want.no_cache || self.0.tier.is_none() {
            return course;
        }
        match step(&course.facts, self.0.rules.policy(ask.key.enterprise), || self.looks_first(&course)) {
            Action::Serve(..) | Action::Join => course,
            _ if visit.waiting_for(self.fetched(&ask.key)).await => self.course(ask),
            _ => course,
        }
    }

    /// The same for many numbers.
    pub(super) async fn items(&self, asks: Vec<Ask>, billable: Billable, visit: &mut Visit) -> Vec<Item> {
        if let Some(ask) = asks.first() {
            trail::note(|| Step::Policy(Box::new(*self.0.rules.policy(ask.key.enterprise))));
        }
        let mut items: Vec<_> = asks.into_iter().map(|ask| self.item(ask, billable, false)).collect();
        if self.0.tier.is_none() {
            return items;
        }
        let mut fetching = JoinSet::new();
        for (at, item) in items.iter().enumerate() {
            if matches!(item.action, refresh::Action::Buy | refresh::Action::Look) {
                let (gateway, key) = (self.clone(), item.ask.key);
                fetching.spawn(async move { (at, gateway.fetched(&key).await) });
            }
        }
        for (at, is_better) in visit.waiting_for(fetching.join_all()).await {
            if is_better {
                items[at] = self.item(items[at].ask.clone(), billable, false);
            }
        }
        items
    }

    /// Asks the others for a better copy, or waits for whoever is asking. Whether there was one.
    async fn fetched(&self, key: &Key) -> bool {
        let Some(tier) = &self.0.tier else { return false };
        match self.0.fetches.board(key) {
            Seat::Follow(fetch) => fetch.landed().await.unwrap_or(false),
            Seat::Lead(lead) => {
                let is_better = tier.fetch(&self.0.cache, key, self.0.calls.of(key).paid).await;
                lead.land(is_better);
                is_better
            }
        }
    }
}
