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
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Either;
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

/// Times are milliseconds since `origin`; 0 in `head_began` says that no head is being read. One task alone writes those of HTTP/1.1.
#[derive(Debug)]
pub(super) struct Marks {
    protocol: Protocol,
    origin: Instant,
    moved: AtomicU64,
    head_began: AtomicU64,
    answering: AtomicU32,
    /// Answers whose bodies are streamed.
    streaming: AtomicU32,
    /// Answers whose bodies the parser has not taken whole.
    unsent: AtomicU32,
    /// Requests that the service has ended.
    served: AtomicU64,
    /// HTTP/1.1: all requests that were passed on have been answered, and the answers sent.
    rests: AtomicBool,
    /// The request under way, or else none, is the last.
    stops: AtomicBool,
}

impl Marks {
    /// Whether nothing is under way beyond the front.
    pub(super) fn rests(&self) -> bool {
        self.rests.load(Ordering::Relaxed)
    }

    /// Whether no further requests are taken.
    pub(super) fn stops(&self) -> bool {
        self.stops.load(Ordering::Relaxed)
    }

    /// Requests were answered from memory. No head is being read: each of them was there whole.
    pub(super) fn answered_at_once(&self) {
        self.head_began.store(0, Ordering::Relaxed);
    }

    fn now(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(u64::MAX).max(1)
    }

    /// A sign of life.
    pub(super) fn moved(&self) {
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
            unsent: AtomicU32::new(0),
            served: AtomicU64::new(0),
            rests: AtomicBool::new(protocol == Protocol::Http1),
            stops: AtomicBool::new(false),
        };
        Self { marks: Arc::new(marks), head, idle }
    }

    /// What is known of the connection, for those that stand before the parser.
    pub(super) fn marks(&self) -> &Arc<Marks> {
        &self.marks
    }

    /// Takes no further requests.
    pub(super) fn stop(&self) {
        self.marks.stops.store(true, Ordering::Relaxed);
    }

    /// The connection's bytes, leaving marks.
    pub(super) fn watch<T>(&self, io: T) -> Watched<T> {
        let view = match self.marks.protocol {
            Protocol::Http1 => View::Http1(Lines::new()),
            Protocol::Http2 => View::Http2 { read: Frames::of_client(), written: Frames::of_server() },
        };
        Watched { io, view, marks: Arc::clone(&self.marks) }
    }

    /// The connection's requests, leaving marks.
    pub(super) fn service<S: Service>(
        &self,
        service: S,
    ) -> impl hyper::service::Service<Request<Incoming>, Response = Response<Sending>, Error = Abort, Future: Send> + use<S> {
        let marks = Arc::clone(&self.marks);
        hyper::service::service_fn(move |request| {
            let (service, marks) = (service.clone(), Arc::clone(&marks));
            async move {
                let _answering = Answering::begin(&marks);
                Ok(service.call(request).await?.map(|body| Sending::begin(body, &marks)))
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
        self.0.served.fetch_add(1, Ordering::Relaxed);
    }
}

/// The body of an answer. While it is streamed, the connection may stand still no longer than others.
pub(super) struct Sending {
    body: Body,
    marks: Arc<Marks>,
}

impl Sending {
    fn begin(body: Body, marks: &Arc<Marks>) -> Self {
        marks.unsent.fetch_add(1, Ordering::Relaxed);
        marks.streaming.fetch_add(streams(&body), Ordering::Relaxed);
        Self { body, marks: Arc::clone(marks) }
    }
}

/// 1 for what is still coming, 0 for what is at hand.
fn streams(body: &Body) -> u32 {
    u32::from(matches!(body, Either::Right(_)))
}

impl hyper::body::Body for Sending {
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

impl Drop for Sending {
    fn drop(&mut self) {
        self.marks.unsent.fetch_sub(1, Ordering::Relaxed);
        self.marks.streaming.fetch_sub(streams(&self.body), Ordering::Relaxed);
    }
}

/// A connection's bytes, leaving marks.
#[derive(Debug)]
pub(super) struct Watched<T> {
    io: T,
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
                self.marks.rests.store(false, Ordering::Relaxed);
                self.marks.read_http1();
            }
            View::Http2 { read, .. } => self.marks.read_http2(read.follow(bytes)),
        }
    }

    /// All that the parser had is written. It rests if no request of those it was given waits for an answer, or for the end of one.
    fn flushed(&self) {
        let View::Http1(lines) = &self.view else { return };
        let Marks { answering, unsent, served, rests, .. } = &*self.marks;
        let all_sent = [answering, unsent].iter().all(|count| count.load(Ordering::Relaxed) == 0);
        if all_sent && lines.ended() == Some(served.load(Ordering::Relaxed)) {
            rests.store(true, Ordering::Relaxed);
        }
    }

    /// Marks the first `written` bytes of these.
    fn wrote<'s>(&mut self, written: &Poll<io::Result<usize>>, slices: impl Iterator<Item = &'s [u8]>) {
        let &Poll::Ready(Ok(mut left)) = written else { return };
        let View::Http2 { written: frames, .. } = &mut self.view else {
            self.marks.rests.store(false, Ordering::Relaxed);
            return self.marks.moved();
        };
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
        let read = Pin::new(&mut self.io).poll_read(cx, buffer);
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
        ready!(Pin::new(&mut self.io).poll_flush(cx))?;
        self.flushed();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
