//! Reconciliations: a bill against the ledger, and bills that cannot be read.

use super::books::four;
use super::*;
use crate::spend::books::{Books, ReconcileError, moment};

#[tokio::test]
async fn a_bill_is_compared_by_day_and_number_and_the_result_is_kept() {
    let bench = Bench::new();
    let (_ledger, _hold) = four(&bench).await;
    let books = Books::open(&bench.path()).expect("opens");
    assert_eq!(books.last_reconciliation().expect("readable"), None);
    // Two charges of a number on a day, and a number that the ledger does not know; the zone puts the last on the 15th in UTC.
    let bill = "cost, note, operation, number, time\n0.10,a,fresh,+12025550000,2026-06-15T12:30:01Z\n0.10,b,,+12025550000,2026-06-15T12:30:02Z\n\
                0.25,\"c, d\",first_touch,+12025550001,2026-06-16T00:30:00+01:00\n";
    let found = books.reconcile(bill.as_bytes(), None, None).expect("a bill");
    assert_eq!((found.first_day, found.last_day), (jiff::civil::date(2026, 6, 15), jiff::civil::date(2026, 6, 15)));
    assert_eq!((found.billed_rows, found.charges, found.held, found.posted, found.billed), (3, 4, 1, usd("0.20"), usd("0.45")));
    let drifts: Vec<_> = found
        .drifts
        .iter()
        .map(|drift| (drift.number.map(|number| number.to_string()).unwrap_or_default(), drift.difference.to_string()))
        .collect();
    assert_eq!(drifts, [("+12025550001".to_owned(), "-0.25".to_owned())]);
    books.record(&found, bench.clock.now()).expect("written");
    let last = books.last_reconciliation().expect("readable").expect("recorded");
    assert_eq!((last.at, last.drift.to_string(), last.drifts), (bench.clock.now(), "-0.25".to_owned(), 1));
    let day = |text| moment(text).ok();
    let bounded = books.reconcile(bill.as_bytes(), day("2026-06-14"), day("2026-06-15T12:30:02Z")).expect("a bill");
    assert_eq!((bounded.billed_rows, bounded.other_rows, bounded.billed), (1, 2, usd("0.10")));
    let empty = "time,number,operation,cost\n".as_bytes();
    assert!(matches!(books.reconcile(empty, None, None), Err(ReconcileError::NoDays)));
    assert_eq!(books.reconcile(empty, day("2026-06-15"), day("2026-06-16")).expect("days").drift, usd("0.20"));
    bench.sql("INSERT INTO rolled_up VALUES ('2026-06-15', 'a', '6a09cdc3-8948-47f0-aa62-74ac943d6c58', 'fresh', 1, 100000)");
    let refused = books.reconcile(bill.as_bytes(), None, None).expect_err("rolled up").to_string();
    assert!(refused.ends_with("--since 2026-06-16"), "{refused}");
}

#[tokio::test]
async fn a_bill_that_cannot_be_read_says_where_and_how_to_mend_it() {
    let bench = Bench::new();
    let (ledger, _hold) = four(&bench).await;
    let books = ledger.books().expect("opens");
    let row = |row: &str| format!("time,number,operation,cost\n2026-06-15T00:00:00Z,+12025550000,fresh,0.10\n{row}\n");
    for (bill, said) in [
        ("time,number,cost\n".to_owned(), "line 1: no column is named `operation`; the first line has to name the columns"),
        ("time,number,operation,cost,cost\n".to_owned(), "line 1: two columns are named `cost`"),
        (row("yesterday,+12025550000,fresh,0.10"), "line 3: column `time`: \"yesterday\" is not a time: write it in RFC 3339"),
        (row("2026-06-15T00:00:00Z,2025550000,fresh,0.10"), "line 3: column `number`: \"2025550000\" is not a phone number"),
        (row("2026-06-15T00:00:00Z,+12025550000,sms,0.10"), "line 3: column `operation`: \"sms\" is not an operation of this ledger"),
        (row("2026-06-15T00:00:00Z,+12025550000,fresh,$0.10"), "line 3: column `cost`: \"$0.10\" is not an amount of dollars"),
        (row("2026-06-15T00:00:00Z,+12025550000,fresh,0,10"), "line 3: 5 fields, and the first line has 4"),
    ] {
        let error = books.reconcile(bill.as_bytes(), None, None).expect_err(&bill).to_string();
        assert!(error.starts_with(said), "{error}");
    }
    let error = books.reconcile(&b"time,number,operation,cost\n\xff,,,\n"[..], None, None).expect_err("no text").to_string();
    assert_eq!(error, "line 2: not UTF-8; save the file as UTF-8");
}
