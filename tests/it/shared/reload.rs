//! A configuration that follows another, where what gateways have to agree on cannot.

use super::*;

/// What operators see of a gateway's configuration, when that is so.
async fn in_force(gateway: &Process, is_so: impl Fn(&serde_json::Value) -> bool) -> serde_json::Value {
    let following = async {
        loop {
            let seen = Ask::new(gateway.address("admin"), "/admin/v1/config").send().await.json()["data"].take();
            if is_so(&seen) {
                return seen;
            }
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE * 3, following).await.unwrap_or_else(|_| panic!("{}", gateway.log()))
}

fn has_limit(limit: &'static str) -> impl Fn(&serde_json::Value) -> bool {
    move |seen| seen["config"]["budget"][0]["limit"] == limit
}

#[tokio::test]
async fn limits_follow_one_gateway_after_another_and_what_all_agree_on_is_told_to_need_a_restart() {
    let place = Place::new(100).await;
    let (one, other) = (place.serve(1, "1.00"), place.serve(2, "1.00"));
    let fresh = async |gateway: &Process, n: u32| {
        let path = format!("/v2/reputation/numbers/+1202555{n:04}?fresh=true");
        let answer = Ask::new(gateway.address("listen"), &path).send().await;
        (answer.status.as_u16(), answer.header("x-gateway-decision").to_owned())
    };
    let (billed, exhausted) = ((200, "billed".to_owned()), (402, "budget_exhausted".to_owned()));
    assert_eq!((fresh(&one, 0).await, fresh(&other, 1).await), (billed.clone(), billed.clone()));
    let edit = |limit: &str, more: &str| {
        place.config(1, limit, &format!("timeout = \"5s\"\n{more}"));
        one.signal("-HUP");
    };
    edit("0.20", "");
    in_force(&one, has_limit("0.20")).await;
    assert_eq!((fresh(&one, 2).await, fresh(&other, 3).await), (exhausted.clone(), billed.clone()));
    edit("0.40", "");
    in_force(&one, has_limit("0.40")).await;
    assert_eq!((fresh(&one, 4).await, fresh(&one, 5).await), (billed.clone(), exhausted));
    edit("9.00", "[[budget]]\nname = \"more\"\nlimit = \"0.10\"\nwindow = \"day\"\n[prices]\ncheck = \"0.20\"\n");
    let seen = in_force(&one, |seen| seen["restart_needed"] != serde_json::json!([])).await;
    assert_eq!(seen["restart_needed"], serde_json::json!(["prices", "budget"]));
    assert_eq!((&seen["config"]["budget"].as_array().map(Vec::len), &seen["config"]["budget"][0]["limit"]), (&Some(1), &"0.40".into()));
    assert_eq!(seen["config"]["prices"]["check"], "0.10");
    assert_eq!(fresh(&other, 6).await, billed);
    assert_eq!(place.charged(), 500_000);
    let told = async { while place.settled(&one).await < 500_000 {} };
    timeout(PATIENCE * 3, told).await.expect("what the other one spent is told with the next sign of life");
    place.audited(1, one, 500_000).await;
    place.audited(2, other, 500_000).await;
}
