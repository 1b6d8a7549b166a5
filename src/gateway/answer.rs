//! An answer, before it is bytes: what was decided, what it cost, and what is sent.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{
    ACCEPT_ENCODING, AGE, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, ETAG, HeaderName, HeaderValue, IF_MODIFIED_SINCE, IF_NONE_MATCH,
    LAST_MODIFIED, RETRY_AFTER, VARY, VIA,
};
use http::{HeaderMap, Method, Response, StatusCode};

use super::{Gateway, refusal};
use crate::cache::Entry;
use crate::policy::decision::Decision;
use crate::policy::evidence::Billing;
use crate::policy::money::Usd;
use crate::telemetry::metrics::Avoided;
use crate::wire::body::{Body, full};
use crate::wire::encoding::Encodable;
use crate::wire::problem::Problem;
use crate::wire::room::Held;

/// A value, or the answer that refuses the request.
pub(super) type Refused<T> = Result<T, Box<Answer>>;

const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");
const DECISION: HeaderName = HeaderName::from_static("x-gateway-decision");
const BILLED: HeaderName = HeaderName::from_static("x-gateway-billed");
const COST: HeaderName = HeaderName::from_static("x-gateway-cost-usd");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// What one request is answered with.
#[derive(Debug)]
pub(super) struct Answer {
    /// How it was decided.
    pub(super) decision: Decision,
    /// What it cost.
    pub(super) bill: Bill,
    /// Why it cost nothing, where without the gateway it would have cost a check.
    pub(super) avoided: Option<Avoided>,
    /// What is sent.
    pub(super) content: Content,
}

/// What this very request cost, not what somebody else paid for the same answer: all bills together are what was spent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bill {
    /// Whether it was billed.
    pub(super) billing: Billing,
    /// How much, or how much it may have been where that is unknown.
    pub(super) cost: Usd,
}

impl Bill {
    /// It cost nothing.
    pub(super) const NOTHING: Self = Self { billing: Billing::NotBilled, cost: Usd::ZERO };

    /// A call of this price ended so.
    pub(super) fn of(billing: Billing, price: Usd) -> Self {
        match billing {
            Billing::Billed | Billing::Unknown => Self { billing, cost: price },
            Billing::NotBilled | Billing::NotSent => Self::NOTHING,
        }
    }
}

/// What is sent.
#[derive(Debug)]
pub(super) enum Content {
    /// A copy of a number's record, or of its absence.
    Copy(Entry, Origin),
    /// A page of a list that was at hand, and its age.
    Page(Encodable, Duration),
    /// A page of a list that was fetched for this request.
    FetchedPage {
        page: Encodable,
        /// Whether it was kept for others.
        kept: bool,
        /// The room that it takes until it is sent.
        held: Option<Held>,
    },
    /// What became of each number of a refresh, in Telnyx's bytes or in the gateway's.
    Results {
        /// Its status.
        status: StatusCode,
        /// JSON.
        body: Bytes,
        /// Whether something was sent upstream for it.
        forwarded: bool,
    },
    /// Telnyx's own refusal.
    Relay(Arc<Relay>),
    /// Telnyx's own answer to what is neither kept nor looked up.
    Passed(Relay, Forward),
    /// Telnyx's own answer to what an operator let pass, while its body is still coming.
    Streamed(Box<Response<Body>>),
    /// An error of the gateway's.
    Problem(Problem),
}

/// Where a copy came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// It was at hand.
    Cache,
    /// It was fetched for this request, and kept.
    Fetched(Forward),
    /// It was fetched for this request, and not kept.
    Passing(Forward),
    /// It was fetched for another request.
    Collapsed(Forward),
}

/// Why a request went forward, as RFC 9211, 2.2, names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Forward {
    /// No copy.
    Miss,
    /// A stale copy.
    Stale,
    /// The request asked for it.
    Request,
    /// Answers to this are not kept.
    Bypass,
    /// Its method changes something.
    Method,
}

/// Telnyx's own answer, passed on.
#[derive(Debug)]
pub(super) struct Relay {
    /// Its status.
    pub(super) status: StatusCode,
    /// Its body.
    pub(super) body: Bytes,
    /// Its type.
    pub(super) content_type: Option<HeaderValue>,
    /// Seconds to wait, where it was a refusal for being asked too often.
    pub(super) retry_after: Option<u64>,
}

impl Answer {
    /// An answer that cost nothing.
    pub(super) fn free(decision: Decision, content: Content) -> Self {
        Self { decision, bill: Bill::NOTHING, avoided: None, content }
    }

    /// The bytes: content, and the fields that say how it came about. `now` is monotonic.
    pub(super) fn into_response(self, request: &HeaderMap, request_id: &HeaderValue, now: Duration) -> Response<Body> {
        let (cache_status, cache_control) = (self.cache_status(now), self.cache_control());
        let mut response = match self.content {
            Content::Copy(entry, origin) => copy(&entry, origin, request, now),
            Content::Page(page, age) => aged(encoded(&page, None, request), Some(age)),
            Content::FetchedPage { page, held, .. } => encoded(&page, held, request),
            Content::Results { status, body, .. } => json(status, body),
            Content::Relay(relay) => passed_on(&relay),
            Content::Passed(relay, _) => passed_on(&relay),
            Content::Streamed(response) => *response,
            Content::Problem(problem) => {
                let id = request_id.to_str().unwrap_or_default();
                problem.with("request_id", id).with("decision", self.decision.as_str()).response()
            }
        };
        let headers = response.headers_mut();
        headers.insert(crate::upstream::REQUEST_ID, request_id.clone());
        // Both are lists: of a streamed answer, what others said before stays.
        headers.append(CACHE_STATUS, HeaderValue::from_str(&cache_status).expect("words and numbers"));
        // Of a streamed answer the upstream says that.
        if let Some(cache_control) = cache_control {
            headers.insert(CACHE_CONTROL, cache_control);
        }
        headers.insert(DECISION, HeaderValue::from_static(self.decision.as_str()));
        headers.insert(BILLED, HeaderValue::from_static(self.bill.billing.answer()));
        headers.insert(COST, HeaderValue::from_str(&self.bill.cost.to_string()).expect("digits and a point"));
        headers.append(VIA, HeaderValue::from_static("1.1 reputation-gateway"));
        response
    }

    /// RFC 9111, 5.2.2: how long the caller's own cache may go on with it. Never a shared cache: entitlement is the gateway's to judge.
    /// None where it is not for the gateway to say.
    fn cache_control(&self) -> Option<HeaderValue> {
        let kept =
            |entry: &Entry| HeaderValue::from_str(&format!("private, max-age={}", entry.lifetime().as_secs())).expect("a word and digits");
        match &self.content {
            Content::Streamed(_) => None,
            Content::Copy(_, Origin::Passing(_)) => Some(HeaderValue::from_static("no-store")),
            Content::Copy(entry, _) if self.decision.stands() => Some(kept(entry)),
            Content::Copy(..) | Content::Page(..) | Content::FetchedPage { .. } => Some(HeaderValue::from_static("private, no-cache")),
            _ => Some(HeaderValue::from_static("no-store")),
        }
    }

    /// What `Cache-Status` says in one word: `hit`, or why the request was forwarded.
    pub(super) fn cache_word(&self) -> Option<&'static str> {
        match &self.content {
            Content::Copy(_, Origin::Cache) | Content::Page(..) => Some("hit"),
            Content::Copy(_, Origin::Fetched(why) | Origin::Passing(why) | Origin::Collapsed(why)) | Content::Passed(_, why) => {
                Some(why.as_str())
            }
            Content::FetchedPage { .. } | Content::Relay(_) => Some(Forward::Miss.as_str()),
            Content::Streamed(_) => Some(Forward::Bypass.as_str()),
            Content::Results { forwarded: true, .. } => Some(Forward::Method.as_str()),
            Content::Results { forwarded: false, .. } | Content::Problem(_) => None,
        }
    }

    /// RFC 9211: either `hit`, or why the request was forwarded; neither, where it was refused before that.
    fn cache_status(&self, now: Duration) -> String {
        let detail = format!("detail={}", self.decision.as_str());
        let rest = match &self.content {
            Content::Copy(entry, Origin::Cache) => format!("hit; ttl={}; {detail}", entry.ttl_seconds(now)),
            Content::Copy(entry, Origin::Fetched(why)) => {
                format!("fwd={}; fwd-status={}; stored; {detail}", why.as_str(), entry.status().as_u16())
            }
            Content::Copy(entry, Origin::Passing(why)) => format!("fwd={}; fwd-status={}; {detail}", why.as_str(), entry.status().as_u16()),
            Content::Copy(entry, Origin::Collapsed(why)) => {
                format!("fwd={}; fwd-status={}; collapsed; {detail}", why.as_str(), entry.status().as_u16())
            }
            Content::Page(..) => format!("hit; {detail}"),
            Content::FetchedPage { kept, .. } => format!("fwd=miss; fwd-status=200; {}{detail}", if *kept { "stored; " } else { "" }),
            Content::Relay(relay) => format!("fwd=miss; fwd-status={}; {detail}", relay.status.as_u16()),
            Content::Passed(relay, why) => format!("fwd={}; fwd-status={}; {detail}", why.as_str(), relay.status.as_u16()),
            Content::Streamed(response) => format!("fwd={}; fwd-status={}; {detail}", Forward::Bypass.as_str(), response.status().as_u16()),
            Content::Results { status, forwarded: true, .. } => {
                format!("fwd={}; fwd-status={}; {detail}", Forward::Method.as_str(), status.as_u16())
            }
            Content::Results { forwarded: false, .. } | Content::Problem(_) => detail,
        };
        format!("reputation-gateway; {rest}")
    }
}

impl Gateway {
    /// The answer, in the room that it takes until it is sent. What was read for nothing is refused where there is none; what was paid for
    /// or changed something is not: no more than `upstream.max_in_flight` of those come at once, of a MiB each.
    pub(super) fn fitting(&self, answered: Refused<Answer>, method: &Method) -> Answer {
        let mut answer = answered.unwrap_or_else(|refusal| *refusal);
        let room = &self.0.room;
        let is_for_nothing = matches!(*method, Method::GET | Method::HEAD) && answer.bill == Bill::NOTHING;
        let part = |bytes: usize| if is_for_nothing { room.take(bytes).ok_or_else(refusal::no_room) } else { Ok(room.take_anyway(bytes)) };
        let fitted = match &mut answer.content {
            Content::FetchedPage { page, held, .. } => part(page.plain().len()).map(|part| *held = Some(part)),
            Content::Results { body, .. } | Content::Passed(Relay { body, .. }, _) => {
                part(body.len()).map(|part| *body = part.around(std::mem::take(body)))
            }
            // Of an answer that several may share, or of one that is short, or that is never whole in memory.
            Content::Copy(..) | Content::Page(..) | Content::Relay(_) | Content::Streamed(_) | Content::Problem(_) => Ok(()),
        };
        fitted.map_or_else(|refusal| *refusal, |()| answer)
    }

    /// Refuses what would have to be fetched for one request only, before anything is sent, where there is no room for an answer.
    pub(super) fn room_for_answer(&self) -> Refused<()> {
        if self.0.room.is_full() { Err(refusal::no_room()) } else { Ok(()) }
    }
}

impl Forward {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Miss => "miss",
            Self::Stale => "stale",
            Self::Request => "request",
            Self::Bypass => "bypass",
            Self::Method => "method",
        }
    }
}

fn json(status: StatusCode, body: Bytes) -> Response<Body> {
    let mut response = Response::new(full(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, JSON);
    response
}

/// A page as its client wants it. It has no validator, which would have to tell the encodings apart.
fn encoded(page: &Encodable, held: Option<Held>, request: &HeaderMap) -> Response<Body> {
    let packed = page.packed_for(request);
    let coding = packed.as_ref().map(|(coding, _)| *coding);
    let bytes = packed.map_or_else(|| page.plain().clone(), |(_, packed)| packed);
    let mut response = json(StatusCode::OK, if let Some(held) = held { held.around(bytes) } else { bytes });
    if let Some(coding) = coding {
        response.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static(coding.as_str()));
    }
    if page.varies() {
        response.headers_mut().insert(VARY, ACCEPT_ENCODING.into());
    }
    response
}

fn aged(mut response: Response<Body>, age: Option<Duration>) -> Response<Body> {
    if let Some(age) = age {
        response.headers_mut().insert(AGE, age.as_secs().into());
    }
    response
}

fn copy(entry: &Entry, origin: Origin, request: &HeaderMap, now: Duration) -> Response<Body> {
    let etag = entry.etag();
    let mut response = if not_modified(entry, &etag, request) {
        let mut response = Response::new(full(Bytes::new()));
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        response
    } else {
        json(entry.status(), entry.body_to_send())
    };
    response.headers_mut().insert(ETAG, etag);
    if let Some(last_modified) = entry.last_modified() {
        response.headers_mut().insert(LAST_MODIFIED, last_modified);
    }
    aged(response, (origin == Origin::Cache).then(|| entry.age(now)))
}

/// RFC 9110, 13.1.2: the weak comparison, over all lines of the field; `*` matches whatever there is. 13.1.3: a date only counts
/// without tags.
fn not_modified(entry: &Entry, etag: &HeaderValue, request: &HeaderMap) -> bool {
    let mut tags = request.get_all(IF_NONE_MATCH).into_iter().peekable();
    let unchanged = if tags.peek().is_some() {
        let mut tags = tags.filter_map(|line| line.to_str().ok()).flat_map(|line| line.split(',')).map(str::trim);
        tags.any(|tag| tag == "*" || tag.trim_start_matches("W/").as_bytes() == etag.as_bytes())
    } else {
        let since = request.get(IF_MODIFIED_SINCE).and_then(|date| httpdate::parse_http_date(date.to_str().ok()?).ok());
        since.is_some_and(|since| !entry.is_modified_since(since))
    };
    entry.status() == StatusCode::OK && unchanged
}

fn passed_on(relay: &Relay) -> Response<Body> {
    let mut response = json(relay.status, relay.body.clone());
    let headers = response.headers_mut();
    match &relay.content_type {
        Some(content_type) => headers.insert(CONTENT_TYPE, content_type.clone()),
        None => headers.remove(CONTENT_TYPE),
    };
    if let Some(seconds) = relay.retry_after {
        headers.insert(RETRY_AFTER, seconds.into());
    }
    response
}
