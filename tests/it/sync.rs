//! Lists that are read ahead: what is known without having been asked for, and what is known to be gone.

use std::time::Duration;

use http::Method;
use reputation_gateway::config::Config;
use reputation_gateway::sandbox;
use serde_json::json;
use tokio::time::timeout;

use crate::harness::{Answer, Ask, BUDGET, ENTERPRISE, NULL, PATIENCE, STORED, UNCHECKED, Wire, World, unchecked};

const ON: &str = "[sync]\nenabled = true\n";
const INTERVAL: Duration = Duration::from_mins(15);

/// So many numbers, all of them with data.
fn checked(numbers: u32) -> sandbox::Config {
    sandbox::Config { numbers, checked: true, ..sandbox::Config::default() }
}

/// Waits until a series has this value.
async fn becomes(world: &World, series: &str, value: &str) {
    let series = format!("reputation_gateway_{series}");
    let reached = async {
        while world.metric(&series).await != value {
            tokio::task::yield_now().await;
        }
    };
    let in_time = timeout(PATIENCE, reached).await;
    assert!(in_time.is_ok(), "{series} is {} instead of {value}", world.metric(&series).await);
}

/// Waits until so many pages were read and no pass is under way.
async fn has_read(world: &World, pages: usize) {
    becomes(world, "sync_pages_total{result=\"read\"}", &pages.to_string()).await;
    becomes(world, "sync_running", "0").await;
}

/// Asks Telnyx behind the gateway's back.
async fn elsewhere(world: &World, method: Method, number: &str, query: &str) -> Answer {
    Ask::new(world.upstream(), &format!("/v2/reputation/numbers/{number}{query}")).method(method).key("another").send().await
}

/// The pages that were asked for, in their order.
fn pages(world: &World) -> Vec<String> {
    let page = |path: String| path.split("page%5Bnumber%5D=").nth(1).and_then(|rest| rest.split('&').next().map(str::to_owned));
    world.sandbox.requests().into_iter().filter_map(|seen| page(seen.path_and_query)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_cold_start_forty_list_calls_make_ten_thousand_reads_hits() {
    let world = World::over(checked(10_000), ON, |_| {}).await;
    has_read(&world, 40).await;
    assert_eq!((world.sent(), world.metric("reputation_gateway_sync_numbers").await.as_str()), (40, "10000"));
    let first: u64 = UNCHECKED.trim_start_matches('+').parse().expect("digits");
    let mut wire = Wire::to(world.gateway).await;
    let (mut hits, mut read) = (0, 0);
    for number in (first..).map(|digits| format!("+{digits}")).filter(|number| number != NULL).take(10_000) {
        wire.send(format!("GET /v2/reputation/numbers/{number} HTTP/1.1\r\nhost: gateway\r\n\r\n")).await;
        let answer = wire.answer().await;
        assert!(answer.status == 200 && answer.body.contains(&number), "{answer:?}");
        hits += usize::from(answer.field("x-gateway-decision") == "hit");
        read += 1;
    }
    assert_eq!((read, hits, world.sent(), world.charged().as_str()), (10_000, 10_000, 40, "0.00"));
}

#[tokio::test]
async fn what_telnyx_refreshed_by_itself_shows_up_after_the_interval() {
    let world = World::with(ON, |_| {}).await;
    has_read(&world, 5).await;
    let before = world.read(STORED).await;
    assert_eq!(before.outcome(), (200, "hit"));
    world.turn(Duration::from_mins(1));
    assert_eq!(elsewhere(&world, Method::GET, STORED, "?fresh=true").await.status, 200);
    world.turn(INTERVAL);
    has_read(&world, 10).await;
    let sent = world.sent();
    let after = world.read(STORED).await;
    assert_eq!((after.outcome(), after.header("age"), world.sent()), ((200, "hit"), "0", sent));
    assert_ne!(after.header("last-modified"), before.header("last-modified"));
}

#[tokio::test]
async fn a_number_that_was_deleted_elsewhere_is_forgotten_and_then_a_404() {
    let world = World::over(checked(300), ON, |_| {}).await;
    has_read(&world, 2).await;
    assert_eq!(world.read(&unchecked(7)).await.outcome(), (200, "hit"));
    assert_eq!(elsewhere(&world, Method::DELETE, &unchecked(7), "").await.status, 204);
    assert_eq!(world.read(&unchecked(7)).await.outcome(), (200, "hit"), "nobody has told the gateway");
    world.turn(INTERVAL);
    has_read(&world, 4).await;
    assert_eq!(world.metric("reputation_gateway_sync_forgotten_total").await, "1");
    assert_eq!(world.read(&unchecked(7)).await.outcome(), (404, "not_found"));
    assert_eq!(world.read(&unchecked(8)).await.outcome(), (200, "hit"));
    assert_eq!(world.charged(), "0.00");
}

#[tokio::test]
async fn a_page_that_fails_is_asked_for_again_and_those_before_it_are_not() {
    let world = World::over(checked(600), ON, |_| {}).await;
    has_read(&world, 3).await;
    assert_eq!(elsewhere(&world, Method::DELETE, &unchecked(7), "").await.status, 204);
    for _ in 0..2 {
        world.fault(serde_json::from_value(json!({"fault": "status", "query_contains": "page[number]=2"})).expect("a fault"));
    }
    world.turn(INTERVAL);
    becomes(&world, "sync_pages_total{result=\"failed\"}", "1").await;
    // The wait is by the clock, and twice as long the second time.
    for (seconds, failed) in [(5, "2"), (10, "2")] {
        world.turn(Duration::from_secs(seconds));
        becomes(&world, "sync_pages_total{result=\"failed\"}", failed).await;
    }
    has_read(&world, 6).await;
    assert_eq!(pages(&world), ["1", "2", "3", "1", "2", "2", "2", "3"]);
    let kept = (world.metric("reputation_gateway_sync_forgotten_total").await, world.read(&unchecked(7)).await.status.as_u16());
    assert_eq!(kept, ("0".to_owned(), 200), "a pass that failed on its way proves no absence");
    world.turn(INTERVAL);
    has_read(&world, 9).await;
    assert_eq!(world.metric("reputation_gateway_sync_forgotten_total").await, "1", "the next one does");
}

#[tokio::test]
async fn a_refusal_ends_the_pass_until_the_next_interval() {
    let world = World::over(checked(300), ON, |_| {}).await;
    has_read(&world, 2).await;
    for status in [401, 403, 404] {
        world.fault(serde_json::from_value(json!({"fault": "status", "status": status})).expect("a fault"));
    }
    for refused in ["1", "2", "3"] {
        world.turn(INTERVAL);
        becomes(&world, "sync_pages_total{result=\"refused\"}", refused).await;
        becomes(&world, "sync_running", "0").await;
    }
    assert_eq!(world.sent(), 5, "each was asked for once");
    world.turn(INTERVAL);
    has_read(&world, 4).await;
}

#[tokio::test]
async fn a_null_is_kept_only_where_it_may_be_served() {
    let world = World::with(&format!("{ON}{BUDGET}"), |_| {}).await;
    has_read(&world, 5).await;
    for (outcome, charged) in [((200, "first_touch"), "0.10"), ((200, "null"), "0.10")] {
        assert_eq!((world.read(NULL).await.outcome(), world.charged().as_str()), (outcome, charged));
    }
    world.turn(INTERVAL);
    has_read(&world, 10).await;
    let paid = world.read(NULL).await;
    assert_eq!((paid.outcome(), paid.header("age")), ((200, "null"), "0"), "it was paid for, and the list has it still");
}

#[tokio::test]
async fn where_first_touches_are_free_the_nulls_of_a_list_are_hits_too() {
    let free = |config: &mut Config| config.fresh.first_touch = reputation_gateway::policy::decide::FirstTouch::Free;
    let world = World::with(ON, free).await;
    has_read(&world, 5).await;
    let sent = world.sent();
    assert_eq!((world.read(NULL).await.outcome(), world.read(UNCHECKED).await.outcome()), ((200, "null"), (200, "null")));
    assert_eq!((world.sent(), world.charged().as_str()), (sent, "0.00"));
}

#[tokio::test]
async fn the_kill_switch_does_not_stop_what_costs_nothing() {
    let world = World::over(checked(300), ON, |_| {}).await;
    has_read(&world, 2).await;
    let stop = Ask::new(world.admin, "/admin/v1/kill-switch").method(Method::POST).header("content-type", "application/json");
    let stopped = stop.body(json!({"on": true, "reason": "a test", "author": "a test"}).to_string()).send().await;
    assert_eq!(stopped.status, 200, "{}", stopped.text());
    world.turn(INTERVAL);
    has_read(&world, 4).await;
}

#[tokio::test]
async fn a_page_gives_way_to_callers_and_comes_when_they_are_served() {
    let narrow = |config: &mut Config| config.upstream.max_in_flight = 1;
    let world = World::gated(ON, narrow).await;
    has_read(&world, 5).await;
    world.gate.close();
    let waiting = tokio::spawn(world.ask("/v2/reputation/numbers?page[size]=3").send());
    world.reached(6).await;
    world.turn(INTERVAL);
    becomes(&world, "sync_running", "1").await;
    for _ in 0..5 {
        world.turn(Duration::from_secs(1));
        becomes(&world, "sync_running", "1").await;
    }
    assert_eq!(world.sent(), 6, "the only place is taken");
    world.gate.open();
    assert_eq!(waiting.await.expect("nothing panics").status, 200);
    world.turn(Duration::from_secs(1));
    has_read(&world, 10).await;
}

#[tokio::test]
async fn pages_take_no_more_than_a_quarter_of_the_rate() {
    let world = World::over(checked(600), ON, |config| config.upstream.rate = "8/s".parse().expect("a rate")).await;
    becomes(&world, "sync_pages_total{result=\"read\"}", "2").await;
    becomes(&world, "sync_running", "1").await;
    assert_eq!(world.sent(), 2, "two at once, and then two a second");
    world.turn(Duration::from_millis(500));
    has_read(&world, 3).await;
}

#[tokio::test]
async fn a_stop_does_not_wait_for_a_page() {
    let mut world = World::gated(ON, |_| {}).await;
    has_read(&world, 5).await;
    world.gate.close();
    world.turn(INTERVAL);
    world.reached(6).await;
    timeout(PATIENCE, world.stop()).await.expect("long before an hour");
}

#[tokio::test]
async fn each_enterprise_that_is_named_is_read_and_all_count_together() {
    let other = "11111111-2222-4333-8444-555555555555";
    let tables = format!("{ON}[[enterprise]]\nid = \"{other}\"\nname = \"other\"\n[[enterprise]]\nid = \"{ENTERPRISE}\"\n");
    let world = World::of_account(&[ENTERPRISE, other], &tables, |_| {}).await;
    has_read(&world, 10).await;
    assert_eq!(world.metric("reputation_gateway_sync_numbers").await, "2004");
    for enterprise in [ENTERPRISE, other] {
        let read = world.ask(&format!("/v2/enterprises/{enterprise}/reputation/numbers/{STORED}")).send().await;
        assert_eq!(read.outcome(), (200, "hit"));
    }
    let now = world.clock.now().as_second().to_string();
    assert_eq!(world.metric("reputation_gateway_sync_last_success_timestamp_seconds").await, now);
}

#[tokio::test]
async fn under_forwarded_credentials_nothing_is_read_ahead() {
    let world = World::with(ON, |config| config.auth.mode = reputation_gateway::auth::Mode::Forward).await;
    world.turn(INTERVAL);
    let read = world.ask(&format!("/v2/reputation/numbers/{STORED}")).key("callers-own").send().await;
    assert_eq!((read.outcome(), world.sent()), ((200, "probe"), 1));
}
