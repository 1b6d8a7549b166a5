//! A thousand clients that dribble or do not read: others are served meanwhile, and each slow one is ended by its limit.

use std::process::Command;
use std::time::Duration;

use crate::harness::frames::{Frame, Frames, HEADERS};
use crate::harness::{BUDGET, STORED, UNCHECKED, Wire, World};

const EACH: usize = 334;

/// A kind of slow client, with what its limit ends it by.
enum Slow {
    /// Its head never ends: closed.
    Head(Wire),
    /// Its body never ends: 408, and closed.
    Body(Wire),
    /// Its window is closed: GOAWAY, and closed.
    Reader(Frames),
}

impl Slow {
    async fn head(world: &World) -> Self {
        let mut wire = Wire::to(world.gateway).await;
        wire.send("GET /v2/reputation HTTP/1.1\r\nx-slow: ").await;
        Self::Head(wire)
    }

    async fn body(world: &World) -> Self {
        let mut wire = Wire::to(world.gateway).await;
        wire.send("POST /v2/reputation/numbers HTTP/1.1\r\nhost: g\r\ncontent-length: 1000000\r\n\r\nx").await;
        Self::Body(wire)
    }

    /// The answer's head is there, so its body waits.
    async fn reader(world: &World) -> Self {
        let mut frames = Frames::with(world.gateway, &[(4, 0)]).await;
        frames.send(&[Frame::get(1, &format!("/v2/reputation/numbers/{STORED}"))]).await;
        assert_eq!(frames.next_of(HEADERS).await.expect("an answer").stream, 1);
        Self::Reader(frames)
    }

    /// One more byte, which renews nothing.
    async fn dribble(&mut self) {
        match self {
            Self::Head(wire) | Self::Body(wire) => wire.send_while_taken("x").await,
            Self::Reader(frames) => frames.ping().await,
        }
    }

    async fn ended(self) {
        match self {
            Self::Head(wire) => wire.ended().await,
            Self::Body(mut wire) => {
                let answer = wire.answer().await;
                assert_eq!((answer.status, answer.code().as_str()), (408, "body_timeout"));
                wire.ended().await;
            }
            Self::Reader(frames) => assert_eq!(frames.ended().await.last(), Some(&0), "GOAWAY without an error"),
        }
    }
}

/// Three thousand sockets, of the clients and of the gateway, are more than many a shell allows at first.
fn allow_many_files() {
    let limits = std::fs::read_to_string("/proc/self/limits").expect("Linux tells");
    let files = limits.lines().find_map(|line| line.strip_prefix("Max open files")?.split_whitespace().next());
    if files.and_then(|files| files.parse::<u64>().ok()).is_none_or(|files| files >= 4096) {
        return;
    }
    let own = std::process::id().to_string();
    let raised = Command::new("prlimit").args(["--nofile=4096:", "--pid", &own]).status();
    assert!(raised.expect("prlimit is there").success(), "this test needs 4096 open files");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_slow_clients_keep_nobody_from_being_served_and_each_is_ended() {
    allow_many_files();
    let world = World::with(BUDGET, |config| {
        let limits = [&mut config.server.header_timeout, &mut config.server.body_timeout, &mut config.server.idle_timeout];
        for limit in limits {
            *limit = "3s".parse().expect("a time");
        }
    })
    .await;
    assert_eq!(world.read(STORED).await.status, 200);
    let mut slow = Vec::new();
    for _ in 0..EACH {
        slow.extend([Slow::head(&world).await, Slow::body(&world).await, Slow::reader(&world).await]);
    }
    for _ in 0..20 {
        assert_eq!(world.read(STORED).await.outcome(), (200, "hit"));
    }
    assert_eq!((world.fresh(UNCHECKED).await.outcome(), world.charged().as_str()), ((200, "billed"), "0.10"));
    for client in &mut slow {
        client.dribble().await;
    }
    let all_ended = futures_util::future::join_all(slow.into_iter().map(Slow::ended));
    tokio::time::timeout(Duration::from_mins(1), all_ended).await.expect("each is ended by its limit");
    assert_eq!(world.metric("reputation_gateway_buffered_bytes").await, "0");
    assert_eq!(world.read(STORED).await.outcome(), (200, "hit"));
}
