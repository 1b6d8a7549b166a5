//! Several gateways that are asked for the same: it is paid for once, also where the one that pays for it dies.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::join_all;
use http::Method;
use reputation_gateway::policy::money::Usd;
use reputation_gateway::sandbox::{Fault, Kind, Operation};
use serde_json::json;
use tokio::time::timeout;

use super::{Place, fresh, reached};
use crate::harness::process::{Process, text};
use crate::harness::{Answer, Ask, ENTERPRISE, PATIENCE, STORED, books};

const GATEWAYS: usize = 4;

/// A number of the stand-in that was never checked.
fn plain(gateway: &Process, n: usize) -> Ask {
    Ask::new(gateway.address("listen"), &format!("/v2/reputation/numbers/+{}", 12_025_550_000 + n))
}

fn refresh(gateway: &Process, numbers: impl Iterator<Item = usize>) -> Ask {
    let numbers: Vec<_> = numbers.map(|n| format!("+{}", 12_025_550_000 + n)).collect();
    let path = format!("/v2/enterprises/{ENTERPRISE}/reputation/numbers/refresh");
    let body = json!({ "phone_numbers": numbers }).to_string();
    Ask::new(gateway.address("listen"), &path).method(Method::POST).header("content-type", "application/json").body(body)
}

/// Sends all at once.
async fn all(asks: impl Iterator<Item = Ask>) -> Vec<Answer> {
    let asked: Vec<_> = asks.map(|ask| tokio::spawn(ask.send())).collect();
    join_all(asked).await.into_iter().map(|answer| answer.expect("nothing panics")).collect()
}

/// How many answers there are of each kind.
fn outcomes(answers: &[Answer]) -> BTreeMap<(u16, &str), usize> {
    let mut outcomes = BTreeMap::new();
    for answer in answers {
        *outcomes.entry(answer.outcome()).or_default() += 1;
    }
    outcomes
}

/// Whether one was paid for and all others were answered so, some of them together with it.
fn all_but_one_are(outcomes: &BTreeMap<(u16, &str), usize>, free: &[&str]) -> bool {
    let counted = |decision: &&str| outcomes.get(&(200, *decision)).copied().unwrap_or_default();
    free.iter().map(counted).sum::<usize>() + 1 == outcomes.values().sum::<usize>() && counted(&"collapsed") > 0
}

/// What all gateways together have counted of a series.
async fn counted(gateways: &[Process], series: &str) -> u64 {
    let mut sum = 0;
    for gateway in gateways {
        let scrape = Ask::new(gateway.address("admin"), "/metrics").send().await.text();
        let values = scrape.lines().filter(|line| line.starts_with(series)).filter_map(|line| line.rsplit_once(' '));
        sum += values.map(|(_, value)| value.parse::<u64>().expect("a count")).sum::<u64>();
    }
    sum
}

impl Place {
    async fn with_gateways(numbers: u32, limit: &str) -> (Self, Vec<Process>) {
        let place = Self::new(numbers).await;
        let gateways: Vec<_> = (0..GATEWAYS).map(|n| place.serve(n, limit)).collect();
        for gateway in &gateways {
            reached(gateway).await;
        }
        (place, gateways)
    }

    /// Billable calls are billed at once and answered so much later.
    fn slow(&self, path: &str, delay: Duration) {
        self.upstream.sandbox.script(Fault::new(Kind::Latency).path_contains(path).delay(delay).times(1_000));
    }

    /// All gateways agree on what was spent, and so do their books.
    async fn all_agree(&self, gateways: Vec<Process>, posted: i64) {
        for (n, gateway) in gateways.into_iter().enumerate() {
            // One that has nothing to say is up to a second behind.
            let agreeing = async {
                while self.posted(&gateway).await != Some(posted) {
                    tokio::task::yield_now().await;
                }
            };
            timeout(PATIENCE, agreeing).await.unwrap_or_else(|_| panic!("gateway {n}: {}", gateway.log()));
            self.audited(n, gateway, posted).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_hundred_who_want_fresh_data_of_a_number_of_four_gateways_pay_for_one_check() {
    let (place, gateways) = Place::with_gateways(10, "5.00").await;
    place.slow("numbers/", Duration::from_secs(1));
    let answers = all((0..400).map(|n| fresh(gateways[n % GATEWAYS].address("listen"), 1))).await;
    let outcomes = outcomes(&answers);
    assert!(answers.iter().all(|answer| answer.status == 200), "{outcomes:?}");
    assert_eq!(place.upstream.sandbox.charges().count, 1, "{outcomes:?}");
    assert_eq!(outcomes.get(&(200, "billed")), Some(&1), "{outcomes:?}");
    assert_eq!(counted(&gateways, "reputation_gateway_upstream_requests_total{operation=\"retrieve\",result=\"billed\"}").await, 1);
    let bodies: std::collections::BTreeSet<_> = answers.iter().map(|answer| &answer.body).collect();
    assert_eq!(bodies.len(), 1, "all have what was paid for");
    // Who comes when the call has ended, on a busy machine, has what it brought.
    assert!(all_but_one_are(&outcomes, &["collapsed", "cooldown"]), "{outcomes:?}");
    eprintln!("{outcomes:?}");
    place.all_agree(gateways, 100_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_hundred_who_read_a_number_first_of_four_gateways_pay_for_one_touch() {
    let (place, gateways) = Place::with_gateways(10, "5.00").await;
    place.slow("numbers/", Duration::from_secs(1));
    let answers = all((0..400).map(|n| plain(&gateways[n % GATEWAYS], 1))).await;
    let outcomes = outcomes(&answers);
    assert!(answers.iter().all(|answer| answer.status == 200), "{outcomes:?}");
    assert_eq!(place.upstream.sandbox.charges().count, 1, "{outcomes:?}");
    assert_eq!(outcomes.get(&(200, "first_touch")), Some(&1), "{outcomes:?}");
    assert!(all_but_one_are(&outcomes, &["collapsed", "probe", "hit"]), "{outcomes:?}");
    eprintln!("{outcomes:?}");
    place.all_agree(gateways, 100_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_is_killed_in_the_middle_of_a_call_leaves_one_call_that_is_cleared_up() {
    let (place, mut gateways) = Place::with_gateways(10, "5.00").await;
    place.slow("numbers/", Duration::from_mins(2));
    let owner = gateways.remove(0);
    let lost = tokio::spawn(fresh(owner.address("listen"), 1).try_send());
    // It holds before it sends.
    let held = async {
        while place.upstream.sandbox.charges().count == 0 {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE * 3, held).await.expect("the call is sent");
    let waiting = tokio::spawn({
        let asks: Vec<_> = (0..90).map(|n| fresh(gateways[n % 3].address("listen"), 1)).collect();
        all(asks.into_iter())
    });
    owner.crash().await;
    assert!(lost.await.expect("nothing panics").is_none());
    let answers = waiting.await.expect("nothing panics");
    let outcomes = outcomes(&answers);
    assert_eq!(place.upstream.sandbox.charges().count, 1, "{outcomes:?}");
    assert!(answers.iter().all(|answer| answer.status == 200 && answer.header("x-gateway-billed") == "no"), "{outcomes:?}");
    eprintln!("{outcomes:?}");
    // Whoever gave the hold up looks for what became of it, and the ledger says that it was billed after all.
    let corrected = async {
        loop {
            let rows = Ask::new(gateways[0].address("admin"), "/admin/v1/ledger").send().await.json();
            if rows["data"][0]["state"] == "corrected" {
                break;
            }
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE * 3, corrected).await.expect("it is cleared up");
    for (n, gateway) in gateways.into_iter().enumerate() {
        assert_eq!(place.settled(&gateway).await, 100_000);
        place.audited(n + 1, gateway, 100_000).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refreshes_of_overlapping_numbers_on_two_gateways_buy_each_number_once() {
    let (place, gateways) = Place::with_gateways(40, "5.00").await;
    place.slow("refresh", Duration::from_millis(500));
    let asks = [refresh(&gateways[0], 0..20), refresh(&gateways[1], (10..30).rev()), refresh(&gateways[2], 5..15)];
    let answers = all(asks.into_iter()).await;
    assert!(answers.iter().all(|answer| answer.status == 200), "{:?}", outcomes(&answers));
    for answer in &answers {
        let whole = answer.json();
        let results = whole["data"]["results"].as_array().expect("results");
        assert!(results.iter().all(|result| result["success"] == true), "{whole}");
    }
    let charges = place.upstream.sandbox.charges();
    assert!(charges.by_number.values().all(|number| number.count == 1), "{charges:?}");
    assert_eq!(charges.count, 30, "{:?}", outcomes(&answers));
    place.all_agree(gateways, 3_000_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn monitoring_that_is_enabled_on_all_gateways_at_once_is_bought_once() {
    let (place, gateways) = Place::with_gateways(1, "500.00").await;
    let path = format!("/v2/enterprises/{ENTERPRISE}/reputation");
    let gone = Ask::new(place.address, &path).method(Method::DELETE).key("other").send().await;
    assert_eq!(gone.status, 204);
    place.slow("reputation", Duration::from_millis(300));
    let letter = json!({ "loa_document_id": "doc-1" }).to_string();
    let enabling = |gateway: &Process| {
        Ask::new(gateway.address("listen"), &path).method(Method::POST).header("content-type", "application/json").body(letter.clone())
    };
    let answers = all(gateways.iter().map(enabling)).await;
    let outcomes = outcomes(&answers);
    assert_eq!(place.upstream.sandbox.charges().operation(Operation::Monitoring).count, 1, "{outcomes:?}");
    assert_eq!(outcomes, BTreeMap::from([((201, "billed"), 1), ((409, "bad_request"), 3)]), "{:?}", answers[0].text());
    place.all_agree(gateways, 100_000_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_schedule_that_is_set_on_all_gateways_at_once_is_counted_once() {
    let (place, gateways) = Place::with_gateways(10, "5000.00").await;
    place.slow("frequency", Duration::from_millis(300));
    let path = format!("/v2/enterprises/{ENTERPRISE}/reputation/frequency");
    let setting = |gateway: &Process| {
        let body = json!({ "check_frequency": "daily" }).to_string();
        Ask::new(gateway.address("listen"), &path).method(Method::PATCH).header("content-type", "application/json").body(body)
    };
    let answers = all(gateways.iter().map(setting)).await;
    assert_eq!(outcomes(&answers), BTreeMap::from([((200, "billed"), 1), ((200, "cooldown"), 3)]), "{:?}", answers[0].text());
    // The most that a month of it can cost, once.
    let month: Usd = answers.iter().map(|answer| answer.header("x-gateway-cost-usd").parse::<Usd>().expect("dollars")).sum();
    assert!(month > Usd::ZERO);
    place.all_agree(gateways, month.micros()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rate_of_ten_lets_ten_through_on_all_gateways_together() {
    let place = Place { rate: "10/h", ..Place::new(100).await };
    let gateways: Vec<_> = (0..GATEWAYS).map(|n| place.serve(n, "50.00")).collect();
    let answers = all((0..100).map(|n| fresh(gateways[n % GATEWAYS].address("listen"), n).header("prefer", "handling=strict"))).await;
    assert_eq!(outcomes(&answers), BTreeMap::from([((200, "billed"), 10), ((429, "rate_limited"), 90)]));
    let refused = answers.iter().find(|answer| answer.status == 429).expect("some");
    assert_eq!((refused.code().as_str(), refused.json()["gateway"]["limiter"].as_str()), ("fresh_rate_limited", Some("global")));
    assert_eq!(counted(&gateways, "reputation_gateway_rate_limit_denied_total{limiter=\"global\"}").await, 90);
    place.all_agree(gateways, 1_000_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_of_before_another_gateways_purchase_is_looked_up_again() {
    let (place, gateways) = Place::with_gateways(1, "5.00").await;
    reached(&gateways[1]).await;
    let read = |gateway: &Process| Ask::new(gateway.address("listen"), &format!("/v2/reputation/numbers/{STORED}"));
    let before = read(&gateways[1]).send().await;
    assert_eq!(before.outcome(), (200, "probe"));
    assert_eq!(read(&gateways[1]).send().await.outcome(), (200, "hit"));
    let bought = Ask::new(gateways[0].address("listen"), &format!("/v2/reputation/numbers/{STORED}?fresh=true")).send().await;
    assert_eq!(bought.outcome(), (200, "billed"));
    let renewed = async {
        loop {
            let answer = read(&gateways[1]).send().await;
            if answer.body != before.body {
                return answer;
            }
            assert_eq!(answer.outcome(), (200, "hit"));
            tokio::task::yield_now().await;
        }
    };
    let renewed = timeout(PATIENCE, renewed).await.expect("it hears of it");
    assert_eq!((renewed.status.as_u16(), &renewed.body), (200, &bought.body));
    // It knows that it was paid for, too.
    let asked = Ask::new(gateways[1].address("listen"), &format!("/v2/reputation/numbers/{STORED}?fresh=true")).send().await;
    assert_eq!(asked.outcome(), (200, "cooldown"));
    assert_eq!(books::posted(&books::charges(&place.copy(0))), 100_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_cannot_hear_of_a_purchase_does_not_take_a_copy_of_before_for_what_was_paid_for() {
    let place = Place::new(1).await;
    place.redis.tell::<()>(&["ACL", "SETUSER", "deaf", "on", ">none", "~*", "&*", "+@all", "-xread"]);
    let buyer = place.serve(0, "5.00");
    let deaf = place.config_to(&place.redis.url_of("deaf"), 1, "5.00", "timeout = \"5s\"");
    let deaf = Process::start(&["serve", "--config", text(&deaf)]);
    // It reaches the ledger.
    assert_eq!((place.settled(&buyer).await, place.settled(&deaf).await), (0, 0));
    let read = Ask::new(deaf.address("listen"), &format!("/v2/reputation/numbers/{STORED}"));
    let before = read.send().await;
    assert_eq!(before.outcome(), (200, "probe"));
    let buying = |gateway: &Process| Ask::new(gateway.address("listen"), &format!("/v2/reputation/numbers/{STORED}?fresh=true"));
    let bought = buying(&buyer).send().await;
    assert_eq!(bought.outcome(), (200, "billed"));
    assert_ne!(bought.body, before.body);
    let asked = buying(&deaf).send().await;
    assert_eq!((asked.outcome(), &asked.body), ((200, "cooldown"), &bought.body), "{}", deaf.log());
    assert_eq!(place.upstream.sandbox.charges().count, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_for_other_gateways_on_behalf_of_all_takes_no_waiters_place() {
    let place = Place::new(10).await;
    place.slow("numbers/", Duration::from_secs(2));
    let buyer = place.serve(0, "5.00");
    let crowded = place.config(1, "5.00", "timeout = \"5s\"\n[cache]\nmax_waiters = 1");
    let crowded = Process::start(&["serve", "--config", text(&crowded)]);
    reached(&crowded).await;
    let buying = tokio::spawn(all([1, 2].map(|n| fresh(buyer.address("listen"), n)).into_iter()));
    let held = async {
        while place.upstream.sandbox.charges().count < 2 {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, held).await.expect("the calls are sent");
    let answers = all([1, 2].map(|n| fresh(crowded.address("listen"), n)).into_iter()).await;
    assert_eq!(outcomes(&answers), BTreeMap::from([((200, "collapsed"), 2)]), "{}", crowded.log());
    assert_eq!(outcomes(&buying.await.expect("nothing panics")), BTreeMap::from([((200, "billed"), 2)]));
    assert_eq!(place.upstream.sandbox.charges().count, 2);
}
