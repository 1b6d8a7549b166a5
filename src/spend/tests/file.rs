//! The file: crashes, faults, other processes, other readers.

use std::path::Path;

use rusqlite::params;

use super::*;

#[tokio::test]
async fn after_a_crash_usage_is_kept_and_open_holds_are_assumed() {
    let bench = Bench::new();
    let ledger = bench.open(vec![budget("all", "1.00")]);
    ledger.hold(charge("a")).await.expect("held").settle("200").await.expect("written");
    let _open = ledger.hold(charge("b")).await.expect("held");
    // What the disk has while the process lives is what is left when it dies.
    let after = bench.dir.path().join("after.sqlite");
    for suffix in ["", "-wal"] {
        let name = |base: &Path| PathBuf::from(format!("{}{suffix}", base.display()));
        std::fs::copy(name(&bench.path()), name(&after)).expect("copies");
    }
    bench.take_events();
    let ledger = bench.try_open(after, vec![budget("all", "1.00")]).expect("opens");
    assert_eq!(figures(&ledger), ["all: 0.20 + 0.00"]);
    insta::assert_snapshot!(bench.take_events(), @r#"
    Recalled(Posted { id: HoldId(1), enterprise: EnterpriseId(6a09cdc3-8948-47f0-aa62-74ac943d6c58), number: Some(+12*******00), operation: Fresh, held_at: 2026-06-15T12:30:00Z, is_known: true })
    Recalled(Posted { id: HoldId(2), enterprise: EnterpriseId(6a09cdc3-8948-47f0-aa62-74ac943d6c58), number: Some(+12*******00), operation: Fresh, held_at: 2026-06-15T12:30:00Z, is_known: false })
    Unknown { id: HoldId(2), charge: Charge { request_id: "request of b", caller: "b", enterprise: EnterpriseId(6a09cdc3-8948-47f0-aa62-74ac943d6c58), number: Some(+12*******00), operation: Fresh, price: Usd(100000) }, held_at: 2026-06-15T12:30:00Z }
    Ended { end: Assumed, amount: Usd(100000), caller: "b" }
    "#);
}

#[tokio::test]
async fn a_closed_ledger_refuses_and_its_open_holds_are_assumed_at_the_next_start() {
    let bench = Bench::new();
    let ledger = bench.open(vec![budget("all", "1.00")]);
    let hold = ledger.hold(charge("a")).await.expect("held");
    ledger.close().await;
    ledger.close().await;
    assert_eq!(ledger.hold(charge("a")).await.expect_err("closed"), HoldRefused::Unavailable);
    assert_eq!(hold.settle("too late").await, Err(Unavailable));
    assert_eq!(std::fs::read_dir(bench.dir.path()).expect("readable").count(), 2, "the file and its lock, no journal");
    assert_eq!(figures(&bench.open(vec![budget("all", "1.00")])), ["all: 0.10 + 0.00"]);
}

#[tokio::test]
async fn a_second_process_on_one_file_is_refused() {
    let bench = Bench::new();
    let ledger = bench.open(vec![]);
    let error = bench.try_open(bench.path(), vec![]).err().expect("in use");
    assert!(matches!(error.why, OpenFailure::InUse));
    let message = error.to_string();
    assert!(message.starts_with(&format!("ledger {}: another process has it open", bench.path().display())), "{message}");
    ledger.close().await;
    assert!(bench.try_open(bench.path(), vec![]).is_ok());
}

#[tokio::test]
async fn a_second_process_is_refused_also_by_a_link_and_without_the_lock_file() {
    let bench = Bench::new();
    let ledger = bench.open(vec![budget("all", "1.00")]);
    let link = bench.dir.path().join("link.sqlite");
    std::os::unix::fs::symlink(bench.path(), &link).expect("links");
    assert!(matches!(bench.try_open(link, vec![]).err().expect("in use").why, OpenFailure::InUse));
    std::fs::remove_file(bench.dir.path().join("ledger.sqlite.lock")).expect("removes");
    barrier(&ledger).await;
    assert!(matches!(bench.try_open(bench.path(), vec![]).err().expect("in use").why, OpenFailure::InUse));
}

#[tokio::test]
async fn a_journal_that_was_taken_away_takes_nothing_with_it() {
    let bench = Bench::new();
    let ledger = bench.open(vec![budget("all", "1.00")]);
    ledger.hold(charge("a")).await.expect("held").settle("200").await.expect("written");
    for suffix in ["-wal", "-shm"] {
        std::fs::remove_file(format!("{}{suffix}", bench.path().display())).expect("removes");
    }
    assert_eq!(ledger.hold(charge("a")).await.expect_err("no journal"), HoldRefused::Unavailable);
    ledger.hold(charge("a")).await.expect("held").settle("200").await.expect("written");
    assert_eq!(figures(&ledger), ["all: 0.20 + 0.00"]);
    ledger.close().await;
    assert_eq!(figures(&bench.open(vec![budget("all", "1.00")])), ["all: 0.20 + 0.00"]);
}

#[tokio::test]
async fn a_directory_that_is_not_there_and_a_file_of_a_later_version_are_refused() {
    let bench = Bench::new();
    let elsewhere = bench.dir.path().join("absent").join("ledger.sqlite");
    assert!(matches!(bench.try_open(elsewhere, vec![]).err().expect("no directory").why, OpenFailure::NoDirectory));
    bench.sql("PRAGMA user_version = 99");
    assert!(matches!(bench.try_open(bench.path(), vec![]).err().expect("too new").why, OpenFailure::Version { found: 99, known: 3 }));
}

/// Ways in which a write fails: at once, and only when the transaction is committed, as on a disk that is full or broken.
const FAULTS: [&str; 2] = [
    "CREATE TRIGGER fault BEFORE INSERT ON TABLE_NAME BEGIN SELECT RAISE(ABORT, 'disk I/O error'); END",
    "CREATE TABLE doom (id INTEGER REFERENCES absent (id) DEFERRABLE INITIALLY DEFERRED);
     CREATE TABLE absent (id INTEGER PRIMARY KEY);
     CREATE TRIGGER fault AFTER INSERT ON TABLE_NAME BEGIN INSERT INTO doom VALUES (1); END",
];

#[tokio::test]
async fn a_ledger_that_cannot_be_written_refuses_and_recovers() {
    for fault in FAULTS {
        let bench = Bench::new();
        let ledger = bench.open(vec![budget("all", "0.30")]);
        let hold = ledger.hold(charge("a")).await.expect("held");
        bench.sql(&fault.replace("TABLE_NAME", "charge"));
        for _ in 0..5 {
            assert_eq!(ledger.hold(charge("b")).await.expect_err("fails"), HoldRefused::Unavailable);
        }
        assert_eq!(figures(&ledger), ["all: 0.00 + 0.10"], "what failed left nothing behind");
        hold.settle("ends are still written").await.expect("written");
        bench.sql("DROP TRIGGER fault");
        let _holds = (ledger.hold(charge("b")).await.expect("held"), ledger.hold(charge("b")).await.expect("held"));
        assert_eq!(exhausted(ledger.hold(charge("b")).await), "all");
        assert_eq!(figures(&ledger), ["all: 0.10 + 0.20"]);
    }
}

#[tokio::test]
async fn a_file_that_cannot_be_used_at_the_start_is_tried_again_until_it_can() {
    let bench = Bench::new();
    std::fs::write(bench.path(), "no ledger".repeat(20)).expect("writes");
    let ledger = bench.open(vec![budget("all", "1.00")]);
    assert!(!ledger.is_available());
    assert_eq!(ledger.preview(&[charge("a")]), Err(HoldRefused::Unavailable));
    assert_eq!(ledger.hold(charge("a")).await.expect_err("no database"), HoldRefused::Unavailable);
    std::fs::remove_file(bench.path()).expect("removes");
    let restored = Bench::new();
    let before = restored.open(vec![budget("all", "1.00")]);
    before.hold(charge("a")).await.expect("held").settle("200").await.expect("written");
    let _open = before.hold(charge("b")).await.expect("held");
    before.close().await;
    std::fs::rename(restored.path(), bench.path()).expect("moves");
    bench.ended.notified().await;
    insta::assert_snapshot!(bench.take_events(), @r#"
    Recalled(Posted { id: HoldId(1), enterprise: EnterpriseId(6a09cdc3-8948-47f0-aa62-74ac943d6c58), number: Some(+12*******00), operation: Fresh, held_at: 2026-06-15T12:30:00Z, is_known: true })
    Recalled(Posted { id: HoldId(2), enterprise: EnterpriseId(6a09cdc3-8948-47f0-aa62-74ac943d6c58), number: Some(+12*******00), operation: Fresh, held_at: 2026-06-15T12:30:00Z, is_known: false })
    Unknown { id: HoldId(2), charge: Charge { request_id: "request of b", caller: "b", enterprise: EnterpriseId(6a09cdc3-8948-47f0-aa62-74ac943d6c58), number: Some(+12*******00), operation: Fresh, price: Usd(100000) }, held_at: 2026-06-15T12:30:00Z }
    Ended { end: Assumed, amount: Usd(100000), caller: "b" }
    "#);
    assert_eq!(figures(&ledger), ["all: 0.20 + 0.00"]);
    assert_eq!(ledger.preview(&[charge("a")]), Ok(()));
}

#[tokio::test]
async fn a_file_that_was_taken_away_takes_no_holds_until_it_is_back() {
    let bench = Bench::new();
    let ledger = bench.open(vec![budget("all", "1.00")]);
    let hold = ledger.hold(charge("a")).await.expect("held");
    let elsewhere = bench.dir.path().join("elsewhere.sqlite");
    std::fs::rename(bench.path(), &elsewhere).expect("moves");
    assert_eq!(ledger.hold(charge("a")).await.expect_err("taken away"), HoldRefused::Unavailable);
    std::fs::copy(&elsewhere, bench.path()).expect("copies");
    assert_eq!(ledger.hold(charge("a")).await.expect_err("another file"), HoldRefused::Unavailable);
    assert!(!ledger.is_available());
    std::fs::rename(&elsewhere, bench.path()).expect("moves");
    hold.settle("200").await.expect("written");
    assert_eq!(figures(&ledger), ["all: 0.10 + 0.00"]);
    assert!(ledger.is_available());
}

#[tokio::test]
async fn an_end_that_cannot_be_written_is_kept_until_it_can() {
    for fault in FAULTS {
        let bench = Bench::new();
        let ledger = bench.open(vec![budget("all", "0.30")]);
        let (billed, not_billed) = (ledger.hold(charge("a")).await.expect("held"), ledger.hold(charge("a")).await.expect("held"));
        bench.sql(&fault.replace("TABLE_NAME", "entry"));
        assert_eq!(billed.settle("200").await, Err(Unavailable));
        assert_eq!(not_billed.release("404").await, Err(Unavailable));
        assert_eq!(figures(&ledger), ["all: 0.00 + 0.20"], "it counts until its end is durable");
        // The ends go with every batch, so nothing new is held as long as they fail.
        assert_eq!(ledger.hold(charge("a")).await.expect_err("fails"), HoldRefused::Unavailable);
        bench.sql("DROP TRIGGER fault");
        barrier(&ledger).await;
        assert_eq!(figures(&ledger), ["all: 0.10 + 0.00"]);
        assert_eq!(ledger.holds().count, 0);
        ledger.close().await;
        assert_eq!(figures(&bench.open(vec![budget("all", "0.30")])), ["all: 0.10 + 0.00"]);
    }
}

#[tokio::test]
async fn a_kept_end_is_written_without_further_traffic() {
    let bench = Bench::new();
    let ledger = bench.open(vec![budget("all", "0.30")]);
    let hold = ledger.hold(charge("a")).await.expect("held");
    bench.sql(&FAULTS[0].replace("TABLE_NAME", "entry"));
    assert_eq!(hold.release("404").await, Err(Unavailable));
    bench.sql("DROP TRIGGER fault");
    bench.ended.notified().await;
    assert_eq!(figures(&ledger), ["all: 0.00 + 0.00"]);
}

#[tokio::test]
async fn too_many_open_holds_are_refused_at_once_and_each_can_still_end() {
    let bench = Bench::new();
    let ledger = bench.try_open(":memory:".into(), vec![budget("all", "1000.00")]).expect("opens");
    let mut holds = Vec::new();
    let refused = loop {
        match ledger.hold(charge("a")).await {
            Ok(hold) => holds.push(hold),
            Err(refused) => break refused,
        }
    };
    assert_eq!(refused, HoldRefused::Unavailable);
    assert!(holds.len() > SEATS - 3 && holds.len() < SEATS, "{}", holds.len());
    for hold in holds {
        hold.settle("200").await.expect("written");
    }
    assert_eq!(ledger.holds().count, 0);
    ledger.close().await;
}

#[tokio::test]
async fn the_file_can_be_read_by_people_and_lets_a_hold_end_once() {
    let bench = Bench::new();
    let ledger = bench.open(vec![budget("all", "1.00")]);
    ledger.hold(charge("dialer")).await.expect("held").settle("200 to fresh=true").await.expect("written");
    let _hold = ledger.hold(charge("crm")).await.expect("held");
    let file = Connection::open(bench.path()).expect("opens");
    let rows: Vec<String> = file
        .prepare("SELECT held_at || ' ' || caller || ' ' || state || ' ' || posted_usd || ' of ' || price_usd FROM spend ORDER BY id")
        .and_then(|mut query| query.query_map([], |row| row.get(0))?.collect())
        .expect("valid SQL");
    insta::assert_snapshot!(rows.join("\n"), @r"
    2026-06-15T12:30:00.000Z dialer settled 0.100000 of 0.100000
    2026-06-15T12:30:00.000Z crm held 0.000000 of 0.100000
    ");
    let again = "INSERT INTO entry (charge, at_us, kind, amount_micros, why) VALUES (?, 0, ?, 0, 'again')";
    assert!(file.execute(again, params![1, "released"]).is_err(), "a hold ends once");
    assert!(file.execute(again, params![1, "corrected"]).is_ok());
    assert!(file.execute(again, params![1, "forgotten"]).is_err());
}

#[tokio::test]
async fn an_end_that_an_operator_wrote_stands() {
    let bench = Bench::new();
    let ledger = bench.open(vec![budget("all", "1.00")]);
    let hold = ledger.hold(charge("a")).await.expect("held");
    bench.sql("INSERT INTO entry (charge, at_us, kind, amount_micros, why) VALUES (1, 0, 'released', 0, 'by hand')");
    hold.settle("200").await.expect("written");
    assert_eq!(figures(&ledger), ["all: 0.00 + 0.00"]);
}

#[tokio::test]
async fn balances_are_folded_through_the_index() {
    let bench = Bench::new();
    let _ledger = bench.open(vec![]);
    let file = Connection::open(bench.path()).expect("opens");
    let plan: Vec<String> = file
        .prepare("EXPLAIN QUERY PLAN SELECT sum(posted_micros), sum(held_micros) FROM balance WHERE held_at_us >= 1 AND held_at_us < 2")
        .and_then(|mut query| query.query_map([], |row| row.get(3))?.collect())
        .expect("valid SQL");
    assert!(plan.iter().all(|step| !step.starts_with("SCAN")), "{plan:#?}");
}
