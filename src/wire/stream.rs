//! Bodies on their way through: from a client to the upstream and back, frame by frame, with nothing kept.
//!
//! Whoever takes a body sets its pace: a frame is read when the one before it was taken. A body whose source breaks is broken for its
//! reader too, and never ended as if it were whole.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Either};
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use tokio::sync::mpsc;

use super::body::{Body, BoxError};
use super::fields::{Way, trailers};
use crate::clock::Clock;

/// What passed of an exchange, and when something last did.
#[derive(Debug)]
pub struct Flow {
    clock: Clock,
    /// Monotonic, in nanoseconds.
    moved: AtomicU64,
    up: AtomicU64,
    down: AtomicU64,
}

impl Flow {
    /// An exchange that begins now.
    pub fn begin(clock: &Clock) -> Arc<Self> {
        let flow = Self { clock: clock.clone(), moved: AtomicU64::new(0), up: AtomicU64::new(0), down: AtomicU64::new(0) };
        flow.moved();
        Arc::new(flow)
    }

    /// Bytes of bodies that passed: to the upstream, and to the client.
    pub fn bytes(&self) -> (u64, u64) {
        (self.up.load(Ordering::Relaxed), self.down.load(Ordering::Relaxed))
    }

    /// Something moved, if only a head.
    pub fn moved(&self) {
        let now = u64::try_from(self.clock.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.moved.store(now, Ordering::Relaxed);
    }

    /// Ready when nothing has moved in either direction for `limit`.
    pub async fn stalls(&self, limit: Duration) {
        loop {
            let deadline = Duration::from_nanos(self.moved.load(Ordering::Relaxed)) + limit;
            if deadline <= self.clock.elapsed() {
                return;
            }
            self.clock.reaches(deadline).await;
        }
    }

    /// Counts a frame, and keeps back what may not pass of it.
    fn pass(&self, frame: Frame<Bytes>, way: Way) -> Frame<Bytes> {
        self.moved();
        let counter = if way == Way::Up { &self.up } else { &self.down };
        counter.fetch_add(frame.data_ref().map_or(0, Bytes::len) as u64, Ordering::Relaxed);
        match frame.into_trailers() {
            Ok(fields) => Frame::trailers(trailers(&fields, way)),
            Err(frame) => frame,
        }
    }
}

/// The upstream answered to the end before the request's body had one, or gave up.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("what is left of the request's body is not wanted any more")]
struct Unwanted;

/// A request's body on its way up.
struct Upload {
    source: Arc<Mutex<Source>>,
    flow: Arc<Flow>,
    /// Trailers are announced, and HTTP/1.1 has none behind a body of known length.
    is_chunked: bool,
}

/// Where an upload comes from, until it is taken away.
#[derive(Debug)]
struct Source {
    body: Option<Incoming>,
    reader: Option<Waker>,
}

/// Takes an upload away from whoever sends it upstream.
#[derive(Clone, Debug)]
pub struct Tap(Arc<Mutex<Source>>);

fn lock(source: &Mutex<Source>) -> MutexGuard<'_, Source> {
    source.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Tap {
    /// Of no body.
    pub fn none() -> Self {
        Self(Arc::new(Mutex::new(Source { body: None, reader: None })))
    }

    /// What is left of the body, if it has not ended. Whoever sends it upstream finds it broken.
    pub fn close(&self) -> Option<Incoming> {
        let mut source = lock(&self.0);
        let left = source.body.take().filter(|body| !body.is_end_stream());
        if let Some(reader) = source.reader.take() {
            reader.wake();
        }
        left
    }
}

/// A request's body as one that goes upstream, and the tap on it. `is_chunked`: its length is not told beforehand.
pub fn upload(body: Incoming, is_chunked: bool, flow: &Arc<Flow>) -> (Body, Tap) {
    let source = Arc::new(Mutex::new(Source { body: Some(body), reader: None }));
    let upload = Upload { source: Arc::clone(&source), flow: Arc::clone(flow), is_chunked };
    (Either::Right(BodyExt::boxed(upload)), Tap(source))
}

impl HttpBody for Upload {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let mut source = lock(&self.source);
        let Some(body) = &mut source.body else { return Poll::Ready(Some(Err(Unwanted.into()))) };
        let polled = Pin::new(body).poll_frame(context);
        if polled.is_pending() {
            source.reader = Some(context.waker().clone());
        }
        polled.map(|frame| frame.map(|frame| frame.map(|frame| self.flow.pass(frame, Way::Up)).map_err(BoxError::from)))
    }

    fn is_end_stream(&self) -> bool {
        lock(&self.source).body.as_ref().is_some_and(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        if self.is_chunked {
            return SizeHint::default();
        }
        lock(&self.source).body.as_ref().map_or_else(SizeHint::default, HttpBody::size_hint)
    }
}

/// How an answer's body ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Whole.
    Whole,
    /// The upstream's connection ended early.
    Cut,
    /// Nothing moved for too long.
    Stalled,
    /// The client has left.
    Left,
}

/// The answer's source broke.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the upstream's answer ended early")]
struct Broken;

/// An answer's body on its way down.
struct Download {
    frames: mpsc::Receiver<Frame<Bytes>>,
    whole: Arc<AtomicBool>,
}

/// Where an answer's frames are put. Dropped without an end, the body is broken.
#[derive(Debug)]
pub struct Spout {
    frames: mpsc::Sender<Frame<Bytes>>,
    whole: Arc<AtomicBool>,
}

/// A body as the client gets it, and where its frames are put.
pub fn download() -> (Body, Spout) {
    let (sender, frames) = mpsc::channel(1);
    let whole = Arc::new(AtomicBool::new(false));
    let body = Download { frames, whole: Arc::clone(&whole) };
    (Either::Right(BodyExt::boxed(body)), Spout { frames: sender, whole })
}

impl Spout {
    /// Passes an answer's body on, to its end.
    pub async fn pour(self, mut body: Incoming, flow: &Flow, limit: Duration) -> End {
        let pouring = async {
            while let Some(frame) = body.frame().await {
                let Ok(frame) = frame else { return End::Cut };
                if self.frames.send(flow.pass(frame, Way::Down)).await.is_err() {
                    return End::Left;
                }
            }
            self.whole.store(true, Ordering::Release);
            End::Whole
        };
        tokio::select! {
            biased;
            end = pouring => end,
            () = self.frames.closed() => End::Left,
            () = flow.stalls(limit) => End::Stalled,
        }
    }
}

impl HttpBody for Download {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match std::task::ready!(self.frames.poll_recv(context)) {
            Some(frame) => Poll::Ready(Some(Ok(frame))),
            None if self.whole.load(Ordering::Acquire) => Poll::Ready(None),
            None => Poll::Ready(Some(Err(Broken.into()))),
        }
    }
}
