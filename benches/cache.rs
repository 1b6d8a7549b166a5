//! What a look into the cache costs: one number that all threads read, numbers as popular as words are (Zipf), and any of a million.
//!
//! A time is from one read to a thread's next; with two threads, both read all the while.

use std::collections::HashMap;
use std::hint::black_box;
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use reputation_gateway::cache::{Cache, Call, Calls, Config, Content, FailedLooks, Key, PaidCalls};
use reputation_gateway::policy::claim::HoldId;
use reputation_gateway::policy::entitlement::Partition;
use reputation_gateway::telnyx::record::Reputation;
use reputation_gateway::units::ByteSize;

const NUMBERS: u64 = 1_000_000;
/// As long as Telnyx's own, about.
const BODY: usize = 574;
/// Reads after which they come again in the same order: the numbers' own memory is far larger.
const READS: usize = 1 << 20;

/// `cargo test` only wants to see that all works.
fn numbers() -> u64 {
    if std::env::args().any(|argument| argument == "--bench") { NUMBERS } else { 100 }
}

fn key(nth: u64) -> Key {
    let enterprise = "6a09cdc3-8948-47f0-aa62-74ac943d6c58".parse().expect("a UUID");
    Key { partition: Partition::SHARED, enterprise, number: format!("+{}", 12_000_000_000 + nth).parse().expect("E.164") }
}

fn filled(numbers: u64) -> Cache {
    let config = Config { max_size: ByteSize(4 << 30), ..Config::default() };
    let cache = Cache::new(&config, HashMap::new(), Arc::new(|_| {}));
    for key in (0..numbers).map(key) {
        let content = Content::record(Reputation::Stored(None), vec![b'x'; BODY].into(), None);
        cache.keep(&cache.entry(&key, content, Duration::ZERO, Duration::ZERO));
    }
    cache
}

/// Keys to read, by a part from 0 to 1 that is as likely anywhere.
fn reads(nth: impl Fn(f64) -> u64) -> Vec<Key> {
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut part = || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        f64::from(u32::try_from(random >> 32).expect("32 bits")) / f64::from(u32::MAX)
    };
    (0..READS).map(|_| key(nth(part()))).collect()
}

/// The time of `count` calls on each of some threads, which begin together.
fn on_threads(threads: usize, count: u64, call: &(impl Fn(usize) + Sync)) -> Duration {
    let barrier = Barrier::new(threads);
    let run = |thread: usize| {
        barrier.wait();
        #[expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]
        let began = Instant::now();
        let first = thread * READS / threads;
        (0..usize::try_from(count).expect("few")).for_each(|n| call((first + n) % READS));
        began.elapsed()
    };
    std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|thread| scope.spawn(move || run(thread))).collect();
        let own = run(0);
        others.into_iter().map(|other| other.join().expect("no panic")).fold(own, Duration::max)
    })
}

fn gets(c: &mut Criterion) {
    let numbers = numbers();
    let cache = filled(numbers);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "far below 2^52")]
    let [hot, zipf, any] =
        [reads(|_| 7 % numbers), reads(|part| (numbers as f64).powf(part) as u64 - 1), reads(|part| (part * (numbers - 1) as f64) as u64)];
    for (name, keys) in [("one number", hot), ("Zipf", zipf), ("any of a million", any)] {
        for threads in [1, 2] {
            let read = |n: usize| {
                black_box(cache.get(&keys[n]).map(|copy| copy.lifetime()));
            };
            c.bench_function(&format!("get, {name}, threads: {threads}"), |b| b.iter_custom(|count| on_threads(threads, count, &read)));
        }
    }
}

/// What a plain read asks beside the copies.
fn traces(c: &mut Criterion) {
    let keys: Vec<Key> = (0..numbers().min(250_000)).map(key).collect();
    for filled in [false, true] {
        let (calls, failed) = (PaidCalls::new(250_000), FailedLooks::default());
        if filled {
            for (n, key) in keys.iter().enumerate() {
                calls.learn(*key, Calls::paid(Call { hold: HoldId(1), sent: Duration::ZERO, is_own: true }));
                if n < 100_000 {
                    failed.failed(*key, Duration::ZERO);
                }
            }
        }
        let how = if filled { "filled" } else { "empty" };
        for threads in [1, 2] {
            let of = |n: usize| {
                black_box((calls.of(&keys[n % keys.len()]), failed.of(&keys[n % keys.len()], Duration::ZERO, Duration::from_secs(10))));
            };
            c.bench_function(&format!("calls and failed looks, {how}, threads: {threads}"), |b| {
                b.iter_custom(|count| on_threads(threads, count, &of));
            });
        }
    }
}

criterion_group!(benches, gets, traces);
criterion_main!(benches);
