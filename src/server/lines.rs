//! Lines of HTTP/1.1 end with CR and LF. The parser takes a lone LF too (RFC 9112, 2.2, allows that), and who stands before the gateway may
//! not: then the two would see different fields. So a lone LF in a head or in trailers is made a NUL, which the parser refuses in its turn,
//! behind the answers to the requests before it. So is the LF of a length that is said twice, which the parser takes if both are equal, and
//! of one that is said in two ways, of which the parser takes the chunks.
//!
//! Where heads are follows from `Content-Length` and `Transfer-Encoding`. The parser decides what they mean; where this disagreed with it,
//! a lone LF would be let through or a body spoilt, and no request would be seen that the parser does not see.

/// What is kept of a line: enough for a field that says where a body ends.
const KEPT: usize = 64;

/// Where in its lines what a client sends is.
#[derive(Debug)]
pub(super) struct Lines {
    part: Part,
    line: [u8; KEPT],
    /// Bytes of `line` that are there; the line may be longer.
    kept: usize,
    after_cr: bool,
    body: Body,
    /// Heads that have ended.
    heads: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// Before a request's line, where empty lines are passed over (RFC 9112, 2.2).
    Start,
    Head,
    /// So many bytes, and then a head.
    Body(u64),
    ChunkSize,
    /// So many bytes of a chunk with its CR and LF, and then the size of the next.
    Chunk(u64),
    Trailers,
    /// The parser refuses what was read.
    Lost,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Body {
    Unsaid,
    Length(u64),
    Chunked,
}

impl Lines {
    pub(super) fn new() -> Self {
        Self { part: Part::Start, line: [0; KEPT], kept: 0, after_cr: false, body: Body::Unsaid, heads: 0 }
    }

    /// How many requests have passed; none while a part of one has.
    pub(super) fn ended(&self) -> Option<u64> {
        (self.part == Part::Start && self.kept == 0).then_some(self.heads)
    }

    /// Passes what comes next, without a lone LF where lines are.
    pub(super) fn pass(&mut self, mut bytes: &mut [u8]) {
        while !bytes.is_empty() {
            let passed = match &mut self.part {
                Part::Lost => return,
                Part::Body(left) | Part::Chunk(left) => {
                    let passed = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                    *left -= passed as u64;
                    match self.part {
                        Part::Body(0) => self.part = Part::Start,
                        Part::Chunk(0) => self.part = Part::ChunkSize,
                        _ => {}
                    }
                    passed
                }
                _ => self.pass_line(bytes),
            };
            bytes = &mut bytes[passed..];
        }
    }

    /// Passes a line, or what there is of it.
    fn pass_line(&mut self, bytes: &mut [u8]) -> usize {
        let end = bytes.iter().position(|byte| *byte == b'\n');
        let text = &bytes[..end.unwrap_or(bytes.len())];
        let kept = text.len().min(KEPT - self.kept);
        self.line[self.kept..self.kept + kept].copy_from_slice(&text[..kept]);
        self.kept += kept;
        self.after_cr = text.last().map_or(self.after_cr, |last| *last == b'\r');
        let Some(end) = end else { return bytes.len() };
        if !self.after_cr || !self.end_line() {
            // Of a chunk's size the parser refuses a lone LF and takes a NUL.
            if self.part != Part::ChunkSize {
                bytes[end] = 0;
            }
            self.part = Part::Lost;
        }
        (self.kept, self.after_cr) = (0, false);
        end + 1
    }

    /// Ends a line; whether what it says of the body can be told.
    fn end_line(&mut self) -> bool {
        let line = &self.line[..self.kept];
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        self.part = match self.part {
            Part::Start | Part::Trailers if line.is_empty() => Part::Start,
            Part::Start => {
                self.body = Body::Unsaid;
                Part::Head
            }
            Part::Head if line.is_empty() => {
                self.heads += 1;
                match self.body {
                    Body::Unsaid | Body::Length(0) => Part::Start,
                    Body::Length(length) => Part::Body(length),
                    Body::Chunked => Part::ChunkSize,
                }
            }
            Part::Head => {
                if let Some(length) = value(line, b"content-length:") {
                    // The parser takes equal lengths for one.
                    let is_plain = self.body == Body::Unsaid && self.kept < KEPT && length.iter().all(u8::is_ascii_digit);
                    let Some(length) = number(length, 10).filter(|_| is_plain) else { return false };
                    self.body = Body::Length(length);
                } else if value(line, b"transfer-encoding:").is_some() {
                    if matches!(self.body, Body::Length(_)) {
                        return false;
                    }
                    self.body = Body::Chunked;
                }
                Part::Head
            }
            Part::ChunkSize => match number(line.split(|byte| matches!(byte, b';' | b' ' | b'\t')).next().unwrap_or_default(), 16) {
                Some(0) => Part::Trailers,
                Some(size) => Part::Chunk(size.saturating_add(2)),
                None => Part::Lost,
            },
            part => part,
        };
        true
    }
}

/// The value of a line that is this field.
fn value<'l>(line: &'l [u8], name: &[u8]) -> Option<&'l [u8]> {
    let is_it = line.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name));
    is_it.then(|| line[name.len()..].trim_ascii())
}

fn number(digits: &[u8], radix: u32) -> Option<u64> {
    std::str::from_utf8(digits).ok().and_then(|digits| u64::from_str_radix(digits, radix).ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn passed(text: &str, cut: usize) -> String {
        let (mut lines, mut bytes) = (Lines::new(), text.as_bytes().to_vec());
        bytes.chunks_mut(cut).for_each(|part| lines.pass(part));
        String::from_utf8(bytes).expect("text")
    }

    const BODIES: &str = "\r\nPOST / HTTP/1.1\r\nCONTENT-length:  3 \r\n\r\n\n\n\nPOST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n2;x=y\r\n\n\n\r\n0\r\na: b\r\n\r\nGET / HTTP/1.1\r\n\r\n";

    #[test]
    fn bodies_are_left_alone_and_so_are_whole_lines() {
        for cut in 1..BODIES.len() {
            assert_eq!(passed(BODIES, cut), BODIES);
        }
    }

    #[test]
    fn requests_are_counted_when_they_have_passed_whole() {
        let mut lines = Lines::new();
        for (part, ended) in [
            ("", Some(0)),
            ("\r\nGET / HTTP/1.1\r\n", None),
            ("\r\n", Some(1)),
            ("POST / HTTP/1.1\r\ncontent-length: 2\r\n\r\na", None),
            ("bG", None),
            ("ET / HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\n\r\n", Some(4)),
            ("POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n", None),
            ("\r\n", Some(5)),
        ] {
            lines.pass(&mut part.as_bytes().to_vec());
            assert_eq!(lines.ended(), ended, "{part:?}");
        }
    }

    #[test]
    fn a_lone_lf_is_refused_wherever_lines_are() {
        for bad in ["GET / HTTP/1.1\n", "GET / HTTP/1.1\r\na: b\n", "GET / HTTP/1.1\r\na: b\r\n\n", "\n", "GET / HTTP/1.1\r\n\r\n\n"] {
            for before in ["", BODIES] {
                let text = format!("{before}{bad}");
                let refused = format!("{}\0", &text[..text.len() - 1]);
                for cut in [1, 2, 7, text.len()] {
                    assert_eq!(passed(&text, cut), refused, "cut at {cut}");
                }
            }
        }
        let extension = "GET / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n0;a\nb\r\n\r\n";
        assert_eq!(passed(extension, 3), extension, "the parser refuses this one itself");
        let trailer = "GET / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n0\r\na: b\n";
        assert!(passed(trailer, trailer.len()).ends_with('\0'));
    }

    #[test]
    fn a_length_that_is_not_plain_is_refused() {
        for length in ["+3", "0x3", "3, 3", "", "99999999999999999999", &format!("{}3", " ".repeat(KEPT))] {
            let text = format!("GET / HTTP/1.1\r\ncontent-length: {length}\r\n");
            assert!(passed(&text, 5).ends_with('\0'), "{length:?}");
        }
        for twice in [
            "content-length: 1\r\ncontent-length: 1\r\n",
            "transfer-encoding: chunked\r\ncontent-length: 1\r\n",
            "content-length: 1\r\ntransfer-encoding: chunked\r\n",
        ] {
            assert!(passed(&format!("GET / HTTP/1.1\r\n{twice}"), 5).ends_with('\0'), "{twice:?}");
        }
    }

    proptest! {
        #[test]
        fn it_does_not_matter_how_bytes_are_cut(text in "[\r\na:0-9G ]{0,80}", cut in 1_usize..20) {
            prop_assert_eq!(passed(&text, cut), passed(&text, 1000));
        }
    }
}
