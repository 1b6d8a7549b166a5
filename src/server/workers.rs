//! Threads that serve connections, each with a runtime of its own: nothing that a request needs is taken from another thread's hands, and
//! none is woken for it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, JoinHandle, available_parallelism};

use tokio::runtime::{Builder, Handle};
use tokio_util::sync::CancellationToken;

/// The threads. They end when this is dropped, and what they serve ends with them.
#[derive(Debug)]
pub struct Workers {
    workers: Vec<Worker>,
    ending: CancellationToken,
}

#[derive(Debug)]
struct Worker {
    handle: Handle,
    connections: Arc<AtomicUsize>,
    thread: Option<JoinHandle<()>>,
}

/// A connection's place in its worker's count.
#[derive(Debug)]
pub(super) struct Seat(Arc<AtomicUsize>);

impl Workers {
    /// So many threads; 0 means one per core.
    pub fn start(count: usize) -> io::Result<Self> {
        let count = if count == 0 { available_parallelism()?.get() } else { count };
        let mut workers = Self { workers: Vec::new(), ending: CancellationToken::new() };
        for nth in 0..count {
            let runtime = Builder::new_current_thread().enable_all().build()?;
            let (handle, ending) = (runtime.handle().clone(), workers.ending.clone());
            let serve = move || runtime.block_on(ending.cancelled());
            let thread = thread::Builder::new().name(format!("worker-{nth}")).spawn(serve)?;
            workers.workers.push(Worker { handle, connections: Arc::default(), thread: Some(thread) });
        }
        Ok(workers)
    }

    /// The worker with the fewest connections, which gets one more.
    pub(super) fn least_busy(&self) -> (&Handle, Seat) {
        let load = |worker: &&Worker| worker.connections.load(Ordering::Relaxed);
        let worker = self.workers.iter().min_by_key(load).expect("there is at least one");
        worker.connections.fetch_add(1, Ordering::Relaxed);
        (&worker.handle, Seat(Arc::clone(&worker.connections)))
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.ending.cancel();
        for thread in self.workers.iter_mut().filter_map(|worker| worker.thread.take()) {
            if thread.join().is_err() {
                tracing::error!("a worker's runtime panicked");
            }
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_connection_goes_to_the_worker_with_the_fewest() {
        let workers = Workers::start(2).expect("threads");
        let counts = || workers.workers.iter().map(|worker| worker.connections.load(Ordering::Relaxed)).collect::<Vec<_>>();
        let (first, _second, _third) = (workers.least_busy().1, workers.least_busy().1, workers.least_busy().1);
        assert_eq!(counts(), [2, 1]);
        drop(first);
        let (_fourth, _fifth) = (workers.least_busy().1, workers.least_busy().1);
        assert_eq!(counts(), [2, 2]);
        assert_eq!(Workers::start(0).expect("threads").workers.len(), available_parallelism().expect("a count").get());
    }
}
