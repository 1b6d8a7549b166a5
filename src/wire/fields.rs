//! Which fields of a message pass an intermediary: end-to-end ones, and none by which a client or an upstream could mislead the other side.

use std::collections::HashSet;

use http::HeaderMap;
use http::header::{CONNECTION, HeaderName, TE};

/// Which way a message goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// A request, to the upstream.
    Up,
    /// An answer, to the client.
    Down,
}

/// For one connection only (RFC 9110, 7.6.1), or about how the body is framed on it, which is decided anew on the next one.
const HOP_BY_HOP: [&str; 9] =
    ["connection", "keep-alive", "proxy-connection", "te", "transfer-encoding", "upgrade", "http2-settings", "content-length", "expect"];

/// Credentials and sessions of whoever is on the other side, and who the gateway says that it is.
const OWN: [&str; 9] = ["host", "authorization", "cookie", "set-cookie", "forwarded", "via", "x-request-id", "traceparent", "tracestate"];

/// By which some servers read another method or path than the one that was checked.
const OVERRIDES: [&str; 7] = [
    "x-http-method-override",
    "x-http-method",
    "x-method-override",
    "x-original-method",
    "x-original-url",
    "x-original-uri",
    "x-rewrite-url",
];

/// Of an answer: another address for the same service would lead past the gateway.
const ADVERTISED: &str = "alt-svc";

const PREFIXES: [&str; 3] = ["proxy-", "x-forwarded-", "x-gateway-"];

/// Those fields that pass. `Content-Length` is none of them: it goes with the body. An answer's `Via` is kept, to be added to.
pub fn end_to_end(fields: &HeaderMap, way: Way) -> HeaderMap {
    let named = named_by_connection(fields);
    let mut passing = HeaderMap::with_capacity(fields.len());
    for (name, value) in fields {
        let is_via = name == http::header::VIA;
        if is_via || (passes(name, way) && !named.contains(name)) {
            passing.append(name.clone(), value.clone());
        }
    }
    passing
}

/// Those trailers that pass. None may change how the message before them was read (RFC 9110, 6.5.1).
pub fn trailers(fields: &HeaderMap, way: Way) -> HeaderMap {
    let passing = fields.iter().filter(|(name, _)| passes(name, way) && *name != http::header::TRAILER);
    let mut trailers = HeaderMap::new();
    for (name, value) in passing {
        trailers.append(name.clone(), value.clone());
    }
    trailers
}

/// Whether a request's sender takes trailers of the answer.
pub fn takes_trailers(fields: &HeaderMap) -> bool {
    let lines = fields.get_all(TE).into_iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',')).any(|coding| coding.trim().eq_ignore_ascii_case("trailers"))
}

fn passes(name: &HeaderName, way: Way) -> bool {
    let name = name.as_str();
    let stays = HOP_BY_HOP.contains(&name) || OWN.contains(&name) || OVERRIDES.contains(&name);
    // An underscore in a name is a hyphen to servers that make variables of names.
    let read = name.replace('_', "-");
    let is_prefixed = PREFIXES.iter().any(|prefix| read.starts_with(prefix));
    let is_disguised = read != name && (OWN.contains(&&*read) || OVERRIDES.contains(&&*read) || HOP_BY_HOP.contains(&&*read));
    !(stays || is_prefixed || is_disguised || way == Way::Down && name == ADVERTISED)
}

/// The fields that `Connection` names. `Connection: close` names none that anybody has.
fn named_by_connection(fields: &HeaderMap) -> HashSet<HeaderName> {
    let lines = fields.get_all(CONNECTION).into_iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',')).filter_map(|name| name.trim().parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(lines: &[(&str, &str)]) -> HeaderMap {
        let mut fields = HeaderMap::new();
        for (name, value) in lines {
            fields.append(name.parse::<HeaderName>().expect("a name"), value.parse().expect("a value"));
        }
        fields
    }

    fn names(fields: &HeaderMap) -> Vec<&str> {
        let mut names: Vec<_> = fields.iter().map(|(name, _)| name.as_str()).collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn what_is_for_one_connection_or_for_the_gateway_does_not_pass() {
        let request = fields(&[
            ("accept", "*/*"),
            ("x-twice", "1"),
            ("x-twice", "2"),
            ("connection", "close, X-Named"),
            ("connection", "te"),
            ("x-named", "1"),
            ("te", "trailers"),
            ("trailer", "x-sum"),
            ("host", "gateway"),
            ("authorization", "Bearer key"),
            ("cookie", "a=b"),
            ("proxy-authorization", "x"),
            ("x-forwarded-for", "::1"),
            ("x_forwarded_for", "::1"),
            ("x-http-method-override", "DELETE"),
            ("x_http_method_override", "DELETE"),
            ("x-original-url", "/reputation"),
            ("x-gateway-decision", "hit"),
            ("expect", "100-continue"),
            ("content-length", "1"),
            ("alt-svc", "clear"),
            ("via", "1.1 before"),
        ]);
        assert_eq!(names(&end_to_end(&request, Way::Up)), ["accept", "alt-svc", "trailer", "via", "x-twice", "x-twice"]);
        assert!(!end_to_end(&request, Way::Down).contains_key("alt-svc"));
        assert!(takes_trailers(&request) && !takes_trailers(&fields(&[("te", "gzip")])));
    }

    #[test]
    fn trailers_do_not_change_what_came_before() {
        let sent =
            fields(&[("x-sum", "1"), ("content-length", "2"), ("host", "x"), ("authorization", "x"), ("trailer", "a"), ("via", "x")]);
        assert_eq!(names(&trailers(&sent, Way::Up)), ["x-sum"]);
    }
}
