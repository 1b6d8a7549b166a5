//! Bodies that arrive slowly, or not whole.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use http_body_util::{BodyExt, Either};
use tokio::time::{Sleep, sleep};

use crate::wire::body::{Body, BoxError};

/// A dripping body comes in about this many pieces.
const DRIPS: usize = 8;

/// Long enough that what was written before it leaves the process before the connection is closed.
const BEFORE_CUT: Duration = Duration::from_millis(1);

/// Pieces with a pause before each but the first.
struct Pieces {
    left: VecDeque<Bytes>,
    pause: Duration,
    sleep: Option<Pin<Box<Sleep>>>,
    /// Bytes that the head promises, less those sent.
    promised: u64,
}

/// Half of `bytes`, under a head that promises all of them; then the connection breaks.
pub(super) fn cut(bytes: &Bytes) -> Body {
    body(VecDeque::from([bytes.slice(..bytes.len() / 2)]), bytes.len(), BEFORE_CUT)
}

/// All of `bytes`, in pieces spread over `time`.
pub(super) fn drip(bytes: &Bytes, time: Duration) -> Body {
    let size = bytes.len().div_ceil(DRIPS).max(1);
    let pieces: VecDeque<Bytes> = bytes.chunks(size).map(|piece| bytes.slice_ref(piece)).collect();
    let pauses = u32::try_from(pieces.len()).unwrap_or(u32::MAX).max(1);
    body(pieces, bytes.len(), time / pauses)
}

fn body(left: VecDeque<Bytes>, promised: usize, pause: Duration) -> Body {
    let promised = u64::try_from(promised).unwrap_or(u64::MAX);
    Either::Right(Pieces { left, pause, sleep: None, promised }.boxed())
}

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if let Some(sleep) = &mut self.sleep {
            ready!(sleep.as_mut().poll(cx));
        }
        self.sleep = Some(Box::pin(sleep(self.pause)));
        Poll::Ready(match self.left.pop_front() {
            Some(piece) => {
                self.promised = self.promised.saturating_sub(u64::try_from(piece.len()).unwrap_or(u64::MAX));
                Some(Ok(Frame::data(piece)))
            }
            None if self.promised > 0 => Some(Err("the body was cut".into())),
            None => None,
        })
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.promised)
    }
}
