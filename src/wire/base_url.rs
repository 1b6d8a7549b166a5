//! Where a service is that is called: a URL that paths are joined to.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use http::Uri;
use http::uri::PathAndQuery;

use crate::units::as_text;

/// An absolute http or https URL without query, and without a slash at its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseUrl(Uri);

/// A text that is no base URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected an absolute URL without query, such as \"https://api.telnyx.com/v2\"")]
pub struct NotABaseUrl;

impl BaseUrl {
    /// What lies at a path and query below it, both encoded. None, if that is longer than a URI can be.
    pub fn join(&self, path_and_query: &str) -> Option<Uri> {
        let prefix = self.0.path().trim_end_matches('/');
        let whole: PathAndQuery = format!("{prefix}{path_and_query}").parse().ok()?;
        let mut parts = self.0.clone().into_parts();
        parts.path_and_query = Some(whole);
        Some(Uri::from_parts(parts).expect("a base URL has a scheme and an authority"))
    }

    /// Its host.
    pub fn host(&self) -> &str {
        self.0.host().unwrap_or_default()
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.0.port_u16().unwrap_or(if self.0.scheme_str() == Some("https") { 443 } else { 80 })
    }

    /// Whether a key sent there could be read on the way: plain http to anywhere but this machine.
    pub fn exposes_keys(&self) -> bool {
        let host = self.0.host().unwrap_or_default().trim_matches(['[', ']']);
        let loopback = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
        self.0.scheme_str() == Some("http") && !loopback
    }
}

impl FromStr for BaseUrl {
    type Err = NotABaseUrl;

    fn from_str(text: &str) -> Result<Self, NotABaseUrl> {
        let uri: Uri = text.trim_end_matches('/').parse().map_err(|_| NotABaseUrl)?;
        let credentials = uri.authority().is_some_and(|authority| authority.as_str().contains('@'));
        let plain = matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some() && uri.query().is_none() && !credentials;
        if plain { Ok(Self(uri)) } else { Err(NotABaseUrl) }
    }
}

impl fmt::Display for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.to_string().trim_end_matches('/'))
    }
}

as_text! { BaseUrl: "a URL in quotes" }

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_url_is_absolute_and_plain() {
        for (text, shown) in
            [("https://api.telnyx.com/v2/", "https://api.telnyx.com/v2"), ("http://127.0.0.1:9000", "http://127.0.0.1:9000")]
        {
            assert_eq!(text.parse::<BaseUrl>().expect(text).to_string(), shown);
        }
        for text in ["", "/v2", "api.telnyx.com", "ftp://host", "https://host?x=1", "https://user:pass@host"] {
            assert_eq!(text.parse::<BaseUrl>(), Err(NotABaseUrl), "{text}");
        }
    }

    #[test]
    fn a_key_is_exposed_by_plain_http_beyond_this_machine() {
        for (text, exposed) in [
            ("http://127.0.0.1:1/v2", false),
            ("http://[::1]:1", false),
            ("http://localhost", false),
            ("https://host", false),
            ("http://host", true),
            ("http://10.0.0.1", true),
        ] {
            assert_eq!(text.parse::<BaseUrl>().expect(text).exposes_keys(), exposed, "{text}");
        }
    }
}
