//! What counting a request and logging its line cost, on one thread and on two at once.
//!
//! The log is this process's standard error: `cargo bench --bench telemetry 2>/dev/null`, or into a pipe. Times are CPU times; a
//! line's is that of the threads that log and of the one that writes.

use std::fs;
use std::hint::black_box;
use std::thread;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use reputation_gateway::clock::Clock;
use reputation_gateway::policy::decision::Decision;
use reputation_gateway::policy::evidence::Billing;
use reputation_gateway::policy::money::Usd;
use reputation_gateway::telemetry::access::{self, Line};
use reputation_gateway::telemetry::metrics::Labels;
use reputation_gateway::telemetry::{Config, Metrics, init};
use reputation_gateway::telnyx::Operation;

const TOOK: Duration = Duration::from_micros(23);

/// Where the system tells of the thread that asks.
const THREAD: &str = "/proc/thread-self";

/// The name of the log's thread.
const WRITER: &str = "log";

/// So many lines at a time leave room for more, so that none is dropped.
const LINES: u64 = 1_000;

fn record(c: &mut Criterion) {
    let metrics = Metrics::new(&Labels::default());
    let caller = metrics.requests.caller(&"dialer".into());
    let mut group = c.benchmark_group("record");
    for threads in [1, 2] {
        let work = || metrics.requests.record(&caller, black_box(Operation::Retrieve), black_box(Decision::Hit), black_box(TOOK), TOOK);
        group.bench_function(format!("threads: {threads}"), |b| {
            b.iter_custom(|iterations| {
                let counting = || {
                    (0..iterations).for_each(|_| work());
                    on_cpu(THREAD)
                };
                on_threads(threads, counting) / threads
            });
        });
    }
}

fn line(c: &mut Criterion) {
    let _log = init(&Config::default()).expect("the first log");
    let writer = writer();
    let clock = Clock::system();
    let line = Line {
        at: clock.now(),
        request_id: "01a1fd9c4edc72d9aa1e25bef3a12238",
        trace_id: None,
        caller: "dialer",
        method: "GET",
        operation: Operation::Retrieve,
        enterprise: "6a09cdc3-8948-47f0-aa62-74ac943d6c58".parse().ok(),
        enterprise_name: None,
        number: "+16035551234".parse().ok(),
        status: 200,
        decision: Decision::Hit,
        billed: Billing::NotBilled,
        cost: Usd::ZERO,
        cache_status: Some("hit"),
        streamed: None,
        duration: TOOK,
        upstream: Duration::ZERO,
    };
    let log = || {
        if access::is_wanted() {
            access::write(&Line { at: clock.now(), ..black_box(line) });
        }
    };
    let mut group = c.benchmark_group("line");
    for threads in [1, 2] {
        group.bench_function(format!("threads: {threads}"), |b| {
            b.iter_custom(|iterations| {
                let before = on_cpu(&writer);
                let logging = on_threads(threads, || in_pieces(iterations, log));
                (logging + on_cpu(&writer).saturating_sub(before)) / threads
            });
        });
    }
    group.finish();
    let scrape = String::from_utf8(Metrics::new(&Labels::default()).render()).expect("text");
    assert!(scrape.contains("log_lines_dropped_total 0\n"), "lines were dropped, so their cost is not that of a line that is written");
}

/// The sum of what `work` returns on so many threads at once.
fn on_threads(threads: u32, work: impl Fn() -> Duration + Sync) -> Duration {
    thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(&work)).collect();
        threads.into_iter().map(|thread| thread.join().expect("a thread that works")).sum()
    })
}

/// The CPU time of so many times `work`, with pauses.
fn in_pieces(times: u64, work: impl Fn()) -> Duration {
    for piece in 0..times.div_ceil(LINES) {
        (piece * LINES..times.min((piece + 1) * LINES)).for_each(|_| work());
        thread::park_timeout(Duration::from_millis(1));
    }
    on_cpu(THREAD)
}

/// Where the system tells of the log's writer, once it has its name.
fn writer() -> String {
    loop {
        let threads = fs::read_dir("/proc/self/task").expect("Linux").map(|thread| thread.expect("a thread").path().display().to_string());
        let is_writer = |thread: &String| fs::read_to_string(format!("{thread}/comm")).is_ok_and(|name| name.trim() == WRITER);
        if let Some(writer) = threads.into_iter().find(is_writer) {
            return writer;
        }
        thread::yield_now();
    }
}

/// How long a thread has been on a CPU.
fn on_cpu(thread: &str) -> Duration {
    let times = fs::read_to_string(format!("{thread}/schedstat")).expect("Linux");
    Duration::from_nanos(times.split(' ').next().expect("a first time").parse().expect("nanoseconds"))
}

criterion_group! {
    name = benches;
    // The system tells the CPU time of a thread that runs to some milliseconds.
    config = Criterion::default().sample_size(10).measurement_time(Duration::from_secs(10));
    targets = record, line
}
criterion_main!(benches);
