//! The one thread that writes.
//!
//! It takes whatever waits in the queue, has it decided and recorded as one batch, and answers after that: a single flush to the disk
//! serves all of it. Decisions are taken there too, so two holds can never both see the last dime.
//!
//! When a batch fails, its holds are refused, and its ends stay here to be written with the next one. As long as it fails, a small write
//! is tried at least each second, so that the ledger is back soon after the cause is gone, whether anyone asks or not. There are never more ends
//! waiting than there are open holds.

use std::mem;
use std::sync::Arc;

use arc_swap::{ArcSwap, ArcSwapOption};
use tokio::sync::mpsc::{OwnedPermit, Receiver, Sender};
use tokio::sync::oneshot;

use super::keeper::{Batch, Crossed, Ended, Keeper, Written};
use super::stop::Stop;
use super::{
    BudgetStatus, Budgets, End, Event, Finding, Hold, HoldId, KillSwitch, NotHeld, Observe, OpenFailure, Order, Override, OverrideRefused,
    Unavailable, View,
};

/// How many commands one batch takes.
const BATCH: usize = 256;

/// What the writer is asked to do.
#[derive(Debug)]
pub(super) enum Command {
    Hold(Request),
    End(Ending),
    Correct(Correction),
    Grant(Granting),
    Switch(Switching),
    Acknowledge(Acknowledging),
    /// Look for other budgets, and tell when everyone sees them.
    Rebudget(oneshot::Sender<()>),
    /// Write the ends that are queued, and stop. The queue is closed after the file.
    Close,
}

/// Someone who wants to send billable calls, all or none.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) order: Order,
    /// A place in the queue for the end of each.
    pub(super) seats: Vec<OwnedPermit<Command>>,
    pub(super) answer: oneshot::Sender<Result<Vec<Hold>, NotHeld>>,
}

/// The end of a hold.
#[derive(Debug)]
pub(super) struct Ending {
    pub(super) id: HoldId,
    pub(super) end: End,
    pub(super) why: String,
    /// Whoever waits for it; nobody, for a hold that was dropped.
    pub(super) answer: Option<oneshot::Sender<Result<(), Unavailable>>>,
}

/// What later evidence says of an assumed hold.
#[derive(Debug)]
pub(super) struct Correction {
    pub(super) id: HoldId,
    pub(super) finding: Finding,
    pub(super) why: String,
    /// Told whether it was still to be corrected.
    pub(super) answer: oneshot::Sender<Result<bool, Unavailable>>,
}

/// An operator raises a limit.
#[derive(Debug)]
pub(super) struct Granting {
    pub(super) granted: Override,
    pub(super) answer: oneshot::Sender<Result<BudgetStatus, OverrideRefused>>,
}

/// An operator stops all billable work, or allows it again.
#[derive(Debug)]
pub(super) struct Switching {
    pub(super) set: KillSwitch,
    /// How many stops there had been by then.
    pub(super) asked: u64,
    pub(super) answer: oneshot::Sender<Result<(), Unavailable>>,
}

/// An operator goes on after some of the ledger was lost.
#[derive(Debug)]
pub(super) struct Acknowledging {
    pub(super) reason: String,
    pub(super) author: String,
    /// Told whether there was a loss.
    pub(super) answer: oneshot::Sender<Result<bool, Unavailable>>,
}

impl Switching {
    /// Whether it allows work again, and nobody stopped it since.
    pub(super) fn allows(&self, stop: &Stop) -> bool {
        !self.set.on && self.asked == stop.asked()
    }
}

/// Waits for the writer's answer, but not for that of a writer that is gone: what reaches the queue too late stays in it.
pub(super) async fn answered<T>(answer: oneshot::Receiver<T>, queue: &Sender<Command>) -> Result<T, Unavailable> {
    tokio::select! {
        biased;
        answer = answer => answer.map_err(|_| Unavailable),
        () = queue.closed() => Err(Unavailable),
    }
}

/// Everything the thread owns.
pub(super) struct Writer<K> {
    keeper: K,
    /// Budgets that somebody ordered.
    ordered: Arc<ArcSwapOption<Budgets>>,
    view: Arc<ArcSwap<View>>,
    observe: Observe,
    /// Ends that could not be written yet.
    unwritten: Vec<Ending>,
    /// Why the last batch failed, if it did; for a log that tells changes only.
    failing: Option<String>,
}

impl<K: Keeper> Writer<K> {
    pub(super) fn new(keeper: K, observe: Observe) -> Self {
        let view = Arc::new(ArcSwap::from_pointee(keeper.view(false)));
        Self { keeper, ordered: Arc::default(), view, observe, unwritten: Vec::new(), failing: None }
    }

    /// What everyone may see, as it will be published from now on.
    pub(super) fn view(&self) -> Arc<ArcSwap<View>> {
        Arc::clone(&self.view)
    }

    /// Where other budgets are ordered.
    pub(super) fn ordered(&self) -> Arc<ArcSwapOption<Budgets>> {
        Arc::clone(&self.ordered)
    }

    /// Opens the ledger for the first time. One that only time can mend is tried again later, and holds are refused until then.
    pub(super) async fn begin(&mut self) -> Result<(), OpenFailure> {
        match self.keeper.commit(&Batch::default()).await {
            Ok(written) => self.succeed(written, Batch::default()),
            Err(error) if error.is_final() => return Err(error),
            Err(error) => self.fail(&error, Batch::default()),
        }
        Ok(())
    }

    /// Serves the queue until it is closed, by a command or because nobody is left to send one.
    pub(super) async fn run(mut self, mut queue: Receiver<Command>) {
        let mut commands = Vec::with_capacity(BATCH);
        loop {
            let wait = if self.failing.is_some() { self.keeper.pause() } else { self.keeper.patience() };
            let received = tokio::time::timeout(wait, queue.recv_many(&mut commands, BATCH)).await;
            let closing = commands.iter().any(|command| matches!(command, Command::Close));
            self.serve(commands.drain(..)).await;
            if closing || received == Ok(0) {
                break;
            }
            if self.failing.is_none() {
                self.keeper.upkeep().await;
            }
        }
        for _ in 0..queue.len() {
            // A hold taken now could never end; dropping the request refuses it.
            commands.extend(queue.try_recv().ok().filter(|command| !matches!(command, Command::Hold(_))));
        }
        self.serve(commands.drain(..)).await;
        self.keeper.close().await;
        drop(self);
        drop(queue);
    }

    /// Has a batch recorded, and answers everyone in it.
    async fn serve(&mut self, commands: impl Iterator<Item = Command>) {
        let mut batch = Batch { ends: mem::take(&mut self.unwritten), ..Batch::default() };
        let (mut is_ordered, mut see) = (false, Vec::new());
        for command in commands {
            match command {
                Command::Hold(request) => batch.requests.push(request),
                Command::End(ending) => batch.ends.push(ending),
                Command::Correct(correction) => batch.corrections.push(correction),
                Command::Grant(granting) => batch.grants.push(granting),
                Command::Switch(switching) => batch.switches.push(switching),
                Command::Acknowledge(acknowledging) => self.acknowledge(acknowledging).await,
                Command::Rebudget(seen) => see.push(seen),
                Command::Close => {}
            }
        }
        // After the commands, so that whoever sent one after these were ordered is judged by them.
        if let Some(ordered) = self.ordered.swap(None) {
            self.keeper.rebudget(&ordered);
            is_ordered = true;
        }
        if self.failing.is_some() || is_ordered || !batch.is_empty() || self.keeper.is_due() {
            match self.keeper.commit(&batch).await {
                Ok(written) => self.succeed(written, batch),
                Err(error) => self.fail(&error, batch),
            }
        }
        for seen in see {
            let _ = seen.send(());
        }
    }

    async fn acknowledge(&mut self, Acknowledging { reason, author, answer }: Acknowledging) {
        let acknowledged = self.keeper.acknowledge(&reason, &author).await;
        if let Err(error) = &acknowledged {
            tracing::error!(%error, "a loss of the ledger is not acknowledged");
        }
        let _ = answer.send(acknowledged.map_err(|_| Unavailable));
    }

    fn succeed(&mut self, written: Written, batch: Batch) {
        if self.failing.take().is_some() {
            tracing::info!("the ledger is written again");
        }
        self.publish(true);
        self.tell(&written, !batch.is_empty());
        for answer in batch.ends.into_iter().filter_map(|ending| ending.answer) {
            let _ = answer.send(Ok(()));
        }
        for switching in batch.switches {
            let _ = switching.answer.send(Ok(()));
        }
        for (correction, is_news) in batch.corrections.into_iter().zip(written.corrections) {
            let _ = correction.answer.send(Ok(is_news));
        }
        for (granting, granted) in batch.grants.into_iter().zip(written.grants) {
            let _ = granting.answer.send(granted);
        }
        for (Request { seats, answer, .. }, held) in batch.requests.into_iter().zip(written.holds) {
            // Whoever left before this answer drops the holds unclaimed, which releases them.
            let _ = answer.send(held.map(|ids| ids.into_iter().zip(seats).map(|(id, seat)| Hold::new(id, seat)).collect()));
        }
    }

    /// Reports what was written.
    fn tell(&self, written: &Written, has_answers: bool) {
        if has_answers {
            (self.observe)(Event::CommitTook(written.took));
        }
        for posted in &written.recalled {
            (self.observe)(Event::Recalled(posted));
        }
        for (budget, has_room) in &written.decisions {
            let budget = &budget.name;
            (self.observe)(if *has_room { Event::Allowed { budget } } else { Event::Denied { budget } });
        }
        for Ended { id, end, hold } in &written.ends {
            if *end == End::Assumed {
                (self.observe)(Event::Unknown { id: *id, charge: &hold.charge, held_at: hold.held_at });
            }
            (self.observe)(Event::Ended { end: *end, amount: end.posts(hold.charge.price), caller: &hold.charge.caller });
        }
        for (amount, hold) in &written.taken_back {
            (self.observe)(Event::TakenBack { amount: *amount, caller: &hold.charge.caller });
        }
        for crossed in &written.thresholds {
            let Crossed { budget, percent, spent, limit, window, at } = crossed;
            let (budget, percent, spent, limit, window, at) = (budget.name.as_str(), *percent, *spent, *limit, *window, *at);
            (self.observe)(Event::Threshold { budget, percent, spent, limit, window, at });
        }
        for set in &written.switched {
            (self.observe)(Event::Switched(set));
        }
    }

    fn fail(&mut self, error: &OpenFailure, mut batch: Batch) {
        let why = error.to_string();
        if self.failing.as_ref() != Some(&why) {
            tracing::error!(%error, "the ledger cannot be written; billable work is refused until it can");
            self.failing = Some(why);
        }
        self.publish(false);
        for answer in batch.ends.iter_mut().filter_map(|ending| ending.answer.take()) {
            let _ = answer.send(Err(Unavailable));
        }
        for switching in batch.switches {
            let _ = switching.answer.send(Err(Unavailable));
        }
        for correction in batch.corrections {
            let _ = correction.answer.send(Err(Unavailable));
        }
        for granting in batch.grants {
            let _ = granting.answer.send(Err(OverrideRefused::Unavailable));
        }
        for request in batch.requests {
            let _ = request.answer.send(Err(Unavailable.into()));
        }
        self.unwritten = batch.ends;
    }

    fn publish(&self, available: bool) {
        self.view.store(Arc::new(self.keeper.view(available)));
    }
}
