//! An error in Telnyx's envelope, so that the official SDKs read it, with a `gateway` object beside `errors`.

use std::borrow::Cow;

use http::header::{CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use http::{Response, StatusCode};
use serde::Serialize;
use serde_json::{Map, Value};

use super::body::{Body, full};

/// The field by which the official SDKs decide whether to try again.
pub const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");

/// What a client library shall do next. A long `Retry-After` would put Node, Go and Ruby to sleep for that long, so there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// Its own rules apply.
    Unsaid,
    /// Not at all: the answer would be the same, or would cost again.
    Never,
    /// After so many seconds.
    After(u64),
}

/// One error, ready to be answered.
#[derive(Clone, Debug)]
pub struct Problem {
    /// The status.
    pub status: StatusCode,
    /// Telnyx's code where it has one, else the gateway's own name for it.
    pub code: Cow<'static, str>,
    /// A short title, the same for every error of the code.
    pub title: &'static str,
    /// What is wrong, and how to mend it.
    pub detail: String,
    /// The query parameter, or part of the path, at fault.
    pub parameter: Option<&'static str>,
    /// What a client library shall do next.
    pub retry: Retry,
    /// The field that goes with the status: `Allow` with 405, `WWW-Authenticate` with 401 (RFC 9110, 15.5).
    pub field: Option<(HeaderName, String)>,
    /// Facts for the `gateway` object.
    pub facts: Map<String, Value>,
}

#[derive(Serialize)]
struct Envelope<'p> {
    errors: [Error<'p>; 1],
    gateway: &'p Map<String, Value>,
}

#[derive(Serialize)]
struct Error<'p> {
    code: &'p str,
    title: &'p str,
    detail: &'p str,
    meta: Meta,
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<Source>,
}

#[derive(Serialize)]
struct Meta {
    url: String,
}

#[derive(Serialize)]
struct Source {
    parameter: &'static str,
}

impl Problem {
    /// An error without facts, retried by the client's own rules.
    pub fn new(status: StatusCode, code: impl Into<Cow<'static, str>>, title: &'static str, detail: impl Into<String>) -> Self {
        Self {
            status,
            code: code.into(),
            title,
            detail: detail.into(),
            parameter: None,
            retry: Retry::Unsaid,
            field: None,
            facts: Map::new(),
        }
    }

    /// A request that is wrong whoever sends it and however often: status 400, Telnyx's code.
    pub fn bad_request(code: &'static str, title: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, title, detail).never_retried()
    }

    /// The same, and trying again is of no use.
    #[must_use]
    pub fn never_retried(mut self) -> Self {
        self.retry = Retry::Never;
        self
    }

    /// The same, naming the parameter at fault.
    #[must_use]
    pub fn at(mut self, parameter: &'static str) -> Self {
        self.parameter = Some(parameter);
        self
    }

    /// The same with one more fact in the `gateway` object.
    #[must_use]
    pub fn with(mut self, name: &str, fact: impl Into<Value>) -> Self {
        self.facts.insert(name.to_owned(), fact.into());
        self
    }

    /// The answer: status, envelope, and the fields that steer retries.
    pub fn response(&self) -> Response<Body> {
        let error = Error {
            code: &self.code,
            title: self.title,
            detail: &self.detail,
            meta: Meta { url: self.url() },
            source: self.parameter.map(|parameter| Source { parameter }),
        };
        let envelope = Envelope { errors: [error], gateway: &self.facts };
        let mut response = Response::new(full(serde_json::to_vec(&envelope).expect("strings and numbers always serialise")));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some((name, Ok(value))) = self.field.as_ref().map(|(name, value)| (name, HeaderValue::from_str(value))) {
            headers.insert(name, value);
        }
        match self.retry {
            Retry::Unsaid => {}
            Retry::Never => drop(headers.insert(SHOULD_RETRY, HeaderValue::from_static("false"))),
            Retry::After(seconds) => drop(headers.insert(RETRY_AFTER, HeaderValue::from(seconds))),
        }
        response
    }

    /// Telnyx documents its numeric codes at an address each; ours are names.
    fn url(&self) -> String {
        if self.code.bytes().all(|byte| byte.is_ascii_digit()) {
            format!("https://developers.telnyx.com/docs/overview/errors/{}", self.code)
        } else {
            format!("urn:reputation-gateway:error:{}", self.code)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;

    #[tokio::test]
    async fn a_problem_is_telnyxs_envelope_with_the_gateways_facts_beside_it() {
        let problem =
            Problem::bad_request("10016", "Phone number must be in +E164 format", "…").at("phone_number").with("decision", "none");
        let response = problem.response();
        assert_eq!((response.status(), &response.headers()[SHOULD_RETRY]), (StatusCode::BAD_REQUEST, &HeaderValue::from_static("false")));
        let body = response.into_body().collect().await.expect("a full body").to_bytes();
        insta::assert_snapshot!(String::from_utf8_lossy(&body), @r#"{"errors":[{"code":"10016","title":"Phone number must be in +E164 format","detail":"…","meta":{"url":"https://developers.telnyx.com/docs/overview/errors/10016"},"source":{"parameter":"phone_number"}}],"gateway":{"decision":"none"}}"#);
    }
}
