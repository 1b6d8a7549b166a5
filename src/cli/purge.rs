//! The command that purges a running gateway's copies, through its admin listener.

use std::fmt;

use clap::{ArgGroup, Args};
use serde::Deserialize;
use serde_json::{Value, json};

use super::Failed;
use super::client::Place;
use super::control::{show, user};
use super::report::Data;
use crate::policy::money::Usd;
use crate::telnyx::{EnterpriseId, PhoneNumber};

/// `purge`
#[derive(Debug, Args)]
pub(super) struct Purge {
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    scope: Scope,
    /// Throw the copies away. Without it they are only outdated: the next read looks, free of charge, whether they are true still.
    #[arg(long)]
    hard: bool,
    /// Only count the copies, and tell what a purge of them may cost.
    #[arg(long)]
    dry_run: bool,
    /// Who, for the gateway's log; without it $USER.
    #[arg(long, value_name = "NAME")]
    author: Option<String>,
    /// Print the answer's JSON as it is.
    #[arg(long)]
    json: bool,
}

/// Which copies.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("which").args(["enterprise", "all"]).required(true)))]
struct Scope {
    /// Only this number's copy, in E.164.
    #[arg(long, value_name = "NUMBER", requires = "enterprise", conflicts_with = "all")]
    number: Option<PhoneNumber>,
    /// This enterprise's copies.
    #[arg(long, value_name = "UUID")]
    enterprise: Option<EnterpriseId>,
    /// All copies.
    #[arg(long)]
    all: bool,
}

/// What was purged.
#[derive(Deserialize)]
struct Purged {
    entries: u64,
    exposed_usd: Usd,
    hard: bool,
    dry_run: bool,
}

impl Purge {
    /// Does it, and tells what to print.
    pub(super) fn run(self) -> Result<String, Failed> {
        let answer = self.place.client()?.post("/admin/v1/purge", &self.body())?;
        show(&answer, self.json, |answer| Ok(answer.read::<Data<Purged>>()?.data.to_string()))
    }

    fn body(&self) -> Value {
        let mut body = json!({ "hard": self.hard, "dry_run": self.dry_run, "author": user(self.author.as_deref()) });
        if self.scope.all {
            body["all"] = true.into();
        }
        if let Some(enterprise) = self.scope.enterprise {
            body["enterprise"] = enterprise.to_string().into();
        }
        if let Some(number) = self.scope.number {
            body["number"] = number.to_string().into();
        }
        body
    }
}

impl fmt::Display for Purged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let copies = if self.entries == 1 { "1 copy".to_owned() } else { format!("{} copies", self.entries) };
        let what = match (self.dry_run, self.hard) {
            (false, false) => "outdated",
            (false, true) => "thrown away",
            (true, false) => "would be outdated",
            (true, true) => "would be thrown away",
        };
        write!(f, "{copies} {what}; ")?;
        if self.exposed_usd == Usd::ZERO {
            return f.write_str("reading them again costs nothing");
        }
        write!(f, "reading them again may cost ${} in first touches", self.exposed_usd)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::super::client::tests::{answered, listener};
    use super::super::{Cli, Command};
    use super::*;

    const ENTERPRISE: &str = "6a09cdc3-8948-47f0-aa62-74ac943d6c58";

    fn parsed(arguments: &[&str]) -> Result<Purge, clap::Error> {
        let arguments = ["reputation-gateway", "purge"].iter().chain(arguments);
        match Cli::try_parse_from(arguments)?.command {
            Command::Purge(purge) => Ok(purge),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_purge_is_of_a_number_an_enterprise_or_everything() {
        let number = "+16035551234";
        for (arguments, scope) in [
            (&["--enterprise", ENTERPRISE, "--number", number][..], json!({ "enterprise": ENTERPRISE, "number": number })),
            (&["--enterprise", ENTERPRISE], json!({ "enterprise": ENTERPRISE })),
            (&["--all"], json!({ "all": true })),
        ] {
            let mut body = parsed(&[arguments, &["--hard", "--author", "alice"]].concat()).expect("arguments").body();
            let more = [("hard", json!(true)), ("dry_run", json!(false)), ("author", json!("alice"))];
            for (name, value) in more {
                assert_eq!(body.as_object_mut().expect("an object").remove(name), Some(value), "{name}");
            }
            assert_eq!(body, scope);
        }
        for arguments in
            [&[][..], &["--number", number], &["--number", number, "--all"], &["--all", "--enterprise", ENTERPRISE], &["--hard"]]
        {
            assert!(parsed(arguments).is_err(), "{arguments:?}");
        }
        assert!(parsed(&["--enterprise", ENTERPRISE, "--number", "0123"]).is_err());
    }

    #[test]
    fn what_happened_or_would_is_told_with_what_it_may_cost() {
        for (arguments, answer, told) in [
            (
                &["--all"][..],
                json!({ "entries": 2, "exposed_usd": "0.00", "hard": false, "dry_run": false }),
                "2 copies outdated; reading them again costs nothing",
            ),
            (
                &["--all", "--hard", "--dry-run"],
                json!({ "entries": 1, "exposed_usd": "0.10", "hard": true, "dry_run": true }),
                "1 copy would be thrown away; reading them again may cost $0.10 in first touches",
            ),
        ] {
            let (address, request) = listener(&answered("200 OK", &json!({ "data": answer }).to_string()));
            let address = address.to_string();
            let purge = parsed(&[arguments, &["--admin-listen", &address]].concat()).expect("arguments");
            assert_eq!(purge.run().expect("success"), told);
            let (head, body) = request.join().expect("nothing panics");
            assert!(head.starts_with("POST /admin/v1/purge HTTP/1.1\r\n") && body.contains("\"all\":true"), "{head}{body}");
        }
    }
}
