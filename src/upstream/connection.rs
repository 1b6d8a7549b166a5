//! Connections that know since when they are there, so that none is kept for ever.
//!
//! A name is resolved for each new connection only. A busy one would go on to an address that its name has left long ago; so a
//! connection that is too old is not taken for another request. What is under way on it ends as it would have.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Extensions, Uri};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{CaptureConnection, Connected, Connection};
use tower_service::Service;

use crate::clock::Clock;

/// When a connection was made (monotonic).
#[derive(Clone, Copy, Debug)]
struct Since(Duration);

/// Makes connections, and notes when.
#[derive(Clone, Debug)]
pub(super) struct Dating<C> {
    connector: C,
    clock: Clock,
}

impl<C> Dating<C> {
    pub(super) fn new(connector: C, clock: &Clock) -> Self {
        Self { connector, clock: clock.clone() }
    }
}

impl<C: Service<Uri>> Service<Uri> for Dating<C>
where
    C::Future: Send + 'static,
{
    type Response = Dated<C::Response>;
    type Error = C::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), C::Error>> {
        self.connector.poll_ready(context)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let (connecting, clock) = (self.connector.call(uri), self.clock.clone());
        Box::pin(async move { connecting.await.map(|stream| Dated { stream, since: Since(clock.elapsed()) }) })
    }
}

/// A connection that knows since when it is there.
#[derive(Debug)]
pub(super) struct Dated<S> {
    stream: S,
    since: Since,
}

impl<S: Connection> Connection for Dated<S> {
    fn connected(&self) -> Connected {
        self.stream.connected().extra(self.since)
    }
}

impl<S: Read + Unpin> Read for Dated<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: Write + Unpin> Write for Dated<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, bytes)
    }
}

/// Keeps the connection that a request went out on from being taken for another one, if it was made before `oldest` (monotonic).
pub(super) fn retire(connection: &CaptureConnection, oldest: Duration) {
    let connected = connection.connection_metadata();
    let Some(connected) = connected.as_ref() else { return };
    let mut extras = Extensions::new();
    connected.get_extras(&mut extras);
    if extras.get::<Since>().is_some_and(|since| since.0 <= oldest) {
        connected.poison();
    }
}
