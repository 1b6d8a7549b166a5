//! How requests were decided over the last hours: samples of the counters, in memory. What was spent is in the ledger, for as long as it is kept.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::pin;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::gateway::Gateway;
use crate::policy::decision::Decision;

/// How far samples are apart.
const EVERY: Duration = Duration::from_secs(10);

/// Samples that are kept: six hours.
const MOST: usize = 2_160;

/// The samples, the oldest first.
#[derive(Debug, Default)]
pub(super) struct History(Mutex<VecDeque<Sample>>);

/// The counters at one moment.
#[derive(Debug)]
struct Sample {
    at: Timestamp,
    /// In the order of [`Decision::ALL`].
    decided: Vec<u64>,
}

impl History {
    /// Takes samples until `stop`.
    pub(super) async fn keep(&self, gateway: &Gateway, stop: impl Future<Output = ()>) {
        let mut stop = pin!(stop);
        loop {
            self.take(gateway);
            let next = gateway.clock().elapsed() + EVERY;
            tokio::select! {
                () = gateway.clock().reaches(next) => {}
                () = &mut stop => return,
            }
        }
    }

    fn take(&self, gateway: &Gateway) {
        let decided = gateway.counted().decisions.into_iter().map(|(_, count)| count).collect();
        let mut samples = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if samples.len() == MOST {
            samples.pop_front();
        }
        samples.push_back(Sample { at: gateway.clock().now(), decided });
    }

    /// What the samples have, and the counters now behind them. Each is a Unix time and one total for each decision, in their order.
    pub(super) fn shown(&self, gateway: &Gateway) -> Value {
        let row = |at: Timestamp, decided: &[u64]| {
            let second = u64::try_from(at.as_second()).unwrap_or(0);
            [&[second], decided].concat()
        };
        let mut rows: Vec<_> =
            self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().map(|sample| row(sample.at, &sample.decided)).collect();
        let now: Vec<_> = gateway.counted().decisions.into_iter().map(|(_, count)| count).collect();
        rows.push(row(gateway.clock().now(), &now));
        let names: Vec<_> = Decision::ALL.iter().map(|decision| decision.as_str()).collect();
        json!({ "data": { "decisions": names, "totals": rows } })
    }
}
