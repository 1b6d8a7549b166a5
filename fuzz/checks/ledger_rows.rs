//! The ledger's file with any rows in it: nothing panics, what can be exported reads back, and what cannot is a violation.
//!
//! The bytes are lines. `bill` and a line of a bill; `page`, an offset and a byte that damages the file there; else the name of a table, then its
//! row. Fields stand between bars: a whole number, `x` and hexadecimal digits for bytes that need be no text, or a text.

use std::path::Path;
use std::sync::LazyLock;

use reputation_gateway::clock::Clock;
use reputation_gateway::config::Config;
use reputation_gateway::policy::budget::Budget;
use reputation_gateway::policy::money::Usd;
use reputation_gateway::spend::books::{Books, COLUMNS, Filter, Format, ReconcileError, Report};
use reputation_gateway::spend::{self, Ledger};
use rusqlite::Connection;
use rusqlite::types::Value;

const TABLES: [&str; 7] = ["charge", "entry", "budget_override", "budget_threshold", "kill_switch", "rolled_up", "reconciliation"];

/// An empty ledger, as the gateway leaves it.
static EMPTY: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let directory = tempfile::tempdir().expect("a directory");
    let config = spend::Config { path: directory.path().join("ledger.sqlite"), ..spend::Config::default() };
    let ledger = Ledger::open(&config, Vec::new(), std::time::Duration::ZERO, Clock::system(), std::sync::Arc::new(|_| {}));
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(async { ledger.expect("a ledger").close().await });
    let connection = Connection::open(&config.path).expect("a ledger");
    connection.pragma_update_and_check(None, "journal_mode", "delete", |_| Ok(())).expect("a file without a journal");
    drop(connection);
    std::fs::read(&config.path).expect("a file")
});

static BUDGETS: LazyLock<Vec<Budget>> = LazyLock::new(|| {
    let budget = "[[budget]]\nname = \"day\"\nlimit = \"1.00\"\nwindow = \"day\"\ntime_zone = \"America/New_York\"\ncaller = \"dialer\"\n";
    Config::parse(budget, "budget", []).expect("a configuration").budget
});

pub(crate) fn check(data: &[u8]) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("ledger.sqlite");
    let bill = write(&path, &String::from_utf8_lossy(data));
    let Ok(books) = Books::open(&path) else { return };
    let report = books.verify(&BUDGETS, |_, _| {});
    let is_clean = report.as_ref().is_ok_and(Report::is_clean);
    match export(&path, Format::Jsonl) {
        Ok((lines, rows)) => {
            let lines: Vec<serde_json::Value> = lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
            assert_eq!(lines.len() as u64, rows);
            let (csv, _) = export(&path, Format::Csv).expect("what is written as JSON is written as CSV");
            assert_eq!(records(&csv), lines.iter().map(fields).collect::<Vec<_>>());
        }
        Err(error) => assert!(!is_clean, "no violation, and yet {error}"),
    }
    if let (Ok(report), Ok(rows)) = (&report, books.page(&Filter::default(), None, usize::from(u16::MAX)))
        && is_clean
    {
        assert_eq!(rows.iter().map(|row| row.posted).sum::<Usd>(), report.summary.posted);
    }
    match books.reconcile(bill.as_bytes(), None, None) {
        Ok(found) => assert_eq!(found.drift, found.posted - found.billed),
        Err(ReconcileError::Books(error)) => assert!(!is_clean, "no violation, and yet {error}"),
        Err(refused) => assert!(!refused.to_string().is_empty()),
    }
}

/// Makes the file, and returns the bill.
fn write(path: &Path, text: &str) -> String {
    std::fs::write(path, &*EMPTY).expect("a file");
    let connection = Connection::open(path).expect("a ledger");
    // Whatever a file can hold that no gateway wrote.
    let lax = "PRAGMA ignore_check_constraints = ON; PRAGMA foreign_keys = OFF; PRAGMA synchronous = OFF; BEGIN";
    connection.execute_batch(lax).expect("a transaction");
    let (mut bill, mut damages) = (String::new(), Vec::new());
    for line in text.lines() {
        match line.split_once('|') {
            Some(("bill", row)) => bill.extend([row, "\n"]),
            Some(("page", place)) => {
                damages.extend(place.split_once('|').and_then(|(at, byte)| Some((at.parse().ok()?, byte.parse().ok()?))));
            }
            Some((table, row)) if TABLES.contains(&table) => insert(&connection, table, row),
            _ => {}
        }
    }
    connection.execute_batch("COMMIT").expect("rows");
    drop(connection);
    if !damages.is_empty() {
        let mut bytes = std::fs::read(path).expect("a file");
        for (at, byte) in damages {
            let _beyond: Option<()> = bytes.get_mut::<usize>(at).map(|there| *there = byte);
        }
        std::fs::write(path, bytes).expect("a file");
    }
    bill
}

/// Inserts a row, unless the table cannot hold it.
fn insert(connection: &Connection, table: &str, row: &str) {
    let values: Vec<Value> = row.split('|').map(value).collect();
    let places = vec!["?"; values.len()].join(", ");
    let inserted = connection.execute(&format!("INSERT INTO {table} VALUES ({places})"), rusqlite::params_from_iter(values));
    assert!(inserted.is_ok() || !inserted.expect_err("refused").to_string().is_empty());
}

fn value(field: &str) -> Value {
    let bytes = field.strip_prefix('x').and_then(|digits| {
        let pairs = digits.as_bytes().chunks(2).map(|pair| str::from_utf8(pair).ok().and_then(|pair| u8::from_str_radix(pair, 16).ok()));
        pairs.collect::<Option<Vec<_>>>()
    });
    match (field.parse(), bytes) {
        (Ok(number), _) => Value::Integer(number),
        (_, Some(bytes)) => Value::Blob(bytes),
        _ => Value::Text(field.to_owned()),
    }
}

/// All of an export, and how many rows it says it has.
fn export(path: &Path, format: Format) -> Result<(String, u64), spend::books::BooksError> {
    let mut export = Books::open(path)?.export(Filter::default(), format)?;
    let mut text = Vec::new();
    while let Some(part) = export.next_part()? {
        text.extend(part);
    }
    Ok((String::from_utf8(text).expect("an export is text"), export.rows()))
}

fn records(csv: &str) -> Vec<Vec<String>> {
    let mut reader = csv::Reader::from_reader(csv.as_bytes());
    assert_eq!(reader.headers().expect("a line of names"), &COLUMNS[..]);
    reader.records().map(|record| record.expect("a record").iter().map(str::to_owned).collect()).collect()
}

/// A row in JSON, as its fields stand in CSV.
fn fields(row: &serde_json::Value) -> Vec<String> {
    let field = |column: &&str| match &row[*column] {
        serde_json::Value::Null => String::new(),
        serde_json::Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    COLUMNS.iter().map(field).collect()
}
