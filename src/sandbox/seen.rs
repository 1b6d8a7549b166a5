//! What callers sent, so that a test can tell what went upstream.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use http::Request;
use http::header::{AUTHORIZATION, COOKIE, HeaderMap, PROXY_AUTHORIZATION};
use jiff::Timestamp;
use serde::Serialize;
use sha2::{Digest, Sha256};

/// Requests kept; older ones are forgotten.
const MAX_SEEN: usize = 1_000;

/// A request to the API, as it was received. Those under `/sandbox` are not kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Seen {
    /// When, by the sandbox's clock.
    pub at: Timestamp,
    /// The method.
    pub method: String,
    /// Path and query, byte for byte.
    pub path_and_query: String,
    /// SHA-256 of the bearer token in lower-case hex: enough to compare keys, too little to use one.
    pub bearer_sha256: Option<String>,
    /// All other headers, names in lower case; those that carry credentials are left out. Several of one name are joined by `", "`.
    pub headers: BTreeMap<String, String>,
}

impl Seen {
    pub(super) fn of<B>(request: &Request<B>, at: Timestamp) -> Self {
        let mut headers: BTreeMap<String, String> = BTreeMap::new();
        for (name, value) in request.headers() {
            if [AUTHORIZATION, PROXY_AUTHORIZATION, COOKIE].contains(name) {
                continue;
            }
            let value = String::from_utf8_lossy(value.as_bytes());
            headers.entry(name.to_string()).and_modify(|all| *all = format!("{all}, {value}")).or_insert_with(|| value.into_owned());
        }
        let bearer_sha256 = bearer(request.headers()).map(|token| format!("{:x}", Bytes::copy_from_slice(&Sha256::digest(token))));
        let path_and_query = request.uri().path_and_query().map_or_else(String::new, ToString::to_string);
        Self { at, method: request.method().to_string(), path_and_query, bearer_sha256, headers }
    }
}

/// The bearer token, if there is one.
pub(super) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    (scheme.eq_ignore_ascii_case("bearer") && !token.trim().is_empty()).then(|| token.trim())
}

/// The last requests, oldest first.
#[derive(Debug, Default)]
pub(super) struct Log(VecDeque<Seen>);

impl Log {
    pub(super) fn add(&mut self, seen: Seen) {
        if self.0.len() == MAX_SEEN {
            self.0.pop_front();
        }
        self.0.push_back(seen);
    }

    pub(super) fn all(&self) -> Vec<Seen> {
        self.0.iter().cloned().collect()
    }
}
