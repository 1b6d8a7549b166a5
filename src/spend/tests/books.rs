//! The books: pages, exports, and each thing that a verification finds.

use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::spend::books::{Books, BooksFailure, COLUMNS, Export, Filter, Format, Row, State, moment};

/// A ledger with a charge in each state but corrected: 1 settled, 2 released, 3 assumed, 4 held.
pub(super) async fn four(bench: &Bench) -> (Ledger, Hold) {
    let ledger = bench.open(vec![budget("all", "1.00")]);
    ledger.hold(charge("a")).await.expect("held").settle("200").await.expect("written");
    ledger.hold(charge("b")).await.expect("held").release("404").await.expect("written");
    ledger.hold(charge("a")).await.expect("held").assume("timed out").await.expect("written");
    let hold = ledger.hold(charge("b")).await.expect("held");
    (ledger, hold)
}

/// What a verification says after the file was changed by hand.
async fn found(statements: &str) -> Vec<String> {
    let bench = Bench::new();
    let (_ledger, _hold) = four(&bench).await;
    bench.sql(&format!("PRAGMA ignore_check_constraints = ON; PRAGMA foreign_keys = OFF; {statements}"));
    let report = Books::open(&bench.path()).expect("opens").verify(&[], |_, _| {}).expect("readable");
    assert_eq!(report.summary.violations, report.violations.len() as u64);
    report.violations.iter().map(ToString::to_string).collect()
}

fn all(mut export: Export) -> String {
    let mut text = Vec::new();
    while let Some(part) = export.next_part().expect("readable") {
        text.extend(part);
    }
    String::from_utf8(text).expect("text")
}

const PUT: &str = "INSERT INTO entry (charge, at_us, kind, amount_micros, why)";

#[tokio::test]
async fn a_ledger_that_the_gateway_wrote_is_right() {
    let bench = Bench::new();
    let (ledger, _hold) = four(&bench).await;
    assert_eq!(ledger.correct(HoldId(3), Finding::NotBilled, "a look found older data").await, Ok(true));
    let mut seen = Vec::new();
    let report = Books::open(&bench.path()).expect("opens").verify(&[], |done, total| seen.push((done, total))).expect("readable");
    assert!(report.is_clean() && report.notes.is_empty(), "{report:?}");
    let summary = report.summary;
    assert_eq!((summary.charges, summary.entries, summary.posted, summary.held), (4, 4, usd("0.10"), usd("0.10")));
    assert_eq!(seen, [(4, 4)]);
}

#[tokio::test]
async fn what_was_spent_is_added_up_and_what_cost_nothing_is_not() {
    let bench = Bench::new();
    let (ledger, _hold) = four(&bench).await;
    ledger.hold(charge("a")).await.expect("held").settle("200").await.expect("written");
    bench.clock.advance(Duration::from_hours(1));
    ledger.hold(charge("b")).await.expect("held").settle("200").await.expect("written");
    let books = Books::open(&bench.path()).expect("opens");
    let spending = books.spending(Timestamp::UNIX_EPOCH, 3).expect("readable");
    let hours: Vec<_> = spending.by_hour.iter().map(|hour| (hour.calls, hour.posted)).collect();
    assert_eq!(hours, [(3, usd("0.30")), (1, usd("0.10"))], "the released one and the one under way are in none");
    assert_eq!(spending.by_hour[1].of.starts_at.duration_since(spending.by_hour[0].of.starts_at).as_hours(), 1);
    let callers: Vec<_> = spending.callers.iter().map(|caller| (&*caller.of.caller, caller.calls, caller.posted)).collect();
    assert_eq!(callers, [("a", 3, usd("0.30")), ("b", 1, usd("0.10"))]);
    assert_eq!(spending.numbers.iter().map(|number| number.posted).sum::<Usd>(), usd("0.40"));
    assert_eq!(spending.latest.iter().map(|row| row.id).collect::<Vec<_>>(), [6, 5, 4], "the newest first");
    let later = books.spending(bench.clock.now(), 3).expect("readable");
    assert_eq!((later.by_hour.len(), later.callers.len(), later.latest.len()), (1, 1, 1));
}

#[tokio::test]
async fn each_wrong_value_of_a_charge_is_found() {
    for (statement, said) in [
        ("UPDATE charge SET number = '+12' WHERE id = 3", "charge 3: its number \"+12\": a phone number is written in E.164"),
        ("UPDATE charge SET operation = 'free' WHERE id = 1", "charge 1: its operation \"free\": not a billable operation"),
        ("UPDATE charge SET enterprise = 'x' WHERE id = 2", "charge 2: its enterprise \"x\": an enterprise id is a UUID"),
        ("UPDATE charge SET enterprise = upper(enterprise) WHERE id = 2", "charge 2: its enterprise \"6A09CDC3"),
        ("UPDATE charge SET caller = '' WHERE id = 4", "charge 4: its caller has no name"),
        ("UPDATE charge SET held_at_us = 9223372036854775807 WHERE id = 4", "charge 4: its time is none"),
        ("UPDATE entry SET at_us = 9223372036854775807 WHERE charge = 3", "charge 3: the time of entry 3 is none"),
        ("UPDATE charge SET id = -9223372036854775808, caller = '' WHERE id = 4", "charge -9223372036854775808: its caller has no name"),
        ("UPDATE sqlite_sequence SET seq = 3", "charge 4: `sqlite_sequence` does not know its id"),
    ] {
        let found = found(statement).await;
        assert!(found.len() == 1 && found[0].starts_with(said), "{statement}: {found:?}");
    }
}

#[tokio::test]
async fn each_wrong_entry_is_found() {
    for (statements, said) in [
        (
            "UPDATE entry SET amount_micros = 90000 WHERE charge = 1".to_owned(),
            "charge 1: entry 1 is settled and posts 0.09, and should post 0.10",
        ),
        (
            "UPDATE entry SET amount_micros = 0 WHERE charge = 3".to_owned(),
            "charge 3: entry 3 is assumed and posts 0.00, and should post 0.10",
        ),
        (format!("DROP INDEX entry_end; {PUT} VALUES (2, 0, 'released', 0, 'again')"), "charge 2: it ended 2 times, in entries 2, 4"),
        (
            format!("{PUT} VALUES (4, 0, 'corrected', 0, 'early')"),
            "charge 4: its entries are corrected, and only one that was assumed is corrected, once",
        ),
        (
            format!("{PUT} VALUES (1, 0, 'corrected', -100000, 'by hand')"),
            "charge 1: its entries are settled, corrected, and only one that was assumed is corrected, once",
        ),
        (
            format!("{PUT} VALUES (3, 0, 'corrected', 0, 'once'), (3, 0, 'corrected', -100000, 'twice')"),
            "charge 3: its entries are assumed, corrected, corrected, and only one that was assumed is corrected, once",
        ),
        (
            format!("{PUT} VALUES (3, 0, 'corrected', -1, 'a part')"),
            "charge 3: entry 4 corrects by -0.000001, and should by nothing or by the whole price of 0.10",
        ),
        (
            "DELETE FROM entry WHERE charge = 2; DELETE FROM charge WHERE id = 2; INSERT INTO entry VALUES (9, 2, 0, 'released', 0, '')"
                .to_owned(),
            "charge 2: row 9 of `entry` belongs to it, and it does not exist",
        ),
    ] {
        let found = found(&statements).await;
        assert_eq!(found, [said], "{statements}");
    }
}

#[tokio::test]
async fn what_the_schema_forbids_is_found_by_both_checks() {
    for (statement, said) in [
        ("UPDATE entry SET amount_micros = 1 WHERE charge = 2", "charge 2: entry 2 is released and posts 0.000001, and should post 0.00"),
        ("UPDATE entry SET kind = 'lost' WHERE charge = 3", "charge 3: entry 3 is \"lost\", which is no kind of entry"),
        ("UPDATE charge SET price_micros = -1 WHERE id = 4", "charge 4: its price is -0.000001"),
    ] {
        let mut found = found(statement).await;
        found.retain(|violation| !violation.starts_with("SQLite's integrity check: CHECK constraint failed"));
        assert_eq!(found, [said], "{statement}");
    }
}

#[tokio::test]
async fn views_that_say_something_else_are_found() {
    let view = "DROP VIEW balance; CREATE VIEW balance AS SELECT *, 7 AS posted_micros, NULL AS held_micros FROM charge WHERE id > 2";
    assert_eq!(
        found(view).await,
        [
            "charge 1: it is not in the views `balance` and `spend`",
            "charge 2: it is not in the views `balance` and `spend`",
            "charge 3: the view `balance` says 0.000007, and its rows say 0.10",
            "charge 3: the view `spend` says 0.000007, and its rows say 0.10",
            "charge 4: the view `balance` says 0.000007, and its rows say 0.00",
            "charge 4: the view `balance` says 0.00 held, and its rows say 0.10",
            "charge 4: the view `spend` says 0.000007, and its rows say 0.00",
        ]
    );
    let gone = found("DROP VIEW spend").await;
    assert!(gone.len() == 1 && gone[0].starts_with("the views cannot be read for charges 1 to 4: no such table"), "{gone:?}");
}

#[tokio::test]
async fn a_file_with_broken_pages_is_reported_as_far_as_it_can_be_read() {
    for is_schema_broken in [false, true] {
        let bench = Bench::new();
        let (ledger, _hold) = four(&bench).await;
        ledger.close().await;
        let root = "SELECT (rootpage - 1) * 4096 FROM sqlite_schema WHERE name = 'charge'";
        let page: i64 = Connection::open(bench.path()).and_then(|file| file.query_row(root, [], |row| row.get(0))).expect("a page");
        let page = usize::try_from(page).expect("a place in the file");
        let mut file = std::fs::read(bench.path()).expect("readable");
        let range = if is_schema_broken { 4096..file.len() } else { page..page + 4096 };
        file[range].fill(0x5a);
        std::fs::write(bench.path(), file).expect("writable");
        let report = Books::open(&bench.path()).expect("opens").verify(&[], |_, _| {}).expect("a report");
        assert!(report.violations.last().expect("some").what.starts_with("the check broke off: "), "{report:?}");
    }
}

#[tokio::test]
async fn each_wrong_row_beside_the_charges_is_found() {
    const OVERRIDE: &str = "INSERT INTO budget_override (at_us, budget, amount_micros, expires_at_us, reason, author) VALUES";
    const THRESHOLD: &str = "INSERT INTO budget_threshold VALUES";
    const ROLLED: &str = "INSERT INTO rolled_up VALUES";
    const RECONCILED: &str = "INSERT INTO reconciliation (at_us, first_day, last_day, posted_micros, billed_micros, drifts) VALUES";
    let id = "6a09cdc3-8948-47f0-aa62-74ac943d6c58";
    for (statement, said) in [
        (format!("{OVERRIDE} (1, 'all', 5, 2, ' ', 'me')"), "override 1 of budget \"all\" has no reason"),
        (format!("{OVERRIDE} (1, 'all', 5, 2, 'why', '')"), "override 1 of budget \"all\" has no author"),
        (format!("{OVERRIDE} (2, 'all', 5, 2, 'why', 'me')"), "override 1 of budget \"all\" expired before it began"),
        (
            format!("{THRESHOLD} ('all', 0, 9, 50, 1, 5, 10), ('all', 0, 9, 95, 1, 10, 10)"),
            "threshold 80 of budget \"all\", 1970-01-01T00:00:00Z, is missing below 95",
        ),
        (
            format!("{THRESHOLD} ('all', 0, 9, 40, 1, 9, 10)"),
            "threshold 40 of budget \"all\", 1970-01-01T00:00:00Z, is none of 50, 80, 95, 100",
        ),
        (
            format!("{THRESHOLD} ('all', 0, 9, 50, 1, 4, 10)"),
            "threshold 50 of budget \"all\", 1970-01-01T00:00:00Z, was recorded at 0.000004 of 0.00001",
        ),
        ("INSERT INTO kill_switch VALUES (1, 1, 1, '', 'me')".to_owned(), "row 1 of `kill_switch` has no reason"),
        (
            format!("{ROLLED} ('2026-3-1', 'a', '{id}', 'fresh', 1, 0)"),
            "what was rolled up of 2026-3-1, \"a\", fresh, has a day that is no date",
        ),
        (format!("{ROLLED} ('2026-03-01', 'a', '{id}', 'fresh', 0, 0)"), "what was rolled up of 2026-03-01, \"a\", fresh, has no calls"),
        (format!("{ROLLED} ('2026-03-01', 'a', '{id}', 'fresh', -1, 0)"), "what was rolled up of 2026-03-01, \"a\", fresh, has no calls"),
        (
            format!("{ROLLED} ('2026-03-01', 'a', '{id}', 'fresh', 1, -1)"),
            "what was rolled up of 2026-03-01, \"a\", fresh, posts less than nothing",
        ),
        (format!("{RECONCILED} (1, '2026-03-02', '2026-03-01', 0, 0, 0)"), "row 1 of `reconciliation` ends before it begins"),
        (format!("{RECONCILED} (1, '2026-03-01', '2026-03-01', 5, 0, 0)"), "row 1 of `reconciliation` has no drift and two different sums"),
    ] {
        assert_eq!(found(&statement).await, [said], "{statement}");
    }
}

#[tokio::test]
async fn a_window_that_was_overspent_is_noted_with_the_overrides_that_could_apply() {
    let bench = Bench::new();
    let (_ledger, _hold) = four(&bench).await;
    let books = Books::open(&bench.path()).expect("opens");
    let notes = |limit| books.verify(&[budget("all", limit)], |_, _| {}).expect("readable").notes;
    assert_eq!(notes("0.30"), []);
    let shown = |limit| notes(limit).iter().map(ToString::to_string).collect::<Vec<_>>();
    let note = "budget \"all\", 2026-06-15T00:00:00Z to 2026-06-16T00:00:00Z: 0.20 posted and 0.10 held, of 0.25 and 0.00 by overrides";
    assert_eq!(shown("0.25"), [note]);
    // The first ended before the second began.
    let noon = bench.clock.now().as_microsecond();
    let columns = "INSERT INTO budget_override (at_us, budget, amount_micros, expires_at_us, reason, author)";
    bench.sql(&format!(
        "{columns} VALUES ({noon}, 'all', 40000, {noon} + 10, 'why', 'me'), ({noon} + 10, 'all', 30000, {noon} + 20, 'why', 'me')"
    ));
    assert_eq!(shown("0.25"), [note.replace("0.00 by", "0.04 by")]);
    assert_eq!(shown("0.26"), [""; 0]);
}

#[tokio::test]
async fn pages_and_filters_give_each_row_once() {
    let bench = Bench::new();
    let (ledger, _hold) = four(&bench).await;
    let books = ledger.books().expect("opens");
    let ids =
        |filter: &Filter, after, limit| books.page(filter, after, limit).expect("readable").iter().map(|row| row.id).collect::<Vec<_>>();
    let any = Filter::default();
    assert_eq!((ids(&any, None, 3), ids(&any, Some(3), 3), ids(&any, Some(i64::MAX), 3)), (vec![1, 2, 3], vec![4], vec![]));
    let noon = bench.clock.now();
    for (filter, expected) in [
        (Filter { caller: Some("a".to_owned()), ..any.clone() }, vec![1, 3]),
        (Filter { state: Some(State::Held), ..any.clone() }, vec![4]),
        (Filter { state: Some(State::Assumed), caller: Some("b".to_owned()), ..any.clone() }, vec![]),
        (Filter { since: Some(noon), ..any.clone() }, vec![1, 2, 3, 4]),
        (Filter { until: Some(noon), ..any.clone() }, vec![]),
        (Filter { since: Some(noon + Duration::from_nanos(1)), ..any.clone() }, vec![]),
        (Filter { until: Some(noon + Duration::from_nanos(1)), ..any.clone() }, vec![1, 2, 3, 4]),
    ] {
        assert_eq!(
            (ids(&filter, None, 10), books.count(&filter).expect("readable")),
            (expected.clone(), expected.len() as u64),
            "{filter:?}"
        );
    }
    let row: &Row = &books.page(&any, Some(2), 1).expect("readable")[0];
    assert_eq!((row.state, row.why.as_deref(), row.price, row.posted), (State::Assumed, Some("timed out"), usd("0.10"), usd("0.10")));
}

#[tokio::test]
async fn an_export_is_read_back_with_its_documented_columns() {
    let bench = Bench::new();
    let (ledger, _hold) = four(&bench).await;
    let export = |format| all(ledger.books().expect("opens").export(Filter::default(), format).expect("begins"));
    let (csv, jsonl) = (export(Format::Csv), export(Format::Jsonl));
    let mut reader = csv::Reader::from_reader(csv.as_bytes());
    assert_eq!(reader.headers().expect("a first line"), &COLUMNS[..]);
    let records: Vec<csv::StringRecord> = reader.records().collect::<Result<_, _>>().expect("CSV");
    let objects: Vec<serde_json::Value> = jsonl.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!((records.len(), objects.len()), (4, 4));
    for (record, object) in records.iter().zip(&objects) {
        for (field, column) in record.iter().zip(COLUMNS) {
            let value = &object[column];
            assert_eq!(field, value.as_str().map_or_else(|| value.to_string().replace("null", ""), str::to_owned), "{column}");
        }
    }
    assert_eq!(
        csv.lines().nth(4),
        Some("4,2026-06-15T12:30:00Z,,held,,request of b,b,6a09cdc3-8948-47f0-aa62-74ac943d6c58,+12025550000,fresh,0.10,0.00")
    );
}

#[tokio::test]
async fn rows_are_found_through_indexes() {
    let bench = Bench::new();
    let (_ledger, _hold) = four(&bench).await;
    let file = Connection::open(bench.path()).expect("opens");
    for query in [
        "SELECT min(id), max(id) FROM charge WHERE held_at_us >= 1 AND held_at_us < 2",
        "SELECT charge, seq, at_us, kind, amount_micros FROM entry WHERE charge >= 1 AND charge <= 2 ORDER BY charge, seq",
        "SELECT charge.id FROM charge LEFT JOIN entry ON entry.seq = (SELECT max(seq) FROM entry AS each WHERE each.charge = charge.id)
         WHERE charge.id >= 1 AND charge.id <= 2 AND +held_at_us >= 3 ORDER BY charge.id LIMIT 4",
    ] {
        let plan: Vec<String> = file
            .prepare(&format!("EXPLAIN QUERY PLAN {query}"))
            .and_then(|mut query| query.query_map([], |row| row.get(3))?.collect())
            .expect("valid SQL");
        assert!(plan.iter().all(|step| !step.starts_with("SCAN")), "{plan:#?}");
    }
}

#[tokio::test]
async fn only_a_ledger_of_this_version_is_opened_and_none_is_made() {
    let bench = Bench::new();
    let why = |path: &Path| Books::open(path).expect_err("no ledger").why;
    assert!(matches!(why(&bench.path()), BooksFailure::Missing));
    assert!(!bench.path().exists());
    assert!(matches!(why(Path::new(":memory:")), BooksFailure::InMemory));
    bench.sql("CREATE TABLE a (b)");
    assert!(matches!(why(&bench.path()), BooksFailure::NotALedger));
    bench.sql("PRAGMA user_version = 1");
    assert!(why(&bench.path()).to_string().contains("start the gateway once, which brings it up to date"));
    bench.sql("PRAGMA user_version = 99");
    assert!(matches!(why(&bench.path()), BooksFailure::Later { found: 99, .. }));
    std::fs::write(bench.path(), "money ".repeat(30)).expect("writes");
    assert!(matches!(why(&bench.path()), BooksFailure::Database(_)));
}

#[tokio::test]
async fn a_ledger_in_memory_has_books_until_it_is_closed() {
    let bench = Bench::new();
    let ledger = bench.try_open(":memory:".into(), vec![budget("all", "1.00")]).expect("opens");
    ledger.hold(charge("a")).await.expect("held").settle("200").await.expect("written");
    let books = ledger.books().expect("opens");
    assert_eq!(books.page(&Filter::default(), None, 9).expect("readable").len(), 1);
    let found =
        books.reconcile("time,number,operation,cost\n2026-06-15T00:00:00Z,+12025550000,fresh,0.10".as_bytes(), None, None).expect("read");
    books.record(&found, bench.clock.now()).expect("written");
    assert_eq!(books.last_reconciliation().expect("readable").map(|last| last.drifts), Some(0));
    ledger.close().await;
    assert!(matches!(ledger.books().expect_err("closed").why, BooksFailure::Closed));
}

#[test]
fn a_moment_is_a_time_or_a_date() {
    let shown = |text| moment(text).map(|at| at.to_string());
    assert_eq!(shown("2026-11-01"), Ok("2026-11-01T00:00:00Z".to_owned()));
    assert_eq!(shown("2026-11-01T01:30:00+01:00"), Ok("2026-11-01T00:30:00Z".to_owned()));
    for text in ["", "2026-11", "2026-11-31", "2026-11-01T08:30:00", "2026-11-01 noon", "20261101T0"] {
        assert!(moment(text).is_err(), "{text:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn what_is_exported_adds_up_to_what_the_budgets_say(steps in proptest::collection::vec((0..3_usize, 1_i64..30, 0..5_usize), 0..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let bench = Bench::new();
            let ledger = bench.open(vec![budget("all", "1000.00"), Budget { caller: Some("a".to_owned()), ..budget("a", "1000.00") }]);
            let mut open = Vec::new();
            for (caller, cents, end) in steps {
                let price = Usd::from_micros(cents * 10_000);
                let hold = ledger.hold(Charge { price, ..charge(["a", "b", "c"][caller]) }).await.expect("room");
                match end {
                    0 => hold.settle("200").await.expect("written"),
                    1 => hold.release("404").await.expect("written"),
                    2 => hold.assume("timed out").await.expect("written"),
                    _ => open.push(hold),
                }
            }
            let books = ledger.books().expect("opens");
            for (status, caller) in ledger.budgets().iter().zip([None, Some("a".to_owned())]) {
                let filter = Filter { caller, ..Filter::default() };
                let csv = all(ledger.books().expect("opens").export(filter, Format::Csv).expect("begins"));
                let mut reader = csv::Reader::from_reader(csv.as_bytes());
                let rows: Vec<csv::StringRecord> = reader.records().collect::<Result<_, _>>().expect("CSV");
                let held = rows.iter().filter(|row| &row[3] == "held").map(|row| usd(&row[10])).sum::<Usd>();
                prop_assert_eq!((rows.iter().map(|row| usd(&row[11])).sum::<Usd>(), held), (status.spent, status.held));
            }
            let report = books.verify(&[], |_, _| {}).expect("readable");
            prop_assert_eq!(report.violations, []);
            Ok(())
        })?;
    }
}
