//! A read of one number: gather facts, ask `decide`, act, and ask again with what was learnt.

use std::sync::Arc;
use std::time::Duration;

use super::Gateway;
use super::answer::{Answer, Bill, Content, Forward, Origin, Refused};
use super::ask::Ask;
use super::charge::Denied;
use super::failure::Failure;
use super::look::{self, Keep, Look};
use super::purchase::{End, Landing};
use super::refusal;
use super::trail::{self, Joined, Next, Step};
use super::visit::Visit;
use super::wait::Unmet;
use crate::auth::Permission;
use crate::cache::{Calls, Entry};
use crate::flight::{Follow, Seat};
use crate::policy::decide::{Action, Facts, FirstTouch, Kind, Source, keeps_null};
use crate::policy::decision::{Decision, Reason};
use crate::policy::evidence::Billing;
use crate::policy::outlook::step;
use crate::policy::pricing::Billable;
use crate::telemetry::metrics::Avoided;
use crate::telnyx::PhoneNumber;
use crate::upstream::{NotSent, Standing};

/// Purchases of others that were refused while this request wanted one; then it gives up. Who has no money left and asks
/// again and again must not keep others out.
pub(super) const MOST_ROUNDS: usize = 256;

/// What a read has learnt so far.
pub(super) struct Course {
    pub(super) facts: Facts,
    copy: Option<Entry>,
    pub(super) calls: Calls,
    pub(super) look: Option<Arc<Look>>,
    /// Whether another request began that look.
    joined: bool,
    pub(super) denied: Option<Denied>,
    pub(super) failure: Option<Failure>,
    /// What this request's own purchase cost.
    bill: Bill,
}

/// Whose purchase is waited for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Own,
    Followed,
}

impl Gateway {
    /// Answers a read of one number.
    pub(super) async fn retrieve(&self, ask: &Ask, visit: &mut Visit) -> Refused<Answer> {
        let mut course = self.course_of_all(ask, visit).await;
        let policy = self.0.rules.policy(ask.key.enterprise);
        trail::note(|| Step::Policy(Box::new(*policy)));
        for _ in 0..MOST_ROUNDS {
            let action = step(&course.facts, policy, || self.looks_first(&course));
            trail::decided(ask.key.number, &course.facts, Next::Read(action));
            let (boarded, wanted) = match action {
                Action::Serve(decision, source) => return Ok(self.serve(ask, &course, decision, source)),
                Action::ServeStale => {
                    self.renew(ask);
                    return Ok(self.serve(ask, &course, Decision::Stale, Source::Copy));
                }
                Action::Refuse(reason) => return Err(self.refuse(reason, &course)),
                Action::Probe => {
                    let look = self.look(ask.key, &ask.context, Keep::as_wanted(ask.want));
                    course.joined = look.is_joined();
                    let look = visit.waiting_for(self.wait(look)).await;
                    course.looked(look::landed(look), self.0.clock.elapsed());
                    course.note_look(ask.key.number);
                    continue;
                }
                Action::Join => {
                    let flight = self.0.purchases.follow(&ask.key);
                    (flight.map(|flight| (flight, Part::Followed)), ask.want.buys_fresh().then_some(Billable::Fresh))
                }
                Action::Buy(operation) => (self.board(ask, operation, course.calls), Some(operation)),
            };
            let landed = match boarded {
                // Whoever makes a purchase is told what became of it.
                Some((flight, Part::Own)) => Some((visit.waiting_for(flight.landed()).await.map_err(Unmet::from), Part::Own)),
                Some((flight, Part::Followed)) => Some((visit.waiting_for(self.wait(flight)).await, Part::Followed)),
                None => None,
            };
            note_followed(landed.as_ref());
            if let Some((Ok(Some(landing)), Part::Followed)) = &landed {
                visit.joined(landing.span);
            }
            match landed {
                Some((Ok(Some(landing)), part)) if part == Part::Own || landing.suits(&ask.caller.name, wanted) => {
                    if let Some(answer) = self.landed(ask, &mut course, landing, part, wanted) {
                        return answer;
                    }
                }
                Some((Err(why @ (Unmet::TooLong | Unmet::Crowded)), _)) => {
                    course.facts.refused = Some(Reason::Upstream);
                    course.failure = Some(why.into());
                }
                // Something else happened than this request waited for, such as a refresh, which brings no record. What a plain read
                // wants may still be had for nothing.
                other => {
                    course = self.course(ask);
                    course.facts.in_flight &= wanted.is_some();
                    if let Some((Err(Unmet::Crashed), Part::Own)) = other {
                        course.bill = Bill::of(Billing::Unknown, self.0.rules.prices.check);
                    }
                }
            }
        }
        Err(refusal::failed(&Failure::NotSent(NotSent::Crowded)))
    }

    /// Whether a free look has to show that the upstream answers again, before anything is bought there.
    pub(super) fn looks_first(&self, course: &Course) -> bool {
        course.facts.probe.is_none() && self.0.upstream.standing() == Standing::Due
    }

    /// Gathers what is known of the number now.
    pub(super) fn course(&self, ask: &Ask) -> Course {
        let (calls, copy, in_flight) = loop {
            let (calls, copy) = (self.0.calls.of(&ask.key), self.0.cache.get(&ask.key));
            let in_flight = self.0.purchases.follow(&ask.key).is_some();
            // A purchase that ended meanwhile would look like one that is neither under way nor clear.
            if self.0.calls.of(&ask.key) == calls {
                break (calls, copy, in_flight);
            }
        };
        let now = self.0.clock.elapsed();
        let facts = Facts {
            want: ask.want,
            may_fresh: ask.caller.may(Permission::Fresh),
            copy: copy.as_ref().map(|copy| copy.facts(now)),
            paid_ago: since(calls.paid.map(|call| call.sent), now),
            unknown_ago: since(calls.unknown.map(|call| call.sent), now),
            memory: now.saturating_sub(self.0.remembers_since),
            in_flight,
            look_failed_ago: since(self.0.failed_looks.of(&ask.key, now, self.0.rules.policy.error_ttl), now),
            probe: None,
            refused: None,
        };
        Course { facts, copy, calls, look: None, joined: false, denied: None, failure: None, bill: Bill::NOTHING }
    }

    /// Begins the purchase, or follows whoever is making it. It goes on when nobody waits any more. None if one ended between
    /// the facts and this seat, whose traces are there, since it left them before it ended.
    fn board(&self, ask: &Ask, operation: Billable, known: Calls) -> Option<(Follow<Option<Landing>>, Part)> {
        match self.0.purchases.board(&ask.key) {
            Seat::Follow(flight) => Some((flight, Part::Followed)),
            Seat::Lead(_) if self.0.calls.of(&ask.key) != known => None,
            Seat::Lead(lead) => {
                let flight = lead.follow();
                let (gateway, ask) = (self.clone(), ask.clone());
                self.0.tasks.spawn(trail::along(async move {
                    let landing = gateway.purchase(&ask, operation, known.known()).await;
                    lead.land(landing);
                }));
                Some((flight, Part::Own))
            }
        }
    }

    /// Answers with a landing, or adds it to what is known.
    fn landed(&self, ask: &Ask, course: &mut Course, landing: Landing, part: Part, wanted: Option<Billable>) -> Option<Refused<Answer>> {
        let price = self.0.rules.prices.price(landing.operation);
        if part == Part::Own {
            course.bill = Bill::of(landing.billing, price);
        }
        match landing.end {
            End::Served(entry, decision) if part == Part::Own => {
                let content = Content::Copy(entry, Origin::Fetched(course.forward(ask)));
                Some(Ok(Answer { decision, bill: course.bill, avoided: None, content }))
            }
            End::Elsewhere(entry) => {
                let answer = Answer::free(Decision::Collapsed, Content::Copy(entry, Origin::Collapsed(course.forward(ask))));
                Some(Ok(Answer { avoided: Some(Avoided::Collapsed), ..answer }))
            }
            End::Served(entry, _) => {
                // A plain read that joined a fresh call might have had stored data for nothing.
                let would_bill = wanted.is_some() || landing.operation == Billable::FirstTouch;
                let avoided = (would_bill && landing.billing == Billing::Billed).then_some(Avoided::Collapsed);
                let answer = Answer::free(Decision::Collapsed, Content::Copy(entry, Origin::Collapsed(course.forward(ask))));
                Some(Ok(Answer { avoided, ..answer }))
            }
            End::Denied(denied) => {
                course.facts.refused = Some(denied.reason());
                course.denied = Some(denied);
                None
            }
            End::Failed(failure @ (Failure::NotSent(_) | Failure::OutcomeUnknown)) => {
                let unknown = matches!(failure, Failure::OutcomeUnknown);
                course.facts.refused = Some(if unknown { Reason::OutcomeUnknown } else { Reason::Upstream });
                course.failure = Some(failure);
                None
            }
            End::Unmet(why) => {
                course.facts.refused = Some(Reason::Upstream);
                course.failure = Some(why.into());
                None
            }
            End::Failed(failure) => Some(Err(Box::new(Answer { bill: course.bill, ..*refusal::failed(&failure) }))),
        }
    }

    /// Answers with a copy or with what a look brought. A null is kept here, since here it is known whether it may be served again.
    fn serve(&self, ask: &Ask, course: &Course, decision: Decision, source: Source) -> Answer {
        let content = match source {
            Source::Copy => Content::Copy(course.copy.clone().expect("decide serves what is there"), Origin::Cache),
            Source::Probe => {
                let look = course.look.as_ref().expect("decide serves what is there");
                let entry = look.entry().expect("decide serves what is there");
                let kept = !ask.want.no_store
                    && (entry.kind() != Kind::Null || keeps_null(&course.facts, self.0.rules.policy(ask.key.enterprise)));
                if kept && entry.kind() == Kind::Null {
                    self.keep(entry);
                }
                let origin = match course.forward(ask) {
                    forward if !kept => Origin::Passing(forward),
                    forward if course.joined => Origin::Collapsed(forward),
                    forward => Origin::Fetched(forward),
                };
                Content::Copy(entry.clone(), origin)
            }
        };
        if let (Decision::Recovered, Some(sent)) = (decision, course.calls.unknown) {
            self.0.calls.recovered(ask.key, sent.hold);
        }
        Answer { decision, bill: course.bill, avoided: self.avoided(ask, decision), content }
    }

    /// What an answer that was had for nothing would have cost a check for.
    fn avoided(&self, ask: &Ask, decision: Decision) -> Option<Avoided> {
        let bills_nulls = self.0.rules.policy.first_touch == FirstTouch::Bill;
        match decision {
            Decision::Cooldown => Some(Avoided::Cooldown),
            Decision::Recovered if ask.want.buys_fresh() => Some(Avoided::Recovered),
            Decision::Null if ask.want.may_bill && bills_nulls => Some(Avoided::Null),
            _ => None,
        }
    }

    pub(super) fn refuse(&self, reason: Reason, course: &Course) -> Box<Answer> {
        let refused = match (reason, &course.denied) {
            (Reason::NotPermitted, _) => refusal::no_permission(Permission::Fresh),
            (Reason::NotInCache, _) => refusal::not_in_cache(),
            (Reason::OutcomeUnknown, _) => refusal::outcome_unknown(),
            (_, Some(Denied::Limited(limited))) => refusal::rate_limited(*limited),
            (_, Some(Denied::Hold(refused))) => refusal::hold_refused(refused, self.0.rules.prices.check, &self.0.rules),
            (_, Some(Denied::Upstream(why))) => refusal::failed(&Failure::NotSent(*why)),
            (Reason::Upstream | Reason::RateLimited | Reason::BudgetExhausted | Reason::Stopped | Reason::LedgerUnavailable, None) => {
                refusal::failed(course.failure.as_ref().unwrap_or(&Failure::Invalid))
            }
        };
        Box::new(Answer { bill: course.bill, ..*refused })
    }
}

impl Course {
    fn note_look(&self, number: PhoneNumber) {
        if let Some(saw) = self.facts.probe {
            trail::note(|| Step::Looked { number, saw, joined: self.joined });
        }
    }

    /// Why the request went forward. RFC 9211, 2.2: a fresh copy is passed over only because the request says so.
    fn forward(&self, ask: &Ask) -> Forward {
        match self.facts.copy {
            _ if ask.want.buys_fresh() => Forward::Request,
            Some(copy) if copy.is_fresh() => Forward::Request,
            Some(_) => Forward::Stale,
            None => Forward::Miss,
        }
    }

    /// Adds what a look brought, and how old everything else is by now.
    pub(super) fn looked(&mut self, look: Arc<Look>, now: Duration) {
        self.facts.probe = Some(look.fact());
        self.facts.paid_ago = since(self.calls.paid.map(|call| call.sent), now);
        self.facts.unknown_ago = since(self.calls.unknown.map(|call| call.sent), now);
        if let Look::Failed(failure) = &*look {
            self.failure = Some(failure.clone());
        }
        self.look = Some(look);
    }
}

/// What came of another request's purchase.
fn note_followed(landed: Option<&(Result<Option<Landing>, Unmet>, Part)>) {
    match landed {
        Some((Ok(Some(landing)), Part::Followed)) => trail::note(|| {
            let Landing { request_id, caller, operation, hold, billing, .. } = landing.clone();
            Step::Joined(Box::new(Joined { request_id, caller, operation, hold, billing }))
        }),
        Some((Err(unmet), _)) => trail::note(|| Step::Unmet(*unmet)),
        _ => {}
    }
}

fn since(at: Option<Duration>, now: Duration) -> Option<Duration> {
    at.map(|at| now.saturating_sub(at))
}
