//! A reverse proxy in front of Telnyx's Number Reputation API.
//!
#![doc = include_str!("../docs/architecture.md")]

pub mod admin;
pub mod app;
pub mod auth;
pub mod cache;
pub mod cli;
pub mod clock;
pub mod config;
pub mod files;
pub mod flight;
pub mod gateway;
pub mod limit;
pub mod policy;
pub mod sandbox;
pub mod secret;
pub mod server;
pub mod shared;
pub mod spend;
pub mod telemetry;
pub mod telnyx;
pub mod units;
pub mod upstream;
pub mod webhook;
pub mod wire;
