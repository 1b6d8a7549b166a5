//! What waits for each receiver, and when it is due.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::Delivery;
use super::delivery::{Endpoint, Outcome, pause};
use super::notice::Notice;

/// Events that wait for one receiver; with one more the oldest goes, since the newest say more.
pub(super) const MOST: usize = 1_000;
/// How long an event is posted again after it was told.
pub(super) const LIFE: Duration = Duration::from_hours(24);

/// A queue for each receiver.
#[derive(Debug, Default)]
pub(super) struct Queue {
    places: Vec<Place>,
    /// Each delivery is the last.
    is_stopping: bool,
}

#[derive(Debug)]
struct Place {
    endpoint: Arc<Endpoint>,
    waiting: VecDeque<Waiting>,
    /// Whether something is being posted.
    is_busy: bool,
    /// When the receiver wants to be asked again (monotonic).
    rests_until: Duration,
}

#[derive(Debug)]
struct Waiting {
    notice: Arc<Notice>,
    failures: u32,
    /// When it is to be posted, and until when (monotonic).
    due: Duration,
    until: Duration,
}

/// One delivery that is to be made.
#[derive(Debug)]
pub(super) struct Turn {
    pub(super) endpoint: Arc<Endpoint>,
    pub(super) notice: Arc<Notice>,
    failures: u32,
    until: Duration,
}

impl Queue {
    /// Tells how many events waited for receivers that are not there any more.
    pub(super) fn replace(&mut self, endpoints: Vec<Endpoint>) -> usize {
        let mut former = std::mem::take(&mut self.places);
        self.places = endpoints.into_iter().map(|endpoint| place(endpoint, &mut former)).collect();
        former.iter().map(|place| place.waiting.len()).sum()
    }

    /// Tells how many were thrown away to make room.
    pub(super) fn push(&mut self, notice: &Arc<Notice>, now: Duration) -> usize {
        let mut dropped = 0;
        for place in self.places.iter_mut().filter(|place| place.endpoint.events.contains(&notice.kind)) {
            if place.waiting.len() >= MOST {
                place.waiting.pop_front();
                dropped += 1;
            }
            place.waiting.push_back(Waiting { notice: Arc::clone(notice), failures: 0, due: now, until: now + LIFE });
        }
        dropped
    }

    /// What is due and goes to a receiver that nothing is being posted to; of several the one that is due the longest.
    pub(super) fn take(&mut self, now: Duration) -> Option<Turn> {
        let place = self.places.iter_mut().find(|place| place.due().is_some_and(|due| due <= now))?;
        let (nth, _) = place.waiting.iter().enumerate().min_by_key(|(_, waiting)| waiting.due)?;
        let Waiting { notice, failures, until, .. } = place.waiting.remove(nth)?;
        place.is_busy = true;
        Some(Turn { endpoint: Arc::clone(&place.endpoint), notice, failures, until })
    }

    /// When the next one is due.
    pub(super) fn due(&self) -> Option<Duration> {
        self.places.iter().filter_map(Place::due).min()
    }

    /// Takes note of what became of a delivery.
    pub(super) fn settle(&mut self, turn: Turn, outcome: &Outcome, now: Duration) -> Delivery {
        let Turn { endpoint, notice, failures, until } = turn;
        let place = self.places.iter_mut().find(|place| place.endpoint.url == endpoint.url);
        let retry_after = match outcome {
            Outcome::Taken | Outcome::Gone => {
                if let Some(place) = place {
                    place.is_busy = false;
                }
                return if *outcome == Outcome::Taken { Delivery::Delivered } else { Delivery::GivenUp };
            }
            Outcome::Failed { retry_after, .. } => retry_after.unwrap_or_default().min(LIFE),
        };
        let Some(place) = place else { return Delivery::GivenUp };
        place.is_busy = false;
        if self.is_stopping {
            return Delivery::GivenUp;
        }
        place.rests_until = place.rests_until.max(now + retry_after);
        let failures = failures.saturating_add(1);
        let due = now + pause(failures, &notice.id).max(retry_after);
        if due > until {
            return Delivery::GivenUp;
        }
        // It is among the oldest, which go first where there is no room.
        if place.waiting.len() >= MOST {
            return Delivery::Dropped;
        }
        place.waiting.push_front(Waiting { notice, failures, due, until });
        Delivery::Failed
    }

    /// Whatever waits is due, once.
    pub(super) fn stop(&mut self) {
        self.is_stopping = true;
        for place in &mut self.places {
            place.rests_until = Duration::ZERO;
            place.waiting.iter_mut().for_each(|waiting| waiting.due = Duration::ZERO);
        }
    }

    /// Whether it was stopped, and nothing is left.
    pub(super) fn is_finished(&self) -> bool {
        self.is_stopping && self.len() == 0
    }

    /// How many wait or are being posted.
    pub(super) fn len(&self) -> usize {
        self.places.iter().map(|place| place.waiting.len() + usize::from(place.is_busy)).sum()
    }
}

impl Place {
    /// When something is due here; nothing while something is being posted.
    fn due(&self) -> Option<Duration> {
        let due = self.waiting.iter().map(|waiting| waiting.due).min().filter(|_| !self.is_busy)?;
        Some(due.max(self.rests_until))
    }
}

/// A receiver's place, with what its former one had.
fn place(endpoint: Endpoint, former: &mut Vec<Place>) -> Place {
    let endpoint = Arc::new(endpoint);
    match former.iter().position(|place| place.endpoint.url == endpoint.url) {
        Some(nth) => Place { endpoint, ..former.swap_remove(nth) },
        None => Place { endpoint, waiting: VecDeque::new(), is_busy: false, rests_until: Duration::ZERO },
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::secret::Secret;
    use crate::webhook::{Config, Kind};

    const RECEIVERS: [&str; 2] = ["https://one.example/", "https://other.example/"];

    /// A queue for two receivers, and one event told at 100 s.
    fn told() -> Queue {
        let config = |url: &str| Config {
            url: url.parse().expect("a URL"),
            secret: Secret::Plain("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".to_owned()),
            events: Kind::ALL.to_vec(),
            timeout: "10s".parse().expect("a time"),
        };
        let mut queue = Queue::default();
        queue.replace(RECEIVERS.iter().map(|url| Endpoint::new(&config(url)).expect("a key")).collect());
        assert_eq!(queue.push(&notice(true), secs(100)), 0);
        queue
    }

    fn notice(on: bool) -> Arc<Notice> {
        Arc::new(Notice::kill_switch(on, Timestamp::UNIX_EPOCH, None, None))
    }

    const fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn failed(retry_after: Option<u64>) -> Outcome {
        Outcome::Failed { why: "it answers 503".to_owned(), retry_after: retry_after.map(secs) }
    }

    #[test]
    fn nothing_else_is_posted_to_a_receiver_that_is_busy_or_wants_rest_and_the_other_is_not_held_up() {
        let mut queue = told();
        let first = queue.take(secs(100)).expect("due");
        let other = queue.take(secs(100)).expect("due");
        assert_eq!((first.endpoint.url.to_string(), other.endpoint.url.to_string()), (RECEIVERS[0].to_owned(), RECEIVERS[1].to_owned()));
        queue.push(&notice(false), secs(101));
        assert!(queue.take(secs(101)).is_none() && queue.due().is_none(), "both are busy");
        assert_eq!(queue.settle(first, &failed(Some(120)), secs(102)), Delivery::Failed);
        assert_eq!(queue.settle(other, &Outcome::Taken, secs(102)), Delivery::Delivered);
        assert_eq!(queue.take(secs(102)).expect("due").endpoint.url.to_string(), RECEIVERS[1]);
        assert_eq!(queue.due(), Some(secs(222)), "for the new event too");
        assert!(queue.take(secs(221)).is_none());
        assert!(queue.take(secs(222)).is_some());
    }

    #[test]
    fn an_event_is_given_up_when_its_next_delivery_would_be_more_than_a_day_after_it() {
        let (mut queue, mut now, mut failures) = (told(), secs(100), 0);
        queue.replace(Vec::new());
        queue.replace(told().places.into_iter().take(1).filter_map(|place| Arc::into_inner(place.endpoint)).collect());
        queue.push(&notice(true), now);
        let became = loop {
            let turn = queue.take(now).expect("due");
            failures += 1;
            match queue.settle(turn, &failed(None), now) {
                Delivery::Failed => now = queue.due().expect("it waits"),
                became => break became,
            }
        };
        assert_eq!((became, queue.len()), (Delivery::GivenUp, 0));
        assert!(now <= secs(100) + LIFE && now > Duration::from_hours(23), "{now:?}");
        assert!((30..60).contains(&failures), "{failures}");
    }

    #[test]
    fn a_receiver_that_is_gone_is_not_asked_for_the_same_again() {
        let mut queue = told();
        let turn = queue.take(secs(100)).expect("due");
        assert_eq!((queue.settle(turn, &Outcome::Gone, secs(100)), queue.len()), (Delivery::GivenUp, 1));
    }

    #[test]
    fn after_a_stop_each_event_is_posted_once_more_at_once() {
        let mut queue = told();
        for _ in 0..2 {
            let turn = queue.take(secs(100)).expect("due");
            assert_eq!(queue.settle(turn, &failed(Some(600)), secs(100)), Delivery::Failed);
        }
        assert!(queue.take(secs(101)).is_none());
        queue.stop();
        for became in [Delivery::Delivered, Delivery::GivenUp] {
            let turn = queue.take(secs(101)).expect("due");
            let outcome = if became == Delivery::Delivered { Outcome::Taken } else { failed(None) };
            assert!(!queue.is_finished());
            assert_eq!(queue.settle(turn, &outcome, secs(101)), became);
        }
        assert!(queue.is_finished());
    }
}
