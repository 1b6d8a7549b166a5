//! One request from its head to its answer: what is counted and logged of it.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use http::header::{CONNECTION, HeaderValue};
use http::request::Parts;
use http::{Method, Response};
use uuid::Uuid;

use super::Gateway;
use super::answer::{Answer, Bill};
use crate::auth::{ANONYMOUS, Identity};
use crate::policy::decision::Decision;
use crate::telnyx::{EnterpriseId, Operation, PhoneNumber};
use crate::upstream::{REQUEST_ID, TRACEPARENT};
use crate::wire::body::Body;

/// A longer or stranger id of the caller's is replaced by one of ours.
const LONGEST_REQUEST_ID: usize = 128;

/// What is known of a request while it is being answered.
#[derive(Debug)]
pub(super) struct Visit {
    began: Duration,
    waited: Duration,
    request_id: HeaderValue,
    traceparent: Option<HeaderValue>,
    caller: Arc<str>,
    operation: Operation,
    enterprise: Option<EnterpriseId>,
    number: Option<PhoneNumber>,
}

impl Visit {
    pub(super) fn begin(gateway: &Gateway, head: &Parts) -> Self {
        let theirs = head.headers.get(REQUEST_ID).filter(|id| is_plain(id)).cloned();
        let ours = || HeaderValue::from_str(&Uuid::now_v7().simple().to_string()).expect("hexadecimal digits");
        Self {
            began: gateway.0.clock.elapsed(),
            waited: Duration::ZERO,
            request_id: theirs.unwrap_or_else(ours),
            traceparent: head.headers.get(TRACEPARENT).filter(|context| is_trace_context(context)).cloned(),
            caller: Arc::from(ANONYMOUS),
            operation: Operation::Unknown,
            enterprise: None,
            number: None,
        }
    }

    pub(super) fn identified(&mut self, identity: &Identity) {
        self.caller = Arc::clone(&identity.caller.name);
    }

    pub(super) fn routed(&mut self, operation: Operation) {
        self.operation = operation;
    }

    pub(super) fn about(&mut self, enterprise: EnterpriseId, number: Option<PhoneNumber>) {
        self.enterprise = Some(enterprise);
        self.number = number;
    }

    pub(super) fn request_id(&self) -> &HeaderValue {
        &self.request_id
    }

    pub(super) fn traceparent(&self) -> Option<&HeaderValue> {
        self.traceparent.as_ref()
    }

    /// Waits for something upstream, and leaves that wait out of the gateway's own share.
    pub(super) async fn waiting_for<T>(&mut self, gateway: &Gateway, event: impl Future<Output = T>) -> T {
        let began = gateway.0.clock.elapsed();
        let result = event.await;
        self.waited += gateway.0.clock.elapsed().saturating_sub(began);
        result
    }

    /// Counts, logs, and makes the answer's bytes. `close`: the connection is out of step and must end.
    pub(super) fn end(self, gateway: &Gateway, head: &Parts, answer: Answer, close: bool) -> Response<Body> {
        let now = gateway.0.clock.elapsed();
        let duration = now.saturating_sub(self.began);
        let metrics = &gateway.0.metrics;
        let operation = self.operation.as_str();
        metrics.requests.with_label_values(&[operation, answer.decision.as_str(), &self.caller]).inc();
        metrics.request_duration.with_label_values(&[operation]).observe(duration.as_secs_f64());
        metrics.overhead.with_label_values(&[operation]).observe(duration.saturating_sub(self.waited).as_secs_f64());
        if let Some(cause) = answer.avoided {
            metrics.avoided.add(cause.as_str(), gateway.0.rules.prices.check);
        }
        let (decision, bill) = (answer.decision, answer.bill);
        let mut response = answer.into_response(&head.headers, &self.request_id, now);
        if close {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        self.log(gateway, &head.method, response.status().as_u16(), decision, bill, duration);
        response
    }

    /// The one line that each request leaves.
    #[allow(clippy::too_many_arguments, reason = "the fields of one line, each named where it is written")]
    fn log(&self, gateway: &Gateway, method: &Method, status: u16, decision: Decision, bill: Bill, duration: Duration) {
        let rules = &gateway.0.rules;
        let shown = |number: PhoneNumber| if rules.log_full_numbers { number.to_string() } else { number.masked() };
        let named = |id: EnterpriseId| rules.enterprise_names.get(&id).cloned().unwrap_or_else(|| id.to_string());
        tracing::info!(
            target: "access",
            request_id = self.request_id.to_str().unwrap_or_default(),
            caller = &*self.caller,
            %method,
            operation = self.operation.as_str(),
            enterprise = self.enterprise.map(named),
            number = self.number.map(shown),
            status,
            decision = decision.as_str(),
            billed = bill.billing.answer(),
            cost_usd = %bill.cost,
            duration_us = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX),
            upstream_us = u64::try_from(self.waited.as_micros()).unwrap_or(u64::MAX),
            "request"
        );
    }
}

fn is_plain(id: &HeaderValue) -> bool {
    (1..=LONGEST_REQUEST_ID).contains(&id.len()) && id.as_bytes().iter().all(u8::is_ascii_graphic)
}

/// The shape of W3C's trace context, version 00. Anything else would be a client's own bytes in a request of ours.
fn is_trace_context(context: &HeaderValue) -> bool {
    let mut parts = context.as_bytes().split(|byte| *byte == b'-');
    let shaped = [2, 32, 16, 2]
        .iter()
        .all(|length| parts.next().is_some_and(|part| part.len() == *length && part.iter().copied().all(is_lower_hex)));
    shaped && parts.next().is_none()
}

fn is_lower_hex(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'f')
}
