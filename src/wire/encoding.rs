//! Bodies in the encoding that a client wants: gzip, or as they are.

use std::io::Write;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::HeaderMap;
use http::header::ACCEPT_ENCODING;

/// A shorter body goes into one or two packets as it is.
const WORTH_IT: usize = 1024;

/// A body that may be sent in either encoding. Each is made once; clones share them.
#[derive(Clone, Debug)]
pub struct Encodable {
    plain: Bytes,
    /// None where it is not much shorter.
    gzip: Arc<OnceLock<Option<Bytes>>>,
}

impl Encodable {
    /// The body as it is.
    pub fn plain(&self) -> &Bytes {
        &self.plain
    }

    /// Whether it may be sent in another encoding at all: then its answers depend on `Accept-Encoding`.
    pub fn varies(&self) -> bool {
        self.plain.len() >= WORTH_IT
    }

    /// The body in gzip, if that is worth it and the client wants it.
    pub fn gzip_for(&self, request: &HeaderMap) -> Option<Bytes> {
        if !self.varies() || !wants_gzip(request) {
            return None;
        }
        self.gzip.get_or_init(|| gzip(&self.plain).filter(|packed| packed.len() <= self.plain.len() / 2)).clone()
    }

    /// How many bytes it can take in memory, in all its encodings.
    pub fn size(&self) -> usize {
        if self.varies() { self.plain.len() + self.plain.len() / 2 } else { self.plain.len() }
    }
}

impl From<Bytes> for Encodable {
    fn from(plain: Bytes) -> Self {
        Self { plain, gzip: Arc::default() }
    }
}

/// The fastest level: pages of records are very regular, and better ones gain little.
fn gzip(plain: &[u8]) -> Option<Bytes> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(plain).ok()?;
    encoder.finish().ok().map(Bytes::from)
}

/// RFC 9110, 12.5.3: whether gzip is acceptable, and no less wanted than the body as it is. Who does not say gets that.
fn wants_gzip(request: &HeaderMap) -> bool {
    let lines = request.get_all(ACCEPT_ENCODING).into_iter().filter_map(|line| line.to_str().ok());
    let (mut gzip, mut identity, mut any) = (None, None, None);
    for (coding, weight) in lines.flat_map(|line| line.split(',')).filter_map(weighed) {
        let slot = match coding {
            _ if coding.eq_ignore_ascii_case("gzip") || coding.eq_ignore_ascii_case("x-gzip") => &mut gzip,
            _ if coding.eq_ignore_ascii_case("identity") => &mut identity,
            "*" => &mut any,
            _ => continue,
        };
        *slot = (*slot).max(Some(weight));
    }
    let gzip = gzip.or(any).unwrap_or(0);
    gzip > 0 && gzip >= identity.unwrap_or(0)
}

/// One coding, and how much it is wanted, in thousandths. What is not well formed is left out.
fn weighed(item: &str) -> Option<(&str, u16)> {
    let (coding, weight) = match item.split_once(';') {
        None => (item, 1000),
        Some((coding, parameter)) => {
            let (name, value) = parameter.split_once('=')?;
            (coding, thousandths(value.trim()).filter(|_| name.trim().eq_ignore_ascii_case("q"))?)
        }
    };
    Some((coding.trim(), weight)).filter(|(coding, _)| !coding.is_empty())
}

/// A weight: `0` or `1`, with up to three decimals.
fn thousandths(text: &str) -> Option<u16> {
    let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
    let is_weight = matches!(whole, "0" | "1") && decimals.len() <= 3 && decimals.bytes().all(|digit| digit.is_ascii_digit());
    let weight = if is_weight { format!("{whole}{decimals:0<3}").parse().ok()? } else { return None };
    (weight <= 1000).then_some(weight)
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use http::HeaderValue;

    use super::*;

    fn asking(lines: &[&'static str]) -> HeaderMap {
        lines.iter().map(|line| (ACCEPT_ENCODING, HeaderValue::from_static(line))).collect()
    }

    #[test]
    fn gzip_is_sent_to_who_wants_it() {
        for wants in ["gzip", "gzip, deflate", "br;q=1.0, GZIP ; Q=0.5", "*", "identity;q=0.5, *;q=0.5", "x-gzip;q=0.001", "gzip;q=1.000"] {
            assert!(wants_gzip(&asking(&[wants])), "{wants}");
        }
        for does_not in [
            "",
            "identity",
            "br",
            "gzip;q=0",
            "gzip;q=0.000, *",
            "identity, gzip;q=0.9",
            "*;q=0",
            "gzip;q=2",
            "gzip;q=-1",
            "gzip;q=0.1234",
            "gzip;level=1",
            ";q=1",
            "zip",
        ] {
            assert!(!wants_gzip(&asking(&[does_not])), "{does_not}");
        }
        assert!(wants_gzip(&asking(&["br", "gzip"])), "two lines are one list");
        assert!(!wants_gzip(&HeaderMap::new()));
    }

    #[test]
    fn a_body_is_the_same_in_both_encodings() {
        let wishes = asking(&["gzip"]);
        let body = Encodable::from(Bytes::from(r#"{"phone_number":"+12025550000"}"#.repeat(100)));
        let packed = body.gzip_for(&wishes).expect("it is long and regular");
        assert!(packed.len() * 10 < body.plain().len());
        let mut unpacked = Vec::new();
        flate2::read::GzDecoder::new(&packed[..]).read_to_end(&mut unpacked).expect("gzip");
        assert_eq!(&unpacked, body.plain());
        assert!(body.clone().gzip_for(&wishes).is_some_and(|again| again.as_ptr() == packed.as_ptr()), "made once");
    }

    #[test]
    fn what_would_not_become_much_shorter_is_sent_as_it_is() {
        let wishes = asking(&["gzip"]);
        let short = Encodable::from(Bytes::from("x".repeat(WORTH_IT - 1)));
        assert!(!short.varies() && short.gzip_for(&wishes).is_none());
        let mut seed = 1_u32;
        let noise = (0..WORTH_IT).map(|_| {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            seed.to_be_bytes()[0]
        });
        let noise = Encodable::from(noise.collect::<Bytes>());
        assert!(noise.varies() && noise.gzip_for(&wishes).is_none());
    }
}
