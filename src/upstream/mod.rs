//! Sends requests to Telnyx, and tells three ends apart: *answered*, *not sent*, *unknown*.
//!
//! A request is built here from a path of ours; nothing of a client's request comes near it but its id and its trace context.
//! Redirects are not followed: the key would go with them.

mod allowance;
mod breaker;
mod config;
mod connection;
mod message;
mod stream;

use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{
    ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, DATE, HeaderName, HeaderValue, USER_AGENT, VIA,
};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::connect::{CaptureConnection, HttpConnector, capture_connection};
use hyper_util::client::legacy::{Builder, Client as HyperClient};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use jiff::Timestamp;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep, timeout};

pub use allowance::reset;
pub use breaker::{Errand, Standing};
pub use config::Config;
pub use message::Message;
pub use stream::{NoStream, Passage, Stream, StreamPlace};

use crate::clock::{Bucket, Clock};
use crate::units::Rate;
use crate::wire::base_url::BaseUrl;
use crate::wire::body::Body;
use crate::wire::trace::Trace;
use allowance::Allowance;
use breaker::{Breaker, Pass, Sign};
use connection::Dating;

/// An answer's body may be this long; a page of 250 records is a quarter of it.
const MAX_BODY: usize = 1024 * 1024;

/// The request's id, there and back.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// How a request ended.
#[derive(Debug)]
pub enum Outcome {
    /// With a whole answer.
    Answered(Answer),
    /// Before any byte of it left: Telnyx does not know of it.
    NotSent(NotSent),
    /// After some of it may have left, without a whole answer.
    Unknown(Lost),
}

/// A whole answer.
#[derive(Debug)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its fields.
    pub headers: HeaderMap,
    /// Its body; empty if it could not be read.
    pub body: Bytes,
    /// The upstream's own time, from `Date`.
    pub date: Option<Timestamp>,
    /// From the request's dispatch to the answer's head.
    pub elapsed: Duration,
}

/// Why a request was not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotSent {
    /// No connection could be made.
    #[error("no connection to the upstream could be made")]
    Unreachable,
    /// The limits on work under way left no room in time.
    #[error("the gateway's own limits on upstream requests left no room in time")]
    Crowded,
    /// The upstream failed again and again, and is left alone for so long; or one request sees whether it answers again.
    #[error("the upstream failed again and again, and is left alone for a while")]
    Suspended(Duration),
    /// Telnyx's own rate limit leaves nothing for so long, and nobody waits that long for a turn.
    #[error("the upstream's own rate limit is used up, and its reset is too far away to be waited for")]
    Limited(Duration),
    /// The gateway is stopping, and nobody could be told the answer any more.
    #[error("the gateway is stopping")]
    Stopping,
}

/// How an answer was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Lost {
    /// The connection ended before the answer was whole.
    #[error("the connection to the upstream ended before its answer was whole")]
    Cut,
    /// The answer did not come in time.
    #[error("the upstream did not answer in time")]
    TimedOut,
}

/// What a request upstream carries besides its message.
#[derive(Clone, Debug)]
pub struct Context {
    /// Whose key goes with it.
    pub credential: Credential,
    /// The id of the request that caused it.
    pub request_id: HeaderValue,
    /// The span that it is sent by.
    pub trace: Option<Trace>,
}

/// A key as an `Authorization` value, marked sensitive so that nothing prints it.
#[derive(Clone, Debug)]
pub enum Credential {
    /// The gateway's own.
    Own(HeaderValue),
    /// The caller's.
    Forwarded(HeaderValue),
}

impl Credential {
    fn value(&self) -> &HeaderValue {
        let (Self::Own(value) | Self::Forwarded(value)) = self;
        value
    }
}

/// Makes connections.
type Connector = HttpsConnector<Dating<HttpConnector>>;

/// A pool of connections to Telnyx.
#[derive(Clone, Debug)]
pub struct Client {
    http: HyperClient<Connector, Full<Bytes>>,
    streaming: HyperClient<Connector, Body>,
    streams: Arc<Semaphore>,
    base: BaseUrl,
    queue_timeout: Duration,
    connect_timeout: Duration,
    timeout: Duration,
    connection_lifetime: Duration,
    max_in_flight: usize,
    in_flight: Arc<Semaphore>,
    queue: Arc<Semaphore>,
    pace: Rate,
    rate: Arc<Bucket>,
    breaker: Arc<Breaker>,
    allowance: Arc<Allowance>,
    clock: Clock,
}

/// A place among the requests under way, and the consent of the rate and of the breaker to one more.
#[derive(Debug)]
pub struct Place {
    pass: Pass,
    _permit: OwnedSemaphorePermit,
    _queued: OwnedSemaphorePermit,
}

/// Connections that stand idle for longer may be dead without either side knowing; a billable call on one would be lost.
const POOL_IDLE: Duration = Duration::from_secs(20);
/// A connection of HTTP/2 that stopped answering is found out by a ping rather than by one call after another.
const PING_INTERVAL: Duration = Duration::from_secs(10);
const PING_TIMEOUT: Duration = Duration::from_secs(5);

/// What every pool keeps to.
fn configured(mut builder: Builder, max_idle: usize) -> Builder {
    builder
        .pool_timer(TokioTimer::new())
        .timer(TokioTimer::new())
        .pool_idle_timeout(POOL_IDLE)
        .pool_max_idle_per_host(max_idle)
        .http2_keep_alive_interval(PING_INTERVAL)
        .http2_keep_alive_timeout(PING_TIMEOUT)
        .http2_keep_alive_while_idle(true);
    builder
}

impl Client {
    /// A client that has not connected yet. Fails if the machine's certificates cannot be read.
    pub fn new(config: &Config, clock: &Clock) -> std::io::Result<Self> {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_connect_timeout(Some(config.connect_timeout.0));
        tcp.set_nodelay(true);
        let tls = hyper_rustls::HttpsConnectorBuilder::new().with_provider_and_native_roots(rustls::crypto::ring::default_provider())?;
        let connector = tls.https_or_http().enable_http1().enable_http2().wrap_connector(Dating::new(tcp, clock));
        Ok(Self {
            http: configured(HyperClient::builder(TokioExecutor::new()), config.max_in_flight).build(connector.clone()),
            streaming: stream::pool(connector, config.max_streams),
            streams: Arc::new(Semaphore::new(config.max_streams)),
            base: config.base_url.clone(),
            queue_timeout: config.queue_timeout.0,
            connect_timeout: config.connect_timeout.0,
            timeout: config.timeout.0,
            connection_lifetime: config.connection_lifetime.0,
            max_in_flight: config.max_in_flight,
            in_flight: Arc::new(Semaphore::new(config.max_in_flight)),
            queue: Arc::new(Semaphore::new(config.max_in_flight + config.max_queue)),
            pace: config.rate,
            rate: Arc::new(clock.bucket(config.rate)),
            breaker: Breaker::new(config, clock),
            allowance: Arc::new(Allowance::new(clock)),
            clock: clock.clone(),
        })
    }

    /// The host that requests go to.
    pub fn host(&self) -> &str {
        self.base.host()
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.base.port()
    }

    /// The same client with other times and another rate, which goes on where it stands if it is the same. Everything else stays as it was made.
    #[must_use]
    pub fn renewed(&self, config: &Config) -> Self {
        let rate = if config.rate == self.pace { Arc::clone(&self.rate) } else { Arc::new(self.clock.bucket(config.rate)) };
        Self {
            queue_timeout: config.queue_timeout.0,
            timeout: config.timeout.0,
            connection_lifetime: config.connection_lifetime.0,
            pace: config.rate,
            rate,
            ..self.clone()
        }
    }

    /// Whether a request would be sent at all, as things stand.
    pub fn check(&self, errand: Errand, credential: &Credential) -> Result<(), NotSent> {
        self.breaker.check(errand)?;
        let wait = self.allowance.until(credential).map_or(Duration::ZERO, |until| until.saturating_sub(self.clock.elapsed()));
        if wait > self.queue_timeout { Err(NotSent::Limited(wait)) } else { Ok(()) }
    }

    /// Whether a request that nobody waits for may be sent: it keeps no other one waiting, as things stand.
    pub fn is_at_ease(&self, credential: &Credential) -> bool {
        let is_roomy = self.in_flight.available_permits() * 2 >= self.max_in_flight;
        is_roomy && self.breaker.check(Errand::Free).is_ok() && self.allowance.until(credential).is_none()
    }

    /// How long Telnyx's rate limits still hold requests back; of several accounts the longest.
    pub fn paused(&self) -> Duration {
        self.allowance.longest()
    }

    /// Where the breaker stands.
    pub fn standing(&self) -> Standing {
        self.breaker.standing()
    }

    /// Waits for a place, if the queue has room.
    pub async fn place(&self, errand: Errand, credential: &Credential) -> Result<Place, NotSent> {
        self.check(errand, credential)?;
        let queued = Arc::clone(&self.queue).try_acquire_owned().map_err(|_| NotSent::Crowded)?;
        let place = async {
            let permit = loop {
                // Who waits for a reset takes no place from other accounts.
                while let Some(until) = self.allowance.until(credential) {
                    self.clock.reaches(until).await;
                }
                let permit = Arc::clone(&self.in_flight).acquire_owned().await.expect("the semaphore is never closed");
                while let Err(until) = self.rate.check() {
                    sleep(until.wait_time_from(governor::clock::Clock::now(&self.clock))).await;
                }
                if self.allowance.until(credential).is_none() {
                    break permit;
                }
            };
            // Much may have failed meanwhile.
            let pass = self.breaker.pass(errand)?;
            Ok(Place { pass, _permit: permit, _queued: queued })
        };
        timeout(self.queue_timeout, place).await.unwrap_or(Err(NotSent::Crowded))
    }

    /// Sends a message, once. Ends within the configured time.
    pub async fn send(&self, place: Place, message: &Message, context: &Context) -> Outcome {
        let outcome = self.exchange(message, context).await;
        if let Outcome::Answered(answer) = &outcome {
            self.allowance.learn(&context.credential, answer.status, &answer.headers);
        }
        place.pass.shows(Sign::of(&outcome));
        outcome
    }

    async fn exchange(&self, message: &Message, context: &Context) -> Outcome {
        let mut request = self.request(message, context);
        let connection = capture_connection(&mut request);
        let sent = Instant::now();
        let exchange = async {
            let response = self.http.request(request).await?;
            Ok(read(response, sent.elapsed()).await)
        };
        let ended: Result<Outcome, Ended> = tokio::select! {
            answered = exchange => answered.map_err(Ended::Broken),
            () = stalled(connection.clone(), self.connect_timeout) => Err(Ended::Stalled),
            () = sleep(self.timeout) => Err(Ended::TimedOut),
        };
        connection::retire(&connection, self.clock.elapsed().saturating_sub(self.connection_lifetime));
        ended.unwrap_or_else(|ended| match ended.without_answer(&connection) {
            NoStream::NotSent(why) => Outcome::NotSent(why),
            NoStream::Lost(why) => Outcome::Unknown(why),
        })
    }

    fn request(&self, message: &Message, context: &Context) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(message.body.clone()));
        *request.method_mut() = message.method.clone();
        *request.uri_mut() = self.base.join(&message.path_and_query).expect("paths are built from encoded parts, all of them short");
        let headers = request.headers_mut();
        if !message.body.is_empty() {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        headers.insert(AUTHORIZATION, context.credential.value().clone());
        headers.insert(ACCEPT, message.accept.clone());
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        headers.insert(USER_AGENT, HeaderValue::from_static(concat!("reputation-gateway/", env!("CARGO_PKG_VERSION"))));
        headers.insert(VIA, HeaderValue::from_static("1.1 reputation-gateway"));
        headers.insert(REQUEST_ID, context.request_id.clone());
        if let Some(trace) = &context.trace {
            trace.write_to(headers);
        }
        request
    }
}

/// How an exchange ended without an answer.
enum Ended {
    Broken(hyper_util::client::legacy::Error),
    Stalled,
    TimedOut,
}

impl Ended {
    /// What that says of the request. The client notes the connection before it writes a byte to it: without one, nothing was sent.
    fn without_answer(self, connection: &CaptureConnection) -> NoStream {
        let met = connection.connection_metadata().is_some();
        match self {
            Self::Broken(error) if met && !error.is_connect() && !is_unwritten(&error) => {
                tracing::debug!(%error, "an exchange with the upstream was cut");
                NoStream::Lost(Lost::Cut)
            }
            Self::Stalled | Self::TimedOut if met => NoStream::Lost(Lost::TimedOut),
            _ => NoStream::NotSent(NotSent::Unreachable),
        }
    }
}

/// hyper hands a request back, as canceled, if its connection closed before the request's first byte was written.
fn is_unwritten(error: &hyper_util::client::legacy::Error) -> bool {
    let causes = std::iter::successors(error.source(), |&cause| cause.source());
    causes.filter_map(|cause| cause.downcast_ref::<hyper::Error>()).any(hyper::Error::is_canceled)
}

/// Ready if there is no connection, its TLS handshake included, within `limit`.
async fn stalled(mut connection: CaptureConnection, limit: Duration) {
    if timeout(limit, connection.wait_for_connection_metadata()).await.is_ok() {
        std::future::pending::<()>().await;
    }
}

/// An answer that is encoded although that was not asked for, or longer than any answer is, has a status and no body that could be read.
async fn read(response: Response<Incoming>, elapsed: Duration) -> Outcome {
    let (parts, body) = response.into_parts();
    let encoded = parts.headers.get(CONTENT_ENCODING).is_some_and(|encoding| encoding != "identity");
    let body = match Limited::new(body, MAX_BODY).collect().await {
        Ok(_) if encoded => Bytes::new(),
        Ok(body) => body.to_bytes(),
        Err(error) if error.is::<LengthLimitError>() => Bytes::new(),
        Err(_) => return Outcome::Unknown(Lost::Cut),
    };
    let date = parts.headers.get(DATE).and_then(|date| httpdate::parse_http_date(date.to_str().ok()?).ok());
    let date = date.and_then(|date| Timestamp::try_from(date).ok());
    Outcome::Answered(Answer { status: parts.status, headers: parts.headers, body, date, elapsed })
}

#[cfg(test)]
mod tests;
