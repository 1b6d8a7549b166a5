//! What operators read: metrics and the log.

mod config;
mod log;
pub mod metrics;
mod slots;

pub use config::{Config, Format};
pub use log::{LogGuard, NoLog, init};
pub use metrics::Metrics;
