//! What can be asked of the API: one table of method, path shape and price class.

use http::Method;

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum Operation {
    /// Read one number.
    Retrieve,
    /// List numbers.
    List,
    /// Put numbers under monitoring.
    Associate,
    /// Check numbers now.
    Refresh,
    /// Take a number out of monitoring.
    Disassociate,
    /// Read an enterprise's settings.
    Settings,
    /// Enable monitoring for an enterprise.
    Enable,
    /// Disable monitoring for an enterprise.
    Disable,
    /// Set how often Telnyx checks all numbers by itself.
    Frequency,
    /// Replace or upload the letter of authorisation.
    Loa,
    /// Order a remediation.
    Remediate,
    /// Read remediations.
    Remediations,
    /// Agree to the terms of service.
    AgreeTerms,
    /// Read whether the terms are agreed to.
    Terms,
    /// Read, create, change or delete enterprises.
    Enterprises,
    /// Read or confirm who owns a number, or verify it elsewhere.
    Ownership,
    /// Set the webhook.
    Webhook,
    /// Something beside the reputation API, which an operator's route lets pass.
    Route,
    /// Anything else.
    Unknown,
}

/// What an operation can cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum PriceClass {
    /// Never anything.
    Free,
    /// A reputation check for each number.
    CheckPerNumber,
    /// A check for each number, now and at every run of a schedule.
    CheckPerRun,
    /// A remediation for each number.
    RemediationPerNumber,
    /// Monitoring of an enterprise for a month.
    MonitoringPerMonth,
    /// No price is published: treat it as possibly billed.
    Unpublished,
}

impl PriceClass {
    /// The word for operators.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// A piece of a path's shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Piece {
    Word(&'static str),
    Enterprise,
    Number,
    Id,
}

use Operation::{
    AgreeTerms, Associate, Disable, Disassociate, Enable, Enterprises, Frequency, List, Loa, Ownership, Refresh, Remediate, Remediations,
    Retrieve, Settings, Terms, Webhook,
};
use Piece::{Enterprise, Id, Number, Word};
use PriceClass::{CheckPerNumber, CheckPerRun, Free, MonitoringPerMonth, RemediationPerNumber, Unpublished};
use strum::{IntoStaticStr, VariantArray};

const ENTERPRISES: Piece = Word("enterprises");
const REPUTATION: Piece = Word("reputation");
const NUMBERS: Piece = Word("numbers");
const REMEDIATION: Piece = Word("remediation");
const VERIFICATION: Piece = Word("external_verification");

struct Row(Method, &'static [Piece], Operation, PriceClass);

#[rustfmt::skip]
static TABLE: &[Row] = &[
    Row(Method::GET,    &[ENTERPRISES, Enterprise, REPUTATION, NUMBERS, Number],                 Retrieve,     CheckPerNumber),
    Row(Method::GET,    &[REPUTATION, NUMBERS, Number],                                          Retrieve,     CheckPerNumber),
    Row(Method::GET,    &[ENTERPRISES, Enterprise, REPUTATION, NUMBERS],                         List,         Free),
    Row(Method::GET,    &[REPUTATION, NUMBERS],                                                  List,         Free),
    Row(Method::POST,   &[ENTERPRISES, Enterprise, REPUTATION, NUMBERS],                         Associate,    CheckPerNumber),
    Row(Method::POST,   &[ENTERPRISES, Enterprise, REPUTATION, NUMBERS, Word("refresh")],        Refresh,      CheckPerNumber),
    Row(Method::DELETE, &[ENTERPRISES, Enterprise, REPUTATION, NUMBERS, Number],                 Disassociate, Free),
    Row(Method::DELETE, &[REPUTATION, NUMBERS, Number],                                          Disassociate, Free),
    Row(Method::GET,    &[ENTERPRISES, Enterprise, REPUTATION],                                  Settings,     Free),
    Row(Method::POST,   &[ENTERPRISES, Enterprise, REPUTATION],                                  Enable,       MonitoringPerMonth),
    Row(Method::DELETE, &[ENTERPRISES, Enterprise, REPUTATION],                                  Disable,      Free),
    Row(Method::PATCH,  &[ENTERPRISES, Enterprise, REPUTATION, Word("frequency")],               Frequency,    CheckPerRun),
    Row(Method::PATCH,  &[ENTERPRISES, Enterprise, REPUTATION, Word("loa")],                     Loa,          Free),
    Row(Method::POST,   &[ENTERPRISES, Enterprise, REPUTATION, Word("loa")],                     Loa,          Free),
    Row(Method::POST,   &[ENTERPRISES, Enterprise, REPUTATION, REMEDIATION],                     Remediate,    RemediationPerNumber),
    Row(Method::GET,    &[ENTERPRISES, Enterprise, REPUTATION, REMEDIATION],                     Remediations, Free),
    Row(Method::GET,    &[ENTERPRISES, Enterprise, REPUTATION, REMEDIATION, Id],                 Remediations, Free),
    Row(Method::POST,   &[Word("terms_of_service"), Word("number_reputation"), Word("agree")],   AgreeTerms,   Free),
    Row(Method::GET,    &[Word("terms_of_service"), Word("status")],                             Terms,        Free),
    Row(Method::GET,    &[ENTERPRISES],                                                          Enterprises,  Free),
    Row(Method::POST,   &[ENTERPRISES],                                                          Enterprises,  Free),
    Row(Method::GET,    &[ENTERPRISES, Enterprise],                                              Enterprises,  Free),
    Row(Method::PUT,    &[ENTERPRISES, Enterprise],                                              Enterprises,  Free),
    Row(Method::DELETE, &[ENTERPRISES, Enterprise],                                              Enterprises,  Free),
    Row(Method::GET,    &[ENTERPRISES, Enterprise, REPUTATION, NUMBERS, Number, Word("ownership")],          Ownership, Unpublished),
    Row(Method::POST,   &[ENTERPRISES, Enterprise, REPUTATION, NUMBERS, Number, Word("ownership_confirm")],  Ownership, Unpublished),
    Row(Method::POST,   &[ENTERPRISES, Enterprise, REPUTATION, VERIFICATION],                    Ownership,    Unpublished),
    Row(Method::GET,    &[ENTERPRISES, Enterprise, REPUTATION, VERIFICATION],                    Ownership,    Unpublished),
    Row(Method::PATCH,  &[ENTERPRISES, Enterprise, REPUTATION, Word("webhook")],                 Webhook,      Unpublished),
];

/// A path that the table knows, with its parts as they were written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route<'p> {
    /// What is asked for.
    pub operation: Operation,
    /// What that can cost.
    pub price: PriceClass,
    /// The enterprise in the path; none in the simplified forms.
    pub enterprise: Option<&'p str>,
    /// The number in the path.
    pub number: Option<&'p str>,
    /// Another id at the path's end.
    pub id: Option<&'p str>,
}

/// Why a method and path lead nowhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoRoute {
    /// The path is known with other methods, which are these.
    Method(Vec<Method>),
    /// The table does not know the path.
    Path,
}

impl Operation {
    /// All of them.
    pub const ALL: &[Self] = Self::VARIANTS;

    /// The name in metrics and logs.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

impl Piece {
    fn takes(self, segment: &str) -> bool {
        match self {
            Word(word) => word == segment,
            Enterprise | Number | Id => true,
        }
    }
}

/// Finds the operation for a method and the path's segments, decoded and without the leading `v2`. HEAD is GET.
///
/// A word beats a number: `POST …/numbers/refresh` is a refresh, and there is no other POST with a number in that place.
pub fn route<'p, S: AsRef<str>>(method: &Method, path: &'p [S]) -> Result<Route<'p>, NoRoute> {
    let method = if method == Method::HEAD { &Method::GET } else { method };
    let fits = |row: &&Row| row.1.len() == path.len() && row.1.iter().zip(path).all(|(piece, segment)| piece.takes(segment.as_ref()));
    let row = TABLE.iter().find(|row| row.0 == method && fits(row));
    let Some(Row(_, shape, operation, price)) = row else {
        let methods: Vec<_> = TABLE.iter().filter(fits).map(|row| row.0.clone()).collect();
        return Err(if methods.is_empty() { NoRoute::Path } else { NoRoute::Method(methods) });
    };
    let part = |wanted: Piece| shape.iter().position(|piece| *piece == wanted).map(|at| path[at].as_ref());
    Ok(Route { operation: *operation, price: *price, enterprise: part(Enterprise), number: part(Number), id: part(Id) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn routed(method: &Method, path: &str) -> Result<(Operation, Option<String>, Option<String>), NoRoute> {
        let segments: Vec<&str> = path.split('/').collect();
        let found = route(method, &segments)?;
        Ok((found.operation, found.enterprise.map(str::to_owned), found.number.map(str::to_owned)))
    }

    #[test]
    fn scoped_and_simplified_forms_are_one_operation() {
        let scoped = routed(&Method::GET, "enterprises/E/reputation/numbers/N");
        assert_eq!(scoped, Ok((Retrieve, Some("E".into()), Some("N".into()))));
        assert_eq!(routed(&Method::GET, "reputation/numbers/N"), Ok((Retrieve, None, Some("N".into()))));
        assert_eq!(routed(&Method::HEAD, "reputation/numbers/N"), routed(&Method::GET, "reputation/numbers/N"));
    }

    #[test]
    fn a_known_path_with_another_method_names_those_it_takes() {
        assert_eq!(routed(&Method::PUT, "reputation/numbers/N"), Err(NoRoute::Method(vec![Method::GET, Method::DELETE])));
        assert_eq!(routed(&Method::POST, "reputation/numbers/refresh"), Err(NoRoute::Method(vec![Method::GET, Method::DELETE])));
    }

    #[test]
    fn what_the_table_does_not_know_has_no_route() {
        for path in ["reputation", "reputation/numbers/N/history", "enterprises/E/reputation/numbers/N/x", "messages", "Reputation/numbers"]
        {
            assert_eq!(routed(&Method::GET, path), Err(NoRoute::Path), "{path}");
        }
    }

    #[test]
    fn every_operation_of_the_api_has_its_own_name_and_a_row() {
        let names: std::collections::HashSet<_> = Operation::ALL.iter().map(|operation| operation.as_str()).collect();
        assert_eq!(names.len(), Operation::ALL.len());
        for operation in Operation::ALL {
            let is_of_the_api = ![Operation::Unknown, Operation::Route].contains(operation);
            assert_eq!(TABLE.iter().any(|row| row.2 == *operation), is_of_the_api, "{operation:?}");
        }
    }
}
