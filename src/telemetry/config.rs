//! Settings of the log.

use serde::{Deserialize, Serialize};

/// `[telemetry]`: what is logged, and how.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a table of settings")]
pub struct Config {
    /// A level (`error`, `warn`, `info`, `debug`, `trace`, `off`), or directives such as `info,access=off`.
    pub log: String,
    /// One JSON object a line, or text for people.
    pub format: Format,
    /// Whether phone numbers are logged whole.
    pub log_full_numbers: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self { log: "info".to_owned(), format: Format::Json, log_full_numbers: false }
    }
}

/// How a line of the log is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// One JSON object a line.
    Json,
    /// Text for people.
    Text,
}
