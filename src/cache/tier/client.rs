//! What is asked of the server about copies and changes, and its clock as this gateway knows it.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::Script;

use super::super::config::Config;
use super::super::moments::nanos;
use super::super::{Call, Entry, Key, Scope};
use super::CHANGES;
use super::change::Change;
use super::value::{self, Stamps, Value};
use crate::clock::Clock;
use crate::shared::{Line, NoAnswer, Redis};
use crate::telnyx::EnterpriseId;

/// No shared copy lives longer, and moments outlive it.
const LONGEST_LIFE: Duration = Duration::from_hours(30 * 24);
const MOMENTS: Duration = Duration::from_hours(31 * 24);
/// Entries of the stream of changes.
const ENTRIES: usize = 10_000;

const COMMON: &str = include_str!("common.lua");

/// Asks the server.
pub(super) struct Client {
    redis: Redis,
    line: Line,
    clock: Clock,
    time: Mutex<Option<Time>>,
    reading: Script,
    removing: Script,
    writing: Script,
    changing: Script,
    surveying: Script,
}

/// What an answer told of the server's clock: it showed this at some time between the two (monotonic).
#[derive(Clone, Copy)]
struct Time {
    shown: u64,
    sent: Duration,
    came: Duration,
}

impl Time {
    /// What it showed at a moment, at the earliest.
    fn earliest(self, moment: Duration) -> u64 {
        Self::shifted(self.shown, self.came, moment).saturating_sub(1)
    }

    /// The same at the latest.
    fn latest(self, moment: Duration) -> u64 {
        Self::shifted(self.shown, self.sent, moment) + 1
    }

    fn shifted(shown: u64, from: Duration, to: Duration) -> u64 {
        let micros = |span: Duration| nanos(span) / 1_000;
        (shown + micros(to.saturating_sub(from))).saturating_sub(micros(from.saturating_sub(to)))
    }
}

/// A copy that stood when the server was asked: as an entry, it was asked for then, whatever moments came before.
pub(super) struct Standing {
    pub(super) entry: Entry,
    /// When its answer was asked for (monotonic).
    pub(super) begun: Duration,
    /// The hold that bought it.
    pub(super) token: Option<u64>,
}

impl Standing {
    /// Whether it is what this call brought, or was asked for later.
    pub(super) fn is_since(&self, call: Call) -> bool {
        self.token.is_some_and(|token| token >= call.hold.0.unsigned_abs()) || self.begun >= call.sent
    }
}

/// What the server has of a number.
pub(super) enum Found {
    /// A copy that stands.
    Copy(Standing),
    /// Nothing that can be served.
    Nothing,
    /// Something that is no copy of that number.
    Damaged,
}

impl Client {
    pub(super) fn new(redis: Redis, line: Line, clock: Clock) -> Self {
        let script = |text: &str| Script::new(&format!("{COMMON}\n{text}"));
        Self {
            redis,
            line,
            clock,
            time: Mutex::default(),
            reading: script(include_str!("read.lua")),
            removing: script("return call('DEL', KEYS[1])"),
            writing: script(include_str!("write.lua")),
            changing: script(include_str!("change.lua")),
            surveying: script(include_str!("survey.lua")),
        }
    }

    /// The number's copy. `config`: how long its copies live here; `sent`: since when (monotonic) all that was changed here is known there.
    pub(super) async fn read(&self, key: &Key, config: &Config, sent: Duration) -> Result<Found, NoAnswer> {
        let mut asked = self.reading.key(self.copy(key));
        for moment in [self.moment(Scope::All), self.moment(Scope::Enterprise(key.enterprise)), self.moment_of(key)] {
            asked.key(moment);
        }
        let asked_at = self.clock.elapsed();
        let (time, found): (u64, Option<Vec<u8>>) = self.line.run(&asked).await?;
        self.learn(time, asked_at);
        let Some(found) = found else { return Ok(Found::Nothing) };
        let Some(value) = value::read(&found).filter(|value| value.record.key == *key && !value.record.outdated) else {
            // It would keep others out by what it says of its time.
            let _removed: Result<u64, _> = self.line.run(&self.removing.key(self.copy(key))).await;
            return Ok(Found::Damaged);
        };
        Ok(self.entry(value, config, time, sent))
    }

    /// The server answered at `time`, and was asked since `sent`: the copy is at least as old as it was then. It stood between the two, so it is as good
    /// as one that was asked for at `sent`: no moment from before counts against it, and each from after does.
    fn entry(&self, value: Value, config: &Config, time: u64, sent: Duration) -> Found {
        let ago = |stamp: u64| sent.saturating_sub(Duration::from_micros(time.saturating_sub(stamp)));
        let (begun, stored) = (ago(value.stamps.begun), ago(value.stamps.stored).min(sent.saturating_sub(value.record.age)));
        if self.clock.elapsed().saturating_sub(stored) >= config.longest_life() {
            return Found::Nothing;
        }
        let lifetime = value.record.lifetime.min(config.lifetime(value.record.content.kind, &value.record.key));
        let entry = Entry::new(&value.record.key, value.record.content, sent, stored, lifetime);
        Found::Copy(Standing { entry, begun, token: value.token })
    }

    /// Writes copies. Whether each was kept.
    pub(super) async fn write<'c>(
        &self,
        entries: &[Entry],
        token: Option<u64>,
        config_of: impl Fn(&Key) -> &'c Config,
    ) -> Result<Vec<bool>, NoAnswer> {
        let (now, known) = (self.clock.elapsed(), self.time().ok_or(NoAnswer::Away)?);
        let mut asked = self.writing.key(self.moment(Scope::All));
        for entry in entries {
            let key = entry.key();
            let (begun, stored, came_by) = (known.earliest(entry.begun()), known.earliest(entry.stored()), known.latest(entry.stored()));
            let life = config_of(key).longest_life().min(LONGEST_LIFE).saturating_sub(entry.age(now));
            asked.key(self.copy(key)).key(self.moment(Scope::Enterprise(key.enterprise))).key(self.moment_of(key));
            asked.arg(begun).arg(value::refreshed(entry)).arg(millis(life).max(1));
            asked.arg(value::written(entry, now, Stamps { begun, stored, came_by }, token));
        }
        let answer: Vec<u64> = self.line.run(&asked).await?;
        let (time, kept) = answer.split_first().ok_or(NoAnswer::Away)?;
        self.learn(*time, now);
        Ok(kept.iter().map(|kept| *kept == 1).collect())
    }

    /// Records changes and tells all who follow.
    pub(super) async fn change(&self, changes: &[Change], author: &str) -> Result<(), NoAnswer> {
        let mut asked = self.changing.key(self.redis.key(CHANGES));
        asked.arg(author).arg(millis(MOMENTS)).arg(ENTRIES);
        for change in changes {
            let (enterprise, number) = change.written();
            asked.key(self.moment(change.scope)).arg(change.ruling.as_str()).arg(enterprise).arg(number);
        }
        let sent = self.clock.elapsed();
        let (time,): (u64,) = self.line.run(&asked).await?;
        self.learn(time, sent);
        Ok(())
    }

    /// How many bytes the server uses, and how many it may; 0: no bound. `begins`: it may begin the stream of changes.
    pub(super) async fn survey(&self, begins: bool) -> Result<(u64, u64), NoAnswer> {
        let sent = self.clock.elapsed();
        let (shown, used, most) = self.line.run(self.surveying.key(self.redis.key(CHANGES)).arg(u8::from(begins))).await?;
        // Clocks drift apart, and may be set.
        *self.time() = Some(Time { shown, sent, came: self.clock.elapsed() });
        Ok((used, most))
    }

    /// What the server's clock showed at a moment (monotonic), at the earliest; none, while it is not known.
    pub(super) fn earliest(&self, moment: Duration) -> Option<u64> {
        self.time().map(|time| time.earliest(moment))
    }

    /// Takes over what the server's clock showed, where that answer was faster than the one before.
    fn learn(&self, shown: u64, sent: Duration) {
        let (came, mut time) = (self.clock.elapsed(), self.time());
        if time.is_none_or(|known| came.saturating_sub(sent) < known.came.saturating_sub(known.sent)) {
            *time = Some(Time { shown, sent, came });
        }
    }

    fn time(&self) -> MutexGuard<'_, Option<Time>> {
        self.time.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn copy(&self, key: &Key) -> String {
        self.redis.key(&format!("copy:{}:{}", key.enterprise, key.number))
    }

    fn moment(&self, scope: Scope) -> String {
        let of = |enterprise: EnterpriseId| format!("moment:{enterprise}");
        self.redis.key(&match scope {
            Scope::All => "moment:all".to_owned(),
            Scope::Enterprise(enterprise) => of(enterprise),
            Scope::Number(enterprise, number) => format!("{}:{number}", of(enterprise)),
        })
    }

    fn moment_of(&self, key: &Key) -> String {
        self.moment(Scope::Number(key.enterprise, key.number))
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
