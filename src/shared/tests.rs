//! A stream is followed on a real server, whatever becomes of it.

use std::path::Path;
use std::time::Duration;

use tempfile::TempDir;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::server::RedisServer;
use super::*;
use crate::secret::Secret;
use crate::units::Span;

/// Longer than anything takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);
const STREAM: &str = "{reputation-gateway}:changes";

fn redis_at(url: &str) -> Redis {
    let redis_url = Some(Secret::Plain(url.to_owned()));
    Redis::new(&Config { redis_url, timeout: Span(Duration::from_secs(2)), ..Config::default() }).expect("a URL").expect("one is named")
}

/// A server, and the folder of its socket.
fn started(settings: &[&str]) -> (TempDir, RedisServer) {
    let folder = tempfile::tempdir().expect("a folder");
    let server = start(folder.path(), settings);
    (folder, server)
}

fn start(folder: &Path, settings: &[&str]) -> RedisServer {
    RedisServer::start(folder, &[&["--appendonly", "no"], settings].concat())
}

fn add(server: &RedisServer, what: &str) -> Position {
    server.tell::<String>(&["XADD", STREAM, "*", "what", what]).parse().expect("a position")
}

/// Who follows, and what it was told, a line each.
struct Follower {
    told: UnboundedReceiver<String>,
    task: JoinHandle<()>,
}

impl Follower {
    fn start(redis: Redis, seen: Option<Position>) -> Self {
        let (tell, told) = unbounded_channel();
        let line = |news| match news {
            News::Entries(entries) => entries.iter().map(|entry| entry.field("what").expect("a text")).collect::<Vec<_>>().join(" "),
            News::Gap(_) => "gap".to_owned(),
            News::InStep => "in step".to_owned(),
            News::Away(_) => "away".to_owned(),
        };
        let task = tokio::spawn(async move {
            follow(&redis, "changes", seen, |news| {
                // The test may be over.
                let _sent = tell.send(line(news));
            })
            .await;
        });
        Self { told, task }
    }

    async fn next(&mut self) -> String {
        timeout(PATIENCE, self.told.recv()).await.expect("something is told").expect("it goes on")
    }

    async fn hears(&mut self, expected: &[&str]) {
        for line in expected {
            assert_eq!(self.next().await, *line, "of {expected:?}");
        }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[tokio::test]
async fn each_entry_is_told_once_and_in_order_from_where_one_was() {
    let (_folder, server) = started(&[]);
    let mut anew = Follower::start(redis_at(&server.url()), None);
    anew.hears(&["gap", "in step"]).await;
    let first = add(&server, "a");
    anew.hears(&["a"]).await;
    add(&server, "b");
    anew.hears(&["b"]).await;
    let mut later = Follower::start(redis_at(&server.url()), Some(first));
    later.hears(&["b", "in step"]).await;
    let mut latest = Follower::start(redis_at(&server.url()), None);
    latest.hears(&["gap", "in step"]).await;
    add(&server, "c");
    for follower in [&mut anew, &mut later, &mut latest] {
        follower.hears(&["c"]).await;
    }
}

#[tokio::test]
async fn more_entries_than_are_read_at_once_are_all_told() {
    let (_folder, server) = started(&[]);
    let first = add(&server, "first");
    let script = "for n = 1, 1200 do redis.call('XADD', KEYS[1], '*', 'what', n) end";
    server.tell::<()>(&["EVAL", script, "1", STREAM]);
    let mut follower = Follower::start(redis_at(&server.url()), Some(first));
    let mut told = Vec::new();
    while told.len() < 1_200 {
        told.extend(follower.next().await.split(' ').map(|n| n.parse::<u32>().expect("a number")));
    }
    assert!(told.iter().copied().eq(1..=1_200));
    follower.hears(&["in step"]).await;
}

#[tokio::test]
async fn a_position_that_was_trimmed_away_is_a_gap_and_one_that_is_there_is_none() {
    let (_folder, server) = started(&[]);
    let [first, second] = ["a", "b"].map(|what| add(&server, what));
    add(&server, "c");
    server.tell::<()>(&["XTRIM", STREAM, "MAXLEN", "2"]);
    let mut behind = Follower::start(redis_at(&server.url()), Some(first));
    behind.hears(&["gap", "in step"]).await;
    let mut not_behind = Follower::start(redis_at(&server.url()), Some(second));
    not_behind.hears(&["c", "in step"]).await;
    add(&server, "d");
    behind.hears(&["d"]).await;
    not_behind.hears(&["d"]).await;
}

#[tokio::test]
async fn a_server_that_comes_back_empty_is_a_gap() {
    let (folder, mut server) = started(&[]);
    let mut follower = Follower::start(redis_at(&server.url()), None);
    follower.hears(&["gap", "in step"]).await;
    add(&server, "a");
    follower.hears(&["a"]).await;
    server.kill();
    follower.hears(&["away"]).await;
    let server = start(folder.path(), &[]);
    follower.hears(&["gap", "in step"]).await;
    add(&server, "b");
    follower.hears(&["b"]).await;
}

#[tokio::test]
async fn what_came_while_the_server_could_not_be_reached_is_told_when_it_can() {
    let folder = tempfile::tempdir().expect("a folder");
    let durable = ["--appendonly", "yes", "--appendfsync", "always"];
    let mut server = RedisServer::start(folder.path(), &durable);
    let reach = ["ACL", "SETUSER", "follower", "on", "nopass", "~*", "&*", "+@all"];
    server.tell::<()>(&reach);
    let mut follower = Follower::start(redis_at(&server.url_of("follower")), None);
    follower.hears(&["gap", "in step"]).await;
    add(&server, "a");
    follower.hears(&["a"]).await;
    server.tell::<()>(&["ACL", "DELUSER", "follower"]);
    follower.hears(&["away"]).await;
    add(&server, "b");
    server.kill();
    server = RedisServer::start(folder.path(), &durable);
    add(&server, "c");
    server.tell::<()>(&reach);
    follower.hears(&["b c", "in step"]).await;
}

#[tokio::test]
async fn a_server_that_stands_still_is_away_until_it_goes_on() {
    let (_folder, server) = started(&[]);
    let mut follower = Follower::start(redis_at(&server.url()), None);
    follower.hears(&["gap", "in step"]).await;
    add(&server, "a");
    follower.hears(&["a"]).await;
    server.signal("-STOP");
    follower.hears(&["away"]).await;
    server.signal("-CONT");
    follower.hears(&["in step"]).await;
    add(&server, "b");
    follower.hears(&["b"]).await;
}

#[tokio::test]
async fn a_server_that_is_away_from_the_start_is_told_of_once_and_all_before_it_came_is_a_gap() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut follower = Follower::start(redis_at(&format!("unix://{}/redis.sock", folder.path().display())), None);
    follower.hears(&["away"]).await;
    let server = start(folder.path(), &[]);
    follower.hears(&["gap", "in step"]).await;
    add(&server, "a");
    follower.hears(&["a"]).await;
}

#[tokio::test]
async fn a_stream_is_followed_in_a_cluster_and_in_the_newer_protocol_too() {
    let ports = [(); 2].map(|()| std::net::TcpListener::bind("127.0.0.1:0").expect("a free port"));
    let [port, bus] = ports.each_ref().map(|listener| listener.local_addr().expect("an address").port().to_string());
    drop(ports);
    let settings = ["--port", &port, "--cluster-enabled", "yes", "--cluster-port", &bus, "--cluster-announce-ip", "127.0.0.1"];
    let (_folder, server) = started(&settings);
    server.tell::<()>(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]);
    while !server.tell::<String>(&["CLUSTER", "INFO"]).contains("cluster_state:ok") {
        tokio::task::yield_now().await;
    }
    for (cluster, url) in [(true, format!("redis://127.0.0.1:{port}")), (false, format!("redis://127.0.0.1:{port}?protocol=resp3"))] {
        let redis_url = Some(Secret::Plain(url));
        let config = Config { redis_url, cluster, ..Config::default() };
        let mut follower = Follower::start(Redis::new(&config).expect("a URL").expect("one is named"), None);
        follower.hears(&["gap", "in step"]).await;
        add(&server, "a");
        follower.hears(&["a"]).await;
        // For longer than one question is kept.
        let before = asked(&server);
        while asked(&server) < before + 2 {
            tokio::task::yield_now().await;
        }
        add(&server, "b");
        follower.hears(&["b"]).await;
    }
}

/// How often entries were asked for.
fn asked(server: &RedisServer) -> u64 {
    let stats: String = server.tell(&["INFO", "commandstats"]);
    let calls = stats.lines().find_map(|line| line.strip_prefix("cmdstat_xread:calls=")?.split(',').next()?.parse().ok());
    calls.unwrap_or_default()
}

#[tokio::test]
async fn a_line_answers_fails_at_once_while_the_server_is_away_and_answers_again() {
    let (folder, mut server) = started(&[]);
    let line = Line::new(redis_at(&server.url()));
    let script = redis::Script::new("return 'here'");
    let ask = || async { line.run::<String>(&script.prepare_invoke()).await };
    assert!(matches!(ask().await, Err(NoAnswer::Away)), "nobody has connected it");
    let keeping = tokio::spawn({
        let line = line.clone();
        async move { line.keep_up().await }
    });
    timeout(PATIENCE, line.comes_up()).await.expect("it connects");
    assert_eq!(ask().await.expect("an answer"), "here");
    server.kill();
    assert!(matches!(ask().await, Err(NoAnswer::Failed(_))));
    assert!(matches!(ask().await, Err(NoAnswer::Away)) && !line.is_up());
    let full = start(folder.path(), &["--maxmemory-policy", "noeviction"]);
    timeout(PATIENCE, line.comes_up()).await.expect("it connects");
    // Less than it has in use already.
    full.tell::<()>(&["CONFIG", "SET", "maxmemory", "1"]);
    let grow = redis::Script::new("return redis.call('SET', 'other', 'x')");
    assert!(matches!(line.run::<String>(&grow.prepare_invoke()).await, Err(NoAnswer::Failed(_))));
    assert_eq!(ask().await.expect("what takes no memory"), "here");
    full.signal("-STOP");
    keeping.abort();
}
