//! The commands that look at a running gateway's money and steer it, through its admin listener.

use std::str::FromStr;

use clap::{Args, Subcommand};
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

use super::Failed;
use super::client::{Answer, NoAnswer, Place};
use super::report::{self, Data};
use crate::clock::Clock;
use crate::policy::money::Usd;
use crate::units::Span;

const BUDGETS: &str = "/admin/v1/budgets";
const KILL_SWITCH: &str = "/admin/v1/kill-switch";
const ACKNOWLEDGE_LOSS: &str = "/admin/v1/acknowledge-loss";

/// What a budget's name cannot hold as it is within a path.
const OF_A_PATH: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// `budgets`
#[derive(Debug, Args)]
pub(super) struct Budgets {
    #[command(flatten)]
    place: Place,
    /// Print the answer's JSON as it is.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    change: Option<Change>,
}

#[derive(Debug, Subcommand)]
enum Change {
    /// Raise a budget's limit for a time.
    Override(Override),
}

#[derive(Debug, Args)]
struct Override {
    /// The budget.
    name: String,
    /// How many dollars more.
    #[arg(long, value_name = "USD")]
    add: Usd,
    /// Until when: 2026-12-01T00:00:00Z, 2026-12-01 (its first moment in UTC), or a span from now such as 2h or 7d.
    #[arg(long, value_name = "TIME")]
    until: Until,
    #[command(flatten)]
    why: Why,
}

/// `kill-switch`
#[derive(Debug, Args)]
pub(super) struct KillSwitch {
    #[command(flatten)]
    place: Place,
    /// Print the answer's JSON as it is.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    turn: Option<Turn>,
}

#[derive(Debug, Subcommand)]
enum Turn {
    /// Stop all billable work; free reads and stored answers go on.
    On(Why),
    /// Let billable work go on.
    Off(Why),
    /// Show it, as without a word.
    Status,
}

/// `acknowledge-loss`
#[derive(Debug, Args)]
pub(super) struct AcknowledgeLoss {
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    why: Why,
    /// Print the answer's JSON as it is.
    #[arg(long)]
    json: bool,
}

impl AcknowledgeLoss {
    /// Does it, and tells what to print.
    pub(super) fn run(self) -> Result<String, Failed> {
        let body = json!({ "reason": self.why.reason, "author": self.why.author() });
        let answer = self.place.client()?.post(ACKNOWLEDGE_LOSS, &body)?;
        let told = "the gateways go on with what the Redis has; what they knew of the ledger before is beside their copies";
        show(&answer, self.json, |_| Ok(told.to_owned()))
    }
}

/// What the ledger keeps of a change.
#[derive(Debug, Args)]
struct Why {
    /// Why, for whoever reads the ledger.
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// Who; without it $USER.
    #[arg(long, value_name = "NAME")]
    author: Option<String>,
}

impl Why {
    fn author(&self) -> String {
        user(self.author.as_deref())
    }
}

/// Who asks for an act: as named, else whose session it is.
pub(super) fn user(named: Option<&str>) -> String {
    let user = || std::env::var("USER").ok().filter(|user| !user.is_empty());
    named.map(str::to_owned).or_else(user).unwrap_or_else(|| "unknown".to_owned())
}

/// A time to come, as it is typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Until {
    At(Timestamp),
    After(Span),
}

#[derive(Debug, thiserror::Error)]
#[error("write a time with its offset as 2026-12-01T00:00:00Z, a date as 2026-12-01, or a span from now such as 2h or 7d")]
struct NotATime;

impl FromStr for Until {
    type Err = NotATime;

    fn from_str(text: &str) -> Result<Self, NotATime> {
        // jiff reads the date of a time without an offset too, and would be hours off.
        if let Some(date) = text.parse::<Date>().ok().filter(|date| date.to_string() == text) {
            return TimeZone::UTC.to_timestamp(date.into()).map(Self::At).map_err(|_| NotATime);
        }
        text.parse().map(Self::At).or_else(|_| text.parse().map(Self::After)).map_err(|_| NotATime)
    }
}

impl Until {
    /// The moment that it means, in whole seconds.
    fn moment(self, now: Timestamp) -> Timestamp {
        match self {
            Self::At(moment) => moment,
            Self::After(span) => {
                now.saturating_add(span.0).ok().and_then(|end| Timestamp::from_second(end.as_second()).ok()).unwrap_or(now)
            }
        }
    }
}

impl Budgets {
    /// Does it, and tells what to print.
    pub(super) fn run(self) -> Result<String, Failed> {
        let client = self.place.client()?;
        let Some(Change::Override(change)) = self.change else {
            return show(&client.get(BUDGETS)?, self.json, |answer| Ok(answer.read::<report::Budgets>()?.to_string()));
        };
        let until = change.until.moment(Clock::system().now());
        let answer = client.post(&change.path(), &change.body(until))?;
        show(&answer, self.json, |answer| Ok(answer.read::<Data<report::Budget>>()?.data.raised(change.add, until)))
    }
}

impl Override {
    fn path(&self) -> String {
        format!("{BUDGETS}/{}/overrides", utf8_percent_encode(&self.name, OF_A_PATH))
    }

    fn body(&self, until: Timestamp) -> Value {
        json!({ "amount_usd": self.add, "expires_at": until, "reason": self.why.reason, "author": self.why.author() })
    }
}

impl KillSwitch {
    /// Does it, and tells what to print.
    pub(super) fn run(self) -> Result<String, Failed> {
        let client = self.place.client()?;
        let turn = |on: bool, why: &Why| json!({ "on": on, "reason": why.reason, "author": why.author() });
        let answer = match &self.turn {
            None | Some(Turn::Status) => client.get(KILL_SWITCH)?,
            Some(Turn::On(why)) => client.post(KILL_SWITCH, &turn(true, why))?,
            Some(Turn::Off(why)) => client.post(KILL_SWITCH, &turn(false, why))?,
        };
        show(&answer, self.json, |answer| Ok(answer.read::<Data<report::KillSwitch>>()?.data.to_string()))
    }
}

/// The answer's JSON, or its text for people.
pub(super) fn show(answer: &Answer, json: bool, text: impl FnOnce(&Answer) -> Result<String, NoAnswer>) -> Result<String, Failed> {
    if json { Ok(answer.json().to_owned()) } else { Ok(text(answer)?) }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::super::client::tests::{answered, listener};
    use super::super::{Cli, Command};
    use super::*;

    /// Runs a command against a listener that answers so: how it ended, the request's first line, and its body.
    fn run(arguments: &[&str], answer: &str) -> (Result<String, Failed>, String, Value) {
        let (address, request) = listener(answer);
        let address = address.to_string();
        let arguments = ["reputation-gateway"].iter().chain(arguments).copied().chain(["--admin-listen", &address]);
        let ended = match Cli::try_parse_from(arguments).expect("arguments").command {
            Command::Budgets(budgets) => budgets.run(),
            Command::KillSwitch(switch) => switch.run(),
            other => panic!("{other:?}"),
        };
        let (head, body) = request.join().expect("nothing panics");
        let body = if body.is_empty() { Value::Null } else { serde_json::from_str(&body).expect("JSON") };
        (ended, head.lines().next().unwrap_or_default().to_owned(), body)
    }

    fn refused(arguments: &[&str]) -> String {
        Cli::try_parse_from(["reputation-gateway"].iter().chain(arguments)).expect_err("refused").to_string()
    }

    #[test]
    fn an_override_says_how_much_until_when_why_and_who() {
        let arguments =
            ["budgets", "override", "day/eu west", "--add", "50", "--until", "2026-12-01", "--reason", "campaign", "--author", "alice"];
        let budget = json!({ "data": {
            "name": "day/eu west", "scope": "global", "enforced": true, "limit_usd": "60.00", "override_usd": "50.00", "spent_usd": "0.00",
            "held_usd": "0.00", "starts_at": "2026-11-21T00:00:00Z", "resets_at": "2026-11-22T00:00:00Z", "threshold_percent": 0,
            "overrides": [],
        }});
        let (ended, line, body) = run(&arguments, &answered("201 Created", &budget.to_string()));
        let told = "day/eu west: 50.00 more until 2026-12-01T00:00:00Z; the limit is 60.00 (10.00 + 50.00), and 60.00 is left";
        assert_eq!(ended.expect("success"), told);
        assert_eq!(line, "POST /admin/v1/budgets/day%2Feu%20west/overrides HTTP/1.1");
        let sent = json!({ "amount_usd": "50.00", "expires_at": "2026-12-01T00:00:00Z", "reason": "campaign", "author": "alice" });
        assert_eq!(body, sent);
    }

    #[test]
    fn the_kill_switch_is_looked_at_and_turned() {
        let json = r#"{"data":{"on":false,"since":null,"reason":null,"author":null}}"#;
        let answer = answered("200 OK", json);
        let text = "the kill switch is off";
        for (words, told) in [(&["kill-switch"][..], text), (&["kill-switch", "status"], text), (&["kill-switch", "--json"], json)] {
            let (ended, line, body) = run(words, &answer);
            assert_eq!(ended.expect("success"), told);
            assert_eq!((line.as_str(), body), ("GET /admin/v1/kill-switch HTTP/1.1", Value::Null));
        }
        for (word, on) in [("on", true), ("off", false)] {
            let (ended, line, body) = run(&["kill-switch", word, "--reason", "runaway dialer", "--author", "bob"], &answer);
            assert_eq!(ended.expect("success"), text, "what the gateway says, not what was asked");
            assert_eq!(line, "POST /admin/v1/kill-switch HTTP/1.1");
            assert_eq!(body, json!({ "on": on, "reason": "runaway dialer", "author": "bob" }));
        }
    }

    #[test]
    fn json_is_passed_on_whatever_it_holds_and_a_table_needs_what_it_shows() {
        let json = r#"{"data":[],"more":1}"#;
        let later = answered("200 OK", json);
        let (ended, line, _) = run(&["budgets", "--json"], &later);
        assert_eq!(ended.expect("success"), json);
        assert_eq!(line, "GET /admin/v1/budgets HTTP/1.1");
        assert!(matches!(run(&["budgets"], &later).0, Err(Failed::NoAnswer(NoAnswer::Strange { .. }))));
    }

    #[test]
    fn what_is_wrong_with_the_arguments_is_said_before_anything_is_asked() {
        let change = ["budgets", "override", "day", "--add", "1.00", "--until", "2h", "--reason", "campaign"];
        Cli::try_parse_from(["reputation-gateway"].iter().chain(&change)).expect("these are right");
        for (at, wrong, said) in [(4, "1,00", "not an amount of dollars"), (6, "tomorrow", "write a time with its offset")] {
            let mut change = change;
            change[at] = wrong;
            assert!(refused(&change).contains(said), "{}", refused(&change));
        }
        assert!(refused(&change[..7]).contains("--reason"));
        assert!(refused(&["kill-switch", "on"]).contains("--reason"));
    }

    #[test]
    fn an_end_is_a_time_a_date_or_a_span() {
        let now = "2026-11-21T12:00:00.7Z".parse().expect("a time");
        for (text, moment) in [
            ("2026-12-01T00:00:00Z", "2026-12-01T00:00:00Z"),
            ("2026-12-01T02:00:00+02:00", "2026-12-01T00:00:00Z"),
            ("2026-12-01", "2026-12-01T00:00:00Z"),
            ("2h", "2026-11-21T14:00:00Z"),
            ("7d", "2026-11-28T12:00:00Z"),
        ] {
            assert_eq!(text.parse::<Until>().expect(text).moment(now).to_string(), moment, "{text}");
        }
        for text in ["", "2026-12-01T00:00:00", "2026-13-01", "12:00", "tomorrow", "-2h"] {
            assert!(text.parse::<Until>().is_err(), "{text}");
        }
    }
}
