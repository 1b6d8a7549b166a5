//! What a warm restart costs: writing a snapshot of 100,000 copies to this machine's disk, and reading it back.

mod disk;

use std::collections::HashMap;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use reputation_gateway::cache::{Cache, Config, Content, Key};
use reputation_gateway::clock::Clock;
use reputation_gateway::policy::entitlement::Partition;
use reputation_gateway::telnyx::record::Reputation;

const COPIES: u64 = 100_000;
/// As long as the sandbox's records, which are about as long as Telnyx's own.
const BODY: usize = 494;

fn cache() -> Cache {
    Cache::new(&Config::default(), HashMap::new(), Arc::new(|_| {}))
}

fn filled(copies: u64, now: Duration) -> Cache {
    let cache = cache();
    let enterprise = "6a09cdc3-8948-47f0-aa62-74ac943d6c58".parse().expect("a UUID");
    for n in 0..copies {
        let key = Key { partition: Partition::SHARED, enterprise, number: format!("+1{:010}", 2_025_550_000 + n).parse().expect("E.164") };
        let content = Content::record(Reputation::Stored(None), Bytes::from(vec![b'x'; BODY]), None);
        cache.keep(&cache.entry(&key, content, now, now));
    }
    cache
}

fn snapshot(c: &mut Criterion) {
    let clock = Clock::system();
    let directory = disk::directory();
    let copies = if disk::measures() { COPIES } else { 100 };
    let path = directory.path().join("cache.snapshot");
    let full = filled(copies, clock.elapsed());
    let written = full.write_snapshot(&path, clock.now(), clock.elapsed()).expect("writable");
    let mut group = c.benchmark_group("snapshot of 100,000");
    group.sample_size(10).throughput(Throughput::Bytes(written.bytes));
    group.bench_function("write", |b| b.iter(|| full.write_snapshot(&path, clock.now(), clock.elapsed()).expect("writable")));
    group.bench_function("read", |b| {
        b.iter(|| {
            let restored = cache().read_snapshot(&path, (clock.now(), clock.elapsed()), |_| None).expect("whole").expect("a file");
            assert_eq!(restored.entries as u64, black_box(written.entries));
        });
    });
    group.finish();
}

criterion_group!(benches, snapshot);
criterion_main!(benches);
