//! The access log: the one line that a request leaves, written straight into the log's buffer.
//!
//! It looks as if `tracing` had written it, and `telemetry.log` decides about it as about any event of the target `access`; but no event is made, since
//! collecting and formatting one costs more than a hit.

use std::fmt::Display;
use std::io::Write;
use std::time::Duration;

use jiff::Timestamp;

use super::config::Format;
use super::log::Log;
use crate::policy::decision::Decision;
use crate::policy::evidence::Billing;
use crate::policy::money::Usd;
use crate::telnyx::{EnterpriseId, Operation, PhoneNumber};
use crate::wire::trace::TraceId;

/// What a request leaves in the log.
#[derive(Clone, Copy, Debug)]
pub struct Line<'l> {
    /// When it ended.
    pub at: Timestamp,
    /// Its id, as in the answer's header and the ledger.
    pub request_id: &'l str,
    /// The trace that it belongs to.
    pub trace_id: Option<TraceId>,
    /// The caller's name.
    pub caller: &'l str,
    /// The method, which HTTP makes of letters that need no quoting.
    pub method: &'l str,
    /// What it asked for.
    pub operation: Operation,
    /// The enterprise that it was about.
    pub enterprise: Option<EnterpriseId>,
    /// That one's name, which is logged instead of its id.
    pub enterprise_name: Option<&'l str>,
    /// The number that it was about; masked, unless the configuration wants it whole.
    pub number: Option<PhoneNumber>,
    /// The answer's status.
    pub status: u16,
    /// How it was decided.
    pub decision: Decision,
    /// Whether it was billed.
    pub billed: Billing,
    /// What it cost, or may have cost.
    pub cost: Usd,
    /// Where its answer came from, as `Cache-Status` says it in one word.
    pub cache_status: Option<&'l str>,
    /// What was streamed upstream and back, in bytes.
    pub streamed: Option<(u64, u64)>,
    /// From its head to its answer.
    pub duration: Duration,
    /// The part of that which was spent waiting for the upstream.
    pub upstream: Duration,
}

/// Whether lines are wanted. Without, none has to be put together.
#[inline]
pub fn is_wanted() -> bool {
    tracing::enabled!(target: "access", tracing::Level::INFO)
}

/// Appends a line to the log, if there is one.
pub fn write(line: &Line<'_>) {
    if let Some(log) = Log::of_process() {
        log.spool.append(line.at, |bytes, stamp| line.write_to(bytes, stamp.at(line.at), log.format, log.full_numbers));
    }
}

impl Line<'_> {
    fn write_to(&self, lines: &mut Vec<u8>, moment: &[u8], format: Format, full_numbers: bool) {
        match format {
            Format::Json => {
                lines.extend_from_slice(br#"{"timestamp":""#);
                lines.extend_from_slice(moment);
                lines.extend_from_slice(br#"","level":"INFO","message":"request""#);
                self.fields(&mut Json(lines), full_numbers);
                lines.extend_from_slice(b",\"target\":\"access\"}\n");
            }
            Format::Text => {
                lines.extend_from_slice(moment);
                lines.extend_from_slice(b"  INFO access: request");
                self.fields(&mut Text(lines), full_numbers);
                lines.push(b'\n');
            }
        }
    }

    fn fields(&self, to: &mut impl Fields, full_numbers: bool) {
        to.text("request_id", self.request_id);
        if let Some(trace) = self.trace_id {
            to.plain("trace_id", trace);
        }
        to.text("caller", self.caller);
        to.bare("method", self.method);
        to.text("operation", self.operation.as_str());
        match (self.enterprise_name, self.enterprise) {
            (Some(name), _) => to.text("enterprise", name),
            (None, Some(id)) => to.plain("enterprise", id),
            (None, None) => {}
        }
        match self.number {
            Some(number) if full_numbers => to.plain("number", number),
            Some(number) => to.plain("number", format_args!("{number:?}")),
            None => {}
        }
        to.whole("status", self.status.into());
        to.text("decision", self.decision.as_str());
        to.text("billed", self.billed.answer());
        match self.cost {
            Usd::ZERO => to.bare("cost_usd", "0.00"),
            cost => to.bare("cost_usd", cost),
        }
        if let Some(word) = self.cache_status {
            to.text("cache_status", word);
        }
        if let Some((up, down)) = self.streamed {
            to.whole("bytes_up", up);
            to.whole("bytes_down", down);
        }
        to.whole("duration_us", microseconds(self.duration));
        to.whole("upstream_us", microseconds(self.upstream));
    }
}

fn microseconds(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// How fields are written.
trait Fields {
    /// Any text.
    fn text(&mut self, name: &str, value: &str);
    /// A text without anything that has to be escaped.
    fn plain(&mut self, name: &str, value: impl Display);
    /// The same, where people see it without quotes.
    fn bare(&mut self, name: &str, value: impl Display);
    /// A whole number.
    fn whole(&mut self, name: &str, value: u64);
}

const TAKES_ALL: &str = "a vector takes every byte";

/// Members of a JSON object, each after another one.
struct Json<'b>(&'b mut Vec<u8>);

impl Json<'_> {
    #[inline]
    fn name(&mut self, name: &str) {
        self.0.extend_from_slice(b",\"");
        self.0.extend_from_slice(name.as_bytes());
        self.0.extend_from_slice(b"\":");
    }
}

impl Fields for Json<'_> {
    fn text(&mut self, name: &str, value: &str) {
        self.name(name);
        serde_json::to_writer(&mut *self.0, value).expect(TAKES_ALL);
    }

    fn plain(&mut self, name: &str, value: impl Display) {
        self.name(name);
        write!(self.0, "\"{value}\"").expect(TAKES_ALL);
    }

    fn bare(&mut self, name: &str, value: impl Display) {
        self.plain(name, value);
    }

    fn whole(&mut self, name: &str, value: u64) {
        self.name(name);
        serde_json::to_writer(&mut *self.0, &value).expect(TAKES_ALL);
    }
}

/// Text for people.
struct Text<'b>(&'b mut Vec<u8>);

impl Fields for Text<'_> {
    fn text(&mut self, name: &str, value: &str) {
        write!(self.0, " {name}={value:?}").expect(TAKES_ALL);
    }

    fn plain(&mut self, name: &str, value: impl Display) {
        write!(self.0, " {name}=\"{value}\"").expect(TAKES_ALL);
    }

    fn bare(&mut self, name: &str, value: impl Display) {
        write!(self.0, " {name}={value}").expect(TAKES_ALL);
    }

    fn whole(&mut self, name: &str, value: u64) {
        self.bare(name, value);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use prometheus::IntCounter;
    use proptest::prelude::*;
    use tracing_subscriber::fmt::format::Writer;
    use tracing_subscriber::fmt::time::FormatTime;

    use super::*;
    use crate::telemetry::spool::{Events, Spool};

    const AT: &str = "2026-11-21T10:17:21.890512Z";

    /// A clock that stands.
    struct Stands;

    impl FormatTime for Stands {
        fn format_time(&self, writer: &mut Writer<'_>) -> std::fmt::Result {
            writer.write_str(AT)
        }
    }

    fn line() -> Line<'static> {
        Line {
            at: AT.parse().expect("a moment"),
            request_id: "01a1fd9c4edc72d9aa1e25bef3a12238",
            trace_id: None,
            caller: "dialer",
            method: "GET",
            operation: Operation::Retrieve,
            enterprise: "6a09cdc3-8948-47f0-aa62-74ac943d6c58".parse().ok(),
            enterprise_name: None,
            number: "+12025550000".parse().ok(),
            status: 200,
            decision: Decision::Billed,
            billed: Billing::Billed,
            cost: Usd::from_micros(100_000),
            cache_status: Some("request"),
            streamed: None,
            duration: Duration::from_nanos(5_902_999),
            upstream: Duration::from_micros(5_552),
        }
    }

    fn written(spool: &Spool) -> String {
        let mut bytes = Vec::new();
        spool.close();
        spool.run(&mut bytes, Duration::ZERO);
        String::from_utf8(bytes).expect("text")
    }

    fn spool() -> Arc<Spool> {
        Arc::new(Spool::new(IntCounter::new("dropped", "Lines.").expect("a name")))
    }

    fn ours(line: &Line<'_>, format: Format, full_numbers: bool) -> String {
        let spool = spool();
        spool.append(line.at, |bytes, stamp| line.write_to(bytes, stamp.at(line.at), format, full_numbers));
        written(&spool)
    }

    /// What `tracing` makes of the same fields as an event.
    fn of_tracing(line: &Line<'_>, format: Format) -> String {
        let spool = spool();
        let builder = tracing_subscriber::fmt().with_writer(Events(Arc::clone(&spool))).with_timer(Stands).with_ansi(false);
        let log = || {
            tracing::info!(
                target: "access",
                request_id = line.request_id,
                trace_id = line.trace_id.map(|id| id.to_string()),
                caller = line.caller,
                method = %line.method,
                operation = line.operation.as_str(),
                enterprise = line.enterprise_name.map(ToOwned::to_owned).or(line.enterprise.map(|id| id.to_string())),
                number = line.number.map(PhoneNumber::masked),
                status = line.status,
                decision = line.decision.as_str(),
                billed = line.billed.answer(),
                cost_usd = %line.cost,
                cache_status = line.cache_status,
                bytes_up = line.streamed.map(|(up, _)| up),
                bytes_down = line.streamed.map(|(_, down)| down),
                duration_us = microseconds(line.duration),
                upstream_us = microseconds(line.upstream),
                "request"
            );
        };
        match format {
            Format::Json => tracing::subscriber::with_default(builder.json().flatten_event(true).finish(), log),
            Format::Text => tracing::subscriber::with_default(builder.compact().finish(), log),
        }
        written(&spool)
    }

    #[test]
    fn a_line_shows_what_was_decided_and_hides_the_number() {
        let json = concat!(
            r#"{"timestamp":"2026-11-21T10:17:21.890512Z","level":"INFO","message":"request","#,
            r#""request_id":"01a1fd9c4edc72d9aa1e25bef3a12238","caller":"dialer","method":"GET","operation":"retrieve","#,
            r#""enterprise":"6a09cdc3-8948-47f0-aa62-74ac943d6c58","number":"+12*******00","status":200,"decision":"billed","#,
            r#""billed":"yes","cost_usd":"0.10","cache_status":"request","duration_us":5902,"upstream_us":5552,"target":"access"}"#,
            "\n"
        );
        assert_eq!(ours(&line(), Format::Json, false), json);
        assert_eq!(ours(&line(), Format::Json, true), json.replace("+12*******00", "+12025550000"));
    }

    proptest! {
        #[test]
        fn a_line_is_what_tracing_would_have_written(
            (request_id, caller) in ("[!-~]{0,128}", ".{0,20}"),
            method in prop::sample::select(vec!["GET", "PATCH", "M-SEARCH", "A'`|~"]),
            (operation, decision, billed) in (0..Operation::ALL.len(), 0..Decision::ALL.len(), 0..Billing::ALL.len()),
            traced in any::<bool>(),
            cache_status in prop::option::of(prop::sample::select(vec!["hit", "stale", "miss"])),
            enterprise in prop::option::of(any::<u128>().prop_map(EnterpriseId::from_u128)),
            enterprise_name in prop::option::of(".{0,20}"),
            number in prop::option::of("\\+[1-9][0-9]{6,14}"),
            (status, micros) in (100..600_u16, prop_oneof![Just(0), 0..1_000_000_000_i64]),
            streamed in prop::option::of(any::<(u64, u64)>()),
            (duration, upstream) in (any::<Duration>(), any::<Duration>()),
        ) {
            let line = Line {
                request_id: &request_id,
                trace_id: traced.then(TraceId::random),
                caller: &caller,
                method,
                operation: Operation::ALL[operation],
                enterprise,
                enterprise_name: enterprise_name.as_deref(),
                number: number.map(|number| number.parse().expect("E.164")),
                status,
                decision: Decision::ALL[decision],
                billed: Billing::ALL[billed],
                cost: Usd::from_micros(micros),
                cache_status,
                streamed,
                duration,
                upstream,
                ..line()
            };
            for format in [Format::Json, Format::Text] {
                prop_assert_eq!(ours(&line, format, false), of_tracing(&line, format));
            }
        }
    }
}
