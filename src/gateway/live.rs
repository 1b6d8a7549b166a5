//! One configuration after another: which of them a request goes by, and the change from one to the next.
//!
//! A change is one atomic store, made when everything that can fail has been made. Whatever began before goes on under the configuration that it
//! began with; whatever begins after it goes by the new one.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use http::request::Parts;
use http::{Request, Response};
use hyper::body::Incoming;
use tokio::sync::watch;

use super::hit::PlainRead;
use super::{BuildError, Gateway, View};
use crate::clock::Clock;
use crate::config::Config;
use crate::server::{Abort, Service};
use crate::wire::body::Body;

/// The gateway of a process, whatever its configuration is; clones are the same one.
#[derive(Clone)]
pub struct Live(Arc<Inner>);

struct Inner {
    current: ArcSwap<View>,
    /// Which configuration it is, counted from the start: cheaper to ask than the configuration itself.
    edition: AtomicU64,
    /// Tells who waits for it of each change.
    changes: watch::Sender<()>,
}

impl Live {
    /// Makes a gateway. Nothing is sent upstream before it runs.
    pub fn build(config: &Config, clock: &Clock) -> Result<Self, BuildError> {
        let first = View::first(config, clock)?;
        Ok(Self(Arc::new(Inner { current: ArcSwap::from_pointee(first), edition: AtomicU64::new(0), changes: watch::Sender::new(()) })))
    }

    /// The gateway under the configuration in force.
    pub fn gateway(&self) -> Gateway {
        Gateway(self.0.current.load_full())
    }

    /// Hears of each configuration that comes into force from now on.
    pub(super) fn changes(&self) -> watch::Receiver<()> {
        self.0.changes.subscribe()
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
