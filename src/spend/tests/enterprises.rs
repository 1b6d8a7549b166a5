//! Charges that are about an enterprise and no number, and files from before there were any.

use std::path::Path;

use super::books::four;
use super::*;
use crate::spend::books::{Books, Filter, Format};
use crate::spend::store::MIGRATIONS;

/// Monitoring enabled, by a caller.
fn enabled(caller: &str) -> Charge {
    Charge { number: None, operation: Billable::Enable, price: usd("0.20"), ..charge(caller) }
}

#[tokio::test]
async fn a_charge_without_a_number_is_kept_recalled_shown_and_right() {
    let bench = Bench::new();
    let enable = Budget { operation: Some(Billable::Enable), ..budget("enable", "0.20") };
    let ledger = bench.open(vec![budget("all", "1.00"), enable.clone()]);
    ledger.hold(enabled("a")).await.expect("held").settle("201").await.expect("written");
    assert_eq!(exhausted(ledger.hold(enabled("a")).await), "enable");
    ledger.hold(Charge { operation: Billable::Frequency, ..enabled("a") }).await.expect("held").assume("lost").await.expect("written");
    ledger.hold(charge("a")).await.expect("held").settle("200").await.expect("written");
    let books = ledger.books().expect("opens");
    let report = books.verify(&[], |_, _| {}).expect("readable");
    assert!(report.is_clean() && report.summary.charges == 3, "{report:?}");
    let rows = books.page(&Filter::default(), None, 10).expect("readable");
    let numbers: Vec<_> = rows.iter().map(|row| (row.operation, row.number.is_some())).collect();
    assert_eq!(numbers, [(Billable::Enable, false), (Billable::Frequency, false), (Billable::Fresh, true)]);
    let exported = |format| {
        let mut export = ledger.books().expect("opens").export(Filter::default(), format).expect("begins");
        String::from_utf8(export.next_part().expect("readable").expect("rows")).expect("text")
    };
    assert!(exported(Format::Csv).contains(",6a09cdc3-8948-47f0-aa62-74ac943d6c58,,enable,0.20,0.20\n"), "{}", exported(Format::Csv));
    assert!(exported(Format::Jsonl).contains("\"number\":null,\"operation\":\"enable\""), "{}", exported(Format::Jsonl));
    ledger.close().await;
    bench.take_events();
    let ledger = bench.open(vec![budget("all", "1.00"), enable]);
    assert_eq!(figures(&ledger), ["all: 0.50 + 0.00", "enable: 0.20 + 0.00"]);
    // A schedule is not recalled: nothing that a look finds could tell of it.
    insta::assert_snapshot!(bench.take_events(), @r#"
    Recalled(Posted { id: HoldId(1), enterprise: EnterpriseId(6a09cdc3-8948-47f0-aa62-74ac943d6c58), number: None, operation: Enable, held_at: 2026-06-15T12:30:00Z, is_known: true })
    Recalled(Posted { id: HoldId(3), enterprise: EnterpriseId(6a09cdc3-8948-47f0-aa62-74ac943d6c58), number: Some(+12*******00), operation: Fresh, held_at: 2026-06-15T12:30:00Z, is_known: true })
    "#);
}

#[tokio::test]
async fn a_number_where_none_belongs_or_none_where_one_does_is_found() {
    for (statement, said) in [
        ("UPDATE charge SET number = NULL WHERE id = 2", "charge 2: it has no number, and its operation is about one"),
        ("UPDATE charge SET operation = 'enable' WHERE id = 2", "charge 2: it has a number, and its operation is about an enterprise"),
    ] {
        let bench = Bench::new();
        let (_ledger, _hold) = four(&bench).await;
        bench.sql(statement);
        let report = Books::open(&bench.path()).expect("opens").verify(&[], |_, _| {}).expect("readable");
        let found: Vec<_> = report.violations.iter().map(ToString::to_string).collect();
        assert_eq!(found, [said]);
    }
}

#[tokio::test]
async fn charges_without_a_number_are_compared_with_a_bill_by_operation_and_schedules_are_not() {
    let bench = Bench::new();
    let ledger = bench.open(vec![budget("all", "9.00")]);
    ledger.hold(enabled("a")).await.expect("held").settle("201").await.expect("written");
    ledger.hold(Charge { operation: Billable::Frequency, ..enabled("a") }).await.expect("held").settle("200").await.expect("written");
    ledger.hold(Charge { operation: Billable::Unpublished, ..enabled("a") }).await.expect("held").settle("200").await.expect("written");
    ledger.hold(charge("a")).await.expect("held").settle("200").await.expect("written");
    let books = ledger.books().expect("opens");
    let bill = "time,number,operation,cost\n2026-06-15T12:00:00Z,,enable,0.20\n2026-06-15T12:00:00Z,+12025550000,,0.10\n\
                2026-06-15T12:00:00Z,+12025550007,frequency,0.10\n2026-06-15T12:00:00Z,,unpublished,0.05\n";
    let found = books.reconcile(bill.as_bytes(), None, None).expect("a bill");
    assert_eq!((found.charges, found.schedules, found.billed_rows, found.schedule_rows), (3, 1, 3, 1));
    assert_eq!((found.posted, found.billed, found.drifts.len()), (usd("0.50"), usd("0.35"), 1));
    let drift = &found.drifts[0];
    assert_eq!((drift.number, drift.operation, drift.difference), (None, Some(Billable::Unpublished), usd("0.15")));
    let numberless = "time,number,operation,cost\n2026-06-15T12:00:00Z,,fresh,0.10\n";
    assert!(books.reconcile(numberless.as_bytes(), None, None).expect_err("no number").to_string().contains("column `number`"));
}

/// All rows of a file, in their order, as texts.
fn rows(path: &Path) -> Vec<String> {
    let file = Connection::open(path).expect("opens");
    let all = |sql: &str| -> Vec<String> {
        file.prepare(sql).and_then(|mut query| query.query_map([], |row| row.get(0))?.collect()).expect("valid SQL")
    };
    [
        "SELECT concat_ws('|', id, held_at_us, request_id, caller, enterprise, number, operation, price_micros) FROM charge ORDER BY id",
        "SELECT concat_ws('|', seq, charge, at_us, kind, amount_micros, why) FROM entry ORDER BY seq",
        "SELECT concat_ws('|', id, state, posted_micros, held_at, ended_at, why, price_usd, posted_usd) FROM spend ORDER BY id",
        "SELECT concat_ws('|', id, posted_micros, held_micros) FROM balance ORDER BY id",
        "SELECT concat_ws('|', day, caller, enterprise, operation, calls, posted_micros) FROM spend_by_day ORDER BY 1",
        "SELECT concat_ws('|', seq, reason) FROM kill_switch ORDER BY seq",
        "SELECT name || seq FROM sqlite_sequence WHERE name = 'charge'",
        "SELECT type || name FROM sqlite_schema WHERE name NOT LIKE 'sqlite%' ORDER BY 1",
    ]
    .into_iter()
    .flat_map(all)
    .collect()
}

#[tokio::test]
async fn a_file_of_version_2_is_brought_to_the_present_one_and_nothing_of_it_is_lost() {
    let bench = Bench::new();
    let file = Connection::open(bench.path()).expect("opens");
    for (migration, version) in MIGRATIONS[..2].iter().zip(1..) {
        file.execute_batch(migration).expect("a schema");
        file.pragma_update(None, "user_version", version).expect("written");
    }
    let id = "6a09cdc3-8948-47f0-aa62-74ac943d6c58";
    let noon = 1_781_526_600_000_000_i64;
    for (charge, operation) in [(3, "fresh"), (5, "first_touch"), (6, "refresh"), (9, "remediation")] {
        let put = "INSERT INTO charge VALUES (?, ?, 'r', 'a', ?, '+12025550000', ?, 100000)";
        file.execute(put, rusqlite::params![charge, noon, id, operation]).expect("written");
    }
    file.execute_batch(
        "UPDATE sqlite_sequence SET seq = 12 WHERE name = 'charge';
         INSERT INTO entry VALUES (4, 3, 1781526600000001, 'settled', 100000, '200');
         INSERT INTO entry VALUES (7, 5, 1781526600000002, 'assumed', 100000, 'lost');
         INSERT INTO entry VALUES (8, 5, 1781526600000003, 'corrected', -100000, 'older data');
         INSERT INTO entry VALUES (9, 6, 1781526600000004, 'released', 0, '404');
         INSERT INTO rolled_up VALUES ('2025-01-01', 'a', '6a09cdc3-8948-47f0-aa62-74ac943d6c58', 'fresh', 3, 300000);
         INSERT INTO kill_switch VALUES (1, 1781526600000000, 0, 'tried', 'ops');",
    )
    .expect("written");
    drop(file);
    let before = rows(&bench.path());
    // Only the file's version differs from what the migration alone leaves behind: the hold that was open is assumed at the start.
    let copy = bench.dir.path().join("copy.sqlite");
    std::fs::copy(bench.path(), &copy).expect("copies");
    let mut migrated = Connection::open(&copy).expect("opens");
    store::migrate(&mut migrated).expect("migrates");
    let enforced: bool = migrated.pragma_query_value(None, "foreign_keys", |row| row.get(0)).expect("a setting");
    assert!(enforced && migrated.execute("INSERT INTO entry VALUES (99, 98, 0, 'released', 0, 'of nothing')", []).is_err());
    drop(migrated);
    assert_eq!(rows(&copy), before);

    let ledger = bench.open(vec![budget("all", "1.00")]);
    assert_eq!(figures(&ledger), ["all: 0.20 + 0.00"], "a check, and the order that was open");
    let hold = ledger.hold(enabled("a")).await.expect("held");
    assert_eq!(hold.id(), HoldId(13), "an id is never used again");
    hold.release("400").await.expect("written");
    let books = ledger.books().expect("opens");
    let report = books.verify(&[], |_, _| {}).expect("readable");
    assert!(report.is_clean() && report.summary.charges == 5, "{report:?}");
}

#[tokio::test]
async fn a_migration_that_breaks_off_leaves_the_file_as_it_was() {
    let bench = Bench::new();
    let file = Connection::open(bench.path()).expect("opens");
    for (migration, version) in MIGRATIONS[..2].iter().zip(1..) {
        file.execute_batch(migration).expect("a schema");
        file.pragma_update(None, "user_version", version).expect("written");
    }
    // A table of an operator's own takes the name that the new table needs.
    file.execute_batch("CREATE TABLE charge_3 (id INTEGER)").expect("written");
    drop(file);
    let before = rows(&bench.path());
    let mut file = Connection::open(bench.path()).expect("opens");
    assert!(store::migrate(&mut file).is_err());
    drop(file);
    assert_eq!(rows(&bench.path()), before);
    let version: i64 =
        Connection::open(bench.path()).and_then(|file| file.pragma_query_value(None, "user_version", |row| row.get(0))).expect("a version");
    assert_eq!(version, 2);
}
