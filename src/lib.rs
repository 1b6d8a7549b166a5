//! A reverse proxy in front of Telnyx's Number Reputation API.

pub mod auth;
pub mod cache;
pub mod clock;
pub mod config;
pub mod flight;
pub mod gateway;
pub mod limit;
pub mod policy;
pub mod secret;
pub mod server;
pub mod spend;
pub mod telemetry;
pub mod telnyx;
pub mod units;
pub mod upstream;
pub mod wire;
