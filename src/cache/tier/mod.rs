//! What gateways share of the cache, on a Redis: copies, and what makes copies untrue.
//!
//! A copy is as old as the server's clock says. A gateway knows that clock by the answers it got, and never takes it for later than it is: so a
//! copy is never younger than it was, and no fetch began later than it did, however long a write was on its way.
//!
//! What makes copies untrue is a *moment* of their scope on the server, and an entry of the stream `changes`, in one step. A copy whose fetch began
//! before its moment is neither kept nor given out, so nobody who missed an entry can bring one back; and one that the server gives out stood when it
//! was asked, whatever this gateway had to distrust before. The stream is followed for what is in memory. Whoever was cut off reads what it missed before it uses the server's copies again; who cannot tell what it missed
//! has all its copies outdated.

mod change;
mod client;
#[cfg(test)]
mod tests;
mod told;
mod value;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, mpsc};
use uuid::Uuid;

use self::change::Untold;
pub use self::change::{Change, Ruling};
use self::client::{Client, Found, Standing};
pub use self::told::{Asked, Degraded, OnTier, Told};
use super::{Cache, Call, Entry, Key, Lists, Scope};
use crate::clock::Clock;
use crate::policy::entitlement::Partition;
use crate::shared::{Line, News, Position, Redis, follow};

/// The stream of changes.
const CHANGES: &str = "changes";
/// Copies that wait to be written.
const QUEUE: usize = 4_096;
/// Copies, or changes, that are written at once.
const AT_ONCE: usize = 64;
/// A copy with a longer body is not shared.
const LONGEST: usize = 256 * 1024;
/// From one look at the server's memory to the next.
const SURVEY: Duration = Duration::from_secs(10);
/// How long a server that refuses a change is left alone.
const PAUSE: Duration = Duration::from_millis(500);
/// How long who made a change waits until it is told.
const PATIENCE: Duration = Duration::from_secs(1);

/// What gateways share of the cache; clones are the same.
#[derive(Clone)]
pub struct Tier(Arc<Shared>);

struct Shared {
    redis: Redis,
    line: Line,
    client: Client,
    clock: Clock,
    /// Whether copies are shared, and not changes alone.
    copies: bool,
    /// This gateway, in the changes that it makes.
    author: String,
    /// Since when there are copies in memory (monotonic).
    began: Duration,
    /// Whether all changes were heard so far.
    is_in_step: AtomicBool,
    /// Whether it was so before.
    was_in_step: AtomicBool,
    /// Told when it is so anew.
    came_in_step: Notify,
    /// Whether the server's memory is less than half full.
    has_room: AtomicBool,
    /// Whether the server is reached and took no change when it was told one: it is full.
    refuses: AtomicBool,
    untold: Untold,
    queue: mpsc::Sender<Entry>,
    /// Until somebody writes what comes.
    queued: Mutex<Option<mpsc::Receiver<Entry>>>,
    tell: OnTier,
}

impl Tier {
    /// Nothing is asked before it runs. `copies`: whether more than changes is shared; `began`: since when (monotonic) there are copies in memory.
    pub fn new(redis: Redis, copies: bool, (clock, began): (&Clock, Duration), tell: OnTier) -> Self {
        let line = Line::new(redis.clone());
        let (queue, queued) = mpsc::channel(QUEUE);
        Self(Arc::new(Shared {
            client: Client::new(redis.clone(), line.clone(), clock.clone()),
            redis,
            line,
            clock: clock.clone(),
            copies,
            author: Uuid::new_v4().to_string(),
            began,
            is_in_step: AtomicBool::new(false),
            was_in_step: AtomicBool::new(false),
            came_in_step: Notify::new(),
            has_room: AtomicBool::new(false),
            refuses: AtomicBool::new(false),
            untold: Untold::new(),
            queue,
            queued: Mutex::new(Some(queued)),
            tell,
        }))
    }

    /// Whether the server is reached, and all that others changed is known.
    pub fn is_up(&self) -> bool {
        self.0.line.is_up() && self.0.is_in_step.load(Ordering::SeqCst)
    }

    /// Whether copies can be asked for and written: not before the server knows what is untrue here, which is waited for unless it refuses to be
    /// told, and this gateway what is untrue there.
    async fn is_of_use(&self) -> bool {
        let is_worth_a_wait = self.0.copies && self.is_up() && !self.0.refuses.load(Ordering::SeqCst);
        is_worth_a_wait && self.come_to_be_told(self.0.redis.config().timeout.0).await && self.is_up()
    }

    /// Asks for a number's copy, and keeps it in memory if it is better than what is there. Whether it is. One of before the last call that was `paid`
    /// for is not: what that brought may not have been written.
    pub async fn fetch(&self, cache: &Cache, key: &Key, paid: Option<Call>) -> bool {
        let found = self.found(cache, key).await.filter(|found| paid.is_none_or(|paid| found.is_since(paid)));
        found.is_some_and(|found| cache.keep_from(&found.entry, found.begun))
    }

    /// The copy that this hold bought, also kept in memory; none, if the server does not have that one, or cannot be asked.
    pub async fn bought_by(&self, cache: &Cache, key: &Key, hold: u64) -> Option<Entry> {
        let found = self.found(cache, key).await.filter(|found| found.token == Some(hold))?;
        cache.keep_from(&found.entry, found.begun);
        Some(found.entry)
    }

    async fn found(&self, cache: &Cache, key: &Key) -> Option<Standing> {
        if !self.0.copies || key.partition != Partition::SHARED {
            return None;
        }
        // Before it is waited until the server knows what was changed here until now; what is changed from now on counts against the copy.
        let sent = self.0.clock.elapsed();
        if !self.is_of_use().await {
            self.tell(Told::Asked(Asked::Away));
            self.tell(Told::Degraded(Degraded::CopyNotAsked));
            return None;
        }
        let lifetimes = cache.lifetimes();
        let (asked, found) = match self.0.client.read(key, lifetimes.of(key), sent).await {
            Ok(Found::Copy(found)) => (Asked::Hit, Some(found)),
            Ok(Found::Nothing) => (Asked::Miss, None),
            Ok(Found::Damaged) => (Asked::Damaged, None),
            Err(_) => {
                self.tell(Told::Degraded(Degraded::CopyNotAsked));
                (Asked::Away, None)
            }
        };
        self.tell(Told::Asked(asked));
        found
    }

    /// Has a copy written in passing.
    pub fn offer(&self, entry: &Entry) {
        if self.shares(entry) && (!self.is_up() || self.0.queue.try_send(entry.clone()).is_err()) {
            self.tell(Told::Degraded(Degraded::CopyNotWritten));
        }
    }

    /// Writes a copy now, with the hold that bought it, before that hold ends: whoever waits for the end finds it. Whether it is there.
    pub async fn put(&self, cache: &Cache, entry: &Entry, hold: u64) -> bool {
        if !self.shares(entry) {
            return false;
        }
        let is_written =
            self.is_writable().await && self.write(cache, std::slice::from_ref(entry), Some(hold)).await.is_some_and(|kept| kept == [true]);
        if !is_written {
            self.tell(Told::Degraded(Degraded::CopyNotWritten));
        }
        is_written
    }

    fn shares(&self, entry: &Entry) -> bool {
        self.0.copies && entry.key().partition == Partition::SHARED && !entry.is_outdated() && entry.body().len() <= LONGEST
    }

    async fn is_writable(&self) -> bool {
        self.is_of_use().await && self.0.has_room.load(Ordering::SeqCst)
    }

    /// Whether each was kept; none, if the server did not say.
    async fn write(&self, cache: &Cache, entries: &[Entry], token: Option<u64>) -> Option<Vec<bool>> {
        let lifetimes = cache.lifetimes();
        self.0.client.write(entries, token, |key| lifetimes.of(key)).await.ok()
    }

    /// These copies are not true any more: has all other gateways told. What cannot be told now is told first when the server is back. It is
    /// called before memory is changed, by a moment from after it: so no copy that the server gives out meanwhile is taken for a later one.
    pub fn change(&self, change: Change) {
        if !self.0.line.is_up() {
            self.tell(Told::Degraded(Degraded::ChangeDelayed));
        }
        self.0.untold.add(change);
    }

    /// Waits until all changes so far are on the server, where every gateway that reaches it hears of them; not for long. Whether they are.
    pub async fn have_been_told(&self) -> bool {
        self.come_to_be_told(PATIENCE).await
    }

    async fn come_to_be_told(&self, limit: Duration) -> bool {
        let came = *self.0.untold.came.borrow();
        let mut told = self.0.untold.told.subscribe();
        let telling = told.wait_for(|told| *told >= came);
        tokio::time::timeout(limit, telling).await.is_ok_and(|told| told.is_ok())
    }

    fn do_without(&self, what: Degraded, count: usize) {
        for _ in 0..count {
            self.tell(Told::Degraded(what));
        }
    }

    fn tell(&self, told: Told) {
        (self.0.tell)(told);
    }

    /// Keeps the server's copies and these in step, for as long as it is polled. `everyone`: memory has parts that only some callers read; `changed`
    /// is told of what others changed.
    pub async fn run(&self, cache: &Cache, lists: &Lists, everyone: bool, changed: impl Fn(Scope)) {
        let heard = |news| {
            self.hear(news, |change| {
                apply(change, cache, lists, everyone, self.0.clock.elapsed());
                changed(change.scope);
            });
        };
        let following = async {
            // Whether something was missed at the start is seen by the server's clock.
            while self.0.client.survey(false).await.is_err() {
                self.0.line.comes_up().await;
            }
            tokio::join!(follow(&self.0.redis, CHANGES, None, heard), self.survey())
        };
        tokio::join!(self.0.line.keep_up(), following, self.tell_changes(), self.write_copies(cache));
    }

    fn hear(&self, news: News, apply: impl Fn(Change)) {
        match news {
            News::Entries(entries) => entries.iter().filter_map(|entry| Change::told(entry, &self.0.author)).for_each(apply),
            News::Gap(last) if self.is_of_no_matter(last) => {}
            News::Gap(_) => {
                self.tell(Told::Degraded(Degraded::MemoryDistrusted));
                apply(Change { scope: Scope::All, ruling: Ruling::Soft });
            }
            News::InStep => {
                tracing::info!("this gateway is in step with those that share its Redis");
                self.0.was_in_step.store(true, Ordering::SeqCst);
                self.0.is_in_step.store(true, Ordering::SeqCst);
                self.0.came_in_step.notify_one();
            }
            News::Away(error) => {
                tracing::warn!(%error, "the shared Redis cannot be reached: copies and purges are not shared until it is");
                self.0.is_in_step.store(false, Ordering::SeqCst);
                self.0.line.let_go();
            }
        }
    }

    /// Whether nothing was changed since there are copies in memory, by the last change before this gateway first heard of any.
    fn is_of_no_matter(&self, last: Position) -> bool {
        let is_first = !self.0.was_in_step.load(Ordering::SeqCst);
        is_first && self.0.client.earliest(self.0.began).is_some_and(|began| last.millisecond < began / 1_000)
    }

    /// Looks now and then how much room the server has: it must keep money, so that copies must not fill it.
    async fn survey(&self) -> ! {
        let mut was_roomy = true;
        loop {
            self.0.line.comes_up().await;
            if let Ok((used, most)) = self.0.client.survey(self.0.is_in_step.load(Ordering::SeqCst)).await {
                let has_room = most == 0 || used <= most / 2;
                self.0.has_room.store(has_room, Ordering::SeqCst);
                if was_roomy != has_room {
                    tracing::warn!(used, most, has_room, "copies are shared while the Redis uses no more than half of its memory");
                }
                was_roomy = has_room;
            }
            // Sooner where it was lost, since what is there then may be another server, and where the stream can be begun.
            tokio::select! {
                () = tokio::time::sleep(SURVEY) => {}
                () = self.0.line.goes_down() => self.0.has_room.store(false, Ordering::SeqCst),
                () = self.0.came_in_step.notified() => {}
            }
        }
    }

    async fn tell_changes(&self) -> ! {
        let mut came = self.0.untold.came.subscribe();
        loop {
            let Some((last, changes)) = self.0.untold.next(AT_ONCE) else {
                // The sender is held by this very tier.
                let _came = came.changed().await;
                continue;
            };
            self.0.line.comes_up().await;
            if self.0.client.change(&changes, &self.0.author).await.is_ok() {
                self.0.untold.settle(last);
                self.0.refuses.store(false, Ordering::SeqCst);
            } else {
                self.0.refuses.store(self.0.line.is_up(), Ordering::SeqCst);
                self.do_without(Degraded::ChangeDelayed, changes.len());
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    async fn write_copies(&self, cache: &Cache) {
        let queued = self.0.queued.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(mut queued) = queued else { return };
        let mut entries = Vec::new();
        while queued.recv_many(&mut entries, AT_ONCE).await > 0 {
            for part in in_parts(&entries) {
                if !self.is_writable().await || self.write(cache, part, None).await.is_none() {
                    self.do_without(Degraded::CopyNotWritten, part.len());
                }
            }
            entries.clear();
        }
    }
}

impl std::fmt::Debug for Tier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tier").field("copies", &self.0.copies).finish_non_exhaustive()
    }
}

/// Parts whose bodies together are not longer than the longest alone may be.
fn in_parts(entries: &[Entry]) -> Vec<&[Entry]> {
    let (mut parts, mut start, mut length) = (Vec::new(), 0, 0);
    for (at, entry) in entries.iter().enumerate() {
        if at > start && length + entry.body().len() > LONGEST {
            parts.push(&entries[start..at]);
            (start, length) = (at, 0);
        }
        length += entry.body().len();
    }
    parts.push(&entries[start..]);
    parts
}

/// Others know since before `now` (monotonic) that these copies are not true any more.
fn apply(Change { scope, ruling }: Change, cache: &Cache, lists: &Lists, everyone: bool, now: Duration) {
    lists.purge(scope, now);
    match (scope, ruling) {
        (Scope::Number(enterprise, number), _) if !everyone => {
            let key = Key { partition: Partition::SHARED, enterprise, number };
            if ruling == Ruling::Hard { cache.forget(&key, now) } else { cache.outdate(key, now) }
        }
        (_, Ruling::Soft) => cache.purge_softly(scope, now),
        (_, Ruling::Hard) => cache.forget_scope(scope, now),
    }
}
