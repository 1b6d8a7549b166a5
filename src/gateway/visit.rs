//! One request from its head to its answer: what is counted and logged of it.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use http::header::{CONNECTION, HeaderValue};
use http::request::Parts;
use http::{HeaderMap, Method, Response};
use jiff::Timestamp;

use super::answer::{Answer, Bill, Content, Forward};
use super::elsewhere::Ending;
use super::trail::{Step, Trail};
use super::wait::Unmet;
use super::{Gateway, View, stamp};
use crate::auth::{ANONYMOUS_PLACE, Identity};
use crate::policy::decide::Copy;
use crate::policy::decision::Decision;
use crate::policy::evidence::Billing;
use crate::telemetry::access::{self, Line};
use crate::telemetry::traces::Lineage;
use crate::telnyx::{EnterpriseId, Operation, PhoneNumber};
use crate::upstream::REQUEST_ID;
use crate::wire::body::Body;
use crate::wire::stream::Flow;
use crate::wire::trace::{SpanContext, Trace};

/// A longer or stranger id of the caller's is replaced by one of ours.
pub(super) const LONGEST_REQUEST_ID: usize = 128;

/// No more of a refusal's words is remembered: some repeat what the caller sent.
const LONGEST_DETAIL: usize = 1_000;

/// What Nginx logs for a caller who left before the answer; no such status goes over the wire.
const CLIENT_CLOSED_REQUEST: u16 = 499;

/// What is known of a request while it is being answered. One that is dropped before its end was abandoned by its caller, or cut when
/// the drain time was over; it is counted and logged all the same.
pub(super) struct Visit {
    gateway: Gateway,
    method: Method,
    ended: bool,
    began: Duration,
    waited: Duration,
    /// Since when it waits for what other gateways do.
    waits_since: Option<Duration>,
    request_id: HeaderValue,
    /// Where it stands in its trace.
    lineage: Option<Lineage>,
    /// Others' requests that did what this one wanted.
    joined: Vec<SpanContext>,
    /// Where the caller's counters are.
    caller: usize,
    operation: Operation,
    enterprise: Option<EnterpriseId>,
    number: Option<PhoneNumber>,
    /// What passes of it, where it is streamed.
    flow: Option<Arc<Flow>>,
    /// What it goes through, where that is remembered.
    trail: Option<Trail>,
}

impl Visit {
    pub(super) fn begin(gateway: &Gateway, head: &Parts) -> Self {
        let ours = || HeaderValue::from_bytes(&stamp::request_id(gateway.0.clock.now())).expect("hexadecimal digits");
        Self {
            gateway: gateway.clone(),
            method: told(&head.method),
            ended: false,
            began: gateway.0.clock.elapsed(),
            waited: Duration::ZERO,
            waits_since: None,
            request_id: their_id(&head.headers).unwrap_or_else(ours),
            lineage: gateway.0.traces.enter(Trace::of(&head.headers).as_ref()),
            joined: Vec::new(),
            caller: ANONYMOUS_PLACE,
            operation: Operation::Unknown,
            enterprise: None,
            number: None,
            flow: None,
            trail: gateway.0.decisions.trail(),
        }
    }

    pub(super) fn identified(&mut self, identity: &Identity) {
        self.caller = identity.caller.place;
    }

    pub(super) fn routed(&mut self, operation: Operation) {
        self.operation = operation;
    }

    pub(super) fn about(&mut self, enterprise: EnterpriseId, number: Option<PhoneNumber>) {
        self.enterprise = Some(enterprise);
        self.number = number;
    }

    pub(super) fn trail(&self) -> Option<&Trail> {
        self.trail.as_ref()
    }

    pub(super) fn request_id(&self) -> &HeaderValue {
        &self.request_id
    }

    /// What goes on with what is sent for it.
    pub(super) fn trace(&self) -> Option<&Trace> {
        self.lineage.as_ref().map(|lineage| &lineage.trace)
    }

    /// Another's request did what this one wanted.
    pub(super) fn joined(&mut self, other: Option<SpanContext>) {
        self.joined.extend(other);
    }

    /// Waits for something upstream, and leaves that wait out of the gateway's own share.
    pub(super) async fn waiting_for<T>(&mut self, event: impl Future<Output = T>) -> T {
        // Also a wait that the caller does not see the end of is one.
        let waiting = Waiting { began: self.gateway.0.clock.elapsed(), visit: self };
        let result = event.await;
        drop(waiting);
        result
    }

    /// Waits until other gateways' calls have ended, all in all for no longer than reads wait.
    pub(super) async fn wait_for_others(&mut self, ending: Ending) -> Result<(), Unmet> {
        let gateway = self.gateway.clone();
        let since = *self.waits_since.get_or_insert_with(|| gateway.0.clock.elapsed());
        self.waiting_for(gateway.wait_for_others(ending, since)).await
    }

    /// It is streamed, and ends with its bodies.
    pub(super) fn streams(&mut self, flow: &Arc<Flow>) {
        self.flow = Some(Arc::clone(flow));
    }

    /// Makes the bytes of an answer whose body is still to come. [`Visit::ended`] is for the body's end.
    pub(super) fn begin_answer(&self, head: &Parts, answer: Answer) -> Response<Body> {
        answer.into_response(&head.headers, &self.request_id, self.gateway.0.clock.elapsed())
    }

    /// Counts and logs a request whose answer has been streamed. What it took besides its head was not the gateway's doing.
    pub(super) fn ended(mut self, decision: Decision, bill: Bill, status: u16) {
        self.waited = self.gateway.0.clock.elapsed().saturating_sub(self.began);
        self.record(decision, bill, Some(Forward::Bypass.as_str()), status);
    }

    /// Makes the answer's bytes, counts and logs. `close`: the connection is out of step and must end.
    pub(super) fn end(mut self, head: &Parts, answer: Answer, close: bool) -> Response<Body> {
        if let Some(cause) = answer.avoided {
            self.gateway.0.metrics.avoided.add(cause.as_str(), self.gateway.0.rules.prices.check);
        }
        let (decision, bill, cache_status) = (answer.decision, answer.bill, answer.cache_word());
        if let (Some(trail), Content::Problem(problem)) = (&self.trail, &answer.content) {
            trail.note(|| Step::Refused {
                status: problem.status.as_u16(),
                code: problem.code.clone(),
                detail: shortened(&problem.detail),
            });
        }
        if let Content::Copy(entry, _) = &answer.content {
            entry.serve(decision);
        }
        let mut response = answer.into_response(&head.headers, &self.request_id, self.gateway.0.clock.elapsed());
        if close {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        self.record(decision, bill, cache_status, response.status().as_u16());
        response
    }

    fn record(&mut self, decision: Decision, bill: Bill, cache_status: Option<&'static str>, status: u16) {
        self.ended = true;
        let view = &*self.gateway.0;
        view.record(&Ended {
            at: view.clock.now(),
            request_id: self.request_id.to_str().unwrap_or_default(),
            caller: self.caller,
            method: &self.method,
            operation: self.operation,
            enterprise: self.enterprise,
            number: self.number,
            status,
            decision,
            bill,
            cache_status,
            lineage: self.lineage.as_ref(),
            links: &self.joined,
            streamed: self.flow.as_ref().map(|flow| flow.bytes()),
            duration: view.clock.elapsed().saturating_sub(self.began),
            upstream: self.waited,
            how: self.trail.as_ref().map_or(How::Forgotten, How::Trail),
        });
    }
}

/// A request that has been answered, as [`Line`] has it.
pub(super) struct Ended<'r> {
    pub(super) at: Timestamp,
    pub(super) request_id: &'r str,
    /// The caller's place.
    pub(super) caller: usize,
    pub(super) method: &'r Method,
    pub(super) operation: Operation,
    pub(super) enterprise: Option<EnterpriseId>,
    pub(super) number: Option<PhoneNumber>,
    pub(super) status: u16,
    pub(super) decision: Decision,
    pub(super) bill: Bill,
    pub(super) cache_status: Option<&'static str>,
    pub(super) lineage: Option<&'r Lineage>,
    pub(super) links: &'r [SpanContext],
    pub(super) streamed: Option<(u64, u64)>,
    pub(super) duration: Duration,
    pub(super) upstream: Duration,
    pub(super) how: How<'r>,
}

/// How it came to what it came to.
#[derive(Clone, Copy)]
pub(super) enum How<'r> {
    /// By a copy at hand, and nothing else.
    Copy(Copy),
    /// Step by step.
    Trail(&'r Trail),
    /// Nobody wants to know.
    Forgotten,
}

impl View {
    /// Counts a request, writes the one line that it leaves in the log, and makes its span.
    pub(super) fn record(&self, ended: &Ended<'_>) {
        let Ended { operation, decision, duration, .. } = *ended;
        let caller = &self.callers[ended.caller];
        self.metrics.requests.record(caller, operation, decision, duration, duration.saturating_sub(ended.upstream));
        self.decisions.record(ended, caller);
        if access::is_wanted() {
            access::write(&Line {
                at: ended.at,
                request_id: ended.request_id,
                trace_id: ended.lineage.map(|lineage| lineage.trace.context.trace),
                caller: caller.name(),
                method: ended.method.as_str(),
                operation,
                enterprise: ended.enterprise,
                enterprise_name: ended.enterprise.and_then(|id| self.rules.enterprise_names.get(&id)).map(String::as_str),
                number: ended.number,
                status: ended.status,
                decision,
                billed: ended.bill.billing,
                cost: ended.bill.cost,
                cache_status: ended.cache_status,
                streamed: ended.streamed,
                duration,
                upstream: ended.upstream,
            });
        }
        self.trace(ended);
    }
}

/// A wait under way.
struct Waiting<'v> {
    began: Duration,
    visit: &'v mut Visit,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.visit.waited += self.visit.gateway.0.clock.elapsed().saturating_sub(self.began);
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        if !self.ended {
            // A purchase of its own may be under way; the ledger will tell.
            let bill = Bill { billing: Billing::Unknown, ..Bill::NOTHING };
            self.record(Decision::Abandoned, bill, None, CLIENT_CLOSED_REQUEST);
        }
    }
}

/// The caller's own id for its request, if it is one that may be logged and sent on.
pub(super) fn their_id(headers: &HeaderMap) -> Option<HeaderValue> {
    headers.get(REQUEST_ID).filter(|id| is_plain(id)).cloned()
}

/// A method as the log, spans and remembered requests tell it. A caller may send any, of any length: what is none of the usual is one word, as
/// the conventions for spans have it, so that what is kept does not grow with it.
fn told(method: &Method) -> Method {
    const USUAL: [Method; 9] = [
        Method::GET,
        Method::HEAD,
        Method::POST,
        Method::PUT,
        Method::PATCH,
        Method::DELETE,
        Method::OPTIONS,
        Method::CONNECT,
        Method::TRACE,
    ];
    if USUAL.contains(method) { method.clone() } else { Method::from_bytes(b"_OTHER").expect("a token") }
}

fn shortened(detail: &str) -> String {
    let end = detail.char_indices().nth(LONGEST_DETAIL).map_or(detail.len(), |(end, _)| end);
    detail[..end].to_owned()
}

fn is_plain(id: &HeaderValue) -> bool {
    (1..=LONGEST_REQUEST_ID).contains(&id.len()) && id.as_bytes().iter().all(u8::is_ascii_graphic)
}
