//! Webhooks: events of the ledger are posted to receivers, signed, until each has them.
//!
//! [`Webhooks::tell`] puts an event into a queue of each receiver that wants it, and returns: whoever tells never waits, and a queue that is full
//! loses its oldest. [`Webhooks::run`] posts, one delivery to a receiver at a time, so that one that hangs holds up nobody else's. What
//! fails is posted again after a pause that doubles, or after the receiver's own `Retry-After`, with the same id and bytes, and given up after a day.
//!
//! Format and signature are those of Standard Webhooks (standardwebhooks.com). Not here: who tells an event once, which is the ledger
//! (`spend`); and keeping what waits over a crash: it is in the ledger and in the metrics all the same.

mod config;
mod delivery;
mod notice;
mod queue;
mod signature;

use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use strum::{IntoStaticStr, VariantArray};
use tokio::sync::Notify;
use tokio::task::JoinSet;

pub use self::config::{Config, NotAUrl, Url};
pub use self::delivery::Endpoint;
use self::delivery::{Outcome, Sender};
pub use self::notice::{Kind, Notice};
use self::queue::{Queue, Turn};
pub use self::signature::NoKey;
use crate::clock::Clock;

/// How long a stop waits for what is posted once more.
const FAREWELL: Duration = Duration::from_secs(5);

/// What becomes of a notice at one receiver, and of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum Delivery {
    /// The receiver took it.
    Delivered,
    /// It did not, and will be asked again.
    Failed,
    /// It did not, and will not be asked again.
    GivenUp,
    /// The queue was full, and this was the oldest in it.
    Dropped,
}

impl Delivery {
    /// All of them.
    pub const ALL: &[Self] = Self::VARIANTS;

    /// Its name in the metric.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// Where deliveries are counted.
pub type Report = Arc<dyn Fn(Delivery) + Send + Sync>;

/// All receivers; clones share them.
#[derive(Clone)]
pub struct Webhooks(Arc<Inner>);

struct Inner {
    queue: Mutex<Queue>,
    /// Told of each event.
    changed: Notify,
    sender: Sender,
    clock: Clock,
    report: Report,
}

impl fmt::Debug for Webhooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Webhooks").field("waiting", &self.waiting()).finish_non_exhaustive()
    }
}

/// Reads each receiver's key: all that can fail of a new list of them.
pub fn endpoints(configs: &[Config]) -> Result<Vec<Endpoint>, NoKey> {
    configs.iter().map(Endpoint::new).collect()
}

impl Webhooks {
    /// Nothing is posted before it runs. Fails if the machine's certificates cannot be read.
    pub fn new(endpoints: Vec<Endpoint>, clock: &Clock, report: Report) -> std::io::Result<Self> {
        let queue = Mutex::new(Queue::default());
        let inner = Inner { queue, changed: Notify::new(), sender: Sender::new()?, clock: clock.clone(), report };
        let webhooks = Self(Arc::new(inner));
        webhooks.replace(endpoints);
        Ok(webhooks)
    }

    /// Posts to these receivers from now on. What waits for one whose URL stays is posted there; what waits for another is dropped.
    pub fn replace(&self, endpoints: Vec<Endpoint>) {
        let dropped = self.queue().replace(endpoints);
        self.count(Delivery::Dropped, dropped);
        self.0.changed.notify_one();
    }

    /// Has an event posted to each receiver that wants it. Waits for nothing.
    pub fn tell(&self, notice: Notice) {
        let dropped = self.queue().push(&Arc::new(notice), self.0.clock.elapsed());
        if dropped > 0 {
            tracing::error!(dropped, "webhooks: too many events wait for a receiver, and the oldest are not posted");
        }
        self.count(Delivery::Dropped, dropped);
        self.0.changed.notify_one();
    }

    /// How many events wait, each once for each receiver, with those that are being posted.
    pub fn waiting(&self) -> usize {
        self.queue().len()
    }

    /// Posts until `stop`; then what waits once more, within five seconds.
    pub async fn run(&self, stop: impl Future<Output = ()>) {
        let mut under_way = JoinSet::new();
        tokio::select! {
            () = stop => {}
            () = self.deliver(&mut under_way) => {}
        }
        self.queue().stop();
        let limit = self.0.clock.elapsed() + FAREWELL;
        tokio::select! {
            () = self.deliver(&mut under_way) => {}
            () = self.0.clock.reaches(limit) => {}
        }
        let left = self.waiting();
        if left > 0 {
            tracing::error!(left, "webhooks: the gateway stops, and events are not posted any more");
            self.count(Delivery::GivenUp, left);
        }
    }

    /// Posts what is due when it is due; ends after a stop, when nothing waits.
    async fn deliver(&self, under_way: &mut JoinSet<()>) {
        loop {
            let turns: Vec<Turn> = std::iter::from_fn(|| self.queue().take(self.0.clock.elapsed())).collect();
            for turn in turns {
                under_way.spawn(self.clone().post(turn));
            }
            let due = self.queue().due();
            let when_due = async {
                match due {
                    Some(due) => self.0.clock.reaches(due).await,
                    None => std::future::pending().await,
                }
            };
            if self.queue().is_finished() {
                return;
            }
            tokio::select! {
                () = self.0.changed.notified() => {}
                () = when_due => {}
                Some(ended) = under_way.join_next() => {
                    if let Err(error) = ended {
                        tracing::error!(%error, "webhooks: a delivery failed in a way that it never should");
                    }
                }
            }
        }
    }

    async fn post(self, turn: Turn) {
        let (notice, receiver) = (Arc::clone(&turn.notice), Arc::clone(&turn.endpoint));
        let outcome = self.0.sender.post(&receiver, &notice, &self.0.clock).await;
        let became = self.queue().settle(turn, &outcome, self.0.clock.elapsed());
        let (event, id, receiver) = (notice.kind.as_str(), notice.id.as_str(), &receiver.url);
        match (became, &outcome) {
            (Delivery::Delivered, _) => tracing::debug!(event, id, ?receiver, "webhook delivered"),
            (Delivery::Failed, Outcome::Failed { why, .. }) => {
                tracing::warn!(event, id, ?receiver, why, "a webhook was not delivered and is tried again");
            }
            (_, Outcome::Failed { why, .. }) => tracing::error!(event, id, ?receiver, why, "a webhook is given up"),
            (_, Outcome::Gone | Outcome::Taken) => tracing::error!(event, id, ?receiver, "a webhook is given up: the receiver is gone"),
        }
        (self.0.report)(became);
    }

    fn count(&self, became: Delivery, times: usize) {
        (0..times).for_each(|_| (self.0.report)(became));
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.0.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::queue::MOST;
    use super::*;
    use crate::secret::Secret;

    #[test]
    fn whoever_tells_never_waits_and_a_full_queue_loses_its_oldest() {
        let config = |port: u16, events: &[Kind]| Config {
            url: format!("http://127.0.0.1:{port}/").parse().expect("a URL"),
            secret: Secret::Plain("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".to_owned()),
            events: events.to_vec(),
            timeout: "10s".parse().expect("a time"),
        };
        let dropped = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&dropped);
        let report = Arc::new(move |became| {
            assert_eq!(became, Delivery::Dropped);
            counted.fetch_add(1, Ordering::SeqCst);
        });
        let clock = Clock::manual("2026-03-24T12:00:00Z".parse().expect("an instant"));
        let receivers = [config(1, Kind::ALL), config(2, &[Kind::OutcomeUnknown])];
        let webhooks = Webhooks::new(endpoints(&receivers).expect("keys"), &clock, report).expect("certificates");
        for n in 0..MOST + 100 {
            webhooks.tell(Notice::kill_switch(true, clock.now(), Some(&n.to_string()), None));
        }
        assert_eq!((dropped.load(Ordering::SeqCst), webhooks.waiting()), (100, MOST), "the second receiver wants none of these");
        let turn = webhooks.queue().take(clock.elapsed()).expect("all are due");
        assert!(String::from_utf8_lossy(&turn.notice.body).contains(r#""reason":"100""#), "{turn:?}");
        assert!(!format!("{turn:?} {webhooks:?}").contains("MfKQ9"), "{turn:?}");
        webhooks.replace(endpoints(&receivers[..1]).expect("keys"));
        assert_eq!(webhooks.waiting(), MOST, "what waits for a receiver that stays goes on waiting");
        webhooks.replace(Vec::new());
        assert_eq!((dropped.load(Ordering::SeqCst), webhooks.waiting()), (100 + MOST - 1, 0));
    }
}
