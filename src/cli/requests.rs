//! The command that asks a running gateway for the last requests.

use clap::Args;
use comfy_table::{CellAlignment, Table, presets};
use serde_json::Value;

use super::Failed;
use super::client::Place;
use super::control::show;
use super::report::{Data, plain};

/// The table's columns, by the names of the values; money stands to the right.
const COLUMNS: [(&str, &str, CellAlignment); 9] = [
    ("AT", "at", CellAlignment::Left),
    ("REQUEST ID", "request_id", CellAlignment::Left),
    ("CALLER", "caller", CellAlignment::Left),
    ("OPERATION", "operation", CellAlignment::Left),
    ("NUMBER", "number", CellAlignment::Left),
    ("STATUS", "status", CellAlignment::Left),
    ("DECISION", "decision", CellAlignment::Left),
    ("BILLED", "billed", CellAlignment::Left),
    ("COST", "cost_usd", CellAlignment::Right),
];

/// `requests`
#[derive(Debug, Args)]
pub(super) struct Requests {
    #[command(flatten)]
    place: Place,
    /// How many, from 1 to 1000.
    #[arg(long, value_name = "N", default_value_t = 20)]
    limit: usize,
    /// Only this caller's.
    #[arg(long, value_name = "NAME")]
    caller: Option<String>,
    /// Only those that were decided so.
    #[arg(long, value_name = "DECISION")]
    decision: Option<String>,
    /// Only those that were billed, were not, or may have been: yes, no, unknown.
    #[arg(long, value_name = "BILLED")]
    billed: Option<String>,
    /// Print the answer's JSON as it is.
    #[arg(long)]
    json: bool,
}

impl Requests {
    /// Asks, and tells what to print.
    pub(super) fn run(self) -> Result<String, Failed> {
        let answer = self.place.client()?.get(&format!("/admin/v1/requests?{}", self.query()))?;
        show(&answer, self.json, |answer| Ok(told(&answer.read::<Data<Vec<Value>>>()?.data)))
    }

    fn query(&self) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.append_pair("limit", &self.limit.to_string());
        for (name, value) in [("caller", &self.caller), ("decision", &self.decision), ("billed", &self.billed)] {
            if let Some(value) = value {
                query.append_pair(name, value);
            }
        }
        query.finish()
    }
}

fn told(requests: &[Value]) -> String {
    if requests.is_empty() {
        return "no such request is remembered".to_owned();
    }
    let row = |request: &Value| COLUMNS.map(|(_, name, _)| cell(&request[name]));
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(COLUMNS.map(|(title, ..)| title)).add_rows(requests.iter().map(row));
    for (column, (.., alignment)) in table.column_iter_mut().zip(COLUMNS) {
        column.set_padding((0, 2)).set_cell_alignment(alignment);
    }
    table.trim_fmt()
}

fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => plain(text),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;
    use serde_json::json;

    use super::super::client::tests::{answered, listener};
    use super::super::{Cli, Command};
    use super::*;

    fn run(arguments: &[&str], answer: &Value) -> (String, String) {
        let (address, request) = listener(&answered("200 OK", &answer.to_string()));
        let address = address.to_string();
        let arguments = [&["reputation-gateway", "requests"], arguments, &["--admin-listen", &address]].concat();
        let Command::Requests(requests) = Cli::try_parse_from(arguments).expect("arguments").command else { panic!("another command") };
        let told = requests.run().expect("success");
        let head = request.join().expect("nothing panics").0;
        (told, head.lines().next().unwrap_or_default().to_owned())
    }

    #[test]
    fn the_last_requests_are_a_table_without_anybodys_control_characters() {
        let data = json!({ "data": [
            { "at": "2026-03-24T12:00:00Z", "request_id": "a\u{1b}[2J", "caller": "dialer", "operation": "retrieve", "number": "+12*******00",
              "status": 200, "decision": "billed", "billed": "yes", "cost_usd": "0.10" },
            { "at": "2026-03-24T11:59:59Z", "request_id": "b", "caller": "dialer", "operation": "unknown", "number": null,
              "status": 403, "decision": "not_permitted", "billed": "no", "cost_usd": "0.00" },
        ]});
        let (told, line) = run(&["--caller", "dialer", "--billed", "yes", "--limit", "2"], &data);
        insta::assert_snapshot!(told, @r"
        AT                    REQUEST ID  CALLER  OPERATION  NUMBER        STATUS  DECISION       BILLED  COST
        2026-03-24T12:00:00Z  a [2J       dialer  retrieve   +12*******00  200     billed         yes     0.10
        2026-03-24T11:59:59Z  b           dialer  unknown    -             403     not_permitted  no      0.00
        ");
        assert_eq!(line, "GET /admin/v1/requests?limit=2&caller=dialer&billed=yes HTTP/1.1");
        assert_eq!(run(&[], &json!({ "data": [] })).0, "no such request is remembered");
    }
}
