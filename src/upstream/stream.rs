//! Requests of clients' own making, streamed to Telnyx and back: beside the others, with a pool and a bound of their own, so that a slow
//! one keeps no reputation work waiting.

use std::future::Future;
use std::sync::Arc;

use http::header::{AUTHORIZATION, CONNECTION, HeaderValue, TE, VIA};
use http::{HeaderMap, Method, Request, Response, Uri};
use hyper::body::Incoming;
use hyper_util::client::legacy::connect::capture_connection;
use hyper_util::rt::TokioExecutor;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{sleep, timeout};

use super::breaker::{Errand, Pass, Sign};
use super::{Client, Connector, Context, Ended, HyperClient, Lost, NotSent, REQUEST_ID, configured, connection, stalled};
use crate::wire::body::Body;

/// How much of an answer may be on its way before its client takes it, in HTTP/2.
const STREAM_WINDOW: u32 = 64 * 1024;

/// The same in HTTP/1.1, and how long an answer's head may be.
const BUFFER: usize = 64 * 1024;

/// A place among the streams under way, and the consent of the rate and of the breaker to one more.
#[derive(Debug)]
pub struct StreamPlace {
    pass: Pass,
    permit: OwnedSemaphorePermit,
}

/// A client's request, with those of its fields that pass.
#[derive(Debug)]
pub struct Passage {
    /// What is to be done.
    pub method: Method,
    /// Of which resource, by [`Client::target`].
    pub target: Uri,
    /// Its fields.
    pub fields: HeaderMap,
    /// Whether trailers of the answer are taken.
    pub takes_trailers: bool,
    /// Its body.
    pub body: Body,
}

/// An answer whose body is still to come. Its place is taken for as long as this is kept.
#[derive(Debug)]
pub struct Stream {
    /// The answer.
    pub response: Response<Incoming>,
    /// Its place.
    pub permit: OwnedSemaphorePermit,
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoStream {
    /// Nothing was sent.
    NotSent(NotSent),
    /// Some of the request may have been.
    Lost(Lost),
}

/// A pool for streams alone. None of them takes from another's window, so one that is not read blocks none.
pub(super) fn pool(connector: Connector, max_streams: usize) -> HyperClient<Connector, Body> {
    let all = u32::try_from(max_streams).unwrap_or(u32::MAX).saturating_mul(STREAM_WINDOW).min(i32::MAX.unsigned_abs());
    configured(HyperClient::builder(TokioExecutor::new()), max_streams)
        .http1_max_buf_size(BUFFER)
        .http2_initial_stream_window_size(STREAM_WINDOW)
        .http2_initial_connection_window_size(all.max(STREAM_WINDOW))
        .http2_max_send_buf_size(BUFFER)
        .build(connector)
}

impl Client {
    /// What lies at this path and query below the base URL, both encoded. None, if that is longer than a URI can be: what came raw may be
    /// three times as long by now.
    pub fn target(&self, path_and_query: &str) -> Option<Uri> {
        self.base.join(path_and_query)
    }

    /// Takes a place among the streams, and waits for its turn in the rate. Telnyx's rate limits for the reputation API, learnt from its
    /// answers, are not those of other paths.
    pub async fn stream_place(&self, errand: Errand) -> Result<StreamPlace, NotSent> {
        let permit = Arc::clone(&self.streams).try_acquire_owned().map_err(|_| NotSent::Crowded)?;
        self.breaker.check(errand)?;
        let turn = async {
            while let Err(until) = self.rate.check() {
                sleep(until.wait_time_from(governor::clock::Clock::now(&self.clock))).await;
            }
        };
        timeout(self.queue_timeout, turn).await.map_err(|_| NotSent::Crowded)?;
        Ok(StreamPlace { pass: self.breaker.pass(errand)?, permit })
    }

    /// Sends a request, once, and brings the head of its answer. `stalls` is ready when nothing has moved for too long.
    pub async fn stream(
        &self,
        place: StreamPlace,
        passage: Passage,
        context: &Context,
        stalls: impl Future<Output = ()>,
    ) -> Result<Stream, NoStream> {
        let mut request = streamed(passage, context);
        let connection = capture_connection(&mut request);
        let ended = tokio::select! {
            answered = self.streaming.request(request) => answered.map_err(Ended::Broken),
            () = stalled(connection.clone(), self.connect_timeout) => Err(Ended::Stalled),
            () = stalls => Err(Ended::TimedOut),
        };
        connection::retire(&connection, self.clock.elapsed().saturating_sub(self.connection_lifetime));
        let lost = match ended {
            Ok(response) => {
                // What other paths answer says nothing of the reputation API, unless nothing else is asked.
                if place.pass.is_trial() {
                    place.pass.shows(Sign::of_status(response.status()));
                }
                return Ok(Stream { response, permit: place.permit });
            }
            Err(ended) => ended.without_answer(&connection),
        };
        // What was cut or stalled once it had begun may be so by its client, who must not open the breaker for everybody.
        if matches!(lost, NoStream::NotSent(_)) {
            place.pass.shows(Sign::Fails);
        }
        Err(lost)
    }
}

fn streamed(passage: Passage, context: &Context) -> Request<Body> {
    let mut request = Request::new(passage.body);
    *request.method_mut() = passage.method;
    *request.uri_mut() = passage.target;
    let headers = request.headers_mut();
    *headers = passage.fields;
    headers.insert(AUTHORIZATION, context.credential.value().clone());
    headers.append(VIA, HeaderValue::from_static("1.1 reputation-gateway"));
    headers.insert(REQUEST_ID, context.request_id.clone());
    if let Some(trace) = &context.trace {
        trace.write_to(headers);
    }
    if passage.takes_trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
        headers.insert(CONNECTION, HeaderValue::from_static("te"));
    }
    request
}
