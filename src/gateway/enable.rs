//! Monitoring bought for an enterprise: its first month under one hold, never twice.
//!
//! A free look at the settings comes before each purchase, and after one whose answer was lost. `policy::enable` says what a look calls for.

use std::time::Duration;

use http::request::Parts;
use http::{Method, StatusCode};
use serde_json::Value;
use tokio::time::timeout;

use super::Gateway;
use super::answer::{Answer, Bill, Content, Forward, Refused};
use super::ask;
use super::charge::LEDGER_WAIT;
use super::elsewhere::Elsewhere;
use super::failure::Failure;
use super::pass::{path, tells_of};
use super::purchase::RECOVERY_WAIT;
use super::refusal;
use super::retrieve::MOST_ROUNDS;
use super::single::{Bought, Single, Whose, crashed};
use super::trail::{self, Step};
use super::visit::Visit;
use super::write::About;
use crate::auth::{Identity, Permission};
use crate::policy::decision::Decision;
use crate::policy::enable::{self, Action, Fate, Last};
use crate::policy::evidence::Billing;
use crate::policy::pricing::Billable;
use crate::spend::{Claim, Finding, HoldId, HoldRefused};
use crate::telnyx::{EnterpriseId, Operation, Route, record};
use crate::upstream::{self, Message, NotSent};
use crate::wire::directives::Directives;

/// The last call that enabled monitoring for an enterprise, or may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Enabling {
    pub(super) hold: HoldId,
    /// When it was sent (monotonic).
    pub(super) sent: Duration,
    pub(super) fate: Fate,
}

/// What is to be enabled.
struct Wish {
    identity: Identity,
    retry: bool,
    call: Single,
}

/// What a look at the settings found.
enum Settings {
    /// They are there.
    Enabled(upstream::Answer),
    /// They are not.
    Absent,
}

impl Gateway {
    /// Enables monitoring for an enterprise.
    pub(super) async fn enable(
        &self,
        route: &Route<'_>,
        (head, body): (&Parts, &[u8]),
        identity: &Identity,
        wishes: Directives,
        visit: &mut Visit,
    ) -> Refused<Answer> {
        let enterprise = self.permitted(Permission::Enable, route, None, identity, wishes, visit).await?;
        let object = ask::enabling(head, body, enterprise)?;
        let call = Single {
            caller: identity.caller.clone(),
            context: self.context(identity, Some(enterprise), visit)?,
            enterprise,
            number: None,
            operation: Operation::Enable,
            billable: Billable::Enable,
            price: self.0.rules.prices.price(Billable::Enable),
            message: Message::new(Method::POST, path(route, Some(enterprise))?, Value::Object(object).to_string()),
        };
        let price = call.price;
        let wish = Wish { identity: identity.clone(), retry: wishes.retry, call };
        let lead = self.alone((identity.partition, enterprise), visit).await?;
        let gateway = self.clone();
        let enabling = self.0.tasks.spawn(trail::along(async move {
            let answer = gateway.enable_once(&wish).await;
            lead.land(());
            answer
        }));
        visit.waiting_for(enabling).await.unwrap_or_else(|_| Err(crashed(price)))
    }

    /// Decides anew as long as other gateways' calls for the enterprise come in between.
    async fn enable_once(&self, wish: &Wish) -> Refused<Answer> {
        let since = self.0.clock.elapsed();
        for _ in 0..MOST_ROUNDS {
            match self.enable_as_known(wish).await? {
                Ok(answer) => return Ok(answer),
                Err(elsewhere) => self.wait_elsewhere(elsewhere, since).await?,
            }
        }
        Err(refusal::failed(&Failure::NotSent(NotSent::Crowded)))
    }

    async fn enable_as_known(&self, wish: &Wish) -> Refused<Result<Answer, Elsewhere>> {
        let whose = (wish.identity.partition, wish.call.enterprise);
        let (begun, enablings) = (self.0.clock.elapsed(), &self.0.monitoring.enablings);
        let settings = self.settings_of(wish).await.map_err(|failure| refusal::failed(&failure))?;
        let claim = Claim { known: self.0.monitoring.known(whose, Billable::Enable), variant: None };
        let last = enablings.get(&whose);
        let known = last.map(|last| Last { age: begun.saturating_sub(last.sent), fate: last.fate });
        let is_enabled = matches!(settings, Settings::Enabled(_));
        let action = enable::decide(is_enabled, known, wish.retry, self.0.rules.effect);
        trail::note(|| Step::Enabling { is_enabled, last: known, action });
        match (action, settings) {
            (Action::Recovered, Settings::Enabled(answer)) => {
                self.confirm(whose, last).await;
                Ok(Ok(answered(Decision::Recovered, Bill::NOTHING, answer)))
            }
            (Action::Repeated, Settings::Enabled(answer)) => Ok(Ok(answered(Decision::Cooldown, Bill::NOTHING, answer))),
            (Action::Wait, _) => Err(refusal::outcome_unknown()),
            (Action::Buy { take_back }, Settings::Absent) => {
                if let Some(last) = last.filter(|_| take_back) {
                    let why = "a look found monitoring not enabled after the call could take effect: it was not carried out";
                    let corrected = timeout(LEDGER_WAIT, self.0.ledger.correct(last.hold, Finding::NotBilled, why)).await;
                    if !matches!(corrected, Ok(Ok(_))) {
                        return Err(refusal::hold_refused(&HoldRefused::Unavailable, wish.call.price, &self.0.rules));
                    }
                    trail::note(|| Step::Found { hold: last.hold, why });
                    enablings.invalidate(&whose);
                }
                self.buy_monitoring(wish, whose, claim).await
            }
            _ => Err(refusal::already_enabled()),
        }
    }

    async fn buy_monitoring(&self, wish: &Wish, whose: Whose, claim: Claim) -> Refused<Result<Answer, Elsewhere>> {
        let enablings = &self.0.monitoring.enablings;
        let mut own = None;
        let sending = |hold, sent| {
            own = Some(hold);
            enablings.insert(whose, Enabling { hold, sent, fate: Fate::Unknown });
        };
        let bought = match self.buy_single(&wish.call, Some(claim), whose, sending).await {
            Ok(bought) => bought,
            Err(elsewhere) => return Ok(Err(elsewhere)),
        };
        let about = About { operation: Operation::Enable, enterprise: Some(wish.call.enterprise), number: None };
        match bought.billing {
            Billing::NotBilled | Billing::NotSent => {
                // Nothing was sent where it was denied: what stands for a former call stays. This one may have come into doubt meanwhile.
                if enablings.get(&whose).is_some_and(|last| Some(last.hold) == own) {
                    enablings.invalidate(&whose);
                }
            }
            Billing::Billed => {
                self.forget(about, false, whose.0);
                if let Some(last) = enablings.get(&whose) {
                    enablings.insert(whose, Enabling { fate: Fate::Paid, ..last });
                }
            }
            Billing::Unknown => {
                self.forget(about, false, whose.0);
                return self.recover_monitoring(wish, whose, bought).await.map(Ok);
            }
        }
        self.bought(bought, wish.call.price, Forward::Method).map(Ok)
    }

    /// A free look that may show that the call has worked: a moment ago monitoring was not enabled.
    async fn recover_monitoring(&self, wish: &Wish, whose: Whose, bought: Bought) -> Refused<Answer> {
        if let Ok(Ok(Settings::Enabled(answer))) = timeout(RECOVERY_WAIT, self.settings_of(wish)).await {
            self.confirm(whose, self.0.monitoring.enablings.get(&whose)).await;
            return Ok(answered(Decision::Recovered, Bill::of(Billing::Billed, wish.call.price), answer));
        }
        self.bought(bought, wish.call.price, Forward::Method)
    }

    /// The call of unknown outcome has worked. What cannot be recorded now is with the next look.
    async fn confirm(&self, whose: Whose, last: Option<Enabling>) {
        let Some(last) = last else { return };
        let why = "a look found monitoring enabled after the call: it was billed";
        if let Ok(Ok(_)) = timeout(LEDGER_WAIT, self.0.ledger.correct(last.hold, Finding::Billed, why)).await {
            trail::note(|| Step::Found { hold: last.hold, why });
            self.0.monitoring.enablings.insert(whose, Enabling { fate: Fate::Paid, ..last });
        }
    }

    /// Settings that somebody asked for at `begun` show that a call of unknown outcome has worked. One that is under way is its own task's.
    pub(super) async fn saw_settings(&self, whose: Whose, body: &[u8], begun: Duration) {
        let Self(shared) = self;
        let last = shared.monitoring.enablings.get(&whose).filter(|last| last.fate != Fate::Paid && begun >= last.sent);
        if last.is_some() && !shared.monitoring.is_busy(&whose) && !record::is_deleted(body) {
            self.confirm(whose, last).await;
        }
    }

    /// The settings, asked of Telnyx now.
    async fn settings_of(&self, wish: &Wish) -> Result<Settings, Failure> {
        let (enterprise, context): (EnterpriseId, _) = (wish.call.enterprise, &wish.call.context);
        match self.free(&format!("/enterprises/{enterprise}/reputation"), Operation::Settings, context).await {
            Ok(answer) if !tells_of(&answer.body, Operation::Settings, Some(enterprise)) => Err(Failure::Invalid),
            Ok(answer) if record::is_deleted(&answer.body) => Ok(Settings::Absent),
            Ok(answer) => Ok(Settings::Enabled(answer)),
            Err(Failure::Refused(relay)) if relay.status == StatusCode::NOT_FOUND => Ok(Settings::Absent),
            Err(failure) => Err(failure),
        }
    }
}

/// What enabling is answered with, in the bytes of the settings.
fn answered(decision: Decision, bill: Bill, settings: upstream::Answer) -> Answer {
    let content = Content::Results { status: StatusCode::CREATED, body: settings.body, forwarded: false };
    Answer { decision, bill, avoided: None, content }
}
