//! What operators read: metrics and the log.

pub mod access;
mod config;
mod log;
pub mod metrics;
mod recent;
mod slots;
mod spool;
mod stamp;

pub use config::{Config, Format};
pub use log::{LogGuard, NoLog, init};
pub use metrics::Metrics;
pub use recent::Recent;
