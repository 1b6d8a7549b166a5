//! Metrics of the process, by the names that every Prometheus client gives them: read from /proc whenever they are asked for.

use procfs::process::{LimitValue, Process};
use procfs::{ProcResult, WithCurrentSystemInfo, boot_time_secs, ticks_per_second};
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{Counter, Gauge, Opts};

/// What /proc tells of this process. Where it cannot be read, as on systems without it, all values stay what they were.
#[derive(Clone, Debug)]
pub(super) struct ProcessMetrics {
    cpu: Counter,
    resident: Gauge,
    virtual_memory: Gauge,
    open_fds: Gauge,
    max_fds: Gauge,
    threads: Gauge,
    start_time: Gauge,
}

impl ProcessMetrics {
    pub(super) fn new() -> prometheus::Result<Self> {
        let gauge = |name, help| Gauge::with_opts(Opts::new(format!("process_{name}"), help));
        Ok(Self {
            cpu: Counter::with_opts(Opts::new("process_cpu_seconds_total", "Processor time taken, in seconds."))?,
            resident: gauge("resident_memory_bytes", "Memory that is in use and in RAM.")?,
            virtual_memory: gauge("virtual_memory_bytes", "Address space.")?,
            open_fds: gauge("open_fds", "Open file descriptors.")?,
            max_fds: gauge("max_fds", "How many there may be.")?,
            threads: gauge("threads", "Threads.")?,
            start_time: gauge("start_time_seconds", "When the process started, as Unix time.")?,
        })
    }

    fn read(&self) -> ProcResult<()> {
        let process = Process::myself()?;
        let stat = process.stat()?;
        let seconds = |ticks: u64| as_metric(ticks) / as_metric(ticks_per_second());
        // Two scrapes at once may read in one order and get here in the other.
        self.cpu.inc_by((seconds(stat.utime + stat.stime) - self.cpu.get()).max(0.0));
        self.resident.set(as_metric(stat.rss_bytes().get()));
        self.virtual_memory.set(as_metric(stat.vsize));
        self.threads.set(as_metric(stat.num_threads.unsigned_abs()));
        self.open_fds.set(as_metric(process.fd_count()? as u64));
        self.max_fds.set(match process.limits()?.max_open_files.soft_limit {
            LimitValue::Value(most) => as_metric(most),
            LimitValue::Unlimited => f64::INFINITY,
        });
        self.start_time.set(as_metric(boot_time_secs()?) + seconds(stat.starttime));
        Ok(())
    }

    fn parts(&self) -> [&dyn Collector; 7] {
        [&self.cpu, &self.resident, &self.virtual_memory, &self.open_fds, &self.max_fds, &self.threads, &self.start_time]
    }
}

impl Collector for ProcessMetrics {
    fn desc(&self) -> Vec<&Desc> {
        self.parts().into_iter().flat_map(Collector::desc).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        if let Err(error) = self.read() {
            tracing::debug!(%error, "/proc does not tell of this process");
        }
        self.parts().into_iter().flat_map(Collector::collect).collect()
    }
}

/// Prometheus has floats alone; they are exact up to 2^53.
#[expect(clippy::cast_precision_loss, reason = "a sample is a float")]
fn as_metric(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_is_told_of_by_the_usual_names() {
        let families = ProcessMetrics::new().expect("well-formed names").collect();
        let values: Vec<_> = families
            .iter()
            .map(|family| {
                let metric = &family.get_metric()[0];
                (family.name(), metric.get_gauge().get_value().max(metric.get_counter().get_value()))
            })
            .collect();
        let names: Vec<_> = values.iter().map(|(name, _)| *name).collect();
        let usual = ["cpu_seconds_total", "resident_memory_bytes", "virtual_memory_bytes", "open_fds", "max_fds", "threads"];
        assert_eq!(names, [&usual[..], &["start_time_seconds"]].concat().iter().map(|name| format!("process_{name}")).collect::<Vec<_>>());
        for (name, value) in &values[1..] {
            assert!(*value > 0.0, "{name} is {value}");
        }
    }
}
