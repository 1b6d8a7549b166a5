//! Lines of the log on their way to their reader: each thread appends to a buffer of its own, and one thread writes them all.
//!
//! The first line after a pause wakes the writer, which waits a moment for more and then writes all there is at once. So a line costs who logs it
//! a lock that nobody else wants and the copying of its bytes. A reader that stops reading costs lines, never requests: a buffer that is full
//! takes no more, and how many lines were dropped is logged as soon as there is room again. What is written at once is put in the order of its times.

use std::io::{self, ErrorKind, Write};
use std::mem;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{self, Thread};
use std::time::Duration;

use jiff::Timestamp;
use prometheus::IntCounter;
use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;

use super::slots::{Slot, Slots};
use super::stamp::Stamp;
use crate::clock::Clock;

/// A buffer takes no line beyond so many bytes.
const FULL: usize = 1 << 20;

/// A buffer of so many bytes is written at once.
const MUCH: usize = FULL / 4;

/// How long a reader is given that has left no room.
const FULL_PIPE: Duration = Duration::from_millis(5);

/// Lines that wait to be written.
#[derive(Debug)]
pub(super) struct Spool {
    pending: Slots<Mutex<Pending>>,
    /// Whether the writer sleeps until it is woken.
    asleep: AtomicBool,
    /// Whether the writer is not to wait for more.
    hurried: AtomicBool,
    /// Whether the writer is to end when all is written.
    closed: AtomicBool,
    writer: OnceLock<Thread>,
    dropped: IntCounter,
}

/// What one thread has said.
#[derive(Debug, Default)]
struct Pending {
    lines: Lines,
    stamp: Stamp,
}

#[derive(Debug, Default)]
struct Lines {
    /// Whole lines, each with its end.
    bytes: Vec<u8>,
    ends: Vec<End>,
}

/// Where a line ends.
#[derive(Clone, Copy, Debug)]
struct End {
    /// The line's time, in microseconds since 1970.
    at: i64,
    end: usize,
}

fn lock(pending: &Mutex<Pending>) -> MutexGuard<'_, Pending> {
    pending.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Spool {
    /// `dropped` counts the lines for which there was no room.
    pub(super) fn new(dropped: IntCounter) -> Self {
        Self {
            pending: Slots::default(),
            asleep: AtomicBool::new(false),
            hurried: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            writer: OnceLock::new(),
            dropped,
        }
    }

    /// Appends the line of this time, which `write` makes.
    pub(super) fn append(&self, at: Timestamp, write: impl FnOnce(&mut Vec<u8>, &mut Stamp)) {
        let mut pending = lock(self.pending.at(Slot::own()));
        let Pending { lines, stamp } = &mut *pending;
        if lines.bytes.len() >= FULL {
            return self.dropped.inc();
        }
        write(&mut lines.bytes, stamp);
        lines.ends.push(End { at: at.as_microsecond(), end: lines.bytes.len() });
        let much = lines.bytes.len() >= MUCH;
        drop(pending);
        // Also where there is much: a writer that was hurried when it had nothing to write sleeps, and is not hurried again.
        if self.asleep.load(Ordering::Relaxed) && self.asleep.swap(false, Ordering::Relaxed) {
            self.wake();
        }
        if much {
            self.hurry();
        }
    }

    /// Has what is waiting written at once.
    pub(super) fn hurry(&self) {
        if !self.hurried.load(Ordering::Relaxed) && !self.hurried.swap(true, Ordering::AcqRel) {
            self.wake();
        }
    }

    /// Has what is waiting written, and ends the writer.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.wake();
    }

    fn wake(&self) {
        // A writer that has not begun looks before it sleeps.
        if let Some(writer) = self.writer.get() {
            writer.unpark();
        }
    }

    /// Writes lines until the spool is closed, and waits for more for so long after the first.
    pub(super) fn run(&self, mut out: impl Write, gathering: Duration) {
        // So there is always room for what the writer itself has to say.
        Slot::take_first();
        // Nobody else is the writer of this spool.
        let _first = self.writer.set(thread::current());
        let (mut batch, mut told) = (Batch::default(), self.dropped.get());
        loop {
            self.await_lines(gathering);
            let ends = self.closed.load(Ordering::Acquire);
            self.take(&mut batch);
            batch.write_to(&mut out);
            let dropped = self.dropped.get();
            if dropped > told {
                tracing::warn!(lines = dropped - told, "lines of the log were dropped: its reader was too slow");
                told = dropped;
            }
            if ends {
                // What was said just now.
                self.take(&mut batch);
                return batch.write_to(&mut out);
            }
        }
    }

    /// Sleeps until there is a line, and then for as long as it may wait for others.
    fn await_lines(&self, gathering: Duration) {
        // All of them, since it is by their locks that either sees what the other did first.
        let is_needed = || self.closed.load(Ordering::Acquire) || !self.pending.all().all(|pending| lock(pending).lines.ends.is_empty());
        while !is_needed() {
            // Who appends after the next look sees this, and who did before is seen.
            self.asleep.store(true, Ordering::Relaxed);
            if !is_needed() {
                thread::park();
            }
            self.asleep.store(false, Ordering::Relaxed);
        }
        if !self.hurried.load(Ordering::Acquire) && !self.closed.load(Ordering::Acquire) {
            thread::park_timeout(gathering);
        }
        // The lines of who hurries after this are written in the next round.
        self.hurried.swap(false, Ordering::AcqRel);
    }

    /// Takes what is waiting. All buffers stand still for it: a line that is taken has every line before it with it, or behind it.
    fn take(&self, batch: &mut Batch) {
        batch.0.resize_with(self.pending.all().count(), Lines::default);
        let mut pending: Vec<_> = self.pending.all().map(lock).collect();
        for (pending, taken) in pending.iter_mut().zip(&mut batch.0) {
            mem::swap(&mut pending.lines, taken);
        }
    }
}

/// Lines that are written at once, by thread.
#[derive(Debug, Default)]
struct Batch(Vec<Lines>);

impl Batch {
    /// Writes and forgets them.
    fn write_to(&mut self, out: &mut impl Write) {
        let mut filled = self.0.iter().filter(|lines| !lines.ends.is_empty());
        match (filled.next(), filled.next()) {
            (None, _) => {}
            (Some(only), None) => write_all(out, &only.bytes),
            (Some(_), Some(_)) => write_all(out, &self.merged()),
        }
        for lines in &mut self.0 {
            lines.bytes.clear();
            lines.bytes.shrink_to(MUCH);
            lines.ends.clear();
            lines.ends.shrink_to(MUCH / size_of::<End>());
        }
    }

    /// All threads' lines, in the order of their times.
    fn merged(&self) -> Vec<u8> {
        let mut ordered: Vec<(i64, &[u8])> = Vec::with_capacity(self.0.iter().map(|lines| lines.ends.len()).sum());
        for Lines { bytes, ends } in &self.0 {
            let mut begin = 0;
            for End { at, end } in ends.iter().copied() {
                ordered.push((at, &bytes[mem::replace(&mut begin, end)..end]));
            }
        }
        ordered.sort_by_key(|(at, _)| *at);
        let mut merged = Vec::with_capacity(self.0.iter().map(|lines| lines.bytes.len()).sum());
        for (_, line) in ordered {
            merged.extend_from_slice(line);
        }
        merged
    }
}

/// Writes all bytes, and waits where there is no room for them: who shares standard error with this process may have made it one that does not wait.
/// If it fails they are lost, and there is nowhere to say so.
fn write_all(out: &mut impl Write, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        match out.write(bytes) {
            Ok(0) => return,
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => thread::park_timeout(FULL_PIPE),
            Err(_) => return,
        }
    }
}

/// Appends the events of `tracing`; warnings and errors do not wait.
#[derive(Clone, Debug)]
pub(super) struct Events(pub(super) Arc<Spool>);

/// One event.
#[derive(Debug)]
pub(super) struct Event<'s> {
    spool: &'s Spool,
    is_urgent: bool,
}

impl<'s> MakeWriter<'s> for Events {
    type Writer = Event<'s>;

    fn make_writer(&'s self) -> Event<'s> {
        Event { spool: &self.0, is_urgent: false }
    }

    fn make_writer_for(&'s self, event: &Metadata<'_>) -> Event<'s> {
        Event { spool: &self.0, is_urgent: *event.level() <= Level::WARN }
    }
}

/// `tracing` writes each event whole.
impl Write for Event<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.spool.append(Clock::system().now(), |bytes, _| bytes.extend_from_slice(line));
        if self.is_urgent {
            self.spool.hurry();
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use tracing_subscriber::fmt;

    use super::*;

    const HOUR: Duration = Duration::from_hours(1);

    fn spool() -> Spool {
        Spool::new(IntCounter::new("dropped", "Lines.").expect("a name"))
    }

    fn append(spool: &Spool, line: &str) {
        spool.append(Clock::system().now(), |bytes, _| bytes.extend_from_slice(line.as_bytes()));
    }

    /// Tells what is written, and then waits until it may go on, if it has to ask.
    struct Reader {
        read: Sender<String>,
        go_on: Option<Receiver<()>>,
    }

    impl Write for Reader {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.read.send(String::from_utf8_lossy(bytes).into_owned()).expect("a test that waits");
            if let Some(go_on) = &self.go_on {
                go_on.recv().expect("a test that lets go on");
            }
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Ends the writer, whatever becomes of the test.
    struct Closes<'s>(&'s Arc<Spool>);

    impl Drop for Closes<'_> {
        fn drop(&mut self) {
            self.0.close();
        }
    }

    /// Runs `test` beside the writer, whose events go into the same spool.
    fn beside(go_on: Option<Receiver<()>>, gathering: Duration, test: impl FnOnce(&Arc<Spool>, Receiver<String>)) {
        let spool = Arc::new(spool());
        let (read, written) = channel();
        thread::scope(|scope| {
            let subscriber = fmt().with_writer(Events(Arc::clone(&spool))).without_time().with_ansi(false).finish();
            let writer = Arc::clone(&spool);
            scope.spawn(move || tracing::subscriber::with_default(subscriber, || writer.run(Reader { read, go_on }, gathering)));
            let closes = Closes(&spool);
            test(closes.0, written);
        });
    }

    #[test]
    fn lines_are_gathered_until_one_cannot_wait() {
        beside(None, HOUR, |spool, written| {
            append(spool, "one\n");
            append(spool, "two\n");
            let subscriber = fmt().with_writer(Events(Arc::clone(spool))).without_time().with_ansi(false).finish();
            tracing::subscriber::with_default(subscriber, || tracing::warn!("three"));
            assert_eq!(written.recv().as_deref(), Ok("one\ntwo\n WARN reputation_gateway::telemetry::spool::tests: three\n"));
        });
    }

    #[test]
    fn a_writer_that_was_hurried_for_nothing_is_woken_by_what_comes_then() {
        beside(None, HOUR, |spool, written| {
            let falls_asleep = || {
                while !spool.asleep.load(Ordering::SeqCst) {
                    thread::yield_now();
                }
            };
            falls_asleep();
            // The line of who comes to say that it is urgent was written just before.
            spool.hurry();
            falls_asleep();
            append(spool, &"x".repeat(MUCH));
            assert_eq!(written.recv().map(|written| written.len()), Ok(MUCH));
        });
    }

    #[test]
    fn a_line_alone_is_written_when_the_wait_is_over() {
        beside(None, Duration::from_millis(1), |spool, written| {
            for line in ["one\n", "two\n"] {
                append(spool, line);
                assert_eq!(written.recv().as_deref(), Ok(line));
            }
        });
    }

    #[test]
    fn what_is_waiting_at_the_end_is_written() {
        let (spool, (read, written)) = (spool(), channel());
        append(&spool, "last\n");
        spool.close();
        spool.run(Reader { read, go_on: None }, HOUR);
        assert_eq!(written.try_recv().as_deref(), Ok("last\n"));
    }

    #[test]
    fn a_pipe_that_is_full_for_a_while_loses_nothing() {
        struct Pipe(Vec<u8>, u32);
        impl Write for Pipe {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.1 += 1;
                match self.1 % 3 {
                    0 => Err(ErrorKind::WouldBlock.into()),
                    1 => Err(ErrorKind::Interrupted.into()),
                    _ => self.0.write(&bytes[..1]),
                }
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let mut pipe = Pipe(Vec::new(), 0);
        write_all(&mut pipe, b"line\n");
        assert_eq!(pipe.0, b"line\n");
    }

    #[test]
    fn every_line_of_many_threads_comes_whole_and_in_its_threads_order() {
        const LINES: usize = 2_000;
        let spool = spool();
        let (read, written) = channel();
        thread::scope(|scope| {
            scope.spawn(|| spool.run(Reader { read, go_on: None }, Duration::ZERO));
            let threads: Vec<_> = (0..80)
                .map(|thread| {
                    let spool = &spool;
                    scope.spawn(move || (0..LINES).for_each(|line| append(spool, &format!("{thread} {line}\n"))))
                })
                .collect();
            for thread in threads {
                thread.join().expect("a thread that appends");
            }
            spool.close();
        });
        let mut next = [0; 80];
        for line in written.iter().collect::<String>().lines() {
            let (thread, line) = line.split_once(' ').expect("a whole line");
            let next = &mut next[thread.parse::<usize>().expect("a thread")];
            assert_eq!(line.parse(), Ok(*next));
            *next += 1;
        }
        assert_eq!(next, [LINES; 80]);
    }

    #[test]
    fn lines_of_several_threads_are_written_in_the_order_of_their_times() {
        let (spool, (read, written)) = (spool(), channel());
        let at = |second| Timestamp::from_second(second).expect("a time");
        for seconds in [[1, 4, 5], [2, 3, 6]] {
            let append =
                || seconds.map(|second| spool.append(at(second), |bytes, _| bytes.extend_from_slice(format!("{second}\n").as_bytes())));
            thread::scope(|scope| scope.spawn(append).join().expect("a thread that appends"));
        }
        spool.close();
        spool.run(Reader { read, go_on: None }, HOUR);
        assert_eq!(written.try_recv().as_deref(), Ok("1\n2\n3\n4\n5\n6\n"));
    }

    #[test]
    fn a_reader_that_stops_costs_lines_and_is_told_how_many() {
        let (let_go_on, go_on) = channel();
        beside(Some(go_on), Duration::ZERO, move |spool, written| {
            append(spool, "first\n");
            assert_eq!(written.recv().as_deref(), Ok("first\n"));
            // The writer is stuck now. One more line makes this thread's buffer full.
            append(spool, &format!("{}\n", "x".repeat(FULL)));
            for _ in 0..3 {
                append(spool, "one too many\n");
            }
            assert_eq!(spool.dropped.get(), 3);
            let_go_on.send(()).expect("a writer");
            let told = written.recv().expect("the long line, and a warning");
            assert!(told.len() > FULL && !told.contains("one too many"), "{} bytes", told.len());
            assert!(told.ends_with("lines of the log were dropped: its reader was too slow lines=3\n"), "{}", &told[FULL..]);
            let_go_on.send(()).expect("a writer");
            append(spool, "room again\n");
            assert_eq!(written.recv().as_deref(), Ok("room again\n"));
            let_go_on.send(()).expect("a writer");
        });
    }
}
