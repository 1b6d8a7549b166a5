//! What operators read: metrics and the log.

pub mod access;
mod config;
mod log;
pub mod metrics;
mod slots;
mod spool;
mod stamp;

pub use config::{Config, Format};
pub use log::{LogGuard, NoLog, init, set_level};
pub use metrics::Metrics;
