//! Accepts connections, keeps their limits and drains them; what is served is a [`Service`], over HTTP/1.1 or HTTP/2, with TLS or without.

mod aside;
mod config;
mod connection;
mod frames;
mod front;
mod http2;
mod lines;
mod listen;
mod tls;
mod watchdog;
mod workers;

use std::future::Future;

use http::request::Parts;
use http::{Request, Response};
use hyper::body::Incoming;

pub use config::{Config, Tls};
pub use listen::Server;
pub use tls::{Certificates, TlsError};
pub use workers::Workers;

use crate::wire::body::Body;

/// What answers the requests of a connection.
pub trait Service: Clone + Send + Sync + Unpin + 'static {
    /// What a request's head says besides its target, where such requests may be answered at once.
    type Known: Send + Unpin + 'static;

    /// Answers one request, or closes the connection without an answer.
    fn call(&self, request: Request<Incoming>) -> impl Future<Output = Result<Response<Body>, Abort>> + Send;

    /// What this head says; none, if requests with such a head are not answered at once. It has no body, and its target tells nothing.
    fn know(&self, _head: &Parts) -> Option<Self::Known> {
        None
    }

    /// Changes when what heads come to may have changed: nothing that was known of them under another one stands any more.
    fn edition(&self) -> u64 {
        0
    }

    /// Answers a GET of HTTP/1.1 at once, if that takes nothing but memory: adds all bytes of the answer, or leaves `answers` as it is.
    fn at_once(&self, _target: &str, _known: &Self::Known, _answers: &mut Vec<u8>) -> bool {
        false
    }
}

/// Close the connection and say nothing.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the connection is closed without an answer")]
pub struct Abort;
