//! One call of the API, and which part of the stand-in answers it.

use bytes::Bytes;
use http::Method;
use jiff::Timestamp;
use serde::de::DeserializeOwned;

use super::answer::{Refusal, Reply};
use super::routes::{Endpoint, Query, Route};
use super::state::State;
use super::{account, numbers, ownership, remediation};

/// A request that was authenticated and found in the path table.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) route: Route,
    pub(super) query: Query,
    pub(super) body: Bytes,
    pub(super) now: Timestamp,
}

impl Call {
    /// Reads a method, a path and a query as received.
    pub(super) fn read(method: &Method, path: &str, query: &str, body: Bytes, now: Timestamp) -> Result<Self, Refusal> {
        Ok(Self { route: Route::find(method, path)?, query: Query::read(query), body, now })
    }

    /// The enterprise in the path; on a path without one this is no enterprise's id.
    pub(super) fn enterprise(&self) -> &str {
        self.route.enterprise.as_deref().unwrap_or_default()
    }

    /// The body.
    pub(super) fn json<T: DeserializeOwned>(&self) -> Result<T, Refusal> {
        serde_json::from_slice(&self.body).map_err(|error| Refusal::bad_request(format!("The body is not valid: {error}.")).at("/body"))
    }

    /// Does what the call asks for, bills it, and answers.
    pub(super) fn perform(&self, state: &mut State) -> Result<Reply, Refusal> {
        match self.route.endpoint {
            Endpoint::Number => numbers::number(state, self),
            Endpoint::Numbers => numbers::list(state, self),
            Endpoint::Associate => numbers::associate(state, self),
            Endpoint::Refresh => numbers::refresh(state, self),
            Endpoint::Disassociate => numbers::disassociate(state, self),
            Endpoint::Settings => account::settings(state, self),
            Endpoint::Enable => account::enable(state, self),
            Endpoint::Disable => account::disable(state, self),
            Endpoint::Frequency => account::set_frequency(state, self),
            Endpoint::ReplaceLoa => account::replace_loa(state, self),
            Endpoint::RenderLoa => account::render_loa(state, self),
            Endpoint::Remediate => remediation::remediate(state, self),
            Endpoint::Remediations => remediation::list(state, self),
            Endpoint::Remediation => remediation::one(state, self),
            Endpoint::Ownership => ownership::ownership(state, self),
            Endpoint::ConfirmOwnership => ownership::confirm(state, self),
            Endpoint::ProveOwnership => ownership::prove(state, self),
            Endpoint::Proof => ownership::proof(state, self),
            Endpoint::Webhook => ownership::set_webhook(state, self),
            Endpoint::AgreeTerms => Ok(account::agree_terms(state, self)),
            Endpoint::TermsStatus => Ok(account::terms_status(state, self)),
            Endpoint::Enterprises => account::enterprises(state, self),
            Endpoint::CreateEnterprise => account::create_enterprise(state, self),
            Endpoint::Enterprise => account::enterprise(state, self),
            Endpoint::UpdateEnterprise => account::update_enterprise(state, self),
            Endpoint::DeleteEnterprise => account::delete_enterprise(state, self),
        }
    }
}
