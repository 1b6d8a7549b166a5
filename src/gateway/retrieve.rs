//! A read of one number: gather facts, ask `decide`, act, and ask again with what was learnt.

use std::sync::Arc;
use std::time::Duration;

use super::Gateway;
use super::answer::{Answer, Content, Forward, Origin, Refused};
use super::ask::Ask;
use super::failure::Failure;
use super::look::Look;
use super::purchase::{Denied, Landing};
use super::refusal;
use super::visit::Visit;
use crate::auth::Permission;
use crate::cache::{Calls, Entry};
use crate::flight::Seat;
use crate::policy::decide::{Action, Facts, decide, keeps_null};
use crate::policy::decision::{Decision, Reason};
use crate::policy::evidence::Billing;
use crate::policy::money::Usd;
use crate::policy::pricing::Billable;
use crate::upstream::NotSent;

/// Purchases of others that were refused while this request wanted one; then it gives up. Who has no money left and asks
/// again and again must not keep others out.
const MOST_ROUNDS: usize = 256;

/// What a read has learnt so far.
struct Course {
    facts: Facts,
    copy: Option<Arc<Entry>>,
    calls: Calls,
    look: Option<Arc<Look>>,
    denied: Option<Denied>,
    failure: Option<Failure>,
}

/// What a purchase was for this request.
enum Bought {
    /// It ended in a way that this request can be answered with.
    Landed(Landing, Part),
    /// Something changed before it began; the facts must be gathered again.
    Overtaken,
}

/// Whose purchase it was.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Own,
    Followed,
}

impl Gateway {
    /// Answers a read of one number.
    pub(super) async fn retrieve(&self, ask: &Ask, visit: &mut Visit) -> Refused<Answer> {
        let mut course = self.course(ask);
        for _ in 0..MOST_ROUNDS {
            match decide(&course.facts, &self.0.rules.policy) {
                Action::Serve(decision) => return Ok(self.serve(ask, &course, decision)),
                Action::ServeStale => {
                    drop(self.look(ask));
                    return Ok(self.serve(ask, &course, Decision::Stale));
                }
                Action::Refuse(reason) => return Err(self.refuse(reason, &course)),
                Action::Probe => {
                    let looked = visit.waiting_for(self, self.look(ask).landed()).await;
                    course.looked(looked.unwrap_or_else(|_| Arc::new(Look::Inconclusive)));
                }
                Action::Join => match self.0.purchases.follow(&ask.key) {
                    None => course = self.course(ask),
                    Some(flight) => match visit.waiting_for(self, flight.landed()).await {
                        // What a plain read wants may still be had for nothing.
                        Ok(Landing::Denied(..) | Landing::Failed(_)) if !ask.want.buys_fresh() => {
                            course = self.course(ask);
                            course.facts.in_flight = false;
                        }
                        Ok(landing) => {
                            if let Some(answer) = self.landed(ask, &mut course, landing, Part::Followed) {
                                return answer;
                            }
                        }
                        Err(_) => course = self.course(ask),
                    },
                },
                Action::Buy(operation) => match visit.waiting_for(self, self.buy(ask, operation, course.calls)).await {
                    Bought::Overtaken => course = self.course(ask),
                    Bought::Landed(landing, part) => {
                        if let Some(answer) = self.landed(ask, &mut course, landing, part) {
                            return answer;
                        }
                    }
                },
            }
        }
        Err(refusal::failed(&Failure::NotSent(NotSent::Crowded)))
    }

    /// Gathers what is known of the number now.
    fn course(&self, ask: &Ask) -> Course {
        let (calls, copy, in_flight) = loop {
            let (calls, copy) = (self.calls.of(&ask.key), self.cache.get(&ask.key));
            let in_flight = self.0.purchases.follow(&ask.key).is_some();
            // A purchase that ended meanwhile would look like one that is neither under way nor clear.
            if self.calls.of(&ask.key) == calls {
                break (calls, copy, in_flight);
            }
        };
        let now = self.clock.elapsed();
        let since = |at: Option<Duration>| at.map(|at| now.saturating_sub(at));
        let facts = Facts {
            want: ask.want,
            may_fresh: ask.caller.may(Permission::Fresh),
            copy: copy.as_ref().map(|copy| copy.facts(now)),
            paid_ago: since(calls.paid),
            unknown_ago: since(calls.unknown),
            in_flight,
            probe: None,
            refused: None,
        };
        Course { facts, copy, calls, look: None, denied: None, failure: None }
    }

    /// Makes the purchase, or waits for whoever is making it. It goes on when nobody waits any more.
    async fn buy(&self, ask: &Ask, operation: Billable, known: Calls) -> Bought {
        let (flight, part) = match self.0.purchases.board(&ask.key) {
            Seat::Follow(flight) => (flight, Part::Followed),
            // One may have ended between the facts and this seat. Its traces are there, since it left them before it ended.
            Seat::Lead(_) if self.calls.of(&ask.key) != known => return Bought::Overtaken,
            Seat::Lead(lead) => {
                let flight = lead.follow();
                let (gateway, ask) = (self.clone(), ask.clone());
                self.0.tasks.spawn(async move {
                    let landing = gateway.purchase(&ask, operation).await;
                    lead.land(landing);
                });
                (flight, Part::Own)
            }
        };
        match flight.landed().await {
            Ok(landing) => Bought::Landed(landing, part),
            Err(_) => Bought::Overtaken,
        }
    }

    /// Answers with a landing, or adds it to what is known.
    fn landed(&self, ask: &Ask, course: &mut Course, landing: Landing, part: Part) -> Option<Refused<Answer>> {
        match landing {
            Landing::Served(entry, decision, billing) => Some(Ok(self.bought(ask, entry, decision, billing, part))),
            // Another caller's budget or rate limit is none of this one's: it tries for itself.
            Landing::Denied(caller, _) if part == Part::Followed && caller != ask.caller.name => {
                *course = self.course(ask);
                None
            }
            Landing::Denied(_, denied) => {
                course.facts.refused = Some(denied.reason());
                course.denied = Some(denied);
                None
            }
            Landing::Failed(failure) => match failure {
                Failure::NotSent(_) => {
                    course.facts.refused = Some(Reason::Upstream);
                    course.failure = Some(failure);
                    None
                }
                Failure::OutcomeUnknown => {
                    course.facts.refused = Some(Reason::OutcomeUnknown);
                    None
                }
                failure => Some(Err(self.invalid_or_relayed(&failure))),
            },
        }
    }

    /// Only who paid says so: the costs in all answers together are what was spent.
    fn bought(&self, ask: &Ask, entry: Arc<Entry>, decision: Decision, billing: Billing, part: Part) -> Answer {
        if part == Part::Followed {
            return Answer::free(Decision::Collapsed, Content::Copy(entry, Origin::Collapsed));
        }
        let forward = if ask.want.fresh { Forward::Request } else { Forward::Miss };
        let cost = if billing == Billing::Billed { self.0.rules.prices.check } else { Usd::ZERO };
        Answer { decision, billing, cost, content: Content::Copy(entry, Origin::Fetched(forward)) }
    }

    fn invalid_or_relayed(&self, failure: &Failure) -> Box<Answer> {
        let mut answer = refusal::failed(failure);
        if matches!(failure, Failure::Invalid) {
            answer.billing = Billing::Unknown;
            answer.cost = self.0.rules.prices.check;
        }
        answer
    }

    /// Answers with what a look brought, else with the copy. A null is kept here, since here it is known that it may be served again.
    fn serve(&self, ask: &Ask, course: &Course, decision: Decision) -> Answer {
        let Some(entry) = course.look.as_ref().and_then(|look| look.entry()) else {
            let copy = course.copy.as_ref().expect("decide serves what is there");
            return Answer::free(decision, Content::Copy(copy.clone(), Origin::Cache));
        };
        if entry.kind == crate::policy::decide::Kind::Null && keeps_null(&course.facts, &self.0.rules.policy) {
            self.cache.keep(ask.key, entry, self.clock.elapsed());
        }
        if decision == Decision::Recovered {
            self.calls.recovered(ask.key);
        }
        let forward = if course.copy.is_some() { Forward::Stale } else { Forward::Miss };
        Answer::free(decision, Content::Copy(entry.clone(), Origin::Fetched(forward)))
    }

    fn refuse(&self, reason: Reason, course: &Course) -> Box<Answer> {
        match (reason, &course.denied) {
            (Reason::NotPermitted, _) => refusal::fresh_not_permitted(),
            (Reason::NotInCache, _) => refusal::not_in_cache(),
            (Reason::OutcomeUnknown, _) => refusal::outcome_unknown(),
            (_, Some(Denied::Limited(limited))) => refusal::rate_limited(*limited),
            (_, Some(Denied::Hold(refused))) => refusal::hold_refused(refused, self.0.rules.prices.check),
            (Reason::Upstream | Reason::RateLimited | Reason::BudgetExhausted | Reason::LedgerUnavailable, None) => {
                refusal::failed(course.failure.as_ref().unwrap_or(&Failure::Invalid))
            }
        }
    }
}

impl Course {
    fn looked(&mut self, look: Arc<Look>) {
        self.facts.probe = Some(look.fact());
        if let Look::Failed(failure) = &*look {
            self.failure = Some(failure.clone());
        }
        self.look = Some(look);
    }
}
