//! Whom a request is for and where its body ends, said once: what an intermediary and the gateway could read as two different requests is
//! refused.

use http::header::{CONTENT_LENGTH, HOST, HeaderValue, TRANSFER_ENCODING};
use http::request::Parts;
use http::uri::{Authority, Scheme};
use http::{Uri, Version};

/// Why a head is refused, and the connection with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Ambiguous {
    /// RFC 9112, 3.2; RFC 9113, 8.3.1.
    #[error("the request does not say which host it is for: send one Host field, or :authority in HTTP/2")]
    NoHost,
    /// RFC 9112, 3.2.
    #[error("the request has several Host fields")]
    SeveralHosts,
    /// RFC 9110, 7.2 and 4.2.4.
    #[error("the request's Host or :authority is no host with an optional port")]
    NotAHost,
    /// RFC 9113, 8.3.1. RFC 9112, 3.2.2, would have `Host` passed over; whoever stands before the gateway may have gone by it.
    #[error("the request's target names another host than its Host field")]
    TwoHosts,
    /// RFC 9110, 4.2.
    #[error("the request's target has a scheme other than http and https")]
    Scheme,
    /// RFC 9112, 6.3: equal ones may be taken as one, or refused.
    #[error("the request has several Content-Length fields")]
    SeveralLengths,
    /// RFC 9112, 6.1: no coding other than this one is known here, and it is applied once.
    #[error("the request has a Transfer-Encoding other than chunked")]
    Coding,
}

/// Refuses a head that could be taken for another's. What is malformed in itself was refused by the HTTP layer before.
pub fn check(head: &Parts) -> Result<(), Ambiguous> {
    let mut hosts = head.headers.get_all(HOST).iter();
    let host = hosts.next().map(host).transpose()?;
    if hosts.next().is_some() {
        return Err(Ambiguous::SeveralHosts);
    }
    if head.headers.get_all(CONTENT_LENGTH).iter().count() > 1 {
        return Err(Ambiguous::SeveralLengths);
    }
    let mut codings = head.headers.get_all(TRANSFER_ENCODING).iter();
    if codings.next().is_some_and(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"chunked")) || codings.next().is_some() {
        return Err(Ambiguous::Coding);
    }
    if head.uri.scheme().is_some_and(|scheme| ![Scheme::HTTP, Scheme::HTTPS].contains(scheme)) {
        return Err(Ambiguous::Scheme);
    }
    match (head.uri.authority(), host) {
        (None, None) if head.version == Version::HTTP_10 => Ok(()),
        (None, None) => Err(Ambiguous::NoHost),
        // In HTTP/1.1 an absolute target does not stand in for the field.
        (Some(_), None) if head.version == Version::HTTP_11 => Err(Ambiguous::NoHost),
        (Some(target), host) => {
            plain(target)?;
            let differs = host.is_some_and(|host| named(&head.uri, target) != named(&head.uri, &host));
            if differs { Err(Ambiguous::TwoHosts) } else { Ok(()) }
        }
        (None, Some(_)) => Ok(()),
    }
}

fn host(field: &HeaderValue) -> Result<Authority, Ambiguous> {
    let authority = Authority::try_from(field.as_bytes()).map_err(|_| Ambiguous::NotAHost)?;
    plain(&authority).map(|()| authority)
}

/// A host, and no name and password before it; behind it a port or nothing.
fn plain(authority: &Authority) -> Result<(), Ambiguous> {
    let is_whole = authority.as_str().starts_with(authority.host()) && !authority.host().is_empty();
    let has_port = authority.as_str().len() > authority.host().len();
    if is_whole && has_port == authority.port_u16().is_some() { Ok(()) } else { Err(Ambiguous::NotAHost) }
}

/// The host in lower case, and the port, where it is not the scheme's own.
fn named(uri: &Uri, authority: &Authority) -> (String, Option<u16>) {
    let usual = if uri.scheme() == Some(&Scheme::HTTPS) { 443 } else { 80 };
    (authority.host().to_ascii_lowercase(), authority.port_u16().filter(|port| *port != usual))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

    fn checked(version: Version, target: &str, hosts: &[&str]) -> Result<(), Ambiguous> {
        let request = Request::builder().version(version).uri(target);
        let request = hosts.iter().fold(request, |request, host| request.header(HOST, *host));
        check(&request.body(()).expect("a request").into_parts().0)
    }

    #[test]
    fn a_request_says_once_whom_it_is_for() {
        for (target, host) in [
            ("/a", "gateway"),
            ("/a", "gateway:8080"),
            ("/a", "[::1]:8080"),
            ("http://gateway/a", "GATEWAY:80"),
            ("https://gateway:443/a", "gateway"),
            ("http://[::1]:81/a", "[::1]:81"),
        ] {
            assert_eq!(checked(Version::HTTP_11, target, &[host]), Ok(()), "{target} {host}");
        }
        assert_eq!(checked(Version::HTTP_10, "/a", &[]), Ok(()));
        assert_eq!(checked(Version::HTTP_2, "http://gateway/a", &[]), Ok(()));
        assert_eq!(checked(Version::HTTP_2, "/a", &["gateway"]), Ok(()));
    }

    #[test]
    fn a_request_that_could_be_for_another_is_refused() {
        for (version, target, hosts, why) in [
            (Version::HTTP_11, "/a", &[][..], Ambiguous::NoHost),
            (Version::HTTP_2, "/a", &[], Ambiguous::NoHost),
            (Version::HTTP_11, "http://gateway/a", &[], Ambiguous::NoHost),
            (Version::HTTP_11, "/a", &["gateway", "gateway"], Ambiguous::SeveralHosts),
            (Version::HTTP_10, "/a", &["a", "b"], Ambiguous::SeveralHosts),
            (Version::HTTP_11, "/a", &[""], Ambiguous::NotAHost),
            (Version::HTTP_11, "/a", &["a/b"], Ambiguous::NotAHost),
            (Version::HTTP_11, "/a", &["a b"], Ambiguous::NotAHost),
            (Version::HTTP_11, "/a", &["a, b"], Ambiguous::NotAHost),
            (Version::HTTP_11, "/a", &["user@gateway"], Ambiguous::NotAHost),
            (Version::HTTP_11, "/a", &[":80"], Ambiguous::NotAHost),
            (Version::HTTP_11, "/a", &["gateway:"], Ambiguous::NotAHost),
            (Version::HTTP_11, "/a", &["gateway:99999"], Ambiguous::NotAHost),
            (Version::HTTP_2, "http://user:pw@gateway/a", &[], Ambiguous::NotAHost),
            (Version::HTTP_11, "http://other/a", &["gateway"], Ambiguous::TwoHosts),
            (Version::HTTP_2, "http://gateway:81/a", &["gateway"], Ambiguous::TwoHosts),
            (Version::HTTP_11, "ftp://gateway/a", &["gateway"], Ambiguous::Scheme),
        ] {
            assert_eq!(checked(version, target, hosts), Err(why), "{target} {hosts:?}");
        }
    }

    #[test]
    fn where_a_body_ends_is_said_once() {
        for (name, values, why) in [
            (CONTENT_LENGTH, &["1"][..], Ok(())),
            (CONTENT_LENGTH, &["1", "1"], Err(Ambiguous::SeveralLengths)),
            (TRANSFER_ENCODING, &["Chunked"], Ok(())),
            (TRANSFER_ENCODING, &["chunked", "chunked"], Err(Ambiguous::Coding)),
            (TRANSFER_ENCODING, &["gzip, chunked"], Err(Ambiguous::Coding)),
        ] {
            let request = Request::builder().uri("/a").header(HOST, "gateway");
            let request = values.iter().fold(request, |request, value| request.header(&name, *value));
            assert_eq!(check(&request.body(()).expect("a request").into_parts().0), why, "{name}: {values:?}");
        }
    }
}
