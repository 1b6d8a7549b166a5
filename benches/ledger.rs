//! What a durable hold costs: the disk's own flush, one hold, and holds of many callers, who share flushes.

mod disk;

use std::fs::File;
use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use jiff::tz::TimeZone;
use reputation_gateway::clock::Clock;
use reputation_gateway::policy::budget::{Budget, Charge, Window};
use reputation_gateway::policy::pricing::Billable;
use reputation_gateway::spend::{Config, Hold, Ledger};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

/// As long as a page of the ledger's file.
const PAGE: [u8; 4096] = [b'x'; 4096];

/// As long as the ledger's journal grows before it is begun anew.
const JOURNAL: u64 = 1000;

fn open(directory: &Path, budgets: usize) -> Ledger {
    let budget = |n| Budget {
        name: format!("budget-{n}"),
        limit: "1000000000.00".parse().expect("an amount"),
        window: Window::Day,
        time_zone: TimeZone::UTC,
        enforce: true,
        caller: None,
        enterprise: None,
        operation: None,
    };
    let config = Config { path: directory.join("ledger.sqlite"), ..Config::default() };
    Ledger::open(&config, (0..budgets).map(budget).collect(), Duration::ZERO, Clock::system(), Arc::new(|_| {})).expect("opens")
}

async fn hold(ledger: &Ledger) -> Hold {
    let charge = Charge {
        request_id: "01a1fd9d5dcf779c9bdeb50a18e84c22".to_owned(),
        caller: "dialer".into(),
        enterprise: "6a09cdc3-8948-47f0-aa62-74ac943d6c58".parse().expect("a UUID"),
        number: Some("+12025550000".parse().expect("E.164")),
        operation: Billable::Fresh,
        price: "0.10".parse().expect("an amount"),
    };
    ledger.hold(charge).await.expect("held")
}

async fn settle(hold: Hold) {
    hold.settle("a fresh check was answered").await.expect("written");
}

async fn hold_and_settle(ledger: &Ledger, callers: usize) {
    let mut tasks = JoinSet::new();
    for _ in 0..callers {
        let ledger = ledger.clone();
        tasks.spawn(async move { settle(hold(&ledger).await).await });
    }
    tasks.join_all().await;
}

/// The disk alone. Flushing a file that grows, or its times, writes to the file system's own journal too.
fn flushes(c: &mut Criterion) {
    let directory = disk::directory();
    let mut group = c.benchmark_group("flush 4 KiB");
    group.throughput(Throughput::Elements(1));
    let mut file = File::create(directory.path().join("appended")).expect("a file");
    group.bench_function("appended, fdatasync", |b| {
        b.iter(|| {
            file.write_all(&PAGE).expect("written");
            file.sync_data().expect("flushed");
        });
    });
    let mut file = File::create(directory.path().join("overwritten")).expect("a file");
    (0..JOURNAL).for_each(|_| file.write_all(&PAGE).expect("written"));
    file.sync_all().expect("flushed");
    let mut pages = (0..JOURNAL).cycle();
    let mut overwrite = |file: &mut File| {
        let page = pages.next().expect("no end");
        file.seek(SeekFrom::Start(page * 4096)).expect("within the file");
        file.write_all(&PAGE).expect("written");
    };
    group.bench_function("overwritten, fdatasync", |b| {
        b.iter(|| {
            overwrite(&mut file);
            file.sync_data().expect("flushed");
        });
    });
    group.bench_function("overwritten, fsync", |b| {
        b.iter(|| {
            overwrite(&mut file);
            file.sync_all().expect("flushed");
        });
    });
    group.finish();
}

fn one_hold(c: &mut Criterion) {
    let (directory, runtime, clock) = (disk::directory(), Runtime::new().expect("a runtime"), Clock::system());
    let ledger = runtime.block_on(async { open(directory.path(), 1) });
    c.bench_function("one hold", |b| {
        b.to_async(&runtime).iter_custom(|rounds| {
            let (ledger, clock) = (ledger.clone(), clock.clone());
            async move {
                let mut took = Duration::ZERO;
                for _ in 0..rounds {
                    let began = clock.elapsed();
                    let held = hold(&ledger).await;
                    took += clock.elapsed().saturating_sub(began);
                    settle(held).await;
                }
                took
            }
        });
    });
    runtime.block_on(ledger.close());
}

fn many_holds(c: &mut Criterion) {
    let mut group = c.benchmark_group("hold and settle");
    for budgets in [1, 10] {
        for callers in [1, 32, 256] {
            let (directory, runtime) = (disk::directory(), Runtime::new().expect("a runtime"));
            let ledger = open(directory.path(), budgets);
            let id = BenchmarkId::new(format!("callers, {budgets} budgets"), callers);
            group.throughput(Throughput::Elements(callers as u64));
            group.bench_function(id, |b| b.to_async(&runtime).iter(|| hold_and_settle(&ledger, callers)));
            runtime.block_on(ledger.close());
        }
    }
    group.finish();
}

criterion_group!(ledger, flushes, one_hold, many_holds);
criterion_main!(ledger);
