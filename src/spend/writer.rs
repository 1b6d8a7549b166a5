//! The one thread that writes.
//!
//! It takes whatever waits in the queue, records it in one transaction, and answers after the commit: a single flush to the disk
//! serves all of it. Decisions are taken here too, so two holds can never both see the last dime.
//!
//! When a transaction fails, nothing of it has happened: its holds are refused, the file is opened and the accounts are read
//! anew, and its ends stay here to be written with the next batch. As long as it fails, a small write is tried each second, so
//! that the ledger is back soon after the cause is gone, whether anyone asks or not. There are never more ends
//! waiting than there are open holds.

use std::mem;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::mpsc::{OwnedPermit, Receiver, Sender};
use tokio::sync::oneshot;

use super::accounts::Accounts;
use super::batch::{Batch, Step, Written};
use super::disk::Disk;
use super::stop::Stop;
use super::{
    BudgetStatus, Config, End, Event, Finding, Hold, HoldId, HoldRefused, KillSwitch, Observe, OpenFailure, Override, OverrideRefused,
    Unavailable, View, retention, store,
};
use crate::clock::Clock;
use crate::policy::budget::Charge;

/// How many commands one transaction takes.
const BATCH: usize = 256;

/// How long a ledger that cannot be written waits until it tries again by itself.
const RETRY: Duration = Duration::from_secs(1);

/// How long a ledger with nothing to do waits until it looks whether there is something to roll up.
const IDLE: Duration = Duration::from_hours(1);

const DAY: SignedDuration = SignedDuration::from_hours(24);

/// What the writer is asked to do.
#[derive(Debug)]
pub(super) enum Command {
    Hold(Request),
    End(Ending),
    Correct(Correction),
    Grant(Granting),
    Switch(Switching),
    /// Write the ends that are queued, and stop. The queue is closed after the file.
    Close,
}

/// Someone who wants to send billable calls, all or none.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) charges: Vec<Charge>,
    /// A place in the queue for the end of each.
    pub(super) seats: Vec<OwnedPermit<Command>>,
    pub(super) answer: oneshot::Sender<Result<Vec<Hold>, HoldRefused>>,
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
pub(super) struct Writer {
    config: Config,
    disk: Disk,
    accounts: Accounts,
    stop: Arc<Stop>,
    /// How the kill switch is set in the file.
    recorded: KillSwitch,
    view: Arc<ArcSwap<View>>,
    clock: Clock,
    observe: Observe,
    /// Charges that ended before are of no interest any more at the first opening.
    recall_since: Timestamp,
    /// Whether the file has been open.
    is_loaded: bool,
    /// Ends that could not be written yet.
    unwritten: Vec<Ending>,
    /// Why the last transaction failed, if it did; for a log that tells changes only.
    failing: Option<String>,
    /// The day on which nothing was left to roll up.
    rolled_up: Option<Date>,
    /// The newest charge when the file was opened, and when that was (monotonic): the clock may be wrong, and time cannot have
    /// gone further since.
    newest: (Timestamp, Duration),
}

impl Writer {
    pub(super) fn new(config: &Config, disk: Disk, accounts: Accounts, recall_since: Timestamp, clock: Clock, observe: Observe) -> Self {
        let view = Arc::new(ArcSwap::from_pointee(View::of(&accounts, false)));
        Self {
            config: config.clone(),
            disk,
            accounts,
            stop: Arc::default(),
            recorded: KillSwitch::default(),
            view,
            clock,
            observe,
            recall_since,
            is_loaded: false,
            unwritten: Vec::new(),
            failing: None,
            rolled_up: None,
            newest: (Timestamp::MIN, Duration::ZERO),
        }
    }

    /// What everyone may see, as it will be published from now on.
    pub(super) fn view(&self) -> Arc<ArcSwap<View>> {
        Arc::clone(&self.view)
    }

    /// The kill switch.
    pub(super) fn stop(&self) -> Arc<Stop> {
        Arc::clone(&self.stop)
    }

    /// Opens the file for the first time. One that only time can mend is tried again later, and holds are refused until then.
    pub(super) fn begin(&mut self) -> Result<(), OpenFailure> {
        match self.write(&Batch::default()) {
            Ok(written) => self.succeed(written, Batch::default()),
            Err(error) if error.is_final() => return Err(error),
            Err(error) => self.fail(&error, Batch::default()),
        }
        Ok(())
    }

    /// Serves the queue until it is closed, by a command or because nobody is left to send one.
    pub(super) fn run(mut self, mut queue: Receiver<Command>) {
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_time().build() {
            Ok(runtime) => runtime,
            Err(error) => return tracing::error!(%error, "the ledger's writer cannot wait for work; billable work is refused"),
        };
        let mut commands = Vec::with_capacity(BATCH);
        loop {
            let wait = self.patience();
            let received = runtime.block_on(async { tokio::time::timeout(wait, queue.recv_many(&mut commands, BATCH)).await });
            let closing = commands.iter().any(|command| matches!(command, Command::Close));
            self.serve(commands.drain(..));
            if closing || received == Ok(0) {
                break;
            }
            self.roll_up();
        }
        for _ in 0..queue.len() {
            // A hold taken now could never end; dropping the request refuses it.
            commands.extend(queue.try_recv().ok().filter(|command| !matches!(command, Command::Hold(_))));
        }
        self.serve(commands.drain(..));
        if let Err(error) = self.disk.connection().and_then(|connection| Ok(store::checkpoint(connection)?)) {
            // Its journal stays beside the file and is read at the next start.
            tracing::warn!(%error, "the ledger's journal was not copied into its file");
        }
        drop(self);
        drop(queue);
    }

    fn patience(&self) -> Duration {
        if self.failing.is_some() {
            RETRY
        } else if self.rolled_up == Some(self.today()) {
            IDLE
        } else {
            Duration::ZERO
        }
    }

    /// Writes a batch, and answers everyone in it.
    fn serve(&mut self, commands: impl Iterator<Item = Command>) {
        let mut batch = Batch { ends: mem::take(&mut self.unwritten), ..Batch::default() };
        for command in commands {
            match command {
                Command::Hold(request) => batch.requests.push(request),
                Command::End(ending) => batch.ends.push(ending),
                Command::Correct(correction) => batch.corrections.push(correction),
                Command::Grant(granting) => batch.grants.push(granting),
                Command::Switch(switching) => batch.switches.push(switching),
                Command::Close => {}
            }
        }
        if self.failing.is_some() || !batch.is_empty() {
            match self.write(&batch) {
                Ok(written) => self.succeed(written, batch),
                Err(error) => self.fail(&error, batch),
            }
        }
    }

    /// One transaction; before the first, what a former run left.
    fn write(&mut self, batch: &Batch) -> Result<Written, OpenFailure> {
        let now = store::recorded(self.clock.now());
        let connection = self.disk.connection()?;
        let transaction = store::begin(connection)?;
        let mut left = Vec::new();
        if !self.is_loaded {
            left = store::left_open(&transaction)?;
            for (id, hold) in &left {
                store::insert_end(&transaction, *id, End::Assumed, hold.charge.price, "open when the process ended", now)?;
            }
            self.newest = (store::newest(&transaction)?.unwrap_or(now), self.clock.elapsed());
            let asked = self.stop.asked();
            self.recorded = store::kill_switch(&transaction)?;
            if asked == 0 {
                self.stop.settle(&self.recorded, asked);
            }
        }
        let in_force = self.stop.state();
        let unrecorded = Some(&in_force).filter(|state| state.on && **state != self.recorded);
        if batch.is_empty() {
            store::touch(&transaction)?;
        }
        let step = Step {
            connection: &transaction,
            accounts: &mut self.accounts,
            stop: &self.stop,
            unrecorded,
            clock: &self.clock,
            now,
            written: Written { ends: left.into_iter().map(|(_, hold)| (End::Assumed, hold)).collect(), ..Written::default() },
        };
        let written = step.take(batch)?;
        let recalled = if self.is_loaded { Vec::new() } else { store::recent(&transaction, self.recall_since)? };
        let began = self.clock.elapsed();
        transaction.commit()?;
        if !batch.is_empty() {
            (self.observe)(Event::CommitTook(self.clock.elapsed().saturating_sub(began)));
        }
        for posted in &recalled {
            (self.observe)(Event::Recalled(posted));
        }
        self.is_loaded = true;
        self.recorded = in_force;
        for Switching { set, asked, .. } in batch.switches.iter().filter(|switching| switching.allows(&self.stop)) {
            self.recorded = set.clone();
            self.stop.settle(set, *asked);
        }
        Ok(written)
    }

    fn succeed(&mut self, written: Written, batch: Batch) {
        if self.failing.take().is_some() {
            tracing::info!("the ledger is written again");
        }
        self.accounts.keep();
        self.publish(true);
        self.tell(&written);
        for answer in batch.ends.into_iter().filter_map(|ending| ending.answer) {
            let _ = answer.send(Ok(()));
        }
        for switching in batch.switches {
            let _ = switching.answer.send(Ok(()));
        }
        for (correction, corrected) in batch.corrections.into_iter().zip(written.corrections) {
            let _ = correction.answer.send(Ok(corrected.is_some()));
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
    fn tell(&self, written: &Written) {
        for (budget, has_room) in &written.decisions {
            let budget = &budget.name;
            (self.observe)(if *has_room { Event::Allowed { budget } } else { Event::Denied { budget } });
        }
        for (end, hold) in &written.ends {
            (self.observe)(Event::Ended { end: *end, amount: end.posts(hold.charge.price), caller: &hold.charge.caller });
        }
        for (amount, hold) in written.corrections.iter().flatten() {
            (self.observe)(Event::TakenBack { amount: *amount, caller: &hold.charge.caller });
        }
        for crossed in &written.thresholds {
            let (budget, percent) = (crossed.budget.name.as_str(), crossed.percent);
            (self.observe)(Event::Threshold { budget, percent, spent: crossed.spent, limit: crossed.limit });
        }
    }

    fn fail(&mut self, error: &OpenFailure, mut batch: Batch) {
        let why = error.to_string();
        if self.failing.as_ref() != Some(&why) {
            tracing::error!(%error, "the ledger cannot be written; billable work is refused until it can");
            self.failing = Some(why);
        }
        self.accounts.undo();
        self.disk.reopen();
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
            let _ = request.answer.send(Err(HoldRefused::Unavailable));
        }
        self.unwritten = batch.ends;
    }

    fn publish(&self, available: bool) {
        self.view.store(Arc::new(View::of(&self.accounts, available)));
    }

    /// Adds up some of the charges that are older than the retention, in a transaction of their own.
    fn roll_up(&mut self) {
        let today = self.today();
        if self.failing.is_some() || self.rolled_up == Some(today) {
            return;
        }
        let rolled = self.disk.connection().and_then(|connection| Ok(retention::roll_up(connection, today, self.config.retention.0)?));
        match rolled {
            Ok(retention::Progress::MoreToDo) => {}
            Ok(retention::Progress::Done) => self.rolled_up = Some(today),
            Err(error) => {
                tracing::warn!(%error, "old charges were not rolled up; they will be tomorrow");
                self.rolled_up = Some(today);
            }
        }
    }

    /// The day, for what is thrown away: by the clock, but no later than a day after what is known to have passed.
    fn today(&self) -> Date {
        let (newest, since) = self.newest;
        let passed = SignedDuration::try_from(self.clock.elapsed().saturating_sub(since)).unwrap_or(SignedDuration::MAX);
        let latest = newest.checked_add(passed).and_then(|latest| latest.checked_add(DAY)).unwrap_or(Timestamp::MAX);
        self.clock.now().min(latest).to_zoned(TimeZone::UTC).date()
    }
}
