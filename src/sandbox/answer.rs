//! Answers in Telnyx's form: bodies, its error envelope, its headers.

use bytes::Bytes;
use http::header::{self, HeaderName, HeaderValue};
use http::{Response, StatusCode};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::json;

use crate::wire::body::{Body, full};

const LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
const REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
const RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");

/// Telnyx publishes no figures. These never run out by themselves: a limit that tests meet by accident would not be deterministic.
const REQUESTS_A_MINUTE: u64 = 1_000;
const MINUTE_S: u64 = 60;

/// An answer before it goes on the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reply {
    pub(super) status: StatusCode,
    content_type: &'static str,
    pub(super) body: Bytes,
    quota: Quota,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Quota {
    remaining: u64,
    reset_s: u64,
}

/// One record.
#[derive(Serialize)]
struct One<T> {
    data: T,
}

/// A page of a list.
#[derive(Serialize)]
struct Page<T> {
    data: Vec<T>,
    meta: Meta,
}

#[derive(Serialize)]
struct Meta {
    page_number: usize,
    page_size: usize,
    total_pages: usize,
    total_results: usize,
}

/// Which page of a list is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Paging {
    /// From 1.
    pub(super) number: usize,
    /// Items on a full page, at least 1.
    pub(super) size: usize,
}

impl Reply {
    /// A JSON body as it stands.
    pub(super) fn json(status: StatusCode, body: &impl Serialize) -> Self {
        let body = serde_json::to_vec(body).expect("structs with text keys are always JSON");
        Self::new(status, "application/json", body)
    }

    /// `{"data": record}`.
    pub(super) fn one(status: StatusCode, record: impl Serialize) -> Self {
        Self::json(status, &One { data: record })
    }

    /// `{"data": […], "meta": {…}}`: the page that was asked for. `meta.page_size` counts the items on it.
    pub(super) fn page<T: Serialize>(items: &[T], paging: Paging) -> Self {
        let start = (paging.number - 1).saturating_mul(paging.size);
        let data: Vec<&T> = items.iter().skip(start).take(paging.size).collect();
        let meta = Meta {
            page_number: paging.number,
            page_size: data.len(),
            total_pages: items.len().div_ceil(paging.size),
            total_results: items.len(),
        };
        Self::json(StatusCode::OK, &Page { data, meta })
    }

    /// `{"data": […], "meta": {…}}` for records just made, all on one page.
    pub(super) fn created<T: Serialize>(items: &[T]) -> Self {
        let all = Paging { number: 1, size: items.len().max(1) };
        Self { status: StatusCode::CREATED, ..Self::page(items, all) }
    }

    /// 204.
    pub(super) fn no_content() -> Self {
        Self::new(StatusCode::NO_CONTENT, "application/json", Bytes::new())
    }

    /// A body of another type.
    pub(super) fn new(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Self {
        let quota = Quota { remaining: REQUESTS_A_MINUTE - 1, reset_s: MINUTE_S };
        Self { status, content_type, body: body.into(), quota }
    }

    /// 429: nothing remains for `reset_s` seconds.
    pub(super) fn rate_limited(reset_s: u64) -> Self {
        let refused = Self::from(Refusal::new(StatusCode::TOO_MANY_REQUESTS, "10011", "Too Many Requests", "Slow down."));
        Self { quota: Quota { remaining: 0, reset_s }, ..refused }
    }

    /// The answer with this body on the wire, dated `now`.
    pub(super) fn response(&self, body: Body, now: Timestamp) -> Response<Body> {
        let mut response = Response::new(body);
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        if self.status != StatusCode::NO_CONTENT {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(self.content_type));
        }
        // hyper would date the answer by the machine's clock.
        if let Ok(date) = HeaderValue::from_str(&httpdate::fmt_http_date(now.into())) {
            headers.insert(header::DATE, date);
        }
        headers.insert(LIMIT, HeaderValue::from(REQUESTS_A_MINUTE));
        headers.insert(REMAINING, HeaderValue::from(self.quota.remaining));
        headers.insert(RESET, HeaderValue::from(self.quota.reset_s));
        response
    }

    /// The answer whole, dated `now`.
    pub(super) fn whole(self, now: Timestamp) -> Response<Body> {
        self.response(full(self.body.clone()), now)
    }
}

/// Why a request was refused: one entry of Telnyx's error envelope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    pub(super) code: &'static str,
    title: &'static str,
    detail: String,
    source: Option<Source>,
}

/// What in the request caused the error.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Source {
    Pointer(String),
    Parameter(String),
}

impl Refusal {
    pub(super) fn new(status: StatusCode, code: &'static str, title: &'static str, detail: impl Into<String>) -> Self {
        Self { status, code, title, detail: detail.into(), source: None }
    }

    /// 400, code 10015.
    pub(super) fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "10015", "Bad Request", detail)
    }

    /// 400, code 10016.
    pub(super) fn not_e164(text: &str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "10016", "Invalid phone number", format!("{text:?} is not in E.164 format."))
    }

    /// 401. Telnyx's catalogue gives failed authentication the code that this service gives 404.
    pub(super) fn unauthorized() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "10009", "Authentication failed", "The API key is missing or invalid.")
    }

    /// 403, code 10015.
    pub(super) fn forbidden(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "10015", "Forbidden", detail)
    }

    /// 404, code 10009.
    pub(super) fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "10009", "Not Found", detail)
    }

    /// 405, code 10015.
    pub(super) fn method_not_allowed() -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "10015", "Method Not Allowed", "The path does not know this method.")
    }

    /// 409, code 10021.
    pub(super) fn conflict(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "10021", "Conflict", detail)
    }

    /// 413, code 10015.
    pub(super) fn too_large() -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "10015", "Payload Too Large", "The body is too large.")
    }

    /// 422, code 10005.
    pub(super) fn unprocessable(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "10005", "Unprocessable Entity", detail)
    }

    /// Names the body's field as the cause, by JSON pointer.
    #[must_use]
    pub(super) fn at(self, pointer: impl Into<String>) -> Self {
        Self { source: Some(Source::Pointer(pointer.into())), ..self }
    }

    /// Names the parameter as the cause.
    #[must_use]
    pub(super) fn parameter(self, name: impl Into<String>) -> Self {
        Self { source: Some(Source::Parameter(name.into())), ..self }
    }
}

impl From<Refusal> for Reply {
    fn from(refusal: Refusal) -> Self {
        let url = format!("https://developers.telnyx.com/docs/overview/errors/{}", refusal.code);
        let mut error = json!({ "code": refusal.code, "title": refusal.title, "detail": refusal.detail, "meta": { "url": url } });
        match refusal.source {
            Some(Source::Pointer(pointer)) => error["source"] = json!({ "pointer": pointer }),
            Some(Source::Parameter(parameter)) => error["source"] = json!({ "parameter": parameter }),
            None => {}
        }
        Self::json(refusal.status, &json!({ "errors": [error] }))
    }
}
