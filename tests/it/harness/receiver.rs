//! A receiver of OTLP over HTTP, which keeps what it was sent.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::{Span, status};
use prost::Message;
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::listen;

/// A running receiver.
#[derive(Clone)]
pub(crate) struct Receiver {
    pub(crate) address: SocketAddr,
    facts: Arc<Facts>,
}

#[derive(Default)]
struct Facts {
    exports: watch::Sender<Vec<Export>>,
    replies: Mutex<VecDeque<Reply>>,
}

/// What one export is answered with, instead of being taken.
#[derive(Clone, Copy)]
pub(crate) enum Reply {
    /// With this status.
    Status(u16),
    /// So many of its spans are rejected.
    Rejects(i64),
    /// Never.
    Never,
}

/// What was sent at once.
#[derive(Clone)]
pub(crate) struct Export {
    pub(crate) line: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Export {
    fn request(&self) -> ExportTraceServiceRequest {
        ExportTraceServiceRequest::decode(self.body.clone()).expect("OTLP")
    }

    /// What is told of the process.
    pub(crate) fn resource(&self, key: &str) -> Option<String> {
        let request = self.request();
        attribute(&request.resource_spans[0].resource.as_ref().expect("a resource").attributes, key)
    }
}

impl Receiver {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let receiver = Self { address: listener.local_addr().expect("an address"), facts: Arc::default() };
        let serving = receiver.clone();
        listen::answer(listener, move |request| serving.clone().answer(request));
        receiver
    }

    /// Its base URL.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What the next exports are answered with.
    pub(crate) fn replies(&self, replies: impl IntoIterator<Item = Reply>) {
        self.facts.replies.lock().expect("nothing panics while it is held").extend(replies);
    }

    /// All that it was sent, whatever it said to it.
    pub(crate) fn exports(&self) -> Vec<Export> {
        self.facts.exports.borrow().clone()
    }

    /// Waits for so many exports.
    pub(crate) async fn sent(&self, exports: usize) {
        let mut sent = self.facts.exports.subscribe();
        let sent = tokio::time::timeout(super::PATIENCE, sent.wait_for(|sent| sent.len() >= exports)).await;
        assert!(sent.is_ok(), "{} exports instead of {exports}", self.exports().len());
    }

    /// All spans that it was sent.
    pub(crate) fn spans(&self) -> Vec<Span> {
        let requests = self.exports().into_iter().flat_map(|export| export.request().resource_spans);
        requests.flat_map(|resource| resource.scope_spans).flat_map(|scope| scope.spans).collect()
    }

    async fn answer(self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
        let (head, body) = request.into_parts();
        let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
        let export = Export { line: format!("{} {}", head.method, head.uri), headers: head.headers, body };
        let reply = self.facts.replies.lock().expect("nothing panics while it is held").pop_front();
        self.facts.exports.send_modify(|exports| exports.push(export));
        let (status, rejected_spans) = match reply {
            None => (200, 0),
            Some(Reply::Status(status)) => (status, 0),
            Some(Reply::Rejects(rejected)) => (200, rejected),
            Some(Reply::Never) => std::future::pending().await,
        };
        let partial_success = (rejected_spans > 0).then(|| ExportTracePartialSuccess { rejected_spans, ..Default::default() });
        let body = ExportTraceServiceResponse { partial_success }.encode_to_vec();
        Ok(Response::builder().status(status).body(Full::from(body)).expect("a response"))
    }
}

/// What tests ask of a span.
pub(crate) trait Told {
    /// An attribute, as text.
    fn told(&self, key: &str) -> Option<String>;
    /// Kind and name, and whether it failed.
    fn title(&self) -> String;
    /// As `traceparent` has it.
    fn parent(&self) -> String;
    /// The same of itself.
    fn context(&self) -> String;
}

impl Told for Span {
    fn told(&self, key: &str) -> Option<String> {
        attribute(&self.attributes, key)
    }

    fn title(&self) -> String {
        let kind = SpanKind::try_from(self.kind).expect("a kind").as_str_name();
        let failed = self.status.as_ref().is_some_and(|status| status.code == status::StatusCode::Error as i32);
        format!("{} {}{}", kind.trim_start_matches("SPAN_KIND_"), self.name, if failed { " failed" } else { "" })
    }

    fn parent(&self) -> String {
        format!("00-{}-{}-{:02x}", hex(&self.trace_id), hex(&self.parent_span_id), self.flags & 0xff)
    }

    fn context(&self) -> String {
        format!("00-{}-{}-{:02x}", hex(&self.trace_id), hex(&self.span_id), self.flags & 0xff)
    }
}

fn attribute(attributes: &[KeyValue], key: &str) -> Option<String> {
    let attribute = attributes.iter().find(|attribute| attribute.key == key)?;
    match attribute.value.as_ref()?.value.as_ref()? {
        Value::StringValue(text) => Some(text.clone()),
        Value::IntValue(number) => Some(number.to_string()),
        other => panic!("{key} is {other:?}"),
    }
}

/// Lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.filter_map(|digit| char::from_digit(digit.into(), 16)).collect()
}
