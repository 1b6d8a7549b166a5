//! Requests that meet: what one has under way is nothing to a caller who may not see it.

use futures_util::future::{join, join_all};
use reputation_gateway::config::Config;

use super::keys::callers;
use super::told;
use crate::harness::callers::{OTHER, forward, keys};
use crate::harness::{BUDGET, ENTERPRISE, STORED, World};

fn fresh(enterprise: &str) -> String {
    format!("GET /v2/enterprises/{enterprise}/reputation/numbers/{STORED}?fresh=true")
}

#[tokio::test]
async fn a_purchase_under_way_is_joined_by_who_may_see_it_alone() {
    let world = World::gated_account(&[ENTERPRISE, OTHER], &callers(), keys).await;
    let nowhere = told(&world, "key-of-two", (&fresh("99999999-9999-4999-8999-999999999999"), "", "")).await;
    world.gate.close();
    let (mine, theirs) = (fresh(ENTERPRISE), fresh(OTHER));
    let first = told(&world, "key-of-one", (&mine, "", ""));
    let others = async {
        world.reached(1).await;
        // Answered while the purchase is under way: it does not wait, and it does not tell.
        assert_eq!(told(&world, "key-of-two", (&mine, "", "")).await, nowhere);
        assert_eq!(told(&world, "key-of-two", (&mine, "cache-control: only-if-cached\r\n", "")).await, nowhere);
        assert_eq!(world.sent(), 1);
        let own = told(&world, "key-of-two", (&theirs, "", ""));
        let joined = told(&world, "key-of-both", (&mine, "", ""));
        let opened = async {
            world.reached(2).await;
            world.gate.open();
        };
        join(join(own, joined), opened).await.0
    };
    let (first, (own, joined)) = join(first, others).await;
    assert_eq!((first.decision(), own.decision()), ("billed", "billed"));
    assert!(["collapsed", "cooldown"].contains(&joined.decision()), "{}", joined.text);
    assert!(first.text.contains(ENTERPRISE) && own.text.contains(OTHER) && !own.text.contains(ENTERPRISE));
    assert_eq!((world.charged().as_str(), world.sent()), ("0.20", 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_comes_first_only_the_owner_is_answered() {
    let world = World::of_account(&[ENTERPRISE, OTHER], &callers(), keys).await;
    let nowhere = told(&world, "key-of-two", (&fresh("99999999-9999-4999-8999-999999999999"), "", "")).await;
    let path = fresh(ENTERPRISE);
    let asks = (0..60).map(|n| told(&world, ["key-of-one", "key-of-two", "key-of-both"][n % 3], (&path, "", "")));
    for (n, answer) in join_all(asks).await.into_iter().enumerate() {
        if n % 3 == 1 {
            assert_eq!(answer, nowhere);
        } else {
            assert_eq!(answer.status, 200, "{}", answer.text);
        }
    }
    assert_eq!(world.charged(), "0.10");
}

#[tokio::test]
async fn credentials_share_no_purchase_and_no_look() {
    let world = World::gated(BUDGET, |config: &mut Config| forward(config)).await;
    for (query, expected) in [("?fresh=true", "billed"), ("", "hit")] {
        let path = format!("GET /v2/enterprises/{ENTERPRISE}/reputation/numbers/{STORED}{query}");
        let before = world.sent();
        world.gate.close();
        let opened = async {
            if expected == "billed" {
                world.reached(before + 3).await;
            }
            world.gate.open();
        };
        let asks = join_all(["key-one", "key-two", "invalid"].map(|key| told(&world, key, (&path, "", ""))));
        let answers = join(asks, opened).await.0;
        assert_eq!([answers[0].decision(), answers[1].decision()], [expected, expected]);
        assert_eq!((answers[2].status, answers[2].decision()), (401, "upstream_error"));
    }
    assert_eq!(world.charged(), "0.20");
}
