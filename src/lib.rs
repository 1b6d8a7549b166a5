//! A reverse proxy in front of Telnyx's Number Reputation API.

pub mod clock;
pub mod policy;
pub mod sandbox;
pub mod server;
pub mod telnyx;
pub mod units;
pub mod wire;
