//! A gateway that is killed again and again while it spends: its ledger never says less than was charged, and nothing is charged twice.

use std::collections::BTreeSet;
use std::future::pending;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::future::join_all;
use http::{Method, Request, Response};
use hyper::body::Incoming;
use reputation_gateway::clock::Clock;
use reputation_gateway::policy::money::Usd;
use reputation_gateway::sandbox::{self, Sandbox};
use reputation_gateway::server::{self, Abort, Server, Service};
use reputation_gateway::wire::body::Body;
use tempfile::TempDir;
use tokio::sync::watch;

use crate::harness::books::{self, Charge};
use crate::harness::process::{self, Process, text};
use crate::harness::{Answer, Ask, ENTERPRISE};

const CHECK: i64 = 100_000;
/// Numbers of each round, each of which is to be paid for once.
const NUMBERS: usize = 24;
/// `KILL_ROUNDS` asks for more.
const ROUNDS: usize = 20;

/// A sequence that is the same in every run (`SplitMix64`).
pub(crate) struct Seeded(pub(crate) u64);

impl Seeded {
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit
    }
}

/// The stand-in, which tells when a billable call has come. While it is armed it keeps some of them from ever being answered, so that
/// a kill finds calls in every state: not sent, sent, charged, and answered.
#[derive(Clone)]
pub(crate) struct Upstream {
    pub(crate) sandbox: Sandbox,
    pub(crate) armed: Arc<AtomicBool>,
    pub(crate) calls: Arc<watch::Sender<u64>>,
}

impl Upstream {
    /// Serves it, and tells where.
    pub(crate) async fn start(account: sandbox::Config) -> (Self, SocketAddr) {
        let sandbox = Sandbox::new(account, Clock::system());
        let upstream = Self { sandbox, armed: Arc::default(), calls: Arc::new(watch::Sender::new(0)) };
        let server = Server::bind(SocketAddr::from(([127, 0, 0, 1], 0)), &server::Config::default()).await.expect("a free port");
        let address = server.address();
        tokio::spawn(server.serve(upstream.clone(), pending()));
        (upstream, address)
    }
}

impl Service for Upstream {
    type Known = ();

    async fn call(&self, request: Request<Incoming>) -> Result<Response<Body>, Abort> {
        if !request.uri().path().contains("/numbers/") && request.method() != Method::POST {
            return self.sandbox.call(request).await;
        }
        let fate = if self.armed.load(Ordering::SeqCst) { Fate::of(request.uri().path()) } else { Fate::Answered };
        if fate == Fate::Lost {
            self.calls.send_modify(|calls| *calls += 1);
            return pending().await;
        }
        let answered = self.sandbox.call(request).await;
        self.calls.send_modify(|calls| *calls += 1);
        if fate == Fate::Charged { pending().await } else { answered }
    }
}

/// What becomes of a billable call while the stand-in is armed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Answered,
    /// Charged and never answered.
    Charged,
    /// Neither.
    Lost,
}

impl Fate {
    fn of(path: &str) -> Self {
        let mut seeded = Seeded(path.bytes().fold(0, |seed, byte| seed.wrapping_mul(31).wrapping_add(u64::from(byte))));
        match seeded.below(6) {
            0 => Self::Lost,
            1 | 2 => Self::Charged,
            _ => Self::Answered,
        }
    }
}

/// All that outlives a gateway.
struct Place {
    upstream: Upstream,
    directory: TempDir,
}

/// What the rounds came to.
#[derive(Debug, Default)]
struct Tally {
    /// Calls that were under way at a kill.
    held: usize,
    /// Of these, found to have worked by a free look.
    recovered: usize,
    /// The most that one kill made the ledger say too much, in checks.
    most_over: i64,
}

impl Place {
    async fn new(rounds: usize) -> Self {
        let numbers = u32::try_from(rounds * NUMBERS).expect("not so many rounds");
        Self::before(sandbox::Config { numbers, ..sandbox::Config::default() }).await
    }

    async fn before(account: sandbox::Config) -> Self {
        let (upstream, address) = Upstream::start(account).await;
        let directory = tempfile::tempdir().expect("a temporary directory");
        let config = format!(
            "[server]\nlisten = \"127.0.0.1:0\"\nworkers = 2\n[admin]\nlisten = \"127.0.0.1:0\"\n[auth]\nmode = \"open\"\n\
             allow = [\"fresh\", \"associate\", \"remediation\", \"enable\"]\n\
             [upstream]\nbase_url = \"http://{address}/v2\"\napi_key = \"upstream-key\"\ndefault_enterprise = \"{ENTERPRISE}\"\nrate = \"1000000/s\"\n\
             [fresh]\nrate = \"1000000/s\"\n[ledger]\npath = \"{}\"\n\
             [[budget]]\nname = \"all\"\nlimit = \"1000000.00\"\nwindow = \"month\"\n",
            text(&directory.path().join("ledger.sqlite")),
        );
        let later = config.replace("[fresh]", "[fresh]\nunknown_window = \"0s\"");
        std::fs::write(directory.path().join("gateway.toml"), config).expect("writable");
        std::fs::write(directory.path().join("later.toml"), later).expect("writable");
        Self { upstream, directory }
    }

    fn serve(&self) -> Process {
        Process::start(&["serve", "--config", text(&self.directory.path().join("gateway.toml"))])
    }

    /// A gateway to which no call can be under way any more.
    fn serve_later(&self) -> Process {
        Process::start(&["serve", "--config", text(&self.directory.path().join("later.toml"))])
    }

    fn ledger(&self) -> PathBuf {
        self.directory.path().join("ledger.sqlite")
    }

    fn charged(&self) -> i64 {
        self.upstream.sandbox.charges().total.micros()
    }

    /// The books of a gateway that has just started: nothing is held, nothing is missing, and its gauge says the same.
    async fn audited(&self, gateway: &Process, name: &str) -> Vec<Charge> {
        let book = books::charges(&self.ledger());
        let (posted, charged) = (books::posted(&book), self.charged());
        assert!(posted >= charged, "{name}: {posted} posted of {charged} charged");
        assert!(book.iter().all(|charge| charge.state != "held"), "{name}: {book:?}");
        let (code, report) = process::said(&["ledger", "verify", "--ledger", text(&self.ledger())]);
        assert_eq!(code, Some(0), "{name}: {report}");
        let metrics = Ask::new(gateway.address("admin"), "/metrics").send().await.text();
        let gauge = |series: &str| {
            let value = metrics.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix("{budget=\"all\"} "));
            value.expect(series).parse::<Usd>().expect("dollars").micros()
        };
        assert_eq!(gauge("reputation_gateway_budget_spent_usd"), posted, "{name}");
        assert_eq!(gauge("reputation_gateway_budget_held_usd"), 0, "{name}");
        assert!(metrics.contains("\nreputation_gateway_holds_open 0\n"), "{name}");
        book
    }
}

/// The `n`th number that was never checked, of as many as the rounds need.
fn number(n: usize) -> String {
    format!("+{}", 12_025_550_000 + n)
}

/// Asks for a number in the way that its place in the round says: `fresh=true`, a plain read, or both at once. Tells whether an answer
/// said that it was billed; a plain read may have been answered by a free look while the call was under way.
async fn ask(gateway: SocketAddr, at: usize, number: String) -> (String, bool) {
    let path = format!("/v2/reputation/numbers/{number}");
    let plain = Ask::new(gateway, &path).try_send();
    let fresh = Ask::new(gateway, &format!("{path}?fresh=true")).try_send();
    let answers = match at % 3 {
        0 => [fresh.await, None],
        1 => [None, plain.await],
        _ => tokio::join!(fresh, plain).into(),
    };
    (number, answers.iter().any(|answer| answer.as_ref().is_some_and(|answer| answer.header("x-gateway-billed") == "yes")))
}

/// Asks for all numbers at once, and kills the gateway when so many of the calls have come. Returns the numbers whose
/// callers were told that they were billed.
async fn spend_and_kill(place: &Place, gateway: Process, numbers: &[String], kill_after: u64) -> BTreeSet<String> {
    let address = gateway.address("listen");
    let mut calls = place.upstream.calls.subscribe();
    let enough = *calls.borrow() + kill_after;
    place.upstream.armed.store(true, Ordering::SeqCst);
    let clients: Vec<_> = numbers.iter().cloned().enumerate().map(|(at, number)| tokio::spawn(ask(address, at, number))).collect();
    calls.wait_for(|calls| *calls >= enough).await.expect("the stand-in stays");
    gateway.crash().await;
    place.upstream.armed.store(false, Ordering::SeqCst);
    let asked = join_all(clients).await.into_iter().map(|asked| asked.expect("nothing panics"));
    asked.filter_map(|(number, billed)| billed.then_some(number)).collect()
}

/// Asks for fresh data of every number of a round. What was under way is never sent again; what was never sent is bought now.
async fn ask_again(place: &Place, gateway: &Process, numbers: &[String], before: &[Charge], name: &str) -> usize {
    let fresh = |number: &str| Ask::new(gateway.address("listen"), &format!("/v2/reputation/numbers/{number}?fresh=true")).send();
    let charged = place.upstream.sandbox.charges();
    let answers: Vec<Answer> = join_all(numbers.iter().map(|number| fresh(number))).await;
    let mut recovered = 0;
    for (number, answer) in numbers.iter().zip(answers) {
        let charge = before.iter().find(|charge| charge.number == *number);
        let expected: &[_] = match charge.map(|charge| charge.state.as_str()) {
            None => &[(200, "billed")],
            Some("settled") => &[(200, "cooldown")],
            Some("assumed") if charged.number(number).count > 0 => &[(200, "recovered")],
            // A request that the dead gateway left on the wire may still be charged.
            Some("assumed") => &[(504, "outcome_unknown"), (200, "recovered")],
            Some(_) => &[],
        };
        assert!(expected.contains(&answer.outcome()), "{name}, {number}: {charge:?} {answer:?}");
        let cost = if charge.is_none() { "0.10" } else { "0.00" };
        assert_eq!(answer.header("x-gateway-cost-usd"), cost, "{name}, {number}: {answer:?}");
        recovered += usize::from(answer.header("x-gateway-decision") == "recovered");
    }
    recovered
}

/// Once no call bars them any more, the numbers whose calls left no trace are asked for again. Those calls stay counted: only the wall clock
/// could tell how old they are. Nothing else is ever counted too much.
async fn ask_for_the_rest(place: &Place, gateway: Process, over: i64) -> usize {
    gateway.terminate();
    gateway.ended().await;
    let gateway = place.serve_later();
    let unclear = books::charges(&place.ledger()).into_iter().filter(|charge| charge.state == "assumed");
    let numbers: Vec<_> = unclear.map(|charge| charge.number).collect();
    let address = gateway.address("listen");
    for some in numbers.chunks(NUMBERS) {
        let asked = some.iter().map(|number| Ask::new(address, &format!("/v2/reputation/numbers/{number}?fresh=true")).send());
        for answer in join_all(asked).await {
            assert_eq!(answer.outcome(), (200, "billed"), "{answer:?}");
        }
    }
    let charges = place.audited(&gateway, "the rest").await;
    assert_eq!(books::posted(&charges) - place.charged(), over);
    numbers.len()
}

/// One life of a gateway, and the beginning of the next. The last of the numbers were not asked for before, those before them in the last
/// round.
async fn round(place: &Place, gateway: Process, asked: &[String], kill_after: u64, name: &str, tally: &mut Tally) -> Process {
    let numbers = &asked[asked.len() - NUMBERS..];
    let over_before = books::posted(&books::charges(&place.ledger())) - place.charged();
    let billed = spend_and_kill(place, gateway, asked, kill_after).await;
    let left: BTreeSet<_> =
        books::charges(&place.ledger()).into_iter().filter(|charge| charge.state == "held").map(|charge| charge.number).collect();
    assert!(left.is_disjoint(&billed), "{name}: a caller knew before the ledger");
    assert!(left.iter().all(|number| numbers.contains(number)), "{name}: held for a number of the round before: {left:?}");

    let gateway = place.serve();
    let charges = place.audited(&gateway, name).await;
    let over = books::posted(&charges) - place.charged() - over_before;
    let under_way = i64::try_from(left.len()).expect("few");
    assert!(over <= under_way * CHECK, "{name}: {over} too much with {under_way} calls under way");
    let assumed: BTreeSet<_> = charges.iter().filter(|charge| charge.state == "assumed").map(|charge| charge.number.clone()).collect();
    assert!(assumed.is_superset(&left) && charges.iter().all(|charge| charge.state != "released"), "{name}: {charges:?}");

    tally.held += left.len();
    tally.recovered += ask_again(place, &gateway, numbers, &charges, name).await;
    tally.most_over = tally.most_over.max(over / CHECK);
    let charges = place.audited(&gateway, name).await;
    let of_round: Vec<_> = charges.iter().filter(|charge| numbers.contains(&charge.number)).collect();
    assert!(of_round.len() == numbers.len() && of_round.iter().all(|charge| charge.posted == CHECK), "{name}: {of_round:?}");
    gateway
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_is_killed_again_and_again_never_under_counts_nor_pays_twice() {
    let rounds = std::env::var("KILL_ROUNDS").map_or(ROUNDS, |rounds| rounds.parse().expect("a number of rounds"));
    let place = Place::new(rounds).await;
    let (mut seeded, mut tally) = (Seeded(1), Tally::default());
    let mut gateway = place.serve();
    for index in 0..rounds {
        let numbers: Vec<_> = (index.saturating_sub(1) * NUMBERS..(index + 1) * NUMBERS).map(number).collect();
        let kill_after = 1 + seeded.below(NUMBERS as u64);
        let name = format!("round {index}, killed after {kill_after} calls");
        gateway = round(&place, gateway, &numbers, kill_after, &name, &mut tally).await;
    }
    let charges = place.upstream.sandbox.charges();
    assert!(charges.by_number.values().all(|number| number.count == 1), "charged twice: {charges:?}");
    let over = books::posted(&place.audited(&gateway, "the end").await) - place.charged();
    assert!(tally.held > 0 && tally.recovered > 0 && over > 0, "no kill met a call under way: {tally:?}");
    let never_charged = i64::try_from(tally.held - tally.recovered).expect("few");
    assert!((0..=never_charged * CHECK).contains(&over), "{over} too much: {tally:?}");
    let unclear = ask_for_the_rest(&place, gateway, over).await;
    assert_eq!(i64::try_from(unclear).expect("few") * CHECK, over, "each of them was one that left no trace");
    eprintln!("{rounds} kills, {} calls charged, {} counted too much, {tally:?}", charges.count, over / CHECK);
}

/// Enterprises of whose orders a kill meets some.
const ENTERPRISES: usize = 15;

fn enterprise(n: usize) -> String {
    format!("6a09cdc3-8948-47f0-aa62-74ac943d6c{n:02x}")
}

/// What is ordered for the `n`th enterprise: an association, a remediation, or monitoring.
async fn order(gateway: SocketAddr, n: usize) -> Option<Answer> {
    let (path, body) = match n % 3 {
        0 => ("/numbers", r#"{"phone_numbers":["+13125550000"]}"#),
        1 => ("/remediation", r#"{"phone_numbers":["+16035551234"],"call_purpose":"appointments"}"#),
        _ => ("", r#"{"loa_document_id":"doc-1"}"#),
    };
    let ask = Ask::new(gateway, &format!("/v2/enterprises/{}/reputation{path}", enterprise(n))).method(Method::POST);
    ask.header("content-type", "application/json").body(body).try_send().await
}

/// How often the stand-in charged each enterprise.
fn charged(place: &Place) -> Vec<usize> {
    let last = place.upstream.sandbox.charges().last;
    (0..ENTERPRISES).map(|n| last.iter().filter(|charge| charge.enterprise_id == enterprise(n)).count()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn orders_under_way_at_a_kill_are_counted_and_none_is_charged_twice() {
    let enterprises = (0..ENTERPRISES).map(enterprise).collect();
    let place = Place::before(sandbox::Config { numbers: 1, enterprises, ..sandbox::Config::default() }).await;
    let gateway = place.serve();
    let address = gateway.address("listen");
    for n in (2..ENTERPRISES).step_by(3) {
        let path = format!("/v2/enterprises/{}/reputation", enterprise(n));
        assert_eq!(Ask::new(address, &path).method(Method::DELETE).send().await.status, 204);
    }
    let mut calls = place.upstream.calls.subscribe();
    place.upstream.armed.store(true, Ordering::SeqCst);
    let clients: Vec<_> = (0..ENTERPRISES).map(|n| tokio::spawn(async move { order(address, n).await })).collect();
    calls.wait_for(|calls| *calls >= ENTERPRISES as u64).await.expect("the stand-in stays");
    gateway.crash().await;
    place.upstream.armed.store(false, Ordering::SeqCst);
    let told: Vec<_> = join_all(clients).await.into_iter().map(|told| told.expect("nothing panics")).collect();
    let held = books::charges(&place.ledger()).iter().filter(|charge| charge.state == "held").count();
    assert!(held > 0, "no kill met an order under way");

    let gateway = place.serve();
    place.audited(&gateway, "after the kill").await;
    let before = charged(&place);
    for n in 0..ENTERPRISES {
        let (first, again) = (told[n].as_ref(), order(gateway.address("listen"), n).await.expect("an answer"));
        let name = format!("enterprise {n}, told {first:?}, then {again:?}");
        assert!(before[n] == 1 || first.is_none_or(|first| first.header("x-gateway-billed") != "yes"), "{name}");
        // A remediation leaves no trace, and Telnyx itself refuses the second one.
        let expected: &[u16] = match (n % 3, before[n]) {
            (0, 1) => &[201],
            (1, 1) => &[409],
            (2, 1) => &[201, 409],
            (1, _) => &[202],
            _ => &[504, 201],
        };
        assert!(expected.contains(&again.status.as_u16()), "{name}");
        assert!(before[n] == 0 || again.header("x-gateway-cost-usd") == "0.00", "{name}");
        assert!(charged(&place)[n] <= 1, "{name}");
    }
    let book = place.audited(&gateway, "after all was ordered again").await;
    let unclear: i64 = book.iter().filter(|charge| charge.state == "assumed").map(|charge| charge.posted).sum();
    let over = books::posted(&book) - place.charged();
    assert!((0..=unclear).contains(&over), "{over} too much, {unclear} unclear: {book:?}");
}
