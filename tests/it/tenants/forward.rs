//! Forwarded credentials: each has its own part of the gateway's memory, and one that Telnyx refuses has none.

use http::StatusCode;
use reputation_gateway::auth::Permission;
use reputation_gateway::config::Config;
use reputation_gateway::sandbox::{Fault, Kind};
use reputation_gateway::telnyx::Operation;

use super::{ACCOUNT, Marks, OPENED, SCOPED, told};
use crate::harness::callers::forward;
use crate::harness::{BUDGET, ENTERPRISE, STORED, World};

const READ: &str = "GET /v2/reputation/numbers/+16035551234";
const LIST: &str = "GET /v2/reputation/numbers?page[size]=250";

fn generous(config: &mut Config) {
    forward(config);
    config.auth.allow = vec![
        Permission::Fresh,
        Permission::Refresh,
        Permission::Associate,
        Permission::Remediation,
        Permission::Enable,
        Permission::Frequency,
        Permission::Ownership,
        Permission::Enterprises,
    ];
}

#[tokio::test]
async fn a_credential_reads_nothing_that_another_has_filled() {
    let world = World::with(BUDGET, generous).await;
    for (line, first) in [(READ, "probe"), (LIST, "passed")] {
        for key in ["key-one", "key-two", "KEY-ONE"] {
            assert_eq!(told(&world, key, (line, "", "")).await.decision(), first, "{key}, {line}");
            assert_eq!(told(&world, key, (line, "", "")).await.decision(), "hit", "{key}, {line}");
        }
        let only = told(&world, "key-three", (line, "cache-control: only-if-cached\r\n", "")).await;
        assert_eq!((only.status, only.decision()), (504, "not_in_cache"), "{line}");
    }
    assert_eq!(world.charged(), "0.00");
}

#[tokio::test]
async fn a_refused_credential_gets_nothing_of_what_is_in_memory() {
    let world = World::with(&[BUDGET, OPENED].concat(), generous).await;
    let marks = Marks { enterprise: ENTERPRISE.to_owned(), number: STORED.to_owned(), ..Marks::of_nobody() };
    let record = told(&world, "key-one", (READ, "", "")).await;
    told(&world, "key-one", (LIST, "", "")).await;
    let etag = record.text.lines().find_map(|line| line.strip_prefix("etag: ")).expect("an etag").to_owned();
    for case in SCOPED.iter().chain(ACCOUNT) {
        for fields in [String::new(), format!("if-none-match: {etag}\r\n"), "cache-control: max-stale=99999\r\n".to_owned()] {
            let answer = told(&world, "invalid", (&marks.fill(case.line), &fields, &marks.fill(case.body))).await;
            let decision = if case.operation == Operation::Route { "passed" } else { "upstream_error" };
            assert_eq!((answer.status, answer.decision()), (401, decision), "{}: {}", case.line, answer.text);
            assert!(!answer.text.contains(&etag) && !answer.text.contains("reputation_data"), "{}: {}", case.line, answer.text);
        }
    }
    assert_eq!(world.charged(), "0.00");
    assert_eq!(told(&world, "key-one", (READ, "", "")).await.decision(), "hit", "it took nothing away either");
}

#[tokio::test]
async fn a_refusal_of_a_credential_is_never_kept() {
    for status in [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN] {
        for line in [READ, LIST] {
            let world = World::with(BUDGET, generous).await;
            for _ in 0..2 {
                world.fault(Fault::new(Kind::Status).status(status));
                let refused = told(&world, "key-one", (line, "", "")).await;
                assert_eq!((refused.status, refused.decision()), (status.as_u16(), "upstream_error"), "{line}");
            }
            assert_eq!(world.sent(), 2, "each was asked for");
            let answer = told(&world, "key-one", (line, "", "")).await;
            assert_eq!(answer.status, 200, "{line}");
            // And once there is a copy, a refusal is passed on and does not turn into it.
            world.fault(Fault::new(Kind::Status).status(status));
            let refused = told(&world, "key-one", (line, "cache-control: no-cache\r\n", "")).await;
            assert_eq!(refused.status, status.as_u16(), "{line}");
        }
    }
}

#[tokio::test]
async fn metrics_tell_of_no_credential() {
    let world = World::with(BUDGET, generous).await;
    for key in ["key-one", "key-two", "invalid"] {
        told(&world, key, (READ, "", "")).await;
    }
    let scrape = world.admin("/metrics").await.text();
    for secret in ["key-one", "key-two", "invalid", ENTERPRISE, &STORED[1..]] {
        assert!(!scrape.contains(secret), "{secret}");
    }
    let callers: Vec<_> = scrape.lines().filter(|line| line.contains("caller=\"") && !line.contains("caller=\"anonymous\"")).collect();
    assert_eq!(callers, [""; 0]);
}
