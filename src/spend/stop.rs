//! The kill switch in memory: a stop is in force the moment it is asked for, whatever the disk does.

use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;

use super::KillSwitch;

/// Shared by the ledger's handles and its writer.
#[derive(Debug, Default)]
pub(super) struct Stop {
    state: ArcSwap<KillSwitch>,
    /// How often it was asked for: what allows work again must not undo a stop that it did not know of.
    asked: AtomicU64,
}

impl Stop {
    pub(super) fn state(&self) -> KillSwitch {
        self.state.load().as_ref().clone()
    }

    pub(super) fn is_on(&self) -> bool {
        self.state.load().on
    }

    /// Stops everything, now.
    pub(super) fn stop(&self, state: KillSwitch) {
        self.asked.fetch_add(1, Ordering::SeqCst);
        self.state.store(state.into());
    }

    /// How many stops there have been.
    pub(super) fn asked(&self) -> u64 {
        self.asked.load(Ordering::SeqCst)
    }

    /// Takes over what the file says, or what was recorded, unless somebody stopped everything since there were `asked` stops.
    pub(super) fn settle(&self, state: &KillSwitch, asked: u64) {
        let before = self.state.load();
        if self.asked() == asked {
            self.state.compare_and_swap(&before, state.clone().into());
        }
    }
}
