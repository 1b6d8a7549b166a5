//! A batch as the script is asked for it, and what its answer means.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::super::accounts::{Account, Balance, OpenHold, Standing, THRESHOLDS};
use super::super::keeper::{Batch, Crossed, Ended, MOST_OVERRIDES, Written};
use super::super::writer::Request;
use super::super::{Claim, End, Finding, HoldId, HoldRefused, KillSwitch, NotHeld, OpenFailure, Order, Override, OverrideRefused, Posted};
use super::claim::{AskedRate, Later};
use super::wire::{
    Answer, AskedAccount, AskedCorrection, AskedEnd, Commit, Decided, Granted, HeldCharge, Need, Switch, Wanted, Wish, hold_id, micros, usd,
};
use crate::policy::budget::{Budget, Charge, Interval};
use crate::policy::claim::Known;
use crate::policy::money::Usd;

/// Holds of the dead that one batch gives up.
pub(super) const MOST_ORPHANS: usize = 64;

/// A hold that this gateway has open.
#[derive(Clone, Debug)]
pub(super) struct Own {
    pub(super) hold: OpenHold,
    /// As whom it was held.
    pub(super) owner: String,
    /// In which ledger.
    pub(super) generation: String,
    pub(super) claim: Option<Claim>,
}

pub(super) type Open = BTreeMap<HoldId, Own>;

/// What is told of the gateway with each batch.
pub(super) struct Desk<'a> {
    pub(super) budgets: &'a [Arc<Budget>],
    pub(super) open: &'a Open,
    pub(super) replica: &'a str,
    pub(super) generation: &'a str,
    pub(super) seen: &'a str,
    pub(super) seq: u64,
    pub(super) now: Timestamp,
    pub(super) elapsed: Duration,
    pub(super) lease: Duration,
    pub(super) skew: Duration,
    /// How long the last calls of a subject are remembered.
    pub(super) remembered: Duration,
}

/// What a batch is about besides what callers and operators ask.
#[derive(Default)]
pub(super) struct Besides {
    /// How the kill switch is to be set, in this order.
    pub(super) switches: Vec<KillSwitch>,
    /// Holds that nobody took.
    pub(super) abandoned: Vec<HoldId>,
    /// Holds of the dead.
    pub(super) orphans: Vec<HeldCharge>,
    /// What the server has of the holds that are to be corrected.
    pub(super) assumed: BTreeMap<HoldId, OpenHold>,
}

/// A batch that is asked for.
pub(super) struct Draft {
    pub(super) text: String,
    pub(super) is_beat: bool,
    /// How many charges it moves.
    pub(super) charges: usize,
    /// Every budget in its window at that moment, then others that are concerned.
    accounts: Vec<(Arc<Budget>, Interval)>,
    current: usize,
    ends: Vec<Drafted>,
    /// For each correction, the place of what is asked for it.
    corrections: Vec<Option<usize>>,
    corrected: Vec<(Finding, OpenHold)>,
    /// For each grant, its budget's name and the place of what is asked.
    grants: Vec<(String, Option<usize>)>,
    switches: Vec<KillSwitch>,
    /// For each request, its order and the place of what is asked.
    requests: Vec<(Order, Option<usize>)>,
    replica: String,
    generation: String,
    now: Timestamp,
    elapsed: Duration,
}

struct Drafted {
    id: HoldId,
    end: End,
    hold: OpenHold,
    is_orphan: bool,
}

/// What became of a batch.
pub(super) struct Outcome {
    pub(super) written: Written,
    pub(super) held: Vec<(HoldId, Own)>,
    pub(super) ended: Vec<HoldId>,
    pub(super) accounts: Vec<Account>,
    pub(super) stop: KillSwitch,
    pub(super) orphans: Vec<HeldCharge>,
}

impl Draft {
    pub(super) fn new(desk: &Desk<'_>, batch: &Batch, besides: &Besides) -> Self {
        let now = desk.now;
        let accounts = desk.budgets.iter().map(|budget| (Arc::clone(budget), budget.window_at(now))).collect();
        let mut draft = Self {
            text: String::new(),
            is_beat: batch.is_empty() && besides.is_empty(),
            charges: 0,
            accounts,
            current: desk.budgets.len(),
            ends: Vec::new(),
            corrections: Vec::new(),
            corrected: Vec::new(),
            grants: Vec::new(),
            switches: besides.switches.clone(),
            requests: Vec::new(),
            replica: desk.replica.to_owned(),
            generation: desk.generation.to_owned(),
            now,
            elapsed: desk.elapsed,
        };
        let ends = draft.ends(desk, batch, besides);
        let corrections = draft.corrections(batch, besides);
        let (mut grants, mut holds) = (Vec::new(), Vec::new());
        for granting in &batch.grants {
            let is_known = desk.budgets.iter().any(|budget| budget.name == granting.granted.budget);
            draft.grants.push((granting.granted.budget.clone(), is_known.then_some(grants.len())));
            grants.extend(is_known.then(|| Granted::of(&granting.granted)));
        }
        for request in &batch.requests {
            let wish = draft.wish(request);
            draft.requests.push((request.order.clone(), wish.is_some().then_some(holds.len())));
            holds.extend(wish);
        }
        draft.charges = batch.charges() + besides.abandoned.len() + besides.orphans.len();
        let asked = Commit {
            replica: desk.replica.to_owned(),
            seq: desk.seq.to_string(),
            is_beat: draft.is_beat,
            generation: desk.generation.to_owned(),
            seen: desk.seen.to_owned(),
            now: micros(now),
            lease_ms: desk.lease.as_millis().to_string(),
            skew_ms: desk.skew.as_millis().to_string(),
            remembered_ms: desk.remembered.as_millis().to_string(),
            most_overrides: MOST_OVERRIDES,
            most_orphans: MOST_ORPHANS,
            thresholds: &THRESHOLDS,
            accounts: draft.accounts.iter().map(asked_account).collect(),
            ends,
            corrections,
            switches: besides.switches.iter().map(Switch::of).collect(),
            grants,
            holds,
        };
        draft.text = serde_json::to_string(&asked).expect("strings and numbers always serialise");
        draft
    }

    fn ends(&mut self, desk: &Desk<'_>, batch: &Batch, besides: &Besides) -> Vec<AskedEnd> {
        let given = batch.ends.iter().map(|ending| (ending.id, ending.end, ending.why.as_str()));
        let abandoned = besides.abandoned.iter().map(|id| (*id, End::Released, "abandoned before dispatch"));
        let mut asked = Vec::new();
        for (id, end, why) in given.chain(abandoned) {
            // One that has ended already came again.
            let Some(own) = desk.open.get(&id) else { continue };
            let charge = HeldCharge::of(&own.hold.charge, own.hold.held_at, &own.owner).claiming(&own.hold.charge, own.claim);
            let former = own.generation != desk.generation;
            let accounts = self.covering(&own.hold);
            asked.push(AskedEnd { id: id.to_string(), kind: end.as_str(), why: why.to_owned(), former, charge, accounts });
            self.ends.push(Drafted { id, end, hold: own.hold.clone(), is_orphan: false });
        }
        for orphan in &besides.orphans {
            let read = || Some((hold_id(orphan.id.as_ref()?)?, orphan.read()?));
            let Some((id, hold)) = read() else { continue };
            let (accounts, why) = (self.covering(&hold), "open when its gateway ended".to_owned());
            asked.push(AskedEnd { id: id.to_string(), kind: End::Assumed.as_str(), why, former: false, charge: orphan.clone(), accounts });
            self.ends.push(Drafted { id, end: End::Assumed, hold, is_orphan: true });
        }
        asked
    }

    fn corrections(&mut self, batch: &Batch, besides: &Besides) -> Vec<AskedCorrection> {
        let mut asked = Vec::new();
        for correction in &batch.corrections {
            let assumed = besides.assumed.get(&correction.id);
            self.corrections.push(assumed.map(|_| asked.len()));
            if let Some(hold) = assumed {
                let (id, billed) = (correction.id.to_string(), correction.finding == Finding::Billed);
                asked.push(AskedCorrection { id, billed, why: correction.why.clone(), accounts: self.covering(hold) });
                self.corrected.push((correction.finding, hold.clone()));
            }
        }
        asked
    }

    /// What a request wants; nothing, if no budget applies to one of its charges.
    fn wish(&mut self, request: &Request) -> Option<Wish> {
        let (current, Order { charges, claims, rates }) = (&self.accounts[..self.current], &request.order);
        let mut wanted = Vec::with_capacity(charges.len());
        for (place, charge) in charges.iter().enumerate() {
            let accounts: Vec<_> = applying(current, charge).collect();
            if accounts.is_empty() {
                return None;
            }
            let claim = claims.get(place).copied();
            let held = HeldCharge::of(charge, self.now, &self.replica).claiming(charge, claim);
            let Known { paid, unknown } = claim.unwrap_or_default().known;
            let [paid, unknown] = [paid, unknown].map(|id| id.map_or(0, |id| id.0).to_string());
            wanted.push(Wanted { charge: held, accounts, paid, unknown });
        }
        let needs = current.iter().enumerate().filter_map(|(account, (budget, _))| {
            let mut prices = charges.iter().filter(|charge| budget.applies_to(charge)).map(|charge| charge.price).peekable();
            prices.peek()?;
            Some(Need { account, amount: prices.sum::<Usd>().micros().to_string() })
        });
        Some(Wish { needs: needs.collect(), charges: wanted, rates: rates.iter().map(AskedRate::of).collect() })
    }

    /// The accounts in which a hold counts.
    fn covering(&mut self, hold: &OpenHold) -> Vec<usize> {
        let current = self.accounts[..self.current].to_vec();
        let applying = current.into_iter().filter(|(budget, _)| budget.applies_to(&hold.charge));
        applying
            .map(|(budget, _)| {
                let window = budget.window_at(hold.held_at);
                let same = |(other, at): &(Arc<Budget>, Interval)| Arc::ptr_eq(other, &budget) && *at == window;
                self.accounts.iter().position(same).unwrap_or_else(|| {
                    self.accounts.push((budget, window));
                    self.accounts.len() - 1
                })
            })
            .collect()
    }

    /// What the answer means. One that does not fit what was asked comes from no script of this gateway's.
    pub(super) fn read(self, answer: Answer) -> Result<Outcome, OpenFailure> {
        self.understand(answer).ok_or_else(|| OpenFailure::Redis("it answers what was not asked".to_owned()))
    }

    fn understand(mut self, answer: Answer) -> Option<Outcome> {
        let overrides: Vec<Override> = answer.overrides.iter().map(Granted::read).collect::<Option<_>>()?;
        let accounts = self.accounts.iter().zip(&answer.standings).map(|((budget, window), stands)| {
            let balance = Balance { posted: usd(&stands.posted)?, held: usd(&stands.held)? };
            let overrides = overrides.iter().filter(|granted| granted.budget == budget.name).cloned().collect();
            let standing = Standing { balance, overrides, threshold: stands.threshold };
            Some(Account { budget: Arc::clone(budget), window: *window, standing })
        });
        let accounts: Vec<Account> = accounts.collect::<Option<_>>()?;
        let mut outcome = Outcome {
            written: Written::default(),
            held: Vec::new(),
            ended: self.ends.iter().filter(|drafted| !drafted.is_orphan).map(|drafted| drafted.id).collect(),
            accounts: accounts.get(..self.current)?.to_vec(),
            stop: answer.stop.map(Switch::read).unwrap_or_default(),
            orphans: answer.orphans.into_iter().filter(is_readable).collect(),
        };
        let written = &mut outcome.written;
        for (drafted, became) in self.ends.drain(..).zip(&answer.ends) {
            match became.as_str() {
                "ended" => {
                    written.recalled.extend(drafted.posted());
                    written.ends.push(Ended { id: drafted.id, end: drafted.end, hold: drafted.hold });
                }
                "corrected" => {
                    let amount = drafted.hold.charge.price - drafted.end.posts(drafted.hold.charge.price);
                    written.taken_back.push((amount, drafted.hold));
                }
                _ => {}
            }
        }
        for (finding, hold) in self.corrected.drain(..).zip(&answer.corrections).filter(|(_, is_news)| **is_news).map(|(each, _)| each) {
            let amount = if finding == Finding::Billed { Usd::ZERO } else { hold.charge.price };
            written.taken_back.push((amount, hold));
        }
        written.switched = std::mem::take(&mut self.switches);
        let is_news = |place: &Option<usize>| place.is_some_and(|place| answer.corrections.get(place) == Some(&true));
        written.corrections = self.corrections.iter().map(is_news).collect();
        for (name, place) in &self.grants {
            let account = accounts.iter().find(|account| account.budget.name == *name);
            written.grants.push(match (place, account) {
                (Some(place), Some(_)) if !*answer.grants.get(*place)? => Err(OverrideRefused::TooMany(MOST_OVERRIDES)),
                (Some(_), Some(account)) => Ok(account.status(self.now)),
                _ => Err(OverrideRefused::NoSuchBudget),
            });
        }
        for reached in &answer.thresholds {
            let (budget, window) = self.accounts.get(reached.account)?.clone();
            let (percent, spent, limit) = (reached.percent, usd(&reached.spent)?, usd(&reached.limit)?);
            written.thresholds.push(Crossed { budget, percent, spent, limit, window, at: self.now });
        }
        for (order, place) in &self.requests {
            let held = match place {
                None if outcome.stop.on => Err(HoldRefused::Stopped.into()),
                None => Err(HoldRefused::NoBudget.into()),
                Some(place) => self.decided(order, answer.holds.get(*place)?, &accounts, &mut outcome.held, &mut written.decisions)?,
            };
            written.holds.push(held);
        }
        Some(outcome)
    }

    fn decided(
        &self,
        order: &Order,
        decided: &Decided,
        accounts: &[Account],
        held: &mut Vec<(HoldId, Own)>,
        decisions: &mut Vec<(Arc<Budget>, bool)>,
    ) -> Option<Result<Vec<HoldId>, NotHeld>> {
        if decided.stopped {
            return Some(Err(HoldRefused::Stopped.into()));
        }
        if let Some(skew_ms) = &decided.skew_ms {
            tracing::error!(skew_ms, "this machine's clock and that of Redis are too far apart, so nothing is bought: set them right");
            return Some(Err(HoldRefused::Unavailable.into()));
        }
        if !decided.busy.is_empty() {
            return Some(Err(NotHeld::Busy(decided.busy.iter().map(|id| hold_id(id)).collect::<Option<_>>()?)));
        }
        if !decided.later.is_empty() {
            return Some(Err(NotHeld::Later(decided.later.iter().map(Later::read).collect::<Option<_>>()?)));
        }
        if let Some(used_up) = &decided.limited {
            return Some(Err(NotHeld::Limited { rate: used_up.rate, wait: used_up.wait()? }));
        }
        let rooms = decided.rooms.iter().map(|room| Some((room, accounts.get(room.account)?))).collect::<Option<Vec<_>>>()?;
        let told = rooms.iter().filter(|(room, _)| decided.ids.is_some() || !room.has_room);
        decisions.extend(told.map(|(room, account)| (Arc::clone(&account.budget), room.has_room)));
        let Some(ids) = &decided.ids else {
            let (room, account) = rooms.into_iter().find(|(room, account)| account.budget.enforce && !room.has_room)?;
            let balance = Balance { posted: usd(&room.posted)?, held: usd(&room.held)? };
            let at_that_moment = Account { standing: Standing { balance, ..account.standing.clone() }, ..account.clone() };
            return Some(Err(HoldRefused::Exhausted(Box::new(at_that_moment.status(self.now))).into()));
        };
        let ids = ids.iter().map(|id| hold_id(id)).collect::<Option<Vec<_>>>()?;
        for (place, (id, charge)) in ids.iter().zip(&order.charges).enumerate() {
            let taken = OpenHold { charge: charge.clone(), held_at: self.now, since: self.elapsed };
            let (owner, generation, claim) = (self.replica.clone(), self.generation.clone(), order.claims.get(place).copied());
            held.push((*id, Own { hold: taken, owner, generation, claim }));
        }
        Some(Ok(ids))
    }
}

impl Drafted {
    /// What somebody has to look after: a call of a gateway that died.
    fn posted(&self) -> Option<Posted> {
        let Charge { enterprise, number, operation, .. } = self.hold.charge;
        let posted = Posted { id: self.id, enterprise, number, operation, held_at: self.hold.held_at, is_known: false };
        Some(posted).filter(|posted| self.is_orphan && posted.operation.is_recalled())
    }
}

impl Besides {
    fn is_empty(&self) -> bool {
        self.switches.is_empty() && self.abandoned.is_empty() && self.orphans.is_empty()
    }
}

/// One that no gateway wrote stays where it is, and its money held.
fn is_readable(orphan: &HeldCharge) -> bool {
    let is_readable = orphan.id.as_deref().is_some_and(|id| hold_id(id).is_some()) && orphan.read().is_some();
    if !is_readable {
        tracing::error!(hold = orphan.id, "an open hold of a gateway that died cannot be read");
    }
    is_readable
}

/// The places of the accounts that a charge of now counts in.
fn applying<'a>(current: &'a [(Arc<Budget>, Interval)], charge: &'a Charge) -> impl Iterator<Item = usize> + 'a {
    current.iter().enumerate().filter(|(_, (budget, _))| budget.applies_to(charge)).map(|(place, _)| place)
}

fn asked_account((budget, window): &(Arc<Budget>, Interval)) -> AskedAccount {
    let (start, end) = (micros(window.start), micros(window.end));
    AskedAccount {
        window: format!("{}:{start}:{end}", budget.name),
        budget: budget.name.clone(),
        start,
        end,
        limit: budget.limit.micros().to_string(),
        enforce: budget.enforce,
        operation: budget.operation.map(|operation| operation.as_str().to_owned()),
        enterprise: budget.enterprise.map(|enterprise| enterprise.to_string()),
        caller: budget.caller.clone(),
    }
}
