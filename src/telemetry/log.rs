//! Writes the log to standard error, from a thread of its own: a reader that stops reading costs lines, never requests.

use std::io;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, LazyLock, OnceLock};
use std::thread;
use std::time::Duration;

use prometheus::IntCounter;
use tracing_subscriber::fmt::time::SystemTime;
use tracing_subscriber::{EnvFilter, reload};

use super::config::Directives;
use super::spool::{Events, Spool};
use super::{Config, Format};

/// How long the writer waits for more lines after the first.
const GATHERING: Duration = Duration::from_millis(10);

/// How long the end of the process waits for a reader that does not read.
const LAST_WAIT: Duration = Duration::from_secs(1);

static LOG: OnceLock<Log> = OnceLock::new();

/// Puts another filter in force; none before the log is set up.
static LEVEL: OnceLock<Level> = OnceLock::new();

type Level = Box<dyn Fn(EnvFilter) -> Result<(), reload::Error> + Send + Sync>;

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
}

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
    /// The level of the log that is set up cannot be changed.
    #[error("the log's level cannot be changed: {0}")]
    Fixed(#[from] reload::Error),
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
    let builder =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(Events(Arc::clone(&spool))).with_timer(SystemTime).with_ansi(false);
    let (set, level): (_, Level) = match config.format {
        Format::Json => {
            let builder = builder.json().flatten_event(true).with_current_span(false).with_span_list(false).with_filter_reloading();
            let level = builder.reload_handle();
            (builder.try_init(), Box::new(move |filter| level.reload(filter)))
        }
        Format::Text => {
            let builder = builder.compact().with_filter_reloading();
            let level = builder.reload_handle();
            (builder.try_init(), Box::new(move |filter| level.reload(filter)))
        }
    };
    set.map_err(|_| NoLog::Twice)?;
    LEVEL.set(level).map_err(|_| NoLog::Twice)?;
    LOG.set(Log { spool, format: config.format, full_numbers: config.log_full_numbers }).map_err(|_| NoLog::Twice)?;
    Ok(guard)
}

/// Logs from now on what `log` says. Where no log is set up there is nothing to change.
pub fn set_level(log: &Directives) -> Result<(), NoLog> {
    let filter = EnvFilter::try_new(log.as_str())?;
    LEVEL.get().map_or(Ok(()), |level| Ok(level(filter)?))
}
