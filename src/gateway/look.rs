//! A free look at the enterprise's list: what Telnyx has stored for one number, learnt without ever costing anything.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode};
use serde_json::json;

use super::Gateway;
use super::ask::Ask;
use super::failure::Failure;
use super::trail;
use super::wait::Unmet;
use crate::cache::{Content, Entry, Key};
use crate::flight::{Follow, Seat};
use crate::policy::decide::{Kind, Probe, Want};
use crate::policy::evidence::Billing;
use crate::telnyx::{Operation, PhoneNumber, record};
use crate::upstream::{Answer, Context, Errand, Message, Outcome};

/// What a look brought. All who wanted it at once share it.
#[derive(Debug)]
pub(super) enum Look {
    /// The number's record, with data or without.
    Found(Entry),
    /// There is no such number.
    Missing(Entry),
    /// The answer does not tell.
    Inconclusive,
    /// There was no answer.
    Failed(Failure),
}

impl Look {
    /// The look as a decision sees it. It has only just ended, so the data is as old as it was then.
    pub(super) fn fact(&self) -> Probe {
        match self {
            Self::Found(entry) if entry.kind() == Kind::Null => Probe::Null,
            Self::Found(entry) => Probe::Data(entry.data_age()),
            Self::Missing(_) => Probe::Missing,
            Self::Inconclusive => Probe::Inconclusive,
            Self::Failed(failure) if failure.is_final() => Probe::Refused,
            Self::Failed(_) => Probe::Failed,
        }
    }

    /// What can be served of it.
    pub(super) fn entry(&self) -> Option<&Entry> {
        match self {
            Self::Found(entry) | Self::Missing(entry) => Some(entry),
            Self::Inconclusive | Self::Failed(_) => None,
        }
    }
}

/// Whether what a look brings is kept for others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keep {
    /// It is.
    Yes,
    /// Its request says `no-store`. Who joined it looks anew next time.
    No,
}

impl Keep {
    /// As a request wants it.
    pub(super) fn as_wanted(want: Want) -> Self {
        if want.no_store { Self::No } else { Self::Yes }
    }
}

/// What came of waiting for a look.
pub(super) fn landed(look: Result<Arc<Look>, impl Into<Unmet>>) -> Arc<Look> {
    look.unwrap_or_else(|why| Arc::new(Look::Failed(why.into().into())))
}

impl Gateway {
    /// Looks, or waits for whoever is looking already. The look goes on when nobody waits any more.
    pub(super) fn look(&self, key: Key, context: &Context, keep: Keep) -> Follow<Arc<Look>> {
        match self.0.looks.board(&key) {
            Seat::Follow(follow) => follow,
            Seat::Lead(lead) => {
                let follow = lead.follow();
                let (gateway, context) = (self.clone(), context.clone());
                self.0.tasks.spawn(trail::along(async move {
                    let look = gateway.look_upstream(key, &context, keep).await;
                    lead.land(Arc::new(look));
                }));
                follow
            }
        }
    }

    /// Looks, and weighs what that says of calls of unknown outcome.
    pub(super) async fn look_upstream(&self, key: Key, context: &Context, keep: Keep) -> Look {
        let begun = self.0.clock.elapsed();
        let look = self.list_one(key, context, keep, begun).await;
        match &look {
            Look::Failed(failure) if failure.is_final() => self.0.failed_looks.answered(&key),
            Look::Failed(failure) if failure.is_upstreams() => self.0.failed_looks.failed(key, self.0.clock.elapsed()),
            // Nothing was asked.
            Look::Failed(_) => {}
            Look::Found(_) | Look::Missing(_) | Look::Inconclusive => self.0.failed_looks.answered(&key),
        }
        self.weigh(&key, look.fact(), begun).await;
        look
    }

    /// Looks, and keeps what may be kept: data and absence. A null is kept only by whoever knows that it may be served.
    async fn list_one(&self, key: Key, context: &Context, keep: Keep, begun: Duration) -> Look {
        let path = format!(
            "/enterprises/{}/reputation/numbers?filter%5Bphone_number%5D%5Beq%5D=%2B{}&page%5Bnumber%5D=1&page%5Bsize%5D=10",
            key.enterprise,
            key.number.digits()
        );
        let answer = match self.free(&path, Operation::List, context).await {
            Ok(answer) => answer,
            Err(failure) => return Look::Failed(failure),
        };
        let Some(found) = reading(&answer, &key) else { return Look::Inconclusive };
        let entry = self.0.cache.entry(&key, found, begun, self.0.clock.elapsed());
        if entry.kind() != Kind::Null && keep == Keep::Yes {
            self.keep(&entry);
        }
        if entry.kind() == Kind::Missing { Look::Missing(entry) } else { Look::Found(entry) }
    }

    /// Renews a copy that was served stale, if there is a place for that now which nobody else waits for.
    pub(super) fn renew(&self, ask: &Ask) {
        if !self.0.upstream.is_at_ease(&ask.context.credential) {
            return;
        }
        let Ok(place) = Arc::clone(&self.0.renewals).try_acquire_owned() else { return };
        let look = self.look(ask.key, &ask.context, Keep::as_wanted(ask.want));
        self.0.tasks.spawn(async move {
            let ended = look.landed().await;
            drop((ended, place));
        });
    }

    /// A request that cannot cost anything.
    pub(super) async fn free(&self, path_and_query: &str, operation: Operation, context: &Context) -> Result<Answer, Failure> {
        let mut call = self.begin_call(operation, Method::GET, context).free();
        let outcome = match self.0.upstream.place(Errand::Free, &context.credential).await {
            Ok(place) => self.0.upstream.send(place, &Message::get(path_and_query), &call.context).await,
            Err(crowded) => Outcome::NotSent(crowded),
        };
        self.note_sent(&mut call, &outcome);
        let result = match &outcome {
            Outcome::Answered(_) => Billing::NotBilled,
            Outcome::NotSent(_) => Billing::NotSent,
            Outcome::Unknown(_) => Billing::Unknown,
        };
        self.end_call(call, result);
        // RFC 9111, 3.3: nothing partial is asked for, so a part is no answer.
        let answer = Failure::or_success(outcome, &context.credential)?;
        if answer.status == StatusCode::PARTIAL_CONTENT { Err(Failure::Invalid) } else { Ok(answer) }
    }
}

/// What a list says of this very number of this very enterprise; nothing, if it does not tell. A filter that was
/// ignored shows by items of other numbers, among which the wanted one may be missing only because of paging.
fn reading(answer: &Answer, key: &Key) -> Option<Content> {
    let items = record::list(&answer.body).ok()?;
    if items.is_empty() {
        return Some(Content::missing(not_found(key.number)));
    }
    let this = items.into_iter().find(|item| item.record.phone_number == key.number && item.record.enterprise_id == key.enterprise)?;
    Some(Content::record(this.record.reputation, this.document, answer.date))
}

/// The 404 that the number's own GET would have been answered with.
fn not_found(number: PhoneNumber) -> Bytes {
    let url = "https://developers.telnyx.com/docs/overview/errors/10009";
    let detail = format!("Phone number {number} is not associated with this enterprise");
    let error = json!({"code": "10009", "title": "Resource not found", "detail": detail, "meta": {"url": url}});
    json!({ "errors": [error] }).to_string().into()
}
