//! Spans: each is made when what it tells of has ended, and waits in a queue for being exported (`otlp.rs`). Nobody waits for that.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};

use http::header::{HeaderMap, HeaderName, HeaderValue};
use jiff::Timestamp;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1 as otlp;
use opentelemetry_proto::tonic::trace::v1::span::{Link, SpanKind};
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use prometheus::IntCounterVec;
use strum::{IntoStaticStr, VariantArray};
use tokio::sync::mpsc::{Receiver, Sender, channel};

use super::Config;
use super::otlp::Exporter;
use crate::secret::NoSecret;
use crate::wire::trace::{SpanContext, SpanId, Trace};

/// Spans that wait; further ones are dropped.
const QUEUE: usize = 8192;

/// OTLP's bits beside those of the trace context: whether the parent is another process's is known, and whether it is.
const PARENT_IS_KNOWN: u32 = 0x100;
const PARENT_IS_REMOTE: u32 = 0x200;

/// What becomes of a span.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum SpanEnd {
    /// The receiver took it.
    Exported,
    /// The queue was full.
    Dropped,
    /// The receiver could not be reached, or refused all of them, until it was given up.
    Failed,
    /// The receiver took others and not this one.
    Rejected,
}

impl SpanEnd {
    /// All of them.
    pub const ALL: &[Self] = Self::VARIANTS;

    /// The word in the metric.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// Why no spans can be exported.
#[derive(Debug, thiserror::Error)]
pub enum NoTraces {
    /// A field's value is not where the configuration says.
    #[error("telemetry.otlp_headers: {0}")]
    Secret(#[from] NoSecret),
    /// A field cannot be sent.
    #[error("telemetry.otlp_headers: {0:?} is no name of a field, or its value has characters that an HTTP header cannot carry")]
    Field(String),
    /// The address is too long.
    #[error("telemetry.otlp_endpoint: longer than a URL can be")]
    Endpoint,
    /// The machine's certificates cannot be read.
    #[error("the machine's CA certificates cannot be read: {0}")]
    Certificates(std::io::Error),
}

/// Takes spans; clones are the same one.
#[derive(Clone, Debug)]
pub struct Traces(Option<Arc<On>>);

#[derive(Debug)]
struct On {
    /// Which part of the traces that begin here is recorded.
    part: f64,
    queue: Sender<otlp::Span>,
    /// Until somebody exports them.
    waiting: Mutex<Option<Receiver<otlp::Span>>>,
    exporter: Exporter,
    ends: IntCounterVec,
}

/// Where a request stands in its trace.
#[derive(Clone, Debug)]
pub struct Lineage {
    /// What goes on: the request's own span, or its caller's where it has none.
    pub trace: Trace,
    /// The caller's span, above the request's own.
    pub parent: Option<SpanId>,
}

impl Traces {
    /// Spans are counted as they end. Without an endpoint, none is made.
    pub fn new(config: &Config, ends: &IntCounterVec) -> Result<Self, NoTraces> {
        let Some(endpoint) = &config.otlp_endpoint else { return Ok(Self(None)) };
        let target = endpoint.join("/v1/traces").ok_or(NoTraces::Endpoint)?;
        let exporter = Exporter::new(target, fields(config)?, ends.clone()).map_err(NoTraces::Certificates)?;
        let (queue, waiting) = channel(QUEUE);
        Ok(Self(Some(Arc::new(On { part: config.otlp_sample.0, queue, waiting: Mutex::new(Some(waiting)), exporter, ends: ends.clone() }))))
    }

    /// Where a request stands that came with this. The caller decided already whether its trace is recorded; what begins here is by chance. None, if
    /// there is no trace.
    #[inline]
    pub fn enter(&self, came: Option<&Trace>) -> Option<Lineage> {
        match (&self.0, came) {
            (None, None) => None,
            (Some(_), Some(came)) if came.context.is_sampled() => Some(Lineage { trace: came.child(), parent: Some(came.context.span) }),
            (_, Some(came)) => Some(Lineage { trace: came.clone(), parent: None }),
            (Some(on), None) => {
                let trace = Trace::begin();
                trace.context.trace.is_among(on.part).then_some(Lineage { trace, parent: None })
            }
        }
    }

    /// Whether spans of this trace are recorded. Without, none has to be put together.
    #[inline]
    pub fn record(&self, context: SpanContext) -> bool {
        self.0.is_some() && context.is_sampled()
    }

    /// Hands a span on. It is dropped if too many wait already.
    pub fn end(&self, span: Span<'_>) {
        let Some(on) = &self.0 else { return };
        if on.queue.try_send(span.into_otlp()).is_err() {
            on.ends.with_label_values(&[SpanEnd::Dropped.as_str()]).inc();
        }
    }

    /// Exports spans until `stop`, and then, for a bounded time, those that wait.
    pub async fn export(&self, stop: impl Future<Output = ()>) {
        let Some(on) = &self.0 else { return };
        let waiting = on.waiting.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(spans) = waiting {
            on.exporter.run(spans, stop).await;
        }
    }
}

/// The fields that go with each export.
fn fields(config: &Config) -> Result<HeaderMap, NoTraces> {
    let field = |(name, secret): (&String, &crate::secret::Secret)| {
        let wrong = || NoTraces::Field(name.clone());
        let mut value = HeaderValue::from_str(secret.read()?.expose()).map_err(|_| wrong())?;
        value.set_sensitive(true);
        Ok((HeaderName::from_bytes(name.as_bytes()).map_err(|_| wrong())?, value))
    };
    config.otlp_headers.iter().map(field).collect()
}

/// Which side of a call a span is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A request that was answered.
    Server,
    /// A request that was sent.
    Client,
    /// Neither.
    Internal,
}

/// What has ended.
#[derive(Debug)]
pub struct Span<'s> {
    /// Itself.
    pub trace: &'s Trace,
    /// The span above it.
    pub parent: Option<SpanId>,
    /// Which side of a call it is of.
    pub kind: Kind,
    /// One of few.
    pub name: String,
    /// When it began.
    pub began: Timestamp,
    /// When it ended.
    pub ended: Timestamp,
    /// What is told of it.
    pub attributes: Attributes,
    /// Spans of other traces that it has to do with.
    pub links: Vec<SpanContext>,
    /// Whether it failed.
    pub failed: bool,
}

/// What is told of a span.
#[derive(Debug, Default)]
pub struct Attributes(Vec<KeyValue>);

impl Attributes {
    /// Adds a text.
    #[must_use]
    pub fn text(self, key: &str, value: impl Into<String>) -> Self {
        self.with(key, Value::StringValue(value.into()))
    }

    /// Adds a text, if there is one.
    #[must_use]
    pub fn maybe(self, key: &str, value: Option<impl Into<String>>) -> Self {
        match value {
            Some(value) => self.text(key, value),
            None => self,
        }
    }

    /// Adds a whole number.
    #[must_use]
    pub fn whole(self, key: &str, value: impl Into<i64>) -> Self {
        self.with(key, Value::IntValue(value.into()))
    }

    pub(super) fn into_inner(self) -> Vec<KeyValue> {
        self.0
    }

    fn with(mut self, key: &str, value: Value) -> Self {
        self.0.push(KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() });
        self
    }
}

impl Span<'_> {
    fn into_otlp(self) -> otlp::Span {
        let Trace { context, state } = self.trace;
        let is_remote = self.kind == Kind::Server && self.parent.is_some();
        let kind = match self.kind {
            Kind::Server => SpanKind::Server,
            Kind::Client => SpanKind::Client,
            Kind::Internal => SpanKind::Internal,
        };
        let link = |to: SpanContext| Link {
            trace_id: to.trace.to_bytes().into(),
            span_id: to.span.to_bytes().into(),
            flags: to.flags(),
            ..Link::default()
        };
        otlp::Span {
            trace_id: context.trace.to_bytes().into(),
            span_id: context.span.to_bytes().into(),
            trace_state: state.as_ref().and_then(|state| state.to_str().ok()).unwrap_or_default().to_owned(),
            parent_span_id: self.parent.map(|parent| parent.to_bytes().into()).unwrap_or_default(),
            flags: context.flags() | PARENT_IS_KNOWN | if is_remote { PARENT_IS_REMOTE } else { 0 },
            name: self.name,
            kind: kind.into(),
            start_time_unix_nano: nanoseconds(self.began),
            end_time_unix_nano: nanoseconds(self.ended),
            attributes: self.attributes.into_inner(),
            links: self.links.into_iter().map(link).collect(),
            status: self.failed.then(|| otlp::Status { code: StatusCode::Error.into(), ..otlp::Status::default() }),
            ..otlp::Span::default()
        }
    }
}

/// Since the Epoch.
fn nanoseconds(at: Timestamp) -> u64 {
    u64::try_from(at.as_nanosecond()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use prometheus::Opts;

    use super::*;
    use crate::units::Fraction;

    fn ends() -> IntCounterVec {
        IntCounterVec::new(Opts::new("spans", "Spans."), &["result"]).expect("a name")
    }

    /// To where nobody listens.
    fn traces(part: f64, ends: &IntCounterVec) -> Traces {
        let otlp_endpoint = Some("http://127.0.0.1:9".parse().expect("a URL"));
        Traces::new(&Config { otlp_endpoint, otlp_sample: Fraction(part), ..Config::default() }, ends).expect("the machine's certificates")
    }

    fn end(traces: &Traces, trace: &Trace) {
        let at = Timestamp::UNIX_EPOCH;
        traces.end(Span {
            trace,
            parent: None,
            kind: Kind::Internal,
            name: "work".to_owned(),
            began: at,
            ended: at,
            attributes: Attributes::default(),
            links: Vec::new(),
            failed: false,
        });
    }

    #[tokio::test]
    async fn spans_beyond_the_queue_are_dropped_and_nobody_waits_for_the_last_ones() {
        let ends = ends();
        let traces = traces(1.0, &ends);
        let lineage = traces.enter(None).expect("a trace begins");
        (0..QUEUE + 3).for_each(|_| end(&traces, &lineage.trace));
        let count = |end: SpanEnd| ends.with_label_values(&[end.as_str()]).get();
        assert_eq!((count(SpanEnd::Dropped), count(SpanEnd::Failed)), (3, 0));
        traces.export(std::future::ready(())).await;
        assert_eq!((count(SpanEnd::Dropped), count(SpanEnd::Failed), count(SpanEnd::Exported)), (3, QUEUE as u64, 0));
        end(&traces, &lineage.trace);
        assert_eq!(count(SpanEnd::Dropped), 4, "nobody exports any more");
    }

    #[test]
    fn without_an_endpoint_no_trace_begins_and_a_callers_goes_on_as_it_is() {
        let off = Traces::new(&Config::default(), &ends()).expect("nothing is needed");
        assert!(off.enter(None).is_none());
        let came = Trace::begin();
        let lineage = off.enter(Some(&came)).expect("a trace");
        assert_eq!((&lineage.trace, lineage.parent, off.record(came.context)), (&came, None, false));
    }

    #[test]
    fn a_part_of_traces_begins_here_and_callers_decide_about_theirs() {
        let (ends, came) = (ends(), Trace::begin());
        let none = traces(0.0, &ends);
        assert!(none.enter(None).is_none());
        let lineage = none.enter(Some(&came)).expect("a trace");
        assert_eq!((lineage.parent, lineage.trace.context.trace), (Some(came.context.span), came.context.trace));
        assert!(none.record(lineage.trace.context) && lineage.trace.context.span != came.context.span);
    }
}
