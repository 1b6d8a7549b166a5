//! The purchase of one number's record: permission, one GET, verdict, settlement. What it has in common with others is in `charge.rs`.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, Method, StatusCode};
use tokio::time::timeout;

use super::Gateway;
use super::ask::Ask;
use super::charge::{Denied, STOPPED, Sent, Unheld};
use super::failure::Failure;
use super::look::{Keep, Look};
use super::spans;
use super::trail::{self, Step};
use super::wait::Unmet;
use crate::cache::{Content, Entry, Evidence};
use crate::policy::claim::Known;
use crate::policy::decide::{CLOCK_TOLERANCE, Kind};
use crate::policy::decision::Decision;
use crate::policy::evidence::{Answered, Billing, judge};
use crate::policy::pricing::Billable;
use crate::spend::{Hold, HoldId, HoldRefused};
use crate::telnyx::{Operation, record};
use crate::upstream::{Answer, Message, Outcome};
use crate::wire::trace::SpanContext;

/// How a purchase ended. All who waited for it share this.
#[derive(Clone, Debug)]
pub(super) struct Landing {
    /// The request that made it.
    pub(super) request_id: HeaderValue,
    /// For whom it was made.
    pub(super) caller: Arc<str>,
    /// The request's span that it was made for.
    pub(super) span: Option<SpanContext>,
    /// What was to be bought.
    pub(super) operation: Billable,
    /// What was held for it.
    pub(super) hold: Option<HoldId>,
    /// Whether it was billed, as far as is known in the end.
    pub(super) billing: Billing,
    /// What it brought.
    pub(super) end: End,
}

/// What a purchase brought.
#[derive(Clone, Debug)]
pub(super) enum End {
    /// An answer to serve.
    Served(Entry, Decision),
    /// What another gateway's call brought, which was waited for.
    Elsewhere(Entry),
    /// It was refused before anything was sent.
    Denied(Denied),
    /// It failed.
    Failed(Failure),
    /// It was never made, since another gateway's call for the number was waited for in vain.
    Unmet(Unmet),
}

impl Landing {
    /// Whether another request can be answered with it: one of `caller`'s that wanted this bought, or nothing if it could do without.
    pub(super) fn suits(&self, caller: &str, wanted: Option<Billable>) -> bool {
        match &self.end {
            // Who asked for fresh data does not take what a plain read found stored.
            End::Served(..) => wanted != Some(Billable::Fresh) || self.operation == Billable::Fresh || self.billing == Billing::Billed,
            End::Elsewhere(_) => true,
            // Another caller's limits are none of this one's.
            End::Denied(denied) => wanted == Some(self.operation) && (denied.concerns_all() || *self.caller == *caller),
            End::Failed(_) | End::Unmet(_) => wanted == Some(self.operation),
        }
    }
}

/// What a call brought, and what it cost.
struct Verdict {
    billing: Billing,
    why: &'static str,
    result: Result<Content, Failure>,
}

/// The look for what became of a call is made while its caller waits, who has waited for the call already.
pub(super) const RECOVERY_WAIT: Duration = Duration::from_secs(5);

impl Gateway {
    /// Buys one answer, as was decided on what was `known`. Nothing, if another gateway's call made that untrue: then all is decided anew.
    pub(super) async fn purchase(&self, ask: &Ask, operation: Billable, known: Known) -> Option<Landing> {
        let (since, mut awaited, mut own) = (self.0.clock.elapsed(), Vec::new(), None);
        let (billing, end) = loop {
            match self.permit(std::slice::from_ref(ask), operation, &[known]).await.map(|mut holds| holds.pop()) {
                Ok(Some(hold)) => {
                    own = Some(hold.id());
                    break self.carry_out(ask, operation, hold).await;
                }
                Ok(None) => break (Billing::NotSent, End::Denied(Denied::Hold(HoldRefused::Unavailable))),
                Err(Unheld::Denied(denied)) => break (Billing::NotSent, End::Denied(denied)),
                Err(Unheld::Busy(ending)) => {
                    awaited.extend_from_slice(ending.holds());
                    if let Err(unmet) = self.wait_for_others(ending, since).await {
                        break (Billing::NotSent, End::Unmet(unmet));
                    }
                }
                Err(Unheld::Later(told)) => {
                    for told in &told {
                        self.learn_calls(ask.key, told);
                    }
                    let paid = told.iter().filter_map(|told| Some(told.paid.as_ref()?.hold)).find(|hold| awaited.contains(hold))?;
                    break (Billing::NotSent, End::Elsewhere(self.bought_elsewhere(&ask.key, paid).await?));
                }
            }
        };
        let (request_id, span) = (ask.context.request_id.clone(), spans::of(&ask.context));
        Some(Landing { request_id, caller: ask.caller.name.clone(), span, operation, hold: own, billing, end })
    }

    /// Sends the number's GET, once.
    async fn carry_out(&self, ask: &Ask, operation: Billable, hold: Hold) -> (Billing, End) {
        let query = if operation == Billable::FirstTouch { "" } else { "?fresh=true" };
        let get = Message::get(format!("/enterprises/{}/reputation/numbers/{}{query}", ask.key.enterprise, ask.key.number));
        let turn = match self.turn(&ask.context).await {
            Ok(turn) => turn,
            Err(denied) => {
                self.settle(hold, Billing::NotSent, STOPPED).await;
                return (Billing::NotSent, End::Denied(denied));
            }
        };
        let sent = self.mark(ask.key, &hold, self.0.clock.elapsed());
        let mut call = self.begin_call(Operation::Retrieve, Method::GET, &ask.context);
        let outcome = self.send(turn, &get, &mut call).await;
        let verdict = verdict(outcome, operation, ask);
        self.end_call(call, verdict.billing);
        let result = match verdict.result {
            Ok(content) => Ok(self.keep_answer(ask, operation, verdict.billing, content, (sent.at, hold.id())).await),
            Err(failure) => Err(failure),
        };
        self.settle(hold, verdict.billing, verdict.why).await;
        if verdict.billing == Billing::Unknown {
            self.leave_open(&sent, operation, false, &ask.context);
        }
        let end = match result {
            Ok(end) => end,
            Err(Failure::OutcomeUnknown) => return self.recover(ask, &sent).await,
            Err(failure) => End::Failed(failure),
        };
        self.remember(&sent, verdict.billing);
        (verdict.billing, end)
    }

    /// Before the hold ends: who waits elsewhere for its end finds what it brought.
    async fn keep_answer(
        &self,
        ask: &Ask,
        operation: Billable,
        billing: Billing,
        content: Content,
        (sent, hold): (Duration, HoldId),
    ) -> End {
        let decision = match (content.kind, billing, operation) {
            (Kind::Missing, ..) => Decision::NotFound,
            (_, Billing::Billed, Billable::Fresh) => Decision::Billed,
            (_, Billing::Billed, Billable::FirstTouch) => Decision::FirstTouch,
            _ => Decision::Miss,
        };
        let evidence = match (billing, operation) {
            (Billing::Billed, Billable::Fresh) => Evidence::Check,
            (Billing::Billed, _) => Evidence::FirstTouch,
            _ => Evidence::Get,
        };
        let entry = self.0.cache.entry(&ask.key, content.by(evidence), sent, self.0.clock.elapsed());
        self.keep_bought(&entry, hold).await;
        End::Served(entry, decision)
    }

    /// The free look that may show what became of a call: data newer than its dispatch means that it worked.
    async fn recover(&self, ask: &Ask, sent: &Sent) -> (Billing, End) {
        // A task of its own: what the look shows is recorded, also if nobody waits any more.
        let (gateway, key, context) = (self.clone(), ask.key, ask.context.clone());
        let look = self.0.tasks.spawn(trail::along(async move { gateway.look_upstream(key, &context, Keep::Yes).await }));
        let look = timeout(RECOVERY_WAIT, look).await;
        if let Ok(Ok(look)) = &look {
            trail::note(|| Step::Looked { number: key.number, saw: look.fact(), joined: false });
        }
        if let Ok(Ok(Look::Found(entry))) = look {
            let since_sent = self.0.clock.elapsed().saturating_sub(sent.at);
            if entry.data_age().is_some_and(|age| age <= since_sent + CLOCK_TOLERANCE) {
                self.0.calls.recovered(ask.key, sent.hold);
                trail::note(|| Step::Found { hold: sent.hold, why: "the data is as young as the call: it was billed" });
                return (Billing::Billed, End::Served(entry, Decision::Recovered));
            }
        }
        (Billing::Unknown, End::Failed(Failure::OutcomeUnknown))
    }
}

fn verdict(outcome: Outcome, operation: Billable, ask: &Ask) -> Verdict {
    let answer = match outcome {
        Outcome::Answered(answer) => answer,
        Outcome::NotSent(why) => {
            return Verdict { billing: Billing::NotSent, why: "it was never sent", result: Err(Failure::NotSent(why)) };
        }
        Outcome::Unknown(_) => {
            let why = "the answer was lost after the request was sent";
            return Verdict { billing: Billing::Unknown, why, result: Err(Failure::OutcomeUnknown) };
        }
    };
    let content = content(&answer, ask);
    let reputation = content.as_ref().and_then(|(reputation, _)| *reputation);
    let answered = Answered { status: answer.status.as_u16(), reputation, date: answer.date, elapsed: answer.elapsed };
    trail::note(|| Step::Evidence { number: ask.key.number, answered });
    let (billing, why) = judge(operation, &answered);
    let result = match content {
        Some((_, content)) => Ok(content),
        None if billing == Billing::Unknown && !answer.status.is_success() => Err(Failure::OutcomeUnknown),
        None => Err(Failure::of(answer, &ask.context.credential)),
    };
    Verdict { billing, why, result }
}

/// What can be served of an answer: this number's whole record, or that there is no such number.
fn content(answer: &Answer, ask: &Ask) -> Option<(Option<record::Reputation>, Content)> {
    if answer.status == StatusCode::NOT_FOUND && record::is_error(&answer.body) {
        return Some((None, Content::missing(answer.body.clone())));
    }
    let is_whole = answer.status.is_success() && answer.status != StatusCode::PARTIAL_CONTENT;
    let record = record::document(&answer.body).ok().filter(|_| is_whole)?;
    let this = record.phone_number == ask.key.number && record.enterprise_id == ask.key.enterprise;
    this.then(|| (Some(record.reputation), Content::record(record.reputation, answer.body.clone(), answer.date)))
}
