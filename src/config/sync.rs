//! Settings of reading the lists ahead, and the enterprises and rates that a configuration names.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Config;
use crate::telnyx::EnterpriseId;
use crate::units::{Rate, Span};

/// `[sync]`: whether the lists of enterprises are read ahead.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "a table of settings")]
#[schemars(inline)]
pub struct ListSync {
    /// Whether lists are read ahead, by free requests of the gateway's own, for each enterprise that is named anywhere in the configuration.
    pub enabled: bool,
    /// From the beginning of one pass over a list to the next; at least 10s.
    pub interval: Span,
}

impl Default for ListSync {
    fn default() -> Self {
        Self { enabled: false, interval: Span(Duration::from_mins(15)) }
    }
}

impl Config {
    /// The callers that have a rate of their own.
    pub fn rated_callers(&self) -> impl Iterator<Item = (Arc<str>, Rate)> {
        self.caller.iter().filter_map(|caller| Some((Arc::from(caller.name.as_str()), caller.fresh_rate?)))
    }

    /// Every enterprise that is named somewhere, each once.
    pub fn enterprises(&self) -> Vec<EnterpriseId> {
        let own = self.enterprise.iter().map(|enterprise| enterprise.id).chain(self.upstream.default_enterprise);
        let callers = self.caller.iter().flat_map(|caller| caller.enterprises.iter().flatten().copied().chain(caller.default_enterprise));
        let mut enterprises = Vec::new();
        for enterprise in own.chain(callers) {
            if !enterprises.contains(&enterprise) {
                enterprises.push(enterprise);
            }
        }
        enterprises
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_enterprise_that_is_named_is_there_once() {
        let id = |n: u8| format!("6a09cdc3-8948-47f0-aa62-0000000000{n:02}");
        let text = format!(
            "[upstream]\ndefault_enterprise = \"{}\"\n[[enterprise]]\nid = \"{}\"\n[[enterprise]]\nid = \"{}\"\n\
             [[caller]]\nname = \"a\"\nkey_sha256 = \"{}\"\nenterprises = [\"{}\", \"{}\"]\ndefault_enterprise = \"{}\"\n",
            id(2),
            id(1),
            id(2),
            "0".repeat(64),
            id(3),
            id(1),
            id(3),
        );
        let named = Config::parse(&text, "gateway.toml", []).expect("parses").enterprises();
        assert_eq!(named.iter().map(ToString::to_string).collect::<Vec<_>>(), [id(1), id(2), id(3)]);
    }
}
