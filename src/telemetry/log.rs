//! Writes the log to standard error, from a thread of its own: a reader that stops reading costs lines, never requests.

use std::io;

use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::time::SystemTime;

use super::{Config, Format};

/// Lines that wait for the writer; further ones are dropped.
const WAITING_LINES: usize = 16_384;

/// Writes what is waiting when it is dropped.
#[derive(Debug)]
pub struct LogGuard {
    _writer: WorkerGuard,
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
}

/// Starts the process's one log.
pub fn init(config: &Config) -> Result<LogGuard, NoLog> {
    let filter = EnvFilter::try_new(config.log.as_str())?;
    let (writer, guard) = NonBlockingBuilder::default().lossy(true).buffered_lines_limit(WAITING_LINES).finish(io::stderr());
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer).with_timer(SystemTime).with_ansi(false);
    let set = match config.format {
        Format::Json => builder.json().flatten_event(true).with_current_span(false).with_span_list(false).try_init(),
        Format::Text => builder.compact().try_init(),
    };
    set.map_err(|_| NoLog::Twice)?;
    Ok(LogGuard { _writer: guard })
}
