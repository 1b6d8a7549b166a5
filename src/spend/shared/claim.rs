//! What goes to the scripts of what an order wants besides money, and what comes back: calls of others, and rates.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::super::{Past, Taken, Told};
use super::wire::{hold_id, usd};

/// Some of a rate: so many calls, one in each interval, and so many at once.
#[derive(Debug, Serialize)]
pub(super) struct AskedRate {
    pub(super) name: String,
    pub(super) interval_ns: String,
    pub(super) burst: u32,
    pub(super) calls: u32,
}

/// What is known of the last calls for what a charge claims.
#[derive(Debug, Deserialize)]
pub(super) struct Later {
    charge: usize,
    paid: Option<Call>,
    unknown: Option<Call>,
}

#[derive(Debug, Deserialize)]
struct Call {
    id: String,
    ago_ms: String,
    price: String,
    variant: Option<String>,
}

/// A rate that has not enough left.
#[derive(Debug, Deserialize)]
pub(super) struct UsedUp {
    pub(super) rate: usize,
    wait_us: String,
}

impl AskedRate {
    pub(super) fn of(taken: &Taken) -> Self {
        let Taken { name, rate, calls } = taken;
        let interval_ns = (rate.per.length() / rate.count.get()).as_nanos().to_string();
        Self { name: name.clone(), interval_ns, burst: rate.count.get(), calls: calls.get() }
    }
}

impl UsedUp {
    pub(super) fn wait(&self) -> Option<Duration> {
        self.wait_us.parse().ok().map(Duration::from_micros)
    }
}

impl Later {
    pub(super) fn read(&self) -> Option<Told> {
        let read = |call: &Option<Call>| call.as_ref().map(Call::read).map_or(Some(None), |past| past.map(Some));
        Some(Told { charge: self.charge, paid: read(&self.paid)?, unknown: read(&self.unknown)? })
    }
}

impl Call {
    fn read(&self) -> Option<Past> {
        let ago = Duration::from_millis(self.ago_ms.parse().ok()?);
        Some(Past { hold: hold_id(&self.id)?, ago, price: usd(&self.price)?, variant: self.variant.clone() })
    }
}
