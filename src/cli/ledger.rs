//! `ledger`: checks a ledger, exports it, and compares it with a bill; beside a running gateway, or after one.

use std::fs::File;
use std::io::{self, BufWriter, ErrorKind, IsTerminal as _, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use indicatif::ProgressBar;
use jiff::Timestamp;

use super::{EX_CONFIG, Source};
use crate::clock::Clock;
use crate::config::LoadError;
use crate::policy::budget::Budget;
use crate::spend::books::{Books, BooksError, Export, Filter, Format, ReconcileError, Reconciliation, Report, State, moment};

/// Drifts that a table shows; `--json` has them all.
const SHOWN: usize = 50;

#[derive(Debug, Subcommand)]
pub(super) enum LedgerCommand {
    /// Add every charge up anew and check all that must be true; exit with 0, or with 1 and what is wrong.
    #[command(after_help = "\
Violations are what no gateway writes, each with the charge's id: values that cannot be read, a charge that ended twice, an end that posts \
something else than its price, a correction before the end or beyond the price, views that add up differently, thresholds without those \
below them, overrides without a reason.

Notes are windows in which more was posted and held than a budget of the configuration allows, overrides included. That is right where the \
limit was lowered since. With --ledger and no configuration there are no budgets, and no notes.")]
    Verify {
        #[command(flatten)]
        file: LedgerFile,
        /// Print the whole report as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Write charges as CSV or JSON lines, oldest first.
    #[command(after_help = "\
Columns:
  id           the charge; a later one has a greater id
  held_at      when its price was held, RFC 3339 in UTC; --since and --until go by it
  ended_at     when its last entry was made; empty while it is held
  state        held, settled, released, assumed, corrected: the kind of its last entry
  why          that entry's reason
  request_id   the request that caused it, as in the log and in the answer's x-request-id
  caller       who asked
  enterprise   for which enterprise
  number       in E.164; empty (null in JSON lines) where it is for the enterprise as a whole
  operation    fresh, first_touch, refresh, associate, remediation, enable, frequency, unpublished
  price_usd    what was held
  posted_usd   what it counts for: the sum of its entries")]
    Export {
        #[command(flatten)]
        file: LedgerFile,
        /// csv, or jsonl: an object on each line.
        #[arg(long, value_name = "FORMAT", default_value = "csv")]
        format: Format,
        /// The same as --format jsonl.
        #[arg(long, conflicts_with = "format")]
        json: bool,
        #[command(flatten)]
        span: Span,
        /// Only what this caller caused.
        #[arg(long, value_name = "NAME")]
        caller: Option<String>,
        /// Only charges that are held, settled, released, assumed or corrected.
        #[arg(long, value_name = "STATE")]
        state: Option<State>,
        /// Where to write, instead of standard output.
        #[arg(long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Compare what was posted with a bill, by day and number; exit with 0 if nothing differs, else with 1.
    #[command(after_help = "\
The bill is a CSV file in UTF-8. Its first line names the columns, in any order; others are passed over:
  time        when the call was made, RFC 3339: 2026-11-01T08:30:00Z
  number      in E.164: +16035551234; empty for enable, or unpublished without one
  operation   fresh, first_touch, refresh, associate, remediation, enable, unpublished, or empty where the bill does not say
  cost        dollars: 0.10

Days are days of UTC. A charge belongs to the day on which its call was made. Compared are the days of the bill from its first to its last, \
or what --since and --until say. What has no number is compared by operation. Schedules are left out: the ledger has a month's price \
for one, and a bill its runs; leave those out of the bill, or give them the operation frequency. drift = posted - billed. The result is recorded in the ledger and shows in the gateway's metrics.")]
    Reconcile {
        /// The bill; - is standard input.
        bill: PathBuf,
        #[command(flatten)]
        file: LedgerFile,
        #[command(flatten)]
        span: Span,
        /// Print the whole result as JSON.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Args)]
pub(super) struct LedgerFile {
    #[command(flatten)]
    source: Source,
    /// The ledger's file, instead of the configuration's ledger.path.
    #[arg(long, value_name = "FILE")]
    ledger: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, Args)]
pub(super) struct Span {
    /// Only from this moment on: 2026-11-01T08:30:00Z, or 2026-11-01 for its first moment in UTC.
    #[arg(long, value_name = "T", value_parser = moment)]
    since: Option<Timestamp>,
    /// Only before this moment, written likewise.
    #[arg(long, value_name = "T", value_parser = moment)]
    until: Option<Timestamp>,
}

#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error("{0}")]
    Load(#[from] LoadError),
    #[error("{0}")]
    Books(#[from] BooksError),
    #[error("{}: {error}", path.display())]
    Bill { path: PathBuf, error: ReconcileError },
    #[error("{}: {error}", path.display())]
    File { path: PathBuf, error: io::Error },
    #[error("{}: this is the ledger itself; export to another file", .0.display())]
    OverLedger(PathBuf),
    #[error("standard output: {0}")]
    Output(io::Error),
}

impl LedgerCommand {
    /// Success if nothing is wrong and nothing differs.
    pub(super) fn run(self) -> ExitCode {
        let done = match self {
            Self::Verify { file, json } => verify(&file, json),
            Self::Export { file, format, json, span: Span { since, until }, caller, state, output } => {
                let format = if json { Format::Jsonl } else { format };
                export(&file, Filter { since, until, caller, state, request_id: None }, format, output.as_deref()).map(|()| true)
            }
            Self::Reconcile { bill, file, span, json } => reconcile(&file, &bill, span, json),
        };
        match done {
            Ok(is_clean) => ExitCode::from(u8::from(!is_clean)),
            Err(broken) => {
                eprintln!("reputation-gateway: {broken}");
                if let Broken::Load(_) = broken { ExitCode::from(EX_CONFIG) } else { ExitCode::FAILURE }
            }
        }
    }
}

impl LedgerFile {
    /// The ledger's path, and the budgets where there is a configuration to have some.
    fn found(&self) -> Result<(PathBuf, Vec<Budget>), LoadError> {
        match &self.ledger {
            Some(path) if self.source.config.is_none() => Ok((path.clone(), Vec::new())),
            named => {
                let config = self.source.load()?;
                Ok((named.clone().unwrap_or(config.ledger.path), config.budget))
            }
        }
    }
}

fn verify(file: &LedgerFile, json: bool) -> Result<bool, Broken> {
    let (path, budgets) = file.found()?;
    let bar = bar(0, false);
    let report = Books::open(&path)?.verify(&budgets, |done, total| {
        bar.set_length(total);
        bar.set_position(done);
    })?;
    bar.finish_and_clear();
    say(&if json { as_json(&report) } else { verified(&report, &path) })?;
    Ok(report.is_clean())
}

fn verified(report: &Report, path: &Path) -> String {
    let summary = &report.summary;
    let (path, charges, entries) = (path.display(), summary.charges, summary.entries);
    let mut lines = vec![format!("{path}: {charges} charges, {entries} entries, ${} posted, ${} held", summary.posted, summary.held)];
    if summary.rolled_up_days > 0 {
        let (days, calls) = (summary.rolled_up_days, summary.rolled_up_calls);
        lines.push(format!("added up and removed: {calls} charges of {days} days, ${} posted", summary.rolled_up));
    }
    lines.extend(report.notes.iter().map(|note| format!("note: {note}")));
    lines.extend(report.violations.iter().map(|violation| format!("violation: {violation}")));
    let unlisted = summary.violations.saturating_sub(report.violations.len() as u64);
    if unlisted > 0 {
        lines.push(format!("and {unlisted} violations more"));
    }
    lines.push(match summary.violations {
        0 => "nothing is wrong\n".to_owned(),
        count => format!("violations: {count}\n"),
    });
    lines.join("\n")
}

fn export(file: &LedgerFile, filter: Filter, format: Format, output: Option<&Path>) -> Result<(), Broken> {
    let path = match &file.ledger {
        Some(path) => path.clone(),
        None => file.found()?.0,
    };
    let books = Books::open(&path)?;
    let bar = bar(0, output.is_some());
    if !bar.is_hidden() {
        bar.set_length(books.count(&filter)?);
    }
    let export = books.export(filter, format)?;
    let written = match output {
        None => write_parts(export, &mut io::stdout().lock(), &bar)?,
        Some(output) if is_ledger(output, &path) => return Err(Broken::OverLedger(output.to_owned())),
        Some(output) => {
            let file = |error| Broken::File { path: output.to_owned(), error };
            let mut writer = BufWriter::new(File::create(output).map_err(file)?);
            return write_parts(export, &mut writer, &bar)?.map_err(file);
        }
    };
    quietly(written)
}

/// The outer error is the ledger's, the inner one the output's.
fn write_parts(mut export: Export, to: &mut impl Write, bar: &ProgressBar) -> Result<io::Result<()>, BooksError> {
    while let Some(part) = export.next_part()? {
        if let Err(error) = to.write_all(&part) {
            return Ok(Err(error));
        }
        bar.set_position(export.rows());
    }
    bar.finish_and_clear();
    Ok(to.flush())
}

/// Whether a file is the ledger, or one of those that stand beside it.
fn is_ledger(output: &Path, ledger: &Path) -> bool {
    let beside = |suffix: &str| {
        let mut name = ledger.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name).canonicalize().ok()
    };
    output.canonicalize().is_ok_and(|output| ["", "-wal", "-shm", ".lock"].into_iter().filter_map(beside).any(|path| path == output))
}

fn reconcile(file: &LedgerFile, bill: &Path, span: Span, json: bool) -> Result<bool, Broken> {
    let path = match &file.ledger {
        Some(path) => path.clone(),
        None => file.found()?.0,
    };
    let books = Books::open(&path)?;
    let wrong = |error| Broken::Bill { path: bill.to_owned(), error };
    let compared = if bill == Path::new("-") {
        books.reconcile(io::stdin().lock(), span.since, span.until)
    } else {
        let bill = File::open(bill).map_err(|error| Broken::File { path: bill.to_owned(), error })?;
        books.reconcile(bill, span.since, span.until)
    };
    let found = compared.map_err(wrong)?;
    say(&if json { as_json(&found) } else { reconciled(&found) })?;
    books.record(&found, Clock::system().now())?;
    Ok(found.drifts.is_empty())
}

fn reconciled(found: &Reconciliation) -> String {
    let Reconciliation { first_day, last_day, billed_rows, other_rows, schedule_rows, charges, schedules, held, .. } = found;
    let Reconciliation { posted, billed, drift, drifts, .. } = found;
    let line = |day: &str, number: &str, dollars: [&str; 3]| {
        let dollars = dollars.map(|amount| format!("{amount:>12}")).join("  ");
        format!("{day:<10}  {number:<16}  {dollars}")
    };
    let mut lines = Vec::new();
    if !drifts.is_empty() {
        lines.push(line("day", "number", ["posted", "billed", "drift"]));
    }
    for drift in drifts.iter().take(SHOWN) {
        let [posted, billed, difference] = [drift.posted, drift.billed, drift.difference].map(|amount| amount.to_string());
        let operation = drift.operation.map(|operation| operation.to_string());
        let about = drift.number.map(|number| number.to_string()).or(operation).unwrap_or_default();
        lines.push(line(&drift.day.to_string(), &about, [&posted, &billed, &difference]));
    }
    if drifts.len() > SHOWN {
        lines.push(format!("and {} more; --json has them all", drifts.len() - SHOWN));
    }
    lines.push(format!("{first_day} to {last_day}: {charges} charges, ${posted} posted; {billed_rows} rows, ${billed} billed"));
    if *other_rows > 0 {
        lines.push(format!("rows of the bill outside that time: {other_rows}"));
    }
    if *schedules + *schedule_rows > 0 {
        lines.push(format!("left out, being of schedules: {schedules} charges, {schedule_rows} rows of the bill"));
    }
    if *held > 0 {
        lines.push(format!("calls under way, which post nothing yet: {held}"));
    }
    lines.push(match drifts.len() {
        0 => "nothing differs\n".to_owned(),
        count => format!("drift: ${drift} in all; days of a number that differ: {count}\n"),
    });
    lines.join("\n")
}

/// A bar on standard error, where a person looks at it and it does not mix with what is printed.
fn bar(total: u64, writes_to_file: bool) -> ProgressBar {
    let is_seen = io::stderr().is_terminal() && (writes_to_file || !io::stdout().is_terminal());
    if is_seen { ProgressBar::new(total) } else { ProgressBar::hidden() }
}

fn as_json(value: &impl serde::Serialize) -> String {
    serde_json::to_string_pretty(value).expect("strings and numbers always serialise") + "\n"
}

fn say(text: &str) -> Result<(), Broken> {
    let mut stdout = io::stdout().lock();
    quietly(stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()))
}

/// A reader that has seen enough, as `head` does, is no error.
fn quietly(written: io::Result<()>) -> Result<(), Broken> {
    match written {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        other => other.map_err(Broken::Output),
    }
}
