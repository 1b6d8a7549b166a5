//! Exports spans over OTLP/HTTP, in binary protobuf, with the gateway's own HTTP client.
//!
//! The SDK's exporter is not used: it takes settings from environment variables of its own, and tells nobody how many spans it lost.

use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER, USER_AGENT};
use http::{Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::common::v1::InstrumentationScope;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prometheus::IntCounterVec;
use prost::Message;
use tokio::sync::mpsc::Receiver;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::traces::{Attributes, SpanEnd};

const NAME: &str = env!("CARGO_PKG_NAME");
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Spans that are exported at once.
const BATCH: usize = 512;

/// How long the first of them waits for others.
const GATHERING: Duration = Duration::from_secs(1);

/// How long making a connection may take, and an export.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
const TIMEOUT: Duration = Duration::from_secs(10);

/// How often an export is tried, and how long the second one waits; each further wait is twice as long.
const TRIES: u32 = 5;
const FIRST_WAIT: Duration = Duration::from_secs(1);

/// No receiver is waited for longer, whatever it asks for.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// How long the end of the process waits for what is still to be exported.
const LAST_WAIT: Duration = Duration::from_secs(3);

/// A receiver's answer may be this long.
const MAX_ANSWER: usize = 64 * 1024;

/// Sends spans to one receiver.
#[derive(Debug)]
pub(super) struct Exporter {
    http: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    target: Uri,
    fields: HeaderMap,
    resource: Resource,
    ends: IntCounterVec,
    /// Whether the last export failed, so that it is logged once.
    is_away: AtomicBool,
}

/// Why an export failed.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error("the receiver cannot be reached")]
    Unreachable,
    #[error("the receiver did not answer in time")]
    TimedOut,
    #[error("the receiver answered {0}")]
    Refused(StatusCode, Option<Duration>),
}

impl Failed {
    /// How long the receiver wants to be left alone before the same is sent again; none, if that is not worth it. OTLP's specification lists the statuses.
    fn pause(&self) -> Option<Duration> {
        match self {
            Self::Unreachable | Self::TimedOut => Some(Duration::ZERO),
            Self::Refused(status, after) => matches!(status.as_u16(), 429 | 502..=504).then(|| after.unwrap_or_default()),
        }
    }
}

/// Spans that are being exported, counted as failed unless somebody knows better.
struct Batch<'e> {
    count: u64,
    ends: &'e IntCounterVec,
}

impl Batch<'_> {
    fn ended(&mut self, end: SpanEnd, count: u64) {
        let count = count.min(self.count);
        self.count -= count;
        self.ends.with_label_values(&[end.as_str()]).inc_by(count);
    }
}

impl Drop for Batch<'_> {
    fn drop(&mut self) {
        self.ended(SpanEnd::Failed, self.count);
    }
}

impl Exporter {
    /// One that has not connected yet. Fails if the machine's certificates cannot be read.
    pub(super) fn new(target: Uri, mut fields: HeaderMap, ends: IntCounterVec) -> std::io::Result<Self> {
        fields.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
        fields.insert(USER_AGENT, HeaderValue::from_static(concat!(env!("CARGO_PKG_NAME"), "/", env!("CARGO_PKG_VERSION"))));
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
        let tls = hyper_rustls::HttpsConnectorBuilder::new().with_provider_and_native_roots(rustls::crypto::ring::default_provider())?;
        let http = Client::builder(TokioExecutor::new()).build(tls.https_or_http().enable_http1().wrap_connector(tcp));
        let of_process =
            Attributes::default().text("service.name", NAME).text("service.version", VERSION).text("service.instance.id", Uuid::new_v4());
        let resource = Resource { attributes: of_process.into_inner(), ..Resource::default() };
        Ok(Self { http, target, fields, resource, ends, is_away: AtomicBool::new(false) })
    }

    /// Exports until `stop`, and then what waits, but not for long.
    pub(super) async fn run(&self, mut spans: Receiver<Span>, stop: impl Future<Output = ()>) {
        let stopping = CancellationToken::new();
        let stopped = {
            let mut exporting = std::pin::pin!(self.export_all(&mut spans, &stopping));
            tokio::select! {
                () = &mut exporting => Ok(()),
                () = stop => {
                    stopping.cancel();
                    timeout(LAST_WAIT, exporting).await
                }
            }
        };
        if stopped.is_err() {
            tracing::warn!("the last spans could not be exported in time");
        }
        spans.close();
        let mut left = Batch { count: 0, ends: &self.ends };
        while spans.try_recv().is_ok() {
            left.count += 1;
        }
    }

    async fn export_all(&self, spans: &mut Receiver<Span>, stopping: &CancellationToken) {
        loop {
            let mut batch = Vec::new();
            tokio::select! {
                biased;
                _ = spans.recv_many(&mut batch, BATCH) => {}
                () = stopping.cancelled() => return,
            }
            let gathering = async {
                while let room @ 1.. = BATCH - batch.len()
                    && spans.recv_many(&mut batch, room).await > 0
                {}
            };
            tokio::select! {
                () = gathering => {}
                () = sleep(GATHERING) => {}
                () = stopping.cancelled() => {}
            }
            self.export(batch, stopping).await;
        }
    }

    /// Exports spans, once again where that may help.
    async fn export(&self, spans: Vec<Span>, stopping: &CancellationToken) {
        let mut batch = Batch { count: spans.len() as u64, ends: &self.ends };
        let body = self.encoded(spans);
        let mut wait = FIRST_WAIT;
        for last in (0..TRIES).map(|tried| tried + 1 == TRIES) {
            let why = match self.send(body.clone()).await {
                Ok(rejected) => {
                    batch.ended(SpanEnd::Rejected, rejected);
                    batch.ended(SpanEnd::Exported, batch.count);
                    if self.is_away.swap(false, Ordering::Relaxed) {
                        tracing::info!("spans are exported again");
                    }
                    return;
                }
                Err(why) => why,
            };
            if !self.is_away.swap(true, Ordering::Relaxed) {
                tracing::warn!(%why, "spans cannot be exported: they wait in a queue, and what does not fit into it is dropped");
            }
            let Some(pause) = why.pause().filter(|_| !last && !stopping.is_cancelled()) else { return };
            tokio::select! {
                () = sleep(pause.max(wait).min(LONGEST_WAIT)) => {}
                () = stopping.cancelled() => {}
            }
            wait *= 2;
        }
    }

    fn encoded(&self, spans: Vec<Span>) -> Bytes {
        let scope = InstrumentationScope { name: NAME.to_owned(), version: VERSION.to_owned(), ..InstrumentationScope::default() };
        let scope_spans = vec![ScopeSpans { scope: Some(scope), spans, ..ScopeSpans::default() }];
        let resource_spans = vec![ResourceSpans { resource: Some(self.resource.clone()), scope_spans, ..ResourceSpans::default() }];
        ExportTraceServiceRequest { resource_spans }.encode_to_vec().into()
    }

    /// Sends them, and tells how many the receiver did not take.
    async fn send(&self, body: Bytes) -> Result<u64, Failed> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.target.clone();
        *request.headers_mut() = self.fields.clone();
        let exchange = async {
            let response = self.http.request(request).await.map_err(|_| Failed::Unreachable)?;
            let (head, body) = response.into_parts();
            if !head.status.is_success() {
                let after = head.headers.get(RETRY_AFTER).and_then(|after| after.to_str().ok()?.parse().ok());
                return Err(Failed::Refused(head.status, after.map(Duration::from_secs)));
            }
            // An answer that cannot be read says nothing against the spans.
            let answer = Limited::new(body, MAX_ANSWER).collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
            let said = ExportTraceServiceResponse::decode(answer).unwrap_or_default().partial_success;
            Ok(said.and_then(|said| u64::try_from(said.rejected_spans).ok()).unwrap_or_default())
        };
        timeout(TIMEOUT, exchange).await.unwrap_or(Err(Failed::TimedOut))
    }
}
