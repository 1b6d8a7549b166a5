//! An upstream beside the reputation API, which does what its paths say and counts what passes.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::channel::{Channel, Sender};
use http_body_util::{BodyExt, Either, Full};
use hyper::body::Incoming;
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::listen;

type Body = Either<Full<Bytes>, Channel<Bytes, std::io::Error>>;

/// A piece of a flood.
const PIECE: usize = 16 * 1024;

/// A running origin.
#[derive(Clone)]
pub(crate) struct Origin {
    pub(crate) address: SocketAddr,
    facts: Arc<Facts>,
}

#[derive(Default)]
struct Facts {
    seen: Mutex<Vec<Seen>>,
    counts: watch::Sender<Counts>,
}

/// A request, as it arrived.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) line: String,
    pub(crate) headers: HeaderMap,
}

/// What passed so far.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) requests: usize,
    /// Bytes of requests' bodies.
    pub(crate) taken: usize,
    /// Bytes of answers' bodies.
    pub(crate) given: usize,
    /// Answers that could not be given to their end.
    pub(crate) left: usize,
}

impl Origin {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let origin = Self { address: listener.local_addr().expect("an address"), facts: Arc::default() };
        let serving = origin.clone();
        listen::answer(listener, move |request| serving.clone().answer(request));
        origin
    }

    /// The requests that arrived.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.facts.seen.lock().expect("nothing panics while it is held").clone()
    }

    pub(crate) fn counts(&self) -> Counts {
        *self.facts.counts.borrow()
    }

    /// Waits until the counts are so.
    pub(crate) async fn until(&self, are: impl FnMut(&Counts) -> bool) -> Counts {
        *self.facts.counts.subscribe().wait_for(are).await.expect("the origin is there")
    }

    fn count(&self, change: impl FnOnce(&mut Counts)) {
        self.facts.counts.send_modify(change);
    }

    async fn answer(self, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
        let (head, body) = request.into_parts();
        let seen = Seen { line: format!("{} {}", head.method, head.uri), headers: head.headers.clone() };
        self.facts.seen.lock().expect("nothing panics while it is held").push(seen);
        self.count(|counts| counts.requests += 1);
        let leaving = Leaving(self.clone());
        let path = head.uri.path().trim_start_matches("/v2/things").to_owned();
        let response = match path.split('/').nth(1).unwrap_or_default() {
            "echo" => self.echo(&head.headers, body),
            "flood" => self.flood(path.rsplit('/').next().and_then(|bytes| bytes.parse().ok()).expect("a number of bytes")),
            "never" => std::future::pending().await,
            "hold" => {
                let _unread = body;
                std::future::pending().await
            }
            "drip" => self.broken("5", None),
            "cut" => self.broken("100", Some("length")),
            "cut-chunked" => self.broken("", Some("chunked")),
            "early" => plain(413, "too much"),
            "sink" => {
                let mut body = body;
                while let Some(Ok(frame)) = body.frame().await {
                    self.count(|counts| counts.taken += frame.data_ref().map_or(0, Bytes::len));
                }
                plain(200, "all of it")
            }
            "status" => plain(path.rsplit('/').next().and_then(|status| status.parse().ok()).expect("a status"), "said so"),
            _ => plain(200, "a thing"),
        };
        std::mem::forget(leaving);
        Ok(response)
    }

    /// The request's body, with its trailers, as it comes.
    fn echo(self, headers: &HeaderMap, mut body: Incoming) -> Response<Body> {
        let (mut sender, channel) = Channel::new(1);
        let mut response = Response::new(Either::Right(channel));
        if let Some(declared) = headers.get("trailer") {
            response.headers_mut().insert("trailer", declared.clone());
        }
        tokio::spawn(async move {
            while let Some(Ok(frame)) = body.frame().await {
                self.count(|counts| counts.taken += frame.data_ref().map_or(0, Bytes::len));
                if sender.send(frame).await.is_err() {
                    return self.count(|counts| counts.left += 1);
                }
            }
        });
        response
    }

    fn flood(self, bytes: usize) -> Response<Body> {
        let (mut sender, channel) = Channel::new(1);
        tokio::spawn(async move {
            let piece = Bytes::from(vec![b'x'; PIECE]);
            let mut left = bytes;
            while left > 0 {
                let length = left.min(PIECE);
                if sender.send_data(piece.slice(..length)).await.is_err() {
                    return self.count(|counts| counts.left += 1);
                }
                left -= length;
                self.count(|counts| counts.given += length);
            }
        });
        let mut response = Response::new(Either::Right(channel));
        response.headers_mut().insert("content-length", bytes.into());
        response
    }

    /// Five bytes of a body; then an end before its end, or none.
    fn broken(self, length: &str, how: Option<&str>) -> Response<Body> {
        let (mut sender, channel) = Channel::<Bytes, std::io::Error>::new(1);
        let ends = how.is_some();
        tokio::spawn(async move {
            let _taken = sender.send_data(Bytes::from_static(b"12345")).await;
            if ends {
                sender.abort(std::io::ErrorKind::BrokenPipe.into());
            } else {
                self.left(sender).await;
            }
        });
        let mut response = Response::new(Either::Right(channel));
        if ends && !length.is_empty() {
            response.headers_mut().insert("content-length", length.parse().expect("a number"));
        }
        response
    }

    /// Waits until nobody takes the answer any more.
    async fn left(self, mut sender: Sender<Bytes, std::io::Error>) {
        // An empty piece is no byte of the body, and is taken for as long as somebody is there.
        while sender.send_data(Bytes::new()).await.is_ok() {
            tokio::task::yield_now().await;
        }
        self.count(|counts| counts.left += 1);
    }
}

/// A request whose answer is not waited for to its end.
struct Leaving(Origin);

impl Drop for Leaving {
    fn drop(&mut self) {
        self.0.count(|counts| counts.left += 1);
    }
}

fn plain(status: u16, body: &'static str) -> Response<Body> {
    let response = Response::builder().status(status);
    let response = response.header("connection", "x-hop").header("x-hop", "1").header("x-end", "1").header("x-gateway-billed", "no");
    let response =
        response.header("set-cookie", "a=b").header("location", "/elsewhere").header("etag", "\"1\"").header("via", "1.1 origin");
    response.body(Either::Left(Full::from(body))).expect("a response")
}
