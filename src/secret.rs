//! Secrets in a configuration: named by where they are, read once, never shown.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize, Serializer};

/// Where a secret is: `{ env = "NAME" }`, `{ file = "PATH" }`, or the secret itself as a plain string.
#[derive(Clone, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(untagged, expecting = "expected { env = \"NAME\" }, { file = \"PATH\" } or a string")]
pub enum Secret {
    /// In an environment variable.
    Env(EnvName),
    /// In a file, whose trailing line break does not count.
    File(FilePath),
    /// In the configuration itself, which is warned about.
    Plain(String),
}

/// `{ env = "NAME" }`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
pub struct EnvName {
    env: String,
}

/// `{ file = "PATH" }`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
pub struct FilePath {
    file: PathBuf,
}

/// A secret that is not where the configuration says.
#[derive(Debug, thiserror::Error)]
pub enum NoSecret {
    /// The environment has no such variable, or it is empty.
    #[error("the environment variable {0} is not set: export it, or name another place for the secret")]
    Env(String),
    /// The file cannot be read.
    #[error("the file {path} cannot be read: {1}", path = .0.display())]
    File(PathBuf, #[source] std::io::Error),
    /// There is nothing in it.
    #[error("the secret is empty")]
    Empty,
}

impl Secret {
    /// A secret in the environment variable `name`.
    pub fn env(name: &str) -> Self {
        Self::Env(EnvName { env: name.to_owned() })
    }

    /// Whether the secret stands in the configuration itself.
    pub fn is_plain(&self) -> bool {
        matches!(self, Self::Plain(_))
    }

    /// The file that it is in, if it is in one.
    pub fn file(&self) -> Option<&Path> {
        match self {
            Self::File(FilePath { file }) => Some(file),
            Self::Env(_) | Self::Plain(_) => None,
        }
    }

    /// Reads the secret from where it is.
    pub fn read(&self) -> Result<Revealed, NoSecret> {
        let text = match self {
            Self::Env(EnvName { env }) => {
                std::env::var(env).ok().filter(|text| !text.is_empty()).ok_or_else(|| NoSecret::Env(env.clone()))?
            }
            Self::File(FilePath { file }) => std::fs::read_to_string(file).map_err(|error| NoSecret::File(file.clone(), error))?,
            Self::Plain(text) => text.clone(),
        };
        let text = text.trim_end_matches(['\r', '\n']);
        if text.is_empty() { Err(NoSecret::Empty) } else { Ok(Revealed(text.to_owned())) }
    }
}

/// A secret's text, which neither `Debug` nor `Display` show.
#[derive(Clone, PartialEq, Eq)]
pub struct Revealed(String);

impl Revealed {
    /// The text, for the one place that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Revealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Env(place) => place.fmt(f),
            Self::File(place) => place.fmt(f),
            Self::Plain(_) => f.write_str("[redacted]"),
        }
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Env(place) => place.serialize(serializer),
            Self::File(place) => place.serialize(serializer),
            Self::Plain(_) => serializer.serialize_str("[redacted]"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_never_shown() {
        let secret = Secret::Plain("KEY_abc".into());
        let revealed = secret.read().expect("a plain secret");
        assert_eq!(revealed.expose(), "KEY_abc");
        let shown = format!("{secret:?} {revealed:?} {}", serde_json::to_string(&secret).expect("a string"));
        assert!(!shown.contains("KEY_abc"), "{shown}");
    }

    #[test]
    fn a_file_loses_its_line_break_and_an_empty_secret_is_none() {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        std::fs::write(file.path(), "KEY_abc\n").expect("writable");
        let secret = Secret::File(FilePath { file: file.path().into() });
        assert_eq!(secret.read().expect("readable").expose(), "KEY_abc");
        std::fs::write(file.path(), "\n").expect("writable");
        assert!(matches!(secret.read(), Err(NoSecret::Empty)));
        assert!(matches!(Secret::env("REPUTATION_GATEWAY_TEST_UNSET").read(), Err(NoSecret::Env(_))));
    }
}
