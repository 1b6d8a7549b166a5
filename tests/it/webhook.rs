//! What is posted of the ledger's events: once each, signed, again until the receiver has it, and never in anybody's way.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures_util::future::join_all;
use http::Method;
use reputation_gateway::policy::budget::Interval;
use reputation_gateway::policy::money::Usd;
use reputation_gateway::sandbox::{Fault, Kind};
use reputation_gateway::webhook::Notice;
use serde_json::{Value, json};

use crate::harness::hook::{Post, Receiver, Reply, signature};
use crate::harness::process::{Process, text};
use crate::harness::{Answer, Ask, BUDGET, UNCHECKED, World, unchecked};

/// A gateway with a dollar a day whose events are posted to these.
async fn posting_to(receivers: &[&Receiver]) -> World {
    let settings: String = receivers.iter().map(|receiver| Receiver::setting(receiver.address)).collect();
    World::with(&format!("{}{settings}", BUDGET.replace("10.00", "1.00")), |_| {}).await
}

async fn switch(world: &World, on: bool) -> Answer {
    let body = json!({ "on": on, "reason": "runaway dialer", "author": "ops" }).to_string();
    let ask = Ask::new(world.admin, "/admin/v1/kill-switch").method(Method::POST);
    let answer = ask.header("content-type", "application/json").body(body).send().await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer
}

/// Waits until this was counted so often.
async fn counted(world: &World, result: &str, times: usize) {
    let series = format!("reputation_gateway_webhook_deliveries_total{{result=\"{result}\"}}");
    while world.metric(&series).await != times.to_string() {
        tokio::task::yield_now().await;
    }
}

fn percents(posts: &[Post]) -> Vec<i64> {
    let mut percents: Vec<_> = posts.iter().map(|post| post.verified()["data"]["percent"].as_i64().expect("a number")).collect();
    percents.sort_unstable();
    percents
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thresholds_that_several_callers_cross_at_once_are_posted_once_each_and_signed() {
    let receiver = Receiver::start(&[]).await;
    let world = posting_to(&[&receiver]).await;
    let numbers: Vec<_> = (0..40).map(unchecked).collect();
    let answers = join_all(numbers.iter().map(|number| world.fresh(number))).await;
    assert_eq!(answers.iter().filter(|answer| answer.outcome() == (200, "billed")).count(), 10);
    let posts = receiver.posts(4).await;
    counted(&world, "delivered", 4).await;
    assert_eq!(world.metric("reputation_gateway_webhook_queue").await, "0");
    assert_eq!((percents(&receiver.so_far()), posts.len()), (vec![50, 80, 95, 100], 4));
    let body = posts.iter().map(Post::verified).find(|body| body["data"]["percent"] == 80).expect("80 %");
    let spent: Usd = body["data"]["spent_usd"].as_str().and_then(|spent| spent.parse().ok()).expect("dollars");
    assert!((800_000..=1_000_000).contains(&spent.micros()), "{body}");
    let window = json!(["2026-03-24T00:00:00Z", "2026-03-25T00:00:00Z", "all-day", "1.00"]);
    let told = ["starts_at", "resets_at", "budget", "limit_usd"].map(|name| body["data"][name].clone());
    assert_eq!((json!(told), &body["type"], &body["timestamp"]), (window, &json!("budget_threshold"), &json!("2026-03-24T12:00:00Z")));
    let post = &posts[0];
    assert_eq!((post.header("content-type"), post.timestamp()), ("application/json", 1_774_353_600));
    assert!(post.header("user-agent").starts_with("reputation-gateway/"), "{post:?}");
}

#[tokio::test]
async fn each_act_on_the_kill_switch_is_posted_with_its_reason() {
    let receiver = Receiver::start(&[]).await;
    let world = posting_to(&[&receiver]).await;
    switch(&world, true).await;
    switch(&world, false).await;
    let posts = receiver.posts(2).await;
    let told: Vec<_> = posts.iter().map(|post| (post.verified()["type"].clone(), post.verified()["data"].clone())).collect();
    let act = |on: bool| (json!("kill_switch"), json!({ "on": on, "reason": "runaway dialer", "author": "ops" }));
    assert_eq!(told, [act(true), act(false)]);
    assert_ne!(posts[0].header("webhook-id"), posts[1].header("webhook-id"));
}

#[tokio::test]
async fn a_call_of_unknown_outcome_is_posted_with_its_hold_and_a_masked_number() {
    let receiver = Receiver::start(&[]).await;
    let world = posting_to(&[&receiver]).await;
    world.fault(Fault::new(Kind::Reset));
    let lost = world.ask(&format!("/v2/reputation/numbers/{UNCHECKED}?fresh=true")).header("x-request-id", "lost-1").send().await;
    assert_eq!(lost.outcome(), (504, "outcome_unknown"));
    let posts = receiver.posts(1).await;
    insta::assert_snapshot!(posts[0].verified(), @r#"{"data":{"caller":"anonymous","enterprise_id":"6a09cdc3-8948-47f0-aa62-74ac943d6c58","held_at":"2026-03-24T12:00:00Z","hold":"1","operation":"fresh","phone_number":"+12*******00","price_usd":"0.10","request_id":"lost-1"},"timestamp":"2026-03-24T12:00:00Z","type":"outcome_unknown"}"#);
}

#[tokio::test]
async fn what_fails_is_posted_again_with_the_same_id_and_bytes_and_never_to_where_a_redirect_leads() {
    let stranger = Receiver::start(&[]).await;
    let replies = [Reply::Status(500), Reply::RetryAfter(429, "100"), Reply::RedirectTo(stranger.address)];
    let receiver = Receiver::start(&replies).await;
    let world = posting_to(&[&receiver]).await;
    switch(&world, true).await;
    counted(&world, "failed", 1).await;
    world.turn(Duration::from_secs(5));
    counted(&world, "failed", 2).await;
    world.turn(Duration::from_secs(99));
    assert_eq!((world.metric("reputation_gateway_webhook_queue").await.as_str(), receiver.so_far().len()), ("1", 2));
    world.turn(Duration::from_secs(1));
    counted(&world, "failed", 3).await;
    world.turn(Duration::from_secs(20));
    counted(&world, "delivered", 1).await;
    let posts = receiver.so_far();
    assert!(posts.iter().all(|post| post.verified() == posts[0].verified() && post.body == posts[0].body), "{posts:?}");
    assert!(posts.iter().all(|post| post.header("webhook-id") == posts[0].header("webhook-id")), "{posts:?}");
    let since = posts.iter().map(|post| post.timestamp() - posts[0].timestamp()).collect::<Vec<_>>();
    assert_eq!(since, [0, 5, 105, 125], "each is signed for when it is posted");
    assert!(stranger.so_far().is_empty());
}

#[tokio::test]
async fn a_receiver_that_is_not_there_yet_gets_what_happened_meanwhile() {
    let address = Receiver::nowhere().await;
    let world = World::with(&format!("{BUDGET}{}", Receiver::setting(address)), |_| {}).await;
    switch(&world, true).await;
    counted(&world, "failed", 1).await;
    let receiver = Receiver::at(address, &[]).await;
    world.turn(Duration::from_secs(5));
    assert_eq!(receiver.posts(1).await[0].verified()["data"]["on"], true);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_that_hangs_holds_up_neither_calls_nor_the_ledger_nor_another_receiver() {
    let (hanging, quick) = (Receiver::start(&[Reply::Hang]).await, Receiver::start(&[]).await);
    let world = posting_to(&[&hanging, &quick]).await;
    switch(&world, true).await;
    switch(&world, false).await;
    hanging.posts(1).await;
    for n in 0..10 {
        assert_eq!(world.fresh(&unchecked(n)).await.outcome(), (200, "billed"));
    }
    assert_eq!(quick.posts(6).await.len(), 6);
    counted(&world, "delivered", 6).await;
    assert_eq!(world.metric("reputation_gateway_webhook_queue").await, "6", "one is being posted, and five wait for it");
    world.turn(Duration::from_secs(10));
    counted(&world, "delivered", 11).await;
    counted(&world, "failed", 1).await;
    world.turn(Duration::from_secs(5));
    counted(&world, "delivered", 12).await;
    let on = |post: &Post| post.verified()["data"]["on"] == json!(true);
    assert_eq!(hanging.so_far().iter().filter(|post| on(post)).count(), 2, "the one that was not answered came again");
}

#[tokio::test]
async fn only_the_events_that_a_receiver_wants_are_posted_to_it() {
    let receiver = Receiver::start(&[]).await;
    let only = format!("{BUDGET}{}events = [\"budget_threshold\"]\n", Receiver::setting(receiver.address)).replace("10.00", "0.10");
    let world = World::with(&only, |_| {}).await;
    switch(&world, true).await;
    switch(&world, false).await;
    assert_eq!(world.fresh(UNCHECKED).await.outcome(), (200, "billed"));
    counted(&world, "delivered", 4).await;
    assert_eq!(percents(&receiver.so_far()), [50, 80, 95, 100]);
}

#[tokio::test]
async fn a_stop_posts_what_waits_once_more_and_waits_five_seconds_for_it() {
    for (last, is_taken) in [(Reply::Status(204), true), (Reply::Hang, false)] {
        let receiver = Receiver::start(&[Reply::Status(500), last]).await;
        let mut world = posting_to(&[&receiver]).await;
        switch(&world, true).await;
        counted(&world, "failed", 1).await;
        world.begin_stop();
        receiver.posts(2).await;
        if !is_taken {
            world.turn(Duration::from_secs(5));
        }
        world.stop().await;
        assert_eq!(receiver.so_far().len(), 2);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_posts_what_waits_on_sigterm_and_writes_no_secret_anywhere() {
    let receiver = Receiver::start(&[Reply::Status(500)]).await;
    let place = tempfile::tempdir().expect("a temporary directory");
    let (config, ledger) = (place.path().join("gateway.toml"), place.path().join("ledger.sqlite"));
    let settings = format!(
        "[server]\nlisten = \"127.0.0.1:0\"\n[admin]\nlisten = \"127.0.0.1:0\"\n[auth]\nmode = \"open\"\n[ledger]\npath = \"{}\"\n\
         [telemetry]\nlog = \"trace\"\n{}",
        text(&ledger),
        Receiver::setting(receiver.address),
    );
    std::fs::write(&config, settings).expect("writable");
    let process = Process::start(&["serve", "--sandbox=127.0.0.1:0", "--config", text(&config)]);
    let admin = process.address("admin");
    let body = json!({ "on": true, "reason": "runaway dialer", "author": "ops" }).to_string();
    let ask = Ask::new(admin, "/admin/v1/kill-switch").method(Method::POST).header("content-type", "application/json");
    assert_eq!(ask.body(body).send().await.status, 200);
    receiver.posts(1).await;
    process.terminate();
    let ended = process.ended().await;
    assert_eq!(ended.status.code(), Some(0), "{}", ended.stderr);
    let posts = receiver.so_far();
    assert_eq!(posts.iter().map(Post::verified).collect::<Vec<Value>>(), [posts[0].verified(), posts[0].verified()]);
    assert!(ended.stderr.contains("webhook"), "{}", ended.stderr);
    let secret = Receiver::secret();
    for kept in [&secret, secret.trim_start_matches("whsec_"), posts[0].header("webhook-signature"), posts[1].header("webhook-signature")] {
        assert!(!ended.stderr.contains(kept) && !ended.stdout.contains(kept), "{kept} is written");
    }
}

/// The request that docs/operations.md shows, signed with the key that it names there.
#[test]
fn the_example_of_the_documentation_is_what_the_gateway_posts_and_is_genuine() {
    let docs = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/operations.md")).expect("a document");
    let (_, block) = docs.split_once("```http\n").expect("the example");
    let (head, body) = block.split_once("```").and_then(|(block, _)| block.split_once("\n\n")).expect("a head and a body");
    let field = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).expect("a field");
    let (_, secret) = docs.split_once("The example above is signed with `whsec_").expect("its secret");
    let key = STANDARD.decode(secret.split('`').next().expect("its end")).expect("Base64");
    let instant = |text: &str| text.parse().expect("an instant");
    let window = Interval { start: instant("2026-11-01T00:00:00Z"), end: instant("2026-12-01T00:00:00Z") };
    let spent = ["400.00", "500.00"].map(|text| text.parse().expect("dollars")).into();
    let notice = Notice::threshold("all-month", 80, spent, window, instant("2026-11-21T10:17:21.890512Z"));
    assert!(format!("{notice:?}").contains(field("webhook-id")), "{notice:?}");
    assert!(format!("{notice:?}").contains(&body.trim_end().replace('"', "\\\"")), "{notice:?}");
    let signed = format!("{}.{}.{}", field("webhook-id"), field("webhook-timestamp"), body.trim_end());
    assert_eq!(field("webhook-signature"), signature(&key, signed.as_bytes()));
}
