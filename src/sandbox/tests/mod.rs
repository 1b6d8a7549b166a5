//! The stand-in as a caller meets it.

mod billing;
mod wire;

use bytes::Bytes;
use http::{Request, StatusCode};
use jiff::Timestamp;
use serde_json::Value;

use super::*;

const START: &str = "2026-11-20T12:00:00Z";
const FIRST: &str = "+12025550000";

fn start() -> Timestamp {
    START.parse().unwrap()
}

fn sandbox() -> (Sandbox, Clock) {
    let clock = Clock::manual(start());
    (Sandbox::new(Config { numbers: 30, ..Config::default() }, clock.clone()), clock)
}

fn scoped(rest: &str) -> String {
    format!("/v2/enterprises/{ENTERPRISE}/reputation{rest}")
}

/// Asks without a socket.
fn ask(sandbox: &Sandbox, method: &str, path: &str, body: &str) -> (StatusCode, Value) {
    let request = Request::builder().method(method).uri(path).header("authorization", "Bearer any");
    let (reply, _) = sandbox.api(&request.body(Bytes::from(body.to_owned())).unwrap());
    (reply.status, serde_json::from_slice(&reply.body).unwrap_or(Value::Null))
}

fn get(sandbox: &Sandbox, path: &str) -> (StatusCode, Value) {
    ask(sandbox, "GET", path, "")
}
