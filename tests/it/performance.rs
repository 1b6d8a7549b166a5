//! The tables of `docs/performance.md` that are computed and not measured: what its assumptions come to.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use reputation_gateway::policy::money::Usd;
use reputation_gateway::policy::pricing::PriceList;
use reputation_gateway::upstream;

/// Workdays of a month, and hours of a workday.
const DAYS: u64 = 22;
const HOURS: u64 = 8;
/// One number of so many is called from on a workday.
const ACTIVE: u64 = 5;
/// And looked up so often then, evenly over its hours.
const LOOKS: u64 = 16;
/// One look of so many times out after it was billed, and is sent again by the SDK.
const TIMED_OUT: u64 = 100;
/// What a copy takes in memory, in bytes, by `docs/benchmarks.md`.
const COPY: u64 = 860;

/// Of each replica: reads a second, of which one in so many is not in its memory, and one in so many is a purchase.
const READS: u64 = 1_000;
const MISSED: u64 = 1_000;
const BOUGHT: u64 = 10_000;
/// Microseconds of a thread of Redis, measured: a script that reads or writes a copy, one that commits a batch, a follower's question, and an
/// entry of the log that comes alone, for each who reads it.
const COPY_SCRIPT: u64 = 40;
const COMMIT: u64 = 200;
const QUESTION: u64 = 20;
const ENTRY: u64 = 13;
/// Of each replica: batches a second where nothing is bought, streams that it follows, questions a second for each, readers of the log's entries.
const BEATS: u64 = 1;
const STREAMS: u64 = 2;
const QUESTIONS: u64 = 4;
const READERS: u64 = 2;
/// Connections of a replica to Redis: one for the ledger, one for copies, one for each stream.
const CONNECTIONS: u64 = 2 + STREAMS;

/// Numbers on a page of a list, and minutes from one pass over it to the next.
const PAGE: u64 = 250;
const INTERVAL: u64 = 15;

fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let parts: Vec<_> = digits.as_bytes().rchunks(3).rev().map(|part| std::str::from_utf8(part).expect("digits")).collect();
    parts.join(",")
}

fn dollars(amount: Usd) -> String {
    thousands(u64::try_from(amount.micros()).expect("none is owed") / 1_000_000)
}

/// A part of a whole, in percent with one decimal.
fn percent(part: u64, whole: u64) -> String {
    let tenths = part * 1_000 / whole;
    format!("{}.{} %", tenths / 10, tenths % 10)
}

fn table(head: &str, rows: impl Iterator<Item = Vec<String>>) -> String {
    let mut text = format!("{head}\n|{}", "---|".repeat(head.matches('|').count() - 1));
    for row in rows {
        write!(text, "\n| {} |", row.join(" | ")).expect("a text");
    }
    text
}

/// Dollars of a month for so many numbers.
fn costs() -> String {
    let check = PriceList::default().check;
    let head = "| Numbers | Telnyx's schedule, each workday | `fresh=true` at each look, direct | the same through the gateway, `min_age = \"1h\"` | `min_age = \"8h\"` | looks a second while work goes on | copies of all, GB |";
    table(
        head,
        [1_000, 10_000, 100_000, 1_000_000, 10_000_000].into_iter().map(|numbers| {
            let looks_a_day = numbers / ACTIVE * LOOKS;
            let direct = looks_a_day * DAYS;
            // Looks are as far apart as the day is long for them: of those within `min_age` only the first is bought.
            let bought = |hours: u64| numbers / ACTIVE * (HOURS / hours).min(LOOKS) * DAYS;
            vec![
                thousands(numbers),
                dollars(check.times(numbers * DAYS)),
                dollars(check.times(direct + direct / TIMED_OUT)),
                dollars(check.times(bought(1))),
                dollars(check.times(bought(8))),
                thousands(looks_a_day.div_ceil(HOURS * 3_600)),
                format!("{}.{:03}", numbers * COPY / 1_000_000_000, numbers * COPY / 1_000_000 % 1_000),
            ]
        }),
    )
}

/// What one core answers.
fn core() -> String {
    let head = "| CPU a hit | hits a second, the core full | at 60 %, as one should plan | in a day at that |";
    table(
        head,
        [4, 5, 8, 10, 20].into_iter().map(|micros: u64| {
            let full = 1_000_000 / micros;
            let planned = full * 60 / 100;
            vec![
                format!("{micros} µs"),
                thousands(full),
                thousands(planned),
                format!("{} million", thousands(planned * 86_400 / 1_000_000)),
            ]
        }),
    )
}

/// What a fleet asks of Redis.
fn redis() -> String {
    let head = "| Replicas | reads a second | scripts for copies | commits | followers' questions | entries given | of one thread of Redis | connections | what the purchases cost a day |";
    table(
        head,
        [1, 10, 100, 1_000].into_iter().map(|replicas| {
            let reads = replicas * READS;
            let per_ten_seconds = |one_in: u64| reads * 10 / one_in;
            let (missed, bought) = (per_ten_seconds(MISSED), per_ten_seconds(BOUGHT));
            // What is missed is asked for and then written; what is bought is asked for and written too. One commit holds, one settles.
            let scripts = 2 * (missed + bought);
            let commits = 2 * bought + 10 * replicas * BEATS;
            let questions = 10 * replicas * STREAMS * QUESTIONS;
            let entries = 2 * bought * replicas * READERS;
            let thread = scripts * COPY_SCRIPT + commits * COMMIT + questions * QUESTION + entries * ENTRY;
            let tenth = |count: u64| {
                if count.is_multiple_of(10) { thousands(count / 10) } else { format!("{}.{}", thousands(count / 10), count % 10) }
            };
            vec![
                thousands(replicas),
                thousands(reads),
                tenth(scripts),
                tenth(commits),
                tenth(questions),
                tenth(entries),
                percent(thread, 10_000_000),
                thousands(replicas * CONNECTIONS),
                format!("${}", dollars(PriceList::default().check.times(bought * 8_640))),
            ]
        }),
    )
}

/// What a fleet may send Telnyx.
fn telnyx() -> String {
    let head = "| Replicas | requests a second that `upstream.rate` allows together | list pages a second, 10,000 numbers | list pages a second, 1,000,000 numbers |";
    let rate = upstream::Config::default().rate;
    let allowed = u64::from(rate.count.get()) / rate.per.length().as_secs();
    table(
        head,
        [1, 10, 1_000].into_iter().map(|replicas| {
            let pages = |numbers: u64| {
                let hundredths = numbers / PAGE * replicas * 100 / (INTERVAL * 60);
                format!("{}.{:02}", thousands(hundredths / 100), hundredths % 100)
            };
            vec![thousands(replicas), thousands(allowed * replicas), pages(10_000), pages(1_000_000)]
        }),
    )
}

#[test]
fn the_computed_tables_are_what_the_assumptions_come_to() {
    let document = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/performance.md")).expect("the document");
    let missing: Vec<_> = [core(), redis(), telnyx(), costs()].into_iter().filter(|table| !document.contains(table)).collect();
    assert!(missing.is_empty(), "docs/performance.md has not these tables:\n\n{}", missing.join("\n\n"));
}
