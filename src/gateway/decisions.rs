//! The last requests, and how they came to what they came to: what an operator may want explained.
//!
//! A hit is remembered by the thread that served it, in a record of one size that takes no allocation. All else has its [`Trail`], and is remembered
//! apart: hits come too often to be let push out what cost money.

use std::cmp::Reverse;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::Method;
use jiff::Timestamp;

use super::answer::Bill;
use super::trail::Trail;
use super::visit::{Ended, How, LONGEST_REQUEST_ID};
use crate::policy::decide::Copy;
use crate::policy::decision::Decision;
use crate::telemetry::Recent;
use crate::telemetry::metrics::CallerCounters;
use crate::telnyx::{EnterpriseId, Operation, PhoneNumber};

/// Steps that are kept for each request on the average. What has more, such as refreshes of many numbers, pushes others out sooner.
const STEPS_EACH: usize = 16;

/// Callers' names, by what stands for them in a hit's record.
pub(super) type Names = HashMap<u32, Arc<str>>;

/// The last requests.
#[derive(Debug)]
pub(super) struct Decisions {
    most: usize,
    hits: Recent<Hit>,
    others: Mutex<Others>,
}

/// A request that has been answered, or abandoned.
#[derive(Clone, Debug)]
pub(super) struct Record {
    pub(super) at: Timestamp,
    pub(super) request_id: Box<str>,
    pub(super) caller: Arc<str>,
    pub(super) method: Method,
    pub(super) operation: Operation,
    pub(super) enterprise: Option<EnterpriseId>,
    pub(super) number: Option<PhoneNumber>,
    pub(super) status: u16,
    pub(super) decision: Decision,
    pub(super) bill: Bill,
    pub(super) duration: Duration,
    pub(super) upstream: Duration,
    pub(super) course: Course,
}

/// How a request came to what it came to.
#[derive(Clone, Debug)]
pub(super) enum Course {
    /// By a copy; none, if it was a page of a list.
    Hit(Option<Copy>),
    /// Step by step.
    Trail(Trail),
}

/// Which requests are wanted: all that meet every condition that is set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Of this caller.
    pub caller: Option<String>,
    /// Decided so.
    pub decision: Option<Decision>,
    /// Billed, as answers say it: `yes`, `no` or `unknown`.
    pub billed: Option<&'static str>,
}

impl Wanted {
    fn takes(&self, caller: &str, decision: Decision, billed: &str) -> bool {
        self.caller.as_deref().is_none_or(|wanted| wanted == caller)
            && self.decision.is_none_or(|wanted| wanted == decision)
            && self.billed.is_none_or(|wanted| wanted == billed)
    }
}

/// What is kept of a hit.
#[derive(Debug)]
struct Hit {
    at: Timestamp,
    caller: u32,
    is_head: bool,
    operation: Operation,
    enterprise: Option<EnterpriseId>,
    number: Option<PhoneNumber>,
    status: u16,
    duration: Duration,
    copy: Option<Copy>,
    id_length: usize,
    id: [u8; LONGEST_REQUEST_ID],
}

#[derive(Debug, Default)]
struct Others {
    /// The newest last, each with how many steps it had when it was recorded.
    records: VecDeque<(Record, usize)>,
    steps: usize,
}

impl Decisions {
    /// Remembers so many requests that were no hits, and as many hits of each thread.
    pub(super) fn new(most: usize) -> Self {
        Self { most, hits: Recent::new(most), others: Mutex::default() }
    }

    /// How many are remembered.
    pub(super) fn most(&self) -> usize {
        self.most
    }

    /// For a request that begins; none, where nothing is remembered.
    pub(super) fn trail(&self) -> Option<Trail> {
        (self.most > 0).then(Trail::default)
    }

    /// Remembers a request that has ended.
    #[inline]
    pub(super) fn record(&self, ended: &Ended<'_>, caller: &CallerCounters) {
        match ended.how {
            How::Copy(copy) => self.hits.push(Hit::of(ended, caller, Some(copy))),
            How::Trail(trail) if ended.decision == Decision::Hit => self.hits.push(Hit::of(ended, caller, trail.copy())),
            How::Trail(trail) => self.lock().push(Record::of(ended, caller, trail), self.most),
            How::Forgotten => {}
        }
    }

    /// The last requests of this id, the newest first.
    pub(super) fn of_id(&self, id: &str, limit: usize, names: &Names) -> Vec<Record> {
        let hits = self.hits.pick(limit, |hit| (hit.id() == id).then(|| hit.record(names)));
        self.merged(hits, |record| *record.request_id == *id, limit)
    }

    /// The last requests of these, the newest first.
    pub(super) fn last(&self, limit: usize, wanted: &Wanted, names: &Names) -> Vec<Record> {
        let takes_hits = Wanted { caller: None, ..wanted.clone() }.takes("", Decision::Hit, Bill::NOTHING.billing.answer());
        // A number is compared sooner than a name, and a thread that serves hits waits meanwhile.
        let number = |name: &String| names.iter().find(|(_, known)| ***known == **name).map(|(number, _)| *number);
        let caller = wanted.caller.as_ref().map(number);
        let hit = |hit: &Hit| caller.is_none_or(|caller| caller == Some(hit.caller)).then(|| hit.record(names));
        let hits = if takes_hits { self.hits.pick(limit, hit) } else { Vec::new() };
        let takes = |record: &Record| wanted.takes(&record.caller, record.decision, record.bill.billing.answer());
        self.merged(hits, takes, limit)
    }

    /// These hits and the last of all else, the newest first.
    fn merged(&self, mut found: Vec<Record>, takes: impl Fn(&Record) -> bool, limit: usize) -> Vec<Record> {
        found.extend(self.lock().newest_first().filter(|record| takes(record)).take(limit).cloned());
        found.sort_by_key(|record| Reverse(record.at));
        found.truncate(limit);
        found
    }

    fn lock(&self) -> MutexGuard<'_, Others> {
        self.others.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Others {
    fn push(&mut self, record: Record, most: usize) {
        let steps = match &record.course {
            Course::Trail(trail) => trail.len(),
            Course::Hit(_) => 0,
        };
        self.steps += steps;
        self.records.push_back((record, steps));
        while self.records.len() > most || (self.steps > most.saturating_mul(STEPS_EACH) && self.records.len() > 1) {
            self.steps -= self.records.pop_front().map_or(0, |(_, steps)| steps);
        }
    }

    fn newest_first(&self) -> impl Iterator<Item = &Record> {
        self.records.iter().rev().map(|(record, _)| record)
    }
}

impl Record {
    fn of(ended: &Ended<'_>, caller: &CallerCounters, trail: &Trail) -> Self {
        Self {
            at: ended.at,
            request_id: ended.request_id.into(),
            caller: Arc::clone(caller.name()),
            method: ended.method.clone(),
            operation: ended.operation,
            enterprise: ended.enterprise,
            number: ended.number,
            status: ended.status,
            decision: ended.decision,
            bill: ended.bill,
            duration: ended.duration,
            upstream: ended.upstream,
            course: Course::Trail(trail.clone()),
        }
    }
}

impl Hit {
    #[inline]
    fn of(ended: &Ended<'_>, caller: &CallerCounters, copy: Option<Copy>) -> Self {
        let mut id = [0; LONGEST_REQUEST_ID];
        let given = ended.request_id.as_bytes();
        let id_length = given.len().min(LONGEST_REQUEST_ID);
        id[..id_length].copy_from_slice(&given[..id_length]);
        Self {
            at: ended.at,
            caller: caller.number(),
            is_head: *ended.method == Method::HEAD,
            operation: ended.operation,
            enterprise: ended.enterprise,
            number: ended.number,
            status: ended.status,
            duration: ended.duration,
            copy,
            id_length,
            id,
        }
    }

    fn id(&self) -> &str {
        std::str::from_utf8(&self.id[..self.id_length]).unwrap_or_default()
    }

    fn record(&self, names: &Names) -> Record {
        Record {
            at: self.at,
            request_id: self.id().into(),
            caller: names.get(&self.caller).cloned().unwrap_or_default(),
            method: if self.is_head { Method::HEAD } else { Method::GET },
            operation: self.operation,
            enterprise: self.enterprise,
            number: self.number,
            status: self.status,
            decision: Decision::Hit,
            bill: Bill::NOTHING,
            duration: self.duration,
            upstream: Duration::ZERO,
            course: Course::Hit(self.copy),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::trail::Step;
    use super::super::wait::Unmet;
    use super::*;

    fn record(id: &str, steps: usize) -> Record {
        let trail = Trail::default();
        (0..steps).for_each(|_| trail.note(|| Step::Unmet(Unmet::TooLong)));
        Record {
            at: Timestamp::UNIX_EPOCH,
            request_id: id.into(),
            caller: Arc::from("dialer"),
            method: Method::GET,
            operation: Operation::Refresh,
            enterprise: None,
            number: None,
            status: 200,
            decision: Decision::Billed,
            bill: Bill::NOTHING,
            duration: Duration::ZERO,
            upstream: Duration::ZERO,
            course: Course::Trail(trail),
        }
    }

    #[test]
    fn what_has_many_steps_pushes_others_out_sooner_and_is_kept_itself() {
        let mut others = Others::default();
        let kept = |others: &Others| others.newest_first().map(|record| record.request_id.to_string()).collect::<Vec<_>>();
        for (id, steps, expected) in [
            ("a", STEPS_EACH, &["a"][..]),
            ("b", STEPS_EACH, &["b", "a"]),
            ("c", STEPS_EACH, &["c", "b", "a"]),
            ("d", STEPS_EACH, &["d", "c", "b"]),
            ("e", 2 * STEPS_EACH, &["e", "d"]),
            ("f", 5 * STEPS_EACH, &["f"]),
            ("g", 0, &["g"]),
        ] {
            others.push(record(id, steps), 3);
            assert_eq!(kept(&others), expected, "after {id}");
        }
        assert_eq!(others.steps, 0);
    }
}
