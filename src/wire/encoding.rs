//! Bodies in the encoding that a client wants: Brotli, gzip, or as they are.

use std::io::{self, Write};
use std::sync::{Arc, OnceLock};

use brotli::CompressorWriter;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::HeaderMap;
use http::header::ACCEPT_ENCODING;
use strum::{IntoStaticStr, VariantArray};

/// A shorter body goes into one or two packets as it is.
const WORTH_IT: usize = 1024;

/// Higher levels gain less than a tenth on a page of 250 records and take up to twenty times as long.
const BROTLI_LEVEL: u32 = 1;
/// Brotli looks back over so many bytes, as a power of two: a whole page.
const BROTLI_WINDOW: u32 = 18;
/// What goes into the packer at once.
const BROTLI_BUFFER: usize = 4096;

/// A way to pack a body, in the order in which it is chosen where a client wants several alike: it packs pages tighter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoStaticStr, VariantArray)]
pub enum Coding {
    /// RFC 7932.
    #[strum(serialize = "br")]
    Brotli,
    /// RFC 1952.
    #[strum(serialize = "gzip")]
    Gzip,
}

impl Coding {
    /// Its name in `Accept-Encoding` and `Content-Encoding`.
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// Whether a client means it by this name (RFC 9110, 8.4.1.3: `x-gzip` is gzip).
    fn is_named(self, name: &str) -> bool {
        let name = if name.eq_ignore_ascii_case("x-gzip") { "gzip" } else { name };
        name.eq_ignore_ascii_case(self.as_str())
    }

    fn pack(self, plain: &[u8]) -> io::Result<Bytes> {
        let mut packed = Vec::new();
        match self {
            Self::Brotli => CompressorWriter::new(&mut packed, BROTLI_BUFFER, BROTLI_LEVEL, BROTLI_WINDOW).write_all(plain)?,
            // The fastest level: pages of records are very regular, and better ones gain little.
            Self::Gzip => GzEncoder::new(&mut packed, Compression::fast()).write_all(plain)?,
        }
        Ok(packed.into())
    }
}

/// A body that may be sent in any encoding. Each is made once; clones share them.
#[derive(Clone, Debug)]
pub struct Encodable {
    plain: Bytes,
    /// In the order of [`Coding`]'s variants; none where it is not much shorter.
    packed: Arc<[OnceLock<Option<Bytes>>; Coding::VARIANTS.len()]>,
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

    /// The body packed as the client wants it most, if it wants that and it is worth it.
    pub fn packed_for(&self, request: &HeaderMap) -> Option<(Coding, Bytes)> {
        let coding = if self.varies() { wanted(request)? } else { return None };
        let much_shorter = |packed: &Bytes| packed.len() <= self.plain.len() / 2;
        let packed = self.packed[coding as usize].get_or_init(|| coding.pack(&self.plain).ok().filter(much_shorter));
        packed.clone().map(|packed| (coding, packed))
    }

    /// How many bytes it can take in memory, in all its encodings.
    pub fn size(&self) -> usize {
        let packed = if self.varies() { self.plain.len() / 2 * Coding::VARIANTS.len() } else { 0 };
        self.plain.len() + packed
    }
}

impl From<Bytes> for Encodable {
    fn from(plain: Bytes) -> Self {
        Self { plain, packed: Arc::default() }
    }
}

/// RFC 9110, 12.5.3: the coding that is wanted most, if it is no less wanted than the body as it is. Who does not say gets that.
fn wanted(request: &HeaderMap) -> Option<Coding> {
    let lines = request.get_all(ACCEPT_ENCODING).into_iter().filter_map(|line| line.to_str().ok());
    let (mut named, mut identity, mut any) = ([None; Coding::VARIANTS.len()], None, None);
    for (name, weight) in lines.flat_map(|line| line.split(',')).filter_map(weighed) {
        let coding = Coding::VARIANTS.iter().find(|coding| coding.is_named(name));
        let slot = match (name, coding) {
            (_, Some(coding)) => &mut named[*coding as usize],
            ("*", None) => &mut any,
            (name, None) if name.eq_ignore_ascii_case("identity") => &mut identity,
            _ => continue,
        };
        *slot = (*slot).max(Some(weight));
    }
    let weight = |coding: Coding| named[coding as usize].or(any).unwrap_or(0);
    let acceptable = Coding::VARIANTS.iter().copied().filter(|coding| weight(*coding) > 0 && weight(*coding) >= identity.unwrap_or(0));
    // Of those wanted alike the first.
    acceptable.rev().max_by_key(|coding| weight(*coding))
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
    fn a_body_is_packed_as_its_client_wants_it_most() {
        for (wishes, coding) in [
            ("gzip", Some(Coding::Gzip)),
            ("gzip, deflate", Some(Coding::Gzip)),
            ("gzip, deflate, br", Some(Coding::Brotli)),
            ("br;q=0.5, GZIP ; Q=0.6", Some(Coding::Gzip)),
            ("BR", Some(Coding::Brotli)),
            ("*", Some(Coding::Brotli)),
            ("br;q=0, *", Some(Coding::Gzip)),
            ("identity;q=0.5, *;q=0.5", Some(Coding::Brotli)),
            ("x-gzip;q=0.001", Some(Coding::Gzip)),
            ("gzip;q=1.000", Some(Coding::Gzip)),
            ("", None),
            ("identity", None),
            ("deflate", None),
            ("br;q=0, gzip;q=0.000, *", None),
            ("identity, gzip;q=0.9", None),
            ("*;q=0", None),
            ("gzip;q=2", None),
            ("gzip;q=-1", None),
            ("gzip;q=0.1234", None),
            ("gzip;level=1", None),
            (";q=1", None),
            ("zip, brotli", None),
        ] {
            assert_eq!(wanted(&asking(&[wishes])), coding, "{wishes}");
        }
        assert_eq!(wanted(&asking(&["deflate", "gzip"])), Some(Coding::Gzip), "two lines are one list");
        assert_eq!(wanted(&HeaderMap::new()), None);
    }

    #[test]
    fn a_body_is_the_same_in_every_encoding() {
        let body = Encodable::from(Bytes::from(r#"{"phone_number":"+12025550000"}"#.repeat(100)));
        for coding in Coding::VARIANTS.iter().copied() {
            let wishes = asking(&[coding.as_str()]);
            let (found, packed) = body.packed_for(&wishes).expect("it is long and regular");
            assert!(found == coding && packed.len() * 10 < body.plain().len());
            let mut unpacked = Vec::new();
            match coding {
                Coding::Brotli => brotli::Decompressor::new(&packed[..], BROTLI_BUFFER).read_to_end(&mut unpacked).expect("Brotli"),
                Coding::Gzip => flate2::read::GzDecoder::new(&packed[..]).read_to_end(&mut unpacked).expect("gzip"),
            };
            assert_eq!(&unpacked, body.plain());
            assert!(body.clone().packed_for(&wishes).is_some_and(|(_, again)| again.as_ptr() == packed.as_ptr()), "made once");
            assert!(packed.len() <= body.size() - body.plain().len());
        }
    }

    #[test]
    fn what_would_not_become_much_shorter_is_sent_as_it_is() {
        let mut seed = 1_u32;
        let noise = (0..WORTH_IT).map(|_| {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            seed.to_be_bytes()[0]
        });
        let noise = Encodable::from(noise.collect::<Bytes>());
        let short = Encodable::from(Bytes::from("x".repeat(WORTH_IT - 1)));
        for wishes in ["br", "gzip"].map(|coding| asking(&[coding])) {
            assert!(!short.varies() && short.packed_for(&wishes).is_none());
            assert!(noise.varies() && noise.packed_for(&wishes).is_none());
        }
    }
}
