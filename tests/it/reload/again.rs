//! What is read again: in which order, and which files.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reputation_gateway::units::Span;
use tokio::task::JoinSet;

use super::until;
use crate::harness::hook::Receiver;
use crate::harness::{BUDGET, World, settings};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_reloads_at_once_the_one_that_read_last_has_the_last_word() {
    const ROUNDS: u64 = 50;
    let ttl = |reading: u64| Span(Duration::from_secs(1_000 + reading));
    let mut world = World::new().await;
    let (readings, settings) = (Arc::new(AtomicU64::new(0)), world.live().1);
    let counted = Arc::clone(&readings);
    let reload = world
        .read_by(move || {
            let mut config = settings.clone();
            config.cache.ttl = ttl(counted.fetch_add(1, Ordering::SeqCst));
            Ok(config)
        })
        .await;
    for round in 1..=ROUNDS {
        let mut under_way = JoinSet::new();
        for _ in 0..4 {
            let reload = reload.clone();
            under_way.spawn(async move { reload.now().await });
        }
        while let Some(ended) = under_way.join_next().await {
            ended.expect("no panic").expect("in force");
        }
        let last = readings.load(Ordering::SeqCst) - 1;
        assert_eq!((last, world.live().0.in_force().config.cache.ttl), (round * 4, ttl(last)), "{round}");
    }
}

#[tokio::test]
async fn a_webhooks_secret_that_changes_in_its_file_signs_from_then_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let (path, secret) = (folder.path().join("gateway.toml"), folder.path().join("secret"));
    let mut world = World::new().await;
    std::fs::write(&secret, format!("{}\n", STANDARD.encode([7; 32]))).expect("writable");
    let receiver = Receiver::start(&[]).await;
    let webhook = Receiver::setting(receiver.address)
        .replace(&format!("\"{}\"", Receiver::secret()), &format!("{{ file = \"{}\" }}", secret.display()));
    std::fs::write(&path, settings(&format!("{BUDGET}{webhook}"))).expect("writable");
    world.reading(&path).await;
    let before = world.in_force().await["loaded_at"].take();
    std::fs::write(&secret, Receiver::secret()).expect("writable");
    until(&world, |seen| seen["loaded_at"] != before).await;
    world.live().0.gateway().switch(true, "why".to_owned(), "ops".to_owned()).await.expect("stopped");
    receiver.posts(1).await[0].verified();
}
