//! A refresh: many numbers checked by one call. Each number is decided about like `fresh=true`; those that have to be bought are bought
//! together, in one task that owns all their holds, and nobody else buys one of them meanwhile.

use bytes::Bytes;
use http::StatusCode;
use serde_json::{Value, json};

use super::Gateway;
use super::answer::{Answer, Bill, Content, Refused};
use super::ask::Ask;
use super::charge::{Denied, STOPPED};
use super::failure::Failure;
use super::purchase::Landing;
use super::refusal;
use super::retrieve::{Course, MOST_ROUNDS};
use super::visit::Visit;
use crate::cache::Key;
use crate::flight::Lead;
use crate::policy::decision::{Decision, Reason};
use crate::policy::evidence::{Billing, judge_refreshed};
use crate::policy::money::Usd;
use crate::policy::pricing::Billable;
use crate::policy::refresh::{Action, decide};
use crate::spend::Hold;
use crate::telemetry::metrics::Avoided;
use crate::telnyx::record::{self, Refreshed};
use crate::telnyx::{Operation, PhoneNumber};
use crate::upstream::{Message, NotSent, Outcome};

/// The error of a number whose check may have been carried out.
const UNKNOWN: &str = "a check of this number was sent and it is not known whether it was carried out; none is sent until that is clear";

/// The error of a number whose earlier check may have been carried out, and who could tell did not answer.
const UNSEEN: &str = "it could not be found out what became of an earlier check of this number, so none was sent";

/// One number of a refresh, with what is known of it, and what that calls for.
struct Item {
    ask: Ask,
    course: Course,
    action: Action,
    /// Whether another request's purchase of it was waited for.
    followed: bool,
}

/// What became of the numbers that were to be bought.
struct Sale {
    /// In the order of the numbers.
    verdicts: Vec<Verdict>,
    end: End,
}

/// How the call ended.
enum End {
    /// With an answer to pass on.
    Answered(StatusCode, Bytes),
    /// It was refused before anything was sent.
    Denied(Denied),
    /// It failed.
    Failed(Failure),
}

/// What the call was for one number.
struct Verdict {
    billing: Billing,
    why: &'static str,
    /// What Telnyx answered about it.
    said: Option<Refreshed>,
}

impl Gateway {
    /// Answers a refresh of these numbers.
    pub(super) async fn refresh(&self, asks: Vec<Ask>, visit: &mut Visit) -> Refused<Answer> {
        let mut items: Vec<_> = asks.into_iter().map(|ask| self.item(ask, false)).collect();
        for _ in 0..MOST_ROUNDS {
            if items.iter().any(|item| item.action == Action::Follow) {
                visit.waiting_for(self.follow_all(&mut items)).await;
                continue;
            }
            if items.iter().any(|item| item.action == Action::Look) {
                visit.waiting_for(self.look_at_all(&mut items)).await;
                continue;
            }
            if let Some(item) = items.iter_mut().find(|item| item.action == Action::Buy && self.looks_first(&item.course)) {
                item.action = Action::Look;
                continue;
            }
            let wanted: Vec<_> = items.iter().filter(|item| item.action == Action::Buy).map(|item| item.ask.clone()).collect();
            if wanted.is_empty() {
                return self.without_sale(&items);
            }
            let Some(leads) = self.lead_all(&items) else {
                items = items
                    .into_iter()
                    .map(|item| if item.action == Action::Buy { self.item(item.ask, item.followed) } else { item })
                    .collect();
                continue;
            };
            let (gateway, count) = (self.clone(), wanted.len());
            let buying = self.0.tasks.spawn(async move {
                let sale = gateway.buy_all(&wanted).await;
                for lead in leads {
                    lead.land(None);
                }
                sale
            });
            let sale = visit.waiting_for(buying).await.unwrap_or_else(|_| Sale::lost(count));
            return self.with_sale(&items, sale);
        }
        Err(refusal::failed(&Failure::NotSent(NotSent::Crowded)))
    }

    /// Gathers what is known of a number now.
    fn item(&self, ask: Ask, followed: bool) -> Item {
        let course = self.course(&ask);
        Item { action: decide(&course.facts, &self.0.rules.policy), ask, course, followed }
    }

    /// Waits for others' purchases of these numbers, whatever comes of them, and decides anew.
    async fn follow_all(&self, items: &mut [Item]) {
        for item in items.iter_mut().filter(|item| item.action == Action::Follow) {
            if let Some(flight) = self.0.purchases.follow(&item.ask.key) {
                let _landed = flight.landed().await;
            }
            *item = self.item(item.ask.clone(), true);
        }
    }

    /// Looks at all numbers that need it at once, and decides anew.
    async fn look_at_all(&self, items: &mut [Item]) {
        let looking = |item: &Item| (item.action == Action::Look).then(|| self.look(item.ask.key, &item.ask.context));
        let looks: Vec<_> = items.iter().map(looking).collect();
        for (item, look) in items.iter_mut().zip(looks) {
            if let Some(look) = look {
                item.course.looked(super::look::landed(look.landed().await), self.0.clock.elapsed());
                item.action = decide(&item.course.facts, &self.0.rules.policy);
            }
        }
    }

    /// Leads the purchases of all numbers that are to be bought; of none if another one began or ended since their facts were gathered.
    fn lead_all(&self, items: &[Item]) -> Option<Vec<Lead<Key, Option<Landing>>>> {
        let wanted = || items.iter().filter(|item| item.action == Action::Buy);
        let keys: Vec<_> = wanted().map(|item| item.ask.key).collect();
        let leads = self.0.purchases.lead_all(&keys)?;
        wanted().all(|item| self.0.calls.of(&item.ask.key) == item.course.calls).then_some(leads)
    }

    /// Buys a check of each number by one call.
    async fn buy_all(&self, asks: &[Ask]) -> Sale {
        let holds = match self.permit(asks, Billable::Refresh).await {
            Ok(holds) => holds,
            Err(denied) => return Sale::whole(asks.len(), Billing::NotSent, "it was refused", End::Denied(denied)),
        };
        match self.turn(&asks[0].context).await {
            Ok(turn) => self.carry_out_all(asks, holds, turn).await,
            Err(denied) => {
                self.settle_all(holds.into_iter().map(|hold| (hold, Billing::NotSent, STOPPED))).await;
                Sale::whole(asks.len(), Billing::NotSent, STOPPED, End::Denied(denied))
            }
        }
    }

    async fn carry_out_all(&self, asks: &[Ask], holds: Vec<Hold>, turn: super::charge::Turn) -> Sale {
        let (key, context) = (asks[0].key, &asks[0].context);
        let numbers: Vec<_> = asks.iter().map(|ask| ask.key.number.to_string()).collect();
        let body = json!({ "phone_numbers": numbers }).to_string();
        let post = Message::post(format!("/enterprises/{}/reputation/numbers/refresh", key.enterprise), body);
        let at = self.0.clock.elapsed();
        let sent: Vec<_> = asks.iter().zip(&holds).map(|(ask, hold)| self.mark(ask.key, hold, at)).collect();
        let outcome = self.send(turn, &post, context).await;
        let sale = Sale::of(outcome, asks);
        let now = self.0.clock.elapsed();
        self.count_upstream(Operation::Refresh, sale.billing(), now.saturating_sub(at));
        if matches!(sale.billing(), Billing::Billed | Billing::Unknown) {
            for ask in asks {
                self.0.cache.outdate(ask.key, now);
            }
            self.0.lists.outdate(key.partition, key.enterprise, now);
        }
        let ends = holds.into_iter().zip(&sale.verdicts).map(|(hold, verdict)| (hold, verdict.billing, verdict.why));
        self.settle_all(ends).await;
        for (sent, verdict) in sent.iter().zip(&sale.verdicts) {
            if verdict.billing == Billing::Unknown {
                self.leave_open(sent, verdict.said.is_some(), context);
            }
            self.remember(sent, verdict.billing);
        }
        sale
    }

    /// Answers where nothing was bought.
    fn without_sale(&self, items: &[Item]) -> Refused<Answer> {
        if items.iter().any(|item| matches!(item.action, Action::Satisfied(_))) {
            return Ok(self.in_parts(items, None));
        }
        // All are barred.
        let failed =
            items.iter().find(|item| item.action == Action::Barred(Reason::Upstream)).and_then(|item| item.course.failure.as_ref());
        Err(failed.map_or_else(refusal::outcome_unknown, refusal::failed))
    }

    /// Answers with what a purchase brought.
    fn with_sale(&self, items: &[Item], sale: Sale) -> Refused<Answer> {
        let price = self.0.rules.prices.price(Billable::Refresh);
        let bill = sale.bill(price);
        let some_done = items.iter().any(|item| matches!(item.action, Action::Satisfied(_)));
        let refused = match &sale.end {
            End::Denied(Denied::Limited(limited)) => refusal::rate_limited(*limited),
            End::Denied(Denied::Upstream(why)) => refusal::failed(&Failure::NotSent(*why)),
            End::Denied(Denied::Hold(refused)) => refusal::hold_refused(refused, sale.verdicts.iter().map(|_| price).sum(), &self.0.rules),
            End::Failed(failure) if bill.billing != Billing::Unknown || !some_done => refusal::failed(failure),
            End::Answered(status, body) if sale.verdicts.len() == items.len() => {
                let content = Content::Results { status: *status, body: body.clone(), forwarded: true };
                return Ok(Answer { decision: sale.decision(), bill, avoided: None, content });
            }
            End::Answered(..) | End::Failed(_) => return Ok(Answer { bill, ..self.in_parts(items, Some(sale)) }),
        };
        Err(Box::new(Answer { bill, ..*refused }))
    }

    /// The answer put together number by number, in their order; and what of it would have cost a check each.
    fn in_parts(&self, items: &[Item], sale: Option<Sale>) -> Answer {
        let forwarded = sale.is_some();
        let decision = sale.as_ref().map_or_else(|| decision(items), Sale::decision);
        let mut bought = sale.map(|sale| sale.verdicts).unwrap_or_default().into_iter();
        let result = |item: &Item| {
            let (phone_number, error) = (item.ask.key.number, |error: &str| Value::String(error.to_owned()));
            let done = Refreshed { phone_number, success: true, error: Value::Null };
            match item.action {
                Action::Satisfied(why) => {
                    self.0.metrics.avoided.add(avoided(item, why).as_str(), self.0.rules.prices.check);
                    done
                }
                Action::Buy => match bought.next() {
                    Some(Verdict { said: Some(said), .. }) => said,
                    _ => Refreshed { success: false, error: error(UNKNOWN), ..done },
                },
                Action::Barred(Reason::Upstream) => Refreshed { success: false, error: error(UNSEEN), ..done },
                Action::Barred(_) | Action::Follow | Action::Look => Refreshed { success: false, error: error(UNKNOWN), ..done },
            }
        };
        let results: Vec<_> = items.iter().map(result).collect();
        let content = Content::Results { status: StatusCode::OK, body: record::refresh(&results), forwarded };
        Answer::free(decision, content)
    }
}

/// How a refresh was decided that bought nothing: by what kept a number from being bought, else by what made all purchases needless.
fn decision(items: &[Item]) -> Decision {
    let mut needless = Vec::new();
    for item in items {
        match item.action {
            Action::Barred(reason) => return reason.decision(),
            Action::Satisfied(_) if item.followed => needless.push(Decision::Collapsed),
            Action::Satisfied(why) => needless.push(why),
            Action::Buy | Action::Follow | Action::Look => {}
        }
    }
    match needless.first() {
        Some(first) if needless.iter().all(|decision| decision == first) => *first,
        _ => Decision::Cooldown,
    }
}

fn avoided(item: &Item, why: Decision) -> Avoided {
    match why {
        _ if item.followed => Avoided::Collapsed,
        Decision::Recovered => Avoided::Recovered,
        _ => Avoided::Cooldown,
    }
}

impl Sale {
    /// The same for each of `count` numbers.
    fn whole(count: usize, billing: Billing, why: &'static str, end: End) -> Self {
        Self { verdicts: (0..count).map(|_| Verdict { billing, why, said: None }).collect(), end }
    }

    /// Nobody can tell what became of the call.
    fn lost(count: usize) -> Self {
        Self::whole(count, Billing::Unknown, "the answer was lost after the request was sent", End::Failed(Failure::OutcomeUnknown))
    }

    /// Judges a call for these numbers.
    fn of(outcome: Outcome, asks: &[Ask]) -> Self {
        let answer = match outcome {
            Outcome::Answered(answer) => answer,
            Outcome::NotSent(why) => {
                return Self::whole(asks.len(), Billing::NotSent, "it was never sent", End::Failed(Failure::NotSent(why)));
            }
            Outcome::Unknown(_) => return Self::lost(asks.len()),
        };
        let (status, is_success) = (answer.status, answer.status.is_success());
        let results = if is_success { record::refreshed(&answer.body).ok() } else { None };
        let verdict = |ask: &Ask| {
            let said = results.as_deref().and_then(|results| said_of(ask.key.number, results));
            let (billing, why) = judge_refreshed(status.as_u16(), said.map(|said| said.success));
            Verdict { billing, why, said: said.cloned() }
        };
        let verdicts: Vec<_> = asks.iter().map(verdict).collect();
        let is_unknown = verdicts.iter().any(|verdict| verdict.billing == Billing::Unknown);
        let end = match results {
            Some(_) => End::Answered(status, answer.body),
            None if is_unknown && !is_success => End::Failed(Failure::OutcomeUnknown),
            None => End::Failed(Failure::of(answer, &asks[0].context.credential)),
        };
        Self { verdicts, end }
    }

    /// Of all numbers together: unknown if it is for one, billed if one was.
    fn billing(&self) -> Billing {
        let any = |billing| self.verdicts.iter().any(|verdict| verdict.billing == billing);
        let found = [Billing::Unknown, Billing::Billed, Billing::NotBilled].into_iter().find(|billing| any(*billing));
        found.unwrap_or(Billing::NotSent)
    }

    fn bill(&self, price: Usd) -> Bill {
        Bill { billing: self.billing(), cost: self.verdicts.iter().map(|verdict| Bill::of(verdict.billing, price).cost).sum() }
    }

    fn decision(&self) -> Decision {
        let billed = self.verdicts.iter().any(|verdict| verdict.billing == Billing::Billed);
        if billed { Decision::Billed } else { Decision::OutcomeUnknown }
    }
}

/// The one result of a number. Two might disagree.
fn said_of(number: PhoneNumber, results: &[Refreshed]) -> Option<&Refreshed> {
    let mut said = results.iter().filter(|result| result.phone_number == number);
    said.next().filter(|_| said.next().is_none())
}
