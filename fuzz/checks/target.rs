//! A request's target: what is accepted has one reading.
//!
//! The bytes are the target as it stands in a request line.

use std::borrow::Cow;

use http::{Method, Uri};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reputation_gateway::telnyx::{self, PhoneNumber};
use reputation_gateway::wire::target::Target;

pub(crate) fn check(data: &[u8]) {
    let Ok(uri) = Uri::try_from(data) else { return };
    let Ok(target) = Target::parse(&uri) else { return };
    for segment in &target.segments {
        assert!(!matches!(&**segment, "" | "." | ".."), "{segment:?}");
        assert!(!segment.contains(['/', '\\']) && !segment.contains(char::is_control), "{segment:?}");
        if let Ok(number) = segment.parse::<PhoneNumber>() {
            assert_eq!(number.to_string().parse(), Ok(number));
        }
    }
    // Another reader's view of the same query, which is the sandbox's too.
    let pairs: Vec<_> = form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes()).collect();
    for (name, _) in &pairs {
        let values: Vec<_> = pairs.iter().filter(|(other, _)| other == name).map(|(_, value)| &**value).collect();
        assert_eq!(target.query.values(name).collect::<Vec<_>>(), values, "{name:?}");
    }
    for method in [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE] {
        if let Ok(route) = telnyx::route(&method, &target.segments) {
            for part in [route.enterprise, route.number, route.id].into_iter().flatten() {
                assert!(target.segments.iter().any(|segment| segment == part), "{part:?} is no segment");
            }
        }
    }
    let canonical: Uri = written(&target.segments, &pairs).parse().expect("what is percent-encoded is a URI");
    let again = Target::parse(&canonical).expect("what is percent-encoded is a target");
    assert_eq!(format!("{again:?}"), format!("{target:?}"), "{canonical}");
}

fn written(segments: &[Cow<'_, str>], query: &[(Cow<'_, str>, Cow<'_, str>)]) -> String {
    let path: Vec<_> = segments.iter().map(|segment| utf8_percent_encode(segment, NON_ALPHANUMERIC).to_string()).collect();
    let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(query).finish();
    format!("/v2/{}?{query}", path.join("/"))
}
