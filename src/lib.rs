//! A reverse proxy in front of Telnyx's Number Reputation API.

pub mod auth;
pub mod cache;
pub mod clock;
pub mod flight;
pub mod limit;
pub mod policy;
pub mod secret;
pub mod server;
pub mod telnyx;
pub mod units;
pub mod upstream;
pub mod wire;
