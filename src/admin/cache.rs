//! What operators see of the cache, and purge of it.

use http::{StatusCode, Uri};
use serde::Deserialize;
use serde_json::{Value, json};

use super::control::{bad, read, somebody, text};
use super::{Refused, blocking, problem};
use crate::cache::Scope;
use crate::gateway::{Gateway, Purge};
use crate::telnyx::{EnterpriseId, PhoneNumber};
use crate::wire::target::Target;

/// The body of `POST purge`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NewPurge {
    enterprise: Option<EnterpriseId>,
    number: Option<PhoneNumber>,
    #[serde(default)]
    all: bool,
    #[serde(default)]
    hard: bool,
    #[serde(default)]
    dry_run: bool,
    #[serde(default = "somebody")]
    author: String,
}

impl NewPurge {
    fn scope(&self) -> Refused<Scope> {
        match (self.number, self.enterprise, self.all) {
            (Some(number), Some(enterprise), false) => Ok(Scope::Number(enterprise, number)),
            (None, Some(enterprise), false) => Ok(Scope::Enterprise(enterprise)),
            (None, None, true) => Ok(Scope::All),
            _ => Err(bad("a purge is of exactly one of these: a number with its enterprise, an enterprise, or \"all\": true".to_owned())),
        }
    }
}

/// Purges copies, or only counts them.
pub(super) async fn purge(gateway: &Gateway, body: &[u8]) -> Refused<Value> {
    let wanted: NewPurge = read(body)?;
    let (scope, author) = (wanted.scope()?, text("author", &wanted.author)?);
    let NewPurge { enterprise, number, all, hard, dry_run, .. } = wanted;
    let how = if hard { Purge::Hard } else { Purge::Soft };
    let here = gateway.clone();
    // A walk over all copies takes a while.
    let purged = blocking(move || if dry_run { here.concerned(scope) } else { here.purge(scope, how) }).await?;
    let others_told = if dry_run { None } else { gateway.others_know().await };
    if !dry_run {
        let enterprise = enterprise.map(tracing::field::display);
        // Debug masks it.
        let number = number.map(tracing::field::debug);
        let (entries, exposed_usd, mode) = (purged.entries, purged.exposed, how.as_str());
        tracing::warn!(author, enterprise, number, all, mode, entries, %exposed_usd, "an operator purged copies");
    }
    let (entries, exposed_usd) = (purged.entries, purged.exposed);
    let mut data = json!({ "entries": entries, "exposed_usd": exposed_usd, "hard": hard, "dry_run": dry_run });
    if let Some(others_told) = others_told {
        data["others_told"] = others_told.into();
    }
    Ok(json!({ "data": data }))
}

/// What is kept and remembered of the number in `/admin/v1/cache/{enterprise}/{number}`.
pub(super) fn inspect(gateway: &Gateway, uri: &Uri) -> Refused<Value> {
    let target = Target::parse(uri).map_err(|why| bad(why.to_string()))?;
    let [_, _, _, enterprise, number] = &target.segments[..] else {
        return Err(bad("ask for cache/{enterprise}/{number}".to_owned()));
    };
    let enterprise: EnterpriseId = enterprise.parse().map_err(|why: crate::telnyx::NotAnEnterpriseId| bad(why.to_string()))?;
    let number = PhoneNumber::from_segment(number).map_err(|why| bad(why.to_string()))?;
    if gateway.is_partitioned() {
        return Err(problem(StatusCode::CONFLICT, "partitioned", PARTITIONED));
    }
    let known = gateway.inspect(enterprise, number);
    let nothing =
        || problem(StatusCode::NOT_FOUND, "not_in_cache", "nothing is kept or remembered of this number, and nothing is under way");
    known.map(|known| json!({ "data": known })).ok_or_else(nothing)
}

/// Why nobody can be shown a copy.
pub(super) const PARTITIONED: &str =
    "with auth.mode = \"forward\" each credential has copies of its own, and whose are meant cannot be said here";
