//! The trace context of W3C: which trace a request belongs to, and by which span of it the request was sent.
//!
//! What a caller says is parsed and written anew, so nothing else of its bytes goes on. `tracestate`, which only others understand, goes with it as it
//! came, if it is one.

use http::HeaderMap;
use http::header::{HeaderName, HeaderValue};
use std::fmt;

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// The part of `traceparent` that every version has: `00-`, 32 digits, `-`, 16 digits, `-`, 2 digits.
const LENGTH: usize = 55;

/// 3.3.1.5 wants at least so many characters of `tracestate` to be passed on.
const LONGEST_STATE: usize = 512;

const SAMPLED: u8 = 1;

/// The id of a trace; never 0. Shown as 32 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceId(u128);

/// The id of a span; never 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpanId(u64);

impl TraceId {
    /// One that nobody else has.
    pub fn random() -> Self {
        Self(fastrand::u128(1..))
    }

    /// As OTLP carries it.
    pub fn to_bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }

    /// Whether it is one of this part of all random ids.
    pub fn is_among(self, part: f64) -> bool {
        let (lower, bits) = (self.0 & u128::from(u64::MAX >> 1), 63);
        #[allow(clippy::cast_precision_loss, reason = "a part need not be exact")]
        let at = lower as f64;
        at < part * 2_f64.powi(bits)
    }
}

impl SpanId {
    /// One that no other span of its trace has.
    pub fn random() -> Self {
        Self(fastrand::u64(1..))
    }

    /// As OTLP carries it.
    pub fn to_bytes(self) -> [u8; 8] {
        self.0.to_be_bytes()
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// A span, as others refer to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpanContext {
    /// Its trace.
    pub trace: TraceId,
    /// Itself.
    pub span: SpanId,
    flags: u8,
}

impl SpanContext {
    /// The first span of a trace that is recorded.
    pub fn root() -> Self {
        Self { trace: TraceId::random(), span: SpanId::random(), flags: SAMPLED }
    }

    /// A span of the same trace, recorded if this one is.
    #[must_use]
    pub fn child(self) -> Self {
        Self { span: SpanId::random(), ..self }
    }

    /// Whether whoever began the trace wants it recorded.
    pub fn is_sampled(self) -> bool {
        self.flags & SAMPLED != 0
    }

    /// As OTLP carries them.
    pub fn flags(self) -> u32 {
        self.flags.into()
    }

    /// 2.2 to 3.2: lower-case digits alone, no id of zeros, and not version `ff`. A later version begins as this one does.
    fn parse(text: &[u8]) -> Option<Self> {
        let (known, rest) = (text.get(..LENGTH)?, &text[LENGTH..]);
        let mut parts = known.split(|byte| *byte == b'-');
        let mut part = |length| parts.next().filter(|part| part.len() == length).and_then(hexadecimal);
        let (version, trace, span, flags) = (part(2)?, part(32)?, part(16)?, part(2)?);
        let is_whole = match version {
            0 => rest.is_empty(),
            0xff => false,
            _ => rest.first().is_none_or(|byte| *byte == b'-'),
        };
        let known = is_whole && trace != 0 && span != 0;
        known.then_some(Self { trace: TraceId(trace), span: SpanId(u64::try_from(span).ok()?), flags: u8::try_from(flags).ok()? })
    }
}

impl fmt::Display for SpanContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{}-{:016x}-{:02x}", self.trace, self.span.0, self.flags)
    }
}

/// What goes with a request: the span that it is sent by, and what others say of the trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    /// The span.
    pub context: SpanContext,
    /// `tracestate`.
    pub state: Option<HeaderValue>,
}

impl Trace {
    /// A trace that begins here.
    pub fn begin() -> Self {
        Self { context: SpanContext::root(), state: None }
    }

    /// What a request came with; none, if that is no trace context, or several.
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        let mut parents = headers.get_all(TRACEPARENT).into_iter();
        let context = SpanContext::parse(parents.next()?.as_bytes())?;
        parents.next().is_none().then(|| Self { context, state: state(headers) })
    }

    /// The same with a span below this one.
    #[must_use]
    pub fn child(&self) -> Self {
        Self { context: self.context.child(), state: self.state.clone() }
    }

    /// Puts it into a request's fields.
    pub fn write_to(&self, headers: &mut HeaderMap) {
        headers.insert(TRACEPARENT, HeaderValue::from_str(&self.context.to_string()).expect("digits"));
        if let Some(state) = &self.state {
            headers.insert(TRACESTATE, state.clone());
        }
    }
}

/// 3.3: one field, however many lines it came in. What is longer than anybody has to pass on, or no list of members, is left out whole.
fn state(headers: &HeaderMap) -> Option<HeaderValue> {
    let lines: Option<Vec<&str>> = headers.get_all(TRACESTATE).into_iter().map(|line| line.to_str().ok()).collect();
    let state = lines?.join(",");
    let is_state = (1..=LONGEST_STATE).contains(&state.len()) && state.split(',').all(|member| is_member(member.trim_matches([' ', '\t'])));
    if is_state { HeaderValue::from_str(&state).ok() } else { None }
}

/// 3.3.1.3: `key=value`, or nothing at all.
fn is_member(member: &str) -> bool {
    let is_key = |key: &str| {
        let plain = |byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' | b'*' | b'/' | b'@');
        key.starts_with(|first: char| first.is_ascii_lowercase() || first.is_ascii_digit()) && key.bytes().all(plain)
    };
    let is_value = |value: &str| !value.is_empty() && value.bytes().all(|byte| matches!(byte, b' '..=b'~') && byte != b'=');
    member.is_empty() || member.split_once('=').is_some_and(|(key, value)| is_key(key) && is_value(value))
}

fn hexadecimal(digits: &[u8]) -> Option<u128> {
    let lower = digits.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    std::str::from_utf8(digits).ok().filter(|_| lower).and_then(|digits| u128::from_str_radix(digits, 16).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn headers(parents: &[&str], states: &[&str]) -> HeaderMap {
        let value = |text: &str| HeaderValue::from_str(text).expect("a field's value");
        let parents = parents.iter().map(|parent| (TRACEPARENT, value(parent)));
        parents.chain(states.iter().map(|state| (TRACESTATE, value(state)))).collect()
    }

    fn written(trace: &Trace) -> HeaderMap {
        let mut fields = HeaderMap::new();
        trace.write_to(&mut fields);
        fields
    }

    #[test]
    fn a_context_is_written_as_it_was_read() {
        for parent in [PARENT, "00-00000000000000000000000000000001-0000000000000001-00"] {
            let came = headers(&[parent], &["congo=t61rcWkgMzE,rojo=00f067aa0ba902b7"]);
            assert_eq!(written(&Trace::of(&came).expect(parent)), came);
        }
        let later = Trace::of(&headers(&[&PARENT.replace("00-4", "cc-4")], &[])).expect("a later version");
        assert_eq!(later.context.to_string(), PARENT, "is answered in the version that is known");
        assert!(Trace::of(&headers(&[&format!("{}-what-comes", PARENT.replace("00-4", "cc-4"))], &[])).is_some());
    }

    #[test]
    fn a_context_that_is_none_is_ignored() {
        for parent in [
            "",
            "00",
            "00-x",
            &PARENT.to_uppercase(),
            &PARENT.replace("00-4", "ff-4"),
            &PARENT.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)),
            &PARENT.replace("00f067aa0ba902b7", &"0".repeat(16)),
            &PARENT.replace("b7-01", "b7-0g"),
            &PARENT.replace("b7-01", "b7001"),
            &format!("{PARENT}-"),
            &format!("{}x", PARENT.replace("00-4", "cc-4")),
            &PARENT[..54],
            &PARENT.replace("4bf9", "+bf9"),
        ] {
            assert_eq!(Trace::of(&headers(&[parent], &["a=b"])), None, "{parent}");
        }
        assert_eq!(Trace::of(&headers(&[PARENT, PARENT], &[])), None, "which of them it is nobody can tell");
        assert_eq!(Trace::of(&headers(&[], &["a=b"])), None);
    }

    #[test]
    fn a_state_that_is_none_is_left_out_and_several_lines_are_one() {
        let state = |states: &[&str]| Trace::of(&headers(&[PARENT], states)).expect("a context").state;
        for states in [&["a"][..], &["A=b"], &["a=b=c"], &["a=\t"], &["a=b", "c"], &["=b"], &["a="], &[&format!("a={}", "b".repeat(511))]] {
            assert_eq!(state(states), None, "{states:?}");
        }
        assert_eq!(state(&["a=b", "tenant@vendor=c d ,"]).expect("a state"), "a=b,tenant@vendor=c d ,");
    }

    #[test]
    fn a_child_is_another_span_of_the_same_trace() {
        let trace = Trace::of(&headers(&[PARENT], &["a=b"])).expect("a context");
        let child = trace.child();
        assert_eq!((child.context.trace, &child.state, child.context.is_sampled()), (trace.context.trace, &trace.state, true));
        assert_ne!(child.context.span, trace.context.span);
    }

    #[test]
    fn a_part_of_all_traces_is_that_part() {
        fastrand::seed(7);
        let among = |part| (0..10_000).filter(|_| TraceId::random().is_among(part)).count();
        assert_eq!((among(0.0), among(1.0)), (0, 10_000));
        assert!((2_300..2_700).contains(&among(0.25)), "{}", among(0.25));
    }
}
