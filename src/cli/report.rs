//! What an admin listener says of budgets and the kill switch, and how people are shown it.

use std::fmt;

use anstyle::{AnsiColor, Style};
use comfy_table::{CellAlignment, Table, presets};
use jiff::Timestamp;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use crate::policy::money::Usd;

/// The table's columns; amounts stand to the right. The one without a name holds the parts of a limit.
const COLUMNS: [(&str, CellAlignment); 10] = [
    ("BUDGET", CellAlignment::Left),
    ("SCOPE", CellAlignment::Left),
    ("ENDS", CellAlignment::Left),
    ("LIMIT", CellAlignment::Right),
    ("", CellAlignment::Left),
    ("SPENT", CellAlignment::Right),
    ("HELD", CellAlignment::Right),
    ("LEFT", CellAlignment::Right),
    ("USED", CellAlignment::Right),
    ("MODE", CellAlignment::Left),
];

/// What keeps all money from being spent.
const STOPPED: Style = AnsiColor::Red.on_default().bold();

/// The envelope of one thing.
#[derive(Deserialize)]
pub(super) struct Data<T> {
    pub(super) data: T,
}

/// Every budget, and what else may keep money from being spent.
#[derive(Deserialize)]
pub(super) struct Budgets {
    data: Vec<Budget>,
    kill_switch: KillSwitch,
    ledger_available: bool,
}

/// Where one budget stands.
#[derive(Deserialize)]
pub(super) struct Budget {
    name: String,
    scope: String,
    enforced: bool,
    /// With what overrides add.
    limit_usd: Usd,
    /// What overrides add.
    override_usd: Usd,
    #[serde(deserialize_with = "signed")]
    spent_usd: Usd,
    held_usd: Usd,
    resets_at: Timestamp,
    overrides: Vec<Override>,
}

#[derive(Deserialize)]
struct Override {
    amount_usd: Usd,
    granted_at: Timestamp,
    expires_at: Timestamp,
    reason: String,
    author: String,
}

/// Whether all billable work is stopped, and who turned the switch last.
#[derive(Deserialize)]
pub(super) struct KillSwitch {
    on: bool,
    since: Option<Timestamp>,
    reason: Option<String>,
    author: Option<String>,
}

/// Corrections can leave less than nothing spent; [`Usd`] reads no sign, since no setting has one.
fn signed<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Usd, D::Error> {
    let text = String::deserialize(deserializer)?;
    let amount = text.strip_prefix('-').unwrap_or(&text).parse().map_err(D::Error::custom)?;
    Ok(if text.starts_with('-') { Usd::ZERO - amount } else { amount })
}

impl Budget {
    /// A limit's own part and what overrides add, if they do: `(10.00 + 5.00)`.
    fn parts(&self) -> String {
        if self.override_usd == Usd::ZERO {
            return String::new();
        }
        format!("({} + {})", self.limit_usd - self.override_usd, self.override_usd)
    }

    fn left(&self) -> Usd {
        self.limit_usd - self.spent_usd - self.held_usd
    }

    /// The part of the limit that is spent or held, in percent, rounded down: at 100 nothing is left.
    fn used(&self) -> i128 {
        let (used, limit) = (i128::from((self.spent_usd + self.held_usd).micros()), i128::from(self.limit_usd.micros()));
        if limit > 0 { used.max(0) * 100 / limit } else { 100 }
    }

    /// What a terminal shows its row in, by the thresholds that the ledger records.
    fn style(&self) -> Style {
        match self.used() {
            95.. => AnsiColor::Red.on_default().bold(),
            80.. => AnsiColor::Yellow.on_default(),
            _ => Style::new(),
        }
    }

    fn row(&self) -> [String; COLUMNS.len()] {
        [
            plain(&self.name),
            plain(&self.scope),
            self.resets_at.to_string(),
            self.limit_usd.to_string(),
            self.parts(),
            self.spent_usd.to_string(),
            self.held_usd.to_string(),
            self.left().to_string(),
            format!("{}%", self.used()),
            if self.enforced { "enforced" } else { "dry run" }.to_owned(),
        ]
    }

    /// What an override has changed.
    pub(super) fn raised(&self, by: Usd, until: Timestamp) -> String {
        let limit = format!("{} {}", self.limit_usd, self.parts());
        format!("{}: {by} more until {until}; the limit is {}, and {} is left", plain(&self.name), limit.trim_end(), self.left())
    }
}

/// In colours for a terminal; whoever writes it elsewhere takes them out.
impl fmt::Display for Budgets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.data.is_empty() {
            f.write_str("there is no budget, so nothing is spent")?;
        } else {
            let styles = [Style::new().bold()].into_iter().chain(self.data.iter().map(Budget::style));
            let lines = table(&self.data).trim_fmt();
            let lines: Vec<_> = lines.lines().zip(styles).map(|(line, style)| format!("{style}{line}{style:#}")).collect();
            f.write_str(&lines.join("\n"))?;
        }
        for budget in &self.data {
            for Override { amount_usd, granted_at, expires_at, reason, author } in &budget.overrides {
                let (name, author, reason) = (plain(&budget.name), plain(author), plain(reason));
                write!(f, "\n{name}: {amount_usd} more from {granted_at} until {expires_at}, by {author}: {reason}")?;
            }
        }
        if self.kill_switch.on {
            write!(f, "\n{STOPPED}nothing billable is sent{STOPPED:#}: {}", self.kill_switch)?;
        }
        if !self.ledger_available {
            write!(f, "\n{STOPPED}nothing billable is sent{STOPPED:#}: the ledger is unavailable, and what is shown may be out of date")?;
        }
        Ok(())
    }
}

fn table(budgets: &[Budget]) -> Table {
    let parted = budgets.iter().any(|budget| budget.override_usd != Usd::ZERO);
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(COLUMNS.map(|(name, _)| name)).add_rows(budgets.iter().map(Budget::row));
    for (column, (name, alignment)) in table.column_iter_mut().zip(COLUMNS) {
        // A column is one wide at least: where no limit has parts, theirs is the gap after the limits.
        let padding = match name {
            "LIMIT" => (0, 0),
            "" if parted => (1, 2),
            "" => (0, 1),
            _ => (0, 2),
        };
        column.set_padding(padding).set_cell_alignment(alignment);
    }
    table
}

impl fmt::Display for KillSwitch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the kill switch is {}", if self.on { "on" } else { "off" })?;
        if let Some(since) = self.since {
            write!(f, " since {since}")?;
        }
        if let Some(author) = &self.author {
            write!(f, ", by {}", plain(author))?;
        }
        self.reason.as_ref().map_or(Ok(()), |reason| write!(f, ": {}", plain(reason)))
    }
}

/// Text of somebody else's on one line: it steers no terminal and fakes no row.
pub(super) fn plain(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn budget(name: &str, limit: &str, extra: &str, spent: &str, held: &str) -> Value {
        json!({
            "name": name, "scope": "global", "enforced": true, "limit_usd": limit, "override_usd": extra, "spent_usd": spent, "held_usd": held,
            "starts_at": "2026-11-21T00:00:00Z", "resets_at": "2026-11-22T00:00:00Z", "threshold_percent": 50, "overrides": [],
        })
    }

    fn shown(budgets: &[Value], on: bool, ledger_available: bool) -> String {
        let since = "2026-11-21T10:20:00Z";
        let kill_switch = json!({ "on": on, "since": since, "reason": "runaway\ndialer", "author": "bob" });
        let answer = json!({ "data": budgets, "kill_switch": kill_switch, "ledger_available": ledger_available });
        let shown = serde_json::from_value::<Budgets>(answer).expect("the answer's shape").to_string();
        anstream::adapter::strip_str(&shown).to_string()
    }

    #[test]
    fn amounts_stand_below_each_other() {
        let mut raised = budget("all-day", "15.00", "5.00", "10.20", "0.10");
        raised["overrides"] = json!([{
            "amount_usd": "5.00", "granted_at": "2026-11-21T10:18:40Z", "expires_at": "2026-12-01T00:00:00Z", "reason": "campaign", "author": "alice",
        }]);
        let mut trial = budget("dialer-trial", "0.50", "0.00", "0.70", "0.00");
        trial["enforced"] = false.into();
        trial["scope"] = "caller dialer".into();
        insta::assert_snapshot!(shown(&[raised, trial], false, true), @r"
        BUDGET        SCOPE          ENDS                  LIMIT                 SPENT  HELD   LEFT  USED  MODE
        all-day       global         2026-11-22T00:00:00Z  15.00 (10.00 + 5.00)  10.20  0.10   4.70   68%  enforced
        dialer-trial  caller dialer  2026-11-22T00:00:00Z   0.50                  0.70  0.00  -0.20  140%  dry run
        all-day: 5.00 more from 2026-11-21T10:18:40Z until 2026-12-01T00:00:00Z, by alice: campaign
        ");
    }

    #[test]
    fn what_stops_spending_is_said_below() {
        insta::assert_snapshot!(shown(&[budget("all", "1.00", "0.00", "-0.10", "0.00")], true, false), @r"
        BUDGET  SCOPE   ENDS                  LIMIT  SPENT  HELD  LEFT  USED  MODE
        all     global  2026-11-22T00:00:00Z   1.00  -0.10  0.00  1.10    0%  enforced
        nothing billable is sent: the kill switch is on since 2026-11-21T10:20:00Z, by bob: runaway dialer
        nothing billable is sent: the ledger is unavailable, and what is shown may be out of date
        ");
        assert_eq!(shown(&[], false, true), "there is no budget, so nothing is spent");
    }

    #[test]
    fn the_part_that_is_used_is_rounded_down_and_nothing_is_all_of_nothing() {
        for (limit, spent, used) in [("0.30", "0.10", 33), ("10.00", "9.999999", 99), ("0.50", "0.70", 140), ("0.00", "0.00", 100)] {
            let budget: Budget = serde_json::from_value(budget("all", limit, "0.00", spent, "0.00")).expect("a budget");
            assert_eq!(budget.used(), used);
        }
    }

    #[test]
    fn a_budget_that_is_nearly_used_up_stands_out() {
        for (spent, style) in [
            ("7.90", Style::new()),
            ("8.00", AnsiColor::Yellow.on_default()),
            ("9.40", AnsiColor::Yellow.on_default()),
            ("9.50", AnsiColor::Red.on_default().bold()),
        ] {
            let budget: Budget = serde_json::from_value(budget("all", "10.00", "0.00", spent, "0.00")).expect("a budget");
            assert_eq!(budget.style(), style, "{spent}");
        }
    }

    #[test]
    fn an_override_is_told_with_what_it_makes() {
        let budget: Budget = serde_json::from_value(budget("all", "1.50", "0.50", "0.90", "0.10")).expect("a budget");
        let until = "2026-12-01T00:00:00Z".parse().expect("a time");
        let told = budget.raised(Usd::from_micros(500_000), until);
        assert_eq!(told, "all: 0.50 more until 2026-12-01T00:00:00Z; the limit is 1.50 (1.00 + 0.50), and 0.50 is left");
    }

    #[test]
    fn a_switch_that_was_never_turned_is_off() {
        let switch = json!({ "on": false, "since": null, "reason": null, "author": null });
        assert_eq!(serde_json::from_value::<KillSwitch>(switch).expect("a switch").to_string(), "the kill switch is off");
    }
}
