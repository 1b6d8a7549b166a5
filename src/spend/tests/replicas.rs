//! What only a shared ledger has to promise: several gateways, those that die, and a server that forgets.

use tokio::time::Instant;

use super::*;
use crate::spend::books::Filter;

impl Bench {
    pub(super) fn server(&self) -> &RedisServer {
        self.redis.as_ref().expect("a bench with a Redis")
    }

    /// The ledger of one more gateway, by a user of its own.
    pub(super) fn gateway(&self, name: &str, limit: &str) -> Ledger {
        self.admit(name);
        self.open_as(name, self.copy_of(name), vec![budget("all", limit)])
    }

    pub(super) fn copy_of(&self, name: &str) -> PathBuf {
        self.dir.path().join(format!("{name}.sqlite"))
    }

    /// The same with settings of its own, which may not fit.
    pub(super) fn try_join(&self, change: impl FnOnce(&mut crate::shared::Config), prices: PriceList) -> Result<Ledger, OpenError> {
        let mut shared = shared_config(&self.server().url());
        change(&mut shared);
        let redis = Redis::new(&shared).expect("a URL").expect("one is named");
        let config = Config { path: ":memory:".into(), ..Config::default() };
        Ledger::join(&config, redis, (vec![budget("all", "1.00")], prices), MEMORY, self.clock.clone(), self.observe())
    }

    /// What was observed of this kind, and waits until there is something.
    pub(super) async fn events_of(&self, kind: &str) -> Vec<String> {
        loop {
            let found: Vec<_> = self.events.lock().expect("unpoisoned").iter().filter(|event| event.starts_with(kind)).cloned().collect();
            if !found.is_empty() {
                return found;
            }
            self.ended.notified().await;
        }
    }
}

pub(super) fn key(name: &str) -> String {
    format!("{{reputation-gateway}}:{name}")
}

fn states(ledger: &Ledger) -> Vec<String> {
    let rows = ledger.books().and_then(|books| books.page(&Filter::default(), None, 100)).expect("readable");
    let report = ledger.books().and_then(|books| books.verify(&[], |_, _| {})).expect("readable");
    assert!(report.is_clean(), "{report:?}");
    rows.iter().map(|row| format!("{} {} {}", row.caller, row.state, row.posted)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn three_gateways_on_a_dollar_get_ten_holds_together_and_have_the_same_books() {
    let bench = Bench::shared();
    let ledgers = ["a", "b", "c"].map(|name| bench.gateway(name, "1.00"));
    let mut callers = JoinSet::new();
    for each in 0..300 {
        let ledger = ledgers[each % 3].clone();
        callers.spawn(async move { ledger.hold(charge("dialer")).await });
    }
    let held: Vec<_> = callers.join_all().await.into_iter().flatten().collect();
    assert_eq!(held.len(), 10);
    for hold in held {
        hold.settle("billed").await.expect("written");
    }
    for ledger in &ledgers {
        barrier(ledger).await;
        assert_eq!(figures(ledger), ["all: 1.00 + 0.00"]);
    }
    barrier(&ledgers[0]).await;
    let settled = |ledger: &Ledger| states(ledger).iter().filter(|state| *state == "dialer settled 0.10").count();
    assert_eq!(ledgers.iter().map(settled).collect::<Vec<_>>(), [10, 10, 10]);
    assert_eq!(bench.take_events().matches("Threshold {").count(), 4, "by one of them each");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_dead_gateway_had_open_is_given_up_once_and_told_to_one_other() {
    let bench = Bench::shared();
    let dead = bench.gateway("dead", "1.00");
    let others = ["a", "b", "c"].map(|name| bench.gateway(name, "1.00"));
    let _open = dead.hold(charge("dialer")).await.expect("held");
    bench.crash(&bench.copy_of("dead"), "dead");
    let ended = bench.events_of("Ended").await;
    assert_eq!(ended, ["Ended { end: Assumed, amount: Usd(100000), caller: \"dialer\" }"]);
    for ledger in &others {
        barrier(ledger).await;
        assert_eq!(figures(ledger), ["all: 0.10 + 0.00"]);
        assert_eq!(states(ledger)[0], "dialer assumed 0.10");
    }
    let told = bench.take_events();
    assert_eq!(told.matches("Recalled").count(), 1, "{told}");
    assert_eq!(told.matches("end: Assumed").count(), 1, "{told}");
    assert_eq!(told.matches("Unknown { id: HoldId(1), charge: Charge {").count(), 1, "{told}");
    assert!(told.contains("id: HoldId(1)") && told.contains("is_known: false"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_was_taken_for_dead_says_what_became_of_its_calls_which_corrects_what_was_assumed() {
    let bench = Bench::shared();
    let (slow, other) = (bench.gateway("slow", "1.00"), bench.gateway("other", "1.00"));
    let (billed, free) = (slow.hold(charge("a")).await.expect("held"), slow.hold(charge("b")).await.expect("held"));
    // Nothing is heard of it: its connections are cut, and its user may not come back yet.
    bench.crash(&bench.copy_of("slow"), "slow");
    bench.events_of("Ended").await;
    barrier(&other).await;
    barrier(&other).await;
    assert_eq!(figures(&other), ["all: 0.20 + 0.00"]);
    bench.admit("slow");
    let (_kept, _also) = (billed.settle("200").await, free.release("404").await);
    bench.events_of("TakenBack { amount: Usd(100000)").await;
    barrier(&other).await;
    assert_eq!(figures(&other), ["all: 0.10 + 0.00"]);
    assert_eq!(states(&other)[..2], ["a corrected 0.10", "b corrected 0.00"]);
    assert_eq!(slow.holds().count, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_stands_still_refuses_at_once_and_counts_nothing_twice_when_it_goes_on() {
    let bench = Bench::shared();
    let ledger = bench.try_join(|shared| shared.timeout = "40ms".parse().expect("a time"), PriceList::default()).expect("joins");
    let settled = loop {
        // A busy machine may not answer in time at first.
        if let Ok(hold) = ledger.hold(charge("settled")).await {
            break hold;
        }
        bench.ended.notified().await;
    };
    bench.server().signal("-STOP");
    assert_eq!(ledger.hold(charge("refused")).await.expect_err("no answer"), HoldRefused::Unavailable);
    assert_eq!(settled.settle("200").await, Err(Unavailable));
    let asked = Instant::now();
    for _ in 0..1000 {
        assert_eq!(ledger.hold(charge("refused")).await.expect_err("known to be away"), HoldRefused::Unavailable);
        assert_eq!(ledger.preview(&[charge("refused")]), Err(HoldRefused::Unavailable));
    }
    assert!(asked.elapsed() < Duration::from_secs(10), "none of a thousand waited for a server that is known to be away");
    bench.server().signal("-CONT");
    bench.events_of("Ended { end: Settled").await;
    while ledger.holds().count > 0 {
        bench.ended.notified().await;
    }
    assert_eq!(figures(&ledger), ["all: 0.10 + 0.00"]);
    let told = bench.take_events();
    assert_eq!(told.matches("end: Settled").count(), 1, "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_comes_back_empty_stops_all_spending_until_an_operator_acknowledges_it() {
    let mut bench = Bench::shared();
    let (ledger, other) = (bench.gateway("a", "1.00"), bench.gateway("b", "1.00"));
    ledger.hold(charge("before")).await.expect("held").settle("200").await.expect("written");
    let under_way = ledger.hold(charge("under way")).await.expect("held");
    barrier(&other).await;
    bench.redis.take().expect("a server").kill();
    bench.redis = Some(RedisServer::start(bench.dir.path(), &["--appendonly", "no"]));
    bench.admit("a");
    bench.admit("b");
    assert_eq!(under_way.settle("200").await, Err(Unavailable));
    for ledger in [&ledger, &other] {
        assert_eq!(ledger.hold(charge("after")).await.expect_err("lost"), HoldRefused::Unavailable);
    }
    // A gateway that knew nothing of the ledger is stopped too, once one has noticed.
    while !bench.server().tell::<bool>(&["HEXISTS", &key("state"), "lost"]) {
        assert_eq!(ledger.hold(charge("after")).await.expect_err("lost"), HoldRefused::Unavailable);
    }
    let newcomer = bench.gateway("newcomer", "1.00");
    assert!(!newcomer.is_available());
    assert_eq!(ledger.acknowledge_loss("it was replaced".to_owned(), "ops".to_owned()).await, Ok(true));
    // What was under way when it was lost is counted anew.
    bench.events_of("Ended { end: Settled, amount: Usd(100000), caller: \"under way\" }").await;
    assert_eq!(figures(&ledger), ["all: 0.10 + 0.00"]);
    assert_eq!(states(&ledger), ["under way settled 0.10"]);
    let aside = std::fs::read_dir(bench.dir.path()).expect("a folder").filter_map(Result::ok);
    let aside = aside.filter(|entry| {
        entry.file_name().to_string_lossy().starts_with("a.sqlite.") && entry.path().metadata().is_ok_and(|file| file.len() > 0)
    });
    assert!(aside.count() >= 1, "what was known before is put aside");
    for ledger in [&other, &newcomer] {
        while !ledger.is_available() {
            let _refused = ledger.hold(charge("waiting")).await.map(|hold| drop(hold.release("404")));
            tokio::task::yield_now().await;
        }
        barrier(ledger).await;
    }
    assert_eq!(ledger.acknowledge_loss("again".to_owned(), "ops".to_owned()).await, Ok(false), "nothing is lost now");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_forgot_the_last_entries_stops_all_spending() {
    let bench = Bench::shared();
    let (ledger, other) = (bench.gateway("a", "1.00"), bench.gateway("b", "1.00"));
    ledger.hold(charge("a")).await.expect("held").settle("200").await.expect("written");
    let log: Vec<(String, Vec<String>)> = bench.server().tell(&["XREVRANGE", &key("log"), "+", "-", "COUNT", "1"]);
    bench.server().tell::<u32>(&["XDEL", &key("log"), &log[0].0]);
    assert_eq!(ledger.hold(charge("a")).await.expect_err("forgotten"), HoldRefused::Unavailable);
    assert_eq!(other.hold(charge("b")).await.expect_err("one of them knows"), HoldRefused::Unavailable);
    ledger.close().await;
    let again = bench.open_as("a", bench.copy_of("a"), vec![budget("all", "1.00")]);
    assert!(!again.is_available(), "its copy remembers");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_on_one_gateway_stops_theothers_at_once() {
    let bench = Bench::shared();
    let (one, other) = (bench.gateway("a", "1.00"), bench.gateway("b", "1.00"));
    one.switch(true, "an incident".to_owned(), "ops".to_owned()).await.expect("recorded");
    assert_eq!(other.hold(charge("a")).await.expect_err("stopped"), HoldRefused::Stopped);
    assert_eq!(other.kill_switch(), one.kill_switch());
    other.switch(false, "it is over".to_owned(), "ops".to_owned()).await.expect("recorded");
    let _hold = one.hold(charge("a")).await.expect("held");
    assert!(!one.is_stopped());
    let told = bench.take_events();
    assert_eq!(told.matches("Switched(").count(), 2, "each by whoever was asked for it: {told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn other_prices_or_budgets_are_refused_whileothers_run_and_another_limit_is_not() {
    let bench = Bench::shared();
    let running = bench.gateway("a", "1.00");
    let prices = PriceList { check: usd("0.20"), ..PriceList::default() };
    let refused = bench.try_join(|_| {}, prices).err().expect("other prices").to_string();
    assert!(refused.contains("gateways that share it run with other prices ({\"check\":\"0.10\""), "{refused}");
    let config = Config { path: ":memory:".into(), ..Config::default() };
    let url = bench.server().url();
    let join = |budgets| bench.join(&url, &config, (budgets, PriceList::default()));
    let refused = join(vec![budget("all", "1.00"), budget("more", "1.00")]).err().expect("other budgets").to_string();
    assert!(refused.contains("run with other budgets"), "{refused}");
    let raised = join(vec![budget("all", "5.00")]).expect("only the limit differs");
    let _holds = raised.hold_all(vec![charge("a"); 20]).await.expect("room");
    assert_eq!(exhausted(running.hold(charge("a")).await), "all");
    running.close().await;
    raised.close().await;
    bench.try_join(|_| {}, prices).expect("nobody runs any more");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_apart_goes_together_unless_the_later_one_says_no() {
    let bench = Bench::shared();
    let state = key("state");
    let first = bench.gateway("a", "1.00");
    bench.server().tell::<u32>(&["HSET", &state, "schema", "2"]);
    bench.try_join(|_| {}, PriceList::default()).expect("the next version goes with this one");
    let schema: String = bench.server().tell(&["HGET", &state, "schema"]);
    assert_eq!(schema, "2", "and stays what it is");
    bench.server().tell::<u32>(&["HSET", &state, "compatible", "2"]);
    let refused = bench.try_join(|_| {}, PriceList::default()).err().expect("a later version").to_string();
    assert!(refused.contains("Redis has it in version 2, which this gateway does not know"), "{refused}");
    let _hold = first.hold(charge("a")).await.expect("one that runs goes on");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_is_no_ledger_and_a_ledger_no_copy() {
    let (shared, own) = (Bench::shared(), Bench::new());
    shared.open(vec![budget("all", "1.00")]).close().await;
    let why = own.try_open(shared.path(), vec![]).err().expect("a copy").why;
    assert!(matches!(why, OpenFailure::Copy), "{why}");
    let ledger = own.open(vec![budget("all", "1.00")]);
    ledger.hold(charge("a")).await.expect("held").settle("200").await.expect("written");
    ledger.close().await;
    let why = shared.try_open(own.path(), vec![budget("all", "1.00")]).err().expect("a ledger").why;
    assert!(matches!(why, OpenFailure::NoCopy), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_evicts_is_refused_and_one_that_keeps_nothing_is_told_of() {
    let bench = Bench::shared();
    let ledger = bench.gateway("a", "1.00");
    let warnings = ledger.warnings();
    assert!(warnings.len() == 1 && warnings[0].ends_with("set appendonly to yes"), "{warnings:?}");
    bench.server().tell::<()>(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]);
    let refused = bench.try_join(|_| {}, PriceList::default()).err().expect("refused").to_string();
    assert!(refused.ends_with("set maxmemory-policy to noeviction"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_wrong_and_replicas_that_are_not_there_refuse_billable_work() {
    let bench = Bench::shared();
    let wrong = bench.try_join(|shared| shared.clock_skew = "5s".parse().expect("a time"), PriceList::default()).expect("joins");
    assert_eq!(wrong.hold(charge("a")).await.expect_err("the test's clock is another"), HoldRefused::Unavailable);
    let alone = bench.try_join(
        |shared| {
            shared.wait_for = 1;
            shared.timeout = "200ms".parse().expect("a time");
        },
        PriceList::default(),
    );
    let alone = alone.expect("joins");
    assert_eq!(alone.hold(charge("a")).await.expect_err("no replica has it"), HoldRefused::Unavailable);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_away_at_the_start_is_no_reason_not_to_start() {
    let mut bench = Bench::shared();
    bench.redis.take().expect("a server").kill();
    let url = format!("unix://{}", bench.dir.path().join("redis.sock").display());
    let config = Config { path: bench.path(), ..Config::default() };
    let ledger = bench.join(&url, &config, (vec![budget("all", "1.00")], PriceList::default())).expect("starts");
    assert_eq!(ledger.hold(charge("a")).await.expect_err("away"), HoldRefused::Unavailable);
    bench.redis = Some(RedisServer::start(bench.dir.path(), &["--appendonly", "no"]));
    while !ledger.is_available() {
        tokio::task::yield_now().await;
    }
    let _hold = ledger.hold(charge("a")).await.expect("held");
}

#[tokio::test(flavor = "multi_thread")]
async fn thousands_of_charges_are_held_in_one_step_and_a_strange_orphan_is_left_alone() {
    let bench = Bench::shared();
    // No hold of this gateway's gets this id, as no orphan ever has an id that is given anew.
    bench.server().tell::<u32>(&["SADD", &key("orphans"), "77000"]);
    bench.server().tell::<u32>(&[
        "HSET",
        &key("holds"),
        "77000",
        "{\"owner\":\"nobody\",\"at\":\"x\",\"request_id\":\"\",\"caller\":\"\",\"enterprise\":\"\",\"operation\":\"\",\"price\":\"\"}",
    ]);
    let ledger = bench.gateway("a", "1000.00");
    let holds = ledger.hold_all(vec![charge("a"); 2_000]).await.expect("held");
    assert_eq!(figures(&ledger), ["all: 0.00 + 200.00"]);
    assert_eq!(ledger.holds().count, 2_000);
    let ids: std::collections::BTreeSet<_> = holds.iter().map(Hold::id).collect();
    assert_eq!(ids.len(), 2_000);
}
