//! What operators read: metrics and the log.

mod config;
mod log;
pub mod metrics;

pub use config::{Config, Format};
pub use log::{LogGuard, NoLog, init};
pub use metrics::Metrics;
