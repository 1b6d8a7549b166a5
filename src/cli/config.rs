//! The command that shows the configuration of a running gateway.

use clap::Args;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use super::Failed;
use super::client::Place;
use super::control::show;
use super::report::Data;

const CONFIG: &str = "/admin/v1/config";

/// `config`
#[derive(Debug, Args)]
pub(super) struct Config {
    #[command(flatten)]
    place: Place,
    /// Print the answer's JSON as it is.
    #[arg(long)]
    json: bool,
}

/// What a gateway tells of its configuration.
#[derive(Debug, Deserialize)]
struct InForce {
    config: Value,
    source: Option<String>,
    loaded_at: Timestamp,
    restart_needed: Vec<String>,
    last_error: Option<Refused>,
}

#[derive(Debug, Deserialize)]
struct Refused {
    at: Timestamp,
    error: String,
}

impl Config {
    /// Asks for it, and tells what to print.
    pub(super) fn run(&self) -> Result<String, Failed> {
        let answer = self.place.client()?.get(CONFIG)?;
        show(&answer, self.json, |answer| Ok(answer.read::<Data<InForce>>()?.data.text()))
    }
}

impl InForce {
    /// A file that says the same, below what is to be known of it.
    fn text(self) -> String {
        let source = self.source.as_deref().unwrap_or("the defaults and the environment");
        let mut lines = vec![format!("# in force since {}, read from {source}", self.loaded_at)];
        if !self.restart_needed.is_empty() {
            lines.push(format!("# changed since, and waiting for a restart: {}", self.restart_needed.join(", ")));
        }
        if let Some(Refused { at, error }) = &self.last_error {
            lines.push(format!("# what was read at {at} is not in force:"));
            lines.extend(error.lines().map(|line| format!("#   {line}")));
        }
        // What is not set has no place in TOML.
        lines.push(String::new());
        lines.push(toml::to_string(&without_nulls(self.config)).unwrap_or_default());
        lines.join("\n").trim_end().to_owned()
    }
}

fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(fields) => Value::Object(
            fields.into_iter().filter(|(_, value)| !value.is_null()).map(|(name, value)| (name, without_nulls(value))).collect(),
        ),
        Value::Array(list) => Value::Array(list.into_iter().map(without_nulls).collect()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_printed_is_a_configuration_below_what_is_to_be_known_of_it() {
        let told = json!({
            "config": crate::config::Config::default(), "source": "/etc/gateway.toml", "loaded_at": "2026-03-24T12:00:00Z",
            "restart_needed": ["server.listen", "cache.max_size"],
            "last_error": { "at": "2026-03-24T13:00:00Z", "error": "gateway.toml:3: cache.ttl: wrong\nanother" },
        });
        let text = serde_json::from_value::<InForce>(told).expect("as it is told").text();
        insta::assert_snapshot!(text.lines().take_while(|line| line.starts_with('#')).collect::<Vec<_>>().join("\n"), @r"
        # in force since 2026-03-24T12:00:00Z, read from /etc/gateway.toml
        # changed since, and waiting for a restart: server.listen, cache.max_size
        # what was read at 2026-03-24T13:00:00Z is not in force:
        #   gateway.toml:3: cache.ttl: wrong
        #   another
        ");
        assert_eq!(crate::config::Config::parse(&text, "printed", []).expect("a configuration"), crate::config::Config::default());
    }
}
