//! The ledger that gateways share: short atomic scripts on a Redis, and a copy of its log in a file.
//!
//! A batch is one script (`commit.lua`): it decides and records all of it in one step, for whichever gateway asks first. What a batch came to
//! is kept there until the next one of the same gateway, so that a batch whose answer was lost is sent again and does nothing again.
//!
//! Each gateway is a replica with a lease, which every batch renews. One whose lease is over is taken for dead: what it has open are orphans, which
//! any other gives up (*assumed*) and looks after, one for each. It joins anew, under another name, if it was alive after all.
//!
//! What the server remembers is held against what this gateway saw there before. A server that is empty, or behind, stops all
//! billable work until an operator acknowledges the loss.

mod claim;
mod copy;
mod draft;
mod loss;
mod pause;
mod server;
mod setup;
mod terms;
mod wire;

use std::mem;
use std::sync::Arc;
use std::time::Duration;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;
use uuid::Uuid;

use self::copy::Copy;
use self::draft::{Besides, Desk, Draft, Open, Outcome};
use self::pause::Pause;
pub(super) use self::server::allowed;
use self::server::{Act, Server};
pub(super) use self::setup::Setup;
use self::wire::{Answer, HeldCharge, Join, Joined, Leave, Left, OpenId};
use super::accounts::{Account, Standing};
use super::keeper::{Batch, Calendar, Keeper, Written};
use super::stop::Stop;
use super::{Budgets, HoldId, KillSwitch, OpenFailure, View, remembered_since, store};
use crate::clock::Clock;
use crate::policy::budget::Budget;

/// The version of what is kept in Redis, and the oldest version of a gateway that goes with it.
const SCHEMA: u32 = 1;
const COMPATIBLE: u32 = 1;

/// The longest time between two signs of life.
const BEAT: Duration = Duration::from_secs(1);

/// A batch that lost its lease on the way is asked for again, and hardly loses it twice.
const TRIES: usize = 3;

/// A shared ledger.
pub(super) struct Shared {
    server: Server,
    copy: Copy,
    budgets: Vec<Arc<Budget>>,
    terms: String,
    stop: Arc<Stop>,
    /// How the kill switch is set on the server.
    recorded: KillSwitch,
    clock: Clock,
    retention: Duration,
    memory: Duration,
    /// As whom it takes part; none, before it joined.
    replica: Option<String>,
    seq: u64,
    /// As whom it asked to take part, while nobody knows whether it does.
    joining: Option<String>,
    /// A batch of which nobody knows whether it was carried out.
    pending: Option<Draft>,
    accounts: Vec<Account>,
    open: Open,
    abandoned: Vec<HoldId>,
    orphans: Vec<HeldCharge>,
    /// What was done and is not told yet.
    untold: Written,
    next_beat: Instant,
    /// When the lease is over, by this gateway's clock (monotonic) and no later than by the server's.
    lapses: Option<Duration>,
    /// Whether the copy lacks something that is in the log.
    is_behind: bool,
    /// After a failure.
    paused: Option<Pause>,
    /// For what the server is not to be relied on.
    warnings: Arc<Vec<String>>,
    /// Since the first start was done.
    calendar: Option<Calendar>,
    rolled_up: Option<Date>,
}

impl Shared {
    pub(super) fn new(setup: Setup) -> Self {
        let Setup { redis, place, budgets, prices, stop, retention, memory, clock } = setup;
        let terms = terms::written(&budgets, &prices);
        let budgets: Vec<_> = budgets.into_iter().map(Arc::new).collect();
        let now = clock.now();
        let unknown =
            |budget: &Arc<Budget>| Account { budget: Arc::clone(budget), window: budget.window_at(now), standing: Standing::default() };
        Self {
            server: Server::new(redis),
            copy: Copy::new(place),
            accounts: budgets.iter().map(unknown).collect(),
            budgets,
            terms,
            stop,
            recorded: KillSwitch::default(),
            clock,
            retention,
            memory,
            replica: None,
            joining: None,
            seq: 0,
            pending: None,
            open: Open::new(),
            abandoned: Vec::new(),
            orphans: Vec::new(),
            untold: Written::default(),
            next_beat: Instant::now(),
            lapses: None,
            is_behind: false,
            paused: None,
            warnings: Arc::default(),
            calendar: None,
            rolled_up: None,
        }
    }

    async fn write(&mut self, batch: &Batch) -> Result<Written, OpenFailure> {
        let began = self.clock.elapsed();
        self.deliver_pending().await?;
        self.deliver(batch).await?;
        if self.calendar.is_none() {
            while !self.orphans.is_empty() {
                self.deliver(&Batch::default()).await?;
            }
            // Those of the dead are among them.
            self.untold.recalled = self.copy.recent(remembered_since(&self.clock, self.memory))?;
            self.calendar = Some(Calendar::new(self.copy.newest()?, &self.clock));
        }
        let mut written = mem::take(&mut self.untold);
        written.took = self.clock.elapsed().saturating_sub(began);
        Ok(written)
    }

    /// Has a batch of unknown fate carried out, or finds that it was. Nobody waits for its answers any more.
    async fn deliver_pending(&mut self) -> Result<(), OpenFailure> {
        self.take_part().await?;
        let Some(draft) = self.pending.take() else { return Ok(()) };
        self.server.begin(draft.charges);
        let Some((draft, answer)) = self.said(draft).await? else { return Ok(()) };
        let outcome = draft.read(answer)?;
        if outcome.stop.on {
            // One that somebody lifted since is not to be recorded again.
            self.recorded = outcome.stop.clone();
        }
        self.abandoned.extend(outcome.held.iter().map(|(id, _)| *id));
        self.take_over(outcome);
        Ok(())
    }

    async fn deliver(&mut self, batch: &Batch) -> Result<(), OpenFailure> {
        self.server.begin(batch.charges() + self.abandoned.len() + self.orphans.len());
        for _ in 0..TRIES {
            self.take_part().await?;
            let (asked, began) = (self.stop.asked(), self.clock.elapsed());
            let draft = self.draft(batch).await?;
            let Some((draft, answer)) = self.said(draft).await? else { continue };
            let outcome = draft.read(answer)?;
            self.abandoned.clear();
            self.lapses = Some(began + self.server.lease());
            self.recorded = outcome.stop.clone();
            self.stop.settle(&outcome.stop, asked);
            self.take_over(outcome);
            self.follow().await;
            return Ok(());
        }
        Err(OpenFailure::Redis("it takes this gateway for dead again and again".to_owned()))
    }

    async fn draft(&mut self, batch: &Batch) -> Result<Draft, OpenFailure> {
        let in_force = self.stop.state();
        let unrecorded = Some(in_force).filter(|state| state.on && *state != self.recorded);
        let allowed = batch.switches.iter().filter(|switching| switching.allows(&self.stop)).map(|switching| switching.set.clone());
        let ids: Vec<_> = batch.corrections.iter().map(|correction| correction.id).collect();
        let besides = Besides {
            switches: unrecorded.into_iter().chain(allowed).collect(),
            abandoned: self.abandoned.clone(),
            orphans: mem::take(&mut self.orphans),
            assumed: self.server.assumed(&ids).await?,
        };
        self.seq += 1;
        let desk = Desk {
            budgets: &self.budgets,
            open: &self.open,
            replica: self.replica.as_deref().unwrap_or_default(),
            generation: &self.copy.generation,
            seen: self.copy.known(),
            seq: self.seq,
            now: store::recorded(self.clock.now()),
            elapsed: self.clock.elapsed(),
            lease: self.server.lease(),
            skew: self.server.clock_skew(),
            remembered: self.memory,
        };
        Ok(Draft::new(&desk, batch, &besides))
    }

    /// Asks for a batch. Nothing, if this gateway has to join anew first; then nothing was done.
    async fn said(&mut self, draft: Draft) -> Result<Option<(Draft, Answer)>, OpenFailure> {
        let draft = self.pending.insert(draft);
        let answer: Answer = self.server.run_as_written(Act::Commit, &draft.text).await?;
        if !draft.is_beat {
            self.server.wait_for_replicas().await?;
        }
        let Some(draft) = self.pending.take() else { return Ok(None) };
        if let Some(lost) = answer.lost {
            return Err(OpenFailure::Lost(lost));
        }
        if let Some(last) = &answer.last {
            self.copy.heard.clone_from(last);
        }
        if answer.fenced || answer.succeeded {
            tracing::warn!("the gateways that share the ledger went on without this one, which joins them again");
            self.replica = None;
            return Ok(None);
        }
        Ok(Some((draft, answer)))
    }

    /// Connects and joins, where that has yet to be done.
    async fn take_part(&mut self) -> Result<(), OpenFailure> {
        if let Some(warnings) = self.server.connect().await?
            && *self.warnings != warnings
        {
            for warning in &warnings {
                tracing::warn!("{warning}");
            }
            self.warnings = Arc::new(warnings);
        }
        if self.replica.is_some() {
            return Ok(());
        }
        self.copy.open()?;
        // Asked again after a lost answer it is the same one, whose holds were made its own.
        let replica = self.joining.get_or_insert_with(|| Uuid::new_v4().to_string()).clone();
        let asked = Join {
            replica: &replica,
            lease_ms: self.server.lease().as_millis().to_string(),
            generation: &self.copy.generation,
            new_generation: Uuid::new_v4().to_string(),
            seen: self.copy.known(),
            schema: SCHEMA,
            compatible: COMPATIBLE,
            terms: &self.terms,
            open: self.open.iter().map(|(id, own)| OpenId { id: id.to_string(), owner: &own.owner }).collect(),
        };
        let Joined { generation, later, lost, terms, kept } = self.server.run(Act::Join, &asked).await?;
        if let Some(what) = lost {
            return Err(OpenFailure::Lost(what));
        }
        if let Some(version) = later {
            return Err(OpenFailure::Later(version));
        }
        if let Some(others) = terms {
            return Err(OpenFailure::Terms(terms::difference(&self.terms, &others)));
        }
        let generation = generation.ok_or_else(|| OpenFailure::Redis("it has no ledger".to_owned()))?;
        if let Some(aside) = self.copy.belong_to(&generation)? {
            tracing::warn!(copy = %aside.display(), "the ledger that was lost is kept here, as far as this gateway knew it");
        }
        for id in kept.iter().filter_map(|id| wire::hold_id(id)) {
            if let Some(own) = self.open.get_mut(&id) {
                own.owner.clone_from(&replica);
            }
        }
        (self.replica, self.joining) = (Some(replica), None);
        self.read_log().await
    }

    fn take_over(&mut self, outcome: Outcome) {
        let Outcome { written, held, ended, accounts, orphans, .. } = outcome;
        for id in ended {
            self.open.remove(&id);
        }
        self.open.extend(held);
        (self.accounts, self.orphans) = (accounts, orphans);
        self.untold.absorb(written);
        self.next_beat = Instant::now() + BEAT.min(self.server.lease() / 5);
    }

    /// Takes over what is new in the log. A copy that cannot be written is behind, and no reason to refuse anything.
    async fn follow(&mut self) {
        let is_behind = self.read_log().await.inspect_err(|error| {
            if !self.is_behind {
                tracing::warn!(%error, "the copy of the shared ledger is behind, and the books that are read from it");
            }
        });
        self.is_behind = is_behind.is_err();
    }

    async fn read_log(&mut self) -> Result<(), OpenFailure> {
        let mut has_more = true;
        while has_more {
            let entries;
            (entries, has_more) = self.server.entries(&self.copy.seen).await?;
            self.copy.append(&entries)?;
        }
        Ok(())
    }

    /// Lets go of what is older than the retention, on the server when the copy has been through with it.
    async fn roll_up(&mut self, today: Date) -> Result<(), OpenFailure> {
        while self.copy.roll_up(today, self.retention)? {}
        let kept = SignedDuration::try_from(self.retention).unwrap_or(SignedDuration::MAX);
        let midnight = today.to_zoned(TimeZone::UTC).map_or(Timestamp::UNIX_EPOCH, |midnight| midnight.timestamp());
        self.server.trim(midnight.checked_sub(kept).unwrap_or(Timestamp::UNIX_EPOCH)).await
    }
}

impl Keeper for Shared {
    async fn commit(&mut self, batch: &Batch) -> Result<Written, OpenFailure> {
        if let Some(pause) = self.paused.as_ref().filter(|pause| !pause.left().is_zero()) {
            return Err(OpenFailure::Redis(pause.why.clone()));
        }
        let written = self.write(batch).await;
        self.server.finish();
        self.paused = written.as_ref().err().map(|error| Pause::after(self.paused.as_ref(), error.to_string()));
        if written.is_err() {
            self.server.disconnect();
        }
        written
    }

    /// The server has what was spent by window and scope, which are the same; each gateway says what the limits are.
    fn rebudget(&mut self, Budgets { budgets, memory }: &Budgets) {
        self.budgets = budgets.iter().cloned().map(Arc::new).collect();
        for (account, budget) in self.accounts.iter_mut().zip(&self.budgets) {
            account.budget = Arc::clone(budget);
        }
        self.memory = *memory;
    }

    fn view(&self, available: bool) -> View {
        View {
            accounts: self.accounts.clone(),
            open: self.open.len(),
            oldest: self.open.values().next().map(|own| own.hold.since),
            available,
            lapses: self.lapses,
            warnings: Arc::clone(&self.warnings),
        }
    }

    async fn upkeep(&mut self) {
        let today = self.calendar.as_ref().map(|calendar| calendar.today(&self.clock));
        let Some(today) = today.filter(|today| self.rolled_up != Some(*today)) else { return };
        self.rolled_up = Some(today);
        if let Err(error) = self.roll_up(today).await {
            tracing::warn!(%error, "old charges were not rolled up; they will be tomorrow");
        }
    }

    fn patience(&self) -> Duration {
        if self.is_due() { Duration::ZERO } else { self.next_beat.saturating_duration_since(Instant::now()) }
    }

    fn pause(&self) -> Duration {
        self.paused.as_ref().map_or(Duration::ZERO, Pause::left)
    }

    fn is_due(&self) -> bool {
        !self.orphans.is_empty() || !self.abandoned.is_empty() || self.next_beat <= Instant::now()
    }

    async fn acknowledge(&mut self, reason: &str, author: &str) -> Result<bool, OpenFailure> {
        self.accept_loss(reason, author).await
    }

    async fn close(&mut self) {
        if let Some(replica) = self.replica.take() {
            let left: Result<Left, _> = self.server.run(Act::Leave, &Leave { replica: &replica }).await;
            if let Err(error) = left {
                tracing::warn!(%error, "the other gateways are not told that this one stops; they will find out when its lease is over");
            }
        }
        if let Err(error) = self.copy.close() {
            tracing::warn!(%error, "the journal of the ledger's copy was not copied into its file");
        }
    }
}
