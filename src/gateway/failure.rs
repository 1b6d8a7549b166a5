//! Why Telnyx gave nothing that could be served: a value that all who waited for it share.

use std::sync::Arc;

use http::StatusCode;
use http::header::CONTENT_TYPE;

use super::answer::Relay;
use crate::telnyx::record;
use crate::upstream::{self, Answer, Credential, Lost, NotSent, Outcome};

/// What went wrong upstream.
#[derive(Clone, Debug)]
pub(super) enum Failure {
    /// Nothing was sent.
    NotSent(NotSent),
    /// The answer to a free request was lost on the way.
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
    /// The successful answer to a free request, or why there is none.
    pub(super) fn or_success(outcome: Outcome, credential: &Credential) -> Result<Answer, Self> {
        match outcome {
            Outcome::NotSent(why) => Err(Self::NotSent(why)),
            Outcome::Unknown(why) => Err(Self::Lost(why)),
            Outcome::Answered(answer) if answer.status.is_success() => Ok(answer),
            Outcome::Answered(answer) => Err(Self::of(answer, credential)),
        }
    }

    /// Reads an answer that brought nothing to serve. Only what is Telnyx's own, in its envelope, is passed on.
    pub(super) fn of(answer: Answer, credential: &Credential) -> Self {
        let own_words = record::is_error(&answer.body) || answer.status == StatusCode::TOO_MANY_REQUESTS;
        match credential {
            Credential::Own(_) if answer.status == StatusCode::UNAUTHORIZED => Self::RejectedCredentials,
            _ if own_words && !answer.status.is_success() => Self::Refused(Arc::new(relay(answer))),
            _ => Self::Invalid,
        }
    }

    /// Whether something is wrong beyond the gateway: not where its own limits, or its waiting for Telnyx, let nothing be sent.
    pub(super) fn is_upstreams(&self) -> bool {
        use NotSent::{Crowded, Limited, Stopping, Suspended};
        !matches!(self, Self::NotSent(Crowded | Limited(_) | Stopping | Suspended(_)))
    }

    /// Whether Telnyx refuses this credential or this enterprise: what it gave before may not be served any more.
    pub(super) fn is_final(&self) -> bool {
        let last_words = [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN, StatusCode::NOT_FOUND, StatusCode::GONE];
        matches!(self, Self::Refused(relay) if last_words.contains(&relay.status))
    }
}

/// An answer as it is passed on.
pub(super) fn relay(answer: Answer) -> Relay {
    let limited = answer.status == StatusCode::TOO_MANY_REQUESTS;
    Relay {
        status: answer.status,
        content_type: answer.headers.get(CONTENT_TYPE).cloned(),
        retry_after: limited.then(|| upstream::reset(&answer.headers)).flatten().map(|reset| reset.as_secs()),
        body: answer.body,
    }
}
