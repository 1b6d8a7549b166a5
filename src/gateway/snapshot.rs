//! Warm restarts: the copies are written into a file on the interval and on drain, and read from it at the start.

use std::future::Future;
use std::path::PathBuf;
use std::pin::pin;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::spawn_blocking;

use super::Gateway;
use crate::auth::Mode;
use crate::cache::{Cache, PaidCalls, Unread};
use crate::clock::Clock;
use crate::config::Config;
use crate::telemetry::Metrics;

/// The most that one follows another by, when numbers are removed one after the other.
const PAUSE: Duration = Duration::from_secs(10);

/// Where snapshots go, and when.
#[derive(Debug)]
pub(super) struct Snapshots {
    path: PathBuf,
    interval: Duration,
    /// The last one has what is not there any more.
    wanted: Notify,
}

impl Snapshots {
    /// Brings back what the last run knew. A file that cannot be used is no reason not to start; one that is something else is not written over.
    pub(super) fn restored(config: &Config, cache: &Cache, calls: &PaidCalls, clock: &Clock, metrics: &Metrics) -> Option<Self> {
        let path = config.cache.snapshot.clone().filter(|_| config.auth.mode != Mode::Forward)?;
        let (shown, began) = (path.display().to_string(), clock.elapsed());
        let touched = |key: &_| {
            let calls = calls.of(key);
            calls.paid.map(|call| call.sent).max(calls.unknown.map(|call| call.sent))
        };
        match cache.read_snapshot(&path, (clock.now(), began), touched) {
            Ok(None) => tracing::info!(path = shown, "there is no snapshot of the cache yet"),
            Ok(Some(restored)) => {
                metrics.snapshot.restored.set(i64::try_from(restored.entries).unwrap_or(i64::MAX));
                let seconds = clock.elapsed().saturating_sub(began).as_secs_f64();
                tracing::info!(path = shown, entries = restored.entries, seconds, "the cache is as its snapshot has it");
                if restored.clock_went_back {
                    tracing::warn!(
                        path = shown,
                        "the snapshot is from later than now: the clock was set back, so no copy in it counts as fresh"
                    );
                }
            }
            Err(Unread::Foreign) => {
                tracing::warn!(path = shown, "cache.snapshot names something else than a snapshot: it is left alone, and none is written");
                return None;
            }
            Err(unread) => tracing::warn!(path = shown, why = %unread, "the snapshot of the cache is dropped"),
        }
        Some(Self { path, interval: config.cache.snapshot_interval.0, wanted: Notify::new() })
    }
}

impl Gateway {
    /// Writes snapshots on the interval, and soon after something was removed, until `stop`. What is being written is finished.
    pub async fn keep_snapshots(&self, stop: impl Future<Output = ()>) {
        let Some(snapshots) = &self.0.snapshots else { return };
        let (clock, pause) = (&self.0.clock, snapshots.interval.min(PAUSE));
        let mut stop = pin!(stop);
        let (mut due, mut earliest) = (clock.elapsed() + snapshots.interval, Duration::ZERO);
        loop {
            let removed = async {
                snapshots.wanted.notified().await;
                clock.reaches(earliest).await;
            };
            tokio::select! {
                () = clock.reaches(due) => {}
                () = removed => {}
                () = &mut stop => return,
            }
            let now = clock.elapsed();
            (due, earliest) = (now + snapshots.interval, now + pause);
            self.write_snapshot().await;
        }
    }

    /// Writes a snapshot, if they are configured.
    pub async fn write_snapshot(&self) {
        let Some(snapshots) = &self.0.snapshots else { return };
        let (cache, clock, path) = (self.0.cache.clone(), self.0.clock.clone(), snapshots.path.clone());
        let began = self.0.clock.elapsed();
        let written = spawn_blocking(move || cache.write_snapshot(&path, clock.now(), clock.elapsed())).await;
        let metrics = &self.0.metrics.snapshot;
        match written.map_err(std::io::Error::other).flatten() {
            Ok(written) => {
                metrics.last_success.set(self.0.clock.now().as_duration().as_secs_f64());
                metrics.entries.set(i64::try_from(written.entries).unwrap_or(i64::MAX));
                let seconds = self.0.clock.elapsed().saturating_sub(began).as_secs_f64();
                tracing::debug!(entries = written.entries, bytes = written.bytes, seconds, "a snapshot of the cache was written");
            }
            Err(error) => tracing::error!(path = %snapshots.path.display(), %error, "no snapshot of the cache can be written"),
        }
    }

    /// Something was removed that the last snapshot has, and that a crash would bring back.
    pub(super) fn outdate_snapshot(&self) {
        if let Some(snapshots) = &self.0.snapshots {
            snapshots.wanted.notify_one();
        }
    }
}
