//! Requests beside the reputation API that a `[[route]]` lets pass: streamed both ways, neither kept nor metered.
//!
//! Which they are is decided before their bodies are read. The path is built anew from its decoded segments, so it is the one that was checked;
//! the fields are those that pass an intermediary (`wire/fields.rs`), and the key is the gateway's or the caller's own, as elsewhere.

use std::borrow::Cow;
use std::sync::Arc;

use http::header::{CONTENT_LENGTH, EXPECT, HeaderValue, RETRY_AFTER, TRAILER, TRANSFER_ENCODING};
use http::request::Parts;
use http::{Method, Response, StatusCode};
use hyper::body::{Body as _, Incoming};

use super::Gateway;
use super::answer::{Answer, Bill, Content, Refused};
use super::failure::Failure;
use super::refusal;
use super::trail::Reply;
use super::visit::Visit;
use crate::auth::Identity;
use crate::policy::decision::Decision;
use crate::policy::entitlement::Enterprises;
use crate::policy::evidence::Billing;
use crate::policy::money::Usd;
use crate::policy::routes::{self, Closed};
use crate::telnyx::{NoRoute, Operation, route};
use crate::upstream::{self, Context, Credential, Errand, NoStream, Passage, Stream};
use crate::wire::body::{self, Body, full};
use crate::wire::fields::{self, Way};
use crate::wire::stream::{End, Flow, Tap, download, upload};
use crate::wire::target::Target;

/// What Telnyx takes for it, if anything, the gateway does not know.
const UNMETERED: Bill = Bill { billing: Billing::Unknown, cost: Usd::ZERO };

/// A request that a route lets pass.
pub(super) struct Carried {
    path_and_query: String,
    identity: Identity,
}

impl Gateway {
    /// Finds out whether a route lets a request pass. What is wrong with any other is told where all requests are answered.
    pub(super) fn carried(&self, head: &Parts) -> Option<Carried> {
        let rules = &self.0.rules;
        if rules.routes.is_empty() || refusal::check_head(head, rules.max_header_size).is_err() {
            return None;
        }
        let target = Target::parse(&head.uri).ok()?;
        let is_unknown = matches!(route(&head.method, &target.segments), Err(NoRoute::Path));
        let identity = if is_unknown { self.0.auth.identify(&head.headers).ok()? } else { return None };
        self.passes(&head.method, &target.segments, &identity).ok()?;
        let query = head.uri.query().map(|query| format!("?{query}")).unwrap_or_default();
        Some(Carried { path_and_query: routes::encoded(&target.segments) + &query, identity })
    }

    pub(super) fn passes(&self, method: &Method, segments: &[Cow<'_, str>], identity: &Identity) -> Result<(), Closed> {
        let caller = &identity.caller;
        let is_limited = matches!(caller.enterprises, Enterprises::Only(_));
        routes::check(&self.0.rules.routes, method, segments, &caller.name, is_limited)
    }

    /// Why a request leads nowhere.
    pub(super) fn no_route(&self, why: NoRoute, head: &Parts, target: &Target<'_>, identity: &Identity) -> Box<Answer> {
        match why {
            NoRoute::Method(allowed) => refusal::no_method(&allowed),
            NoRoute::Path => {
                let closed = self.passes(&head.method, &target.segments, identity).err().unwrap_or(Closed::Unlisted);
                refusal::no_route(closed, &head.method, &target.segments)
            }
        }
    }

    /// Carries a request to Telnyx and its answer back.
    pub(super) async fn carry(&self, carried: Carried, head: Parts, body: Incoming, mut visit: Visit) -> Response<Body> {
        visit.identified(&carried.identity);
        visit.routed(Operation::Route);
        let flow = Flow::begin(&self.0.clock);
        visit.streams(&flow);
        let is_bodied = !body.is_end_stream();
        let (body, tap) = if is_bodied { upload(body, head.headers.contains_key(TRAILER), &flow) } else { (full(""), Tap::none()) };
        match self.exchange(carried, &head, body, &flow, &mut visit).await {
            Ok(stream) => self.bring(stream, &head, flow, tap, visit),
            Err(refused) => {
                // Who waits for `100 Continue` sends nothing, and is not asked to.
                let left = tap.close().filter(|_| !head.headers.contains_key(EXPECT));
                self.discard(left);
                visit.end(&head, *refused, is_bodied)
            }
        }
    }

    /// Sends the request, and brings the head of its answer.
    async fn exchange(&self, carried: Carried, head: &Parts, body: Body, flow: &Arc<Flow>, visit: &mut Visit) -> Refused<Stream> {
        let context = self.context(&carried.identity, None, visit)?;
        let target = self.0.upstream.target(&carried.path_and_query).ok_or_else(refusal::target_too_long)?;
        let passage = Passage {
            method: head.method.clone(),
            target,
            fields: fields::end_to_end(&head.headers, Way::Up),
            takes_trailers: fields::takes_trailers(&head.headers),
            body,
        };
        let mut call = self.begin_call(Operation::Route, head.method.clone(), &context);
        let answered = visit.waiting_for(self.stream(passage, &call.context, flow)).await;
        let (reply, result) = match &answered {
            Ok(stream) => (Reply::Answered(stream.response.status().as_u16()), Billing::Unknown),
            Err(NoStream::NotSent(why)) => (Reply::NotSent(*why), Billing::NotSent),
            Err(NoStream::Lost(why)) => (Reply::Lost(*why), Billing::Unknown),
        };
        call.got(reply);
        self.end_call(call, result);
        let stream = answered.map_err(|lost| match lost {
            NoStream::NotSent(why) => refusal::failed(&Failure::NotSent(why)),
            NoStream::Lost(why) => refusal::write_failed(&Failure::Lost(why)),
        })?;
        let is_own = matches!(context.credential, Credential::Own(_));
        match stream.response.status() {
            StatusCode::UNAUTHORIZED if is_own => Err(refusal::failed(&Failure::RejectedCredentials)),
            StatusCode::SWITCHING_PROTOCOLS => Err(refusal::failed(&Failure::Invalid)),
            _ => Ok(stream),
        }
    }

    async fn stream(&self, passage: Passage, context: &Context, flow: &Flow) -> Result<Stream, NoStream> {
        // A body takes as long as its client likes, and nobody else is let through before a trial has ended.
        let is_bare_read = matches!(passage.method, Method::GET | Method::HEAD) && passage.body.is_end_stream();
        let errand = if is_bare_read { Errand::Free } else { Errand::Billable };
        let place = self.0.upstream.stream_place(errand).await.map_err(NoStream::NotSent)?;
        flow.moved();
        self.0.upstream.stream(place, passage, context, flow.stalls(self.0.rules.stall_timeout)).await
    }

    /// Begins the answer. Its body is passed on in a task of its own, which ends with its client.
    fn bring(&self, stream: Stream, head: &Parts, flow: Arc<Flow>, tap: Tap, visit: Visit) -> Response<Body> {
        flow.moved();
        let Stream { response, permit } = stream;
        let (parts, incoming) = response.into_parts();
        let mut headers = fields::end_to_end(&parts.headers, Way::Down);
        // RFC 9112, 6.3: a length beside chunks says nothing, and is not passed on.
        let is_chunked = headers.contains_key(TRAILER) || parts.headers.contains_key(TRANSFER_ENCODING);
        if let Some(length) = parts.headers.get(CONTENT_LENGTH).filter(|_| !is_chunked) {
            headers.insert(CONTENT_LENGTH, length.clone());
        }
        let reset = upstream::reset(&parts.headers).filter(|_| parts.status == StatusCode::TOO_MANY_REQUESTS);
        if let Some(reset) = reset {
            headers.entry(RETRY_AFTER).or_insert(HeaderValue::from(reset.as_secs()));
        }
        let (body, spout) = download();
        let mut response = Response::new(if incoming.is_end_stream() { full("") } else { body });
        *response.status_mut() = parts.status;
        *response.headers_mut() = headers;
        let content = Content::Streamed(Box::new(response));
        let answer = Answer { decision: Decision::Passed, bill: UNMETERED, avoided: None, content };
        let response = visit.begin_answer(head, answer);
        let (gateway, status) = (self.clone(), parts.status.as_u16());
        self.0.tasks.spawn(async move {
            let end = if incoming.is_end_stream() { End::Whole } else { spout.pour(incoming, &flow, gateway.0.rules.stall_timeout).await };
            let left = tap.close();
            drop(permit);
            match end {
                End::Whole => {
                    visit.ended(Decision::Passed, UNMETERED, status);
                    gateway.discard(left);
                }
                End::Cut | End::Stalled => visit.ended(Decision::UpstreamError, UNMETERED, status),
                // It is counted as abandoned.
                End::Left => drop(visit),
            }
        });
        response
    }

    /// Reads what is left of a body that nobody wants any more, as much as any body may be: so a client that is still sending gets to
    /// read its answer, and its next request begins where it should. Then the connection ends.
    fn discard(&self, left: Option<Incoming>) {
        let Some(left) = left else { return };
        let (most, time) = (self.0.rules.max_body_size, self.0.rules.body_timeout);
        self.0.tasks.spawn(async move {
            let _too_long = body::drain(left, most, time).await;
        });
    }
}
