//! What is asked of the Redis: scripts, the log, and little else; each within the time that the configuration leaves for it.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use redis::{FromRedisValue, RedisError, Script};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use super::super::accounts::OpenHold;
use super::super::{HoldId, OpenFailure};
use super::copy::{Entry, position};
use super::wire::HeldCharge;
use crate::shared::{Link, Redis, shortcomings, timed_out};

/// Entries of the log that are read at once.
const ENTRIES: usize = 500;

/// So many charges may take as long again as `shared.timeout`: an order of thousands is one step.
const CHARGES: usize = 100;

const COMMON: &str = include_str!("common.lua");

/// How long all that is asked for so many charges may take, where `timeout` is for a few.
pub(in crate::spend) fn allowed(timeout: Duration, charges: usize) -> Duration {
    timeout * u32::try_from(1 + charges / CHARGES).unwrap_or(u32::MAX)
}

/// The server, connected or not.
pub(super) struct Server {
    redis: Redis,
    link: Option<Link>,
    /// When all that is asked for one batch has to be answered.
    deadline: Option<Instant>,
    join: Script,
    commit: Script,
    leave: Script,
    acknowledge: Script,
}

/// Which script.
#[derive(Clone, Copy)]
pub(super) enum Act {
    Join,
    Commit,
    Leave,
    Acknowledge,
}

impl From<RedisError> for OpenFailure {
    fn from(error: RedisError) -> Self {
        Self::Redis(error.to_string())
    }
}

impl Server {
    pub(super) fn new(redis: Redis) -> Self {
        let script = |text: &str| Script::new(&format!("{COMMON}\n{text}"));
        Self {
            redis,
            link: None,
            deadline: None,
            join: script(include_str!("join.lua")),
            commit: script(include_str!("commit.lua")),
            leave: script(include_str!("leave.lua")),
            acknowledge: script(include_str!("acknowledge.lua")),
        }
    }

    pub(super) fn lease(&self) -> Duration {
        self.redis.config().lease.0
    }

    /// Begins with a batch of so many charges: what is asked from now on has to be answered in the time for it, all together.
    pub(super) fn begin(&mut self, charges: usize) {
        self.deadline = Some(Instant::now() + allowed(self.redis.config().timeout.0, charges));
    }

    /// Done with a batch: each answer may take its time again.
    pub(super) fn finish(&mut self) {
        self.deadline = None;
    }

    /// How long the next answer may take.
    fn limit(&self) -> Duration {
        let limit = self.redis.config().timeout.0;
        self.deadline.map_or(limit, |deadline| deadline.saturating_duration_since(Instant::now()))
    }

    pub(super) fn clock_skew(&self) -> Duration {
        self.redis.config().clock_skew.0
    }

    /// Lets go of a connection that failed.
    pub(super) fn disconnect(&mut self) {
        self.link = None;
    }

    /// Connects, if it is not connected: then tells for what it is not to be relied on.
    pub(super) async fn connect(&mut self) -> Result<Option<Vec<String>>, OpenFailure> {
        if self.link.is_some() {
            return Ok(None);
        }
        let mut link = self.redis.connect().await?;
        let limit = self.redis.config().connect_timeout.0;
        let looking = tokio::time::timeout(limit, shortcomings(self.redis.config(), &mut link));
        let found = looking.await.map_err(|_| timed_out("looking at its settings", limit))?;
        if let Some(fatal) = found.iter().find(|each| each.is_fatal) {
            return Err(OpenFailure::Evicting(fatal.to_string()));
        }
        self.link = Some(link);
        Ok(Some(found.iter().map(ToString::to_string).collect()))
    }

    /// Runs a script.
    pub(super) async fn run<T: DeserializeOwned>(&mut self, act: Act, asked: &impl Serialize) -> Result<T, OpenFailure> {
        let asked = serde_json::to_string(asked).expect("strings and numbers always serialise");
        self.run_as_written(act, &asked).await
    }

    /// The same for what was written down before.
    pub(super) async fn run_as_written<T: DeserializeOwned>(&mut self, act: Act, asked: &str) -> Result<T, OpenFailure> {
        let script = match act {
            Act::Join => &self.join,
            Act::Commit => &self.commit,
            Act::Leave => &self.leave,
            Act::Acknowledge => &self.acknowledge,
        };
        let mut invocation = script.key(self.redis.key("state"));
        invocation.arg(asked);
        let limit = self.limit();
        let link = self.link.as_mut().ok_or_else(unconnected)?;
        let answer: String = within(limit, invocation.invoke_async(link)).await?;
        serde_json::from_str(&answer).map_err(|error| OpenFailure::Redis(format!("its answer cannot be read: {error}")))
    }

    /// Waits until as many replicas of the server as were asked for have what was recorded.
    pub(super) async fn wait_for_replicas(&mut self) -> Result<(), OpenFailure> {
        let wanted = self.redis.config().wait_for;
        if wanted == 0 {
            return Ok(());
        }
        // 0 would be for ever.
        let millis = u64::try_from(self.limit().as_millis()).unwrap_or(u64::MAX).max(1);
        let have: u32 = self.ask(redis::cmd("WAIT").arg(wanted).arg(millis)).await?;
        if have < wanted {
            return Err(OpenFailure::Redis(format!(
                "{have} of its replicas have what was recorded, and shared.wait_for asks for {wanted}"
            )));
        }
        Ok(())
    }

    /// The next entries of the log behind `seen`, and whether there may be more.
    pub(super) async fn entries(&mut self, seen: &str) -> Result<(Vec<Entry>, bool), OpenFailure> {
        let log = self.redis.key("log");
        let found: Vec<Entry> = self.ask(redis::cmd("XRANGE").arg(log).arg(format!("({seen}")).arg("+").arg("COUNT").arg(ENTRIES)).await?;
        let is_full = found.len() >= ENTRIES;
        Ok((found, is_full))
    }

    /// What is kept of holds that were assumed, and may be corrected.
    pub(super) async fn assumed(&mut self, ids: &[HoldId]) -> Result<BTreeMap<HoldId, OpenHold>, OpenFailure> {
        if ids.is_empty() {
            return Ok(BTreeMap::new());
        }
        let keys: Vec<_> = ids.iter().map(|id| self.redis.key(&format!("assumed:{id}"))).collect();
        let found: Vec<Option<String>> = self.ask(redis::cmd("MGET").arg(keys)).await?;
        let read = |(id, text): (&HoldId, &Option<String>)| {
            let charge: HeldCharge = serde_json::from_str(text.as_ref()?).ok()?;
            Some((*id, charge.read()?))
        };
        Ok(ids.iter().zip(&found).filter_map(read).collect())
    }

    /// Lets go of entries of the log that were made before, but for the last one: by it a gateway sees that nothing it knew was forgotten.
    pub(super) async fn trim(&mut self, before: Timestamp) -> Result<(), OpenFailure> {
        let log = self.redis.key("log");
        let newest: Vec<Entry> = self.ask(redis::cmd("XREVRANGE").arg(&log).arg("+").arg("-").arg("COUNT").arg(1)).await?;
        let Some((last, _)) = newest.first() else { return Ok(()) };
        let before = (u64::try_from(before.as_millisecond()).unwrap_or(0), 0).min(position(last));
        let _removed: u64 = self.ask(redis::cmd("XTRIM").arg(log).arg("MINID").arg("~").arg(format!("{}-{}", before.0, before.1))).await?;
        Ok(())
    }

    async fn ask<T: FromRedisValue>(&mut self, command: &redis::Cmd) -> Result<T, OpenFailure> {
        let limit = self.limit();
        let link = self.link.as_mut().ok_or_else(unconnected)?;
        within(limit, command.query_async(link)).await
    }
}

async fn within<T>(limit: Duration, asked: impl Future<Output = Result<T, RedisError>>) -> Result<T, OpenFailure> {
    // Without figures, so that a log that tells changes tells it once.
    let answer = tokio::time::timeout(limit, asked).await;
    Ok(answer.map_err(|_| OpenFailure::Redis("it does not answer within shared.timeout".to_owned()))??)
}

fn unconnected() -> OpenFailure {
    OpenFailure::Redis("it is not connected".to_owned())
}
