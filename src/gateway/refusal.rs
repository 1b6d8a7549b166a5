//! Every refusal, with its status, its code, and what to do about it: the table of `docs/errors.md` in code.

use std::borrow::Cow;
use std::time::Duration;

use http::header::{ALLOW, TRANSFER_ENCODING, WWW_AUTHENTICATE};
use http::request::Parts;
use http::{HeaderMap, Method, StatusCode};
use serde_json::Value;

use super::Rules;
use super::answer::{Answer, Content, Refused};
use super::failure::Failure;
use crate::auth::{Permission, Unauthenticated};
use crate::limit::{Limited, Shortage};
use crate::policy::decision::Decision;
use crate::policy::money::Usd;
use crate::policy::routes::{self, Closed, Prefix, Verb};
use crate::spend::{BudgetStatus, HoldRefused};
use crate::upstream::{Lost, NotSent};
use crate::wire::authority::Ambiguous;
use crate::wire::body::Unread;
use crate::wire::problem::{Problem, Retry};
use crate::wire::target::BadTarget;

/// A client library may sleep through a wait of this many seconds; a longer one is better told to whoever asked.
const SHORT_WAIT: u64 = 10;

fn refusal(decision: Decision, problem: Problem) -> Box<Answer> {
    Box::new(Answer::free(decision, Content::Problem(problem)))
}

pub(super) fn bad_request(code: &'static str, title: &'static str, detail: impl Into<String>, parameter: &'static str) -> Box<Answer> {
    refusal(Decision::BadRequest, Problem::bad_request(code, title, detail).at(parameter))
}

pub(super) fn bad_target(error: BadTarget) -> Box<Answer> {
    refusal(Decision::BadRequest, Problem::bad_request("10015", "Bad Request", error.to_string()))
}

/// One that could be another request to whoever stands before the gateway.
pub(super) fn ambiguous(why: Ambiguous) -> Box<Answer> {
    refusal(Decision::BadRequest, Problem::bad_request("10015", "Bad Request", why.to_string()))
}

pub(super) fn unread_body(unread: Unread) -> Box<Answer> {
    let (status, code) = match unread {
        Unread::TooLong => (StatusCode::PAYLOAD_TOO_LARGE, "body_too_large"),
        Unread::TimedOut => (StatusCode::REQUEST_TIMEOUT, "body_timeout"),
        Unread::Cut => (StatusCode::BAD_REQUEST, "body_cut"),
        Unread::NoRoom => return no_room(),
    };
    refusal(Decision::BadRequest, Problem::new(status, code, "Bad Request", unread.to_string()).never_retried())
}

/// What is in memory for other requests leaves no room for this one.
pub(super) fn no_room() -> Box<Answer> {
    let detail = "the gateway holds as many bytes of requests and answers as server.max_buffered allows; stored answers go on";
    let problem = Problem::new(StatusCode::SERVICE_UNAVAILABLE, "overloaded", "Overloaded", detail);
    refusal(Decision::Overloaded, Problem { retry: Retry::After(1), ..problem })
}

/// The head may be this long. hyper has a limit of its own far above, beyond which its answer is a bare 431.
pub(super) fn check_head(head: &Parts, limit: usize) -> Refused<()> {
    let fields = fields_size(&head.headers);
    let target = head.uri.path_and_query().map_or(0, |target| target.as_str().len());
    if fields + target <= limit {
        return Ok(());
    }
    let detail = format!("the request's target and fields take {} bytes, and this gateway allows {limit}", fields + target);
    let problem = Problem::new(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "header_too_large", "Request Header Fields Too Large", detail);
    Err(refusal(Decision::BadRequest, problem.never_retried()))
}

/// Bytes of a head's fields, as HTTP/1.1 writes them.
pub(super) fn fields_size(headers: &HeaderMap) -> usize {
    headers.iter().map(|(name, value)| name.as_str().len() + value.len() + ": \r\n".len()).sum()
}

/// What came raw is escaped on its way up, and may be three times as long then.
pub(super) fn target_too_long() -> Box<Answer> {
    let detail = "the request's target is longer than a URL can be once each of its characters is escaped that has to be";
    let problem = Problem::new(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "header_too_large", "Request Header Fields Too Large", detail);
    refusal(Decision::BadRequest, problem.never_retried())
}

/// No operation that is carried takes a body with GET, HEAD or DELETE, and two readers might disagree on what it means. With
/// `Transfer-Encoding` they might disagree even on where an empty one ends.
pub(super) fn check_body(head: &Parts, length: usize) -> Refused<()> {
    let method = &head.method;
    let bare = length == 0 && !head.headers.contains_key(TRANSFER_ENCODING);
    if bare || !matches!(*method, Method::GET | Method::HEAD | Method::DELETE) {
        return Ok(());
    }
    let detail = format!("a {method} request has no body here: send neither one nor Transfer-Encoding");
    Err(refusal(Decision::BadRequest, Problem::bad_request("10015", "Bad Request", detail)))
}

pub(super) fn unauthenticated(why: Unauthenticated) -> Box<Answer> {
    let problem = Problem::new(StatusCode::UNAUTHORIZED, "unauthenticated", "Unauthenticated", why.to_string());
    let challenge = Some((WWW_AUTHENTICATE, "Bearer".to_owned()));
    refusal(Decision::Unauthenticated, Problem { field: challenge, ..problem }.never_retried())
}

fn not_permitted(code: &'static str, detail: impl Into<String>) -> Box<Answer> {
    let problem = Problem::new(StatusCode::FORBIDDEN, code, "Not permitted", detail);
    refusal(Decision::NotPermitted, problem.never_retried())
}

/// A known path with another method.
pub(super) fn no_method(allowed: &[Method]) -> Box<Answer> {
    let allowed = allowed.iter().map(Method::as_str).collect::<Vec<_>>().join(", ");
    let detail = format!("this path takes {allowed}");
    let problem = Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "Method not allowed", detail);
    refusal(Decision::NotPermitted, Problem { field: Some((ALLOW, allowed)), ..problem }.never_retried())
}

/// A path that the table of operations does not know, and that goes by no route.
pub(super) fn no_route(why: Closed, method: &Method, segments: &[Cow<'_, str>]) -> Box<Answer> {
    let detail = match why {
        Closed::Ambiguous => {
            let detail = "a path that goes by a [[route]] is in ASCII, escaped once, and without parameters, dots or spaces of its own in a segment";
            return refusal(Decision::BadRequest, Problem::bad_request("10015", "Bad Request", detail));
        }
        Closed::Reputation => {
            "this path is none that this gateway knows of the reputation API, and no [[route]] can allow it, since it might be billed past the meter".into()
        }
        Closed::Caller => "the [[route]] to this path is for other callers: whoever runs this gateway can add this one to its callers".into(),
        Closed::Limited => {
            "this key is limited to some enterprises, which a [[route]] cannot tell apart: whoever runs this gateway can let it use the route all the same by naming it in the route's callers".into()
        }
        Closed::Unlisted => unlisted(method, segments),
    };
    not_permitted("route_not_allowed", detail)
}

/// How to allow it, in the configuration's own words.
fn unlisted(method: &Method, segments: &[Cow<'_, str>]) -> String {
    let refused = "this gateway carries the number reputation API, and this path is none of its";
    let prefix: Option<Prefix> = segments.first().and_then(|first| routes::encoded(&[first]).parse().ok());
    let (Some(verb), Some(prefix)) = (Verb::of(method), prefix) else { return refused.to_owned() };
    format!(
        "{refused}; whoever runs it can let it pass, unmetered, with these lines:\n[[route]]\nmethods = [\"{verb}\"]\npath = \"{prefix}\""
    )
}

/// An operation whose price nobody has told.
pub(super) fn unpublished(permission: Permission) -> Box<Answer> {
    let detail = format!(
        "Telnyx publishes no price for this operation: to allow it, set prices.unpublished to what your contract says that a call costs (\"0\" if nothing), and give the [[caller]] allow = [\"{}\"]",
        permission.as_str()
    );
    not_permitted("operation_not_permitted", detail)
}

/// HEAD and `no-cache` never cost anything, and this read would.
pub(super) fn never_buys() -> Box<Answer> {
    let detail =
        "this read costs prices.unpublished, and neither HEAD nor Cache-Control: no-cache ever costs anything: send GET without it";
    not_permitted("operation_not_permitted", detail)
}

/// Monitoring that somebody has bought already.
pub(super) fn already_enabled() -> Box<Answer> {
    let detail = "monitoring is enabled for this enterprise already, so nothing was bought: change its letter of authorisation by PATCH …/reputation/loa, and its schedule by PATCH …/reputation/frequency";
    refusal(Decision::BadRequest, Problem::new(StatusCode::CONFLICT, "already_enabled", "Already enabled", detail).never_retried())
}

pub(super) fn enterprise_not_permitted() -> Box<Answer> {
    not_permitted("enterprise_not_permitted", "this key may not see this enterprise: its [[caller]] lists the ones it may")
}

pub(super) fn no_default_enterprise(none_at_all: bool) -> Box<Answer> {
    let detail = if none_at_all {
        "the account has no enterprise, so there is nothing that this path could mean"
    } else {
        "the account has several enterprises: name one in the path, or set default_enterprise for this caller or in [upstream]"
    };
    bad_request("10015", "Bad Request", detail, "enterprise_id")
}

pub(super) fn no_permission(permission: Permission) -> Box<Answer> {
    let (code, what) = match permission {
        Permission::Fresh => ("fresh_not_permitted", "ask for fresh data"),
        Permission::Refresh => ("refresh_not_permitted", "have numbers refreshed"),
        Permission::Associate => ("associate_not_permitted", "put numbers under monitoring or take them out"),
        Permission::Remediation => ("remediation_not_permitted", "order remediations"),
        Permission::Enable => (
            "enable_not_permitted",
            "enable or disable monitoring, replace its letter of authorisation, set its webhook or agree to its terms",
        ),
        Permission::Ownership => ("ownership_not_permitted", "read or confirm who owns numbers, or verify those hosted elsewhere"),
        Permission::Frequency => ("frequency_not_permitted", "set how often Telnyx checks all numbers by itself"),
        Permission::Enterprises => ("enterprises_not_permitted", "create, change or delete enterprises"),
    };
    not_permitted(code, format!("this key may not {what}: its [[caller]] needs allow = [\"{}\"]", permission.as_str()))
}

pub(super) fn not_in_cache() -> Box<Answer> {
    let detail = "nothing is stored that answers this, and the request asked for a stored answer only";
    let problem = Problem::new(StatusCode::GATEWAY_TIMEOUT, "not_in_cache", "Not in cache", detail);
    refusal(Decision::NotInCache, problem.never_retried())
}

/// Rounded up, and at least one.
fn whole_seconds(wait: Duration) -> u64 {
    wait.as_nanos().div_ceil(1_000_000_000).max(1).try_into().unwrap_or(u64::MAX)
}

pub(super) fn rate_limited(refused: Limited) -> Box<Answer> {
    let limiter = refused.limiter.as_str();
    let (detail, retry) = match refused.why {
        Shortage::Wait(wait) => {
            let seconds = whole_seconds(wait);
            let detail = format!("the {limiter} rate limit for billable calls lets this through in {seconds} s");
            (detail, if seconds <= SHORT_WAIT { Retry::After(seconds) } else { Retry::Never })
        }
        Shortage::AtMost(most) => {
            let detail = format!(
                "the {limiter} rate limit for billable calls never lets more than {most} through at once, and each number of a refresh is one: ask for fewer, or raise the limit"
            );
            (detail, Retry::Never)
        }
    };
    let problem = Problem::new(StatusCode::TOO_MANY_REQUESTS, "fresh_rate_limited", "Too many billable calls", detail);
    let problem = Problem { retry, ..problem };
    refusal(Decision::RateLimited, problem.with("limiter", limiter))
}

pub(super) fn hold_refused(refused: &HoldRefused, price: Usd, rules: &Rules) -> Box<Answer> {
    let payment = |detail: String| {
        let problem = Problem::new(rules.budget_status, "budget_exhausted", "Budget exhausted", detail);
        problem.never_retried().with("price_usd", price.to_string())
    };
    match refused {
        HoldRefused::NoBudget => {
            refusal(Decision::BudgetExhausted, payment("no [[budget]] applies to this call, and without one nothing is spent".into()))
        }
        HoldRefused::Exhausted(budget) => {
            let detail = format!(
                "budget \"{}\" has {} of {} dollars spent and {} held, and this call costs {price}; it starts anew at {}",
                budget.name, budget.spent, budget.limit, budget.held, budget.resets_at
            );
            refusal(Decision::BudgetExhausted, with_budget(payment(detail), budget))
        }
        HoldRefused::Stopped => {
            let detail = "an operator stopped all billable work; stored answers and free reads go on";
            let problem = Problem::new(StatusCode::SERVICE_UNAVAILABLE, "kill_switch", "Billable work stopped", detail);
            refusal(Decision::KillSwitch, problem.never_retried())
        }
        HoldRefused::Unavailable => {
            let detail = "the ledger cannot record a charge now, so nothing is bought; stored answers and free reads go on";
            let problem = Problem::new(StatusCode::SERVICE_UNAVAILABLE, "ledger_unavailable", "Ledger unavailable", detail);
            refusal(Decision::LedgerUnavailable, problem.never_retried())
        }
    }
}

fn with_budget(problem: Problem, budget: &BudgetStatus) -> Problem {
    let facts = [
        ("budget", budget.name.clone()),
        ("scope", budget.scope.to_string()),
        ("limit_usd", budget.limit.to_string()),
        ("spent_usd", budget.spent.to_string()),
        ("held_usd", budget.held.to_string()),
        ("resets_at", budget.resets_at.to_string()),
    ];
    facts.into_iter().fold(problem, |problem, (name, fact)| problem.with(name, Value::String(fact)))
}

/// What went wrong upstream, as the caller is told.
pub(super) fn failed(failure: &Failure) -> Box<Answer> {
    let problem = |status, code, title, detail: String| Problem::new(status, code, title, detail);
    let bad_gateway = StatusCode::BAD_GATEWAY;
    let (decision, problem) = match failure {
        Failure::Refused(relay) => return Box::new(Answer::free(Decision::UpstreamError, Content::Relay(relay.clone()))),
        Failure::NotSent(why @ NotSent::Unreachable) => {
            (Decision::UpstreamError, problem(bad_gateway, "upstream_unreachable", "Upstream unreachable", why.to_string()))
        }
        Failure::NotSent(why @ (NotSent::Crowded | NotSent::Stopping)) => {
            let crowded = problem(StatusCode::SERVICE_UNAVAILABLE, "overloaded", "Overloaded", why.to_string());
            (Decision::Overloaded, Problem { retry: Retry::After(1), ..crowded })
        }
        Failure::NotSent(why @ NotSent::Suspended(wait)) => {
            let suspended = problem(StatusCode::SERVICE_UNAVAILABLE, "upstream_suspended", "Upstream suspended", why.to_string());
            (Decision::UpstreamError, Problem { retry: Retry::After(whole_seconds(*wait).min(SHORT_WAIT)), ..suspended })
        }
        Failure::NotSent(why @ NotSent::Limited(wait)) => {
            let limited = problem(StatusCode::TOO_MANY_REQUESTS, "upstream_rate_limited", "Upstream rate limit used up", why.to_string());
            (Decision::UpstreamError, Problem { retry: Retry::After(whole_seconds(*wait)), ..limited })
        }
        Failure::Lost(why @ Lost::TimedOut) => {
            (Decision::UpstreamError, problem(StatusCode::GATEWAY_TIMEOUT, "upstream_timeout", "Upstream timed out", why.to_string()))
        }
        Failure::Lost(why) => {
            (Decision::UpstreamError, problem(bad_gateway, "upstream_unreachable", "Upstream unreachable", why.to_string()))
        }
        Failure::Invalid => {
            let detail = "the upstream's answer is not what was asked for, or not whole, so it is neither shown nor stored".into();
            (Decision::UpstreamError, problem(bad_gateway, "upstream_invalid", "Upstream answer invalid", detail))
        }
        Failure::RejectedCredentials => {
            let detail = "the upstream refused the gateway's own key, or there is none for this enterprise: whoever runs the gateway must set a valid one";
            let rejected =
                problem(bad_gateway, "upstream_rejected_credentials", "Upstream rejected the gateway's credentials", detail.into());
            (Decision::UpstreamError, rejected.never_retried())
        }
        Failure::OutcomeUnknown => return outcome_unknown(),
    };
    refusal(decision, problem)
}

/// The same for a write. A lost one may have been carried out, and a client library would send it again.
pub(super) fn write_failed(failure: &Failure) -> Box<Answer> {
    let mut refused = failed(failure);
    if let (Failure::Lost(_) | Failure::Invalid, Content::Problem(problem)) = (failure, &mut refused.content) {
        problem.retry = Retry::Never;
    }
    refused
}

pub(super) fn outcome_unknown() -> Box<Answer> {
    let detail = "a billable call was sent and it is not known whether it was billed: it counts as billed until that is clear";
    let problem = Problem::new(StatusCode::GATEWAY_TIMEOUT, "outcome_unknown", "Outcome unknown", detail).never_retried();
    refusal(Decision::OutcomeUnknown, problem)
}
