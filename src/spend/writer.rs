//! The one thread that writes.
//!
//! It takes whatever waits in the queue, records it in one transaction, and answers after the commit: a single flush to the disk
//! serves all of it. Decisions are taken here too, so two holds can never both see the last dime.
//!
//! When a transaction fails, nothing of it has happened: its holds are refused, the accounts are read again from the file, and
//! its ends stay here to be written with the next batch, or after a while if none comes. There are never more of
//! them than open holds.

use std::fs::File;
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use jiff::Timestamp;
use rusqlite::Connection;
use tokio::sync::mpsc::{OwnedPermit, Receiver, Sender};
use tokio::sync::oneshot;

use super::accounts::{Accounts, OpenHold, Verdict, verdict};
use super::{End, Event, Hold, HoldId, HoldRefused, Observe, Unavailable, View, store};
use crate::clock::Clock;
use crate::policy::budget::{Budget, Charge};
use crate::policy::money::Usd;

/// How many commands one transaction takes.
const BATCH: usize = 256;

/// How long ends that could not be written wait when nothing else comes.
const RETRY: Duration = Duration::from_secs(1);

/// What the writer is asked to do.
#[derive(Debug)]
pub(super) enum Command {
    Hold(Request),
    End(Ending),
    /// Write the ends that are queued, and stop. The queue is closed after the file.
    Close,
}

/// Waits for the writer's answer, but not for that of a writer that is gone: what reaches the queue too late stays in it.
pub(super) async fn answered<T>(answer: oneshot::Receiver<T>, queue: &Sender<Command>) -> Result<T, Unavailable> {
    tokio::select! {
        biased;
        answer = answer => answer.map_err(|_| Unavailable),
        () = queue.closed() => Err(Unavailable),
    }
}

/// Someone who wants to send a billable call.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) charge: Charge,
    /// A place in the queue for the hold's end.
    pub(super) seat: OwnedPermit<Command>,
    pub(super) answer: oneshot::Sender<Result<Hold, HoldRefused>>,
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

/// Everything the thread owns.
pub(super) struct Writer {
    connection: Connection,
    accounts: Accounts,
    view: Arc<ArcSwap<View>>,
    clock: Clock,
    observe: Observe,
    /// Ends that could not be written yet.
    unwritten: Vec<Ending>,
    /// Whether the last transaction failed; for a log that tells changes only.
    failing: bool,
    /// Keeps other processes out. Last, so that it is let go after the connection.
    _lock: Option<File>,
}

/// What one transaction did.
#[derive(Default)]
struct Written {
    holds: Vec<Result<HoldId, HoldRefused>>,
    decisions: Vec<(Arc<Budget>, Decision)>,
    ends: Vec<(End, Usd, Arc<str>)>,
}

enum Decision {
    Allowed,
    Denied,
}

impl Writer {
    pub(super) fn new(
        connection: Connection,
        lock: Option<File>,
        accounts: Accounts,
        view: Arc<ArcSwap<View>>,
        clock: Clock,
        observe: Observe,
    ) -> Self {
        Self { connection, accounts, view, clock, observe, unwritten: Vec::new(), failing: false, _lock: lock }
    }

    /// Serves the queue until it is closed, by a command or because nobody is left to send one.
    pub(super) fn run(mut self, mut queue: Receiver<Command>) {
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_time().build() {
            Ok(runtime) => runtime,
            Err(error) => return tracing::error!(%error, "the ledger's writer cannot wait for work; billable work is refused"),
        };
        let mut commands = Vec::with_capacity(BATCH);
        loop {
            let wait = if self.unwritten.is_empty() { Duration::MAX } else { RETRY };
            let received = runtime.block_on(async { tokio::time::timeout(wait, queue.recv_many(&mut commands, BATCH)).await });
            let closing = commands.iter().any(|command| matches!(command, Command::Close));
            self.serve(commands.drain(..));
            if closing || received == Ok(0) {
                break;
            }
        }
        for _ in 0..queue.len() {
            // A hold taken now could never end; dropping the request refuses it.
            commands.extend(queue.try_recv().ok().filter(|command| !matches!(command, Command::Hold(_))));
        }
        self.serve(commands.drain(..));
        if let Err(error) = store::checkpoint(&self.connection) {
            // Its journal stays beside the file and is read at the next start.
            tracing::warn!(%error, "the ledger's journal was not copied into its file");
        }
        drop(self);
        drop(queue);
    }

    /// Writes a batch, and answers everyone in it.
    fn serve(&mut self, commands: impl Iterator<Item = Command>) {
        let (mut ends, mut requests) = (mem::take(&mut self.unwritten), Vec::new());
        for command in commands {
            match command {
                Command::Hold(request) => requests.push(request),
                Command::End(ending) => ends.push(ending),
                Command::Close => {}
            }
        }
        if !(ends.is_empty() && requests.is_empty()) {
            match self.write(&ends, &requests) {
                Ok(written) => self.succeed(written, ends, requests),
                Err(error) => self.fail(&error, ends, requests),
            }
        }
    }

    /// One transaction. Ends go first, so that what they free can be held again at once.
    fn write(&mut self, ends: &[Ending], requests: &[Request]) -> rusqlite::Result<Written> {
        // As the file will have it: what memory and file think of a charge's window must never differ.
        let now = Timestamp::from_microsecond(self.clock.now().as_microsecond()).unwrap_or(Timestamp::UNIX_EPOCH);
        let mut written = Written::default();
        let transaction = store::begin(&mut self.connection)?;
        for Ending { id, end, why, .. } in ends {
            let Some((amount, caller)) = self.accounts.end(*id, *end) else { continue };
            if store::insert_end(&transaction, *id, *end, amount, why, now)? {
                written.ends.push((*end, amount, caller));
            } else {
                // Someone else changed the file: what it says is what counts.
                self.accounts.unload();
            }
        }
        self.accounts.roll(now, |budget, window| store::balance(&transaction, budget, window))?;
        for Request { charge, .. } in requests {
            let decided = match verdict(self.accounts.all(), charge) {
                Verdict::NoBudget => Err(HoldRefused::NoBudget),
                Verdict::Exhausted(budgets) => {
                    written.decisions.extend(budgets.iter().map(|account| (Arc::clone(&account.budget), Decision::Denied)));
                    Err(HoldRefused::Exhausted(Box::new(budgets[0].status())))
                }
                Verdict::Allowed(budgets) => {
                    written.decisions.extend(budgets.iter().map(|account| (Arc::clone(&account.budget), Decision::Allowed)));
                    Ok(store::insert_charge(&transaction, charge, now)?)
                }
            };
            if let Ok(id) = decided {
                self.accounts.hold(id, OpenHold { charge: charge.clone(), held_at: now, since: self.clock.elapsed() });
            }
            written.holds.push(decided);
        }
        let began = self.clock.elapsed();
        transaction.commit()?;
        if !written.ends.is_empty() || written.holds.iter().any(Result::is_ok) {
            (self.observe)(Event::CommitTook(self.clock.elapsed().saturating_sub(began)));
        }
        Ok(written)
    }

    fn succeed(&mut self, written: Written, ends: Vec<Ending>, requests: Vec<Request>) {
        if mem::take(&mut self.failing) {
            tracing::info!("the ledger is written again");
        }
        self.accounts.keep();
        self.view.store(Arc::new(View::of(&self.accounts)));
        for (budget, decision) in &written.decisions {
            let budget = &budget.name;
            (self.observe)(match decision {
                Decision::Allowed => Event::Allowed { budget },
                Decision::Denied => Event::Denied { budget },
            });
        }
        for (end, amount, caller) in &written.ends {
            (self.observe)(Event::Ended { end: *end, amount: *amount, caller });
        }
        for answer in ends.into_iter().filter_map(|ending| ending.answer) {
            let _ = answer.send(Ok(()));
        }
        for (Request { seat, answer, .. }, held) in requests.into_iter().zip(written.holds) {
            // Whoever left before this answer drops the hold unclaimed, which releases it.
            let _ = answer.send(held.map(|id| Hold::new(id, seat)));
        }
    }

    fn fail(&mut self, error: &rusqlite::Error, mut ends: Vec<Ending>, requests: Vec<Request>) {
        if !mem::replace(&mut self.failing, true) {
            tracing::error!(%error, "the ledger cannot be written; billable work is refused until it can");
        }
        self.accounts.undo();
        for answer in ends.iter_mut().filter_map(|ending| ending.answer.take()) {
            let _ = answer.send(Err(Unavailable));
        }
        self.unwritten = ends;
        for request in requests {
            let _ = request.answer.send(Err(HoldRefused::Unavailable));
        }
    }
}
