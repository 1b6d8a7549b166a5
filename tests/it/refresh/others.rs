//! A refresh among others: copies, lists, reads and purchases of the same numbers, and callers who leave.

use reputation_gateway::auth::{Mode, Permission};
use reputation_gateway::sandbox::{Fault, Kind};

use super::{SECOND, body, money, open, posted, refreshes_sent, results, some};
use crate::harness::{Answer, BUDGET, NULL, STORED, UNCHECKED, World};

#[tokio::test]
async fn copies_and_lists_are_renewed_for_nothing_after_a_refresh() {
    let world = open(BUDGET, |_| {}).await;
    let list = "/v2/reputation/numbers?page[size]=250";
    let (old, null) = (world.read(STORED).await, world.read(NULL).await);
    assert_eq!((world.ask(list).send().await.outcome(), world.ask(list).send().await.outcome()), ((200, "passed"), (200, "hit")));
    assert_eq!((old.outcome(), null.outcome()), ((200, "probe"), (200, "first_touch")));
    let charged = world.charged();
    world.turn(SECOND);
    assert_eq!(world.refresh(&[STORED, UNCHECKED]).await.outcome(), (200, "billed"));
    let (read, fresh) = (world.read(STORED).await, world.fresh(UNCHECKED).await);
    assert_eq!((read.outcome(), fresh.outcome()), ((200, "revalidated"), (200, "cooldown")));
    let refreshed = |answer: &Answer| answer.json()["data"]["reputation_data"]["last_refreshed_at"].as_str().map(str::to_owned);
    assert!(refreshed(&read) > refreshed(&old), "{read:?}");
    assert!(refreshed(&fresh).is_some());
    assert_eq!(world.read(STORED).await.outcome(), (200, "hit"));
    assert_eq!(world.read(NULL).await.outcome(), (200, "null"), "what was not refreshed is as it was");
    assert_eq!(world.ask(list).send().await.outcome(), (200, "passed"));
    assert_eq!((charged.as_str(), world.charged().as_str()), ("0.10", "0.30"));
}

#[tokio::test]
async fn a_fetch_begun_before_a_refresh_ended_makes_no_copy_that_is_fresh() {
    let world = open(BUDGET, |_| {}).await;
    world.fault(Fault::new(Kind::Latency).query_contains("filter").delay(SECOND));
    let (early, refreshed) = tokio::join!(world.read(STORED), async {
        world.reached(1).await;
        world.turn(SECOND);
        world.refresh(&[STORED]).await
    });
    assert_eq!((early.outcome(), refreshed.outcome()), ((200, "probe"), (200, "billed")));
    let later = world.read(STORED).await;
    assert_eq!(later.outcome(), (200, "probe"), "the early answer was not kept");
    assert_ne!(later.json()["data"]["reputation_data"], early.json()["data"]["reputation_data"]);
    assert_eq!(world.charged(), "0.10");
}

#[tokio::test]
async fn a_copy_stands_in_for_what_cannot_be_had_after_a_refresh() {
    let mut world = open(BUDGET, |_| {}).await;
    world.read(STORED).await;
    world.turn(SECOND);
    world.refresh(&[STORED]).await;
    world.cut_upstream().await;
    assert_eq!(world.read(STORED).await.outcome(), (200, "stale"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refreshes_and_fresh_reads_of_the_same_numbers_at_once_share_one_charge_each() {
    for round in 0..10 {
        let world = open("[[budget]]\nname = \"all-day\"\nlimit = \"100.00\"\nwindow = \"day\"\n", |_| {}).await;
        let numbers = some(12);
        let (forth, back) = (numbers.clone(), numbers.iter().rev().cloned().collect::<Vec<_>>());
        let batches = (0..8).map(|n| {
            let batch = if n % 2 == 0 { &forth } else { &back };
            world.refresh(&batch[n % 4..])
        });
        let reads = numbers.iter().flat_map(|number| [world.fresh(number), world.fresh(number)]);
        let (batches, reads) = tokio::join!(futures_util::future::join_all(batches), futures_util::future::join_all(reads));
        for answer in &batches {
            assert_eq!(answer.status, 200, "{round}: {answer:?}");
            assert!(results(answer).iter().all(|(_, success)| *success), "{round}: {answer:?}");
        }
        assert!(reads.iter().all(|answer| answer.status == 200), "{round}: {reads:?}");
        let costs = batches.iter().chain(&reads).map(|answer| answer.header("x-gateway-cost-usd").parse::<f64>().expect("dollars"));
        assert_eq!(format!("{:.2}", costs.sum::<f64>()), "1.20", "{round}: who paid says so, once");
        assert_eq!((world.charged().as_str(), world.charges().count), ("1.20", 12), "{round}");
        assert!(numbers.iter().all(|number| world.charges().number(number).count == 1), "{round}");
        assert_eq!(posted(&world).await, "1.2", "{round}");
    }
}

#[tokio::test]
async fn who_waits_for_a_refresh_gets_its_data_for_nothing() {
    let world = open(BUDGET, |_| {}).await;
    world.fault(Fault::new(Kind::Latency).path_contains("/refresh").delay(SECOND));
    let (refreshed, (fresh, plain, again)) = tokio::join!(world.refresh(&[UNCHECKED, STORED]), async {
        world.reached(1).await;
        tokio::join!(world.fresh(UNCHECKED), world.read(UNCHECKED), world.refresh(&[UNCHECKED, STORED]))
    });
    assert_eq!((refreshed.outcome(), again.outcome()), ((200, "billed"), (200, "collapsed")));
    assert_eq!((fresh.outcome(), plain.status.as_u16()), ((200, "cooldown"), 200));
    for answer in [&fresh, &plain] {
        assert!(!answer.json()["data"]["reputation_data"].is_null(), "{answer:?}");
    }
    assert_eq!((world.charged().as_str(), money(&plain).1, money(&fresh).1), ("0.20", "0.00", "0.00"));
    assert_eq!(world.metric("reputation_gateway_avoided_usd_total{cause=\"collapsed\"}").await, "0.2");
}

#[tokio::test]
async fn a_caller_who_leaves_neither_cancels_nor_repeats_a_refresh() {
    let world = World::gated(BUDGET, |config| config.auth.allow.push(Permission::Refresh)).await;
    world.gate.close();
    let numbers = some(3);
    let leaving = tokio::spawn(world.refreshing(body(&numbers)).send());
    world.reached(1).await;
    leaving.abort();
    assert!(leaving.await.is_err_and(|left| left.is_cancelled()), "answered before the upstream was");
    let (later, ()) = tokio::join!(world.refresh(&numbers), async { world.gate.open() });
    assert!(["collapsed", "cooldown"].contains(&later.header("x-gateway-decision")), "{later:?}");
    assert!(results(&later).iter().all(|(_, success)| *success));
    assert_eq!((world.charged().as_str(), posted(&world).await.as_str(), refreshes_sent(&world)), ("0.30", "0.3", 1));
}

#[tokio::test]
async fn what_was_refreshed_before_a_restart_is_not_paid_for_again() {
    let mut world = open(BUDGET, |_| {}).await;
    world.refresh(&some(2)).await;
    world.stop().await;
    world.restart().await;
    assert_eq!(world.refresh(&some(2)).await.outcome(), (200, "cooldown"));
    assert_eq!(world.fresh(UNCHECKED).await.outcome(), (200, "cooldown"));
    assert_eq!(world.charged(), "0.20");
}

#[tokio::test]
async fn a_refresh_whose_turn_comes_after_a_stop_is_not_sent_and_holds_nothing() {
    let world = World::gated(BUDGET, |config| {
        config.auth.allow.push(Permission::Refresh);
        config.upstream.max_in_flight = 1;
    })
    .await;
    world.gate.close();
    let numbers = some(3);
    let (first, (queued, ())) = tokio::join!(world.fresh(STORED), async {
        world.reached(1).await;
        tokio::join!(world.refresh(&numbers), async {
            while world.metric("reputation_gateway_holds_open").await != "4" {
                tokio::task::yield_now().await;
            }
            world.stop_spending().await;
            world.gate.open();
        })
    });
    assert_eq!((first.outcome(), queued.outcome()), ((200, "billed"), (503, "kill_switch")));
    assert_eq!((refreshes_sent(&world), world.charged().as_str(), posted(&world).await.as_str()), (0, "0.10", "0.1"));
    assert_eq!(world.metric("reputation_gateway_holds_total{end=\"released\"}").await, "3");
}

#[tokio::test]
async fn under_forwarded_keys_each_key_pays_for_its_own_and_looks_first_after_a_start() {
    let mut world = open(BUDGET, |config| config.auth.mode = Mode::Forward).await;
    let refresh = |world: &World, key: &str| world.refreshing(body(&[STORED, UNCHECKED])).key(key).send();
    assert_eq!(refresh(&world, "key-one").await.outcome(), (200, "billed"));
    assert_eq!(refresh(&world, "key-one").await.outcome(), (200, "cooldown"));
    world.stop().await;
    world.restart().await;
    assert_eq!(refresh(&world, "key-one").await.outcome(), (200, "cooldown"), "the list shows that the data is young");
    assert_eq!((world.charged().as_str(), refreshes_sent(&world)), ("0.20", 1));
}
