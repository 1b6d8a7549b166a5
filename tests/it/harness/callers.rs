//! Callers with keys, and keys that go upstream.

use reputation_gateway::auth::{KeyDigest, Mode};
use reputation_gateway::config::Config;

/// A second enterprise of the account.
pub(crate) const OTHER: &str = "11111111-2222-4333-8444-555555555555";

/// All that a caller may be allowed.
pub(crate) const ALL: &str =
    r#"allow = ["fresh", "refresh", "associate", "remediation", "enable", "frequency", "ownership", "enterprises"]"#;

/// A caller whose key is `key-of-` and its name.
pub(crate) fn caller(name: &str, settings: &str) -> String {
    let digest = KeyDigest::of(format!("key-of-{name}").as_bytes());
    format!("[[caller]]\nname = \"{name}\"\nkey_sha256 = \"{digest}\"\n{settings}\n")
}

pub(crate) fn keys(config: &mut Config) {
    config.auth.mode = Mode::Keys;
}

pub(crate) fn forward(config: &mut Config) {
    config.auth.mode = Mode::Forward;
}

/// A key as the sandbox shows it.
pub(crate) fn sha256(key: &str) -> Option<String> {
    Some(KeyDigest::of(key.as_bytes()).to_string())
}
