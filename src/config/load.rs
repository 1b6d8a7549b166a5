//! Reads a TOML file with the environment over it. An error names the place, the key, and the nearest valid name.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_path_to_error::Deserializer as PathDeserializer;
use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue, Deserializer};

use super::Config;

/// Variables that begin with this are settings: `REPUTATION_GATEWAY__CACHE__TTL=1h` is `cache.ttl`.
pub const PREFIX: &str = "REPUTATION_GATEWAY__";

/// A name that is farther from what was written is no help.
const NEAR: f64 = 0.7;

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file cannot be read.
    #[error("{path}: {error}", path = .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: std::io::Error,
    },
    /// A setting is wrong.
    #[error("{0}")]
    Wrong(Wrong),
}

/// A setting that is wrong.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Wrong {
    /// The file and line, or the environment variable.
    place: String,
    /// The key, as a dotted path.
    key: String,
    /// What is wrong with it, and how it is written.
    #[serde(rename = "why")]
    what: String,
    /// The nearest valid name, for one that is unknown.
    nearest: Option<String>,
}

impl std::error::Error for Wrong {}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.place)?;
        if !matches!(self.key.as_str(), "" | ".") {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.what)?;
        self.nearest.iter().try_for_each(|name| write!(f, "; did you mean `{name}`?"))
    }
}

impl Config {
    /// Reads `file`, or the defaults if there is none, and the given environment over it.
    pub fn load(file: Option<&Path>, environment: impl IntoIterator<Item = (String, String)>) -> Result<Self, LoadError> {
        let text = match file {
            None => String::new(),
            Some(path) => std::fs::read_to_string(path).map_err(|error| LoadError::Unreadable { path: path.into(), error })?,
        };
        let name = file.map_or_else(|| "the environment".to_owned(), |path| path.display().to_string());
        Self::parse(&text, &name, environment).map_err(LoadError::Wrong)
    }

    /// Reads a configuration's text; `name` stands in errors for where it is from.
    pub fn parse(text: &str, name: &str, environment: impl IntoIterator<Item = (String, String)>) -> Result<Self, Wrong> {
        let source = Source { text, name };
        let settings: Vec<_> = environment.into_iter().filter_map(|(variable, value)| Setting::new(variable, &value)).collect();
        let mut table = DeTable::parse(text).map_err(|error| source.wrong(&error, String::new(), None))?;
        for setting in &settings {
            setting.overlay(table.get_mut()).map_err(|what| setting.wrong(what))?;
        }
        let mut track = serde_path_to_error::Track::new();
        Self::deserialize(PathDeserializer::new(Deserializer::from(table), &mut track)).map_err(|error| {
            let key = track.path().to_string();
            let setting = settings.iter().find(|setting| setting.is_at_fault(&key));
            source.wrong(&error, key, setting.map(|setting| setting.variable.as_str()))
        })
    }
}

/// A variable of the environment that is a setting.
struct Setting {
    variable: String,
    path: Vec<String>,
    /// The value as a line of TOML.
    document: String,
}

impl Setting {
    /// Text that is a whole number, a truth value, or something in brackets, braces or quotes is TOML; all else is a string.
    fn new(variable: String, value: &str) -> Option<Self> {
        let path = variable.strip_prefix(PREFIX)?.to_ascii_lowercase().split("__").map(str::to_owned).collect();
        let structured = value.starts_with(['[', '{', '"', '\'']);
        let scalar = value.parse::<i64>().is_ok() || matches!(value, "true" | "false");
        let value = if structured || scalar { value.to_owned() } else { toml::Value::from(value).to_string() };
        Some(Self { variable, path, document: format!("value = {value}") })
    }

    /// Sets the value, making the tables on the way.
    fn overlay<'s>(&'s self, root: &mut DeTable<'s>) -> Result<(), String> {
        let value = DeTable::parse(&self.document).map_err(|error| error.message().to_owned())?;
        let value = value.into_inner().remove("value").ok_or("is not one value")?;
        let (name, tables) = self.path.split_last().ok_or("names no setting")?;
        let mut table = root;
        for name in tables {
            let inner = table.entry(unplaced(name)).or_insert_with(|| Spanned::new(0..0, DeValue::Table(DeTable::new())));
            let DeValue::Table(inner) = inner.get_mut() else {
                return Err(format!("`{name}` is not a table, so nothing in it can be set"));
            };
            table = inner;
        }
        table.insert(unplaced(name), value);
        Ok(())
    }

    fn is_at_fault(&self, key: &str) -> bool {
        let path = self.path.join(".");
        key == path || key.strip_prefix(&path).is_some_and(|rest| rest.starts_with(['.', '[']))
    }

    fn wrong(&self, what: String) -> Wrong {
        Wrong { place: format!("environment variable {}", self.variable), key: self.path.join("."), what, nearest: None }
    }
}

fn unplaced(name: &str) -> Spanned<DeString<'_>> {
    Spanned::new(0..0, name.into())
}

struct Source<'s> {
    text: &'s str,
    name: &'s str,
}

impl Source<'_> {
    fn wrong(&self, error: &toml::de::Error, key: String, variable: Option<&str>) -> Wrong {
        let line = error.span().map(|span| self.text[..span.start.min(self.text.len())].matches('\n').count() + 1);
        let place = match (variable, line) {
            (Some(variable), _) => format!("environment variable {variable}"),
            (None, Some(line)) => format!("{}:{line}", self.name),
            (None, None) => self.name.to_owned(),
        };
        let what = without_text(error.message());
        Wrong { place, key, nearest: nearest(&what), what }
    }
}

/// A message without the text that stands where none should: it may be a secret that was written in the wrong form.
/// serde writes ``invalid type: string "text", expected a map``.
fn without_text(message: &str) -> String {
    let expected = message.strip_prefix("invalid type: string ").and_then(|rest| rest.rsplit_once(", expected "));
    expected.map_or_else(|| message.to_owned(), |(_, expected)| format!("invalid type: a string, expected {expected}"))
}

/// The valid name nearest to an unknown one. serde writes ``unknown field `x`, expected one of `a`, `b` ``.
fn nearest(message: &str) -> Option<String> {
    let mut names = message.strip_prefix("unknown ")?.split('`').skip(1).step_by(2);
    let unknown = names.next()?;
    let likeness = |name: &str| strsim::jaro_winkler(unknown, name);
    let best = names.max_by(|one, other| likeness(one).total_cmp(&likeness(other)))?;
    (likeness(best) >= NEAR).then(|| best.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str, environment: &[(&str, &str)]) -> Result<Config, String> {
        let environment = environment.iter().map(|(name, value)| (format!("{PREFIX}{name}"), (*value).to_owned()));
        Config::parse(text, "gateway.toml", environment).map_err(|wrong| wrong.to_string())
    }

    fn error(text: &str, environment: &[(&str, &str)]) -> String {
        parsed(text, environment).expect_err("wrong")
    }

    #[test]
    fn an_unknown_key_is_named_with_its_line_and_the_nearest_valid_name() {
        insta::assert_snapshot!(error("[cache]\nttl = \"1h\"\nttl_jiter = 0.2\n", &[]), @"gateway.toml:3: cache.ttl_jiter: unknown field `ttl_jiter`, expected one of `max_size`, `ttl`, `stale_while_revalidate`, `stale_if_error`, `error_ttl`, `negative_ttl`, `null_ttl`, `list_ttl`, `wait_timeout`, `max_waiters`, `ttl_jitter`, `snapshot`, `snapshot_interval`; did you mean `ttl_jitter`?");
        insta::assert_snapshot!(error("[server]\n\n[budgets]\n", &[]), @"gateway.toml:3: budgets: unknown field `budgets`, expected one of `server`, `admin`, `upstream`, `auth`, `caller`, `enterprise`, `route`, `cache`, `sync`, `fresh`, `prices`, `ledger`, `budget`, `shared`, `webhook`, `telemetry`; did you mean `budget`?");
        insta::assert_snapshot!(error("[auth]\nmode = \"key\"\n", &[]), @"gateway.toml:2: auth.mode: unknown variant `key`, expected one of `keys`, `forward`, `open`; did you mean `keys`?");
    }

    #[test]
    fn a_bad_value_is_named_with_its_line_and_how_it_is_written() {
        insta::assert_snapshot!(error("[cache]\nttl = \"soon\"\n", &[]), @r#"gateway.toml:2: cache.ttl: "soon" is not a length of time, such as "90s", "10m", "1h30m" or "7d""#);
        insta::assert_snapshot!(error("[cache]\nttl = 60\n", &[]), @r#"gateway.toml:2: cache.ttl: invalid type: integer `60`, expected a length of time in quotes, such as "90s""#);
        insta::assert_snapshot!(error("[prices]\ncheck = 0.1\n", &[]), @r#"gateway.toml:2: prices.check: invalid type: floating point `0.1`, expected an amount of dollars in quotes, such as "0.10""#);
        insta::assert_snapshot!(error("[upstream]\ndefault_enterprise = \"acme\"\n", &[]), @"gateway.toml:2: upstream.default_enterprise: an enterprise id is a UUID with its hyphens, as in 6a09cdc3-8948-47f0-aa62-74ac943d6c58");
        insta::assert_snapshot!(error("[server]\nlisten = \"localhost\"\n", &[]), @"gateway.toml:2: server.listen: invalid socket address syntax");
        insta::assert_snapshot!(error("[[budget]]\nname = \"all\"\n", &[]), @"gateway.toml:1: budget[0]: missing field `limit`");
        insta::assert_snapshot!(error("[[budget]]\nname = \"all\"\nlimit = \"1.00\"\nwindow = \"month\"\ntime_zone = \"Mars/Olympus\"\n", &[]), @r#"gateway.toml:5: budget[0].time_zone: "Mars/Olympus" is no IANA time zone, such as "UTC" or "America/New_York""#);
        insta::assert_snapshot!(error("[cache\n", &[]), @"gateway.toml:1: unclosed table, expected `]`");
    }

    #[test]
    fn a_secret_that_is_written_in_the_wrong_form_is_not_shown() {
        insta::assert_snapshot!(error("[telemetry]\notlp_headers = \"authorization=Bearer top-secret, expected\"\n", &[]), @"gateway.toml:2: telemetry.otlp_headers: invalid type: a string, expected a map");
        for text in [
            "[shared]\nsentinels = \"redis://:top-secret@s1:26379\"\n",
            "webhook = \"https://example.com/top-secret\"\n",
            "webhook = [\"top-secret\"]\n",
            "webhook = [{ url = \"top-secret\", secret = \"x\" }]\n",
            "webhook = [{ url = [\"top-secret\"], secret = \"top-secret\" }]\n",
            "upstream = \"top-secret\"\n",
            "upstream.api_key = { env = \"X\", key = \"top-secret\" }\n",
            "upstream.api_key = \"top-secret\" x\n",
            "upstream.api_key = top-secret\n",
            "enterprise = [\"top-secret\"]\n",
            "admin.token = \"top-secret\n",
        ] {
            let error = error(text, &[]);
            assert!(!error.contains("top-secret"), "{error}");
        }
        let variables =
            [("TELEMETRY__OTLP_HEADERS", "authorization=top-secret"), ("SHARED__SENTINELS", "top-secret"), ("UPSTREAM", "top-secret")];
        for (name, value) in variables.into_iter().chain([("UPSTREAM__API_KEY", "{top-secret"), ("ADMIN__TOKEN", "\"top-secret")]) {
            let error = error("", &[(name, value)]);
            assert!(!error.contains("top-secret"), "{error}");
        }
    }

    #[test]
    fn the_environment_beats_the_file() {
        let text = "[cache]\nttl = \"2h\"\n";
        let config =
            parsed(text, &[("CACHE__TTL", "3h"), ("SERVER__WORKERS", "4"), ("PRICES__CHECK", "0.20"), ("CACHE__TTL_JITTER", "0.5")])
                .expect("right");
        assert_eq!((config.cache.ttl.to_string().as_str(), config.server.workers), ("3h", 4));
        assert_eq!(config.prices.check.to_string(), "0.20");
        let list = r#"[{ name = "all", limit = "5.00", window = "day" }]"#;
        assert_eq!(parsed("", &[("BUDGET", list)]).expect("right").budget[0].name, "all");
    }

    #[test]
    fn an_error_from_the_environment_names_its_variable() {
        insta::assert_snapshot!(error("[cache]\nttl = \"2h\"\n", &[("CACHE__TTL", "soon")]), @r#"environment variable REPUTATION_GATEWAY__CACHE__TTL: cache.ttl: "soon" is not a length of time, such as "90s", "10m", "1h30m" or "7d""#);
        insta::assert_snapshot!(error("[cache]\nttl = \"2h\"\n", &[("CACHE__TTLL", "1h")]), @"environment variable REPUTATION_GATEWAY__CACHE__TTLL: cache.ttll: unknown field `ttll`, expected one of `max_size`, `ttl`, `stale_while_revalidate`, `stale_if_error`, `error_ttl`, `negative_ttl`, `null_ttl`, `list_ttl`, `wait_timeout`, `max_waiters`, `ttl_jitter`, `snapshot`, `snapshot_interval`; did you mean `ttl`?");
        insta::assert_snapshot!(error("", &[("CACHE", "1h")]), @r#"environment variable REPUTATION_GATEWAY__CACHE: cache: invalid type: a string, expected a table of settings"#);
    }
}
