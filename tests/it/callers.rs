//! Who asks: gateway keys, forwarded keys, no keys; whose enterprise, whose budget, whose copy.

use std::time::Duration;

use futures_util::future::join_all;
use http::StatusCode;
use reputation_gateway::auth::KeyDigest;
use reputation_gateway::config::Config;
use reputation_gateway::sandbox::{Fault, Kind};

use crate::harness::callers::{OTHER, caller, forward, keys, sha256};
use crate::harness::{Answer, BUDGET, ENTERPRISE, STORED, UNCHECKED, World, unchecked};

impl World {
    async fn ask_as(&self, key: &str, path: &str) -> Answer {
        self.ask(path).key(key).send().await
    }

    async fn fresh_as(&self, key: &str, number: &str) -> Answer {
        self.ask_as(key, &format!("/v2/reputation/numbers/{number}?fresh=true")).await
    }

    async fn read_as(&self, key: &str, number: &str) -> Answer {
        self.ask_as(key, &format!("/v2/reputation/numbers/{number}")).await
    }

    /// The digests of the keys that went upstream, each once, in their order.
    fn bearers(&self) -> Vec<Option<String>> {
        let mut bearers: Vec<_> = self.sandbox.requests().into_iter().map(|seen| seen.bearer_sha256).collect();
        bearers.dedup();
        bearers
    }
}

#[tokio::test]
async fn without_a_callers_key_nothing_is_answered_and_nothing_sent() {
    let world = World::with(&format!("{BUDGET}{}", caller("dialer", "allow = [\"fresh\"]")), keys).await;
    world.read_as("key-of-dialer", STORED).await;
    let sent = world.sent();
    let path = format!("/v2/reputation/numbers/{STORED}");
    for fields in [
        &[][..],
        &["Bearer wrong"],
        &["Bearer "],
        &["Bearer key-of-dialer ", " Bearer key-of-dialer"],
        &["Basic a2V5LW9mLWRpYWxlcjo="],
        &["Bearer KEY-OF-DIALER"],
        &["key-of-dialer"],
        &["Bearer upstream-key"],
        &["Bearer wrong", "Bearer key-of-dialer"],
    ] {
        let ask = fields.iter().fold(world.ask(&path), |ask, field| ask.header("authorization", field));
        let refused = ask.send().await;
        assert_eq!((refused.outcome(), refused.code().as_str()), ((401, "unauthenticated"), "unauthenticated"), "{fields:?}");
        assert_eq!((refused.header("x-should-retry"), refused.header("x-gateway-billed")), ("false", "no"));
        assert_eq!(refused.json()["gateway"]["request_id"], refused.header("x-request-id"));
    }
    assert_eq!((world.sent(), world.charged().as_str()), (sent, "0.00"));
    assert_eq!(world.read_as("key-of-dialer", STORED).await.outcome(), (200, "hit"));
}

#[tokio::test]
async fn a_gateway_key_never_goes_upstream() {
    let world = World::with(&format!("{BUDGET}{}", caller("dialer", "allow = [\"fresh\"]")), keys).await;
    assert_eq!(world.fresh_as("key-of-dialer", UNCHECKED).await.outcome(), (200, "billed"));
    world.ask_as("key-of-dialer", "/v2/reputation/numbers").await;
    assert_eq!(world.bearers(), [sha256("upstream-key")]);
}

#[tokio::test]
async fn each_key_of_a_caller_opens_while_keys_are_rotated() {
    let [old, new] = ["old", "new"].map(|key| KeyDigest::of(key.as_bytes()));
    let world = World::with(&format!("[[caller]]\nname = \"dialer\"\nkey_sha256 = [\"{old}\", \"{new}\"]\n"), keys).await;
    assert_eq!(world.read_as("old", STORED).await.outcome(), (200, "probe"));
    assert_eq!(world.read_as("new", STORED).await.outcome(), (200, "hit"));
}

#[tokio::test]
async fn a_caller_without_money_takes_nothing_from_the_common_rate() {
    let callers = [caller("broke", "allow = [\"fresh\"]"), caller("rich", "allow = [\"fresh\"]")].concat();
    let nothing = "[[budget]]\nname = \"nothing\"\nlimit = \"0.00\"\nwindow = \"day\"\ncaller = \"broke\"\n";
    let slow = |config: &mut Config| {
        keys(config);
        config.fresh.rate = "1/h".parse().expect("a rate");
    };
    let world = World::with(&format!("{callers}{BUDGET}{nothing}"), slow).await;
    for n in 0..20 {
        assert_eq!(world.fresh_as("key-of-broke", &unchecked(n)).await.outcome(), (402, "budget_exhausted"));
    }
    assert_eq!(world.fresh_as("key-of-rich", STORED).await.outcome(), (200, "billed"));
    assert_eq!(world.fresh_as("key-of-rich", UNCHECKED).await.outcome(), (429, "rate_limited"));
    assert_eq!(world.charged(), "0.10");
}

#[tokio::test]
async fn a_caller_sees_its_own_enterprises_only_also_from_the_cache() {
    let callers =
        [caller("dialer", &format!("enterprises = [\"{ENTERPRISE}\"]")), caller("reports", &format!("enterprises = [\"{OTHER}\"]"))];
    let world = World::of_account(&[ENTERPRISE, OTHER], &callers.concat(), keys).await;
    let scoped = |enterprise| format!("/v2/enterprises/{enterprise}/reputation/numbers/{STORED}");
    assert_eq!(world.ask_as("key-of-dialer", &scoped(ENTERPRISE)).await.outcome(), (200, "probe"));
    let list = format!("/v2/enterprises/{ENTERPRISE}/reputation/numbers");
    assert_eq!(world.ask_as("key-of-dialer", &list).await.status, 200);
    let sent = world.sent();
    let filter = format!("/v2/reputation/numbers?filter[enterprise_id]={ENTERPRISE}");
    for path in [scoped(ENTERPRISE), format!("{}?fresh=true", scoped(ENTERPRISE)), list, filter] {
        let refused = world.ask_as("key-of-reports", &path).await;
        assert_eq!((refused.outcome(), refused.code().as_str()), ((403, "not_permitted"), "enterprise_not_permitted"), "{path}");
        assert_eq!(refused.header("x-should-retry"), "false");
    }
    assert_eq!((world.sent(), world.charged().as_str()), (sent, "0.00"));
    let own = world.read_as("key-of-reports", STORED).await;
    assert_eq!((own.outcome(), &own.json()["data"]["enterprise_id"]), ((200, "probe"), &OTHER.into()), "its only one is its default");
}

#[tokio::test]
async fn simplified_paths_go_to_the_callers_own_default() {
    let callers = [
        caller("dialer", &format!("default_enterprise = \"{ENTERPRISE}\"")),
        caller("reports", &format!("default_enterprise = \"{OTHER}\"")),
    ];
    let world = World::of_account(&[ENTERPRISE, OTHER], &callers.concat(), keys).await;
    for (key, enterprise) in [("key-of-dialer", ENTERPRISE), ("key-of-reports", OTHER)] {
        let answer = world.read_as(key, STORED).await;
        assert_eq!((answer.outcome(), &answer.json()["data"]["enterprise_id"]), ((200, "probe"), &enterprise.into()));
    }
}

#[tokio::test]
async fn only_a_caller_with_the_permission_asks_for_fresh_data() {
    let world = World::with(&format!("{BUDGET}{}{}", caller("dialer", "allow = [\"fresh\"]"), caller("reports", "")), keys).await;
    let refused = world.fresh_as("key-of-reports", UNCHECKED).await;
    assert_eq!((refused.outcome(), refused.code().as_str()), ((403, "not_permitted"), "fresh_not_permitted"));
    assert_eq!((world.sent(), world.charged().as_str()), (0, "0.00"));
    assert_eq!(world.fresh_as("key-of-dialer", UNCHECKED).await.outcome(), (200, "billed"));
    assert_eq!(world.fresh_as("key-of-reports", UNCHECKED).await.outcome(), (200, "not_permitted"), "from the cache");
    assert_eq!(world.charged(), "0.10");
}

#[tokio::test]
async fn a_callers_rate_is_its_own() {
    let callers = [caller("dialer", "allow = [\"fresh\"]\nfresh_rate = \"1/h\""), caller("reports", "allow = [\"fresh\"]")];
    let world = World::with(&format!("{BUDGET}{}", callers.concat()), keys).await;
    assert_eq!(world.fresh_as("key-of-dialer", &unchecked(1)).await.outcome(), (200, "billed"));
    let refused = world.fresh_as("key-of-dialer", &unchecked(2)).await;
    assert_eq!((refused.outcome(), &refused.json()["gateway"]["limiter"]), ((429, "rate_limited"), &"caller".into()));
    assert_eq!(world.fresh_as("key-of-reports", &unchecked(2)).await.outcome(), (200, "billed"));
    assert_eq!(world.charged(), "0.20");
}

/// `dialer` has no money, `reports` has.
fn poor_and_rich() -> String {
    let budget =
        |name: &str, limit: &str| format!("[[budget]]\nname = \"{name}\"\ncaller = \"{name}\"\nlimit = \"{limit}\"\nwindow = \"day\"\n");
    [caller("dialer", "allow = [\"fresh\"]"), caller("reports", "allow = [\"fresh\"]"), budget("dialer", "0.00"), budget("reports", "1.00")]
        .concat()
}

#[tokio::test]
async fn a_callers_empty_budget_stops_nobody_else() {
    let world = World::with(&poor_and_rich(), keys).await;
    let refused = world.fresh_as("key-of-dialer", UNCHECKED).await;
    assert_eq!((refused.outcome(), &refused.json()["gateway"]["budget"]), ((402, "budget_exhausted"), &"dialer".into()));
    assert_eq!(world.fresh_as("key-of-reports", UNCHECKED).await.outcome(), (200, "billed"));
    assert_eq!(world.fresh_as("key-of-dialer", UNCHECKED).await.outcome(), (200, "cooldown"), "what is there costs nothing");
    assert_eq!(world.charged(), "0.10");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_for_a_caller_without_money_is_not_refused_for_it() {
    for round in 0..20 {
        let world = World::with(&poor_and_rich(), keys).await;
        let number = unchecked(round);
        let asked = (0..20).map(|n| world.fresh_as(if n % 5 == 4 { "key-of-reports" } else { "key-of-dialer" }, &number));
        let answers = join_all(asked).await;
        for (n, answer) in answers.iter().enumerate() {
            let allowed: &[_] =
                if n % 5 == 4 { &["billed", "collapsed", "cooldown"] } else { &["budget_exhausted", "collapsed", "cooldown"] };
            assert!(allowed.contains(&answer.header("x-gateway-decision")), "{n}: {answer:?}");
        }
        assert_eq!((world.charged().as_str(), world.charges().count), ("0.10", 1));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plain_read_is_not_refused_for_a_purchase_that_it_did_not_want() {
    for _ in 0..20 {
        let world = World::with("", |_| {}).await;
        let plain = format!("/v2/reputation/numbers/{STORED}");
        let asked = (0..40).map(|n| world.ask(&if n % 2 == 0 { format!("{plain}?fresh=true") } else { plain.clone() }).send());
        let answers = join_all(asked).await;
        for answer in answers.iter().skip(1).step_by(2) {
            assert_eq!(answer.status, 200, "{answer:?}");
        }
        assert_eq!(world.charged(), "0.00");
    }
}

#[tokio::test]
async fn a_forwarded_key_goes_upstream_and_has_its_own_part_of_the_cache() {
    let world = World::with(BUDGET, forward).await;
    assert_eq!(world.read_as("key-one", STORED).await.outcome(), (200, "probe"));
    assert_eq!(world.read_as("key-one", STORED).await.outcome(), (200, "hit"));
    assert_eq!(world.read_as("key-two", STORED).await.outcome(), (200, "probe"), "not the copy of key-one");
    assert_eq!(world.bearers(), [sha256("key-one"), sha256("key-two")]);
    assert_eq!(world.ask_as("key-one", "/v2/reputation/numbers").await.outcome(), (200, "passed"));
    assert_eq!(world.ask_as("key-two", "/v2/reputation/numbers").await.outcome(), (200, "passed"), "lists too");
    assert_eq!(world.read(STORED).await.outcome(), (401, "unauthenticated"), "no key at all");
}

#[tokio::test]
async fn a_forwarded_key_that_telnyx_refuses_gets_telnyxs_401_and_nothing_is_kept() {
    let world = World::with(BUDGET, forward).await;
    world.read_as("valid", STORED).await;
    for _ in 0..2 {
        let sent = world.sent();
        let refused = world.read_as("invalid", STORED).await;
        assert_eq!((refused.outcome(), refused.json().get("gateway")), ((401, "upstream_error"), None), "Telnyx's own body");
        assert_eq!(world.sent(), sent + 1, "asked each time");
    }
    assert_eq!(world.fresh_as("invalid", UNCHECKED).await.status, 401);
    assert_eq!(world.ask_as("invalid", "/v2/reputation/numbers").await.status, 401);
    assert_eq!(world.charged(), "0.00");
    assert_eq!(world.metric("reputation_gateway_budget_spent_usd{budget=\"all-day\"}").await, "0", "the hold was released");
}

#[tokio::test]
async fn calls_of_two_forwarded_keys_for_one_number_are_two_calls() {
    let world = World::with(BUDGET, forward).await;
    world.turn(Duration::from_hours(1));
    assert_eq!(world.fresh_as("key-one", STORED).await.outcome(), (200, "billed"));
    assert_eq!(world.fresh_as("key-two", STORED).await.outcome(), (200, "billed"));
    assert_eq!(world.charged(), "0.20");
}

#[tokio::test]
async fn a_forwarded_call_that_may_have_been_paid_for_before_the_start_is_looked_for_first() {
    let mut world = World::with(BUDGET, forward).await;
    world.turn(Duration::from_hours(1));
    assert_eq!(world.fresh_as("key-one", STORED).await.outcome(), (200, "billed"));
    world.stop().await;
    world.restart().await;
    assert_eq!(world.fresh_as("key-one", STORED).await.outcome(), (200, "cooldown"));
    assert_eq!(world.charged(), "0.10");
}

#[tokio::test]
async fn in_open_mode_a_strangers_key_does_not_go_upstream() {
    let world = World::new().await;
    assert_eq!(world.read_as("somebodys-key", STORED).await.outcome(), (200, "probe"));
    assert_eq!(world.read(STORED).await.outcome(), (200, "hit"));
    assert_eq!(world.bearers(), [sha256("upstream-key")]);
}

#[tokio::test]
async fn a_refusal_of_the_gateways_own_key_is_a_502() {
    let world = World::with(BUDGET, |_| {}).await;
    for path in [
        format!("/v2/reputation/numbers/{STORED}"),
        format!("/v2/reputation/numbers/{UNCHECKED}?fresh=true"),
        "/v2/reputation/numbers".to_owned(),
    ] {
        world.fault(Fault::new(Kind::Status).status(StatusCode::UNAUTHORIZED));
        let answer = world.ask(&path).send().await;
        assert_eq!((answer.outcome(), answer.code().as_str()), ((502, "upstream_error"), "upstream_rejected_credentials"), "{path}");
        assert_eq!((answer.header("x-should-retry"), answer.header("x-gateway-billed")), ("false", "no"), "{path}");
    }
    assert_eq!(world.metric("reputation_gateway_holds_total{end=\"released\"}").await, "1");
    assert_eq!(world.read(STORED).await.outcome(), (200, "probe"), "nothing of it was kept");
}

#[tokio::test]
async fn an_enterprise_of_another_account_is_asked_for_with_its_own_key() {
    let keyed = format!("[[enterprise]]\nid = \"{OTHER}\"\nname = \"other\"\napi_key = \"key-of-other\"\n");
    let world = World::of_account(&[ENTERPRISE, OTHER], &keyed, |_| {}).await;
    for enterprise in [ENTERPRISE, OTHER] {
        assert_eq!(world.ask(&format!("/enterprises/{enterprise}/reputation/numbers/{STORED}")).send().await.status, 200);
    }
    assert_eq!(world.bearers(), [sha256("upstream-key"), sha256("key-of-other")]);
}

#[tokio::test]
async fn of_several_enterprises_a_simplified_path_means_none() {
    let world = World::of_account(&[ENTERPRISE, OTHER], BUDGET, |_| {}).await;
    for path in [format!("/v2/reputation/numbers/{UNCHECKED}?fresh=true"), "/v2/reputation/numbers".to_owned()] {
        let refused = world.ask(&path).send().await;
        assert_eq!((refused.status.as_u16(), refused.code().as_str(), refused.header("x-should-retry")), (400, "10015", "false"));
        assert!(refused.text().contains("several enterprises"), "{}", refused.text());
    }
    assert_eq!(world.ask(&format!("/enterprises/{OTHER}/reputation/numbers/{STORED}")).send().await.status, 200);
    assert_eq!(world.charged(), "0.00");
}

#[tokio::test]
async fn an_account_without_enterprises_is_told_apart() {
    let world = World::of_account(&[], BUDGET, |_| {}).await;
    let refused = world.read(STORED).await;
    assert_eq!((refused.status.as_u16(), refused.code().as_str()), (400, "10015"));
    assert!(refused.text().contains("no enterprise"), "{}", refused.text());
}

#[tokio::test]
async fn the_only_enterprise_of_an_account_is_learnt_once_and_for_nothing() {
    let world = World::of_account(&[OTHER], BUDGET, |_| {}).await;
    let answer = world.read(STORED).await;
    assert_eq!((answer.outcome(), &answer.json()["data"]["enterprise_id"]), ((200, "probe"), &OTHER.into()));
    assert_eq!(world.ask(&format!("/enterprises/{OTHER}/reputation/numbers/{STORED}")).send().await.outcome(), (200, "hit"));
    world.read(UNCHECKED).await;
    let asked = world.sandbox.requests().iter().filter(|seen| seen.path_and_query.starts_with("/v2/enterprises?")).count();
    assert_eq!((asked, world.charged().as_str()), (1, "0.10"));
}

#[tokio::test]
async fn a_list_filter_has_a_bounded_length() {
    let world = World::with("", |config| config.server.max_header_size = "128KiB".parse().expect("a size")).await;
    let refused = world.ask(&format!("/v2/reputation/numbers?filter[source]={}", "~".repeat(30_000))).send().await;
    assert_eq!((refused.status.as_u16(), refused.code().as_str(), world.sent()), (400, "10015", 0));
}

#[tokio::test]
async fn only_if_cached_asks_for_no_enterprise_either() {
    let world = World::of_account(&[OTHER], "", |_| {}).await;
    let path = format!("/v2/reputation/numbers/{STORED}");
    assert_eq!(world.ask(&path).header("cache-control", "only-if-cached").send().await.outcome(), (504, "not_in_cache"));
    assert_eq!(world.sent(), 0);
    world.read(STORED).await;
    assert_eq!(world.ask(&path).header("cache-control", "only-if-cached").send().await.outcome(), (200, "hit"));
}
