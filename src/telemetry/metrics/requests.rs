//! Requests and how long they took, counted by each thread for itself and added up when somebody scrapes: on a request's way there is no
//! lock, no label to hash and no cache line that two threads write.
//!
//! Prometheus's own vectors would cost more than a copy's whole answer. What is added up while requests are counted may lack the last
//! of them; the next scrape has them.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus::core::{Collector, Desc};
use prometheus::proto::{Bucket, Counter, Histogram as HistogramValue, LabelPair, Metric, MetricFamily, MetricType};

use super::make::{BOUNDS, PREFIX};
use crate::policy::decision::Decision;
use crate::telemetry::slots::{Slot, Slots};
use crate::telnyx::Operation;

const OPERATIONS: usize = Operation::ALL.len();
const DECISIONS: usize = Decision::ALL.len();

/// The count of requests, by operation, decision and caller; by operation how long they took from head to answer, and how much of that was the
/// gateway's own share, without waiting for the upstream. Clones are the same one.
#[derive(Clone, Debug)]
pub struct Requests(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    descriptions: [Desc; 3],
    callers: Mutex<BTreeMap<Arc<str>, Arc<CallerCounters>>>,
    measured: Slots<Measured>,
}

/// The requests of one caller.
#[derive(Debug)]
pub struct CallerCounters {
    name: Arc<str>,
    /// Its number among all that there were since the start.
    number: u32,
    decided: Slots<Decided>,
}

impl CallerCounters {
    /// Whose they are.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// What stands for the name where a name would be too much: its number among all callers since the start.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// How many of its requests for this were decided so.
    fn count(&self, operation: Operation, decision: Decision) -> u64 {
        self.decided.written().map(|decided| decided.of(operation, decision).load(Ordering::Relaxed)).sum()
    }
}

impl Requests {
    pub(super) fn new() -> prometheus::Result<Self> {
        let description = |name: &str, help: &str, labels: &[&str]| {
            let labels = labels.iter().map(ToString::to_string).collect();
            Desc::new(format!("{PREFIX}_{name}"), help.to_owned(), labels, HashMap::new())
        };
        let descriptions = [
            description("requests_total", "Requests, by how they were decided.", &["operation", "decision", "caller"])?,
            description("request_duration_seconds", "From a request's head to its answer.", &["operation"])?,
            description("overhead_seconds", "The gateway's own share of a request's duration.", &["operation"])?,
        ];
        Ok(Self(Arc::new(Shared { descriptions, callers: Mutex::default(), measured: Slots::default() })))
    }

    /// Where the requests of the caller of this name are counted. All its series stand from then on.
    pub fn caller(&self, name: &Arc<str>) -> Arc<CallerCounters> {
        let mut callers = self.0.callers.lock().unwrap_or_else(PoisonError::into_inner);
        let number = u32::try_from(callers.len()).unwrap_or(u32::MAX);
        let counters = || Arc::new(CallerCounters { name: Arc::clone(name), number, decided: Slots::default() });
        Arc::clone(callers.entry(Arc::clone(name)).or_insert_with(counters))
    }

    /// All callers' names, with what stands for them.
    pub fn names(&self) -> HashMap<u32, Arc<str>> {
        let callers = self.0.callers.lock().unwrap_or_else(PoisonError::into_inner);
        callers.values().map(|caller| (caller.number, Arc::clone(&caller.name))).collect()
    }

    /// How many requests of all callers were decided so, for each decision in the order of [`Decision::ALL`].
    pub fn decided(&self) -> [u64; DECISIONS] {
        let callers = self.0.callers.lock().unwrap_or_else(PoisonError::into_inner);
        let of_all = |decision| {
            let of = |caller: &Arc<CallerCounters>| Operation::ALL.iter().map(|operation| caller.count(*operation, decision)).sum::<u64>();
            callers.values().map(of).sum()
        };
        let mut decided = [0; DECISIONS];
        decided.iter_mut().zip(Decision::ALL).for_each(|(count, decision)| *count = of_all(*decision));
        decided
    }

    /// Counts one request. `overhead` is the gateway's own share of `duration`.
    #[inline]
    pub fn record(&self, caller: &CallerCounters, operation: Operation, decision: Decision, duration: Duration, overhead: Duration) {
        let slot = Slot::own();
        caller.decided.at(slot).of(operation, decision).fetch_add(1, Ordering::Relaxed);
        let measured = &self.0.measured.at(slot).0[operation as usize];
        if overhead == duration {
            measured.unshared.observe(duration);
        } else {
            measured.duration.observe(duration);
            measured.overhead.observe(overhead);
        }
    }

    fn counts(&self) -> Vec<Metric> {
        let callers = self.0.callers.lock().unwrap_or_else(PoisonError::into_inner);
        let mut metrics = Vec::with_capacity(callers.len() * OPERATIONS * DECISIONS);
        for caller in callers.values() {
            for operation in Operation::ALL.iter().copied() {
                for decision in Decision::ALL.iter().copied() {
                    let labels = [("caller", &**caller.name()), ("decision", decision.as_str()), ("operation", operation.as_str())];
                    let mut metric = Metric::from_label(labels.map(label).to_vec());
                    let mut counter = Counter::default();
                    counter.set_value(as_float(caller.count(operation, decision)));
                    metric.set_counter(counter);
                    metrics.push(metric);
                }
            }
        }
        metrics
    }

    /// One histogram for each operation, added up of those that `parts` names.
    fn times(&self, parts: fn(&Times) -> [&Histogram; 2]) -> Vec<Metric> {
        let added_up = |operation: &Operation| {
            let mut total = [0; BOUNDS.len() + 1];
            let mut sum = Duration::ZERO;
            for histogram in self.0.measured.written().flat_map(|measured| parts(&measured.0[*operation as usize])) {
                total.iter_mut().zip(&histogram.counts).for_each(|(total, count)| *total += count.load(Ordering::Relaxed));
                sum += Duration::from_nanos(histogram.nanoseconds.load(Ordering::Relaxed));
            }
            let mut metric = Metric::from_label(vec![label(("operation", operation.as_str()))]);
            metric.set_histogram(histogram(&total, sum));
            metric
        };
        Operation::ALL.iter().map(added_up).collect()
    }
}

impl Collector for Requests {
    fn desc(&self) -> Vec<&Desc> {
        self.0.descriptions.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let families = [
            (MetricType::COUNTER, self.counts()),
            (MetricType::HISTOGRAM, self.times(|times| [&times.unshared, &times.duration])),
            (MetricType::HISTOGRAM, self.times(|times| [&times.unshared, &times.overhead])),
        ];
        let family = |(description, (kind, metrics)): (&Desc, (MetricType, Vec<Metric>))| {
            let mut family = MetricFamily::default();
            family.set_name(description.fq_name.clone());
            family.set_help(description.help.clone());
            family.set_field_type(kind);
            family.set_metric(metrics);
            family
        };
        self.0.descriptions.iter().zip(families).map(family).collect()
    }
}

/// What one thread counted of one caller.
#[derive(Debug)]
struct Decided([[AtomicU64; DECISIONS]; OPERATIONS]);

impl Default for Decided {
    fn default() -> Self {
        Self([const { [const { AtomicU64::new(0) }; DECISIONS] }; OPERATIONS])
    }
}

impl Decided {
    fn of(&self, operation: Operation, decision: Decision) -> &AtomicU64 {
        &self.0[operation as usize][decision as usize]
    }
}

/// What one thread measured, by operation.
#[derive(Debug, Default)]
struct Measured([Times; OPERATIONS]);

#[derive(Debug, Default)]
struct Times {
    /// Requests that waited for nothing upstream: their durations, all the gateway's own.
    unshared: Histogram,
    /// The durations of all others.
    duration: Histogram,
    /// The gateway's own share of those.
    overhead: Histogram,
}

#[derive(Debug, Default)]
struct Histogram {
    /// By the first bound that a time is not above; the last for those above every bound.
    counts: [AtomicU64; BOUNDS.len() + 1],
    nanoseconds: AtomicU64,
}

impl Histogram {
    #[inline]
    fn observe(&self, time: Duration) {
        // There is room for 584 years.
        let nanoseconds = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.counts[BOUNDS.partition_point(|bound| *bound < nanoseconds)].fetch_add(1, Ordering::Relaxed);
        self.nanoseconds.fetch_add(nanoseconds, Ordering::Relaxed);
    }
}

fn histogram(counts: &[u64; BOUNDS.len() + 1], sum: Duration) -> HistogramValue {
    let mut below = 0;
    let bucket = |(bound, count): (&u64, &u64)| {
        below += count;
        let mut bucket = Bucket::default();
        bucket.set_upper_bound(Duration::from_nanos(*bound).as_secs_f64());
        bucket.set_cumulative_count(below);
        bucket
    };
    let mut histogram = HistogramValue::default();
    histogram.set_bucket(BOUNDS.iter().zip(counts).map(bucket).collect());
    histogram.set_sample_count(counts.iter().sum());
    histogram.set_sample_sum(sum.as_secs_f64());
    histogram
}

fn label((name, value): (&str, &str)) -> LabelPair {
    let mut label = LabelPair::default();
    label.set_name(name.to_owned());
    label.set_value(value.to_owned());
    label
}

/// Prometheus reads floats, which count exactly up to 2⁵³.
#[allow(clippy::cast_precision_loss)]
fn as_float(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use prometheus::{Encoder, HistogramOpts, HistogramVec, IntCounterVec, Opts, Registry, TextEncoder};
    use proptest::prelude::*;

    use super::*;

    fn text(families: &[MetricFamily]) -> String {
        let mut text = Vec::new();
        TextEncoder::new().encode(families, &mut text).expect("a vector takes every byte");
        String::from_utf8(text).expect("text")
    }

    fn requests() -> Requests {
        Requests::new().expect("well formed")
    }

    fn scrape(requests: &Requests) -> String {
        let registry = Registry::new();
        registry.register(Box::new(requests.clone())).expect("the first of its name");
        text(&registry.gather())
    }

    /// What Prometheus's own counters and histograms tell of the same requests.
    fn model(seen: &[(Operation, Decision, Duration, Duration)]) -> String {
        let registry = Registry::new();
        let bounds: Vec<_> = BOUNDS.iter().map(|bound| Duration::from_nanos(*bound).as_secs_f64()).collect();
        let times = |name: &str, help: &str| {
            let opts = HistogramOpts::new(format!("{PREFIX}_{name}"), help).buckets(bounds.clone());
            let times = HistogramVec::new(opts, &["operation"]).expect("well formed");
            registry.register(Box::new(times.clone())).expect("another name");
            times
        };
        let duration = times("request_duration_seconds", "From a request's head to its answer.");
        let overhead = times("overhead_seconds", "The gateway's own share of a request's duration.");
        let opts = Opts::new(format!("{PREFIX}_requests_total"), "Requests, by how they were decided.");
        let counts = IntCounterVec::new(opts, &["operation", "decision", "caller"]).expect("well formed");
        registry.register(Box::new(counts.clone())).expect("another name");
        for operation in Operation::ALL {
            duration.with_label_values(&[operation.as_str()]);
            overhead.with_label_values(&[operation.as_str()]);
            for decision in Decision::ALL {
                counts.with_label_values(&[operation.as_str(), decision.as_str(), "dialer"]);
            }
        }
        for (operation, decision, took, own) in seen {
            counts.with_label_values(&[operation.as_str(), decision.as_str(), "dialer"]).inc();
            duration.with_label_values(&[operation.as_str()]).observe(took.as_secs_f64());
            overhead.with_label_values(&[operation.as_str()]).observe(own.as_secs_f64());
        }
        text(&registry.gather())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn a_scrape_is_what_prometheus_itself_would_tell(
            seen in proptest::collection::vec((0..OPERATIONS, 0..DECISIONS, 0..80_u32, 0..2_u32), 0..40),
        ) {
            // Eighths of a second on both sides of the bounds add up to the same float in any order.
            let seen: Vec<_> = seen.into_iter().map(|(operation, decision, eighths, waited)| {
                let duration = Duration::from_millis(125) * eighths;
                let overhead = if waited == 0 { duration } else { duration / 2 };
                (Operation::ALL[operation], Decision::ALL[decision], duration, overhead)
            }).collect();
            let requests = requests();
            let caller = requests.caller(&"dialer".into());
            for (operation, decision, duration, overhead) in &seen {
                requests.record(&caller, *operation, *decision, *duration, *overhead);
            }
            prop_assert_eq!(scrape(&requests), model(&seen));
        }
    }

    #[test]
    fn a_time_on_a_bound_is_not_above_it() {
        for bound in BOUNDS {
            let histogram = Histogram::default();
            for time in [bound - 1, bound, bound + 1] {
                histogram.observe(Duration::from_nanos(time));
            }
            let at = BOUNDS.iter().position(|other| *other == bound).expect("one of them");
            assert_eq!([&histogram.counts[at], &histogram.counts[at + 1]].map(|count| count.load(Ordering::Relaxed)), [2, 1], "{bound}");
        }
    }

    #[test]
    fn what_many_threads_count_is_added_up() {
        let requests = requests();
        let callers = ["dialer", "crm"].map(|name| requests.caller(&name.into()));
        std::thread::scope(|scope| {
            for thread in 0..100 {
                let (requests, caller) = (&requests, &callers[thread % 2]);
                scope.spawn(move || {
                    for _ in 0..100 {
                        let took = Duration::from_micros(20);
                        requests.record(caller, Operation::Retrieve, Decision::Hit, took, took);
                    }
                });
            }
        });
        assert_eq!(callers.map(|caller| caller.count(Operation::Retrieve, Decision::Hit)), [5_000, 5_000]);
        let scrape = scrape(&requests);
        for line in [
            r#"reputation_gateway_request_duration_seconds_bucket{operation="retrieve",le="0.00005"} 10000"#,
            r#"reputation_gateway_overhead_seconds_sum{operation="retrieve"} 0.2"#,
        ] {
            assert!(scrape.lines().any(|told| told == line), "{line} is not in\n{scrape}");
        }
    }

    #[test]
    fn a_caller_that_is_named_again_goes_on_counting() {
        let requests = requests();
        let took = Duration::ZERO;
        requests.record(&requests.caller(&"dialer".into()), Operation::List, Decision::Hit, took, took);
        assert_eq!(requests.caller(&"dialer".into()).count(Operation::List, Decision::Hit), 1);
    }
}
