//! Several gateways on one ledger post each event once, whichever of them it befalls.

use std::time::Duration;

use http::Method;
use reputation_gateway::sandbox::{Fault, Kind};
use serde_json::{Value, json};

use super::{Place, fresh, join_all, reached};
use crate::harness::Ask;
use crate::harness::hook::{Post, Receiver};
use crate::harness::process::{Process, text};

/// Waits until nothing waits to be posted, by any of them; returns how often they posted.
async fn delivered(gateways: &[Process]) -> u64 {
    let mut sum = 0;
    for gateway in gateways {
        let scrape = || async { Ask::new(gateway.address("admin"), "/metrics").send().await.text() };
        while !scrape().await.contains("\nreputation_gateway_webhook_queue 0\n") {
            tokio::task::yield_now().await;
        }
        let scrape = scrape().await;
        let count = scrape.lines().find_map(|line| line.strip_prefix("reputation_gateway_webhook_deliveries_total{result=\"delivered\"} "));
        sum += count.expect("a series").parse::<u64>().expect("a count");
    }
    sum
}

fn bodies(receiver: &Receiver, kind: &str) -> Vec<Value> {
    receiver.so_far().iter().map(Post::verified).filter(|body| body["type"] == kind).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gateways_that_share_a_ledger_post_each_event_once() {
    const GATEWAYS: usize = 3;
    let place = Place::new(100).await;
    let receiver = Receiver::start(&[]).await;
    let more = format!("timeout = \"5s\"\n{}", Receiver::setting(receiver.address));
    let mut gateways: Vec<_> =
        (0..GATEWAYS).map(|n| Process::start(&["serve", "--config", text(&place.config(n, "1.00", &more))])).collect();
    for gateway in &gateways {
        reached(gateway).await;
    }
    // What one of them cannot settle any more is given up by another, and posted by that one only.
    place.upstream.sandbox.script(Fault::new(Kind::Latency).path_contains("12025550099").delay(Duration::from_mins(10)));
    let lost = tokio::spawn(fresh(gateways[0].address("listen"), 99).try_send());
    while place.upstream.sandbox.charges().count == 0 {
        tokio::task::yield_now().await;
    }
    gateways.remove(0).crash().await;
    assert!(lost.await.expect("nothing panics").is_none());
    receiver.posts(1).await;
    assert_eq!(delivered(&gateways).await, 1);
    assert_eq!(bodies(&receiver, "outcome_unknown")[0]["data"]["phone_number"], "+12*******99");

    let addresses: Vec<_> = gateways.iter().map(|gateway| gateway.address("listen")).collect();
    join_all((0..40).map(|n| fresh(addresses[n % addresses.len()], n).send())).await;
    receiver.posts(5).await;
    assert_eq!(delivered(&gateways).await, 5);
    let mut percents: Vec<_> = bodies(&receiver, "budget_threshold").iter().map(|body| body["data"]["percent"].as_u64()).collect();
    percents.sort_unstable();
    assert_eq!(percents, [50, 80, 95, 100].map(Some));

    let body = json!({ "on": true, "reason": "runaway dialer", "author": "ops" }).to_string();
    let ask = Ask::new(gateways[0].address("admin"), "/admin/v1/kill-switch").method(Method::POST);
    assert_eq!(ask.header("content-type", "application/json").body(body).send().await.status, 200);
    let is_on = || async { Ask::new(gateways[1].address("admin"), "/admin/v1/kill-switch").send().await.json()["data"]["on"] == true };
    while !is_on().await {
        tokio::task::yield_now().await;
    }
    receiver.posts(6).await;
    assert_eq!(delivered(&gateways).await, 6);
    assert_eq!(bodies(&receiver, "kill_switch").len(), 1);
    assert_eq!(receiver.so_far().len(), 6);
}
