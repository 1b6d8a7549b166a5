//! One delivery: what is sent, and what its answer means.

use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName, RETRY_AFTER, USER_AGENT};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode};
use http_body_util::Full;
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use jiff::Timestamp;

use super::config::{Config, Url};
use super::notice::{Kind, Notice};
use super::signature::{Key, NoKey};
use crate::clock::Clock;
use crate::units::spread;

const ID: HeaderName = HeaderName::from_static("webhook-id");
const TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
const SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");

/// The first pause after a delivery that failed; each further one is twice as long, up to the longest.
const FIRST_PAUSE: Duration = Duration::from_secs(5);
const LONGEST_PAUSE: Duration = Duration::from_hours(1);
/// The part by which pauses are spread, downwards.
const JITTER: f64 = 0.5;

/// A receiver.
#[derive(Debug)]
pub struct Endpoint {
    pub(super) url: Url,
    pub(super) events: Vec<Kind>,
    key: Key,
    timeout: Duration,
}

/// What became of a delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The receiver has it: a status of 2xx.
    Taken,
    /// It wants none, now or later: 410.
    Gone,
    /// It has to be delivered again, and not before so long if the receiver said so.
    Failed { why: String, retry_after: Option<Duration> },
}

/// Makes a connection for each delivery: there are few, and none waits long enough for the next.
#[derive(Clone, Debug)]
pub(super) struct Sender(Client<HttpsConnector<HttpConnector>, Full<Bytes>>);

impl Endpoint {
    /// Fails if there is no key to sign with.
    pub(super) fn new(config: &Config) -> Result<Self, NoKey> {
        let Config { url, secret, events, timeout } = config;
        Ok(Self { url: url.clone(), events: events.clone(), key: Key::read(secret)?, timeout: timeout.0 })
    }

    fn request(&self, notice: &Notice, now: Timestamp) -> Request<Full<Bytes>> {
        let timestamp = now.as_second();
        let signature = self.key.sign(&notice.id, timestamp, &notice.body);
        let mut request = Request::new(Full::new(notice.body.clone()));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.url.uri().clone();
        let fields = [
            (CONTENT_TYPE, HeaderValue::from_static("application/json")),
            (USER_AGENT, HeaderValue::from_static(concat!("reputation-gateway/", env!("CARGO_PKG_VERSION")))),
            (ID, HeaderValue::try_from(&notice.id).expect("letters and digits")),
            (TIMESTAMP, timestamp.into()),
            (SIGNATURE, HeaderValue::try_from(signature).expect("Base64")),
        ];
        request.headers_mut().extend(fields);
        request
    }
}

impl Sender {
    /// Fails if the machine's certificates cannot be read.
    pub(super) fn new() -> std::io::Result<Self> {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        let tls = hyper_rustls::HttpsConnectorBuilder::new().with_provider_and_native_roots(rustls::crypto::ring::default_provider())?;
        let connector = tls.https_or_http().enable_http1().wrap_connector(tcp);
        Ok(Self(Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(connector)))
    }

    /// Posts a notice once. Ends within the endpoint's time.
    pub(super) async fn post(&self, endpoint: &Endpoint, notice: &Notice, clock: &Clock) -> Outcome {
        let limit = clock.elapsed() + endpoint.timeout;
        tokio::select! {
            answered = self.0.request(endpoint.request(notice, clock.now())) => match answered {
                Ok(answer) => judged(answer.status(), answer.headers(), clock.now()),
                Err(error) => failed(std::error::Error::source(&error).map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}"))),
            },
            () = clock.reaches(limit) => failed("no answer in time".to_owned()),
        }
    }
}

fn failed(why: String) -> Outcome {
    Outcome::Failed { why, retry_after: None }
}

/// A redirect is an answer like any other that is not 2xx: the signature is for the receiver that was configured.
fn judged(status: StatusCode, headers: &HeaderMap, now: Timestamp) -> Outcome {
    match status {
        status if status.is_success() => Outcome::Taken,
        StatusCode::GONE => Outcome::Gone,
        status => Outcome::Failed { why: format!("it answers {status}"), retry_after: retry_after(headers, now) },
    }
}

/// RFC 9110, 10.2.3: seconds, or a date.
fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let seconds = || text.parse().ok().map(Duration::from_secs);
    let date = || Timestamp::try_from(httpdate::parse_http_date(text).ok()?).ok()?.duration_since(now).try_into().ok();
    seconds().or_else(date)
}

/// How long to wait after so many deliveries of a notice that failed.
pub(super) fn pause(failures: u32, id: &str) -> Duration {
    let doublings = failures.saturating_sub(1).min(u32::BITS - 1);
    spread(FIRST_PAUSE.saturating_mul(1 << doublings).min(LONGEST_PAUSE), JITTER, &(id, failures))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_an_hour_and_no_two_notices_keep_the_same() {
        for (failures, longest) in [(1, 5), (2, 10), (5, 80), (11, 3_600), (40, 3_600)] {
            let pause = pause(failures, "msg_a").as_secs_f64();
            assert!(pause > f64::from(longest) / 2.0 && pause <= f64::from(longest), "{failures}: {pause}");
        }
        assert_ne!(pause(3, "msg_a"), pause(3, "msg_b"));
    }

    #[test]
    fn a_receiver_says_in_seconds_or_by_a_date_when_it_wants_more() {
        let now = "2026-03-24T12:00:00Z".parse().expect("an instant");
        let told = |text: &'static str| retry_after(&HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_static(text))]), now);
        assert_eq!(told("120"), Some(Duration::from_mins(2)));
        assert_eq!(told("Tue, 24 Mar 2026 12:01:30 GMT"), Some(Duration::from_secs(90)));
        assert_eq!(told("Tue, 24 Mar 2026 11:00:00 GMT"), None, "it is over");
        assert_eq!(told("soon"), None);
    }

    #[test]
    fn only_success_is_taken_and_no_redirect_is() {
        let judged = |status: u16| judged(StatusCode::from_u16(status).expect("a status"), &HeaderMap::new(), Timestamp::UNIX_EPOCH);
        assert_eq!((judged(200), judged(204), judged(410)), (Outcome::Taken, Outcome::Taken, Outcome::Gone));
        for status in [301, 302, 307, 400, 404, 429, 500, 503] {
            assert!(matches!(judged(status), Outcome::Failed { .. }), "{status}");
        }
    }
}
