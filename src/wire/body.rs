//! Bodies: the one type that every server here answers with, and reading a request's to its end.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Either, Full};
use hyper::body::{Body as _, Incoming};
use tokio::time::timeout;

use super::room::Room;

/// Any error, boxed: what a streamed body ends with when its source breaks.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// An answer's body: bytes at hand, or a stream.
pub type Body = Either<Full<Bytes>, BoxBody<Bytes, BoxError>>;

/// A body of these bytes.
pub fn full(bytes: impl Into<Bytes>) -> Body {
    Either::Left(Full::new(bytes.into()))
}

/// Why a request's body could not be read to its end. What is left of it may still arrive, so the connection must end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unread {
    /// It is longer than is allowed.
    #[error("the request's body is longer than this gateway allows")]
    TooLong,
    /// It did not arrive in time.
    #[error("the request's body did not arrive in time")]
    TimedOut,
    /// It ended early, or its framing is broken.
    #[error("the request's body ended early")]
    Cut,
    /// All that is kept in memory for requests leaves no room for it.
    #[error("the gateway has no room for the request's body now")]
    NoRoom,
}

/// Reads a request's body to its end, so that what follows on the connection is the next request. Keeps nothing of it but its length.
pub async fn drain(body: Incoming, limit: usize, time: Duration) -> Result<usize, Unread> {
    let mut length = 0;
    let count = |data: Bytes| {
        length += data.len();
        Ok(())
    };
    each(body, limit, time, count).await.map(|()| length)
}

/// Reads a request's body to its end, and keeps it.
pub async fn collect(body: Incoming, limit: usize, time: Duration) -> Result<Bytes, Unread> {
    let mut kept = BytesMut::new();
    let keep = |data: Bytes| {
        kept.extend_from_slice(&data);
        Ok(())
    };
    each(body, limit, time, keep).await.map(|()| kept.freeze())
}

/// The same, where it takes room as it arrives: what a client only announces takes none.
pub async fn collect_within(room: &Room, body: Incoming, limit: usize, time: Duration) -> Result<Bytes, Unread> {
    if body.is_end_stream() {
        return Ok(Bytes::new());
    }
    let mut held = room.take(0).filter(|_| !room.is_full()).ok_or(Unread::NoRoom)?;
    let mut kept = BytesMut::new();
    let keep = |data: Bytes| {
        let fits = held.grow(data.len());
        kept.extend_from_slice(if fits { &data } else { &[] });
        if fits { Ok(()) } else { Err(Unread::NoRoom) }
    };
    each(body, limit, time, keep).await.map(|()| held.around(kept.freeze()))
}

async fn each(mut body: Incoming, limit: usize, time: Duration, mut take: impl FnMut(Bytes) -> Result<(), Unread>) -> Result<(), Unread> {
    if body.is_end_stream() {
        return Ok(());
    }
    // Before the first read, so that a client which waits for `100 Continue` is not asked for what is refused.
    if body.size_hint().lower() > limit as u64 {
        return Err(Unread::TooLong);
    }
    let reading = async {
        let mut left = limit;
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.map_err(|_| Unread::Cut)?.into_data() else { continue };
            left = left.checked_sub(data.len()).ok_or(Unread::TooLong)?;
            take(data)?;
        }
        Ok(())
    };
    timeout(time, reading).await.unwrap_or(Err(Unread::TimedOut))
}
