//! What becomes a span of a trace: a request, each call upstream that it causes, and the ledger's answer when a hold is asked for.
//!
//! Each is made from what is known when it ends, so a purchase that outlives its caller has its spans all the same, below the caller's. A call that
//! somebody else's request made is not repeated in a trace: there is a link to it.

use std::time::Duration;

use http::Method;
use jiff::Timestamp;

use super::trail::{self, Reply, Step};
use super::visit::Ended;
use super::{Gateway, View};
use crate::policy::evidence::Billing;
use crate::spend::NotHeld;
use crate::telemetry::traces::{Attributes, Kind, Span};
use crate::telnyx::Operation;
use crate::upstream::{Context, Lost, Outcome};
use crate::wire::trace::{SpanContext, SpanId};

/// A call upstream under way: counted, and made a span of, when it ends.
pub(super) struct Call {
    /// What goes with it.
    pub(super) context: Context,
    operation: Operation,
    method: Method,
    began: Duration,
    /// When it began, and the span above its own.
    span: Option<(Timestamp, SpanId)>,
    /// Whether it can cost nothing, whatever comes of it.
    is_free: bool,
    reply: Option<Reply>,
}

impl Call {
    /// The same, for what can cost nothing.
    pub(super) fn free(self) -> Self {
        Self { is_free: true, ..self }
    }

    /// Keeps what came of it.
    pub(super) fn got(&mut self, reply: Reply) {
        self.reply = Some(reply);
    }
}

/// The kind of failure, in a span.
fn error(reply: Option<Reply>) -> Option<String> {
    match reply {
        None | Some(Reply::NotSent(_)) => Some("not_sent".to_owned()),
        Some(Reply::Answered(status)) if status >= 400 => Some(status.to_string()),
        Some(Reply::Answered(_)) => None,
        Some(Reply::Lost(Lost::Cut)) => Some("cut".to_owned()),
        Some(Reply::Lost(Lost::TimedOut)) => Some("timeout".to_owned()),
    }
}

impl Gateway {
    /// Begins a call upstream.
    pub(super) fn begin_call(&self, operation: Operation, method: Method, context: &Context) -> Call {
        let mut context = context.clone();
        let above = context.trace.as_ref().map(|trace| trace.context).filter(|above| self.0.traces.record(*above));
        if above.is_some() {
            context.trace = context.trace.map(|trace| trace.child());
        }
        let span = above.map(|above| (self.0.clock.now(), above.span));
        Call { context, operation, method, began: self.0.clock.elapsed(), span, is_free: false, reply: None }
    }

    /// Keeps what came of a call, and notes it on the trail of the request that it was made for.
    pub(super) fn note_sent(&self, call: &mut Call, outcome: &Outcome) {
        let reply = outcome.into();
        call.got(reply);
        let took = || self.0.clock.elapsed().saturating_sub(call.began);
        trail::note(|| Step::Sent { method: call.method.clone(), is_billable: !call.is_free, reply, took: took() });
    }

    /// Counts a call that has ended.
    pub(super) fn end_call(&self, call: Call, result: Billing) {
        let Call { context, operation, method, began, span, reply, .. } = call;
        let (metrics, took) = (&self.0.metrics, self.0.clock.elapsed().saturating_sub(began));
        metrics.upstream_requests.with_label_values(&[operation.as_str(), result.as_str()]).inc();
        metrics.upstream_duration.with_label_values(&[operation.as_str()]).observe(took.as_secs_f64());
        let Some(((began, above), trace)) = span.zip(context.trace.as_ref()) else { return };
        let error = error(reply);
        let mut attributes = Attributes::default()
            .text("http.request.method", method.as_str())
            .text("server.address", self.0.upstream.host())
            .whole("server.port", self.0.upstream.port())
            .text("reputation_gateway.operation", operation.as_str())
            .text("reputation_gateway.result", result.as_str());
        if let Some(Reply::Answered(status)) = reply {
            attributes = attributes.whole("http.response.status_code", status);
        }
        self.0.traces.end(Span {
            trace,
            parent: Some(above),
            kind: Kind::Client,
            name: format!("{method} {}", operation.as_str()),
            began,
            ended: self.0.clock.now(),
            failed: error.is_some(),
            attributes: attributes.maybe("error.type", error),
            links: Vec::new(),
        });
    }

    /// When something below a request's span begins, if it becomes one.
    pub(super) fn begin_span(&self, context: &Context) -> Option<Timestamp> {
        let above = context.trace.as_ref()?.context;
        self.0.traces.record(above).then(|| self.0.clock.now())
    }

    /// The ledger answered an order for this many holds.
    pub(super) fn end_order<T>(&self, began: Option<Timestamp>, context: &Context, holds: usize, answer: &Result<T, NotHeld>) {
        let (Some(began), Some(above)) = (began, &context.trace) else { return };
        let said = match answer {
            Ok(_) => "held",
            Err(NotHeld::Refused(_)) => "refused",
            Err(NotHeld::Later(_)) => "later",
            Err(NotHeld::Limited { .. }) => "limited",
            Err(NotHeld::Busy(_)) => "busy",
        };
        self.0.traces.end(Span {
            trace: &above.child(),
            parent: Some(above.context.span),
            kind: Kind::Internal,
            name: "ledger hold".to_owned(),
            began,
            ended: self.0.clock.now(),
            failed: false,
            attributes: Attributes::default()
                .whole("reputation_gateway.holds", i64::try_from(holds).unwrap_or(i64::MAX))
                .text("reputation_gateway.answer", said),
            links: Vec::new(),
        });
    }
}

/// The span of the request that something is done for, if others can find it.
pub(super) fn of(context: &Context) -> Option<SpanContext> {
    context.trace.as_ref().map(|trace| trace.context).filter(|span| span.is_sampled())
}

impl View {
    /// Makes a request's own span, if its trace is recorded.
    pub(super) fn trace(&self, ended: &Ended<'_>) {
        let Some(lineage) = ended.lineage.filter(|lineage| self.traces.record(lineage.trace.context)) else { return };
        let name = ended.enterprise.and_then(|id| self.rules.enterprise_names.get(&id)).cloned();
        let number = ended.number.map(|number| if self.rules.log_full_numbers { number.to_string() } else { number.masked() });
        let failed = ended.status >= 500;
        let attributes = Attributes::default()
            .text("http.request.method", ended.method.as_str())
            .whole("http.response.status_code", ended.status)
            .maybe("error.type", failed.then(|| ended.status.to_string()))
            .text("reputation_gateway.request_id", ended.request_id)
            .text("reputation_gateway.caller", &**self.callers[ended.caller].name())
            .text("reputation_gateway.operation", ended.operation.as_str())
            .maybe("reputation_gateway.enterprise", name.or_else(|| ended.enterprise.map(|id| id.to_string())))
            .maybe("reputation_gateway.number", number)
            .text("reputation_gateway.decision", ended.decision.as_str())
            .text("reputation_gateway.billed", ended.bill.billing.answer())
            .text("reputation_gateway.cost_usd", ended.bill.cost.to_string())
            .maybe("reputation_gateway.cache_status", ended.cache_status);
        self.traces.end(Span {
            trace: &lineage.trace,
            parent: lineage.parent,
            kind: Kind::Server,
            name: format!("{} {}", ended.method, ended.operation.as_str()),
            began: ended.at.saturating_sub(ended.duration).unwrap_or(ended.at),
            ended: ended.at,
            failed,
            attributes,
            links: ended.links.to_vec(),
        });
    }
}
