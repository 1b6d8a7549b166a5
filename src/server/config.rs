//! Settings of a listener.

use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::units::{ByteSize, OneOrMany, Span};

/// `[server]`: where callers connect, and what a connection may cost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a table of settings")]
pub struct Config {
    /// One address, or a list. Port 0 takes a free one, which the ready line tells.
    pub listen: OneOrMany<SocketAddr>,
    /// Threads that serve requests; 0 means one per core.
    pub workers: usize,
    /// Connections open at once on each address; further ones wait in the kernel's queue.
    pub max_connections: usize,
    /// How long a request's head may take from its first byte.
    pub header_timeout: Span,
    /// How long a request's body may take.
    pub body_timeout: Span,
    /// How long a connection may stand still, between requests or while it does not take its answer.
    pub idle_timeout: Span,
    /// A request's line and fields together; longer ones get 431.
    pub max_header_size: ByteSize,
    /// A request's body; longer ones get 413.
    pub max_body_size: ByteSize,
    /// How long a stopping process waits for requests under way. Billed calls are waited for in any case.
    pub drain_timeout: Span,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: OneOrMany::One(SocketAddr::from(([127, 0, 0, 1], 8080))),
            workers: 0,
            max_connections: 10_000,
            header_timeout: Span(Duration::from_secs(10)),
            body_timeout: Span(Duration::from_secs(30)),
            idle_timeout: Span(Duration::from_secs(75)),
            max_header_size: ByteSize(16 * 1024),
            max_body_size: ByteSize(1024 * 1024),
            drain_timeout: Span(Duration::from_secs(30)),
        }
    }
}
