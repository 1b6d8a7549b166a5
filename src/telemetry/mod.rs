//! What operators read: metrics, the log and spans.

pub mod access;
mod config;
mod log;
pub mod metrics;
mod otlp;
mod recent;
mod slots;
mod spool;
mod stamp;
pub mod traces;

pub use config::{Config, Directives, Format};
pub use log::{LogGuard, NoLog, init, set_level};
pub use metrics::Metrics;
pub use recent::Recent;
pub use traces::Traces;
