//! A reverse proxy in front of Telnyx's Number Reputation API.

pub mod clock;
pub mod policy;
pub mod server;
pub mod spend;
pub mod telnyx;
pub mod units;
pub mod wire;
