//! What was counted since the start, as operators see it beside the metrics.

use super::Gateway;
use crate::policy::decision::Decision;
use crate::policy::money::Usd;
use crate::spend::OpenHolds;
use crate::telemetry::metrics::Avoided;

/// Totals since the start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counted {
    /// Requests, by how they were decided; every decision is there.
    pub decisions: Vec<(Decision, u64)>,
    /// What was not spent, by cause; every cause is there.
    pub avoided: Vec<(Avoided, Usd)>,
}

impl Gateway {
    /// What was counted so far.
    pub fn counted(&self) -> Counted {
        let metrics = &self.0.metrics;
        let decisions = metrics.requests.decided();
        Counted {
            decisions: Decision::ALL.iter().copied().zip(decisions).collect(),
            avoided: Avoided::ALL.iter().map(|cause| (*cause, metrics.avoided.of(cause.as_str()))).collect(),
        }
    }

    /// Calls of unknown outcome that may still be resolved.
    pub fn unresolved(&self) -> usize {
        self.0.pending.count()
    }

    /// The holds of calls under way.
    pub fn open_holds(&self) -> OpenHolds {
        self.0.ledger.holds()
    }
}
