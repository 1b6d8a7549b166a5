//! Follows HTTP/2's frames in one direction of a connection, by their nine-byte heads alone (RFC 9113, 4.1). What is in them is the codec's.

/// Length, type, flags, stream.
const HEAD: usize = 9;

/// RFC 9113, 3.4: what a client sends before its first frame.
const PREFACE: usize = 24;

/// RFC 9113, 6.1, 6.2 and 6.10.
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;

/// Set on the last frame of a request's fields.
const END_HEADERS: u8 = 4;

/// Where in its frames a direction is.
#[derive(Debug)]
pub(super) struct Frames {
    /// Bytes to skip: of the preface, or of a payload.
    left: usize,
    head: [u8; HEAD],
    /// Bytes of `head` that are there.
    known: usize,
    fields: Fields,
}

/// A request's fields: one HEADERS frame and the CONTINUATION frames behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fields {
    /// None is being read.
    Whole,
    /// More frames follow this one.
    Begun,
    /// The frame being read is their last.
    Ending,
}

/// What some bytes were part of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    /// A body moved.
    pub(super) data: bool,
    /// A request's fields began.
    pub(super) fields_began: bool,
    /// A request's fields have begun, with these bytes or earlier, and are not whole.
    pub(super) in_fields: bool,
}

impl Frames {
    /// Of what a client sends.
    pub(super) fn of_client() -> Self {
        Self { left: PREFACE, ..Self::of_server() }
    }

    /// Of what a server sends.
    pub(super) fn of_server() -> Self {
        Self { left: 0, head: [0; HEAD], known: 0, fields: Fields::Whole }
    }

    /// Follows what comes next.
    pub(super) fn follow(&mut self, mut bytes: &[u8]) -> Seen {
        let mut seen = Seen::default();
        while !bytes.is_empty() {
            if self.left > 0 {
                let skipped = self.left.min(bytes.len());
                seen.data |= self.known == HEAD && self.head[3] == DATA;
                self.left -= skipped;
                bytes = &bytes[skipped..];
            } else {
                let part = (HEAD - self.known % HEAD).min(bytes.len());
                let known = self.known % HEAD;
                self.head[known..known + part].copy_from_slice(&bytes[..part]);
                self.known = known + part;
                bytes = &bytes[part..];
                seen.fields_began |= self.known == HEAD && self.begin();
            }
            if self.left == 0 && self.fields == Fields::Ending {
                self.fields = Fields::Whole;
            }
        }
        seen.in_fields = self.fields != Fields::Whole;
        seen
    }

    /// Begins a frame whose head is there. Whether it begins a request's fields.
    fn begin(&mut self) -> bool {
        let [high, middle, low, kind, flags, ..] = self.head;
        self.left = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
        if matches!(kind, HEADERS | CONTINUATION) {
            self.fields = if flags & END_HEADERS == 0 { Fields::Begun } else { Fields::Ending };
        }
        kind == HEADERS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, length: u8) -> Vec<u8> {
        let mut frame = vec![0, 0, length, kind, flags, 0, 0, 0, 1];
        frame.extend(vec![0; length.into()]);
        frame
    }

    #[test]
    fn fields_are_begun_until_the_last_byte_of_their_last_frame() {
        let mut frames = Frames::of_client();
        assert_eq!(frames.follow(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), Seen::default());
        let (first, last) = (frame(HEADERS, 1, 4), frame(CONTINUATION, END_HEADERS, 4));
        assert_eq!(frames.follow(&first), Seen { data: false, fields_began: true, in_fields: true });
        assert_eq!(frames.follow(&last[..12]), Seen { in_fields: true, ..Seen::default() });
        assert_eq!(frames.follow(&last[12..]), Seen::default());
        assert_eq!(frames.follow(&frame(HEADERS, END_HEADERS, 0)), Seen { fields_began: true, ..Seen::default() });
    }

    #[test]
    fn only_the_bytes_of_bodies_are_data() {
        let mut frames = Frames::of_server();
        assert_eq!(frames.follow(&[frame(4, 0, 12), frame(6, 1, 8), frame(8, 0, 4), frame(DATA, 1, 0)].concat()), Seen::default());
        assert!(frames.follow(&frame(DATA, 0, 1)).data);
    }

    #[test]
    fn it_does_not_matter_how_bytes_are_cut() {
        let bytes = [frame(HEADERS, 0, 9), frame(CONTINUATION, END_HEADERS, 3), frame(DATA, 0, 200), frame(HEADERS, 5, 2)].concat();
        let (mut whole, mut cut) = (Frames::of_server(), Frames::of_server());
        let seen = bytes.chunks(1).map(|byte| cut.follow(byte)).fold(Seen::default(), |all, one| Seen {
            data: all.data | one.data,
            fields_began: all.fields_began | one.fields_began,
            in_fields: one.in_fields,
        });
        assert_eq!(whole.follow(&bytes), seen);
        assert_eq!((whole.left, whole.known), (cut.left, cut.known));
    }
}
