//! Which requests beside the reputation API pass: by the operator's `[[route]]` entries, and never one that could be metered.
//!
//! A path is compared by its decoded segments. What a laxer upstream could read as a path of the reputation API goes by no route.

use std::fmt;
use std::str::FromStr;

use http::{Method, Uri};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Serialize};

use crate::telnyx::{NoRoute, route};
use crate::units::as_text;
use crate::wire::target::Target;

/// `[[route]]`: methods and a path prefix that pass, unmetered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
pub struct Route {
    /// The methods that pass. GET takes HEAD along.
    pub methods: Vec<Verb>,
    /// The path that passes, and all below it, with or without `/v2`.
    pub path: Prefix,
    /// The names of the callers that may; all but those that are limited to some enterprises if not given.
    pub callers: Option<Vec<String>>,
}

/// A method that a route may have. CONNECT would make a tunnel, and TRACE would show the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verb(Method);

/// A text that is no method of a route's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected GET, HEAD, POST, PUT, PATCH, DELETE or OPTIONS")]
pub struct NotAVerb;

/// The first segments of a path, decoded and without the leading `v2`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prefix(Vec<String>);

/// A text that is no prefix of a route's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAPrefix {
    /// Not the one way to write it.
    #[error("expected a path such as \"/messages\": no slash at its end, nothing escaped that need not be, no query")]
    NotCanonical,
    /// Everything, or the whole API.
    #[error("names no segment, so it would let everything pass")]
    Empty,
    /// The reputation API has its own operations, and a way round them would be one round the meter.
    #[error("paths of the reputation API cannot be allowed: what is carried of it is metered")]
    Reputation,
}

/// Why a request goes by no route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closed {
    /// It has to do with the reputation API, or could be read so.
    Reputation,
    /// No route has its path, or none with its method.
    Unlisted,
    /// A route has its path, and it can be read in two ways.
    Ambiguous,
    /// A route has it, and not for this caller.
    Caller,
    /// A route has it for everybody, and this caller is limited to some enterprises.
    Limited,
}

/// Everything but what RFC 3986 leaves unreserved, and a few that mean the same raw. A plus is a space to some readers.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b':').remove(b'@').remove(b',');

/// A path of these segments, each encoded in one way.
pub fn encoded<S: AsRef<str>>(segments: &[S]) -> String {
    segments.iter().flat_map(|segment| ["/"].into_iter().chain(utf8_percent_encode(segment.as_ref(), ESCAPED))).collect()
}

/// Finds out whether a request passes. `is_limited`: its caller may see some enterprises only, and a route looks at none.
pub fn check<S: AsRef<str>>(routes: &[Route], method: &Method, segments: &[S], caller: &str, is_limited: bool) -> Result<(), Closed> {
    if is_of_reputation(segments) {
        return Err(Closed::Reputation);
    }
    let verb = if *method == Method::HEAD { &Method::GET } else { method };
    let takes = |route: &&Route| route.methods.iter().any(|listed| listed.0 == *method || listed.0 == *verb);
    let matching: Vec<_> = routes.iter().filter(|route| route.path.begins(segments)).filter(takes).collect();
    if matching.is_empty() {
        return Err(Closed::Unlisted);
    }
    if !segments.iter().all(|segment| is_plain(segment.as_ref())) {
        return Err(Closed::Ambiguous);
    }
    let names = |route: &&Route| route.callers.as_ref().is_some_and(|callers| callers.iter().any(|name| name == caller));
    if matching.iter().any(names) {
        return Ok(());
    }
    match (matching.iter().any(|route| route.callers.is_none()), is_limited) {
        (true, false) => Ok(()),
        (true, true) => Err(Closed::Limited),
        (false, _) => Err(Closed::Caller),
    }
}

/// Whether a path has to do with the reputation API: the table of operations knows it, whatever its case, or it has the word in it.
pub fn is_of_reputation<S: AsRef<str>>(segments: &[S]) -> bool {
    let lower: Vec<_> = segments.iter().map(|segment| segment.as_ref().to_ascii_lowercase()).collect();
    let is_known = route(&Method::GET, &lower) != Err(NoRoute::Path);
    is_known || segments.iter().any(|segment| names_reputation(segment.as_ref()))
}

/// Whether the word is in a segment, in any case. Also of `reputation.json` or `reputation ` an upstream may make it.
fn names_reputation(segment: &str) -> bool {
    let mut words = segment.split(|letter: char| !(letter.is_ascii_alphanumeric() || letter == '_' || letter == '-'));
    words.any(|word| word.eq_ignore_ascii_case("reputation"))
}

/// Whether a decoded segment can be read in one way only: not escaped once more, without parameters of its own, and with no letters that
/// another reader could take for ASCII's.
fn is_plain(segment: &str) -> bool {
    segment.is_ascii() && !segment.contains(['%', ';']) && !segment.trim_matches('.').is_empty() && segment.trim() == segment
}

impl Verb {
    /// The methods that a route may have.
    const ALL: [Method; 7] = [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::OPTIONS];

    /// The same as a setting, if a route may have it.
    pub fn of(method: &Method) -> Option<Self> {
        Self::ALL.contains(method).then(|| Self(method.clone()))
    }
}

impl FromStr for Verb {
    type Err = NotAVerb;

    fn from_str(text: &str) -> Result<Self, NotAVerb> {
        Self::ALL.into_iter().find(|method| method.as_str() == text).map(Self).ok_or(NotAVerb)
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str())
    }
}

impl Prefix {
    fn begins<S: AsRef<str>>(&self, path: &[S]) -> bool {
        path.len() >= self.0.len() && self.0.iter().zip(path).all(|(own, segment)| own == segment.as_ref())
    }
}

impl FromStr for Prefix {
    type Err = NotAPrefix;

    fn from_str(text: &str) -> Result<Self, NotAPrefix> {
        if ["", "/", "/v2", "/v2/"].contains(&text) {
            return Err(NotAPrefix::Empty);
        }
        let uri: Uri = text.parse().map_err(|_| NotAPrefix::NotCanonical)?;
        let target = Target::parse(&uri).map_err(|_| NotAPrefix::NotCanonical)?;
        let segments: Vec<_> = target.segments.iter().map(ToString::to_string).collect();
        if segments.iter().any(|segment| names_reputation(segment)) {
            return Err(NotAPrefix::Reputation);
        }
        let written = text.strip_prefix("/v2").filter(|rest| rest.starts_with('/')).unwrap_or(text);
        let is_canonical = encoded(&segments) == written && segments.iter().all(|segment| is_plain(segment)) && segments[0] != "v2";
        if is_canonical { Ok(Self(segments)) } else { Err(NotAPrefix::NotCanonical) }
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&encoded(&self.0))
    }
}

as_text! { Verb: "a method in quotes, such as \"GET\"", Prefix: "a path in quotes, such as \"/messages\"" }

#[cfg(test)]
mod tests {
    use super::*;

    fn opened(methods: &[&str], path: &str, callers: Option<&[&str]>) -> Route {
        let callers = callers.map(|names| names.iter().map(ToString::to_string).collect());
        let methods = methods.iter().map(|method| method.parse().expect("a method")).collect();
        Route { methods, path: path.parse().expect("a prefix"), callers }
    }

    fn checked(routes: &[Route], method: &Method, path: &str, caller: &str, is_limited: bool) -> Result<(), Closed> {
        let uri: Uri = path.parse().expect("a URI");
        let target = Target::parse(&uri).expect("a target");
        check(routes, method, &target.segments, caller, is_limited)
    }

    #[test]
    fn a_prefix_is_written_in_one_way() {
        for (text, shown) in [("/messages", "/messages"), ("/v2/a/b.c", "/a/b.c"), ("/a:b/@c,d", "/a:b/@c,d"), ("/v2x", "/v2x")] {
            assert_eq!(text.parse::<Prefix>().expect(text).to_string(), shown);
        }
        for text in ["", "/", "/v2", "/v2/"] {
            assert_eq!(text.parse::<Prefix>(), Err(NotAPrefix::Empty), "{text}");
        }
        for text in
            ["messages", "/a/", "/a//b", "/a/../b", "/%61", "/a%2Fb", "/a?b=1", "/a;b", "/a%3Bb", "/a%2525", "/v2/v2/a", "/caf%C3%A9"]
        {
            assert_eq!(text.parse::<Prefix>(), Err(NotAPrefix::NotCanonical), "{text}");
        }
        for text in ["/reputation", "/enterprises/x/Reputation", "/v2/REPUTATION/numbers", "/a/reputation.json"] {
            assert_eq!(text.parse::<Prefix>(), Err(NotAPrefix::Reputation), "{text}");
        }
        for text in ["CONNECT", "TRACE", "get", "", "*"] {
            assert_eq!(text.parse::<Verb>(), Err(NotAVerb), "{text}");
        }
    }

    #[test]
    fn whole_segments_and_listed_methods_pass() {
        let routes = [opened(&["GET"], "/messages", None), opened(&["POST"], "/messages/files", None)];
        for (method, path, passes) in [
            (Method::GET, "/v2/messages", true),
            (Method::HEAD, "/messages/1", true),
            (Method::GET, "/%6dessages/a%2Bb", true),
            (Method::POST, "/messages/files/1", true),
            (Method::POST, "/messages", false),
            (Method::GET, "/messagesx", false),
            (Method::GET, "/Messages", false),
            (Method::GET, "/x/messages", false),
            (Method::GET, "/v2/v2/messages", false),
        ] {
            let expected = if passes { Ok(()) } else { Err(Closed::Unlisted) };
            assert_eq!(checked(&routes, &method, path, "anonymous", false), expected, "{method} {path}");
        }
    }

    #[test]
    fn no_route_leads_to_what_is_metered_or_could_be_read_so() {
        let routes = [opened(&["GET", "POST", "PATCH"], "/enterprises", None), opened(&["POST"], "/terms_of_service", None)];
        for (path, why) in [
            ("/enterprises", Closed::Reputation),
            ("/enterprises/E", Closed::Reputation),
            ("/enterprises/E/reputation", Closed::Reputation),
            ("/enterprises/E/REPUTATION/x", Closed::Reputation),
            ("/enterprises/E/%72eputation", Closed::Reputation),
            ("/enterprises/E/reputation.json", Closed::Reputation),
            ("/enterprises/E/reputation;v=1/numbers", Closed::Reputation),
            ("/enterprises/E/reputation%20/numbers", Closed::Reputation),
            ("/enterprises/E/%2572eputation", Closed::Ambiguous),
            ("/enterprises/E/x;y", Closed::Ambiguous),
            ("/enterprises/E/..;/x", Closed::Ambiguous),
            ("/enterprises/E/...", Closed::Ambiguous),
            ("/enterprises/E/x%20", Closed::Ambiguous),
            ("/enterprises/E/%EF%BD%92eputation", Closed::Ambiguous),
            ("/enterprises/E/reputat%C4%B1on", Closed::Ambiguous),
            ("/Enterprises/E", Closed::Reputation),
            ("/terms_of_service/Status", Closed::Reputation),
        ] {
            for method in [Method::GET, Method::POST, Method::PATCH] {
                let found = checked(&routes, &method, path, "anonymous", false);
                assert!(found == Err(why) || found == Err(Closed::Unlisted) && method != Method::POST, "{method} {path}: {found:?}");
            }
        }
        assert_eq!(checked(&routes, &Method::POST, "/enterprises/E/reputations", "anonymous", false), Ok(()));
    }

    #[test]
    fn a_route_is_for_everybody_but_the_limited_or_for_those_it_names() {
        let routes = [opened(&["GET"], "/open", None), opened(&["GET"], "/named", Some(&["dialer"]))];
        for (path, caller, is_limited, found) in [
            ("/open", "crm", false, Ok(())),
            ("/open", "crm", true, Err(Closed::Limited)),
            ("/named", "dialer", true, Ok(())),
            ("/named", "crm", false, Err(Closed::Caller)),
            ("/named", "crm", true, Err(Closed::Caller)),
        ] {
            assert_eq!(checked(&routes, &Method::GET, path, caller, is_limited), found, "{path} {caller}");
        }
    }
}
