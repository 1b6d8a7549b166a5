//! Ends connections that stand still: one timer for a connection, none for a request.
//!
//! hyper's own header timer also runs between requests and is set anew for each of them. Here the connection's reads,
//! writes and requests leave marks, and a single timer looks at them when the earliest deadline could have passed.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::rt::{Read, ReadBufCursor, Write};
use tokio::time::Instant;

use super::{Abort, Service};
use crate::wire::body::Body;

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
    origin: Instant,
    moved: AtomicU64,
    head_began: AtomicU64,
    answering: AtomicU32,
}

impl Marks {
    fn now(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(u64::MAX).max(1)
    }

    fn moved(&self) {
        self.moved.store(self.now(), Ordering::Relaxed);
    }

    fn read_bytes(&self) {
        self.moved();
        if self.answering.load(Ordering::Relaxed) == 0 {
            // Keeps the first mark: a head that trickles in does not renew its time.
            let _first = self.head_began.compare_exchange(0, self.now(), Ordering::Relaxed, Ordering::Relaxed);
        }
    }
}

impl Watchdog {
    /// A head may take `head` from its first byte; the connection may stand still for `idle`.
    pub(super) fn new(head: Duration, idle: Duration) -> Self {
        let marks = Marks { origin: Instant::now(), moved: AtomicU64::new(1), head_began: AtomicU64::new(0), answering: AtomicU32::new(0) };
        Self { marks: Arc::new(marks), head, idle }
    }

    /// The connection's bytes, leaving marks.
    pub(super) fn watch<T>(&self, io: T) -> Watched<T> {
        Watched { io, marks: Arc::clone(&self.marks) }
    }

    /// The connection's requests, leaving marks.
    pub(super) fn service<S: Service>(
        &self,
        service: S,
    ) -> impl hyper::service::Service<Request<Incoming>, Response = Response<Body>, Error = Abort, Future: Send> {
        let marks = Arc::clone(&self.marks);
        hyper::service::service_fn(move |request| {
            let (service, marks) = (service.clone(), Arc::clone(&marks));
            async move {
                let _answering = Answering::begin(&marks);
                service.call(request).await
            }
        })
    }

    /// Ready when the connection has stood still for too long.
    pub(super) async fn barks(&self) {
        while let Some(deadline) = self.deadline() {
            tokio::time::sleep_until(deadline).await;
        }
    }

    /// The next moment to look again, or none if the time has passed.
    fn deadline(&self) -> Option<Instant> {
        let marks = &self.marks;
        let at = |mark: &AtomicU64| marks.origin + Duration::from_millis(mark.load(Ordering::Relaxed));
        let now = Instant::now();
        if marks.answering.load(Ordering::Relaxed) > 0 {
            return Some(now + self.idle);
        }
        let idle = at(&marks.moved) + self.idle;
        let head_began = marks.head_began.load(Ordering::Relaxed) > 0;
        let deadline = if head_began { idle.min(at(&marks.head_began) + self.head) } else { idle.min(now + self.head.max(MIN_LOOK)) };
        let passed = if head_began { deadline } else { idle };
        (now < passed).then_some(deadline)
    }
}

/// A head's time is not looked at more often than this.
const MIN_LOOK: Duration = Duration::from_millis(10);

/// A request under way; an idle connection is one without.
struct Answering(Arc<Marks>);

impl Answering {
    fn begin(marks: &Arc<Marks>) -> Self {
        marks.head_began.store(0, Ordering::Relaxed);
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

/// A connection's bytes, leaving marks.
#[derive(Debug)]
pub(super) struct Watched<T> {
    io: T,
    marks: Arc<Marks>,
}

impl<T: Read + Unpin> Read for Watched<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: ReadBufCursor<'_>) -> Poll<std::io::Result<()>> {
        let read = Pin::new(&mut self.io).poll_read(cx, buffer);
        if read.is_ready() {
            self.marks.read_bytes();
        }
        read
    }
}

impl<T: Write + Unpin> Write for Watched<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(cx, bytes);
        if written.is_ready() {
            self.marks.moved();
        }
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write_vectored(cx, slices);
        if written.is_ready() {
            self.marks.moved();
        }
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
