//! What the official SDKs send, byte for byte: the same calls by each, with the attempts that follow a failure.
//!
//! `python.http` and `node.http` are what the SDKs of `tests/sdk` sent to a listener, as `tests/sdk/capture/capture.py` writes it down. The
//! Ruby gem is not packaged by Debian, and the clients for Go and PHP are no part of the tests either: their files are written by hand, with
//! what is known of their requests. Ruby leaks `enterprise_id` into the query and says `Content-Length: 0` with GET; Go and Ruby write the
//! plus as it is, PHP writes `%2B`, and older ones `fresh=1`. All read one number whose plus was encoded before (`%252B`).

use http::{Method, StatusCode};
use reputation_gateway::config::Config;
use reputation_gateway::sandbox::{Fault, Kind};

use crate::harness::callers::{ALL, caller, keys, sha256};
use crate::harness::{BUDGET, ENTERPRISE, STORED, Wire, World, books, unchecked};

const SDKS: [(&str, &[u8]); 5] = [
    ("Python", include_bytes!("python.http")),
    ("Node", include_bytes!("node.http")),
    ("Ruby", include_bytes!("ruby.http")),
    ("Go", include_bytes!("go.http")),
    ("PHP", include_bytes!("php.http")),
];

/// Between two requests.
const BETWEEN: &str = "\n----\n";

/// The attempts of `fresh=true`, and those of a refresh.
const FRESH: std::ops::Range<usize> = 1..4;
const REFRESH: std::ops::Range<usize> = 6..8;

/// Of one request: status, decision, cents, and the lines that reach the upstream; `{E}` is the enterprise's path.
type Expected = (u16, &'static str, i64, &'static [&'static str]);

/// The same of every SDK, whatever it writes.
const EXPECTED: [Expected; 10] = [
    (200, "probe", 0, &["GET {E}?filter%5Bphone_number%5D%5Beq%5D=%2B16035551234&page%5Bnumber%5D=1&page%5Bsize%5D=10"]),
    (200, "billed", 10, &["GET {E}/+12025550001?fresh=true"]),
    (200, "cooldown", 0, &[]),
    (200, "cooldown", 0, &[]),
    (200, "hit", 0, &[]),
    (200, "passed", 0, &["GET {E}?filter%5Bphone_number%5D%5Beq%5D=%2B16035551234&page%5Bnumber%5D=1&page%5Bsize%5D=5"]),
    (200, "billed", 10, &["POST {E}/refresh"]),
    (200, "cooldown", 0, &[]),
    (201, "billed", 10, &["POST {E}"]),
    (204, "passed", 0, &["DELETE {E}/+12025550003"]),
];

fn requests(file: &'static [u8]) -> Vec<&'static str> {
    let requests: Vec<_> = std::str::from_utf8(file).expect("text").split(BETWEEN).collect();
    assert_eq!(requests.len(), EXPECTED.len());
    assert!(requests.iter().all(|request| request.contains(" HTTP/1.1\r\n") && request.contains("\r\n\r\n")), "line ends are lost");
    requests
}

async fn world() -> World {
    World::with(&format!("{BUDGET}{}", caller("sdk", ALL)), |config: &mut Config| keys(config)).await
}

/// Status, decision, and the cents that the gateway says it cost.
async fn replayed(wire: &mut Wire, request: &str) -> (u16, String, String) {
    wire.send(request).await;
    let answer = if request.starts_with("DELETE") { wire.head().await } else { wire.answer().await };
    (answer.status, answer.field("x-gateway-decision").to_owned(), answer.field("x-gateway-cost-usd").to_owned())
}

impl World {
    fn cents(&self) -> i64 {
        self.charges().total.micros() / 10_000
    }

    fn lines(&self, from: usize) -> Vec<String> {
        self.sandbox.requests()[from..].iter().map(|seen| format!("{} {}", seen.method, seen.path_and_query)).collect()
    }
}

#[tokio::test]
async fn each_sdk_is_understood_alike_and_leaves_nothing_of_its_own_upstream() {
    for (sdk, file) in SDKS {
        let world = world().await;
        let mut wire = Wire::to(world.gateway).await;
        for (place, (request, (status, decision, cents, lines))) in requests(file).into_iter().zip(EXPECTED).enumerate() {
            let (sent, charged) = (world.sent(), world.cents());
            let told = replayed(&mut wire, request).await;
            let cost = format!("0.{cents:02}");
            assert_eq!(told, (status, decision.to_owned(), cost), "{sdk}, {place}");
            assert_eq!(world.cents() - charged, cents, "{sdk}, {place}");
            let of = format!("/v2/enterprises/{ENTERPRISE}/reputation/numbers");
            let lines: Vec<_> = lines.iter().map(|line| line.replace("{E}", &of)).collect();
            assert_eq!(world.lines(sent), lines, "{sdk}, {place}");
        }
        let seen = world.sandbox.requests();
        assert!(seen.iter().all(|seen| seen.bearer_sha256 == sha256("upstream-key")), "{sdk}'s key went upstream");
        for seen in &seen {
            let own = seen.headers.iter().find(|(name, value)| name.starts_with("x-stainless") || value.contains("Telnyx/"));
            assert_eq!(own, None, "{sdk}");
        }
        assert_eq!(books::posted(&books::charges(&world.ledger())), 300_000, "{sdk}");
    }
}

#[tokio::test]
async fn attempts_after_a_lost_answer_never_pay_twice() {
    for (sdk, file) in SDKS {
        for (attempts, method, number) in [(FRESH, Method::GET, unchecked(1)), (REFRESH, Method::POST, unchecked(2))] {
            for kind in [Kind::ResetAfterBilling, Kind::Cut, Kind::Garbage, Kind::StatusAfterBilling] {
                let world = world().await;
                let part = if method == Method::GET { "fresh" } else { "" };
                world.fault(Fault::new(kind).method(&method).query_contains(part).status(StatusCode::BAD_GATEWAY));
                let mut wire = Wire::to(world.gateway).await;
                for request in &requests(file)[attempts.clone()] {
                    replayed(&mut wire, request).await;
                }
                world.resolved().await;
                let charges = world.charges();
                assert_eq!((charges.count, charges.number(&number).count), (1, 1), "{sdk}, {kind:?}, {method}");
                let charges = books::charges(&world.ledger());
                assert_eq!(books::by_number(&charges), [(number.clone(), 10)].into(), "{sdk}, {kind:?}, {method}");
            }
        }
    }
}

#[tokio::test]
async fn a_failure_that_cost_nothing_is_tried_again_and_paid_for_once() {
    for (sdk, file) in SDKS {
        let world = world().await;
        world.fault(Fault::new(Kind::Status).query_contains("fresh").status(StatusCode::CONFLICT));
        let mut wire = Wire::to(world.gateway).await;
        let mut decisions = Vec::new();
        for request in &requests(file)[FRESH] {
            decisions.push(replayed(&mut wire, request).await.1);
        }
        assert_eq!(decisions, ["upstream_error", "billed", "cooldown"], "{sdk}");
        assert_eq!((world.charged().as_str(), world.charges().number(STORED).count), ("0.10", 0), "{sdk}");
    }
}
