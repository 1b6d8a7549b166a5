//! Which enterprise a request is about, and with which key it goes upstream.

use http::HeaderValue;
use moka::sync::Cache;

use super::Gateway;
use super::answer::Refused;
use super::ask;
use super::failure::Failure;
use super::refusal;
use super::visit::Visit;
use crate::auth::{Identity, Permission};
use crate::policy::entitlement::{Enterprises, Partition};
use crate::telnyx::{EnterpriseId, Operation, PhoneNumber, Route, record};
use crate::upstream::{Context, Credential};
use crate::wire::directives::Directives;
use crate::wire::trace::Trace;

/// The only enterprise of an account, once it was learnt. It is not asked for again: an outage must not take simplified paths
/// away, and an account that gets a second enterprise would else change under its callers what they read.
pub(super) type Sole = Cache<Partition, EnterpriseId>;

/// Accounts whose only enterprise is remembered; under forwarded credentials each credential counts as one.
const SOLES: u64 = 10_000;

pub(super) fn no_soles_yet() -> Sole {
    Cache::new(SOLES)
}

impl Gateway {
    /// The enterprise of a path, or of the caller, the configuration or the account where the path has none; if the caller may see it.
    pub(super) async fn enterprise(
        &self,
        in_path: Option<&str>,
        identity: &Identity,
        wishes: Directives,
        visit: &mut Visit,
    ) -> Refused<EnterpriseId> {
        if let Some(enterprise) = self.enterprise_at_hand(in_path, identity)? {
            return Ok(enterprise);
        }
        let enterprise = self.sole_enterprise(identity, wishes, visit).await?;
        if identity.caller.enterprises.include(enterprise) { Ok(enterprise) } else { Err(refusal::enterprise_not_permitted()) }
    }

    /// The enterprise that a request is about which takes a permission, if its caller has that.
    pub(super) async fn permitted(
        &self,
        permission: Permission,
        route: &Route<'_>,
        number: Option<PhoneNumber>,
        identity: &Identity,
        wishes: Directives,
        visit: &mut Visit,
    ) -> Refused<EnterpriseId> {
        let enterprise = self.enterprise(route.enterprise, identity, wishes, visit).await?;
        visit.about(enterprise, number);
        if identity.caller.may(permission) { Ok(enterprise) } else { Err(refusal::no_permission(permission)) }
    }

    /// Which enterprise a path names, or the configuration does, without asking Telnyx: none, if only that could tell.
    pub(super) fn enterprise_at_hand(&self, in_path: Option<&str>, identity: &Identity) -> Refused<Option<EnterpriseId>> {
        let caller = &identity.caller;
        let own = || match &caller.enterprises {
            Enterprises::Only(list) if list.len() == 1 => list.first().copied(),
            _ => None,
        };
        let configured = || caller.default_enterprise.or_else(own).or(self.0.rules.default_enterprise);
        let learnt = || self.0.sole_enterprises.get(&identity.partition);
        let enterprise = in_path.map(ask::enterprise).transpose()?.or_else(|| configured().or_else(learnt));
        match enterprise {
            Some(enterprise) if !caller.enterprises.include(enterprise) => Err(refusal::enterprise_not_permitted()),
            enterprise => Ok(enterprise),
        }
    }

    /// Asks Telnyx, for nothing, which enterprises the account has.
    async fn sole_enterprise(&self, identity: &Identity, wishes: Directives, visit: &mut Visit) -> Refused<EnterpriseId> {
        if wishes.only_if_cached {
            return Err(refusal::not_in_cache());
        }
        let context = self.context(identity, None, visit)?;
        let asked =
            visit.waiting_for(self.free("/enterprises?page%5Bnumber%5D=1&page%5Bsize%5D=2", Operation::Enterprises, &context)).await;
        let answer = asked.map_err(|failure| refusal::failed(&failure))?;
        match record::enterprises(&answer.body).as_deref() {
            Ok([enterprise]) => {
                self.0.sole_enterprises.insert(identity.partition, *enterprise);
                Ok(*enterprise)
            }
            Ok(several) => Err(refusal::no_default_enterprise(several.is_empty())),
            Err(_) => Err(refusal::failed(&Failure::Invalid)),
        }
    }

    /// An enterprise may be gone: it is not taken for the account's only one any more.
    pub(super) fn forget_sole(&self, partition: Partition, enterprise: EnterpriseId) {
        if self.0.sole_enterprises.get(&partition) == Some(enterprise) {
            self.0.sole_enterprises.invalidate(&partition);
        }
    }

    /// What goes upstream with a request about `enterprise`, whose account may have a key of its own.
    pub(super) fn context(&self, identity: &Identity, enterprise: Option<EnterpriseId>, visit: &Visit) -> Refused<Context> {
        self.context_for(identity, enterprise, visit.request_id().clone(), visit.trace().cloned())
    }

    /// The same for a request of this id.
    pub(super) fn context_for(
        &self,
        identity: &Identity,
        enterprise: Option<EnterpriseId>,
        request_id: HeaderValue,
        trace: Option<Trace>,
    ) -> Refused<Context> {
        let keys = &self.0.rules.keys;
        let own = || enterprise.and_then(|enterprise| keys.by_enterprise.get(&enterprise)).or(keys.default.as_ref()).cloned();
        let credential = identity.forwarded.clone().map(Credential::Forwarded).or_else(|| own().map(Credential::Own));
        let credential = credential.ok_or_else(|| refusal::failed(&Failure::RejectedCredentials))?;
        Ok(Context { credential, request_id, trace })
    }
}
