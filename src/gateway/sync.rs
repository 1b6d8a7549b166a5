//! The lists of the configured enterprises, read ahead: plain reads are hits from the first minute, and what Telnyx's own schedule
//! refreshed shows up, for nothing.
//!
//! One pass after the other over each enterprise's list, a page at a time, and only when that keeps no caller's request waiting. A page that
//! cannot be had is asked for again, after ever longer waits; the pages before it are not. A list that changes while it is read is
//! read on: its records are right all the same, and only what it leaves out means nothing then.

use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::num::NonZeroU32;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus::IntGauge;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{JoinSet, spawn_blocking};

use super::failure::Failure;
use super::{Gateway, Live};
use crate::auth::Mode;
use crate::cache::Evidence;
use crate::clock::{Bucket, Clock};
use crate::config::Config;
use crate::policy::entitlement::Partition;
use crate::telemetry::metrics::SyncPage;
use crate::telnyx::record::{self, Item};
use crate::telnyx::{EnterpriseId, Operation, PhoneNumber};
use crate::units::{Rate, spread};
use crate::upstream::{self, Credential};

/// The most that Telnyx puts on a page.
const PAGE_SIZE: u32 = 250;
/// A list of a million numbers. What is beyond is read when somebody asks for it.
const MOST_PAGES: u32 = 4_000;
/// One part in so many of `upstream.rate` is for reading ahead, all enterprises together.
const SHARE: NonZeroU32 = NonZeroU32::new(4).expect("not zero");
/// One part in so many of `upstream.max_in_flight` is, beside the places of renewals.
const PLACES: usize = 8;
/// The part by which intervals are spread, downwards, so that enterprises do not go together.
const SPREAD: f64 = 0.1;
/// Who gives way to others looks again after this.
const GIVES_WAY: Duration = Duration::from_secs(1);
/// A page that could not be had is asked for again after this; each further wait is twice as long.
const FIRST_WAIT: Duration = Duration::from_secs(5);
/// The wait does not grow beyond this.
const LONGEST_WAIT: Duration = Duration::from_mins(5);

/// What is read ahead, and how fast.
#[derive(Debug)]
pub(super) struct Plan {
    enterprises: Vec<EnterpriseId>,
    interval: Duration,
    rate: Rate,
    pace: Bucket,
    places: Arc<Semaphore>,
}

impl Plan {
    /// As it is configured; the former one, where that says the same. Under forwarded credentials there is no key of the gateway's own to read
    /// with.
    pub(super) fn of(config: &Config, clock: &Clock, former: Option<&Arc<Self>>) -> Option<Arc<Self>> {
        if !config.sync.enabled || config.auth.mode == Mode::Forward {
            return None;
        }
        let (enterprises, interval, rate) = (config.enterprises(), config.sync.interval.0, config.upstream.rate.part(SHARE));
        let is_same = |plan: &Self| plan.enterprises == enterprises && plan.interval == interval && plan.rate == rate;
        if let Some(former) = former.filter(|former| is_same(former)) {
            return Some(Arc::clone(former));
        }
        let places = Arc::new(Semaphore::new((config.upstream.max_in_flight / PLACES).max(1)));
        Some(Arc::new(Self { enterprises, interval, rate, pace: clock.bucket(rate), places }))
    }
}

/// The last whole pass over each enterprise's list.
#[derive(Debug, Default)]
pub(super) struct Synced(Mutex<HashMap<EnterpriseId, Whole>>);

impl Synced {
    /// Forgets the passes over other lists than these.
    fn keep(&self, enterprises: &[EnterpriseId]) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|enterprise, _| enterprises.contains(enterprise));
    }
}

#[derive(Clone, Copy, Debug)]
struct Whole {
    numbers: usize,
    /// As Unix time.
    at: f64,
}

/// One pass over a list.
#[derive(Debug)]
struct Pass {
    /// Monotonic.
    begun: Duration,
    /// The page that is read next, from 1.
    page: u32,
    listed: HashSet<PhoneNumber>,
    /// How long the list is, by its last page.
    total: Option<u64>,
    /// Whether all pages so far can be of one list that did not change meanwhile.
    is_steady: bool,
}

impl Pass {
    fn new(begun: Duration) -> Self {
        Self { begun, page: 1, listed: HashSet::new(), total: None, is_steady: true }
    }

    /// Takes a page. Whether it is the last one: all numbers were seen, or it brought none that was not.
    fn take(&mut self, numbers: &[PhoneNumber], total: u64) -> bool {
        let before = self.listed.len();
        self.listed.extend(numbers);
        let new = self.listed.len() - before;
        self.is_steady &= new == numbers.len() && self.total.is_none_or(|known| known == total);
        self.total = Some(total);
        self.page += 1;
        new == 0 || self.listed.len() as u64 >= total || self.page > MOST_PAGES
    }

    /// A page could not be had: the next one that can is of another time.
    fn fail(&mut self) {
        self.is_steady = false;
    }

    /// Whether it saw one list from end to end, so that a number which it did not see is not there.
    fn is_whole(&self) -> bool {
        self.is_steady && self.total == Some(self.listed.len() as u64)
    }
}

/// A pass that is under way, as the metrics tell it.
struct Running(IntGauge);

impl Running {
    fn begin(gauge: &IntGauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Live {
    /// Reads the lists ahead, until `stop`. Where a configuration changes which lists, or how fast, they are begun anew.
    pub async fn sync(&self, stop: impl Future<Output = ()>) {
        let (mut stop, mut changes) = (pin!(stop), self.changes());
        loop {
            let gateway = self.gateway();
            let plan = gateway.0.rules.sync.clone();
            let enterprises = plan.iter().flat_map(|plan| plan.enterprises.iter().copied());
            gateway.0.synced.keep(&enterprises.clone().collect::<Vec<_>>());
            let mut tasks = JoinSet::new();
            for enterprise in enterprises {
                let live = self.clone();
                tasks.spawn(async move { live.keep_in_step(enterprise).await });
            }
            drop(gateway);
            let is_other = |plan: &Option<Arc<Plan>>| {
                let now = self.gateway().0.rules.sync.clone();
                !plan.iter().zip(&now).any(|(plan, now)| Arc::ptr_eq(plan, now)) && (plan.is_some() || now.is_some())
            };
            let stops = loop {
                tokio::select! {
                    Some(ended) = tasks.join_next() => {
                        if let Err(error) = ended {
                            tracing::error!(%error, "reading a list ahead failed");
                        }
                    }
                    _ = changes.changed() => {
                        if is_other(&plan) {
                            break false;
                        }
                    }
                    () = &mut stop => break true,
                }
            };
            // What is under way costs nothing, so nothing has to be waited for.
            tasks.shutdown().await;
            if stops {
                return;
            }
        }
    }

    /// One pass after the other over one list, each page under the configuration in force.
    async fn keep_in_step(&self, enterprise: EnterpriseId) {
        let mut refused = None;
        loop {
            let gateway = self.gateway();
            let Some(interval) = gateway.0.rules.sync.as_ref().map(|plan| plan.interval) else { return };
            let (clock, running) = (gateway.0.clock.clone(), Running::begin(&gateway.0.metrics.sync.running));
            let (pass, name) = (Pass::new(clock.elapsed()), gateway.named(enterprise));
            drop(gateway);
            let next = pass.begun + spread(interval, SPREAD, &(enterprise, pass.begun));
            let ended = self.read_through(enterprise, pass).await;
            drop(running);
            let why = ended.err().map(|failure| said(&failure));
            if let Some(why) = why.as_ref().filter(|why| refused.as_ref() != Some(*why)) {
                tracing::warn!(enterprise = name, why, "an enterprise's list is not shown, and not read ahead until it is");
            }
            refused = why;
            clock.reaches(next).await;
        }
    }

    /// Reads a list from its first page to its last. Ends early where Telnyx refuses it.
    async fn read_through(&self, enterprise: EnterpriseId, mut pass: Pass) -> Result<(), Failure> {
        let (name, clock) = (self.gateway().named(enterprise), self.gateway().clock().clone());
        tracing::info!(enterprise = name, "reading a list ahead has begun");
        let mut wait = FIRST_WAIT;
        loop {
            let gateway = self.gateway();
            match gateway.read_ahead(enterprise, &mut pass).await {
                Ok(is_last) => {
                    gateway.count(SyncPage::Read);
                    wait = FIRST_WAIT;
                    if is_last {
                        break;
                    }
                }
                Err(failure) if failure.is_final() || matches!(failure, Failure::RejectedCredentials) => {
                    gateway.count(SyncPage::Refused);
                    return Err(failure);
                }
                Err(failure) => {
                    gateway.count(SyncPage::Failed);
                    pass.fail();
                    if wait == FIRST_WAIT {
                        tracing::warn!(
                            enterprise = name,
                            page = pass.page,
                            why = said(&failure),
                            "a list cannot be read on, and is tried again"
                        );
                    }
                    drop(gateway);
                    clock.reaches(clock.elapsed() + wait).await;
                    wait = (wait * 2).min(LONGEST_WAIT);
                }
            }
        }
        let (pages, numbers, began) = (pass.page - 1, pass.listed.len(), pass.begun);
        let forgotten = self.gateway().finish(enterprise, pass).await;
        let seconds = clock.elapsed().saturating_sub(began).as_secs_f64();
        tracing::info!(enterprise = name, pages, numbers, forgotten, seconds, "reading a list ahead has finished");
        Ok(())
    }
}

impl Gateway {
    /// Reads the next page when nobody is kept waiting by it, and keeps its records. Whether it was the last.
    async fn read_ahead(&self, enterprise: EnterpriseId, pass: &mut Pass) -> Result<bool, Failure> {
        let (plan, context) = self.0.rules.sync.as_ref().zip(self.own_context(enterprise, None)).ok_or(Failure::RejectedCredentials)?;
        let place = self.ease(plan, &context.credential).await;
        let begun = self.0.clock.elapsed();
        let path = format!("/enterprises/{enterprise}/reputation/numbers?page%5Bnumber%5D={}&page%5Bsize%5D={PAGE_SIZE}", pass.page);
        let answer = self.free(&path, Operation::List, &context).await?;
        drop(place);
        let (items, total) = page(&answer, enterprise).ok_or(Failure::Invalid)?;
        let numbers: Vec<PhoneNumber> = items.iter().map(|item| item.record.phone_number).collect();
        self.harvest(Partition::SHARED, &answer, items, begun, Evidence::Sync);
        Ok(pass.take(&numbers, total))
    }

    /// Waits until a request that nobody waits for keeps no other one waiting.
    async fn ease(&self, plan: &Plan, credential: &Credential) -> OwnedSemaphorePermit {
        let clock = &self.0.clock;
        loop {
            let place = Arc::clone(&plan.places).try_acquire_owned().ok().filter(|_| self.0.upstream.is_at_ease(credential));
            let paced = if place.is_some() { plan.pace.check() } else { Ok(()) };
            let wait = match (place, paced) {
                (Some(place), Ok(())) => return place,
                (None, _) => GIVES_WAY,
                (Some(_), Err(early)) => early.wait_time_from(governor::clock::Clock::now(clock)),
            };
            clock.reaches(clock.elapsed() + wait).await;
        }
    }

    /// Forgets what the whole list has no more, and tells how far the lists are read. How many copies went.
    async fn finish(&self, enterprise: EnterpriseId, pass: Pass) -> usize {
        let numbers = pass.listed.len();
        let mut forgotten = 0;
        if pass.is_whole() {
            let cache = self.0.cache.clone();
            let swept = spawn_blocking(move || cache.forget_unlisted(enterprise, &pass.listed, pass.begun));
            forgotten = swept.await.unwrap_or_default();
        }
        let metrics = &self.0.metrics.sync;
        metrics.forgotten.inc_by(forgotten as u64);
        let mut synced = self.0.synced.0.lock().unwrap_or_else(PoisonError::into_inner);
        synced.insert(enterprise, Whole { numbers, at: self.0.clock.now().as_duration().as_secs_f64() });
        metrics.numbers.set(synced.values().map(|whole| i64::try_from(whole.numbers).unwrap_or(i64::MAX)).sum());
        if self.0.rules.sync.as_ref().is_some_and(|plan| synced.len() == plan.enterprises.len()) {
            metrics.last_success.set(synced.values().map(|whole| whole.at).fold(f64::INFINITY, f64::min));
        }
        forgotten
    }

    fn count(&self, result: SyncPage) {
        self.0.metrics.sync.pages.with_label_values(&[result.as_str()]).inc();
    }

    /// An enterprise as the log calls it.
    fn named(&self, enterprise: EnterpriseId) -> String {
        self.0.rules.enterprise_names.get(&enterprise).cloned().unwrap_or_else(|| enterprise.to_string())
    }
}

/// A failure as the log tells it, without what Telnyx's own body says.
fn said(failure: &Failure) -> String {
    match failure {
        Failure::Refused(relay) => relay.status.to_string(),
        other => format!("{other:?}"),
    }
}

/// The items of a page, all of this enterprise, and how long the list is.
fn page(answer: &upstream::Answer, enterprise: EnterpriseId) -> Option<(Vec<Item>, u64)> {
    let items = record::list(&answer.body).ok()?;
    let is_own = items.iter().all(|item| item.record.enterprise_id == enterprise);
    is_own.then_some((items, record::total(&answer.body).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(range: std::ops::Range<u32>) -> Vec<PhoneNumber> {
        range.map(|n| format!("+1202555{n:04}").parse().expect("E.164")).collect()
    }

    #[test]
    fn a_list_is_whole_when_each_of_its_numbers_was_seen_once() {
        let mut pass = Pass::new(Duration::ZERO);
        assert!(!pass.take(&numbers(0..250), 300) && !pass.is_whole());
        assert!(pass.take(&numbers(250..300), 300) && pass.is_whole());
        let mut empty = Pass::new(Duration::ZERO);
        assert!(empty.take(&[], 0) && empty.is_whole());
    }

    #[test]
    fn a_list_that_changed_repeats_or_ends_early_tells_nothing_of_what_it_leaves_out() {
        type Page = (Vec<PhoneNumber>, u64, bool);
        let passes: [&[Page]; 4] = [
            &[(numbers(0..10), 20, false), (numbers(10..19), 19, true)],
            &[(numbers(0..10), 20, false), (numbers(9..19), 20, false), (vec![], 20, true)],
            &[(numbers(0..10), 20, false), (numbers(0..10), 20, true)],
            &[(numbers(0..10), 20, false), (vec![], 20, true)],
        ];
        for pages in passes {
            let mut pass = Pass::new(Duration::ZERO);
            for (numbers, total, is_last) in pages {
                assert_eq!(pass.take(numbers, *total), *is_last, "{pages:?}");
            }
            assert!(!pass.is_whole(), "{pages:?}");
        }
        let mut failed = Pass::new(Duration::ZERO);
        failed.fail();
        assert!(failed.take(&numbers(0..10), 10) && !failed.is_whole());
    }

    #[test]
    fn a_list_without_end_is_left() {
        let mut pass = Pass::new(Duration::ZERO);
        let page = |n: u32| vec![format!("+1202{n:07}").parse().expect("E.164")];
        let pages = (0..u32::MAX).take_while(|n| !pass.take(&page(*n), u64::MAX)).count();
        assert_eq!(pages, MOST_PAGES as usize - 1);
        assert!(!pass.is_whole());
    }
}
