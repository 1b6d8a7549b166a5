//! A page of an enterprise's list: free, kept for a short while, and a source of records for the numbers on it.

use std::time::Duration;

use super::Gateway;
use super::answer::{Answer, Content, Refused};
use super::ask::Page;
use super::failure::Failure;
use super::refusal;
use super::visit::Visit;
use crate::cache::{self, Evidence, Key, ListKey};
use crate::policy::decide::{Facts, Kind, keeps_null};
use crate::policy::decision::Decision;
use crate::policy::entitlement::Partition;
use crate::telnyx::record::Item;
use crate::telnyx::{EnterpriseId, Operation, record};
use crate::upstream::{self, Context};
use crate::wire::directives::Directives;
use crate::wire::encoding::Encodable;

impl Gateway {
    /// Answers with a page, from memory if it is young enough.
    pub(super) async fn list(
        &self,
        (partition, enterprise): (Partition, EnterpriseId),
        page: &Page,
        wishes: Directives,
        context: &Context,
        visit: &mut Visit,
    ) -> Refused<Answer> {
        let key = ListKey { partition, enterprise, query: page.query.clone() };
        let young = |age: Duration| !wishes.no_cache && wishes.max_age.is_none_or(|limit| age <= limit);
        if let Some((page, age)) = self.0.lists.get(&key, self.0.clock.elapsed()).filter(|(_, age)| young(*age)) {
            return Ok(Answer::free(Decision::Hit, Content::Page(page, age)));
        }
        if wishes.only_if_cached {
            return Err(refusal::not_in_cache());
        }
        self.room_for_answer()?;
        let begun = self.0.clock.elapsed();
        let path = format!("/enterprises/{enterprise}/reputation/numbers?{}", page.query);
        let asked = visit.waiting_for(self.free(&path, Operation::List, context)).await;
        let answer = asked.map_err(|failure| refusal::failed(&failure))?;
        let own = |items: &Vec<Item>| items.iter().all(|item| item.record.enterprise_id == enterprise);
        let Some(items) = record::list(&answer.body).ok().filter(own) else { return Err(refusal::failed(&Failure::Invalid)) };
        let kept = !wishes.no_store;
        if kept {
            self.harvest(partition, &answer, items, begun, Evidence::Page);
        }
        let page = Encodable::from(answer.body);
        if kept {
            self.0.lists.store(key, page.clone(), begun, self.0.clock.elapsed());
        }
        Ok(Answer::free(Decision::Passed, Content::FetchedPage { page, kept, held: None }))
    }

    /// Feeds the numbers' own copies.
    pub(super) fn harvest(&self, partition: Partition, answer: &upstream::Answer, items: Vec<Item>, begun: Duration, evidence: Evidence) {
        for item in items {
            let content = cache::Content::record(item.record.reputation, item.document, answer.date).by(evidence);
            let key = Key { partition, enterprise: item.record.enterprise_id, number: item.record.phone_number };
            if content.kind == Kind::Data || self.may_keep_null(&key) {
                let entry = self.0.cache.entry(&key, content, begun, self.0.clock.elapsed());
                self.keep(&entry);
            }
        }
    }

    /// Whether a null may be served to who reads the number next: that depends on what was paid for it. It replaces no data, since a list
    /// may be behind it.
    fn may_keep_null(&self, key: &Key) -> bool {
        let paid_ago = self.0.calls.of(key).paid.map(|paid| self.0.clock.elapsed().saturating_sub(paid.sent));
        let has_data = || self.0.cache.get(key).is_some_and(|copy| copy.kind() == Kind::Data);
        keeps_null(&Facts { paid_ago, ..Facts::default() }, self.0.rules.policy(key.enterprise)) && !has_data()
    }
}
