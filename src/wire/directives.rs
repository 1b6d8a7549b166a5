//! What a request's `Cache-Control` (RFC 9111, 5.2.1), `Prefer` (RFC 7240) and `X-Stainless-Retry-Count` ask for.

use std::time::Duration;

use http::HeaderMap;
use http::header::{CACHE_CONTROL, HeaderName};

/// `Prefer` has no constant in the http crate.
pub const PREFER: HeaderName = HeaderName::from_static("prefer");

/// How often an official SDK has sent a request before.
pub const RETRY_COUNT: HeaderName = HeaderName::from_static("x-stainless-retry-count");

/// A request's wishes. Directives that are not listed here are ignored, as the RFC says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "independent wishes, each with its own field on the wire")]
pub struct Directives {
    /// `no-cache`: not without asking upstream first.
    pub no_cache: bool,
    /// `only-if-cached`: never ask upstream.
    pub only_if_cached: bool,
    /// `max-age`: nothing older.
    pub max_age: Option<Duration>,
    /// `min-fresh`: nothing that is stale sooner.
    pub min_fresh: Option<Duration>,
    /// `max-stale`: also what has been stale for no longer; for ever, where it has no value.
    pub max_stale: Option<Duration>,
    /// `no-store`: nothing that this request fetches for nothing is kept.
    pub no_store: bool,
    /// `Prefer: handling=strict`: an error rather than a substitute.
    pub strict: bool,
    /// `X-Stainless-Retry-Count` above 0: the same intent as a request that had no good answer.
    pub retry: bool,
}

impl Directives {
    /// Reads them from the request's fields. Of two that disagree, and of one that is no number, the stricter reading counts.
    pub fn parse(headers: &HeaderMap) -> Self {
        let mut found = Self::default();
        for directive in members(headers, &CACHE_CONTROL) {
            let (name, value) = directive.split_once('=').unwrap_or((directive, ""));
            match name.trim().to_ascii_lowercase().as_str() {
                "no-cache" => found.no_cache = true,
                "no-store" => found.no_store = true,
                "only-if-cached" => found.only_if_cached = true,
                "max-age" => least(&mut found.max_age, seconds(value).unwrap_or(Duration::ZERO)),
                "max-stale" if value.is_empty() => least(&mut found.max_stale, Duration::MAX),
                "max-stale" => least(&mut found.max_stale, seconds(value).unwrap_or(Duration::ZERO)),
                "min-fresh" => found.min_fresh = found.min_fresh.max(Some(seconds(value).unwrap_or(Duration::MAX))),
                _ => {}
            }
        }
        found.strict = members(headers, &PREFER).any(|wish| wish.replace([' ', '"'], "").eq_ignore_ascii_case("handling=strict"));
        // What is no number is no count of an SDK's, and may as well be a retry.
        found.retry = headers.get_all(RETRY_COUNT).iter().any(|count| count.as_bytes().trim_ascii() != b"0");
        found
    }
}

fn least(kept: &mut Option<Duration>, found: Duration) {
    *kept = Some(kept.map_or(found, |kept| kept.min(found)));
}

/// RFC 9111, 1.2.2 and 5.2: whole seconds; a recipient takes them in quotes, too.
fn seconds(value: &str) -> Option<Duration> {
    let digits = value.trim().trim_matches('"');
    let is_whole = !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit());
    // What is too large for the type is longer than anything.
    is_whole.then(|| digits.parse().map_or(Duration::MAX, Duration::from_secs))
}

/// The members of a comma-separated field, over all its lines. None of the members read here may hold a quoted comma.
fn members<'h>(headers: &'h HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'h str> {
    let lines = headers.get_all(name).into_iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split([',', ';'])).map(str::trim).filter(|member| !member.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(fields: &[(&HeaderName, &str)]) -> Directives {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, value.parse().expect("a field value"));
        }
        Directives::parse(&headers)
    }

    #[test]
    fn directives_are_read_in_any_case_and_over_several_lines() {
        let found = parsed(&[(&CACHE_CONTROL, "No-Cache, max-age=60"), (&CACHE_CONTROL, "max-age=\"30\", only-if-cached , future=1")]);
        let thirty = Some(Duration::from_secs(30));
        assert_eq!(found, Directives { no_cache: true, only_if_cached: true, max_age: thirty, ..Directives::default() });
        let second = Duration::from_secs(1);
        let found = parsed(&[(&CACHE_CONTROL, "min-fresh=60, max-stale, max-stale=\"90\"; min-fresh=61, NO-STORE")]);
        assert_eq!((found.min_fresh, found.max_stale, found.no_store), (Some(61 * second), Some(90 * second), true));
        assert_eq!(parsed(&[(&CACHE_CONTROL, "max-stale")]).max_stale, Some(Duration::MAX));
        assert_eq!(parsed(&[(&CACHE_CONTROL, "max-age=99999999999999999999")]).max_age, Some(Duration::MAX), "9111, 1.2.2");
        assert!(parsed(&[(&PREFER, "respond-async, handling = strict")]).strict);
        assert_eq!(parsed(&[]), Directives::default());
    }

    #[test]
    fn what_is_no_number_is_read_the_strict_way() {
        for value in ["soon", "-1", "+5", "1.5", "\"\"", " "] {
            let found = parsed(&[(&CACHE_CONTROL, &format!("max-age={value}, max-stale={value}, min-fresh={value}"))]);
            let stale = if value == " " { Duration::MAX } else { Duration::ZERO };
            assert_eq!((found.max_age, found.max_stale), (Some(Duration::ZERO), Some(stale)), "{value:?}");
            assert_eq!(found.min_fresh, Some(Duration::MAX), "{value:?}");
        }
    }
}
