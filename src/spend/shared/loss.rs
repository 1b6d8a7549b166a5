//! Going on after the server forgot something.

use uuid::Uuid;

use super::super::OpenFailure;
use super::server::Act;
use super::wire::{Acknowledge, Acknowledged, micros};
use super::{COMPATIBLE, SCHEMA, Shared};

/// So many ids are left out: other gateways may have had holds of which the one that acknowledges the loss has not heard.
const UNHEARD: i64 = 1_000_000;

impl Shared {
    /// Takes what the server has for the ledger from now on. Tells whether anything was lost.
    pub(super) async fn accept_loss(&mut self, reason: &str, author: &str) -> Result<bool, OpenFailure> {
        self.server.connect().await?;
        let newest_open = self.open.keys().next_back().map_or(0, |id| id.0);
        let newest_hold = self.copy.newest_hold()?.max(newest_open).saturating_add(UNHEARD).to_string();
        let asked = Acknowledge {
            seen: self.copy.known(),
            schema: SCHEMA,
            compatible: COMPATIBLE,
            generation: &self.copy.generation,
            new_generation: Uuid::new_v4().to_string(),
            newest_hold,
            now: micros(self.clock.now()),
            reason,
            author,
        };
        let Acknowledged { nothing } = self.server.run(Act::Acknowledge, &asked).await?;
        (self.replica, self.paused) = (None, None);
        Ok(!nothing)
    }
}
