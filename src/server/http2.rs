//! HTTP/2 (RFC 9113): its limits, its streams' tasks, and the few things in which its answers differ.

use std::future::Future;
use std::time::Duration;

use http::header::{CONNECTION, CONTENT_LENGTH};
use http::{Method, Request, Response};
use hyper::body::{Body as _, Incoming};
use hyper::rt::Executor;
use hyper::server::conn::http2;
use hyper_util::rt::TokioTimer;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use super::{Abort, Config, Service};
use crate::wire::body::{Body, full};

/// A field counts for 32 bytes more than its text (RFC 9113, 6.5.2). What the service would refuse as too long shall reach it, since it can
/// explain; beyond this the answer is a bare 431.
const LIST_SLACK: usize = 4;

/// How much of a request's body may be on its way before it is read: bodies are read at once, so little is enough.
const STREAM_WINDOW: u32 = 64 * 1024;

/// The same, of all requests of a connection together.
const CONNECTION_WINDOW: u32 = 256 * 1024;

/// The limits of every HTTP/2 connection.
pub(super) fn builder(config: &Config, streams: &Streams) -> http2::Builder<Streams> {
    let narrow = |size: usize| u32::try_from(size).unwrap_or(u32::MAX);
    let ping: Duration = config.http2_ping_interval.0;
    let mut builder = http2::Builder::new(streams.clone());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(config.http2_max_streams)
        .max_pending_accept_reset_streams(config.http2_max_resets)
        .max_local_error_reset_streams(config.http2_max_malformed)
        .max_frame_size(narrow(config.http2_max_frame_size.0))
        .max_header_list_size(narrow(config.max_header_size.0.saturating_mul(LIST_SLACK)))
        .max_send_buf_size(config.http2_send_buffer.0)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW);
    if !ping.is_zero() {
        builder.keep_alive_interval(ping).keep_alive_timeout(ping);
    }
    builder
}

/// Runs the streams of one connection, and ends them with it.
#[derive(Clone, Debug)]
pub(super) struct Streams {
    tasks: TaskTracker,
    ended: CancellationToken,
}

impl Streams {
    /// Streams that are waited for by `tasks`.
    pub(super) fn new(tasks: TaskTracker) -> Self {
        Self { tasks, ended: CancellationToken::new() }
    }

    /// Ends them when it is dropped.
    pub(super) fn guard(&self) -> DropGuard {
        self.ended.clone().drop_guard()
    }
}

impl<F: Future<Output: Send> + Send + 'static> Executor<F> for Streams {
    fn execute(&self, stream: F) {
        self.tasks.spawn(self.ended.clone().run_until_cancelled_owned(stream));
    }
}

/// A service whose answers fit HTTP/2: hyper leaves out the body of an answer to HEAD in HTTP/1.1 alone, and `Connection` means nothing here.
#[derive(Clone, Debug)]
pub(super) struct Fitted<S>(pub(super) S);

impl<S: Service> Service for Fitted<S> {
    type Known = ();

    async fn call(&self, request: Request<Incoming>) -> Result<Response<Body>, Abort> {
        let is_head = request.method() == Method::HEAD;
        let mut response = self.0.call(request).await?;
        response.headers_mut().remove(CONNECTION);
        if is_head {
            if let Some(length) = response.body().size_hint().exact() {
                response.headers_mut().entry(CONTENT_LENGTH).or_insert(length.into());
            }
            *response.body_mut() = full("");
        }
        Ok(response)
    }
}
