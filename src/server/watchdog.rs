//! Ends connections that stand still: one timer for a connection, none for a request.
//!
//! hyper's own header timer also runs between requests and is set anew for each of them. Here the connection's reads,
//! writes and requests leave marks, and a single timer looks at them when the earliest deadline could have passed.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
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

    /// The next moment to look again, or none if a limit has passed.
    fn deadline(&self) -> Option<Instant> {
        let (marks, now) = (&self.marks, Instant::now());
        let soon = now + self.head.min(self.idle);
        if marks.answering.load(Ordering::Relaxed) > 0 {
            return Some(soon);
        }
        let at = |mark: &AtomicU64| marks.origin + Duration::from_millis(mark.load(Ordering::Relaxed));
        let idle = at(&marks.moved) + self.idle;
        let reading_head = marks.head_began.load(Ordering::Relaxed) > 0;
        let limit = if reading_head { idle.min(at(&marks.head_began) + self.head) } else { idle };
        // Without a head there is none to be late yet, but one may begin before the next look.
        (now < limit).then(|| if reading_head { limit } else { limit.min(soon) })
    }
}

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

impl<T: AsyncRead + Unpin> AsyncRead for Watched<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.io).poll_read(cx, buffer);
        if buffer.filled().len() > before {
            self.marks.read_bytes();
        }
        read
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Watched<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(cx, bytes);
        self.wrote(&written);
        written
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, slices: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write_vectored(cx, slices);
        self.wrote(&written);
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

impl<T> Watched<T> {
    fn wrote(&self, written: &Poll<io::Result<usize>>) {
        if written.is_ready() {
            self.marks.moved();
        }
    }
}
