//! A plain read whose answer is at hand, from its target's bytes to its answer's: the way that nearly all requests take.
//!
//! Nothing is decided here. What a head says, what a path means, whom a copy may be shown to and when it may be served is asked of the same
//! functions as on the long way, which [`Gateway::handle`](super::Gateway) shows; whatever they do not plainly allow goes that way.

use std::time::Duration;

use http::Method;
use http::header::{IF_MODIFIED_SINCE, IF_NONE_MATCH};
use http::request::Parts;

use super::Gateway;
use super::answer::Bill;
use super::refusal;
use super::stamp;
use super::visit::{self, Ended, How};
use crate::auth::Identity;
use crate::cache::{Entry, Key};
use crate::policy::decide::is_hit;
use crate::policy::decision::Decision;
use crate::telnyx::{Operation, PhoneNumber, route};
use crate::wire::authority;
use crate::wire::directives::Directives;
use crate::wire::target;
use crate::wire::trace::Trace;

/// What a read says that wants nothing in particular: no more than who asks.
#[derive(Debug)]
pub struct PlainRead {
    identity: Identity,
    /// The caller's own id for its request.
    request_id: Option<Box<str>>,
    /// The trace that it belongs to.
    trace: Option<Trace>,
    /// Bytes of its fields, as [`refusal::check_head`] counts them.
    size: usize,
}

impl Gateway {
    /// What a head comes to, if it asks for nothing but a read.
    pub(super) fn plain_read(&self, head: &Parts) -> Option<PlainRead> {
        let conditional = [IF_NONE_MATCH, IF_MODIFIED_SINCE].iter().any(|name| head.headers.contains_key(name));
        if conditional || authority::check(head).is_err() || Directives::parse(&head.headers) != Directives::default() {
            return None;
        }
        let identity = self.0.auth.identify(&head.headers).ok()?;
        let request_id = visit::their_id(&head.headers).and_then(|id| id.to_str().ok().map(Box::from));
        Some(PlainRead { identity, request_id, trace: Trace::of(&head.headers), size: refusal::fields_size(&head.headers) })
    }

    /// Adds the answer to a plain read to `answers`, if its number's copy is a hit.
    pub(super) fn hit(&self, path: &str, read: &PlainRead, answers: &mut Vec<u8>) -> Option<()> {
        let view = &*self.0;
        let began = view.clock.elapsed();
        if read.size + path.len() > view.rules.max_header_size {
            return None;
        }
        let segments = target::segments(path).ok()?;
        let route = route(&Method::GET, &segments).ok().filter(|route| route.operation == Operation::Retrieve)?;
        let number = PhoneNumber::from_segment(route.number?).ok()?;
        let enterprise = self.enterprise_at_hand(route.enterprise, &read.identity).ok()??;
        let copy = view.cache.get(&Key { partition: read.identity.partition, enterprise, number })?;
        let facts = copy.facts(began);
        if !is_hit(&facts, view.rules.policy(enterprise)) {
            return None;
        }
        copy.serve(Decision::Hit);
        let at = view.clock.now();
        let ours = if read.request_id.is_none() { stamp::request_id(at) } else { stamp::RequestId::default() };
        let request_id = read.request_id.as_deref().unwrap_or_else(|| std::str::from_utf8(&ours).expect("hexadecimal digits"));
        write(answers, &copy, began, request_id, &stamp::date(at));
        view.record(&Ended {
            at,
            request_id,
            caller: read.identity.caller.place,
            method: &Method::GET,
            operation: route.operation,
            enterprise: Some(enterprise),
            number: Some(number),
            status: copy.status().as_u16(),
            decision: Decision::Hit,
            bill: Bill::NOTHING,
            cache_status: Some("hit"),
            lineage: view.traces.enter(read.trace.as_ref()).as_ref(),
            links: &[],
            streamed: None,
            duration: view.clock.elapsed().saturating_sub(began),
            upstream: Duration::ZERO,
            how: How::Copy(facts),
        });
        Some(())
    }
}

/// The answer's bytes; the fields are those that [`Answer::into_response`](super::answer::Answer::into_response) gives such an answer.
fn write(answers: &mut Vec<u8>, copy: &Entry, now: Duration, request_id: &str, date: &stamp::Date) {
    let mut number = itoa::Buffer::new();
    answers.extend_from_slice(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n");
    answers.extend_from_slice(copy.lines());
    answers.extend_from_slice(b"age: ");
    answers.extend_from_slice(number.format(copy.age(now).as_secs()).as_bytes());
    answers.extend_from_slice(b"\r\ncache-control: private, max-age=");
    answers.extend_from_slice(number.format(copy.lifetime().as_secs()).as_bytes());
    answers.extend_from_slice(b"\r\ncache-status: reputation-gateway; hit; ttl=");
    answers.extend_from_slice(number.format(copy.ttl_seconds(now)).as_bytes());
    answers.extend_from_slice(b"; detail=hit\r\nx-request-id: ");
    answers.extend_from_slice(request_id.as_bytes());
    answers.extend_from_slice(
        b"\r\nx-gateway-decision: hit\r\nx-gateway-billed: no\r\nx-gateway-cost-usd: 0.00\r\nvia: 1.1 reputation-gateway\r\ndate: ",
    );
    answers.extend_from_slice(date);
    answers.extend_from_slice(b"\r\n\r\n");
    answers.extend_from_slice(copy.body());
}
