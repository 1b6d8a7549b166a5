//! One configuration after another: which of them a request goes by, and the change from one to the next.
//!
//! A change is one atomic store, made when everything that can fail has been made. Whatever began before goes on under the configuration that it
//! began with; whatever begins after it goes by the new one. What is not a request's own (budgets, which the ledger decides by; the lifetimes of
//! copies that are made) changes at the same moment for all.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use http::request::Parts;
use http::{Request, Response};
use hyper::body::Incoming;
use tokio::sync::{Mutex, watch};
use tokio::time::timeout;

use super::build::labels;
use super::charge::LEDGER_WAIT;
use super::hit::PlainRead;
use super::{BuildError, Gateway, View};
use crate::clock::Clock;
use crate::config::{Config, InForce, Refused, Unsafe};
use crate::server::{Abort, Service};
use crate::telemetry::{NoLog, set_level};
use crate::webhook;
use crate::wire::body::Body;

/// The gateway of a process, whatever its configuration is; clones are the same one.
#[derive(Clone)]
pub struct Live(Arc<Inner>);

struct Inner {
    current: ArcSwap<View>,
    /// Which configuration it is, counted from the start: cheaper to ask than the configuration itself.
    edition: AtomicU64,
    /// The same for operators, who also hear of what did not come into force.
    in_force: watch::Sender<Arc<InForce>>,
    /// Taken by whoever changes it.
    changing: Mutex<()>,
}

/// Why a configuration does not come into force.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// Settings that are unsafe together; all of them.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Unsafe(Vec<Unsafe>),
    /// It is safe, and would not be with what stays as it is until a restart.
    #[error("with what stays as it is until a restart ({}): {}", .0.join(", "), .1.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    UnsafeForNow(Vec<&'static str>, Vec<Unsafe>),
    /// A key cannot be used.
    #[error("{0}")]
    Build(#[from] BuildError),
    /// The log cannot be told.
    #[error("{0}")]
    Log(#[from] NoLog),
}

impl Live {
    /// Makes a gateway. Nothing is sent upstream before it runs.
    pub fn build(config: &Config, clock: &Clock) -> Result<Self, BuildError> {
        let first = View::first(config, clock)?;
        let in_force = InForce { config: config.clone(), file: None, since: clock.now(), restart_needed: Vec::new(), refused: None };
        Ok(Self(Arc::new(Inner {
            current: ArcSwap::from_pointee(first),
            edition: AtomicU64::new(0),
            in_force: watch::Sender::new(Arc::new(in_force)),
            changing: Mutex::default(),
        })))
    }

    /// The gateway under the configuration in force.
    pub fn gateway(&self) -> Gateway {
        Gateway(self.0.current.load_full())
    }

    /// The configuration in force, and what became of the last one that was wanted.
    pub fn in_force(&self) -> Arc<InForce> {
        Arc::clone(&self.0.in_force.borrow())
    }

    /// Where its configurations are from, for operators.
    pub fn read_from(&self, file: Option<PathBuf>) {
        self.0.in_force.send_modify(|in_force| *in_force = Arc::new(InForce { file, ..InForce::clone(in_force) }));
    }

    /// Hears of each configuration that comes into force, or does not, from now on.
    pub(super) fn changes(&self) -> watch::Receiver<Arc<InForce>> {
        self.0.in_force.subscribe()
    }

    /// Puts another configuration in force, but for what needs a restart. After an error everything is as it was.
    pub async fn apply(&self, wanted: Config) -> Result<Arc<InForce>, ApplyError> {
        let _one_after_another = self.0.changing.lock().await;
        let unsafe_mixes = wanted.unsafe_mixes();
        if !unsafe_mixes.is_empty() {
            return Err(ApplyError::Unsafe(unsafe_mixes));
        }
        let before = self.gateway();
        let former = self.in_force();
        let (config, restart_needed) = former.config.followed_by(wanted);
        let unsafe_mixes = config.unsafe_mixes();
        if !unsafe_mixes.is_empty() {
            return Err(ApplyError::UnsafeForNow(restart_needed, unsafe_mixes));
        }
        let next = before.0.next(&config)?;
        let endpoints = webhook::endpoints(&config.webhook).map_err(BuildError::from)?;
        set_level(&config.telemetry.log)?;
        // Nothing fails from here on.
        let shared = Arc::clone(&next.shared);
        shared.metrics.stand(&labels(&config));
        shared.cache.renew(&config.cache, config.caches());
        shared.lists.renew(config.cache.list_ttl.0);
        shared.webhooks.replace(endpoints);
        if timeout(LEDGER_WAIT, shared.ledger.rebudget(config.budget.clone(), next.rules.memory)).await.is_err() {
            tracing::warn!("the ledger does not answer; it goes by the new budgets when it does");
        }
        self.0.current.store(Arc::new(next));
        self.0.edition.fetch_add(1, Ordering::Release);
        shared.metrics.config.reload_success.set(1);
        shared.metrics.config.last_reload_success.set(shared.clock.now().as_duration().as_secs_f64());
        shared.metrics.config.restart_needed.set(i64::try_from(restart_needed.len()).unwrap_or(i64::MAX));
        let in_force = Arc::new(InForce { config, file: former.file.clone(), since: shared.clock.now(), restart_needed, refused: None });
        self.0.in_force.send_replace(Arc::clone(&in_force));
        Ok(in_force)
    }

    /// A configuration was to come into force and cannot; everything is as it was.
    pub fn refused(&self, why: String) {
        let gateway = self.gateway();
        gateway.0.metrics.config.reload_success.set(0);
        let refused = Some(Refused { at: gateway.0.clock.now(), why });
        self.0.in_force.send_modify(|in_force| *in_force = Arc::new(InForce { refused, ..InForce::clone(in_force) }));
    }
}

/// A plain read is answered under the configuration that its head was understood under, which is asked to be the one in force.
impl Service for Live {
    type Known = (Gateway, PlainRead);

    async fn call(&self, request: Request<Incoming>) -> Result<Response<Body>, Abort> {
        Ok(self.gateway().handle(request).await)
    }

    fn know(&self, head: &Parts) -> Option<Self::Known> {
        let gateway = self.gateway();
        let read = gateway.plain_read(head)?;
        Some((gateway, read))
    }

    fn edition(&self) -> u64 {
        self.0.edition.load(Ordering::Acquire)
    }

    fn at_once(&self, target: &str, (gateway, read): &Self::Known, answers: &mut Vec<u8>) -> bool {
        gateway.hit(target, read, answers).is_some()
    }
}
