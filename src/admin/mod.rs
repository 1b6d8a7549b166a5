//! The operators' listener: health, metrics, where the budgets stand, and the ledger.

mod ledger;

use std::sync::Arc;

use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri};
use hyper::body::Incoming;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;

use crate::gateway::Gateway;
use crate::secret::Revealed;
use crate::server::{Abort, Service};
use crate::spend::BudgetStatus;
use crate::wire::body::{Body, full};
use crate::wire::problem::Problem;

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const METRICS: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

const HERE: &str = "here are /livez, /readyz, /metrics, /admin/v1/budgets, /admin/v1/ledger and /admin/v1/ledger.csv";

/// What answers operators.
#[derive(Clone)]
pub struct Admin {
    gateway: Gateway,
    /// Only a digest is compared: how long that takes says nothing about the token.
    token: Option<Arc<[u8; 32]>>,
    draining: CancellationToken,
}

impl Admin {
    /// Answers for `gateway`; not ready any more once `draining` is cancelled.
    pub fn new(gateway: Gateway, token: Option<&Revealed>, draining: CancellationToken) -> Self {
        let token = token.map(|token| Arc::new(Sha256::digest(token.expose()).into()));
        Self { gateway, token, draining }
    }

    fn answer(&self, method: &Method, uri: &Uri, headers: &HeaderMap) -> Response<Body> {
        if !matches!(*method, Method::GET | Method::HEAD) {
            return problem(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "the admin listener takes GET here");
        }
        let (path, query) = (uri.path(), uri.query().unwrap_or_default());
        match path {
            "/livez" => plain(StatusCode::OK, TEXT, "ok\n"),
            "/readyz" if self.draining.is_cancelled() => plain(StatusCode::SERVICE_UNAVAILABLE, TEXT, "draining\n"),
            "/readyz" => plain(StatusCode::OK, TEXT, "ready\n"),
            "/metrics" => plain(StatusCode::OK, METRICS, self.gateway.scrape()),
            _ if path.starts_with("/admin/v1/") && !self.permits(headers) => {
                problem(StatusCode::UNAUTHORIZED, "unauthenticated", "send admin.token as \"Authorization: Bearer <token>\"")
            }
            "/admin/v1/budgets" => plain(StatusCode::OK, JSON, self.budgets().to_string()),
            "/admin/v1/ledger" => ledger::page(&self.gateway, query),
            "/admin/v1/ledger.csv" => ledger::csv(&self.gateway, query),
            _ => problem(StatusCode::NOT_FOUND, "not_found", HERE),
        }
    }

    fn permits(&self, headers: &HeaderMap) -> bool {
        let Some(token) = &self.token else { return true };
        let presented = headers.get(AUTHORIZATION).and_then(|value| value.as_bytes().strip_prefix(b"Bearer "));
        presented.is_some_and(|presented| <[u8; 32]>::from(Sha256::digest(presented)) == **token)
    }

    fn budgets(&self) -> Value {
        let budgets: Vec<_> = self.gateway.budgets().iter().map(shown).collect();
        json!({ "data": budgets })
    }
}

fn shown(budget: &BudgetStatus) -> Value {
    json!({
        "name": budget.name,
        "scope": budget.scope.to_string(),
        "limit_usd": budget.limit,
        "spent_usd": budget.spent,
        "held_usd": budget.held,
        "starts_at": budget.starts_at,
        "resets_at": budget.resets_at,
    })
}

impl Service for Admin {
    async fn call(&self, request: Request<Incoming>) -> Result<Response<Body>, Abort> {
        let (head, _) = request.into_parts();
        if matches!(head.uri.path(), "/livez" | "/readyz") {
            return Ok(self.answer(&head.method, &head.uri, &head.headers));
        }
        // The others read the ledger's file, or may have to.
        let admin = self.clone();
        let answered = tokio::task::spawn_blocking(move || admin.answer(&head.method, &head.uri, &head.headers)).await;
        answered.map_err(|_| Abort)
    }
}

fn plain(status: StatusCode, content_type: HeaderValue, body: impl Into<bytes::Bytes>) -> Response<Body> {
    let mut response = Response::new(full(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}

fn problem(status: StatusCode, code: &'static str, detail: &str) -> Response<Body> {
    Problem::new(status, code, "Admin", detail).never_retried().response()
}
