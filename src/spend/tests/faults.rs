//! What a shared ledger does when the way to its server fails, in the middle of something too, and when the server is slow or behind.

use std::collections::BTreeMap;

use futures_util::FutureExt;
use tokio::time::Instant;

use super::chaos::{Chaos, Moment, Weather};
use super::*;
use crate::spend::books::Filter;

const MOMENTS: [Moment; 2] = [Moment::Before, Moment::After];

impl Bench {
    fn redis(&self) -> &RedisServer {
        self.redis.as_ref().expect("a bench with a Redis")
    }

    /// A gateway with its copy in a file of this name, behind a proxy of its own.
    async fn behind_chaos(&self, name: &str, timeout: &str) -> (Chaos, Ledger) {
        let chaos = Chaos::before(self.redis().socket()).await;
        let ledger = self.reach(&format!("redis://{}", chaos.address), name, timeout);
        (chaos, ledger)
    }

    fn reach(&self, url: &str, name: &str, timeout: &str) -> Ledger {
        let shared = crate::shared::Config { timeout: timeout.parse().expect("a time"), ..shared_config(url) };
        let redis = Redis::new(&shared).expect("a URL").expect("one is named");
        let config = Config { path: self.dir.path().join(format!("{name}.sqlite")), ..Config::default() };
        let terms = (vec![budget("all", "100.00")], PriceList::default());
        Ledger::join(&config, redis, terms, MEMORY, self.clock.clone(), self.observe()).expect("joins")
    }

    /// Waits until nothing is held any more, by this gateway's view.
    async fn nothing_held(&self, ledger: &Ledger) {
        while !figures(ledger)[0].ends_with("+ 0.00") {
            barrier(ledger).await;
        }
    }
}

async fn available(ledger: &Ledger) {
    while !ledger.is_available() {
        tokio::task::yield_now().await;
    }
}

fn key(name: &str) -> String {
    format!("{{reputation-gateway}}:{name}")
}

/// How many charges of this caller are in each state. The books have to be right.
fn states(ledger: &Ledger, caller: &str) -> BTreeMap<String, usize> {
    let books = ledger.books().expect("readable");
    let report = books.verify(&[], |_, _| {}).expect("readable");
    assert!(report.is_clean(), "{report:?}");
    let rows = books.page(&Filter::default(), None, 1_000).expect("readable");
    let mut states = BTreeMap::new();
    for row in rows.iter().filter(|row| row.caller == caller) {
        *states.entry(row.state.to_string()).or_insert(0) += 1;
    }
    states
}

fn only(state: &str, count: usize) -> BTreeMap<String, usize> {
    BTreeMap::from([(state.to_owned(), count)])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_that_is_cut_on_its_way_is_refused_and_leaves_nothing_held() {
    for moment in MOMENTS {
        let bench = Bench::shared();
        let (chaos, ledger) = bench.behind_chaos("a", "20s").await;
        barrier(&ledger).await;
        chaos.cut_at("request of a", moment);
        assert_eq!(ledger.hold(charge("a")).await.expect_err("cut"), HoldRefused::Unavailable);
        chaos.is_cut().await;
        chaos.set(Weather::Fair);
        available(&ledger).await;
        bench.nothing_held(&ledger).await;
        assert_eq!(figures(&ledger), ["all: 0.00 + 0.00"], "{moment:?}");
        assert_eq!(states(&ledger, "a"), only("released", 1), "{moment:?}");
        assert_eq!(ledger.holds().count, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_that_is_cut_on_its_way_is_recorded_once() {
    for moment in MOMENTS {
        for (end, figure) in [(End::Settled, "all: 0.10 + 0.00"), (End::Released, "all: 0.00 + 0.00"), (End::Assumed, "all: 0.10 + 0.00")] {
            let bench = Bench::shared();
            let (chaos, ledger) = bench.behind_chaos("a", "20s").await;
            let hold = ledger.hold(charge("a")).await.expect("held");
            bench.take_events();
            chaos.cut_at("became of it", moment);
            let ended = match end {
                End::Settled => hold.settle("what became of it").await,
                End::Released => hold.release("what became of it").await,
                End::Assumed => hold.assume("what became of it").await,
            };
            assert_eq!(ended, Err(Unavailable), "nobody knows yet");
            chaos.set(Weather::Fair);
            available(&ledger).await;
            barrier(&ledger).await;
            assert_eq!(figures(&ledger), [figure], "{moment:?}");
            assert_eq!(states(&ledger, "a"), only(end.as_str(), 1), "{moment:?}");
            assert_eq!(bench.take_events().matches("Ended { ").count(), 2, "once, and that of the barrier");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_that_is_cut_on_its_way_is_told_once() {
    for moment in MOMENTS {
        let bench = Bench::shared();
        let (chaos, ledger) = bench.behind_chaos("a", "20s").await;
        barrier(&ledger).await;
        chaos.cut_at("an incident", moment);
        assert_eq!(ledger.switch(true, "an incident".to_owned(), "ops".to_owned()).await, Err(Unavailable));
        chaos.set(Weather::Fair);
        available(&ledger).await;
        assert_eq!(ledger.hold(charge("a")).await.expect_err("stopped"), HoldRefused::Stopped);
        assert_eq!(bench.take_events().matches("Switched(").count(), 1, "{moment:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn cuts_at_any_moment_neither_lose_nor_double_anything() {
    let bench = Bench::shared();
    let gateways = [bench.behind_chaos("a", "20s").await, bench.behind_chaos("b", "20s").await];
    let mut seeded = fastrand::Rng::with_seed(7);
    let mut owed = 0;
    for _ in 0..10 {
        let (chaos, ledger) = &gateways[seeded.usize(..2)];
        available(ledger).await;
        let mut open = Vec::new();
        for _ in 0..seeded.usize(1..6) {
            open.push(ledger.hold(charge("a")).await.expect("held"));
        }
        chaos.cut_at(["EVALSHA", "XRANGE", "request of b", "\"kind\":"][seeded.usize(..4)], MOMENTS[seeded.usize(..2)]);
        let ends: Vec<_> = open.into_iter().map(|hold| (hold, seeded.usize(..4))).collect();
        owed += ends.iter().filter(|(_, end)| *end != 0).count();
        let ending = ends.into_iter().map(|(hold, end)| async move {
            match end {
                0 => hold.release("404").await,
                1 => hold.settle("200").await,
                2 => hold.assume("lost").await,
                _ => {
                    drop(hold);
                    Ok(())
                }
            }
        });
        let (_some_recorded, besides) = tokio::join!(futures_util::future::join_all(ending), ledger.hold(charge("b")));
        if let Ok(hold) = besides {
            owed += 1;
            // It may not be recorded yet.
            let _settled = hold.settle("200").await;
        }
        while chaos.is_cut().now_or_never().is_none() {
            if let Ok(hold) = ledger.hold(charge("b")).await {
                let _released = hold.release("404").await;
            }
        }
        chaos.set(Weather::Fair);
    }
    for (_, ledger) in &gateways {
        available(ledger).await;
        bench.nothing_held(ledger).await;
    }
    let owed: Usd = std::iter::repeat_n(usd("0.10"), owed).sum();
    for (_, ledger) in &gateways {
        barrier(ledger).await;
        assert_eq!(figures(ledger), [format!("all: {owed} + 0.00")]);
        assert_eq!(states(ledger, "a").get("held"), None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_whose_joining_was_answered_to_nobody_keeps_what_it_has_open() {
    let bench = Bench::shared();
    let (chaos, ledger) = bench.behind_chaos("a", "20s").await;
    let hold = ledger.hold(charge("a")).await.expect("held");
    // It is told that it was taken for dead, and joins anew.
    bench.redis().tell::<u32>(&["DEL", &key("replicas")]);
    chaos.cut_at("new_generation", Moment::After);
    chaos.is_cut().await;
    while ledger.is_available() {
        tokio::task::yield_now().await;
    }
    chaos.set(Weather::Fair);
    available(&ledger).await;
    hold.release("404").await.expect("written");
    assert_eq!(figures(&ledger), ["all: 0.00 + 0.00"]);
    barrier(&ledger).await;
    assert_eq!(states(&ledger, "a"), only("released", 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn all_that_is_asked_for_one_batch_has_one_deadline() {
    let bench = Bench::shared();
    let (chaos, ledger) = bench.behind_chaos("a", "2s").await;
    ledger.hold(charge("a")).await.expect("held").assume("lost").await.expect("written");
    chaos.set(Weather::Slow(Duration::from_millis(1_200)));
    // A correction reads what was assumed, and then is recorded: each in time, and together not.
    let corrected = ledger.correct(HoldId(1), Finding::NotBilled, "a look").await;
    assert_eq!(corrected, Err(Unavailable));
    assert!(!ledger.is_available());
    chaos.set(Weather::Fair);
    available(&ledger).await;
    barrier(&ledger).await;
    let was_news = ledger.correct(HoldId(1), Finding::NotBilled, "a look").await.expect("written");
    assert_eq!(figures(&ledger), ["all: 0.00 + 0.00"], "corrected once, now or then: {was_news}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_waits_for_the_batch_before_it_no_longer_than_for_its_own() {
    let bench = Bench::shared();
    let (chaos, ledger) = bench.behind_chaos("a", "2s").await;
    barrier(&ledger).await;
    chaos.set(Weather::Slow(Duration::from_millis(1_500)));
    let asked = Instant::now();
    let (first, second) = tokio::join!(ledger.hold(charge("a")), async {
        tokio::task::yield_now().await;
        let answer = ledger.hold(charge("b")).await;
        (answer, asked.elapsed())
    });
    let (second, waited) = second;
    assert!(waited < Duration::from_millis(2_900), "{waited:?}");
    chaos.set(Weather::Fair);
    available(&ledger).await;
    for hold in [first, second].into_iter().flatten() {
        hold.release("404").await.expect("written");
    }
    bench.nothing_held(&ledger).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_frozen_refuses_in_time_and_then_at_once() {
    let bench = Bench::shared();
    let (chaos, ledger) = bench.behind_chaos("a", "400ms").await;
    while ledger.hold(charge("b")).await.map(drop).is_err() {
        tokio::task::yield_now().await;
    }
    chaos.set(Weather::Frozen);
    let asked = Instant::now();
    assert_eq!(ledger.hold(charge("a")).await.expect_err("no answer"), HoldRefused::Unavailable);
    let first = asked.elapsed();
    assert!(first < Duration::from_millis(1_200), "{first:?}: neither the batch nor a new connection is waited for");
    while ledger.is_available() {
        tokio::task::yield_now().await;
    }
    let asked = Instant::now();
    for _ in 0..100 {
        assert_eq!(ledger.hold(charge("a")).await.expect_err("known to be away"), HoldRefused::Unavailable);
    }
    assert!(asked.elapsed() < Duration::from_millis(400), "{:?}", asked.elapsed());
    chaos.set(Weather::Fair);
    available(&ledger).await;
    bench.nothing_held(&ledger).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_was_billed_after_others_took_it_for_unbilled_is_counted() {
    let bench = Bench::shared();
    let (chaos, slow) = bench.behind_chaos("slow", "20s").await;
    let other = bench.reach(&bench.redis().url(), "other", "20s");
    let hold = slow.hold(charge("a")).await.expect("held");
    let id = hold.id();
    chaos.set(Weather::Cut);
    let replicas: Vec<String> = bench.redis().tell(&["HKEYS", &key("replicas")]);
    for replica in &replicas {
        bench.redis().tell::<u32>(&["HSET", &key("replicas"), replica, "0"]);
    }
    while states(&other, "a") != only("assumed", 1) {
        barrier(&other).await;
    }
    assert_eq!(other.correct(id, Finding::NotBilled, "older data").await, Ok(true));
    assert_eq!(figures(&other), ["all: 0.00 + 0.00"]);
    // It had stood still for longer than any call takes, and sent it then.
    assert_eq!(hold.settle("200").await, Err(Unavailable));
    chaos.set(Weather::Fair);
    available(&slow).await;
    barrier(&slow).await;
    barrier(&other).await;
    assert_eq!(figures(&other), ["all: 0.10 + 0.00"]);
    assert_eq!(states(&other, "a"), BTreeMap::from([("corrected".to_owned(), 1), ("settled".to_owned(), 1)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_answer_told_of_is_missed_even_if_the_copy_never_had_it() {
    let bench = Bench::shared();
    let (_chaos, ledger) = bench.behind_chaos("a", "20s").await;
    barrier(&ledger).await;
    // From now on the copy takes nothing over.
    let lock = Connection::open(bench.dir.path().join("a.sqlite")).expect("a file");
    lock.execute_batch("BEGIN IMMEDIATE").expect("locked");
    let hold = ledger.hold(charge("a")).await.expect("held");
    let log: Vec<(String, Vec<String>)> = bench.redis().tell(&["XREVRANGE", &key("log"), "+", "-", "COUNT", "1"]);
    bench.redis().tell::<u32>(&["XDEL", &key("log"), &log[0].0]);
    assert_eq!(ledger.hold(charge("b")).await.expect_err("forgotten"), HoldRefused::Unavailable);
    assert!(bench.redis().tell::<bool>(&["HEXISTS", &key("state"), "lost"]));
    drop((lock, hold));
}

#[tokio::test(flavor = "multi_thread")]
async fn whichever_gateway_acknowledges_a_loss_all_go_on_and_no_id_comes_again() {
    let mut bench = Bench::shared();
    let knowing = bench.reach(&bench.redis().url(), "a", "20s");
    let before = knowing.hold(charge("a")).await.expect("held");
    let known = before.id();
    bench.redis.take().expect("a server").kill();
    bench.redis = Some(RedisServer::start(bench.dir.path(), &["--appendonly", "no"]));
    while !bench.redis().tell::<bool>(&["HEXISTS", &key("state"), "lost"]) {
        assert_eq!(knowing.hold(charge("a")).await.expect_err("lost"), HoldRefused::Unavailable);
    }
    let newcomer = bench.reach(&bench.redis().url(), "newcomer", "20s");
    assert_eq!(newcomer.acknowledge_loss("a new machine".to_owned(), "ops".to_owned()).await, Ok(true));
    available(&knowing).await;
    let after = knowing.hold(charge("a")).await.expect("held");
    assert!(after.id() > known, "{:?} {known:?}", after.id());
    assert!(!bench.redis().tell::<bool>(&["HEXISTS", &key("state"), "lost"]), "nobody finds it again");
    drop((before, after));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_of_which_all_is_older_than_the_retention_is_no_loss() {
    let bench = Bench::shared();
    // The entries are of the server's time, which is decades before this.
    bench.clock.set_wall("2099-01-01T00:00:00Z".parse().expect("an instant"));
    let redis = Redis::new(&shared_config(&bench.redis().url())).expect("a URL").expect("one is named");
    let config = Config { path: bench.path(), retention: Span(Duration::from_hours(24)) };
    let terms = (vec![budget("all", "1.00")], PriceList::default());
    let ledger = Ledger::join(&config, redis, terms, MEMORY, bench.clock.clone(), bench.observe()).expect("joins");
    for _ in 0..60 {
        barrier(&ledger).await;
    }
    assert!(bench.redis().tell::<u32>(&["XLEN", &key("log")]) >= 120);
    bench.advance_hours(48);
    while bench.redis().tell::<u32>(&["XLEN", &key("log")]) >= 120 {
        barrier(&ledger).await;
    }
    for _ in 0..3 {
        barrier(&ledger).await;
    }
}
