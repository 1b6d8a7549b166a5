//! Why Telnyx gave nothing that could be served: a value that all who waited for it share.

use std::sync::Arc;

use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, StatusCode};

use super::answer::Relay;
use crate::upstream::{Answer, Credential, Lost, NotSent, Outcome};

const RATE_LIMIT_RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");

/// The official Python SDK ignores longer waits, and the others sleep through them.
const LONGEST_RETRY_AFTER: u64 = 60;

/// What went wrong upstream.
#[derive(Clone, Debug)]
pub(super) enum Failure {
    /// Nothing was sent, or it is not known what became of it.
    NotSent(NotSent),
    /// The answer was lost on the way.
    Lost(Lost),
    /// The answer is not what was asked for.
    Invalid,
    /// The gateway's own key was refused: nothing that the caller could mend.
    RejectedCredentials,
    /// Telnyx's own refusal.
    Refused(Arc<Relay>),
    /// A billable call was sent and nobody knows yet what became of it.
    OutcomeUnknown,
}

impl Failure {
    /// Reads an outcome that brought nothing to serve.
    pub(super) fn of(outcome: Outcome, credential: &Credential) -> Self {
        match outcome {
            Outcome::NotSent(why) => Self::NotSent(why),
            Outcome::Unknown(Lost::Unreadable) => Self::Invalid,
            Outcome::Unknown(why) => Self::Lost(why),
            Outcome::Answered(answer) if answer.status.is_success() => Self::Invalid,
            Outcome::Answered(answer) => match credential {
                Credential::Own(_) if answer.status == StatusCode::UNAUTHORIZED => Self::RejectedCredentials,
                _ => Self::Refused(Arc::new(relay(answer))),
            },
        }
    }
}

fn relay(answer: Answer) -> Relay {
    let limited = answer.status == StatusCode::TOO_MANY_REQUESTS;
    Relay {
        status: answer.status,
        content_type: answer.headers.get(CONTENT_TYPE).cloned(),
        retry_after: limited.then(|| reset_seconds(&answer.headers)).flatten(),
        body: answer.body,
    }
}

fn reset_seconds(headers: &HeaderMap) -> Option<u64> {
    let seconds: u64 = headers.get(RATE_LIMIT_RESET)?.to_str().ok()?.trim().parse().ok()?;
    Some(seconds.min(LONGEST_RETRY_AFTER))
}
