//! A receiver of webhooks, which answers as it is told and keeps what it got.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use serde_json::Value;
use sha2::{Digest, Sha256};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::timeout;

use super::{PATIENCE, listen};

/// The key that receivers know.
const KEY: &[u8; 32] = b"thirty-two bytes that nobody has";

/// HMAC-SHA256 as RFC 2104 defines it, with nothing of the gateway's.
pub(crate) fn signature(key: &[u8], signed: &[u8]) -> String {
    let padded = |with: u8| -> Vec<u8> { (0..64).map(|at| key.get(at).copied().unwrap_or(0) ^ with).collect() };
    let inner = Sha256::digest([&padded(0x36), signed].concat());
    format!("v1,{}", STANDARD.encode(Sha256::digest([padded(0x5c), inner.to_vec()].concat())))
}

/// How a receiver answers.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    Status(u16),
    /// A status with `Retry-After`.
    RetryAfter(u16, &'static str),
    RedirectTo(SocketAddr),
    /// Never.
    Hang,
}

/// What was posted once.
#[derive(Clone, Debug)]
pub(crate) struct Post {
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// A running receiver.
#[derive(Clone)]
pub(crate) struct Receiver {
    pub(crate) address: SocketAddr,
    replies: Arc<Mutex<VecDeque<Reply>>>,
    posts: Arc<watch::Sender<Vec<Post>>>,
}

impl Receiver {
    /// One that answers so, then with 204.
    pub(crate) async fn start(replies: &[Reply]) -> Self {
        Self::at(SocketAddr::from(([127, 0, 0, 1], 0)), replies).await
    }

    pub(crate) async fn at(address: SocketAddr, replies: &[Reply]) -> Self {
        let listener = TcpListener::bind(address).await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let receiver = Self { address, replies: Arc::new(Mutex::new(replies.iter().cloned().collect())), posts: Arc::default() };
        let serving = receiver.clone();
        listen::answer(listener, move |request| serving.clone().answer(request));
        receiver
    }

    /// An address at which nobody listens.
    pub(crate) async fn nowhere() -> SocketAddr {
        TcpListener::bind("127.0.0.1:0").await.and_then(|listener| listener.local_addr()).expect("a free port")
    }

    /// The secret, as configurations have it.
    pub(crate) fn secret() -> String {
        format!("whsec_{}", STANDARD.encode(KEY))
    }

    /// The setting that has events posted to `address`.
    pub(crate) fn setting(address: SocketAddr) -> String {
        format!("[[webhook]]\nurl = \"http://{address}/hook\"\nsecret = \"{}\"\n", Self::secret())
    }

    /// Waits until something was posted so often, and returns all of it.
    pub(crate) async fn posts(&self, times: usize) -> Vec<Post> {
        let mut posts = self.posts.subscribe();
        let posted = timeout(PATIENCE * 3, posts.wait_for(|posts| posts.len() >= times)).await;
        let posted = posted.map(|posts| posts.expect("the receiver is there").clone());
        posted.unwrap_or_else(|_| panic!("{} posts instead of {times}: {:?}", self.so_far().len(), self.so_far()))
    }

    /// What was posted so far.
    pub(crate) fn so_far(&self) -> Vec<Post> {
        self.posts.borrow().clone()
    }

    async fn answer(self, request: Request<Incoming>) -> Result<Response<Empty<Bytes>>, Infallible> {
        let (head, body) = request.into_parts();
        assert_eq!((head.method.as_str(), head.uri.path()), ("POST", "/hook"));
        let body = body.collect().await.expect("a whole body").to_bytes();
        let reply = self.replies.lock().expect("unpoisoned").pop_front().unwrap_or(Reply::Status(204));
        self.posts.send_modify(|posts| posts.push(Post { headers: head.headers, body }));
        let response = match reply {
            Reply::Status(status) => Response::builder().status(status),
            Reply::RetryAfter(status, when) => Response::builder().status(status).header("retry-after", when),
            Reply::RedirectTo(other) => Response::builder().status(307).header("location", format!("http://{other}/hook")),
            Reply::Hang => std::future::pending().await,
        };
        Ok(response.body(Empty::new()).expect("a response"))
    }
}

impl Post {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("text"))
    }

    /// Its body, once its signature was verified.
    pub(crate) fn verified(&self) -> Value {
        let mut signed = format!("{}.{}.", self.header("webhook-id"), self.header("webhook-timestamp")).into_bytes();
        signed.extend_from_slice(&self.body);
        assert_eq!(self.header("webhook-signature"), signature(KEY, &signed), "{self:?}");
        serde_json::from_slice(&self.body).expect("JSON")
    }

    /// When it was posted, in Unix seconds.
    pub(crate) fn timestamp(&self) -> i64 {
        self.header("webhook-timestamp").parse().expect("a number")
    }
}
