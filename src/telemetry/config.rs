//! Settings of the log and of traces.

use std::collections::BTreeMap;
use std::str::FromStr;

use http::HeaderName;
use serde::{Deserialize, Serialize};
use tracing_subscriber::filter::LevelFilter;

use crate::secret::Secret;
use crate::units::Fraction;
use crate::wire::base_url::BaseUrl;

/// `[telemetry]`: what is logged and traced, and how.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "a table of settings")]
#[schemars(inline)]
pub struct Config {
    /// What is logged: a level, or levels of targets with it. `info,access=off` leaves the lines of requests out.
    pub log: Directives,
    /// One JSON object a line, or text for people.
    pub format: Format,
    /// Whether phone numbers are logged whole; they are masked otherwise: `+12*******00`.
    pub log_full_numbers: bool,
    /// So many requests that took more than a copy are remembered with what was decided about them, and as many hits of each thread.
    pub decisions: usize,
    /// Where spans are sent: the base of an OTLP/HTTP receiver, `/v1/traces` below it. Without one, none are made.
    pub otlp_endpoint: Option<BaseUrl>,
    /// Fields that go with them.
    pub otlp_headers: BTreeMap<String, Secret>,
    /// Which part of the traces that begin here is recorded. Of others, their callers decide.
    pub otlp_sample: Fraction,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            log: Directives("info".to_owned()),
            format: Format::Json,
            log_full_numbers: false,
            decisions: 10_000,
            otlp_endpoint: None,
            otlp_headers: BTreeMap::new(),
            otlp_sample: Fraction(1.0),
        }
    }
}

impl Config {
    /// What spans cannot be sent with, by its key.
    pub fn faults(&self) -> Vec<(&'static str, String)> {
        let mut faults = Vec::new();
        if !self.otlp_headers.is_empty() && self.otlp_endpoint.as_ref().is_some_and(BaseUrl::exposes_keys) {
            faults
                .push(("telemetry.otlp_endpoint", "otlp_headers would be sent over plain http beyond this machine: use https".to_owned()));
        }
        for (name, secret) in &self.otlp_headers {
            if name.parse::<HeaderName>().is_err() {
                faults.push(("telemetry.otlp_headers", format!("{name:?} is no name of an HTTP field")));
            }
            if let Err(error) = secret.read() {
                faults.push(("telemetry.otlp_headers", error.to_string()));
            }
        }
        faults
    }
}

/// How a line of the log is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "LogFormat")]
pub enum Format {
    /// One JSON object a line.
    Json,
    /// Text for people.
    Text,
}

/// A level (`error`, `warn`, `info`, `debug`, `trace`, `off`), or levels of targets with it: `info,access=off`.
///
/// A word that is no level would be taken for a target, and silence all others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(try_from = "String")]
pub struct Directives(String);

impl Directives {
    /// The text, as `tracing_subscriber` reads it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Directives {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let is_level = |level: &str| !level.is_empty() && LevelFilter::from_str(level).is_ok();
        let known = |part: &str| is_level(part.split_once('=').map_or(part, |(_, level)| level).trim());
        match text.split(',').find(|part| !known(part)) {
            None => Ok(Self(text)),
            Some(part) => Err(format!(
                "{part:?} is neither off, error, warn, info, debug or trace, nor a target with one of these, such as access=off"
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_that_is_no_level_is_refused() {
        for text in ["info", "off", "info,access=off", "warn,reputation_gateway::spend=debug"] {
            assert!(Directives::try_from(text.to_owned()).is_ok(), "{text}");
        }
        for text in ["inof", "", "info,access", "access=loud", "info,,debug"] {
            assert!(Directives::try_from(text.to_owned()).is_err(), "{text}");
        }
    }
}
