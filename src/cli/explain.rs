//! The command that asks a running gateway what a request would come to, or what one came to.

use std::fmt::Write as _;

use clap::Args;
use serde_json::{Map, Value};

use super::Failed;
use super::client::Place;
use super::control::show;
use super::report::{self, Data};

/// `explain`
#[derive(Debug, Args)]
pub(super) struct Explain {
    #[command(flatten)]
    place: Place,
    /// The request's path, with its query.
    #[arg(required_unless_present = "request_id")]
    path: Option<String>,
    /// A past request's id, as in its answer's x-request-id, in place of a path.
    #[arg(long, value_name = "ID", conflicts_with_all = ["path", "caller", "method", "header"])]
    request_id: Option<String>,
    /// Whose request it is; without it, one without a key.
    #[arg(long, value_name = "NAME")]
    caller: Option<String>,
    /// Its method.
    #[arg(long, value_name = "METHOD", default_value = "GET")]
    method: String,
    /// A field of its head, as in "Cache-Control: no-cache"; may be given again.
    #[arg(long, value_name = "FIELD")]
    header: Vec<String>,
    /// Print the answer's JSON as it is.
    #[arg(long)]
    json: bool,
}

impl Explain {
    /// Asks, and tells what to print.
    pub(super) fn run(self) -> Result<String, Failed> {
        let answer = self.place.client()?.get(&format!("/admin/v1/explain?{}", self.query()))?;
        let is_past = self.request_id.is_some();
        show(&answer, self.json, |answer| {
            Ok(if is_past {
                past(&answer.read::<Data<Vec<Value>>>()?.data)
            } else {
                told(&answer.read::<Data<Map<String, Value>>>()?.data)
            })
        })
    }

    fn query(&self) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        if let Some(request_id) = &self.request_id {
            return query.append_pair("request_id", request_id).finish();
        }
        query.append_pair("path", self.path.as_deref().unwrap_or_default()).append_pair("method", &self.method);
        if let Some(caller) = &self.caller {
            query.append_pair("caller", caller);
        }
        for field in &self.header {
            query.append_pair("header", field);
        }
        query.finish()
    }
}

/// The explanation, a line for each thing; what follows a look stands further in.
fn told(data: &Map<String, Value>) -> String {
    let mut text = String::new();
    for name in ["method", "operation", "caller", "enterprise", "number", "price_class"] {
        line(&mut text, name, data.get(name));
    }
    for name in ["permission", "facts", "purchase", "refusal"] {
        if let Some(Value::Object(parts)) = data.get(name) {
            let parts: Vec<_> =
                parts.iter().filter(|(_, value)| !value.is_null()).map(|(name, value)| format!("{name} {}", plain(value))).collect();
            let _ = writeln!(text, "{name:<12} {}", parts.join(", "));
        }
    }
    for budget in data.get("budgets").and_then(Value::as_array).into_iter().flatten() {
        let part = |name: &str| plain(&budget[name]);
        let room = if budget["has_room"] == true { "has room" } else { "has no room" };
        let _ = writeln!(
            text,
            "{:<12} {}: {room}; spent {}, held {}, limit {}",
            "budget",
            part("name"),
            part("spent_usd"),
            part("held_usd"),
            part("limit_usd")
        );
    }
    if let Some(outcome) = data.get("outcome") {
        node(&mut text, "outcome", outcome, 0);
    }
    text.trim_end().to_owned()
}

/// What past requests of one id came to, the newest first: a line for each step, and for what the ledger has of it now.
fn past(requests: &[Value]) -> String {
    let mut text = String::new();
    for request in requests {
        for name in [
            "request_id",
            "at",
            "method",
            "operation",
            "caller",
            "enterprise",
            "number",
            "status",
            "decision",
            "billed",
            "cost_usd",
            "source",
        ] {
            line(&mut text, name, request.get(name));
        }
        for step in request["steps"].as_array().into_iter().flatten() {
            line(&mut text, step["step"].as_str().unwrap_or_default(), step.get("text"));
        }
        for charge in request["charges"].as_array().into_iter().flatten() {
            let part = |name: &str| plain(&charge[name]);
            let why = charge["why"].as_str().map(|why| format!(": {}", report::plain(why))).unwrap_or_default();
            let _ = writeln!(
                text,
                "{:<12} {} {}, {} posted of {}{why}",
                "charge",
                part("hold"),
                part("state"),
                part("posted_usd"),
                part("price_usd")
            );
        }
        text.push('\n');
    }
    text.trim_end().to_owned()
}

fn line(text: &mut String, name: &str, value: Option<&Value>) {
    if let Some(value) = value.filter(|value| !value.is_null()) {
        let _ = writeln!(text, "{name:<12} {}", plain(value));
    }
}

fn node(text: &mut String, name: &str, of: &Value, depth: usize) {
    let words = ["action", "operation", "decision", "price_usd"];
    let words: Vec<_> = words.iter().filter_map(|word| of[*word].as_str()).collect();
    let rule = of["rule"].as_str().map(|rule| format!(": {rule}")).unwrap_or_default();
    let _ = writeln!(text, "{:indent$}{name:<12} {}{rule}", "", words.join(" "), indent = depth * 2);
    for (event, next) in of["then"].as_object().into_iter().flatten() {
        node(text, event, next, depth + 1);
    }
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), report::plain)
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;
    use serde_json::json;

    use super::super::client::tests::{answered, listener};
    use super::super::{Cli, Command};
    use super::*;

    fn parsed(arguments: &[&str]) -> Explain {
        let arguments = ["reputation-gateway", "explain"].iter().chain(arguments);
        match Cli::try_parse_from(arguments).expect("arguments").command {
            Command::Explain(explain) => explain,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_past_request_is_named_by_its_id_and_told_step_by_step() {
        let data = json!({ "data": [
            { "request_id": "a b", "decision": "billed", "billed": "yes", "number": null,
              "steps": [{ "step": "held", "text": "hold 17 taken\u{1b}[2J\nbilled no" }],
              "charges": [{ "hold": 17, "state": "settled", "posted_usd": "0.10", "price_usd": "0.10", "why": "a fresh check was answered" }] },
            { "request_id": "a b", "decision": "hit" },
        ]});
        let (address, request) = listener(&answered("200 OK", &data.to_string()));
        let explain = parsed(&["--request-id", "a b", "--admin-listen", &address.to_string()]);
        insta::assert_snapshot!(explain.run().expect("success"), @r"
        request_id   a b
        decision     billed
        billed       yes
        held         hold 17 taken [2J billed no
        charge       17 settled, 0.10 posted of 0.10: a fresh check was answered

        request_id   a b
        decision     hit
        ");
        let head = request.join().expect("nothing panics").0;
        assert_eq!(head.lines().next(), Some("GET /admin/v1/explain?request_id=a+b HTTP/1.1"));
        for arguments in [&["explain"][..], &["explain", "/v2/x", "--request-id", "a"], &["explain", "--request-id", "a", "--caller", "b"]]
        {
            assert!(Cli::try_parse_from([&["reputation-gateway"], arguments].concat()).is_err(), "{arguments:?}");
        }
    }

    #[test]
    fn a_request_is_described_and_its_explanation_is_told_line_by_line() {
        let data = json!({ "data": {
            "method": "GET", "operation": "retrieve", "number": "+12*******00", "facts": { "fresh": false, "copy": null },
            "budgets": [{ "name": "day", "has_room": true, "spent_usd": "0.10", "held_usd": "0.00", "limit_usd": "1.00" }],
            "outcome": { "action": "look", "rule": "no copy", "then": { "data_new": { "action": "serve", "decision": "probe", "rule": "data" } } },
        }});
        let (address, request) = listener(&answered("200 OK", &data.to_string()));
        let address = address.to_string();
        let path = "/v2/reputation/numbers/+12025550000?fresh=true";
        let explain = parsed(&[path, "--caller", "dialer", "--header", "Cache-Control: max-age=5", "--admin-listen", &address]);
        insta::assert_snapshot!(explain.run().expect("success"), @r"
        method       GET
        operation    retrieve
        number       +12*******00
        facts        fresh false
        budget       day: has room; spent 0.10, held 0.00, limit 1.00
        outcome      look: no copy
          data_new     serve probe: data
        ");
        let head = request.join().expect("nothing panics").0;
        let line = "GET /admin/v1/explain?path=%2Fv2%2Freputation%2Fnumbers%2F%2B12025550000%3Ffresh%3Dtrue&method=GET&caller=dialer&header=Cache-Control%3A+max-age%3D5 HTTP/1.1";
        assert_eq!(head.lines().next(), Some(line));
    }
}
