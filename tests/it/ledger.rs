//! The ledger for operators: the command beside a running gateway and after it, and the admin listener's pages.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use futures_util::future::join_all;
use reputation_gateway::sandbox::{Fault, Kind};
use serde_json::Value;

use crate::harness::process::{said, text};
use crate::harness::{Ask, BUDGET, UNCHECKED, Wire, World, unchecked};

const HEADING: &str = "id,held_at,ended_at,state,why,request_id,caller,enterprise,number,operation,price_usd,posted_usd";

/// A gateway that settled two charges and assumed a third.
async fn spent() -> World {
    let world = World::new().await;
    for n in 0..2 {
        assert_eq!(world.fresh(&unchecked(n)).await.outcome(), (200, "billed"));
    }
    world.fault(Fault::new(Kind::Reset));
    assert_eq!(world.fresh(&unchecked(2)).await.outcome(), (504, "outcome_unknown"));
    world
}

/// What `ledger` says of this world's file.
fn ledger(world: &World, arguments: &[&str]) -> (Option<i32>, String) {
    let path = world.ledger();
    said(&[&["ledger"], arguments, &["--ledger", text(&path)]].concat())
}

/// A file with this text, in a folder that lasts as long as it is held.
fn file(content: &str) -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("file");
    std::fs::write(&path, content).expect("writable");
    (directory, path)
}

#[tokio::test]
async fn a_ledger_is_verified_beside_the_gateway_and_after_it() {
    let mut world = spent().await;
    let clean = |world: &World| {
        let (code, said) = ledger(world, &["verify"]);
        let summary = ": 3 charges, 3 entries, $0.30 posted, $0.00 held\nnothing is wrong\n";
        assert!(code == Some(0) && said.ends_with(summary), "{code:?} {said}");
    };
    clean(&world);
    world.stop().await;
    clean(&world);
    world.restart().await;
    clean(&world);
    let file = rusqlite::Connection::open(world.ledger()).expect("a ledger");
    file.execute("UPDATE entry SET amount_micros = 50000 WHERE charge = 2", ()).expect("documented columns");
    let (code, said) = ledger(&world, &["verify"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.ends_with("violation: charge 2: entry 2 is settled and posts 0.05, and should post 0.10\nviolations: 1\n"), "{said}");
    let (code, said) = ledger(&world, &["verify", "--json"]);
    let report: Value = serde_json::from_str(&said).expect("JSON");
    assert_eq!((code, &report["violations"][0]["charge"], &report["summary"]["posted_usd"]), (Some(1), &2.into(), &"0.25".into()));
}

#[tokio::test]
async fn a_ledger_with_a_configuration_has_its_budgets_folded() {
    let world = spent().await;
    let budget = BUDGET.replace("10.00", "0.20");
    let (_directory, config) = file(&format!("[ledger]\npath = \"{}\"\n{budget}", text(&world.ledger())));
    let (code, said) = said(&["ledger", "verify", "--config", text(&config)]);
    let note = "note: budget \"all-day\", 2026-03-24T00:00:00Z to 2026-03-25T00:00:00Z: 0.30 posted and 0.00 held, of 0.20";
    assert!(code == Some(0) && said.contains(note), "{code:?} {said}");
}

#[tokio::test]
async fn an_export_is_read_back_as_csv_and_as_json_lines() {
    let mut world = spent().await;
    let (code, csv) = ledger(&world, &["export"]);
    assert_eq!((code, csv.lines().next(), csv.lines().count()), (Some(0), Some(HEADING), 4));
    assert_eq!(world.admin("/admin/v1/ledger.csv").await.text(), csv);
    world.stop().await;
    let (code, jsonl) = ledger(&world, &["export", "--format", "jsonl", "--since", "2026-03-24", "--until", "2026-03-24T12:00:01Z"]);
    let rows: Vec<Value> = jsonl.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!((code, rows.len()), (Some(0), 3));
    for (row, line) in rows.iter().zip(csv.lines().skip(1)) {
        assert!(line.starts_with(&format!("{},{},", row["id"], row["held_at"].as_str().expect("a time"))), "{line} is not {row}");
    }
    let only = |filter: &[&str]| ledger(&world, &[&["export"], filter].concat()).1.lines().count() - 1;
    assert_eq!((only(&["--state", "assumed"]), only(&["--caller", "nobody"]), only(&["--until", "2026-03-24"])), (1, 0, 0));
    let (_directory, output) = file("old");
    assert_eq!(ledger(&world, &["export", "--output", text(&output)]), (Some(0), String::new()));
    assert_eq!(std::fs::read_to_string(&output).expect("text"), csv);
}

#[tokio::test]
async fn what_cannot_be_exported_is_refused_with_the_reason() {
    let world = spent().await;
    let path = world.ledger();
    let before = std::fs::read(&path).expect("a ledger").len();
    let (code, why) = ledger(&world, &["export", "--output", text(&path)]);
    assert!(code == Some(1) && why.contains("this is the ledger itself"), "{code:?} {why}");
    assert_eq!(std::fs::read(&path).expect("a ledger").len(), before);
    for (arguments, reason) in [
        (["export", "--state", "billed"], "not a state: write held, settled, released, assumed or corrected"),
        (["export", "--since", "noon"], "not a time: write it as 2026-11-01T08:30:00Z"),
        (["export", "--format", "xml"], "not a format: write csv or jsonl"),
    ] {
        let (code, why) = ledger(&world, &arguments);
        assert!(code == Some(2) && why.contains(reason), "{code:?} {why}");
    }
    let missing = path.with_extension("missing");
    let (code, why) = said(&["ledger", "verify", "--ledger", text(&missing)]);
    assert!(code == Some(1) && why.contains("there is no such file") && !missing.exists(), "{code:?} {why}");
}

#[tokio::test]
async fn a_reader_that_leaves_early_is_no_error() {
    let world = spent().await;
    fill(&world, 30_000);
    let path = world.ledger();
    let mut export = Command::new(env!("CARGO_BIN_EXE_reputation-gateway"));
    export.args(["ledger", "export", "--ledger", text(&path)]).env_clear().stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = export.spawn().expect("the command starts");
    let mut first = String::new();
    BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut first).expect("text");
    let ended = child.wait_with_output().expect("it ends");
    assert_eq!((first.trim(), ended.status.code(), ended.stderr), (HEADING, Some(0), Vec::new()));
}

/// Adds released charges by hand.
fn fill(world: &World, charges: u32) {
    let file = rusqlite::Connection::open(world.ledger()).expect("a ledger");
    let statements = format!(
        "BEGIN IMMEDIATE;
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {charges})
         INSERT INTO charge (held_at_us, request_id, caller, enterprise, number, operation, price_micros)
         SELECT 1774353600000000, 'filled', 'filler', '6a09cdc3-8948-47f0-aa62-74ac943d6c58', '+12025550000', 'fresh', 100000 FROM n;
         INSERT INTO entry (charge, at_us, kind, amount_micros, why)
         SELECT id, held_at_us, 'released', 0, 'filled' FROM charge WHERE caller = 'filler';
         COMMIT;"
    );
    file.execute_batch(&statements).expect("documented columns");
}

#[tokio::test]
async fn a_bill_is_reconciled_recorded_and_shown_in_the_metrics() {
    let mut world = spent().await;
    assert_eq!(world.metric("reputation_gateway_reconciliation_timestamp_seconds").await, "0");
    let row = |n: usize, cost: &str| format!("2026-03-24T12:00:00Z,{},fresh,{cost}\n", unchecked(n));
    let bill = format!("time,number,operation,cost\n{}{}", row(0, "0.10"), row(1, "0.15"));
    let (_directory, path) = file(&bill);
    let (code, said) = ledger(&world, &["reconcile", text(&path)]);
    assert_eq!(code, Some(1), "{said}");
    insta::assert_snapshot!(said, @r"
    day         number                  posted        billed         drift
    2026-03-24  +12025550002              0.10          0.00          0.10
    2026-03-24  +12025550001              0.10          0.15         -0.05
    2026-03-24 to 2026-03-24: 3 charges, $0.30 posted; 2 rows, $0.25 billed
    drift: $0.05 in all; days of a number that differ: 2
    ");
    assert_eq!(world.metric("reputation_gateway_reconciliation_drift_usd").await, "0.05");
    assert_eq!(world.metric("reputation_gateway_reconciliation_drifts").await, "2");
    assert_ne!(world.metric("reputation_gateway_reconciliation_timestamp_seconds").await, "0");
    world.stop().await;
    let (_directory, path) = file(&format!("time,number,operation,cost\n{}{}{}", row(0, "0.10"), row(1, "0.10"), row(2, "0.10")));
    let (code, said) = ledger(&world, &["reconcile", text(&path), "--json"]);
    let found: Value = serde_json::from_str(&said).expect("JSON");
    assert_eq!((code, &found["drift_usd"], &found["charges"]), (Some(0), &"0.00".into(), &3.into()));
    world.restart().await;
    assert_eq!(world.metric("reputation_gateway_reconciliation_drifts").await, "0", "the last one counts");
    let (_directory, path) = file("time,number,cost\n");
    let (code, said) = ledger(&world, &["reconcile", text(&path)]);
    assert!(code == Some(1) && said.contains("file: line 1: no column is named `operation`"), "{code:?} {said}");
    assert_eq!(ledger(&world, &["verify"]).0, Some(0));
}

#[tokio::test]
async fn the_pages_of_a_ledger_give_each_charge_once() {
    let world = World::new().await;
    let numbers: Vec<_> = (0..23).map(unchecked).collect();
    join_all(numbers.iter().map(|number| world.fresh(number))).await;
    let (mut found, mut cursor, mut pages) = (Vec::new(), String::new(), 0);
    loop {
        let page = world.admin(&format!("/admin/v1/ledger?limit=5&state=settled{cursor}")).await.json();
        let rows = page["data"].as_array().expect("rows").clone();
        found.extend(rows.iter().map(|row| row["number"].as_str().expect("a number").to_owned()));
        pages += 1;
        match page["meta"]["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    found.sort();
    assert_eq!((pages, found), (5, numbers));
    let whole = world.admin("/admin/v1/ledger?limit=23&caller=anonymous&since=2026-03-24").await.json();
    assert_eq!((whole["data"].as_array().map(Vec::len), &whole["meta"]["next_cursor"]), (Some(23), &Value::Null));
    let row = &whole["data"][0];
    assert_eq!(
        (&row["id"], &row["state"], &row["price_usd"], &row["posted_usd"]),
        (&1.into(), &"settled".into(), &"0.10".into(), &"0.10".into())
    );
    for (query, parameter) in [("limit=1001", "limit"), ("since=noon", "since"), ("state=x", "state"), ("cursor=x", "cursor")] {
        let refused = world.admin(&format!("/admin/v1/ledger?{query}")).await;
        assert_eq!((refused.status.as_u16(), &refused.json()["errors"][0]["source"]["parameter"]), (400, &parameter.into()));
    }
    assert_eq!(world.admin("/admin/v1/ledger.csv?limit=1").await.status, 400);
}

#[tokio::test]
async fn a_whole_ledger_streams_while_the_gateway_spends_on() {
    let world = World::new().await;
    fill(&world, 50_000);
    let mut slow = Wire::to(world.admin).await;
    slow.send("GET /admin/v1/ledger.csv HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n").await;
    let head = slow.head().await;
    assert_eq!((head.status, head.field("content-type"), head.field("transfer-encoding")), (200, "text/csv; charset=utf-8", "chunked"));
    assert_eq!(head.field("content-disposition"), "attachment; filename=\"ledger.csv\"");
    // The client takes nothing more, and nobody waits for it.
    assert_eq!(world.fresh(UNCHECKED).await.outcome(), (200, "billed"));
    drop(slow);
    let csv = world.admin("/admin/v1/ledger.csv").await.text();
    assert_eq!((csv.lines().next(), csv.lines().count()), (Some(HEADING), 50_002));
    assert!(csv.ends_with(&format!("{UNCHECKED},fresh,0.10,0.10\n")), "the newest is the last");
    let rare = world.admin("/admin/v1/ledger?caller=anonymous&limit=1").await.json();
    assert_eq!(
        (&rare["data"][0]["number"], &rare["meta"]["next_cursor"]),
        (&UNCHECKED.into(), &Value::Null),
        "behind all that is passed over"
    );
    let head = Ask::new(world.admin, "/admin/v1/ledger.csv").method(http::Method::HEAD).send().await;
    assert_eq!((head.status.as_u16(), head.body.len()), (200, 0));
}
