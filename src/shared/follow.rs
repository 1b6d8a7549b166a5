//! A stream on the server, followed: each entry is told once, in order, as soon as it is there, and it is told too that some were missed.
//!
//! It is read by `XREAD BLOCK` on a link of its own: pushed as by a subscription, but nothing is lost while the link is down, since reading goes on
//! behind the last entry that was seen. Whether that entry is still there says whether any behind it can have gone: streams lose their oldest
//! entries first, and a server that is empty, another one, or behind what it was does not have it.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use redis::RedisError;

use super::{Link, Redis, timed_out};

/// How long, in milliseconds, the server keeps a question that it has no entry for. What is asked again so often is seen to be cut off soon.
const BLOCK: u64 = 250;
/// An answer may come so much later, or by `shared.timeout` where that is longer: the server looks ten times a second whom it kept for long enough.
const LATE: Duration = Duration::from_millis(250);
/// How long a server that cannot be reached is left alone.
const PAUSE: Duration = Duration::from_millis(250);
/// Entries that are read at once.
const ENTRIES: usize = 500;

/// Where an entry stands in its stream: the server's time when it was made, in milliseconds, and its place within that.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// Milliseconds of Unix time.
    pub millisecond: u64,
    /// Counted from 0.
    pub place: u64,
}

/// What is no position.
#[derive(Debug, thiserror::Error)]
#[error("it is no position in a stream")]
pub struct NoPosition;

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.millisecond, self.place)
    }
}

impl FromStr for Position {
    type Err = NoPosition;

    fn from_str(text: &str) -> Result<Self, NoPosition> {
        let (millisecond, place) = text.split_once('-').ok_or(NoPosition)?;
        Ok(Self { millisecond: millisecond.parse().map_err(|_| NoPosition)?, place: place.parse().map_err(|_| NoPosition)? })
    }
}

/// An entry of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Where it stands.
    pub position: Position,
    fields: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Entry {
    /// A field that is text; none also where it is not.
    pub fn field(&self, name: &str) -> Option<&str> {
        str::from_utf8(self.fields.get(name.as_bytes())?).ok()
    }
}

/// What is told of a stream.
#[derive(Debug)]
pub enum News {
    /// The next entries.
    Entries(Vec<Entry>),
    /// Some may have been missed, and nobody knows which; reading goes on behind this one.
    Gap(Position),
    /// It was reached, and all that was there has been told.
    InStep,
    /// It cannot be reached. Told once, until it is reached again.
    Away(RedisError),
}

/// Tells of a stream, for as long as it is polled: of what stands behind `seen`; where nothing is known of what was seen, of a gap first.
pub async fn follow(redis: &Redis, stream: &str, seen: Option<Position>, tell: impl FnMut(News)) -> ! {
    let mut reader = Reader { redis, key: redis.key(stream), seen, is_in_step: false, tell };
    let mut is_told = false;
    loop {
        let error = reader.read().await;
        let was_in_step = std::mem::take(&mut reader.is_in_step);
        if was_in_step || !is_told {
            (reader.tell)(News::Away(error));
        }
        is_told = true;
        // A link that was cut is made anew at once.
        if !was_in_step {
            tokio::time::sleep(PAUSE).await;
        }
    }
}

struct Reader<'a, F> {
    redis: &'a Redis,
    key: String,
    /// The last entry that was told.
    seen: Option<Position>,
    is_in_step: bool,
    tell: F,
}

/// A stream's key, and entries of it.
type Read = Option<Vec<(String, Vec<Raw>)>>;
type Raw = (String, BTreeMap<Vec<u8>, Vec<u8>>);

impl<F: FnMut(News)> Reader<'_, F> {
    /// Connects and reads, until that fails.
    async fn read(&mut self) -> RedisError {
        let mut link = match self.redis.connect_to_wait(self.longest()).await {
            Ok(link) => link,
            Err(error) => return error,
        };
        loop {
            if let Err(error) = self.read_once(&mut link).await {
                return error;
            }
        }
    }

    fn longest(&self) -> Duration {
        Duration::from_millis(BLOCK) + LATE.max(self.redis.config().timeout.0)
    }

    async fn read_once(&mut self, link: &mut Link) -> Result<(), RedisError> {
        let Some(seen) = self.seen else { return self.begin_anew(link).await };
        let mut asked = redis::pipe();
        asked.cmd("XREAD").arg("COUNT").arg(ENTRIES);
        // What there is comes first. Who has all of it waits for more.
        if self.is_in_step {
            asked.arg("BLOCK").arg(BLOCK);
        }
        asked.arg("STREAMS").arg(&self.key).arg(seen.to_string());
        // Asked after that, so that nothing went between the two.
        asked.cmd("XRANGE").arg(&self.key).arg(seen.to_string()).arg(seen.to_string());
        let (read, known): (Read, Vec<Raw>) = within(self.longest(), asked.query_async(link)).await?;
        let entries = read.unwrap_or_default().into_iter().flat_map(|(_, entries)| entries).map(entry).collect::<Result<Vec<_>, _>>()?;
        // A stream that never had an entry has none that could be missed.
        if known.is_empty() && seen != Position::default() {
            return self.begin_anew(link).await;
        }
        match entries.last() {
            Some(last) => {
                self.seen = Some(last.position);
                (self.tell)(News::Entries(entries));
            }
            None if !self.is_in_step => {
                self.is_in_step = true;
                (self.tell)(News::InStep);
            }
            None => {}
        }
        Ok(())
    }

    /// Goes on at the end of what there is.
    async fn begin_anew(&mut self, link: &mut Link) -> Result<(), RedisError> {
        let mut asked = redis::cmd("XREVRANGE");
        asked.arg(&self.key).arg("+").arg("-").arg("COUNT").arg(1);
        let newest: Vec<Raw> = within(self.longest(), asked.query_async(link)).await?;
        let end = newest.into_iter().next().map(entry).transpose()?.map_or(Position::default(), |newest| newest.position);
        self.seen = Some(end);
        (self.tell)(News::Gap(end));
        Ok(())
    }
}

async fn within<T>(limit: Duration, asked: impl Future<Output = Result<T, RedisError>>) -> Result<T, RedisError> {
    tokio::time::timeout(limit, asked).await.unwrap_or_else(|_| Err(timed_out("an answer", limit)))
}

fn entry((position, fields): Raw) -> Result<Entry, RedisError> {
    let position = position.parse().map_err(std::io::Error::other)?;
    Ok(Entry { position, fields })
}
