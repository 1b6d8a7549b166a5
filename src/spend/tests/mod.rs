//! What the ledger promises, in a real file and on a real Redis.

/// What both kinds of a ledger promise: each of these once for a file, and once for a Redis.
macro_rules! both {
    ($($promise:ident),* $(,)?) => {
        mod embedded {
            use crate::spend::tests::Bench;
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $promise() { super::$promise(Bench::new()).await; })*
        }
        mod shared {
            use crate::spend::tests::Bench;
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $promise() { super::$promise(Bench::shared()).await; })*
        }
    };
}

mod bills;
mod books;
#[path = "../../../tests/it/harness/chaos.rs"]
mod chaos;
mod claims;
mod control;
mod enterprises;
mod faults;
mod file;
mod model;
mod replicas;
mod servers;
mod tls;

use std::future::ready;
use std::path::Path;

use tempfile::TempDir;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::*;
use crate::policy::budget::Window;
use crate::policy::money::Usd;
use crate::policy::pricing::Billable;
use crate::shared::server::{self, RedisServer};

/// How far back charges are recalled.
const MEMORY: Duration = Duration::from_hours(6);

const NOON: &str = "2026-06-15T12:30:00Z";

both![
    five_hundred_callers_on_a_dollar_get_ten_holds,
    each_end_posts_what_it_should,
    a_dropped_hold_is_assumed,
    whoever_stops_waiting_for_a_hold_leaves_nothing_held,
    the_age_of_the_oldest_hold_is_told,
    editing_and_adding_budgets_keeps_usage,
    a_refused_hold_leaves_no_trace_in_the_budgets_that_would_have_allowed_it,
    a_window_that_ends_gives_way_to_the_next_and_one_that_returns_is_remembered,
    without_a_budget_nothing_is_spent,
    a_preview_says_what_a_hold_would_and_holds_nothing,
];

/// A directory for the file, a clock that stands at noon, and what was observed.
struct Bench {
    redis: Option<RedisServer>,
    dir: TempDir,
    clock: Clock,
    events: Arc<Mutex<Vec<String>>>,
    /// Told of every hold that ended, and of what was taken back.
    ended: Arc<Notify>,
}

impl Bench {
    fn new() -> Self {
        let clock = Clock::manual(NOON.parse().expect("an instant"));
        Self { redis: None, dir: tempfile::tempdir().expect("a directory"), clock, events: Arc::default(), ended: Arc::default() }
    }

    /// The same with a Redis, which several ledgers may share.
    fn shared() -> Self {
        let bench = Self::new();
        Self { redis: Some(RedisServer::start(bench.dir.path(), &["--appendonly", "no"])), ..bench }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("ledger.sqlite")
    }

    fn observe(&self) -> Observe {
        let (events, ended) = (Arc::clone(&self.events), Arc::clone(&self.ended));
        Arc::new(move |event: Event<'_>| {
            if !matches!(event, Event::CommitTook(_)) {
                events.lock().expect("unpoisoned").push(format!("{event:?}"));
            }
            if let Event::Ended { .. } | Event::TakenBack { .. } = event {
                ended.notify_one();
            }
        })
    }

    fn try_open(&self, path: PathBuf, budgets: Vec<Budget>) -> Result<Ledger, OpenError> {
        let config = Config { path, ..Config::default() };
        match &self.redis {
            None => Ledger::open(&config, budgets, MEMORY, self.clock.clone(), self.observe()),
            Some(redis) => self.join(&redis.url(), &config, (budgets, PriceList::default())),
        }
    }

    /// A ledger on the Redis. The clock of a test is far from the server's, and a busy machine is slow.
    fn join(&self, url: &str, config: &Config, terms: (Vec<Budget>, PriceList)) -> Result<Ledger, OpenError> {
        let shared = shared_config(url);
        let redis = Redis::new(&shared).expect("a URL").expect("one is named");
        Ledger::join(config, redis, terms, MEMORY, self.clock.clone(), self.observe())
    }

    fn open(&self, budgets: Vec<Budget>) -> Ledger {
        self.try_open(self.path(), budgets).expect("opens")
    }

    /// Lets a user of this name reach the Redis, where there is one.
    fn admit(&self, user: &str) {
        if let Some(redis) = &self.redis {
            redis.tell::<()>(&["ACL", "SETUSER", user, "on", "nopass", "~*", "&*", "+@all"]);
        }
    }

    /// The same as `open`, by a user of the Redis.
    fn open_as(&self, user: &str, path: PathBuf, budgets: Vec<Budget>) -> Ledger {
        match &self.redis {
            None => self.try_open(path, budgets).expect("opens"),
            Some(redis) => {
                let config = Config { path, ..Config::default() };
                self.join(&redis.url_of(user), &config, (budgets, PriceList::default())).expect("joins")
            }
        }
    }

    /// Whoever has opened this path is dead from now on: returns the path to open after it. In a file, what the disk has is left; a Redis
    /// hears nothing any more of the user, whose lease is over.
    fn crash(&self, path: &Path, user: &str) -> PathBuf {
        let after = path.with_extension("after.sqlite");
        match &self.redis {
            None => {
                for suffix in ["", "-wal"] {
                    let name = |base: &Path| PathBuf::from(format!("{}{suffix}", base.display()));
                    std::fs::copy(name(path), name(&after)).expect("copies");
                }
            }
            Some(redis) => {
                redis.tell::<()>(&["ACL", "DELUSER", user]);
                let replicas: Vec<String> = redis.tell(&["HKEYS", "{reputation-gateway}:replicas"]);
                for replica in replicas {
                    redis.tell::<()>(&["HSET", "{reputation-gateway}:replicas", &replica, "0"]);
                }
            }
        }
        after
    }

    /// A second connection to the file, as an operator's or a fault.
    fn sql(&self, statements: &str) {
        Connection::open(self.path()).and_then(|connection| connection.execute_batch(statements)).expect("valid SQL");
    }

    /// What was observed since it was asked last, a line each.
    fn take_events(&self) -> String {
        std::mem::take(&mut *self.events.lock().expect("unpoisoned")).join("\n")
    }

    fn advance_hours(&self, hours: u64) {
        self.clock.advance(Duration::from_hours(hours));
    }
}

/// Settings of a test: its clock is far from the server's, and its machine may be slow.
fn shared_config(url: &str) -> crate::shared::Config {
    let years = |years: u64| Span(Duration::from_hours(years * 365 * 24));
    let redis_url = Some(crate::secret::Secret::Plain(url.to_owned()));
    crate::shared::Config { redis_url, timeout: Span(Duration::from_secs(20)), clock_skew: years(100), ..crate::shared::Config::default() }
}

fn usd(text: &str) -> Usd {
    text.parse().expect("an amount")
}

fn budget(name: &str, limit: &str) -> Budget {
    let (window, time_zone) = (Window::Day, jiff::tz::TimeZone::UTC);
    Budget { name: name.to_owned(), limit: usd(limit), window, time_zone, enforce: true, caller: None, enterprise: None, operation: None }
}

fn charge(caller: &str) -> Charge {
    Charge {
        request_id: format!("request of {caller}"),
        caller: caller.into(),
        enterprise: "6a09cdc3-8948-47f0-aa62-74ac943d6c58".parse().expect("a UUID"),
        number: Some("+12025550000".parse().expect("E.164")),
        operation: Billable::Fresh,
        price: usd("0.10"),
    }
}

/// What every budget has, as `name: spent + held`.
fn figures(ledger: &Ledger) -> Vec<String> {
    ledger.budgets().iter().map(|status| format!("{}: {} + {}", status.name, status.spent, status.held)).collect()
}

/// Waits until everything sent so far has been written: the queue is served in order.
async fn barrier(ledger: &Ledger) {
    let hold = ledger.hold(Charge { price: Usd::ZERO, ..charge("barrier") }).await.expect("nothing costs nothing");
    hold.release("barrier").await.expect("written");
}

fn exhausted(refused: Result<Hold, HoldRefused>) -> String {
    match refused {
        Err(HoldRefused::Exhausted(status)) => status.name,
        other => panic!("{other:?}"),
    }
}

async fn five_hundred_callers_on_a_dollar_get_ten_holds(bench: Bench) {
    let ledger = bench.open(vec![budget("all", "1.00")]);
    let mut callers = JoinSet::new();
    for _ in 0..500 {
        let ledger = ledger.clone();
        callers.spawn(async move { ledger.hold(charge("dialer")).await });
    }
    let (held, refused): (Vec<_>, Vec<_>) = callers.join_all().await.into_iter().partition(Result::is_ok);
    assert_eq!((held.len(), refused.len()), (10, 490));
    assert!(refused.into_iter().all(|refused| exhausted(refused) == "all"));
    assert_eq!(figures(&ledger), ["all: 0.00 + 1.00"]);
    assert_eq!(ledger.holds().count, 10);
    for hold in held {
        hold.expect("held").settle("billed").await.expect("written");
    }
    assert_eq!(figures(&ledger), ["all: 1.00 + 0.00"]);
    assert_eq!(ledger.holds(), OpenHolds::default());
}

async fn each_end_posts_what_it_should(bench: Bench) {
    let ledger = bench.open(vec![budget("all", "1.00")]);
    ledger.hold(charge("a")).await.expect("held").settle("200").await.expect("written");
    ledger.hold(charge("b")).await.expect("held").release("404").await.expect("written");
    ledger.hold(charge("c")).await.expect("held").assume("timed out").await.expect("written");
    assert_eq!(figures(&ledger), ["all: 0.20 + 0.00"]);
    insta::allow_duplicates! {
        insta::assert_snapshot!(bench.take_events(), @r#"
        Allowed { budget: "all" }
        Ended { end: Settled, amount: Usd(100000), caller: "a" }
        Allowed { budget: "all" }
        Ended { end: Released, amount: Usd(0), caller: "b" }
        Allowed { budget: "all" }
        Unknown { id: HoldId(3), charge: Charge { request_id: "request of c", caller: "c", enterprise: EnterpriseId(6a09cdc3-8948-47f0-aa62-74ac943d6c58), number: Some(+12*******00), operation: Fresh, price: Usd(100000) }, held_at: 2026-06-15T12:30:00Z }
        Ended { end: Assumed, amount: Usd(100000), caller: "c" }
        "#);
    }
}

async fn a_dropped_hold_is_assumed(bench: Bench) {
    let ledger = bench.open(vec![budget("all", "1.00")]);
    drop(ledger.hold(charge("dialer")).await.expect("held"));
    barrier(&ledger).await;
    assert_eq!(figures(&ledger), ["all: 0.10 + 0.00"]);
    assert_eq!(ledger.holds().count, 0);
}

async fn whoever_stops_waiting_for_a_hold_leaves_nothing_held(bench: Bench) {
    let ledger = bench.open(vec![budget("all", "1.00")]);
    tokio::select! {
        biased;
        hold = ledger.hold(charge("dialer")) => hold.expect("held").release("answered at once").await.expect("written"),
        () = ready(()) => {}
    }
    // The first barrier follows the hold, the second the release that the hold's answer sent back.
    barrier(&ledger).await;
    barrier(&ledger).await;
    assert_eq!(figures(&ledger), ["all: 0.00 + 0.00"]);
    assert_eq!(ledger.holds().count, 0);
}

async fn the_age_of_the_oldest_hold_is_told(bench: Bench) {
    let ledger = bench.open(vec![budget("all", "1.00")]);
    let oldest = ledger.hold(charge("a")).await.expect("held");
    bench.clock.advance(Duration::from_secs(5));
    let _youngest = ledger.hold(charge("b")).await.expect("held");
    assert_eq!(ledger.holds(), OpenHolds { count: 2, oldest_age: Some(Duration::from_secs(5)) });
    oldest.release("not sent").await.expect("written");
    assert_eq!(ledger.holds(), OpenHolds { count: 1, oldest_age: Some(Duration::ZERO) });
}

async fn editing_and_adding_budgets_keeps_usage(bench: Bench) {
    let ledger = bench.open(vec![budget("all", "1.00")]);
    for caller in ["dialer", "dialer", "crm"] {
        ledger.hold(charge(caller)).await.expect("held").settle("200").await.expect("written");
    }
    ledger.close().await;
    let dialer = Budget { caller: Some("dialer".to_owned()), window: Window::Month, ..budget("dialer", "0.20") };
    let touch = Budget { operation: Some(Billable::FirstTouch), ..budget("first touch", "1.00") };
    let ledger = bench.open(vec![budget("renamed", "0.50"), dialer, touch]);
    assert_eq!(figures(&ledger), ["renamed: 0.30 + 0.00", "dialer: 0.20 + 0.00", "first touch: 0.00 + 0.00"]);
    assert_eq!(exhausted(ledger.hold(charge("dialer")).await), "dialer");
    ledger.close().await;
    let ledger = bench.open(vec![budget("renamed", "0.20")]);
    assert_eq!(exhausted(ledger.hold(charge("crm")).await), "renamed", "a limit below usage refuses");
}

async fn a_refused_hold_leaves_no_trace_in_the_budgets_that_would_have_allowed_it(bench: Bench) {
    let dialer = Budget { caller: Some("dialer".to_owned()), ..budget("dialer", "0.10") };
    let ledger = bench.open(vec![budget("all", "1.00"), dialer]);
    let _hold = ledger.hold(charge("dialer")).await.expect("held");
    assert_eq!(exhausted(ledger.hold(charge("dialer")).await), "dialer");
    assert_eq!(figures(&ledger), ["all: 0.00 + 0.10", "dialer: 0.00 + 0.10"]);
    let _hold = ledger.hold(charge("crm")).await.expect("held");
    assert_eq!(figures(&ledger), ["all: 0.00 + 0.20", "dialer: 0.00 + 0.10"]);
    assert_eq!(bench.events.lock().expect("unpoisoned").iter().filter(|event| event.starts_with("Denied")).count(), 1);
}

async fn a_window_that_ends_gives_way_to_the_next_and_one_that_returns_is_remembered(bench: Bench) {
    let ledger = bench.open(vec![Budget { window: Window::Hour, ..budget("hourly", "0.10") }]);
    let hold = ledger.hold(charge("a")).await.expect("held");
    assert_eq!(exhausted(ledger.hold(charge("a")).await), "hourly");
    bench.advance_hours(1);
    assert_eq!(figures(&ledger), ["hourly: 0.00 + 0.00"], "a view needs no traffic to roll over");
    assert_eq!(ledger.preview(&[charge("a")]), Ok(()));
    ledger.hold(charge("a")).await.expect("held").settle("200").await.expect("written");
    hold.settle("200, late").await.expect("written");
    assert_eq!(figures(&ledger), ["hourly: 0.10 + 0.00"], "a late end counts where the hold was taken");
    bench.clock.set_wall(NOON.parse().expect("an instant"));
    assert_eq!(figures(&ledger), ["hourly: 0.10 + 0.00"]);
    assert_eq!(exhausted(ledger.hold(charge("a")).await), "hourly");
    assert_eq!(ledger.budgets()[0].resets_at.to_string(), "2026-06-15T13:00:00Z");
}

async fn without_a_budget_nothing_is_spent(bench: Bench) {
    let ledger = bench.open(vec![Budget { caller: Some("crm".to_owned()), ..budget("crm", "1.00") }]);
    assert_eq!(ledger.hold(charge("dialer")).await.expect_err("no budget"), HoldRefused::NoBudget);
    assert_eq!(ledger.preview(&[charge("dialer")]), Err(HoldRefused::NoBudget));
    assert_eq!(figures(&ledger), ["crm: 0.00 + 0.00"]);
}

async fn a_preview_says_what_a_hold_would_and_holds_nothing(bench: Bench) {
    let ledger = bench.open(vec![budget("all", "0.10")]);
    assert_eq!(ledger.preview(&[charge("a")]), Ok(()));
    let _hold = ledger.hold(charge("a")).await.expect("held");
    let refused = ledger.hold(charge("a")).await.expect_err("exhausted");
    assert_eq!(ledger.preview(&[charge("a")]), Err(refused));
}
