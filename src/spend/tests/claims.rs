//! Claims: what gateways that share a ledger may not buy at once, nor one after another by who does not know of the first.

use std::num::NonZeroU32;

use super::replicas::key;
use super::*;
use crate::policy::claim::Known;
use crate::spend::order::{Claim, Taken};

/// The same charges, each claiming what it is about, by who knows of these calls.
fn order(charges: Vec<Charge>, known: Known) -> Order {
    let claims = charges.iter().map(|_| Claim { known, variant: None }).collect();
    Order { charges, claims, rates: Vec::new() }
}

async fn take(ledger: &Ledger, charges: Vec<Charge>, known: Known) -> Result<Vec<Hold>, NotHeld> {
    ledger.take(order(charges, known)).await
}

async fn one(ledger: &Ledger, known: Known) -> Result<Hold, NotHeld> {
    take(ledger, vec![charge("a")], known).await.map(|mut holds| holds.pop().expect("one"))
}

/// What a refused order was told, as the holds of the last billed call and of the last unknown one.
fn told(refused: Result<Hold, NotHeld>) -> (Option<HoldId>, Option<HoldId>) {
    match refused {
        Err(NotHeld::Later(told)) => (told[0].paid.as_ref().map(|past| past.hold), told[0].unknown.as_ref().map(|past| past.hold)),
        other => panic!("{other:?}"),
    }
}

fn paid(hold: HoldId) -> Known {
    Known { paid: Some(hold), unknown: None }
}

fn number(number: &str) -> Charge {
    Charge { number: Some(number.parse().expect("E.164")), ..charge("a") }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subject_has_one_open_hold_and_the_next_knows_of_the_last() {
    let bench = Bench::shared();
    let (one_gateway, other) = (bench.gateway("a", "1.00"), bench.gateway("b", "1.00"));
    let hold = one(&one_gateway, Known::default()).await.expect("free");
    let id = hold.id();
    for ledger in [&one_gateway, &other] {
        assert_eq!(one(ledger, Known::default()).await.expect_err("under way"), NotHeld::Busy(vec![id]));
    }
    let both = vec![number("+12025550009"), charge("a")];
    assert_eq!(take(&other, both, Known::default()).await.expect_err("all or none"), NotHeld::Busy(vec![id]));
    assert_eq!(figures(&other), ["all: 0.00 + 0.10"]);
    let free = take(&other, vec![number("+12025550009")], Known::default()).await.expect("nothing of the refused order is held");
    drop(free);
    hold.settle("200").await.expect("written");
    let refused = one(&other, Known::default()).await;
    let Err(NotHeld::Later(news)) = &refused else { panic!("{refused:?}") };
    let past = news[0].paid.as_ref().expect("paid");
    assert_eq!((past.hold, past.price, &past.variant), (id, usd("0.10"), &None));
    assert!(past.ago < Duration::from_mins(10), "{past:?}");
    let hold = one(&other, paid(id)).await.expect("it knows");
    hold.release("404").await.expect("written");
    assert_eq!(told(one(&one_gateway, Known::default()).await), (Some(id), None), "what was released leaves what was known");
    let _again = one(&one_gateway, paid(id)).await.expect("free again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_of_unknown_outcome_is_known_to_all_until_it_is_clear() {
    let bench = Bench::shared();
    let (one_gateway, other) = (bench.gateway("a", "9.00"), bench.gateway("b", "9.00"));
    let first = one(&one_gateway, Known::default()).await.expect("free");
    let first_id = first.id();
    first.settle("200").await.expect("written");
    let lost = one(&one_gateway, paid(first_id)).await.expect("it knows");
    let lost_id = lost.id();
    lost.assume("timed out").await.expect("written");
    assert_eq!(told(one(&other, Known::default()).await), (Some(first_id), Some(lost_id)));
    assert_eq!(told(one(&other, paid(first_id)).await), (Some(first_id), Some(lost_id)));
    // Not billed: what was known before is.
    assert_eq!(other.correct(lost_id, Finding::NotBilled, "older data").await, Ok(true));
    let again = one(&other, paid(first_id)).await.expect("as before");
    let again_id = again.id();
    again.assume("timed out").await.expect("written");
    let both = Known { paid: Some(first_id), unknown: Some(again_id) };
    assert_eq!(one_gateway.correct(again_id, Finding::Billed, "young data").await, Ok(true));
    assert_eq!(told(one(&other, both).await), (Some(again_id), None), "it was billed after all");
    let next = one(&other, paid(again_id)).await.expect("it knows");
    next.assume("timed out").await.expect("written");
    let settled = one(&other, Known { paid: Some(again_id), unknown: Some(HoldId(i64::MAX)) }).await.expect("nobody knows more");
    let settled_id = settled.id();
    settled.settle("200").await.expect("written");
    assert_eq!(told(one(&other, Known::default()).await), (Some(settled_id), None), "a later call that was billed settles it");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_knows_a_call_to_be_billed_is_not_told_again_and_again_that_it_may_have_been() {
    let bench = Bench::shared();
    let (one_gateway, other) = (bench.gateway("a", "9.00"), bench.gateway("b", "9.00"));
    let lost = one(&one_gateway, Known::default()).await.expect("free");
    let id = lost.id();
    lost.assume("timed out").await.expect("written");
    assert_eq!(told(one(&other, Known::default()).await), (None, Some(id)));
    // A look of its own has shown that it was, which its owner has not recorded yet.
    let _next = one(&other, paid(id)).await.expect("it knows more than the ledger");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_dead_gateway_claimed_is_of_unknown_outcome_and_corrected_if_it_comes_back() {
    let bench = Bench::shared();
    let (slow, other) = (bench.gateway("slow", "1.00"), bench.gateway("other", "1.00"));
    let hold = one(&slow, Known::default()).await.expect("free");
    let id = hold.id();
    assert_eq!(one(&other, Known::default()).await.expect_err("under way"), NotHeld::Busy(vec![id]));
    bench.crash(&bench.copy_of("slow"), "slow");
    bench.events_of("Ended").await;
    assert_eq!(told(one(&other, Known::default()).await), (None, Some(id)), "given up, and never free in between");
    bench.admit("slow");
    let _kept = hold.settle("200").await;
    bench.events_of("TakenBack").await;
    assert_eq!(told(one(&other, Known { paid: None, unknown: Some(id) }).await), (Some(id), None));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_joins_anew_keeps_its_claims_under_its_other_name() {
    let bench = Bench::shared();
    let (slow, other) = (bench.gateway("slow", "1.00"), bench.gateway("other", "1.00"));
    let hold = one(&slow, Known::default()).await.expect("free");
    let id = hold.id();
    // Taken for dead, and back before anybody gave up its holds.
    let replicas: Vec<String> = bench.server().tell(&["HKEYS", &key("replicas")]);
    let owner: String = bench.server().tell(&["HGET", &key("holds"), &id.to_string()]);
    let owner = replicas.iter().find(|replica| owner.contains(replica.as_str())).expect("its owner");
    bench.server().tell::<u32>(&["HDEL", &key("replicas"), owner]);
    barrier(&slow).await;
    assert_eq!(one(&other, Known::default()).await.expect_err("under way"), NotHeld::Busy(vec![id]));
    hold.settle("200").await.expect("written");
    assert_eq!(told(one(&other, Known::default()).await), (Some(id), None));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_of_a_batch_whose_answer_was_lost_is_free_again() {
    let bench = Bench::shared();
    let hasty = bench.try_join(|shared| shared.timeout = "300ms".parse().expect("a time"), PriceList::default()).expect("joins");
    let other = bench.gateway("b", "1.00");
    bench.server().signal("-STOP");
    let refused = one(&hasty, Known::default()).await.expect_err("no answer");
    bench.server().signal("-CONT");
    assert_eq!(refused, NotHeld::Refused(HoldRefused::Unavailable));
    bench.events_of("Ended { end: Released").await;
    let hold = one(&other, Known::default()).await.expect("what nobody took is released, and nobody paid for it");
    assert_eq!(hold.id(), HoldId(2), "it was held, once");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_claims_a_subject_twice_frees_it_with_its_last_hold() {
    let bench = Bench::shared();
    let (one_gateway, other) = (bench.gateway("a", "1.00"), bench.gateway("b", "1.00"));
    let mut holds = take(&one_gateway, vec![charge("a"), charge("a")], Known::default()).await.expect("free");
    let second = holds.pop().expect("two");
    let first = holds.pop().expect("two");
    let second_id = second.id();
    first.settle("200").await.expect("written");
    assert_eq!(one(&other, Known::default()).await.expect_err("under way"), NotHeld::Busy(vec![second_id]));
    second.settle("200").await.expect("written");
    let _next = one(&other, paid(second_id)).await.expect("free");
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_that_each_want_what_the_other_has_hold_nothing_while_they_wait() {
    let bench = Bench::shared();
    let (one_gateway, other) = (bench.gateway("a", "1.00"), bench.gateway("b", "1.00"));
    let (x, y) = (|| number("+12025550001"), || number("+12025550002"));
    let on_x = take(&one_gateway, vec![x()], Known::default()).await.expect("free").pop().expect("one");
    let on_y = take(&other, vec![y()], Known::default()).await.expect("free").pop().expect("one");
    let (first_id, second_id) = (on_x.id(), on_y.id());
    assert_eq!(take(&one_gateway, vec![x(), y()], Known::default()).await.expect_err("busy"), NotHeld::Busy(vec![first_id, second_id]));
    assert_eq!(take(&other, vec![y(), x()], Known::default()).await.expect_err("busy"), NotHeld::Busy(vec![second_id, first_id]));
    on_x.release("404").await.expect("written");
    assert_eq!(take(&one_gateway, vec![x(), y()], Known::default()).await.expect_err("busy"), NotHeld::Busy(vec![second_id]));
    let _x = take(&other, vec![x()], Known::default()).await.expect("whoever was refused has not taken it");
    on_y.release("404").await.expect("written");
    let _y = take(&one_gateway, vec![y()], Known::default()).await.expect("free");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subject_is_forgotten_with_the_calls_and_never_while_a_hold_is_open() {
    let bench = Bench::shared();
    let ledger = bench.gateway("a", "1.00");
    let subject = key(&format!("subject:{}", charge("a").subject().expect("a check")));
    let life = || bench.server().tell::<i64>(&["PTTL", &subject]);
    let hold = one(&ledger, Known::default()).await.expect("free");
    let id = hold.id();
    assert_eq!(life(), -1);
    hold.settle("200").await.expect("written");
    let memory = i64::try_from(MEMORY.as_millis()).expect("some hours");
    assert!((memory - 600_000..=memory).contains(&life()), "{}", life());
    let hold = one(&ledger, paid(id)).await.expect("free");
    assert_eq!(life(), -1);
    hold.release("404").await.expect("written");
    assert!(life() > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_lost_ledger_knew_of_claims_is_gone_and_no_hold_seems_older_than_it() {
    let mut bench = Bench::shared();
    let ledger = bench.gateway("a", "1.00");
    let before = one(&ledger, Known::default()).await.expect("free");
    let before_id = before.id();
    before.settle("200").await.expect("written");
    let under_way = one(&ledger, paid(before_id)).await.expect("free");
    bench.redis.take().expect("a server").kill();
    bench.redis = Some(RedisServer::start(bench.dir.path(), &["--appendonly", "no"]));
    bench.admit("a");
    assert_eq!(under_way.settle("200").await, Err(Unavailable));
    while ledger.acknowledge_loss("it was replaced".to_owned(), "ops".to_owned()).await != Ok(true) {
        assert_eq!(one(&ledger, paid(before_id)).await.expect_err("lost"), NotHeld::Refused(HoldRefused::Unavailable));
    }
    bench.events_of("Ended { end: Settled, amount: Usd(100000), caller: \"a\" }").await;
    while !ledger.is_available() {
        tokio::task::yield_now().await;
    }
    barrier(&ledger).await;
    let (paid_last, unknown) = told(one(&ledger, paid(before_id)).await);
    assert!(
        paid_last.is_some_and(|last| last > before_id) && unknown.is_none(),
        "what was under way is counted and known anew: {paid_last:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rate_holds_over_all_gateways_and_a_refused_order_takes_nothing_of_it() {
    let bench = Bench::shared();
    let (one_gateway, other) = (bench.gateway("a", "2.00"), bench.gateway("b", "2.00"));
    let calls = |calls: u32, charges: Vec<Charge>| Order {
        rates: [("caller:dialer", "4/h"), ("global", "5/h")]
            .map(|(name, rate)| Taken {
                name: name.to_owned(),
                rate: rate.parse().expect("a rate"),
                calls: NonZeroU32::new(calls).expect("some"),
            })
            .into(),
        ..Order::from(charges)
    };
    let dear = Charge { price: usd("9.00"), ..charge("a") };
    let refused = one_gateway.take(calls(4, vec![dear])).await;
    assert!(matches!(refused, Err(NotHeld::Refused(HoldRefused::Exhausted(_)))), "{refused:?}");
    let _three = one_gateway.take(calls(3, vec![charge("a")])).await.expect("a full rate");
    let (minute, quarter) = (Duration::from_mins(1), Duration::from_mins(15));
    let refused = other.take(calls(2, vec![charge("a")])).await;
    let Err(NotHeld::Limited { rate: 0, wait }) = refused else { panic!("{refused:?}") };
    assert!(wait <= quarter && wait > minute * 5, "{wait:?}");
    let _fourth = other.take(calls(1, vec![charge("a")])).await.expect("one is left");
    let refused = one_gateway.take(calls(1, vec![charge("a")])).await;
    assert!(matches!(refused, Err(NotHeld::Limited { rate: 0, .. })), "{refused:?}");
    let crm = |calls: u32| Order {
        rates: vec![Taken {
            name: "global".to_owned(),
            rate: "5/h".parse().expect("a rate"),
            calls: NonZeroU32::new(calls).expect("some"),
        }],
        ..Order::from(vec![charge("crm")])
    };
    let refused = one_gateway.take(crm(2)).await;
    assert!(matches!(refused, Err(NotHeld::Limited { rate: 0, .. })), "{refused:?}");
    let _fifth = one_gateway.take(crm(1)).await.expect("what the caller's rate refused took nothing of the common one");
    assert_eq!(figures(&one_gateway), ["all: 0.00 + 0.30"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_whose_clock_was_set_back_lends_no_more_than_the_burst() {
    let bench = Bench::shared();
    let ledger = bench.gateway("a", "1.00");
    bench.server().tell::<()>(&["SET", &key("rate:global"), "9000000000000000"]);
    let name = "global".to_owned();
    let rates = vec![Taken { name, rate: "4/h".parse().expect("a rate"), calls: NonZeroU32::MIN }];
    let refused = ledger.take(Order { rates, ..Order::from(vec![charge("a")]) }).await;
    let Err(NotHeld::Limited { wait, .. }) = refused else { panic!("{refused:?}") };
    assert_eq!(wait, Duration::from_mins(15));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_was_not_heard_of_for_a_lease_keeps_nothing_for_certain_until_it_is_heard_again() {
    let bench = Bench::shared();
    let lease = crate::shared::Config::default().lease.0;
    let ledger = bench.gateway("a", "1.00");
    barrier(&ledger).await;
    assert!(ledger.keeps_holds());
    bench.server().signal("-STOP");
    bench.clock.advance(lease);
    assert!(!ledger.keeps_holds());
    bench.server().signal("-CONT");
    barrier(&ledger).await;
    assert!(ledger.keeps_holds());
    bench.clock.advance(lease * 10);
    let own = Bench::new();
    assert!(own.open(vec![budget("all", "1.00")]).keeps_holds(), "nobody could give up what is in a file of its own");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_threshold_is_told_by_one_of_all_gateways() {
    let bench = Bench::shared();
    let ledgers = ["a", "b", "c"].map(|name| bench.gateway(name, "1.00"));
    let mut spending = JoinSet::new();
    for each in 0..10 {
        let ledger = ledgers[each % 3].clone();
        spending.spawn(async move { ledger.hold(charge("a")).await.expect("room").settle("200").await.expect("written") });
    }
    spending.join_all().await;
    let events = bench.take_events();
    for percent in THRESHOLDS {
        assert_eq!(events.matches(&format!("percent: {percent},")).count(), 1, "{events}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ledger_of_its_own_leaves_claims_and_rates_to_its_gateway() {
    let bench = Bench::new();
    let ledger = bench.open(vec![budget("all", "1.00")]);
    let rates = vec![Taken { name: "global".to_owned(), rate: "1/h".parse().expect("a rate"), calls: NonZeroU32::MIN }];
    for _ in 0..2 {
        let _hold = ledger.take(Order { rates: rates.clone(), ..order(vec![charge("a")], Known::default()) }).await.expect("held");
    }
}
