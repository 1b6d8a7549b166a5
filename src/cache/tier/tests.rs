//! What gateways share, on a real server.

use std::collections::HashMap;
use std::sync::Mutex as StdMutex;

use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::*;
use crate::cache::{Config, Content};
use crate::policy::claim::HoldId;
use crate::secret::Secret;
use crate::shared::server::RedisServer;
use crate::telnyx::record::Reputation;
use crate::units::Span;

/// Longer than anything takes on a busy machine.
const WAIT: Duration = Duration::from_secs(20);

fn key() -> Key {
    let enterprise = "6a09cdc3-8948-47f0-aa62-74ac943d6c58".parse().expect("a UUID");
    Key { partition: Partition::SHARED, enterprise, number: "+16035551234".parse().expect("E.164") }
}

fn copy_key() -> String {
    format!("{{reputation-gateway}}:copy:{}:{}", key().enterprise, key().number)
}

fn data(day: u32, body: &'static str) -> Content {
    let at = format!("2026-03-{day:02}T00:00:00Z").parse().expect("a time");
    Content::record(Reputation::Stored(Some(at)), body.into(), None)
}

fn started() -> (TempDir, RedisServer) {
    let folder = tempfile::tempdir().expect("a folder");
    let server = start(&folder);
    (folder, server)
}

fn start(folder: &TempDir) -> RedisServer {
    RedisServer::start(folder.path(), &["--appendonly", "no"])
}

/// One gateway's side of it.
struct Side {
    tier: Tier,
    cache: Cache,
    lists: Lists,
    clock: Clock,
    told: Arc<StdMutex<Vec<Told>>>,
    /// What others changed.
    changed: Arc<StdMutex<Vec<Scope>>>,
    running: JoinHandle<()>,
}

impl Side {
    async fn start(server: &RedisServer) -> Self {
        let redis_url = Some(Secret::Plain(server.url()));
        let config = crate::shared::Config { redis_url, timeout: Span(WAIT), ..crate::shared::Config::default() };
        let redis = Redis::new(&config).expect("a URL").expect("one is named");
        let (clock, told) = (Clock::system(), Arc::<StdMutex<Vec<Told>>>::default());
        let began = clock.elapsed();
        let seen = Arc::clone(&told);
        let tier = Tier::new(redis, true, (&clock, began), Arc::new(move |event| seen.lock().expect("unpoisoned").push(event)));
        let cache = Cache::new(&Config::default(), HashMap::new(), Arc::new(|_| {}));
        let lists = Lists::new(&Config::default());
        let changed = Arc::<StdMutex<Vec<Scope>>>::default();
        let heard = Arc::clone(&changed);
        let (own, memory, pages) = (tier.clone(), cache.clone(), lists.clone());
        let running =
            tokio::spawn(async move { own.run(&memory, &pages, false, |scope| heard.lock().expect("unpoisoned").push(scope)).await });
        let side = Self { tier, cache, lists, clock, told, changed, running };
        side.is_ready().await;
        side
    }

    async fn until(&self, mut reached: impl FnMut(&Self) -> bool) {
        let waiting = async {
            while !reached(self) {
                tokio::task::yield_now().await;
            }
        };
        timeout(WAIT, waiting).await.expect("it comes to that");
    }

    async fn is_ready(&self) {
        self.until(|side| side.tier.is_up() && side.tier.0.has_room.load(Ordering::SeqCst)).await;
    }

    /// An answer that came now to a request of now.
    fn entry(&self, content: Content) -> Entry {
        self.entry_of(content, self.clock.elapsed())
    }

    fn entry_of(&self, content: Content, begun: Duration) -> Entry {
        self.cache.entry(&key(), content, begun, self.clock.elapsed())
    }

    async fn writes(&self, entry: &Entry) -> bool {
        self.tier.put(&self.cache, entry, 7).await
    }

    async fn fetches(&self) -> Option<String> {
        self.tier.fetch(&self.cache, &key(), None).await;
        self.cached()
    }

    fn cached(&self) -> Option<String> {
        let copy = self.cache.get(&key()).filter(|copy| !copy.is_outdated())?;
        Some(String::from_utf8(copy.body().to_vec()).expect("text"))
    }

    fn count(&self, what: Told) -> usize {
        self.told.lock().expect("unpoisoned").iter().filter(|told| **told == what).count()
    }
}

impl Drop for Side {
    fn drop(&mut self) {
        self.running.abort();
    }
}

#[tokio::test]
async fn a_copy_that_one_wrote_is_read_by_the_other_as_old_as_it_is_and_by_the_hold_that_bought_it() {
    let (_folder, server) = started();
    let (one, other) = (Side::start(&server).await, Side::start(&server).await);
    assert_eq!(other.fetches().await, None);
    let old = Duration::from_secs(100);
    let begun = one.clock.elapsed().saturating_sub(old);
    let entry = one.cache.entry(&key(), data(2, "data"), begun, begun);
    assert!(one.writes(&entry).await);
    assert_eq!(other.tier.bought_by(&other.cache, &key(), 8).await.map(|_| ()), None, "another hold's");
    let bought = other.tier.bought_by(&other.cache, &key(), 7).await.expect("it is there");
    let age = bought.age(other.clock.elapsed());
    assert!(age >= old && age < old + WAIT, "{age:?}");
    assert_eq!((bought.evidence(), bought.lifetime()), (entry.evidence(), entry.lifetime()));
    assert_eq!(other.cached().as_deref(), Some("data"));
    let asked = [Asked::Miss, Asked::Hit].map(|asked| other.count(Told::Asked(asked)));
    assert_eq!(asked, [1, 2]);
    let life: i64 = server.tell(&["PTTL", &copy_key()]);
    let longest = i64::try_from(Config::default().longest_life().as_millis()).expect("some days");
    assert!(life > 0 && life <= longest - 100_000, "{life} of {longest}");
}

#[tokio::test]
async fn an_older_fetch_never_replaces_a_newer_one() {
    let (_folder, server) = started();
    let (one, other) = (Side::start(&server).await, Side::start(&server).await);
    let early = one.entry(Content::missing("gone".into()));
    assert!(other.writes(&other.entry(data(2, "second"))).await);
    assert!(!one.writes(&one.entry(data(1, "first"))).await, "its data is older");
    assert!(!one.writes(&early).await, "an absence that was asked for before that came");
    assert!(one.writes(&one.entry(data(3, "third"))).await);
    assert_eq!(other.fetches().await.as_deref(), Some("third"));
    let later = one.entry_of(Content::missing("gone".into()), one.clock.elapsed() + WAIT);
    assert!(one.writes(&later).await, "it was asked for later");
}

#[tokio::test]
async fn what_began_before_a_change_is_neither_given_out_nor_kept_and_who_follows_hears_of_it() {
    let (_folder, server) = started();
    let (one, other) = (Side::start(&server).await, Side::start(&server).await);
    let Key { enterprise, number, .. } = key();
    for scope in [Scope::Number(enterprise, number), Scope::Enterprise(enterprise), Scope::All] {
        for ruling in [Ruling::Soft, Ruling::Hard] {
            let late = other.entry(data(2, "late"));
            assert!(one.writes(&one.entry(data(2, "old"))).await, "{scope:?} {ruling:?}");
            assert_eq!(other.fetches().await.as_deref(), Some("old"), "{scope:?} {ruling:?}");
            one.tier.change(Change { scope, ruling });
            assert!(one.tier.have_been_told().await);
            assert!(!other.writes(&late).await, "{scope:?} {ruling:?}: its fetch began before");
            other.until(|side| side.cached().is_none()).await;
            assert_eq!(other.cache.get(&key()).is_some(), ruling == Ruling::Soft, "{scope:?} {ruling:?}");
            assert_eq!(other.fetches().await, None, "{scope:?} {ruling:?}: the server's copy is from before");
            assert_eq!(server.tell::<bool>(&["EXISTS", &copy_key()]), ruling == Ruling::Soft);
        }
    }
    assert_eq!(one.count(Told::Degraded(Degraded::ChangeDelayed)), 0);
}

#[tokio::test]
async fn a_gateway_skips_its_own_changes_and_its_lists_follow_those_of_others() {
    let (_folder, server) = started();
    let (one, other) = (Side::start(&server).await, Side::start(&server).await);
    let page = crate::cache::ListKey { partition: Partition::SHARED, enterprise: key().enterprise, query: "".into() };
    for side in [&one, &other] {
        let now = side.clock.elapsed();
        side.cache.keep(&side.entry(data(2, "data")));
        side.lists.store(page.clone(), bytes::Bytes::from("page").into(), now, now);
    }
    one.tier.change(Change { scope: Scope::Number(key().enterprise, key().number), ruling: Ruling::Soft });
    other.until(|side| side.cached().is_none()).await;
    assert!(other.lists.get(&page, other.clock.elapsed()).is_none(), "the number is on it");
    // Another's change, which comes after its own.
    let elsewhere = "11111111-2222-4333-8444-555555555555".parse().expect("a UUID");
    let far = crate::cache::ListKey { enterprise: elsewhere, ..page.clone() };
    let now = one.clock.elapsed();
    one.lists.store(far.clone(), bytes::Bytes::from("page").into(), now, now);
    other.tier.change(Change { scope: Scope::Enterprise(elsewhere), ruling: Ruling::Soft });
    one.until(|side| side.lists.get(&far, side.clock.elapsed()).is_none()).await;
    assert!(one.cached().is_some() && one.lists.get(&page, one.clock.elapsed()).is_some());
    one.until(|side| *side.changed.lock().expect("unpoisoned") == [Scope::Enterprise(elsewhere)]).await;
}

#[tokio::test]
async fn what_is_damaged_foreign_or_newer_is_a_miss_and_gives_way() {
    let (_folder, server) = started();
    let side = Side::start(&server).await;
    let entry = side.entry(data(2, "data"));
    assert!(side.writes(&entry).await);
    let length: u64 = server.tell(&["STRLEN", &copy_key()]);
    for byte in (0..length).step_by(7) {
        assert!(side.writes(&side.entry(data(2, "data"))).await);
        let bit = (byte * 8 + byte % 8).to_string();
        let was: u8 = server.tell(&["GETBIT", &copy_key(), &bit]);
        server.tell::<()>(&["SETBIT", &copy_key(), &bit, if was == 1 { "0" } else { "1" }]);
        assert!(!side.tier.fetch(&side.cache, &key(), None).await, "bit {bit}");
        assert_eq!(server.tell::<u64>(&["EXISTS", &copy_key()]), 0, "bit {bit}: it would keep others out");
    }
    assert_eq!(side.count(Told::Asked(Asked::Damaged)), usize::try_from(length.div_ceil(7)).expect("short"));
    server.tell::<()>(&["SET", &copy_key(), "something else"]);
    assert!(!side.tier.fetch(&side.cache, &key(), None).await);
    assert!(side.writes(&entry).await, "and it gives way");
    let other = "{reputation-gateway}:copy:6a09cdc3-8948-47f0-aa62-74ac943d6c58:+16035550000";
    server.tell::<()>(&["COPY", &copy_key(), other]);
    let key = Key { number: "+16035550000".parse().expect("E.164"), ..key() };
    assert!(!side.tier.fetch(&side.cache, &key, None).await, "another number's");
}

#[tokio::test]
async fn copies_are_not_written_while_the_server_uses_more_than_half_of_its_memory() {
    let (_folder, server) = started();
    server.tell::<()>(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]);
    let roomy = Side::start(&server).await;
    assert!(roomy.writes(&roomy.entry(data(2, "data"))).await, "it has no bound");
    let used: String = server.tell(&["INFO", "memory"]);
    let used: u64 = used.lines().find_map(|line| line.strip_prefix("used_memory:")?.trim().parse().ok()).expect("a number");
    server.tell::<()>(&["CONFIG", "SET", "maxmemory", &(used * 3 / 2).to_string()]);
    // It looks when it is connected anew.
    server.tell::<()>(&["CLIENT", "KILL", "TYPE", "normal"]);
    roomy.until(|side| !side.tier.is_up()).await;
    roomy.until(|side| side.tier.is_up()).await;
    let (used, most) = roomy.tier.0.client.survey(true).await.expect("an answer");
    assert!(used > most / 2 && used < most, "{used} of {most}");
    assert!(!roomy.writes(&roomy.entry(data(3, "more"))).await);
    assert_eq!(roomy.count(Told::Degraded(Degraded::CopyNotWritten)), 1);
    assert_eq!(roomy.fetches().await.as_deref(), Some("data"), "what is there is read");
    server.tell::<()>(&["CONFIG", "SET", "maxmemory", "0"]);
    server.tell::<()>(&["CLIENT", "KILL", "TYPE", "normal"]);
    roomy.until(|side| !side.tier.is_up()).await;
    roomy.is_ready().await;
    assert!(roomy.writes(&roomy.entry(data(3, "more"))).await);
}

#[tokio::test]
async fn who_comes_back_to_an_empty_server_trusts_no_copy_and_tells_what_changed_meanwhile() {
    let (folder, mut server) = started();
    let (one, other) = (Side::start(&server).await, Side::start(&server).await);
    // Both have read something there.
    for (side, author) in [(&one, &other), (&other, &one)] {
        side.cache.keep(&side.entry(data(2, "data")));
        author.tier.change(Change { scope: Scope::All, ruling: Ruling::Soft });
        side.until(|side| side.cached().is_none()).await;
    }
    for side in [&one, &other] {
        side.cache.keep(&side.entry(data(2, "data")));
    }
    server.kill();
    other.until(|side| !side.tier.is_up()).await;
    assert!(!one.writes(&one.entry(data(2, "data"))).await);
    one.until(|side| !side.tier.is_up()).await;
    assert_eq!(other.fetches().await.as_deref(), Some("data"), "its own goes on");
    assert_eq!(other.count(Told::Asked(Asked::Away)), 1);
    let elsewhere = "11111111-2222-4333-8444-555555555555".parse().expect("a UUID");
    one.tier.change(Change { scope: Scope::Enterprise(elsewhere), ruling: Ruling::Hard });
    let server = start(&folder);
    for side in [&one, &other] {
        side.until(|side| side.tier.is_up()).await;
        assert!(side.tier.is_of_use().await);
        assert_eq!(side.cached(), None);
        assert!(side.cache.get(&key()).is_some(), "it stands in");
    }
    assert_eq!(one.count(Told::Degraded(Degraded::MemoryDistrusted)), 1, "not at the start, when nothing was changed");
    assert!(one.count(Told::Degraded(Degraded::ChangeDelayed)) >= 1);
    let moment = format!("{{reputation-gateway}}:moment:{elsewhere}");
    assert_eq!(server.tell::<u64>(&["HEXISTS", &moment, "hard"]), 1);
}

#[tokio::test]
async fn a_write_that_was_held_up_on_its_way_is_from_when_its_fetch_began() {
    let (_folder, server) = started();
    let (one, other) = (Side::start(&server).await, Side::start(&server).await);
    let entry = one.entry(data(2, "old"));
    server.signal("-STOP");
    let writing = tokio::spawn({
        let (tier, cache) = (one.tier.clone(), one.cache.clone());
        async move { tier.put(&cache, &entry, 7).await }
    });
    other.tier.change(Change { scope: Scope::All, ruling: Ruling::Hard });
    server.signal("-CONT");
    // Whichever of the two comes first.
    let _kept = writing.await.expect("no panic");
    assert!(other.tier.have_been_told().await);
    other.is_ready().await;
    assert_eq!(other.fetches().await, None);
}

#[tokio::test]
async fn without_copies_changes_are_shared_all_the_same() {
    let (_folder, server) = started();
    let one = Side::start(&server).await;
    let redis_url = server.url();
    let config = crate::shared::Config { redis_url: Some(Secret::Plain(redis_url)), ..crate::shared::Config::default() };
    let redis = Redis::new(&config).expect("a URL").expect("one is named");
    let clock = Clock::system();
    let other = Tier::new(redis, false, (&clock, clock.elapsed()), Arc::new(|_| {}));
    let running = tokio::spawn({
        let (other, cache, lists) = (other.clone(), one.cache.clone(), one.lists.clone());
        async move { other.run(&cache, &lists, false, |_| {}).await }
    });
    one.cache.keep(&one.entry(data(2, "data")));
    one.until(|_| other.is_up()).await;
    assert!(one.writes(&one.entry(data(2, "data"))).await);
    assert!(!other.fetch(&one.cache, &key(), None).await && !other.put(&one.cache, &one.entry(data(3, "x")), 1).await);
    other.change(Change { scope: Scope::All, ruling: Ruling::Soft });
    assert!(other.have_been_told().await);
    one.until(|side| side.cached().is_none()).await;
    running.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_cannot_tell_a_server_that_is_full_does_without_it_and_does_not_wait_each_time() {
    let (_folder, server) = started();
    let side = Side::start(&server).await;
    assert!(side.writes(&side.entry(data(1, "theirs"))).await);
    server.tell::<()>(&["CONFIG", "SET", "maxmemory", "1"]);
    side.tier.change(Change { scope: Scope::All, ruling: Ruling::Soft });
    side.until(|side| side.count(Told::Degraded(Degraded::ChangeDelayed)) > 0).await;
    assert!(side.tier.is_up(), "it can still be asked for what takes no memory");
    let fetched = timeout(WAIT / 4, side.tier.fetch(&side.cache, &key(), None)).await;
    assert_eq!(fetched, Ok(false), "what it has may be untrue by now");
    server.tell::<()>(&["CONFIG", "SET", "maxmemory", "0"]);
    assert!(timeout(WAIT, async { while !side.tier.have_been_told().await {} }).await.is_ok());
    side.until(|side| !side.tier.0.refuses.load(Ordering::SeqCst)).await;
    assert!(side.writes(&side.entry(data(2, "ours"))).await);
}

#[tokio::test]
async fn a_copy_of_before_what_was_paid_for_last_is_not_taken_for_it() {
    let (_folder, server) = started();
    let (one, other) = (Side::start(&server).await, Side::start(&server).await);
    assert!(one.writes(&one.entry(data(2, "by hold 7"))).await);
    let call = |hold, sent| Some(Call { hold: HoldId(hold), sent, is_own: false });
    // What hold 8 brought was not written, for want of room.
    assert!(!other.tier.fetch(&other.cache, &key(), call(8, other.clock.elapsed())).await);
    assert_eq!(other.cached(), None);
    assert!(other.tier.fetch(&other.cache, &key(), call(7, other.clock.elapsed())).await, "that very call's");
    assert!(one.tier.fetch(&one.cache, &key(), call(8, Duration::ZERO)).await, "it was asked for since");
}
