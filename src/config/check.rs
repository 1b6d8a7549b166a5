//! Mixes of settings that are each valid and together unsafe or without effect. All are found, so that one look mends them.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::time::Duration;

use super::Config;
use crate::auth::{ANONYMOUS, Mode};
use crate::policy::money::Usd;
use crate::policy::routes::Route;
use crate::server::Certificates;
use crate::units::{ByteSize, Span};
use crate::{cache, webhook};

/// A mix of settings that a gateway does not start with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {why}")]
pub struct Unsafe {
    /// The key to change.
    pub key: String,
    /// What is wrong, and how to mend it.
    pub why: String,
}

/// More of anything at once than a machine has.
const LARGEST_COUNT: usize = 1_000_000;
/// More threads than any machine has cores.
const MOST_WORKERS: usize = 1024;
/// A request of an official SDK takes about as much.
const SMALLEST_HEAD: ByteSize = ByteSize(1024);
/// RFC 9113, 4.2.
const FRAME_SIZES: std::ops::Range<usize> = 16 * 1024..16 * 1024 * 1024;
/// The longest window of a budget, and a day for its time zone.
const SHORTEST_RETENTION: Duration = Duration::from_hours(32 * 24);
/// An upstream that is left alone for longer is not in use.
const LONGEST_PAUSE: Duration = Duration::from_hours(1);
/// Lists do not change sooner than somebody looks.
const SHORTEST_INTERVAL: Duration = Duration::from_secs(10);
/// Longer than a large cache takes to be written.
const SHORTEST_SNAPSHOT: Duration = Duration::from_secs(1);
/// Longer than anything here is kept.
const LONGEST_LIFE: Duration = Duration::from_hours(50 * 365 * 24);

/// What is found while checking.
#[derive(Default)]
struct Findings(Vec<Unsafe>);

impl Findings {
    fn refuse_if(&mut self, wrong: bool, key: &str, why: impl Into<String>) {
        if wrong {
            self.0.push(Unsafe { key: key.to_owned(), why: why.into() });
        }
    }
}

impl Config {
    /// Every unsafe mix; none, if the gateway may start.
    pub fn unsafe_mixes(&self) -> Vec<Unsafe> {
        let mut findings = Findings::default();
        self.check_listeners(&mut findings);
        self.check_connections(&mut findings);
        self.check_upstream(&mut findings);
        self.check_callers(&mut findings);
        self.check_routes(&mut findings);
        self.check_budgets(&mut findings);
        let faults = self.shared.faults().into_iter().chain(self.telemetry.faults());
        let faults = faults.chain(self.webhook.iter().flat_map(webhook::Config::faults));
        findings.0.extend(faults.map(|(key, why)| Unsafe { key: key.to_owned(), why }));
        for (nth, webhook) in self.webhook.iter().enumerate() {
            let again = self.webhook[..nth].iter().any(|former| former.url == webhook.url);
            findings.refuse_if(again, "webhook.url", format!("{} stands there twice", webhook.url));
        }
        findings.0
    }

    /// What is allowed and probably not meant.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        let enterprise_keys = self.enterprise.iter().filter_map(|enterprise| enterprise.api_key.as_ref());
        let redis = self.shared.redis_url.as_ref().filter(|url| url.read().is_ok_and(|url| url.expose().contains('@')));
        let further = self.telemetry.otlp_headers.values().chain(self.webhook.iter().map(|webhook| &webhook.secret));
        let secrets =
            [Some(&self.upstream.api_key), self.admin.token.as_ref(), redis].into_iter().flatten().chain(enterprise_keys).chain(further);
        if secrets.into_iter().any(crate::secret::Secret::is_plain) {
            warnings.push("a secret stands in the configuration itself: { env = \"NAME\" } or { file = \"PATH\" } keeps it out".to_owned());
        }
        if self.telemetry.otlp_endpoint.is_none() && !self.telemetry.otlp_headers.is_empty() {
            warnings.push("telemetry.otlp_headers does nothing without telemetry.otlp_endpoint".to_owned());
        }
        if self.server.tls.is_none() && self.auth.mode != Mode::Open && self.server.listen.as_slice().iter().any(is_exposed) {
            let why = "server.listen is beyond loopback without server.tls, so callers' keys can be read on the way unless something before it speaks TLS";
            warnings.push(why.to_owned());
        }
        if self.budget.is_empty() {
            warnings.push("there is no [[budget]], so nothing will be spent: fresh=true and first reads answer 402".to_owned());
        }
        if self.sync.enabled && self.auth.mode == Mode::Forward {
            warnings.push("sync.enabled does nothing in mode \"forward\": there is no key to read the lists with".to_owned());
        } else if self.sync.enabled && self.enterprises().is_empty() {
            warnings.push("sync.enabled reads no list, since no enterprise is named: set upstream.default_enterprise".to_owned());
        }
        if self.cache.snapshot.is_some() && self.auth.mode == Mode::Forward {
            warnings
                .push("cache.snapshot does nothing in mode \"forward\": what a caller's key fetched is not written to a disk".to_owned());
        }
        if self.cache.null_ttl.0.is_zero() {
            warnings.push("cache.null_ttl is 0, so each read of a number without data is paid anew".to_owned());
        }
        if !self.budget.is_empty() && !self.budget.iter().any(|budget| budget.enforce) {
            warnings.push("every [[budget]] is a dry run, so nothing limits what is spent".to_owned());
        }
        for budget in self.budget.iter().filter(|budget| budget.enforce && budget.limit < self.prices.check) {
            warnings.push(format!("budget {:?} is too small for one check, so it refuses all that it applies to", budget.name));
        }
        let remembered_for = self.fresh.min_age.0.max(self.cache.null_ttl.0).as_secs_f64();
        let paid = f64::from(self.fresh.rate.count.get()) / self.fresh.rate.per.length().as_secs_f64() * remembered_for;
        #[allow(clippy::cast_precision_loss, reason = "a warning need not be exact")]
        if paid > self.fresh.remembered_numbers as f64 {
            let why = "fresh.remembered_numbers is less than fresh.rate allows within min_age or null_ttl: what was paid for may be forgotten, and paid again";
            warnings.push(why.to_owned());
        }
        warnings
    }

    fn check_listeners(&self, findings: &mut Findings) {
        let addresses = self.server.listen.as_slice();
        findings.refuse_if(addresses.is_empty(), "server.listen", "names no address");
        findings.refuse_unless_within(self.server.max_connections, "server.max_connections");
        let workers = self.server.workers;
        findings.refuse_if(workers > MOST_WORKERS, "server.workers", format!("{workers} is more than {MOST_WORKERS}"));
        let fixed = addresses.iter().chain([&self.admin.listen]).filter(|address| address.port() != 0);
        findings.refuse_twice(fixed.map(ToString::to_string), "server.listen, admin.listen");
        let open = self.auth.mode == Mode::Open && !self.auth.trusted_network && addresses.iter().any(is_exposed);
        let why = "open beyond loopback lets every machine that reaches it spend: use keys, or set trusted_network = true";
        findings.refuse_if(open, "auth.mode", why);
        let why = "an address beyond loopback needs admin.token, since budgets and spending are shown there";
        findings.refuse_if(self.admin.token.is_none() && is_exposed(&self.admin.listen), "admin.listen", why);
        let unread = self.admin.token.as_ref().and_then(|token| token.read().err());
        findings.refuse_if(unread.is_some(), "admin.token", unread.map(|error| error.to_string()).unwrap_or_default());
    }

    fn check_connections(&self, findings: &mut Findings) {
        let server = &self.server;
        let head = server.max_header_size;
        findings.refuse_if(head < SMALLEST_HEAD, "server.max_header_size", format!("{head} is less than {SMALLEST_HEAD}, and refuses all"));
        let why = format!("{} is less than max_body_size, so a long body would never find room", server.max_buffered);
        findings.refuse_if(server.max_buffered < server.max_body_size, "server.max_buffered", why);
        let streams = usize::try_from(server.http2_max_streams).unwrap_or(usize::MAX);
        findings.refuse_unless_within(streams, "server.http2_max_streams");
        findings.refuse_unless_within(server.http2_max_resets, "server.http2_max_resets");
        findings.refuse_unless_within(server.http2_max_malformed, "server.http2_max_malformed");
        let frame = server.http2_max_frame_size;
        let why = format!("{frame} is not from 16KiB to below 16MiB");
        findings.refuse_if(!FRAME_SIZES.contains(&frame.0), "server.http2_max_frame_size", why);
        let buffer = server.http2_send_buffer;
        let why = format!("{buffer} is not from 1KiB to below 16MiB");
        findings.refuse_if(!(1024..FRAME_SIZES.end).contains(&buffer.0), "server.http2_send_buffer", why);
        if let Some(Err(wrong)) = server.tls.as_ref().map(Certificates::load) {
            findings.refuse_if(true, &format!("server.tls.{}", wrong.key), format!("{}: {}", wrong.path.display(), wrong.why));
        }
    }

    fn check_upstream(&self, findings: &mut Findings) {
        let upstream = &self.upstream;
        let why = "plain http beyond this machine would show keys to everybody on the way: use https";
        findings.refuse_if(upstream.base_url.exposes_keys(), "upstream.base_url", why);
        findings.refuse_unless_within(upstream.max_in_flight, "upstream.max_in_flight");
        findings.refuse_unless_within(upstream.max_queue.max(1), "upstream.max_queue");
        findings.refuse_unless_within(upstream.max_streams, "upstream.max_streams");
        findings.refuse_if(upstream.timeout.0.is_zero(), "upstream.timeout", "0 would wait for no answer");
        findings.refuse_if(upstream.connect_timeout.0.is_zero(), "upstream.connect_timeout", "0 would wait for no connection");
        findings.refuse_if(upstream.breaker_pause.0 > LONGEST_PAUSE, "upstream.breaker_pause", "is longer than an hour");
        let why = format!("{} is shorter than {}: the lists would be read without a pause", self.sync.interval, Span(SHORTEST_INTERVAL));
        findings.refuse_if(self.sync.interval.0 < SHORTEST_INTERVAL, "sync.interval", why);
        let cache = &self.cache;
        let snapshot = cache.snapshot.as_ref();
        let is_no_file = snapshot.is_some_and(|path| path.file_name().is_none());
        findings.refuse_if(is_no_file, "cache.snapshot", "names no file");
        findings.refuse_if(snapshot == Some(&self.ledger.path), "cache.snapshot", "is the ledger's file, which it would replace");
        let why =
            format!("{} is shorter than {}: the disk would be written without a pause", cache.snapshot_interval, Span(SHORTEST_SNAPSHOT));
        findings.refuse_if(cache.snapshot_interval.0 < SHORTEST_SNAPSHOT, "cache.snapshot_interval", why);
        findings.refuse_unless_within(cache.max_waiters, "cache.max_waiters");
        let (kept, why) = (self.telemetry.decisions, format!("more than {LARGEST_COUNT} requests are not kept in memory"));
        findings.refuse_if(kept > LARGEST_COUNT, "telemetry.decisions", why);
        findings.refuse_if(cache.wait_timeout.0.is_zero(), "cache.wait_timeout", "0 would wait for no look");
        let why = "a lifetime is longer than 50 years";
        findings.refuse_if(cache.list_ttl.0 > LONGEST_LIFE || longest(cache) > LONGEST_LIFE, "cache", why);
        findings.refuse_if(self.caches().values().any(|own| longest(own) > LONGEST_LIFE), "enterprise.cache", why);
        if self.auth.mode != Mode::Forward {
            let unread = upstream.api_key.read().err();
            findings.refuse_if(unread.is_some(), "upstream.api_key", unread.map(|error| error.to_string()).unwrap_or_default());
        }
        for enterprise in &self.enterprise {
            let unread = enterprise.api_key.as_ref().and_then(|key| key.read().err());
            findings.refuse_if(
                unread.is_some(),
                "enterprise.api_key",
                format!("of {}: {}", enterprise.id, unread.map(|error| error.to_string()).unwrap_or_default()),
            );
        }
        let ids = self.enterprise.iter().map(|enterprise| enterprise.id.to_string());
        findings.refuse_twice(ids, "enterprise.id");
    }

    fn check_callers(&self, findings: &mut Findings) {
        let none = self.auth.mode == Mode::Keys && self.caller.is_empty();
        findings.refuse_if(
            none,
            "caller",
            "mode \"keys\" needs a [[caller]]: `reputation-gateway key new` makes a key and prints its SHA-256",
        );
        findings.refuse_twice(self.caller.iter().map(|caller| caller.name.clone()), "caller.name");
        findings
            .refuse_twice(self.caller.iter().flat_map(|caller| caller.key_sha256.as_slice()).map(ToString::to_string), "caller.key_sha256");
        for caller in &self.caller {
            let reserved = caller.name == ANONYMOUS || caller.name.is_empty();
            findings.refuse_if(reserved, "caller.name", format!("{:?} is no name for a caller with a key", caller.name));
            let outside =
                caller.default_enterprise.zip(caller.enterprises.as_ref()).is_some_and(|(default, list)| !list.contains(&default));
            findings.refuse_if(outside, "caller.default_enterprise", format!("of {:?} is not among its enterprises", caller.name));
        }
    }

    fn check_routes(&self, findings: &mut Findings) {
        for route in &self.route {
            let path = &route.path;
            findings.refuse_if(route.methods.is_empty(), "route.methods", format!("the route to {path} has no method"));
            for name in route.callers.iter().flatten().filter(|name| !self.knows(name)) {
                findings.refuse_if(true, "route.callers", format!("the route to {path} is for {name:?}, which is not configured"));
            }
            let is_for_nobody = route.callers.as_ref().is_some_and(Vec::is_empty);
            findings.refuse_if(
                is_for_nobody,
                "route.callers",
                format!("the route to {path} is for nobody: leave callers out for everybody"),
            );
        }
        let each = |route: &Route| route.methods.iter().map(|method| format!("{method} {}", route.path)).collect::<Vec<_>>();
        findings.refuse_twice(self.route.iter().flat_map(each), "route");
    }

    /// Whether a caller of this name can be.
    fn knows(&self, name: &str) -> bool {
        name == ANONYMOUS || self.caller.iter().any(|caller| caller.name == name)
    }

    fn check_budgets(&self, findings: &mut Findings) {
        findings.refuse_twice(self.budget.iter().map(|budget| budget.name.clone()), "budget.name");
        findings.refuse_if(self.budget.iter().any(|budget| budget.name.is_empty()), "budget.name", "a budget has no name");
        findings.refuse_if(self.ledger.path.as_os_str().is_empty(), "ledger.path", "names no file");
        let retention = self.ledger.retention;
        let why = format!("{retention} is shorter than a month, whose budgets would forget what was spent: keep at least 32d");
        findings.refuse_if(retention.0 < SHORTEST_RETENTION, "ledger.retention", why);
        let own = self.caches();
        let memory = own.values().chain([&self.cache]).map(|cache| self.policy_with(cache).memory()).max().unwrap_or_default();
        let why =
            "is shorter than fresh.min_age, fresh.unknown_window or cache.null_ttl: what was paid for would be forgotten, and paid again";
        findings.refuse_if(retention.0 < memory, "ledger.retention", why);
        let why = "0 would forget at once what was paid for, and pay for it again";
        findings.refuse_if(self.fresh.remembered_numbers == 0, "fresh.remembered_numbers", why);
        findings.refuse_if(self.prices.check == Usd::ZERO, "prices.check", "0 would let every budget pay for any number of checks");
        for budget in &self.budget {
            let stranger = budget.caller.as_deref().is_some_and(|name| !self.knows(name));
            findings.refuse_if(stranger, "budget.caller", format!("budget {:?} is for a caller that is not configured", budget.name));
        }
    }
}

/// The longest of a cache's lifetimes.
fn longest(cache: &cache::Config) -> Duration {
    let lives = [cache.ttl, cache.null_ttl, cache.negative_ttl, cache.stale_while_revalidate, cache.stale_if_error, cache.error_ttl];
    lives.into_iter().max().unwrap_or_default().0
}

fn is_exposed(address: &SocketAddr) -> bool {
    !address.ip().is_loopback()
}

impl Findings {
    fn refuse_unless_within(&mut self, count: usize, key: &str) {
        self.refuse_if(!(1..=LARGEST_COUNT).contains(&count), key, format!("{count} is not from 1 to {LARGEST_COUNT}"));
    }

    fn refuse_twice(&mut self, values: impl Iterator<Item = String>, key: &str) {
        let mut seen = HashSet::new();
        for value in values {
            let again = !seen.insert(value.clone());
            self.refuse_if(again, key, format!("{value:?} stands there twice"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALLER: &str =
        "[[caller]]\nname = \"dialer\"\nkey_sha256 = \"0000000000000000000000000000000000000000000000000000000000000000\"\n";
    const KEY: &str = "[upstream]\napi_key = \"KEY\"\n";

    fn refused(text: &str) -> Vec<String> {
        let config = Config::parse(text, "gateway.toml", []).expect("parses");
        config.unsafe_mixes().into_iter().map(|mix| mix.key).collect()
    }

    #[test]
    fn a_safe_configuration_is_let_through() {
        assert_eq!(refused(&format!("{KEY}{CALLER}")), Vec::<String>::new());
        assert_eq!(refused("[auth]\nmode = \"forward\"\n"), Vec::<String>::new());
    }

    #[test]
    fn unsafe_mixes_are_refused_by_their_key() {
        let keys = format!("{KEY}{CALLER}");
        for (text, key) in [
            (format!("{KEY}[auth]\nmode = \"open\"\n[server]\nlisten = \"0.0.0.0:8080\"\n"), "auth.mode"),
            (format!("{keys}[admin]\nlisten = \"0.0.0.0:8081\"\n"), "admin.listen"),
            (format!("{keys}[admin]\ntoken = {{ env = \"REPUTATION_GATEWAY_TEST_UNSET\" }}\n"), "admin.token"),
            (format!("{CALLER}[upstream]\napi_key = {{ env = \"REPUTATION_GATEWAY_TEST_UNSET\" }}\n"), "upstream.api_key"),
            (format!("{CALLER}{KEY}base_url = \"http://10.0.0.1/v2\"\n"), "upstream.base_url"),
            (KEY.to_owned(), "caller"),
            (format!("{keys}{CALLER}"), "caller.name"),
            (format!("{keys}[server]\nmax_buffered = \"1KiB\"\n"), "server.max_buffered"),
            (format!("{keys}[server]\nhttp2_max_streams = 0\n"), "server.http2_max_streams"),
            (format!("{keys}[server]\nhttp2_max_frame_size = \"16MiB\"\n"), "server.http2_max_frame_size"),
            (format!("{keys}[server]\ntls = {{ certificate = \"none.crt\", private_key = \"none.key\" }}\n"), "server.tls.certificate"),
            (format!("{KEY}max_streams = 0\n{CALLER}"), "upstream.max_streams"),
            (format!("{keys}[cache]\nsnapshot = \"ledger.sqlite\"\n"), "cache.snapshot"),
            (format!("{keys}[cache]\nsnapshot = \"\"\n"), "cache.snapshot"),
            (format!("{keys}[cache]\nsnapshot_interval = \"999ms\"\n"), "cache.snapshot_interval"),
            (format!("{keys}[sync]\ninterval = \"9s\"\n"), "sync.interval"),
            (format!("{keys}[[route]]\nmethods = []\npath = \"/a\"\n"), "route.methods"),
            (format!("{keys}[[route]]\nmethods = [\"GET\"]\npath = \"/a\"\ncallers = [\"nobody\"]\n"), "route.callers"),
            (format!("{keys}[[route]]\nmethods = [\"GET\"]\npath = \"/a\"\ncallers = []\n"), "route.callers"),
            (format!("{keys}[[route]]\nmethods = [\"GET\", \"GET\"]\npath = \"/a\"\n"), "route"),
            (format!("{keys}[[route]]\nmethods = [\"GET\"]\npath = \"/a\"\n[[route]]\nmethods = [\"GET\"]\npath = \"/v2/a\"\n"), "route"),
            (
                format!("{keys}[telemetry]\notlp_endpoint = \"http://10.0.0.1:4318\"\notlp_headers = {{ authorization = \"x\" }}\n"),
                "telemetry.otlp_endpoint",
            ),
            (format!("{keys}[telemetry]\notlp_headers = {{ \"a b\" = \"x\" }}\n"), "telemetry.otlp_headers"),
            (format!("{keys}[ledger]\nretention = \"31d\"\n"), "ledger.retention"),
            (format!("{keys}[[webhook]]\nurl = \"http://10.0.0.1/\"\nsecret = {{ env = \"X\" }}\n"), "webhook.url"),
            (
                format!("{keys}[[webhook]]\nurl = \"https://host/\"\nsecret = {{ env = \"REPUTATION_GATEWAY_TEST_UNSET\" }}\n"),
                "webhook.secret",
            ),
            (format!("{keys}[cache]\nnull_ttl = \"60d\"\n[ledger]\nretention = \"40d\"\n"), "ledger.retention"),
            (format!("{keys}[[budget]]\nname = \"x\"\nlimit = \"1.00\"\nwindow = \"day\"\ncaller = \"nobody\"\n"), "budget.caller"),
        ] {
            assert!(refused(&text).contains(&key.to_owned()), "{key} is let through in\n{text}");
        }
        let trusted = format!("{KEY}[auth]\nmode = \"open\"\ntrusted_network = true\n[server]\nlisten = \"0.0.0.0:8080\"\n");
        assert_eq!(refused(&trusted), Vec::<String>::new());
    }

    #[test]
    fn what_is_probably_not_meant_is_warned_about() {
        let config = Config::parse(KEY, "gateway.toml", []).expect("parses");
        assert_eq!(config.warnings().len(), 2, "{:?}", config.warnings());
        let exposed = Config::parse(&format!("{KEY}{CALLER}[server]\nlisten = \"0.0.0.0:1\"\n"), "gateway.toml", []).expect("parses");
        assert!(exposed.warnings().iter().any(|warning| warning.starts_with("server.listen")), "{:?}", exposed.warnings());
        let dry = "[[budget]]\nname = \"x\"\nlimit = \"0.01\"\nwindow = \"day\"\nenforce = false\n";
        let config = Config::parse(&format!("[upstream]\napi_key = {{ env = \"X\" }}\n{dry}"), "gateway.toml", []).expect("parses");
        assert_eq!(config.warnings(), ["every [[budget]] is a dry run, so nothing limits what is spent"]);
        let forward = "[auth]\nmode = \"forward\"\n";
        for (text, warning) in
            [("", "sync.enabled reads no list"), (forward, "sync.enabled does nothing"), (forward, "cache.snapshot does nothing")]
        {
            let config =
                Config::parse(&format!("{text}[sync]\nenabled = true\n[cache]\nsnapshot = \"x\"\n"), "gateway.toml", []).expect("parses");
            assert!(config.warnings().iter().any(|said| said.starts_with(warning)), "{:?}", config.warnings());
        }
    }
}
