//! A request's target, decoded once into segments and a query. What two readers could read differently is refused.

use std::borrow::Cow;

use http::Uri;
use percent_encoding::percent_decode_str;
use smallvec::SmallVec;

/// A path's segments and a query's pairs, decoded. The leading `v2` of a path is optional and not kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target<'u> {
    /// The segments, decoded: none is empty, a dot segment, or holds a slash or a control byte.
    pub segments: Segments<'u>,
    /// The query.
    pub query: Query<'u>,
}

/// Those of every path that leads somewhere need no allocation.
pub type Segments<'u> = SmallVec<[Cow<'u, str>; 8]>;

/// A query's names and values in their order, decoded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query<'u>(Vec<(Cow<'u, str>, Cow<'u, str>)>);

/// Why a target is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadTarget {
    /// `%` without two hexadecimal digits behind it, or bytes that are no UTF-8.
    #[error("the {0} has a percent-escape that is not two hexadecimal digits, or that does not decode to UTF-8")]
    Escape(&'static str),
    /// A control byte, encoded.
    #[error("the {0} has an encoded control byte")]
    Control(&'static str),
    /// `/` or `\` inside a segment.
    #[error("the path has an encoded slash or a backslash")]
    Slash,
    /// `//`, or a slash at the end.
    #[error("the path has an empty segment: write single slashes, and none at the end")]
    Empty,
    /// `.` or `..`.
    #[error("the path has a dot segment")]
    Dot,
    /// No path at all.
    #[error("the request target has no path: write it as /v2/reputation/numbers/+16035551234")]
    NoPath,
}

impl<'u> Target<'u> {
    /// Decodes a target in origin or absolute form.
    pub fn parse(uri: &'u Uri) -> Result<Self, BadTarget> {
        let segments = segments(uri.path())?;
        let query = uri.query().map(Query::parse).transpose()?.unwrap_or_default();
        Ok(Self { segments, query })
    }
}

/// Decodes a path.
pub fn segments(path: &str) -> Result<Segments<'_>, BadTarget> {
    let path = path.strip_prefix('/').ok_or(BadTarget::NoPath)?;
    let path = path.strip_prefix("v2/").unwrap_or(path);
    let parts = Parts(Some(path));
    if is_plain(path) { parts.map(|part| whole(Cow::Borrowed(part))).collect() } else { parts.map(segment).collect() }
}

/// The parts of a path between its slashes. On the way of every hit: `str::split` takes several times as many instructions.
struct Parts<'u>(Option<&'u str>);

impl<'u> Iterator for Parts<'u> {
    type Item = &'u str;

    fn next(&mut self) -> Option<&'u str> {
        let rest = self.0.take()?;
        let Some(end) = memchr::memchr(b'/', rest.as_bytes()) else { return Some(rest) };
        self.0 = Some(&rest[end + 1..]);
        Some(&rest[..end])
    }
}

/// Whether there is nothing to decode, and nothing to refuse but segments as a whole. It looks at every byte, so that it can be done many at a time.
fn is_plain(raw: &str) -> bool {
    let others = raw.bytes().map(|byte| u8::from(!byte.is_ascii_graphic()) | u8::from(matches!(byte, b'%' | b'\\')));
    others.fold(0, |any, other| any | other) == 0
}

fn segment(raw: &str) -> Result<Cow<'_, str>, BadTarget> {
    if is_plain(raw) {
        return whole(Cow::Borrowed(raw));
    }
    let text = decode(raw, "path")?;
    if text.contains(['/', '\\']) { Err(BadTarget::Slash) } else { whole(text) }
}

fn whole(text: Cow<'_, str>) -> Result<Cow<'_, str>, BadTarget> {
    match &*text {
        "" => Err(BadTarget::Empty),
        "." | ".." => Err(BadTarget::Dot),
        _ => Ok(text),
    }
}

impl<'u> Query<'u> {
    fn parse(raw: &'u str) -> Result<Self, BadTarget> {
        let part = |raw: &'u str| -> Result<Cow<'u, str>, BadTarget> {
            // Only in a query is a plus a space; replaced before decoding, so that %2B stays a plus.
            if raw.contains('+') { Ok(decode(&raw.replace('+', "%20"), "query")?.into_owned().into()) } else { decode(raw, "query") }
        };
        let pairs = raw.split('&').filter(|pair| !pair.is_empty());
        pairs
            .map(|pair| {
                let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
                Ok((part(name)?, part(value)?))
            })
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// All values of a name, in their order.
    pub fn values<'q>(&'q self, name: &'q str) -> impl Iterator<Item = &'q str> {
        self.0.iter().filter(move |(found, _)| found == name).map(|(_, value)| &**value)
    }
}

fn decode<'u>(raw: &'u str, part: &'static str) -> Result<Cow<'u, str>, BadTarget> {
    let whole = |at: usize| raw.as_bytes().get(at + 1..at + 3).is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit));
    if !raw.match_indices('%').all(|(at, _)| whole(at)) {
        return Err(BadTarget::Escape(part));
    }
    let text = percent_decode_str(raw).decode_utf8().map_err(|_| BadTarget::Escape(part))?;
    if text.chars().any(char::is_control) { Err(BadTarget::Control(part)) } else { Ok(text) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn segments(path: &str) -> Result<Vec<String>, BadTarget> {
        let uri: Uri = path.parse().expect("a URI");
        Target::parse(&uri).map(|target| target.segments.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a_path_is_decoded_once_and_its_plus_stays() {
        let number = Ok(vec!["reputation".to_owned(), "numbers".to_owned(), "+16035551234".to_owned()]);
        for path in [
            "/v2/reputation/numbers/+16035551234",
            "/reputation/numbers/%2B16035551234",
            "http://host/v2/reputation/numbers/%2b16035551234",
        ] {
            assert_eq!(segments(path), number, "{path}");
        }
        assert_eq!(segments("/%252B1").expect("decodes"), ["%2B1"]);
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        for (path, why) in [
            ("/a//b", BadTarget::Empty),
            ("/a/", BadTarget::Empty),
            ("//a", BadTarget::Empty),
            ("/", BadTarget::Empty),
            ("/a/../b", BadTarget::Dot),
            ("/a/%2e%2E/b", BadTarget::Dot),
            ("/a%2Fb", BadTarget::Slash),
            ("/a%5cb", BadTarget::Slash),
            ("/a%0Ab", BadTarget::Control("path")),
            ("/a%00", BadTarget::Control("path")),
            ("/a%", BadTarget::Escape("path")),
            ("/a%2", BadTarget::Escape("path")),
            ("/a%zz", BadTarget::Escape("path")),
            ("/a%ff", BadTarget::Escape("path")),
            ("/a?b=%f", BadTarget::Escape("query")),
            ("*", BadTarget::NoPath),
        ] {
            assert_eq!(segments(path), Err(why), "{path}");
        }
    }

    #[test]
    fn in_a_query_a_plus_is_a_space_and_brackets_come_encoded() {
        let uri: Uri = "/a?filter%5Bphone_number%5D%5Beq%5D=%2B1603&q=a+b&fresh=true&fresh=false&&flag".parse().expect("a URI");
        let query = Target::parse(&uri).expect("a target").query;
        assert_eq!(query.values("filter[phone_number][eq]").collect::<Vec<_>>(), ["+1603"]);
        assert_eq!(query.values("q").collect::<Vec<_>>(), ["a b"]);
        assert_eq!(query.values("fresh").collect::<Vec<_>>(), ["true", "false"]);
        assert_eq!(query.values("flag").collect::<Vec<_>>(), [""]);
    }

    proptest! {
        #[test]
        fn any_uri_is_decoded_or_refused(path in "/[!-~]{0,60}") {
            if let Ok(uri) = path.parse::<Uri>() && let Ok(target) = Target::parse(&uri) {
                for segment in &target.segments {
                    prop_assert!(!segment.is_empty() && !segment.contains('/') && segment != ".." && segment != ".");
                }
            }
        }
    }
}
