//! The sandbox over sockets: spellings, faults, its own paths.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;
use crate::server::{Config as ServerConfig, Server};

/// A sandbox on a port of its own.
struct Served {
    sandbox: Sandbox,
    address: std::net::SocketAddr,
}

/// What came before the connection was closed.
struct Heard {
    head: String,
    body: String,
}

impl Served {
    async fn start() -> Self {
        let (sandbox, _) = sandbox();
        let server = Server::bind(([127, 0, 0, 1], 0).into(), &ServerConfig::default()).await.unwrap();
        let address = server.address();
        tokio::spawn(server.serve(sandbox.clone(), std::future::pending()));
        Self { sandbox, address }
    }

    async fn send(&self, method: &str, path: &str, token: &str, body: &str) -> Heard {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: sandbox\r\nauthorization: Bearer {token}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut received = Vec::new();
        // A connection that is reset ends what was heard, like one that is closed.
        let _end = stream.read_to_end(&mut received).await;
        let text = String::from_utf8(received).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        Heard { head: head.to_owned(), body: body.to_owned() }
    }

    /// A plain read of the first number, disturbed by `fault`, and how many charges there are after it.
    async fn disturbed(&self, fault: Fault) -> (Heard, u32) {
        self.sandbox.script(fault);
        let heard = self.send("GET", &scoped(&format!("/numbers/{FIRST}?fresh=true")), "any", "").await;
        (heard, self.sandbox.charges().count)
    }
}

impl Heard {
    fn status(&self) -> &str {
        self.head.split(' ').nth(1).unwrap_or("none")
    }

    fn field(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

fn soon(kind: Kind) -> Fault {
    Fault::new(kind).delay(Duration::from_millis(1))
}

#[tokio::test]
async fn both_spellings_of_the_plus_reach_one_number() {
    let served = Served::start().await;
    for plus in ["+", "%2B", "%2b"] {
        let heard = served.send("GET", &scoped(&format!("/numbers/{plus}12025550000")), "any", "").await;
        assert_eq!((heard.status(), &heard.json()["data"]["phone_number"]), ("200", &FIRST.into()));
        assert_eq!(heard.field("date"), Some("Fri, 20 Nov 2026 12:00:00 GMT"));
        assert_eq!(heard.field("content-type"), Some("application/json"));
        for name in ["x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset"] {
            assert!(heard.field(name).is_some(), "{name}");
        }
    }
    assert_eq!(served.sandbox.charges().number(FIRST).count, 1);
    assert!(served.sandbox.requests()[1].path_and_query.ends_with("/%2B12025550000"), "kept as received");
}

#[tokio::test]
async fn an_invalid_key_is_refused_and_no_key_is_kept() {
    let served = Served::start().await;
    let path = scoped(&format!("/numbers/{FIRST}"));
    for token in ["invalid", ""] {
        let refused = served.send("GET", &path, token, "").await;
        assert_eq!((refused.status(), refused.json()["errors"][0]["code"].as_str()), ("401", Some("10009")));
        assert!(refused.json()["errors"][0]["meta"]["url"].is_string());
    }
    served.send("GET", &path, "KEY_of_a_caller", "").await;
    let seen = served.send("GET", "/sandbox/requests", "", "").await;
    assert!(!seen.body.contains("KEY_of_a_caller"));
    assert_eq!(seen.json()[2]["bearer_sha256"].as_str().map(str::len), Some(64));
    assert_eq!(served.sandbox.charges().count, 1);
}

#[tokio::test]
async fn faults_are_scripted_over_the_wire_and_forgotten_by_a_reset() {
    let served = Served::start().await;
    let scripted =
        served.send("POST", "/sandbox/faults", "", r#"[{"fault": "status", "times": 2, "status": 503}, {"fault": "cut"}]"#).await;
    assert_eq!((scripted.status(), &scripted.json()["pending"]), ("201", &3.into()));
    assert_eq!(served.send("GET", &scoped("/numbers"), "any", "").await.status(), "503");
    let unknown = served.send("POST", "/sandbox/faults", "", r#"{"fault": "flood"}"#).await;
    assert_eq!(unknown.status(), "400");
    assert!(unknown.body.contains("hang_after_billing"), "{}", unknown.body);
    assert_eq!(served.send("POST", "/sandbox/reset", "", "").await.status(), "204");
    assert_eq!(served.send("GET", &scoped("/numbers"), "any", "").await.status(), "200");
    assert_eq!(served.send("GET", "/sandbox/charges", "", "").await.json()["count"], 0);
}

#[tokio::test]
async fn refusals_by_script_bill_as_their_names_say() {
    let served = Served::start().await;
    let (heard, charges) = served.disturbed(Fault::new(Kind::Status).status(StatusCode::BAD_GATEWAY)).await;
    assert_eq!((heard.status(), charges), ("502", 0));
    assert_eq!(heard.json()["errors"][0]["code"], "10007");
    let (heard, charges) = served.disturbed(Fault::new(Kind::RateLimited).reset_s(7)).await;
    assert_eq!((heard.status(), heard.field("x-ratelimit-reset"), charges), ("429", Some("7"), 0));
    assert_eq!((heard.field("x-ratelimit-remaining"), heard.json()["errors"][0]["code"].as_str()), (Some("0"), Some("10011")));
    let (heard, charges) = served.disturbed(Fault::new(Kind::StatusAfterBilling)).await;
    assert_eq!((heard.status(), charges), ("500", 1));
}

#[tokio::test]
async fn silence_bills_as_its_names_say() {
    let served = Served::start().await;
    for (kind, expected) in [(Kind::Reset, 0), (Kind::Hang, 0), (Kind::ResetAfterBilling, 1), (Kind::HangAfterBilling, 2)] {
        let (heard, charges) = served.disturbed(soon(kind)).await;
        assert_eq!((heard.status(), charges), ("none", expected), "{kind:?}");
    }
}

#[tokio::test]
async fn late_and_slow_answers_are_whole_and_billed() {
    let served = Served::start().await;
    for (kind, expected) in [(Kind::Latency, 1), (Kind::Drip, 2)] {
        let (heard, charges) = served.disturbed(soon(kind)).await;
        assert_eq!((heard.status(), charges, &heard.json()["data"]["phone_number"]), ("200", expected, &FIRST.into()), "{kind:?}");
        assert_eq!(heard.field("content-length"), Some(heard.body.len().to_string().as_str()));
    }
}

#[tokio::test]
async fn a_cut_answer_promises_all_and_sends_half() {
    let served = Served::start().await;
    let (heard, charges) = served.disturbed(Fault::new(Kind::Cut)).await;
    let promised: usize = heard.field("content-length").unwrap().parse().unwrap();
    assert_eq!((heard.status(), heard.body.len(), charges), ("200", promised / 2, 1));
}

#[tokio::test]
async fn garbage_and_another_number_are_billed() {
    let served = Served::start().await;
    let (heard, charges) = served.disturbed(Fault::new(Kind::Garbage)).await;
    assert_eq!((heard.status(), serde_json::from_str::<Value>(&heard.body).is_err(), charges), ("200", true, 1));
    let (heard, charges) = served.disturbed(Fault::new(Kind::WrongNumber)).await;
    assert_eq!((heard.status(), &heard.json()["data"]["phone_number"], charges), ("200", &WITH_DATA.into(), 2));
    assert_eq!(served.sandbox.charges().number(FIRST).count, 2);
}

#[tokio::test]
async fn a_list_may_ignore_its_filter_or_show_another_number() {
    let served = Served::start().await;
    let path = scoped("/numbers?filter%5Bphone_number%5D%5Beq%5D=%2B16035551234");
    served.sandbox.script(Fault::new(Kind::IgnoreFilter).query_contains("filter[phone_number]"));
    assert_eq!(served.send("GET", &path, "any", "").await.json()["meta"]["total_results"], 32);
    served.sandbox.script(Fault::new(Kind::WrongNumber));
    assert_eq!(served.send("GET", &path, "any", "").await.json()["data"][0]["phone_number"], FIRST);
    assert_eq!(served.send("GET", &path, "any", "").await.json()["data"][0]["phone_number"], WITH_DATA);
    assert_eq!(served.sandbox.charges().count, 0);
}
