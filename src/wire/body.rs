//! The one body type that every server here answers with.

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{Either, Full};

/// Any error, boxed: what a streamed body ends with when its source breaks.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// An answer's body: bytes at hand, or a stream.
pub type Body = Either<Full<Bytes>, BoxBody<Bytes, BoxError>>;

/// A body of these bytes.
pub fn full(bytes: impl Into<Bytes>) -> Body {
    Either::Left(Full::new(bytes.into()))
}
