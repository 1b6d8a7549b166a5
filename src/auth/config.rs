//! Settings of callers.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use strum::IntoStaticStr;

use super::Caller;
use crate::policy::entitlement::Enterprises;
use crate::telnyx::EnterpriseId;
use crate::units::{OneOrMany, Rate, as_text};

/// `[auth]`: how callers are told apart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "a table of settings")]
#[schemars(inline)]
pub struct Config {
    /// How callers are told apart.
    pub mode: Mode,
    /// Open mode beyond loopback: every machine that reaches the address is trusted.
    pub trusted_network: bool,
    /// What callers without a `[[caller]]` of their own may do, in forward and open mode.
    pub allow: Vec<Permission>,
}

impl Default for Config {
    fn default() -> Self {
        Self { mode: Mode::Keys, trusted_network: false, allow: vec![Permission::Fresh] }
    }
}

/// How callers are told apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "AuthMode")]
pub enum Mode {
    /// Callers hold gateway keys; the upstream key is the gateway's.
    #[default]
    Keys,
    /// Each caller's own Telnyx key goes upstream, and has its own part of the cache.
    Forward,
    /// No key is needed; the upstream key is the gateway's.
    Open,
}

/// What a caller may do beyond reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, IntoStaticStr, schemars::JsonSchema)]
#[strum(serialize_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum Permission {
    /// Ask for fresh data.
    Fresh,
    /// Have numbers checked, many at once.
    Refresh,
    /// Put numbers under monitoring, and take them out.
    Associate,
    /// Order remediations.
    Remediation,
    /// Enable and disable monitoring, with what that takes: the letter of authorisation, the webhook and the terms.
    Enable,
    /// Set how often Telnyx checks all numbers by itself.
    Frequency,
    /// Read and confirm who owns numbers, and verify those hosted elsewhere.
    Ownership,
    /// Create, change and delete enterprises.
    Enterprises,
}

impl Permission {
    /// Its name in `allow`.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// `[[caller]]`: one service that holds keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
pub struct CallerConfig {
    /// The name in the ledger, metrics and logs; no two callers have the same.
    pub name: String,
    /// The SHA-256 of its key, or a list of them while keys are rotated.
    pub key_sha256: OneOrMany<KeyDigest>,
    /// The enterprises it may see; all of them if not given.
    pub enterprises: Option<Vec<EnterpriseId>>,
    /// The enterprise of its simplified paths, which name none; `upstream.default_enterprise` if not given.
    pub default_enterprise: Option<EnterpriseId>,
    /// What it may do beyond reading; nothing if not given.
    #[serde(default)]
    pub allow: Vec<Permission>,
    /// How many billable calls it may cause; only `fresh.rate` counts if not given.
    pub fresh_rate: Option<Rate>,
}

impl CallerConfig {
    /// A caller with one key and nothing else.
    pub fn new(name: &str, key: KeyDigest) -> Self {
        Self {
            name: name.to_owned(),
            key_sha256: OneOrMany::One(key),
            enterprises: None,
            default_enterprise: None,
            allow: Vec::new(),
            fresh_rate: None,
        }
    }

    pub(super) fn caller(&self, place: usize) -> Caller {
        Caller {
            name: Arc::from(self.name.as_str()),
            place,
            enterprises: self.enterprises.clone().map_or(Enterprises::All, Enterprises::Only),
            default_enterprise: self.default_enterprise,
            allow: self.allow.clone(),
        }
    }
}

/// The SHA-256 digest of a key: what the configuration holds instead of the key.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyDigest(pub [u8; 32]);

impl KeyDigest {
    /// The digest of a key.
    pub fn of(key: &[u8]) -> Self {
        Self(Sha256::digest(key).into())
    }
}

impl fmt::Display for KeyDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for KeyDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02x}{:02x}…", self.0[0], self.0[1])
    }
}

impl FromStr for KeyDigest {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = "expected the SHA-256 of a key as 64 hexadecimal digits; `key new` prints one";
        if text.len() != 64 || !text.is_ascii() {
            return Err(wrong);
        }
        let mut digest = [0; 32];
        for (at, byte) in digest.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[2 * at..2 * at + 2], 16).map_err(|_| wrong)?;
        }
        Ok(Self(digest))
    }
}

as_text! { KeyDigest: "the SHA-256 of a key as 64 hexadecimal digits, in quotes" }
