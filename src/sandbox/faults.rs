//! Scripted trouble: what happens to the next requests.

use std::collections::VecDeque;
use std::time::Duration;

use http::{Method, StatusCode};
use serde::{Deserialize, Deserializer, de};
use serde_json::Value;

use super::answer::{Refusal, Reply};
use super::routes::decoded;

/// A body that no JSON parser takes, under `content-type: application/json`.
const GARBAGE: &str = "<html><body>upstream connect error</body></html>";

/// What goes wrong. In JSON the names are in snake case: `status_after_billing`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Billed at once, answered as always, but only after `delay_ms`.
    Latency,
    /// Not billed; answered with `status` and an error envelope.
    Status,
    /// Billed, and the state changes; then answered with `status` and an error envelope.
    StatusAfterBilling,
    /// Not billed; 429 with code 10011, `x-ratelimit-remaining: 0` and `x-ratelimit-reset: reset_s`.
    RateLimited,
    /// Not billed; the connection is closed without an answer.
    Reset,
    /// Billed; the connection is closed without an answer.
    ResetAfterBilling,
    /// Billed; the head promises the whole body, half of it follows, and the connection is closed.
    Cut,
    /// Billed; 200 with a body that is no JSON.
    Garbage,
    /// Billed; 200 with another number's record, also as the one item of a list. Other answers are left as they are.
    WrongNumber,
    /// Not billed; silent for `delay_ms`, then the connection is closed.
    Hang,
    /// Billed; silent for `delay_ms`, then the connection is closed.
    HangAfterBilling,
    /// Lists are answered as if they had no filter; everything else as always.
    IgnoreFilter,
    /// Billed; the body arrives in small pieces, spread over `delay_ms`.
    Drip,
}

/// One entry of the script. As JSON, for `POST /sandbox/faults` (one, or a list of them), only `fault` is required:
/// `{"fault": "status", "times": 1, "method": "GET", "path_contains": "numbers", "query_contains": "fresh", "status": 500, "delay_ms": 2000, "reset_s": 30}`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// What goes wrong.
    #[serde(rename = "fault")]
    pub kind: Kind,
    /// How many matching requests it happens to.
    #[serde(default = "once")]
    pub times: u32,
    /// Only requests with this method.
    #[serde(default)]
    pub method: Option<String>,
    /// Only requests whose path, as received or decoded, contains this.
    #[serde(default)]
    pub path_contains: Option<String>,
    /// Only requests whose query, as received or decoded, contains this.
    #[serde(default)]
    pub query_contains: Option<String>,
    /// For [`Kind::Status`] and [`Kind::StatusAfterBilling`]: 200 to 599.
    #[serde(default = "internal_error", deserialize_with = "final_status")]
    pub status: StatusCode,
    /// For [`Kind::Latency`], [`Kind::Hang`], [`Kind::HangAfterBilling`] and [`Kind::Drip`], in milliseconds.
    #[serde(default = "two_seconds")]
    pub delay_ms: u64,
    /// For [`Kind::RateLimited`], in seconds.
    #[serde(default = "half_a_minute")]
    pub reset_s: u64,
}

fn once() -> u32 {
    1
}

fn internal_error() -> StatusCode {
    StatusCode::INTERNAL_SERVER_ERROR
}

fn two_seconds() -> u64 {
    2_000
}

fn half_a_minute() -> u64 {
    30
}

fn final_status<'de, D: Deserializer<'de>>(deserializer: D) -> Result<StatusCode, D::Error> {
    let status = u16::deserialize(deserializer)?;
    let found = StatusCode::from_u16(status).ok().filter(|_| (200..600).contains(&status));
    found.ok_or_else(|| de::Error::custom(format!("status {status} is not between 200 and 599")))
}

/// How an answer travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Delivery {
    /// Whole.
    Whole,
    /// Whole, but late.
    Late(Duration),
    /// Not at all: the connection is closed after this time.
    Never(Duration),
    /// Half of the body, under a head that promises all of it.
    Cut,
    /// The body in pieces, spread over this time.
    Drip(Duration),
}

impl Fault {
    /// This kind for the next request, whichever it is, with the defaults: status 500, 2 s, reset in 30 s.
    pub fn new(kind: Kind) -> Self {
        Self {
            kind,
            times: once(),
            method: None,
            path_contains: None,
            query_contains: None,
            status: internal_error(),
            delay_ms: two_seconds(),
            reset_s: half_a_minute(),
        }
    }

    /// For so many requests.
    #[must_use]
    pub fn times(self, times: u32) -> Self {
        Self { times, ..self }
    }

    /// Only for this method.
    #[must_use]
    pub fn method(self, method: &Method) -> Self {
        Self { method: Some(method.to_string()), ..self }
    }

    /// Only for paths that contain this.
    #[must_use]
    pub fn path_contains(self, part: impl Into<String>) -> Self {
        Self { path_contains: Some(part.into()), ..self }
    }

    /// Only for queries that contain this.
    #[must_use]
    pub fn query_contains(self, part: impl Into<String>) -> Self {
        Self { query_contains: Some(part.into()), ..self }
    }

    /// With this status.
    #[must_use]
    pub fn status(self, status: StatusCode) -> Self {
        Self { status, ..self }
    }

    /// With this delay; fractions of a millisecond are dropped.
    #[must_use]
    pub fn delay(self, delay: Duration) -> Self {
        Self { delay_ms: u64::try_from(delay.as_millis()).unwrap_or(u64::MAX), ..self }
    }

    /// With this time until the rate limit's reset, in seconds.
    #[must_use]
    pub fn reset_s(self, reset_s: u64) -> Self {
        Self { reset_s, ..self }
    }

    /// Reads one fault, or a list of them. The error names what is wrong and, for an unknown kind, lists the kinds.
    pub(super) fn read(json: &[u8]) -> Result<Vec<Self>, serde_json::Error> {
        // An untagged enum would forget which field or kind was wrong.
        match serde_json::from_slice(json)? {
            Value::Array(faults) => faults.into_iter().map(serde_json::from_value).collect(),
            fault => Ok(vec![serde_json::from_value(fault)?]),
        }
    }

    /// The answer in place of everything the request asked for; then nothing is billed and nothing changes.
    pub(super) fn instead(&self) -> Option<Reply> {
        match self.kind {
            Kind::Status => Some(self.failure()),
            Kind::RateLimited => Some(Reply::rate_limited(self.reset_s)),
            // Nobody sees this answer.
            Kind::Reset | Kind::Hang => Some(Reply::no_content()),
            _ => None,
        }
    }

    /// What becomes of the answer to a request that was done and billed.
    pub(super) fn spoil(&self, honest: Reply) -> Reply {
        match self.kind {
            Kind::StatusAfterBilling => self.failure(),
            Kind::Garbage => Reply::new(StatusCode::OK, "application/json", GARBAGE),
            _ => honest,
        }
    }

    /// How the answer travels.
    pub(super) fn delivery(&self) -> Delivery {
        let delay = Duration::from_millis(self.delay_ms);
        match self.kind {
            Kind::Latency => Delivery::Late(delay),
            Kind::Reset | Kind::ResetAfterBilling => Delivery::Never(Duration::ZERO),
            Kind::Hang | Kind::HangAfterBilling => Delivery::Never(delay),
            Kind::Cut => Delivery::Cut,
            Kind::Drip => Delivery::Drip(delay),
            Kind::Status | Kind::StatusAfterBilling | Kind::RateLimited | Kind::Garbage | Kind::WrongNumber | Kind::IgnoreFilter => {
                Delivery::Whole
            }
        }
    }

    fn failure(&self) -> Reply {
        Refusal::new(self.status, "10007", "Unexpected error", "The sandbox was told to fail.").into()
    }

    fn matches(&self, method: &Method, path: &str, query: &str) -> bool {
        let contains = |part: &Option<String>, text: &str| {
            part.as_ref().is_none_or(|part| text.contains(part.as_str()) || decoded(text).contains(part.as_str()))
        };
        self.method.as_ref().is_none_or(|wanted| wanted.eq_ignore_ascii_case(method.as_str()))
            && contains(&self.path_contains, path)
            && contains(&self.query_contains, query)
    }
}

/// What was scripted and has not happened yet, oldest first.
#[derive(Debug, Default)]
pub(super) struct Script(VecDeque<Fault>);

impl Script {
    pub(super) fn add(&mut self, fault: Fault) {
        if fault.times > 0 {
            self.0.push_back(fault);
        }
    }

    /// Requests that faults are still waiting for.
    pub(super) fn pending(&self) -> u64 {
        self.0.iter().map(|fault| u64::from(fault.times)).sum()
    }

    /// The oldest fault that this request matches, used up by one.
    pub(super) fn next(&mut self, method: &Method, path: &str, query: &str) -> Option<Fault> {
        let position = self.0.iter().position(|fault| fault.matches(method, path, query))?;
        let fault = self.0.get_mut(position)?;
        fault.times -= 1;
        if fault.times > 0 { Some(fault.clone()) } else { self.0.remove(position) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_happens_to_as_many_matching_requests_as_it_was_scripted_for() {
        let mut script = Script::default();
        script.add(Fault::new(Kind::Reset).times(2).method(&Method::GET).path_contains("/numbers/+1202").query_contains("fresh"));
        script.add(Fault::new(Kind::Cut));
        let mut kind = |method, path, query| script.next(&method, path, query).map(|fault| fault.kind);
        assert_eq!(kind(Method::GET, "/v2/reputation/numbers/%2B12025550000", "fresh=true"), Some(Kind::Reset), "decoded");
        assert_eq!(kind(Method::POST, "/v2/reputation/numbers/+12025550000", "fresh=true"), Some(Kind::Cut), "the first that matches");
        assert_eq!(kind(Method::GET, "/v2/reputation/numbers/+12025550000", ""), None);
        assert_eq!(kind(Method::GET, "/v2/reputation/numbers/+12025550000", "fresh=1"), Some(Kind::Reset));
        assert_eq!(kind(Method::GET, "/v2/reputation/numbers/+12025550000", "fresh=1"), None, "used up");
    }

    #[test]
    fn one_fault_or_a_list_is_read_with_its_defaults() {
        assert_eq!(Fault::read(br#"{"fault": "hang_after_billing"}"#).unwrap(), [Fault::new(Kind::HangAfterBilling)]);
        let two = Fault::read(br#"[{"fault": "status", "status": 503, "times": 3}, {"fault": "rate_limited", "reset_s": 7}]"#).unwrap();
        assert_eq!(two[0], Fault::new(Kind::Status).status(StatusCode::SERVICE_UNAVAILABLE).times(3));
        assert_eq!(two[1], Fault::new(Kind::RateLimited).reset_s(7));
    }

    #[test]
    fn an_unknown_kind_field_or_status_is_refused_with_what_is_possible() {
        let error = |json: &str| Fault::read(json.as_bytes()).unwrap_err().to_string();
        let unknown = error(r#"{"fault": "flood"}"#);
        assert!(unknown.contains("flood") && unknown.contains("`hang_after_billing`") && unknown.contains("`drip`"), "{unknown}");
        assert!(error(r#"{"fault": "reset", "time": 2}"#).contains("`times`"));
        assert!(error(r#"{"fault": "status", "status": 101}"#).contains("between 200 and 599"));
    }
}
