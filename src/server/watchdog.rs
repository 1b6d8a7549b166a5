//! Ends connections that stand still: one timer for a connection, none for a request.
//!
//! hyper's own header timer also runs between requests and is set anew for each of them. Here the connection's reads,
//! writes and requests leave marks, and a single timer looks at them when the earliest deadline could have passed.
//!
//! In HTTP/1.1 every byte is a sign of life, and a head is being read whenever bytes arrive while no request is answered. In HTTP/2 there are
//! frames that mean nothing, such as pings: only requests and the bytes of bodies are signs of life, and frames tell where fields begin and end.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use http::{Request, Response};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Either};
use hyper::body::{Frame, Incoming, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::frames::{Frames, Seen};
use super::lines::Lines;
use super::{Abort, Service};
use crate::wire::body::{Body, BoxError};

/// What is spoken on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    /// HTTP/1.1, or 1.0.
    Http1,
    /// HTTP/2.
    Http2,
}

/// Watches one connection.
#[derive(Clone, Debug)]
pub(super) struct Watchdog {
    marks: Arc<Marks>,
    head: Duration,
    idle: Duration,
}

/// Times are milliseconds since `origin`; 0 in `head_began` says that no head is being read.
#[derive(Debug)]
struct Marks {
    protocol: Protocol,
    origin: Instant,
    moved: AtomicU64,
    head_began: AtomicU64,
    answering: AtomicU32,
    streaming: AtomicU32,
}

impl Marks {
    fn now(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(u64::MAX).max(1)
    }

    fn moved(&self) {
        self.moved.store(self.now(), Ordering::Relaxed);
    }

    fn read_http1(&self) {
        self.moved();
        // While an answer is streamed, what arrives is more of its request's body.
        if self.answering.load(Ordering::Relaxed) == 0 && self.streaming.load(Ordering::Relaxed) == 0 {
            // Keeps the first mark: a head that trickles in does not renew its time.
            let _first = self.head_began.compare_exchange(0, self.now(), Ordering::Relaxed, Ordering::Relaxed);
        }
    }

    fn read_http2(&self, seen: Seen) {
        if seen.data {
            self.moved();
        }
        if !seen.in_fields {
            self.head_began.store(0, Ordering::Relaxed);
        } else if seen.fields_began {
            self.head_began.store(self.now(), Ordering::Relaxed);
        }
    }
}

impl Watchdog {
    /// A head may take `head` from its first byte; the connection may stand still for `idle`.
    pub(super) fn new(protocol: Protocol, head: Duration, idle: Duration) -> Self {
        let marks = Marks {
            protocol,
            origin: Instant::now(),
            moved: AtomicU64::new(1),
            head_began: AtomicU64::new(0),
            answering: AtomicU32::new(0),
            streaming: AtomicU32::new(0),
        };
        Self { marks: Arc::new(marks), head, idle }
    }

    /// The connection's bytes, leaving marks; those in `first` were read from it before.
    pub(super) fn watch<T>(&self, io: T, first: BytesMut) -> Watched<T> {
        let view = match self.marks.protocol {
            Protocol::Http1 => View::Http1(Lines::new()),
            Protocol::Http2 => View::Http2 { read: Frames::of_client(), written: Frames::of_server() },
        };
        Watched { io, first, view, marks: Arc::clone(&self.marks) }
    }

    /// The connection's requests, leaving marks.
    pub(super) fn service<S: Service>(
        &self,
        service: S,
    ) -> impl hyper::service::Service<Request<Incoming>, Response = Response<Body>, Error = Abort, Future: Send> + use<S> {
        let marks = Arc::clone(&self.marks);
        hyper::service::service_fn(move |request| {
            let (service, marks) = (service.clone(), Arc::clone(&marks));
            async move {
                let _answering = Answering::begin(&marks);
                Ok(service.call(request).await?.map(|body| Streaming::mark(body, &marks)))
            }
        })
    }

    /// Ready when the connection has stood still for too long.
    pub(super) async fn barks(&self) {
        while let Some(deadline) = self.deadline() {
            tokio::time::sleep_until(deadline).await;
        }
    }

    /// The next moment to look again, or none if a limit has passed.
    fn deadline(&self) -> Option<Instant> {
        let (marks, now) = (&self.marks, Instant::now());
        let at = |mark: &AtomicU64, time: Duration| marks.origin + Duration::from_millis(mark.load(Ordering::Relaxed)) + time;
        let idle = (marks.answering.load(Ordering::Relaxed) == 0).then(|| at(&marks.moved, self.idle));
        let head = (marks.head_began.load(Ordering::Relaxed) > 0).then(|| at(&marks.head_began, self.head));
        if idle.into_iter().chain(head).any(|limit| limit <= now) {
            return None;
        }
        // Where no head is being read none can be late yet, but one may begin before the next look.
        let soon = now + self.head.min(self.idle);
        Some(idle.into_iter().chain(head).fold(soon, Instant::min))
    }
}

/// A request under way; an idle connection is one without.
struct Answering(Arc<Marks>);

impl Answering {
    fn begin(marks: &Arc<Marks>) -> Self {
        if marks.protocol == Protocol::Http1 {
            marks.head_began.store(0, Ordering::Relaxed);
        }
        marks.answering.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(marks))
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.moved();
        self.0.answering.fetch_sub(1, Ordering::Relaxed);
    }
}

/// An answer whose body is still coming. The connection may stand still no longer than others.
struct Streaming {
    body: BoxBody<Bytes, BoxError>,
    marks: Arc<Marks>,
}

impl Streaming {
    fn mark(body: Body, marks: &Arc<Marks>) -> Body {
        match body {
            Either::Left(_) => body,
            Either::Right(body) => {
                marks.streaming.fetch_add(1, Ordering::Relaxed);
                Either::Right(BodyExt::boxed(Self { body, marks: Arc::clone(marks) }))
            }
        }
    }
}

impl hyper::body::Body for Streaming {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Streaming {
    fn drop(&mut self) {
        self.marks.streaming.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A connection's bytes, leaving marks.
#[derive(Debug)]
pub(super) struct Watched<T> {
    io: T,
    /// Read already, and not yet passed on.
    first: BytesMut,
    view: View,
    marks: Arc<Marks>,
}

/// What is understood of the bytes.
#[derive(Debug)]
enum View {
    Http1(Lines),
    Http2 { read: Frames, written: Frames },
}

impl<T> Watched<T> {
    fn read(&mut self, bytes: &mut [u8]) {
        match &mut self.view {
            View::Http1(lines) => {
                lines.pass(bytes);
                self.marks.read_http1();
            }
            View::Http2 { read, .. } => self.marks.read_http2(read.follow(bytes)),
        }
    }

    /// Marks the first `written` bytes of these.
    fn wrote<'s>(&mut self, written: &Poll<io::Result<usize>>, slices: impl Iterator<Item = &'s [u8]>) {
        let &Poll::Ready(Ok(mut left)) = written else { return };
        let View::Http2 { written: frames, .. } = &mut self.view else { return self.marks.moved() };
        for slice in slices {
            let length = slice.len().min(left);
            if frames.follow(&slice[..length]).data {
                self.marks.moved();
            }
            left -= length;
        }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Watched<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = if self.first.is_empty() {
            Pin::new(&mut self.io).poll_read(cx, buffer)
        } else {
            let length = self.first.len().min(buffer.remaining());
            buffer.put_slice(&self.first[..length]);
            self.first.advance(length);
            Poll::Ready(Ok(()))
        };
        let bytes = &mut buffer.filled_mut()[before..];
        if !bytes.is_empty() {
            self.read(bytes);
        }
        read
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Watched<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(cx, bytes);
        self.wrote(&written, std::iter::once(bytes));
        written
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, slices: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write_vectored(cx, slices);
        self.wrote(&written, slices.iter().map(|slice| &**slice));
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
