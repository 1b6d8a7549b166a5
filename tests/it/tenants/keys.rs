//! Callers with gateway keys: `one` and `reader` see an enterprise each, `two` another, `both` both.

use http::Method;

use super::{ACCOUNT, Case, Marks, OPENED, OWN, SCOPED, Told, told};
use crate::harness::callers::{ALL, OTHER, caller, keys};
use crate::harness::{BUDGET, ENTERPRISE, STORED, World};

/// Fields that ask a cache what it has.
const WISHES: [&str; 4] = ["", "cache-control: only-if-cached\r\n", "cache-control: no-cache\r\n", "if-none-match: {etag}\r\n"];

/// Each caller, and the places in [`Stage::tenants`] of what it sees.
const CALLERS: [(&str, &[usize]); 4] = [("one", &[0]), ("two", &[1]), ("both", &[0, 1]), ("reader", &[0])];

/// A gateway before two enterprises, in which both have things of their own, in memory and upstream.
struct Stage {
    world: World,
    tenants: [Marks; 2],
}

pub(super) fn callers() -> String {
    let sees = |enterprises: &str, allow: &str| format!("enterprises = [{enterprises}]\n{allow}");
    let (one, two) = (format!("\"{ENTERPRISE}\""), format!("\"{OTHER}\""));
    [
        BUDGET.to_owned(),
        OPENED.to_owned(),
        caller("one", &sees(&one, ALL)),
        caller("two", &sees(&two, ALL)),
        caller("both", &sees(&format!("{one}, {two}"), ALL)),
        caller("reader", &sees(&one, "allow = [\"ownership\"]")),
    ]
    .concat()
}

impl Stage {
    async fn set() -> Self {
        let world = World::of_account(&[ENTERPRISE, OTHER], &callers(), keys).await;
        let tenants = [settle(&world, "one", ENTERPRISE, "+19995551111").await, settle(&world, "two", OTHER, "+19995552222").await];
        Self { world, tenants }
    }

    /// What a caller is told who asks about another's things, and about nobody's.
    async fn told_of(&self, asker: &str, case: &Case, wish: &str, (own, of): (&Marks, &Marks)) -> Told {
        let fill = |text: &str| of.fill(&text.replace("{own}", &own.enterprise).replace("{etag}", &of.etag));
        told(&self.world, &format!("key-of-{asker}"), (&fill(case.line), &fill(wish), &fill(case.body))).await
    }
}

/// Lets a caller do all there is in its own enterprise, so that there is something to leak.
async fn settle(world: &World, name: &str, enterprise: &str, number: &str) -> Marks {
    let key = format!("key-of-{name}");
    let mark = format!("mark-of-{name}");
    let of = format!("/v2/enterprises/{enterprise}");
    let send = async |method: Method, path: String, body: String| {
        let ask = world.ask(&path).method(method.clone()).key(&key);
        let ask = if body.is_empty() { ask } else { ask.header("content-type", "application/json") };
        let answer = ask.body(body).send().await;
        assert!(answer.status.is_success(), "{method} {path}: {answer:?}");
        answer
    };
    send(Method::PUT, of.clone(), format!(r#"{{"legal_name":"{mark}"}}"#)).await;
    send(Method::PATCH, format!("{of}/reputation/loa"), format!(r#"{{"loa_document_id":"{mark}"}}"#)).await;
    send(Method::POST, format!("{of}/reputation/numbers"), format!(r#"{{"phone_numbers":["{number}"]}}"#)).await;
    let order = format!(r#"{{"phone_numbers":["{number}"],"call_purpose":"{mark}"}}"#);
    let remediation = send(Method::POST, format!("{of}/reputation/remediation"), order).await.json();
    send(Method::GET, format!("{of}/reputation/numbers/{number}?fresh=true"), String::new()).await;
    send(Method::GET, format!("{of}/reputation/numbers?page[size]=250"), String::new()).await;
    let record = send(Method::GET, format!("{of}/reputation/numbers/{number}"), String::new()).await;
    let text = |value: &serde_json::Value| value.as_str().expect("a text").to_owned();
    Marks {
        enterprise: enterprise.to_owned(),
        number: number.to_owned(),
        remediation: text(&remediation["data"]["id"]),
        name: mark,
        etag: record.header("etag").to_owned(),
        record: text(&record.json()["data"]["id"]),
    }
}

#[tokio::test]
async fn what_belongs_to_another_is_answered_like_what_does_not_exist() {
    let stage = Stage::set().await;
    let nobody = Marks::of_nobody();
    let (sent, charged) = (stage.world.sent(), stage.world.charged());
    for (asker, sees) in CALLERS {
        for (place, other) in stage.tenants.iter().enumerate().filter(|(place, _)| !sees.contains(place)) {
            let own = &stage.tenants[1 - place];
            for case in SCOPED {
                for wish in WISHES {
                    let of_other = stage.told_of(asker, case, wish, (own, other)).await;
                    let of_nobody = stage.told_of(asker, case, wish, (own, &nobody)).await;
                    assert_eq!(of_other, of_nobody, "{asker}, {} {wish:?}", case.line);
                    assert_eq!((of_other.status, of_other.decision()), (403, "not_permitted"), "{asker}, {} {wish:?}", case.line);
                    assert_eq!(other.within(&of_other.text), [""; 0], "{asker}, {}", case.line);
                }
            }
        }
    }
    assert_eq!((stage.world.sent(), stage.world.charged()), (sent, charged), "nothing of it was asked upstream");
}

#[tokio::test]
async fn what_is_ones_own_is_told_so_that_a_leak_would_be_seen() {
    let stage = Stage::set().await;
    for (asker, sees) in CALLERS {
        for own in sees.iter().map(|place| &stage.tenants[*place]) {
            for case in SCOPED.iter().filter(|case| case.tells) {
                let answer = stage.told_of(asker, case, "", (own, own)).await;
                assert_eq!(answer.status, 200, "{asker}, {}: {}", case.line, answer.text);
                assert_ne!(own.within(&answer.text), [""; 0], "{asker}, {}", case.line);
            }
        }
    }
}

/// The other's number, remediation or name, where the caller's own enterprise is meant: as if nobody had it.
#[tokio::test]
async fn what_another_has_is_not_there_in_ones_own_enterprise() {
    let stage = Stage::set().await;
    let nobody = Marks::of_nobody();
    for (asker, sees) in CALLERS.into_iter().filter(|(_, sees)| sees.len() == 1) {
        let (own, other) = (&stage.tenants[sees[0]], &stage.tenants[1 - sees[0]]);
        for case in OWN {
            let mut counts = Vec::new();
            let mut answers = Vec::new();
            for of in [other, &nobody] {
                let sent = stage.world.sent();
                let answer = stage.told_of(asker, case, "", (own, of)).await;
                // What the caller wrote itself may be told back, and a page may say it is empty in as many bytes.
                let text = answer.text.replace(&of.number, "{n}").replace(&of.remediation, "{id}");
                let text: Vec<_> = text.lines().filter(|line| !line.starts_with("etag: ")).map(str::to_owned).collect();
                answers.push((answer.status, text));
                counts.push(stage.world.sent() - sent);
                let leaked: Vec<_> =
                    [&other.name, &other.enterprise, &other.record].into_iter().filter(|mark| answer.text.contains(*mark)).collect();
                assert!(leaked.is_empty(), "{asker}, {}: {leaked:?}", case.line);
            }
            assert_eq!(answers[0], answers[1], "{asker}, {}", case.line);
            assert_eq!(counts[0], counts[1], "{asker}, {}: as many requests upstream", case.line);
        }
    }
}

#[tokio::test]
async fn the_account_tells_nobody_of_anothers_enterprise() {
    let stage = Stage::set().await;
    for (asker, sees) in CALLERS {
        for (place, other) in stage.tenants.iter().enumerate() {
            for case in ACCOUNT {
                let answer = stage.told_of(asker, case, "", (other, other)).await;
                let visible = sees.contains(&place) && case.line == "GET /v2/enterprises";
                assert_eq!(answer.text.contains(&other.name), visible, "{asker}, {}: {}", case.line, answer.text);
                assert_eq!(answer.text.contains(&other.enterprise), visible, "{asker}, {}", case.line);
            }
        }
    }
}

/// Both enterprises have [`STORED`], with records of their own.
#[tokio::test]
async fn a_copy_of_anothers_is_no_copy_of_ones_own() {
    let stage = Stage::set().await;
    let path = format!("GET /v2/reputation/numbers/{STORED}");
    let ask = |key: &'static str, fields: String| {
        let (world, path) = (&stage.world, &path);
        async move { told(world, key, (path, &fields, "")).await }
    };
    assert_eq!(ask("key-of-one", String::new()).await.decision(), "probe");
    let copy = ask("key-of-one", String::new()).await;
    assert_eq!(copy.decision(), "hit");
    let etag = copy.text.lines().find_map(|line| line.strip_prefix("etag: ")).expect("an etag").to_owned();
    let only = ask("key-of-two", "cache-control: only-if-cached\r\n".to_owned()).await;
    assert_eq!((only.status, only.decision()), (504, "not_in_cache"));
    let other = ask("key-of-two", format!("if-none-match: {etag}\r\n")).await;
    assert_eq!((other.status, other.decision()), (200, "probe"));
    assert!(other.text.contains(OTHER) && !other.text.contains(ENTERPRISE) && !other.text.contains("age: "), "{}", other.text);
}

#[tokio::test]
async fn metrics_tell_of_no_enterprise_and_no_caller_of_anothers_requests() {
    let stage = Stage::set().await;
    let of_one = async || {
        let scrape = stage.world.admin("/metrics").await.text();
        for marks in &stage.tenants {
            assert_eq!(marks.within(&scrape), [""; 0]);
        }
        assert!(!scrape.contains(&STORED[1..]) && !scrape.contains("key-of-"));
        scrape.lines().filter(|line| line.contains("caller=\"one\"")).map(str::to_owned).collect::<Vec<_>>()
    };
    let before = of_one().await;
    assert!(before.iter().any(|line| line.starts_with("reputation_gateway_requests_total{") && !line.ends_with(" 0")), "{before:?}");
    let [one, two] = &stage.tenants;
    for case in SCOPED {
        stage.told_of("two", case, "", (two, one)).await;
    }
    for case in OWN {
        stage.told_of("two", case, "", (two, one)).await;
    }
    assert_eq!(of_one().await, before);
}
