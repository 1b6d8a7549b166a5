//! The guard of a hold.

use tokio::sync::mpsc::{OwnedPermit, Sender};
use tokio::sync::oneshot;

use super::writer::{Command, Ending, answered};
use super::{End, HoldId, Unavailable};

/// Money held in every budget that applies, until the call it is for has ended.
///
/// Whoever owns it may send one billable call. Dropped without an end it is posted as assumed: nobody told what became of the call.
/// It carries a reserved place in the writer's queue, so that its end always fits.
#[derive(Debug)]
#[must_use = "a hold that is dropped is posted as assumed"]
pub struct Hold {
    id: HoldId,
    seat: Option<OwnedPermit<Command>>,
    /// Whether it has reached whoever asked for it. Before that nothing can have been sent.
    claimed: bool,
}

impl Hold {
    pub(super) fn new(id: HoldId, seat: OwnedPermit<Command>) -> Self {
        Self { id, seat: Some(seat), claimed: false }
    }

    pub(super) fn claim(mut self) -> Self {
        self.claimed = true;
        self
    }

    /// Its id in the ledger.
    pub fn id(&self) -> HoldId {
        self.id
    }

    /// Telnyx billed the call. Returns when that is durable; on an error the ledger keeps the end and retries it by itself.
    pub async fn settle(self, why: &str) -> Result<(), Unavailable> {
        self.end(End::Settled, why).await
    }

    /// Telnyx proved not to have billed the call. Returns as [`Hold::settle`] does.
    pub async fn release(self, why: &str) -> Result<(), Unavailable> {
        self.end(End::Released, why).await
    }

    /// It is unknown whether Telnyx billed the call. Returns as [`Hold::settle`] does.
    pub async fn assume(self, why: &str) -> Result<(), Unavailable> {
        self.end(End::Assumed, why).await
    }

    async fn end(mut self, end: End, why: &str) -> Result<(), Unavailable> {
        let (answer, written) = oneshot::channel();
        let queue = self.send(end, why, Some(answer)).ok_or(Unavailable)?;
        answered(written, &queue).await?
    }

    /// After the ledger was closed this goes nowhere: the file has an open hold, which the next start assumes.
    fn send(&mut self, end: End, why: &str, answer: Option<oneshot::Sender<Result<(), Unavailable>>>) -> Option<Sender<Command>> {
        let seat = self.seat.take()?;
        Some(seat.send(Command::End(Ending { id: self.id, end, why: why.to_owned(), answer })))
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        if self.claimed {
            let _ = self.send(End::Assumed, "dropped", None);
        } else {
            let _ = self.send(End::Released, "abandoned before dispatch", None);
        }
    }
}
