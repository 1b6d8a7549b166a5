//! Facts and steps put into words: the same ones for what a request would come to and for what one came to.

use std::fmt::Write as _;
use std::time::Duration;

use http::Method;
use jiff::Unit;
use serde_json::{Map, Value, json};

use super::charge::Denied;
use super::trail::{Asked, Decided, Next, Reply, Step};
use super::wait::Unmet;
use crate::limit::Shortage;
use crate::policy::decide::{Action, CLOCK_TOLERANCE, Copy, Facts, FirstTouch, OnDenied, Policy, Source};
use crate::policy::evidence::{Answered, Billing};
use crate::policy::outlook::{Event, rule};
use crate::policy::pricing::PriceList;
use crate::policy::refresh;
use crate::spend::{BudgetStatus, HoldId, HoldRefused};
use crate::telnyx::PhoneNumber;
use crate::telnyx::record::Reputation;

/// What words depend on beside the facts.
#[derive(Clone, Copy)]
pub(super) struct Teller<'g> {
    pub(super) prices: &'g PriceList,
    /// Whether phone numbers are shown whole.
    pub(super) full_numbers: bool,
}

impl Teller<'_> {
    pub(super) fn number(&self, number: PhoneNumber) -> String {
        if self.full_numbers { number.to_string() } else { number.masked() }
    }

    /// What is done next about a read, and why.
    pub(super) fn action(&self, action: Action) -> Value {
        let mut told = json!({ "action": word(action), "rule": rule(action) });
        match action {
            Action::Serve(decision, source) => {
                told["decision"] = decision.as_str().into();
                told["from"] = if source == Source::Copy { "copy" } else { "look" }.into();
            }
            Action::ServeStale => told["decision"] = "stale".into(),
            Action::Refuse(reason) => told["decision"] = reason.decision().as_str().into(),
            Action::Buy(operation) => {
                told["operation"] = operation.as_str().into();
                told["price_usd"] = self.prices.price(operation).to_string().into();
            }
            Action::Probe | Action::Join => {}
        }
        told
    }

    /// A step: its name, its facts, and a sentence's part that tells them.
    pub(super) fn step(&self, step: &Step) -> Value {
        let (name, text, facts) = self.parts(step);
        let Value::Object(facts) = facts else { unreachable!("the facts of a step have names") };
        let head = [("step".to_owned(), name.into()), ("text".to_owned(), text.into())];
        Value::Object(head.into_iter().chain(facts).collect::<Map<_, _>>())
    }

    fn parts(&self, step: &Step) -> (&'static str, String, Value) {
        match step {
            Step::Policy(of) => ("policy", policy_text(of), policy(of)),
            Step::Decided(decided) => self.decided(decided),
            Step::Looked { number, saw, joined } => {
                let (number, shows) = (self.number(*number), Event::Looked(*saw).shows());
                let whose = if *joined { "another request's look" } else { "a free look" };
                ("looked", format!("{whose} at {number} showed {shows}"), json!({ "number": number, "shows": shows, "joined": joined }))
            }
            Step::Joined(joined) => {
                let id = joined.request_id.to_str().unwrap_or_default();
                let (caller, operation, billed) = (&*joined.caller, joined.operation.as_str(), joined.billing.answer());
                let text = format!("{operation} of request {id} of {caller} was waited for, which was billed: {billed}");
                let facts = json!({ "request_id": id, "caller": caller, "operation": operation, "hold": joined.hold.map(|hold| hold.0), "billed": billed });
                ("joined", text, facts)
            }
            Step::Followed(number) => {
                let number = self.number(*number);
                ("followed", format!("another request's purchase of {number} was waited for"), json!({ "number": number }))
            }
            Step::Unmet(why) => {
                let why = unmet(*why);
                ("waited_in_vain", format!("work that was shared brought nothing: {why}"), json!({ "why": why }))
            }
            Step::Elsewhere(holds) => {
                let text = format!("another gateway has {} open for the same", numbered(holds));
                ("elsewhere", text, json!({ "holds": ids(holds) }))
            }
            Step::Learnt(holds) => {
                let text = format!("the ledger knew of a later call by another gateway: {}", numbered(holds));
                ("learnt", text, json!({ "holds": ids(holds) }))
            }
            Step::Enabling { is_enabled, last, action } => {
                let last = last.map(|last| json!({ "ago_s": last.age.as_secs(), "fate": last.fate.as_str() }));
                let found = if *is_enabled { "enabled" } else { "not enabled" };
                let text = format!("a free look found monitoring {found}: {}", action.rule());
                ("settings", text, json!({ "enabled": is_enabled, "last_call": last, "action": action.as_str(), "rule": action.rule() }))
            }
            Step::Schedule { frequency, numbers, price, has_counted } => {
                let (frequency, counted) = (frequency.as_str(), if *has_counted { ", which was counted a moment ago" } else { "" });
                let text = format!("a month of {frequency} checks of {numbers} numbers costs {price}{counted}");
                let facts = json!({ "frequency": frequency, "numbers": numbers, "price_usd": price, "counted_before": has_counted });
                ("schedule", text, facts)
            }
            Step::Asked(asked) => ("budgets", asked_text(asked), asked_facts(asked)),
            Step::Denied(denied) => ("denied", denied_text(denied), denied_facts(denied)),
            Step::Held { operation, price, holds } => self.held(operation.as_str(), &price.to_string(), holds),
            Step::Sent { method, is_billable, reply, took } => sent(method, *is_billable, *reply, *took),
            Step::Evidence { number, answered } => self.evidence(*number, answered),
            Step::Said { number, success } => {
                let number = self.number(*number);
                let said = match success {
                    Some(true) => "success",
                    Some(false) => "failure",
                    None => "nothing",
                };
                ("said", format!("of {number} the answer says {said}"), json!({ "number": number, "success": success }))
            }
            Step::Ended { hold, billing, why, is_recorded } => ended(*hold, *billing, why, *is_recorded),
            Step::Found { hold, why } => ("found", format!("of hold {hold}: {why}"), json!({ "hold": hold.0, "why": why })),
            Step::Refused { status, code, detail } => {
                ("refused", format!("answered with {status} {code}: {detail}"), json!({ "status": status, "code": code, "detail": detail }))
            }
        }
    }

    fn decided(&self, Decided { number, facts: of, next }: &Decided) -> (&'static str, String, Value) {
        let (mut told, rule) = match next {
            Next::Read(action) => (self.action(*action), rule(*action)),
            Next::Batch(action) => (batch(*action), action.rule()),
        };
        told["number"] = self.number(*number).into();
        told["facts"] = facts(of);
        let action = told["action"].as_str().unwrap_or_default();
        let what = told["operation"].as_str().map(|operation| format!(" {operation}")).unwrap_or_default();
        ("decided", format!("{}: {action}{what}, since {rule}", known(of)), told)
    }

    fn held(&self, operation: &str, price: &str, holds: &[(HoldId, Option<PhoneNumber>)]) -> (&'static str, String, Value) {
        let hold =
            |(id, number): &(HoldId, Option<PhoneNumber>)| json!({ "hold": id.0, "number": number.map(|number| self.number(number)) });
        let taken: Vec<_> = holds.iter().map(|(id, _)| *id).collect();
        let each = if holds.len() == 1 { "" } else { " each" };
        let facts = json!({ "operation": operation, "price_usd": price, "holds": holds.iter().map(hold).collect::<Vec<_>>() });
        ("held", format!("{} taken for {operation}, {price}{each}", numbered(&taken)), facts)
    }

    fn evidence(&self, number: PhoneNumber, answered: &Answered) -> (&'static str, String, Value) {
        let sent = answered.date.and_then(|date| date.checked_sub(answered.elapsed).ok()?.round(Unit::Millisecond).ok());
        let refreshed = answered.reputation.map(Reputation::refreshed_at);
        let mut text = format!("the answer was {} after {}", answered.status, milliseconds(answered.elapsed));
        match (refreshed, sent) {
            (None, _) => text.push_str(", and is not the number's record"),
            (Some(None), _) => text.push_str(", with no last_refreshed_at"),
            (Some(Some(at)), None) => _ = write!(text, ", with last_refreshed_at {at} and no date to compare it with"),
            (Some(Some(at)), Some(sent)) => {
                let since = sent.checked_sub(CLOCK_TOLERANCE).unwrap_or(sent);
                let how = if at >= since { "as young as" } else { "older than" };
                _ = write!(text, ", with last_refreshed_at {at}, which is {how} the call, sent at {sent} by Telnyx's clock");
            }
        }
        let facts = json!({
            "number": self.number(number), "status": answered.status, "elapsed_us": micros(answered.elapsed), "date": answered.date,
            "sent_at": sent, "last_refreshed_at": refreshed.flatten(), "tolerance_s": CLOCK_TOLERANCE.as_secs(),
        });
        ("evidence", text, facts)
    }
}

/// What is known of a number when it is decided about.
pub(super) fn facts(facts: &Facts) -> Value {
    json!({
        "fresh": facts.want.fresh, "may_bill": facts.want.may_bill, "may_fresh": facts.may_fresh, "copy": facts.copy.map(copy),
        "paid_ago_s": seconds(facts.paid_ago), "unknown_ago_s": seconds(facts.unknown_ago), "purchase_under_way": facts.in_flight,
        "look_failed_ago_s": seconds(facts.look_failed_ago), "look": facts.probe.map(|probe| Event::Looked(probe).shows()),
        "refused_by": facts.refused.map(|reason| reason.decision().as_str()),
    })
}

pub(super) fn copy(copy: Copy) -> Value {
    json!({
        "kind": copy.kind.as_str(), "age_s": copy.age.as_secs(), "lifetime_s": copy.lifetime.as_secs(),
        "data_age_s": seconds(copy.data_age), "outdated": copy.outdated,
    })
}

/// The settings that a read is decided by.
pub(super) fn policy(policy: &Policy) -> Value {
    json!({
        "min_age_s": policy.min_age.as_secs(), "unknown_window_s": policy.unknown_window.as_secs(),
        "on_denied": on_denied(policy), "first_touch": first_touch(policy), "null_ttl_s": policy.null_ttl.as_secs(),
        "stale_while_revalidate_s": policy.stale_while_revalidate.as_secs(), "stale_if_error_s": policy.stale_if_error.as_secs(),
        "error_ttl_s": policy.error_ttl.as_secs(),
    })
}

/// Where a budget stood when it was asked, and whether it had room.
pub(super) fn budget((budget, has_room): &(BudgetStatus, bool)) -> Value {
    json!({
        "name": budget.name, "scope": budget.scope.to_string(), "enforced": budget.enforced, "limit_usd": budget.limit,
        "spent_usd": budget.spent, "held_usd": budget.held, "resets_at": budget.resets_at, "has_room": has_room,
    })
}

/// A copy in a sentence.
pub(super) fn copy_text(copy: Option<Copy>) -> String {
    let Some(copy) = copy else { return "no copy".to_owned() };
    let outdated = if copy.outdated { ", outdated" } else { "" };
    format!("a copy ({}) {} s old of {} s{outdated}", copy.kind.as_str(), copy.age.as_secs(), copy.lifetime.as_secs())
}

pub(super) fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

fn on_denied(policy: &Policy) -> &'static str {
    if policy.on_denied == OnDenied::Cached { "cached" } else { "reject" }
}

fn first_touch(policy: &Policy) -> &'static str {
    if policy.first_touch == FirstTouch::Bill { "bill" } else { "free" }
}

fn policy_text(policy: &Policy) -> String {
    format!(
        "policy first_touch={}, on_denied={}, min_age={}s, unknown_window={}s, null_ttl={}s",
        first_touch(policy),
        on_denied(policy),
        policy.min_age.as_secs(),
        policy.unknown_window.as_secs(),
        policy.null_ttl.as_secs()
    )
}

/// What a decision went by, in a sentence.
fn known(facts: &Facts) -> String {
    let want = match (facts.want.buys_fresh(), facts.want.may_bill) {
        (true, _) => "fresh data wanted",
        (_, true) => "a plain read",
        (_, false) => "a read that may cost nothing",
    };
    let mut text = format!("{want}, {}", copy_text(facts.copy));
    let mut ago = |what: &str, since: Option<Duration>| {
        if let Some(since) = since {
            _ = write!(text, ", {what} {} s ago", since.as_secs());
        }
    };
    ago("paid for", facts.paid_ago);
    ago("a call of unknown outcome", facts.unknown_ago);
    ago("a look failed", facts.look_failed_ago);
    if facts.in_flight {
        text.push_str(", a purchase under way");
    }
    if let Some(probe) = facts.probe {
        _ = write!(text, ", the look showed {}", Event::Looked(probe).shows());
    }
    if let Some(reason) = facts.refused {
        _ = write!(text, ", refused ({})", reason.decision().as_str());
    }
    text
}

fn word(action: Action) -> &'static str {
    match action {
        Action::Serve(..) => "serve",
        Action::ServeStale => "serve_and_renew",
        Action::Probe => "look",
        Action::Join => "join",
        Action::Buy(_) => "buy",
        Action::Refuse(_) => "refuse",
    }
}

fn batch(action: refresh::Action) -> Value {
    let decision = match action {
        refresh::Action::Satisfied(why) => Some(why.as_str()),
        refresh::Action::Barred(reason) => Some(reason.decision().as_str()),
        _ => None,
    };
    let mut told = json!({ "action": action.as_str(), "rule": action.rule() });
    if let Some(decision) = decision {
        told["decision"] = decision.into();
    }
    told
}

fn asked_text(asked: &Asked) -> String {
    let Asked { operation, count, price, budgets } = asked;
    let mut text = format!("{count} x {operation} at {price}");
    for (budget, has_room) in budgets {
        let room = if *has_room { "had room" } else { "had no room" };
        let dry = if budget.enforced { "" } else { ", which only counts" };
        let (spent, held, limit) = (budget.spent, budget.held, budget.limit);
        _ = write!(text, ", budget {} {room}: {spent} spent and {held} held of {limit}{dry}", budget.name);
    }
    if budgets.is_empty() {
        text.push_str(", and no budget applies");
    }
    text
}

fn asked_facts(asked: &Asked) -> Value {
    let budgets: Vec<_> = asked.budgets.iter().map(budget).collect();
    json!({ "operation": asked.operation.as_str(), "count": asked.count, "unit_price_usd": asked.price, "budgets": budgets })
}

fn denied_text(denied: &Denied) -> String {
    match denied {
        Denied::Limited(limited) => {
            let whose = limited.limiter.as_str();
            match limited.why {
                Shortage::Wait(wait) => format!("the {whose} rate limit has nothing left for {}", milliseconds(wait)),
                Shortage::AtMost(most) => format!("the {whose} rate limit never lets more than {most} through at once"),
            }
        }
        Denied::Hold(HoldRefused::Exhausted(budget)) => {
            format!("budget {} refused: {} spent and {} held of {}", budget.name, budget.spent, budget.held, budget.limit)
        }
        Denied::Hold(refused) => format!("no hold was taken: {refused}"),
        Denied::Upstream(why) => format!("nothing would be sent: {why}"),
    }
}

fn denied_facts(denied: &Denied) -> Value {
    let mut told = json!({ "decision": denied.reason().decision().as_str() });
    match denied {
        Denied::Limited(limited) => {
            told["limiter"] = limited.limiter.as_str().into();
            match limited.why {
                Shortage::Wait(wait) => told["wait_us"] = micros(wait).into(),
                Shortage::AtMost(most) => told["at_most"] = most.into(),
            }
        }
        Denied::Hold(HoldRefused::Exhausted(status)) => {
            let status: &BudgetStatus = status;
            told["budget"] = budget(&(status.clone(), false));
        }
        Denied::Hold(_) | Denied::Upstream(_) => {}
    }
    told
}

fn sent(method: &Method, is_billable: bool, reply: Reply, took: Duration) -> (&'static str, String, Value) {
    let (status, failed) = match reply {
        Reply::Answered(status) => (Some(status), None),
        Reply::NotSent(why) => (None, Some(why.to_string())),
        Reply::Lost(why) => (None, Some(why.to_string())),
    };
    let was_sent = !matches!(reply, Reply::NotSent(_));
    let came = status.map_or_else(|| failed.clone().unwrap_or_default(), |status| status.to_string());
    let what = if is_billable { "" } else { "free " };
    let text = format!("{what}{method} {}: {came} after {}", if was_sent { "sent" } else { "not sent" }, milliseconds(took));
    let facts = json!({
        "method": method.as_str(), "free": !is_billable, "sent": was_sent, "status": status, "error": failed, "took_us": micros(took),
    });
    ("sent", text, facts)
}

fn ended(hold: HoldId, billing: Billing, why: &str, is_recorded: bool) -> (&'static str, String, Value) {
    let unrecorded = if is_recorded { "" } else { "; the ledger has not recorded it yet, and goes on trying" };
    let text = format!("hold {hold} ended, {}: {why}{unrecorded}", billing.as_str());
    ("ended", text, json!({ "hold": hold.0, "billing": billing.as_str(), "why": why, "recorded": is_recorded }))
}

fn unmet(why: Unmet) -> &'static str {
    match why {
        Unmet::Crashed => "it ended without a result",
        Unmet::TooLong => "it took longer than cache.wait_timeout",
        Unmet::Crowded => "as many requests wait already as cache.max_waiters allows",
    }
}

fn ids(holds: &[HoldId]) -> Vec<i64> {
    holds.iter().map(|hold| hold.0).collect()
}

fn numbered(holds: &[HoldId]) -> String {
    match holds {
        [] => "a hold".to_owned(),
        [hold] => format!("hold {hold}"),
        [first, .., last] => format!("{} holds from {first} to {last}", holds.len()),
    }
}

fn seconds(span: Option<Duration>) -> Option<u64> {
    span.map(|span| span.as_secs())
}

fn milliseconds(time: Duration) -> String {
    format!("{} ms", time.as_millis())
}
