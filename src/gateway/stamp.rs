//! What tells an answer apart from all others: its date and its request's id.

use std::cell::Cell;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use uuid::Builder;
use uuid::fmt::Simple;

/// A date of HTTP (RFC 9110, 5.6.7).
pub(super) type Date = [u8; 29];

/// An id of a request, as text.
pub(super) type RequestId = [u8; Simple::LENGTH];

thread_local! {
    /// The date of the second that this thread answered in last.
    static DATE: Cell<(i64, Date)> = const { Cell::new((i64::MIN, [b' '; 29])) };
}

/// The date of this second. Before 1970 the Epoch's, since no answer is from there.
pub(super) fn date(now: Timestamp) -> Date {
    let (second, date) = DATE.get();
    if second == now.as_second() {
        return date;
    }
    let since = Duration::from_secs(u64::try_from(now.as_second()).unwrap_or_default());
    let text = httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + since);
    let date = text.as_bytes().try_into().expect("its length is the same for every date");
    DATE.set((now.as_second(), date));
    date
}

/// An id of 32 hexadecimal digits, a UUID of version 7 (RFC 9562, 5.7): ids sort by their milliseconds, and nothing else can be told from them.
pub(super) fn request_id(now: Timestamp) -> RequestId {
    let mut random = [0; 10];
    fastrand::fill(&mut random);
    let millis = u64::try_from(now.as_millisecond()).unwrap_or_default();
    let mut id = RequestId::default();
    Builder::from_unix_timestamp_millis(millis, &random).into_uuid().simple().encode_lower(&mut id);
    id
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_their_seconds() {
        let at = |text: &str| String::from_utf8(date(text.parse().expect("a time")).to_vec()).expect("text");
        assert_eq!(at("1994-11-06T08:49:37Z"), "Sun, 06 Nov 1994 08:49:37 GMT", "RFC 9110's own example");
        assert_eq!(at("1994-11-06T08:49:37.999Z"), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(at("1994-11-06T08:49:38Z"), "Sun, 06 Nov 1994 08:49:38 GMT");
        assert_eq!(at("1994-11-06T08:49:37Z"), "Sun, 06 Nov 1994 08:49:37 GMT", "a clock that was set back");
        assert_eq!(at("1969-12-31T23:59:59Z"), "Thu, 01 Jan 1970 00:00:00 GMT");
    }

    #[test]
    fn ids_are_uuids_of_version_7_that_begin_with_their_time_and_differ() {
        let now = "2026-03-24T12:00:00.123Z".parse().expect("a time");
        let [one, other] = [request_id(now), request_id(now)].map(|id| uuid::Uuid::try_parse_ascii(&id).expect("a UUID"));
        assert_ne!(one, other);
        assert_eq!((one.get_version_num(), one.get_timestamp().map(|at| at.to_unix())), (7, Some((1_774_353_600, 123_000_000))));
    }
}
