//! What copies take in memory: a cache of this process gets a million numbers, then changes, and the process' resident memory is read.
//!
//! `cargo bench --bench memory` prints the table of `docs/benchmarks.md`. Each fill has a process of its own, so that none finds memory
//! which another gave back. `cargo test` does small fills, and asserts only that `max_size` holds.

use std::collections::HashMap;
use std::io::{self, Write as _};
use std::process::Command;
use std::sync::Arc;

use bytes::Bytes;
use reputation_gateway::cache::{Cache, Config, Content, Key};
use reputation_gateway::clock::Clock;
use reputation_gateway::policy::entitlement::Partition;
use reputation_gateway::telnyx::record::Reputation;
use reputation_gateway::units::ByteSize;

const MIB: usize = 1 << 20;
/// Names a process that fills; its room in bytes and the count of numbers follow.
const FILL: &str = "fill";
/// As many as the gateway's threads on the machine of the table.
const THREADS: u64 = 2;
/// As long as the bodies with which the caching proxies in `docs/benchmarks.md` were measured.
const BODY: u64 = 574;
/// Bodies differ from that by so much once numbers change, so that no place that was freed fits exactly.
const SPREAD: u64 = 128;
/// An answer comes from its connection's buffer, behind its head.
const BUFFER: usize = 8192;
const HEAD: usize = 300;

/// How much is measured: numbers, and the rooms they are put into, of which the first is too small for them.
struct Plan {
    numbers: u64,
    rooms: [usize; 2],
}

const FIGURES: Plan = Plan { numbers: 1_000_000, rooms: [256 * MIB, 2048 * MIB] };
const TRIAL: Plan = Plan { numbers: 2_000, rooms: [MIB, 2048 * MIB] };

/// What is done with all numbers before memory is looked at.
type Act = fn(&Filling);

/// A body like Telnyx's, so long.
fn body(number: u64, length: u64) -> String {
    let id = format!(r#""id":"0b0e0c0e-7a2b-4b6c-9d1e-{number:012}","phone_number":"+{number}""#);
    let enterprise = r#""enterprise_id":"6a09cdc3-8948-47f0-aa62-74ac943d6c58""#;
    let scores = r#""maturity_score":88,"connection_score":74,"engagement_score":61,"sentiment_score":90"#;
    let data = format!(r#"{{"spam_risk":"low","spam_category":null,{scores},"last_refreshed_at":"2026-11-21T10:56:09Z"}}"#);
    let times = r#""created_at":"2026-01-05T08:00:00Z","updated_at":"2026-11-21T10:56:09Z""#;
    let record = format!(r#"{{"data":{{{id},{enterprise},"reputation_data":{data},{times},"comment":""#);
    let rest = usize::try_from(length).expect("short").saturating_sub(record.len() + 3);
    format!(r#"{record}{:x<rest$}"}}}}"#, "")
}

/// The body as a part of the buffer that it was read into.
fn received(body: &str) -> Bytes {
    let mut buffer = Vec::with_capacity(BUFFER);
    buffer.resize(HEAD, b'h');
    buffer.extend_from_slice(body.as_bytes());
    Bytes::from(buffer).slice(HEAD..)
}

/// Numbers are kept and read as the gateway does.
struct Filling {
    cache: Cache,
    clock: Clock,
    numbers: u64,
}

impl Filling {
    fn key(number: u64) -> Key {
        let enterprise = "6a09cdc3-8948-47f0-aa62-74ac943d6c58".parse().expect("a UUID");
        Key { partition: Partition::SHARED, enterprise, number: format!("+{number}").parse().expect("E.164") }
    }

    fn store(&self, nth: u64, length: u64) {
        let number = 12_000_000_000 + nth;
        let (key, begun, refreshed) = (Self::key(number), self.clock.elapsed(), self.clock.now());
        let body = received(&body(number, length));
        let content = Content::record(Reputation::Stored(Some(refreshed)), body, Some(refreshed));
        self.cache.keep(&self.cache.entry(&key, content, begun, self.clock.elapsed()));
    }

    fn read(&self, nth: u64) -> bool {
        self.cache.get(&Self::key(12_000_000_000 + nth)).is_some_and(|copy| !copy.body_to_send().is_empty())
    }

    /// All numbers once.
    fn fill(&self) {
        self.each(|nth, _| self.store(nth, BODY));
    }

    /// As often, of twice as many numbers any one, with a body of another length: a read, and a store where there was no copy or every
    /// other time.
    fn change(&self) {
        self.each(|nth, random| {
            let any = random % (2 * self.numbers);
            if !self.read(any) || nth % 2 == 0 {
                self.store(any, BODY - SPREAD + random / 7 % (2 * SPREAD));
            }
        });
    }

    /// Does something for every number on all threads, with a random one beside it.
    fn each(&self, act: impl Fn(u64, u64) + Sync) {
        std::thread::scope(|scope| {
            for thread in 0..THREADS {
                let act = &act;
                scope.spawn(move || {
                    let mut random = 0x9e37_79b9_7f4a_7c15 ^ thread;
                    for nth in (thread..self.numbers).step_by(usize::try_from(THREADS).expect("few")) {
                        random ^= random << 13;
                        random ^= random >> 7;
                        random ^= random << 17;
                        act(nth, random);
                    }
                });
            }
        });
    }
}

/// Resident memory of this process, in bytes.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a line");
    1024 * line.trim().trim_end_matches(" kB").parse::<usize>().expect("digits")
}

#[expect(clippy::cast_precision_loss, reason = "sizes of memory are far below 2^52")]
fn ratio(bytes: usize, to: usize) -> f64 {
    bytes as f64 / to as f64
}

/// Fills one cache and prints its lines: when it is full, and when everything in it has changed.
fn fill(room: usize, numbers: u64) -> io::Result<()> {
    let config = Config { max_size: ByteSize(room), ..Config::default() };
    let filling = Filling { cache: Cache::new(&config, HashMap::new(), Arc::new(|_| {})), clock: Clock::system(), numbers };
    let (base, mut seen) = (resident(), Vec::new());
    let acts: [(&str, Act); 2] = [("filled", Filling::fill), ("changed", Filling::change)];
    for (name, act) in acts {
        act(&filling);
        let (kept, counted) = filling.cache.size();
        let (kept, counted) = (usize::try_from(kept).expect("it is in memory"), usize::try_from(counted).expect("it is in memory"));
        let grown = resident().saturating_sub(base);
        let [counted_mib, grown_mib] = [counted, grown].map(|bytes| ratio(bytes, MIB));
        let (each, counted_each, of_room) = (grown / kept, counted / kept, ratio(grown, room));
        let place = format!("{} MiB, {name}", room / MIB);
        writeln!(
            io::stdout(),
            "{place:<20} {kept:>9} {counted_mib:>12.1} {grown_mib:>12.1} {each:>10} {counted_each:>10} {of_room:>10.2}"
        )?;
        assert!(counted <= room, "{counted} bytes in {room}");
        seen.push((of_room, ratio(counted, grown)));
    }
    // A small fill says nothing of either: what is there from the start outweighs it.
    if numbers == FIGURES.numbers {
        assert!(seen.iter().all(|(of_room, _)| *of_room <= 1.3), "resident memory in parts of the room: {seen:?}");
        assert!(seen.iter().all(|(_, told)| (told - 1.0).abs() <= 0.1), "what is counted in parts of resident memory: {seen:?}");
    }
    Ok(())
}

fn main() -> io::Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, name, room, numbers] = arguments.as_slice()
        && name == FILL
    {
        return fill(room.parse().expect("a size"), numbers.parse().expect("a count"));
    }
    let plan = if arguments.iter().any(|argument| argument == "--bench") { &FIGURES } else { &TRIAL };
    let mut out = io::stdout();
    writeln!(out, "{} numbers; sizes in MiB, and in bytes for one entry.\n", plan.numbers)?;
    writeln!(out, "max_size                  kept      counted     resident   resident    counted × max_size")?;
    for room in plan.rooms {
        let mut process = Command::new(std::env::current_exe()?);
        let ended = process.args([FILL, &room.to_string(), &plan.numbers.to_string()]).status()?;
        assert!(ended.success(), "filling {room} bytes: {ended}");
    }
    Ok(())
}
