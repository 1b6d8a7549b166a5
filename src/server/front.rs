//! What stands before the parser on each connection: requests that can be answered from memory are, and the parser sees the rest.
//!
//! A client says the same fields with request after request, so what they come to is worked out once and stands for as long as the bytes are
//! the same, and the service goes by the same configuration. Then a request costs one read, a comparison, what the service does with the target, and one write: no parsing, no allocation,
//! no task and no timer.
//!
//! It answers only while the parser rests: all requests that it was given are answered and sent, and none has begun. Whatever is not
//! plainly understood here is left to the parser, byte for byte.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use http::header::{CONNECTION, CONTENT_LENGTH, EXPECT, TE, TRAILER, TRANSFER_ENCODING, UPGRADE};
use http::request::Parts;
use http::{HeaderName, HeaderValue, Method, Request, Version};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::Service;
use super::watchdog::Marks;

/// Fields of a head that is understood here.
const MOST_FIELDS: usize = 64;

/// A head that is remembered is no longer: so much may stay with a connection that stands still.
const MOST_REMEMBERED: usize = 4 * 1024;

/// Bytes of answers beyond which they are sent before the next request is looked at.
const MOST_WAITING: usize = 64 * 1024;

thread_local! {
    /// Answers are made in it one after another, so that connections at rest keep no buffer.
    static SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// A connection's bytes on their way to and from the parser.
pub(super) struct Front<T, S: Service> {
    io: T,
    /// Read already, and neither answered nor passed on.
    unread: BytesMut,
    /// None where the parser gets everything, as in HTTP/2.
    lane: Option<Lane<S>>,
}

/// Where requests are answered at once.
struct Lane<S: Service> {
    service: S,
    marks: Arc<Marks>,
    fields: Option<Fields<S::Known>>,
    /// Answers that are not sent yet, and how much of them is.
    answers: Vec<u8>,
    sent: usize,
}

/// The end of a head from its first field on, and what it comes to: nothing, if such requests are left to the parser.
struct Fields<K> {
    bytes: Box<[u8]>,
    /// Under which of the service's editions.
    edition: u64,
    known: Option<K>,
}

impl<T, S: Service> Front<T, S> {
    /// Answers what it can. The bytes in `unread` were read from the connection before.
    pub(super) fn new(io: T, unread: BytesMut, service: S, marks: &Arc<Marks>) -> Self {
        let lane = Lane { service, marks: Arc::clone(marks), fields: None, answers: Vec::new(), sent: 0 };
        Self { io, unread, lane: Some(lane) }
    }

    /// Answers nothing.
    pub(super) fn open(io: T, unread: BytesMut) -> Self {
        Self { io, unread, lane: None }
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin, S: Service> Front<T, S> {
    /// Reads what there is, first of all what was read before.
    fn poll_more(&mut self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.unread.is_empty() {
            return Pin::new(&mut self.io).poll_read(cx, buffer);
        }
        let length = self.unread.len().min(buffer.remaining());
        buffer.put_slice(&self.unread[..length]);
        self.unread.advance(length);
        match Pin::new(&mut self.io).poll_read(cx, buffer) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            // The end, or nothing, comes again when it is asked for again.
            Poll::Ready(Ok(())) | Poll::Pending => Poll::Ready(Ok(())),
        }
    }

    /// Sends the answers that are made.
    fn poll_answers(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(lane) = self.lane.as_mut().filter(|lane| !lane.answers.is_empty()) else { return Poll::Ready(Ok(())) };
        while lane.sent < lane.answers.len() {
            match ready!(Pin::new(&mut self.io).poll_write(cx, &lane.answers[lane.sent..]))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                sent => {
                    lane.sent += sent;
                    lane.marks.moved();
                }
            }
        }
        ready!(Pin::new(&mut self.io).poll_flush(cx))?;
        lane.put_back();
        Poll::Ready(Ok(()))
    }
}

impl<S: Service> Lane<S> {
    /// Makes the answers to the requests that these bytes begin with, and tells how many bytes they were.
    fn answer(&mut self, bytes: &[u8]) -> usize {
        if self.answers.capacity() == 0 {
            self.answers = SCRATCH.take();
        }
        let mut taken = 0;
        while self.answers.len() < MOST_WAITING {
            let Some(length) = self.answer_one(&bytes[taken..]) else { break };
            taken += length;
        }
        if taken == 0 {
            self.put_back();
        } else {
            self.marks.answered_at_once();
        }
        taken
    }

    fn answer_one(&mut self, bytes: &[u8]) -> Option<usize> {
        let (target, rest) = plain_get(bytes)?;
        let edition = self.service.edition();
        if !self.fields.as_ref().is_some_and(|fields| fields.edition == edition && rest.starts_with(&fields.bytes)) {
            self.fields = Some(self.learn(edition, bytes, rest)?);
        }
        let Fields { bytes: fields, known, .. } = self.fields.as_ref()?;
        let length = bytes.len() - rest.len() + fields.len();
        self.service.at_once(target, known.as_ref()?, &mut self.answers).then_some(length)
    }

    /// Works out what a head comes to; none, if it is not there whole, too long, or not a head. An edition that begins meanwhile has it worked
    /// out again.
    fn learn(&self, edition: u64, bytes: &[u8], rest: &[u8]) -> Option<Fields<S::Known>> {
        let (head, length) = parsed(bytes).filter(|(_, length)| *length <= MOST_REMEMBERED)?;
        let known = if is_bare(&head) { self.service.know(&head) } else { None };
        let fields = rest.len() - (bytes.len() - length);
        Some(Fields { bytes: rest[..fields].into(), edition, known })
    }

    fn put_back(&mut self) {
        let mut answers = std::mem::take(&mut self.answers);
        answers.clear();
        self.sent = 0;
        SCRATCH.set(answers);
    }
}

/// The target of a GET in HTTP/1.1, and what follows the request's line.
fn plain_get(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let line = bytes.strip_prefix(b"GET ")?;
    let (target, rest) = line.split_at(memchr::memchr(b' ', line)?);
    Some((std::str::from_utf8(target).ok()?, rest.strip_prefix(b" HTTP/1.1\r\n")?))
}

/// The head that these bytes begin with, by the parser that the other requests go through, and its length.
fn parsed(bytes: &[u8]) -> Option<(Parts, usize)> {
    let mut fields = [httparse::EMPTY_HEADER; MOST_FIELDS];
    let mut request = httparse::Request::new(&mut fields);
    let length = request.parse(bytes).ok().filter(httparse::Status::is_complete)?.unwrap();
    // The parser takes a lone LF for a line's end.
    let lines_are_whole = memchr::memchr_iter(b'\n', &bytes[..length]).all(|at| at > 0 && bytes[at - 1] == b'\r');
    let mut parts = Request::builder().method(Method::GET).uri(request.path?).version(Version::HTTP_11).body(()).ok()?.into_parts().0;
    for field in request.headers {
        parts.headers.append(HeaderName::from_bytes(field.name.as_bytes()).ok()?, HeaderValue::from_bytes(field.value).ok()?);
    }
    lines_are_whole.then_some((parts, length))
}

/// Whether the head is all there is of its request, and says nothing of its connection that is not so anyway.
fn is_bare(head: &Parts) -> bool {
    const MORE: [HeaderName; 6] = [CONTENT_LENGTH, EXPECT, TE, TRAILER, TRANSFER_ENCODING, UPGRADE];
    let stays = head.headers.get_all(CONNECTION).iter().all(|option| option.as_bytes().eq_ignore_ascii_case(b"keep-alive"));
    stays && !MORE.iter().any(|name| head.headers.contains_key(name))
}

impl<T: AsyncRead + AsyncWrite + Unpin, S: Service> AsyncRead for Front<T, S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            let before = buffer.filled().len();
            // So that answers do not heap up which their client does not take.
            ready!(this.poll_answers(cx))?;
            let more = this.poll_more(cx, buffer);
            let Some(lane) = this.lane.as_mut().filter(|lane| lane.marks.rests()) else { return more };
            let come = buffer.filled().len() - before;
            if lane.marks.stops() || come == 0 {
                // At rest and told to end, a connection is at its end.
                return if more.is_pending() && lane.marks.stops() { Poll::Ready(Ok(())) } else { more };
            }
            ready!(more)?;
            let taken = lane.answer(&buffer.filled()[before..]);
            if taken == 0 {
                return Poll::Ready(Ok(()));
            }
            // The rest is looked at when the answers are sent: the parser may end the connection over it.
            let rest = &buffer.filled()[before + taken..];
            if !rest.is_empty() {
                this.unread = [rest, &this.unread].concat().as_slice().into();
            }
            buffer.set_filled(before);
        }
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin, S: Service> AsyncWrite for Front<T, S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_answers(cx))?;
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, slices: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        ready!(self.poll_answers(cx))?;
        Pin::new(&mut self.io).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_answers(cx))?;
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_answers(cx))?;
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
