//! Accepts connections, keeps their limits and drains them; what is served is a [`Service`], over HTTP/1.1 or HTTP/2, with TLS or without.

mod config;
mod connection;
mod frames;
mod http2;
mod lines;
mod listen;
mod tls;
mod watchdog;

use std::future::Future;

use http::{Request, Response};
use hyper::body::Incoming;

pub use config::{Config, Tls};
pub use listen::Server;
pub use tls::{Certificates, TlsError};

use crate::wire::body::Body;

/// What answers the requests of a connection.
pub trait Service: Clone + Send + Sync + 'static {
    /// Answers one request, or closes the connection without an answer.
    fn call(&self, request: Request<Incoming>) -> impl Future<Output = Result<Response<Body>, Abort>> + Send;
}

/// Close the connection and say nothing.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the connection is closed without an answer")]
pub struct Abort;
