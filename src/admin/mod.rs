//! The operators' listener: health, metrics, where the budgets stand, what is kept, what may be done about it, and a page that shows it.

mod cache;
mod config;
mod control;
mod explain;
mod history;
mod ledger;
mod overview;
mod page;
mod requests;

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use http::header::{ALLOW, AUTHORIZATION, CONNECTION, CONTENT_TYPE, HOST, HeaderValue, WWW_AUTHENTICATE};
use http::request::Parts;
use http::uri::Authority;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use percent_encoding::percent_decode_str;
use serde_json::Value;
use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;

use self::history::History;
use crate::gateway::Live;
use crate::secret::Revealed;
use crate::server::{Abort, Certificates, Service};
use crate::wire::authority;
use crate::wire::body::{self, Body, full};
use crate::wire::problem::Problem;

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const METRICS: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// What this listener answers, as an `OpenAPI` 3.1 document.
const OPENAPI: &str = include_str!("../../docs/admin-openapi.json");

/// What can be asked for and not be acted upon, beside copies.
const READ_ONLY: [&str; 10] =
    ["budgets", "config", "decisions", "explain", "ledger", "ledger.csv", "openapi.json", "overview", "requests", "spending"];

/// The body of an act, in bytes.
const LONGEST_ACT: usize = 16 * 1024;

/// How long it may take to arrive.
const ACT_TIMEOUT: Duration = Duration::from_secs(10);

/// Methods of what is only read.
const READ: &str = "GET, HEAD";

/// What is said of readiness while nothing is heard of other gateways.
const OUT_OF_STEP: &str = "ready, degraded: the shared Redis cannot be reached, so copies and purges are not shared\n";

/// What is said of readiness while the configuration that was read last is not in force. Not why: that may not be for everybody.
const NOT_IN_FORCE: &str =
    "warning: the configuration that was read last cannot come into force, and an older one is: see /admin/v1/config\n";

/// A value, or what is answered instead.
type Refused<T> = Result<T, Box<Problem>>;

/// What answers operators.
#[derive(Clone)]
pub struct Admin {
    live: Live,
    /// Only a digest is compared: how long that takes says nothing about the token.
    token: Arc<ArcSwapOption<[u8; 32]>>,
    draining: CancellationToken,
    history: Arc<History>,
    /// What callers are shown.
    certificates: Option<Arc<Certificates>>,
}

impl Admin {
    /// Answers for `live`; not ready any more once `draining` is cancelled.
    pub fn new(live: Live, token: Option<&Revealed>, draining: CancellationToken) -> Self {
        let token = Arc::new(ArcSwapOption::new(token.map(digest)));
        Self { live, token, draining, history: Arc::default(), certificates: None }
    }

    /// Asks for this token from now on.
    pub fn ask_for(&self, token: Option<&Revealed>) {
        self.token.store(token.map(digest));
    }

    /// The same, telling also when these are over.
    #[must_use]
    pub fn with_certificates(self, certificates: Option<Arc<Certificates>>) -> Self {
        Self { certificates, ..self }
    }

    /// Keeps what the page shows of the last hours, until `stop`.
    pub async fn keep_history(&self, stop: impl Future<Output = ()>) {
        self.history.keep(&self.live.gateway(), stop).await;
    }

    async fn answer(&self, request: Request<Incoming>) -> Refused<Response<Body>> {
        let (head, body) = request.into_parts();
        authority::check(&head).map_err(|why| {
            let close = Some((CONNECTION, "close".to_owned()));
            Box::new(Problem { field: close, ..*problem(StatusCode::BAD_REQUEST, "bad_request", why.to_string()) })
        })?;
        let path = head.uri.path();
        match path {
            "/livez" => return only_read(&head.method, || plain(StatusCode::OK, TEXT, "ok\n")),
            "/readyz" => return only_read(&head.method, || self.ready()),
            // The budgets may have to be read from the ledger's file.
            "/metrics" if !matches!(head.method, Method::GET | Method::HEAD) => return Err(method_not_allowed(READ)),
            "/metrics" => {
                let gateway = self.live.gateway();
                let expiry = self.certificates.as_ref().and_then(|certificates| certificates.expires());
                let scrape = blocking(move || gateway.scrape(expiry)).await?;
                return only_read(&head.method, || plain(StatusCode::OK, METRICS, scrape));
            }
            _ => {}
        }
        if let Some(file) = page::file(path) {
            return only_read(&head.method, || file.response());
        }
        let Some(resource) = path.strip_prefix("/admin/v1/") else { return Err(not_found()) };
        self.check(&head)?;
        let gateway = &self.live.gateway();
        match (&head.method, resource, budget_of(resource)) {
            (&Method::GET | &Method::HEAD, "budgets", _) => {
                let gateway = gateway.clone();
                Ok(json(StatusCode::OK, &blocking(move || control::budgets(&gateway)).await?))
            }
            (&Method::GET | &Method::HEAD, "kill-switch", _) => Ok(json(StatusCode::OK, &control::kill_switch(&gateway.kill_switch()))),
            (&Method::GET | &Method::HEAD, "ledger" | "ledger.csv" | "spending", _) => {
                let (gateway, query) = (gateway.clone(), head.uri.query().unwrap_or_default().to_owned());
                let answer = match resource {
                    "ledger" => ledger::page,
                    "ledger.csv" => ledger::csv,
                    _ => ledger::spending,
                };
                blocking(move || answer(&gateway, &query)).await?
            }
            (&Method::GET | &Method::HEAD, "overview", _) => {
                let gateway = gateway.clone();
                Ok(json(StatusCode::OK, &blocking(move || overview::overview(&gateway)).await?))
            }
            (&Method::GET | &Method::HEAD, "openapi.json", _) => Ok(plain(StatusCode::OK, JSON, OPENAPI)),
            (&Method::GET | &Method::HEAD, "decisions", _) => Ok(json(StatusCode::OK, &self.history.shown(gateway))),
            (&Method::GET | &Method::HEAD, "config", _) => Ok(json(StatusCode::OK, &config::config(&self.live.in_force()))),
            (&Method::POST, "kill-switch", _) => {
                Ok(json(StatusCode::OK, &control::switch(gateway, &act(&head.headers, body).await?).await?))
            }
            (&Method::POST, "acknowledge-loss", _) => {
                Ok(json(StatusCode::OK, &control::acknowledge_loss(gateway, &act(&head.headers, body).await?).await?))
            }
            (&Method::POST, "purge", _) => Ok(json(StatusCode::OK, &cache::purge(gateway, &act(&head.headers, body).await?).await?)),
            (&Method::GET | &Method::HEAD, "explain", _) => Ok(json(StatusCode::OK, &explain::explain(gateway, &head.uri).await?)),
            (&Method::GET | &Method::HEAD, "requests", _) => Ok(json(StatusCode::OK, &requests::last(gateway, &head.uri)?)),
            (&Method::GET | &Method::HEAD, _, _) if is_copy(resource) => Ok(json(StatusCode::OK, &cache::inspect(gateway, &head.uri)?)),
            (&Method::POST, _, Some(budget)) => {
                Ok(json(StatusCode::CREATED, &control::raise(gateway, budget, &act(&head.headers, body).await?).await?))
            }
            (_, resource, _) if is_copy(resource) || READ_ONLY.contains(&resource) => Err(method_not_allowed(READ)),
            (_, "kill-switch", _) => Err(method_not_allowed("GET, HEAD, POST")),
            (_, "acknowledge-loss" | "purge", _) | (_, _, Some(_)) => Err(method_not_allowed("POST")),
            _ => Err(not_found()),
        }
    }

    /// Ready also while nothing can be bought: what is free goes on.
    fn ready(&self) -> Response<Body> {
        let gateway = self.live.gateway();
        if self.draining.is_cancelled() {
            plain(StatusCode::SERVICE_UNAVAILABLE, TEXT, "draining\n")
        } else if !gateway.ledger_is_available() {
            plain(StatusCode::OK, TEXT, "ready, degraded: the ledger cannot be written, so nothing is bought\n")
        } else {
            let state = if gateway.is_in_step() { "ready\n" } else { OUT_OF_STEP };
            let (warnings, in_force) = (gateway.ledger_warnings(), self.live.in_force());
            let lines = warnings.iter().map(|warning| format!("warning: {warning}\n"));
            let lines = lines.chain(in_force.refused.iter().map(|_| NOT_IN_FORCE.to_owned()));
            plain(StatusCode::OK, TEXT, [state.to_owned()].into_iter().chain(lines).collect::<String>())
        }
    }

    /// Who has the token is an operator. Without one, whoever reaches the listener is, but not a page in a browser on this machine: the
    /// name that led it here would be another one than the machine's own.
    fn check(&self, head: &Parts) -> Refused<()> {
        let token = self.token.load();
        let Some(token) = &*token else {
            let field = || head.headers.get(HOST).and_then(|host| host.to_str().ok()?.parse().ok());
            let is_own = head.uri.authority().cloned().or_else(field).is_some_and(|host| is_own(&host));
            let detail = "without admin.token this listener is asked by its IP address, or as localhost";
            return if is_own { Ok(()) } else { Err(problem(StatusCode::MISDIRECTED_REQUEST, "misdirected", detail)) };
        };
        let presented = head.headers.get(AUTHORIZATION).and_then(|value| value.as_bytes().strip_prefix(b"Bearer "));
        if presented.is_some_and(|presented| <[u8; 32]>::from(Sha256::digest(presented)) == **token) {
            return Ok(());
        }
        let refusal = problem(StatusCode::UNAUTHORIZED, "unauthenticated", "send admin.token as \"Authorization: Bearer <token>\"");
        Err(Box::new(Problem { field: Some((WWW_AUTHENTICATE, "Bearer".to_owned())), ..*refusal }))
    }
}

impl Service for Admin {
    type Known = ();

    async fn call(&self, request: Request<Incoming>) -> Result<Response<Body>, Abort> {
        Ok(self.answer(request).await.unwrap_or_else(|refusal| refusal.response()))
    }
}

fn digest(token: &Revealed) -> Arc<[u8; 32]> {
    Arc::new(Sha256::digest(token.expose()).into())
}

/// Whether a host is named in a way that no foreign page can be served under.
fn is_own(host: &Authority) -> bool {
    let name = host.host().trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok()
}

fn only_read(method: &Method, answer: impl FnOnce() -> Response<Body>) -> Refused<Response<Body>> {
    if matches!(*method, Method::GET | Method::HEAD) { Ok(answer()) } else { Err(method_not_allowed(READ)) }
}

/// Whether this is `cache/{enterprise}/{number}`.
fn is_copy(resource: &str) -> bool {
    resource.strip_prefix("cache/").is_some_and(|rest| rest.split('/').count() == 2)
}

/// The budget in `budgets/{name}/overrides`.
fn budget_of(resource: &str) -> Option<String> {
    let name = resource.strip_prefix("budgets/")?.strip_suffix("/overrides")?;
    percent_decode_str(name).decode_utf8().ok().map(Cow::into_owned).filter(|name| !name.is_empty())
}

/// The body of an act. It is JSON and says so: a page in an operator's browser cannot send that to another origin without asking first.
async fn act(headers: &HeaderMap, body: Incoming) -> Refused<Bytes> {
    let media_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()?.split(';').next());
    let is_json = media_type.is_some_and(|media_type| media_type.trim().eq_ignore_ascii_case("application/json"));
    if !is_json {
        let detail = "send a JSON body, with \"Content-Type: application/json\"";
        return Err(problem(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", detail));
    }
    body::collect(body, LONGEST_ACT, ACT_TIMEOUT)
        .await
        .map_err(|unread| problem(StatusCode::BAD_REQUEST, "bad_request", unread.to_string()))
}

/// Runs what may wait for a disk.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Refused<T> {
    let failed = |_| problem(StatusCode::INTERNAL_SERVER_ERROR, "internal", "the gateway failed at this; its log may say why");
    tokio::task::spawn_blocking(work).await.map_err(failed)
}

fn plain(status: StatusCode, content_type: HeaderValue, body: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(full(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}

fn json(status: StatusCode, value: &Value) -> Response<Body> {
    plain(status, JSON, value.to_string())
}

fn problem(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Box<Problem> {
    Box::new(Problem::new(status, code, "Admin", detail).never_retried())
}

fn not_found() -> Box<Problem> {
    let detail = "here are /, /livez, /readyz, /metrics, and under /admin/v1: acknowledge-loss, budgets, budgets/{name}/overrides, cache/{enterprise}/{number}, config, decisions, explain, kill-switch, ledger, ledger.csv, openapi.json, overview, purge, requests, spending";
    problem(StatusCode::NOT_FOUND, "not_found", detail)
}

/// `methods` as `Allow` lists them.
fn method_not_allowed(methods: &str) -> Box<Problem> {
    let detail = format!("the admin listener takes {methods} here");
    let refusal = problem(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", detail);
    Box::new(Problem { field: Some((ALLOW, methods.to_owned())), ..*refusal })
}
