//! The path table, and how a path and a query are decoded.
//!
//! This repeats nothing of the product's own parser on purpose: two readings of one request can be compared, one cannot.

use http::Method;
use percent_encoding::percent_decode_str;

use super::answer::{Paging, Refusal};

/// Where Telnyx's API begins.
pub(super) const BASE: &str = "/v2";

/// A page has no more items than this, whatever was asked for.
const MAX_PAGE: usize = 250;

/// What a method on a path does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Endpoint {
    Number,
    Numbers,
    Associate,
    Refresh,
    Disassociate,
    Settings,
    Enable,
    Disable,
    Frequency,
    ReplaceLoa,
    RenderLoa,
    Remediate,
    Remediations,
    Remediation,
    AgreeTerms,
    TermsStatus,
    Enterprises,
    CreateEnterprise,
    Enterprise,
    UpdateEnterprise,
    DeleteEnterprise,
    Ownership,
    ConfirmOwnership,
    ProveOwnership,
    Proof,
    Webhook,
}

/// `{e}` is an enterprise, `{item}` a number or an id.
const TABLE: &[(Method, &str, Endpoint)] = &[
    (Method::GET, "/enterprises/{e}/reputation/numbers/{item}", Endpoint::Number),
    (Method::GET, "/reputation/numbers/{item}", Endpoint::Number),
    (Method::GET, "/enterprises/{e}/reputation/numbers", Endpoint::Numbers),
    (Method::GET, "/reputation/numbers", Endpoint::Numbers),
    (Method::POST, "/enterprises/{e}/reputation/numbers", Endpoint::Associate),
    (Method::POST, "/enterprises/{e}/reputation/numbers/refresh", Endpoint::Refresh),
    (Method::DELETE, "/enterprises/{e}/reputation/numbers/{item}", Endpoint::Disassociate),
    (Method::DELETE, "/reputation/numbers/{item}", Endpoint::Disassociate),
    (Method::GET, "/enterprises/{e}/reputation", Endpoint::Settings),
    (Method::POST, "/enterprises/{e}/reputation", Endpoint::Enable),
    (Method::DELETE, "/enterprises/{e}/reputation", Endpoint::Disable),
    (Method::PATCH, "/enterprises/{e}/reputation/frequency", Endpoint::Frequency),
    (Method::PATCH, "/enterprises/{e}/reputation/loa", Endpoint::ReplaceLoa),
    (Method::POST, "/enterprises/{e}/reputation/loa", Endpoint::RenderLoa),
    (Method::POST, "/enterprises/{e}/reputation/remediation", Endpoint::Remediate),
    (Method::GET, "/enterprises/{e}/reputation/remediation", Endpoint::Remediations),
    (Method::GET, "/enterprises/{e}/reputation/remediation/{item}", Endpoint::Remediation),
    (Method::POST, "/terms_of_service/number_reputation/agree", Endpoint::AgreeTerms),
    (Method::GET, "/terms_of_service/status", Endpoint::TermsStatus),
    (Method::GET, "/enterprises", Endpoint::Enterprises),
    (Method::POST, "/enterprises", Endpoint::CreateEnterprise),
    (Method::GET, "/enterprises/{e}", Endpoint::Enterprise),
    (Method::PUT, "/enterprises/{e}", Endpoint::UpdateEnterprise),
    (Method::DELETE, "/enterprises/{e}", Endpoint::DeleteEnterprise),
    (Method::GET, "/enterprises/{e}/reputation/numbers/{item}/ownership", Endpoint::Ownership),
    (Method::POST, "/enterprises/{e}/reputation/numbers/{item}/ownership_confirm", Endpoint::ConfirmOwnership),
    (Method::POST, "/enterprises/{e}/reputation/external_verification", Endpoint::ProveOwnership),
    (Method::GET, "/enterprises/{e}/reputation/external_verification", Endpoint::Proof),
    (Method::PATCH, "/enterprises/{e}/reputation/webhook", Endpoint::Webhook),
];

/// A request that the table knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Route {
    pub(super) endpoint: Endpoint,
    /// The enterprise that the path names; none on a simplified path.
    pub(super) enterprise: Option<String>,
    /// The number or id at the path's end; empty where there is none.
    pub(super) item: String,
}

impl Route {
    /// Looks a method and a path as received up in the table; 404 for an unknown path, 405 for a method it does not have.
    pub(super) fn find(method: &Method, path: &str) -> Result<Self, Refusal> {
        let unknown = || Refusal::not_found("The requested resource or URL could not be found.");
        // Split before decoding: an encoded slash is part of a segment.
        let segments: Option<Vec<String>> = path.strip_prefix(BASE).map(|rest| rest.split('/').map(decoded).collect());
        let segments = segments.ok_or_else(unknown)?;
        let mut path_known = false;
        for (row_method, pattern, endpoint) in TABLE {
            if let Some(route) = matched(*endpoint, pattern, &segments) {
                if row_method == method {
                    return Ok(route);
                }
                path_known = true;
            }
        }
        Err(if path_known { Refusal::method_not_allowed() } else { unknown() })
    }
}

fn matched(endpoint: Endpoint, pattern: &str, segments: &[String]) -> Option<Route> {
    let mut route = Route { endpoint, enterprise: None, item: String::new() };
    let mut wanted = pattern.split('/');
    for segment in segments {
        match wanted.next()? {
            "{e}" if !segment.is_empty() => route.enterprise = Some(segment.to_ascii_lowercase()),
            "{item}" if !segment.is_empty() => route.item.clone_from(segment),
            literal if literal == segment => {}
            _ => return None,
        }
    }
    wanted.next().is_none().then_some(route)
}

/// Undoes `%2B` and `%2b`, once; a `+` in a path is a plus.
pub(super) fn decoded(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

/// A `+`, then 7 to 15 digits, the first not 0.
pub(super) fn is_e164(text: &str) -> bool {
    text.strip_prefix('+').is_some_and(|digits| {
        (7..=15).contains(&digits.len()) && !digits.starts_with('0') && digits.bytes().all(|byte| byte.is_ascii_digit())
    })
}

/// The decoded parameters of a query, in which `+` is a space.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    pub(super) fn read(query: &str) -> Self {
        Self(form_urlencoded::parse(query.as_bytes()).into_owned().collect())
    }

    /// Without any `filter[…]`.
    #[must_use]
    pub(super) fn unfiltered(self) -> Self {
        Self(self.0.into_iter().filter(|(name, _)| !name.starts_with("filter[")).collect())
    }

    /// A parameter; the last one, where it comes more than once.
    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        self.0.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// `fresh`, in all the ways a service may read a boolean: more of them are true here than the documentation promises.
    pub(super) fn fresh(&self) -> Result<bool, Refusal> {
        match self.parameter("fresh").unwrap_or("false").to_ascii_lowercase().as_str() {
            "true" | "1" | "t" | "yes" | "y" | "on" => Ok(true),
            "false" | "0" | "f" | "no" | "n" | "off" => Ok(false),
            _ => Err(Refusal::unprocessable("fresh must be a boolean.").parameter("fresh")),
        }
    }

    /// `page[number]` from 1, `page[size]` up to 250; what is out of range is brought into it.
    pub(super) fn paging(&self, default_size: usize) -> Result<Paging, Refusal> {
        let whole = |name: &str, default: usize| match self.parameter(name) {
            None => Ok(default),
            Some(text) => text.parse().map_err(|_| Refusal::bad_request(format!("{name} must be a whole number.")).parameter(name)),
        };
        let (number, size) = (whole("page[number]", 1)?, whole("page[size]", default_size)?);
        Ok(Paging { number: number.max(1), size: size.clamp(1, MAX_PAGE) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENTERPRISE: &str = "6a09cdc3-8948-47f0-aa62-74ac943d6c58";

    fn number_at(path: &str) -> String {
        Route::find(&Method::GET, path).unwrap().item
    }

    #[test]
    fn each_spelling_of_the_plus_is_the_same_number() {
        for plus in ["+", "%2B", "%2b"] {
            assert_eq!(number_at(&format!("/v2/enterprises/{ENTERPRISE}/reputation/numbers/{plus}12025550000")), "+12025550000");
            assert_eq!(number_at(&format!("/v2/reputation/numbers/{plus}12025550000")), "+12025550000");
        }
        assert_eq!(number_at("/v2/reputation/numbers/%252B12025550000"), "%2B12025550000", "decoded once, as the service would");
    }

    #[test]
    fn a_path_tells_the_enterprise_whatever_the_case_of_its_id() {
        let route = Route::find(&Method::POST, &format!("/v2/enterprises/{}/reputation/numbers/refresh", ENTERPRISE.to_uppercase()));
        assert_eq!(route, Ok(Route { endpoint: Endpoint::Refresh, enterprise: Some(ENTERPRISE.to_owned()), item: String::new() }));
    }

    #[test]
    fn every_row_of_the_table_leads_to_its_own_endpoint() {
        for (method, pattern, endpoint) in TABLE {
            let path = format!("/v2{}", pattern.replace("{e}", ENTERPRISE).replace("{item}", "+12025550000"));
            assert_eq!(Route::find(method, &path).map(|route| route.endpoint), Ok(*endpoint), "{method} {path}");
        }
    }

    #[test]
    fn a_path_that_is_not_in_the_table_is_not_found() {
        for path in ["/", "/v2", "/reputation/numbers", "/v2/reputation/numbers/", "/v2//reputation/numbers", "/v2/reputation%2Fnumbers"] {
            assert_eq!(Route::find(&Method::GET, path).unwrap_err().status, 404, "{path}");
        }
        assert_eq!(Route::find(&Method::HEAD, "/v2/reputation/numbers").unwrap_err().status, 405);
    }

    #[test]
    fn numbers_are_read_strictly() {
        for (text, is) in
            [("+12025550000", true), ("12025550000", false), ("+02025550000", false), ("+120255", false), ("+1202555000a", false)]
        {
            assert_eq!(is_e164(text), is, "{text}");
        }
    }

    #[test]
    fn a_query_is_decoded_and_its_last_word_counts() {
        let query = Query::read("filter%5Bphone_number%5D%5Beq%5D=%2B12025550000&fresh=true&fresh=0&page[size]=900&page[number]=0");
        assert_eq!(query.parameter("filter[phone_number][eq]"), Some("+12025550000"));
        assert_eq!(query.fresh(), Ok(false));
        assert_eq!(query.paging(10), Ok(Paging { number: 1, size: 250 }));
        assert_eq!(query.unfiltered().parameter("filter[phone_number][eq]"), None);
        assert_eq!(Query::read("fresh=perhaps").fresh().unwrap_err().status, 422);
        assert_eq!(Query::read("page[size]=many").paging(10).unwrap_err().status, 400);
    }
}
