//! Every trouble that a billable call can meet: what the caller is told, what the ledger records, and what it costs in the end.

use std::time::Duration;

use futures_util::future::join_all;
use http::{Method, StatusCode};
use reputation_gateway::auth::Permission;
use reputation_gateway::policy::money::Usd;
use reputation_gateway::sandbox::{Fault, Kind, Operation};
use serde_json::json;

use crate::harness::{Answer, Ask, BUDGET, ENTERPRISE, STORED, UNCHECKED, World, books};

const CHECK: i64 = 100_000;
const NEVER: Duration = Duration::from_hours(1);
const SHORT: Duration = Duration::from_millis(80);

/// What is in the way of the call.
enum Trouble {
    /// Nobody listens upstream.
    Down,
    /// This happens to the number's own GET, not to the look at the list.
    Fault(Fault),
    /// The same, before a gateway that does not wait for long.
    Slow(Fault),
}

/// Which call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Call {
    /// `fresh=true`.
    Fresh,
    /// A plain read of a number that was never checked.
    FirstTouch,
    /// A refresh of one number.
    Refresh,
}

/// What comes of it.
struct Upshot {
    status: u16,
    decision: &'static str,
    billed: &'static str,
    cost: i64,
    /// The one entry in the ledger.
    end: &'static str,
    /// How often the stand-in charged.
    charged: u32,
    /// Status and decision of a `fresh=true` right after it.
    again: (u16, &'static str),
}

const BOUGHT: Upshot =
    Upshot { status: 200, decision: "billed", billed: "yes", cost: CHECK, end: "settled", charged: 1, again: (200, "cooldown") };
/// The answer was lost, and the look after it showed that the call had worked.
const RECOVERED: Upshot = Upshot { decision: "recovered", end: "corrected", ..BOUGHT };
/// Nothing shows that the call worked: it counts, and is not sent again yet. The one upshot that counts, for a while, what was not charged.
const UNCLEAR: Upshot = Upshot {
    status: 504,
    decision: "outcome_unknown",
    billed: "unknown",
    cost: CHECK,
    end: "assumed",
    charged: 0,
    again: (504, "outcome_unknown"),
};
/// An answer that is no answer, to a call that was billed.
const INVALID: Upshot = Upshot { status: 502, decision: "upstream_error", charged: 1, again: (200, "recovered"), ..UNCLEAR };
/// The same to a call that was not.
const HOLLOW: Upshot = Upshot { charged: 0, again: (504, "outcome_unknown"), ..INVALID };
const REFUSED: Upshot =
    Upshot { status: 429, decision: "upstream_error", billed: "no", cost: 0, end: "released", charged: 0, again: (200, "billed") };
/// Nothing is sent until the limit's reset.
const LIMITED: Upshot = Upshot { again: (429, "upstream_error"), ..REFUSED };
const UNSENT: Upshot = Upshot { status: 502, ..REFUSED };
/// A refresh brings no record that could tell at once, so its caller is told that nobody knows; the next look shows that it had worked.
const LOST: Upshot = Upshot { charged: 1, again: (200, "recovered"), ..UNCLEAR };
const ABSENT: Upshot = Upshot { status: 404, decision: "not_found", ..REFUSED };

fn fault(kind: Kind) -> Fault {
    Fault::new(kind).path_contains("/numbers/")
}

/// The same to the one request of an order.
fn posted_fault(kind: Kind) -> Fault {
    Fault::new(kind).method(&Method::POST)
}

/// The whole table, of what befalls requests as `fault` picks them.
fn table(fault: fn(Kind) -> Fault) -> Vec<(&'static str, Trouble, Upshot)> {
    use Trouble::{Down, Fault, Slow};
    let status = |kind, status: StatusCode| Fault(fault(kind).status(status));
    vec![
        ("no connection", Down, UNSENT),
        ("reset", Fault(fault(Kind::Reset)), UNCLEAR),
        ("reset after billing", Fault(fault(Kind::ResetAfterBilling)), RECOVERED),
        ("cut", Fault(fault(Kind::Cut)), RECOVERED),
        ("garbage", Fault(fault(Kind::Garbage)), INVALID),
        ("wrong number", Fault(fault(Kind::WrongNumber)), INVALID),
        ("rate limited", Fault(fault(Kind::RateLimited)), LIMITED),
        ("200 with an error", status(Kind::Status, StatusCode::OK), HOLLOW),
        ("302", status(Kind::Status, StatusCode::FOUND), UNCLEAR),
        ("404", status(Kind::Status, StatusCode::NOT_FOUND), ABSENT),
        ("500", status(Kind::Status, StatusCode::INTERNAL_SERVER_ERROR), UNCLEAR),
        ("503", status(Kind::Status, StatusCode::SERVICE_UNAVAILABLE), UNCLEAR),
        ("200 with an error after billing", status(Kind::StatusAfterBilling, StatusCode::OK), INVALID),
        ("302 after billing", status(Kind::StatusAfterBilling, StatusCode::FOUND), RECOVERED),
        ("500 after billing", status(Kind::StatusAfterBilling, StatusCode::INTERNAL_SERVER_ERROR), RECOVERED),
        ("hang", Slow(fault(Kind::Hang).delay(NEVER)), UNCLEAR),
        ("hang after billing", Slow(fault(Kind::HangAfterBilling).delay(NEVER)), RECOVERED),
        ("short hang", Fault(fault(Kind::Hang).delay(SHORT)), UNCLEAR),
        ("short hang after billing", Fault(fault(Kind::HangAfterBilling).delay(SHORT)), RECOVERED),
        ("drip", Fault(fault(Kind::Drip).delay(SHORT)), BOUGHT),
        ("drip beyond the time-out", Slow(fault(Kind::Drip).delay(NEVER)), RECOVERED),
        ("latency", Fault(fault(Kind::Latency).delay(SHORT)), BOUGHT),
        ("latency beyond the time-out", Slow(fault(Kind::Latency).delay(NEVER)), RECOVERED),
    ]
}

impl Upshot {
    /// What comes of the same trouble for another call than a live check.
    fn of(self, call: Call, kind: Option<Kind>) -> Self {
        match (call, self.decision, kind) {
            (Call::FirstTouch, "billed", _) => Self { decision: "first_touch", ..self },
            // Its answer holds no record that could be another number's.
            (Call::Refresh, _, Some(Kind::WrongNumber)) => BOUGHT,
            (Call::Refresh, "recovered", _) => LOST,
            // A 404 is about the enterprise.
            (Call::Refresh, "not_found", _) => Self { decision: "upstream_error", ..self },
            _ => self,
        }
    }
}

async fn told(world: &World, call: Call) -> Answer {
    match call {
        Call::Fresh => world.fresh(UNCHECKED).await,
        Call::FirstTouch => world.read(UNCHECKED).await,
        Call::Refresh => world.refresh(&[UNCHECKED]).await,
    }
}

fn micros(usd: &str) -> i64 {
    usd.parse::<Usd>().expect("dollars").micros()
}

fn cost(answer: &Answer) -> i64 {
    micros(answer.header("x-gateway-cost-usd"))
}

/// The books agree with each other, hold nothing, and never say less than the stand-in charged. Returns what they say.
async fn audited(world: &World, name: &str) -> (i64, i64) {
    let book = books::charges(&world.ledger());
    let (posted, charged) = (books::posted(&book), world.charges().number(UNCHECKED).usd.micros());
    assert!(posted >= charged, "{name}: {posted} posted of {charged} charged");
    assert!(book.iter().all(|charge| charge.state != "held"), "{name}: {book:?}");
    assert_eq!(world.metric("reputation_gateway_holds_open").await, "0", "{name}");
    assert_eq!(micros(&world.metric("reputation_gateway_budget_spent_usd{budget=\"all-day\"}").await), posted, "{name}");
    assert_eq!(micros(&world.metric("reputation_gateway_budget_held_usd{budget=\"all-day\"}").await), 0, "{name}");
    (posted, charged)
}

async fn play(world: &mut World, call: Call, name: &str, trouble: Trouble, upshot: Upshot) {
    let name = &format!("{name}, {call:?}");
    let (is_down, kind) = match trouble {
        Trouble::Down => {
            world.cut_upstream().await;
            (true, None)
        }
        Trouble::Fault(fault) | Trouble::Slow(fault) => {
            let kind = fault.kind;
            world.fault(fault);
            (false, Some(kind))
        }
    };
    let upshot = upshot.of(call, kind);
    let first = told(world, call).await;
    if is_down {
        world.mend_upstream().await;
    }
    assert_eq!(first.outcome(), (upshot.status, upshot.decision), "{name}: {first:?}");
    assert_eq!((first.header("x-gateway-billed"), cost(&first)), (upshot.billed, upshot.cost), "{name}");
    assert_eq!(audited(world, name).await, (upshot.cost, CHECK * i64::from(upshot.charged)), "{name}: posted and charged");
    // Where not even the free look before a first read is answered, nothing is ever held.
    let ends: &[&str] = if is_down && call == Call::FirstTouch { &[] } else { &[upshot.end] };
    let recorded: Vec<_> = books::charges(&world.ledger()).into_iter().map(|charge| charge.state).collect();
    assert_eq!(recorded, ends, "{name}");

    let second = world.fresh(UNCHECKED).await;
    assert_eq!(second.outcome(), upshot.again, "{name}: {second:?}");
    audited(world, name).await;
    assert!(world.charges().number(UNCHECKED).count <= 1, "{name}: charged twice");

    // Once nothing bars the call any more, the number's data is there for one charge, whatever came before.
    world.turn(Duration::from_mins(2));
    let third = world.fresh(UNCHECKED).await;
    assert_eq!((third.status.as_u16(), world.charges().number(UNCHECKED).count), (200, 1), "{name}: {third:?}");
    // What the next call finds shows what became of the first: the books are those of the stand-in.
    world.resolved().await;
    let (posted, charged) = audited(world, name).await;
    let taken_back = micros(&world.metric("reputation_gateway_taken_back_usd_total{caller=\"anonymous\"}").await);
    assert_eq!((posted, posted + taken_back), (charged, cost(&first) + cost(&second) + cost(&third)), "{name}");
    assert_eq!(taken_back, if upshot.end == "assumed" && upshot.charged == 0 { CHECK } else { 0 }, "{name}");
    let recorded: Vec<_> = books::charges(&world.ledger()).into_iter().map(|charge| charge.state).collect();
    assert!(!recorded.iter().any(|state| state == "assumed"), "{name}: {recorded:?}");
}

async fn play_all(call: Call) {
    let mut worlds = Vec::new();
    for (name, trouble, upshot) in table(fault) {
        let timeout = if matches!(trouble, Trouble::Slow(_)) { "3s" } else { "10s" };
        let world = World::with(BUDGET, |config| {
            config.upstream.timeout = timeout.parse().expect("a time");
            config.auth.allow.push(Permission::Refresh);
        })
        .await;
        worlds.push((world, name, trouble, upshot));
    }
    join_all(worlds.into_iter().map(|(mut world, name, trouble, upshot)| async move {
        play(&mut world, call, name, trouble, upshot).await;
    }))
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_befalls_a_fresh_call_is_never_under_counted_nor_paid_twice() {
    play_all(Call::Fresh).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_befalls_a_first_read_is_never_under_counted_nor_paid_twice() {
    play_all(Call::FirstTouch).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_befalls_a_refresh_is_never_under_counted_nor_paid_twice() {
    play_all(Call::Refresh).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_befalls_a_batch_the_books_are_the_stand_ins_in_the_end() {
    for (name, trouble, _) in table(fault) {
        let (Trouble::Fault(fault) | Trouble::Slow(fault)) = trouble else { continue };
        let world = World::with(BUDGET, |config| {
            config.upstream.timeout = "3s".parse().expect("a time");
            config.auth.allow.push(Permission::Refresh);
        })
        .await;
        // What is stored from the start is not young any more.
        world.turn(Duration::from_mins(61));
        world.fault(fault);
        let batch = [UNCHECKED, STORED];
        let posted = || books::posted(&books::charges(&world.ledger()));
        let first = world.refresh(&batch).await;
        assert!(posted() >= world.charges().total.micros(), "{name}");
        assert_eq!(posted(), cost(&first), "{name}: {first:?}");
        world.turn(Duration::from_mins(2));
        let second = world.refresh(&batch).await;
        assert_eq!(second.status, 200, "{name}: {second:?}");
        world.resolved().await;
        assert_eq!((world.charged().as_str(), posted()), ("0.20", 2 * CHECK), "{name}");
        assert!(batch.iter().all(|number| world.charges().number(number).count == 1), "{name}: a number was charged twice");
    }
}

/// What is paid for by an order of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    Associate,
    Remediate,
    Enable,
}

impl Order {
    async fn told(self, world: &World) -> Answer {
        let (path, body) = match self {
            Self::Associate => ("/numbers", json!({ "phone_numbers": ["+13125550000"] })),
            Self::Remediate => ("/remediation", json!({ "phone_numbers": [STORED], "call_purpose": "appointments" })),
            Self::Enable => ("", json!({ "loa_document_id": "doc-1" })),
        };
        let ask = world.ask(&format!("/v2/enterprises/{ENTERPRISE}/reputation{path}")).method(Method::POST);
        ask.header("content-type", "application/json").body(body.to_string()).send().await
    }

    fn price(self) -> i64 {
        match self {
            Self::Associate => CHECK,
            Self::Remediate => 10 * CHECK,
            Self::Enable => 1_000 * CHECK,
        }
    }

    /// How often the stand-in charged for it.
    fn charged(self, world: &World) -> u32 {
        let operation = match self {
            Self::Associate => Operation::Associate,
            Self::Remediate => Operation::Remediation,
            Self::Enable => Operation::Monitoring,
        };
        world.charges().operation(operation).count
    }
}

/// The order under a trouble, and once more when the first can take effect no more: it is carried out once, whatever befell it.
async fn order(world: &mut World, order: Order, name: &str, trouble: Trouble) {
    let name = &format!("{name}, {order:?}");
    if order == Order::Enable {
        let path = format!("/v2/enterprises/{ENTERPRISE}/reputation");
        assert_eq!(Ask::new(world.upstream(), &path).method(Method::DELETE).key("other").send().await.status, 204, "{name}");
    }
    let is_down = matches!(trouble, Trouble::Down);
    match trouble {
        Trouble::Down => world.cut_upstream().await,
        Trouble::Fault(fault) | Trouble::Slow(fault) => world.fault(fault),
    }
    let first = order.told(world).await;
    if is_down {
        world.mend_upstream().await;
    }
    let posted = |world: &World| books::posted(&books::charges(&world.ledger()));
    let charged = i64::from(order.charged(world));
    assert_eq!(posted(world), cost(&first), "{name}: {first:?}");
    assert!(posted(world) >= charged * order.price(), "{name}: {first:?}");
    assert!(first.header("x-gateway-billed") != "no" || (charged, posted(world)) == (0, 0), "{name}: {first:?}");
    let left_no_trace = first.header("x-gateway-billed") == "unknown" && charged == 0;

    world.turn(Duration::from_mins(2));
    let second = order.told(world).await;
    assert_eq!(order.charged(world), 1, "{name}: {second:?}");
    assert_eq!(second.status.is_success(), second.header("x-gateway-decision") == "recovered" || charged == 0, "{name}: {second:?}");
    let third = order.told(world).await;
    assert_eq!(order.charged(world), 1, "{name}: {third:?}");
    // Nothing but enabling shows that it was not carried out: such an order counts for good.
    let over = if left_no_trace && order != Order::Enable { order.price() } else { 0 };
    assert_eq!(posted(world), order.price() + over, "{name}");
    let open = books::charges(&world.ledger()).into_iter().filter(|charge| charge.state == "held").count();
    assert_eq!((open, world.metric("reputation_gateway_holds_open").await.as_str()), (0, "0"), "{name}");
}

async fn order_all(kind: Order) {
    let mut worlds = Vec::new();
    for (name, trouble, _) in table(posted_fault) {
        let timeout = if matches!(trouble, Trouble::Slow(_)) { "3s" } else { "10s" };
        let world = World::with("[[budget]]\nname = \"all\"\nlimit = \"250.00\"\nwindow = \"day\"\n", |config| {
            config.upstream.timeout = timeout.parse().expect("a time");
            config.auth.allow.extend([Permission::Associate, Permission::Remediation, Permission::Enable]);
        })
        .await;
        worlds.push((world, name, trouble));
    }
    join_all(worlds.into_iter().map(|(mut world, name, trouble)| async move { order(&mut world, kind, name, trouble).await })).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_befalls_an_association_it_is_carried_out_once() {
    order_all(Order::Associate).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_befalls_a_remediation_it_is_carried_out_once() {
    order_all(Order::Remediate).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_befalls_enabling_it_is_paid_once_and_the_books_are_the_stand_ins_in_the_end() {
    order_all(Order::Enable).await;
}
