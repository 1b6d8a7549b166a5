//! Writes the log to standard error, from a thread of its own: a reader that stops reading costs lines, never requests.

use std::io;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, LazyLock, OnceLock};
use std::thread;
use std::time::Duration;

use prometheus::IntCounter;
use tracing::Subscriber;
use tracing_subscriber::fmt::time::SystemTime;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry, fmt, reload};

use super::spool::{Events, Spool};
use super::{Config, Directives, Format};

/// How long the writer waits for more lines after the first.
const GATHERING: Duration = Duration::from_millis(10);

/// How long the end of the process waits for a reader that does not read.
const LAST_WAIT: Duration = Duration::from_secs(1);

static LOG: OnceLock<Log> = OnceLock::new();

/// Lines for which there was no room.
pub(super) static DROPPED: LazyLock<IntCounter> = LazyLock::new(|| {
    let (name, help) = ("reputation_gateway_log_lines_dropped_total", "Lines of the log for which there was no room.");
    IntCounter::new(name, help).expect("a well formed name")
});

/// The process's one log.
#[derive(Debug)]
pub(super) struct Log {
    pub(super) spool: Arc<Spool>,
    pub(super) format: Format,
    pub(super) full_numbers: bool,
    level: Level,
}

/// What is logged, which can be changed.
type Level = reload::Handle<EnvFilter, Registry>;

impl Log {
    /// None before it is set up.
    pub(super) fn of_process() -> Option<&'static Self> {
        LOG.get()
    }
}

/// Writes what is waiting when it is dropped.
#[derive(Debug)]
pub struct LogGuard {
    spool: Arc<Spool>,
    /// Nothing ever comes; it is cut when the writer has ended.
    ended: Receiver<()>,
}

impl Drop for LogGuard {
    fn drop(&mut self) {
        self.spool.close();
        let _cut = self.ended.recv_timeout(LAST_WAIT);
    }
}

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
pub enum NoLog {
    /// The level is none.
    #[error("telemetry.log is neither a level nor directives: {0}")]
    Level(#[from] tracing_subscriber::filter::ParseError),
    /// Something else is being logged to already.
    #[error("a log is set up already")]
    Twice,
    /// What is logged is not the log's to change any more.
    #[error("the log has ended: {0}")]
    Ended(#[from] reload::Error),
    /// The writer cannot be started.
    #[error("the log's thread cannot be started: {0}")]
    Thread(#[from] io::Error),
}

/// Starts the process's one log.
pub fn init(config: &Config) -> Result<LogGuard, NoLog> {
    let filter = EnvFilter::try_new(config.log.as_str())?;
    let spool = Arc::new(Spool::new(DROPPED.clone()));
    let (cut, ended) = channel::<()>();
    let guard = LogGuard { spool: Arc::clone(&spool), ended };
    let lines = Arc::clone(&spool);
    thread::Builder::new().name("log".to_owned()).spawn(move || {
        lines.run(io::stderr(), GATHERING);
        drop(cut);
    })?;
    let (subscriber, level) = subscriber(filter, config.format, Events(Arc::clone(&spool)));
    subscriber.try_init().map_err(|_| NoLog::Twice)?;
    LOG.set(Log { spool, format: config.format, full_numbers: config.log_full_numbers, level }).map_err(|_| NoLog::Twice)?;
    Ok(guard)
}

/// Logs this from now on, in the lines of requests too. Without a log nothing is, and nothing is to be changed.
pub fn set_level(log: &Directives) -> Result<(), NoLog> {
    let filter = EnvFilter::try_new(log.as_str())?;
    Log::of_process().map_or(Ok(()), |log| Ok(log.level.reload(filter)?))
}

/// What turns events into lines.
fn subscriber(filter: EnvFilter, format: Format, events: Events) -> (Box<dyn Subscriber + Send + Sync>, Level) {
    let (filter, level) = reload::Layer::new(filter);
    let filtered = Registry::default().with(filter);
    let lines = fmt::layer().with_writer(events).with_timer(SystemTime).with_ansi(false);
    let subscriber: Box<dyn Subscriber + Send + Sync> = match format {
        Format::Json => Box::new(filtered.with(lines.json().flatten_event(true).with_current_span(false).with_span_list(false))),
        Format::Text => Box::new(filtered.with(lines.compact())),
    };
    (subscriber, level)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(directives: &str) -> EnvFilter {
        EnvFilter::try_new(directives).expect("directives")
    }

    #[test]
    fn what_is_logged_changes_while_it_is_logged() {
        for format in [Format::Json, Format::Text] {
            let spool = Arc::new(Spool::new(IntCounter::new("dropped", "Lines.").expect("a name")));
            let (subscriber, level) = subscriber(filter("warn"), format, Events(Arc::clone(&spool)));
            let (event, request) = (|word| tracing::debug!(word), || tracing::enabled!(target: "access", tracing::Level::INFO));
            tracing::subscriber::with_default(subscriber, || {
                event("first");
                assert!(!request());
                level.reload(filter("debug,access=off")).expect("a log");
                event("second");
                assert!(!request());
                level.reload(filter("info")).expect("a log");
                event("third");
                assert!(request());
            });
            let mut lines = Vec::new();
            spool.close();
            spool.run(&mut lines, Duration::ZERO);
            let lines = String::from_utf8(lines).expect("text");
            assert!(lines.lines().count() == 1 && lines.contains("second"), "{lines}");
        }
    }
}
