//! What the operators' page is made of, and what it asks. How it looks and what it does in a browser is for `tests/page`.

use std::time::Duration;

use http::Method;
use serde_json::Value;

use crate::harness::{Ask, STORED, UNCHECKED, World};
use reputation_gateway::config::Config;
use reputation_gateway::secret::Secret;

/// A day's budget; the clock stands at noon.
const BUDGET: &str = "[[budget]]\nname = \"all-day\"\nlimit = \"0.30\"\nwindow = \"day\"\n";

async fn data(world: &World, path: &str) -> Value {
    let answer = world.admin(&format!("/admin/v1/{path}")).await;
    assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    answer.json()["data"].clone()
}

#[tokio::test]
async fn the_page_is_whole_and_takes_nothing_from_elsewhere() {
    let world = World::with(BUDGET, |config: &mut Config| config.admin.token = Some(Secret::Plain("token".to_owned()))).await;
    for (path, media_type) in [
        ("/", "text/html; charset=utf-8"),
        ("/page.css", "text/css; charset=utf-8"),
        ("/page.js", "text/javascript; charset=utf-8"),
        ("/uplot.css", "text/css; charset=utf-8"),
        ("/uplot.js", "text/javascript; charset=utf-8"),
        ("/icon.svg", "image/svg+xml"),
    ] {
        let answer = world.admin(path).await;
        assert_eq!((answer.status.as_u16(), answer.header("content-type")), (200, media_type), "{path}");
        assert!(answer.header("content-security-policy").starts_with("default-src 'none'; script-src 'self';"), "{path}");
        assert_eq!(answer.header("x-content-type-options"), "nosniff");
        assert_eq!(Ask::new(world.admin, path).method(Method::POST).send().await.status, 405, "{path}");
    }
    let html = world.admin("/").await.text();
    let loaded = html.split(['"']).filter(|part| part.starts_with('/') && part.contains('.'));
    for path in loaded {
        assert_eq!(world.admin(path).await.status, 200, "{path}");
    }
    assert!(!html.contains("<script>") && !html.contains(" style=") && !html.contains("//"), "its own policy would refuse it");
    for path in ["overview", "decisions", "spending"] {
        assert_eq!(world.admin(&format!("/admin/v1/{path}")).await.status, 401, "what it shows is for who has the token");
    }
}

#[tokio::test]
async fn the_overview_tells_where_the_budgets_stand_and_will() {
    let world = World::with(BUDGET, |_| {}).await;
    assert_eq!(data(&world, "overview").await["budgets"][0]["forecast"]["exhausted_at"], Value::Null);
    world.fresh(UNCHECKED).await;
    world.read(STORED).await;
    world.read(STORED).await;
    let overview = data(&world, "overview").await;
    let budget = &overview["budgets"][0];
    assert_eq!((&budget["spent_usd"], &budget["limit_usd"]), (&"0.10".into(), &"0.30".into()));
    assert_eq!(budget["forecast"], serde_json::json!({ "at_reset_usd": "0.20", "exhausted_at": null }), "half of the day is over");
    assert_eq!((&overview["decisions"]["billed"], &overview["decisions"]["hit"]), (&1.into(), &1.into()));
    assert_eq!((&overview["holds"]["open"], &overview["ledger"]["available"]), (&0.into(), &true.into()));
    world.fresh(UNCHECKED).await;
    assert_eq!(data(&world, "overview").await["avoided_usd"]["cooldown"], "0.10");
    world.fresh("+12025550031").await;
    let forecast = data(&world, "overview").await["budgets"][0]["forecast"].clone();
    assert_eq!(forecast, serde_json::json!({ "at_reset_usd": "0.40", "exhausted_at": "2026-03-24T18:00:00Z" }));
}

#[tokio::test]
async fn spending_is_added_up_from_the_ledger() {
    let world = World::with(BUDGET, |_| {}).await;
    world.fresh(UNCHECKED).await;
    world.turn(Duration::from_hours(1));
    world.fresh("+12025550031").await;
    let spending = data(&world, "spending").await;
    let hours: Vec<_> = spending["by_hour"].as_array().expect("hours").iter().map(|hour| hour["starts_at"].clone()).collect();
    assert_eq!(hours, ["2026-03-24T12:00:00Z", "2026-03-24T13:00:00Z"]);
    assert_eq!(spending["callers"][0], serde_json::json!({ "caller": "anonymous", "calls": 2, "posted_usd": "0.20" }));
    assert_eq!(spending["numbers"][0]["number"], UNCHECKED, "of equal sums the first number");
    assert_eq!(spending["latest"][0]["number"], "+12025550031");
    assert_eq!(data(&world, "spending?since=2026-03-24T12:30:00Z").await["by_hour"].as_array().map(Vec::len), Some(1));
    let refused = world.admin("/admin/v1/spending?since=2026-01-01").await;
    assert_eq!((refused.status.as_u16(), refused.code().as_str()), (400, "bad_request"));
    assert!(refused.text().contains("more than 31 days ago; read ledger.csv"), "{}", refused.text());
}

#[tokio::test]
async fn decisions_are_sampled_every_ten_seconds() {
    let world = World::new().await;
    let samples = async |least: usize| {
        let found = async {
            loop {
                let decisions = data(&world, "decisions").await;
                let totals = decisions["totals"].as_array().expect("samples").clone();
                // The last is of now.
                if totals.len() > least {
                    return (decisions["decisions"].as_array().expect("names").clone(), totals);
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(30), found).await.expect("a sample")
    };
    samples(1).await;
    world.read(STORED).await;
    world.read(STORED).await;
    world.turn(Duration::from_secs(10));
    let (names, totals) = samples(2).await;
    let hit = 1 + names.iter().position(|name| name == "hit").expect("a decision");
    let seen: Vec<_> = totals.iter().map(|total| (total[0].as_u64().expect("a second"), total[hit].as_u64().expect("a count"))).collect();
    let noon = 1_774_353_600;
    assert_eq!(seen, [(noon, 0), (noon + 10, 1), (noon + 10, 1)]);
}
