//! Settings of where events are posted.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

use http::Uri;
use serde::{Deserialize, Serialize};

use super::Kind;
use super::signature::Key;
use crate::secret::Secret;
use crate::units::{Span, as_text};

/// `[[webhook]]`: a receiver of events.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
pub struct Config {
    /// Where events are posted: https, or http to this machine. Redirects are not followed.
    pub url: Url,
    /// What they are signed with: 24 to 64 bytes in Base64, with or without `whsec_` before them.
    pub secret: Secret,
    /// Which events are posted; all of them, if none are named.
    #[serde(default = "all")]
    pub events: Vec<Kind>,
    /// How long the receiver may take to answer one delivery.
    #[serde(default = "ten_seconds")]
    pub timeout: Span,
}

fn all() -> Vec<Kind> {
    Kind::ALL.to_vec()
}

const fn ten_seconds() -> Span {
    Span(Duration::from_secs(10))
}

/// A receiver that takes longer holds up what comes after it.
const LONGEST_TIMEOUT: Duration = Duration::from_mins(1);

impl Config {
    /// What is wrong with these settings, each with its key.
    pub fn faults(&self) -> Vec<(&'static str, String)> {
        let mut faults = Vec::new();
        let mut refuse_if = |wrong: bool, key, why: &str| faults.extend(wrong.then(|| (key, format!("of {:?}: {why}", self.url))));
        let why = "plain http beyond this machine would show to everybody on the way what is spent: use https";
        refuse_if(self.url.is_exposed(), "webhook.url", why);
        refuse_if(self.events.is_empty(), "webhook.events", "names no event: leave it out for all of them");
        let fits = !self.timeout.0.is_zero() && self.timeout.0 <= LONGEST_TIMEOUT;
        refuse_if(!fits, "webhook.timeout", "is not from 1ms to 1m");
        let no_key = Key::read(&self.secret).err();
        refuse_if(no_key.is_some(), "webhook.secret", &no_key.map(|error| error.to_string()).unwrap_or_default());
        faults
    }
}

/// An absolute http or https URL. Its path and query are never shown: some receivers want a token there.
#[derive(Clone, PartialEq, Eq)]
pub struct Url(Uri);

/// A text that is no such URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected an absolute http or https URL without user and password, such as \"https://example.com/hooks/reputation\"")]
pub struct NotAUrl;

impl Url {
    pub(super) fn uri(&self) -> &Uri {
        &self.0
    }

    /// Plain http to anywhere but this machine.
    fn is_exposed(&self) -> bool {
        let host = self.0.host().unwrap_or_default().trim_matches(['[', ']']);
        let loopback = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
        self.0.scheme_str() == Some("http") && !loopback
    }
}

impl FromStr for Url {
    type Err = NotAUrl;

    fn from_str(text: &str) -> Result<Self, NotAUrl> {
        let uri: Uri = text.parse().map_err(|_| NotAUrl)?;
        let has_credentials = uri.authority().is_some_and(|authority| authority.as_str().contains('@'));
        let is_absolute = matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some();
        if is_absolute && !has_credentials { Ok(Self(uri)) } else { Err(NotAUrl) }
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let has_more = self.0.path_and_query().is_some_and(|more| !matches!(more.as_str(), "" | "/"));
        write!(f, "{self:?}/{}", if has_more { "[redacted]" } else { "" })
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.0.scheme_str().unwrap_or_default(), self.0.authority().map_or("", |authority| authority.as_str()))
    }
}

as_text! { Url: "a URL in quotes" }

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    fn config(url: &str, secret: &str) -> Config {
        Config { url: url.parse().expect(url), secret: Secret::Plain(secret.to_owned()), events: all(), timeout: ten_seconds() }
    }

    #[test]
    fn a_url_is_absolute_and_names_no_user() {
        for text in ["", "/hook", "example.com/hook", "ftp://host/", "https://user:pass@host/"] {
            assert_eq!(text.parse::<Url>(), Err(NotAUrl), "{text}");
        }
        let url: Url = "https://hooks.example.com:8443/T0/token?key=1".parse().expect("a URL");
        assert_eq!(url.uri(), "https://hooks.example.com:8443/T0/token?key=1");
        assert_eq!(format!("{url:?}"), "https://hooks.example.com:8443");
        for (text, shown) in [
            ("https://hooks.example.com:8443/T0/token?key=1", "https://hooks.example.com:8443/[redacted]"),
            ("https://hooks.example.com?key=1", "https://hooks.example.com/[redacted]"),
            ("https://hooks.example.com", "https://hooks.example.com/"),
        ] {
            assert_eq!(text.parse::<Url>().expect(text).to_string(), shown);
        }
    }

    #[test]
    fn what_could_be_read_on_the_way_or_signs_nothing_is_refused_by_its_key() {
        assert_eq!(config("https://example.com/", SECRET).faults(), []);
        assert_eq!(config("http://127.0.0.1:9000/", SECRET).faults(), []);
        let key = |config: Config| config.faults().into_iter().map(|(key, _)| key).collect::<Vec<_>>();
        assert_eq!(key(config("http://10.0.0.1/", SECRET)), ["webhook.url"]);
        for secret in ["", "whsec_", "c2hvcnQ=", "not base64 at all, however long it may be"] {
            assert_eq!(key(config("https://example.com/", secret)), ["webhook.secret"], "{secret}");
        }
        assert_eq!(key(Config { events: Vec::new(), ..config("https://example.com/", SECRET) }), ["webhook.events"]);
        assert_eq!(key(Config { timeout: Span(Duration::ZERO), ..config("https://example.com/", SECRET) }), ["webhook.timeout"]);
    }
}
