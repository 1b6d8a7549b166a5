//! What is asked of the Redis: scripts, the log, and little else; each within the time that the configuration leaves for it.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use redis::{FromRedisValue, RedisError, Script};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::super::accounts::OpenHold;
use super::super::{HoldId, OpenFailure};
use super::copy::Entry;
use super::wire::HeldCharge;
use crate::shared::{Link, Redis, shortcomings, timed_out};

/// Entries of the log that are read at once.
const ENTRIES: usize = 500;

/// So many charges may take as long again as `shared.timeout`: an order of thousands is one step.
const CHARGES: u32 = 100;

const COMMON: &str = include_str!("common.lua");

/// The server, connected or not.
pub(super) struct Server {
    redis: Redis,
    link: Option<Link>,
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
            join: script(include_str!("join.lua")),
            commit: script(include_str!("commit.lua")),
            leave: script(include_str!("leave.lua")),
            acknowledge: script(include_str!("acknowledge.lua")),
        }
    }

    pub(super) fn lease(&self) -> Duration {
        self.redis.config().lease.0
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
        self.run_as_written(act, &asked, 0).await
    }

    /// The same for what was written down before, and moves so many charges.
    pub(super) async fn run_as_written<T: DeserializeOwned>(&mut self, act: Act, asked: &str, charges: u32) -> Result<T, OpenFailure> {
        let script = match act {
            Act::Join => &self.join,
            Act::Commit => &self.commit,
            Act::Leave => &self.leave,
            Act::Acknowledge => &self.acknowledge,
        };
        let mut invocation = script.key(self.redis.key("state"));
        invocation.arg(asked);
        let limit = self.redis.config().timeout.0 * (1 + charges / CHARGES);
        let link = self.link.as_mut().ok_or_else(unconnected)?;
        let answer: String = within(limit, invocation.invoke_async(link)).await?;
        serde_json::from_str(&answer).map_err(|error| OpenFailure::Redis(format!("its answer cannot be read: {error}")))
    }

    /// Waits until as many replicas of the server as were asked for have what was recorded.
    pub(super) async fn wait_for_replicas(&mut self) -> Result<(), OpenFailure> {
        let (wanted, limit) = (self.redis.config().wait_for, self.redis.config().timeout.0);
        if wanted == 0 {
            return Ok(());
        }
        let millis = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
        let have: u32 = self.ask(redis::cmd("WAIT").arg(wanted).arg(millis)).await?;
        if have < wanted {
            return Err(OpenFailure::Redis(format!(
                "{have} of its replicas have what was recorded, and shared.wait_for asks for {wanted}"
            )));
        }
        Ok(())
    }

    /// The next entries of the log behind `seen`; none, at its end.
    pub(super) async fn entries(&mut self, seen: &str) -> Result<Vec<Entry>, OpenFailure> {
        let log = self.redis.key("log");
        self.ask(redis::cmd("XRANGE").arg(log).arg(format!("({seen}")).arg("+").arg("COUNT").arg(ENTRIES)).await
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

    /// Lets go of entries of the log that were made before.
    pub(super) async fn trim(&mut self, before: Timestamp) -> Result<(), OpenFailure> {
        let log = self.redis.key("log");
        let _removed: u64 = self.ask(redis::cmd("XTRIM").arg(log).arg("MINID").arg("~").arg(before.as_millisecond().max(0))).await?;
        Ok(())
    }

    async fn ask<T: FromRedisValue>(&mut self, command: &redis::Cmd) -> Result<T, OpenFailure> {
        let (link, limit) = (self.link.as_mut().ok_or_else(unconnected)?, self.redis.config().timeout.0);
        within(limit, command.query_async(link)).await
    }
}

async fn within<T>(limit: Duration, asked: impl Future<Output = Result<T, RedisError>>) -> Result<T, OpenFailure> {
    Ok(tokio::time::timeout(limit, asked).await.unwrap_or_else(|_| Err(timed_out("an answer", limit)))?)
}

fn unconnected() -> OpenFailure {
    OpenFailure::Redis("it is not connected".to_owned())
}
