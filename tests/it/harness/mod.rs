//! A gateway in this process, with a sandbox behind it and a clock that is turned by hand.

pub(crate) mod books;
pub(crate) mod cable;
pub(crate) mod callers;
pub(crate) mod chaos;
mod client;
pub(crate) mod contract;
pub(crate) mod frames;
mod gate;
pub(crate) mod hook;
mod listen;
pub(crate) mod origin;
pub(crate) mod process;
pub(crate) mod receiver;
pub(crate) mod redis;
mod wire;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http::Method;
use reputation_gateway::app::{App, Reload, Source};
use reputation_gateway::clock::Clock;
use reputation_gateway::config::{Config, InForce, LoadError};
use reputation_gateway::gateway::{ApplyError, Live};
use reputation_gateway::sandbox::{self, Charges, Fault, Sandbox};
use reputation_gateway::server::{self, Server};
use reputation_gateway::units::OneOrMany;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

pub(crate) use client::{Answer, Ask, exchange};
pub(crate) use gate::Gate;
pub(crate) use origin::Origin;
pub(crate) use wire::{Raw, Wire};

pub(crate) const ENTERPRISE: &str = sandbox::ENTERPRISE;
/// Has data from the start.
pub(crate) const STORED: &str = sandbox::WITH_DATA;
/// Never has data.
pub(crate) const NULL: &str = sandbox::WITHOUT_DATA;
/// Was never checked; so were the numbers after it.
pub(crate) const UNCHECKED: &str = "+12025550000";
/// Is not associated.
pub(crate) const ABSENT: &str = "+19995550000";

/// The `n`th number that was never checked.
pub(crate) fn unchecked(n: usize) -> String {
    format!("+1202555{n:04}")
}

/// Open, generous, with rates that never bind: the clock stands still unless it is turned.
const BASE: &str = r#"
[auth]
mode = "open"
[upstream]
api_key = "upstream-key"
default_enterprise = "6a09cdc3-8948-47f0-aa62-74ac943d6c58"
rate = "1000000/s"
timeout = "5s"
[fresh]
rate = "1000000/s"
[cache]
ttl_jitter = 0.0
"#;

/// Ten dollars a day.
pub(crate) const BUDGET: &str = "[[budget]]\nname = \"all-day\"\nlimit = \"10.00\"\nwindow = \"day\"\n";

/// Long after any event that a test waits for: one that does not come is a fault, and no reason to hang.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Waits until a gateway knows of every call what became of it.
pub(crate) async fn resolved(admin: SocketAddr) {
    while !Ask::new(admin, "/metrics").send().await.text().contains("\nreputation_gateway_calls_unresolved 0\n") {
        tokio::task::yield_now().await;
    }
}

/// A running gateway and all around it.
pub(crate) struct World {
    pub(crate) clock: Clock,
    pub(crate) sandbox: Sandbox,
    pub(crate) gateway: SocketAddr,
    pub(crate) admin: SocketAddr,
    /// Between the gateway and the sandbox of a gated world.
    pub(crate) gate: Gate,
    upstream: Upstream,
    directory: TempDir,
    config: Config,
    run: Run,
}

/// How requests go upstream.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Straight,
    Gated,
    /// To an upstream of the test's own.
    To(SocketAddr),
}

struct Run {
    live: Live,
    stop: CancellationToken,
    ended: tokio::task::JoinHandle<()>,
}

struct Upstream {
    address: SocketAddr,
    stop: CancellationToken,
    ended: tokio::task::JoinHandle<()>,
}

impl World {
    /// A gateway with ten dollars a day.
    pub(crate) async fn new() -> Self {
        Self::with(BUDGET, |_| {}).await
    }

    /// A gateway with these settings over the base: whole tables as TOML, single values by `change`.
    pub(crate) async fn with(tables: &str, change: impl FnOnce(&mut Config)) -> Self {
        Self::of(configured(tables, change), sandbox::Config::default(), Way::Straight).await
    }

    /// The same before a stand-in of the test's own making.
    pub(crate) async fn over(standin: sandbox::Config, tables: &str, change: impl FnOnce(&mut Config)) -> Self {
        Self::of(configured(tables, change), standin, Way::Straight).await
    }

    /// The same before an account of these enterprises, of which none is the default.
    pub(crate) async fn of_account(enterprises: &[&str], tables: &str, change: impl FnOnce(&mut Config)) -> Self {
        Self::of_account_by(Way::Straight, enterprises, configured(tables, change)).await
    }

    /// The same with the gate between the gateway and its upstream.
    pub(crate) async fn gated_account(enterprises: &[&str], tables: &str, change: impl FnOnce(&mut Config)) -> Self {
        Self::of_account_by(Way::Gated, enterprises, configured(tables, change)).await
    }

    async fn of_account_by(way: Way, enterprises: &[&str], mut config: Config) -> Self {
        config.upstream.default_enterprise = None;
        let enterprises = enterprises.iter().map(ToString::to_string).collect();
        Self::of(config, sandbox::Config { enterprises, ..sandbox::Config::default() }, way).await
    }

    /// A gateway with the gate between it and its upstream.
    pub(crate) async fn gated(tables: &str, change: impl FnOnce(&mut Config)) -> Self {
        Self::of(configured(tables, change), sandbox::Config::default(), Way::Gated).await
    }

    /// The same before an upstream of the test's own.
    pub(crate) async fn before(origin: SocketAddr, tables: &str, change: impl FnOnce(&mut Config)) -> Self {
        Self::of(configured(tables, change), sandbox::Config::default(), Way::To(origin)).await
    }

    async fn of(mut config: Config, standin: sandbox::Config, way: Way) -> Self {
        let clock = Clock::manual("2026-03-24T12:00:00Z".parse().expect("a time"));
        let sandbox = Sandbox::new(standin, clock.clone());
        let upstream = Upstream::start(SocketAddr::from(([127, 0, 0, 1], 0)), &sandbox).await;
        let gate = Gate::before(upstream.address).await;
        let directory = tempfile::tempdir().expect("a temporary directory");
        config.ledger.path = directory.path().join("ledger.sqlite");
        config.cache.snapshot = config.cache.snapshot.map(|name| directory.path().join(name));
        let above = match way {
            Way::Straight => upstream.address,
            Way::Gated => gate.address,
            Way::To(origin) => origin,
        };
        config.upstream.base_url = format!("http://{above}/v2").parse().expect("a URL");
        config.server.listen = OneOrMany::One(SocketAddr::from(([127, 0, 0, 1], 0)));
        config.admin.listen = SocketAddr::from(([127, 0, 0, 1], 0));
        let (gateway, admin, run) = Run::start(&config, &clock).await;
        Self { clock, sandbox, gateway, admin, gate, upstream, directory, config, run }
    }

    /// Asks the gateway, in any way.
    pub(crate) fn ask(&self, path: &str) -> Ask {
        Ask::new(self.gateway, path)
    }

    /// A read of one number, by its simplified path.
    pub(crate) async fn read(&self, number: &str) -> Answer {
        self.ask(&format!("/v2/reputation/numbers/{number}")).send().await
    }

    /// A read with `fresh=true`.
    pub(crate) async fn fresh(&self, number: &str) -> Answer {
        self.ask(&format!("/v2/reputation/numbers/{number}?fresh=true")).send().await
    }

    /// Asks the admin listener, whose answer has to be one of its document's.
    pub(crate) async fn admin(&self, path: &str) -> Answer {
        let answer = Ask::new(self.admin, path).send().await;
        contract::CONTRACT.check(&Method::GET, path, &answer).unwrap_or_else(|why| panic!("{path}: {why}"));
        answer
    }

    /// The value of one series, as it is written.
    pub(crate) async fn metric(&self, series: &str) -> String {
        let scrape = self.admin("/metrics").await.text();
        let line = scrape.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no series {series}")).to_owned()
    }

    /// What the sandbox charged.
    pub(crate) fn charges(&self) -> Charges {
        self.sandbox.charges()
    }

    /// How many dollars the sandbox charged.
    pub(crate) fn charged(&self) -> String {
        self.charges().total.to_string()
    }

    /// Where the sandbox listens.
    pub(crate) fn upstream(&self) -> SocketAddr {
        self.upstream.address
    }

    /// How many requests reached the sandbox.
    pub(crate) fn sent(&self) -> usize {
        self.sandbox.requests().len()
    }

    pub(crate) fn fault(&self, fault: Fault) {
        self.sandbox.script(fault);
    }

    pub(crate) fn turn(&self, time: Duration) {
        self.clock.advance(time);
    }

    /// Stops the upstream: connections are refused from now on.
    pub(crate) async fn cut_upstream(&mut self) {
        self.upstream.stop.cancel();
        (&mut self.upstream.ended).await.expect("the upstream stops");
    }

    /// Starts the upstream where it was.
    pub(crate) async fn mend_upstream(&mut self) {
        self.upstream = Upstream::start(self.upstream.address, &self.sandbox).await;
    }

    /// Waits until so many requests have reached the sandbox.
    pub(crate) async fn reached(&self, requests: usize) {
        let reached = async {
            while self.sent() < requests {
                tokio::task::yield_now().await;
            }
        };
        let in_time = tokio::time::timeout(PATIENCE, reached).await;
        assert!(in_time.is_ok(), "{} requests have reached the sandbox instead of {requests}", self.sent());
    }

    /// Waits until it is known of every call what became of it.
    pub(crate) async fn resolved(&self) {
        resolved(self.admin).await;
    }

    /// Tells the gateway to stop, as SIGTERM would.
    pub(crate) fn begin_stop(&self) {
        self.run.stop.cancel();
    }

    /// Stops the gateway, and waits until it has drained.
    pub(crate) async fn stop(&mut self) {
        self.begin_stop();
        (&mut self.run.ended).await.expect("the gateway stops");
    }

    /// Puts the world's configuration in force with a change.
    pub(crate) async fn apply(&mut self, change: impl FnOnce(&mut Config)) -> Result<Arc<InForce>, ApplyError> {
        let mut wanted = self.config.clone();
        change(&mut wanted);
        let applied = self.run.live.apply(wanted.clone()).await;
        if applied.is_ok() {
            self.config = wanted;
        }
        applied
    }

    /// What puts configurations in force, for whoever does it beside the test.
    pub(crate) fn live(&self) -> (Live, Config) {
        (self.run.live.clone(), self.config.clone())
    }

    /// Stops the gateway, and starts one anew that reads this file, and reads it again when it changes. Where the world is, is not the file's to say.
    pub(crate) async fn reading(&mut self, file: &Path) {
        self.stop().await;
        let (path, places) = (file.to_owned(), self.config.clone());
        let load = move || {
            let mut config = Config::load(Some(&path), [])?;
            config.upstream.base_url = places.upstream.base_url.clone();
            (config.server.listen, config.admin.listen) = (places.server.listen.clone(), places.admin.listen);
            config.ledger.path.clone_from(&places.ledger.path);
            Ok(config)
        };
        let config = load().unwrap_or_else(|error: LoadError| panic!("{error}"));
        let app = App::start(&config, &self.clock).await.unwrap_or_else(|error| panic!("{error}"));
        let source = Source { file: Some(file.to_owned()), load: Arc::new(load) };
        (self.gateway, self.admin, self.run) = Run::of(app.reading(source));
    }

    /// Stops the gateway, and starts one anew whose configuration is read so, and again when somebody asks for it.
    pub(crate) async fn read_by(&mut self, load: impl Fn() -> Result<Config, LoadError> + Send + Sync + 'static) -> Reload {
        self.stop().await;
        let config = load().unwrap_or_else(|error| panic!("{error}"));
        let app = App::start(&config, &self.clock).await.unwrap_or_else(|error| panic!("{error}"));
        let app = app.reading(Source { file: None, load: Arc::new(load) });
        let reload = app.reload().expect("it has a source");
        (self.gateway, self.admin, self.run) = Run::of(app);
        reload
    }

    /// The configuration in force, as operators see it.
    pub(crate) async fn in_force(&self) -> serde_json::Value {
        self.admin("/admin/v1/config").await.json()["data"].take()
    }

    /// Starts a stopped gateway anew on its ledger, with nothing in its memory.
    pub(crate) async fn restart(&mut self) {
        (self.gateway, self.admin, self.run) = Run::start(&self.config, &self.clock).await;
    }

    /// Where the cache is kept over a restart, in worlds that name the file.
    pub(crate) fn snapshot(&self) -> std::path::PathBuf {
        self.config.cache.snapshot.clone().expect("the configuration names one")
    }

    pub(crate) fn ledger(&self) -> std::path::PathBuf {
        self.directory.path().join("ledger.sqlite")
    }
}

/// A file's text with these settings over the base.
pub(crate) fn settings(tables: &str) -> String {
    format!("{BASE}{tables}")
}

fn configured(tables: &str, change: impl FnOnce(&mut Config)) -> Config {
    let mut config = Config::parse(&settings(tables), "test", []).expect("a configuration");
    change(&mut config);
    config
}

impl Run {
    async fn start(config: &Config, clock: &Clock) -> (SocketAddr, SocketAddr, Self) {
        Self::of(App::start(config, clock).await.unwrap_or_else(|error| panic!("{error}")))
    }

    fn of(app: App) -> (SocketAddr, SocketAddr, Self) {
        let live = app.live();
        let (gateway, admin) = (app.addresses()[0], app.admin_address());
        let stop = CancellationToken::new();
        let ended = tokio::spawn(app.run(stop.clone().cancelled_owned()));
        (gateway, admin, Self { live, stop, ended })
    }
}

impl Upstream {
    async fn start(address: SocketAddr, sandbox: &Sandbox) -> Self {
        let limits = server::Config { drain_timeout: "0s".parse().expect("a time"), ..server::Config::default() };
        let server = Server::bind(address, &limits).await.expect("a free port");
        let address = server.address();
        let stop = CancellationToken::new();
        let ended = tokio::spawn(server.serve(sandbox.clone(), stop.clone().cancelled_owned()));
        Self { address, stop, ended }
    }
}
