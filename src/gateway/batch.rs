//! Many numbers bought by one call: what is known of each, one purchase for all that have to be bought, and a verdict for each.
//!
//! The purchase runs in a task of its own that owns all holds, and nobody else buys one of the numbers meanwhile.

use serde_json::Value;

use super::answer::{Answer, Bill, Content, Refused};
use super::ask::Ask;
use super::charge::{Denied, STOPPED, Unheld};
use super::elsewhere::Elsewhere;
use super::failure::Failure;
use super::look::Keep;
use super::purchase::Landing;
use super::refusal;
use super::retrieve::Course;
use super::trail::{self, Next, Step};
use super::visit::Visit;
use super::{Gateway, Rules};
use crate::cache::{Evidence, Key, Ruling, Scope};
use crate::flight::Lead;
use crate::policy::claim::Known;
use crate::policy::decision::Decision;
use crate::policy::evidence::{Billing, judge_one};
use crate::policy::money::Usd;
use crate::policy::pricing::Billable;
use crate::policy::refresh::Action;
use crate::policy::{associate, refresh};
use crate::spend::Hold;
use crate::telnyx::record::{self, Refreshed};
use crate::telnyx::{Operation, PhoneNumber};
use crate::upstream::{self, Message, Outcome};

/// What is bought, of each number.
#[derive(Clone, Debug)]
pub(super) struct Order {
    pub(super) billable: Billable,
    pub(super) operation: Operation,
    pub(super) message: Message,
}

/// One number of a batch, with what is known of it, and what that calls for.
pub(super) struct Item {
    pub(super) ask: Ask,
    pub(super) course: Course,
    pub(super) action: Action,
    /// Whether another request's purchase of it was waited for.
    pub(super) followed: bool,
    billable: Billable,
}

/// What became of the numbers that were to be bought.
pub(super) struct Sale {
    /// In the order of the numbers.
    pub(super) verdicts: Vec<Verdict>,
    pub(super) end: End,
}

/// How the call ended.
pub(super) enum End {
    /// With an answer to pass on.
    Answered(upstream::Answer),
    /// It was refused before anything was sent.
    Denied(Denied),
    /// It failed.
    Failed(Failure),
}

impl End {
    /// What a call that was not answered is refused with. `price`: all that it would have cost.
    pub(super) fn refusal(&self, price: Usd, rules: &Rules) -> Option<Box<Answer>> {
        match self {
            Self::Denied(Denied::Limited(limited)) => Some(refusal::rate_limited(*limited)),
            Self::Denied(Denied::Upstream(why)) => Some(refusal::failed(&Failure::NotSent(*why))),
            Self::Denied(Denied::Hold(refused)) => Some(refusal::hold_refused(refused, price, rules)),
            Self::Failed(failure) => Some(refusal::failed(failure)),
            Self::Answered(_) => None,
        }
    }
}

/// What the call was for one number.
pub(super) struct Verdict {
    pub(super) billing: Billing,
    why: &'static str,
    /// What Telnyx answered about it.
    pub(super) said: Option<Refreshed>,
}

impl Gateway {
    /// Gathers what is known of a number now.
    pub(super) fn item(&self, ask: Ask, billable: Billable, followed: bool) -> Item {
        let course = self.course(&ask);
        Item { action: self.next(&ask.key, billable, &course), ask, course, followed, billable }
    }

    fn next(&self, key: &Key, billable: Billable, course: &Course) -> Action {
        let policy = self.0.rules.policy(key.enterprise);
        let action = match billable {
            Billable::Associate => associate::decide(&course.facts, policy),
            _ => refresh::decide(&course.facts, policy),
        };
        trail::decided(key.number, &course.facts, Next::Batch(action));
        action
    }

    /// Waits for what has to be waited for, and decides anew; says whether there was anything.
    pub(super) async fn wait_for(&self, items: &mut [Item], visit: &mut Visit) -> bool {
        if items.iter().any(|item| item.action == Action::Follow) {
            visit.waiting_for(self.follow_all(items)).await;
        } else if items.iter().any(|item| item.action == Action::Look) {
            visit.waiting_for(self.look_at_all(items)).await;
        } else if let Some(item) = items.iter_mut().find(|item| item.action == Action::Buy && self.looks_first(&item.course)) {
            item.action = Action::Look;
        } else {
            return false;
        }
        true
    }

    /// Buys all numbers that are to be bought. None, if another purchase of one of them began or ended meanwhile: then all is decided anew.
    pub(super) async fn buy(&self, items: &mut [Item], order: Order, visit: &mut Visit) -> Option<Sale> {
        let Some(leads) = self.lead_all(items) else {
            for item in items.iter_mut().filter(|item| item.action == Action::Buy) {
                *item = self.item(item.ask.clone(), item.billable, item.followed);
            }
            return None;
        };
        let bought = items.iter().filter(|item| item.action == Action::Buy);
        let (wanted, known): (Vec<_>, Vec<_>) = bought.map(|item| (item.ask.clone(), item.course.calls.known())).unzip();
        let (gateway, count) = (self.clone(), wanted.len());
        let buying = self.0.tasks.spawn(trail::along(async move {
            let sale = gateway.buy_all(&wanted, &order, &known).await;
            for lead in leads {
                lead.land(None);
            }
            sale
        }));
        match visit.waiting_for(buying).await.unwrap_or_else(|_| Ok(Sale::lost(count))) {
            Ok(sale) => return Some(sale),
            // Nobody here is kept waiting meanwhile.
            Err(Elsewhere::Busy(ending)) => {
                if let Err(unmet) = visit.wait_for_others(ending).await {
                    return Some(Sale::whole(count, Billing::NotSent, "it was refused", End::Failed(unmet.into())));
                }
            }
            Err(Elsewhere::Learnt) => {}
        }
        for item in items.iter_mut().filter(|item| item.action == Action::Buy) {
            *item = self.item(item.ask.clone(), item.billable, true);
        }
        None
    }

    /// Waits for others' purchases of these numbers, whatever comes of them, and decides anew.
    async fn follow_all(&self, items: &mut [Item]) {
        for item in items.iter_mut().filter(|item| item.action == Action::Follow) {
            if let Some(flight) = self.0.purchases.follow(&item.ask.key) {
                let _landed = flight.landed().await;
                trail::note(|| Step::Followed(item.ask.key.number));
            }
            *item = self.item(item.ask.clone(), item.billable, true);
        }
    }

    /// Looks at all numbers that need it at once, and decides anew.
    async fn look_at_all(&self, items: &mut [Item]) {
        let looking =
            |item: &Item| (item.action == Action::Look).then(|| self.look(item.ask.key, &item.ask.context, Keep::as_wanted(item.ask.want)));
        let looks: Vec<_> = items.iter().map(looking).collect();
        for (item, look) in items.iter_mut().zip(looks) {
            if let Some(look) = look {
                let (key, joined) = (item.ask.key, look.is_joined());
                item.course.looked(super::look::landed(look.landed().await), self.0.clock.elapsed());
                if let Some(saw) = item.course.facts.probe {
                    trail::note(|| Step::Looked { number: key.number, saw, joined });
                }
                item.action = self.next(&key, item.billable, &item.course);
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

    /// Buys it for each number by one call, as was decided on what was `known` of each.
    pub(super) async fn buy_all(&self, asks: &[Ask], order: &Order, known: &[Known]) -> Result<Sale, Elsewhere> {
        let holds = match self.permit(asks, order.billable, known).await {
            Ok(holds) => holds,
            Err(Unheld::Denied(denied)) => return Ok(Sale::whole(asks.len(), Billing::NotSent, "it was refused", End::Denied(denied))),
            Err(Unheld::Busy(ending)) => return Err(Elsewhere::Busy(ending)),
            Err(Unheld::Later(told)) => {
                for (ask, told) in told.iter().filter_map(|told| Some((asks.get(told.charge)?, told))) {
                    self.learn_calls(ask.key, told);
                }
                return Err(Elsewhere::Learnt);
            }
        };
        Ok(match self.turn(&asks[0].context).await {
            Ok(turn) => self.carry_out_all(asks, order, holds, turn).await,
            Err(denied) => {
                self.settle_all(holds.into_iter().map(|hold| (hold, Billing::NotSent, STOPPED))).await;
                Sale::whole(asks.len(), Billing::NotSent, STOPPED, End::Denied(denied))
            }
        })
    }

    async fn carry_out_all(&self, asks: &[Ask], order: &Order, holds: Vec<Hold>, turn: super::charge::Turn) -> Sale {
        let context = &asks[0].context;
        let at = self.0.clock.elapsed();
        let sent: Vec<_> = if order.billable.is_check() {
            asks.iter().zip(&holds).map(|(ask, hold)| self.mark(ask.key, hold, at)).collect()
        } else {
            Vec::new()
        };
        let mut call = self.begin_call(order.operation, order.message.method().clone(), context);
        let outcome = self.send(turn, &order.message, &mut call).await;
        let sale = Sale::of(outcome, order.billable, asks);
        self.end_call(call, sale.billing());
        self.learn(asks, order.billable, &sale);
        let ends = holds.into_iter().zip(&sale.verdicts).map(|(hold, verdict)| (hold, verdict.billing, verdict.why));
        self.settle_all(ends).await;
        for (sent, verdict) in sent.iter().zip(&sale.verdicts) {
            if verdict.billing == Billing::Unknown {
                self.leave_open(sent, order.billable, verdict.said.is_some(), context);
            }
            self.remember(sent, verdict.billing);
        }
        sale
    }

    /// Forgets what the call made untrue, if it may have been carried out, and keeps what it brought.
    fn learn(&self, asks: &[Ask], billable: Billable, sale: &Sale) {
        if !billable.is_check() || !matches!(sale.billing(), Billing::Billed | Billing::Unknown) {
            return;
        }
        let ruling = if billable == Billable::Associate { Ruling::Hard } else { Ruling::Soft };
        for ask in asks {
            self.tell_others(Scope::Number(ask.key.enterprise, ask.key.number), ruling);
        }
        let (key, now) = (asks[0].key, self.0.clock.elapsed());
        self.0.lists.outdate(key.partition, key.enterprise, now);
        for ask in asks {
            if billable == Billable::Associate {
                self.0.cache.forget(&ask.key, now);
            } else {
                self.0.cache.outdate(ask.key, now);
            }
        }
        if let (Billable::Associate, End::Answered(answer)) = (billable, &sale.end) {
            // What the call brought is from after all that was asked for before.
            self.harvest(key.partition, answer, record::list(&answer.body).unwrap_or_default(), now, Evidence::Association);
        }
    }

    /// The answer to a sale that was refused or failed as a whole.
    pub(super) fn refused(&self, sale: &Sale, price: Usd) -> Option<Box<Answer>> {
        let refused = sale.end.refusal(sale.verdicts.iter().map(|_| price).sum(), &self.0.rules)?;
        Some(Box::new(Answer { bill: sale.bill(price), ..*refused }))
    }

    /// The answer to a sale of the whole order, in Telnyx's bytes.
    pub(super) fn sold(&self, sale: Sale, billable: Billable) -> Refused<Answer> {
        let price = self.0.rules.prices.price(billable);
        let (refused, decision, bill) = (self.refused(&sale, price), sale.decision(), sale.bill(price));
        match (sale.end, refused) {
            (End::Answered(answer), None) => {
                let content = Content::Results { status: answer.status, body: answer.body, forwarded: true };
                Ok(Answer { decision, bill, avoided: None, content })
            }
            (_, refused) => Err(refused.unwrap_or_else(refusal::outcome_unknown)),
        }
    }
}

impl Sale {
    /// The same for each of `count` numbers.
    fn whole(count: usize, billing: Billing, why: &'static str, end: End) -> Self {
        Self { verdicts: (0..count).map(|_| Verdict { billing, why, said: None }).collect(), end }
    }

    /// Nobody can tell what became of the call.
    pub(super) fn lost(count: usize) -> Self {
        Self::whole(count, Billing::Unknown, "the answer was lost after the request was sent", End::Failed(Failure::OutcomeUnknown))
    }

    /// Judges a call for these numbers.
    fn of(outcome: Outcome, billable: Billable, asks: &[Ask]) -> Self {
        let answer = match outcome {
            Outcome::Answered(answer) => answer,
            Outcome::NotSent(why) => {
                return Self::whole(asks.len(), Billing::NotSent, "it was never sent", End::Failed(Failure::NotSent(why)));
            }
            Outcome::Unknown(_) => return Self::lost(asks.len()),
        };
        let (status, is_success) = (answer.status, answer.status.is_success());
        let said = if is_success { said(billable, &answer.body, asks) } else { None };
        let verdict = |said: Option<Refreshed>| {
            let (billing, why) = judge_one(billable, status.as_u16(), said.as_ref().map(|said| said.success));
            Verdict { billing, why, said }
        };
        let whole = said.is_some();
        let verdicts: Vec<_> = said.unwrap_or_else(|| vec![None; asks.len()]).into_iter().map(verdict).collect();
        if whole {
            for (ask, verdict) in asks.iter().zip(&verdicts) {
                trail::note(|| Step::Said { number: ask.key.number, success: verdict.said.as_ref().map(|said| said.success) });
            }
        }
        let is_unknown = verdicts.iter().any(|verdict| verdict.billing == Billing::Unknown);
        let end = match whole {
            true => End::Answered(answer),
            false if is_unknown && !is_success => End::Failed(Failure::OutcomeUnknown),
            false => End::Failed(Failure::of(answer, &asks[0].context.credential)),
        };
        Self { verdicts, end }
    }

    /// Of all numbers together: unknown if it is for one, billed if one was.
    pub(super) fn billing(&self) -> Billing {
        let any = |billing| self.verdicts.iter().any(|verdict| verdict.billing == billing);
        let found = [Billing::Unknown, Billing::Billed, Billing::NotBilled].into_iter().find(|billing| any(*billing));
        found.unwrap_or(Billing::NotSent)
    }

    pub(super) fn bill(&self, price: Usd) -> Bill {
        Bill { billing: self.billing(), cost: self.verdicts.iter().map(|verdict| Bill::of(verdict.billing, price).cost).sum() }
    }

    pub(super) fn decision(&self) -> Decision {
        let billed = self.verdicts.iter().any(|verdict| verdict.billing == Billing::Billed);
        if billed { Decision::Billed } else { Decision::OutcomeUnknown }
    }
}

/// What an answer says of each number; none, if it is not this call's answer.
fn said(billable: Billable, body: &[u8], asks: &[Ask]) -> Option<Vec<Option<Refreshed>>> {
    let done = |ask: &Ask| Refreshed { phone_number: ask.key.number, success: true, error: Value::Null };
    match billable {
        Billable::Associate => {
            let items = record::list(body).ok()?;
            let is = |ask: &Ask, item: &record::Item| {
                (item.record.phone_number, item.record.enterprise_id) == (ask.key.number, ask.key.enterprise)
            };
            // A record that was not asked for would be somebody else's.
            let own = items.iter().all(|item| asks.iter().any(|ask| is(ask, item)));
            own.then(|| asks.iter().map(|ask| items.iter().any(|item| is(ask, item)).then(|| done(ask))).collect())
        }
        Billable::Remediation => {
            let whose = record::whose(body).ok()?;
            let own = whose.iter().all(|owner| owner.enterprise_id.is_none_or(|owner| owner == asks[0].key.enterprise));
            own.then(|| asks.iter().map(|ask| Some(done(ask))).collect())
        }
        _ => {
            let results = record::refreshed(body).ok()?;
            Some(asks.iter().map(|ask| said_of(ask.key.number, &results).cloned()).collect())
        }
    }
}

/// The one result of a number. Two might disagree.
fn said_of(number: PhoneNumber, results: &[Refreshed]) -> Option<&Refreshed> {
    let mut said = results.iter().filter(|result| result.phone_number == number);
    said.next().filter(|_| said.next().is_none())
}
