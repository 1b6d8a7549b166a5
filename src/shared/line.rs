//! A connection for what is asked in passing. It connects by itself, waits for no answer longer than `shared.timeout`, and after a failure fails at
//! once until it is connected anew.

use std::sync::Arc;
use std::time::Duration;

use redis::{FromRedisValue, RedisError, ScriptInvocation};
use tokio::sync::watch;

use super::{Link, Redis, timed_out};

/// How long a server that failed is left alone.
const PAUSE: Duration = Duration::from_millis(500);

/// What a server says that has no memory left. It can still be asked for what takes none.
const FULL: &str = "OOM";

/// The connection; clones share it.
#[derive(Clone)]
pub struct Line(Arc<Ends>);

struct Ends {
    redis: Redis,
    /// Each link has a number of its own, so that who fails late lets go of no later one.
    link: watch::Sender<Option<(u64, Link)>>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum NoAnswer {
    /// It was not asked, since the server is away.
    #[error("the server is away")]
    Away,
    /// It did not answer in time, or said that it cannot.
    #[error("{0}")]
    Failed(#[from] RedisError),
}

impl Line {
    /// Not connected yet.
    pub fn new(redis: Redis) -> Self {
        Self(Arc::new(Ends { redis, link: watch::Sender::new(None) }))
    }

    /// Whether it is connected.
    pub fn is_up(&self) -> bool {
        self.0.link.borrow().is_some()
    }

    /// Waits until it is.
    pub async fn comes_up(&self) {
        self.comes_to(Option::is_some).await;
    }

    /// Lets go of the server, which somebody else found to be lost.
    pub fn let_go(&self) {
        self.0.link.send_replace(None);
    }

    /// Waits until it is not.
    pub async fn goes_down(&self) {
        self.comes_to(Option::is_none).await;
    }

    async fn comes_to(&self, state: impl FnMut(&Option<(u64, Link)>) -> bool) {
        let mut link = self.0.link.subscribe();
        // The sender is held by this very line.
        let _reached = link.wait_for(state).await;
    }

    /// Runs a script.
    pub async fn run<T: FromRedisValue>(&self, script: &ScriptInvocation<'_>) -> Result<T, NoAnswer> {
        let (number, mut link) = self.0.link.borrow().clone().ok_or(NoAnswer::Away)?;
        let limit = self.0.redis.config().timeout.0;
        let asked = tokio::time::timeout(limit, script.invoke_async(&mut link));
        let answer = asked.await.unwrap_or_else(|_| Err(timed_out("an answer", limit)));
        if answer.as_ref().is_err_and(|error: &RedisError| error.code() != Some(FULL)) {
            self.0.link.send_if_modified(|link| link.take_if(|(at, _)| *at == number).is_some());
        }
        Ok(answer?)
    }

    /// Connects whenever it is not connected, for as long as it is polled.
    pub async fn keep_up(&self) -> ! {
        for number in 0.. {
            if let Ok(link) = self.0.redis.connect().await {
                self.0.link.send_replace(Some((number, link)));
                self.goes_down().await;
            }
            tokio::time::sleep(PAUSE).await;
        }
        unreachable!("nobody counts so far")
    }
}
