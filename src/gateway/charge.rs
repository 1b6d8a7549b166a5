//! What every billable call has in common: the rates' consent, a hold for each number, one request, and the end of each hold.
//!
//! It runs in a task of its own, which owns the holds. Whoever asked may leave; the call goes on and is settled. Nothing here sends twice.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::Gateway;
use super::ask::Ask;
use super::elsewhere::Ending;
use super::spans;
use super::trail::{self, Asked, Step};
use super::unresolved::Call;
use crate::cache::{self, Calls, Key};
use crate::limit::{Limited, Limiter, Shortage};
use crate::policy::budget::Charge;
use crate::policy::claim::Known;
use crate::policy::decision::Reason;
use crate::policy::evidence::Billing;
use crate::policy::pricing::Billable;
use crate::spend::{self, Claim, Hold, HoldId, HoldRefused, NotHeld, Taken, Told};
use crate::upstream::{Context, Errand, Message, NotSent, Outcome, Place};

/// A ledger whose disk hangs is not waited for: nothing is bought, and what was bought is not kept from its callers.
pub(super) const LEDGER_WAIT: Duration = Duration::from_secs(2);

/// What refused a purchase.
#[derive(Clone, Debug)]
pub(super) enum Denied {
    /// A rate limit.
    Limited(Limited),
    /// A budget, or the ledger.
    Hold(HoldRefused),
    /// The way upstream: nothing would be sent.
    Upstream(NotSent),
}

/// Why nothing may be sent yet.
#[derive(Debug)]
pub(super) enum Unheld {
    /// It is refused.
    Denied(Denied),
    /// Other gateways have holds open for the same.
    Busy(Ending),
    /// What was decided on is not so any more.
    Later(Vec<Told>),
}

impl From<Denied> for Unheld {
    fn from(denied: Denied) -> Self {
        Self::Denied(denied)
    }
}

impl Denied {
    /// Whether any caller would have been refused.
    pub(super) fn concerns_all(&self) -> bool {
        matches!(
            self,
            Self::Limited(Limited { limiter: Limiter::Global, .. })
                | Self::Hold(HoldRefused::Stopped | HoldRefused::Unavailable)
                | Self::Upstream(_)
        )
    }

    pub(super) fn reason(&self) -> Reason {
        match self {
            Self::Limited(_) => Reason::RateLimited,
            Self::Hold(HoldRefused::NoBudget | HoldRefused::Exhausted(_)) => Reason::BudgetExhausted,
            Self::Hold(HoldRefused::Stopped) => Reason::Stopped,
            Self::Hold(HoldRefused::Unavailable) => Reason::LedgerUnavailable,
            Self::Upstream(_) => Reason::Upstream,
        }
    }
}

/// One number of a call that was sent, or was to be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sent {
    key: Key,
    pub(super) hold: HoldId,
    /// When (monotonic).
    pub(super) at: Duration,
    unknown_before: Option<cache::Call>,
}

/// A place upstream, or why there is none.
pub(super) type Turn = Result<Place, NotSent>;

/// Why a hold is released whose call never had its turn.
pub(super) const STOPPED: &str = "stopped before it was sent";

impl Gateway {
    /// The rates' consent, and a hold for each number in every budget that applies; all of them or none. A call that no budget
    /// will pay for takes nothing from the rates: who has no money must not keep others from spending theirs. One that would not be sent
    /// takes neither. `known`: what each number's purchase was decided on.
    pub(super) async fn permit(&self, asks: &[Ask], operation: Billable, known: &[Known]) -> Result<Vec<Hold>, Unheld> {
        let charges = asks.iter().map(|ask| self.charge(ask, operation)).collect();
        let claims = known.iter().map(|known| Claim { known: *known, variant: None }).collect();
        match asks.first() {
            Some(ask) => self.permit_all(&ask.caller.name, &ask.context, (charges, claims)).await,
            None => Ok(Vec::new()),
        }
    }

    /// The same for any charges, which are for one call, and what each claims.
    pub(super) async fn permit_all(
        &self,
        caller: &Arc<str>,
        context: &Context,
        (charges, claims): (Vec<Charge>, Vec<Claim>),
    ) -> Result<Vec<Hold>, Unheld> {
        let first = charges.first().map(|charge| (charge.operation, charge.price));
        let numbers: Vec<_> = charges.iter().map(|charge| charge.number).collect();
        if let Some((operation, price)) = first {
            let budgets = || self.0.ledger.consulted(&charges);
            trail::note(|| Step::Asked(Box::new(Asked { operation, count: numbers.len(), price, budgets: budgets() })));
        }
        let taken = self.take_all(caller, context, (charges, claims)).await;
        if let Some((operation, price)) = first {
            trail::note(|| match &taken {
                Ok(holds) => Step::Held { operation, price, holds: holds.iter().map(Hold::id).zip(numbers).collect() },
                Err(Unheld::Denied(denied)) => Step::Denied(Box::new(denied.clone())),
                Err(Unheld::Busy(ending)) => Step::Elsewhere(ending.holds().to_vec()),
                Err(Unheld::Later(told)) => {
                    let holds = |told: &Told| told.paid.iter().chain(&told.unknown).map(|past| past.hold).collect::<Vec<_>>();
                    Step::Learnt(told.iter().flat_map(holds).collect())
                }
            });
        }
        taken
    }

    async fn take_all(
        &self,
        caller: &Arc<str>,
        context: &Context,
        (charges, claims): (Vec<Charge>, Vec<Claim>),
    ) -> Result<Vec<Hold>, Unheld> {
        // The rates are about checks; an order of anything else is one call.
        let checks = charges.iter().filter(|charge| charge.operation.is_check()).count();
        let calls = u32::try_from(checks.max(1)).ok().and_then(NonZeroU32::new).unwrap_or(NonZeroU32::MAX);
        match self.foresee(context, &charges) {
            Ok(()) => self.0.limits.take(caller, calls).map_err(|limited| self.limited(limited))?,
            // The ledger itself decides, and counts.
            Err(Denied::Hold(HoldRefused::NoBudget | HoldRefused::Exhausted(_))) => {}
            Err(denied) => return Err(denied.into()),
        }
        let shared: Vec<_> = self.0.limits.for_ledger(caller).collect();
        let rates = shared.iter().map(|limit| Taken { name: limit.name.to_owned(), rate: limit.rate, calls }).collect();
        let ending = self.0.ends.listen();
        let (asked, wanted) = (self.begin_span(context), charges.len());
        let held = timeout(LEDGER_WAIT, self.0.ledger.take(spend::Order { charges, claims, rates })).await;
        let held = held.unwrap_or(Err(NotHeld::Refused(HoldRefused::Unavailable)));
        self.end_order(asked, context, wanted, &held);
        held.map_err(|why| match why {
            NotHeld::Refused(refused) => Unheld::Denied(Denied::Hold(refused)),
            NotHeld::Busy(holds) => Unheld::Busy(ending.of(holds)),
            NotHeld::Later(told) => Unheld::Later(told),
            NotHeld::Limited { rate, wait } => {
                let limiter = shared.get(rate).map_or(Limiter::Global, |limit| limit.limiter);
                self.limited(Limited { limiter, why: Shortage::Wait(wait) }).into()
            }
        })
    }

    fn limited(&self, limited: Limited) -> Denied {
        self.0.metrics.rate_limit_denied.with_label_values(&[limited.limiter.as_str()]).inc();
        Denied::Limited(limited)
    }

    /// What would refuse these charges now. The rates are not asked, since that takes from them.
    pub(super) fn foresee(&self, context: &Context, charges: &[Charge]) -> Result<(), Denied> {
        self.0.upstream.check(Errand::Billable, &context.credential).map_err(Denied::Upstream)?;
        self.0.ledger.preview(charges).map_err(Denied::Hold)
    }

    fn charge(&self, ask: &Ask, operation: Billable) -> Charge {
        Charge {
            request_id: ask.context.request_id.to_str().unwrap_or_default().to_owned(),
            caller: ask.caller.name.clone(),
            enterprise: ask.key.enterprise,
            number: Some(ask.key.number),
            operation,
            price: self.0.rules.prices.price(operation),
        }
    }

    /// Waits for a place upstream. Operators may stop all billable work meanwhile, and other gateways may take this one for dead.
    pub(super) async fn turn(&self, context: &Context) -> Result<Turn, Denied> {
        let turn = self.0.upstream.place(Errand::Billable, &context.credential).await;
        if self.0.ledger.is_stopped() {
            Err(Denied::Hold(HoldRefused::Stopped))
        } else if self.0.ledger.keeps_holds() {
            Ok(turn)
        } else {
            Err(Denied::Hold(HoldRefused::Unavailable))
        }
    }

    /// Marks a number before its call is sent. Until the verdict the outcome counts as unknown: if this task dies, nothing is sent again.
    pub(super) fn mark(&self, key: Key, hold: &Hold, at: Duration) -> Sent {
        let unknown_before = self.0.calls.of(&key).unknown;
        self.0.calls.learn(key, Calls::unknown(cache::Call { hold: hold.id(), sent: at, is_own: true }));
        Sent { key, hold: hold.id(), at, unknown_before }
    }

    /// Sends a billable message, once.
    pub(super) async fn send(&self, turn: Turn, message: &Message, call: &mut spans::Call) -> Outcome {
        let outcome = match turn {
            Ok(_) if self.0.tasks.is_closed() => Outcome::NotSent(NotSent::Stopping),
            Ok(place) => self.0.upstream.send(place, message, &call.context).await,
            Err(crowded) => Outcome::NotSent(crowded),
        };
        self.note_sent(call, &outcome);
        outcome
    }

    /// Ends the holds, all at once.
    pub(super) async fn settle_all(&self, ends: impl IntoIterator<Item = (Hold, Billing, &'static str)>) {
        let settle = |(hold, billing, why)| {
            let gateway = self.clone();
            self.0.tasks.spawn(trail::along(async move { gateway.settle(hold, billing, why).await }))
        };
        let settling: Vec<_> = ends.into_iter().map(settle).collect();
        for settled in settling {
            // A hold whose task died was dropped, and so is assumed.
            let _ended = settled.await;
        }
    }

    /// Ends the hold. An end that cannot be written now is kept by the ledger, which goes on trying.
    pub(super) async fn settle(&self, hold: Hold, billing: Billing, why: &'static str) {
        let id = hold.id();
        let end = async {
            match billing {
                Billing::Billed => hold.settle(why).await,
                Billing::NotBilled | Billing::NotSent => hold.release(why).await,
                Billing::Unknown => hold.assume(why).await,
            }
        };
        let is_recorded = matches!(timeout(LEDGER_WAIT, end).await, Ok(Ok(())));
        trail::note(|| Step::Ended { hold: id, billing, why, is_recorded });
        if !is_recorded {
            tracing::error!(
                hold = %id,
                outcome = billing.as_str(),
                "the ledger has not recorded how a hold ended, and goes on trying"
            );
        }
    }

    /// Leaves a call whose hold was assumed to later looks. `failed`: the upstream said that it failed for this number.
    pub(super) fn leave_open(&self, sent: &Sent, operation: Billable, failed: bool, context: &Context) {
        let call = match operation {
            // Its number is listed once it was carried out, and may be without data for a while.
            Billable::Associate => Call::counted(sent.hold, sent.at),
            _ => Call::new(sent.hold, sent.at, failed),
        };
        self.0.pending.add(sent.key, call, sent.at + self.0.rules.effect, Some(context.credential.clone()));
    }

    /// Remembers what the call was, once what it brought is kept: who sees that it was paid finds that.
    pub(super) fn remember(&self, sent: &Sent, billing: Billing) {
        match billing {
            Billing::Billed => {
                self.0.calls.learn(sent.key, Calls::paid(cache::Call { hold: sent.hold, sent: sent.at, is_own: true }));
                self.0.pending.overtaken(&sent.key, sent.hold, self.0.clock.elapsed());
            }
            Billing::NotBilled | Billing::NotSent => self.0.calls.not_billed(sent.key, sent.hold, sent.unknown_before),
            Billing::Unknown => {}
        }
    }
}
