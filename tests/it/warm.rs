//! A restart begins with what was known before it, as old as it is, and with nothing that was gone.

use std::fs;
use std::time::Duration;

use http::Method;
use reputation_gateway::sandbox;
use tokio::time::timeout;

use crate::harness::process::{Process, text};
use crate::harness::{ABSENT, Ask, BUDGET, ENTERPRISE, NULL, PATIENCE, STORED, UNCHECKED, World, unchecked};

/// A gateway with a snapshot, before numbers that have data.
async fn warm(tables: &str) -> World {
    let standin = sandbox::Config { numbers: 100, checked: true, ..sandbox::Config::default() };
    World::over(standin, tables, |config| config.cache.snapshot = Some("cache.snapshot".into())).await
}

/// The same before the usual numbers.
async fn warm_with_budget() -> World {
    World::with(BUDGET, |config| {
        config.cache.snapshot = Some("cache.snapshot".into());
        config.auth.allow = vec![reputation_gateway::auth::Permission::Fresh, reputation_gateway::auth::Permission::Associate];
    })
    .await
}

async fn written_since_the_start(world: &World) {
    let written = async {
        while world.metric("reputation_gateway_snapshot_last_success_timestamp_seconds").await == "0" {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, written).await.expect("a snapshot is written");
}

#[tokio::test]
async fn after_a_restart_every_read_that_was_a_hit_is_one() {
    let mut world = warm("").await;
    for n in 0..100 {
        assert_eq!(world.read(&unchecked(n)).await.outcome(), (200, "probe"));
    }
    let tags: Vec<String> = futures_util::future::join_all((0..100).map(|n| {
        let ask = world.ask(&format!("/v2/reputation/numbers/{}", unchecked(n)));
        async move { ask.send().await.header("etag").to_owned() }
    }))
    .await;
    let sent = world.sent();
    world.stop().await;
    world.turn(Duration::from_mins(10));
    world.restart().await;
    assert_eq!(world.metric("reputation_gateway_snapshot_restored_entries").await, "100");
    for (n, tag) in tags.iter().enumerate() {
        let read = world.read(&unchecked(n)).await;
        assert_eq!((read.outcome(), read.header("age"), read.header("etag")), ((200, "hit"), "600", tag.as_str()));
    }
    assert_eq!((world.sent(), world.charged().as_str()), (sent, "0.00"));
    world.turn(Duration::from_mins(55));
    assert_eq!(world.read(UNCHECKED).await.outcome(), (200, "stale"), "an hour after Telnyx gave it, and not after the restart");
}

#[tokio::test]
async fn nulls_and_absences_survive_a_restart_as_data_does_and_nothing_is_paid_again() {
    let mut world = warm_with_budget().await;
    for (number, outcome) in [(NULL, (200, "first_touch")), (ABSENT, (404, "not_found")), (STORED, (200, "probe"))] {
        assert_eq!(world.read(number).await.outcome(), outcome);
    }
    let sent = world.sent();
    world.stop().await;
    world.restart().await;
    for (number, outcome) in [(NULL, (200, "null")), (ABSENT, (404, "not_found")), (STORED, (200, "hit"))] {
        assert_eq!(world.read(number).await.outcome(), outcome);
    }
    assert_eq!((world.sent(), world.charged().as_str()), (sent, "0.10"));
}

#[tokio::test]
async fn a_snapshot_is_also_written_on_the_interval_and_soon_after_a_removal() {
    let world = warm_with_budget().await;
    world.read(STORED).await;
    assert!(!world.snapshot().exists());
    world.turn(Duration::from_mins(5));
    written_since_the_start(&world).await;
    let holds = |number: &str| {
        let file = fs::read(world.snapshot()).expect("a snapshot");
        file.windows(number.len()).any(|window| window == number.as_bytes())
    };
    assert!(holds(STORED));
    world.turn(Duration::from_secs(10));
    let path = format!("/v2/enterprises/{ENTERPRISE}/reputation/numbers/{STORED}");
    assert_eq!(world.ask(&path).method(Method::DELETE).send().await.status, 204);
    let gone = async {
        while holds(STORED) {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, gone).await.expect("the number is not in the next one");
}

#[tokio::test]
async fn what_was_removed_through_the_gateway_is_not_there_after_a_restart() {
    let mut world = warm_with_budget().await;
    world.read(STORED).await;
    let path = format!("/v2/enterprises/{ENTERPRISE}/reputation/numbers/{STORED}");
    assert_eq!(world.ask(&path).method(Method::DELETE).send().await.status, 204);
    world.stop().await;
    world.restart().await;
    assert_eq!(world.read(STORED).await.outcome(), (404, "not_found"));
}

#[tokio::test]
async fn a_number_that_was_bought_after_the_snapshot_is_looked_for_and_not_served_as_it_was() {
    let mut world = warm_with_budget().await;
    world.read(STORED).await;
    world.turn(Duration::from_mins(5));
    written_since_the_start(&world).await;
    let old = fs::read(world.snapshot()).expect("a snapshot");
    world.turn(Duration::from_mins(1));
    assert_eq!(world.fresh(STORED).await.outcome(), (200, "billed"));
    world.stop().await;
    // As if the process had crashed before it wrote another one.
    fs::write(world.snapshot(), old).expect("writable");
    world.restart().await;
    let read = world.read(STORED).await;
    assert_eq!((read.outcome(), world.charged().as_str()), ((200, "revalidated"), "0.10"));
}

#[tokio::test]
async fn a_clock_that_was_set_back_makes_no_copy_younger() {
    let mut world = warm("").await;
    world.read(UNCHECKED).await;
    world.stop().await;
    let earlier = world.clock.now().checked_sub(Duration::from_hours(2)).expect("a time");
    world.clock.set_wall(earlier);
    world.restart().await;
    assert_eq!(world.read(UNCHECKED).await.outcome(), (200, "revalidated"), "a look comes first");
    world.stop().await;
    world.clock.set_wall(earlier.checked_sub(Duration::from_hours(2)).expect("a time"));
    world.restart().await;
    world.cut_upstream().await;
    assert_eq!(world.read(UNCHECKED).await.outcome(), (200, "stale"), "it stands in where there is no answer");
}

#[tokio::test]
async fn a_file_that_cannot_be_used_is_no_reason_not_to_start() {
    let mut world = warm("").await;
    world.read(UNCHECKED).await;
    world.stop().await;
    let whole = fs::read(world.snapshot()).expect("a snapshot");
    let newer = [&whole[..8], &[9], &whole[9..]].concat();
    let flipped = [&whole[..100], &[!whole[100]], &whole[101..]].concat();
    for damaged in [Vec::new(), whole[..whole.len() / 2].to_vec(), [&whole[..], b"more"].concat(), newer, flipped] {
        fs::write(world.snapshot(), &damaged).expect("writable");
        world.restart().await;
        assert_eq!(world.metric("reputation_gateway_snapshot_restored_entries").await, "0");
        assert_eq!(world.read(UNCHECKED).await.outcome(), (200, "probe"));
        world.stop().await;
        world.restart().await;
        assert_eq!(world.read(UNCHECKED).await.outcome(), (200, "hit"), "a whole one took its place");
        world.stop().await;
    }
    fs::write(world.snapshot(), "somebody's letters").expect("writable");
    world.restart().await;
    assert_eq!(world.read(UNCHECKED).await.outcome(), (200, "probe"));
    world.stop().await;
    assert_eq!(fs::read(world.snapshot()).expect("there"), b"somebody's letters", "what is no snapshot is not written over");
}

#[tokio::test]
async fn no_key_is_in_the_file() {
    let mut world = warm("").await;
    assert_eq!(world.ask(&format!("/v2/reputation/numbers/{UNCHECKED}")).key("a-callers-key").send().await.status, 200);
    world.stop().await;
    let file = fs::read(world.snapshot()).expect("a snapshot");
    let holds = |what: &str| file.windows(what.len()).any(|window| window == what.as_bytes());
    assert!(holds(UNCHECKED) && !holds("upstream-key") && !holds("a-callers-key"));
}

#[tokio::test]
async fn what_a_forwarded_key_fetched_is_written_nowhere() {
    let mut world = World::with("", |config| {
        config.auth.mode = reputation_gateway::auth::Mode::Forward;
        config.cache.snapshot = Some("cache.snapshot".into());
    })
    .await;
    assert_eq!(world.ask(&format!("/v2/reputation/numbers/{STORED}")).key("callers-own").send().await.status, 200);
    world.stop().await;
    assert!(!world.snapshot().exists());
}

/// The command killed as a crash would, after a snapshot on the interval.
#[tokio::test]
async fn after_a_crash_what_was_known_at_the_last_snapshot_is_known() {
    let sandbox = Process::start(&["sandbox", "--listen", "127.0.0.1:0", "--numbers", "50", "--checked"]);
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = |name: &str| text(&directory.path().join(name)).to_owned();
    let config = format!(
        "[server]\nlisten = \"127.0.0.1:0\"\n[admin]\nlisten = \"127.0.0.1:0\"\n[auth]\nmode = \"open\"\n\
         [upstream]\nbase_url = \"http://{}/v2\"\napi_key = \"upstream-key\"\n[ledger]\npath = \"{}\"\n\
         [cache]\nsnapshot = \"{}\"\nsnapshot_interval = \"1s\"\n",
        sandbox.address("sandbox"),
        file("ledger.sqlite"),
        file("cache.snapshot"),
    );
    fs::write(file("gateway.toml"), config).expect("writable");
    let serve = || Process::start(&["serve", "--config", &file("gateway.toml")]);
    let read = async |gateway: &Process, n| {
        let answer = Ask::new(gateway.address("listen"), &format!("/v2/reputation/numbers/{}", unchecked(n))).send().await;
        answer.header("x-gateway-decision").to_owned()
    };
    let gateway = serve();
    for n in 0..50 {
        assert_eq!(read(&gateway, n).await, "probe");
    }
    let all = "\nreputation_gateway_snapshot_entries 50\n";
    let written = async {
        while !Ask::new(gateway.address("admin"), "/metrics").send().await.text().contains(all) {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, written).await.expect("a snapshot on the interval");
    gateway.crash().await;
    let gateway = serve();
    for n in 0..50 {
        assert_eq!(read(&gateway, n).await, "hit", "{n}");
    }
}
