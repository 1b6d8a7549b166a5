//! Settings of a listener.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::units::{ByteSize, OneOrMany, Span};

/// `[server]`: where callers connect, and what a connection may cost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "a table of settings")]
#[schemars(inline)]
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
    /// Bytes that are in memory for single requests, of all connections together: bodies, and answers that are not taken yet.
    pub max_buffered: ByteSize,
    /// How long a stopping process waits for requests under way. Billed calls are waited for in any case.
    pub drain_timeout: Span,
    /// HTTP/2: requests under way at once on one connection.
    pub http2_max_streams: u32,
    /// HTTP/2: requests taken back before they were looked at, beyond which the connection ends.
    pub http2_max_resets: usize,
    /// HTTP/2: requests refused as malformed on one connection, beyond which it ends.
    pub http2_max_malformed: usize,
    /// HTTP/2: a frame's payload; longer ones end the connection.
    pub http2_max_frame_size: ByteSize,
    /// HTTP/2: bytes of one answer that wait to be taken.
    pub http2_send_buffer: ByteSize,
    /// HTTP/2: how often the other side is asked whether it is there, and how long it may take to say so; 0 never asks.
    pub http2_ping_interval: Span,
    /// Callers speak TLS, with these files; none: they speak without.
    pub tls: Option<Tls>,
}

/// `server.tls`: PEM files, read again when they change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a table such as { certificate = \"PATH\", private_key = \"PATH\" }")]
#[schemars(inline)]
pub struct Tls {
    /// The certificate, and those between it and its root.
    pub certificate: PathBuf,
    /// Its private key: PKCS#8, PKCS#1 or SEC1.
    pub private_key: PathBuf,
    /// Who signs callers' certificates. With it, a caller without one is refused.
    #[serde(default)]
    pub client_ca: Option<PathBuf>,
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
            max_buffered: ByteSize(64 * 1024 * 1024),
            drain_timeout: Span(Duration::from_secs(30)),
            http2_max_streams: 100,
            http2_max_resets: 20,
            http2_max_malformed: 100,
            http2_max_frame_size: ByteSize(16 * 1024),
            http2_send_buffer: ByteSize(64 * 1024),
            http2_ping_interval: Span(Duration::from_secs(20)),
            tls: None,
        }
    }
}
